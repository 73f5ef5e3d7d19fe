package plans

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"

	"github.com/converge-agent/converge/diag"
	"github.com/converge-agent/converge/resources"
)

// Apply makes the plan so, one resource after the other in the order of the graph, those that only edit before those that
// run long. Each is read again first (of a remote kind, each that is to change), and left alone when it is no longer what the
// plan showed; and read once more after, as the proof. What needs a failed resource is skipped, and the rest goes on. When ctx is cancelled, the resource at work
// is stopped and the others are skipped.
func (e *Engine) Apply(ctx context.Context, p *Plan) *Report {
	start := e.Env.Clock.SinceBoot()
	run := &applying{Engine: e, plan: p, results: make([]Result, len(p.Items)), metrics: make([][]resources.Metric, len(p.Items))}
	p.graph.walk(1, p.rank, func(i int) {
		began := e.Env.Clock.SinceBoot()
		holders := run.holders(i)
		res := run.apply(ctx, i, holders)
		res.Err = interrupted(ctx, res.Err)
		res.Item, res.Elapsed, res.holders = p.Items[i], e.Env.Clock.SinceBoot()-began, holders
		res.Metrics = run.metrics[i]
		run.results[i] = res
		run.failed = run.failed || res.Outcome == Failed
		e.emit(Event{Type: Ended, Item: res.Item, Result: &run.results[i]})
	})
	e.noteLeft(p)
	return &Report{Results: run.results, Elapsed: e.Env.Clock.SinceBoot() - start}
}

// rank puts what runs long behind what heals at once.
func (p *Plan) rank(i int) int {
	if a := p.Items[i].Change.Action; a == resources.Run || a == resources.Look {
		return 1
	}
	return 0
}

func (e *Engine) emit(ev Event) {
	if e.Events != nil {
		e.Events(ev)
	}
}

// applying is the walk of one apply.
type applying struct {
	*Engine
	plan      *Plan
	results   []Result
	failed    bool                 // something has
	metrics   [][]resources.Metric // of what was last read
	upstreams sync.Map             // of index: resources.Upstream, of those that are as they should be
}

func (a *applying) apply(ctx context.Context, i int, holders []int) Result {
	it := a.plan.Items[i]
	switch {
	case a.FailFast && a.failed:
		return Result{Outcome: Skipped, Message: "not begun: something failed before it, and --fail-fast is given"}
	case it.Err != nil && it.Left != nil:
		return it.Left.result()
	case it.Err != nil:
		return Result{Outcome: Failed, Err: it.Err}
	case it.Node.Resource == nil:
		a.upstreams.Store(i, resources.Upstream{})
		return Result{Outcome: Unchanged}
	case ctx.Err() != nil:
		return Result{Outcome: Skipped, Message: "the run was interrupted before it"}
	}
	env := a.envOf(i)
	change, err := a.lookAgain(ctx, i, env)
	if err != nil {
		if it.Left != nil {
			return it.Left.result()
		}
		if len(holders) > 0 {
			return a.held(holders) // most likely it cannot be read because of them: one failure, one message
		}
		return Result{Outcome: Failed, Err: err}
	}
	if it.Left != nil && change.Action != resources.None {
		return a.leave(ctx, i, env, change)
	}
	heals := (&Item{Change: change, Drift: it.Drift}).heals()
	if len(holders) > 0 && change.Action != resources.None && !heals {
		return a.held(holders)
	}
	if done, settled := a.settled(i, change); settled {
		return done
	}
	asPlanned := fingerprint(change) == fingerprint(it.Change) || len(holders) > 0 && within(change, it.Change)
	if change.Action.Changes() && !asPlanned {
		return Result{Outcome: Failed, Err: movedError(it.Change, change)}
	}
	a.emit(Event{Type: Began, Item: it})
	env.Progress = func(pr resources.Progress) { a.emit(Event{Type: Progressed, Item: it, Progress: pr}) }
	return a.journalled(it, change, &env, func() Result { return a.tries(ctx, i, env, change) })
}

func (a *applying) envOf(i int) resources.Env {
	env := a.Env
	env.ReadEnv.Files, env.Disk = env.Files, env.Files
	env.ReadEnv.Units = env.Units
	env.Probe = env.Commands
	env.Records = a.Records.Of(a.plan.Items[i].Node.Address)
	env.Upstreams = a.plan.graph.upstreamsOf(i, &a.upstreams)
	return env
}

// lookAgain is the look before a change: what the plan showed is compared with it.
func (a *applying) lookAgain(ctx context.Context, i int, env resources.Env) (resources.Change, error) {
	if it := a.plan.Items[i]; it.Node.Kind.Remote && it.Change.Action == resources.None {
		a.metrics[i] = it.Change.Metrics
		return it.Change, nil
	}
	return a.look(ctx, i, env)
}

// look reads resource i and compares it.
func (a *applying) look(ctx context.Context, i int, env resources.Env) (resources.Change, error) {
	c, err := readAndDiff(ctx, a.plan.Items[i].Node, env.ReadEnv)
	if err == nil {
		a.metrics[i] = c.Metrics
	}
	return c, err
}

// holders are those that keep node i from changing its configuration: its needs that failed, wait or are in progress, and
// what in turn holds those that merely are as they were.
func (a *applying) holders(i int) []int {
	var out []int
	for _, j := range a.plan.graph.needs[i] {
		if a.results[j].Outcome.stops() {
			out = append(out, j)
		} else {
			out = append(out, a.results[j].holders...)
		}
	}
	slices.Sort(out)
	return slices.Compact(out)
}

// held words why nothing was done: skipped where a need failed, else merely held.
func (a *applying) held(holders []int) Result {
	res := Result{Outcome: Held}
	var names []string
	for _, j := range holders {
		r := a.results[j]
		if r.Outcome == Failed || r.Outcome == Skipped {
			res.Outcome = Skipped
		}
		names = append(names, fmt.Sprintf("%s (%s)", r.Item.Node.Address, r.Outcome))
	}
	res.Message = "needs " + strings.Join(names, ", ")
	return res
}

// settled ends a resource with which there is nothing to do now.
func (a *applying) settled(i int, c resources.Change) (Result, bool) {
	switch c.Action {
	case resources.None:
		return a.keep(i, c, Result{Outcome: Unchanged}), true
	case resources.InProgress:
		return Result{Outcome: InProgress, Message: c.Summary}, true
	case resources.Wait:
		return a.keep(i, c, Result{Outcome: Waiting, Message: c.Summary}), true
	case resources.Blocked:
		return Result{Outcome: Failed, Err: blockedError(c)}, true
	}
	return Result{}, false
}

func blockedError(c resources.Change) error {
	fix := ""
	if len(c.Notes) > 0 {
		fix = c.Notes[len(c.Notes)-1]
	}
	return diag.New("", c.Summary, fix)
}

// movedError says that what is to be done now is not what the plan showed.
func movedError(planned, now resources.Change) error {
	what := fmt.Sprintf("planned was %q, due now would be %q", planned.Action, now.Action)
	if planned.Action == now.Action {
		what = "what it was to change has itself been changed"
	}
	return diag.New("apply the plan", "the host moved since the plan was made: "+what,
		"Nothing was done about this resource. Run converge plan again and look at it.")
}

// ended words an Apply that did not come to its end.
func ended(err error) Result {
	var y *resources.Yield
	if errors.As(err, &y) {
		return Result{Outcome: InProgress, Message: y.Done}
	}
	return Result{Outcome: Failed, Err: err}
}

// prove reads the resource again: what is left to do is a failure.
func (a *applying) prove(ctx context.Context, i int, env resources.Env, done resources.Change) Result {
	left, err := a.look(ctx, i, env)
	if err != nil {
		return Result{Outcome: Failed, Err: diag.Wrap(err, "read it again after the change", "")}
	}
	if left.Action.Changes() || left.Action == resources.Look {
		return Result{Outcome: Failed, Err: leftError(left)}
	}
	res, settled := a.settled(i, left)
	if !settled || res.Outcome == Unchanged && res.Err == nil {
		outcome := Changed
		if done.Action == resources.Look {
			outcome = Checked
		}
		return a.keep(i, left, Result{Outcome: outcome, Message: doneMessage(done, left)})
	}
	return res
}

// doneMessage words what was done: how the resource is now, and what was brought about besides files.
func doneMessage(done, left resources.Change) string {
	message := cmp.Or(left.Summary, done.Summary)
	var verbs []string
	for _, e := range done.Effects {
		if !slices.Contains(verbs, e.Verb) {
			verbs = append(verbs, e.Verb)
		}
	}
	if len(verbs) > 0 {
		message += " [" + strings.Join(verbs, ", ") + "]"
	}
	return message
}

func leftError(left resources.Change) error {
	var what []string
	for _, e := range left.Edits {
		what = append(what, e.Path)
	}
	for _, e := range left.Effects {
		what = append(what, strings.TrimSpace(e.Verb+" "+e.Target))
	}
	for _, d := range left.Attrs {
		what = append(what, d.Name)
	}
	if len(what) == 0 {
		what = append(what, left.Summary)
	}
	fix := "Something on this host undoes it, or the provider did not keep it. Run converge plan to see the difference."
	if left.Action == resources.Run || left.Action == resources.Look {
		fix = "What tells whether it is done still says no. Correct that, or what is run."
	}
	return diag.New("prove the change", "it was applied, and read again it still differs: "+strings.Join(what, ", "), fix)
}

// keep remembers a resource that is as it should be (or waits), and lets its dependents see it.
func (a *applying) keep(i int, c resources.Change, res Result) Result {
	it := a.plan.Items[i]
	rec := a.Records.Of(it.Node.Address)
	rec.node = it.Node
	config := it.Node.Config
	if res.Outcome == Waiting {
		config = ""
	}
	if err := rec.Keep(config, c.Remember); err != nil {
		return Result{Outcome: Failed, Err: err}
	}
	if res.Outcome != Waiting {
		a.upstreams.Store(i, a.upstream(&Item{Node: it.Node, Change: c}, false))
	}
	return res
}
