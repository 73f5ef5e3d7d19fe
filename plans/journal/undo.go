package journal

import (
	"fmt"
	"slices"
	"strings"

	"github.com/converge-agent/converge/diag"
	"github.com/converge-agent/converge/plans"
	"github.com/converge-agent/converge/resources"
)

// Undo is what it takes to bring the host back to what it was before a run: the files first, then the units that had read
// them. It is made from the journal alone.
type Undo struct {
	Run    int   // the host becomes what it was before this one
	Runs   []int // all that are taken back, the oldest first
	Groups []*Group
	Units  []Unit
	// Stays are the effects that nobody takes back: a command that was run, objects that were copied.
	Stays []string
}

// Group is one resource with the files that runs have edited for it; or several, where they share files.
type Group struct {
	Addresses []string
	Paths     []*Was
}

// Was is one path before the first of the runs, and what the newest one left there.
type Was struct {
	Path   string
	Before *File
	// Left is what may stand there now. It is one state, and more where a run failed or was killed in between.
	Left    []*File
	By      int // the run that edited it last
	Private bool
	Secret  bool   // the runs have written a secret into it
	Gone    string // why the content of Before was not kept, where it was not
}

// Unit is a unit that the runs have had read the files anew.
type Unit struct {
	Verb, Name string   // "restart" or "reload"
	Address    string   // of the resource that did so
	Reads      []string // the resources whose files it read anew
}

// deletes are the verbs of effects that, being destructive, do away with media or other objects that no journal keeps.
var deletes = []string{"sync", "delete", "delete from", "prune"}

// Undo makes out what was before a run. Errors are that there is no such run, that one of them cannot be read, that one has
// deleted what nobody can bring back, and that the digests are of another key.
func (s *Store) Undo(run int) (*Undo, error) {
	doing := fmt.Sprintf("go back to before run %d", run)
	numbers, err := s.Runs()
	if err != nil {
		return nil, err
	}
	at, found := slices.BinarySearch(numbers, run)
	if !found {
		return nil, s.noRun(run)
	}
	u := &Undo{Run: run, Runs: numbers[at:]}
	history := map[string]*chain{}
	for _, n := range u.Runs {
		r, err := s.Run(n)
		if err != nil {
			return nil, diag.Wrap(err, doing, "")
		}
		if r.Open {
			return nil, diag.New(doing, fmt.Sprintf("run %d is under way", n), "Wait until it has ended.")
		}
		if r.Key != s.keyMark() && len(r.Steps) > 0 {
			return nil, diag.New(doing, fmt.Sprintf("the key in the state directory is another one than when run %d wrote its digests", n),
				"Bring the files back by hand: converge show names them, and what they were lies in "+s.keptDir()+".")
		}
		for _, step := range r.Steps {
			if err := u.take(r, step, history); err != nil {
				return nil, diag.Wrap(err, doing, "")
			}
		}
	}
	u.group(history)
	return u, nil
}

// AddressesOf returns the resources whose files the node at addr brings back.
func (u *Undo) AddressesOf(addr resources.Address) []string {
	for _, g := range u.Groups {
		if g.Addresses[0] == addr.String() {
			return g.Addresses
		}
	}
	return nil
}

// chain is the history of one path.
type chain struct {
	was       *Was
	addresses []string
}

// take adds what a step has done.
func (u *Undo) take(r *Run, step *Step, history map[string]*chain) error {
	for _, e := range step.Effects {
		if err := u.effect(r, step, e); err != nil {
			return err
		}
	}
	for _, e := range step.Edits {
		c := history[e.Path]
		if c == nil {
			c = &chain{was: &Was{Path: e.Path, Before: e.Before, Left: []*File{e.Before}}}
			history[e.Path] = c
		}
		c.take(r, step, e)
	}
	return nil
}

func (u *Undo) effect(r *Run, step *Step, e Effect) error {
	switch {
	case e.Destructive && slices.Contains(deletes, e.Verb):
		fix := "There is no later run to go back behind: change the configuration, and apply it."
		if i := slices.Index(u.Runs, r.Run); i+1 < len(u.Runs) {
			fix = fmt.Sprintf("Go back behind later runs only: converge rollback %d.", u.Runs[i+1])
		}
		return diag.New("", fmt.Sprintf("run %d did this, and nobody can bring it back: %s %s (%s)", r.Run, e.Verb, e.Target, step.Address), fix)
	case e.Verb != "restart" && e.Verb != "reload":
		u.Stays = append(u.Stays, strings.TrimSpace(fmt.Sprintf("%s %s (%s, run %d)", e.Verb, e.Target, step.Address, r.Run)))
		return nil
	}
	reads := append([]string{step.Address}, step.Needs...)
	i := slices.IndexFunc(u.Units, func(known Unit) bool { return known.Name == e.Target })
	if i < 0 {
		u.Units = append(u.Units, Unit{Verb: e.Verb, Name: e.Target, Address: step.Address, Reads: reads})
		return nil
	}
	known := &u.Units[i]
	if e.Verb == "restart" {
		known.Verb, known.Address = e.Verb, step.Address // which reads what a reload would, too
	}
	known.Reads = append(known.Reads, reads...)
	return nil
}

// take adds an edit. An opaque one has not been made yet: what was made follows as an edit of its own.
func (c *chain) take(r *Run, step *Step, e *Edit) {
	w := c.was
	if !slices.Contains(c.addresses, step.Address) {
		c.addresses = append(c.addresses, step.Address)
	}
	w.By, w.Private, w.Secret = r.Run, w.Private || e.Private, w.Secret || e.Secret
	if e.NotKept != "" && w.Gone == "" && w.Before != nil && e.Before != nil && e.Before.Digest == w.Before.Digest {
		w.Gone = fmt.Sprintf("%s (run %d)", e.NotKept, r.Run)
	}
	if e.Opaque {
		return
	}
	if step.End != nil && step.Outcome == plans.Changed.String() {
		w.Left = []*File{e.After}
		return
	}
	w.Left = append(w.Left, e.After)
}

// group puts together the resources that share a path, and sorts what comes out by path.
func (u *Undo) group(history map[string]*chain) {
	of := map[string]*Group{} // by address
	paths := make([]string, 0, len(history))
	for p := range history {
		paths = append(paths, p)
	}
	slices.Sort(paths)
	for _, p := range paths {
		c := history[p]
		var g *Group
		for _, a := range c.addresses {
			g = u.merge(g, of[a])
		}
		if g == nil {
			g = &Group{}
			u.Groups = append(u.Groups, g)
		}
		for _, a := range c.addresses {
			if !slices.Contains(g.Addresses, a) {
				g.Addresses = append(g.Addresses, a)
			}
		}
		g.Paths = append(g.Paths, c.was)
		for _, a := range g.Addresses {
			of[a] = g
		}
	}
}

// merge makes one group of two, of which either may be nil.
func (u *Undo) merge(a, b *Group) *Group {
	if a == nil || b == nil || a == b {
		if a == nil {
			return b
		}
		return a
	}
	a.Addresses, a.Paths = append(a.Addresses, b.Addresses...), append(a.Paths, b.Paths...)
	u.Groups = slices.DeleteFunc(u.Groups, func(g *Group) bool { return g == b })
	return a
}
