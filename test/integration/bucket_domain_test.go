package integration

import (
	"net/http"
	"strings"
	"testing"

	"github.com/converge-agent/converge/resources"
	"github.com/converge-agent/converge/test/lab"
	"github.com/zclconf/go-cty/cty"
)

func stringVal(s string) cty.Value { return cty.StringVal(s) }

// TestCustomDomainIsAManualStep: until the domain is connected converge says how, waits, and goes on by itself then. That it
// ends later is a failure, not a step that is to be done for the first time.
func TestCustomDomainIsAManualStep(t *testing.T) {
	s := managedSite(t, newLab(t), lab.R2)
	c := s.must(t, resources.Create)
	s.saysTheSteps(t, c)
	// The server answers under that name, and has no such object: only a probe tells.
	s.saysTheSteps(t, s.must(t, resources.Look))
	if left := s.left(t); left.Action != resources.Wait {
		t.Errorf("after looking: %s %s", left.Action, left.Summary)
	} else {
		s.saysHowToConnect(t, left)
	}
	if _, remembered := s.records["existed"]; !remembered {
		t.Error("while it waits it does not remember that the bucket existed")
	}
	// A name that leads nowhere needs no probe: nothing is sent but what reads.
	s.bucket["public_host"] = stringVal("media.does-not-exist.invalid")
	s.s3.ResetRequests()
	s.saysHowToConnect(t, s.must(t, resources.Wait))
	for what := range s.s3.Requests() {
		if !strings.HasPrefix(what, "Get") && !strings.HasPrefix(what, "HeadBucket") {
			t.Errorf("a plan that waits has sent %s", what)
		}
	}
	s.bucket["public_host"] = stringVal(s.s3.PublicHost)

	s.s3.ConnectDomain(s.name(), s.s3.PublicHost)
	s.must(t, resources.Look)
	c = s.must(t, resources.None)
	if !strings.Contains(c.Summary, "https://"+s.s3.PublicHost) || !strings.Contains(c.Summary, "GET 200") {
		t.Errorf("summary = %q", c.Summary)
	}

	s.s3.Fault(func(r *http.Request) *lab.Fault {
		if r.Host == s.s3.PublicHost {
			return &lab.Fault{Status: 522}
		}
		return nil
	})
	if _, c, err := s.plan(t); err != nil || c.Action != resources.Look || !strings.Contains(c.Effects[0].Why, "522") {
		t.Errorf("the domain that does not answer any more: %s %+v, %v", c.Action, c.Effects, err)
	}
	s.fails(t, nil, "nobody can read its objects", "It could be read at https://"+s.s3.PublicHost)
	s.s3.Fault(nil)
	s.must(t, resources.None)
}

// left is what a plan says now.
func (s *site) left(t *testing.T) resources.Change {
	t.Helper()
	r, c, err := s.plan(t)
	if err != nil {
		t.Fatal(err)
	}
	if c.Action == resources.Look {
		if err := r.Apply(t.Context(), s.env(), c); err != nil {
			t.Fatal(err)
		}
		st, err := r.Read(t.Context(), s.env().ReadEnv)
		if err != nil {
			t.Fatal(err)
		}
		return r.Diff(st)
	}
	return c
}

func (s *site) saysHowToConnect(t *testing.T, c resources.Change) {
	t.Helper()
	s.saysTheSteps(t, c)
	if host := s.bucket["public_host"].AsString(); c.Wait == nil || !strings.Contains(c.Summary, "manual step") || !strings.Contains(c.Summary, host) {
		t.Errorf("it waits for %+v: %s", c.Wait, c.Summary)
	}
}

func (s *site) saysTheSteps(t *testing.T, c resources.Change) {
	t.Helper()
	host := s.bucket["public_host"].AsString()
	steps := strings.Join(c.Notes, "\n")
	for _, want := range []string{"1. ", "2. ", "Custom Domains > Connect Domain", host, s.name()} {
		if !strings.Contains(steps, want) {
			t.Errorf("the steps do not say %q:\n%s", want, steps)
		}
	}
}
