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
	output      outputFlags
	metrics     metricsFile
	outages     *outages // nil without --quiet
	autoApprove bool
	detailed    bool
	fullDiff    bool
	lockTimeout time.Duration

	planFile string
	partial  bool         // with planFile: do what is equal
	saved    *plans.Saved // the plan in planFile; nil without one
	moved    bool         // not all of it is equal
}

// detailedExit is the help of --detailed-exitcode.
const detailedExit = "exit with 0 when nothing changed, 2 when something did, 4 on failures, 6 on both, 1 when it could not run"

func newApply(t *terminal, code *int) *cobra.Command {
	var a applyCommand
	cmd := &cobra.Command{
		Use:     "apply [PATH]",
		Short:   "Make this host be what the configuration says",
		Long:    "apply plans, shows the plan, asks, makes it so, and reads everything again as the proof.",
		Example: "  converge apply\n  converge apply --plan site.plan\n  converge apply --auto-approve --quiet   # from cron",
		Args:    cobra.MaximumNArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			start := time.Now()
			if t.quiet {
				a.outages = openOutages(a.stateDir, start)
				t.hold()
			}
			r, err := a.locked(cmd, t, args)
			if err == nil {
				*code = a.exitCode(r)
			} else {
				err = a.outages.couldNot(cmd.Context(), t, err)
			}
			if unwritten := a.metrics.write(r, start, len(a.targets) > 0); unwritten != nil {
				t.failed(unwritten)
				*code = spoilt(*code)
			}
			return err
		},
	}
	a.flags(cmd.Flags())
	a.output.on(cmd, t)
	a.metrics.on(cmd.Flags())
	a.control.flags(cmd.Flags())
	cmd.Flags().BoolVar(&a.failFast, "fail-fast", false,
		"after the first failure begin nothing more, not even the repair of drift")
	cmd.Flags().BoolVar(&a.autoApprove, "auto-approve", false, "do not ask before changing anything")
	cmd.Flags().StringVar(&a.planFile, "plan", "", "do what the plan saved in `FILE` says, if nothing moved since; it does not ask")
	cmd.Flags().BoolVar(&a.partial, "partial", false, "with --plan: do what is equal, and leave alone what moved and what depends on it")
	cmd.Flags().BoolVar(&a.detailed, "detailed-exitcode", false, detailedExit)
	cmd.Flags().BoolVar(&a.fullDiff, "diff", false, "show long differences in full")
	cmd.Flags().BoolVarP(&t.quiet, "quiet", "q", false, "print only changes and errors")
	cmd.Flags().DurationVar(&a.lockTimeout, "lock-timeout", 0, "how long to wait for another run on this host to end")
	return cmd
}

// locked does the work as the only run on this host.
func (a *applyCommand) locked(cmd *cobra.Command, t *terminal, args []string) (*plans.Report, error) {
	var err error
	if a.saved, err = a.takeSaved(args); err != nil {
		return nil, err
	}
	if a.saved != nil {
		args = []string{a.saved.Origin.Path}
	}
	lock, err := a.lock(cmd.Context(), cmd, a.lockTimeout)
	if err != nil {
		return nil, err
	}
	defer func() { _ = lock.Release() }() // the end of the process releases it too
	s, err := a.open(t, args)
	if err != nil {
		return nil, err
	}
	defer s.close()
	return a.run(cmd.Context(), t, s)
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
	t.lines.plan(p, s.disabled, s.stores.Sent())
	if p.Changes() > 0 && a.saved == nil { // a saved plan has been looked at
		if err := a.approve(ctx, t, "apply", "\nApply these changes?"); err != nil {
			return nil, err
		}
	}
	return a.carryOut(ctx, t, s, p, journal.Head{Command: "apply", Config: s.path}), nil
}

// approve asks, unless it was told not to.
func (a *applyCommand) approve(ctx context.Context, t *terminal, doing, question string) error {
	switch {
	case a.autoApprove:
		return nil
	case !interactive(t.in) || a.output.json:
		return diag.New(doing, "there is no terminal to ask on", "Look at the plan, then run it with --auto-approve.")
	case !t.confirm(ctx, question):
		return diag.New(doing, "you did not say yes", "Nothing was changed.")
	}
	return nil
}

// carryOut applies a plan and prints what happens.
func (a *applyCommand) carryOut(ctx context.Context, t *terminal, s *session, p *plans.Plan, head journal.Head) *plans.Report {
	t.release() // warnings are not told under --quiet
	view := &applyView{terminal: t, outages: a.outages, interrupted: func() bool { return ctx.Err() != nil }}
	for _, it := range p.Items {
		view.addressWidth = max(view.addressWidth, len(it.Node.Address.String()))
	}
	s.engine.Events = func(ev plans.Event) {
		view.event(ev)
		t.lines.event(ev)
	}
	done := s.writeJournal(t, head)
	r := s.engine.Apply(ctx, p)
	done(r)
	view.summary(r, s.stores.Sent())
	if ctx.Err() == nil {
		view.over(a.outages.ended(r, len(p.Targets) > 0))
		a.outages.save()
	}
	if t.quiet && view.told > 0 {
		a.outages.note(t)
	}
	t.lines.summary(r, s.stores.Sent())
	return r
}

func (a *applyCommand) exitCode(r *plans.Report) int { return applyExit(r, a.moved, a.detailed) }
