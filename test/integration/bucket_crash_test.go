package integration

import (
	"context"
	"net/http"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/converge-agent/converge/objectstore"
	"github.com/converge-agent/converge/test/lab"
)

// endAfter is a run that ends after n requests of its Apply, as if it had been killed there. It reports whether Apply came to
// its end before.
func (s *site) endAfter(t *testing.T, n int64) bool {
	t.Helper()
	r, c, err := s.plan(t)
	if err != nil {
		t.Fatal(err)
	}
	ctx, kill := context.WithCancel(t.Context())
	defer kill()
	var seen atomic.Int64
	s.s3.Fault(func(*http.Request) *lab.Fault {
		if seen.Add(1) <= n {
			return nil
		}
		kill()
		return &lab.Fault{Status: 400, Code: "InvalidRequest", Message: "the run ended here"}
	})
	defer s.s3.Fault(nil)
	return r.Apply(ctx, s.env(), c) == nil
}

// requestsOfSettings is what the plan says that setting costs, the probes aside.
func (s *site) requestsOfSettings(t *testing.T) (n int64) {
	t.Helper()
	_, c, err := s.plan(t)
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range c.Effects {
		if e.Verb != "probe" {
			n += e.Requests
		}
	}
	return n
}

// TestLaw4ARunThatEndsAnywhereLeavesNothingOpen: a bucket with everything managed is healed, closed and opened by runs
// that end before the first request, after one, and so on. Nobody could list it at any time, or read what is private, and
// the next run finishes the job.
func TestLaw4ARunThatEndsAnywhereLeavesNothingOpen(t *testing.T) {
	everyProvider(t, func(t *testing.T, s *site) {
		s.settle(t)
		s.s3.Put(s.name(), "backups/dumps/a.zip", []byte("x"), nil)
		s.s3.Put(s.name(), "accounts/a.png", []byte("x"), nil)
		for name, prepare := range map[string]func(t *testing.T){
			"healed": s.breakAll,
			"closed": func(*testing.T) { s.private() },
			"opened": func(*testing.T) { s.public() },
		} {
			t.Run(name, func(t *testing.T) {
				for n, last := int64(0), int64(1); n <= last; n++ {
					s.public()
					if name == "opened" {
						s.private()
					}
					s.settle(t)
					prepare(t)
					last = s.requestsOfSettings(t)
					s.endAfter(t, n)
					if name != "healed" || n == last {
						s.nothingPrivateIsOpen(t)
					}
				}
				s.settle(t)
				s.nothingPrivateIsOpen(t)
			})
		}
	})
}

// breakAll does all at once that somebody may do to the bucket by hand, as far as the provider lets them.
func (s *site) breakAll(t *testing.T) {
	t.Helper()
	broken := 0
	for _, d := range drifts(s) {
		if err := d.by(t, s.sdk(t), s.name()); err == nil {
			broken++
		}
	}
	if broken == 0 {
		t.Fatal("nothing could be broken")
	}
}

// public makes the bucket a public one again.
func (s *site) public() {
	s.bucket["access"] = stringVal("public-objects")
	if s.s3.PublicHost != "" {
		s.bucket["public_host"] = stringVal(s.s3.PublicHost)
	}
}

func (s *site) nothingPrivateIsOpen(t *testing.T) {
	t.Helper()
	s.publicMeansOneThing(t)
	entry, _ := objectstore.Lookup(s.s3.Personality.String())
	if entry.PrivatePrefixes && s.anonymously(t, "/backups/dumps/a.zip") == http.StatusOK {
		t.Error("anyone can read a backup")
	}
}

// TestLaw4AWideStatementIsNeverInForce: at AWS somebody made our statement allow everything, which the block holds back. The block
// is not taken away before the statement is the right one, wherever the run ends.
func TestLaw4AWideStatementIsNeverInForce(t *testing.T) {
	s := managedSite(t, newLab(t), lab.AWS)
	s.settle(t)
	s.s3.Put(s.name(), "backups/dumps/a.zip", []byte("x"), nil)
	c, ctx := s.client(t), t.Context()
	ours, err := c.GetBucketPolicy(ctx, s.name())
	if err != nil {
		t.Fatal(err)
	}
	wide := strings.Replace(ours, "/accounts/*", "/*", 1)
	all := objectstore.PublicAccessBlock{BlockPublicACLs: true, IgnorePublicACLs: true, BlockPublicPolicy: true, RestrictPublic: true}
	for n := int64(0); ; n++ {
		if err := c.PutPublicAccessBlock(ctx, s.name(), objectstore.PublicAccessBlock{IgnorePublicACLs: true, RestrictPublic: true}); err != nil {
			t.Fatal(err)
		}
		if err := c.PutBucketPolicy(ctx, s.name(), wide); err != nil {
			t.Fatal(err)
		}
		if err := c.PutPublicAccessBlock(ctx, s.name(), all); err != nil {
			t.Fatal(err)
		}
		last := s.requestsOfSettings(t)
		s.endAfter(t, n)
		s.nothingPrivateIsOpen(t)
		if n > last {
			break
		}
	}
	s.settle(t)
	s.nothingPrivateIsOpen(t)
}
