// Package ledger remembers, for each file of a directory, what a bucket was shown to hold: so that a sync neither hashes nor
// lists nor uploads anything twice, and never brings back what was deleted from the bucket. A ledger is a cache of proofs:
// losing one costs a listing and a reading of the files, no file.
package ledger

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"iter"
	"os"
	"path/filepath"
	"runtime/debug"
	"strings"
	"time"

	"github.com/converge-agent/converge/diag"
	"go.etcd.io/bbolt"
	berrors "go.etcd.io/bbolt/errors"
	"golang.org/x/sys/unix"
)

// Version is the format that is written. An older one would be converted when it is opened; a newer one is refused.
const Version = 1

// Place says what a ledger is of. It stands in the file, so that one cannot be taken for another.
type Place struct {
	Endpoint string `json:"endpoint"`
	Bucket   string `json:"bucket"`
	Prefix   string `json:"prefix"` // of the keys in the bucket
	Source   string `json:"source"` // the local directory
}

// Meta is what is known of the whole.
type Meta struct {
	// ListedAt is when the last full listing began that was read to its end; zero when there was none.
	ListedAt time.Time `json:"listed_at"`
	// Listings is the number of full listings that were read to their end.
	Listings uint64 `json:"listings"`
	// Unfinished says that a run writes, or was killed: what it uploaded last may be missing here.
	Unfinished bool `json:"unfinished"`
	// CompleteTo is the latest moment that every file changed before it was proven; zero before the first whole pass.
	CompleteTo time.Time `json:"complete_to"`
	// LostTo is the CompleteTo of a ledger that this one replaces; zero once a whole pass was made. Until then a file older
	// than that, which neither this ledger nor the bucket knows, counts as deleted from the bucket.
	LostTo time.Time `json:"lost_to"`
	// LostFilter says which files the lost ledger was of, in the words of the sync. Others do not count as deleted.
	LostFilter string `json:"lost_filter,omitempty"`
	// Root is what the local directory was known by when no file of it was missing; zero while that is not known.
	Root Root `json:"root"`
	// Switched is the path that has stood once to say that the app writes to the bucket: from then on what goes from the
	// directory says nothing of the bucket, be the path lost again. "" before.
	Switched string `json:"switched,omitempty"`
}

// Root is what a local directory is known by, whatever numbers its file systems have after a boot: when it is not mounted, or
// something else is mounted there, it is another one.
type Root struct {
	Inode uint64 `json:"inode,omitempty"` // of the directory itself
	// FileSystems is how many of them its files are on.
	FileSystems int `json:"file_systems,omitempty"`
}

// Gone reports whether the record is a tombstone: its key had been proven, and a later full listing lacked it, or we deleted
// the object as its file was gone. It is deleted from the bucket, and never to be uploaded again. A tombstone whose ProvenAt is zero was concluded from
// LostTo: enough not to upload, not enough to delete the local file.
func (m Meta) Gone(r Record) bool { return r.Missing > 0 && r.Missing <= m.Listings }

// What opening and using a ledger fails with, to be told apart with errors.Is. Each comes inside a *diag.Error.
var (
	ErrBusy    = errors.New("another run is using it")
	ErrNewer   = errors.New("it was written by a newer version of converge")
	ErrDamaged = errors.New("it is damaged")
)

// patience is how long opening waits for another process to close the file.
const patience = 2 * time.Second

var (
	metaBucket  = []byte("meta")
	filesBucket = []byte("files")
	versionKey  = []byte("version")
	placeKey    = []byte("place")
	metaKey     = []byte("state")
)

// Ledger is an open ledger. Its methods may be called from several goroutines.
type Ledger struct {
	db   *bbolt.DB // nil: read-only, and there is no file yet
	file *os.File  // of db, to be closed even where db cannot
	path string
}

// Open opens the ledger at path for writing, and makes it, and its directory, when there is none: only its owner may read
// either. The errors are ErrBusy, ErrNewer, ErrDamaged, and those of the system.
func Open(path string, p Place) (*Ledger, error) {
	if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
		return nil, diag.Wrap(err, "make the directory of the ledger "+path, "Run converge as root, or with another --state-dir.")
	}
	if err := create(path, p); err != nil {
		return nil, err
	}
	return openPrepared(path, p)
}

func openPrepared(path string, p Place) (*Ledger, error) {
	l, err := open(path, false)
	if err != nil {
		return nil, err
	}
	err = l.guard("open", func() error { return l.db.Update(func(tx *bbolt.Tx) error { return prepare(tx, p) }) })
	if err != nil {
		_ = l.Close()
		return nil, err
	}
	return l, nil
}

// create makes an empty ledger where there is none. It is made under another name first: the database writes its pages and
// then its tables, and a disk that is full in between would leave what looks damaged.
func create(path string, p Place) error {
	const doing, fix = "make the ledger ", "Free some space on the file system that holds it, then run converge apply again."
	info, err := os.Stat(path)
	if err == nil && info.Size() > 0 {
		return nil
	}
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return diag.Wrap(err, doing+path, "")
	}
	temp := path + ".new"
	if err := os.Remove(temp); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return diag.Wrap(err, doing+path, fix)
	}
	l, err := openPrepared(temp, p)
	if err != nil {
		_ = os.Remove(temp) // else the next run does
		return err
	}
	if err := errors.Join(l.Close(), os.Rename(temp, path)); err != nil {
		return diag.Wrap(err, doing+path, fix)
	}
	return diag.Wrap(syncDir(filepath.Dir(path)), doing+path, fix)
}

// syncDir makes a new name in dir last over a power loss.
func syncDir(dir string) error {
	d, err := os.Open(dir)
	if err != nil {
		return err
	}
	return errors.Join(d.Sync(), d.Close())
}

// OpenReadOnly opens the ledger at path for reading only; where there is none, it is an empty one.
func OpenReadOnly(path string, p Place) (*Ledger, error) {
	info, err := os.Stat(path)
	if errors.Is(err, fs.ErrNotExist) || err == nil && info.Size() == 0 { // empty: killed before it was ever written
		return &Ledger{path: path}, nil
	}
	l, err := open(path, true)
	if err != nil {
		return nil, err
	}
	if err := l.guard("open", func() error { return l.db.View(func(tx *bbolt.Tx) error { return check(tx, p) }) }); err != nil {
		_ = l.Close()
		return nil, err
	}
	return l, nil
}

func open(path string, readOnly bool) (*Ledger, error) {
	l := &Ledger{path: path}
	options := &bbolt.Options{ReadOnly: readOnly, Timeout: patience, NoStatistics: true,
		OpenFile: func(path string, flag int, mode fs.FileMode) (f *os.File, err error) {
			l.file, err = os.OpenFile(path, flag, mode)
			return l.file, err
		}}
	err := l.guard("open", func() (err error) {
		l.db, err = bbolt.Open(path, 0o600, options)
		return err
	})
	if err == nil {
		return l, nil
	}
	l.release()
	return nil, err
}

// prepare makes the buckets of a new ledger, or checks those of an old one.
func prepare(tx *bbolt.Tx, p Place) error {
	if tx.Bucket(metaBucket) != nil {
		return check(tx, p)
	}
	meta, err := tx.CreateBucket(metaBucket)
	if err != nil {
		return err
	}
	if _, err := tx.CreateBucket(filesBucket); err != nil {
		return err
	}
	place, err := json.Marshal(p)
	if err != nil {
		return err
	}
	if err := meta.Put(versionKey, fmt.Append(nil, Version)); err != nil {
		return err
	}
	return meta.Put(placeKey, place)
}

func check(tx *bbolt.Tx, p Place) error {
	meta := tx.Bucket(metaBucket)
	if meta == nil || tx.Bucket(filesBucket) == nil {
		return fmt.Errorf("%w: it lacks its tables", ErrDamaged)
	}
	var version int
	if _, err := fmt.Sscan(string(meta.Get(versionKey)), &version); err != nil {
		return fmt.Errorf("%w: it has no version", ErrDamaged)
	}
	if version > Version {
		return fmt.Errorf("%w (format %d, this one knows %d)", ErrNewer, version, Version)
	}
	var got Place
	if err := json.Unmarshal(meta.Get(placeKey), &got); err != nil {
		return fmt.Errorf("%w: %w", ErrDamaged, err)
	}
	if got != p {
		return fmt.Errorf("it is of %s in %s at %s, not of %s in %s at %s",
			got.Source, got.Bucket, got.Endpoint, p.Source, p.Bucket, p.Endpoint)
	}
	return nil
}

// Meta returns what is known of the whole.
func (l *Ledger) Meta() (Meta, error) {
	var m Meta
	err := l.view("read", func(tx *bbolt.Tx) error {
		b := tx.Bucket(metaBucket).Get(metaKey)
		if b == nil {
			return nil
		}
		if err := json.Unmarshal(b, &m); err != nil {
			return fmt.Errorf("%w: %w", ErrDamaged, err)
		}
		return nil
	})
	return m, err
}

// SetMeta writes m durably.
func (l *Ledger) SetMeta(m Meta) error {
	b, err := json.Marshal(m)
	if err != nil {
		return diag.Wrap(err, "write the ledger "+l.path, "")
	}
	return l.update(func(tx *bbolt.Tx) error { return tx.Bucket(metaBucket).Put(metaKey, b) })
}

// Get returns the record of key, and whether there is one.
func (l *Ledger) Get(key string) (r Record, found bool, err error) {
	err = l.view("read", func(tx *bbolt.Tx) error {
		b := tx.Bucket(filesBucket).Get([]byte(key))
		if b == nil {
			return nil
		}
		found = true
		r, err = decode(key, b)
		return damaged(err)
	})
	return r, found, err
}

// Put writes the records of items durably, all or none.
func (l *Ledger) Put(items []Item) error {
	if len(items) == 0 {
		return nil
	}
	return l.update(func(tx *bbolt.Tx) error {
		b := tx.Bucket(filesBucket)
		b.FillPercent = 0.9 // keys come nearly in order, so that a page is seldom split again
		for _, i := range items {
			if err := b.Put([]byte(i.Key), i.encode()); err != nil {
				return err
			}
		}
		return nil
	})
}

// page is the number of records that one transaction reads. A long transaction would keep the pages that Put frees.
const page = 1000

// All yields every record by key, in the order in which S3 lists keys. Records that are put meanwhile, at keys that were not
// reached yet, are yielded too. The first error ends it.
func (l *Ledger) All() iter.Seq2[Item, error] {
	return func(yield func(Item, error) bool) {
		after := []byte(nil)
		for {
			items, err := l.page(after)
			if err != nil {
				yield(Item{}, err)
				return
			}
			for _, i := range items {
				if !yield(i, nil) {
					return
				}
			}
			if len(items) < page {
				return
			}
			after = []byte(items[len(items)-1].Key)
		}
	}
}

// page returns the next records after the key after; nil: from the first on.
func (l *Ledger) page(after []byte) (items []Item, err error) {
	err = l.view("read", func(tx *bbolt.Tx) error {
		c := tx.Bucket(filesBucket).Cursor()
		k, v := c.First()
		if after != nil {
			if k, v = c.Seek(after); string(k) == string(after) {
				k, v = c.Next()
			}
		}
		for ; k != nil && len(items) < page; k, v = c.Next() {
			r, err := decode(string(k), v)
			if err != nil {
				return damaged(err)
			}
			items = append(items, Item{Key: string(k), Record: r})
		}
		return nil
	})
	return items, err
}

// Close gives the file back.
func (l *Ledger) Close() error {
	if l.db == nil {
		return nil
	}
	err := l.guard("close", l.db.Close)
	l.release()
	return err
}

// release unlocks and closes the file where a panic of the database left it open. Closing alone does not unlock it: the
// mapping that was left too keeps it open (flock(2)). Mostly all is done already, and both fail.
func (l *Ledger) release() {
	if l.file == nil {
		return
	}
	if conn, err := l.file.SyscallConn(); err == nil {
		_ = conn.Control(func(fd uintptr) { _ = unix.Flock(int(fd), unix.LOCK_UN) })
	}
	_ = l.file.Close()
}

func (l *Ledger) view(doing string, f func(*bbolt.Tx) error) error {
	if l.db == nil {
		return nil
	}
	return l.guard(doing, func() error { return l.db.View(f) })
}

func (l *Ledger) update(f func(*bbolt.Tx) error) error {
	return l.guard("write", func() error { return l.db.Update(f) })
}

// guard runs f and words its error. The database panics on a page that makes no sense, and the kernel answers a reading past
// the end of a truncated file with a signal: both say that the file is damaged.
func (l *Ledger) guard(doing string, f func() error) (err error) {
	defer debug.SetPanicOnFault(debug.SetPanicOnFault(true))
	defer func() {
		if p := recover(); p != nil {
			err = l.failure(doing, fmt.Errorf("%w: %v", ErrDamaged, p))
		}
	}()
	return l.failure(doing, f())
}

func damaged(err error) error {
	if err == nil || errors.Is(err, ErrDamaged) {
		return err
	}
	return fmt.Errorf("%w: %w", ErrDamaged, err)
}

func (l *Ledger) failure(doing string, err error) error {
	if err == nil {
		return nil
	}
	fix := ""
	switch {
	case errors.Is(err, berrors.ErrTimeout):
		err = ErrBusy
		fix = "Wait until the run that copies now has ended, or yielded; converge status shows it."
	case errors.Is(err, ErrNewer):
		fix = "Install that version of converge again, or a later one."
	case errors.Is(err, ErrDamaged), errors.Is(err, berrors.ErrInvalid), errors.Is(err, berrors.ErrChecksum),
		errors.Is(err, berrors.ErrVersionMismatch), errors.Is(err, berrors.ErrInvalidMapping),
		strings.Contains(err.Error(), "file size too small"): // bbolt's, which has no value of its own
		err = damaged(err)
		fix = fmt.Sprintf("Move it away with: mv %[1]s %[1]s.damaged. That loses no file: the next run lists the bucket, reads "+
			"every local file once and compares. What was deleted from the bucket since the last complete copy stays deleted.", l.path)
	case errors.Is(err, fs.ErrPermission):
		fix = "Run converge as root: only root may read its records."
	}
	return diag.Wrap(err, doing+" the ledger "+l.path, fix)
}
