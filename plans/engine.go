package plans

import (
	"time"

	"github.com/converge-agent/converge/resources"
)

// Engine plans and applies on one host.
type Engine struct {
	// Env is the host. Records, Upstreams and Progress are filled in for each resource.
	Env     resources.Env
	Records *Records
	// Parallelism bounds how many resources are read at once; 0 means DefaultParallelism.
	Parallelism int
	// FailFast has Apply begin nothing more after the first failure, not even the repair of drift.
	FailFast bool
	// Journal writes down each change before it is made, and how it ended; nil: nobody does.
	Journal Journal
	// Written reports whether a resource that is none of the planned nodes still stands in the configuration: switched off
	// by when, or beside what a run is limited to. nil: none does.
	Written func(address string) bool
	// Events hears of everything as it happens, one call at a time; nil hears nothing.
	Events func(Event)
}

// DefaultParallelism is how many resources are read at once, as in Terraform.
const DefaultParallelism = 10

// Event is one thing that happened during an apply.
type Event struct {
	Type     EventType
	Item     *Item
	Progress resources.Progress // with Progressed
	Result   *Result            // with Ended
}

// EventType tells events apart.
type EventType int

// The events of a resource: its Apply began, came further, and ended. One that needs nothing only ends.
const (
	Began EventType = iota
	Progressed
	Ended
)

// Outcome is how a resource ended in an apply.
type Outcome int

// The outcomes. Held resources wait for one that is in progress or waiting; skipped ones need one that failed.
const (
	Unchanged Outcome = iota
	Changed
	Checked
	InProgress
	Waiting
	Held
	Failed
	Skipped
)

// Outcomes lists all outcomes.
func Outcomes() []Outcome {
	return []Outcome{Unchanged, Changed, Checked, InProgress, Waiting, Held, Failed, Skipped}
}

// String gives the outcome as an admin would say it.
func (o Outcome) String() string {
	return [...]string{"unchanged", "changed", "checked", "in progress", "waiting", "held", "failed", "skipped"}[o]
}

// stops reports whether resources that need one of this outcome must not change their configuration now.
func (o Outcome) stops() bool { return o >= InProgress }

// Result is how one resource ended.
type Result struct {
	Item    *Item
	Outcome Outcome
	// Message is what to tell the admin beside the outcome: how far it came, what it waits for. Errors are in Err.
	Message string
	Err     error
	Elapsed time.Duration
	// Metrics are the numbers of the resource as it was last read.
	Metrics []resources.Metric

	holders []int // what keeps those that need it from changing, beside itself
}

// Report is how an apply ended: a result for each item of the plan, in the order of the configuration.
type Report struct {
	Results []Result
	Elapsed time.Duration
}

// Count returns how many results have one of the outcomes.
func (r *Report) Count(outcomes ...Outcome) int {
	n := 0
	for _, res := range r.Results {
		for _, o := range outcomes {
			if res.Outcome == o {
				n++
			}
		}
	}
	return n
}
