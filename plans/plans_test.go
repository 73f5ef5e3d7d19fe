package plans_test

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/converge-agent/converge/diag"
	"github.com/converge-agent/converge/host"
	"github.com/converge-agent/converge/host/hosttest"
	"github.com/converge-agent/converge/plans"
	"github.com/converge-agent/converge/resources"
)

// stub is a resource that appends its line to a file, so that two of them on one path show whether reads are chained.
type stub struct {
	path, line string
	fail       error            // of Apply
	readFail   error            // of Read
	action     resources.Action // instead of what the file says
	apply      func(env resources.Env) error
	stubborn   bool // Apply does nothing and says that it did
}

func (s *stub) Claims() []resources.Claim { return []resources.Claim{{Path: s.path}} }
func (s *stub) Watches() []string         { return []string{s.path} }

func (s *stub) Read(_ context.Context, env resources.ReadEnv) (resources.State, error) {
	if s.readFail != nil {
		return nil, s.readFail
	}
	return env.Files.Lookup(s.path)
}

func (s *stub) Diff(st resources.State) resources.Change {
	before, _ := st.(*host.File)
	if s.action != resources.None {
		return resources.Change{Action: s.action, Summary: s.line}
	}
	have := ""
	if before != nil {
		have = string(before.Content)
	}
	c := resources.Change{Digest: s.line, Summary: "line " + s.line}
	if strings.Contains(have, s.line) {
		return c
	}
	e := host.Edit{Path: s.path, Before: before, After: &host.File{Content: []byte(have + s.line + "\n"), Mode: 0o644}}
	c.Action, c.Edits = resources.EditAction(e), []host.Edit{e}
	return c
}

func (s *stub) Apply(ctx context.Context, env resources.Env, c resources.Change) error {
	if s.apply != nil {
		return s.apply(env)
	}
	if s.fail != nil || s.stubborn {
		return s.fail
	}
	return resources.CommitAll(ctx, env, c)
}

var stubKind = &resources.Kind{Name: "stub"}

func addr(name string) resources.Address { return resources.Address{Kind: "stub", Name: name} }

func node(name string, s *stub, needs ...string) resources.Node {
	n := resources.Node{Address: addr(name), Kind: stubKind, Resource: s, Config: "config of " + name, Where: name + ".hcl:1"}
	for _, need := range needs {
		n.Needs = append(n.Needs, addr(need))
	}
	return n
}

// fixture is an engine on a host in memory.
type fixture struct {
	t       *testing.T
	files   *hosttest.Memory
	engine  *plans.Engine
	applied []string
}

func newFixture(t *testing.T) *fixture {
	f := &fixture{t: t, files: hosttest.NewMemory()}
	for _, dir := range []string{"/etc", "/var"} {
		f.files.Put(dir, host.File{Type: host.Directory, Mode: 0o755})
	}
	f.reopen()
	return f
}

// reopen makes a new engine on the same host, as the next run does.
func (f *fixture) reopen() {
	records, err := plans.OpenRecords("/var/converge", f.files, hosttest.Users{})
	if err != nil {
		f.t.Fatal(err)
	}
	f.applied = nil
	f.engine = &plans.Engine{
		Records: records,
		Env:     resources.Env{ReadEnv: resources.ReadEnv{Clock: hosttest.NewClock(time.Unix(0, 0))}, Files: f.files},
		Events: func(ev plans.Event) {
			if ev.Type == plans.Began {
				f.applied = append(f.applied, ev.Item.Node.Address.Name)
			}
		},
	}
}

func (f *fixture) text(path string) string {
	f.t.Helper()
	file, err := f.files.Lookup(path)
	if err != nil {
		f.t.Fatal(err)
	}
	if file == nil {
		return ""
	}
	return string(file.Content)
}

func (f *fixture) plan(nodes ...resources.Node) *plans.Plan {
	f.t.Helper()
	p, err := f.engine.Plan(f.t.Context(), nodes)
	if err != nil {
		f.t.Fatal(err)
	}
	return p
}

// run plans and applies, and returns the outcomes as "name outcome" in the order of the configuration.
func (f *fixture) run(nodes ...resources.Node) []string {
	f.t.Helper()
	f.reopen()
	report := f.engine.Apply(f.t.Context(), f.plan(nodes...))
	var out []string
	for _, r := range report.Results {
		out = append(out, fmt.Sprintf("%s %s", r.Item.Node.Address.Name, r.Outcome))
	}
	return out
}

func (f *fixture) want(got []string, want ...string) {
	f.t.Helper()
	if !slices.Equal(got, want) {
		f.t.Errorf("outcomes:\n got %q\nwant %q", got, want)
	}
}

// TestLaw1PlanTellsTheTruth: two resources that edit one file are read on top of each other, and nothing is written.
func TestLaw1PlanTellsTheTruth(t *testing.T) {
	f := newFixture(t)
	a, b := node("a", &stub{path: "/etc/f", line: "one"}), node("b", &stub{path: "/etc/f", line: "two"})
	p := f.plan(a, b)
	if w := f.files.Writes(); len(w) > 0 {
		t.Errorf("planning wrote %q", w)
	}
	if got := string(p.Items[1].Change.Edits[0].Before.Content); got != "one\n" {
		t.Errorf("the second edit starts from %q, want what the first one leaves", got)
	}
	f.want(f.run(a, b), "a changed", "b changed")
	if got := f.text("/etc/f"); got != "one\ntwo\n" {
		t.Errorf("the file holds %q", got)
	}
}

func TestLaw1ApplyStopsWhenTheHostMoved(t *testing.T) {
	f := newFixture(t)
	p := f.plan(node("a", &stub{path: "/etc/f", line: "one"}))
	f.files.Put("/etc/f", host.File{Content: []byte("by hand\n"), Mode: 0o644})
	r := f.engine.Apply(t.Context(), p).Results[0]
	if r.Outcome != plans.Failed || !strings.Contains(r.Err.Error(), "moved since the plan") {
		t.Errorf("got %s, %v", r.Outcome, r.Err)
	}
	if got := f.text("/etc/f"); got != "by hand\n" {
		t.Errorf("the file holds %q", got)
	}
}

func TestLaw2SecondRunWritesNothing(t *testing.T) {
	f := newFixture(t)
	nodes := []resources.Node{node("a", &stub{path: "/etc/f", line: "one"}), node("b", &stub{path: "/etc/g", line: "two"}, "a")}
	f.want(f.run(nodes...), "a changed", "b changed")
	before := len(f.files.Writes())
	f.want(f.run(nodes...), "a unchanged", "b unchanged")
	if w := f.files.Writes()[before:]; len(w) > 0 {
		t.Errorf("the second run wrote %q", w)
	}
}

func TestLaw2WhatIsLeftIsAFailure(t *testing.T) {
	f := newFixture(t)
	f.want(f.run(node("a", &stub{path: "/etc/f", line: "one", stubborn: true}), node("b", &stub{path: "/etc/g", line: "two"}, "a")),
		"a failed", "b skipped")
}

func TestFailureSkipsDependentsAndTheRestGoesOn(t *testing.T) {
	f := newFixture(t)
	f.want(f.run(
		node("a", &stub{path: "/etc/a", line: "x", fail: errors.New("no")}),
		node("b", &stub{path: "/etc/b", line: "x"}, "a"),
		node("c", &stub{path: "/etc/c", line: "x"}, "b"),
		node("d", &stub{path: "/etc/d", line: "x"}),
	), "a failed", "b skipped", "c skipped", "d changed")
}

func TestInProgressAndWaitingHoldDependents(t *testing.T) {
	f := newFixture(t)
	yield := func(resources.Env) error { return &resources.Yield{Done: "half"} }
	f.want(f.run(
		node("a", &stub{path: "/etc/a", line: "x", apply: yield}),
		node("b", &stub{path: "/etc/b", line: "x"}, "a"),
		node("c", &stub{path: "/etc/c", line: "7 days", action: resources.Wait}),
		node("d", &stub{path: "/etc/d", line: "x"}, "c"),
		node("e", &stub{path: "/etc/e", line: "gone", action: resources.Blocked}),
	), "a in progress", "b held", "c waiting", "d held", "e failed")
}

// TestLaw9HealingNeverWaits: what had converged is repaired though its upstream fails; what is new or changed is not begun.
func TestLaw9HealingNeverWaits(t *testing.T) {
	f := newFixture(t)
	up := &stub{path: "/etc/up", line: "x"}
	old, changed := node("old", &stub{path: "/etc/old", line: "x"}, "up"), node("changed", &stub{path: "/etc/changed", line: "x"}, "up")
	f.want(f.run(node("up", up), old, changed), "up changed", "old changed", "changed changed")

	up.readFail = errors.New("the store is down")
	f.files.Put("/etc/old", host.File{Content: []byte("wiped\n"), Mode: 0o644})
	changed = node("changed", &stub{path: "/etc/changed", line: "another"}, "up")
	changed.Config = "another config"
	f.want(f.run(node("up", up), old, changed), "up failed", "old changed", "changed skipped")
	if got := f.text("/etc/old"); !strings.Contains(got, "x") {
		t.Errorf("the drift was not healed: %q", got)
	}
}

// TestMissingSecretFailsOnlyItsUsers: a node that could not be evaluated fails alone, and holds those that need it.
func TestMissingSecretFailsOnlyItsUsers(t *testing.T) {
	f := newFixture(t)
	broken := resources.Node{Address: addr("a"), Kind: stubKind, Err: errors.New("the secret is missing"), Where: "a.hcl:1"}
	f.want(f.run(broken, node("b", &stub{path: "/etc/b", line: "x"}, "a"), node("c", &stub{path: "/etc/c", line: "x"})),
		"a failed", "b skipped", "c changed")
}

// TestHoldsPassThrough: what a failure holds back stays held behind a resource that needs nothing, and behind one that only
// exports.
func TestHoldsPassThrough(t *testing.T) {
	f := newFixture(t)
	a, b := &stub{path: "/etc/a", line: "x"}, node("b", &stub{path: "/etc/b", line: "x"}, "a")
	exports := resources.Node{Address: addr("store"), Kind: stubKind, Needs: []resources.Address{addr("a")}, Where: "s.hcl:1"}
	f.run(node("a", a), b)
	a.readFail = errors.New("no")
	c, d := node("c", &stub{path: "/etc/c", line: "x"}, "b"), node("d", &stub{path: "/etc/d", line: "x"}, "store")
	f.want(f.run(node("a", a), b, exports, c, d), "a failed", "b unchanged", "store unchanged", "c skipped", "d skipped")
	f.reopen()
	p := f.plan(node("a", a), b, exports, c, d)
	if n := p.Changes(); n != 0 || !p.Items[3].Later() || !p.Items[4].Later() {
		t.Errorf("the plan would change %d; want 0, and c and d later", n)
	}
}

// TestLaw9HealsWhatAFailureLeaves: two resources of one file drift, the first cannot be repaired, and the second still is.
func TestLaw9HealsWhatAFailureLeaves(t *testing.T) {
	f := newFixture(t)
	first := &stub{path: "/etc/f", line: "one"}
	a, b := node("a", first), node("b", &stub{path: "/etc/f", line: "two"}, "a")
	f.run(a, b)
	f.files.Put("/etc/f", host.File{Content: []byte("wiped\n"), Mode: 0o644})
	first.fail = errors.New("no")
	f.want(f.run(a, b), "a failed", "b changed")
	if got := f.text("/etc/f"); got != "wiped\ntwo\n" {
		t.Errorf("the file holds %q", got)
	}
}

// TestRunsAndChecksAreNoRepairs: they wait for what they need even where they had converged before.
func TestRunsAndChecksAreNoRepairs(t *testing.T) {
	f := newFixture(t)
	up := &stub{path: "/etc/up", line: "x"}
	run, check := &stub{path: "/etc/r", line: "x"}, &stub{path: "/etc/c", line: "x"}
	nodes := []resources.Node{node("up", up), node("run", run, "up"), node("check", check, "up")}
	f.run(nodes...)
	up.readFail = errors.New("no")
	run.action, check.action = resources.Run, resources.Check
	f.want(f.run(nodes...), "up failed", "run skipped", "check skipped")
}

// TestSharedPathsHaveOneOrder: whatever the references, those that write one path are read on top of each other.
func TestSharedPathsHaveOneOrder(t *testing.T) {
	f := newFixture(t)
	f.want(f.run(
		node("a", &stub{path: "/etc/f", line: "one"}, "b"),
		node("b", &stub{path: "/etc/f", line: "two"}),
		node("c", &stub{path: "/etc/f", line: "three"}),
	), "a changed", "b changed", "c changed")
	for _, line := range []string{"one", "two", "three"} {
		if got := f.text("/etc/f"); !strings.Contains(got, line) {
			t.Errorf("the file holds %q, without %q", got, line)
		}
	}
}

// claims is a stub with claims of its own.
type claims struct {
	stub
	list []resources.Claim
}

func (c *claims) Claims() []resources.Claim { return c.list }

// TestDirectoriesComeBeforeWhatStandsInThem, and behind it where they are removed.
func TestDirectoriesComeBeforeWhatStandsInThem(t *testing.T) {
	for name, tc := range map[string]struct {
		removes bool
		want    []string
	}{"made": {false, []string{"dir", "file"}}, "removed": {true, []string{"file", "dir"}}} {
		t.Run(name, func(t *testing.T) {
			f := newFixture(t)
			file, dir := node("file", nil), node("dir", nil)
			file.Resource = &claims{stub{path: "/etc/a", line: "x"}, []resources.Claim{{Path: "/srv/d/e/file", Own: true}}}
			dir.Resource = &claims{stub{path: "/etc/b", line: "x"}, []resources.Claim{{Path: "/srv/d", Own: true, Removes: tc.removes}}}
			if tc.removes {
				f.run(dir, file)
			} else {
				f.run(file, dir)
			}
			if !slices.Equal(f.applied, tc.want) {
				t.Errorf("applied %q, want %q", f.applied, tc.want)
			}
		})
	}
}

// effect is a stub that has an effect besides.
type effect struct {
	stub
	verb string
}

func (e *effect) Diff(st resources.State) resources.Change {
	c := e.stub.Diff(st)
	c.Effects = []resources.Effect{{Verb: e.verb, Target: "unit"}}
	return c
}

// TestLaw1EffectsArePartOfThePlan: what would be done besides the files must be what was shown.
func TestLaw1EffectsArePartOfThePlan(t *testing.T) {
	f := newFixture(t)
	n := node("a", nil)
	e := &effect{stub{path: "/etc/f", line: "one"}, "reload"}
	n.Resource = e
	p := f.plan(n)
	e.verb = "stop"
	if r := f.engine.Apply(t.Context(), p).Results[0]; r.Outcome != plans.Failed {
		t.Errorf("got %s, want failed", r.Outcome)
	}
}

// TestWaitingIsNotConverged: what waits must not count as having converged, nor be seen by those that need it.
func TestWaitingIsNotConverged(t *testing.T) {
	f := newFixture(t)
	s := &stub{path: "/etc/f", line: "one", action: resources.Wait}
	f.run(node("a", s))
	s.action = resources.None
	f.reopen()
	if p := f.plan(node("a", s)); p.Items[0].Drift {
		t.Error("a resource that only waited counts as drifted")
	}
}

func TestLongRunsGoLast(t *testing.T) {
	f := newFixture(t)
	ok := func(resources.Env) error { return &resources.Yield{} }
	f.run(node("sync", &stub{path: "/etc/a", line: "x", action: resources.Run, apply: ok}), node("heal", &stub{path: "/etc/b", line: "x"}))
	if want := []string{"heal", "sync"}; !slices.Equal(f.applied, want) {
		t.Errorf("applied %q, want %q", f.applied, want)
	}
}

func TestCancelledApplySkipsTheRest(t *testing.T) {
	f := newFixture(t)
	ctx, cancel := context.WithCancel(t.Context())
	stop := func(resources.Env) error { cancel(); return context.Canceled }
	p := f.plan(node("a", &stub{path: "/etc/a", line: "x", apply: stop}), node("b", &stub{path: "/etc/b", line: "x"}))
	r := f.engine.Apply(ctx, p)
	if r.Count(plans.Failed) != 1 || r.Count(plans.Skipped) != 1 {
		t.Errorf("got %d failed, %d skipped; want 1 and 1", r.Count(plans.Failed), r.Count(plans.Skipped))
	}
	if err := r.Results[0].Err; err == nil || err.Error() != "the run was interrupted" || diag.Fix(err) == "" {
		t.Errorf("the one at work says %v", err)
	}
}

func TestGraphRefusals(t *testing.T) {
	own := func(name, path string) resources.Node {
		n := node(name, nil)
		n.Resource = &owner{stub{path: path}}
		return n
	}
	for name, tc := range map[string]struct {
		nodes []resources.Node
		want  string
	}{
		"cycle": {[]resources.Node{node("a", &stub{}, "b"), node("b", &stub{}, "c"), node("c", &stub{}, "a")},
			"stub.a -> stub.b -> stub.c -> stub.a"},
		"two owners": {[]resources.Node{own("a", "/etc/f"), own("b", "/etc/f")}, "stub.a (a.hcl:1) writes too"},
	} {
		t.Run(name, func(t *testing.T) {
			f := newFixture(t)
			_, err := f.engine.Plan(t.Context(), tc.nodes)
			if err == nil || !strings.Contains(err.Error(), tc.want) {
				t.Errorf("got %v, want it to say %q", err, tc.want)
			}
		})
	}
}

type owner struct{ stub }

func (o *owner) Claims() []resources.Claim { return []resources.Claim{{Path: o.path, Own: true}} }

func TestRecordsAreKeyedAndRefuseNewerVersions(t *testing.T) {
	f := newFixture(t)
	nodes := []resources.Node{node("a", &stub{path: "/etc/f", line: "one"})}
	f.run(nodes...)
	const path = "/var/converge/records/stub.a.json"
	if got := f.text(path); strings.Contains(got, "config of a") || !strings.Contains(got, `"version":1`) {
		t.Errorf("the record holds %s", got)
	}
	f.files.Put(path, host.File{Content: []byte(`{"version":2}`), Mode: 0o600})
	f.files.Remove("/etc/f")
	f.reopen()
	r := f.engine.Apply(t.Context(), f.plan(nodes...)).Results[0]
	if r.Outcome != plans.Failed || !strings.Contains(r.Err.Error(), "format version 2") {
		t.Errorf("got %s, %v", r.Outcome, r.Err)
	}
}

func TestLostRecordsAreMadeAgain(t *testing.T) {
	f := newFixture(t)
	nodes := []resources.Node{node("a", &stub{path: "/etc/f", line: "one"})}
	f.run(nodes...)
	for _, path := range []string{"/var/converge/records/stub.a.json", "/var/converge/key"} {
		f.files.Put(path, host.File{Content: []byte("{"), Mode: 0o600})
	}
	f.want(f.run(nodes...), "a unchanged")
	if got := f.text("/var/converge/records/stub.a.json"); !strings.Contains(got, `"version":1`) {
		t.Errorf("the record holds %q", got)
	}
}
