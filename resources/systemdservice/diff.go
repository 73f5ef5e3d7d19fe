package systemdservice

import (
	"fmt"
	"slices"
	"strings"

	"github.com/converge-agent/converge/host"
	"github.com/converge-agent/converge/resources"
)

// Diff compares what was found with what is to be.
func (s *service) Diff(found resources.State) resources.Change {
	st := found.(*state)
	if what, fix := s.blocked(st); what != "" {
		return resources.Change{Action: resources.Blocked, Summary: what, Notes: []string{fix}}
	}
	c := resources.Change{Summary: s.summary(st.unit), Effects: s.effects(st), Notes: notes(st), Metrics: s.metrics(st)}
	if len(c.Effects) > 0 {
		c.Action = resources.Update
		return c
	}
	if st.unit.Up() && len(s.triggers()) > 0 {
		c.Remember = map[string]any{record: st.loaded}
	}
	return c
}

// blocked says what only a person can mend, and how; "" when nothing is. As long as a resource that this one depends on is
// going to change, it may yet bring the unit or mend its file.
func (s *service) blocked(st *state) (what, fix string) {
	u := st.unit
	wanted := s.running || s.enabled != nil && *s.enabled
	unmasks := s.masked != nil && !*s.masked
	switch {
	case s.enabled != nil && !*s.enabled && u.FileState == "generated":
		return s.name + " comes from an init script, and systemd alone cannot keep it from starting at boot",
			"Run: update-rc.d " + strings.TrimSuffix(s.name, ".service") + " disable"
	case !wanted || st.pending:
		return "", ""
	case u.Load == "not-found":
		return "there is no unit " + s.name + st.similar,
			"Correct the name, or install what brings the unit; systemctl list-unit-files lists all there are."
	case isMasked(u) && !unmasks:
		return s.name + " is masked, so nobody can start it",
			"Write masked = false in its block, or run: systemctl unmask " + s.name
	case u.Load == "bad-setting" || u.Load == "error":
		return "systemd cannot load the unit file of " + s.name,
			"Read what systemd-analyze verify " + s.name + " says, and correct the unit file."
	case s.enabled != nil && *s.enabled && (u.FileState == "static" || u.FileState == "transient"):
		return s.name + " cannot be enabled: its unit file has no [Install] section, so nothing says when it is to be started",
			"Take enabled = true out of its block, or add an [Install] section to its unit file."
	case len(s.reloadOn) > 0 && u.Load == "loaded" && !u.CanReload:
		return s.name + " cannot reload: its unit file has no ExecReload=",
			"Write restart_on in the place of reload_on, or add ExecReload= to its unit file."
	}
	return "", ""
}

// effects are what is to be done, in order.
func (s *service) effects(st *state) []resources.Effect {
	u := st.unit
	var effects []resources.Effect
	do := func(verb, why string, args ...any) {
		effects = append(effects, resources.Effect{Verb: verb, Target: s.name, Why: fmt.Sprintf(why, args...), Destructive: verb == "stop"})
	}
	if s.masked != nil && !*s.masked && isMasked(u) {
		do("unmask", "it is masked")
	}
	if s.enabled != nil && *s.enabled && !startsAtBoot(u) {
		do("enable", "it does not start at boot")
	}
	if s.enabled != nil && !*s.enabled && startsAtBoot(u) {
		do("disable", "it starts at boot (%s)", u.FileState)
	}
	switch {
	case s.running && st.falls:
		do("restart", "it keeps falling over: systemd has restarted it %d times", u.Restarts)
	case s.running && !does(u) && len(st.restart) > 0: // a start would join one that began before the change
		do("restart", "it is %s, and %s changed", condition(u), strings.Join(st.restart, ", "))
	case s.running && !does(u):
		do("start", "it is %s", condition(u))
	case s.running && len(st.restart) > 0:
		do("restart", "%s changed", strings.Join(st.restart, ", "))
	case s.running && len(st.reload) > 0:
		do("reload", "%s changed", strings.Join(st.reload, ", "))
	case !s.running && u.Active != "inactive" && u.Active != "failed":
		do("stop", "it is %s", condition(u))
	}
	if s.masked != nil && *s.masked && !isMasked(u) {
		do("mask", "it can be started")
	}
	return effects
}

// metrics tell whether the unit has yet to read what changed: a restart or reload that is owed.
func (s *service) metrics(st *state) []resources.Metric {
	if len(s.triggers()) == 0 {
		return nil
	}
	owed := 0.0
	if s.running && len(st.restart)+len(st.reload) > 0 {
		owed = 1
	}
	return []resources.Metric{{
		Name: "converge_owed_restarts", Help: "Whether the unit still has to be restarted or reloaded, because what it reads has changed.",
		Labels: map[string]string{"unit": s.name}, Value: owed,
	}}
}

func isMasked(u host.Unit) bool {
	return u.Load == "masked" || strings.HasPrefix(u.FileState, "masked")
}

// startsAtBoot reports whether the unit is enabled for good: by links in /etc, as an alias of a unit that is, by the units
// of its Also= (indirect), or by the start links of an init script (generated); systemctl(1), is-enabled.
func startsAtBoot(u host.Unit) bool {
	return slices.Contains([]string{"enabled", "alias", "indirect", "generated"}, u.FileState)
}

// does reports whether the unit does its work. A oneshot unit that does not remain has no state between two runs.
func does(u host.Unit) bool { return u.Up() || oneshotDone(u) }

func oneshotDone(u host.Unit) bool {
	return u.Type == "oneshot" && !u.RemainAfterExit && u.Active == "inactive" && u.Result == "success"
}

// condition is the unit's state in words: "inactive (dead)", "failed (exit-code)".
func condition(u host.Unit) string {
	detail := u.Sub
	if u.Active == "failed" {
		detail = u.Result
	}
	if detail == "" || detail == u.Active {
		return u.Active
	}
	return fmt.Sprintf("%s (%s)", u.Active, detail)
}

// summary says what will be so.
func (s *service) summary(u host.Unit) string {
	words := []string{"running"}
	switch {
	case !s.running:
		words = []string{"stopped"}
	case oneshotDone(u):
		words = []string{"oneshot, done"}
	}
	if s.enabled != nil && *s.enabled {
		words = append(words, "starts at boot")
	}
	if s.enabled != nil && !*s.enabled {
		words = append(words, "does not start at boot")
	}
	if s.masked != nil && *s.masked {
		words = append(words, "masked")
	}
	return s.name + " " + strings.Join(words, ", ")
}

// notes tell what the admin should know though nothing is done about it. That systemd is told to read its unit files again
// is a note and no effect, because a unit file that is still to be written makes it necessary without a plan knowing.
func notes(st *state) []string {
	var notes []string
	if st.unit.NeedDaemonReload {
		notes = append(notes, fmt.Sprintf("the unit file of %s changed on disk; systemd is told to read it before the unit is next started here", st.unit.Name))
	}
	for _, p := range st.stale {
		notes = append(notes, fmt.Sprintf("stale, not ours: %s was edited after %s started; what is managed of it is what the unit has "+
			"read, so only a restart by hand takes in the rest", p, st.unit.Name))
	}
	return notes
}
