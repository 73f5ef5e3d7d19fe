package integration

import (
	"bytes"
	"encoding/json"
	"fmt"
	"maps"
	"net/http"
	"os"
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
	"github.com/converge-agent/converge/test/lab"
	"github.com/zclconf/go-cty/cty"
)

// storeFaults are all that a store may do wrong: it has too many requests, or a fault of its own, connections break, bytes
// come slowly, or it says what is not true.
func storeFaults() []lab.Wrong {
	faults := []lab.Wrong{
		{Name: "throttled", Order: func(s *lab.S3) lab.Order { return lab.Every(6, s.Throttled()) }},
		{Name: "500", Order: every(5, lab.Fault{Status: http.StatusInternalServerError, Code: "InternalError"})},
		{Name: "done, and 500", Order: every(5, lab.Fault{Status: http.StatusInternalServerError, Code: "InternalError", Done: true})},
		{Name: "reset in the request", Order: every(5, lab.Fault{Reset: true, After: 10})},
		{Name: "done, and the answer lost", Order: every(5, lab.Fault{Reset: true, Done: true})},
		{Name: "slow", Order: every(1, lab.Fault{Delay: 5 * time.Millisecond, Rate: 100 << 10})},
	}
	return append(faults, lab.WrongAnswers()...)
}

func every(n int, f lab.Fault) func(*lab.S3) lab.Order {
	return func(*lab.S3) lab.Order { return lab.Every(n, f) }
}

// TestLaw3StoreFaults: whatever a store does, the bucket and the copy of an instance's media end well, or with an error that
// says what to do; nothing is lost on either side; and when it is over, one run heals what is left, and the next has nothing
// to do.
func TestLaw3StoreFaults(t *testing.T) {
	l := newLab(t)
	begun := make(chan struct{}, faultsAtOnce)
	var all sync.WaitGroup
	for _, p := range allProviders {
		for _, fault := range storeFaults() {
			begun <- struct{}{}
			all.Go(func() {
				defer func() { <-begun }()
				t.Run(fmt.Sprintf("%s/%s", p, fault.Name), func(t *testing.T) { survives(t, newFaultSite(t, l, p), fault) })
			})
		}
	}
	all.Wait()
}

// faultsAtOnce is how many hosts have their faults at the same time: most of it is waiting, however few processors there are.
const faultsAtOnce = 48

func survives(t *testing.T, s *faultSite, fault lab.Wrong) {
	s.s3.Fault(fault.Order(s.s3))
	if err := s.run(t); err != nil {
		s.diagnosed(t, err)
	}
	s.s3.Fault(nil)
	s.nothingLost(t)
	if err := s.run(t); err != nil {
		t.Fatalf("after the fault: %v\n%s", err, diag.Fix(err))
	}
	s.nothingLost(t)
	if err := s.run(t); err != nil {
		t.Fatalf("the run after that: %v\n%s", err, diag.Fix(err))
	}
	if s.changes != 0 {
		t.Errorf("the run after that has %d changes", s.changes)
	}
	s.complete(t)
}

// faultSite is a host with a bucket and a copy of its media.
type faultSite struct {
	*syncSite
	theirs  map[string][]byte // in the bucket, by others
	files   map[string][]byte // of the instance
	changes int               // of the last run
}

func newFaultSite(t *testing.T, l *lab.Lab, p lab.Personality) *faultSite {
	t.Helper()
	s := &faultSite{
		syncSite: &syncSite{site: newSite(t, l, p), records: resourcetest.Records{}},
		theirs:   map[string][]byte{"media_attachments/files/1/original/app.png": []byte("by the app"), "backups/dump.tar": []byte("secret")},
		files:    map[string][]byte{},
	}
	name := fmt.Sprintf("faults-%d", time.Now().UnixNano())
	s.bucket["name"], s.store["path_style"] = cty.StringVal(name), cty.True
	if err := s.client(t).CreateBucket(t.Context(), name, ""); err != nil {
		t.Fatal(err)
	}
	if p == lab.R2 {
		s.s3.ConnectDomain(name, s.s3.PublicHost)
		s.bucket["public_host"] = cty.StringVal(s.s3.PublicHost)
	}
	for key, body := range s.theirs {
		s.s3.Put(name, key, body, nil)
	}
	var err error
	if s.instance, err = lab.NewInstance(filepath.Join(t.TempDir(), "live"), lab.InstanceSpec{Files: 20, Seed: 3}); err != nil {
		t.Fatal(err)
	}
	for _, key := range s.instance.Public() {
		if s.files[key], err = os.ReadFile(s.instance.Path(key)); err != nil {
			t.Fatal(err)
		}
	}
	kind := s3bucket.Kind(objectstore.NewClients())
	_, exports, err := kind.New(resources.Address{Kind: kind.Name, Name: "b"}, s.config(t, kind))
	if err != nil {
		t.Fatal(err)
	}
	s.spec = syncSpec{
		Provider: p.String(), Region: s.s3.Region, Endpoint: s.s3.Endpoint, CAFile: s.lab.CAFile, Key: s.s3.AgentKey, Secret: s.s3.AgentSecret,
		Bucket: name, ACL: exports.GetAttr("object_acl").AsString(), Source: s.instance.Media, StateDir: t.TempDir(),
	}
	return s
}

// run is one run of the bucket and the sync, which does not begin where the bucket has failed.
func (s *faultSite) run(t *testing.T) error {
	t.Helper()
	s.changes = 0
	c, err := s.tryApply(t)
	if err == nil && c.Action != resources.None {
		s.changes++
	}
	if err != nil {
		return err
	}
	if c, err = s.spec.run(t.Context(), s.records); err == nil && c.Action != resources.None {
		s.changes++
	}
	return err
}

// tryApply is one run of the bucket as the engine does it: what is left to do after an apply is an error.
func (s *site) tryApply(t *testing.T) (resources.Change, error) {
	r, c, err := s.plan(t)
	if err != nil {
		return c, err
	}
	if c.Action.Changes() || c.Action.Looks() {
		if err := r.Apply(t.Context(), s.env(), c); err != nil {
			return c, err
		}
	}
	st, err := r.Read(t.Context(), s.env().ReadEnv)
	if err != nil {
		return c, err
	}
	left := r.Diff(st)
	if left.Action != resources.None {
		return c, diag.New("prove the bucket "+s.name(), "after the apply something is left: "+left.Summary, "Run it again.")
	}
	for name, v := range left.Remember {
		raw, err := json.Marshal(v)
		if err != nil {
			t.Fatal(err)
		}
		s.records[name] = raw
	}
	return c, nil
}

// diagnosed checks that an error says what to do, and shows no key.
func (s *faultSite) diagnosed(t *testing.T, err error) {
	t.Helper()
	if diag.Fix(err) == "" {
		t.Errorf("an error without advice: %v", err)
	}
	for _, secret := range []string{s.s3.AgentKey, s.s3.AgentSecret} {
		if strings.Contains(err.Error()+diag.Fix(err), secret) {
			t.Errorf("the error shows a key: %v", err)
		}
	}
}

// nothingLost checks the files of the instance and the objects of others, and that what was copied is what it should be.
func (s *faultSite) nothingLost(t *testing.T) {
	t.Helper()
	for key, body := range s.files {
		if got, err := os.ReadFile(s.instance.Path(key)); err != nil || !bytes.Equal(got, body) {
			t.Errorf("the file %s is not as it was: %v", key, err)
		}
		if got, _, ok := s.s3.Object(s.name(), key); ok && !bytes.Equal(got, body) {
			t.Errorf("the object %s is not the file", key)
		}
	}
	for key, body := range s.theirs {
		if got, _, ok := s.s3.Object(s.name(), key); !ok || !bytes.Equal(got, body) {
			t.Errorf("the object %s of others is not as it was", key)
		}
	}
}

// complete checks that all files are in the bucket, and nothing that nobody wants there.
func (s *faultSite) complete(t *testing.T) {
	t.Helper()
	want := slices.Collect(maps.Keys(s.theirs))
	want = append(want, slices.Collect(maps.Keys(s.files))...)
	slices.Sort(want)
	if got := s.s3.Keys(s.name()); !slices.Equal(got, want) {
		t.Errorf("%d objects in the bucket, want %d\ngot  %q\nwant %q", len(got), len(want), got, want)
	}
}
