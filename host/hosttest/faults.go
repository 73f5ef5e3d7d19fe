package hosttest

import (
	"bytes"
	"context"
	"errors"
	"slices"
	"strings"
	"syscall"
	"testing"

	"github.com/converge-agent/converge/diag"
	"github.com/converge-agent/converge/host"
)

// Overlay returns a view as Files whose commits are only staged, for TestFiles.
func Overlay(o *host.Overlay) host.Files { return overlayFiles{o} }

type overlayFiles struct{ *host.Overlay }

func (o overlayFiles) Commit(ctx context.Context, e host.Edit) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	return o.Stage(e)
}

// MakeFaulty returns an empty implementation of host.Files that asks fail before each step of a commit, as Memory does.
type MakeFaulty func(t *testing.T, fail func(op, path string) error) (files host.Files, root string)

// TestFaults checks that a commit that fails at any step leaves what stood there or what was to stand there, whole, and
// nothing else; and that the same commit then succeeds.
func TestFaults(t *testing.T, build MakeFaulty) {
	edits := map[string]struct {
		before, after *host.File
		steps         []string
	}{
		"new file":       {nil, file("new", 0o644), []string{"temp", "chown", "write", "sync", "rename", "dirsync"}},
		"changed file":   {file("old", 0o644), file("new", 0o640), []string{"temp", "chown", "write", "sync", "rename", "dirsync"}},
		"new link":       {nil, link("x"), []string{"temp", "chown", "rename", "dirsync"}},
		"changed link":   {link("x"), link("y"), []string{"temp", "chown", "rename", "dirsync"}},
		"new directory":  {nil, directory(0o755), []string{"temp", "chown", "sync", "rename", "dirsync"}},
		"directory mode": {directory(0o700), directory(0o755), []string{"chown", "sync"}},
		"removal":        {file("old", 0o644), nil, []string{"unlink", "dirsync"}},
		"rmdir":          {directory(0o755), nil, []string{"unlink", "dirsync"}},
	}
	for name, edit := range edits {
		for _, step := range edit.steps {
			t.Run(name+" fails at "+step, func(t *testing.T) {
				testFault(t, build, edit.before, edit.after, step)
			})
		}
		t.Run(name+" has these steps", func(t *testing.T) {
			testSteps(t, build, edit.before, edit.after, edit.steps)
		})
	}
}

func testFault(t *testing.T, build MakeFaulty, before, after *host.File, step string) {
	broken := ""
	files, root := build(t, func(op, _ string) error {
		if op == broken {
			return syscall.ENOSPC
		}
		return nil
	})
	b := &bench{t, files, root}
	b.mustCommit("a", nil, before)
	broken = step
	e := host.Edit{Path: b.path("a"), Before: before, After: after}
	err := files.Commit(t.Context(), e)
	if !errors.Is(err, syscall.ENOSPC) || !strings.Contains(diag.Fix(err), "Free some space") {
		t.Fatalf("Commit: got %v (%s), want ENOSPC with advice", err, diag.Fix(err))
	}
	got, err := files.Lookup(e.Path)
	if err != nil || !got.Same(before) && !got.Same(after) {
		t.Errorf("after the failure: %s, %v; want old or new", describe(got), err)
	}
	names, err := files.List(root)
	if err != nil || len(names) > 1 || len(names) == 1 && names[0] != "a" {
		t.Errorf("the failure left %q, %v", names, err)
	}
	broken = ""
	b.mustCommit("a", got, after)
}

func testSteps(t *testing.T, build MakeFaulty, before, after *host.File, want []string) {
	var got []string
	files, root := build(t, func(op, _ string) error {
		got = append(got, op)
		return nil
	})
	b := &bench{t, files, root}
	b.mustCommit("a", nil, before)
	got = nil
	b.mustCommit("a", before, after)
	if !slices.Equal(got, want) {
		t.Errorf("steps: got %q, want %q", got, want)
	}
	cancelled, cancel := context.WithCancel(t.Context())
	cancel()
	e := host.Edit{Path: b.path("b"), After: &host.File{Content: bytes.Repeat([]byte("x"), 10)}}
	if err := files.Commit(cancelled, e); !errors.Is(err, context.Canceled) {
		t.Errorf("Commit with a cancelled context: got %v, want context.Canceled", err)
	}
	b.mustHold("b", nil)
}
