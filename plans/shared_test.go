package plans_test

import (
	"context"
	"strings"
	"testing"

	"github.com/converge-agent/converge/host"
	"github.com/converge-agent/converge/host/hosttest"
	"github.com/converge-agent/converge/plans"
	"github.com/converge-agent/converge/resources"
	"github.com/converge-agent/converge/resources/envfile"
	"github.com/converge-agent/converge/resources/file"
	"github.com/zclconf/go-cty/cty"
)

// real is a node of a kind as it ships.
func (f *fixture) real(k *resources.Kind, name string, written map[string]cty.Value) resources.Node {
	f.t.Helper()
	f.engine.Env.Users = hosttest.Users{}
	config, errs := k.Complete(cty.ObjectVal(written))
	for _, err := range errs {
		f.t.Fatal(err)
	}
	addr := resources.Address{Kind: k.Name, Name: name}
	r, _, err := k.New(addr, config)
	if err != nil {
		f.t.Fatal(err)
	}
	return resources.Node{Address: addr, Kind: k, Resource: r, Config: name, Where: name + ".hcl:1"}
}

func (f *fixture) envFile(name string, set map[string]cty.Value, unset ...cty.Value) resources.Node {
	written := map[string]cty.Value{"path": cty.StringVal("/etc/env"), "set": cty.MapValEmpty(cty.String)}
	if len(set) > 0 {
		written["set"] = cty.MapVal(set)
	}
	if len(unset) > 0 {
		written["unset"] = cty.ListVal(unset)
	}
	return f.real(envfile.Kind(), name, written)
}

// TestLaw2TwoThatUndoEachOther: two blocks that want one line of a file otherwise would both change it in every run, and all
// that restarts on it with them. The plan refuses the second; and two that agree, or edit other lines, are none of that.
func TestLaw2TwoThatUndoEachOther(t *testing.T) {
	one, two := cty.StringVal("1"), cty.StringVal("2")
	whole := func(f *fixture, content string) resources.Node {
		return f.real(file.Kind(), "whole", map[string]cty.Value{"path": cty.StringVal("/etc/env"), "content": cty.StringVal(content)})
	}
	for name, tc := range map[string]struct {
		nodes  func(f *fixture) []resources.Node
		undone bool
	}{
		"two values of one variable": {func(f *fixture) []resources.Node {
			return []resources.Node{f.envFile("a", map[string]cty.Value{"A": one}), f.envFile("b", map[string]cty.Value{"A": two})}
		}, true},
		"set and unset": {func(f *fixture) []resources.Node {
			return []resources.Node{f.envFile("a", map[string]cty.Value{"A": one}), f.envFile("b", nil, cty.StringVal("A"))}
		}, true},
		"a whole file, and a line in it": {func(f *fixture) []resources.Node {
			return []resources.Node{whole(f, "B=1\n"), f.envFile("b", map[string]cty.Value{"A": one})}
		}, true},
		"a whole file that has the line": {func(f *fixture) []resources.Node {
			return []resources.Node{whole(f, "A=1\n"), f.envFile("b", map[string]cty.Value{"A": one})}
		}, false},
		"two variables": {func(f *fixture) []resources.Node {
			return []resources.Node{f.envFile("a", map[string]cty.Value{"A": one}), f.envFile("b", map[string]cty.Value{"B": two})}
		}, false},
		"the same variable": {func(f *fixture) []resources.Node {
			return []resources.Node{f.envFile("a", map[string]cty.Value{"A": one}), f.envFile("b", map[string]cty.Value{"A": one, "B": two})}
		}, false},
	} {
		t.Run(name, func(t *testing.T) {
			for _, converged := range []bool{false, true} { // by the first of them
				f := newFixture(t)
				nodes := tc.nodes(f)
				if converged {
					f.engine.Apply(t.Context(), f.plan(nodes[0]))
				}
				p := f.plan(nodes...)
				err := p.Items[1].Err
				if undone := err != nil && strings.Contains(err.Error(), nodes[0].Address.String()+" ("); undone != tc.undone {
					t.Fatalf("converged %v: the second ends as %v; want it refused: %v", converged, err, tc.undone)
				}
				f.engine.Apply(t.Context(), p)
				if n := f.plan(nodes...).Changes(); n > 0 {
					t.Errorf("converged %v: the next plan has %d changes", converged, n)
				}
			}
		})
	}
}

// TestLaw4AnothersEditIsToComeToo: where one resource brings about what another one manages in the same file, that other has
// nothing to do, and yet its content is only going to be right: who restarts on it must not take it for read.
func TestLaw4AnothersEditIsToComeToo(t *testing.T) {
	f := newFixture(t)
	f.files.Put("/etc/env", host.File{Content: []byte("A=1\n"), Mode: 0o644})
	whole := f.real(file.Kind(), "whole", map[string]cty.Value{"path": cty.StringVal("/etc/env"), "content": cty.StringVal("")})
	seen := &seesUpstreams{stub: stub{path: "/etc/other", line: "x"}}
	reader := node("reader", nil)
	line := f.envFile("line", nil, cty.StringVal("A"))
	reader.Resource, reader.Needs = seen, []resources.Address{line.Address}
	p := f.plan(whole, line, reader)
	if c := p.Items[1].Change; c.Action != resources.None || !seen.upstreams[line.Address].Pending {
		t.Errorf("the line is to %s, and is pending: %v; want none, and pending", c.Action, seen.upstreams[line.Address].Pending)
	}
	f.engine.Apply(t.Context(), p)
	f.plan(whole, line, reader)
	if seen.upstreams[line.Address].Pending {
		t.Error("it is still pending once it is so")
	}
}

// seesUpstreams is a stub that keeps what it was shown.
type seesUpstreams struct {
	stub
	upstreams map[resources.Address]resources.Upstream
}

func (s *seesUpstreams) Read(ctx context.Context, env resources.ReadEnv) (resources.State, error) {
	s.upstreams = env.Upstreams
	return s.stub.Read(ctx, env)
}

// TestFollowsAConfigurationThatChangesNothing: what restarts because a block is written otherwise, though nothing on the host
// differs by it, is no drift.
func TestFollowsAConfigurationThatChangesNothing(t *testing.T) {
	f := newFixture(t)
	up, down := node("up", &stub{path: "/etc/up", line: "x"}), node("down", &stub{path: "/etc/down", line: "x"}, "up")
	f.run(up, down)
	f.reopen()
	up.Config = "written otherwise"
	f.files.Remove("/etc/down")
	if it := f.plan(up, down).Items[1]; !it.Follows {
		t.Error("it does not follow")
	}
}

// TestLaw1AnEmptiedFileHasNotMoved: what one resource leaves empty is the same for the next, planned or real.
func TestLaw1AnEmptiedFileHasNotMoved(t *testing.T) {
	f := newFixture(t)
	f.files.Put("/etc/env", host.File{Content: []byte("A=1\n"), Mode: 0o644})
	removed := map[string]cty.Value{"path": cty.StringVal("/etc/env"), "ensure": cty.StringVal("absent")}
	nodes := []resources.Node{f.envFile("a", nil, cty.StringVal("A")), f.real(file.Kind(), "gone", removed)}
	r := f.engine.Apply(t.Context(), f.plan(nodes...))
	if n := r.Count(plans.Changed); n != 2 {
		t.Errorf("%d changed: %v, %v", n, r.Results[0].Err, r.Results[1].Err)
	}
}
