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
	intended               // about to be sent

	withdrawn // deleted from the bucket by us, for the file is gone
	kept      // not deleted, for it is not ours any more, or the file is back
	undeleted // could not be deleted
)

// outcome is the result of one file, and what the ledger is to know of it.
type outcome struct {
	entry  host.Entry
	result result
	item   *ledger.Item
	err    error
	ack    chan<- error // where the file waits until item is written
}

// tallies is what became of the files of a run.
type tallies struct {
	done      tally // copied or matched
	failed    problems
	conflicts problems
	unread    problems
	undeleted problems
	refused   error // why no object was deleted, though some are due

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

// recorder writes outcomes into the ledger, and counts them.
type recorder struct {
	*run
	found  *tallies
	stop   context.CancelCauseFunc
	items  []ledger.Item
	acks   []chan<- error // of files that wait for their item
	inARow int            // failures
}

// record writes the outcomes into the ledger until the channel is closed. It calls stop when there is no use in going on.
func (r *run) record(outcomes <-chan outcome, stop context.CancelCauseFunc) *tallies {
	w := &recorder{run: r, found: &tallies{}, stop: stop}
	timer := time.NewTimer(delay)
	defer timer.Stop()
	for {
		if len(w.acks) > 0 { // with the items of those that wait for their turn, for writing takes its time; the channel is open
			select {
			case o := <-outcomes:
				w.take(o)
			default:
				w.flush()
			}
			continue
		}
		select {
		case <-timer.C:
			w.flush()
			timer.Reset(delay)
		case o, more := <-outcomes:
			if !more {
				w.flush()
				return w.found
			}
			w.take(o)
		}
	}
}

func (w *recorder) take(o outcome) {
	if o.item != nil {
		w.items = append(w.items, *o.item)
	}
	if o.ack != nil {
		w.acks = append(w.acks, o.ack)
	}
	if len(w.items) >= batch {
		w.flush()
	}
	if o.result == intended {
		return
	}
	if w.inARow++; !w.add(w.found, o) {
		w.inARow = 0
	}
	switch {
	case o.result == stopped, errors.Is(o.err, objectstore.ErrNoBucket):
		w.halt(o.err)
	case w.inARow == hopeless:
		w.halt(diag.Wrap(o.err, fmt.Sprintf("bring %s up to %s, where %d files in a row failed", w.Bucket.Name, w.Source, w.inARow), ""))
	}
}

func (w *recorder) flush() {
	err := w.book.Put(w.items)
	if err != nil {
		w.halt(err)
	}
	for _, ack := range w.acks {
		ack <- err
	}
	w.items, w.acks = w.items[:0], w.acks[:0]
}

func (w *recorder) halt(err error) {
	if w.found.broken == nil {
		w.found.broken = err
		w.stop(err)
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
	case withdrawn:
		r.withdrawn++
		r.progress(t.done)
	case failed, undeleted:
		if errors.Is(o.err, context.Canceled) || errors.Is(o.err, context.DeadlineExceeded) {
			return false // it was ended with the run
		}
		if o.result == undeleted {
			t.undeleted.add(fmt.Sprintf("%q", o.entry.Key), o.err)
		} else {
			t.failed.add(o.entry.Key, o.err)
		}
		return true
	case deleted, moved, stopped, kept, intended:
	}
	return false
}

func (r *run) progress(done tally) {
	r.env.Progress(resources.Progress{
		Files: done.Files + r.withdrawn, TotalFiles: max(r.total.Files, done.Files) + max(r.toDelete, r.withdrawn),
		Bytes: done.Bytes, TotalBytes: max(r.total.Bytes, done.Bytes),
	})
}
