package plans_test

import (
	"context"
	"errors"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/converge-agent/converge/diag"
	"github.com/converge-agent/converge/host"
	"github.com/converge-agent/converge/plans"
	"github.com/converge-agent/converge/resources"
)

func retried(n resources.Node, attempts int, delay time.Duration) resources.Node {
	n.Retry = resources.Retry{Attempts: attempts, Delay: delay}
	return n
}

// flaky fails its first tries, and leaves what mess says behind.
func flaky(f *fixture, s *stub, failures int, mess string) (tries *int) {
	tries = new(int)
	s.apply = func(resources.Env) error {
		if *tries++; *tries <= failures {
			if mess != "" {
				f.files.Put(s.path, host.File{Content: []byte(mess), Mode: 0o644})
			}
			return diag.New("try", "no luck", "Pray.")
		}
		f.files.Put(s.path, host.File{Content: []byte(s.line + "\n"), Mode: 0o644})
		return nil
	}
	return tries
}

func TestRetryRepeatsWhatFailed(t *testing.T) {
	for name, tc := range map[string]struct {
		failures, attempts int
		mess               string
		outcome            plans.Outcome
		tries              int
		says               string
	}{
		"at last":                   {2, 3, "", plans.Changed, 3, "(at try 3)"},
		"never":                     {9, 3, "", plans.Failed, 3, "tried 3 times, the last time: try: no luck"},
		"not asked for":             {1, 0, "", plans.Failed, 1, "try: no luck"},
		"half done":                 {1, 3, "half", plans.Changed, 2, "(at try 2)"},
		"done, and failed after it": {1, 3, "one", plans.Changed, 1, "(at try 2)"},
	} {
		t.Run(name, func(t *testing.T) {
			f := newFixture(t)
			s := &stub{path: "/etc/f", line: "one"}
			tries := flaky(f, s, tc.failures, tc.mess)
			p := f.plan(retried(node("a", s), tc.attempts, 0))
			r := f.engine.Apply(t.Context(), p).Results[0]
			said := r.Message
			if r.Err != nil {
				said = r.Err.Error()
			}
			if r.Outcome != tc.outcome || *tries != tc.tries || !strings.Contains(said, tc.says) || !slices.Equal(f.applied, []string{"a"}) {
				t.Errorf("%s after %d tries, saying %q; began %q", r.Outcome, *tries, said, f.applied)
			}
			if r.Err != nil && diag.Fix(r.Err) != "Pray." {
				t.Errorf("the advice is lost: %q", diag.Fix(r.Err))
			}
		})
	}
}

// TestRetryDoesNoMoreThanPlanned: what a failed try leaves is read again, and other work than the plan's is not done.
func TestRetryDoesNoMoreThanPlanned(t *testing.T) {
	f := newFixture(t)
	e := &effect{stub{path: "/etc/f", line: "one"}, "reload"}
	n := retried(node("a", nil), 5, 0)
	n.Resource = e
	tries := 0
	e.apply = func(resources.Env) error { tries++; e.verb = "stop"; return errors.New("no") }
	r := f.engine.Apply(t.Context(), f.plan(n)).Results[0]
	if tries != 1 || r.Outcome != plans.Failed || !strings.Contains(r.Err.Error(), "moved") {
		t.Errorf("%d tries, %s, %v", tries, r.Outcome, r.Err)
	}
}

// TestRetryEndsWithTheRun: an interrupt does not wait for the delay.
func TestRetryEndsWithTheRun(t *testing.T) {
	f := newFixture(t)
	ctx, cancel := context.WithCancel(t.Context())
	tries := 0
	s := &stub{path: "/etc/f", line: "one", apply: func(resources.Env) error { tries++; cancel(); return errors.New("no") }}
	r := f.engine.Apply(ctx, f.plan(retried(node("a", s), 5, 24*time.Hour))).Results[0]
	if tries != 1 || r.Outcome != plans.Failed {
		t.Errorf("%d tries, %s", tries, r.Outcome)
	}
}

// slow is a resource that only ends with its context.
type slow struct {
	stub
	reads bool // it is Read that does not end
}

func (s *slow) Read(ctx context.Context, env resources.ReadEnv) (resources.State, error) {
	if s.reads {
		<-ctx.Done()
		return nil, ctx.Err()
	}
	return s.stub.Read(ctx, env)
}

func (s *slow) Apply(ctx context.Context, _ resources.Env, _ resources.Change) error {
	<-ctx.Done()
	return ctx.Err()
}

func TestTimeoutEndsReadAndApply(t *testing.T) {
	for _, reads := range []bool{true, false} {
		f := newFixture(t)
		n := node("a", nil)
		n.Resource, n.Timeout = &slow{stub{path: "/etc/f", line: "one"}, reads}, time.Millisecond
		r := f.engine.Apply(t.Context(), f.plan(n)).Results[0]
		if r.Outcome != plans.Failed || !errors.Is(r.Err, context.DeadlineExceeded) || !strings.Contains(r.Err.Error(), "the timeout of 1ms") {
			t.Errorf("%s, %v", r.Outcome, r.Err)
		}
	}
}

func TestFailFastBeginsNothingMore(t *testing.T) {
	f := newFixture(t)
	f.engine.FailFast = true
	p := f.plan(
		node("before", &stub{path: "/etc/b", line: "x"}),
		node("fails", &stub{path: "/etc/f", line: "x", fail: errors.New("no")}),
		node("after", &stub{path: "/etc/a", line: "x"}),
		node("broken", &stub{path: "/etc/c", line: "x", readFail: errors.New("no")}),
	)
	r := f.engine.Apply(t.Context(), p)
	if r.Count(plans.Changed) != 1 || r.Count(plans.Failed) != 1 || r.Count(plans.Skipped) != 2 || f.text("/etc/a") != "" {
		t.Errorf("%d changed, %d failed, %d skipped", r.Count(plans.Changed), r.Count(plans.Failed), r.Count(plans.Skipped))
	}
}

func TestTarget(t *testing.T) {
	instance := func(module, name, index string, needs ...resources.Address) resources.Node {
		return resources.Node{Address: resources.Address{Module: module, Kind: "stub", Name: name, Index: index}, Kind: stubKind, Needs: needs,
			Resource: &claims{list: []resources.Claim{{Path: "/srv/" + module + name + index + "/f", Own: true}}}}
	}
	directory := func(name, path string, removes bool) resources.Node {
		n := node(name, nil)
		n.Resource = &claims{list: []resources.Claim{{Path: path, Own: true, Removes: removes}}}
		return n
	}
	a := instance("", "a", "")
	nodes := []resources.Node{
		directory("srv", "/srv", false), directory("removed", "/srv/b", true),
		a, instance("", "b", "", a.Address), instance("", "c", `["x"]`), instance("", "c", `["y"]`),
		instance(`module.m["k"]`, "d", ""), instance("module.mm", "d", ""), {Address: addr("unneeded"), Kind: stubKind},
	}
	for _, tc := range []struct {
		targets string // blank-separated
		want    string
		err     string
	}{
		{"", "all", ""},
		{"stub.a", "stub.srv stub.a", ""},
		{"stub.b", "stub.srv stub.a stub.b", ""},
		{`stub.c["y"]`, `stub.srv stub.c["y"]`, ""},
		{"stub.c", `stub.srv stub.c["x"] stub.c["y"]`, ""},
		{`stub.c["y"] stub.a`, `stub.srv stub.a stub.c["y"]`, ""},
		{"module.m", `stub.srv module.m["k"].stub.d`, ""},
		{`module.m["k"]`, `stub.srv module.m["k"].stub.d`, ""},
		{"module.mm.stub.d", `stub.srv module.mm.stub.d`, ""},
		{"stub.unneded", "", `did you mean "stub.unneeded"?`},
		{"stub", "", "manages no resource"},
		{`stub.c["z"]`, "", `did you mean "stub.c[\"x\"]"?`},
	} {
		got, err := plans.Target(nodes, strings.Fields(tc.targets))
		if tc.err != "" {
			if err == nil || !strings.Contains(err.Error(), tc.err) {
				t.Errorf("%s: got %v, want %q", tc.targets, err, tc.err)
			}
			continue
		}
		var names []string
		for _, n := range got {
			names = append(names, n.Address.String())
		}
		if err != nil || strings.Join(names, " ") != tc.want && (tc.want != "all" || len(got) != len(nodes)) {
			t.Errorf("%s: got %q, %v", tc.targets, names, err)
		}
	}
}
