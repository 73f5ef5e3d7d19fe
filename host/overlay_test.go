package host_test

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"syscall"
	"testing"

	"github.com/converge-agent/converge/host"
)

// newOverlay returns an overlay over a directory with the file a and the directory d with the file d/b.
func newOverlay(t *testing.T) (*host.Overlay, string) {
	dir := t.TempDir()
	must(t, os.WriteFile(filepath.Join(dir, "a"), []byte("a"), 0o644))
	must(t, os.Mkdir(filepath.Join(dir, "d"), 0o755))
	must(t, os.WriteFile(filepath.Join(dir, "d/b"), []byte("b"), 0o644))
	return host.NewOverlay(host.System()), dir
}

func own(f host.File) *host.File {
	f.UID, f.GID = os.Geteuid(), os.Getegid()
	return &f
}

func TestOverlayLeavesTheBaseAlone(t *testing.T) {
	o, dir := newOverlay(t)
	path := filepath.Join(dir, "a")
	is := lookup(t, path)
	must(t, o.Stage(host.Edit{Path: path, Before: is, After: text("new")}))
	if got := lookup(t, path); string(got.Content) != "a" {
		t.Errorf("the real file holds %q", got.Content)
	}
	got, err := o.Lookup(path)
	if err != nil || string(got.Content) != "new" || !got.ChangedAt.IsZero() {
		t.Errorf("staged: got %+v, %v; want new, without a time", got, err)
	}
	below, err := o.Lookup(filepath.Join(dir, "d/b"))
	if err != nil || below.ChangedAt.IsZero() {
		t.Errorf("not staged: got %+v, %v; want the time of the base", below, err)
	}
}

// Two resources that edit one file see each other's edits.
func TestOverlayChains(t *testing.T) {
	o, dir := newOverlay(t)
	path := filepath.Join(dir, "a")
	first := host.Edit{Path: path, Before: lookup(t, path), After: text("one")}
	must(t, o.Stage(first))
	if err := o.Stage(first); !errors.Is(err, host.ErrMoved) {
		t.Errorf("an edit of what is no longer there: got %v, want ErrMoved", err)
	}
	must(t, o.Stage(host.Edit{Path: path, Before: text("one"), After: text("two")}))
}

func TestOverlayRemovals(t *testing.T) {
	o, dir := newOverlay(t)
	d, b := filepath.Join(dir, "d"), filepath.Join(dir, "d/b")
	if err := o.Stage(host.Edit{Path: d, Before: lookup(t, d)}); !errors.Is(err, syscall.ENOTEMPTY) {
		t.Errorf("removal of a directory in use: got %v, want ENOTEMPTY", err)
	}
	must(t, o.Stage(host.Edit{Path: b, Before: lookup(t, b)}))
	must(t, o.Stage(host.Edit{Path: d, Before: lookup(t, d)}))
	if names, err := o.List(dir); err != nil || !slices.Equal(names, []string{"a"}) {
		t.Errorf("List: got %q, %v; want only a", names, err)
	}
	if _, err := o.List(d); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("List of what is removed: got %v, want fs.ErrNotExist", err)
	}
	for _, gone := range []string{d, b} {
		if f, err := o.Lookup(gone); f != nil || err != nil {
			t.Errorf("Lookup(%s): got %v, %v; want nothing", gone, f, err)
		}
	}
	if err := o.Stage(host.Edit{Path: b, After: text("x")}); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("a file in a directory that is removed: got %v, want fs.ErrNotExist", err)
	}
	must(t, o.Stage(host.Edit{Path: d, After: own(host.File{Type: host.Directory, Mode: 0o700})}))
	must(t, o.Stage(host.Edit{Path: b, After: text("x")}))
}

func TestOverlayLinks(t *testing.T) {
	o, dir := newOverlay(t)
	link := func(name, target string) {
		must(t, o.Stage(host.Edit{Path: filepath.Join(dir, name), After: own(host.File{Type: host.Symlink, Target: target})}))
	}
	link("l", "d")
	link("m", filepath.Join(dir, "l"))
	link("round", "round")
	if f, err := o.Lookup(filepath.Join(dir, "m/b")); err != nil || string(f.Content) != "b" {
		t.Errorf("through two staged links: got %v, %v; want b", f, err)
	}
	must(t, o.Stage(host.Edit{Path: filepath.Join(dir, "m/c"), After: text("c")}))
	if names, err := o.List(filepath.Join(dir, "d")); err != nil || !slices.Equal(names, []string{"b", "c"}) {
		t.Errorf("List of where they lead: got %q, %v; want b and c", names, err)
	}
	if _, err := o.Lookup(filepath.Join(dir, "round/x")); !errors.Is(err, syscall.ELOOP) {
		t.Errorf("a staged link to itself: got %v, want ELOOP", err)
	}
	a := filepath.Join(dir, "a")
	must(t, o.Stage(host.Edit{Path: a, Before: lookup(t, a), After: text("still a file")}))
	if _, err := o.Lookup(a + "/x"); !errors.Is(err, syscall.ENOTDIR) {
		t.Errorf("inside a staged file: got %v, want ENOTDIR", err)
	}
}

func TestOverlayOpaque(t *testing.T) {
	o, dir := newOverlay(t)
	path := filepath.Join(dir, "cert")
	e := host.Edit{Path: path, Opaque: true}
	must(t, o.Stage(e))
	if _, err := o.Lookup(path); !errors.Is(err, host.ErrOpaque) {
		t.Errorf("Lookup: got %v, want ErrOpaque", err)
	}
	if err := o.Stage(host.Edit{Path: path, After: text("x")}); !errors.Is(err, host.ErrOpaque) {
		t.Errorf("an edit of what nobody knows: got %v, want ErrOpaque", err)
	}
	if names, err := o.List(dir); err != nil || !slices.Contains(names, "cert") {
		t.Errorf("List: got %q, %v; want cert in it", names, err)
	}
}

func TestOverlayConcurrently(t *testing.T) {
	o, dir := newOverlay(t)
	var wg sync.WaitGroup
	for i := range 20 {
		wg.Go(func() {
			path := filepath.Join(dir, fmt.Sprint("f", i))
			if err := o.Stage(host.Edit{Path: path, After: text("x")}); err != nil {
				t.Error(err)
			}
			if _, err := o.List(dir); err != nil {
				t.Error(err)
			}
			if f, err := o.Lookup(path); err != nil || f == nil {
				t.Errorf("Lookup: got %v, %v", f, err)
			}
		})
	}
	wg.Wait()
	if names, err := o.List(dir); err != nil || len(names) != 22 {
		t.Errorf("List: got %q, %v; want 22 names", names, err)
	}
}

// A directory that is only a link to nowhere, or to a file, is none to write into; one that leads to a directory is.
func TestOverlayFollowsTheDirectory(t *testing.T) {
	o, dir := newOverlay(t)
	for name, target := range map[string]string{"nowhere": "missing", "file": "a", "loop": "loop", "there": "d", "twice": "there"} {
		must(t, os.Symlink(target, filepath.Join(dir, name)))
	}
	for name, want := range map[string]bool{"nowhere": false, "file": false, "loop": false, "there": true, "twice": true} {
		err := o.Stage(host.Edit{Path: filepath.Join(dir, name, name), After: text("new")})
		if (err == nil) != want {
			t.Errorf("a file in %s: got %v, want it to succeed: %v", name, err, want)
		}
	}
	planned := own(host.File{Type: host.Symlink, Target: "missing"})
	must(t, o.Stage(host.Edit{Path: filepath.Join(dir, "soon"), After: planned}))
	if err := o.Stage(host.Edit{Path: filepath.Join(dir, "soon/x"), After: text("new")}); err == nil {
		t.Error("a file was planned in what is going to be a link to nowhere")
	}
}
