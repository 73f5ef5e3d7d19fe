package integration

import (
	"net/http"
	"slices"
	"strings"
	"testing"

	"github.com/converge-agent/converge/resources"
	"github.com/converge-agent/converge/test/lab"
	"github.com/zclconf/go-cty/cty"
)

// TestAbsentBucketIsClosedAndStays: ensure = "absent" takes back what converge opened, says so as something destructive, and
// deletes neither the bucket nor an object of it.
func TestAbsentBucketIsClosedAndStays(t *testing.T) {
	providers(t, func(t *testing.T, s *site) {
		s.must(t, resources.Create)
		s.s3.Put(s.name(), "accounts/a.png", []byte("x"), nil)
		if got := s.anonymously(t, "/accounts/a.png"); got != http.StatusOK {
			t.Fatalf("status %d, want an object that everybody may get", got)
		}
		s.bucket["ensure"] = cty.StringVal("absent")
		if c := s.must(t, resources.Update); !c.Effects[0].Destructive {
			t.Errorf("taking objects from the public is not called out: %+v", c.Effects)
		}
		if got := s.anonymously(t, "/accounts/a.png"); got == http.StatusOK {
			t.Error("everybody can still get the object")
		}
		if keys := s.s3.Keys(s.name()); !slices.Contains(keys, "accounts/a.png") {
			t.Errorf("the bucket holds %q", keys)
		}
		s.must(t, resources.None)
		s.deleteBucket(t)
		s.must(t, resources.None)
	})
}

// TestAbsentBucketThatCannotBeRead is a person's business: nobody can tell whether it is closed.
func TestAbsentBucketThatCannotBeRead(t *testing.T) {
	providers(t, func(t *testing.T, s *site) {
		s.must(t, resources.Create)
		s.bucket["ensure"] = cty.StringVal("absent")
		s.s3.Fault(func(r *http.Request) *lab.Fault {
			if r.Method == http.MethodGet && (r.URL.Query().Has("policy") || r.URL.Query().Has("acl")) {
				return &lab.Fault{Status: 403, Code: "AccessDenied", Message: "x"}
			}
			return nil
		})
		if c := s.must(t, resources.Blocked); len(c.Notes) == 0 || !strings.Contains(c.Notes[0], "console") {
			t.Errorf("it does not say what to do: %+v", c)
		}
	})
}

// TestAbsentPrivateBucketIsLeftAlone: where converge never opened anything there is nothing to close, and nothing to ask.
func TestAbsentPrivateBucketIsLeftAlone(t *testing.T) {
	providers(t, func(t *testing.T, s *site) {
		s.bucket["access"] = cty.StringVal("private")
		s.must(t, resources.Create)
		s.bucket["ensure"] = cty.StringVal("absent")
		s.s3.ResetRequests()
		s.must(t, resources.None)
		if n := s.s3.Requests(); len(n) > 0 {
			t.Errorf("it asked the store: %v", n)
		}
	})
}
