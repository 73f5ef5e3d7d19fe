package s3sync

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/converge-agent/converge/objectstore/ledger"
	"github.com/converge-agent/converge/resources"
	"github.com/zclconf/go-cty/cty"
)

// ledger is the path of the ledger.
func (b *bench) ledger() string {
	return filepath.Join(b.state, b.resource().(*resource).ledgerName())
}

// weekLater is when the next full listing is due.
const weekLater = 8 * 24 * time.Hour

// What was copied to one place says nothing of another one.
func TestAnotherPlaceGetsEverything(t *testing.T) {
	b := newBench(t)
	b.fill(media)
	b.converge()
	awaitTick(t)
	b.config["prefix"] = cty.StringVal("media/")
	b.bucket.put("media/hello.txt", "of the app")
	b.converge()
	for key, want := range media {
		if got, ok := b.bucket.get("media/" + key); !ok || got != want {
			t.Errorf("media/%s: got %q (%t), want %q", key, got, ok, want)
		}
	}
}

// What was left out before the ledger was lost is copied, and what was copied and deleted is not.
func TestLostLedgerKnowsItsFilter(t *testing.T) {
	const key = "accounts/avatars/000/000/001/original/aa.jpg"
	b := newBench(t)
	b.fill(media)
	b.config["exclude"] = cty.ListVal([]cty.Value{cty.StringVal("cache/**")})
	b.converge()
	delete(b.config, "exclude")
	b.must(os.Remove(b.ledger()))
	b.bucket.delete(key)
	b.converge()
	if _, ok := b.bucket.get(key); ok {
		t.Error("the deleted object is back")
	}
	b.must(os.Remove(filepath.Join(b.dir, key)))
	b.oracle()
}

// However few new objects there are, a bucket that lost a share of what was proven is doubted, until the admin answers.
func TestMuchMissingIsSuspicious(t *testing.T) {
	const n = 3 * manyMissing
	for _, c := range []struct {
		name, dir string
		deleted   int
		doubted   bool
	}{
		{"all", "media_attachments", n, true},
		{"a share", "media_attachments", manyMissing, true},
		{"few", "media_attachments", manyMissing - 1, false},
		{"what the app clears away by itself", "cache", n, false},
	} {
		t.Run(c.name, func(t *testing.T) {
			b := newBench(t)
			name := func(i int) string { return fmt.Sprintf("%s/%04d", c.dir, i) }
			for i := range n {
				b.write(name(i), "x")
			}
			b.converge()
			for i := range c.deleted {
				b.bucket.delete(name(i))
			}
			awaitTick(t)
			b.write("accounts/new", "copied meanwhile")
			b.converge()
			b.clock.ahead = weekLater
			err := b.run()
			if doubted := err != nil && strings.Contains(err.Error(), "that were in it"); doubted != c.doubted || err != nil && !doubted {
				t.Fatalf("got %v, want a refusal: %t", err, c.doubted)
			}
			if c.doubted {
				b.must(os.Remove(b.ledger()))
				if err := b.run(); err == nil {
					t.Error("without the ledger: got no refusal")
				}
				b.must(os.WriteFile(b.ledger()+accept, nil, 0o600))
				b.converge()
			}
			if got := len(b.bucket.keys()); got != n+1-c.deleted {
				t.Errorf("%d objects, want the %d that were left", got, n+1-c.deleted)
			}
			if _, err := os.Lstat(b.ledger() + accept); err == nil {
				t.Error("the answer still counts")
			}
			b.bucket.total()
			b.converge()
			if n := b.bucket.total(); len(n) > 0 {
				t.Errorf("the next run sent %v", n)
			}
		})
	}
}

// An answer to fill the bucket again copies what is missing, beside what there is.
func TestRefillBesideOtherObjects(t *testing.T) {
	b := newBench(t)
	for i := range manyMissing {
		b.write(fmt.Sprintf("f%03d", i), "x")
	}
	b.converge()
	b.bucket.objects = map[string]fakeObject{}
	b.bucket.put("another/x", "of the app")
	b.clock.ahead = weekLater
	if err := b.run(); err == nil || !strings.Contains(err.Error(), "none of the files") {
		t.Errorf("got %v, want a refusal", err)
	}
	b.must(os.Rename(b.ledger(), b.ledger()+refill))
	b.converge()
	b.oracle()
}

// A store without conditional writes is asked for each key once a listing has aged, be it in the same run.
func TestAgedListingSavesNoLook(t *testing.T) {
	b := newBench(t)
	b.fill(media)
	b.config["concurrency"] = cty.NumberIntVal(1)
	const key = "site_uploads/files/000/000/001/@1x/cc.png"
	puts := 0
	b.bucket.fault = func(_ int64, op, _ string, done bool) error {
		if op == "PutObject" && done {
			if puts++; puts == 1 {
				b.bucket.put(key, "written by the app")
				b.clock.step(freshListing + time.Second)
			}
		}
		return nil
	}
	if err := b.run(); err == nil || !strings.Contains(err.Error(), key) {
		t.Errorf("got %v, want a conflict at %s", err, key)
	}
	if len(b.bucket.clobbers) > 0 {
		t.Errorf("overwritten: %v", b.bucket.clobbers)
	}
	if n := b.bucket.total(); n["PutObject"] != int64(len(media)-1) || n["ListObjectsV2"] > 2 {
		t.Errorf("requests: %v", n)
	}
}

// A proven object that the app replaced, and deleted later, is as gone as any other.
func TestReplacedAndDeletedStaysDeleted(t *testing.T) {
	const key = "accounts/avatars/000/000/001/original/aa.jpg"
	for _, listed := range []bool{false, true} {
		b := newBench(t)
		b.fill(media)
		b.converge()
		b.bucket.put(key, "reprocessed by the app")
		b.clock.ahead = weekLater
		if err := b.run(); err == nil || !strings.Contains(err.Error(), "other bytes") {
			t.Errorf("got %v, want a conflict", err)
		}
		b.bucket.delete(key)
		if listed {
			b.clock.ahead += weekLater
		}
		for range 2 {
			b.converge()
			if got, ok := b.bucket.get(key); ok {
				t.Fatalf("listed: %t: the deleted object is back: %q", listed, got)
			}
		}
		b.must(os.Chmod(filepath.Join(b.dir, key), 0o600))
		b.clock.ahead += weekLater
		b.converge()
		if _, ok := b.bucket.get(key); ok {
			t.Fatalf("listed: %t: the deleted object is back after a chmod", listed)
		}
	}
}

// A file that is read again proves nothing new of the bucket.
func TestProofsKeepTheirTime(t *testing.T) {
	b := newBench(t)
	b.fill(map[string]string{"sent": "1", "found": "2"})
	b.bucket.put("found", "2")
	b.converge()
	proven := func(key string) time.Time {
		book, err := ledger.OpenReadOnly(b.ledger(), b.resource().(*resource).place)
		b.must(err)
		defer func() { b.must(book.Close()) }()
		rec, _, err := book.Get(key)
		b.must(err)
		return rec.ProvenAt
	}
	before := []time.Time{proven("sent"), proven("found")}
	b.bucket.delete("sent")
	awaitTick(t)
	for _, key := range []string{"sent", "found"} {
		b.must(os.Chmod(filepath.Join(b.dir, key), 0o600))
	}
	b.clock.ahead = time.Hour
	b.converge()
	for i, key := range []string{"sent", "found"} {
		if got := proven(key); !got.Equal(before[i]) || got.IsZero() {
			t.Errorf("%s: proven at %s, want %s as before", key, got, before[i])
		}
	}
}

// An apply waits for a plan that reads the ledger, and yields to one that does not end.
func TestApplyBesideAPlan(t *testing.T) {
	for _, ends := range []bool{true, false} {
		b := newBench(t)
		b.fill(media)
		b.converge()
		awaitTick(t)
		b.write("new", "n")
		r := b.resource().(*resource)
		c := b.diff(r)
		plan, err := ledger.OpenReadOnly(b.ledger(), r.place)
		b.must(err)
		if ends {
			time.AfterFunc(2500*time.Millisecond, func() { _ = plan.Close() }) // after the first try, which takes 2 s
		} else {
			r.patience = 0
		}
		err = r.Apply(t.Context(), b.env(), c)
		if y := new(resources.Yield); errors.As(err, &y) == ends || err != nil && ends {
			t.Errorf("the plan ends: %t: got %v", ends, err)
		}
		_ = plan.Close()
	}
}

// max_runtime ends a run whose last request does not end by itself.
func TestYieldsThoughARequestHangs(t *testing.T) {
	b := newBench(t)
	b.write("a", "hangs")
	b.config["max_runtime"] = cty.StringVal("1s")
	ctx, cancel := context.WithTimeout(t.Context(), 5*time.Minute)
	defer cancel()
	b.bucket.hang = true
	r := b.resource().(*resource)
	r.grace = 100 * time.Millisecond
	err := r.Apply(ctx, b.env(), b.diff(r))
	if y := new(resources.Yield); !errors.As(err, &y) {
		t.Errorf("got %v, want a yield", err)
	}
	b.bucket.hang = false
	b.converge()
	b.oracle()
}

// A tree that was always empty stays fine, also after a run that waited for what it depends on.
func TestTreeThatWasAlwaysEmpty(t *testing.T) {
	b := newBench(t)
	r := b.resource()
	b.pending = true
	c := b.diff(r)
	b.pending = false
	b.must(r.Apply(t.Context(), b.env(), c))
	if c := b.diff(b.resource()); c.Action != resources.None {
		t.Errorf("got %s %q, want none", c.Action, c.Summary)
	}
}

// An empty mount point is no tree that needs nothing.
func TestEmptiedSourceIsAnError(t *testing.T) {
	b := newBench(t)
	b.fill(media)
	b.converge()
	mounted := b.dir + ".away"
	b.must(os.Rename(b.dir, mounted))
	b.must(os.Mkdir(b.dir, 0o755))
	if _, err := b.resource().Read(t.Context(), b.env().ReadEnv); err == nil || !strings.Contains(err.Error(), "it is empty") {
		t.Errorf("got %v, want an error that says so", err)
	}
	b.must(os.Remove(b.dir))
	b.must(os.Rename(mounted, b.dir))
	b.converge()
	b.oracle()
}
