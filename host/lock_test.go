package host_test

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/converge-agent/converge/diag"
	"github.com/converge-agent/converge/host"
	"golang.org/x/sys/unix"
)

func TestLock(t *testing.T) {
	path := filepath.Join(t.TempDir(), "lock")
	lock, err := host.AcquireLock(t.Context(), path, "apply (root)", 0)
	must(t, err)
	if f := lookup(t, path); f.Mode != 0o600 {
		t.Errorf("the lock file has mode %o: whoever may open it may keep the lock", f.Mode)
	}
	_, err = host.AcquireLock(t.Context(), path, "plan", 0)
	holder := fmt.Sprintf("apply (root), process %d, since %d-", os.Getpid(), time.Now().UTC().Year())
	if !errors.Is(err, host.ErrLocked) || !strings.Contains(err.Error(), holder) || !strings.Contains(diag.Fix(err), "--lock-timeout") {
		t.Errorf("a busy lock: got %q (%s), want it to say %q", err, diag.Fix(err), holder)
	}
	must(t, lock.Release())
	must(t, lock.Release())
	again, err := host.AcquireLock(t.Context(), path, "plan", 0)
	must(t, err)
	must(t, again.Release())
	must(t, (*host.Lock)(nil).Release())
}

func TestLockIsWaitedFor(t *testing.T) {
	path := filepath.Join(t.TempDir(), "lock")
	lock, err := host.AcquireLock(t.Context(), path, "first", 0)
	must(t, err)
	done := make(chan error)
	go func() {
		second, err := host.AcquireLock(t.Context(), path, "second", time.Minute)
		if err == nil {
			err = second.Release()
		}
		done <- err
	}()
	select {
	case err := <-done:
		t.Fatalf("the lock was not waited for: %v", err)
	case <-time.After(50 * time.Millisecond):
	}
	must(t, lock.Release())
	must(t, <-done)
}

func TestLockWaitEnds(t *testing.T) {
	path := filepath.Join(t.TempDir(), "lock")
	lock, err := host.AcquireLock(t.Context(), path, "first", 0)
	must(t, err)
	defer func() { must(t, lock.Release()) }()
	start := time.Now()
	if _, err := host.AcquireLock(t.Context(), path, "second", 100*time.Millisecond); !errors.Is(err, host.ErrLocked) {
		t.Errorf("got %v, want ErrLocked", err)
	}
	if took := time.Since(start); took < 100*time.Millisecond {
		t.Errorf("it gave up after %s", took)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	if _, err := host.AcquireLock(ctx, path, "second", time.Hour); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("got %v, want the context's error", err)
	}
}

// The lock of a killed process is free, whatever its file still says.
func TestLockOfAKilledProcess(t *testing.T) {
	path := filepath.Join(t.TempDir(), "lock")
	child := startChild(t, "lock", path)
	_, err := host.AcquireLock(t.Context(), path, "apply", 0)
	if !errors.Is(err, host.ErrLocked) || !strings.Contains(err.Error(), fmt.Sprintf("apply (a child), process %d", child.Process.Pid)) {
		t.Errorf("held by another process: got %v, want ErrLocked with its holder", err)
	}
	must(t, child.Process.Kill())
	_ = child.Wait()
	lock, err := host.AcquireLock(t.Context(), path, "apply", 0)
	must(t, err)
	must(t, lock.Release())
}

func TestLockRefuses(t *testing.T) {
	dir := t.TempDir()
	must(t, os.Symlink("elsewhere", filepath.Join(dir, "link")))
	must(t, unix.Mkfifo(filepath.Join(dir, "pipe"), 0o600))
	for _, name := range []string{"link", "pipe", "no/such/directory", "/etc/passwd/lock"} {
		path := name
		if !filepath.IsAbs(path) {
			path = filepath.Join(dir, name)
		}
		if _, err := host.AcquireLock(t.Context(), path, "apply", 0); err == nil {
			t.Errorf("%s: got the lock", name)
		}
	}
	if os.Geteuid() != 0 {
		return
	}
	theirs := filepath.Join(dir, "theirs")
	must(t, os.WriteFile(theirs, nil, 0o666))
	must(t, os.Chown(theirs, nobody, nobody))
	if _, err := host.AcquireLock(t.Context(), theirs, "apply", 0); err == nil || diag.Fix(err) == "" {
		t.Errorf("a lock file of another user: got %v, want a refusal with advice", err)
	}
}
