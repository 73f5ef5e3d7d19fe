package s3sync

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/converge-agent/converge/diag"
	"github.com/converge-agent/converge/objectstore"
	"github.com/converge-agent/converge/objectstore/ledger"
	"github.com/converge-agent/converge/resources"
	"github.com/google/go-cmp/cmp"
	"github.com/zclconf/go-cty/cty"
)

const (
	avatar  = "accounts/avatars/000/000/001/original/aa.jpg"
	video   = "cache/media_attachments/files/112/ee.mp4"
	picture = "media_attachments/files/110/000/001/original/0a1b2c3d4e5f6071.png"
)

// newFollower is a bench whose files are all copied, with a delete_until where nothing stands yet.
func newFollower(t *testing.T) *bench {
	b := newBench(t)
	b.config["delete_until"] = cty.StringVal(b.marker())
	b.fill(media)
	b.converge()
	b.bucket.total()
	return b
}

func (b *bench) marker() string { return filepath.Join(b.state, "media-moved") }

func (b *bench) remove(keys ...string) {
	b.t.Helper()
	for _, key := range keys {
		b.must(os.Remove(filepath.Join(b.dir, key)))
	}
}

// holds compares the keys of the bucket with those of media without some.
func (b *bench) holds(when string, without ...string) {
	b.t.Helper()
	want := slices.Sorted(maps.Keys(media))
	want = slices.DeleteFunc(want, func(k string) bool { return slices.Contains(without, k) })
	if diff := cmp.Diff(want, b.bucket.keys()); diff != "" {
		b.t.Errorf("%s: keys (-want +got):\n%s", when, diff)
	}
}

func (b *bench) record(key string) (ledger.Record, ledger.Meta) {
	b.t.Helper()
	book, err := ledger.OpenReadOnly(b.ledger(), b.resource().(*resource).place)
	b.must(err)
	defer func() { b.must(book.Close()) }()
	rec, _, err := book.Get(key)
	b.must(err)
	meta, err := book.Meta()
	b.must(err)
	return rec, meta
}

func (b *bench) tombstoned(key string) bool {
	rec, meta := b.record(key)
	return meta.Gone(rec)
}

// What the app deletes before the switch is deleted from the bucket, shown before and told after, and never comes back.
func TestLaw3AppsDeletionsAreFollowed(t *testing.T) {
	b := newFollower(t)
	b.remove(avatar, video)
	r := b.resource()
	c := b.diff(r)
	if want := "delete 2 objects whose files the app deleted"; c.Action != resources.Run || c.Summary != want {
		t.Errorf("plan: got %s %q, want run %q", c.Action, c.Summary, want)
	}
	e := c.Effects[len(c.Effects)-1]
	want := resources.Effect{Verb: "delete from", Target: "media/", Destructive: true, Requests: 4, Deletes: 2,
		Provider: "backblaze-b2", Operations: map[string]int64{"HeadObject": 2, "DeleteObject": 2},
		Why: fmt.Sprintf("2 objects whose files the app deleted: %q; %q", avatar, video)}
	if diff := cmp.Diff(want, e); diff != "" {
		t.Errorf("effect (-want +got):\n%s", diff)
	}
	if n := b.bucket.total(); len(n) > 0 {
		t.Errorf("planning sent %v", n)
	}
	b.must(r.Apply(t.Context(), b.env(), c))
	b.holds("afterwards", avatar, video)
	if diff := cmp.Diff(map[string]int64{"HeadObject": 2, "DeleteObject": 2}, b.bucket.total()); diff != "" {
		t.Errorf("requests (-want +got):\n%s", diff)
	}
	if c := b.diff(r); c.Action != resources.None || c.Summary != "8 files, 100 B in the bucket; deleted 2 objects whose files the app deleted" {
		t.Errorf("the proof: %s %q", c.Action, c.Summary)
	}
	if c := b.diff(b.resource()); c.Action != resources.None || len(c.Notes) > 0 {
		t.Errorf("the next plan: %s %q %q", c.Action, c.Summary, c.Notes)
	}
	b.clock.ahead = weekLater // with a listing
	b.converge()

	b.write(avatar, media[avatar]) // from a backup, under the same key
	b.converge()
	b.clock.ahead += weekLater
	b.converge()
	b.holds("after the file came back", avatar, video)
	if c := b.diff(b.resource()); len(c.Notes) != 1 || !strings.Contains(c.Notes[0], "not copied again") {
		t.Errorf("notes: %q", c.Notes)
	}
}

// Nothing is deleted where there is any doubt, or where the object is not ours.
func TestLaw3DoubtKeepsObjects(t *testing.T) {
	cases := []struct {
		name  string
		doubt func(b *bench)
		// wants is part of what the run says: an error, or a note of the plan; "" for nothing.
		wants string
	}{
		{"the marker stands", func(b *bench) { b.must(os.WriteFile(b.marker(), nil, 0o600)) }, ""},
		{"the marker is a directory", func(b *bench) { b.must(os.Mkdir(b.marker(), 0o700)) }, ""},
		{"no delete_until", func(b *bench) { delete(b.config, "delete_until") }, ""},
		{"the app replaced the object", func(b *bench) { b.bucket.put(picture, "of the app") }, ""},
		{"the listing finds that the app replaced the object", func(b *bench) {
			b.bucket.put(picture, "of the app")
			b.clock.ahead = weekLater
		}, ""},
		{"a place that cannot be read", func(b *bench) {
			b.must(os.Symlink("/", filepath.Join(b.dir, "linked")))
		}, "it is a link"},
		{"a directory became a link", func(b *bench) {
			away := b.t.TempDir()
			b.must(os.Rename(filepath.Join(b.dir, "accounts"), filepath.Join(away, "accounts")))
			b.must(os.Symlink(away+"/accounts", filepath.Join(b.dir, "accounts")))
			b.config["exclude"] = cty.ListVal([]cty.Value{cty.StringVal("accounts"), cty.StringVal(picture)})
		}, ""},
		{"the file is left out by now", func(b *bench) {
			b.config["exclude"] = cty.ListVal([]cty.Value{cty.StringVal("media_attachments/**")})
		}, ""},
		{"another directory", func(b *bench) {
			moved := b.dir + ".moved"
			b.must(os.Rename(b.dir, moved))
			b.must(os.Mkdir(b.dir, 0o755))
			b.must(os.CopyFS(b.dir, os.DirFS(moved)))
		}, "another directory than the one that was copied"},
		{"nothing was written for long", func(b *bench) { b.clock.ahead = quiet + time.Hour }, "the app may write elsewhere already"},
		{"the ledger is lost", func(b *bench) { b.must(os.Remove(b.ledger())) }, ""},
		{"a listing that breaks off", func(b *bench) {
			b.clock.ahead = weekLater
			b.bucket.fault = func(_ int64, op, after string, _ bool) error {
				if op == "ListObjectsV2" && after != "" {
					return objectstore.ErrListing
				}
				return nil
			}
		}, objectstore.ErrListing.Error()},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			b := newFollower(t)
			b.remove(picture)
			c.doubt(b)
			for range 2 {
				err := b.run()
				if got := fmt.Sprint(err); err != nil && c.wants == "" || !strings.Contains(got, c.wants) && c.wants != "" {
					t.Errorf("got %q, want %q", got, c.wants)
				}
				b.holds("afterwards")
				if n := b.bucket.total()["DeleteObject"]; n > 0 {
					t.Errorf("%d deletions were sent", n)
				}
			}
		})
	}
}

// A bucket that suddenly lists nothing, of which a run learns by a listing or by its last look, gets no deletions either.
func TestLaw3EmptiedBucketGetsNoDeletions(t *testing.T) {
	for _, listed := range []bool{false, true} {
		b := newFollower(t)
		b.remove(picture)
		b.bucket.objects = map[string]fakeObject{}
		if listed {
			b.clock.ahead = weekLater
		}
		if err := b.run(); (err != nil) != listed {
			t.Errorf("listed: %t: got %v", listed, err)
		}
		if n := b.bucket.total()["DeleteObject"]; n > 0 {
			t.Errorf("%d deletions were sent", n)
		}
	}
}

// What became of the object or the file after the plan counts, up to the last moment.
func TestLaw3LastLookBeforeADeletion(t *testing.T) {
	for _, c := range []struct {
		name, op string
		change   func(b *bench)
	}{
		{"the file is back", "HeadObject", func(b *bench) { b.write(picture, media[picture]) }},
		{"the switch is over", "HeadObject", func(b *bench) { b.must(os.WriteFile(b.marker(), nil, 0o600)) }},
		{"the object was replaced", "", func(b *bench) { b.bucket.put(picture, "of the app") }},
	} {
		t.Run(c.name, func(t *testing.T) {
			b := newFollower(t)
			b.remove(picture)
			r := b.resource()
			b.diff(r)
			change := b.diff(r)
			if change.Action != resources.Run {
				t.Fatalf("plan: %s", change.Action)
			}
			if c.op == "" {
				c.change(b)
			}
			b.bucket.fault = func(_ int64, op, _ string, done bool) error {
				if op == c.op && done {
					c.change(b)
				}
				return nil
			}
			b.must(r.Apply(t.Context(), b.env(), change))
			b.holds("afterwards")
			if after := b.diff(r); after.Action != resources.None {
				t.Errorf("the proof: %s %q", after.Action, after.Summary)
			}
		})
	}
}

// What the app deletes after the plan was made is no surprise of the apply; the next run follows it.
func TestLaw1DeletionsAfterThePlanAreLater(t *testing.T) {
	for _, planned := range []bool{false, true} {
		b := newFollower(t)
		if planned {
			b.remove(video)
		} else {
			b.write("accounts/new", "new") // something else to do
		}
		r := b.resource()
		plan := b.diff(r)
		b.remove(avatar)
		now := b.diff(r)
		var verbs [2][]string
		for i, c := range []resources.Change{plan, now} {
			for _, e := range c.Effects {
				verbs[i] = append(verbs[i], e.Verb+" "+e.Target)
			}
		}
		if shown := slices.Contains(verbs[0], "delete from media/"); shown != planned {
			t.Errorf("the plan shows %q", verbs[0])
		}
		if diff := cmp.Diff(verbs[0], verbs[1]); diff != "" || plan.Action != now.Action {
			t.Errorf("planned %s, now %s (-planned +now):\n%s", plan.Action, now.Action, diff)
		}
		b.must(r.Apply(t.Context(), b.env(), now))
		now = b.diff(r)
		if _, there := b.bucket.get(avatar); !there {
			t.Error("what the plan had not shown was deleted")
		}
		if now.Action != resources.None || len(now.Notes) != 1 || !strings.Contains(now.Notes[0], "since the plan was made: 1 file") {
			t.Errorf("got %s %q", now.Action, now.Notes)
		}
		b.converge()
		if _, there := b.bucket.get(avatar); there {
			t.Error("the next run did not follow")
		}
	}
}

// The last copy is planned before the restart that it waits for: it says that deletions may come, and follows them then.
func TestLaw1LastCopyAnnouncesDeletions(t *testing.T) {
	b := newFollower(t)
	r := b.resource()
	b.pending = true
	plan := b.diff(r)
	if plan.Summary != "what is written or deleted until then" {
		t.Errorf("plan: %q", plan.Summary)
	}
	if len(plan.Effects) != 1 || !plan.Effects[0].Destructive || !strings.Contains(plan.Effects[0].Why, announce) {
		t.Errorf("plan: %+v", plan.Effects)
	}
	b.pending = false
	b.remove(avatar)
	now := b.diff(r)
	if len(now.Effects) != 1 || now.Effects[0].Verb != plan.Effects[0].Verb || now.Effects[0].Target != plan.Effects[0].Target {
		t.Errorf("now %+v, planned %+v", now.Effects, plan.Effects)
	}
	b.must(r.Apply(t.Context(), b.env(), now))
	b.holds("afterwards", avatar)
	if c := b.diff(r); c.Action != resources.None {
		t.Errorf("the proof: %s %q", c.Action, c.Summary)
	}
}

// When too much is gone a person is asked, whose answer counts once. Copying goes on meanwhile.
func TestLaw3MassRemovalIsRefused(t *testing.T) {
	const n = 3 * manyMissing
	for _, c := range []struct {
		name, dir string
		removed   int
		refused   bool
	}{
		{"all", "media_attachments", n, true},
		{"more than a hundred", "media_attachments", manyMissing + 1, true},
		{"a hundred", "media_attachments", manyMissing, false},
		{"half of the cache, which the app clears", "cache", n / 2, false},
		{"most of the cache", "cache", n/2 + 1, true},
	} {
		t.Run(c.name, func(t *testing.T) {
			b := newBench(t)
			b.config["delete_until"] = cty.StringVal(b.marker())
			name := func(i int) string { return fmt.Sprintf("%s/%04d", c.dir, i) }
			for i := range n {
				b.write(name(i), "x")
			}
			b.write("accounts/a", "x")
			b.converge()
			for i := range c.removed {
				b.remove(name(i))
			}
			left := n + 1
			if c.refused {
				plan := b.diff(b.resource())
				fix := plan.Notes[len(plan.Notes)-1]
				if plan.Action != resources.Blocked || !strings.Contains(plan.Summary, fmt.Sprintf("%d of the %d files", c.removed, n+1)) ||
					!strings.Contains(plan.Summary, name(0)) || !strings.Contains(fix, b.ledger()+withdrawAll) {
					t.Errorf("plan: %s %q %q", plan.Action, plan.Summary, fix)
				}
				b.write("accounts/new", "x")
				left++
				if err := b.run(); err == nil || !strings.Contains(diag.Fix(err), "touch "+b.ledger()+withdrawAll) {
					t.Errorf("got %v, want a refusal", err)
				}
				if got := len(b.bucket.keys()); got != left {
					t.Fatalf("%d objects, want all %d and a new one", got, left)
				}
				b.must(os.WriteFile(b.ledger()+withdrawAll, nil, 0o600))
			}
			b.converge()
			if got := len(b.bucket.keys()); got != left-c.removed {
				t.Errorf("%d objects, want %d", got, left-c.removed)
			}
			if _, err := os.Lstat(b.ledger() + withdrawAll); err == nil {
				t.Error("the answer still counts")
			}
		})
	}
}

func TestTooManyOfFew(t *testing.T) {
	for _, c := range []struct {
		census
		want bool
	}{
		{census{there: 3, missing: 5, ownThere: 3, ownMissing: 5}, false},
		{census{there: 4, missing: 6, ownThere: 4, ownMissing: 6}, true},
		{census{there: 20, missing: 20, ownThere: 20, ownMissing: 20}, false},
		{census{there: 20, missing: 21, ownThere: 20, ownMissing: 21}, true},
		{census{there: 9000, missing: 1000, ownThere: 9000, ownMissing: 1000}, false},
		{census{there: 8999, missing: 1001, ownThere: 8999, ownMissing: 1001}, true},
	} {
		if got := c.tooMany(); got != c.want {
			t.Errorf("%+v: got %t", c.census, got)
		}
	}
}

// A disk below the directory that is not mounted hides files; they were not deleted.
func TestLaw3FewerFileSystemsAreDoubted(t *testing.T) {
	b := newFollower(t)
	b.remove(picture)
	book, err := ledger.Open(b.ledger(), b.resource().(*resource).place)
	b.must(err)
	meta, err := book.Meta()
	b.must(err)
	if meta.Root.FileSystems != 1 || meta.Root.Inode == 0 {
		t.Errorf("remembered: %+v", meta.Root)
	}
	meta.Root.FileSystems = 2 // as if one had been mounted
	b.must(book.SetMeta(meta))
	b.must(book.Close())
	for range 2 {
		if err := b.run(); err == nil || !strings.Contains(err.Error(), "its files are on 1 file systems, and were on 2") {
			t.Errorf("got %v, want a refusal", err)
		}
		b.holds("afterwards")
	}
}

// Every request of a run that deletes fails once, before it was done or after; the next run finishes.
func TestEveryRequestOfAWithdrawalFailsOnce(t *testing.T) {
	for _, done := range []bool{false, true} {
		for k := int64(1); ; k++ {
			b := newFollower(t)
			b.remove(avatar, picture)
			b.write("accounts/new", "new")
			hit := false
			b.bucket.fault = func(n int64, _, _ string, d bool) error {
				if n == k && d == done {
					hit = true
					return objectstore.ErrUnreachable
				}
				return nil
			}
			err := b.run()
			if !hit {
				if k < 6 {
					t.Fatal("the fault was never hit")
				}
				break
			}
			if err == nil {
				t.Errorf("request %d failed (done: %t), and the run reported success", k, done)
			}
			b.bucket.fault = nil
			b.converge()
			b.remove("accounts/new")
			b.converge()
			b.holds(fmt.Sprintf("request %d failed (done: %t)", k, done), avatar, picture)
			if !b.tombstoned(avatar) || !b.tombstoned(picture) {
				t.Errorf("request %d failed (done: %t): no tombstones", k, done)
			}
		}
	}
}

// A process that is killed between the deletion and its record leaves a next run that finds the object gone.
func TestLaw4KilledBetweenDeletionAndRecord(t *testing.T) {
	for _, back := range []bool{false, true} {
		b := newFollower(t)
		b.remove(avatar)
		before, err := os.ReadFile(b.ledger())
		b.must(err)
		b.converge()
		b.must(os.WriteFile(b.ledger(), before, 0o600)) // as it was before the record
		book, err := ledger.Open(b.ledger(), b.resource().(*resource).place)
		b.must(err)
		meta, err := book.Meta()
		b.must(err)
		meta.Unfinished = true
		b.must(book.SetMeta(meta))
		b.must(book.Close())
		if back {
			b.write(avatar, media[avatar])
		}
		b.converge()
		b.converge()
		b.holds("afterwards", avatar)
		if !b.tombstoned(avatar) {
			t.Errorf("the file is back: %t: no tombstone", back)
		}
	}
}

// Without the right to delete all else goes on, and it is told.
func TestDeletionsThatAreRefused(t *testing.T) {
	const n = 2 * hopeless
	b := newBench(t)
	b.config["delete_until"] = cty.StringVal(b.marker())
	for i := range 10 * n {
		b.write(fmt.Sprintf("accounts/%04d", i), "x")
	}
	b.converge()
	for i := range n {
		b.remove(fmt.Sprintf("accounts/%04d", i))
	}
	b.write("accounts/new", "new")
	b.bucket.fault = func(_ int64, op, _ string, done bool) error {
		if op == "DeleteObject" && !done {
			return objectstore.ErrDenied
		}
		return nil
	}
	b.bucket.total()
	err := b.run()
	if !errors.Is(err, objectstore.ErrDenied) || !strings.Contains(err.Error(), "objects from media whose files the app deleted") {
		t.Errorf("got %v, want ErrDenied", err)
	}
	if n := b.bucket.total()["DeleteObject"]; n > hopeless+defaultWorkers {
		t.Errorf("%d deletions were tried", n)
	}
	if _, there := b.bucket.get("accounts/new"); !there {
		t.Error("the new file was not copied")
	}
}

// What the admin puts back into the bucket is not ours to delete again.
func TestRestoredObjectStays(t *testing.T) {
	b := newFollower(t)
	b.remove(avatar)
	b.converge()
	b.bucket.put(avatar, media[avatar])
	b.clock.ahead = weekLater
	b.converge()
	b.converge()
	b.holds("after it was restored")
	if c := b.diff(b.resource()); len(c.Notes) != 1 || !strings.Contains(c.Notes[0], "uploaded or replaced by somebody else: 1 file") {
		t.Errorf("notes: %q", c.Notes)
	}
}

// A run that deletes ends soon when it is cancelled, and by max_runtime.
func TestWithdrawalEnds(t *testing.T) {
	b := newFollower(t)
	b.remove(avatar, picture)
	ctx, cancel := context.WithCancel(t.Context())
	b.bucket.fault = func(int64, string, string, bool) error {
		cancel()
		return ctx.Err()
	}
	if err := b.runWith(ctx); !errors.Is(err, context.Canceled) {
		t.Errorf("got %v, want context.Canceled", err)
	}
	b.bucket.fault = nil
	b.config["concurrency"] = cty.NumberIntVal(1)
	b.config["max_runtime"] = cty.StringVal("1s")
	r := b.resource().(*resource)
	r.MaxRuntime = 1 // the first turn comes too late
	var y *resources.Yield
	if err := r.Apply(t.Context(), b.env(), b.diff(r)); !errors.As(err, &y) || !strings.Contains(y.Done, "of 2 objects deleted") {
		t.Errorf("got %v, want a yield", err)
	}
	b.converge()
	b.holds("afterwards", avatar, picture)
}

// An upload that was killed, or whose answer was lost, is ours all the same: its file may be gone by the next run.
func TestLaw4UnansweredUploadIsFollowed(t *testing.T) {
	for _, arrives := range []bool{false, true} {
		b := newFollower(t)
		b.write("accounts/new", "new")
		b.bucket.fault = func(_ int64, op, _ string, done bool) error {
			if op == "PutObject" && done == arrives {
				return objectstore.ErrUnreachable
			}
			return nil
		}
		if err := b.run(); !errors.Is(err, objectstore.ErrUnreachable) {
			t.Fatalf("got %v, want ErrUnreachable", err)
		}
		b.bucket.fault = nil
		b.remove("accounts/new")
		b.converge()
		b.holds(fmt.Sprintf("it arrived: %t", arrives))
		if b.tombstoned("accounts/new") != arrives {
			t.Errorf("it arrived: %t: tombstone: %t", arrives, !arrives)
		}
		b.write("accounts/new", "new") // from a backup
		b.converge()
		if _, there := b.bucket.get("accounts/new"); there == arrives {
			t.Errorf("it arrived: %t: the file that came back was copied: %t", arrives, there)
		}
	}
}

// That the path has stood once is enough: when it is lost later, what was cleared from the disk meanwhile stays in the bucket.
func TestLaw3LostMarkerDeletesNothing(t *testing.T) {
	for _, c := range []struct {
		name string
		run  func(b *bench) // while the marker stands
	}{
		{"seen by the weekly listing", func(b *bench) {
			b.clock.ahead = weekLater
			b.converge()
		}},
		{"seen by a run that copied", func(b *bench) {
			b.write("accounts/new", "new")
			b.converge()
			b.remove("accounts/new")
			b.bucket.delete("accounts/new")
			b.records = records{}
		}},
	} {
		t.Run(c.name, func(t *testing.T) {
			b := newFollower(t)
			b.must(os.WriteFile(b.marker(), nil, 0o600))
			c.run(b)
			b.must(os.Remove(b.marker()))
			b.remove(picture)
			for range 2 {
				b.converge()
				b.holds("afterwards")
			}
			b.pending = true
			if c := b.diff(b.resource()); strings.Contains(fmt.Sprint(c.Effects), announce) {
				t.Errorf("announced: %+v", c.Effects)
			}
			b.pending = false
			b.config["delete_until"] = cty.StringVal(b.marker() + "-again") // the admin moves anew
			b.converge()
			b.holds("with another path", picture)
		})
	}
}

// With the whole state directory lost nothing tells what was copied, but the end of the switch: what the app deleted from the
// bucket since then stays deleted, and what it wrote to its disk since then is copied.
func TestLostStateAfterTheSwitchBringsNothingBack(t *testing.T) {
	b := newFollower(t)
	b.must(os.WriteFile(b.marker(), nil, 0o644))
	awaitTick(t)
	b.converge()
	b.bucket.delete(picture)
	b.must(os.Remove(b.ledger()))
	b.records = records{}
	b.write("accounts/late.png", "written to the disk after the switch")
	b.converge()
	if _, ok := b.bucket.get(picture); ok {
		t.Error("the deleted picture is back")
	}
	if _, ok := b.bucket.get("accounts/late.png"); !ok {
		t.Error("what was written since then was not copied")
	}
	if got, want := len(b.bucket.keys()), len(media); got != want { // one less, one more
		t.Errorf("the bucket has %d objects, want %d", got, want)
	}
}
