package plans_test

import (
	"context"
	"errors"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/converge-agent/converge/host"
	"github.com/converge-agent/converge/host/hosttest"
	"github.com/converge-agent/converge/plans"
	"github.com/converge-agent/converge/resources"
)

var noon = time.Date(2026, 11, 21, 12, 0, 0, 0, time.UTC)

func TestDisabledIsKept(t *testing.T) {
	f := newFixture(t)
	read := func(now time.Time) *plans.Disabled {
		t.Helper()
		d, err := plans.DisabledAt(f.files, "/var/converge", now)
		if err != nil {
			t.Fatal(err)
		}
		return d
	}
	disable := func(until time.Time) {
		t.Helper()
		if err := plans.Disable(f.files, hosttest.Users{}, "/var/converge", "why", noon, until); err != nil {
			t.Fatal(err)
		}
	}
	if d := read(noon); d != nil {
		t.Errorf("disabled from the start: %s", d)
	}
	disable(noon.Add(time.Hour))
	if d := read(noon.Add(time.Minute)); d == nil || d.String() != "disabled (why) until 2026-11-21 13:00 UTC" || !d.Since.Equal(noon) {
		t.Errorf("got %v", d)
	}
	if d := read(noon.Add(time.Hour)); d != nil {
		t.Errorf("after its time: %s", d)
	}
	if was, err := plans.Enable(f.files, "/var/converge", noon.Add(time.Hour)); was != nil || err != nil {
		t.Errorf("what was over was still disabled: %v, %v", was, err)
	}
	disable(time.Time{})
	if d := read(noon.Add(1e6 * time.Hour)); d == nil || d.String() != "disabled (why) until converge enable" {
		t.Errorf("got %v", d)
	}
	if file, _ := f.files.Lookup("/var/converge/disabled.json"); file == nil || file.Mode != 0o600 {
		t.Errorf("the file is %+v", file)
	}
	if was, err := plans.Enable(f.files, "/var/converge", noon); was == nil || err != nil || read(noon) != nil {
		t.Errorf("not enabled: %v, %v", was, err)
	}
}

func TestDisabledRefusesWhatItCannotRead(t *testing.T) {
	f := newFixture(t)
	f.files.Put("/var/converge", host.File{Type: host.Directory, Mode: 0o700})
	for text, want := range map[string]string{`{"version":2}`: "format version 2", `{`: "damaged"} {
		f.files.Put("/var/converge/disabled.json", host.File{Content: []byte(text), Mode: 0o600})
		if _, err := plans.DisabledAt(f.files, "/var/converge", noon); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v", text, err)
		}
		if _, err := plans.Enable(f.files, "/var/converge", noon); err != nil {
			t.Errorf("enable with %s: %v", text, err)
		}
	}
}

// certificate is a stub that renews itself, with another change besides where more says so.
type certificate struct {
	stub
	more bool
}

func (c *certificate) Diff(st resources.State) resources.Change {
	d := c.stub.Diff(st)
	if d.Action == resources.None {
		if c.more {
			d.Action = resources.Update
			d.Effects = []resources.Effect{{Verb: "stop", Target: "the world"}}
		}
		return d
	}
	renewal := d
	d.Renewal = &renewal
	if c.more {
		d.Effects = []resources.Effect{{Verb: "stop", Target: "the world"}}
	}
	return d
}

// reloader is a stub that reloads when what it needs was changed.
type reloader struct {
	need     resources.Address
	verb     string
	reloaded string
}

func (r *reloader) Claims() []resources.Claim { return nil }
func (r *reloader) Watches() []string         { return nil }

func (r *reloader) Read(_ context.Context, env resources.ReadEnv) (resources.State, error) {
	return env.Upstreams[r.need].Digest, nil
}

func (r *reloader) Diff(st resources.State) resources.Change {
	if digest := st.(string); digest == "" || digest == r.reloaded {
		return resources.Change{}
	}
	return resources.Change{Action: resources.Update, Effects: []resources.Effect{{Verb: r.verb, Target: "unit"}}}
}

func (r *reloader) Apply(_ context.Context, env resources.Env, _ resources.Change) error {
	r.reloaded = env.Upstreams[r.need].Digest
	return nil
}

// reloading is a resource that always has something to reload.
type reloading struct{ reloader }

func (r *reloading) Diff(resources.State) resources.Change {
	return resources.Change{Action: resources.Update, Effects: []resources.Effect{{Verb: "reload", Target: "unit"}}}
}

// TestDisabledHoldsAllButRenewals: certificates are renewed, those that only reload for that do, and nothing else is done.
func TestDisabledHoldsAllButRenewals(t *testing.T) {
	for name, tc := range map[string]struct {
		more bool
		verb string
		want []string
	}{
		"a reload follows":             {false, "reload", []string{"cert changed", "unit changed"}},
		"a restart is more":            {false, "restart", []string{"cert changed", "unit held"}},
		"the rest of a change is held": {true, "reload", []string{"cert changed", "unit changed"}},
	} {
		t.Run(name, func(t *testing.T) {
			f := newFixture(t)
			cert, unit := node("cert", nil), node("unit", nil, "cert")
			cert.Resource = &certificate{stub{path: "/etc/cert", line: "new"}, tc.more}
			unit.Resource = &reloader{need: addr("cert"), verb: tc.verb}
			bystander := node("bystander", nil, "fine")
			bystander.Resource = &reloading{}
			p := f.plan(cert, unit,
				bystander, node("file", &stub{path: "/etc/f", line: "x"}),
				node("fine", &stub{path: "/etc/g", action: resources.None, line: ""}),
				node("blind", &stub{path: "/etc/h", line: "x", readFail: errors.New("no")}),
				node("check", &stub{path: "/etc/i", line: "x", action: resources.Check}),
				resources.Node{Address: addr("secretless"), Kind: stubKind, Err: errors.New("no"), Where: "x.hcl:1"},
			)
			p.Disable(&plans.Disabled{Why: "why", Since: noon})
			want := append(slices.Clone(tc.want), "bystander held", "file held", "fine unchanged", "blind held", "check held", "secretless held")
			var got []string
			for _, r := range f.engine.Apply(t.Context(), p).Results {
				got = append(got, r.Item.Node.Address.Name+" "+r.Outcome.String())
				if r.Outcome == plans.Held && r.Message != "disabled (why) until converge enable" {
					t.Errorf("%s: %q", r.Item.Node.Address, r.Message)
				}
			}
			f.want(got, want...)
			if f.text("/etc/cert") != "new\n" || f.text("/etc/f") != "" {
				t.Errorf("cert %q, file %q", f.text("/etc/cert"), f.text("/etc/f"))
			}
		})
	}
}

// TestDisabledRenewsNothingUnseen: what has become due since the plan waits for the next run.
func TestDisabledRenewsNothingUnseen(t *testing.T) {
	f := newFixture(t)
	f.files.Put("/etc/cert", host.File{Content: []byte("new\n"), Mode: 0o644})
	n := node("cert", nil)
	n.Resource = &certificate{stub: stub{path: "/etc/cert", line: "new"}}
	p := f.plan(n)
	p.Disable(&plans.Disabled{Why: "why", Since: noon})
	f.files.Put("/etc/cert", host.File{Content: []byte("old\n"), Mode: 0o644})
	if r := f.engine.Apply(t.Context(), p).Results[0]; r.Outcome != plans.Held {
		t.Errorf("got %s", r.Outcome)
	}
}
