package plans_test

import (
	"context"
	"slices"
	"testing"

	"github.com/converge-agent/converge/resources"
)

// looker is a resource that is to be looked at now and then, as a bucket is from outside: what it saw is on record.
type looker struct {
	blind bool // Apply does nothing, so that it is never seen
	saw   bool
}

func (l *looker) Claims() []resources.Claim { return nil }
func (l *looker) Watches() []string         { return nil }

func (l *looker) Read(_ context.Context, env resources.ReadEnv) (resources.State, error) {
	var seen bool
	_, err := env.Records.Record("seen", &seen)
	return seen || l.saw, err
}

func (l *looker) Diff(s resources.State) resources.Change {
	metrics := []resources.Metric{{Name: "stub_seen", Value: map[bool]float64{true: 1}[s.(bool)]}}
	if s.(bool) {
		return resources.Change{Summary: "as it was", Remember: map[string]any{"seen": true}, Metrics: metrics}
	}
	return resources.Change{Action: resources.Look, Summary: "look at it", Metrics: metrics}
}

func (l *looker) Apply(context.Context, resources.Env, resources.Change) error {
	l.saw = !l.blind
	return nil
}

func look(l *looker) resources.Node {
	return resources.Node{Address: addr("look"), Kind: stubKind, Resource: l, Config: "config of look"}
}

// TestToLookIsNoChange: what only looks counts as checked, keeps nobody waiting, and is remembered.
func TestToLookIsNoChange(t *testing.T) {
	f := newFixture(t)
	var pending bool
	below := node("below", &stub{path: "/etc/f", action: resources.Check, apply: func(env resources.Env) error {
		pending = env.Upstreams[addr("look")].Pending
		return nil
	}}, "look")
	if p := f.plan(look(&looker{}), below); p.Changes() != 0 || len(p.Items[1].HeldBy) > 0 {
		t.Errorf("the plan counts %d changes, and %+v below", p.Changes(), p.Items[1])
	}
	f.want(f.run(look(&looker{}), below), "look checked", "below checked")
	if pending {
		t.Error("what was only looked at counts as still to change")
	}
	f.want(f.run(look(&looker{}), below), "look unchanged", "below checked")
}

// TestLookThatSeesNothingFails: it is read again, and what is still to be looked at is a failure.
func TestLookThatSeesNothingFails(t *testing.T) {
	f := newFixture(t)
	f.want(f.run(look(&looker{blind: true}), node("below", &stub{path: "/etc/f", line: "one"}, "look")), "look failed", "below skipped")
}

// TestLaw9ALookWaits: behind a failure nothing is looked at, even where it had converged before.
func TestLawNineALookWaits(t *testing.T) {
	f := newFixture(t)
	above := func(fail error) resources.Node { return node("a", &stub{path: "/etc/f", line: "one", readFail: fail}) }
	lookBelow := look(&looker{})
	lookBelow.Needs = []resources.Address{addr("a")}
	f.want(f.run(above(context.DeadlineExceeded), lookBelow), "a failed", "look skipped")
	f.want(f.run(above(nil), lookBelow), "a changed", "look checked")
}

// TestMetricsAreOfTheLastReading: those of the proof where there was one, else those that the change was made from.
func TestMetricsAreOfTheLastReading(t *testing.T) {
	for name, tc := range map[string]struct {
		node resources.Node
		want []float64
	}{
		"proven":  {look(&looker{}), []float64{1}},
		"failed":  {look(&looker{blind: true}), []float64{0}},
		"without": {node("a", &stub{path: "/etc/f", line: "one"}), nil},
	} {
		t.Run(name, func(t *testing.T) {
			f := newFixture(t)
			report := f.engine.Apply(t.Context(), f.plan(tc.node))
			var got []float64
			for _, m := range report.Results[0].Metrics {
				got = append(got, m.Value)
			}
			if !slices.Equal(got, tc.want) {
				t.Errorf("%s: metrics %v, want %v", report.Results[0].Outcome, got, tc.want)
			}
		})
	}
}

// counter counts its readings.
type counter struct {
	stub
	reads int
}

func (c *counter) Read(ctx context.Context, env resources.ReadEnv) (resources.State, error) {
	c.reads++
	return c.stub.Read(ctx, env)
}

// TestLaw2ReadingsCost: of a remote kind what the plan has found as it should be is not asked for again by the apply; what is to
// change is read before and after.
func TestLaw2ReadingsCost(t *testing.T) {
	remote := &resources.Kind{Name: "stub", Remote: true}
	for name, tc := range map[string]struct {
		kind    *resources.Kind
		differs bool
		want    int
	}{
		"remote, unchanged": {remote, false, 1},
		"remote, to change": {remote, true, 3},
		"of this host":      {stubKind, false, 2},
	} {
		t.Run(name, func(t *testing.T) {
			f := newFixture(t)
			f.want(f.run(node("a", &stub{path: "/etc/f", line: "one"})), "a changed")
			c := &counter{stub: stub{path: "/etc/f", line: "one"}}
			if tc.differs {
				c.line = "two"
			}
			n := node("a", nil)
			n.Kind, n.Resource = tc.kind, c
			f.run(n)
			if c.reads != tc.want {
				t.Errorf("it was read %d times, want %d", c.reads, tc.want)
			}
		})
	}
}
