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
	"github.com/converge-agent/converge/objectstore/ledger"
	"github.com/converge-agent/converge/resources"
)

// auditEvery is how often the whole bucket is listed although the ledger says that nothing is owed: what was deleted there
// meanwhile becomes known.
const auditEvery = 7 * 24 * time.Hour

// Read walks the directory and looks each file up in the ledger. It sends no request.
func (s *resource) Read(ctx context.Context, env resources.ReadEnv) (resources.State, error) {
	st := &state{leftOut: map[string]tally{}, devices: map[uint64]struct{}{}, withdrawn: s.withdrawn}
	for _, u := range env.Upstreams {
		st.pending = st.pending || u.Pending
	}
	st.cutoff = s.fixCutoff(env.Clock.Now(), st.pending)

	book, err := ledger.OpenReadOnly(s.ledgerPath(env), s.place)
	if errors.Is(err, ledger.ErrBusy) {
		st.busy = true
		return st, nil
	}
	if err != nil {
		return nil, err
	}
	defer func() { _ = book.Close() }() // it was only read
	meta, err := s.meta(book, env)
	if err != nil {
		return nil, err
	}
	st.completeTo = meta.CompleteTo
	if err := s.readSwitch(env, st, meta); err != nil {
		return nil, err
	}

	tree, err := s.openTree(st.pending)
	if err != nil {
		return nil, err
	}
	if tree != nil {
		defer func() { _ = tree.Close() }()
		if err := s.count(ctx, env, st, tree, book, meta); err != nil {
			return nil, err
		}
	}
	if tree != nil && !st.sawFiles() && knowsFiles(book) {
		return nil, diag.New("copy "+s.Source, "it is empty, and held files when it was copied last",
			"Mount what belongs there. If its files were removed on purpose, take this s3_sync out of the configuration.")
	}
	if tree != nil && st.withdraw.on {
		if err := s.findGone(ctx, env, st, tree, book, meta); err != nil {
			return nil, err
		}
	}
	st.planned = len(s.gone) > 0
	st.list = s.whyList(st, meta)
	if s.seen.told(s, st.pending) {
		return &state{
			pending: true, cutoff: st.cutoff, proven: st.proven, gone: st.gone, special: st.special, unread: st.unread,
			withdraw: withdrawal{on: st.withdraw.on, open: st.withdraw.open},
		}, nil
	}
	return st, nil
}

// counted holds, for each ledger, the sync that has told in this process's plan what is owed. A later one of the same files,
// which waits for something (the restart before the last copy), does not tell it again.
type counted struct {
	mu sync.Mutex
	by map[string]*resource
}

// told notes that s tells what it owes, or, where it still waits, reports whether another one has.
func (c *counted) told(s *resource, waits bool) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	files := s.ledgerName() + s.filterText()
	if waits {
		return c.by[files] != nil && c.by[files] != s
	}
	if c.by == nil {
		c.by = map[string]*resource{}
	}
	c.by[files] = s
	return false
}

// knowsFiles reports whether a file was ever copied. A ledger that cannot be read says so when a file is looked up.
func knowsFiles(book *ledger.Ledger) bool {
	for _, err := range book.All() {
		return err == nil
	}
	return false
}

// fixCutoff returns the moment up to which files are owed. It stays the same through a run, so that the run can end while
// the app goes on writing. What a sync depends on may make the app write until it is done (the restart before the last
// copy): while that is still to come, the moment is open.
func (s *resource) fixCutoff(now time.Time, pending bool) time.Time {
	if !s.cutoff.IsZero() {
		return s.cutoff
	}
	if !pending {
		s.cutoff = now
	}
	return now
}

// openTree opens the source; nil when it does not exist yet but may soon.
func (s *resource) openTree(pending bool) (*host.Tree, error) {
	tree, err := host.OpenTree(s.Source)
	if errors.Is(err, fs.ErrNotExist) {
		if pending {
			return nil, nil
		}
		return nil, diag.Wrap(err, "", fmt.Sprintf("Correct source, or mount what belongs there; if there were never any files, make it: mkdir -p %s", s.Source))
	}
	return tree, err
}

// count walks the tree and sorts its files into st.
func (s *resource) count(ctx context.Context, env resources.ReadEnv, st *state, tree *host.Tree, book *ledger.Ledger, meta ledger.Meta) error {
	by := map[verdict]*tally{
		isProven: &st.proven, isGone: &st.gone, isLater: &st.later,
		isConflict: &st.conflicts, isCompare: &st.compare, isOwed: &st.owed,
	}
	lost, err := s.lostFiles(meta)
	if err != nil {
		return err
	}
	for e, err := range tree.Walk(ctx) {
		switch {
		case ctx.Err() != nil:
			return ctx.Err()
		case err != nil:
			st.unread.add(err.Error(), err)
			continue
		}
		st.devices[e.Dev] = struct{}{}
		if e.ChangedAt.After(st.newest) {
			st.newest = e.ChangedAt
		}
		if e.Special {
			st.special.add(fmt.Sprintf("%q is %s", e.Key, e.Skipped), nil)
			continue
		}
		if why := s.filter.leavesOut(e); why != "" {
			t := st.leftOut[why]
			t.add(e.Size)
			st.leftOut[why] = t
			continue
		}
		if e.Skipped != "" {
			st.unread.add(fmt.Sprintf("%q is %s", e.Key, e.Skipped), nil)
			continue
		}
		r, _, err := book.Get(e.Key)
		if err != nil {
			return err
		}
		by[judge(e, r, meta, lost, st.cutoff, env.Clock.Now())].add(e.Size)
	}
	return nil
}

// whyList says why the whole bucket is to be listed in this run; "" when the ledger suffices. Like all that decides, it
// goes by the cut-off, so that plan and apply agree.
func (s *resource) whyList(st *state, meta ledger.Meta) string {
	known := st.proven.plus(st.compare).plus(st.conflicts).plus(st.gone).Files
	switch {
	case known+st.owed.Files == 0:
		return ""
	case meta.Listings == 0:
		return "what the bucket holds is not known yet"
	case meta.Unfinished:
		return "the last run was interrupted"
	case st.cutoff.Sub(meta.ListedAt) >= auditEvery:
		return "the last one is more than a week old"
	case meta.ListedAt.After(st.cutoff.Add(auditEvery)):
		return "the last one seems to be of the future"
	case s.looksFirst() && st.owed.Files > 10*st.listRequests():
		return "it costs less than looking at each key"
	}
	return ""
}
