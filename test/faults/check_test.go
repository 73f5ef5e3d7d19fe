package faults

import (
	"errors"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
)

// whole checks that every file is what it was or what it is to be, and that no secret can be read by everybody. What a
// killed run leaves under a temporary name is no file yet.
func (w *world) whole() error {
	now, err := look()
	if err != nil {
		return err
	}
	var wrong []error
	for _, path := range paths(now, w.before) {
		if temporary(path) || below(path, volatile...) || below(path, w.opaque...) || below(path, w.passing...) {
			continue
		}
		e, was, to := now[path], w.before[path], w.after[path]
		if !e.same(was) && !e.same(to) && !underway(e, was, to) {
			wrong = append(wrong, fmt.Errorf("%s is neither what it was nor what it is to be: it is %s, was %s, to be %s",
				path, e, was, to))
		}
	}
	return errors.Join(append(wrong, w.secretive(now))...)
}

// underway reports whether e is a directory between what it was and what it is to be: one that exists gets its owner and its
// mode by two calls. The new owner never meets a mode that gives more than the new one.
func underway(e, was, to entry) bool {
	if !e.mode.IsDir() || !was.mode.IsDir() || !to.mode.IsDir() {
		return false
	}
	owned := e.uid == to.uid && e.gid == to.gid
	return (owned || e.uid == was.uid && e.gid == was.gid) && e.mode == was.mode&to.mode
}

// paths are those of both, sorted.
func paths(a, b snapshot) []string {
	return slices.Compact(slices.Sorted(func(yield func(string) bool) {
		for _, s := range []snapshot{a, b} {
			for path := range s {
				if !yield(path) {
					return
				}
			}
		}
	}))
}

// temporary reports whether a path is one that a commit makes before it renames it: host/temp.go.
func temporary(path string) bool { return strings.HasPrefix(filepath.Base(path), ".converge-") }

// secretive checks that no file that everybody may read holds a secret. That a directory above keeps others out is luck.
func (w *world) secretive(now snapshot) error {
	var wrong []error
	for path, e := range now {
		if !e.mode.IsRegular() || e.mode&0o007 == 0 {
			continue
		}
		for name, secret := range w.secrets {
			if strings.Contains(e.content, secret) {
				wrong = append(wrong, fmt.Errorf("everybody may read the secret %s in %s (%s)", name, path, e.mode))
			}
		}
	}
	return errors.Join(wrong...)
}

// complete checks that every file is what it is to be, and that nothing is left of earlier runs.
func (w *world) complete() error {
	now, err := look()
	if err != nil {
		return err
	}
	wrong := []error{w.secretive(now)}
	for _, path := range paths(now, w.after) {
		switch {
		case temporary(path):
			wrong = append(wrong, fmt.Errorf("%s was left behind", path))
		case w.after == nil || below(path, volatile...) || below(path, w.opaque...):
		case !now[path].same(w.after[path]):
			wrong = append(wrong, fmt.Errorf("%s is %s, and not %s", path, now[path], w.after[path]))
		}
	}
	return errors.Join(wrong...)
}

// restarted checks that each service has read what its files hold now: that every restart that was owed has been done.
func (w *world) restarted() error {
	var wrong []error
	for _, name := range slices.Sorted(maps.Keys(w.services)) {
		var want strings.Builder
		for _, file := range w.services[name] {
			content, err := os.ReadFile(file)
			if err != nil {
				return err
			}
			want.Write(content)
		}
		var got []byte
		err := w.await(name+" has noted what it read", func() (err error) {
			got, err = os.ReadFile(w.notes(name))
			return err
		})
		if err == nil && string(got) != want.String() {
			err = fmt.Errorf("%s was not restarted after the last change: it has read %q, and its files hold %q", name, got, want.String())
		}
		wrong = append(wrong, err)
	}
	return errors.Join(wrong...)
}

// unwritten checks that nothing has been written since a look.
func unwritten(before snapshot) error {
	now, err := look()
	if err != nil {
		return err
	}
	var wrong []error
	for _, path := range paths(now, before) {
		if !below(path, slices.DeleteFunc(slices.Clone(volatile), func(dir string) bool { return dir == stateDir })...) && now[path] != before[path] {
			wrong = append(wrong, fmt.Errorf("a run with nothing to do wrote %s: it is %s, was %s", path, now[path], before[path]))
		}
	}
	return errors.Join(wrong...)
}
