package s3sync

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/converge-agent/converge/diag"
	"github.com/converge-agent/converge/host"
	"github.com/converge-agent/converge/objectstore"
	"github.com/converge-agent/converge/objectstore/ledger"
	"github.com/converge-agent/converge/resources"
)

// result is how it went with one file.
type result int

const (
	copied   result = iota // sent, and proven
	matched                // found in the bucket already, and proven
	deleted                // concluded to be deleted from the bucket
	moved                  // changed or vanished while it was read or sent
	conflict               // the bucket holds other bytes
	failed                 // could not be sent
	unread                 // could not be read
	stopped                // the run cannot go on
)

// outcome is the result of one file, and what the ledger is to know of it.
type outcome struct {
	entry  host.Entry
	result result
	item   *ledger.Item
	err    error
}

// tallies is what became of the files of a run.
type tallies struct {
	done      tally // copied or matched
	failed    problems
	conflicts problems
	unread    problems

	localDone bool  // all but cache/ was walked
	walked    bool  // all was
	broken    error // why the run could not go on
}

// complete reports whether the bucket is now shown to hold every file that is owed.
func (t *tallies) complete() bool {
	return t.walked && t.broken == nil && t.failed.n+t.conflicts.n+t.unread.n == 0
}

const (
	// batch is how many records are written at once, and delay how long one waits for others.
	batch = 256
	delay = time.Second
	// hopeless is how many files in a row may fail before the run is given up: then it is not the files.
	hopeless = 20
)

// record writes the outcomes into the ledger until the channel is closed. It calls stop when there is no use in going on.
func (r *run) record(outcomes <-chan outcome, stop context.CancelCauseFunc) *tallies {
	t := &tallies{}
	var items []ledger.Item
	inARow := 0
	halt := func(err error) {
		if t.broken == nil {
			t.broken = err
			stop(err)
		}
	}
	flush := func() {
		if err := r.book.Put(items); err != nil {
			halt(err)
		}
		items = items[:0]
	}
	timer := time.NewTimer(delay)
	defer timer.Stop()
	for {
		select {
		case <-timer.C:
			flush()
			timer.Reset(delay)
		case o, more := <-outcomes:
			if !more {
				flush()
				return t
			}
			if o.item != nil {
				items = append(items, *o.item)
			}
			if len(items) >= batch {
				flush()
			}
			if inARow++; !r.add(t, o) {
				inARow = 0
			}
			switch {
			case o.result == stopped, errors.Is(o.err, objectstore.ErrNoBucket):
				halt(o.err)
			case inARow == hopeless:
				halt(diag.Wrap(o.err, fmt.Sprintf("copy %s, where %d files in a row failed", r.Source, inARow), ""))
			}
		}
	}
}

// add counts an outcome. It reports whether it is a failure of the store.
func (r *run) add(t *tallies, o outcome) (isFailure bool) {
	switch o.result {
	case copied, matched:
		t.done.add(o.entry.Size)
		r.progress(t.done)
	case conflict:
		t.conflicts.add(o.entry.Key, o.err)
	case unread:
		t.unread.add(o.entry.Key, o.err)
	case failed:
		if errors.Is(o.err, context.Canceled) || errors.Is(o.err, context.DeadlineExceeded) {
			return false // it was ended with the run
		}
		t.failed.add(o.entry.Key, o.err)
		return true
	case deleted, moved, stopped:
	}
	return false
}

func (r *run) progress(done tally) {
	r.env.Progress(resources.Progress{
		Files: done.Files, TotalFiles: max(r.total.Files, done.Files),
		Bytes: done.Bytes, TotalBytes: max(r.total.Bytes, done.Bytes),
	})
}
