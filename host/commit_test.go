package host_test

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/converge-agent/converge/diag"
	"github.com/converge-agent/converge/host"
	"golang.org/x/sys/unix"
)

// A full disk is a small tmpfs where the test may mount one. Elsewhere the limit of a process on the size of its files
// stands in: another error, in the same place.
func TestFullDisk(t *testing.T) {
	dir := t.TempDir()
	want, advice := error(syscall.ENOSPC), "Free some space"
	if err := unix.Mount("tmpfs", dir, "tmpfs", 0, "size=64k"); err == nil {
		defer func() { must(t, unix.Unmount(dir, unix.MNT_DETACH)) }()
	} else {
		want, advice = syscall.EFBIG, "ulimit -f"
	}
	path := filepath.Join(dir, "a")
	old := text("old")
	must(t, host.System().Commit(t.Context(), host.Edit{Path: path, After: old}))
	err := withFileSizeLimit(t, errors.Is(want, syscall.EFBIG), func() error {
		return host.System().Commit(t.Context(), host.Edit{Path: path, Before: old, After: text(strings.Repeat("x", 1<<20))})
	})
	if !errors.Is(err, want) || !strings.Contains(diag.Fix(err), advice) {
		t.Errorf("Commit: got %v (%s), want %v with advice %q", err, diag.Fix(err), want, advice)
	}
	if got := lookup(t, path); !got.Same(old) {
		t.Errorf("the file changed: %v", got)
	}
	mustHoldOnly(t, dir, "a")
}

func TestFileSizeLimit(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, "a")
	err := withFileSizeLimit(t, true, func() error {
		return host.System().Commit(t.Context(), host.Edit{Path: path, After: text(strings.Repeat("x", 1<<20))})
	})
	if !errors.Is(err, syscall.EFBIG) || !strings.Contains(diag.Fix(err), "ulimit -f") {
		t.Errorf("Commit: got %v (%s), want EFBIG with advice", err, diag.Fix(err))
	}
	mustHoldOnly(t, dir)
}

// withFileSizeLimit calls f while no file of this process may grow beyond 64 KiB.
func withFileSizeLimit(t *testing.T, limited bool, f func() error) error {
	t.Helper()
	if !limited {
		return f()
	}
	var was unix.Rlimit
	must(t, unix.Getrlimit(unix.RLIMIT_FSIZE, &was))
	must(t, unix.Setrlimit(unix.RLIMIT_FSIZE, &unix.Rlimit{Cur: 64 << 10, Max: was.Max}))
	defer func() { must(t, unix.Setrlimit(unix.RLIMIT_FSIZE, &was)) }()
	return f()
}

func mustHoldOnly(t *testing.T, dir string, want ...string) {
	t.Helper()
	got, err := host.System().List(dir)
	slices.Sort(want)
	if err != nil || !slices.Equal(got, want) {
		t.Errorf("%s holds %q, %v; want %q", dir, got, err, want)
	}
}

// The child commits without end and is killed at any moment, many times. Whatever it was doing, the file is whole, and the
// next commit removes what it left.
func TestKilledInTheMiddle(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, "a")
	left := 0
	for round := range 20 {
		child := startChild(t, "commit", path)
		time.Sleep(time.Duration(2+round*3) * time.Millisecond) // when exactly is what the test leaves to chance
		must(t, child.Process.Kill())
		_ = child.Wait()
		if got := lookup(t, path); !got.Same(contentA()) && !got.Same(contentB()) {
			t.Fatalf("round %d: the file is torn: %d bytes, mode %o", round, len(got.Content), got.Mode)
		}
		names, err := host.System().List(dir)
		must(t, err)
		left += len(names) - 1
	}
	t.Logf("%d temporary files seen after the kills", left)
	must(t, os.WriteFile(filepath.Join(dir, host.TempPrefix("a")+"0123456789abcdef"), []byte("left"), 0o600))
	must(t, host.System().Commit(t.Context(), host.Edit{Path: path, Before: lookup(t, path), After: text("end")}))
	mustHoldOnly(t, dir, "a")
}

func contentA() *host.File { return text(strings.Repeat("a", 1<<20)) }
func contentB() *host.File { return text(strings.Repeat("b", 1<<20)) }

// commitForever is the child: it says once that it has begun, and goes on until it is killed.
func commitForever(path string) error {
	files := host.System()
	before, err := files.Lookup(path)
	if err != nil {
		return err
	}
	for n := 0; ; n++ {
		after := contentA()
		if n%2 == 1 {
			after = contentB()
		}
		if err := files.Commit(context.Background(), host.Edit{Path: path, Before: before, After: after}); err != nil {
			return err
		}
		before = after
		if n == 0 {
			fmt.Println("ready")
		}
	}
}

// A directory whose owner changes never has the new owner with the old rights, whenever the commit ends.
func TestDirectoryIsNarrowedBeforeItsOwnerChanges(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "d")
	must(t, os.Mkdir(dir, 0o700))
	must(t, os.Chmod(dir, 0o775))
	before := lookup(t, dir)
	after := *before
	after.Mode, after.GID = 0o750, before.GID+1
	stopped := errors.New("killed here")
	files := host.SystemWithFaults(func(step, _ string) error {
		if step == "chown" {
			return stopped
		}
		return nil
	})
	if err := files.Commit(t.Context(), host.Edit{Path: dir, Before: before, After: &after}); !errors.Is(err, stopped) {
		t.Fatalf("Commit: got %v", err)
	}
	if got := lookup(t, dir); got.Mode.Perm() != 0o750 || got.GID != before.GID {
		t.Errorf("before its owner changes it is %v %d:%d, want 0750 and its old group", got.Mode, got.UID, got.GID)
	}
}

// What a killed run left goes with the next commit to its path, whichever path of the directory is written first.
func TestLeftoversGoWithTheirPath(t *testing.T) {
	dir := t.TempDir()
	of := func(base string) string { return host.TempPrefix(base) + "0123456789abcdef" }
	for _, base := range []string{"a", "b", "c"} {
		must(t, os.WriteFile(filepath.Join(dir, of(base)), []byte("left"), 0o600))
	}
	files := host.System()
	must(t, files.Commit(t.Context(), host.Edit{Path: filepath.Join(dir, "a"), After: text("x")}))
	mustHoldOnly(t, dir, of("b"), of("c"), "a")
	must(t, files.Commit(t.Context(), host.Edit{Path: filepath.Join(dir, "b"), After: text("x")}))
	mustHoldOnly(t, dir, of("c"), "a", "b")
}

// What only looks like a leftover of ours, or is still in use, stays.
func TestForeignTemporaryNamesStay(t *testing.T) {
	dir := t.TempDir()
	prefix := host.TempPrefix("a")
	keep := map[string]func(name string){
		host.TempPrefix("other") + "0123456789abcdef": func(n string) { must(t, os.WriteFile(n, nil, 0o600)) },
		prefix + "short":            func(n string) { must(t, os.WriteFile(n, nil, 0o600)) },
		prefix + "aaaaaaaaaaaaaaaa": func(n string) { must(t, unix.Mkfifo(n, 0o600)) },
		prefix + "bbbbbbbbbbbbbbbb": func(n string) {
			must(t, os.WriteFile(n, nil, 0o600))
			must(t, os.Link(n, filepath.Join(t.TempDir(), "second name")))
		},
		prefix + "cccccccccccccccc": func(n string) {
			f, err := os.Create(n)
			must(t, err)
			t.Cleanup(func() { _ = f.Close() })
			must(t, unix.Flock(int(f.Fd()), unix.LOCK_EX))
		},
		prefix + "dddddddddddddddd": func(n string) {
			must(t, os.Mkdir(n, 0o700))
			must(t, os.WriteFile(filepath.Join(n, "x"), nil, 0o600))
		},
	}
	want := []string{"a"}
	for name, build := range keep {
		build(filepath.Join(dir, name))
		want = append(want, name)
	}
	if os.Geteuid() == 0 {
		name := prefix + "eeeeeeeeeeeeeeee"
		must(t, os.WriteFile(filepath.Join(dir, name), nil, 0o600))
		must(t, os.Chown(filepath.Join(dir, name), nobody, nobody))
		want = append(want, name)
	}
	must(t, os.Symlink("x", filepath.Join(dir, prefix+"1111111111111111")))
	must(t, os.Mkdir(filepath.Join(dir, prefix+"2222222222222222"), 0o700))
	must(t, host.System().Commit(t.Context(), host.Edit{Path: filepath.Join(dir, "a"), After: text("x")}))
	slices.Sort(want)
	mustHoldOnly(t, dir, want...)
}

// The ACL of a file goes with it when it is written anew by the same owner.
func TestAccessListIsKept(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, "a")
	must(t, os.WriteFile(path, []byte("old"), 0o640))
	const acl = "system.posix_acl_access"
	if err := unix.Setxattr(path, acl, listing(nobody), 0); errors.Is(err, unix.ENOTSUP) {
		t.Logf("%s knows no access lists: only that a commit does without is tested", dir)
	} else {
		must(t, err)
	}
	want := make([]byte, 1024)
	n, _ := unix.Getxattr(path, acl, want)
	before := lookup(t, path)
	after := text("new")
	after.Mode = before.Mode
	must(t, host.System().Commit(t.Context(), host.Edit{Path: path, Before: before, After: after}))
	got := make([]byte, 1024)
	m, _ := unix.Getxattr(path, acl, got)
	if !slices.Equal(got[:max(m, 0)], want[:max(n, 0)]) {
		t.Errorf("the access list is %x, want %x", got[:max(m, 0)], want[:max(n, 0)])
	}
}

// listing is an access list that lets uid read (the on-disk form of acl(5): include/uapi/linux/posix_acl_xattr.h).
func listing(uid uint32) []byte {
	const owner, named, group, mask, other, undefined = 1, 2, 4, 0x10, 0x20, 0xffffffff
	out := []byte{2, 0, 0, 0}
	for _, e := range []struct {
		tag, perm uint16
		id        uint32
	}{{owner, 6, undefined}, {named, 4, uid}, {group, 4, undefined}, {mask, 4, undefined}, {other, 0, undefined}} {
		out = append(out, byte(e.tag), byte(e.tag>>8), byte(e.perm), byte(e.perm>>8),
			byte(e.id), byte(e.id>>8), byte(e.id>>16), byte(e.id>>24))
	}
	return out
}
