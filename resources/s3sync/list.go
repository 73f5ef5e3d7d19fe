package s3sync

import (
	"context"
	"iter"
	"strings"
	"time"

	"github.com/converge-agent/converge/objectstore"
	"github.com/converge-agent/converge/objectstore/ledger"
)

// listing compares the whole bucket with the ledger, as both come in the order of the keys. What it finds missing is marked
// with the number of this listing, and counts once that has come to its end: a listing that breaks off proves nothing.
type listing struct {
	*run
	number uint64
	items  []ledger.Item // not written yet

	objects int64 // in the bucket
	proven  census
}

// list brings the ledger up to what the bucket holds.
func (r *run) list(ctx context.Context) error {
	began := r.env.Clock.Now()
	l := &listing{run: r, number: r.meta.Listings + 1}
	if err := l.compare(ctx); err != nil {
		return err
	}
	if l.proven.doubtful() {
		if err := l.emptied(l.proven); err != nil {
			return err
		}
	}
	if err := l.flush(ctx); err != nil {
		return err
	}
	if err := l.checkLost(ctx); err != nil {
		return err
	}
	r.meta.Listings, r.meta.ListedAt = l.number, began
	r.listedAt = began
	if err := r.book.SetMeta(r.meta); err != nil {
		return err
	}
	return r.answered(r.env.ReadEnv, accept)
}

func (l *listing) compare(ctx context.Context) error {
	next, stop := iter.Pull2(l.book.All())
	defer stop()
	known, err, more := next()
	for o, e := range l.store.List(ctx, l.Bucket.Name, l.Prefix, "") {
		if e != nil {
			return e
		}
		l.objects++
		key := strings.TrimPrefix(o.Key, l.Prefix)
		for more && err == nil && known.Key < key {
			l.absent(known)
			known, err, more = next()
		}
		if err != nil {
			return err
		}
		if more && known.Key == key {
			l.found(known, o)
			known, err, more = next()
		} else {
			l.stranger(key, o)
		}
		if err := l.flushFull(ctx); err != nil {
			return err
		}
	}
	empty := false
	for ; more && err == nil; known, err, more = next() {
		l.absent(known)
		if l.objects == 0 && l.proven.missing > 0 && !empty {
			if err := l.emptied(l.proven); err != nil {
				return err
			}
			empty = true // and the admin said so
		}
		if err := l.flushFull(ctx); err != nil {
			return err
		}
	}
	return err
}

// found notes that the bucket holds o under a key of the ledger.
func (l *listing) found(known ledger.Item, o objectstore.Object) {
	if known.EverProven() {
		l.proven.count(known.Key, true)
	}
	if known.ETag == o.ETag && known.Size == o.Size {
		if known.Missing != 0 {
			if l.meta.Gone(known.Record) { // somebody put it back: it is not ours to delete again
				known.UploadedAt = time.Time{}
			}
			known.Missing = 0
			l.items = append(l.items, known)
		}
		return
	}
	// Somebody has put another object there: it is to be compared with the file again.
	l.items = append(l.items, ledger.Item{Key: known.Key, Record: ledger.Record{
		ETag: o.ETag, Size: o.Size, Known: known.EverProven(),
	}})
}

// absent notes that the bucket holds nothing under a key of the ledger.
func (l *listing) absent(known ledger.Item) {
	switch {
	case l.meta.Gone(known.Record):
	case known.EverProven():
		l.proven.count(known.Key, false)
		known.Missing = l.number
		l.items = append(l.items, known)
	case known.ETag != "":
		// It was there but never shown to be the file, so that nothing is known to be deleted.
		l.items = append(l.items, ledger.Item{Key: known.Key})
	}
}

// stranger notes what the bucket holds under a key that the ledger lacks, if there is a file of that name to compare it with.
func (l *listing) stranger(key string, o objectstore.Object) {
	if l.filter.leftOut(key) != "" {
		return
	}
	if there, err := l.tree.Has(key); there || err != nil {
		l.items = append(l.items, ledger.Item{Key: key, Record: ledger.Record{ETag: o.ETag, Size: o.Size}})
	}
}

func (l *listing) flushFull(ctx context.Context) error {
	if len(l.items) < 4*batch {
		return ctx.Err()
	}
	return l.flush(ctx)
}

func (l *listing) flush(ctx context.Context) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	err := l.book.Put(l.items)
	l.items = l.items[:0]
	return err
}
