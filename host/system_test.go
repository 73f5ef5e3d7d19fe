package host_test

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/converge-agent/converge/diag"
	"github.com/converge-agent/converge/host"
	"github.com/converge-agent/converge/host/hosttest"
	"golang.org/x/sys/unix"
)

func TestSystem(t *testing.T) {
	hosttest.TestFiles(t, func(t *testing.T) (host.Files, string) { return host.System(), t.TempDir() })
}

func TestSystemFaults(t *testing.T) {
	hosttest.TestFaults(t, func(t *testing.T, fail func(step, path string) error) (host.Files, string) {
		return host.SystemWithFaults(fail), t.TempDir()
	})
}

func TestOverlayOfSystem(t *testing.T) {
	hosttest.TestFiles(t, func(t *testing.T) (host.Files, string) {
		return hosttest.Overlay(host.NewOverlay(host.System())), t.TempDir()
	})
}

// text is a regular file of the user that runs the test.
func text(content string) *host.File {
	return &host.File{Content: []byte(content), Mode: 0o644, UID: os.Geteuid(), GID: os.Getegid()}
}

func lookup(t *testing.T, path string) *host.File {
	t.Helper()
	f, err := host.System().Lookup(path)
	must(t, err)
	return f
}

func TestChangedAtIsCtime(t *testing.T) {
	path := filepath.Join(t.TempDir(), "a")
	must(t, os.WriteFile(path, []byte("x"), 0o644))
	must(t, os.Chtimes(path, time.Unix(1, 0), time.Unix(1, 0)))
	if age := time.Since(lookup(t, path).ChangedAt); age < -time.Second || age > time.Minute {
		t.Errorf("ChangedAt is %s ago, want now: the mtime that was set back must not count", age)
	}
}

// A pipe without a writer would hold up an open for ever, and a device may do anything when it is opened.
func TestSpecialFilesAreNotOpened(t *testing.T) {
	dir := t.TempDir()
	pipe := filepath.Join(dir, "pipe")
	must(t, unix.Mkfifo(pipe, 0o644))
	for _, path := range []string{pipe, "/dev/null"} {
		f := lookup(t, path)
		if f.Type != host.Other || f.Content != nil {
			t.Errorf("Lookup(%s): got a %s with %d bytes, want a special file", path, f.Type, len(f.Content))
		}
		for name, e := range map[string]host.Edit{
			"replaced": {Path: path, Before: f, After: text("x")},
			"removed":  {Path: path, Before: f},
		} {
			if err := host.System().Commit(t.Context(), e); !errors.Is(err, syscall.EINVAL) || diag.Fix(err) == "" {
				t.Errorf("%s %s: got %v (%s), want a refusal with advice", path, name, err, diag.Fix(err))
			}
		}
	}
}

// Somebody puts a pipe in the place of the file between the look at it and its opening, again and again.
func TestSwappedForAPipe(t *testing.T) {
	dir := t.TempDir()
	path, pipe := filepath.Join(dir, "a"), filepath.Join(dir, "pipe")
	must(t, os.WriteFile(path, []byte("text"), 0o644))
	must(t, unix.Mkfifo(pipe, 0o644))
	done := make(chan struct{})
	defer close(done)
	go func() {
		for {
			select {
			case <-done:
				return
			default:
				_ = unix.Renameat2(unix.AT_FDCWD, path, unix.AT_FDCWD, pipe, unix.RENAME_EXCHANGE)
			}
		}
	}()
	looked := make(chan struct{})
	go func() {
		defer close(looked)
		for range 5000 {
			f, err := host.System().Lookup(path)
			switch {
			case errors.Is(err, host.ErrMoved):
			case err != nil:
				t.Errorf("Lookup: %v", err)
			case f.Type == host.Regular && string(f.Content) != "text":
				t.Errorf("Lookup: got %q", f.Content)
			}
		}
	}()
	select {
	case <-looked:
	case <-time.After(5 * time.Minute):
		t.Fatal("a Lookup waits for a pipe")
	}
}

func TestTooLarge(t *testing.T) {
	path := filepath.Join(t.TempDir(), "a")
	must(t, os.WriteFile(path, nil, 0o644))
	must(t, os.Truncate(path, host.MaxContent+1))
	if _, err := host.System().Lookup(path); !errors.Is(err, host.ErrTooLarge) || diag.Fix(err) == "" {
		t.Errorf("Lookup: got %v, want ErrTooLarge with advice", err)
	}
}

// An app that may write in the directory makes its own name for a file of ours. Writing must not reach through it.
func TestHardLinkIsNotWrittenThrough(t *testing.T) {
	dir := t.TempDir()
	theirs, ours := filepath.Join(dir, "theirs"), filepath.Join(dir, "ours")
	must(t, os.WriteFile(theirs, []byte("theirs"), 0o644))
	must(t, os.Link(theirs, ours))
	before, after := lookup(t, ours), text("theirs")
	after.Mode = 0o600
	must(t, host.System().Commit(t.Context(), host.Edit{Path: ours, Before: before, After: after}))
	if got := lookup(t, theirs); got.Mode != 0o644 {
		t.Errorf("the other name of the file has mode %o, want 644 as before", got.Mode)
	}
	if got := lookup(t, ours); !got.Same(after) {
		t.Errorf("got %v, want %v", got, after)
	}
}

func TestSystemErrorsCarryAdvice(t *testing.T) {
	for _, test := range []struct {
		err  error
		want string
	}{
		{syscall.ENOSPC, "Free some space"},
		{syscall.EROFS, "ReadWritePaths="},
		{syscall.EACCES, "Run converge as root"},
		{syscall.EPERM, "lsattr"},
		{&fs.PathError{Op: "write", Path: ".converge-1", Err: syscall.ENOSPC}, "Free some space"},
		{errors.New("else"), ""},
	} {
		err := host.SystemError(test.err, "write", "/etc/x")
		if fix := diag.Fix(err); !strings.Contains(fix, test.want) || (test.want == "") != (fix == "") {
			t.Errorf("%v: got advice %q, want one with %q", test.err, fix, test.want)
		}
		if strings.Contains(err.Error(), ".converge") || !strings.HasPrefix(err.Error(), "write /etc/x: ") {
			t.Errorf("got %q, want it to name /etc/x and no temporary file", err)
		}
	}
	if err := host.SystemError(nil, "write", "/etc/x"); err != nil {
		t.Errorf("no error became %v", err)
	}
}
