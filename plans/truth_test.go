package plans_test

import (
	"flag"
	"slices"
	"strings"
	"syscall"
	"testing"
	"testing/synctest"

	"github.com/converge-agent/converge/host"
	"github.com/converge-agent/converge/plans"
	"github.com/converge-agent/converge/resources"
	"pgregory.net/rapid"
)

// property checks f for generated hosts and configurations, in a bubble where waiting takes no time. They are the same ones
// each time, so that CI cannot fail by chance; -rapid.seed=N -rapid.checks=N look at others. Time to shrink a failing case is
// counted by the bubble's clock too.
func property(t *testing.T, f func(w *world)) {
	given := map[string]bool{}
	flag.Visit(func(f *flag.Flag) { given[f.Name] = true })
	for name, value := range map[string]string{"rapid.seed": "1", "rapid.checks": "300", "rapid.shrinktime": "6h"} {
		if given[name] {
			continue
		}
		if err := flag.Set(name, value); err != nil {
			t.Fatal(err)
		}
	}
	synctest.Test(t, func(t *testing.T) {
		// Without the methods of *testing.T that a bubble refuses (Deadline).
		rapid.Check(struct{ rapid.TB }{t}, func(rt *rapid.T) { f(newWorld(rt)) })
	})
}

// TestLaw1WhatChangesIsWhatThePlanSaid: whatever the host and the configuration, an apply changes exactly what the plan said,
// the next plan is empty, and the next apply writes nothing.
func TestLaw1WhatChangesIsWhatThePlanSaid(t *testing.T) {
	property(t, func(w *world) {
		w.configure()
		if rapid.IntRange(0, 3).Draw(w.T, "reads fail") == 0 {
			p := rapid.SampledFrom(places).Draw(w.T, "unreadable")
			w.files.unreadable[p] = rapid.SampledFrom([]error{syscall.EACCES, syscall.EIO}).Draw(w.T, "error")
		}
		for range 2 { // from the host as it was found, and after somebody has been at it
			r := w.apply()
			w.exactly(r)
			w.settled()
			w.place(rapid.SampledFrom(places).Draw(w.T, "edited by hand"))
		}
	})
}

// TestLaw1FailuresStayWhereTheyAre: resources that fail are left as the plan found them, so is what needs them; what does not
// is done, and what somebody has damaged is repaired.
func TestLaw1FailuresStayWhereTheyAre(t *testing.T) {
	property(t, func(w *world) {
		w.configure()
		w.mayHaveConverged()
		for _, b := range w.blocks {
			b.broken = rapid.IntRange(0, 3).Draw(w.T, b.name+" is broken") == 3
		}
		full := rapid.SampledFrom(append([]string{""}, places...)).Draw(w.T, "disk full at")
		w.files.Fail = func(op, p string) error {
			if p == full && op == "write" {
				return syscall.ENOSPC
			}
			return nil
		}
		w.contained(w.apply())
		w.lives()
		w.exactly(w.apply())
		w.settled()
	})
}

// TestLaw4KilledAnywhereRightAfterwards: a run that is killed at any step leaves every file whole, old or new, and the next one
// does the rest, with each restart that is owed; also where all records were lost.
func TestLaw4KilledAnywhereRightAfterwards(t *testing.T) {
	property(t, func(w *world) {
		w.configure()
		w.mayHaveConverged()
		w.dies(rapid.IntRange(1, 60).Draw(w.T, "killed at step"))
		r := w.apply()
		for p, f := range r.changed {
			if !slices.ContainsFunc(planned(r.plan, p), f.Same) {
				w.dump(r)
				w.Fatalf("%s was left as %s", p, shown(f))
			}
		}
		w.lives()
		if rapid.IntRange(0, 3).Draw(w.T, "records lost") == 3 {
			w.files.Remove(worldState)
		}
		w.exactly(w.apply())
		w.settled()
	})
}

// planned are the contents that a plan says will stand at a path, one after the other.
func planned(p *plans.Plan, name string) []*host.File {
	var out []*host.File
	for _, it := range p.Items {
		for _, e := range it.Change.Edits {
			if e.Path == name {
				out = append(out, e.After)
			}
		}
	}
	return out
}

// TestDriftIsToldFromConfiguration: what somebody changed by hand is called drift, what the configuration changes is not, nor
// what follows from that; and a block that is taken out changes nothing.
func TestDriftIsToldFromConfiguration(t *testing.T) {
	property(t, func(w *world) {
		w.configure()
		w.apply()
		if r := w.apply(); len(w.blocks) == 0 || r.report.Count(plans.Unchanged) < len(w.blocks) {
			return // what never converged cannot drift
		}
		changed := w.blocks[rapid.IntRange(0, len(w.blocks)-1).Draw(w.T, "block")]
		drift := true
		switch rapid.IntRange(0, 2).Draw(w.T, "what happens") {
		case 0:
			w.place(rapid.SampledFrom(places).Draw(w.T, "edited by hand"))
		case 1:
			before := changed.digest()
			w.write(changed)
			drift = changed.digest() == before
		default:
			w.remove(changed)
			if n := w.plan(w.engine()).Changes(); n > 0 {
				w.Fatalf("without %s the plan has %d changes", changed, n)
			}
		}
		for _, it := range w.plan(w.engine()).Items {
			if shown := it.Drift && !it.Follows; it.Changes() && shown != drift {
				w.Fatalf("%s: the plan calls it drift: %v (drift %v, follows %v); of %s", it.Node.Address, shown, it.Drift, it.Follows, changed)
			}
		}
	})
}

// remove takes a block out of the configuration, and those that refer to it.
func (w *world) remove(gone *block) {
	if i := slices.Index(w.blocks, gone); i >= 0 {
		w.blocks = slices.Delete(w.blocks, i, i+1)
	}
	for _, b := range slices.Clone(w.blocks) {
		if slices.Contains(b.refers(), gone.address()) {
			w.remove(b)
		}
	}
}

// mayHaveConverged lets the host have been converged, and damaged since; or not.
func (w *world) mayHaveConverged() {
	if rapid.Bool().Draw(w.T, "has converged") {
		w.apply()
		for range rapid.IntRange(0, 2).Draw(w.T, "edits by hand") {
			w.place(rapid.SampledFrom(places).Draw(w.T, "edited by hand"))
		}
	}
}

// contained checks an apply in which something failed that the plan could not know.
func (w *world) contained(r *run) {
	may := snapshot{}
	var calls []string
	for _, it := range r.order {
		for _, e := range it.Change.Edits {
			may[e.Path] = e.After
		}
		for _, e := range it.Change.Effects {
			calls = append(calls, e.Verb+" "+e.Target)
		}
	}
	for p := range r.changed {
		if _, ok := may[p]; !ok {
			w.dump(r)
			w.Fatalf("%s was changed, which no plan said", p)
		}
	}
	for _, call := range r.calls {
		if !slices.Contains(calls, call) {
			w.dump(r)
			w.Fatalf("%q was done, which no plan said", call)
		}
	}
	failed := func(res plans.Result) bool { return res.Outcome == plans.Failed }
	reached := w.reach(r, failed, true)
	beside := w.reach(r, failed, false)
	for i, res := range r.report.Results {
		it := res.Item
		heals := it.Drift && !beside[i] && !w.blocks[i].broken && !failed(res)
		switch {
		case it.Changes() && (!reached[i] || heals):
			w.expect(r, res, plans.Changed)
		case it.Err == nil && it.Change.Action == resources.None && !reached[i]:
			w.expect(r, res, plans.Unchanged)
		case !it.Changes():
			w.expect(r, res, plans.Unchanged, plans.Skipped, plans.Held, plans.Failed)
		}
	}
}

// reach marks the blocks that the chosen results can have an effect on, and those themselves: all that share a path with them or
// stand in one of their directories, and, with needs, all that need them.
func (w *world) reach(r *run, from func(plans.Result) bool, needs bool) []bool {
	reached := make([]bool, len(w.blocks))
	for i, res := range r.report.Results {
		reached[i] = from(res)
	}
	for range w.blocks {
		for i, b := range w.blocks {
			for j, other := range w.blocks {
				reached[i] = reached[i] || reached[j] && (b.touches(other) || needs && slices.Contains(b.refers(), other.address()))
			}
		}
	}
	return reached
}

// touches reports whether two blocks write one path, or one stands in the other's directory.
func (b *block) touches(other *block) bool {
	p, q := b.text("path"), other.text("path")
	return p != "" && q != "" && (p == q || strings.HasPrefix(p, q+"/") || strings.HasPrefix(q, p+"/"))
}

// exactly checks an apply in which nothing failed that the plan had not told.
func (w *world) exactly(r *run) {
	var order []*plans.Item
	for _, res := range r.report.Results {
		it := res.Item
		switch {
		case it.Err != nil || it.Change.Action == resources.Blocked:
			w.expect(r, res, plans.Failed)
		case it.Later():
			w.expect(r, res, plans.Skipped, plans.Held)
		case it.Changes():
			w.expect(r, res, plans.Changed)
		default:
			w.expect(r, res, plans.Unchanged)
		}
		if it.Changes() {
			order = append(order, it)
		}
	}
	if len(order) != len(r.order) {
		w.Fatalf("planned were %d changes, and %d were made", len(order), len(r.order))
	}
	want := snapshot{}
	var calls []string
	for _, it := range r.order {
		for _, e := range it.Change.Edits {
			want[e.Path] = e.After
		}
		for _, e := range it.Change.Effects {
			calls = append(calls, e.Verb+" "+e.Target)
		}
	}
	w.same(r, want)
	if !slices.Equal(calls, r.calls) {
		w.Fatalf("planned was %q, done was %q", calls, r.calls)
	}
}

func (w *world) expect(r *run, res plans.Result, outcomes ...plans.Outcome) {
	if !slices.Contains(outcomes, res.Outcome) {
		w.dump(r)
		w.Fatalf("%s: planned was %s %q, and it ended as %s: %s", res.Item.Node.Address, res.Item.Change.Action, res.Item.Change.Summary, res.Outcome, fix(res.Err))
	}
}

// same checks that the paths that were touched are those of want, and hold what it says.
func (w *world) same(r *run, want snapshot) {
	for p, f := range r.changed {
		if planned, ok := want[p]; !ok || !f.Same(planned) {
			w.dump(r)
			w.Fatalf("%s is %s; planned was %s", p, shown(f), shown(planned))
		}
	}
	for p := range want {
		if _, ok := r.changed[p]; !ok {
			w.Fatalf("%s was to be changed, and was not", p)
		}
	}
}

// dump prints the configuration of a failing case, and what was planned and done.
func (w *world) dump(r *run) {
	for i, b := range w.blocks {
		it, res := r.plan.Items[i], r.report.Results[i]
		w.Logf("%s broken=%v\n\tplanned: %s %q held by %v, drift %v: %s\n\tended: %s %s %s", b, b.broken, it.Change.Action, it.Change.Summary,
			it.HeldBy, it.Drift, fix(it.Err), res.Outcome, res.Message, fix(res.Err))
	}
	for p, f := range r.before {
		if !ours(p) {
			w.Logf("%s was %s", p, shown(f))
		}
	}
}

// settled checks that nothing is left to do, that doing it writes nothing, and that no unit is behind what it reads.
func (w *world) settled() {
	before, calls := w.snapshot(), len(w.units.Calls())
	r := w.apply()
	if n := r.plan.Changes(); n > 0 {
		w.dump(r)
		w.Fatalf("the next plan has %d changes", n)
	}
	if w.records(before) { // what was held back is as it should be now, by what came after it, and is remembered so
		before = w.snapshot()
		r = w.apply()
	}
	w.unchanged("the next apply", before)
	if did := w.units.Calls()[calls:]; len(did) > 0 {
		w.Fatalf("the next apply did %q", did)
	}
	w.nothingOwed(r)
}

// records reports whether all that is new since before are records of what was held back or failed.
func (w *world) records(before snapshot) bool {
	touched := w.difference(before)
	for p := range touched {
		if !ours(p) {
			return false
		}
	}
	return len(touched) > 0
}

// nothingOwed checks that each unit that runs has read what its triggers hold now.
func (w *world) nothingOwed(r *run) {
	now := w.snapshot()
	for _, b := range w.blocks {
		name := b.text("name")
		if b.kind != unitKind || r.result(b.address()).Outcome != plans.Unchanged {
			continue
		}
		if u, _ := w.units.Unit(w.Context(), name); !u.Up() {
			continue
		}
		for attr, read := range map[string]snapshot{"restart_on": w.loaded[name], "reload_on": w.reloaded[name]} {
			for _, addr := range b.triggers(attr) {
				trigger := w.block(addr)
				if r.result(addr).Outcome != plans.Unchanged || trigger.managed(now) == trigger.managed(read) {
					continue
				}
				w.dump(r)
				w.Fatalf("%s has read %q of %s, which holds %q", name, trigger.managed(read), addr, trigger.managed(now))
			}
		}
	}
}
