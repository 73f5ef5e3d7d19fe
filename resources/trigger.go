package resources

import (
	"maps"
	"slices"
	"time"

	"github.com/converge-agent/converge/host"
)

// Loaded is the record of what a running unit has read: a restart or reload is owed as long as it differs from what the
// watched resources hold. Being a state and not an event, the debt survives a kill, a failed run and a hand edit.
type Loaded struct {
	Invocation string            `json:"invocation"`
	Digests    map[string]string `json:"digests"` // by address
}

// Watched is one resource that a unit reads from: its digest, and the latest ctime of its paths.
type Watched struct {
	Digest    string
	ChangedAt time.Time // zero when it does not exist yet, or its change is still to come
}

// tick bounds the granularity of ctime: one jiffy at the kernel's coarsest HZ=100 (timestamps come from the tick).
const tick = 10 * time.Millisecond

// Owed returns the addresses in watched that the running unit has not read yet, sorted. Nothing is owed by a unit that does
// not run. It is settled by the record, or else by the unit having started after the last change of the paths; a lost
// record or a stepped clock may thereby cost one restart too many, never one too few.
func Owed(u host.Unit, c host.Clock, rec Loaded, watched map[string]Watched) []string {
	if u.InvocationID == "" || u.StartedAt.IsZero() {
		return nil
	}
	// The start by the clock of its moment, and by that of now: after a step they differ, and the earlier one is the safe one.
	started := u.StartedAt
	if byNow := bootedAt(c).Add(u.StartedBoot); byNow.Before(started) {
		started = byNow
	}
	var owed []string
	for _, addr := range slices.Sorted(maps.Keys(watched)) {
		w := watched[addr]
		known := rec.Invocation == u.InvocationID && w.Digest != "" && rec.Digests[addr] == w.Digest
		later := !w.ChangedAt.IsZero() && started.After(w.ChangedAt.Add(tick))
		if !known && !later {
			owed = append(owed, addr)
		}
	}
	return owed
}

// bootedAt is when the machine booted, by the wall clock of now. The two clocks can't be read at once: a process that was
// put aside in between would take the boot for earlier than it was, so it keeps the latest of a few tries.
func bootedAt(c host.Clock) time.Time {
	var latest time.Time
	for range 5 {
		if at := c.Now().Add(-c.SinceBoot()); at.After(latest) {
			latest = at
		}
	}
	return latest
}

// LastRead is a unit as of when it last read its configuration: at its start or its last reload by systemd.
func LastRead(u host.Unit) host.Unit {
	if u.ReloadedBoot > u.StartedBoot {
		u.StartedAt, u.StartedBoot = u.ReloadedAt, u.ReloadedBoot
	}
	return u
}

// NowLoaded is the record of a unit that has read what is watched as it stands.
func NowLoaded(u host.Unit, watched map[string]Watched) Loaded {
	now := Loaded{Invocation: u.InvocationID, Digests: map[string]string{}}
	for name, w := range watched {
		now.Digests[name] = w.Digest
	}
	return now
}
