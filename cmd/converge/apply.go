package main

import (
	"context"
	"time"

	"github.com/converge-agent/converge/diag"
	"github.com/converge-agent/converge/plans"
	"github.com/converge-agent/converge/plans/journal"
	"github.com/spf13/cobra"
)

// applyCommand holds the flags of apply.
type applyCommand struct {
	source
	autoApprove bool
	detailed    bool
	fullDiff    bool
	lockTimeout time.Duration

	planFile string
	partial  bool         // with planFile: do what is equal
	saved    *plans.Saved // the plan in planFile; nil without one
	moved    bool         // not all of it is equal
}

func newApply(t *terminal, code *int) *cobra.Command {
	var a applyCommand
	cmd := &cobra.Command{
		Use:   "apply [PATH]",
		Short: "Make this host be what the configuration says",
		Long: "apply plans, shows the plan, asks, makes it so, and reads everything again as the proof.\n" +
			"From cron: converge apply --auto-approve --quiet",
		Args: cobra.MaximumNArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			var err error
			if a.saved, err = a.takeSaved(args); err != nil {
				return err
			}
			if a.saved != nil {
				args = []string{a.saved.Origin.Path}
			}
			lock, err := a.lock(cmd.Context(), cmd, a.lockTimeout)
			if err != nil {
				return err
			}
			defer func() { _ = lock.Release() }() // the end of the process releases it too
			s, err := a.open(t, args)
			if err != nil {
				return err
			}
			defer s.close()
			r, err := a.run(cmd.Context(), t, s)
			if err != nil {
				return err
			}
			*code = a.exitCode(r)
			return nil
		},
	}
	a.flags(cmd.Flags())
	a.control.flags(cmd.Flags())
	cmd.Flags().BoolVar(&a.failFast, "fail-fast", false,
		"after the first failure begin nothing more, not even the repair of drift")
	cmd.Flags().BoolVar(&a.autoApprove, "auto-approve", false, "do not ask before changing anything")
	cmd.Flags().StringVar(&a.planFile, "plan", "", "do what the plan saved in `FILE` says, if nothing moved since; it does not ask")
	cmd.Flags().BoolVar(&a.partial, "partial", false, "with --plan: do what is equal, and leave alone what moved and what depends on it")
	cmd.Flags().BoolVar(&a.detailed, "detailed-exitcode", false,
		"exit with 0 when nothing changed, 2 when something did, 4 on failures, 6 on both, 1 when it could not run")
	cmd.Flags().BoolVar(&a.fullDiff, "diff", false, "show long differences in full")
	cmd.Flags().BoolVarP(&t.quiet, "quiet", "q", false, "print only changes and errors")
	cmd.Flags().DurationVar(&a.lockTimeout, "lock-timeout", 0, "how long to wait for another run on this host to end")
	return cmd
}

// run plans, asks and applies. A plan without changes is applied too: it runs the checks.
func (a *applyCommand) run(ctx context.Context, t *terminal, s *session) (*plans.Report, error) {
	if a.saved != nil {
		if err := s.engine.Accept(a.saved); err != nil {
			return nil, err
		}
	}
	p, err := s.plan(ctx, t)
	if err != nil {
		return nil, err
	}
	if a.saved != nil {
		if err := a.bind(t, s, p); err != nil {
			return nil, err
		}
	}
	if s.disabled != nil {
		p.Disable(s.disabled)
		t.disabled(s.disabled)
	}
	switch view := (&planView{terminal: t, fullDiff: a.fullDiff}); {
	case t.quiet:
	case p.Changes() == 0 || a.saved != nil:
		t.partial(p)
	case a.autoApprove:
		view.body(p)
		view.footer(p)
	default:
		view.print(p) // with what cannot be planned, before anybody says yes
	}
	if p.Changes() > 0 && a.saved == nil { // a saved plan has been looked at
		if err := a.approve(ctx, t, "\nApply these changes?"); err != nil {
			return nil, err
		}
	}
	return a.carryOut(ctx, t, s, p, journal.Head{Command: "apply", Config: s.path}), nil
}

// approve asks, unless it was told not to.
func (a *applyCommand) approve(ctx context.Context, t *terminal, question string) error {
	switch {
	case a.autoApprove:
		return nil
	case !interactive(t.in):
		return diag.New("apply", "there is no terminal to ask on", "Look at converge plan, then run it with --auto-approve.")
	case !t.confirm(ctx, question):
		return diag.New("apply", "you did not say yes", "Nothing was changed.")
	}
	return nil
}

// carryOut applies a plan and prints what happens.
func (a *applyCommand) carryOut(ctx context.Context, t *terminal, s *session, p *plans.Plan, head journal.Head) *plans.Report {
	view := &applyView{terminal: t}
	for _, it := range p.Items {
		view.addressWidth = max(view.addressWidth, len(it.Node.Address.String()))
	}
	s.engine.Events = view.event
	done := s.writeJournal(t, head)
	r := s.engine.Apply(ctx, p)
	done(r)
	view.summary(r, s.stores.Requests())
	return r
}

func (a *applyCommand) exitCode(r *plans.Report) int {
	failed := r.Count(plans.Failed, plans.Skipped) > 0 || a.moved
	changed := r.Count(plans.Changed) > 0
	switch {
	case !a.detailed && failed:
		return exitError
	case !a.detailed:
		return exitOK
	case failed && changed:
		return exitApplyChangedFailed
	case failed:
		return exitApplyFailed
	case changed:
		return exitApplyChanged
	}
	return exitOK
}
