package host_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"math/rand"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/converge-agent/converge/host"
	"github.com/google/go-cmp/cmp"
	"golang.org/x/sys/unix"
)

const nobody = 65534 // the overflow user of every Linux

func TestTreeOrderIsThatOfS3(t *testing.T) {
	fixed := []string{"a-b", "a/b", "a.b", "a/-", "a0", "a/b!", "ab/c", "ab", "é/x", "e/x", "z/@1x/f", "Z", "a b/c", "𐀀/x", "\uffee/x"}
	trees := [][]string{fixed}
	rnd := rand.New(rand.NewSource(1))
	for range 30 {
		trees = append(trees, randomKeys(rnd))
	}
	for i, keys := range trees {
		dir := t.TempDir()
		want := []string{}
		for _, k := range keys {
			p := filepath.Join(dir, k)
			if os.MkdirAll(filepath.Dir(p), 0o755) != nil || os.WriteFile(p, nil, 0o644) != nil {
				continue // the same name is a file already, or a directory
			}
			if !slices.Contains(want, k) {
				want = append(want, k)
			}
		}
		slices.Sort(want)
		got, skipped := walkTree(t, dir)
		if diff := cmp.Diff(want, got); diff != "" || len(skipped) > 0 {
			t.Errorf("tree %d: order (-want +got):\n%s\nskipped: %v", i, diff, skipped)
		}
	}
}

// randomKeys returns keys whose names differ in the characters around the slash in the order of bytes: - . / 0.
func randomKeys(rnd *rand.Rand) []string {
	const alphabet = "a-.0!é"
	letters := []rune(alphabet)
	var keys []string
	for range 60 {
		var parts []string
		for range 1 + rnd.Intn(3) {
			part := "a"
			for range rnd.Intn(3) {
				part += string(letters[rnd.Intn(len(letters))])
			}
			parts = append(parts, part)
		}
		keys = append(keys, strings.Join(parts, "/"))
	}
	return keys
}

func TestTreeSkipsWhatIsNoMedia(t *testing.T) {
	dir := t.TempDir()
	write(t, dir, "ok.png", "image")
	outside := t.TempDir()
	write(t, outside, "secret", "key")
	must(t, os.Symlink(filepath.Join(outside, "secret"), filepath.Join(dir, "link")))
	must(t, os.Symlink(outside, filepath.Join(dir, "linkdir")))
	must(t, os.Symlink(".", filepath.Join(dir, "loop")))
	must(t, unix.Mkfifo(filepath.Join(dir, "pipe"), 0o644))
	must(t, unix.Mknod(filepath.Join(dir, "socket"), unix.S_IFSOCK|0o644, 0))
	write(t, dir, "bad\xff.png", "")
	write(t, dir, "bad\nline", "")
	write(t, dir, "bad\u0085", "")
	write(t, dir, "bad\xffdir/x", "")
	write(t, dir, "two", "own content under two names")
	must(t, os.Link(filepath.Join(dir, "two"), filepath.Join(dir, "two-again")))
	deep := strings.Repeat(strings.Repeat("d", 200)+"/", 5) + strings.Repeat("f", 30)
	write(t, dir, deep, "")

	want := map[string]string{
		"link": "a link", "linkdir": "a link", "loop": "a link", "pipe": "a pipe", "socket": "a socket",
		"bad\xff.png": "a name that is not UTF-8", "bad\xffdir/": "a name that is not UTF-8",
		"bad\nline": "a name with control characters", "bad\u0085": "a name with control characters",
		deep: "a path of more than 1024 bytes",
	}
	if os.Geteuid() == 0 {
		must(t, unix.Mknod(filepath.Join(dir, "device"), unix.S_IFCHR|0o644, int(unix.Mkdev(1, 3))))
		want["device"] = "a device"
	}
	for _, e := range entries(t, openTree(t, dir)) {
		special := e.Skipped == "a pipe" || e.Skipped == "a socket" || e.Skipped == "a device"
		if e.Special != special {
			t.Errorf("%q: Special: got %t, want %t", e.Key, e.Special, special)
		}
	}
	got, skipped := walkTree(t, dir)
	if diff := cmp.Diff([]string{"ok.png", "two", "two-again"}, got); diff != "" {
		t.Errorf("files (-want +got):\n%s", diff)
	}
	if diff := cmp.Diff(want, skipped); diff != "" {
		t.Errorf("skipped (-want +got):\n%s", diff)
	}
}

// A file that the owner of its directory could have linked there, but could not read, is none of the app's.
func TestTreeRefusesFilesOfOthers(t *testing.T) {
	if os.Geteuid() != 0 {
		return // only root can make files of several users; TestTreeUnprivileged runs the other tests
	}
	cases := []struct {
		name     string
		dirOwner int
		dirMode  uint32
		owner    int
		mode     uint32
		linked   bool
		want     string
	}{
		{"own", nobody, 0o755, nobody, 0o600, false, ""},
		{"own, two names", nobody, 0o755, nobody, 0o600, true, ""},
		{"root's shadow, linked", nobody, 0o755, 0, 0o640, true, "a second name of a file of root"},
		{"root's, linked, readable", nobody, 0o755, 0, 0o644, true, "a second name of a file of root"},
		{"root's shadow, its own name gone", nobody, 0o755, 0, 0o640, false, "a file of root that is not for everybody to read"},
		{"made by tootctl as root", nobody, 0o755, 0, 0o644, false, ""},
		{"root's directory, linked", 0, 0o755, 0, 0o640, true, ""},
		{"root's directory, open to a group", 0, 0o775, 0, 0o640, true, "a second name of a file of root"},
		{"open to everybody", nobody, 0o1777, nobody, 0o600, true, "a second name of a file of " + userName(nobody)},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			dir := t.TempDir()
			write(t, dir, "sub/f", "content")
			must(t, unix.Chmod(filepath.Join(dir, "sub/f"), c.mode))
			must(t, os.Chown(filepath.Join(dir, "sub/f"), c.owner, 0))
			must(t, unix.Chmod(filepath.Join(dir, "sub"), c.dirMode))
			must(t, os.Chown(filepath.Join(dir, "sub"), c.dirOwner, 0))
			if c.linked {
				must(t, os.Link(filepath.Join(dir, "sub/f"), filepath.Join(t.TempDir(), "other")))
			}
			_, skipped := walkTree(t, dir)
			if got := skipped["sub/f"]; got != c.want {
				t.Errorf("skipped: got %q, want %q", got, c.want)
			}
		})
	}
}

func TestTreeOpenRefusesWhatMoved(t *testing.T) {
	outside := t.TempDir()
	write(t, outside, "f", "secret")
	cases := []struct {
		name  string
		after func(t *testing.T, dir string)
		gone  bool
	}{
		{"removed", func(t *testing.T, dir string) { must(t, os.Remove(dir+"/a/f")) }, true},
		{"directory removed", func(t *testing.T, dir string) { must(t, os.RemoveAll(dir+"/a")) }, true},
		{"written", func(t *testing.T, dir string) { write(t, dir, "a/f", "longer content") }, false},
		{"replaced", func(t *testing.T, dir string) {
			write(t, dir, "a/new", "content")
			must(t, os.Rename(dir+"/a/new", dir+"/a/f"))
		}, false},
		{"same size, mtime set back", func(t *testing.T, dir string) {
			fi, err := os.Stat(dir + "/a/f")
			must(t, err)
			write(t, dir, "a/f", "CONTENT")
			must(t, os.Chtimes(dir+"/a/f", fi.ModTime(), fi.ModTime()))
		}, false},
		{"now a link", func(t *testing.T, dir string) {
			must(t, os.Remove(dir+"/a/f"))
			must(t, os.Symlink(outside+"/f", dir+"/a/f"))
		}, false},
		{"now a pipe", func(t *testing.T, dir string) {
			must(t, os.Remove(dir+"/a/f"))
			must(t, unix.Mkfifo(dir+"/a/f", 0o644))
		}, false},
		{"now a directory", func(t *testing.T, dir string) {
			must(t, os.Remove(dir+"/a/f"))
			must(t, os.Mkdir(dir+"/a/f", 0o755))
		}, false},
		{"directory swapped for a link", func(t *testing.T, dir string) {
			must(t, os.Rename(dir+"/a", dir+"/b"))
			must(t, os.Symlink(outside, dir+"/a"))
		}, false},
		{"directory swapped for a link to itself", func(t *testing.T, dir string) {
			must(t, os.Rename(dir+"/a", dir+"/b"))
			must(t, os.Symlink("b", dir+"/a"))
		}, false},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			dir := t.TempDir()
			write(t, dir, "a/f", "content")
			tree := openTree(t, dir)
			e := entries(t, tree)[0]
			awaitTick(t, dir)
			c.after(t, dir)
			f, err := tree.Open(e)
			if err == nil {
				_ = f.Close()
			}
			for what, err := range map[string]error{"Open": err, "Verify": tree.Verify(e)} {
				if !errors.Is(err, host.ErrMoved) {
					t.Errorf("%s: got %v, want ErrMoved", what, err)
				}
				if got := errors.Is(err, fs.ErrNotExist); got != c.gone {
					t.Errorf("%s: is fs.ErrNotExist: got %t, want %t (%v)", what, got, c.gone, err)
				}
			}
		})
	}
}

func TestTreeOpenReadsTheFile(t *testing.T) {
	dir := t.TempDir()
	write(t, dir, "accounts/1.png", "image")
	tree := openTree(t, dir)
	e := entries(t, tree)[0]
	f, err := tree.Open(e)
	must(t, err)
	defer func() { must(t, f.Close()) }()
	got, err := io.ReadAll(f)
	must(t, err)
	if string(got) != "image" || e.Size != 5 {
		t.Errorf("got %q of %d bytes, want \"image\" of 5", got, e.Size)
	}
	must(t, tree.Verify(e))
}

func TestTreeOpenComparesEverything(t *testing.T) {
	dir := t.TempDir()
	write(t, dir, "f", "content")
	tree := openTree(t, dir)
	e := entries(t, tree)[0]
	for name, other := range map[string]func(*host.Entry){
		"inode": func(e *host.Entry) { e.Inode++ }, "device": func(e *host.Entry) { e.Dev++ },
		"size": func(e *host.Entry) { e.Size++ }, "mtime": func(e *host.Entry) { e.ModTime = e.ModTime.Add(1) },
		"ctime": func(e *host.Entry) { e.ChangedAt = e.ChangedAt.Add(1) },
	} {
		another := e
		other(&another)
		if err := tree.Verify(another); !errors.Is(err, host.ErrMoved) {
			t.Errorf("another %s: got %v, want ErrMoved", name, err)
		}
	}
}

func TestTreeHas(t *testing.T) {
	dir := t.TempDir()
	write(t, dir, "a/f", "")
	must(t, os.Symlink("f", dir+"/a/link"))
	must(t, os.Symlink("a", dir+"/adir"))
	tree := openTree(t, dir)
	for key, want := range map[string]bool{
		"a/f": true, "a": false, "a/g": false, "b/f": false, "a/f/g": false, "a/link": false, "adir/f": false,
		"": false, ".": false, "a/": false, "/etc/passwd": false, "../" + filepath.Base(dir) + "/a/f": false, "a/../a/f": false,
		"a\x00": false, "a//f": false, strings.Repeat("x", 300): false,
	} {
		got, err := tree.Has(key)
		if must(t, err); got != want {
			t.Errorf("%q: got %t, want %t", key, got, want)
		}
	}
}

// A directory that is swapped for a link while it is walked leads nowhere, and what was walked says so.
func TestTreeSwappedWhileWalked(t *testing.T) {
	outside := t.TempDir()
	write(t, outside, "secret", "key")
	dir := t.TempDir()
	write(t, dir, "a/1", "")
	write(t, dir, "b/1", "")
	write(t, dir, "c/1", "")
	tree := openTree(t, dir)
	var keys []string
	var failed []string
	for e, err := range tree.Walk(t.Context()) {
		if err != nil {
			failed = append(failed, e.Key)
			continue
		}
		keys = append(keys, e.Key)
		if e.Key == "a/1" {
			must(t, os.Rename(dir+"/b", dir+"/gone"))
			must(t, os.Symlink(outside, dir+"/b"))
			must(t, os.RemoveAll(dir+"/c"))
		}
	}
	if diff := cmp.Diff([]string{"a/1"}, keys); diff != "" {
		t.Errorf("keys (-want +got):\n%s", diff)
	}
	if diff := cmp.Diff([]string{"b/"}, failed); diff != "" {
		t.Errorf("errors at (-want +got):\n%s", diff)
	}
}

func TestOpenTreeLinkOnTheWay(t *testing.T) {
	dir := t.TempDir()
	write(t, dir, "media/f", "")
	must(t, os.Symlink("media", filepath.Join(dir, "system")))
	if got, _ := walkTree(t, filepath.Join(dir, "system")); !slices.Equal(got, []string{"f"}) {
		t.Errorf("through a link of its own: got %v, want [f]", got)
	}
	if os.Geteuid() == 0 {
		must(t, os.Chmod(dir, 0o755))
		must(t, os.Chown(dir, nobody, nobody))
		must(t, os.Lchown(filepath.Join(dir, "system"), nobody, nobody))
		_, err := host.OpenTree(filepath.Join(dir, "system"))
		if !errors.Is(err, host.ErrUnsafe) {
			t.Errorf("through another user's link to root's directory: got %v, want ErrUnsafe", err)
		}
	}
	if _, err := host.OpenTree(filepath.Join(dir, "absent")); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("absent: got %v, want fs.ErrNotExist", err)
	}
	if _, err := host.OpenTree(filepath.Join(dir, "media/f")); !errors.Is(err, unix.ENOTDIR) {
		t.Errorf("a file: got %v, want ENOTDIR", err)
	}
}

func TestTreeWalkEndsWithContext(t *testing.T) {
	dir := t.TempDir()
	for i := range 10 {
		write(t, dir, fmt.Sprintf("d%d/f", i), "")
	}
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	var last error
	files := 0
	for _, err := range openTree(t, dir).Walk(ctx) {
		if err == nil {
			files++
		}
		last = err
		cancel()
	}
	if !errors.Is(last, context.Canceled) || files != 1 {
		t.Errorf("got %d files and %v, want 1 and context.Canceled", files, last)
	}
}

func TestTreeWalkInLeavesDirectoriesOut(t *testing.T) {
	dir := t.TempDir()
	for _, k := range []string{"accounts/f", "cache/f", "cache.txt"} {
		write(t, dir, k, "")
	}
	var got []string
	for e, err := range openTree(t, dir).WalkIn(t.Context(), func(d string) bool { return d != "cache/" }) {
		must(t, err)
		got = append(got, e.Key)
	}
	if diff := cmp.Diff([]string{"accounts/f", "cache.txt"}, got); diff != "" {
		t.Errorf("keys (-want +got):\n%s", diff)
	}
}

// TestTreeUnreadable runs as nobody: root may read everything.
func TestTreeUnreadable(t *testing.T) {
	if os.Geteuid() == 0 {
		return // TestTreeUnprivileged runs it
	}
	dir := t.TempDir()
	write(t, dir, "a/f", "")
	write(t, dir, "b/f", "")
	write(t, dir, "c/f", "")
	must(t, os.Chmod(dir+"/b", 0))
	defer func() { must(t, os.Chmod(dir+"/b", 0o700)) }()
	var got []string
	for e, err := range openTree(t, dir).Walk(t.Context()) {
		switch {
		case errors.Is(err, fs.ErrPermission):
			got = append(got, "denied "+e.Key)
		case err != nil:
			t.Errorf("%s: %v", e.Key, err)
		default:
			got = append(got, e.Key)
		}
	}
	if diff := cmp.Diff([]string{"a/f", "denied b/", "c/f"}, got); diff != "" {
		t.Errorf("walk (-want +got):\n%s", diff)
	}
}

// TestTreeUnprivileged runs the tests of Tree again as a user without rights.
func TestTreeUnprivileged(t *testing.T) {
	if os.Geteuid() != 0 {
		return // they run as such a user already
	}
	dir, err := os.MkdirTemp("", "tree")
	must(t, err)
	defer func() { must(t, os.RemoveAll(dir)) }()
	must(t, os.Chmod(dir, 0o755))
	program, err := os.ReadFile("/proc/self/exe")
	must(t, err)
	exe := filepath.Join(dir, "tests")
	must(t, os.WriteFile(exe, program, 0o755))
	tmp := filepath.Join(dir, "tmp")
	must(t, os.Mkdir(tmp, 0o700))
	must(t, os.Chown(tmp, nobody, nobody))

	cmd := exec.CommandContext(t.Context(), exe, "-test.run=Tree", "-test.v")
	cmd.Dir = tmp
	cmd.Env = []string{"TMPDIR=" + tmp}
	cmd.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: nobody, Gid: nobody}}
	out, err := cmd.CombinedOutput()
	if err != nil || !strings.Contains(string(out), "--- PASS: TestTreeUnreadable") {
		t.Errorf("as user %d: %v\n%s", nobody, err, out)
	}
}

func openTree(t *testing.T, dir string) *host.Tree {
	t.Helper()
	tree, err := host.OpenTree(dir)
	must(t, err)
	t.Cleanup(func() { must(t, tree.Close()) })
	return tree
}

func entries(t *testing.T, tree *host.Tree) []host.Entry {
	t.Helper()
	var out []host.Entry
	for e, err := range tree.Walk(t.Context()) {
		must(t, err)
		out = append(out, e)
	}
	return out
}

// walkTree returns the keys of the files to read, in order, and why the others are skipped.
func walkTree(t *testing.T, dir string) (keys []string, skipped map[string]string) {
	t.Helper()
	keys, skipped = []string{}, map[string]string{}
	for _, e := range entries(t, openTree(t, dir)) {
		if e.Skipped != "" {
			skipped[e.Key] = e.Skipped
			continue
		}
		keys = append(keys, e.Key)
	}
	return keys, skipped
}

// awaitTick returns once the clock that stamps inodes has moved on, so that the next change has another ctime.
func awaitTick(t *testing.T, dir string) {
	t.Helper()
	stamp := func() time.Time {
		write(t, dir, ".tick", "")
		var st unix.Stat_t
		must(t, unix.Stat(filepath.Join(dir, ".tick"), &st))
		return time.Unix(st.Ctim.Unix())
	}
	for first := stamp(); !stamp().After(first); {
		continue
	}
}

func userName(uid int) string {
	out, err := exec.Command("id", "-nu", fmt.Sprint(uid)).Output()
	if err != nil {
		return fmt.Sprintf("user %d", uid)
	}
	return strings.TrimSpace(string(out))
}

func write(t *testing.T, dir, key, content string) {
	t.Helper()
	p := filepath.Join(dir, key)
	must(t, os.MkdirAll(filepath.Dir(p), 0o755))
	must(t, os.WriteFile(p, []byte(content), 0o644))
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}
