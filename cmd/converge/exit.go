package main

import "github.com/converge-agent/converge/plans"

// The exit codes. Without --detailed-exitcode only exitOK and exitError are used.
const (
	exitOK    = 0 // all is as it should be, or waits for its time
	exitError = 1 // something failed; with apply --detailed-exitcode: it could not even begin

	exitPlanChanges = 2 // plan --detailed-exitcode: there is something to do

	exitApplyChanged       = 2 // apply --detailed-exitcode: something changed
	exitApplyFailed        = 4 // apply --detailed-exitcode: something failed, nothing changed
	exitApplyChangedFailed = 6 // apply --detailed-exitcode: both
)

// planExit is the exit code of a plan. What is checked, waits or is in progress counts as nothing.
func planExit(p *plans.Plan, detailed bool) int {
	switch {
	case p.Failures() > 0:
		return exitError
	case detailed && p.Changes() > 0:
		return exitPlanChanges
	}
	return exitOK
}

// applyExit is the exit code of an apply. A resource that was skipped counts as failed, and so
// does a saved plan of which something moved.
func applyExit(r *plans.Report, moved, detailed bool) int {
	failed := moved || r.Count(plans.Failed, plans.Skipped) > 0
	changed := r.Count(plans.Changed) > 0
	switch {
	case !detailed && failed:
		return exitError
	case !detailed:
		return exitOK
	case failed && changed:
		return exitApplyChangedFailed
	case failed:
		return exitApplyFailed
	case changed:
		return exitApplyChanged
	}
	return exitOK
}

// spoilt is the exit code of a run whose lines or metrics could not be written: a failure, whatever else it came to.
func spoilt(code int) int {
	if code == exitOK || code == exitApplyChanged { // of a plan: exitPlanChanges
		return exitError
	}
	return code
}
