package integration

import (
	"context"
	"crypto/sha256"
	"encoding/json"
	"errors"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/converge-agent/converge/diag"
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
	config, errs := kind.Complete(cty.ObjectVal(map[string]cty.Value{
		"bucket": resources.Reference(resources.Address{Kind: "s3_bucket", Name: "b"}, exports),
		"source": cty.StringVal(s.Source),
	}))
	for _, err := range errs {
		return nil, err
	}
	r, _, err := kind.New(resources.Address{Kind: kind.Name, Name: "bulk"}, config)
	return r, err
}

// run is one run as the engine does it; it returns what the plan was.
func (s syncSpec) run(ctx context.Context, records resourcetest.Records) (resources.Change, error) {
	env := resources.Env{
		ReadEnv:  resources.ReadEnv{Clock: clock{}, Records: records, StateDir: s.StateDir},
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
	if c.Action.Changes() {
		if err := r.Apply(ctx, env, c); err != nil {
			return c, err
		}
		if st, err = r.Read(ctx, env.ReadEnv); err != nil {
			return c, err
		}
		left = r.Diff(st)
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
	s.s3.Fault(func(*http.Request) *lab.Fault { return &lab.Fault{Delay: 5 * time.Millisecond} })
	killed := 0
	for _, at := range []int{1, 60, 300, 550} {
		if s.kill(t, at) {
			killed++
		}
	}
	if killed < 3 {
		t.Fatalf("only %d processes were killed before their end", killed)
	}
	s.s3.Fault(nil)
	s.sync(t)
	s.oracle(t)
	const inFlight = 32
	if twice := s.count("PutObject 2xx") + s.count("PutObject lost") - len(s.instance.Public()); twice > killed*inFlight {
		t.Errorf("%d uploads too many after %d kills", twice, killed)
	}
	s.s3.ResetRequests()
	if s.sync(t); len(s.s3.Requests()) != 0 {
		t.Errorf("afterwards: %v, want no request", s.s3.Requests())
	}
}

// kill starts a process that syncs, and kills it when the store has taken at uploads in all. It reports whether it got there.
func (s *syncSite) kill(t *testing.T, at int) bool {
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
	look := time.NewTicker(time.Millisecond)
	defer look.Stop()
	for {
		select {
		case err := <-ended:
			if err != nil {
				t.Errorf("the process failed by itself: %v", err)
			}
			return false
		case <-look.C:
			if s.count("PutObject 2xx") >= at {
				if err := cmd.Process.Kill(); err != nil {
					t.Fatal(err)
				}
				if err := <-ended; err == nil {
					t.Error("the process ended by itself before it was killed")
				}
				return true
			}
		}
	}
}
