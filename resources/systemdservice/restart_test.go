package systemdservice

import (
	"context"
	"encoding/json"
	"errors"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/converge-agent/converge/host"
	"github.com/converge-agent/converge/host/hosttest"
	"github.com/converge-agent/converge/resources"
	"github.com/converge-agent/converge/resources/resourcetest"
	"github.com/zclconf/go-cty/cty"
)

var quick = patience{job: time.Minute, poll: time.Millisecond, settle: 3 * time.Millisecond, limit: 50 * time.Millisecond}

const unit = "web.service"

var (
	env   = resources.Address{Kind: "env_file", Name: "mastodon"}
	other = resources.Address{Kind: "file", Name: "other"}
)

// lab is one unit on a host in memory.
type lab struct {
	t       *testing.T
	clock   *hosttest.Clock
	units   *hosttest.Units
	files   files
	ups     map[resources.Address]resources.Upstream
	records records
	config  map[string]cty.Value
}

// files are the ctimes of paths.
type files map[string]time.Time

func (f files) Lookup(path string) (*host.File, error) {
	at, ok := f[path]
	if !ok {
		return nil, nil
	}
	if at.IsZero() {
		return nil, errors.New("unreadable")
	}
	return &host.File{ChangedAt: at}, nil
}

func (f files) List(path string) ([]string, error) {
	if path == "/etc/systemd/system" {
		return []string{"mastodon-web.service", "nginx.service", "nginx.socket"}, nil
	}
	return nil, errors.New("unreadable")
}

type records map[string]json.RawMessage

func (records) Keyed(text string) string { return text }

func (r records) Record(name string, v any) (bool, error) {
	raw, ok := r[name]
	if !ok {
		return false, nil
	}
	return true, json.Unmarshal(raw, v)
}

func newLab(t *testing.T, u host.Unit, config map[string]cty.Value) *lab {
	clock := hosttest.NewClock(time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC))
	if u.Name == "" {
		u.Name = unit
	}
	if config["name"] == cty.NilVal {
		config["name"] = cty.StringVal("web")
	}
	l := &lab{t: t, clock: clock, units: hosttest.NewUnits(clock, u), files: files{}, records: records{}, config: config,
		ups: map[resources.Address]resources.Upstream{}}
	clock.Advance(time.Minute)
	return l
}

// watching adds the reference and the file that it watches, which changed long before the unit started.
func (l *lab) watching(attr string, addr resources.Address) *lab {
	l.config[attr] = cty.ListVal([]cty.Value{resources.Reference(addr, cty.EmptyObjectVal)})
	path := "/etc/" + addr.Name
	l.files[path] = l.clock.Now().Add(-time.Hour)
	l.ups[addr] = resources.Upstream{Paths: []string{path}, Digest: "old"}
	return l
}

// edited is the content of addr having become digest, just now.
func (l *lab) edited(addr resources.Address, digest string) {
	l.clock.Advance(time.Second)
	l.files["/etc/"+addr.Name] = l.clock.Now()
	l.ups[addr] = resources.Upstream{Paths: []string{"/etc/" + addr.Name}, Digest: digest}
	l.clock.Advance(time.Second)
}

// make returns the resource as a new run of converge would.
func (l *lab) make() *service {
	l.t.Helper()
	k := kind(quick)
	config, errs := k.Complete(cty.ObjectVal(l.config))
	for _, err := range errs {
		l.t.Fatal(err)
	}
	r, _, err := k.New(resources.Address{Kind: k.Name, Name: "web"}, config)
	if err != nil {
		l.t.Fatal(err)
	}
	return r.(*service)
}

func (l *lab) env() resources.Env {
	read := resources.ReadEnv{Files: l.files, Disk: l.files, Units: l.units, Clock: l.clock, Records: l.records, Upstreams: l.ups}
	return resources.Env{ReadEnv: read, Units: l.units}
}

func (l *lab) plan(s *service) resources.Change {
	l.t.Helper()
	st, err := s.Read(l.t.Context(), l.env().ReadEnv)
	if err != nil {
		l.t.Fatal(err)
	}
	return s.Diff(st)
}

// run is one run of converge: read, apply, prove, remember. It returns what was done.
func (l *lab) run() []string {
	l.t.Helper()
	s := l.make()
	c := l.plan(s)
	if c.Action != resources.None {
		if err := s.Apply(l.t.Context(), l.env(), c); err != nil {
			l.t.Fatal(err)
		}
		proof := l.plan(s)
		if proof.Action != resources.None {
			l.t.Fatalf("after %v it is not converged: %v", verbs(c), proof.Effects)
		}
		l.remember(proof)
		return verbs(c)
	}
	l.remember(c)
	return verbs(c)
}

func (l *lab) remember(c resources.Change) {
	for name, v := range c.Remember {
		raw, err := json.Marshal(v)
		if err != nil {
			l.t.Fatal(err)
		}
		l.records[name] = raw
	}
}

func verbs(c resources.Change) []string {
	var v []string
	for _, e := range c.Effects {
		v = append(v, e.Verb)
	}
	return v
}

func (l *lab) want(what string, got []string, want ...string) {
	l.t.Helper()
	if !slices.Equal(got, want) {
		l.t.Errorf("%s: did %v, want %v", what, got, want)
	}
}

// TestConformance runs the suite that every kind passes.
func TestConformance(t *testing.T) {
	put := func(h *resourcetest.Host, state string) {
		h.Units.Put(host.Unit{Name: unit, Active: state, CanReload: true})
	}
	stop := func(h *resourcetest.Host) { put(h, "inactive") }
	cases := map[string]resourcetest.Case{
		"starts and enables": {
			Config: map[string]cty.Value{"name": cty.StringVal("web"), "enabled": cty.True},
			Setup:  stop,
			Drift: map[string]func(*resourcetest.Host){
				"stopped": stop,
				"disabled": func(h *resourcetest.Host) {
					h.Units.Put(host.Unit{Name: unit, Active: "active", FileState: "disabled"})
				},
			},
		},
		"restarts": {
			Config: map[string]cty.Value{"name": cty.StringVal("web"), "restart_on": cty.ListVal([]cty.Value{resources.Reference(env, cty.EmptyObjectVal)})},
			Setup: func(h *resourcetest.Host) {
				h.Files.Clock = h.Clock
				put(h, "active")
				h.Clock.Advance(time.Minute)
				h.Files.Put("/etc/mastodon", host.File{Content: []byte("A=1"), Mode: 0o600})
				h.Upstreams = map[resources.Address]resources.Upstream{env: {Paths: []string{"/etc/mastodon"}, Digest: "one"}}
			},
			Drift: map[string]func(*resourcetest.Host){
				"edited": func(h *resourcetest.Host) {
					h.Clock.Advance(time.Minute)
					h.Files.Put("/etc/mastodon", host.File{Content: []byte("A=2"), Mode: 0o600})
					h.Upstreams[env] = resources.Upstream{Paths: []string{"/etc/mastodon"}, Digest: "two"}
				},
			},
		},
		"stops and masks": {
			Config: map[string]cty.Value{"name": cty.StringVal("web"), "masked": cty.True},
			Setup:  func(h *resourcetest.Host) { put(h, "active") },
			Drift: map[string]func(*resourcetest.Host){
				"started": func(h *resourcetest.Host) { put(h, "active") },
			},
		},
	}
	for name, c := range cases {
		t.Run(name, func(t *testing.T) {
			c.Kind = kind(quick)
			resourcetest.Run(t, c)
		})
	}
}

func TestRestartsExactlyAsOwed(t *testing.T) {
	up := func() host.Unit { return host.Unit{Active: "active", Sub: "running", CanReload: true} }
	cases := map[string]func(l *lab){
		"nothing is owed for what is older than the start": func(l *lab) {
			l.want("first run", l.run())
		},
		"a change is owed once": func(l *lab) {
			l.run()
			l.edited(env, "new")
			l.want("after the change", l.run(), "restart")
			l.want("and again", l.run())
		},
		"a change is owed without records too": func(l *lab) {
			l.edited(env, "new")
			l.want("after the change", l.run(), "restart")
			l.want("and again", l.run())
		},
		"lost records cost nothing when the start is later": func(l *lab) {
			l.edited(env, "new")
			l.run()
			clear(l.records)
			l.want("without records", l.run())
		},
		"a restart by hand settles the debt": func(l *lab) {
			l.run()
			l.edited(env, "new")
			l.byHand((*hosttest.Units).Restart)
			l.want("after it", l.run())
		},
		"keys that are not managed are not ours": func(l *lab) {
			l.run()
			l.edited(env, "old")
			l.want("after the edit", l.run())
			notes := l.plan(l.make()).Notes
			if len(notes) != 1 || !strings.Contains(notes[0], "stale, not ours: /etc/mastodon was edited after web.service started") {
				l.t.Errorf("notes = %q", notes)
			}
		},
		"an edit that the unit never read and that was healed owes nothing": func(l *lab) {
			l.run()
			l.edited(env, "edited")
			l.edited(env, "old")
			l.want("after the heal", l.run())
		},
		"an edit that the unit read and that was healed is owed": func(l *lab) {
			l.run()
			l.edited(env, "edited")
			l.byHand((*hosttest.Units).Restart)
			l.edited(env, "old")
			l.want("after the heal", l.run(), "restart")
		},
		"an edit that the unit read on a reload by hand and that was healed is owed": func(l *lab) {
			l.run()
			l.edited(env, "edited")
			l.byHand(reloadObserved(l))
			l.edited(env, "old")
			l.want("after the heal", l.run(), "restart")
		},
		"two changes cost one restart": func(l *lab) {
			l.watching("restart_on", other)
			l.config["restart_on"] = cty.ListVal([]cty.Value{resources.Reference(env, cty.EmptyObjectVal), resources.Reference(other, cty.EmptyObjectVal)})
			l.run()
			l.edited(env, "new")
			l.edited(other, "new")
			c := l.plan(l.make())
			if len(c.Effects) != 1 || c.Effects[0].Why != "env_file.mastodon, file.other changed" {
				l.t.Errorf("effects = %+v", c.Effects)
			}
			l.want("after both", l.run(), "restart")
			l.want("and again", l.run())
		},
		"a restart makes a reload unnecessary": func(l *lab) {
			l.watching("reload_on", other)
			l.run()
			l.edited(env, "new")
			l.edited(other, "new")
			l.want("after both", l.run(), "restart")
			l.want("and again", l.run())
		},
		"a reload is owed once": func(l *lab) {
			l.watching("reload_on", other)
			l.run()
			l.edited(other, "new")
			l.want("after the change", l.run(), "reload")
			l.want("and again", l.run())
		},
		"a reload by hand settles the debt": func(l *lab) {
			l.watching("reload_on", other)
			l.run()
			l.edited(other, "new")
			l.byHand(reloadObserved(l))
			l.want("after it", l.run())
		},
		"a restart by hand settles the reload": func(l *lab) {
			l.watching("reload_on", other)
			l.run()
			l.edited(other, "new")
			l.byHand((*hosttest.Units).Restart)
			l.want("after it", l.run())
		},
		"a pending upstream is planned for": func(l *lab) {
			l.run()
			l.ups[env] = resources.Upstream{Paths: []string{"/etc/mastodon"}, Digest: "new", Pending: true}
			l.want("planned", verbs(l.plan(l.make())), "restart")
		},
		"a pending upstream of unknown bytes is planned for": func(l *lab) {
			l.run()
			l.ups[env] = resources.Upstream{Paths: []string{"/etc/mastodon"}, Pending: true}
			l.want("planned", verbs(l.plan(l.make())), "restart")
		},
		"an upstream that failed owes nothing, and is not forgotten": func(l *lab) {
			l.run()
			l.edited(env, "old") // so that only the record settles it
			seen := l.ups[env]
			delete(l.ups, env)
			l.want("while it is gone", l.run())
			l.ups[env] = seen
			l.want("when it is back", l.run())
		},
		"an unreadable path is settled by its digest alone": func(l *lab) {
			l.run()
			l.files["/etc/mastodon"] = time.Time{}
			l.want("known", l.run())
			clear(l.records)
			l.want("unknown", l.run(), "restart")
		},
		"a path that went is as new as its directory": func(l *lab) {
			l.files["/etc"] = l.clock.Now()
			l.clock.Advance(time.Second)
			l.ups[env] = resources.Upstream{Paths: []string{"/etc/mastodon"}, Digest: "gone"}
			delete(l.files, "/etc/mastodon")
			l.want("after it went", l.run(), "restart")
			clear(l.records)
			l.want("and again, without records", l.run())
		},
		"what has no content owes nothing": func(l *lab) {
			l.ups[env] = resources.Upstream{Pending: true}
			l.want("pending", l.run())
			l.ups[env] = resources.Upstream{}
			l.want("done", l.run())
		},
		"a crash that systemd mended owes what changed since": func(l *lab) {
			l.run()
			l.edited(env, "new")
			l.byHand(func(u *hosttest.Units, ctx context.Context, name string) error {
				return errors.Join(u.Stop(ctx, name), u.Start(ctx, name))
			})
			l.want("started after the change", l.run())
		},
		"a clock that was set back costs one restart and not more": func(l *lab) {
			l.run()
			l.clock.Step(l.clock.Now().Add(-24 * time.Hour))
			l.edited(env, "new")
			l.want("after the change", l.run(), "restart")
			l.want("and again", l.run())
		},
	}
	for name, do := range cases {
		t.Run(name, func(t *testing.T) {
			do(newLab(t, up(), map[string]cty.Value{}).watching("restart_on", env))
		})
	}
}

// TestAChangeWhileItIsStarting: a start would join the one that began before the change, and what it reads would be taken
// for read.
func TestAChangeWhileItIsStarting(t *testing.T) {
	l := newLab(t, host.Unit{}, map[string]cty.Value{}).watching("restart_on", env)
	l.want("first run", l.run(), "start")
	l.byHand((*hosttest.Units).Restart)
	u, err := l.units.Unit(t.Context(), unit)
	if err != nil {
		t.Fatal(err)
	}
	u.Active, u.Sub = "activating", "start"
	l.units.Put(u)
	l.want("a start under way, nothing changed", verbs(l.plan(l.make())), "start")
	l.edited(env, "new")
	l.want("a start under way, then a change", l.run(), "restart")
	l.want("afterwards", l.run())
}

func (l *lab) byHand(do func(*hosttest.Units, context.Context, string) error) {
	l.t.Helper()
	if err := do(l.units, l.t.Context(), unit); err != nil {
		l.t.Fatal(err)
	}
	l.clock.Advance(time.Second)
}

// reloadObserved is a reload by hand that systemd keeps the time of.
func reloadObserved(l *lab) func(*hosttest.Units, context.Context, string) error {
	return func(u *hosttest.Units, ctx context.Context, name string) error {
		now, err := u.Unit(ctx, name)
		now.ReloadedAt, now.ReloadedBoot = l.clock.Now(), l.clock.SinceBoot()
		u.Put(now)
		return err
	}
}

// TestMetricOfWhatIsOwed: who watches the host is told of a unit that has not read what changed, and of no unit that reads nothing.
func TestMetricOfWhatIsOwed(t *testing.T) {
	l := newLab(t, host.Unit{Active: "active", Sub: "running"}, map[string]cty.Value{})
	if c := l.plan(l.make()); len(c.Metrics) > 0 {
		t.Errorf("without restart_on: %+v", c.Metrics)
	}
	l.watching("restart_on", env)
	owed := func(want float64) {
		t.Helper()
		c := l.plan(l.make())
		if len(c.Metrics) != 1 || c.Metrics[0].Name != "converge_owed_restarts" || c.Metrics[0].Value != want {
			t.Errorf("metrics are %+v, want converge_owed_restarts %v", c.Metrics, want)
		}
	}
	owed(0)
	l.clock.Advance(time.Second)
	l.files["/etc/"+env.Name] = l.clock.Now()
	owed(1)
}

// TestLaw1WhatOthersWriteLaterOwesNothing: a directory that is watched, or a file of which others edit another part, changes
// within the run by what others do. Without a record only the time tells, and by that an apply would restart what no plan said.
func TestLaw1WhatOthersWriteLaterOwesNothing(t *testing.T) {
	l := newLab(t, host.Unit{Active: "active", Sub: "running"}, map[string]cty.Value{}).watching("restart_on", env).watching("restart_on", other)
	l.config["restart_on"] = cty.TupleVal([]cty.Value{resources.Reference(env, cty.EmptyObjectVal), resources.Reference(other, cty.EmptyObjectVal)})
	s := l.make()
	l.ups[other] = resources.Upstream{Paths: l.ups[env].Paths, Digest: "old", Pending: true} // edits the same file in this run
	if c := l.plan(s); len(c.Effects) != 1 || !strings.HasPrefix(c.Effects[0].Why, other.String()+" ") {
		t.Fatalf("planned is %+v, want a restart for %s alone", c.Effects, other)
	}
	l.clock.Advance(time.Second)
	l.files["/etc/"+env.Name] = l.clock.Now()
	l.ups[other] = resources.Upstream{Paths: l.ups[env].Paths, Digest: "new"}
	if c := l.plan(s); len(c.Effects) != 1 || !strings.HasPrefix(c.Effects[0].Why, other.String()+" ") {
		t.Errorf("due is %+v, want the restart for %s alone", c.Effects, other)
	}
	if c := l.plan(l.make()); len(c.Effects) != 1 || !strings.HasPrefix(c.Effects[0].Why, env.String()+", ") {
		t.Errorf("a run that was killed in between leaves %+v to the next; want a restart for both", c.Effects)
	}
}
