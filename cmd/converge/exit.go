package main

// The exit codes. Without --detailed-exitcode only exitOK and exitError are used.
const (
	exitOK    = 0 // all is as it should be, or waits for its time
	exitError = 1 // something failed; with apply --detailed-exitcode: it could not even begin

	exitPlanChanges = 2 // plan --detailed-exitcode: there is something to do

	exitApplyChanged       = 2 // apply --detailed-exitcode: something changed
	exitApplyFailed        = 4 // apply --detailed-exitcode: something failed, nothing changed
	exitApplyChangedFailed = 6 // apply --detailed-exitcode: both
)
