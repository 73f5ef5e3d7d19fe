package plans_test

import (
	"errors"
	"slices"
	"testing"

	"github.com/converge-agent/converge/host"
	"github.com/converge-agent/converge/plans"
	"github.com/converge-agent/converge/resources"
)

// numbered is a journal that only gives a number to what left.
type numbered struct{ left [][]string }

func (n *numbered) Start(*plans.Item, resources.Change) (plans.Entry, error) { return ended{}, nil }

func (n *numbered) Left(addresses []string) (int, error) {
	n.left = append(n.left, addresses)
	return len(n.left) + 6, nil
}

type ended struct{}

func (ended) Files(files host.Files) host.Files { return files }
func (ended) End(plans.Result) error            { return nil }

// leaving is a node of a kind that declares attributes, as all but stubs do.
func leaving(name string, change func(*resources.Node)) resources.Node {
	n := node(name, &stub{path: "/etc/" + name, line: name})
	n.Kind = &resources.Kind{Name: "stub", Attrs: []resources.Attr{{Name: "path"}}}
	if change != nil {
		change(&n)
	}
	return n
}

func lines(left []plans.Orphan) []string {
	var out []string
	for _, o := range left {
		out = append(out, o.String())
	}
	return out
}

func TestLaw1WhatLeavesIsTold(t *testing.T) {
	indexed := func(key string) resources.Node {
		return leaving("each", func(n *resources.Node) {
			n.Address.Index = `["` + key + `"]`
			n.Resource = &stub{path: "/etc/each-" + key, line: key}
		})
	}
	kind := func(change func(*resources.Kind)) func(*resources.Node) {
		return func(n *resources.Node) { k := *n.Kind; change(&k); n.Kind = &k }
	}
	stays := leaving("stays", nil)
	cases := map[string]struct {
		gone  []resources.Node
		after []resources.Node
		make  func(*fixture)
		want  []string
	}{
		"its block is deleted":  {gone: []resources.Node{leaving("a", nil)}, want: []string{"stub.a leaves the configuration, stays on the host"}},
		"a key of its for_each": {gone: []resources.Node{indexed("x")}, after: []resources.Node{indexed("y")}, want: []string{`stub.each["x"] leaves the configuration, stays on the host`}},
		"its for_each cannot be evaluated": {gone: []resources.Node{indexed("x")}, after: []resources.Node{
			leaving("each", func(n *resources.Node) { n.Resource, n.Err = nil, errors.New("a secret is missing") })}},
		"it was absent":     {gone: []resources.Node{leaving("a", func(n *resources.Node) { n.Absent = true })}},
		"it leaves nothing": {gone: []resources.Node{leaving("a", kind(func(k *resources.Kind) { k.LeavesNothing = true }))}},
		"it is shared": {gone: []resources.Node{leaving("a", kind(func(k *resources.Kind) { k.Scope = resources.Instance }))},
			want: []string{"stub.a leaves the configuration, stays there"}},
		"it is still written": {gone: []resources.Node{leaving("a", nil)},
			make: func(f *fixture) { f.engine.Written = func(a string) bool { return a == "stub.a" } }},
		"it was removed by hand": {gone: []resources.Node{leaving("a", nil)}, make: func(f *fixture) { f.files.Remove("/etc/a") }},
	}
	for name, c := range cases {
		t.Run(name, func(t *testing.T) {
			f := newFixture(t)
			f.run(append(c.gone, stays)...)
			f.reopen()
			if c.make != nil {
				c.make(f)
			}
			if got := lines(f.plan(append(c.after, stays)...).Left); !slices.Equal(got, c.want) {
				t.Errorf("left = %q, want %q", got, c.want)
			}
		})
	}
}

func TestWhatLeftIsNotedByOneRun(t *testing.T) {
	f := newFixture(t)
	journal := &numbered{}
	apply := func(nodes ...resources.Node) []string {
		f.reopen()
		f.engine.Journal = journal
		p := f.plan(nodes...)
		told := lines(p.Left)
		f.engine.Apply(t.Context(), p)
		return told
	}
	a, b := leaving("a", nil), leaving("b", nil)
	apply(a, b)
	if got := apply(b); !slices.Equal(got, []string{"stub.a leaves the configuration, stays on the host"}) {
		t.Errorf("the run that notices: %q", got)
	}
	writes := len(f.files.Writes())
	if got := apply(b); !slices.Equal(got, []string{"stub.a left the configuration (run 7), still on the host"}) {
		t.Errorf("the run after: %q", got)
	}
	if now := len(f.files.Writes()); now != writes {
		t.Errorf("an unchanged run wrote %q", f.files.Writes()[writes:])
	}
	if got := apply(a, b); got != nil {
		t.Errorf("what came back: %q", got)
	}
	if got := apply(b); !slices.Equal(got, []string{"stub.a leaves the configuration, stays on the host"}) {
		t.Errorf("what leaves again: %q", got)
	}
	if want := [][]string{{"stub.a"}, {"stub.a"}}; len(journal.left) != 2 || !slices.Equal(journal.left[1], want[1]) {
		t.Errorf("noted %q", journal.left)
	}
}
