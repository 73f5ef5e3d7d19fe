// Package command is the kind command: a program that is run until its guard says that its work is done.
package command

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/converge-agent/converge/diag"
	"github.com/converge-agent/converge/host"
	"github.com/converge-agent/converge/resources"
	"github.com/converge-agent/converge/secret"
	"github.com/zclconf/go-cty/cty"
)

// Kind returns the kind command.
func Kind() *resources.Kind {
	return resources.NothingWhenAbsent(&resources.Kind{
		Name: "command",
		Doc: "A program that is run when its guard does not hold: unless fails, or what creates names is not there. After it " +
			"has run the guard must hold. There is no shell: for pipes and variables write one, [\"sh\", \"-c\", \"…\"].",
		Attrs: attrs(),
		New:   newCommand,
	}, "With \"absent\" neither program is run. What it has done stays.")
}

func attrs() []resources.Attr {
	return []resources.Attr{
		{Name: "run", Type: cty.List(cty.String), Required: true,
			Doc: "The program and its arguments. Everybody on the host can read them while it runs: secrets belong into env."},
		{Name: "unless", Type: cty.List(cty.String),
			Doc: "A program that ends with status 0 when there is nothing to do. It runs in every plan, so it must change nothing. " +
				"Write either this or creates."},
		{Name: "creates", Type: cty.String, Format: resources.Path,
			Doc: "A path; when something stands there, there is nothing to do."},
		{Name: "user", Type: cty.String, Doc: "The user as whom both run. Not written: the user that converge runs as."},
		{Name: "dir", Type: cty.String, Format: resources.Path, Doc: "The directory in which both run. Not written: /."},
		{Name: "timeout", Type: cty.String, Format: resources.Duration, Default: cty.StringVal("10m"),
			Doc: "How long each of them may take before it is ended, with all that it started: one that hangs must not hold up " +
				"the whole host."},
		{Name: "env", Type: cty.Map(cty.String), Secret: true,
			Doc: "Variables for both, beside PATH, LANG and HOME. Nothing else is passed on of the environment of converge."},
	}
}

// command is what somebody wrote.
type command struct {
	Argv    []string                 `attr:"run"`
	Unless  []string                 `attr:"unless"`
	Creates string                   `attr:"creates"`
	User    string                   `attr:"user"`
	Dir     string                   `attr:"dir"`
	Timeout time.Duration            `attr:"timeout"`
	Env     map[string]secret.String `attr:"env"`

	secrets []secret.String // of the values in Env
}

func newCommand(_ resources.Address, written cty.Value) (resources.Resource, cty.Value, error) {
	c := &command{secrets: secret.TextsIn(written.GetAttr("env"))}
	if err := resources.Decode(written, c); err != nil {
		return nil, cty.NilVal, err
	}
	fail := func(attr, what string) (resources.Resource, cty.Value, error) {
		return nil, cty.NilVal, &resources.AttrError{Path: []string{attr}, Err: errors.New(what)}
	}
	switch {
	case len(c.Argv) == 0 || c.Argv[0] == "":
		return fail("run", "it names no program")
	case (len(c.Unless) > 0) == (c.Creates != ""):
		return fail("unless", "write either unless or creates, so that a plan can tell whether there is something to do")
	case len(c.Unless) > 0 && c.Unless[0] == "":
		return fail("unless", "it names no program")
	}
	for name := range c.Env {
		if name == "" || strings.ContainsAny(name, "=\x00") {
			return fail("env", fmt.Sprintf("%q is not the name of a variable", name))
		}
	}
	return c, cty.EmptyObjectVal, nil
}

// Claims is empty: what the program writes is not known.
func (c *command) Claims() []resources.Claim { return nil }

// Watches is empty too.
func (c *command) Watches() []string { return nil }

// on is how one of the two programs is run.
func (c *command) on(argv []string) host.Command {
	var env []string
	for _, name := range slices.Sorted(maps.Keys(c.Env)) {
		env = append(env, name+"="+c.Env[name].Reveal())
	}
	return host.Command{Args: argv, Dir: c.Dir, Env: env, User: c.User}
}

// state is what the guard said.
type state struct {
	done bool
	note string
}

// Read asks the guard. One that is not installed yet, or whose directory is not there yet, does not hold: what this resource
// depends on may bring it.
func (c *command) Read(ctx context.Context, env resources.ReadEnv) (resources.State, error) {
	if c.Creates != "" {
		f, err := env.Files.Lookup(c.Creates)
		if errors.Is(err, host.ErrOpaque) {
			return state{done: true}, nil // it is going to be there
		}
		return state{done: f != nil}, err
	}
	res, err := c.within(ctx, env.Probe.Probe, c.Unless)
	if errors.Is(err, fs.ErrNotExist) {
		return state{note: "unless could not be run: " + err.Error()}, nil
	}
	if err != nil {
		return nil, diag.Wrap(err, "ask whether to run "+c.Argv[0], "")
	}
	return state{done: res.Code == 0}, nil
}

// within runs one of the two programs, for no longer than timeout.
func (c *command) within(ctx context.Context, run func(context.Context, host.Command) (host.Result, error), argv []string) (host.Result, error) {
	bounded, cancel := context.WithTimeout(ctx, c.Timeout)
	defer cancel()
	res, err := run(bounded, c.on(argv))
	if errors.Is(err, context.DeadlineExceeded) && ctx.Err() == nil {
		return res, diag.New("run "+words(argv), fmt.Sprintf("it had not ended after %s, and was stopped", c.Timeout),
			"Find out what it waits for, or raise timeout.")
	}
	return res, err
}

// Diff is to run the program, or nothing.
func (c *command) Diff(st resources.State) resources.Change {
	s := st.(state)
	change := resources.Change{Summary: "done", Digest: c.digest()}
	if s.note != "" {
		change.Notes = []string{s.note}
	}
	if !s.done {
		change.Action = resources.Run
		change.Summary = "run " + words(c.Argv)
		change.Effects = []resources.Effect{{Verb: "run", Target: words(c.Argv), Why: c.why()}}
	}
	return change
}

func (c *command) why() string {
	if c.Creates != "" {
		return c.Creates + " is not there"
	}
	return words(c.Unless) + " fails"
}

// digest stands for the command as it is written: whether it has run again makes no difference to others.
func (c *command) digest() string {
	sum := sha256.Sum256([]byte(strings.Join(c.Argv, "\x00")))
	return hex.EncodeToString(sum[:])
}

// words writes argv as one line, with quotes where an argument would not be seen as one.
func words(argv []string) string {
	out := make([]string, len(argv))
	for i, arg := range argv {
		out[i] = arg
		if arg == "" || strings.ContainsFunc(arg, func(r rune) bool { return r <= ' ' || strings.ContainsRune(`"'\`, r) }) {
			out[i] = fmt.Sprintf("%q", arg)
		}
	}
	return strings.Join(out, " ")
}

// Apply runs the program.
func (c *command) Apply(ctx context.Context, env resources.Env, _ resources.Change) error {
	res, err := c.within(ctx, env.Commands.Run, c.Argv)
	if err != nil {
		return err
	}
	if res.Code == 0 {
		return nil
	}
	what := fmt.Sprintf("it ended with status %d", res.Code)
	if said := c.lastWords(res); said != "" {
		what += " and said:\n" + said
	}
	return diag.New("run "+words(c.Argv), what, "Mend what it complains of; it runs again with the next apply.")
}

// lastLines is how many lines of a failed program are shown.
const lastLines = 10

// lastWords are the last lines that a program wrote to its standard error, or else to its output, without the secrets that
// it was given.
func (c *command) lastWords(res host.Result) string {
	out := bytes.TrimSpace(res.Stderr)
	if len(out) == 0 {
		out = bytes.TrimSpace(res.Stdout)
	}
	text := strings.ToValidUTF8(secret.Redact(string(out), c.secrets...), "\ufffd")
	lines := strings.Split(text, "\n")
	return strings.Join(lines[max(0, len(lines)-lastLines):], "\n")
}
