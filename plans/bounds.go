package plans

import (
	"context"
	"fmt"
	"time"

	"github.com/converge-agent/converge/diag"
	"github.com/converge-agent/converge/resources"
)

// readAndDiff finds what is to be done about a node, within its timeout.
func readAndDiff(ctx context.Context, n *resources.Node, env resources.ReadEnv) (resources.Change, error) {
	ctx, cancel := resources.Within(ctx, n.Timeout)
	defer cancel()
	state, err := n.Resource.Read(ctx, env)
	if err != nil {
		return resources.Change{}, resources.TimedOut(ctx, err)
	}
	return n.Resource.Diff(state), nil
}

// applyWithin makes a change of a node, within its timeout.
func applyWithin(ctx context.Context, n *resources.Node, env resources.Env, c resources.Change) error {
	ctx, cancel := resources.Within(ctx, n.Timeout)
	defer cancel()
	return resources.TimedOut(ctx, n.Resource.Apply(ctx, env, c))
}

// tries makes a change and proves it, and begins anew after a failure, as often as the node's retry says. What a failed try
// left is read again first: then no more is done than first was planned.
func (a *applying) tries(ctx context.Context, i int, env resources.Env, first resources.Change) Result {
	n := a.plan.Items[i].Node
	res := a.try(ctx, i, env, first)
	made := 1
	for res.Outcome == Failed && made < n.Retry.Attempts && pause(ctx, n.Retry.Delay) == nil {
		made++
		change, err := readAndDiff(ctx, n, env.ReadEnv)
		if err != nil {
			res = Result{Outcome: Failed, Err: err}
			continue
		}
		if done, settled := a.settled(i, change); settled {
			if done.Outcome == Unchanged {
				done.Outcome, done.Message = Changed, doneMessage(first, change)
			}
			res = done
			break
		}
		if !remains(change, first) {
			return Result{Outcome: Failed, Err: movedError(first, change)}
		}
		res = a.try(ctx, i, env, change)
	}
	return counted(res, made)
}

// remains reports whether now is what a failed try of first can have left to do. What it made already is only to be mended.
func remains(now, first resources.Change) bool {
	if first.Action == resources.Create && now.Action == resources.Update {
		now.Action = resources.Create
	}
	return within(now, first)
}

// counted adds how many tries it took, where that was more than one.
func counted(res Result, made int) Result {
	switch {
	case made == 1:
	case res.Err != nil:
		res.Err = diag.Wrap(res.Err, fmt.Sprintf("tried %d times, the last time", made), "")
	default:
		res.Message += fmt.Sprintf(" (at try %d)", made)
	}
	return res
}

// try makes a change once and proves it.
func (a *applying) try(ctx context.Context, i int, env resources.Env, change resources.Change) Result {
	if err := applyWithin(ctx, a.plan.Items[i].Node, env, change); err != nil {
		return ended(err)
	}
	if change.Action == resources.Check {
		return a.keep(i, change, Result{Outcome: Checked, Message: change.Summary})
	}
	return a.prove(ctx, i, env, change)
}

// pause waits, and returns the error of ctx if that ends first.
func pause(ctx context.Context, d time.Duration) error {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-ctx.Done():
		return ctx.Err()
	case <-t.C:
		return ctx.Err()
	}
}
