package s3sync

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"sync"
	"time"

	"github.com/converge-agent/converge/diag"
	"github.com/converge-agent/converge/host"
	"github.com/converge-agent/converge/objectstore"
	"github.com/converge-agent/converge/objectstore/ledger"
	"github.com/converge-agent/converge/resources"
	"golang.org/x/sys/unix"
)

// Before an app is switched to the bucket it deletes from its disk alone. What it deletes there after it was copied would
// stay in the bucket for ever, and be public: a deleted picture would come back. So until delete_until stands, an object is
// withdrawn whose file is gone. It is the one thing that a sync deletes, and it deletes only what
//   - this ledger says that we uploaded, and the bucket holds as we left it: what the app, or anybody else, put there stays;
//   - is missing by the plan's look at the directory, by the apply's, and once more right before. Two of them would be a
//     moment in which the app replaces a file.
//
// Any doubt (a place that cannot be read, another directory than before, too much missing at once) and nothing is deleted.

// withdrawal is what Read found of the objects whose files are gone.
type withdrawal struct {
	on       bool // delete_until is written, and nothing stands there yet
	switched bool // something stands there, or stood there once
	open     bool // the plan could not know them, and said that some may come: see announce

	due     []string // keys that the plan has shown
	bytes   int64
	later   tally // gone since the plan was made: for the next run
	foreign tally // gone, but not ours to delete: somebody else uploaded or replaced the object
	had     census
	root    ledger.Root

	accepted bool  // the admin said that what is missing was deleted on purpose
	refused  error // why nothing is deleted before a person has looked
}

// gone reports whether there is any object left of ours whose file is gone.
func (w *withdrawal) gone() bool { return len(w.due) > 0 || w.later.Files > 0 }

// readSwitch finds out whether deletions on the disk are still followed in the bucket. That the path has stood is written into
// the ledger by the next run that has something to do, which is within a week (see auditEvery): a path that gets lost later,
// with all of /etc/nginx perhaps, must not make disappear from the bucket what was cleared from the old disk meanwhile.
func (s *resource) readSwitch(env resources.ReadEnv, st *state, meta ledger.Meta) error {
	if s.DeleteUntil == "" {
		return nil
	}
	stands, err := s.stands(env)
	if err != nil {
		return err
	}
	w := &st.withdraw
	w.switched = stands || meta.Switched == s.DeleteUntil
	w.on = !w.switched
	s.announced = s.announced || w.on && st.pending
	w.open = s.announced
	return nil
}

// stands reports whether anything stands at delete_until.
func (s *resource) stands(env resources.ReadEnv) (bool, error) {
	f, err := env.Files.Lookup(s.DeleteUntil)
	if errors.Is(err, host.ErrOpaque) || errors.Is(err, host.ErrTooLarge) {
		return true, nil
	}
	return f != nil, err
}

// findGone looks for the file of each object that the ledger knows. What the plan finds is what the run may delete: what goes
// later is for the next run, so that the admin has seen the number and a live tree comes to an end. See fixCutoff.
func (s *resource) findGone(ctx context.Context, env resources.ReadEnv, st *state, tree *host.Tree, book *ledger.Ledger, meta ledger.Meta) error {
	w := &st.withdraw
	fix := s.gone == nil && !st.pending
	if fix {
		s.gone = map[string]struct{}{}
	}
	for known, err := range book.All() {
		switch {
		case err != nil:
			return err
		case ctx.Err() != nil:
			return ctx.Err()
		case known.ETag == "" || meta.Gone(known.Record) || s.filter.leftOut(known.Key) != "":
			continue
		}
		gone, err := isMissing(tree, known.Key)
		if err != nil {
			st.unread.add(err.Error(), err)
			continue
		}
		switch {
		case gone && known.UploadedAt.IsZero():
			w.foreign.add(known.Size)
			continue
		case gone && fix:
			s.gone[known.Key] = struct{}{}
		}
		w.had.count(known.Key, !gone)
		if !gone {
			continue
		}
		if _, shown := s.gone[known.Key]; shown || st.pending {
			w.due = append(w.due, known.Key)
			w.bytes += known.Size
		} else {
			w.later.add(known.Size)
		}
	}
	return s.doubt(env, st, meta)
}

// isMissing reports whether nothing stands at key. A link or a file on the way to it is something: then it is not known what
// became of the file.
func isMissing(tree *host.Tree, key string) (bool, error) {
	switch err := tree.Verify(host.Entry{Key: key}); {
	case errors.Is(err, fs.ErrNotExist):
		return true, nil
	case err == nil, errors.Is(err, host.ErrMoved):
		return false, nil
	default:
		return false, err
	}
}

// withdrawAll is a file beside the ledger by which an admin says that what is missing was deleted on purpose.
const withdrawAll = ".withdraw"

// doubt looks for a reason why the files may not have been deleted by the app, but be out of sight: a disk that is not
// mounted, another directory, a removal by hand.
func (s *resource) doubt(env resources.ReadEnv, st *state, meta ledger.Meta) error {
	w := &st.withdraw
	var stat unix.Stat_t
	if err := unix.Stat(s.Source, &stat); err != nil {
		return host.SystemError(err, "look at", s.Source)
	}
	w.root = ledger.Root{Inode: stat.Ino, FileSystems: len(st.devices)}
	if len(w.due) == 0 {
		return nil
	}
	var err error
	if w.accepted, err = s.signal(env, withdrawAll); w.accepted || err != nil {
		return err
	}
	var why string
	switch was := meta.Root; {
	case was.Inode != 0 && was.Inode != w.root.Inode:
		why = "it is another directory than the one that was copied"
	case w.root.FileSystems < was.FileSystems:
		why = fmt.Sprintf("its files are on %d file systems, and were on %d", w.root.FileSystems, was.FileSystems)
	case st.cutoff.Sub(st.newest) > quiet:
		why = "nothing was written there since " + st.newest.Format(time.DateOnly) + ", so that the app may write elsewhere already"
	case w.had.tooMany():
		why = "that is more than an app deletes by itself"
	default:
		return nil
	}
	path := s.ledgerPath(env)
	w.refused = diag.New(fmt.Sprintf("delete from the bucket what was deleted from %s", s.Source),
		fmt.Sprintf("%s of the %s that were copied from there are gone, such as %s, and %s; no object was deleted",
			count(w.had.missing), files(w.had.missing+w.had.there), quoted(w.due), why),
		fmt.Sprintf("Look whether it is the right directory, and wholly mounted; if files were lost, bring them back. If they were "+
			"deleted on purpose: touch %s%s, and their objects are deleted too.", path, withdrawAll))
	return nil
}

// quiet is how long the directory of an app that writes to it may go without a new file.
const quiet = 30 * 24 * time.Hour

// fewGone is how many files even of a tiny instance may be deleted without a question.
const fewGone = 5

// tooMany reports whether so many files are gone that they were more likely not deleted by the app: more than a tenth, or
// half of a small instance. Of cache/ the app deletes what is older than some days each night (see doubtful): there it is half.
func (c *census) tooMany() bool {
	own := c.ownThere + c.ownMissing
	cached, missing := c.there+c.missing-own, c.missing-c.ownMissing
	return c.ownMissing > min(max(manyMissing, own/10), max(fewGone, own/2)) || missing > max(manyMissing, cached/2)
}

// announce says in a plan, made before what this sync depends on is done, that deletions may come by then.
const announce = "and deletes there what the app deletes from its disk until then"

// withdraw deletes the objects of the keys that the plan has shown. It is done before files are copied: by then two walks
// through the directory, and a listing if one was due, have gone without a doubt.
func (r *run) withdraw(ctx context.Context, p plan) *tallies {
	work, stop := context.WithCancelCause(ctx)
	defer stop(nil)
	start, yield := context.WithCancel(work)
	defer yield()
	if r.MaxRuntime > 0 {
		start, yield = context.WithTimeout(work, r.MaxRuntime)
		defer yield()
	}
	outcomes := make(chan outcome)
	recorded := make(chan *tallies)
	go func() { recorded <- r.record(outcomes, stop) }()
	var group sync.WaitGroup
	walked := true
	for _, key := range p.gone {
		if !r.gate.enter(start) {
			walked = false
			break
		}
		group.Go(func() {
			outcomes <- r.withdrawOne(work, key)
			r.gate.leave()
		})
	}
	group.Wait()
	close(outcomes)
	found := <-recorded
	found.walked = walked
	if found.broken == nil {
		found.broken = ctx.Err()
	}
	return found
}

// withdrawOne deletes one object, if all that the plan assumed of it still holds. The ledger learns of it afterwards: after a
// kill in between, the next run finds that the object is gone, and writes the tombstone then.
func (r *run) withdrawOne(ctx context.Context, key string) outcome {
	o := outcome{entry: host.Entry{Key: key}, result: kept}
	rec, _, err := r.book.Get(key)
	switch {
	case err != nil:
		o.result, o.err = stopped, err
		return o
	case rec.UploadedAt.IsZero() || rec.ETag == "" || r.meta.Gone(rec): // the listing has found so since
		return o
	}
	there, err := r.store.Head(ctx, r.Bucket.Name, r.Prefix+key)
	switch {
	case errors.Is(err, objectstore.ErrNotFound) && !rec.EverProven():
		o.item = &ledger.Item{Key: key} // it never arrived, so that nothing is known to be deleted
		return o
	case errors.Is(err, objectstore.ErrNotFound):
		return r.tombstoned(o, rec, deleted)
	case err != nil:
		o.result, o.err = undeleted, err
		return o
	case there.ETag != rec.ETag || there.Size != rec.Size:
		o.item = &ledger.Item{Key: key, Record: ledger.Record{ETag: there.ETag, Size: there.Size, Known: rec.EverProven()}}
		return o
	}
	over, err := r.stands(r.env.ReadEnv)
	missing := false
	if err == nil {
		missing, err = isMissing(r.tree, key)
	}
	if err == nil && (over || !missing) {
		return o
	}
	if err == nil {
		err = r.store.Delete(ctx, r.Bucket.Name, r.Prefix+key)
	}
	if err != nil {
		o.result, o.err = undeleted, err
		return o
	}
	return r.tombstoned(o, rec, withdrawn)
}

// tombstoned is the outcome of a key whose file and whose object are gone: neither comes back.
func (r *run) tombstoned(o outcome, rec ledger.Record, as result) outcome {
	rec.Known, rec.Missing = true, r.meta.Listings
	o.result, o.item = as, &ledger.Item{Key: o.entry.Key, Record: rec}
	return o
}

// quoted names the first of many keys.
func quoted(keys []string) string {
	var p problems
	for _, key := range keys {
		p.add(fmt.Sprintf("%q", key), nil)
	}
	return listed(p)
}
