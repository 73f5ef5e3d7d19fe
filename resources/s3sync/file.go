package s3sync

import (
	"context"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"os"
	"time"

	"github.com/converge-agent/converge/diag"
	"github.com/converge-agent/converge/host"
	"github.com/converge-agent/converge/objectstore"
	"github.com/converge-agent/converge/objectstore/ledger"
)

// file copies one file, or finds that the bucket holds it. What it says was proven was so after the last byte was read, and
// of the very file that was walked.
func (r *run) file(ctx context.Context, e host.Entry, rec ledger.Record) outcome {
	o := outcome{entry: e}
	f, err := r.tree.Open(e)
	if err != nil {
		return o.withFailure(err)
	}
	defer func() { _ = f.Close() }() // it was only read
	seen := r.meta.ListedAt          // when the bucket was last seen to hold what rec says
	if !rec.ProvenAt.IsZero() {
		seen = rec.ProvenAt
	}
	torn := !rec.UploadedAt.IsZero() && rec.ProvenAt.IsZero() && !rec.Conflict
	if rec.Conflict || torn {
		if rec, err = r.lookAgain(ctx, e, rec); err != nil {
			return o.withFailure(err)
		}
		if rec.ETag == "" && rec.EverProven() {
			return r.vanished(o, rec)
		}
		seen = r.env.Clock.Now()
	}
	d, err := digestOf(ctx, f, e.Size, rec.ETag)
	if err == nil {
		err = r.tree.Verify(e)
	}
	if err == nil && d.size != e.Size {
		err = host.ErrMoved
	}
	if err != nil {
		return o.withFailure(err)
	}
	ours := torn && !rec.UploadedAt.IsZero()
	if rec.ETag != "" && (!ours || d.compare(rec.Size, rec.ETag) == same) {
		return r.settle(o, d, rec, seen)
	}
	return r.send(ctx, o, f, d, ours)
}

// lookAgain brings the record up to what the bucket holds now. It stays ours only if it is what we uploaded.
func (r *run) lookAgain(ctx context.Context, e host.Entry, rec ledger.Record) (ledger.Record, error) {
	now, err := r.store.Head(ctx, r.Bucket.Name, r.Prefix+e.Key)
	switch {
	case errors.Is(err, objectstore.ErrNotFound):
		return ledger.Record{Known: rec.EverProven()}, nil
	case err != nil:
		return rec, err
	case now.ETag != rec.ETag || now.Size != rec.Size:
		return ledger.Record{ETag: now.ETag, Size: now.Size, Known: rec.EverProven()}, nil
	}
	return rec, nil
}

// vanished records that a key which was proven once is gone from the bucket: it was deleted there, and stays deleted.
func (r *run) vanished(o outcome, rec ledger.Record) outcome {
	rec.Missing = r.meta.Listings
	o.result, o.item = deleted, &ledger.Item{Key: o.entry.Key, Record: rec}
	return o
}

// settle compares the file with the object that the bucket held under its key at the time seen.
func (r *run) settle(o outcome, d *digest, rec ledger.Record, seen time.Time) outcome {
	now := ledger.Record{File: fileOf(o.entry), ETag: rec.ETag, Size: rec.Size, Known: rec.EverProven()}
	switch d.compare(rec.Size, rec.ETag) {
	case same:
		now.UploadedAt, now.ProvenAt = rec.UploadedAt, seen
		o.result = matched
	case different:
		now.Conflict = true
		o.result, o.err = conflict, fmt.Errorf("%q differs", o.entry.Key)
	case unknown:
		now.Conflict = true
		o.result, o.err = conflict, fmt.Errorf("the ETag of %q does not tell its bytes", o.entry.Key)
	}
	o.item = &ledger.Item{Key: o.entry.Key, Record: now}
	return o
}

// send uploads the file. With replace it takes the place of an object that we uploaded while the file was being written.
func (r *run) send(ctx context.Context, o outcome, f *os.File, d *digest, replace bool) outcome {
	head := make([]byte, sniffLen)
	n, err := f.ReadAt(head, 0)
	if err != nil && !errors.Is(err, io.EOF) {
		return o.withFailure(diag.Wrap(err, "read "+f.Name(), ""))
	}
	if err := r.intend(o.entry, d, replace); err != nil {
		o.result, o.err = stopped, err
		return o
	}
	r.puts.Add(1)
	etag, err := r.store.Put(ctx, r.Bucket.Name, objectstore.Put{
		Key: r.Prefix + o.entry.Key, Body: r.limit.reader(ctx, f), Size: o.entry.Size, MD5: d.md5,
		ContentType: contentType(o.entry.Key, head[:n]), CacheControl: cacheControl, ACL: r.Bucket.ObjectACL,
		IfAbsent: !replace && r.ifAbsent(),
	})
	if errors.Is(err, objectstore.ErrExists) {
		return r.taken(ctx, o, f, d)
	}
	if e := r.tree.Verify(o.entry); e != nil {
		o = o.withFailure(e)
		if err == nil {
			o.item = &ledger.Item{Key: o.entry.Key, Record: ledger.Record{ETag: etag, Size: o.entry.Size, UploadedAt: r.env.Clock.Now()}}
		}
		return o
	}
	if err != nil {
		return o.withFailure(err)
	}
	now := r.env.Clock.Now()
	o.result = copied
	o.item = &ledger.Item{Key: o.entry.Key, Record: ledger.Record{
		File: fileOf(o.entry), ETag: etag, Size: o.entry.Size, UploadedAt: now, ProvenAt: now,
	}}
	return o
}

// intend writes down that an object is going to be ours, where it may have to be deleted again: after a kill, or a lost answer,
// nothing else tells whose it is, and the app may delete the file before the next run looks. The record is that of a torn
// upload. One that is replaced keeps its own.
func (r *run) intend(e host.Entry, d *digest, replace bool) error {
	if !r.following || replace {
		return nil
	}
	ack := make(chan error, 1)
	r.outcomes <- outcome{entry: e, result: intended, ack: ack, item: &ledger.Item{Key: e.Key, Record: ledger.Record{
		ETag: hex.EncodeToString(d.md5[:]), Size: d.size, UploadedAt: r.env.Clock.Now(),
	}}}
	return <-ack
}

// taken compares the file with an object that somebody else has put under its key meanwhile.
func (r *run) taken(ctx context.Context, o outcome, f *os.File, d *digest) outcome {
	there, err := r.store.Head(ctx, r.Bucket.Name, r.Prefix+o.entry.Key)
	if err == nil && len(possibleParts(o.entry.Size, there.ETag)) > 0 {
		if _, err = f.Seek(0, io.SeekStart); err == nil {
			d, err = digestOf(ctx, f, o.entry.Size, there.ETag)
		}
	}
	if err == nil {
		err = r.tree.Verify(o.entry)
	}
	if err != nil {
		return o.withFailure(err)
	}
	return r.settle(o, d, ledger.Record{ETag: there.ETag, Size: there.Size}, r.env.Clock.Now())
}

// withFailure says what an error means for the file.
func (o outcome) withFailure(err error) outcome {
	o.err, o.result = err, failed
	var local *os.PathError
	switch {
	case errors.Is(err, host.ErrMoved):
		o.result = moved
	case errors.As(err, &local), errors.Is(err, os.ErrPermission):
		o.result = unread
	}
	return o
}
