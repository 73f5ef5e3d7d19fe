package integration

import (
	"fmt"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
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
	// A host where nothing answers needs no probe: nothing is sent but what reads.
	s.bucket["public_host"] = stringVal("127.0.0.1:1")
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

// TestManualStepIsShown by the program itself: what is to be done stands below what waits, dependents wait too, and neither is a
// failure.
func TestManualStepIsShown(t *testing.T) {
	program, err := converge() // before the lab, which changes the working directory
	if err != nil {
		t.Fatal(err)
	}
	l, dir := newLab(t), t.TempDir()
	binary := filepath.Join(dir, "converge")
	if err := os.WriteFile(binary, []byte(program), 0o700); err != nil {
		t.Fatal(err)
	}
	s := managedSite(t, l, lab.R2)
	if err := s.client(t).CreateBucket(t.Context(), s.name(), ""); err != nil {
		t.Fatal(err)
	}
	text := fmt.Sprintf(`
object_store "r2" {
  provider          = "cloudflare-r2"
  endpoint          = %q
  ca_file           = %q
  access_key_id     = env("KEY")
  secret_access_key = env("SECRET")
}
s3_bucket "media" {
  store       = object_store.r2
  name        = %q
  access      = "public-objects"
  public_host = "127.0.0.1:1"
}
file "after" {
  path       = %q
  content    = "x"
  depends_on = [s3_bucket.media]
}
`, s.s3.Endpoint, l.CAFile, s.name(), filepath.Join(dir, "after"))
	if err := os.WriteFile(filepath.Join(dir, "x.hcl"), []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	run := func(args ...string) string {
		t.Helper()
		c := exec.CommandContext(t.Context(), binary, append(args, "--state-dir", filepath.Join(dir, "state"), dir)...)
		c.Env = append(os.Environ(), "KEY="+s.s3.AgentKey, "SECRET="+s.s3.AgentSecret)
		out, err := c.CombinedOutput()
		if err != nil {
			t.Errorf("converge %q: %v", args, err)
		}
		return string(out)
	}
	plan := run("plan")
	for _, want := range []string{"manual step: connect 127.0.0.1:1", "note: 1. Open dash.cloudflare.com", "Connect Domain", "2 later"} {
		if !strings.Contains(plan, want) {
			t.Errorf("the plan does not say %q:\n%s", want, plan)
		}
	}
	if out := run("apply", "--auto-approve"); !strings.Contains(out, "manual step") || !strings.Contains(out, "2 waiting, 0 failed") {
		t.Errorf("apply says:\n%s", out)
	}
	if out := run("apply", "--auto-approve", "--quiet"); out != "" {
		t.Errorf("quiet, it says:\n%s", out)
	}
}
