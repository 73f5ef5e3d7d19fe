package main

import (
	"strings"

	"github.com/converge-agent/converge/plans"
	"github.com/converge-agent/converge/resources"
	"github.com/fatih/color"
)

// savedView prints a saved plan for people.
type savedView struct{ *terminal }

// signOf are the signs of actions by their names, as a saved plan holds them.
func signOf(action string) (string, color.Attribute) {
	for a, sign := range actionSigns {
		if a.String() == action {
			return sign, actionColors[a]
		}
	}
	return "!", color.FgRed // it could not be planned
}

func (v *savedView) body(s *plans.Saved) {
	width, changes, failed, later := 0, 0, 0, 0
	for _, r := range s.Items {
		if r.Action != resources.None.String() {
			width = max(width, len(r.Address))
		}
	}
	for _, r := range s.Items {
		switch {
		case r.Action == resources.None.String():
			continue
		case r.Action == "failed":
			failed++
		case r.Later:
			later++
		case r.Action != resources.Check.String():
			changes++
		}
		v.resource(r, width)
	}
	v.printf("Plan: %s; content is not kept in a saved plan.\n", tally{
		{changes, "to change", true}, {later, "later", false}, {failed, "failed", false},
	})
}

func (v *savedView) resource(r plans.SavedResource, width int) {
	sign, c := signOf(r.Action)
	what := r.Summary
	switch {
	case r.Action == "failed":
		what = "could not be planned"
	case r.Later:
		what = "later: " + what
	}
	v.printf("  %s %-*s  %s\n", v.paint(c)(sign), width, r.Address, what)
	for _, f := range r.Files {
		v.printf("      %s %s\n", f.Action, f.Path)
	}
	for _, e := range r.Effects {
		line := strings.TrimSpace(e.Verb + " " + e.Target)
		if e.Why != "" {
			line += " (" + e.Why + ")"
		}
		if e.Destructive {
			line = v.paint(color.FgRed, color.Bold)("destructive: " + line)
		}
		v.printf("      %s\n", line)
	}
}
