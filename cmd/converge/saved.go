package main

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/converge-agent/converge/config"
	"github.com/converge-agent/converge/diag"
	"github.com/converge-agent/converge/host"
	"github.com/converge-agent/converge/plans"
)

// save writes a plan to the file at path, with where its configuration came from.
func (s *session) save(ctx context.Context, t *terminal, p *plans.Plan, path string, src *source, args []string) error {
	absolute, err := filepath.Abs(path)
	if err != nil {
		return err
	}
	origin := plans.Origin{}
	if origin.Path, err = filepath.Abs(configPath(args)); err != nil {
		return err
	}
	kept, withheld, err := s.config.Settings(src.vars)
	if err != nil {
		return err
	}
	origin.Withheld = withheld
	for _, v := range kept {
		origin.Variables = append(origin.Variables, plans.SavedSetting{Assignment: v.Assignment, File: v.File})
	}
	if err := s.engine.Save(ctx, p, absolute, version, origin); err != nil {
		return err
	}
	if src.stateDir != defaultStateDir {
		path += " --state-dir " + src.stateDir
	}
	t.printf("Saved. To do this, and nothing else, on this host: converge apply --plan %s%s\n", path, again(withheld))
	return nil
}

// again words how the values that were not saved are to be given.
func again(withheld []string) string {
	text := ""
	for _, name := range withheld {
		text += fmt.Sprintf(" --var %s=…", name)
	}
	return text
}

// takeSaved takes what the command is about from the saved plan of --plan; nil where that is not given.
func (a *applyCommand) takeSaved(args []string) (*plans.Saved, error) {
	const doing = "apply --plan"
	switch {
	case a.planFile == "" && a.partial:
		return nil, diag.New("apply --partial", "there is no plan to do a part of", "It goes with --plan FILE.")
	case a.planFile == "":
		return nil, nil
	case len(args) > 0:
		return nil, diag.New(doing, "the plan says which configuration it is of", "Leave out the path "+args[0]+".")
	case len(a.targets) > 0:
		return nil, diag.New(doing, "the plan says which resources it is about", "Leave out --target, or plan again with it.")
	}
	path, err := filepath.Abs(a.planFile)
	if err != nil {
		return nil, err
	}
	saved, err := plans.ReadSaved(host.System(), path)
	if err != nil {
		return nil, err
	}
	vars, err := savedVariables(saved.Origin, a.vars)
	if err != nil {
		return nil, err
	}
	a.vars, a.targets = vars, saved.Targets
	return saved, nil
}

// savedVariables adds what was given to the settings of a saved plan: the sensitive ones that it does not hold, all of them
// and no others.
func savedVariables(origin plans.Origin, given config.Variables) (config.Variables, error) {
	const doing = "apply --plan"
	var vars config.Variables
	for _, v := range origin.Variables {
		vars = append(vars, config.Setting{Assignment: v.Assignment, File: v.File})
	}
	missing := slices.DeleteFunc(slices.Clone(origin.Withheld), func(name string) bool {
		_, set := os.LookupEnv(config.EnvPrefix + name)
		return set
	})
	for _, g := range given {
		name, _, _ := strings.Cut(g.Assignment, "=")
		if g.File != "" || !slices.Contains(origin.Withheld, name) {
			return nil, diag.New(doing, "the plan has the values of its variables with it",
				"Leave out --var and --var-file. For other values plan again.")
		}
		missing = slices.DeleteFunc(missing, func(m string) bool { return m == name })
		vars = append(vars, g)
	}
	if len(missing) > 0 {
		return nil, diag.New(doing, "the plan does not hold the sensitive "+strings.Join(missing, ", "),
			"Give it again, as when planning: converge apply --plan FILE"+again(missing))
	}
	return vars, nil
}

// bind makes sure that a plan is the saved one. What moved is told; with --partial it is left alone, else that is an error.
func (a *applyCommand) bind(t *terminal, s *session, p *plans.Plan) error {
	moved := s.engine.Moved(a.saved, p)
	if len(moved) == 0 {
		return nil
	}
	var lines []string
	for _, m := range moved {
		lines = append(lines, fmt.Sprintf("%s: %s", m.Address, m.What))
	}
	what := fmt.Sprintf("%s moved since it was made at %s:\n%s", count(len(moved), "resource"),
		a.saved.Made.Format("2006-01-02 15:04 MST"), strings.Join(lines, "\n"))
	if !a.partial {
		return diag.New("apply the saved plan", what, "Nothing was changed. Plan again and look at it; or --partial does what is equal, "+
			"and leaves these and all that depends on them alone.")
	}
	a.moved = true
	p.Leave(moved)
	t.release() // under --quiet this is told, too: it makes the exit code a failure
	left := diag.New("apply the saved plan", what, "They, and what depends on them, are left alone. Plan again and look at it.")
	t.lines.message("error", left.Error(), diag.Fix(left))
	printError(t.err, "", left)
	return nil
}

// showPlan prints the saved plan in the file at path.
func (t *terminal) showPlan(path, stateDir string) error {
	absolute, err := filepath.Abs(path)
	if err != nil {
		return err
	}
	s, err := plans.ReadSaved(host.System(), absolute)
	if err != nil {
		return err
	}
	t.printf("A plan of %s, made %s by converge %s.\n", s.Origin.Path, s.Made.Format("2006-01-02 15:04 MST"), s.Converge)
	for _, v := range s.Origin.Variables {
		if v.File != "" {
			t.printf("  with --var-file %s\n", v.File)
		} else {
			t.printf("  with --var %s\n", v.Assignment)
		}
	}
	for _, name := range s.Origin.Withheld {
		t.printf("  with --var %s=(sensitive), to be given again\n", name)
	}
	if len(s.Targets) > 0 {
		t.printf("  only %s, and what is needed for it\n", strings.Join(s.Targets, ", "))
	}
	v := &savedView{terminal: t}
	v.body(s)
	refused, err := refusal(s, stateDir)
	if err != nil {
		return err
	}
	t.lines.saved(s, refused)
	if refused != nil {
		t.printf("It cannot be applied here and now: %s.\n", refused)
	}
	return nil
}

// refusal is why apply would refuse a saved plan before it compares anything; nil when it would not.
func refusal(s *plans.Saved, stateDir string) (refused, err error) {
	absolute, err := filepath.Abs(stateDir)
	if err != nil {
		return nil, err
	}
	records, err := plans.OpenRecords(absolute, host.System(), host.SystemUsers())
	if err != nil {
		return nil, err
	}
	engine := &plans.Engine{Records: records}
	engine.Env.Files = host.System()
	return engine.Accept(s), nil
}
