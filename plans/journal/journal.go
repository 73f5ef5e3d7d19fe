package journal

import (
	"context"
	"encoding/json"
	"fmt"
	"path/filepath"
	"strings"
	"sync"
	"time"

	"github.com/converge-agent/converge/diag"
	"github.com/converge-agent/converge/host"
	"github.com/converge-agent/converge/plans"
	"github.com/converge-agent/converge/resources"
)

// Journal is what one run writes. Its file is made with the first change, so that an unchanged run writes nothing.
type Journal struct {
	*Store
	head Head

	mu      sync.Mutex
	log     *host.Log // nil until the first line
	begun   bool      // the head has been written
	started time.Duration
}

var _ plans.Journal = (*Journal)(nil)

// New returns the journal of a run. Of head, the version, the number and the key are filled in.
func (s *Store) New(head Head) *Journal {
	return &Journal{Store: s, head: head, started: s.clock.SinceBoot()}
}

// Start implements plans.Journal.
func (j *Journal) Start(it *plans.Item, c resources.Change) (plans.Entry, error) {
	j.mu.Lock()
	defer j.mu.Unlock()
	if err := j.open(); err != nil {
		return nil, err
	}
	change := &Change{Action: c.Action.String(), Summary: c.Summary, Drift: it.Drift}
	for _, n := range it.Node.Needs {
		change.Needs = append(change.Needs, n.String())
	}
	for _, e := range c.Effects {
		change.Effects = append(change.Effects, Effect{e.Verb, e.Target, e.Why, e.Destructive})
	}
	entry := &entry{journal: j, address: it.Node.Address.String(), attrs: c.Attrs, started: j.clock.SinceBoot()}
	for _, e := range c.Edits {
		edit, err := j.keep(e, c.Attrs)
		if err != nil {
			return nil, err
		}
		change.Edits = append(change.Edits, edit)
		if !e.Opaque {
			entry.due = append(entry.due, e)
		}
	}
	return entry, j.write(j.log.Append, line{Type: typeStart, Address: entry.address, Change: change})
}

// Left implements plans.Journal.
func (j *Journal) Left(addresses []string) (int, error) {
	j.mu.Lock()
	defer j.mu.Unlock()
	if err := j.open(); err != nil {
		return 0, err
	}
	return j.head.Run, j.write(j.log.Append, line{Type: typeLeft, Left: addresses})
}

// open makes the file of the run, under the number after the newest.
func (j *Journal) open() error {
	if j.log != nil {
		return nil
	}
	if err := j.keys.SaveKey(); err != nil {
		return err
	}
	uid, gid := j.users.Self()
	missing, err := host.MissingDirs(j.files, j.keptDir(), 0o700, uid, gid)
	if err != nil {
		return err
	}
	for _, e := range missing {
		if err := j.files.Commit(context.Background(), e); err != nil {
			return err
		}
	}
	runs, err := j.Runs()
	if err != nil {
		return err
	}
	j.head.Version, j.head.Run, j.head.Key = version, 1, j.keyMark()
	if len(runs) > 0 {
		j.head.Run = runs[len(runs)-1] + 1
	}
	j.log, err = host.CreateLog(j.path(j.head.Run))
	return err
}

// write adds a line by add, which is one of the log's, the first one behind the head.
func (j *Journal) write(add func([]byte) error, l line) error {
	l.At = j.clock.Now().UTC()
	lines := []line{l}
	if !j.begun {
		lines = []line{{Type: typeRun, At: l.At, Head: &j.head}, l}
	}
	var text []byte
	for _, l := range lines {
		one, err := json.Marshal(l)
		if err != nil {
			return diag.Wrap(err, "write "+j.path(j.head.Run), "This is a fault of converge; please report it.")
		}
		text = append(append(text, one...), '\n')
	}
	if err := add(text); err != nil {
		return err
	}
	j.begun = true
	return nil
}

// Close ends the run and, if it has written anything, drops what is too old or too much of the runs before it.
func (j *Journal) Close(r *plans.Report) error {
	j.mu.Lock()
	defer j.mu.Unlock()
	if j.log == nil {
		return nil
	}
	defer j.log.Close()
	if !j.begun {
		return nil
	}
	done := line{Type: typeDone, Counts: &Counts{
		Changed: r.Count(plans.Changed), Failed: r.Count(plans.Failed), Skipped: r.Count(plans.Skipped),
		InProgress: r.Count(plans.InProgress, plans.Waiting, plans.Held), Unchanged: r.Count(plans.Unchanged, plans.Checked),
		Took: (j.clock.SinceBoot() - j.started).Milliseconds(),
	}}
	if err := j.write(j.log.Append, done); err != nil {
		return err
	}
	return j.bound(j.head.Run)
}

// entry is one change that is being made.
type entry struct {
	journal *Journal
	address string
	attrs   []resources.AttrDiff
	due     []host.Edit // that its start has named, and that have not been made
	started time.Duration
}

// End implements plans.Entry. Its line goes to the disk with the next start, or with the end of the run: a power loss that
// takes it leaves a step that was begun, which is what a power loss a moment earlier leaves.
func (e *entry) End(res plans.Result) error {
	e.journal.mu.Lock()
	defer e.journal.mu.Unlock()
	end := &End{Outcome: res.Outcome.String(), Message: res.Message, Took: (e.journal.clock.SinceBoot() - e.started).Milliseconds()}
	if res.Err != nil {
		end.Error = res.Err.Error()
	}
	return e.journal.write(e.journal.log.Add, line{Type: typeEnd, Address: e.address, End: end})
}

// Files implements plans.Entry.
func (e *entry) Files(files host.Files) host.Files { return &journalled{files, e} }

// journalled are files whose edits are written down before they are made, if they have not been named by the start: those
// of a certificate's bytes, of a site that is written as soon as there is an nginx, of one that is put back.
type journalled struct {
	host.Files
	entry *entry
}

func (f *journalled) Commit(ctx context.Context, e host.Edit) error {
	if err := f.entry.commit(e); err != nil {
		return diag.Wrap(err, fmt.Sprintf("write the edit of %s into the journal, before it is made", e.Path), "")
	}
	return f.Files.Commit(ctx, e)
}

func (e *entry) commit(edit host.Edit) error {
	j := e.journal
	if edit.Empty() || strings.HasPrefix(edit.Path, filepath.Dir(j.dir)+"/") { // what converge keeps for itself is no state of the host
		return nil
	}
	j.mu.Lock()
	defer j.mu.Unlock()
	for i, d := range e.due {
		if d.Path == edit.Path && d.After.Same(edit.After) && d.Before.Same(edit.Before) {
			e.due = append(e.due[:i:i], e.due[i+1:]...)
			return nil
		}
	}
	kept, err := j.keep(edit, e.attrs)
	if err != nil {
		return err
	}
	return j.write(j.log.Append, line{Type: typeEdit, Address: e.address, Edit: kept})
}
