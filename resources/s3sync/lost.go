package s3sync

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"time"

	"github.com/converge-agent/converge/diag"
	"github.com/converge-agent/converge/host"
	"github.com/converge-agent/converge/objectstore/ledger"
	"github.com/converge-agent/converge/resources"
)

// progressRecord is the name of the record that outlives a lost ledger.
const progressRecord = "complete"

// complete is that record: every file that Filter copies and that changed before To was at Place once. It says nothing of
// another place, nor of files that were left out then.
type complete struct {
	To     time.Time    `json:"to"`
	Place  ledger.Place `json:"place"`
	Filter string       `json:"filter"`
}

// Files beside the ledger by which an admin answers a listing that was doubted. Each is used up by the run that reads it.
const (
	refill = ".refill" // the ledger itself, moved there: what the bucket lacks is to be copied again
	accept = ".accept" // what the bucket lacks was deleted on purpose, and is never copied again
)

// meta returns the ledger's own state. That of a new ledger, whose predecessor was lost, says from the records up to when
// everything had been copied. Where the records are lost too, the end of the switch says so: what stands at delete_until was
// written when the last copy was complete, and since then the app may have deleted any of it from the bucket.
func (s *resource) meta(book *ledger.Ledger, env resources.ReadEnv) (ledger.Meta, error) {
	meta, err := book.Meta()
	if err != nil || meta != (ledger.Meta{}) {
		return meta, err
	}
	if on, err := s.signal(env, refill); on || err != nil {
		return meta, err
	}
	var c complete
	if _, err := env.Records.Record(progressRecord, &c); err != nil {
		return meta, diag.Wrap(err, "read what was remembered of the last complete copy", "")
	}
	if c.Place == s.place {
		meta.LostTo, meta.LostFilter = c.To, c.Filter
		return meta, nil
	}
	if s.DeleteUntil == "" {
		return meta, nil
	}
	end, err := env.Files.Lookup(s.DeleteUntil)
	switch {
	case errors.Is(err, host.ErrOpaque): // it is to be written in this run
		return meta, nil
	case err == nil && end != nil:
		meta.LostTo, meta.LostFilter = end.ChangedAt, s.filterText()
	}
	return meta, err
}

// signal reports whether the admin put a file of that name beside the ledger.
func (s *resource) signal(env resources.ReadEnv, suffix string) (bool, error) {
	_, err := os.Lstat(s.ledgerPath(env) + suffix)
	if errors.Is(err, fs.ErrNotExist) {
		return false, nil
	}
	return err == nil, host.SystemError(err, "look for", s.ledgerPath(env)+suffix)
}

// answered puts a signal that was acted on out of the way, so that it never counts twice.
func (s *resource) answered(env resources.ReadEnv, suffix string) error {
	path := s.ledgerPath(env) + suffix
	err := os.Rename(path, path+".done")
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	return host.SystemError(err, "rename", path)
}

// lostFiles are the files that a lost ledger had known to be in the bucket.
type lostFiles struct {
	to     time.Time // they changed no later; zero: no ledger was lost
	filter *filter   // they were copied by it
}

func (s *resource) lostFiles(m ledger.Meta) (lostFiles, error) {
	if m.LostTo.IsZero() {
		return lostFiles{}, nil
	}
	f, err := filterOf(s.Prefix, m.LostFilter)
	if err != nil {
		err = diag.Wrap(err, "read what was remembered of the last complete copy", "")
	}
	return lostFiles{to: m.LostTo, filter: f}, err
}

func (l lostFiles) has(e host.Entry) bool {
	return !l.to.IsZero() && !e.ChangedAt.After(l.to) && l.filter.leftOut(e.Key) == ""
}

// checkLost doubts a listing by which too much of what a lost ledger knew would count as deleted from the bucket.
func (l *listing) checkLost(ctx context.Context) error {
	if l.lost.to.IsZero() {
		return nil
	}
	var c census
	for e, err := range l.tree.Walk(ctx) {
		if ctx.Err() != nil {
			return ctx.Err()
		}
		if err != nil || e.Skipped != "" || !l.lost.has(e) || l.filter.leftOut(e.Key) != "" {
			continue
		}
		_, known, err := l.book.Get(e.Key)
		if err != nil {
			return err
		}
		c.count(e.Key, known)
	}
	if c.there == 0 && c.missing > 0 || c.doubtful() {
		return l.emptied(c)
	}
	return nil
}

// manyMissing is how many of the files that were proven may be missing before their share of all is looked at.
const manyMissing = 100

// census counts the files that were in the bucket by whether it still lists them: all, and those that are not in cache/.
type census struct{ there, missing, ownThere, ownMissing int64 }

func (c *census) count(key string, there bool) {
	all, own := &c.missing, &c.ownMissing
	if there {
		all, own = &c.there, &c.ownThere
	}
	*all++
	if !isCache(key) {
		*own++
	}
}

// doubtful reports whether so much is missing that the listing is more likely wrong than the objects deleted. Of cache/ the
// app deletes nearly everything in time (Mastodon 4.6.5 app/workers/scheduler/vacuum_scheduler.rb), so that it counts only
// where nothing at all is left.
func (c *census) doubtful() bool {
	return c.there == 0 && c.missing >= manyMissing ||
		c.ownMissing >= manyMissing && 10*c.ownMissing > c.ownThere+c.ownMissing
}

// emptied is the failure of a bucket that lacks much of what was in it; nil when the admin said that this is as it should be.
func (l *listing) emptied(c census) error {
	if on, err := l.signal(l.env.ReadEnv, accept); on || err != nil {
		return err
	}
	what := "it lists none of the files that were in it"
	if c.there > 0 {
		what = fmt.Sprintf("it lacks %s of the %s that were in it", count(c.missing), files(c.there+c.missing))
	}
	path := l.ledgerPath(l.env.ReadEnv)
	return diag.New(fmt.Sprintf("compare %s/%s with what was copied there", l.Bucket.Name, l.Prefix),
		what+", and no run fills a bucket again by itself",
		fmt.Sprintf("Look whether bucket, prefix, region and key are still the right ones, and bring the objects back. If they were "+
			"deleted on purpose: touch %[1]s%[2]s. If they are to be copied again: mv %[1]s %[1]s%[3]s", path, accept, refill))
}

// filterText is what filterOf makes the same filter of.
func (s *resource) filterText() string {
	b, _ := json.Marshal(patterns{s.Include, s.Exclude}) // of strings it cannot fail
	return string(b)
}

type patterns struct {
	Include []string `json:"include"`
	Exclude []string `json:"exclude"`
}

func filterOf(prefix, text string) (*filter, error) {
	var p patterns
	if err := json.Unmarshal([]byte(text), &p); err != nil {
		return nil, err
	}
	return newFilter(prefix, p.Include, p.Exclude)
}
