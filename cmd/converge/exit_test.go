package main

import (
	"testing"

	"github.com/converge-agent/converge/diag"
	"github.com/converge-agent/converge/plans"
	"github.com/converge-agent/converge/resources"
)

// nothing is a resource that is only planned in tables.
type nothing struct{ resources.Resource }

// TestExitCodesOfPlan goes through every combination of what a plan can hold.
func TestExitCodesOfPlan(t *testing.T) {
	node := &resources.Node{Resource: nothing{}}
	items := []struct {
		item            *plans.Item
		changes, failed bool
	}{
		{item: &plans.Item{}},
		{item: &plans.Item{Change: resources.Change{Action: resources.Create}}, changes: true},
		{item: &plans.Item{Change: resources.Change{Action: resources.Update}, Drift: true}, changes: true},
		{item: &plans.Item{Change: resources.Change{Action: resources.Delete}}, changes: true},
		{item: &plans.Item{Change: resources.Change{Action: resources.Run}}, changes: true},
		{item: &plans.Item{Change: resources.Change{Action: resources.Check}}},
		{item: &plans.Item{Change: resources.Change{Action: resources.Look}}},
		{item: &plans.Item{Change: resources.Change{Action: resources.InProgress}}},
		{item: &plans.Item{Change: resources.Change{Action: resources.Wait}}},
		{item: &plans.Item{Change: resources.Change{Action: resources.Create}, HeldBy: make([]resources.Address, 1)}},
		{item: &plans.Item{Change: resources.Change{Action: resources.Blocked}}, failed: true},
		{item: &plans.Item{Err: diag.New("read", "no", "")}, failed: true},
	}
	for set := range 1 << len(items) {
		p := &plans.Plan{}
		changes, failed := false, false
		for i, it := range items {
			if set&(1<<i) != 0 {
				it.item.Node = node
				p.Items = append(p.Items, it.item)
				changes, failed = changes || it.changes, failed || it.failed
			}
		}
		want, detailed := 0, 0
		switch {
		case failed:
			want, detailed = 1, 1
		case changes:
			detailed = 2
		}
		if got := planExit(p, false); got != want {
			t.Fatalf("set %b: %d, want %d", set, got, want)
		}
		if got := planExit(p, true); got != detailed {
			t.Fatalf("set %b, detailed: %d, want %d", set, got, detailed)
		}
	}
}

// TestExitCodesOfApply goes through every combination of outcomes.
func TestExitCodesOfApply(t *testing.T) {
	all := plans.Outcomes()
	for set := range 1 << len(all) {
		r := &plans.Report{}
		changed, failed := false, false
		for i, o := range all {
			if set&(1<<i) != 0 {
				r.Results = append(r.Results, plans.Result{Outcome: o})
				changed = changed || o == plans.Changed
				failed = failed || o == plans.Failed || o == plans.Skipped
			}
		}
		want := map[bool]int{true: 1}[failed]
		detailed := map[bool]int{true: 2}[changed] + map[bool]int{true: 4}[failed]
		if got := applyExit(r, false, false); got != want {
			t.Fatalf("set %b: %d, want %d", set, got, want)
		}
		if got := applyExit(r, false, true); got != detailed {
			t.Fatalf("set %b, detailed: %d, want %d", set, got, detailed)
		}
	}
}
