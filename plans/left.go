package plans

import (
	"context"

	"github.com/converge-agent/converge/host"
	"github.com/converge-agent/converge/resources"
)

// Left is why an apply leaves a resource alone, and how that counts.
type Left struct {
	Outcome Outcome
	Message string
	Err     error
	renews  bool // the renewal of a certificate is made nevertheless
}

func (l *Left) result() Result { return Result{Outcome: l.Outcome, Message: l.Message, Err: l.Err} }

// leave leaves a resource alone, except for a renewal that the plan has shown.
func (a *applying) leave(ctx context.Context, i int, env resources.Env, now resources.Change) Result {
	it := a.plan.Items[i]
	planned, _ := it.Left.renewal(it.Change)
	due, isDue := it.Left.renewal(now)
	if !isDue || fingerprint(planned) != fingerprint(due) {
		return it.Left.result()
	}
	a.emit(Event{Type: Began, Item: it})
	env.Progress = func(pr resources.Progress) { a.emit(Event{Type: Progressed, Item: it, Progress: pr}) }
	return a.journalled(it, due, &env, func() Result { return a.renew(ctx, i, env, due) })
}

// renew makes the part of a change that is made nevertheless, and proves it.
func (a *applying) renew(ctx context.Context, i int, env resources.Env, due resources.Change) Result {
	it := a.plan.Items[i]
	if err := applyWithin(ctx, it.Node, env, due); err != nil {
		return ended(err)
	}
	after, err := readAndDiff(ctx, it.Node, env.ReadEnv)
	if err != nil {
		return Result{Outcome: Failed, Err: err}
	}
	if left, still := it.Left.renewal(after); still && after.Action.Changes() {
		return Result{Outcome: Failed, Err: leftError(left)}
	}
	if err := a.Records.Of(it.Node.Address).Keep("", after.Remember); err != nil {
		return Result{Outcome: Failed, Err: err}
	}
	a.upstreams.Store(i, a.upstream(&Item{Node: it.Node, Change: after}, false))
	return Result{Outcome: Changed, Message: doneMessage(due, resources.Change{})}
}

// commitRemoval removes a file of converge's own.
func commitRemoval(files host.Files, path string, before *host.File) error {
	return files.Commit(context.Background(), host.Edit{Path: path, Before: before, Private: true})
}
