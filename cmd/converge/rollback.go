package main

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/converge-agent/converge/acme"
	"github.com/converge-agent/converge/diag"
	"github.com/converge-agent/converge/objectstore"
	"github.com/converge-agent/converge/plans"
	"github.com/converge-agent/converge/plans/journal"
	"github.com/converge-agent/converge/resources"
	"github.com/converge-agent/converge/resources/all"
	"github.com/spf13/cobra"
	"github.com/zclconf/go-cty/cty"
)

// rollbackCommand holds the flags of rollback.
type rollbackCommand struct {
	applyCommand
	partial bool
}

func newRollback(t *terminal, code *int) *cobra.Command {
	var c rollbackCommand
	cmd := &cobra.Command{
		Use:   "rollback RUN",
		Short: "Bring files back to what they were before a run",
		Long: "rollback takes back what a run and all runs after it have changed in files: content, owner, mode, links, and what was\n" +
			"created or removed. Services that those runs restarted or reloaded are so again. It shows a plan and asks, as apply does.\n" +
			"From then on converge is disabled, so that the next apply does not undo the rollback.",
		Example: "  converge history\n  converge rollback 7",
		Args:    cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			number, err := runNumber(args[0])
			if err != nil {
				return err
			}
			lock, err := c.lock(cmd.Context(), cmd, c.lockTimeout)
			if err != nil {
				return err
			}
			defer func() { _ = lock.Release() }() // the end of the process releases it too
			s, err := c.onHost()
			if err != nil {
				return err
			}
			defer s.close()
			r, err := c.rollback(cmd.Context(), t, s, number)
			if err == nil {
				*code = c.exitCode(r)
			}
			return err
		},
	}
	c.stateFlag(cmd.Flags())
	c.output.on(cmd, t)
	cmd.Flags().BoolVar(&c.autoApprove, "auto-approve", false, "do not ask before changing anything")
	cmd.Flags().BoolVar(&c.detailed, "detailed-exitcode", false, detailedExit)
	cmd.Flags().BoolVar(&c.fullDiff, "diff", false, "show long differences in full")
	cmd.Flags().BoolVar(&c.partial, "partial", false, "leave what cannot be brought back, and go on with the rest")
	cmd.Flags().DurationVar(&c.lockTimeout, "lock-timeout", 0, "how long to wait for another run on this host to end")
	return cmd
}

// rollback plans, asks and carries out. The report is empty when there is nothing to do.
func (c *rollbackCommand) rollback(ctx context.Context, t *terminal, s *session, number int) (*plans.Report, error) {
	s.stores = objectstore.NewClients()
	env := &s.engine.Env
	env.Units = carriedOut{env.Units, env.Processes, env.Clock}
	undo, err := s.journal.Undo(number)
	if err != nil {
		return nil, err
	}
	p, err := c.planRollback(ctx, t, s, undo)
	if err != nil {
		return nil, err
	}
	t.lines.plan(p, s.disabled, s.stores.Sent())
	if p.Changes() == 0 {
		if c.moved {
			t.printf("Nothing else to do.\n")
		} else {
			t.printf("Nothing to do: the files are as they were before run %d.\n", number)
		}
		return &plans.Report{}, nil
	}
	if err := c.approve(ctx, t, "roll back", "\nRoll back?"); err != nil {
		return nil, err
	}
	why := fmt.Sprintf("rolled back to before run %d", number)
	if err := plans.Disable(env.Files, env.Users, env.StateDir, why, env.Clock.Now(), time.Time{}); err != nil {
		return nil, err
	}
	r := c.carryOut(ctx, t, s, p, journal.Head{Command: "rollback", Rollback: number})
	t.printf("converge is disabled, so that no apply undoes this. When the configuration is right: converge enable\n")
	return r, nil
}

// planRollback makes the plan, and shows it with what is not going to be brought back.
func (c *rollbackCommand) planRollback(ctx context.Context, t *terminal, s *session, undo *journal.Undo) (*plans.Plan, error) {
	files, err := s.journal.Nodes(undo, nginxJudge{})
	if err != nil {
		return nil, err
	}
	s.engine.Written = func(string) bool { return true } // a rollback is not about what left the configuration
	p, err := s.planRestore(ctx, undo, files)
	if err != nil {
		return nil, err
	}
	view := &planView{terminal: t, fullDiff: c.fullDiff}
	refused := p.Failures()
	if refused > 0 && c.partial {
		c.moved = true
		t.printf("Left as it is:\n")
		for _, it := range p.Items {
			if it.Change.Action == resources.Blocked {
				t.printf("  %s: %s\n", it.Node.Address, it.Change.Summary)
				t.lines.message("warning", fmt.Sprintf("%s is left as it is", it.Node.Address), it.Change.Summary)
			}
		}
		files = slices.DeleteFunc(files, func(n resources.Node) bool { return failedIn(p, n.Address) })
		if p, err = s.planRestore(ctx, undo, files); err != nil {
			return nil, err
		}
	}
	t.stays(undo)
	if p.Changes() > 0 || p.Failures() > 0 {
		view.print(p)
	}
	if n := p.Failures(); n > 0 {
		t.lines.plan(p, s.disabled, s.stores.Sent())
		return nil, diag.New(fmt.Sprintf("go back to before run %d", undo.Run), count(n, "resource")+" cannot be brought back",
			"Nothing was changed. See above which; --partial leaves them as they are, and goes on with the rest.")
	}
	return p, nil
}

// stays tells what the runs did that no rollback takes back.
func (t *terminal) stays(undo *journal.Undo) {
	if len(undo.Runs) > 1 {
		t.printf("Takes back runs %d to %d.\n", undo.Run, undo.Runs[len(undo.Runs)-1])
	}
	for _, what := range undo.Stays {
		t.lines.message("warning", "not taken back", what)
	}
	if len(undo.Stays) > 0 {
		t.printf("Not taken back:\n  %s\n", strings.Join(undo.Stays, "\n  "))
	}
}

func failedIn(p *plans.Plan, addr resources.Address) bool {
	return slices.ContainsFunc(p.Items, func(it *plans.Item) bool {
		return it.Node.Address == addr && (it.Err != nil || it.Change.Action == resources.Blocked)
	})
}

// planRestore plans the files and, behind them, the units that read them.
func (s *session) planRestore(ctx context.Context, undo *journal.Undo, files []resources.Node) (*plans.Plan, error) {
	units, err := s.unitNodes(ctx, undo, files)
	if err != nil {
		return nil, err
	}
	return s.engine.Plan(ctx, append(slices.Clone(files), units...))
}

// unitNodes are the units that read files anew when the runs changed them, as blocks of systemd_service: with all that this
// kind knows of what is owed, and of what it takes for a unit to be up. A unit that does not run reads nothing and stays so.
func (s *session) unitNodes(ctx context.Context, undo *journal.Undo, files []resources.Node) ([]resources.Node, error) {
	var service *resources.Kind
	for _, k := range all.Kinds(all.Deps{Stores: s.stores, Issuer: acme.NewIssuer()}) {
		if k.Name == "systemd_service" {
			service = k
		}
	}
	var nodes []resources.Node
	for _, u := range undo.Units {
		state, err := s.engine.Env.ReadEnv.Units.Unit(ctx, u.Name)
		if err != nil {
			return nil, err
		}
		var reads []cty.Value
		addr := journal.Address(u.Address)
		n := resources.Node{Kind: &resources.Kind{Name: service.Name}, Where: fmt.Sprintf("run %d", undo.Runs[len(undo.Runs)-1])}
		for _, f := range files {
			n.Needs = append(n.Needs, f.Address)
			members := undo.AddressesOf(f.Address)
			if slices.ContainsFunc(members, func(a string) bool { return slices.Contains(u.Reads, a) }) {
				reads = append(reads, resources.Reference(f.Address, cty.EmptyObjectVal))
			}
			if slices.Contains(members, u.Address) { // a site that reloads nginx itself
				addr = resources.Address{Kind: service.Name, Name: u.Name}
			}
		}
		if len(reads) == 0 || !state.Up() {
			continue
		}
		n.Address = addr
		if n.Resource, err = newService(service, addr, u, reads); err != nil {
			return nil, err
		}
		nodes = append(nodes, n)
	}
	return nodes, nil
}

// newService is the block of a unit that reads these resources.
func newService(kind *resources.Kind, addr resources.Address, u journal.Unit, reads []cty.Value) (resources.Resource, error) {
	config, errs := kind.Complete(cty.ObjectVal(map[string]cty.Value{
		"name": cty.StringVal(u.Name), u.Verb + "_on": cty.TupleVal(reads),
	}))
	if len(errs) > 0 {
		return nil, errs[0]
	}
	r, _, err := kind.New(addr, config)
	return r, err
}
