package main

import (
	"time"

	"github.com/converge-agent/converge/host"
	"github.com/converge-agent/converge/plans"
	"github.com/converge-agent/converge/plans/journal"
)

// The types here are the lines of --json about what is on record: runs, and saved plans.

type lineRun struct {
	lineHead
	Run      int           `json:"run"`
	Command  string        `json:"command,omitempty"`
	Rollback int           `json:"rollback,omitempty"`
	User     string        `json:"user,omitempty"`
	Config   string        `json:"config,omitempty"`
	Converge string        `json:"converge,omitempty"`
	State    string        `json:"state"`
	Steps    int           `json:"steps,omitempty"`
	Outcomes *lineOutcomes `json:"outcomes,omitempty"`
	Elapsed  *float64      `json:"elapsed,omitempty"` // seconds
	Left     []string      `json:"left,omitempty"`
	Error    *lineError    `json:"error,omitempty"`
}

type lineOutcomes struct {
	Changed    int `json:"changed"`
	Failed     int `json:"failed"`
	Skipped    int `json:"skipped"`
	InProgress int `json:"in_progress"`
	Unchanged  int `json:"unchanged"`
}

type lineStep struct {
	lineHead
	Run     int            `json:"run"`
	Address string         `json:"address"`
	Action  string         `json:"action"`
	Summary string         `json:"summary,omitempty"`
	Drift   bool           `json:"drift,omitempty"`
	Edits   []lineStepEdit `json:"edits,omitempty"`
	Effects []lineEffect   `json:"effects,omitempty"`
	Outcome string         `json:"outcome,omitempty"`
	Message string         `json:"message,omitempty"`
	Error   *lineError     `json:"error,omitempty"`
	Elapsed *float64       `json:"elapsed,omitempty"`
}

type lineStepEdit struct {
	Path       string    `json:"path"`
	Before     *lineFile `json:"before"`
	After      *lineFile `json:"after"`
	Unknown    bool      `json:"unknown,omitempty"`
	OldContent string    `json:"old_content,omitempty"`
}

type lineSaved struct {
	lineHead
	Made      time.Time            `json:"made"`
	Converge  string               `json:"converge"`
	Config    string               `json:"config"`
	Variables []plans.SavedSetting `json:"variables,omitempty"`
	Withheld  []string             `json:"withheld,omitempty"`
	Targets   []string             `json:"targets,omitempty"`
	Refused   *lineError           `json:"refused,omitempty"`
}

type lineSavedItem struct {
	lineHead
	Address string            `json:"address"`
	Action  string            `json:"action"`
	Later   bool              `json:"later,omitempty"`
	Summary string            `json:"summary,omitempty"`
	Files   []plans.SavedFile `json:"files,omitempty"`
	Effects []lineEffect      `json:"effects,omitempty"`
}

// headAt is the head of what happened at a moment; none where that is not on record.
func headAt(kind string, at time.Time) lineHead {
	h := head(kind)
	if !at.IsZero() {
		at = at.UTC()
		h.Time = &at
	}
	return h
}

func milliseconds(n int64) *float64 {
	s := float64(n) / 1000
	return &s
}

// run tells a run on record.
func (l *jsonLines) run(r *journal.Run) {
	if l == nil {
		return
	}
	line := lineRun{
		lineHead: headAt("run", r.At), Run: r.Run, Command: r.Command, Rollback: r.Rollback, User: r.User, Config: r.Config,
		Converge: r.Converge, Steps: len(r.Steps), Left: r.Left,
	}
	switch c := r.Counts; {
	case r.Open:
		line.State = "under_way"
	case c == nil:
		line.State = "killed"
	default:
		line.State, line.Elapsed = "ended", milliseconds(c.Took)
		line.Outcomes = &lineOutcomes{c.Changed, c.Failed, c.Skipped, c.InProgress, c.Unchanged}
	}
	l.write(line)
}

// unreadable tells that there is a run on record which cannot be read.
func (l *jsonLines) unreadable(run int, err error) {
	if l != nil {
		l.write(lineRun{lineHead: head("run"), Run: run, State: "unreadable", Error: errorOf(err)})
	}
}

// step tells what a run did about one resource.
func (l *jsonLines) step(store *journal.Store, run int, s *journal.Step) {
	if l == nil {
		return
	}
	line := lineStep{
		lineHead: headAt("run_step", s.At), Run: run, Address: s.Address, Action: word(s.Action), Summary: s.Summary, Drift: s.Drift,
	}
	for _, e := range s.Edits {
		line.Edits = append(line.Edits, lineStepEdit{e.Path, recorded(e.Before), recorded(e.After), e.Opaque, store.KeptNote(e)})
	}
	for _, e := range s.Effects {
		line.Effects = append(line.Effects, lineEffect{Verb: e.Verb, Target: e.Target, Why: e.Why, Destructive: e.Destructive})
	}
	if s.End != nil {
		line.Outcome, line.Message, line.Elapsed = word(s.Outcome), s.Message, milliseconds(s.Took)
		if s.Error != "" {
			line.Error = &lineError{What: s.Error}
		}
	}
	l.write(line)
}

func recorded(f *journal.File) *lineFile {
	if f == nil {
		return nil
	}
	line := &lineFile{Type: word(f.Type), UID: f.UID, GID: f.GID, Target: f.Target}
	if f.Type != host.Symlink.String() {
		line.Mode = modeText(host.ModeFromBits(f.Mode))
	}
	return line
}

// saved tells a saved plan; refused is why it cannot be applied here and now.
func (l *jsonLines) saved(s *plans.Saved, refused error) {
	if l == nil {
		return
	}
	l.write(lineSaved{
		head("saved_plan"), s.Made, s.Converge, s.Origin.Path, s.Origin.Variables, s.Origin.Withheld, s.Targets, errorOf(refused),
	})
	for _, r := range s.Items {
		line := lineSavedItem{lineHead: head("saved_item"), Address: r.Address, Action: word(r.Action), Later: r.Later, Summary: r.Summary, Files: r.Files}
		for _, e := range r.Effects {
			line.Effects = append(line.Effects, lineEffect{e.Verb, e.Target, e.Why, e.Destructive, e.Requests, e.Bytes, "", nil})
		}
		l.write(line)
	}
}
