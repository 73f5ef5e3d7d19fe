package s3sync

import (
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/converge-agent/converge/diag"
	"github.com/converge-agent/converge/objectstore/ledger"
	"github.com/converge-agent/converge/resources"
)

// plan is what Diff hands to Apply.
type plan struct {
	list  bool
	total tally

	following bool
	switched  bool
	gone      []string    // keys whose objects are to be deleted
	refused   error       // why none is, though some are due
	root      ledger.Root // to be remembered; zero: not now
}

// Diff says what is owed.
func (s *resource) Diff(st resources.State) resources.Change {
	is := st.(*state)
	if is.busy {
		return resources.Change{Action: resources.InProgress, Summary: "another run copies these files now"}
	}
	c := resources.Change{Notes: s.notes(is), Private: planOf(is), Metrics: is.metrics()}
	if is.todo().Files == 0 && is.list == "" && is.unread.n == 0 && !is.pending && !is.withdraws() {
		if err := is.withdraw.refused; err != nil {
			c.Action, c.Summary = resources.Blocked, err.Error()
			c.Notes = append(c.Notes, diag.Fix(err))
			return c
		}
		c.Summary = is.proven.String() + " in the bucket"
		if is.withdrawn > 0 {
			c.Summary += "; deleted " + objects(is.withdrawn) + " whose files the app deleted"
		}
		if !is.completeTo.IsZero() {
			c.Remember = map[string]any{progressRecord: complete{To: is.completeTo, Place: s.place, Filter: s.filterText()}}
		}
		return c
	}
	c.Action = resources.Run
	c.Summary = s.summary(is)
	c.Effects = s.effects(is)
	if is.onlyLooks() && !slices.ContainsFunc(c.Effects, func(e resources.Effect) bool { return e.Destructive }) {
		c.Action = resources.Look
	}
	return c
}

func planOf(is *state) plan {
	p := plan{list: is.list != "", total: is.todo(), following: is.withdraw.on, switched: is.withdraw.switched, refused: is.withdraw.refused}
	if is.withdraws() {
		p.gone = is.withdraw.due
	}
	// What the directory is known by is never learnt from one that lacks files, but by an admin's word.
	if !is.withdraw.gone() || is.withdraw.accepted {
		p.root = is.withdraw.root
	}
	return p
}

// summary says in one line what the run will do: "~2,000 files, 38.2 MB to copy, 2,000 PUT; not copied: backups/ 3 files".
func (s *resource) summary(is *state) string {
	var parts []string
	if is.owed.Files > 0 {
		approx := ""
		if is.proven.Files == 0 && is.list != "" {
			approx = "~" // the bucket may hold some already
		}
		parts = append(parts, fmt.Sprintf("%s%s to copy, %s%s PUT%s", approx, is.owed, approx, count(is.owed.Files), s.howLong(is.owed)))
	}
	if is.compare.Files > 0 {
		parts = append(parts, is.compare.String()+" to compare with the bucket")
	}
	if is.conflicts.Files > 0 {
		parts = append(parts, files(is.conflicts.Files)+" that differ in the bucket to look at again")
	}
	if is.withdraws() {
		parts = append(parts, fmt.Sprintf("delete %s whose files the app deleted", objects(int64(len(is.withdraw.due)))))
	}
	if is.list != "" && is.todo().Files == 0 {
		parts = append(parts, "list the whole bucket: "+is.list)
	}
	if is.unread.n > 0 {
		parts = append(parts, fmt.Sprintf("%s that cannot be read", places(is.unread.n)))
	}
	switch {
	case is.pending && is.withdraw.on:
		parts = append(parts, "what is written or deleted until then")
	case is.pending:
		parts = append(parts, "what is written until then")
	}
	if left := leftOut(is.leftOut); left != "" {
		parts = append(parts, "not copied: "+left)
	}
	return strings.Join(parts, "; ")
}

// howLong tells the time that the configured bandwidth makes it take.
func (s *resource) howLong(t tally) string {
	if s.Bandwidth == 0 {
		return ""
	}
	d := time.Duration(float64(t.Bytes) / float64(s.Bandwidth) * float64(time.Second))
	text := fmt.Sprintf(", ~%s at %s/s", about(d), size(int64(s.Bandwidth)))
	if s.MaxRuntime > 0 && d > s.MaxRuntime {
		text += " in runs of " + about(s.MaxRuntime)
	}
	return text
}

func leftOut(by map[string]tally) string {
	var parts []string
	for _, why := range slices.Sorted(maps.Keys(by)) {
		parts = append(parts, fmt.Sprintf("%s %s %s", why, files(by[why].Files), size(by[why].Bytes)))
	}
	return strings.Join(parts, ", ")
}

func places(n int64) string {
	if n == 1 {
		return "1 place"
	}
	return count(n) + " places"
}

// effects is the same in every case: an apply may find other files than its plan did, but it does nothing else. It deletes
// nothing that the plan has not shown; a plan that cannot know it yet says that it may come.
func (s *resource) effects(is *state) []resources.Effect {
	e := resources.Effect{
		Verb: "sync", Target: fmt.Sprintf("%s/%s", s.Bucket.Name, s.Prefix),
		Bytes: is.owed.Bytes, Provider: s.Bucket.Provider, Operations: map[string]int64{"PutObject": is.owed.Files + is.conflicts.Files},
	}
	if is.list != "" {
		e.Operations["ListObjectsV2"] = is.listRequests()
		e.Why = "with a listing, for " + is.list
	} else if s.looksFirst() {
		e.Operations["HeadObject"] = is.owed.Files
	}
	w := &is.withdraw
	due := int64(len(w.due))
	gone := resources.Effect{
		Verb: "delete from", Target: e.Target, Destructive: true, Deletes: due,
		Provider: s.Bucket.Provider, Operations: map[string]int64{"HeadObject": due, "DeleteObject": due},
		Why: fmt.Sprintf("%s whose files the app deleted: %s", objects(due), quoted(w.due)),
	}
	switch {
	case w.open:
		e.Destructive = is.pending || is.withdraws()
		if is.withdraws() {
			for op, n := range gone.Operations {
				e.Operations[op] += n
			}
			e.Deletes = gone.Deletes
			e.Why = joined(e.Why, "deletes "+gone.Why)
		}
		if is.pending && w.on {
			e.Why = joined(e.Why, announce)
		}
	case is.planned && w.refused == nil && is.unread.n == 0:
		return summed(e, gone)
	}
	return summed(e)
}

func joined(a, b string) string {
	if a == "" {
		return b
	}
	return a + "; " + b
}

// summed are effects whose Requests are the sum of their Operations.
func summed(effects ...resources.Effect) []resources.Effect {
	for i := range effects {
		e := &effects[i]
		maps.DeleteFunc(e.Operations, func(_ string, n int64) bool { return n == 0 })
		for _, n := range e.Operations {
			e.Requests += n
		}
	}
	return effects
}

// looksFirst reports whether each key is looked at before it is written, in a run without a listing: the store has no
// condition for it.
func (s *resource) looksFirst() bool {
	p, known := s.Bucket.Store.Entry()
	return !known || !p.ConditionalWrites
}

// notes say what the run leaves alone.
func (s *resource) notes(is *state) []string {
	var out []string
	if is.later.Files > 0 {
		out = append(out, fmt.Sprintf("new since %s: %s; the next run owes them", is.cutoff.Format("15:04:05"), is.later))
	}
	if is.gone.Files > 0 {
		out = append(out, fmt.Sprintf("deleted from the bucket since they were copied: %s; they are not copied again", is.gone))
	}
	w := &is.withdraw
	if w.later.Files > 0 {
		out = append(out, fmt.Sprintf("deleted by the app since the plan was made: %s; the next run deletes their objects", w.later))
	}
	if w.foreign.Files > 0 {
		out = append(out, fmt.Sprintf("gone from %s, and uploaded or replaced by somebody else: %s; their objects stay", s.Source, w.foreign))
	}
	switch {
	case len(w.due) == 0:
	case is.unread.n > 0:
		out = append(out, fmt.Sprintf("%s whose files are gone stay until everything can be read", objects(int64(len(w.due)))))
	case w.refused != nil && (is.todo().Files > 0 || is.list != "" || is.pending):
		out = append(out, w.refused.Error())
	}
	if is.special.n > 0 {
		out = append(out, "passed over: "+listed(is.special))
	}
	if is.unread.n > 0 {
		out = append(out, "cannot be read: "+listed(is.unread))
	}
	return out
}

// listed names the first problems, and the number of the others.
func listed(p problems) string {
	text := strings.Join(p.first, "; ")
	if more := p.n - int64(len(p.first)); more > 0 {
		text += fmt.Sprintf("; and %s more", count(more))
	}
	return text
}
