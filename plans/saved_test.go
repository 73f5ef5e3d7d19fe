package plans_test

import (
	"context"
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/converge-agent/converge/host"
	"github.com/converge-agent/converge/host/hosttest"
	"github.com/converge-agent/converge/plans"
	"github.com/converge-agent/converge/resources"
)

const planFile = "/etc/saved.json"

// save plans and saves, as one run does; the next one opens the records anew.
func (f *fixture) save(nodes ...resources.Node) {
	f.t.Helper()
	f.reopen()
	f.engine.Env.Users = hosttest.Users{}
	if err := f.engine.Save(f.t.Context(), f.plan(nodes...), planFile, "1.0.0", plans.Origin{Path: "/etc/site.hcl"}); err != nil {
		f.t.Fatal(err)
	}
	f.reopen()
}

func (f *fixture) saved() *plans.Saved {
	f.t.Helper()
	s, err := plans.ReadSaved(f.files, planFile)
	if err == nil {
		err = f.engine.Accept(s)
	}
	if err != nil {
		f.t.Fatal(err)
	}
	return s
}

// moved plans again and says what moved, by line.
func (f *fixture) moved(nodes ...resources.Node) string {
	f.t.Helper()
	var lines []string
	for _, m := range f.engine.Moved(f.saved(), f.plan(nodes...)) {
		lines = append(lines, m.Address+": "+m.What)
	}
	return strings.Join(lines, "\n")
}

// TestSavedPlanNamesWhatMoved: nothing as long as nothing did, whatever the time, and else each resource with what of it.
func TestSavedPlanNamesWhatMoved(t *testing.T) {
	for name, tc := range map[string]struct {
		move func(f *fixture, nodes []resources.Node) []resources.Node
		want string
	}{
		"nothing": {func(_ *fixture, n []resources.Node) []resources.Node { return n }, ""},
		"only times": {func(f *fixture, n []resources.Node) []resources.Node {
			file, _ := f.files.Lookup("/etc/f")
			file.ChangedAt = time.Unix(99, 0)
			f.files.Put("/etc/f", *file)
			f.engine.Env.Clock = hosttest.NewClock(time.Unix(1e9, 0))
			return n
		}, ""},
		"content on the host": {func(f *fixture, n []resources.Node) []resources.Node {
			f.files.Put("/etc/f", host.File{Content: []byte("by hand\n"), Mode: 0o644})
			return n
		}, "stub.a: the host: what was to be changed has itself been changed\n" +
			"stub.b: the host: what was to be changed has itself been changed"},
		"owner on the host": {func(f *fixture, n []resources.Node) []resources.Node {
			f.files.Put("/etc/f", host.File{Content: []byte("old\n"), Mode: 0o644, UID: 7})
			return n
		}, "stub.a: the host: what was to be changed has itself been changed"},
		"done by hand": {func(f *fixture, n []resources.Node) []resources.Node {
			f.files.Put("/etc/g", host.File{Content: []byte("three\n"), Mode: 0o644})
			return n
		}, `stub.c: the host: planned was "create", due now is "none"`},
		"readable no more": {func(_ *fixture, n []resources.Node) []resources.Node {
			n[2].Resource.(*stub).readFail = errors.New("no")
			return n
		}, `stub.c: the host: planned was "create", due now is "failed"`},
		"configuration": {func(_ *fixture, n []resources.Node) []resources.Node { n[2].Config = "another"; return n }, "stub.c: its configuration"},
		"order": {func(_ *fixture, n []resources.Node) []resources.Node {
			n[2].Needs = []resources.Address{addr("a")}
			return n
		}, "stub.c: its configuration"},
		"timeout": {func(_ *fixture, n []resources.Node) []resources.Node { n[2].Timeout = time.Hour; return n }, "stub.c: its configuration"},
		"facts": {func(_ *fixture, n []resources.Node) []resources.Node { n[3].Facts = "others"; return n },
			"stub.facts: the facts that it reads from the host"},
		"an endpoint": {func(_ *fixture, n []resources.Node) []resources.Node {
			n[3].Facts, n[3].Asked = "others", "endpoint"
			return n
		}, "stub.facts: its endpoint, as the provider tells it"},
		"gone and new": {func(_ *fixture, n []resources.Node) []resources.Node { n[2].Address = addr("d"); return n },
			"stub.d: it is new in the configuration\nstub.c: it is no longer in the configuration"},
	} {
		t.Run(name, func(t *testing.T) {
			f := newFixture(t)
			f.files.Put("/etc/f", host.File{Content: []byte("old\n"), Mode: 0o644})
			nodes := []resources.Node{
				node("a", &stub{path: "/etc/f", line: "one"}), node("b", &stub{path: "/etc/f", line: "two"}, "a"),
				node("c", &stub{path: "/etc/g", line: "three"}),
				{Address: addr("facts"), Kind: stubKind, Config: "of facts", Facts: "found", Where: "facts.hcl:1"},
			}
			f.save(nodes...)
			if got := f.moved(tc.move(f, nodes)...); got != tc.want {
				t.Errorf("got:\n%s\nwant:\n%s", got, tc.want)
			}
		})
	}
}

// TestSavedPlanHoldsNoContent: not the content, the configuration or the machine's id, nor a digest that anybody could make.
func TestSavedPlanHoldsNoContent(t *testing.T) {
	f := newFixture(t)
	const id = "0123456789abcdef0123456789abcdef"
	f.files.Put("/etc/machine-id", host.File{Content: []byte(id + "\n"), Mode: 0o444})
	nodes := []resources.Node{node("a", &stub{path: "/etc/f", line: "planted"})}
	f.save(nodes...)
	text := f.text(planFile)
	for _, secret := range []string{`"planted`, "config of a", id} {
		if strings.Contains(text, secret) {
			t.Errorf("it holds %q:\n%s", secret, text)
		}
	}
	if file, _ := f.files.Lookup(planFile); file.Mode != 0o600 {
		t.Errorf("its mode is %o", file.Mode)
	}
	first := f.saved().Items[0]
	f.files.Remove("/var/converge/key")
	f.save(nodes...)
	if again := f.saved().Items[0]; again.Config == first.Config || again.Change == first.Change {
		t.Error("its digests do not depend on the key")
	}
}

func TestSavedPlanIsRefusedElsewhere(t *testing.T) {
	for name, tc := range map[string]struct {
		change func(f *fixture)
		want   string
	}{
		"other host": {func(f *fixture) {
			f.files.Put("/etc/machine-id", host.File{Content: []byte(strings.Repeat("a", 32)), Mode: 0o444})
		}, "another host"},
		"key lost": {func(f *fixture) { f.files.Remove("/var/converge/key") }, "is lost, or cannot be read"},
		"other key": {func(f *fixture) {
			f.files.Put("/var/converge/key", host.File{Content: []byte(strings.Repeat("k", 32)), Mode: 0o600})
		}, "another key"},
		"changed": {func(f *fixture) { f.rewrite("/etc/site.hcl", "/tmp/site.hcl") }, "changed since it was made"},
		"newer":   {func(f *fixture) { f.rewrite(`"version": 1`, `"version": 2`) }, "format version 2"},
		"damaged": {func(f *fixture) { f.rewrite(`"version": 1`, `"version": "x"`) }, "damaged"},
		"no plan": {func(f *fixture) { f.rewrite("converge plan", "anything") }, "no saved plan"},
		"no file": {func(f *fixture) { f.files.Remove(planFile) }, "no such file"},
	} {
		t.Run(name, func(t *testing.T) {
			f := newFixture(t)
			f.save(node("a", &stub{path: "/etc/f", line: "one"}))
			tc.change(f)
			f.reopen()
			s, err := plans.ReadSaved(f.files, planFile)
			if err == nil {
				err = f.engine.Accept(s)
			}
			if err == nil || !strings.Contains(err.Error(), tc.want) {
				t.Errorf("got %v, want %q", err, tc.want)
			}
		})
	}
}

func (f *fixture) rewrite(before, after string) {
	f.t.Helper()
	text := f.text(planFile)
	if !strings.Contains(text, before) {
		f.t.Fatalf("there is no %q", before)
	}
	f.files.Put(planFile, host.File{Content: []byte(strings.Replace(text, before, after, 1)), Mode: 0o600})
}

func TestSavedPlanReplacesNothingElse(t *testing.T) {
	f := newFixture(t)
	f.engine.Env.Users = hosttest.Users{}
	f.files.Put(planFile, host.File{Content: []byte("precious"), Mode: 0o644})
	p := f.plan(node("a", &stub{path: "/etc/f", line: "one"}))
	err := f.engine.Save(t.Context(), p, planFile, "1", plans.Origin{})
	if err == nil || f.text(planFile) != "precious" || f.text("/var/converge/key") != "" {
		t.Errorf("got %v, and the file holds %q", err, f.text(planFile))
	}
	f.files.Remove(planFile)
	f.save(node("a", &stub{path: "/etc/f", line: "one"}))
	f.save(node("b", &stub{path: "/etc/f", line: "one"}))
	if got := f.saved().Items[0].Address; got != "stub.b" {
		t.Errorf("the older plan was not replaced: %s", got)
	}
}

// syncing is a stub that runs, and estimates.
type syncing struct {
	stub
	effect resources.Effect
}

func (s *syncing) Read(context.Context, resources.ReadEnv) (resources.State, error) { return nil, nil }

func (s *syncing) Diff(resources.State) resources.Change {
	return resources.Change{Action: resources.Run, Effects: []resources.Effect{s.effect}}
}

// TestSavedSyncIsBoundByCeilings: a tree lives on, so that its listing is no precondition; but no more is done than fits.
func TestSavedSyncIsBoundByCeilings(t *testing.T) {
	planned := resources.Effect{Verb: "sync", Target: "media/", Requests: 1000, Bytes: 1e9, Why: "media/private-name.png"}
	deletes := planned
	deletes.Destructive, deletes.Deletes = true, 50
	for name, tc := range map[string]struct {
		was    resources.Effect
		change func(*resources.Effect)
		want   string
	}{
		"a bit more":            {planned, func(e *resources.Effect) { e.Requests, e.Bytes, e.Why = 11_999, 11e9, "another" }, ""},
		"nothing left":          {planned, func(e *resources.Effect) { e.Requests, e.Bytes = 0, 0 }, ""},
		"too many requests":     {planned, func(e *resources.Effect) { e.Requests = 12_001 }, "sync media/ would make about 12001 requests, planned were 1000"},
		"too many bytes":        {planned, func(e *resources.Effect) { e.Bytes = 13e9 }, "sync media/ would move 13.0 GB, planned were 1.0 GB"},
		"deletions from none":   {planned, func(e *resources.Effect) { e.Deletes = 1 }, "would delete 1 objects, planned were 0"},
		"destructive from none": {planned, func(e *resources.Effect) { e.Destructive = true }, "has become destructive"},
		"another bucket":        {planned, func(e *resources.Effect) { e.Target = "other/" }, "has itself been changed"},
		"some more deletions":   {deletes, func(e *resources.Effect) { e.Deletes = 200 }, ""},
		"too many deletions":    {deletes, func(e *resources.Effect) { e.Deletes = 201 }, "would delete 201 objects, planned were 50"},
	} {
		t.Run(name, func(t *testing.T) {
			f := newFixture(t)
			s := &syncing{effect: tc.was}
			n := node("sync", nil)
			n.Resource = s
			f.save(n)
			if strings.Contains(f.text(planFile), "private-name") {
				t.Error("the saved plan lists files")
			}
			tc.change(&s.effect)
			got := f.moved(n)
			if tc.want == "" && got != "" || !strings.Contains(got, tc.want) {
				t.Errorf("got %q, want %q", got, tc.want)
			}
		})
	}
}

// TestPartialLeavesWhatMovedAndItsDependents alone, drift too, and does the rest.
func TestPartialLeavesWhatMovedAndItsDependents(t *testing.T) {
	f := newFixture(t)
	nodes := []resources.Node{
		node("a", &stub{path: "/etc/a", line: "x"}), node("b", &stub{path: "/etc/b", line: "x"}, "a"),
		node("fine", &stub{path: "/etc/fine", line: "x"}, "b"), node("c", &stub{path: "/etc/c", line: "x"}, "fine"),
		node("other", &stub{path: "/etc/other", line: "x"}),
	}
	f.run(nodes[0], nodes[1], nodes[2])
	for _, path := range []string{"/etc/a", "/etc/b"} {
		f.files.Put(path, host.File{Content: []byte("drift\n"), Mode: 0o644})
	}
	f.save(nodes...)
	f.files.Put("/etc/a", host.File{Content: []byte("more drift\n"), Mode: 0o644})
	p := f.plan(nodes...)
	p.Leave(f.engine.Moved(f.saved(), p))
	var got []string
	for _, r := range f.engine.Apply(t.Context(), p).Results {
		got = append(got, r.Item.Node.Address.Name+" "+r.Outcome.String())
	}
	f.want(got, "a skipped", "b skipped", "fine unchanged", "c skipped", "other changed")
	if f.text("/etc/b") != "drift\n" {
		t.Errorf("the dependent was changed: %q", f.text("/etc/b"))
	}
}
