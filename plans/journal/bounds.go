package journal

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"time"

	"github.com/converge-agent/converge/diag"
)

// The bounds of what is on record. Runs that change nothing are none, so that these are reached slowly: an hourly run that
// always copies something fills three weeks, and without one the years of an instance fit. Runs go for their age only while
// newestKept stay, so that a clock that steps cannot take all of them.
const (
	maxRuns    = 500
	maxAge     = 400 * 24 * time.Hour // a year, and time to look back on it
	maxBytes   = 64 << 20             // of the runs and of what they have kept: little beside the logs of an instance
	newestKept = 20
)

// slack is what part of the runs goes at once, where there are too many: dropping looks through all of them.
const slack = maxRuns / 10

// size is a file of the journal.
type size struct {
	bytes   int64
	changed time.Time
}

// sizes returns the files directly in dir.
func sizes(dir string) (map[string]size, error) {
	entries, err := os.ReadDir(dir)
	if err != nil {
		return nil, diag.Wrap(err, "look how large the journal is", "")
	}
	found := map[string]size{}
	for _, e := range entries {
		info, err := e.Info()
		switch {
		case errors.Is(err, fs.ErrNotExist):
		case err != nil:
			return nil, diag.Wrap(err, "look how large the journal is", "")
		case info.Mode().IsRegular():
			found[e.Name()] = size{info.Size(), info.ModTime()}
		}
	}
	return found, nil
}

// bound drops the oldest runs while there are too many, or they are too old or too large, with what only they have kept.
// The newest, current, stays.
func (s *Store) bound(current int) error {
	files, err := sizes(s.dir)
	if err != nil {
		return err
	}
	kept, err := sizes(s.keptDir())
	if err != nil {
		return err
	}
	runs, err := s.Runs()
	if err != nil {
		return err
	}
	var bytes int64
	for _, set := range []map[string]size{files, kept} {
		for _, f := range set {
			bytes += f.bytes
		}
	}
	old := func(run int) bool {
		return s.clock.Now().Sub(files[filepath.Base(s.path(run))].changed) > maxAge
	}
	if len(runs) <= maxRuns && bytes <= maxBytes && (len(runs) <= newestKept || !old(runs[0])) {
		return nil
	}
	last, whole := s.lastUses(runs)
	if !whole {
		return nil // one cannot be read, so nobody knows what it still needs
	}
	tooMany := len(runs) > maxRuns
	for i, run := range runs {
		left := len(runs) - i
		tooOld := left > newestKept && old(run)
		tooManyLeft := tooMany && left > maxRuns-slack
		if run == current || !tooManyLeft && !tooOld && bytes <= maxBytes {
			break
		}
		if err := os.Remove(s.path(run)); err != nil {
			return diag.Wrap(err, "drop the oldest run on record", "")
		}
		bytes -= files[filepath.Base(s.path(run))].bytes
		for name, f := range kept {
			if last[name] > run {
				continue
			}
			if err := os.Remove(s.keptPath(name)); err != nil {
				return diag.Wrap(err, "drop what the oldest run on record has kept", "")
			}
			bytes -= f.bytes
			delete(kept, name)
		}
	}
	return nil
}

// lastUses returns the newest run that needs each of what is kept, and whether all runs could be read.
func (s *Store) lastUses(runs []int) (map[string]int, bool) {
	last := map[string]int{}
	for _, n := range runs {
		r, err := s.Run(n)
		if err != nil {
			return nil, false
		}
		for _, step := range r.Steps {
			for _, e := range step.Edits {
				if e.Before != nil {
					last[e.Before.Digest] = n
				}
			}
		}
	}
	return last, true
}
