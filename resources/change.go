package resources

import (
	"context"
	"time"

	"github.com/converge-agent/converge/host"
)

// Action is what a change comes to.
type Action int

// The actions. Check runs at its place in an apply and changes nothing, so there is nothing to read again. Look changes
// nothing either, but what it saw is to be remembered, so it is read again as a change is. InProgress and Wait do nothing now: dependents hold, and nothing has failed. Blocked needs a person, and counts as a failure: Summary
// says what happened, and the last of Notes what to do.
const (
	None Action = iota
	Create
	Update
	Delete
	Run
	Check
	Look
	InProgress
	Wait
	Blocked
)

// String gives the action as one lower-case word.
func (a Action) String() string {
	return [...]string{"none", "create", "update", "delete", "run", "check", "look", "in progress", "wait", "blocked"}[a]
}

// Changes reports whether applying the action changes something.
func (a Action) Changes() bool { return a >= Create && a <= Run }

// Looks reports whether applying the action runs something that changes nothing.
func (a Action) Looks() bool { return a == Check || a == Look }

// Holds reports whether the resource is neither as it should be nor going to be so in this run.
func (a Action) Holds() bool { return a >= InProgress }

// Change is the difference between a state and what is to be, and all that a plan shows of it.
type Change struct {
	Action  Action
	Summary string      // one line that says what will be so: "new site, bucket first; cache 10 GB"; never a secret
	Edits   []host.Edit // the files, before and after
	Effects []Effect    // what else will be done
	Attrs   []AttrDiff  // the managed values that differ, where the edits are not shown or say it badly
	Notes   []string    // what the admin should know though nothing is done about it
	Wait    *Waiting    // with Action Wait

	// Renewal is the part of this change that renews what runs out by itself, a certificate, or has it read, and nothing
	// else; nil: there is none. It is made even while converge is disabled, so Apply may be called with it alone.
	Renewal *Change

	// Digest stands for the content of the watched paths as this change leaves them; "" when their bytes are not known yet.
	// It may be made from secrets: the engine keys it before anybody sees it.
	Digest string
	// Metrics are numbers about what was found, for who watches this host.
	Metrics []Metric
	// Remember is kept as records, by name, once the resource is found converged. Values are encoded as JSON.
	Remember map[string]any
	// Private is for the kind's own Apply.
	Private any
}

// Metric is one number of a resource as it was found, in the terms of Prometheus: a gauge, in base units.
type Metric struct {
	Name   string            // "converge_certificate_not_after_seconds"
	Help   string            // what it is, in one line
	Labels map[string]string // beside address, which the engine knows
	Value  float64
}

// Effect is one thing that applying does besides editing files.
type Effect struct {
	Verb, Target string // "restart", "mastodon-web.service"
	Why          string // "env_file.mastodon changed"
	Destructive  bool   // it deletes, or makes something unavailable
	Requests     int64  // estimate, at an object store
	Bytes        int64  // estimate, to move
	Deletes      int64  // estimate, objects at an object store that it deletes

	// Operations are those requests by operation ("PutObject"), where they are known; their sum is Requests. Provider names whose
	// store it is, by which they have a class and a price.
	Operations map[string]int64
	Provider   string
}

// AttrDiff is one managed value that differs. Values are shown as they stand, so a secret must come as "(sensitive)".
type AttrDiff struct {
	Name          string
	Before, After string
	Added         bool // there was none before
	Removed       bool // there will be none
}

// Waiting is what a resource waits for.
type Waiting struct {
	For   string    // "7 days since the announcement"
	Until time.Time // the earliest time; zero when nobody can know
}

// CommitAll makes the edits of a change in order. It is the whole Apply of a kind that only writes files.
func CommitAll(ctx context.Context, env Env, c Change) error {
	for _, e := range c.Edits {
		if err := env.Files.Commit(ctx, e); err != nil {
			return err
		}
	}
	return nil
}

// EditAction is the action that one edit comes to.
func EditAction(e host.Edit) Action {
	switch {
	case e.Empty():
		return None
	case e.Before == nil:
		return Create
	case e.After == nil && !e.Opaque:
		return Delete
	}
	return Update
}
