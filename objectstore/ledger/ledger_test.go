package ledger_test

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/converge-agent/converge/diag"
	"github.com/converge-agent/converge/objectstore/ledger"
	"github.com/google/go-cmp/cmp"
	"go.etcd.io/bbolt"
	"golang.org/x/sys/unix"
)

var place = ledger.Place{Endpoint: "https://s3.example.com", Bucket: "media", Source: "/home/mastodon/live/public/system"}

func item(key string) ledger.Item {
	return ledger.Item{Key: key, Record: ledger.Record{
		File: ledger.File{Size: 5, ModTime: 1_700_000_000_123_456_789, ChangedAt: -1, Inode: 1<<63 + 7, Dev: 64513},
		ETag: "5d41402abc4b2a76b9719d911017c592", Size: 5, UploadedAt: time.Unix(1_800_000_000, 0).UTC(),
		ProvenAt: time.Unix(1_800_000_001, 0).UTC(), Conflict: true, Known: true, Missing: 3,
	}}
}

func TestRecordsComeBackAfterReopening(t *testing.T) {
	path := newPath(t)
	l := open(t, path)
	want := []ledger.Item{item("a-b"), item("a.b"), item("a/b"), {Key: "empty"}, item("é/\U00010000")}
	must(t, l.Put([]ledger.Item{want[4], want[2], want[0], want[3], want[1]}))
	meta := ledger.Meta{ListedAt: time.Unix(1_800_000_002, 0).UTC(), Listings: 3, Unfinished: true, CompleteTo: time.Unix(5, 6).UTC()}
	must(t, l.SetMeta(meta))
	must(t, l.Close())

	for name, reopen := range map[string]func(string, ledger.Place) (*ledger.Ledger, error){"writing": ledger.Open, "reading": ledger.OpenReadOnly} {
		l, err := reopen(path, place)
		must(t, err)
		if diff := cmp.Diff(want, all(t, l)); diff != "" {
			t.Errorf("opened for %s: records (-want +got):\n%s", name, diff)
		}
		got, found, err := l.Get("a/b")
		if must(t, err); !found || !cmp.Equal(got, want[2].Record) {
			t.Errorf("opened for %s: Get: got %+v, %t, want %+v", name, got, found, want[2].Record)
		}
		if _, found, _ := l.Get("a/"); found {
			t.Errorf("opened for %s: Get of an unknown key found something", name)
		}
		if got, err := l.Meta(); err != nil || !cmp.Equal(got, meta) {
			t.Errorf("opened for %s: Meta: got %+v, %v, want %+v", name, got, err, meta)
		}
		must(t, l.Close())
	}
	if info, err := os.Stat(path); err != nil || info.Mode() != 0o600 {
		t.Errorf("mode: got %v, %v, want 0600", info.Mode(), err)
	}
}

func TestAllGoesThroughPages(t *testing.T) {
	for _, n := range []int{0, 1, 999, 1000, 1001, 2500} {
		l := open(t, newPath(t))
		var items []ledger.Item
		for i := range n {
			items = append(items, ledger.Item{Key: fmt.Sprintf("%06d", i)})
		}
		must(t, l.Put(items))
		if got := all(t, l); len(got) != n || !slices.IsSortedFunc(got, func(a, b ledger.Item) int { return strings.Compare(a.Key, b.Key) }) {
			t.Errorf("%d records: got %d, or out of order", n, len(got))
		}
		must(t, l.Close())
	}
}

// Records may be put while All goes on, as a sync does.
func TestPutWhileReading(t *testing.T) {
	l := open(t, newPath(t))
	var items []ledger.Item
	for i := range 3000 {
		items = append(items, ledger.Item{Key: fmt.Sprintf("%06d", i)})
	}
	must(t, l.Put(items))
	seen := 0
	for i, err := range l.All() {
		must(t, err)
		seen++
		if seen%100 == 0 {
			i.Missing = 1
			must(t, l.Put([]ledger.Item{i}))
		}
	}
	if seen != 3000 {
		t.Errorf("got %d records, want 3000", seen)
	}
	must(t, l.Close())
}

func TestGone(t *testing.T) {
	m := ledger.Meta{Listings: 2}
	for missing, want := range map[uint64]bool{0: false, 1: true, 2: true, 3: false} {
		if got := m.Gone(ledger.Record{Missing: missing}); got != want {
			t.Errorf("missing in listing %d of 2 complete ones: got %t, want %t", missing, got, want)
		}
	}
}

func TestAbsentLedgerReadsAsEmpty(t *testing.T) {
	path := newPath(t)
	for _, state := range []string{"absent", "empty"} {
		if state == "empty" {
			must(t, os.MkdirAll(filepath.Dir(path), 0o700))
			must(t, os.WriteFile(path, nil, 0o600))
		}
		l, err := ledger.OpenReadOnly(path, place)
		must(t, err)
		m, err := l.Meta()
		if must(t, err); m != (ledger.Meta{}) || len(all(t, l)) != 0 {
			t.Errorf("%s: got %+v and records, want nothing", state, m)
		}
		must(t, l.Close())
	}
}

// TestFullDiskLeavesNoLedgerThatLooksDamaged: the limit on the size of files stands in for a disk that is full after the
// database's first pages and before its tables.
func TestFullDiskLeavesNoLedgerThatLooksDamaged(t *testing.T) {
	path := newPath(t)
	var was unix.Rlimit
	must(t, unix.Getrlimit(unix.RLIMIT_FSIZE, &was))
	limit := was
	limit.Cur = uint64(4 * os.Getpagesize())
	must(t, unix.Setrlimit(unix.RLIMIT_FSIZE, &limit))
	l, err := ledger.Open(path, place)
	must(t, unix.Setrlimit(unix.RLIMIT_FSIZE, &was))
	if err == nil {
		t.Fatal("the ledger was made in spite of the limit", l.Close())
	}
	l, err = ledger.OpenReadOnly(path, place)
	must(t, err)
	must(t, l.Close())
	must(t, open(t, path).Close())
	names, err := os.ReadDir(filepath.Dir(path))
	if must(t, err); len(names) != 1 {
		t.Errorf("left beside the ledger: %v", names)
	}
}

func TestBusy(t *testing.T) {
	path := newPath(t)
	l := open(t, path)
	defer func() { must(t, l.Close()) }()
	for name, again := range map[string]func(string, ledger.Place) (*ledger.Ledger, error){"writing": ledger.Open, "reading": ledger.OpenReadOnly} {
		start := time.Now()
		_, err := again(path, place)
		if !errors.Is(err, ledger.ErrBusy) || diag.Fix(err) == "" || time.Since(start) > time.Minute {
			t.Errorf("for %s: got %v after %s, want ErrBusy with advice, soon", name, err, time.Since(start))
		}
	}
}

func TestRefusals(t *testing.T) {
	cases := []struct {
		name  string
		spoil func(t *testing.T, path string)
		place ledger.Place
		want  error
		says  string
	}{
		{"newer", func(t *testing.T, path string) { edit(t, path, "meta", "version", "2") }, place, ledger.ErrNewer, "format 2"},
		{"no version", func(t *testing.T, path string) { edit(t, path, "meta", "version", "") }, place, ledger.ErrDamaged, ""},
		{"place", func(*testing.T, string) {}, ledger.Place{Bucket: "other"}, nil, "it is of /home/mastodon"},
		{"no database", func(t *testing.T, path string) { must(t, os.WriteFile(path, make([]byte, 9000), 0o600)) }, place, ledger.ErrDamaged, ""},
		{"truncated", func(t *testing.T, path string) { must(t, os.Truncate(path, 16384)) }, place, ledger.ErrDamaged, ""},
		{"truncated to a page", func(t *testing.T, path string) { must(t, os.Truncate(path, 4096)) }, place, ledger.ErrDamaged, ""},
		{"a record changed", func(t *testing.T, path string) { edit(t, path, "files", "000500", "xxxxxxxxxx") }, place, ledger.ErrDamaged, ""},
		{"a record cut", func(t *testing.T, path string) { edit(t, path, "files", "000500", "") }, place, ledger.ErrDamaged, ""},
		{"meta", func(t *testing.T, path string) { edit(t, path, "meta", "state", "{") }, place, ledger.ErrDamaged, ""},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			path := newPath(t)
			l := open(t, path)
			var items []ledger.Item
			for i := range 2000 {
				items = append(items, item(fmt.Sprintf("%06d", i)))
			}
			must(t, l.Put(items))
			must(t, l.Close())
			c.spoil(t, path)

			for name, reopen := range map[string]func(string, ledger.Place) (*ledger.Ledger, error){"writing": ledger.Open, "reading": ledger.OpenReadOnly} {
				err := readAll(reopen, path, c.place)
				if err == nil || c.want != nil && !errors.Is(err, c.want) || !strings.Contains(err.Error(), c.says) {
					t.Errorf("for %s: got %v, want %v %q", name, err, c.want, c.says)
				}
				if c.want != nil && diag.Fix(err) == "" {
					t.Errorf("for %s: no advice with %v", name, err)
				}
			}
		})
	}
}

// Every byte of every page that matters is covered: a flipped bit is found, or it is none of the content.
func TestFlippedBitsAreFound(t *testing.T) {
	path := newPath(t)
	l := open(t, path)
	var want []ledger.Item
	for i := range 300 {
		want = append(want, item(fmt.Sprintf("%06d", i)))
	}
	must(t, l.Put(want))
	must(t, l.Close())
	whole, err := os.ReadFile(path)
	must(t, err)
	found := 0
	for at := 0; at < len(whole); at += 397 {
		spoilt := slices.Clone(whole)
		spoilt[at] ^= 0x10
		must(t, os.WriteFile(path, spoilt, 0o600))
		l, err := ledger.OpenReadOnly(path, place)
		if err != nil {
			found++
			continue
		}
		var got []ledger.Item
		for i, e := range l.All() {
			if err = e; err == nil {
				got = append(got, i)
			}
		}
		_ = l.Close()
		if err != nil {
			found++
			continue
		}
		for _, i := range got { // records may be lost with a page, for which a sync only works again; none may be wrong
			if n := slices.IndexFunc(want, func(w ledger.Item) bool { return w.Key == i.Key }); n < 0 || !cmp.Equal(want[n], i) {
				t.Errorf("bit flipped in byte %d: got a record that was not written: %+v", at, i)
			}
		}
	}
	if found == 0 {
		t.Error("no flipped bit was found")
	}
}

func readAll(open func(string, ledger.Place) (*ledger.Ledger, error), path string, p ledger.Place) error {
	l, err := open(path, p)
	if err != nil {
		return err
	}
	for _, e := range l.All() {
		if err == nil {
			err = e
		}
	}
	_, e := l.Meta()
	return errors.Join(err, e, l.Close())
}

// edit changes one value behind the ledger's back.
func edit(t *testing.T, path, bucket, key, value string) {
	t.Helper()
	db, err := bbolt.Open(path, 0o600, nil)
	must(t, err)
	must(t, db.Update(func(tx *bbolt.Tx) error { return tx.Bucket([]byte(bucket)).Put([]byte(key), []byte(value)) }))
	must(t, db.Close())
}

func newPath(t *testing.T) string { return filepath.Join(t.TempDir(), "s3_sync", "x.db") }

func open(t *testing.T, path string) *ledger.Ledger {
	t.Helper()
	l, err := ledger.Open(path, place)
	must(t, err)
	return l
}

func all(t *testing.T, l *ledger.Ledger) []ledger.Item {
	t.Helper()
	var out []ledger.Item
	for i, err := range l.All() {
		must(t, err)
		out = append(out, i)
	}
	return out
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}
