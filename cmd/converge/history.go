package main

import (
	"fmt"
	"os"
	"os/user"
	"path/filepath"
	"slices"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/converge-agent/converge/diag"
	"github.com/converge-agent/converge/plans"
	"github.com/converge-agent/converge/plans/journal"
	"github.com/fatih/color"
	"github.com/spf13/cobra"
)

// historyLimit is how many runs history lists unless told otherwise: a screen of them.
const historyLimit = 20

func newHistory(t *terminal) *cobra.Command {
	var src source
	var output outputFlags
	limit := historyLimit
	cmd := &cobra.Command{
		Use:   "history",
		Short: "List the runs that changed something on this host, the newest first",
		Long:  "history lists the runs that changed something on this host, the newest first. converge show RUN tells what one of them did.",
		Args:  cobra.NoArgs,
		RunE: func(*cobra.Command, []string) error {
			s, err := src.onHost()
			if err != nil {
				return err
			}
			defer s.close()
			return t.history(s.journal, limit)
		},
	}
	src.stateFlag(cmd.Flags())
	output.on(cmd, t)
	cmd.Flags().IntVar(&limit, "limit", historyLimit, "how many `RUNS` to list; 0 lists all")
	return cmd
}

// history prints a table of runs.
func (t *terminal) history(store *journal.Store, limit int) error {
	runs, err := store.Runs()
	if err != nil {
		return err
	}
	if len(runs) == 0 {
		t.printf("No run is on record: nothing has been changed yet.\n")
		return nil
	}
	slices.Reverse(runs)
	shown := runs
	if limit > 0 && len(runs) > limit {
		shown = runs[:limit]
	}
	w := tabwriter.NewWriter(t.out, 0, 0, 2, ' ', 0)
	_, _ = fmt.Fprintln(w, "RUN\tWHEN\tWHO\tWHAT\tTOOK\tRESULT")
	for _, n := range shown {
		r, err := store.Run(n)
		if err != nil { // one that cannot be read hides no other
			_, _ = fmt.Fprintf(w, "%d\t\t\t\t\t%s\n", n, err)
			t.lines.unreadable(n, err)
			continue
		}
		t.lines.run(r)
		_, _ = fmt.Fprintf(w, "%d\t%s\t%s\t%s\t%s\t%s\n", n, when(r.At), r.User, what(r), took(r), runResult(r))
	}
	if err := w.Flush(); err != nil {
		return err
	}
	if more := len(runs) - len(shown); more > 0 {
		t.printf("%d older, down to run %d: converge history --limit 0\n", more, runs[len(runs)-1])
	}
	return nil
}

func when(at time.Time) string {
	if at.IsZero() {
		return "-"
	}
	return at.Local().Format("2006-01-02 15:04:05")
}

func what(r *journal.Run) string {
	if r.Rollback > 0 {
		return fmt.Sprintf("%s %d", r.Command, r.Rollback)
	}
	return r.Command
}

func took(r *journal.Run) string {
	if r.Counts == nil {
		return "-"
	}
	return duration(r.Counts.Took)
}

// duration words milliseconds.
func duration(ms int64) string {
	d := time.Duration(ms) * time.Millisecond
	if d > 10*time.Second {
		return d.Round(time.Second).String()
	}
	return d.String()
}

// runResult says in a few words how a run ended.
func runResult(r *journal.Run) string {
	switch {
	case r.Open:
		return "under way"
	case r.Counts == nil:
		text := fmt.Sprintf("killed after %s", count(len(r.Steps), "change"))
		if n := len(r.Steps); n > 0 && r.Steps[n-1].End == nil {
			text = "killed during " + r.Steps[n-1].Address
		}
		return text
	}
	c := r.Counts
	return tally{
		{c.Changed, "changed", true}, {c.Failed, "failed", false}, {c.Skipped, "skipped", false}, {c.InProgress, "in progress", false},
	}.String()
}

// showRun prints what a run did.
func (t *terminal) showRun(store *journal.Store, number int) error {
	r, err := store.Run(number)
	if err != nil {
		return err
	}
	t.lines.run(r)
	t.printf("Run %d: %s by %s, %s, %s", number, what(r), r.User, when(r.At), runResult(r))
	if r.Counts != nil {
		t.printf(" (%s)", took(r))
	}
	t.printf("\n  converge %s", r.Converge)
	if r.Config != "" {
		t.printf(", configuration %s", r.Config)
	}
	t.printf("\n")
	width := 0
	for _, s := range r.Steps {
		width = max(width, len(s.Address))
	}
	for _, s := range r.Steps {
		t.step(store, r, s, width)
		t.lines.step(store, number, s)
	}
	for _, a := range r.Left {
		t.printf("  %s left the configuration; what it made stays on the host\n", a)
	}
	return nil
}

// step prints one resource of a run.
func (t *terminal) step(store *journal.Store, r *journal.Run, s *journal.Step, width int) {
	sign, paint, message := "ok", color.FgGreen, s.Summary
	switch {
	case s.End == nil && r.Open:
		sign, paint, message = "..", color.FgCyan, s.Summary+" (under way)"
	case s.End == nil:
		sign, paint, message = "--", color.FgYellow, s.Summary+" (killed before its end)"
	case s.Error != "":
		sign, paint, message = "ERR", color.FgRed, s.Error
	case s.Message != "":
		message = s.Message
	}
	if s.Drift {
		message = "drift: " + message
	}
	if s.End != nil {
		message += "  " + duration(s.Took)
	}
	t.printf("  %s %-*s  %s\n", t.paint(paint)(fmt.Sprintf("%-3s", sign)), width, s.Address, message)
	for _, e := range s.Edits {
		if line := editLine(store, e); line != "" {
			t.printf("      %s\n", line)
		}
	}
	for _, e := range s.Effects {
		line := strings.TrimSpace(e.Verb + " " + e.Target)
		if e.Why != "" {
			line += " (" + e.Why + ")"
		}
		t.printf("      %s\n", line)
	}
}

// editLine words an edit, and whether what it replaced is kept.
func editLine(store *journal.Store, e *journal.Edit) string {
	text := ""
	switch b, a := e.Before, e.After; {
	case e.Opaque:
		return "" // an edit of its own follows
	case a == nil:
		text = fmt.Sprintf("removed %s %s", b.Type, e.Path)
	case b == nil && a.Target != "":
		text = fmt.Sprintf("linked %s -> %s", e.Path, a.Target)
	case b == nil:
		text = fmt.Sprintf("created %s %s, %04o %d:%d", a.Type, e.Path, a.Mode, a.UID, a.GID)
	case a.Target != b.Target:
		text = fmt.Sprintf("linked %s -> %s (was %s)", e.Path, a.Target, b.Target)
	default:
		var also []string
		if a.Digest != b.Digest {
			also = append(also, fmt.Sprintf("content, %d -> %d bytes", b.Size, a.Size))
		}
		if a.Mode != b.Mode {
			also = append(also, fmt.Sprintf("mode %04o -> %04o", b.Mode, a.Mode))
		}
		if a.UID != b.UID || a.GID != b.GID {
			also = append(also, fmt.Sprintf("owner %d:%d -> %d:%d", b.UID, b.GID, a.UID, a.GID))
		}
		text = fmt.Sprintf("changed %s: %s", e.Path, strings.Join(also, "; "))
	}
	if note := store.KeptNote(e); note != "" {
		text += " [old content " + note + "]"
	}
	return text
}

// invoker is who runs converge: the effective user, and who became it by sudo.
func invoker() string {
	name := fmt.Sprintf("user %d", os.Geteuid())
	if u, err := user.LookupId(fmt.Sprint(os.Geteuid())); err == nil {
		name = u.Username
	}
	if by := os.Getenv("SUDO_USER"); by != "" && by != name {
		name += " (sudo by " + by + ")"
	}
	return name
}

// writeJournal has the engine write down what it does, under this head. The function it returns ends that.
func (s *session) writeJournal(t *terminal, head journal.Head) (end func(*plans.Report)) {
	head.Converge, head.User = version+revision(), invoker()
	if abs, err := filepath.Abs(head.Config); err == nil && head.Config != "" {
		head.Config = abs
	}
	j := s.journal.New(head)
	s.engine.Journal = j
	return func(r *plans.Report) {
		if err := j.Close(r); err != nil {
			t.lines.message("warning", "the journal of this run: "+err.Error(), diag.Fix(err))
			printError(t.err, "the journal of this run", err)
		}
	}
}
