package journal_test

import (
	"fmt"
	"testing"

	"github.com/converge-agent/converge/plans/journal"
)

// BenchmarkRun is what a run costs with its journal and without: of five files, all of which it changes, or none. The
// difference is the price of the journal; a run that changes nothing pays none.
func BenchmarkRun(b *testing.B) {
	for _, changed := range []int{0, 5} {
		for _, written := range []bool{false, true} {
			b.Run(fmt.Sprintf("changed=%d/journal=%v", changed, written), func(b *testing.B) {
				f := newFixture(b)
				f.journal = written
				files := func(round int) []*write {
					var ws []*write
					for i := range 5 {
						ws = append(ws, f.set(fmt.Sprint(i), fmt.Sprintf("%d\n", round*min(changed, 1))))
					}
					return ws
				}
				f.run("0", files(0)...)
				for round := 1; b.Loop(); round++ {
					f.run(fmt.Sprint(round*min(changed, 1)), files(round)...)
				}
			})
		}
	}
}

// BenchmarkBounds is what it costs to end a run when the journal is as long as it gets.
func BenchmarkBounds(b *testing.B) {
	f := newFixture(b)
	f.fake(490)
	for round := 1; b.Loop(); round++ {
		f.apply(journal.Head{Command: "apply"}, nodes(fmt.Sprint(round), f.set("a", fmt.Sprintf("%d\n", round))))
	}
}
