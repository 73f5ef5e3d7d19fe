package wait

import (
	"encoding/json"
	"strings"
	"testing"
	"time"

	"github.com/converge-agent/converge/host/hosttest"
	"github.com/converge-agent/converge/resources"
	"github.com/converge-agent/converge/resources/resourcetest"
	"github.com/zclconf/go-cty/cty"
)

var (
	announce = resources.Address{Kind: "env_file", Name: "announce"}
	start    = time.Date(2026, 11, 21, 14, 5, 0, 0, time.UTC)
)

const day = 24 * time.Hour

// records are kept as the engine keeps them.
type records map[string]json.RawMessage

func (records) Keyed(text string) string { return text }

func (r records) Record(name string, v any) (bool, error) {
	raw, ok := r[name]
	if !ok {
		return false, nil
	}
	return true, json.Unmarshal(raw, v)
}

// bench is a run of the engine over one wait: what it remembers, its clock, and what the wait depends on.
type bench struct {
	*testing.T
	wait    resources.Resource
	clock   *hosttest.Clock
	records records
	up      map[resources.Address]resources.Upstream
}

func reference(addr resources.Address) cty.Value {
	return resources.Reference(addr, cty.EmptyObjectVal)
}

func written(attrs map[string]cty.Value) (resources.Resource, error) {
	config, errs := Kind().Complete(cty.ObjectVal(attrs))
	if len(errs) > 0 {
		return nil, errs[0]
	}
	r, _, err := Kind().New(resources.Address{}, config)
	return r, err
}

func newBench(t *testing.T, attrs map[string]cty.Value) *bench {
	t.Helper()
	r, err := written(attrs)
	if err != nil {
		t.Fatal(err)
	}
	return &bench{t, r, hosttest.NewClock(start), records{}, map[resources.Address]resources.Upstream{announce: {Digest: "v1"}}}
}

func weekSinceAnnouncement(t *testing.T) *bench {
	return newBench(t, map[string]cty.Value{"for": cty.StringVal("7d"), "since": reference(announce)})
}

func (b *bench) plan() resources.Change {
	b.Helper()
	s, err := b.wait.Read(b.Context(), resources.ReadEnv{Clock: b.clock, Records: b.records, Upstreams: b.up})
	if err != nil {
		b.Fatal(err)
	}
	return b.wait.Diff(s)
}

// run plans, and keeps what is to be remembered.
func (b *bench) run() resources.Change {
	b.Helper()
	c := b.plan()
	for name, v := range c.Remember {
		raw, err := json.Marshal(v)
		if err != nil {
			b.Fatal(err)
		}
		b.records[name] = raw
	}
	return c
}

func (b *bench) waitsUntil(c resources.Change, want time.Time) {
	b.Helper()
	if c.Action != resources.Wait || c.Wait == nil || !c.Wait.Until.Equal(want) {
		b.Errorf("got %s %+v, want to wait until %s", c.Action, c.Wait, want)
	}
}

func (b *bench) done(c resources.Change) {
	b.Helper()
	if c.Action != resources.None {
		b.Errorf("got %s (%s), want it done", c.Action, c.Summary)
	}
}

func TestConformance(t *testing.T) {
	resourcetest.Run(t, resourcetest.Case{
		Kind:   Kind(),
		Config: map[string]cty.Value{"for": cty.StringVal("7d"), "since": reference(announce)},
		Setup: func(h *resourcetest.Host) {
			h.Upstreams = map[resources.Address]resources.Upstream{announce: {Digest: "v1"}}
		},
	})
}

func TestCountsFromTheChange(t *testing.T) {
	b := weekSinceAnnouncement(t)
	c := b.run()
	b.waitsUntil(c, start.Add(7*day))
	if want := "until 2026-11-28 14:05 UTC, 7d since the last change of env_file.announce"; c.Summary != want {
		t.Errorf("summary %q, want %q", c.Summary, want)
	}
	b.clock.Advance(6 * day)
	b.waitsUntil(b.run(), start.Add(7*day))
	b.clock.Advance(day - time.Second)
	b.waitsUntil(b.run(), start.Add(7*day))
	b.clock.Advance(time.Second)
	first := b.run()
	b.done(first)
	b.clock.Advance(30 * day)
	later := b.run()
	b.done(later)
	if first.Digest == "" || first.Digest != later.Digest {
		t.Error("the digest changes with the time")
	}
}

func TestPlanAloneStartsNothing(t *testing.T) {
	b := weekSinceAnnouncement(t)
	b.plan()
	b.clock.Advance(8 * day)
	b.waitsUntil(b.run(), start.Add(15*day))
}

func TestANewChangeStartsAgain(t *testing.T) {
	b := weekSinceAnnouncement(t)
	b.run()
	b.clock.Advance(8 * day)
	old := b.run()
	b.done(old)
	b.up[announce] = resources.Upstream{Digest: "v2"}
	b.waitsUntil(b.run(), start.Add(15*day))
	b.clock.Advance(7 * day)
	again := b.run()
	b.done(again)
	if again.Digest == old.Digest {
		t.Error("a wait that counts since this one would not begin anew")
	}
	b.up[announce] = resources.Upstream{Digest: "v1"}
	b.waitsUntil(b.run(), start.Add(22*day))
}

func TestALostRecordWaitsAgain(t *testing.T) {
	b := weekSinceAnnouncement(t)
	b.run()
	b.clock.Advance(8 * day)
	b.done(b.run())
	clear(b.records)
	b.waitsUntil(b.run(), start.Add(15*day))
}

func TestARecordFromTheFutureIsLost(t *testing.T) {
	b := weekSinceAnnouncement(t)
	b.clock.Advance(1000 * day)
	b.run()
	b.clock.Step(start)
	b.waitsUntil(b.run(), start.Add(7*day))
}

func TestWhatStillMovesIsNotCounted(t *testing.T) {
	for name, up := range map[string]map[resources.Address]resources.Upstream{
		"going to change":  {announce: {Digest: "v1", Pending: true}},
		"failed or held":   {},
		"another resource": {{Kind: "file", Name: "x"}: {Digest: "v1"}},
	} {
		t.Run(name, func(t *testing.T) {
			b := weekSinceAnnouncement(t)
			b.run()
			kept := string(b.records[recordName])
			b.clock.Advance(8 * day)
			b.up = up
			c := b.run()
			b.waitsUntil(c, start.Add(15*day))
			if c.Remember != nil || string(b.records[recordName]) != kept {
				t.Errorf("it remembers %v", c.Remember)
			}
			b.up = map[resources.Address]resources.Upstream{announce: {Digest: "v1"}}
			b.done(b.run())
		})
	}
}

func TestNoTimeAtAllStillWaitsForTheChange(t *testing.T) {
	b := newBench(t, map[string]cty.Value{"for": cty.StringVal("0s"), "since": reference(announce)})
	b.up[announce] = resources.Upstream{Digest: "v1", Pending: true}
	b.waitsUntil(b.run(), start)
	b.up[announce] = resources.Upstream{Digest: "v1"}
	b.done(b.run())
}

func TestSeveralInstances(t *testing.T) {
	web, sidekiq := resources.Address{Kind: "systemd_service", Name: "m", Index: `["web"]`}, resources.Address{Kind: "systemd_service", Name: "m", Index: `["sidekiq"]`}
	b := newBench(t, map[string]cty.Value{"for": cty.StringVal("1h"),
		"since": cty.TupleVal([]cty.Value{reference(web), reference(sidekiq)})})
	b.up = map[resources.Address]resources.Upstream{web: {Digest: "1"}, sidekiq: {Digest: "1"}}
	b.run()
	b.clock.Advance(time.Hour)
	b.done(b.run())
	b.up[sidekiq] = resources.Upstream{Digest: "2"}
	b.waitsUntil(b.run(), start.Add(2*time.Hour))
	delete(b.up, web)
	b.waitsUntil(b.run(), start.Add(2*time.Hour))
}

func TestWithoutSinceItCountsFromTheFirstRun(t *testing.T) {
	b := newBench(t, map[string]cty.Value{"for": cty.StringVal("90m")})
	c := b.run()
	b.waitsUntil(c, start.Add(90*time.Minute))
	if c.Wait.For != "1h30m0s since it was first met" {
		t.Errorf("waits for %q", c.Wait.For)
	}
	b.clock.Advance(2 * time.Hour)
	b.done(b.run())
}

func TestUntil(t *testing.T) {
	b := newBench(t, map[string]cty.Value{"until": cty.StringVal("2026-11-28T14:00:00+01:00")})
	due := time.Date(2026, 11, 28, 13, 0, 0, 0, time.UTC)
	c := b.run()
	b.waitsUntil(c, due)
	if c.Summary != "until 2026-11-28 13:00 UTC" || c.Wait.For == "" || c.Remember != nil {
		t.Errorf("got %q, for %q, remembers %v", c.Summary, c.Wait.For, c.Remember)
	}
	b.clock.Step(due)
	after := b.run()
	b.done(after)
	if after.Digest != c.Digest {
		t.Error("the digest changes with the time")
	}
}

func TestRefusals(t *testing.T) {
	for _, tt := range []struct {
		name  string
		attrs map[string]cty.Value
		says  string
	}{
		{"nothing", map[string]cty.Value{}, "either for or until"},
		{"both", map[string]cty.Value{"for": cty.StringVal("1h"), "until": cty.StringVal("2026-11-28T14:00:00Z")}, "either for or until"},
		{"since with until", map[string]cty.Value{"until": cty.StringVal("2026-11-28T14:00:00Z"), "since": reference(announce)}, "it goes with for"},
		{"no time", map[string]cty.Value{"until": cty.StringVal("tomorrow")}, `"tomorrow" is not a time`},
		{"no zone", map[string]cty.Value{"until": cty.StringVal("2026-11-28T14:00:00")}, "is not a time"},
		{"no reference", map[string]cty.Value{"for": cty.StringVal("1h"), "since": cty.StringVal("env_file.x")}, "must refer to a resource"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			if _, err := written(tt.attrs); err == nil || !strings.Contains(err.Error(), tt.says) {
				t.Errorf("got %v, want %q", err, tt.says)
			}
		})
	}
}
