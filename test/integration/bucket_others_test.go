package integration

import (
	"net/http"
	"slices"
	"strings"
	"testing"

	"github.com/converge-agent/converge/diag"
	"github.com/converge-agent/converge/objectstore"
	"github.com/converge-agent/converge/resources"
	"github.com/converge-agent/converge/secret"
	"github.com/converge-agent/converge/test/lab"
	"github.com/zclconf/go-cty/cty"
)

// TestABucketThatIsGoneIsNotMadeAgainAnywhere: at no provider, with whatever is managed.
func TestABucketThatIsGoneIsNotMadeAgainAnywhere(t *testing.T) {
	everyProvider(t, func(t *testing.T, s *site) {
		s.bucket["create"] = cty.False
		s.must(t, resources.Blocked)
		delete(s.bucket, "create")
		s.settle(t)
		s.deleteBucket(t)
		if c := s.must(t, resources.Blocked); !strings.Contains(c.Summary, "is gone; it existed on ") {
			t.Errorf("summary = %q", c.Summary)
		}
		if slices.Contains(s.s3.Buckets(), s.name()) {
			t.Error("it was made again")
		}
		s.bucket["ensure"] = cty.StringVal("absent")
		s.must(t, resources.None)
	})
}

// TestSomebodyElsesBucketIsNotTakenOver: at no provider is anything set on it, and the error says to choose another name.
func TestSomebodyElsesBucketIsNotTakenOver(t *testing.T) {
	l := newLab(t)
	for _, p := range allProviders {
		t.Run(p.String(), func(t *testing.T) {
			s, other := managedSite(t, l, p), managedSite(t, l, p)
			if err := other.client(t).CreateBucket(t.Context(), s.name(), ""); err != nil {
				t.Fatal(err)
			}
			other.s3.ResetRequests()
			_, err := s.apply(t)
			if err == nil || !strings.Contains(diag.Fix(err), "another name") {
				t.Errorf("error = %v\nfix = %s", err, diag.Fix(err))
			}
			if n := other.s3.Requests(); len(n) > 0 {
				t.Errorf("the other's store was asked: %v", n)
			}
		})
	}
}

// TestTheLeastRightsAreEnough: with the rights of the table alone, everything managed is created, healed and withdrawn.
func TestTheLeastRightsAreEnough(t *testing.T) {
	everyProvider(t, func(t *testing.T, s *site) {
		entry, _ := objectstore.Lookup(s.s3.Personality.String())
		key, secretKey := s.s3.NewKey(entry.AgentRights...)
		if s.s3.Personality == lab.R2 { // "Object Read & Write" does for a bucket that is there, without settings
			if err := s.client(t).CreateBucket(t.Context(), s.name(), ""); err != nil {
				t.Fatal(err)
			}
			s.bucket["create"] = cty.False
			delete(s.bucket, "cors")
			delete(s.bucket, "lifecycle")
		}
		s.store["access_key_id"], s.store["secret_access_key"] = secret.New(key).Value(), secret.New(secretKey).Value()
		s.settle(t)
		if _, c, err := s.plan(t); err != nil || slices.ContainsFunc(c.Notes, func(n string) bool { return strings.Contains(n, "may not read") }) {
			t.Errorf("notes = %q, %v", c.Notes, err)
		}
		for _, d := range drifts(s) {
			if err := d.by(t, s.sdk(t), s.name()); err != nil {
				t.Fatalf("%s: %v", d.name, err)
			}
			s.settle(t)
		}
		s.private()
		s.settle(t)
		s.bucket["ensure"] = cty.StringVal("absent")
		if _, err := s.apply(t); err != nil {
			t.Errorf("absent: %v", err)
		}
	})
}

// TestScalewayPolicyOfOthers: it goes before ACLs, so the plan says so, and looks from outside again.
func TestScalewayPolicyOfOthers(t *testing.T) {
	s := managedSite(t, newLab(t), lab.Scaleway)
	s.settle(t)
	policy := `{"Version":"2023-04-17","Statement":[{"Sid":"Theirs","Effect":"Allow","Principal":"*","Action":["s3:GetObject","s3:PutObject","s3:DeleteObject","s3:ListBucket","s3:GetObjectAcl","s3:PutObjectAcl","s3:GetBucketAcl","s3:GetBucketCORS","s3:GetBucketVersioning","s3:GetLifecycleConfiguration"],"Resource":["` + s.name() + `","` + s.name() + `/*"]}]}`
	if err := s.client(t).PutBucketPolicy(t.Context(), s.name(), policy); err != nil {
		t.Fatal(err)
	}
	_, c, err := s.plan(t)
	if err != nil || c.Action != resources.Look || len(c.Effects) != 1 || !strings.Contains(strings.Join(c.Notes, " "), "goes before ACLs") {
		t.Errorf("plan = %s %q, %v", c.Action, c.Notes, err)
	}
}

// TestWhatIsNoStoreIsNoLostBucket: a web server that knows none of the paths does not make a bucket missing, for an empty one would be
// made in its place.
func TestWhatIsNoStoreIsNoLostBucket(t *testing.T) {
	everyProvider(t, func(t *testing.T, s *site) {
		s.s3.Fault(func(*http.Request) *lab.Fault { return &lab.Fault{Status: 404, Body: []byte("<html>Not Found</html>")} })
		_, c, err := s.plan(t)
		if err == nil || !strings.Contains(diag.Fix(err), "no S3 store") {
			t.Errorf("the plan is to %s: %s; error = %v, fix = %s", c.Action, c.Summary, err, diag.Fix(err))
		}
	})
}
