package host

import (
	"errors"
	"fmt"
	"io/fs"
	"path"
	"slices"
	"strings"
	"sync"
	"syscall"
	"time"

	"github.com/converge-agent/converge/diag"
)

// Overlay shows the files of a host as they will be once the edits that were staged have been made. It may be used by
// several goroutines at once.
type Overlay struct {
	base   View
	mu     sync.RWMutex
	staged map[string]staged
}

// staged is what an edit leaves at its path.
type staged struct {
	file   *File // nil: nothing; of an opaque edit possibly nil too
	opaque bool
}

// NewOverlay returns base without any edit.
func NewOverlay(base View) *Overlay {
	return &Overlay{base: base, staged: map[string]staged{}}
}

// Stage adds an edit. It refuses what Commit would refuse: a path that no longer holds e.Before, a missing directory, one
// type in the place of another. An opaque edit is taken for what it is.
func (o *Overlay) Stage(e Edit) error {
	if err := CheckPath(e.Path); err != nil {
		return err
	}
	o.mu.Lock()
	defer o.mu.Unlock()
	name, err := o.resolve(e.Path)
	if err != nil {
		return err
	}
	current, err := o.lookup(name) // ErrOpaque where somebody else makes the file
	if err != nil {
		return err
	}
	known := e
	known.Opaque = false
	if err := CheckEdit(current, known); err != nil {
		return err
	}
	if e.Empty() {
		return nil
	}
	if err := o.checkPlace(name, e, current); err != nil {
		return err
	}
	o.staged[name] = staged{file: planned(e.After), opaque: e.Opaque}
	return nil
}

// checkPlace refuses to add a name to a directory that is not there, and to remove one that holds something.
func (o *Overlay) checkPlace(name string, e Edit, current *File) error {
	dir := path.Dir(name)
	parent, err := o.follow(dir)
	switch {
	case err != nil:
		return err
	case parent == nil:
		return MissingParent(name, dir)
	case e.After != nil || e.Opaque || current == nil || current.Type != Directory:
		return nil
	}
	names, err := o.list(name)
	if err != nil {
		return err
	}
	if len(names) > 0 {
		return NotEmpty(name, names)
	}
	return nil
}

// follow returns what a name leads to in the end; nil where that is nothing.
func (o *Overlay) follow(name string) (*File, error) {
	for links := 0; links <= maxLinks; links++ {
		at, err := o.resolve(name)
		if errors.Is(err, fs.ErrNotExist) {
			return nil, nil
		}
		if err != nil {
			return nil, err
		}
		f, err := o.lookup(at)
		if err != nil || f == nil || f.Type != Symlink {
			return f, err
		}
		if name = f.Target; !path.IsAbs(name) {
			name = path.Join(path.Dir(at), name)
		}
	}
	return nil, SystemError(syscall.ELOOP, "find", name)
}

// planned is f as a plan knows it: without a ctime.
func planned(f *File) *File {
	if f == nil {
		return nil
	}
	c := *f
	c.Content = slices.Clone(f.Content)
	c.ChangedAt = time.Time{}
	return &c
}

// Lookup returns what will stand at path. ChangedAt of a file that is staged is zero.
func (o *Overlay) Lookup(name string) (*File, error) {
	if err := CheckPath(name); err != nil {
		return nil, err
	}
	o.mu.RLock()
	defer o.mu.RUnlock()
	name, err := o.resolve(name)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	return o.lookup(name)
}

// List returns the sorted names that the directory at path will hold.
func (o *Overlay) List(name string) ([]string, error) {
	if err := CheckPath(name); err != nil {
		return nil, err
	}
	o.mu.RLock()
	defer o.mu.RUnlock()
	name, err := o.resolve(name)
	if err != nil {
		return nil, err
	}
	return o.list(name)
}

func (o *Overlay) lookup(name string) (*File, error) {
	s, ok := o.staged[name]
	switch {
	case !ok:
		return o.base.Lookup(name)
	case s.opaque:
		return nil, diag.Wrap(ErrOpaque, "read "+name, "")
	}
	return planned(s.file), nil
}

func (o *Overlay) list(name string) ([]string, error) {
	at, ok := o.staged[name]
	switch {
	case ok && at.file == nil:
		return nil, SystemError(fs.ErrNotExist, "list the directory", name)
	case ok && at.file.Type != Directory:
		return nil, SystemError(syscall.ENOTDIR, "list the directory", name)
	}
	names, err := o.base.List(name)
	if err != nil && (!ok || !errors.Is(err, fs.ErrNotExist)) {
		return nil, err
	}
	for p, s := range o.staged {
		if path.Dir(p) != name || p == name {
			continue
		}
		base := path.Base(p)
		i, found := slices.BinarySearch(names, base)
		switch gone := s.file == nil && !s.opaque; {
		case gone && found:
			names = slices.Delete(names, i, i+1)
		case !gone && !found:
			names = slices.Insert(names, i, base)
		}
	}
	return names, nil
}

// resolve replaces each staged link inside name by where it leads. The base follows its own links; it does not see those
// that are only planned. A staged removal inside name is fs.ErrNotExist, another staged file ENOTDIR.
func (o *Overlay) resolve(name string) (string, error) {
	for links := 0; links <= maxLinks; links++ {
		inside, s := o.stagedInside(name)
		switch {
		case inside == "":
			return name, nil
		case s.file == nil:
			return "", MissingParent(name, inside)
		case s.file.Type != Symlink:
			return "", SystemError(fmt.Errorf("%s is to be a %s: %w", inside, s.file.Type, syscall.ENOTDIR), "find", name)
		}
		target := s.file.Target
		if !path.IsAbs(target) {
			target = path.Join(path.Dir(inside), target)
		}
		name = path.Join(target, strings.TrimPrefix(name, inside))
	}
	return "", SystemError(syscall.ELOOP, "find", name)
}

// stagedInside returns the highest staged path above name that is no directory, or else ""; and what is staged there.
func (o *Overlay) stagedInside(name string) (string, staged) {
	found, at := "", staged{}
	for dir := path.Dir(name); dir != "/"; dir = path.Dir(dir) {
		if s, ok := o.staged[dir]; ok && (s.file == nil || s.file.Type != Directory) {
			found, at = dir, s
		}
	}
	return found, at
}
