package resourcetest_test

import (
	"context"
	"strings"
	"testing"

	"github.com/converge-agent/converge/host"
	"github.com/converge-agent/converge/resources"
	"github.com/converge-agent/converge/resources/resourcetest"
	"github.com/zclconf/go-cty/cty"
)

const planted = "hunter2-planted"

// note is a small, right kind: a file with a secret line. Each fault breaks it in one way.
type note struct {
	path, content string
	absent        bool
	fault         fault
}

type fault struct {
	planWrites, neverEmpty, torn, leaks, deaf, stays bool
}

func (n *note) Claims() []resources.Claim { return []resources.Claim{{Path: n.path, Own: true}} }
func (n *note) Watches() []string         { return []string{n.path} }

func (n *note) Read(ctx context.Context, env resources.ReadEnv) (resources.State, error) {
	f, err := env.Files.Lookup(n.path)
	if err != nil {
		return nil, err
	}
	if n.fault.planWrites {
		// What no type can prevent: a kind that keeps a writing handle and uses it to plan.
		files := env.Files.(host.Files)
		return f, files.Commit(ctx, host.Edit{Path: n.path + ".seen", After: &host.File{Mode: 0o600}})
	}
	return f, nil
}

func (n *note) Diff(s resources.State) resources.Change {
	before, _ := s.(*host.File)
	after := &host.File{Content: []byte(n.content), Mode: 0o600}
	if n.fault.neverEmpty && before != nil {
		after.Mode = before.Mode ^ 0o100
	}
	if n.absent {
		after = nil
	}
	if n.absent && n.fault.stays {
		return resources.Change{Action: resources.Delete, Summary: "removed"}
	}
	edit := host.Edit{Path: n.path, Before: before, After: after, Private: true}
	c := resources.Change{Action: resources.EditAction(edit), Summary: "a note"}
	if n.fault.leaks {
		c.Summary = "a note that says " + n.content
	}
	if !edit.Empty() {
		c.Edits = []host.Edit{edit}
	}
	return c
}

func (n *note) Apply(ctx context.Context, env resources.Env, c resources.Change) error {
	if n.fault.deaf {
		ctx = context.WithoutCancel(ctx)
	}
	if !n.fault.torn || n.absent {
		return resources.CommitAll(ctx, env, c)
	}
	half := c.Edits[0]
	whole := *half.After
	half.After = &host.File{Content: whole.Content[:len(whole.Content)/2], Mode: whole.Mode}
	if err := env.Files.Commit(ctx, half); err != nil {
		return err
	}
	return env.Files.Commit(ctx, host.Edit{Path: half.Path, Before: half.After, After: &whole})
}

func caseOf(f fault) resourcetest.Case {
	kind := &resources.Kind{
		Name: "note", Doc: "A note.",
		Attrs: []resources.Attr{
			{Name: "path", Doc: "Where.", Type: cty.String, Required: true, Format: resources.Path},
			{Name: "content", Doc: "What.", Type: cty.String, Required: true, Secret: true},
			resources.EnsureAttr(),
		},
		New: func(_ resources.Address, config cty.Value) (resources.Resource, cty.Value, error) {
			n := &note{path: config.GetAttr("path").AsString(), content: config.GetAttr("content").AsString(), fault: f}
			n.absent = config.GetAttr("ensure").AsString() == resources.Absent
			return n, cty.EmptyObjectVal, nil
		},
	}
	return resourcetest.Case{
		Kind:    kind,
		Config:  map[string]cty.Value{"path": cty.StringVal("/etc/note"), "content": cty.StringVal("password: " + planted + "\n")},
		Secrets: []string{planted},
		Drift: map[string]func(*resourcetest.Host){
			"mode": func(h *resourcetest.Host) {
				f, _ := h.Files.Lookup("/etc/note")
				f.Mode = 0o644
				h.Files.Put("/etc/note", *f)
			},
		},
	}
}

func TestRightKindPasses(t *testing.T) {
	resourcetest.Run(t, caseOf(fault{}))
}

// TestBrokenKindsFail proves that the suite can fail: each kind is broken on purpose, and must be found out by its rule.
func TestBrokenKindsFail(t *testing.T) {
	for name, tc := range map[string]struct {
		fault fault
		rule  string
	}{
		"plan that writes":           {fault{planWrites: true}, "plan only reads"},
		"diff that never ends empty": {fault{neverEmpty: true}, "converges"},
		"torn write":                 {fault{torn: true}, "whole files"},
		"leaked secret":              {fault{leaks: true}, "keeps secrets"},
		"ignored cancellation":       {fault{deaf: true}, "honours cancellation"},
		"removal that removes not":   {fault{stays: true}, "goes away"},
	} {
		t.Run(name, func(t *testing.T) {
			findings := resourcetest.Check(t.Context(), caseOf(tc.fault))
			for _, f := range findings {
				if strings.HasPrefix(f, tc.rule) {
					return
				}
			}
			t.Errorf("no finding of the rule %q; got %q", tc.rule, findings)
		})
	}
}
