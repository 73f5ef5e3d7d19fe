package plans

import (
	"github.com/converge-agent/converge/diag"
	"github.com/converge-agent/converge/host"
	"github.com/converge-agent/converge/resources"
)

// Journal writes down what an apply does.
type Journal interface {
	// Start is told of a change before it is made. Once it has returned without an error, what it was told will be found
	// after a power loss, and so will what the change replaces.
	Start(it *Item, c resources.Change) (Entry, error)
	// Left is told of resources that have left the configuration and stay on the host. It returns the number of the run.
	Left(addresses []string) (run int, err error)
}

// Entry is what a Journal holds of one change that is being made.
type Entry interface {
	// Files returns files whose commits are written down before they are made.
	Files(files host.Files) host.Files
	// End is told how it ended.
	End(res Result) error
}

// journalled makes a change by do, and writes it down before and after. What cannot be written down is not done, for it
// could neither be explained nor taken back. The repair of drift is done all the same: healing never waits, not even for
// room on the disk of the journal (law 9), and what it brings about was written down when it was first made.
func (a *applying) journalled(it *Item, c resources.Change, env *resources.Env, do func() Result) Result {
	if a.Journal == nil || !c.Action.Changes() {
		return do()
	}
	entry, err := a.Journal.Start(it, c)
	if err != nil {
		if (&Item{Change: c, Drift: it.Drift}).heals() {
			return unwritten(do(), err)
		}
		return Result{Outcome: Failed, Err: diag.Wrap(err, "write the change into the journal, before it is made", "")}
	}
	env.Files = entry.Files(env.Files)
	res := do()
	return unwritten(res, entry.End(res))
}

// unwritten adds to a result that the journal lacks it, and why.
func unwritten(res Result, err error) Result {
	if err == nil {
		return res
	}
	if res.Message != "" {
		res.Message += "; "
	}
	res.Message += "not in the journal: " + err.Error()
	return res
}
