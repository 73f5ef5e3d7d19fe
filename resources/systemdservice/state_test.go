package systemdservice

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/converge-agent/converge/diag"
	"github.com/converge-agent/converge/host"
	"github.com/converge-agent/converge/host/hosttest"
	"github.com/converge-agent/converge/resources"
	"github.com/google/go-cmp/cmp"
	"github.com/zclconf/go-cty/cty"
)

func TestStates(t *testing.T) {
	yes, no := cty.True, cty.False
	cases := map[string]struct {
		unit   host.Unit
		config map[string]cty.Value
		want   []string
	}{
		"starts what does not run":     {host.Unit{}, nil, []string{"start"}},
		"starts what failed":           {host.Unit{Active: "failed", Result: "exit-code"}, nil, []string{"start"}},
		"leaves what runs":             {host.Unit{Active: "active"}, nil, nil},
		"leaves what reloads":          {host.Unit{Active: "reloading"}, nil, nil},
		"stops":                        {host.Unit{Active: "active"}, map[string]cty.Value{"running": no}, []string{"stop"}},
		"leaves what failed":           {host.Unit{Active: "failed"}, map[string]cty.Value{"running": no}, nil},
		"enables, then starts":         {host.Unit{}, map[string]cty.Value{"enabled": yes}, []string{"enable", "start"}},
		"disables and leaves running":  {host.Unit{Active: "active", FileState: "enabled"}, map[string]cty.Value{"enabled": no}, []string{"disable"}},
		"does not manage enabled":      {host.Unit{Active: "active", FileState: "enabled"}, nil, nil},
		"static is not enabled":        {host.Unit{Active: "active", FileState: "static"}, map[string]cty.Value{"enabled": no}, nil},
		"enables for good":             {host.Unit{Active: "active", FileState: "enabled-runtime"}, map[string]cty.Value{"enabled": yes}, []string{"enable"}},
		"stops, then masks":            {host.Unit{Active: "active"}, map[string]cty.Value{"masked": yes}, []string{"stop", "mask"}},
		"masked stays":                 {host.Unit{Load: "masked", FileState: "masked"}, map[string]cty.Value{"masked": yes}, nil},
		"unmasks, then starts":         {host.Unit{Load: "masked", FileState: "masked"}, map[string]cty.Value{"masked": no}, []string{"unmask", "start"}},
		"absent":                       {host.Unit{Active: "active", FileState: "enabled"}, map[string]cty.Value{"ensure": cty.StringVal("absent")}, []string{"disable", "stop"}},
		"absent and gone":              {host.Unit{Name: "another.service"}, map[string]cty.Value{"ensure": cty.StringVal("absent")}, nil},
		"leaves a oneshot that ended":  {host.Unit{Type: "oneshot", Result: "success"}, nil, nil},
		"starts a oneshot that failed": {host.Unit{Type: "oneshot", Active: "failed", Result: "exit-code"}, nil, []string{"start"}},
		"starts a oneshot that stays":  {host.Unit{Type: "oneshot", Result: "success", RemainAfterExit: true}, nil, []string{"start"}},
	}
	for name, c := range cases {
		t.Run(name, func(t *testing.T) {
			config := map[string]cty.Value{}
			for k, v := range c.config {
				config[k] = v
			}
			l := newLab(t, c.unit, config)
			l.want("first run", l.run(), c.want...)
			l.want("second run", l.run())
		})
	}
}

func TestBlocked(t *testing.T) {
	enabled := map[string]cty.Value{"enabled": cty.True}
	cases := map[string]struct {
		unit   host.Unit
		config map[string]cty.Value
		want   string
		fix    string
	}{
		"absent": {host.Unit{}, map[string]cty.Value{"name": cty.StringVal("mastodon-wbe")},
			`there is no unit mastodon-wbe.service; did you mean "mastodon-web.service"?`, "Correct the name"},
		"masked":          {host.Unit{Load: "masked"}, nil, "web.service is masked, so nobody can start it", "masked = false"},
		"bad unit file":   {host.Unit{Load: "bad-setting"}, nil, "systemd cannot load the unit file of web.service", "systemd-analyze verify"},
		"nothing enables": {host.Unit{Active: "active", FileState: "static"}, enabled, "web.service cannot be enabled", "[Install]"},
		"init script": {host.Unit{Active: "active", FileState: "generated"}, map[string]cty.Value{"enabled": cty.False},
			"web.service comes from an init script", "update-rc.d web disable"},
		"no reload": {host.Unit{Active: "active"}, map[string]cty.Value{"reload_on": cty.ListVal([]cty.Value{resources.Reference(env, cty.EmptyObjectVal)})},
			"web.service cannot reload", "restart_on"},
	}
	for name, c := range cases {
		t.Run(name, func(t *testing.T) {
			config := map[string]cty.Value{}
			for k, v := range c.config {
				config[k] = v
			}
			l := newLab(t, c.unit, config)
			got := l.plan(l.make())
			if got.Action != resources.Blocked || !strings.HasPrefix(got.Summary, c.want) || !strings.Contains(got.Notes[0], c.fix) {
				t.Errorf("change = %+v, want blocked: %s … %s", got, c.want, c.fix)
			}
			l.ups[other] = resources.Upstream{Pending: true}
			if got := l.plan(l.make()); got.Action == resources.Blocked && name != "init script" {
				t.Errorf("it is blocked though another resource may still mend it: %s", got.Summary)
			}
		})
	}
}

func TestNotUp(t *testing.T) {
	cases := map[string]struct {
		came func(verb string, u *host.Unit)
		want string
	}{
		"fails at once": {func(_ string, u *host.Unit) {
			u.Active, u.Sub, u.Result, u.ExitStatus = "failed", "failed", "exit-code", 1
		},
			"start web.service: it did not stay up: it is failed (exit-code), exit status 1"},
		"cannot be executed": {func(_ string, u *host.Unit) { u.Active, u.Result, u.ExitStatus = "failed", "exit-code", 203 },
			"start web.service: it did not stay up: it is failed (exit-code), exit status 203: its program cannot be executed"},
		"ends well at once": {func(_ string, u *host.Unit) { u.Active, u.Sub = "inactive", "dead" },
			"start web.service: it ended at once, without an error: it is inactive (dead)"},
		"is killed": {func(_ string, u *host.Unit) { u.Active, u.Result, u.ExitStatus = "failed", "signal", 9 },
			"start web.service: it did not stay up: it is failed (signal), killed by signal 9"},
		"never comes up": {func(_ string, u *host.Unit) { u.Active, u.Sub = "activating", "auto-restart" },
			"start web.service: it did not come up in time: it is activating (auto-restart)"},
	}
	for name, c := range cases {
		t.Run(name, func(t *testing.T) {
			l := newLab(t, host.Unit{}, map[string]cty.Value{})
			l.units.Came = c.came
			s := l.make()
			if !strings.Contains(name, "never") {
				s.limit = time.Hour // what is over is seen at once
			}
			ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
			defer cancel()
			err := s.Apply(ctx, l.env(), l.plan(s))
			if err == nil || err.Error() != c.want || diag.Fix(err) != "Read why with: journalctl -u web.service -n 20" {
				t.Errorf("error = %v (fix %q)\nwant    %s", err, diag.Fix(err), c.want)
			}
		})
	}
}

// restarting is a unit that its own Restart= starts anew at each look.
type restarting struct {
	*hosttest.Units
	looks uint32
}

func (r *restarting) Unit(ctx context.Context, name string) (host.Unit, error) {
	u, err := r.Units.Unit(ctx, name)
	r.looks++
	u.Restarts, u.InvocationID = r.looks, strings.Repeat("a", int(r.looks))
	return u, err
}

func TestAUnitThatKeepsFallingOverEndsTheWait(t *testing.T) {
	l := newLab(t, host.Unit{}, map[string]cty.Value{})
	s := l.make()
	s.limit = time.Hour
	e := l.env()
	c := l.plan(s)
	e.Units = &restarting{Units: l.units}
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	err := s.Apply(ctx, e, c)
	if err == nil || !strings.Contains(err.Error(), "it keeps falling over: systemd has restarted it 3 times") {
		t.Errorf("error = %v", err)
	}
}

// TestFoundUpInACrashLoop: at the moment of one look a unit that keeps falling over is up.
func TestFoundUpInACrashLoop(t *testing.T) {
	cases := map[string]struct {
		looks func(n int, u *host.Unit) // what the look of that number, from 1, finds
		want  string
	}{
		"up again by another start": {func(n int, u *host.Unit) { u.Restarts, u.InvocationID = uint32(n), fmt.Sprint(n) },
			"restart web.service: it keeps falling over: systemd has restarted it 2 times"},
		"waiting for its next start": {func(n int, u *host.Unit) {
			u.Restarts = 7
			if n > 1 {
				u.Active, u.Sub = "activating", "auto-restart"
			}
		}, "start web.service: it is activating (auto-restart)"},
		"stays up this time":          {func(_ int, u *host.Unit) { u.Restarts = 7 }, ""},
		"fell over long ago":          {func(n int, u *host.Unit) { u.Restarts, u.UpBoot, u.InvocationID = 7, 0, fmt.Sprint(n) }, ""},
		"never fell over, just begun": {func(n int, u *host.Unit) { u.InvocationID = fmt.Sprint(n) }, ""},
	}
	for name, c := range cases {
		t.Run(name, func(t *testing.T) {
			l := newLab(t, host.Unit{}, map[string]cty.Value{})
			l.units.Put(host.Unit{Name: unit, Active: "active"}) // a moment ago
			s, e := l.make(), l.env()
			e.ReadEnv.Units = &looked{Units: l.units, at: c.looks}
			st, err := s.Read(t.Context(), e.ReadEnv)
			if err != nil {
				t.Fatal(err)
			}
			got := ""
			for _, effect := range s.Diff(st).Effects {
				got += effect.Verb + " " + effect.Target + ": " + effect.Why
			}
			if got != c.want {
				t.Errorf("effects are %q, want %q", got, c.want)
			}
		})
	}
}

// looked finds units otherwise at each look.
type looked struct {
	*hosttest.Units
	n  int
	at func(n int, u *host.Unit)
}

func (l *looked) Unit(ctx context.Context, name string) (host.Unit, error) {
	u, err := l.Units.Unit(ctx, name)
	l.n++
	l.at(l.n, &u)
	return u, err
}

func TestUnitFileIsReadBeforeAStart(t *testing.T) {
	dropIn := map[resources.Address]resources.Upstream{other: {Paths: []string{"/etc/systemd/system/web.service.d/x.conf"}, Digest: "d"}}
	cases := map[string]struct {
		unit host.Unit
		ups  map[resources.Address]resources.Upstream
		want []string
	}{
		"known": {host.Unit{}, nil, []string{"start web.service"}},
		"older": {host.Unit{NeedDaemonReload: true}, nil, []string{"daemon-reload", "start web.service"}},
		"with a drop-in that systemd does not notice": {host.Unit{}, dropIn, []string{"daemon-reload", "start web.service"}},
	}
	for name, c := range cases {
		t.Run(name, func(t *testing.T) {
			l := newLab(t, c.unit, map[string]cty.Value{})
			l.ups = c.ups
			l.run()
			if diff := cmp.Diff(c.want, l.units.Calls()); diff != "" {
				t.Errorf("calls (-want +got):\n%s", diff)
			}
		})
	}
}

func TestContradictions(t *testing.T) {
	k := Kind()
	for without, value := range map[string]cty.Value{"masked": cty.True, "ensure": cty.StringVal("absent")} {
		for _, attr := range []string{"running", "enabled"} {
			config, _ := k.Complete(cty.ObjectVal(map[string]cty.Value{"name": cty.StringVal("web"), without: value, attr: cty.True}))
			_, _, err := k.New(resources.Address{}, config)
			var at *resources.AttrError
			if !errors.As(err, &at) || at.Path[0] != attr {
				t.Errorf("%s and %s: error = %v", without, attr, err)
			}
		}
	}
}

func TestCancelledWait(t *testing.T) {
	l := newLab(t, host.Unit{}, map[string]cty.Value{})
	s := l.make()
	s.settle = time.Hour
	ctx, cancel := context.WithCancel(t.Context())
	l.units.Came = func(string, *host.Unit) { cancel() }
	if err := s.Apply(ctx, l.env(), l.plan(s)); !errors.Is(err, context.Canceled) {
		t.Errorf("error = %v, want context.Canceled", err)
	}
}

func TestNames(t *testing.T) {
	k := Kind()
	for name, want := range map[string]string{
		"nginx": "", "mastodon-streaming@4000.service": "", "a b": "is not the name of a unit", "mastodon-*": "for_each",
		"mastodon-streaming@": "template", "mastodon-streaming@.service": "template", "../x": "is not the name of a unit", "": "is not the name",
	} {
		config, errs := k.Complete(cty.ObjectVal(map[string]cty.Value{"name": cty.StringVal(name)}))
		if len(errs) > 0 {
			t.Fatal(errs[0])
		}
		_, exports, err := k.New(resources.Address{}, config)
		switch {
		case want == "" && err != nil:
			t.Errorf("%q: %v", name, err)
		case want == "" && exports.GetAttr("name").AsString() != host.UnitName(name):
			t.Errorf("%q exports %#v", name, exports)
		case want != "" && (err == nil || !strings.Contains(err.Error(), want)):
			t.Errorf("%q: error = %v, want one with %q", name, err, want)
		}
	}
}
