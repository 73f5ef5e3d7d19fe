package s3sync

import (
	"context"
	"errors"
	"fmt"
	"math"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/converge-agent/converge/diag"
	"github.com/converge-agent/converge/host"
	"github.com/converge-agent/converge/objectstore/ledger"
	"github.com/converge-agent/converge/resources"
)

// run is one Apply.
type run struct {
	*resource
	env   resources.Env
	total tally
	store store
	book  *ledger.Ledger
	meta  ledger.Meta
	lost  lostFiles
	tree  *host.Tree

	listedAt time.Time // when this run began to list the whole bucket; zero: it did not
	gate     *gate
	limit    *limiter
	puts     atomic.Int64 // uploads begun
	toDelete int64        // objects

	following bool // uploads may have to be deleted again: see intend
	outcomes  chan<- outcome
	begun     func() // to be called with each file
}

// Apply lists the bucket when that is due, and copies what is owed: first what cannot be had again, then cache/.
func (s *resource) Apply(ctx context.Context, env resources.Env, c resources.Change) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	p, _ := c.Private.(plan)
	s.fixCutoff(env.Clock.Now(), false)
	r := &run{resource: s, env: env, total: p.total, toDelete: int64(len(p.gone)), following: p.following, begun: func() {}}
	if err := r.open(ctx); errors.Is(err, ledger.ErrBusy) {
		return &resources.Yield{Done: "nothing yet, for another run, or a plan, uses the ledger"}
	} else if err != nil {
		return err
	}
	defer r.close()
	r.meta.Unfinished = true
	if p.root != (ledger.Root{}) {
		r.meta.Root = p.root
	}
	if p.switched {
		r.meta.Switched = s.DeleteUntil
	}
	if err := r.book.SetMeta(r.meta); err != nil {
		return err
	}
	if err := r.answered(env.ReadEnv, refill); err != nil {
		return err
	}
	if p.list {
		if err := r.list(ctx); err != nil {
			return err // unfinished: the next run lists again
		}
	}
	swept, err := r.follow(ctx, p)
	if err != nil {
		return err
	}
	found := r.copy(ctx)
	if found.broken != nil {
		return found.broken // unfinished too: what was on its way may have arrived
	}
	found.undeleted, found.refused = swept.undeleted, p.refused
	if err := r.finish(found); err != nil {
		return err
	}
	return r.verdict(found)
}

// follow withdraws what the plan has shown. That some objects cannot be deleted keeps no file from being copied.
func (r *run) follow(ctx context.Context, p plan) (*tallies, error) {
	if len(p.gone) == 0 {
		return &tallies{}, nil
	}
	swept := r.withdraw(ctx, p)
	switch {
	case swept.undeleted.n >= hopeless: // what broke it off is told with them
		return swept, nil
	case swept.broken != nil:
		return nil, swept.broken
	case swept.undeleted.n > 0:
		return swept, nil
	case !swept.walked:
		r.meta.Unfinished = false
		if err := r.book.SetMeta(r.meta); err != nil {
			return nil, err
		}
		return nil, &resources.Yield{Done: fmt.Sprintf("%s of %s deleted whose files the app deleted", count(r.withdrawn), objects(int64(len(p.gone))))}
	}
	return swept, r.answered(r.env.ReadEnv, withdrawAll)
}

// open opens what a run needs. A plan that reads the ledger is waited for.
func (r *run) open(ctx context.Context) error {
	var err error
	if r.store, err = r.resource.open(r.Bucket.Store); err != nil {
		return err
	}
	for start := time.Now(); ; {
		r.book, err = ledger.Open(r.ledgerPath(r.env.ReadEnv), r.place)
		if err == nil {
			break
		}
		if !errors.Is(err, ledger.ErrBusy) || ctx.Err() != nil || time.Since(start) > r.patience {
			return err
		}
	}
	if r.meta, err = r.resource.meta(r.book, r.env.ReadEnv); err == nil {
		r.lost, err = r.lostFiles(r.meta)
	}
	if err == nil {
		r.tree, err = r.openTree(false)
	}
	if err != nil {
		_ = r.book.Close() // nothing was written
		return err
	}
	before := r.store.Requests()["PutObject"]
	r.gate = newGate(int(r.Concurrency), func() int64 { return r.store.Requests()["PutObject"] - before - r.puts.Load() })
	if r.Bandwidth > 0 {
		r.limit = &limiter{rate: float64(r.Bandwidth)}
	}
	return nil
}

// close gives everything back. All that is to last was written durably before.
func (r *run) close() {
	_ = r.tree.Close()
	_ = r.book.Close()
}

// finish writes the end of the run into the ledger.
func (r *run) finish(found *tallies) error {
	r.meta.Unfinished = false
	if found.complete() {
		r.meta.CompleteTo, r.meta.LostTo, r.meta.LostFilter = r.cutoff, time.Time{}, ""
	}
	return r.book.SetMeta(r.meta)
}

// copy walks the tree, twice, and copies what is owed. It ends when all is copied, when max_runtime has passed, when ctx
// ends, or when going on makes no sense.
func (r *run) copy(ctx context.Context) *tallies {
	work, stop := context.WithCancelCause(ctx) // ends the requests on their way too
	defer stop(nil)
	walk, yield := context.WithCancel(work)
	defer yield()
	var cut atomic.Bool // what was on its way took longer than the grace after max_runtime
	late := time.AfterFunc(math.MaxInt64, func() { cut.Store(true); stop(nil) })
	defer late.Stop()
	if r.MaxRuntime > 0 {
		// It counts from the first file on: were it from here, a tree that takes longer to walk would never get copied.
		var timer *time.Timer
		r.begun = sync.OnceFunc(func() {
			timer = time.AfterFunc(r.MaxRuntime, func() {
				yield()
				late.Reset(r.grace)
			})
		})
		defer func() {
			if timer != nil {
				timer.Stop()
			}
		}()
	}
	outcomes := make(chan outcome)
	r.outcomes = outcomes
	recorded := make(chan *tallies)
	go func() { recorded <- r.record(outcomes, stop) }()

	var group sync.WaitGroup
	passes := []func(dir string) bool{
		func(dir string) bool { return !isCache(dir) },
		isCache,
	}
	done := 0
	for _, enter := range passes {
		if !r.walk(walk, work, enter, outcomes, &group) {
			break
		}
		done++
	}
	group.Wait()
	close(outcomes)
	found := <-recorded
	found.localDone, found.walked = done > 0, done == len(passes) && !cut.Load()
	if found.broken == nil && work.Err() != nil {
		found.broken = ctx.Err()
	}
	return found
}

// cacheDir holds what remote servers have too, and Mastodon can fetch again (Mastodon 4.6.5 config/initializers/
// paperclip.rb, prefix_url).
const cacheDir = "cache/"

func isCache(key string) bool { return strings.HasPrefix(key, cacheDir) }

// walk starts the copying of each file that is owed in the directories that enter accepts. It reports whether it came to
// the end.
func (r *run) walk(ctx, work context.Context, enter func(string) bool, outcomes chan<- outcome, group *sync.WaitGroup) bool {
	for e, err := range r.tree.WalkIn(ctx, enter) {
		if ctx.Err() != nil {
			return false
		}
		if err != nil {
			outcomes <- outcome{entry: e, result: unread, err: err}
			continue
		}
		if !enter(e.Key) || e.Special || r.filter.leavesOut(e) != "" { // files beside the directories belong to one of the walks
			continue
		}
		if e.Skipped != "" {
			outcomes <- outcome{entry: e, result: unread, err: refused(r.Source, e)}
			continue
		}
		rec, known, err := r.book.Get(e.Key)
		if err != nil {
			outcomes <- outcome{entry: e, result: stopped, err: err}
			return false
		}
		switch v := judge(e, rec, r.meta, r.lost, r.cutoff, r.env.Clock.Now()); {
		case v == isProven, v == isGone, v == isLater:
		case v == isCompare && !known:
			outcomes <- r.tombstone(e)
		case !r.gate.enter(ctx):
			return false
		default:
			r.begun()
			group.Go(func() {
				outcomes <- r.file(work, e, rec)
				r.gate.leave() // only now, or a slow disk under the ledger would let outcomes pile up
			})
		}
	}
	return ctx.Err() == nil
}

// refused is the failure of an entry that is no file to be read.
func refused(source string, e host.Entry) error {
	return diag.New(fmt.Sprintf("copy %q", source+"/"+e.Key), "it is "+e.Skipped,
		"Put the files themselves there (a directory of another disk by a bind mount instead of a link), or name the path in exclude.")
}

// tombstone records that a file which was copied before the ledger was lost, and which the bucket lacks, was deleted there.
func (r *run) tombstone(e host.Entry) outcome {
	return outcome{entry: e, result: deleted, item: &ledger.Item{Key: e.Key, Record: ledger.Record{Known: true, Missing: r.meta.Listings}}}
}

// verdict says how the run ended.
func (r *run) verdict(found *tallies) error {
	if !found.walked {
		return &resources.Yield{Done: r.soFar(found)}
	}
	var failures []error
	if p := found.failed; p.n > 0 {
		failures = append(failures, diag.Wrap(p.err, fmt.Sprintf("copy %s of %s", files(p.n), r.Source), ""))
	}
	if p := found.conflicts; p.n > 0 {
		failures = append(failures, diag.New(fmt.Sprintf("copy %s of %s", files(p.n), r.Source), "the bucket holds other bytes under the same key: "+listed(p),
			"Look at both. Where the file is right, put it over the object with another program; where the object is right, remove the file. converge never overwrites an object."))
	}
	if p := found.unread; p.n > 0 {
		failures = append(failures, diag.Wrap(p.err, fmt.Sprintf("read %s in %s", places(p.n), r.Source), ""))
	}
	if p := found.undeleted; p.n > 0 {
		failures = append(failures, diag.Wrap(p.err, fmt.Sprintf("delete %s from %s whose files the app deleted, such as %s", objects(p.n), r.Bucket.Name, listed(p)), ""))
	}
	failures = append(failures, found.refused)
	return errors.Join(failures...)
}

// soFar says how far a run came: "419,210 of ~2,913,406 files, 57.0 GB of 396.3 GB".
func (r *run) soFar(found *tallies) string {
	text := fmt.Sprintf("%s of ~%s files, %s of %s", count(found.done.Files), count(max(r.total.Files, found.done.Files)),
		size(found.done.Bytes), size(max(r.total.Bytes, found.done.Bytes)))
	if found.localDone {
		text += "; all but " + cacheDir + " is copied"
	}
	if r.withdrawn > 0 {
		text += "; deleted " + objects(r.withdrawn) + " whose files the app deleted"
	}
	return text
}

// ifAbsent reports whether uploads must find their key free. Where the store has a condition for that it costs nothing.
// Elsewhere each key is looked at first, unless this run has just listed them all: the app may write any of them meanwhile.
func (r *run) ifAbsent() bool {
	return !r.looksFirst() || r.listedAt.IsZero() || r.env.Clock.Now().Sub(r.listedAt) > freshListing
}

// freshListing is how long after its beginning a listing saves looking at each key. A small tree is copied by then.
const freshListing = 2 * time.Minute
