package integration

import (
	"context"
	"crypto/sha256"
	"encoding/json"
	"errors"
	"net/http"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/converge-agent/converge/diag"
	"github.com/converge-agent/converge/host"
	"github.com/converge-agent/converge/objectstore"
	"github.com/converge-agent/converge/resources"
	"github.com/converge-agent/converge/resources/resourcetest"
	"github.com/converge-agent/converge/resources/s3bucket"
	"github.com/converge-agent/converge/resources/s3sync"
	"github.com/converge-agent/converge/secret"
	"github.com/converge-agent/converge/test/lab"
	"github.com/zclconf/go-cty/cty"
)

// syncSite is a sample instance whose media go to a bucket of a site.
type syncSite struct {
	*site
	instance *lab.Instance
	spec     syncSpec
	records  resourcetest.Records
}

// syncSpec is all that a run of a sync needs, so that another process can do it.
type syncSpec struct {
	Provider, Region, Endpoint, CAFile, Key, Secret string
	Bucket, ACL, Source, StateDir                   string
	DeleteUntil                                     string // "": not written
}

// newSyncSite makes an instance with about n files, and its bucket by the kind s3_bucket.
func newSyncSite(t *testing.T, p lab.Personality, n int) *syncSite {
	t.Helper()
	s := &syncSite{site: newSite(t, newLab(t), p), records: resourcetest.Records{}}
	var err error
	s.instance, err = lab.NewInstance(filepath.Join(t.TempDir(), "live"), lab.InstanceSpec{Files: n, Seed: 1})
	if err != nil {
		t.Fatal(err)
	}
	s.must(t, resources.Create)
	kind := s3bucket.Kind(objectstore.NewClients())
	_, exports, err := kind.New(resources.Address{Kind: kind.Name, Name: "b"}, s.config(t, kind))
	if err != nil {
		t.Fatal(err)
	}
	s.spec = syncSpec{
		Provider: p.String(), Region: s.s3.Region, Endpoint: s.s3.Endpoint, CAFile: s.lab.CAFile, Key: s.s3.AgentKey, Secret: s.s3.AgentSecret,
		Bucket: s.name(), ACL: exports.GetAttr("object_acl").AsString(), Source: s.instance.Media, StateDir: t.TempDir(),
	}
	s.s3.ResetRequests()
	return s
}

// resource is the s3_sync of the spec, with clients of its own as in a process of its own.
func (s syncSpec) resource() (resources.Resource, error) {
	kind := s3sync.Kind(objectstore.NewClients())
	exports := cty.ObjectVal(map[string]cty.Value{
		"name": cty.StringVal(s.Bucket), "provider": cty.StringVal(s.Provider), "object_acl": cty.StringVal(s.ACL),
		"store": cty.ObjectVal(map[string]cty.Value{
			"provider": cty.StringVal(s.Provider), "region": cty.StringVal(s.Region), "endpoint": cty.StringVal(s.Endpoint),
			"path_style": cty.True, "ca_file": cty.StringVal(s.CAFile),
			"access_key_id": secret.New(s.Key).Value(), "secret_access_key": secret.New(s.Secret).Value(),
		}),
	})
	written := map[string]cty.Value{
		"bucket": resources.Reference(resources.Address{Kind: "s3_bucket", Name: "b"}, exports),
		"source": cty.StringVal(s.Source),
	}
	if s.DeleteUntil != "" {
		written["delete_until"] = cty.StringVal(s.DeleteUntil)
	}
	config, errs := kind.Complete(cty.ObjectVal(written))
	for _, err := range errs {
		return nil, err
	}
	r, _, err := kind.New(resources.Address{Kind: kind.Name, Name: "bulk"}, config)
	return r, err
}

// run is one run as the engine does it; it returns what the plan was.
func (s syncSpec) run(ctx context.Context, records resourcetest.Records) (resources.Change, error) {
	env := resources.Env{
		ReadEnv:  resources.ReadEnv{Clock: clock{}, Records: records, StateDir: s.StateDir, Files: host.System()},
		Progress: func(resources.Progress) {},
	}
	r, err := s.resource()
	if err != nil {
		return resources.Change{}, err
	}
	st, err := r.Read(ctx, env.ReadEnv)
	if err != nil {
		return resources.Change{}, err
	}
	c := r.Diff(st)
	left := c
	if c.Action.Changes() || c.Action.Looks() {
		if err := r.Apply(ctx, env, c); err != nil {
			return c, err
		}
		if st, err = r.Read(ctx, env.ReadEnv); err != nil {
			return c, err
		}
		left = r.Diff(st)
	}
	if left.Action == resources.Blocked {
		return c, diag.New("", left.Summary, left.Notes[len(left.Notes)-1])
	}
	if left.Action != resources.None {
		return c, errors.New("after the apply something is left: " + left.Summary)
	}
	for name, v := range left.Remember {
		raw, err := json.Marshal(v)
		if err != nil {
			return c, err
		}
		records[name] = raw
	}
	return c, nil
}

func (s *syncSite) sync(t *testing.T) resources.Change {
	t.Helper()
	c, err := s.spec.run(t.Context(), s.records)
	if err != nil {
		t.Fatalf("sync: %v\n%s", err, diag.Fix(err))
	}
	return c
}

// oracle compares every file with its object by SHA-256, around the code under test; gone are the keys that must be absent.
func (s *syncSite) oracle(t *testing.T, gone ...string) {
	t.Helper()
	want := slices.DeleteFunc(s.instance.Public(), func(k string) bool { return slices.Contains(gone, k) })
	if got := s.s3.Keys(s.spec.Bucket); !slices.Equal(got, want) {
		t.Fatalf("%d keys in the bucket, want %d\ngot  %q\nwant %q", len(got), len(want), got, want)
	}
	for _, key := range want {
		file, err := os.ReadFile(s.instance.Path(key))
		if err != nil {
			t.Fatal(err)
		}
		object, _, ok := s.s3.Object(s.spec.Bucket, key)
		if !ok || sha256.Sum256(object) != sha256.Sum256(file) {
			t.Errorf("%s: the object is not the file", key)
		}
	}
}

// count is how many requests of an operation were answered so.
func (s *syncSite) count(operation string) int { return int(s.s3.Requests()[operation]) }

// Everything is copied but what is private, with Mastodon's headers; then nothing is asked, and what is deleted stays so.
func TestLaw3SyncCopiesAllAndResurrectsNothing(t *testing.T) {
	test := func(t *testing.T, s *syncSite) {
		c := s.sync(t)
		t.Log(c.Summary)
		if !strings.Contains(c.Summary, "files, ") || !strings.Contains(c.Summary, "not copied: backups/ 2 files") {
			t.Errorf("plan: %q", c.Summary)
		}
		s.oracle(t)
		public := s.instance.Public()
		if got := s.count("PutObject 2xx"); got != len(public) {
			t.Errorf("%d uploads of %d files", got, len(public))
		}
		key := public[slices.IndexFunc(public, func(k string) bool { return strings.HasSuffix(k, ".png") })]
		_, header, _ := s.s3.Object(s.spec.Bucket, key)
		if header.Get("Content-Type") != "image/png" || header.Get("Cache-Control") != "public, max-age=315576000, immutable" {
			t.Errorf("headers: %v", header)
		}

		s.s3.ResetRequests()
		if c := s.sync(t); c.Action != resources.None || len(s.s3.Requests()) != 0 {
			t.Errorf("second run: %s, requests %v, want none", c.Action, s.s3.Requests())
		}

		s.s3.Delete(s.spec.Bucket, key)
		if err := s.instance.Add("media_attachments/files/999/original/new.png", []byte("new")); err != nil {
			t.Fatal(err)
		}
		if c := s.sync(t); !strings.HasPrefix(c.Summary, "1 file, 3 B to copy, 1 PUT") {
			t.Errorf("with one new file: %q", c.Summary)
		}
		s.oracle(t, key)
		if err := os.RemoveAll(s.spec.StateDir); err != nil { // the ledger is lost, and listed anew; the records are not
			t.Fatal(err)
		}
		s.sync(t)
		s.oracle(t, key)
	}
	// B2 has no condition for uploads, and the other does: each takes its own way through the code.
	t.Run("b2", func(t *testing.T) { test(t, newSyncSite(t, lab.B2, 2000)) })
	t.Run("minio", func(t *testing.T) { test(t, newSyncSite(t, lab.MinIO, 400)) })
}

// TestSyncMakesObjectsPublicByTheirACL: where each object is public by its own ACL, a sync sends it, and anybody can read what it
// has copied, and list nothing.
func TestSyncMakesObjectsPublicByTheirACL(t *testing.T) {
	s := newSyncSite(t, lab.Scaleway, 30)
	s.sync(t)
	s.oracle(t)
	for _, key := range s.instance.Public() {
		if got := s.anonymously(t, (&url.URL{Path: "/" + key}).EscapedPath()); got != http.StatusOK {
			t.Fatalf("anonymous GET %s: %d", key, got)
		}
	}
	s.publicMeansOneThing(t)
	if c := s.must(t, resources.None); !strings.Contains(c.Summary, "objects public by their own ACL") {
		t.Errorf("summary = %q", c.Summary)
	}
}

// A store that takes 120 requests a second gets little more, and all arrives.
func TestSyncAtAThrottledStore(t *testing.T) {
	for _, f := range []lab.Fault{
		{Status: http.StatusServiceUnavailable, Code: "SlowDown", Message: "Please reduce your request rate."},
		{Status: http.StatusTooManyRequests, Code: "TooManyRequests", Message: "Reduce your concurrent request rate."},
	} {
		t.Run(f.Code, func(t *testing.T) {
			s := newSyncSite(t, lab.MinIO, 600)
			s.s3.Fault(throttle(120, &f))
			start := time.Now()
			s.sync(t)
			took := time.Since(start)
			s.oracle(t)
			refused, done := s.count("PutObject 5xx")+s.count("PutObject 4xx"), s.count("PutObject 2xx")
			t.Logf("%d uploads and %d refusals in %s", done, refused, took)
			if done != len(s.instance.Public()) || refused > done/2 {
				t.Errorf("%d uploads and %d refusals for %d files", done, refused, len(s.instance.Public()))
			}
		})
	}
}

// throttle refuses, with f, more than rate requests a second.
func throttle(rate float64, f *lab.Fault) func(*http.Request) *lab.Fault {
	var mu sync.Mutex
	last, tokens := time.Now(), rate/10
	return func(*http.Request) *lab.Fault {
		mu.Lock()
		defer mu.Unlock()
		now := time.Now()
		tokens = min(tokens+now.Sub(last).Seconds()*rate, rate/10)
		last = now
		if tokens < 1 {
			return f
		}
		tokens--
		return nil
	}
}

// childSpec names the file that tells a test process to do one run of a sync and nothing else.
const childSpec = "SYNC_CHILD_SPEC"

// TestSyncChild is that process; without the file there is nothing to do.
func TestSyncChild(t *testing.T) {
	file := os.Getenv(childSpec)
	if file == "" {
		return
	}
	raw, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	var spec syncSpec
	if err := json.Unmarshal(raw, &spec); err != nil {
		t.Fatal(err)
	}
	if _, err := spec.run(t.Context(), resourcetest.Records{}); err != nil {
		t.Fatal(err)
	}
}

// TestLaw4SyncKilledAnywhere kills the process at several points; what was on its way may be sent twice, nothing else.
func TestLaw4SyncKilledAnywhere(t *testing.T) {
	s := newSyncSite(t, lab.B2, 800)
	kills := []int{1, 60, 300, 550}
	for _, at := range kills {
		s.kill(t, http.MethodPut, "PutObject", at, func(*http.Request) {})
	}
	s.sync(t)
	s.oracle(t)
	const inFlight = 32
	if twice := s.count("PutObject 2xx") + s.count("PutObject lost") - len(s.instance.Public()); twice > len(kills)*inFlight {
		t.Errorf("%d uploads too many after %d kills", twice, len(kills))
	}
	s.s3.ResetRequests()
	if s.sync(t); len(s.s3.Requests()) != 0 {
		t.Errorf("afterwards: %v, want no request", s.s3.Requests())
	}
}

// kill starts a process that syncs, and kills it when the store has done at requests of an operation in all, which come by
// the method. Some more of them are let through at that moment and no others, so that it cannot end by itself, however late
// the kill comes. Those that come are shown to see, one at a time. All have ended when kill returns.
func (s *syncSite) kill(t *testing.T, method, operation string, at int, see func(*http.Request)) {
	t.Helper()
	const more = 8
	var mu sync.Mutex
	let, killed := at+more-s.count(operation+" 2xx"), make(chan struct{})
	take := func(r *http.Request) bool {
		mu.Lock()
		defer mu.Unlock()
		see(r)
		let--
		return let >= 0
	}
	s.s3.Fault(func(r *http.Request) *lab.Fault {
		switch {
		case r.Method != method:
			return nil
		case take(r):
			return &lab.Fault{Delay: 5 * time.Millisecond}
		}
		<-killed
		return &lab.Fault{Status: http.StatusServiceUnavailable}
	})
	cmd, ended := s.startChild(t)
	release := sync.OnceFunc(func() { close(killed) })
	defer release()
	look := time.NewTicker(time.Millisecond)
	defer look.Stop()
	for s.count(operation+" 2xx") < at {
		select {
		case err := <-ended:
			t.Fatalf("the process ended by itself: %v", err)
		case <-look.C:
		}
	}
	if err := cmd.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	if err := <-ended; err == nil {
		t.Error("the process ended by itself before it was killed")
	}
	release()
	if err := s.s3.AwaitIdle(t.Context()); err != nil {
		t.Fatal(err)
	}
	s.s3.Fault(nil)
}

// startChild starts a process that does one run of the sync, and returns where its end is told.
func (s *syncSite) startChild(t *testing.T) (*exec.Cmd, <-chan error) {
	t.Helper()
	raw, err := json.Marshal(s.spec)
	if err != nil {
		t.Fatal(err)
	}
	file := filepath.Join(t.TempDir(), "spec")
	if err := os.WriteFile(file, raw, 0o600); err != nil {
		t.Fatal(err)
	}
	cmd := exec.CommandContext(t.Context(), "/proc/self/exe", "-test.run=^TestSyncChild$")
	cmd.Env = append(os.Environ(), childSpec+"="+file)
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	ended := make(chan error, 1)
	go func() { ended <- cmd.Wait() }()
	return cmd, ended
}

// follow makes the sync follow deletions until the marker stands, copies everything, and returns the marker's path.
func (s *syncSite) follow(t *testing.T) (marker string) {
	t.Helper()
	s.spec.DeleteUntil = filepath.Join(t.TempDir(), "media-moved")
	s.sync(t)
	s.oracle(t)
	s.s3.ResetRequests()
	return s.spec.DeleteUntil
}

// remove deletes files as the app does before the switch.
func (s *syncSite) remove(t *testing.T, keys ...string) {
	t.Helper()
	for _, key := range keys {
		if err := os.Remove(s.instance.Path(key)); err != nil {
			t.Fatal(err)
		}
	}
}

// present is the keys of the bucket that are among keys.
func (s *syncSite) present(keys []string) []string {
	all := s.s3.Keys(s.spec.Bucket)
	return slices.DeleteFunc(slices.Clone(keys), func(k string) bool { return !slices.Contains(all, k) })
}

// own returns the first n public keys that are not in cache/.
func (s *syncSite) own(n int) []string {
	keys := slices.DeleteFunc(s.instance.Public(), func(k string) bool { return strings.HasPrefix(k, "cache/") })
	return keys[:n]
}

// What the app deletes from its disk before the switch is deleted from the bucket; what it wrote there itself, and all after
// the switch, stays.
func TestLaw3SyncFollowsDeletionsUntilTheSwitch(t *testing.T) {
	test := func(t *testing.T, s *syncSite) {
		marker := s.follow(t)
		keys := s.own(4)
		gone, changed, late := keys[:2], keys[2], keys[3]

		s.remove(t, keys[:3]...)
		s.s3.Put(s.spec.Bucket, changed, []byte("of the app"), nil)
		c := s.sync(t)
		if !strings.HasPrefix(c.Summary, "delete 3 objects whose files the app deleted") {
			t.Errorf("plan: %q", c.Summary)
		}
		if e := c.Effects[len(c.Effects)-1]; !e.Destructive || e.Verb != "delete from" || !strings.Contains(e.Why, gone[0]) {
			t.Errorf("effects: %+v", c.Effects)
		}
		if there, all := s.present(gone), s.s3.Keys(s.spec.Bucket); len(there) > 0 || len(all) != len(s.instance.Public())-len(gone) {
			t.Errorf("%d objects, among them %q", len(all), there)
		}
		if object, _, _ := s.s3.Object(s.spec.Bucket, changed); string(object) != "of the app" {
			t.Errorf("the app's object is now %q", object)
		}
		if n, all := s.count("DeleteObject 2xx"), s.s3.Requests(); n != len(gone) || s.count("HeadObject 2xx") != 3 {
			t.Errorf("requests: %v", all)
		}
		s.s3.ResetRequests()
		if c := s.sync(t); c.Action != resources.None || len(s.s3.Requests()) != 0 {
			t.Errorf("second run: %s %q, requests %v, want none", c.Action, c.Summary, s.s3.Requests())
		}
		if err := os.WriteFile(s.instance.Path(gone[0]), []byte("from a backup"), 0o644); err != nil {
			t.Fatal(err)
		}
		s.sync(t)
		if there := s.present(gone); len(there) > 0 {
			t.Errorf("deleted objects are back: %q", there)
		}

		if err := os.WriteFile(marker, nil, 0o600); err != nil {
			t.Fatal(err)
		}
		s.remove(t, late)
		s.s3.ResetRequests()
		if c := s.sync(t); c.Action != resources.None || len(s.s3.Requests()) != 0 || len(s.present([]string{late})) != 1 {
			t.Errorf("after the switch: %s %q, requests %v, want nothing", c.Action, c.Summary, s.s3.Requests())
		}
	}
	t.Run("b2", func(t *testing.T) { test(t, newSyncSite(t, lab.B2, 60)) })
	t.Run("minio", func(t *testing.T) { test(t, newSyncSite(t, lab.MinIO, 60)) })
}

// A run that has reason to doubt what it sees deletes nothing and says so.
func TestLaw3DoubtfulDeletionsAreNotFollowed(t *testing.T) {
	refuses := func(t *testing.T, s *syncSite, says string) {
		t.Helper()
		before := s.s3.Keys(s.spec.Bucket)
		_, err := s.spec.run(t.Context(), s.records)
		if err == nil || !strings.Contains(err.Error(), says) {
			t.Errorf("got %v, want an error with %q", err, says)
		}
		if got := s.s3.Keys(s.spec.Bucket); !slices.Equal(got, before) || s.count("DeleteObject 2xx") > 0 {
			t.Errorf("%d objects of %d are left", len(got), len(before))
		}
	}
	test := func(t *testing.T, s *syncSite) {
		s.follow(t)
		one := s.own(1)
		s.remove(t, one...)
		link := s.instance.Path("linked")
		if err := os.Symlink("/", link); err != nil {
			t.Fatal(err)
		}
		refuses(t, s, "it is a link") // a place that cannot be read
		if err := os.Remove(link); err != nil {
			t.Fatal(err)
		}
		if err := os.Rename(s.instance.Path("accounts"), s.instance.Media+".away"); err != nil { // and much is gone at once
			t.Fatal(err)
		}
		var rest []string
		for _, key := range s.instance.Public() {
			if _, err := os.Lstat(s.instance.Path(key)); err == nil && !strings.HasPrefix(key, "cache/") {
				rest = append(rest, key)
			}
		}
		s.remove(t, rest[:len(rest)-1]...)
		refuses(t, s, "more than an app deletes by itself")
		_, err := s.spec.run(t.Context(), s.records)
		answer := regexp.MustCompile(`touch (\S+\.withdraw),`).FindStringSubmatch(diag.Fix(err))
		if answer == nil {
			t.Fatalf("the refusal says %q", diag.Fix(err))
		}
		if err := os.WriteFile(answer[1], nil, 0o600); err != nil {
			t.Fatal(err)
		}
		s.sync(t)
		own := s.own(len(rest))
		if left := s.present(own); len(left) > 1 {
			t.Errorf("after the answer %q are left", left)
		}
	}
	t.Run("b2", func(t *testing.T) { test(t, newSyncSite(t, lab.B2, 60)) })
	t.Run("minio", func(t *testing.T) { test(t, newSyncSite(t, lab.MinIO, 60)) })
}

// A process killed while it deletes leaves objects, or no objects, and the next run deletes the rest.
func TestLaw4SyncKilledWhileItDeletes(t *testing.T) {
	s := newSyncSite(t, lab.MinIO, 300)
	s.follow(t)
	gone := s.own(40)
	s.remove(t, gone...)
	for _, at := range []int{1, 12, 25} {
		s.kill(t, http.MethodDelete, "DeleteObject", at, func(*http.Request) {})
	}
	if len(s.present(gone)) > 0 {
		s.sync(t)
	}
	s.sync(t)
	s.oracle(t, gone...)
	s.s3.ResetRequests()
	if s.sync(t); len(s.s3.Requests()) != 0 {
		t.Errorf("afterwards: %v, want no request", s.s3.Requests())
	}
}

// What a killed process was just sending is known to be ours: its objects go with their files.
func TestLaw4KilledUploadsAreFollowed(t *testing.T) {
	s := newSyncSite(t, lab.B2, 800)
	s.spec.DeleteUntil = filepath.Join(t.TempDir(), "media-moved")
	var sent []string
	s.kill(t, http.MethodPut, "PutObject", 300, func(r *http.Request) {
		sent = append(sent, strings.TrimPrefix(r.URL.Path, "/"+s.spec.Bucket+"/"))
	})
	gone := slices.Compact(slices.Sorted(slices.Values(sent[len(sent)-40:])))
	s.remove(t, gone...)
	if len(s.present(gone)) == 0 {
		t.Fatal("nothing of it has arrived")
	}
	s.sync(t)
	s.oracle(t, gone...)
}
