package journal

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/converge-agent/converge/diag"
	"github.com/converge-agent/converge/host"
)

// Store is the journal of all runs on a host, below the state directory.
type Store struct {
	dir   string
	files host.Files
	users host.Users
	clock host.Clock
	keys  Keys
}

// Keys makes what stands for digests; plans.Records does.
type Keys interface {
	Keyed(digest string) string
	SaveKey() error
}

// Open returns the journal below the state directory, which need not exist yet.
func Open(stateDir string, files host.Files, users host.Users, clock host.Clock, keys Keys) *Store {
	return &Store{dir: filepath.Join(stateDir, "journal"), files: files, users: users, clock: clock, keys: keys}
}

// Run is what is on record of one run.
type Run struct {
	Head
	At     time.Time
	Steps  []*Step
	Left   []string // addresses that it found to have left the configuration
	Counts *Counts  // nil: it did not come to its end
	Open   bool     // it is under way
}

// Step is what a run did about one resource.
type Step struct {
	Address string
	At      time.Time
	Change
	*End // nil: the run did not come so far
}

const suffix = ".jsonl"

func (s *Store) path(run int) string { return filepath.Join(s.dir, strconv.Itoa(run)+suffix) }

// Runs returns the numbers of the runs on record, the oldest first.
func (s *Store) Runs() ([]int, error) {
	names, err := s.files.List(s.dir)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, diag.Wrap(err, "look for the runs on record", "Run it as root.")
	}
	var runs []int
	for _, name := range names {
		if n, err := strconv.Atoi(strings.TrimSuffix(name, suffix)); err == nil && n > 0 && filepath.Base(s.path(n)) == name {
			runs = append(runs, n)
		}
	}
	slices.Sort(runs)
	return runs, nil
}

// Run reads what is on record of a run.
func (s *Store) Run(number int) (*Run, error) {
	path := s.path(number)
	text, open, err := host.ReadLog(path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, s.noRun(number)
	}
	if err != nil {
		return nil, err
	}
	r := &Run{Head: Head{Run: number}, Open: open}
	for n := 1; len(text) > 0; n++ {
		one, rest, whole := bytes.Cut(text, []byte{'\n'})
		text = rest
		var l line
		if err := json.Unmarshal(one, &l); err != nil {
			if !whole || len(bytes.TrimRight(rest, "\x00")) == 0 { // the power went while it was being written
				break
			}
			return nil, diag.New("read "+path, fmt.Sprintf("line %d is damaged", n), "Look at the disk. What comes before that line can still be read by hand.")
		}
		if n == 1 && l.Head != nil && l.Version > version {
			return nil, newerError(path, l.Version)
		}
		r.take(&l)
	}
	return r, nil
}

// take adds a line to what is known of the run. Unknown types are passed over: a later version 1 may have more.
func (r *Run) take(l *line) {
	last := func() *Step {
		for _, s := range slices.Backward(r.Steps) {
			if s.Address == l.Address {
				return s
			}
		}
		return &Step{} // a line of no step tells nothing
	}
	switch {
	case l.Type == typeRun && l.Head != nil:
		r.Head, r.At = *l.Head, l.At
	case l.Type == typeLeft:
		r.Left = append(r.Left, l.Left...)
	case l.Type == typeStart && l.Change != nil:
		r.Steps = append(r.Steps, &Step{Address: l.Address, At: l.At, Change: *l.Change})
	case l.Type == typeEdit && l.Edit != nil:
		s := last()
		s.Edits = append(s.Edits, l.Edit)
	case l.Type == typeEnd:
		last().End = l.End
	case l.Type == typeDone:
		r.Counts = l.Counts
	}
}

// noRun is the failure to find a run.
func (s *Store) noRun(number int) error {
	runs, err := s.Runs()
	switch {
	case err != nil:
		return err
	case len(runs) == 0:
		return diag.New(fmt.Sprintf("look for run %d", number), "no run is on record in "+s.dir, "A run is on record once it has changed something. Is it the right --state-dir?")
	}
	return diag.New(fmt.Sprintf("look for run %d", number),
		fmt.Sprintf("it is not on record; there are %d, from %d to %d", len(runs), runs[0], runs[len(runs)-1]), "Run converge history.")
}

// eachEdit calls visit for every edit of every run that can be read.
func (s *Store) eachEdit(visit func(*Edit)) error {
	runs, err := s.Runs()
	if err != nil {
		return err
	}
	for _, n := range runs {
		r, err := s.Run(n)
		if err != nil {
			continue // a damaged or newer one; those that can be read count
		}
		for _, step := range r.Steps {
			for _, e := range step.Edits {
				visit(e)
			}
		}
	}
	return nil
}
