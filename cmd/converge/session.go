package main

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"time"

	"github.com/converge-agent/converge/acme"
	"github.com/converge-agent/converge/config"
	"github.com/converge-agent/converge/diag"
	"github.com/converge-agent/converge/dotenv"
	"github.com/converge-agent/converge/host"
	"github.com/converge-agent/converge/objectstore"
	"github.com/converge-agent/converge/plans"
	"github.com/converge-agent/converge/plans/journal"
	"github.com/converge-agent/converge/resources"
	"github.com/converge-agent/converge/resources/all"
	"github.com/hashicorp/hcl/v2"
	"github.com/spf13/afero"
	"github.com/spf13/cobra"
	"github.com/spf13/pflag"
)

// source is which configuration a command works on, and with what values.
type source struct {
	vars     config.Variables
	stateDir string
	control
}

// defaultStateDir is where records, ledgers and account keys live (file-hierarchy(7): /var/lib, persistent private data).
const defaultStateDir = "/var/lib/converge"

func (s *source) flags(f *pflag.FlagSet) {
	f.Var(setting{&s.vars, func(text string) config.Setting { return config.Setting{Assignment: text} }}, "var",
		"set a variable: `name=value`; may be given several times")
	f.Var(setting{&s.vars, func(text string) config.Setting { return config.Setting{File: text} }}, "var-file",
		"read variables from `FILE`; may be given several times")
	s.stateFlag(f)
}

// stateFlag is the one flag of commands without a configuration.
func (s *source) stateFlag(f *pflag.FlagSet) {
	f.StringVar(&s.stateDir, "state-dir", defaultStateDir, "the `DIR` where converge keeps what it remembers")
}

// setting is a flag that adds to the variables, so that --var and --var-file keep their order: of two, the later wins.
type setting struct {
	to   *config.Variables
	read func(text string) config.Setting
}

func (s setting) String() string { return "" }
func (s setting) Type() string   { return "string" }

func (s setting) Set(text string) error {
	*s.to = append(*s.to, s.read(text))
	return nil
}

// session is one run of converge over one configuration.
type session struct {
	config  *config.Config
	engine  *plans.Engine
	journal *journal.Store
	stores  *objectstore.Clients
	units   *host.SystemdUnits
	path    string // of the configuration
	control
	disabled *plans.Disabled // nil: it is not
}

func (s *session) close() { s.units.Close() }

// open loads the configuration of a command and the host that it is for. Diagnostics are printed.
func (s *source) open(t *terminal, args []string) (*session, error) {
	stores := objectstore.NewClients()
	endpoints := &objectstore.Endpoints{}
	kinds := all.Kinds(all.Deps{Stores: stores, Endpoints: endpoints, Issuer: acme.NewIssuer()})
	cfg, err := s.load(t, kinds, args)
	if err != nil {
		return nil, err
	}
	session, err := s.onHost()
	if err != nil {
		return nil, err
	}
	endpoints.Kept = session.engine.Records
	session.config, session.stores, session.path = cfg, stores, configPath(args)
	session.engine.Records.Source, err = configDir(session.path)
	return session, err
}

// configDir is the directory of a configuration, which may itself be one.
func configDir(path string) (string, error) {
	dir, err := filepath.Abs(path)
	if err != nil {
		return "", err
	}
	if info, err := os.Stat(dir); err == nil && !info.IsDir() {
		dir = filepath.Dir(dir)
	}
	return dir, nil
}

// onHost is a session without a configuration: the host, and what converge remembers of it.
func (s *source) onHost() (*session, error) {
	stateDir, err := filepath.Abs(s.stateDir)
	if err != nil {
		return nil, err
	}
	files, users, units, commands := host.System(), host.SystemUsers(), host.Systemd(), host.SystemCommands()
	clock := host.SystemClock()
	records, err := plans.OpenRecords(stateDir, files, users)
	if err != nil {
		return nil, err
	}
	disabled, err := plans.DisabledAt(files, stateDir, time.Now())
	if err != nil {
		return nil, err
	}
	read := resources.ReadEnv{
		Files: files, Units: units, Probe: commands, Users: users, Clock: clock, StateDir: stateDir,
		Processes: host.SystemProcesses(),
	}
	engine := &plans.Engine{
		Env:     resources.Env{ReadEnv: read, Files: files, Units: units, Commands: commands},
		Records: records, Parallelism: s.parallelism, FailFast: s.failFast,
	}
	store := journal.Open(stateDir, files, users, clock, records)
	return &session{engine: engine, journal: store, units: units, control: s.control, disabled: disabled}, nil
}

// configPath is the configuration that a command's only argument names, by default the current directory.
func configPath(args []string) string {
	if len(args) > 0 {
		return args[0]
	}
	return "."
}

// load parses and checks the configuration of a command.
func (s *source) load(t *terminal, kinds []*resources.Kind, args []string) (*config.Config, error) {
	loader := &config.Loader{
		Kinds: kinds, Files: afero.NewOsFs(), Getenv: os.LookupEnv, CredentialDirs: credentialDirs(), Dotenv: dotenvValues,
	}
	cfg, diags := loader.Load(configPath(args), s.vars)
	if diags.HasErrors() {
		diags = append(diags, cfg.Validate()...) // all that is wrong at once
	}
	return cfg, report(t, cfg.Sources(), diags)
}

// credentialDirs are where credential() looks: systemd.exec(5), CREDENTIALS, then the directories of systemd-creds(1).
func credentialDirs() []string {
	dirs := []string{"/etc/credstore", "/run/credstore", "/usr/lib/credstore"}
	if d := os.Getenv("CREDENTIALS_DIRECTORY"); d != "" {
		dirs = append([]string{d}, dirs...)
	}
	return dirs
}

func dotenvValues(content []byte) map[string]string { return dotenv.Parse(content).Values() }

// report prints diagnostics with their snippets. It returns errReported when there is an error among them.
func report(t *terminal, sources map[string]*hcl.File, diags hcl.Diagnostics) error {
	if len(diags) == 0 {
		return nil
	}
	t.lines.diagnostics(diags)
	w := hcl.NewDiagnosticTextWriter(t.err, sources, uint(t.width()), coloured(t.err))
	if err := w.WriteDiagnostics(diags); err != nil {
		return fmt.Errorf("print the diagnostics: %w", err)
	}
	if diags.HasErrors() {
		return errReported
	}
	return nil
}

// plan evaluates the configuration and plans it.
func (s *session) plan(ctx context.Context, t *terminal) (*plans.Plan, error) {
	nodes, diags := s.config.Evaluate(ctx, s.engine.Env.ReadEnv)
	err := report(t, s.config.Sources(), diags)
	if err != nil {
		return nil, err
	}
	s.engine.Written = written(nodes, s.config.Unmanaged())
	if nodes, err = plans.Target(nodes, s.targets); err != nil {
		return nil, err
	}
	p, err := s.engine.Plan(ctx, nodes)
	if err != nil {
		return nil, err
	}
	p.Targets = s.targets
	return p, nil
}

// written reports which addresses stand in the configuration.
func written(nodes []resources.Node, unmanaged []resources.Address) func(string) bool {
	all := map[string]bool{}
	for _, n := range nodes {
		all[n.Address.String()] = true
	}
	for _, a := range unmanaged {
		all[a.String()] = true
	}
	return func(address string) bool { return all[address] }
}

// hostLock is held by the one apply that may run on a host at a time, whatever its state directory.
const hostLock = "/run/converge.lock"

// lock takes the host's lock; who may not write to /run takes one in its own state directory.
func (s *source) lock(ctx context.Context, cmd *cobra.Command, wait time.Duration) (*host.Lock, error) {
	path := hostLock
	if os.Geteuid() != 0 {
		if err := os.MkdirAll(s.stateDir, 0o700); err != nil {
			return nil, diag.Wrap(err, "make the state directory", "Run converge as root, or name a directory of your own with --state-dir.")
		}
		path = filepath.Join(s.stateDir, "lock")
	}
	return host.AcquireLock(ctx, path, cmd.CommandPath(), wait)
}
