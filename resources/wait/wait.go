// Package wait is the kind wait: time that has to pass before those who depend on it may go on.
package wait

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/converge-agent/converge/resources"
	"github.com/zclconf/go-cty/cty"
)

// Kind returns the kind wait.
func Kind() *resources.Kind {
	return resources.NothingWhenAbsent(&resources.Kind{
		Name: "wait",
		Doc: "Holds what depends on it until a time has come: until, or the time of for after since took the form that it has " +
			"now. It does not keep converge running: a run that comes too early leaves the rest to a later one. When converge's " +
			"records are lost, it waits again from the start.",
		Attrs: attrs(),
		New:   newWait,
	}, "With \"absent\" nothing is waited for, and what depends on it goes on.")
}

func attrs() []resources.Attr {
	return []resources.Attr{
		{Name: "for", Type: cty.String, Format: resources.Duration, Doc: "How long, such as \"7d\" or \"36h\". Write either this or until."},
		{Name: "since", Ref: []string{"any"}, List: true,
			Doc: "The resource, or resources, from whose last change the time of for counts. Not written: from when the wait is first met."},
		{Name: "until", Type: cty.String, Doc: "When, in the form of RFC 3339, such as \"2026-11-28T14:00:00+01:00\"."},
	}
}

// config is what somebody wrote.
type config struct {
	For   time.Duration       `attr:"for"`
	Since []resources.Address `attr:"since"`
	Until string              `attr:"until"`
}

type wait struct {
	config
	until time.Time // zero where for is written
}

func newWait(_ resources.Address, written cty.Value) (resources.Resource, cty.Value, error) {
	w := &wait{}
	if err := resources.Decode(written, &w.config); err != nil {
		return nil, cty.NilVal, err
	}
	fail := func(attr, what string) (resources.Resource, cty.Value, error) {
		return nil, cty.NilVal, &resources.AttrError{Path: []string{attr}, Err: errors.New(what)}
	}
	hasFor := !written.GetAttr("for").IsNull()
	switch {
	case hasFor == (w.Until != ""):
		return fail("for", "write either for or until")
	case !hasFor && len(w.Since) > 0:
		return fail("since", "it goes with for; until is a time of its own")
	}
	if w.Until != "" {
		var err error
		if w.until, err = time.Parse(time.RFC3339, w.Until); err != nil {
			return fail("until", fmt.Sprintf("%q is not a time; write one such as \"2026-11-28T14:00:00+01:00\"", w.Until))
		}
	}
	return w, cty.EmptyObjectVal, nil
}

// Claims is empty: a wait writes nothing.
func (w *wait) Claims() []resources.Claim { return nil }

// Watches is empty: a wait has no content.
func (w *wait) Watches() []string { return nil }

// recordName names the record of when the wait began.
const recordName = "since"

// record is when what is waited for took the form of this digest.
type record struct {
	Digest string    `json:"digest"`
	At     time.Time `json:"at"`
}

// state is the time, and when the wait began.
type state struct {
	now   time.Time
	begun record
	// moving says that what is waited for has not come to rest: it is going to change in this run, has failed, or is held.
	moving bool
}

// Read finds when the wait began: now, unless a record says that it began earlier with the same content. A record from the
// future is one of a clock that was wrong, and counts as lost.
func (w *wait) Read(_ context.Context, env resources.ReadEnv) (resources.State, error) {
	s := state{now: env.Clock.Now().UTC()}
	s.begun = record{At: s.now}
	if !w.until.IsZero() {
		return s, nil
	}
	s.begun.Digest, s.moving = w.content(env.Upstreams)
	var kept record
	found, err := env.Records.Record(recordName, &kept)
	if err != nil {
		return nil, err
	}
	if found && !s.moving && kept.Digest == s.begun.Digest && !kept.At.After(s.now) {
		s.begun = kept
	}
	return s, nil
}

// content returns a digest of what the time counts from, and whether that is still moving.
func (w *wait) content(upstreams map[resources.Address]resources.Upstream) (digest string, moving bool) {
	if len(w.Since) == 0 {
		return "", false
	}
	var all []string
	for _, addr := range w.Since {
		up, known := upstreams[addr]
		moving = moving || !known || up.Pending
		all = append(all, addr.String()+" "+up.Digest)
	}
	slices.Sort(all)
	sum := sha256.Sum256([]byte(strings.Join(all, "\n")))
	return hex.EncodeToString(sum[:]), moving
}

// Diff is to wait, or nothing. Both remember when the wait began, so that a later run goes on with it.
func (w *wait) Diff(st resources.State) resources.Change {
	s := st.(state)
	due, what := w.until, ""
	c := resources.Change{Digest: w.digest(s.begun)}
	if due.IsZero() {
		due, what = s.begun.At.Add(w.For), w.what()
		if !s.moving {
			c.Remember = map[string]any{recordName: s.begun}
		}
	}
	if !s.now.Before(due) && !s.moving {
		c.Summary = "waited until " + clock(due)
		return c
	}
	c.Action = resources.Wait
	c.Wait = &resources.Waiting{For: what, Until: due}
	if c.Wait.For == "" {
		c.Wait.For = clock(due)
	}
	c.Summary = "until " + clock(due)
	if what != "" {
		c.Summary += ", " + what
	}
	return c
}

// what says in words what the time counts from: "7d since env_file.announce".
func (w *wait) what() string {
	var names []string
	for _, addr := range w.Since {
		names = append(names, addr.String())
	}
	if len(names) == 0 {
		return words(w.For) + " since it was first met"
	}
	return words(w.For) + " since the last change of " + strings.Join(names, ", ")
}

// words writes a duration as it would be written in a configuration: in days where it is whole days.
func words(d time.Duration) string {
	const day = 24 * time.Hour
	if d >= day && d%day == 0 {
		return fmt.Sprintf("%dd", d/day)
	}
	return d.String()
}

func clock(t time.Time) string { return t.UTC().Format("2006-01-02 15:04 MST") }

// digest stands for this wait, so that one that counts since it begins anew when it does.
func (w *wait) digest(begun record) string {
	text := w.Until
	if text == "" {
		text = fmt.Sprintf("%s since %s of %s", w.For, begun.At.Format(time.RFC3339Nano), begun.Digest)
	}
	sum := sha256.Sum256([]byte(text))
	return hex.EncodeToString(sum[:])
}

// Apply has nothing to do: time passes by itself.
func (w *wait) Apply(context.Context, resources.Env, resources.Change) error { return nil }
