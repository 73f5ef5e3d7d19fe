package s3sync

import (
	"context"
	"crypto/md5"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/converge-agent/converge/diag"
	"github.com/converge-agent/converge/host"
	"github.com/converge-agent/converge/objectstore"
	"github.com/converge-agent/converge/resources"
	"github.com/converge-agent/converge/secret"
	"github.com/google/go-cmp/cmp"
	"github.com/zclconf/go-cty/cty"
	"golang.org/x/sys/unix"
)

// bench is a directory, a bucket and a state directory.
type bench struct {
	t       *testing.T
	dir     string
	state   string
	bucket  *fakeBucket
	clock   *clock
	records records
	config  map[string]cty.Value // beside bucket and source
	pending bool
}

type clock struct {
	ahead time.Duration
	steps sync.RWMutex // of ahead, while a run goes on
}

func (c *clock) Now() time.Time {
	c.steps.RLock()
	defer c.steps.RUnlock()
	return time.Now().Add(c.ahead)
}

func (c *clock) SinceBoot() time.Duration { return 0 }

// step sets the clock while a run goes on.
func (c *clock) step(ahead time.Duration) {
	c.steps.Lock()
	defer c.steps.Unlock()
	c.ahead = ahead
}

type records map[string]json.RawMessage

func (records) Keyed(text string) string { return text }

func (r records) Record(name string, v any) (bool, error) {
	raw, ok := r[name]
	if !ok {
		return false, nil
	}
	return true, json.Unmarshal(raw, v)
}

func newBench(t *testing.T) *bench {
	return &bench{t: t, dir: t.TempDir(), state: t.TempDir(), bucket: newBucket(), clock: &clock{}, records: records{}, config: map[string]cty.Value{}}
}

// media are the files of a small instance, with what is not copied.
var media = map[string]string{
	"media_attachments/files/110/000/001/original/0a1b2c3d4e5f6071.png": "\x89PNG original",
	"media_attachments/files/110/000/001/small/0a1b2c3d4e5f6071.png":    "\x89PNG small",
	"accounts/avatars/000/000/001/original/aa.jpg":                      "avatar",
	"accounts/headers/000/000/001/original/bb":                          "\xff\xd8\xff header without extension",
	"custom_emojis/images/000/000/001/static/blob cat.png":              "emoji",
	"site_uploads/files/000/000/001/@1x/cc.png":                         "thumbnail",
	"cache/accounts/avatars/109/dd.webp":                                "remote avatar",
	"cache/media_attachments/files/112/ee.mp4":                          "remote video",
	"cache-like.txt": "beside the directories",
	"empty.gif":      "",
}

var privateFiles = map[string]string{
	"backups/dumps/000/000/001/original/archive.zip": "private posts",
	"imports/data/000/000/001/original/follows.csv":  "follows",
}

func (b *bench) fill(files map[string]string) {
	for key, body := range files {
		b.write(key, body)
	}
}

func (b *bench) write(key, body string) {
	b.t.Helper()
	p := filepath.Join(b.dir, key)
	b.must(os.MkdirAll(filepath.Dir(p), 0o755))
	b.must(os.WriteFile(p, []byte(body), 0o644))
}

func (b *bench) must(err error) {
	b.t.Helper()
	if err != nil {
		b.t.Fatal(err)
	}
}

func (b *bench) resource() resources.Resource {
	b.t.Helper()
	r, err := b.make()
	b.must(err)
	return r
}

func (b *bench) make() (resources.Resource, error) {
	b.t.Helper()
	kind := newKind(func(objectstore.Config) (store, error) { return b.bucket, nil })
	exports := cty.ObjectVal(map[string]cty.Value{
		"name": cty.StringVal("media"), "provider": cty.StringVal("backblaze-b2"), "object_acl": cty.StringVal("public-read"),
		"store": cty.ObjectVal(map[string]cty.Value{
			"provider": cty.StringVal("backblaze-b2"), "endpoint": cty.StringVal("https://s3.example.com"),
			"secret_access_key": secret.New("hunter2").Value(),
		}),
	})
	written := map[string]cty.Value{
		"bucket": resources.Reference(resources.Address{Kind: "s3_bucket", Name: "media"}, exports),
		"source": cty.StringVal(b.dir),
	}
	for name, v := range b.config {
		written[name] = v
	}
	config, errs := kind.Complete(cty.ObjectVal(written))
	for _, err := range errs {
		b.t.Fatal(err)
	}
	r, _, err := kind.New(resources.Address{Kind: "s3_sync", Name: "bulk"}, config)
	return r, err
}

func (b *bench) env() resources.Env {
	return resources.Env{
		ReadEnv: resources.ReadEnv{
			Clock: b.clock, Records: b.records, StateDir: b.state, Files: host.System(),
			Upstreams: map[resources.Address]resources.Upstream{{Kind: "systemd_service", Name: "mastodon"}: {Pending: b.pending}},
		},
		Progress: func(resources.Progress) {},
	}
}

func (b *bench) diff(r resources.Resource) resources.Change {
	b.t.Helper()
	st, err := r.Read(b.t.Context(), b.env().ReadEnv)
	b.must(err)
	return r.Diff(st)
}

// run does what the engine does in one run, and returns what Apply returned, or what was left after it.
func (b *bench) run() error {
	b.t.Helper()
	return b.runWith(b.t.Context())
}

func (b *bench) runWith(ctx context.Context) error {
	b.t.Helper()
	r := b.resource()
	c := b.diff(r)
	if c.Action.Changes() || c.Action.Looks() {
		if err := r.Apply(ctx, b.env(), c); err != nil {
			return err
		}
		c = b.diff(r)
		if c.Action != resources.None {
			return fmt.Errorf("after the apply something is left: %s %s %q", c.Action, c.Summary, c.Notes)
		}
	}
	if c.Action == resources.Blocked {
		return diag.New("", c.Summary, c.Notes[len(c.Notes)-1])
	}
	for name, v := range c.Remember {
		raw, err := json.Marshal(v)
		b.must(err)
		b.records[name] = raw
	}
	return nil
}

// converge runs without an error.
func (b *bench) converge() {
	b.t.Helper()
	b.must(b.run())
}

// oracle compares every file with its object, without the code under test.
func (b *bench) oracle() {
	b.t.Helper()
	b.must(filepath.WalkDir(b.dir, func(p string, d fs.DirEntry, err error) error {
		if err != nil || !d.Type().IsRegular() {
			return err
		}
		key, err := filepath.Rel(b.dir, p)
		if err != nil {
			return err
		}
		want, err := os.ReadFile(p)
		if err != nil {
			return err
		}
		got, ok := b.bucket.get(key)
		private := strings.HasPrefix(key, "backups/") || strings.HasPrefix(key, "imports/")
		switch {
		case private && ok:
			b.t.Errorf("%s is private and was copied", key)
		case !private && (!ok || got != string(want)):
			b.t.Errorf("%s: the bucket holds %q (%t), want %q", key, got, ok, want)
		}
		return nil
	}))
	if len(b.bucket.clobbers) > 0 {
		b.t.Errorf("overwritten: %v", b.bucket.clobbers)
	}
}

func TestFirstSyncCopiesEverything(t *testing.T) {
	b := newBench(t)
	b.fill(media)
	b.fill(privateFiles)
	c := b.diff(b.resource())
	want := "~10 files, 118 B to copy, ~10 PUT; not copied: backups/ 1 file 13 B, imports/ 1 file 7 B"
	if c.Action != resources.Run || c.Summary != want {
		t.Errorf("plan: got %s %q, want run %q", c.Action, c.Summary, want)
	}
	if n := b.bucket.total(); len(n) > 0 {
		t.Errorf("planning sent %v", n)
	}
	b.converge()
	b.oracle()
	if diff := cmp.Diff(map[string]int64{"ListObjectsV2": 1, "PutObject": int64(len(media))}, b.bucket.total()); diff != "" {
		t.Errorf("requests of the first sync (-want +got):\n%s", diff)
	}
	c = b.diff(b.resource())
	if c.Action != resources.None {
		t.Errorf("second run: got %s %q, want none", c.Action, c.Summary)
	}
	b.converge()
	if n := b.bucket.total(); len(n) > 0 {
		t.Errorf("the second run sent %v, want nothing", n)
	}
}

func TestUploadsLookLikeMastodons(t *testing.T) {
	b := newBench(t)
	b.fill(media)
	b.converge()
	for key, want := range map[string]string{
		"media_attachments/files/110/000/001/original/0a1b2c3d4e5f6071.png": "image/png",
		"accounts/avatars/000/000/001/original/aa.jpg":                      "image/jpeg",
		"accounts/headers/000/000/001/original/bb":                          "image/jpeg",
		"cache/accounts/avatars/109/dd.webp":                                "image/webp",
		"cache/media_attachments/files/112/ee.mp4":                          "video/mp4",
		"cache-like.txt": "application/octet-stream",
	} {
		p := b.bucket.objects[key].put
		if p.ContentType != want || p.CacheControl != "public, max-age=315576000, immutable" || p.ACL != "public-read" {
			t.Errorf("%s: got %q, %q, %q", key, p.ContentType, p.CacheControl, p.ACL)
		}
	}
}

func TestLocalUploadsBeforeCache(t *testing.T) {
	b := newBench(t)
	b.config["concurrency"] = cty.NumberIntVal(1)
	b.fill(media)
	b.must(b.run())
	seenCache := false
	for _, key := range b.bucket.order {
		if strings.HasPrefix(key, "cache/") {
			seenCache = true
		} else if seenCache {
			t.Errorf("%s came after files of cache/: %v", key, b.bucket.order)
		}
	}
}

func TestPrefix(t *testing.T) {
	for _, prefix := range []string{"media", "media/"} {
		b := newBench(t)
		b.config["prefix"] = cty.StringVal(prefix)
		b.fill(map[string]string{"a": "1"})
		b.bucket.put("other/x", "not ours")
		b.converge()
		if diff := cmp.Diff([]string{"media/a", "other/x"}, b.bucket.keys()); diff != "" {
			t.Errorf("prefix %q: keys (-want +got):\n%s", prefix, diff)
		}
	}
	b := newBench(t)
	b.config["prefix"] = cty.StringVal("backups")
	b.fill(map[string]string{"dumps/archive.zip": "private"})
	b.converge()
	if len(b.bucket.keys()) > 0 {
		t.Errorf("by a prefix private files were copied: %v", b.bucket.keys())
	}
}

// Every request fails once, before it was done or after, and the next runs finish the job.
func TestEveryRequestFailsOnce(t *testing.T) {
	for _, done := range []bool{false, true} {
		for k := int64(1); ; k++ {
			b := newBench(t)
			b.fill(media)
			b.fill(privateFiles)
			b.bucket.put("cache/media_attachments/files/112/ee.mp4", "remote video")
			b.bucket.put("unknown/x", "of the app")
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
				if k < 5 {
					t.Fatalf("the fault was never hit")
				}
				break
			}
			if err == nil {
				t.Errorf("request %d failed (done: %t), and the run reported success", k, done)
			}
			b.bucket.fault = nil
			b.bucket.total()
			b.converge()
			b.oracle()
			if n := b.bucket.total()["PutObject"]; n > int64(len(media)) {
				t.Errorf("request %d failed (done: %t): %d uploads in the next run", k, done, n)
			}
			b.converge()
			if n := b.bucket.total(); len(n) > 0 {
				t.Errorf("request %d failed (done: %t): the third run sent %v", k, done, n)
			}
		}
	}
}

// An upload whose answer was lost is not repeated: the object is found and compared.
func TestLostAnswerIsNoSecondUpload(t *testing.T) {
	b := newBench(t)
	b.fill(media)
	b.bucket.fault = func(_ int64, op, key string, done bool) error {
		if op == "PutObject" && done && key == "empty.gif" {
			return objectstore.ErrUnreachable
		}
		return nil
	}
	if err := b.run(); !errors.Is(err, objectstore.ErrUnreachable) {
		t.Fatalf("got %v, want ErrUnreachable", err)
	}
	b.bucket.fault = nil
	b.bucket.total()
	b.converge()
	if n := b.bucket.total(); n["PutObject"] != 0 {
		t.Errorf("the next run sent %v", n)
	}
	b.oracle()
}

func TestChangedWhileCopied(t *testing.T) {
	const key = "media_attachments/files/1/original/x.mp4"
	cases := []struct {
		name string
		// change happens during the first upload of the file, or after it.
		change func(b *bench, p string)
		after  bool
		gone   bool
		torn   bool // the old bytes arrived whole, and are ours to replace
	}{
		{"rewritten with the same size", func(b *bench, _ string) { b.write(key, "CONTENT") }, false, false, false},
		{"appended to", func(b *bench, _ string) { b.write(key, "content and more") }, false, false, true},
		{"truncated", func(b *bench, _ string) { b.write(key, "con") }, false, false, false},
		{"replaced", func(b *bench, p string) {
			b.write("tmp", "CONTENT")
			b.must(os.Rename(filepath.Join(b.dir, "tmp"), p))
		}, false, false, true},
		{"removed", func(b *bench, p string) { b.must(os.Remove(p)) }, false, true, false},
		{"appended to after the last byte was sent", func(b *bench, _ string) { b.write(key, "content and more") }, true, false, true},
		{"removed after the last byte was sent", func(b *bench, p string) { b.must(os.Remove(p)) }, true, true, false},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			b := newBench(t)
			b.write(key, "content")
			b.write("other", "other")
			p := filepath.Join(b.dir, key)
			once := func(k string, after bool) {
				if k == key && after == c.after && c.change != nil {
					change := c.change
					c.change = nil
					awaitTick(t)
					change(b, p)
				}
			}
			b.bucket.during = func(k string) { once(k, false) }
			b.bucket.fault = func(_ int64, op, k string, done bool) error {
				if op == "PutObject" && done {
					once(k, true)
				}
				return nil
			}
			b.must(b.run()) // what changed is not owed any more in this run
			b.bucket.clobbers = nil
			r := b.resource()
			if d := b.diff(r); c.gone == d.Action.Changes() {
				t.Errorf("the next plan: got %s %q", d.Action, d.Summary)
			}
			b.converge()
			var replaced []string
			if c.torn {
				replaced = []string{key}
			}
			if diff := cmp.Diff(replaced, b.bucket.clobbers); diff != "" {
				t.Errorf("only a torn upload of our own may be replaced (-want +got):\n%s", diff)
			}
			b.bucket.clobbers = nil
			b.oracle()
		})
	}
}

// The object of a torn upload that somebody has replaced meanwhile is not ours any more.
func TestTornUploadThatIsNotOursAnyMore(t *testing.T) {
	b := newBench(t)
	b.write("x", "content")
	b.bucket.fault = func(_ int64, op, _ string, done bool) error {
		if op == "PutObject" && done {
			awaitTick(t)
			b.write("x", "content and more")
		}
		return nil
	}
	b.must(b.run())
	b.bucket.fault = nil
	b.bucket.put("x", "somebody else's")
	if err := b.run(); err == nil || !strings.Contains(err.Error(), "other bytes") {
		t.Errorf("got %v, want a conflict", err)
	}
	if len(b.bucket.clobbers) > 0 {
		t.Errorf("overwritten: %v", b.bucket.clobbers)
	}
}

func TestConflictsAreNeverOverwritten(t *testing.T) {
	for _, c := range []struct {
		name, there string
		listed      bool // in the last run
	}{
		{"same size", "AVATAR", false}, {"other size", "another", false}, {"listed", "AVATAR", true},
	} {
		t.Run(c.name, func(t *testing.T) {
			there := c.there
			const key = "accounts/avatars/000/000/001/original/aa.jpg"
			b := newBench(t)
			b.fill(media)
			b.bucket.put(key, there)
			for range 2 {
				err := b.run()
				if err == nil || !strings.Contains(err.Error(), key) {
					t.Errorf("got %v, want an error that names %s", err, key)
				}
				if got, _ := b.bucket.get(key); got != there || len(b.bucket.clobbers) > 0 {
					t.Errorf("the object was overwritten with %q", got)
				}
			}
			if n := len(b.bucket.keys()); n != len(media) {
				t.Errorf("%d objects, want all %d others copied", n, len(media))
			}
			b.bucket.delete(key) // the admin decides for the file
			if c.listed {
				b.clock.ahead = 8 * 24 * time.Hour
			}
			b.converge()
			b.oracle()
		})
	}
}

// A file that is replaced while it is compared has not been compared.
func TestReplacedWhileCompared(t *testing.T) {
	b := newBench(t)
	b.write("x", "old")
	b.bucket.put("x", "new")
	if err := b.run(); err == nil {
		t.Fatal("got no conflict")
	}
	b.bucket.fault = func(_ int64, op, _ string, done bool) error {
		if op == "HeadObject" && !done {
			awaitTick(t)
			b.write("tmp", "new")
			b.must(os.Rename(filepath.Join(b.dir, "tmp"), filepath.Join(b.dir, "x")))
		}
		return nil
	}
	b.converge()
	b.bucket.fault = nil
	b.converge()
	b.oracle()
}

// In a run that did not list, a key may be taken by now.
func TestKeyTakenSinceTheListing(t *testing.T) {
	b := newBench(t)
	b.fill(media)
	b.converge()
	b.write("new", "ours")
	b.write("new-same", "same")
	b.bucket.put("new", "somebody else's")
	b.bucket.put("new-same", "same")
	b.bucket.total()
	if err := b.run(); err == nil || !strings.Contains(err.Error(), `"new" differs`) && !strings.Contains(err.Error(), "new") {
		t.Errorf("got %v, want a conflict", err)
	}
	if n := b.bucket.total(); n["PutObject"] != 0 || n["ListObjectsV2"] != 0 {
		t.Errorf("requests: %v, want no upload and no listing", n)
	}
	if len(b.bucket.clobbers) > 0 {
		t.Errorf("overwritten: %v", b.bucket.clobbers)
	}
}

func TestWhatTheBucketHoldsIsNotSentAgain(t *testing.T) {
	b := newBench(t)
	b.fill(media)
	for key, body := range media {
		b.bucket.put(key, body)
	}
	big := strings.Repeat("0123456789abcdef", 12<<20/16) // 12 MiB
	b.write("media_attachments/big.mp4", big)
	b.bucket.put("media_attachments/big.mp4", big)
	o := b.bucket.objects["media_attachments/big.mp4"]
	p := &partDigest{size: 8 << 20, left: 8 << 20, part: md5.New()}
	_, err := p.Write([]byte(big))
	b.must(err)
	o.etag = p.etag()
	b.bucket.objects["media_attachments/big.mp4"] = o
	b.converge()
	if n := b.bucket.total(); n["PutObject"] != 0 || n["HeadObject"] != 0 {
		t.Errorf("requests: %v, want listings only", n)
	}
	b.oracle()
}

// A key once proven and gone from the bucket is never uploaded again, whatever happens to the file or the ledger.
func TestTombstones(t *testing.T) {
	const key = "accounts/avatars/000/000/001/original/aa.jpg"
	b := newBench(t)
	b.fill(media)
	b.converge()
	b.bucket.delete(key)
	stays := func(when string) {
		t.Helper()
		if _, ok := b.bucket.get(key); ok {
			t.Fatalf("%s: the deleted object is back", when)
		}
	}
	b.converge()
	stays("before the next listing")
	b.clock.ahead = 8 * 24 * time.Hour
	b.bucket.total()
	if c := b.diff(b.resource()); c.Action != resources.Look {
		t.Errorf("a week later: %s %q, want a look", c.Action, c.Summary)
	}
	b.converge()
	stays("after the weekly listing")
	if n := b.bucket.total(); n["ListObjectsV2"] == 0 || n["PutObject"] != 0 {
		t.Errorf("weekly listing: %v", n)
	}
	if c := b.diff(b.resource()); len(c.Notes) != 1 || !strings.Contains(c.Notes[0], "deleted from the bucket since they were copied: 1 file") {
		t.Errorf("notes: %q", c.Notes)
	}
	b.must(os.Chmod(filepath.Join(b.dir, key), 0o600))
	b.converge()
	stays("after a change of the file's mode")

	b.bucket.put(key, media[key]) // restored by the admin
	b.clock.ahead += 8 * 24 * time.Hour
	b.converge()
	b.oracle()
	if c := b.diff(b.resource()); len(c.Notes) > 0 {
		t.Errorf("after it was restored: %q", c.Notes)
	}
}

// Without the ledger it is the records that say what had been copied, and is therefore deleted.
func TestLostLedgerResurrectsNothing(t *testing.T) {
	const key = "accounts/avatars/000/000/001/original/aa.jpg"
	b := newBench(t)
	b.fill(media)
	b.converge()
	b.bucket.delete(key)
	b.must(os.Remove(filepath.Join(b.state, b.resource().(*resource).ledgerName())))
	awaitTick(t)
	b.write("new", "written since")
	for _, when := range []string{"after the ledger was lost", "in the next run", "after a weekly listing"} {
		b.converge()
		if _, ok := b.bucket.get(key); ok {
			t.Fatalf("%s: the deleted object is back", when)
		}
		if _, ok := b.bucket.get("new"); !ok {
			t.Errorf("%s: a new file was not copied", when)
		}
		if when == "in the next run" {
			b.clock.ahead = 8 * 24 * time.Hour
		}
	}
	b.must(os.Remove(filepath.Join(b.dir, key)))
	b.oracle()
}

func TestEmptiedBucketIsNotFilledAgain(t *testing.T) {
	b := newBench(t)
	b.fill(media)
	b.converge()
	b.bucket.objects = map[string]fakeObject{}
	b.clock.ahead = 8 * 24 * time.Hour
	for range 2 {
		err := b.run()
		if err == nil || !strings.Contains(err.Error(), "none of the files that were in it") {
			t.Errorf("got %v, want a refusal", err)
		}
	}
	if keys := b.bucket.keys(); len(keys) > 0 {
		t.Errorf("it was filled again: %v", keys)
	}
	b.must(os.Remove(b.ledger())) // a lost ledger is no wish to fill it again
	for range 2 {
		if err := b.run(); err == nil || !strings.Contains(err.Error(), "none of the files that were in it") {
			t.Errorf("without the ledger: got %v, want a refusal", err)
		}
	}
	b.must(os.Rename(b.ledger(), b.ledger()+refill)) // what the error advises
	b.converge()
	b.oracle()
	b.bucket.objects = map[string]fakeObject{}
	b.must(os.Remove(b.ledger()))
	if err := b.run(); err == nil || len(b.bucket.keys()) > 0 {
		t.Errorf("the wish to fill it counted twice: %v", err)
	}
}

// Another bucket's content under the same name is as suspicious as an empty one.
func TestAllMissingIsSuspicious(t *testing.T) {
	b := newBench(t)
	for i := range manyMissing {
		b.write(fmt.Sprintf("f%03d", i), "x")
	}
	b.converge()
	b.bucket.objects = map[string]fakeObject{}
	b.bucket.put("another/x", "of somebody")
	b.clock.ahead = 8 * 24 * time.Hour
	if err := b.run(); err == nil {
		t.Error("got no error")
	}
	if n := len(b.bucket.keys()); n != 1 {
		t.Errorf("%d objects, want only the other one", n)
	}
}

// A listing that breaks off marks nothing, however much of it was written down.
func TestBrokenListingProvesNothing(t *testing.T) {
	const n = 8 * batch
	b := newBench(t)
	b.bucket.pageSize = 50
	for i := range n {
		b.write(fmt.Sprintf("f%05d", i), "x")
	}
	b.converge()
	whole := b.bucket.objects
	b.clock.ahead = 8 * 24 * time.Hour
	// The first pages lack objects, as a store in trouble may answer, and a late one fails.
	b.bucket.objects = map[string]fakeObject{}
	for i, key := range slices.Sorted(maps.Keys(whole)) {
		if i%5 == 0 {
			b.bucket.objects[key] = whole[key]
		}
	}
	b.bucket.fault = func(_ int64, op, after string, _ bool) error {
		if op == "ListObjectsV2" && after > fmt.Sprintf("f%05d", n*3/4) {
			return objectstore.ErrListing
		}
		return nil
	}
	if err := b.run(); !errors.Is(err, objectstore.ErrListing) {
		t.Fatalf("got %v, want ErrListing", err)
	}
	if c := b.diff(b.resource()); len(c.Notes) > 0 {
		t.Errorf("after the broken listing: %q, want no notes", c.Notes)
	}
	b.bucket.objects, b.bucket.fault = whole, nil
	b.converge()
	if c := b.diff(b.resource()); len(c.Notes) > 0 {
		t.Errorf("after a whole one: %q, want no notes", c.Notes)
	}
	b.oracle()
}

func TestCancelledSoonAndResumed(t *testing.T) {
	b := newBench(t)
	for i := range 200 {
		b.write(fmt.Sprintf("media_attachments/%03d", i), fmt.Sprint(i))
	}
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	b.bucket.fault = func(n int64, _, _ string, done bool) error {
		if n > 197 && !done {
			cancel()
			<-ctx.Done()
			return ctx.Err()
		}
		return nil
	}
	start := time.Now()
	err := b.runWith(ctx)
	if !errors.Is(err, context.Canceled) || time.Since(start) > time.Minute {
		t.Errorf("got %v after %s, want context.Canceled soon", err, time.Since(start))
	}
	had := len(b.bucket.keys())
	b.bucket.fault = nil
	b.bucket.total()
	b.converge()
	b.oracle()
	if n := b.bucket.total(); n["PutObject"] != int64(200-had) || n["ListObjectsV2"] == 0 || n["HeadObject"] > 0 {
		t.Errorf("after %d uploads: %v, want a listing and %d more", had, n, 200-had)
	}
}

func TestYieldsAndGoesOn(t *testing.T) {
	b := newBench(t)
	for i := range 40 {
		b.write(fmt.Sprintf("media_attachments/%03d", i), fmt.Sprint(i))
		b.write(fmt.Sprintf("cache/%03d", i), fmt.Sprint(i))
	}
	b.config["max_runtime"] = cty.StringVal("1s")
	b.config["concurrency"] = cty.NumberIntVal(1)
	b.bucket.fault = func(_ int64, op, _ string, done bool) error {
		if op == "PutObject" && !done {
			<-time.After(30 * time.Millisecond) // a slow store
		}
		return nil
	}
	yields := 0
	for range 80 { // each copies one file at least
		err := b.run()
		var y *resources.Yield
		if errors.As(err, &y) {
			yields++
			if !strings.Contains(y.Done, " files, ") {
				t.Errorf("yield says %q", y.Done)
			}
			continue
		}
		b.must(err)
		break
	}
	if yields == 0 {
		t.Error("it never yielded")
	}
	b.oracle()
}

// Files that the app writes during the run are reported, and owed by the next one.
func TestLiveTree(t *testing.T) {
	b := newBench(t)
	b.fill(media)
	wrote := 0
	b.bucket.fault = func(int64, string, string, bool) error {
		b.bucket.mu.Lock()
		wrote++
		n := wrote
		b.bucket.mu.Unlock()
		awaitTick(t)
		b.write(fmt.Sprintf("media_attachments/live/%d", n), "live")
		return nil
	}
	r := b.resource()
	c := b.diff(r)
	b.must(r.Apply(t.Context(), b.env(), c))
	b.bucket.fault = nil
	c = b.diff(r)
	if c.Action != resources.None || len(c.Notes) != 1 || !strings.HasPrefix(c.Notes[0], "new since ") {
		t.Errorf("the proof: got %s %q %q, want none with a note", c.Action, c.Summary, c.Notes)
	}
	b.converge()
	b.oracle()
}

// While the service that writes is still to be restarted, the last copy owes what is written until then.
func TestCutoffWaitsForUpstreams(t *testing.T) {
	b := newBench(t)
	b.fill(media)
	b.converge()
	r := b.resource()
	b.pending = true
	planned := b.diff(r)
	if c := planned; c.Action != resources.Run || !strings.Contains(c.Summary, "what is written until then") {
		t.Errorf("plan: got %s %q", c.Action, c.Summary)
	}
	awaitTick(t)
	b.write("media_attachments/until-the-restart", "x")
	b.pending = false
	c := b.diff(r)
	if c.Action != resources.Run || !strings.HasPrefix(c.Summary, "1 file,") {
		t.Errorf("at its place: got %s %q", c.Action, c.Summary)
	}
	if p, n := planned.Effects, c.Effects; len(p) != 1 || len(n) != 1 || p[0].Verb != n[0].Verb || p[0].Target != n[0].Target {
		t.Errorf("the apply would do %v, which is not what was planned: %v", n, p)
	}
	awaitTick(t)
	b.write("media_attachments/afterwards", "x")
	b.must(r.Apply(t.Context(), b.env(), c))
	if c := b.diff(r); c.Action != resources.None || len(c.Notes) != 1 {
		t.Errorf("the proof: got %s %q %q", c.Action, c.Summary, c.Notes)
	}
}

// Of two syncs of the same files the later one, which waits, does not tell again what the first owes; but it does it.
func TestLastCopyDoesNotRepeatTheEstimate(t *testing.T) {
	b := newBench(t)
	b.fill(media)
	bulk, err := b.make()
	b.must(err)
	delta, err := b.make()
	b.must(err)
	delta.(*resource).seen = bulk.(*resource).seen // as of one kind
	requests := func(c resources.Change) int64 { return c.Effects[0].Requests }
	b.pending = true
	if c := b.diff(delta); !strings.Contains(c.Summary, "10 files") {
		t.Errorf("alone: %q", c.Summary)
	}
	b.pending = false
	first := b.diff(bulk)
	b.pending = true
	if c := b.diff(delta); c.Action != resources.Run || c.Summary != "what is written until then" || requests(c) != 0 || requests(first) == 0 {
		t.Errorf("after the other: %s %q with %d requests", c.Action, c.Summary, requests(c))
	}
	b.pending = false
	if c := b.diff(delta); !strings.Contains(c.Summary, "10 files") { // as when the first could not do it
		t.Errorf("at its place: %q", c.Summary)
	}
}

// A clock that was wrong once leaves files of the future: they are owed all the same.
func TestFilesOfTheFutureAreOwed(t *testing.T) {
	b := newBench(t)
	b.fill(media)
	b.clock.ahead = -24 * time.Hour
	b.converge()
	b.oracle()
}

// After chown -R or chmod -R every file is read again, and none is sent.
func TestTouchedTreeIsReadNotSent(t *testing.T) {
	b := newBench(t)
	b.fill(media)
	b.converge()
	b.bucket.total()
	awaitTick(t)
	for key := range media {
		b.must(os.Chmod(filepath.Join(b.dir, key), 0o640))
	}
	c := b.diff(b.resource())
	if want := "10 files, 118 B to compare with the bucket"; c.Summary != want || c.Action != resources.Run {
		t.Errorf("got %s %q, want run %q", c.Action, c.Summary, want)
	}
	b.converge()
	if n := b.bucket.total(); len(n) > 0 {
		t.Errorf("requests: %v, want none", n)
	}
}

func TestWhatCannotBeCopied(t *testing.T) {
	b := newBench(t)
	b.fill(media)
	outside := t.TempDir()
	b.must(os.WriteFile(filepath.Join(outside, "shadow"), []byte("secret"), 0o600))
	b.must(os.Symlink(outside, filepath.Join(b.dir, "linked")))
	err := b.run()
	if err == nil || !strings.Contains(err.Error(), "linked") || !strings.Contains(err.Error(), "it is a link") {
		t.Errorf("got %v, want an error that names the link", err)
	}
	b.oracle()
	b.must(unix.Mkfifo(filepath.Join(b.dir, "pipe"), 0o644))
	b.config["exclude"] = cty.ListVal([]cty.Value{cty.StringVal("linked/**")})
	b.converge()
	if c := b.diff(b.resource()); len(c.Notes) != 1 || c.Notes[0] != `passed over: "pipe" is a pipe` {
		t.Errorf("notes: %q", c.Notes)
	}
	if _, ok := b.bucket.get("linked/shadow"); ok || len(b.bucket.keys()) != len(media) {
		t.Errorf("what is behind the link was copied: %v", b.bucket.keys())
	}
}

func TestStoreThatIsDownIsGivenUpSoon(t *testing.T) {
	b := newBench(t)
	for i := range 500 {
		b.write(fmt.Sprintf("f%03d", i), "x")
	}
	b.bucket.fault = func(_ int64, op, _ string, _ bool) error {
		if op == "PutObject" {
			return objectstore.ErrUnreachable
		}
		return nil
	}
	err := b.run()
	if n := b.bucket.total()["PutObject"]; !errors.Is(err, objectstore.ErrUnreachable) || n > hopeless+defaultWorkers {
		t.Errorf("got %v after %d uploads, want ErrUnreachable after few", err, n)
	}
}

func TestSourceThatIsMissing(t *testing.T) {
	b := newBench(t)
	b.dir += "/absent"
	if _, err := b.resource().Read(t.Context(), b.env().ReadEnv); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("got %v, want fs.ErrNotExist", err)
	}
	b.pending = true
	if c := b.diff(b.resource()); c.Action != resources.Run {
		t.Errorf("while it may still be made: got %s", c.Action)
	}
}

func TestEmptyTreeNeedsNothing(t *testing.T) {
	b := newBench(t)
	b.converge()
	if n := b.bucket.total(); len(n) > 0 {
		t.Errorf("requests: %v, want none", n)
	}
}

func TestPlanBesideARunningApply(t *testing.T) {
	b := newBench(t)
	b.fill(media)
	var during resources.Change
	b.bucket.fault = func(_ int64, op, _ string, _ bool) error {
		if op == "ListObjectsV2" && during.Summary == "" {
			during = b.diff(b.resource())
		}
		return nil
	}
	b.converge()
	if during.Action != resources.InProgress {
		t.Errorf("got %s %q, want in progress", during.Action, during.Summary)
	}
}

func TestBandwidth(t *testing.T) {
	b := newBench(t)
	b.config["bandwidth"] = cty.StringVal("200KB/s")
	for i := range 4 {
		b.write(fmt.Sprintf("f%d", i), strings.Repeat("x", 50_000))
	}
	start := time.Now()
	b.converge()
	// The first piece goes at once, and each of the four files in four pieces.
	if d := time.Since(start); d < 800*time.Millisecond || d > time.Minute {
		t.Errorf("200 kB at 200 kB/s took %s", d)
	}
	b.oracle()
}

// awaitTick returns once the clock that stamps files has moved on, and the clock that is told with it.
func awaitTick(t *testing.T) {
	t.Helper()
	f, err := os.CreateTemp(t.TempDir(), "tick")
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = f.Close() }()
	start := time.Now()
	for {
		if _, err := f.WriteAt([]byte("x"), 0); err != nil {
			t.Fatal(err)
		}
		info, err := f.Stat()
		if err != nil {
			t.Fatal(err)
		}
		if info.ModTime().After(start) {
			return
		}
	}
}
