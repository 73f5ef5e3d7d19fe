package host_test

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"github.com/converge-agent/converge/diag"
	"github.com/converge-agent/converge/host"
)

// scene is a directory of root with one of an app's user in it, as converge meets them.
//
//	etc/            root
//	etc/secret      root, 0600
//	srv/            root
//	srv/app/        the app's
//	srv/app/real/   the app's, with the app's file a
type scene struct {
	*testing.T
	root string
}

func newScene(t *testing.T) *scene {
	s := &scene{t, t.TempDir()}
	for _, dir := range []string{"etc", "srv", "srv/app", "srv/app/real"} {
		must(t, os.Mkdir(s.path(dir), 0o755))
	}
	must(t, os.WriteFile(s.path("etc/secret"), []byte("secret"), 0o600))
	must(t, os.WriteFile(s.path("srv/app/real/a"), []byte("app's"), 0o644))
	s.give("srv/app", "srv/app/real", "srv/app/real/a")
	return s
}

func (s *scene) path(name string) string { return filepath.Join(s.root, name) }

// give makes the app the owner of names.
func (s *scene) give(names ...string) {
	s.Helper()
	for _, name := range names {
		must(s.T, os.Lchown(s.path(name), nobody, nobody))
	}
}

func (s *scene) link(target, name string) {
	s.Helper()
	must(s.T, os.Symlink(target, s.path(name)))
}

func (s *scene) mustRefuse(name, link string) {
	s.Helper()
	path := s.path(name)
	_, readErr := host.System().Lookup(path)
	_, listErr := host.System().List(path)
	writeErr := host.System().Commit(s.Context(), host.Edit{Path: path, After: text("x")})
	for doing, err := range map[string]error{"Lookup": readErr, "List": listErr, "Commit": writeErr} {
		if !errors.Is(err, host.ErrUnsafe) {
			s.Errorf("%s(%s): got %v, want ErrUnsafe", doing, name, err)
			continue
		}
		if !strings.Contains(err.Error(), s.path(link)) || !strings.Contains(err.Error(), "nobody") || diag.Fix(err) == "" {
			s.Errorf("%s(%s): got %q (%s), want the link %s, its owner, and advice", doing, name, err, diag.Fix(err), link)
		}
	}
}

func (s *scene) mustRead(name, want string) {
	s.Helper()
	f, err := host.System().Lookup(s.path(name))
	if err != nil || f == nil || string(f.Content) != want {
		s.Errorf("Lookup(%s): got %v, %v; want %q", name, f, err, want)
	}
}

func TestLinksOfAnotherUser(t *testing.T) {
	if os.Geteuid() != 0 {
		return // only root can make them; TestLinkInAnOpenDirectory is for everybody
	}
	s := newScene(t)
	s.link(s.path("etc"), "srv/app/absolute")
	s.link("../../etc", "srv/app/relative")
	s.link("relative", "srv/app/twice")
	s.link(s.path("etc"), "srv/app/roots") // made by root, but where the app can put another in its place
	s.link("/proc/self/root"+s.path("etc"), "srv/app/magic")
	s.link("real/below", "srv/app/in")
	s.link("../etc", "srv/dropped")                        // made by the app where it may, as in /tmp
	must(t, os.Mkdir(s.path("srv/app/real/below"), 0o700)) // root's, in a directory of the app
	s.give("srv/app/absolute", "srv/app/relative", "srv/app/twice", "srv/app/magic", "srv/app/in", "srv/dropped")
	s.mustRefuse("srv/dropped/secret", "srv/dropped")
	s.mustRefuse("srv/app/absolute/secret", "srv/app/absolute")
	s.mustRefuse("srv/app/relative/secret", "srv/app/relative")
	s.mustRefuse("srv/app/twice/secret", "srv/app/relative")
	s.mustRefuse("srv/app/roots/secret", "srv/app/roots")
	s.mustRefuse("srv/app/magic/secret", "srv/app/magic")
	s.mustRefuse("srv/app/in/new", "srv/app/in")
	if got, err := os.ReadFile(s.path("etc/secret")); err != nil || string(got) != "secret" {
		t.Errorf("etc/secret holds %q, %v", got, err)
	}
}

// A release directory that the app's user switches with a link of his own is usual, and leads only to what is his.
func TestLinksWithinOneOwnerAreFollowed(t *testing.T) {
	if os.Geteuid() != 0 {
		return // only root can make them
	}
	s := newScene(t)
	s.link("real", "srv/app/relative")
	s.link(s.path("srv/app/relative"), "srv/app/absolute")
	s.give("srv/app/relative", "srv/app/absolute")
	s.link(s.path("srv/app/absolute"), "etc/live") // root's, to the app's
	for _, dir := range []string{"srv/app/relative", "srv/app/absolute", "etc/live"} {
		s.mustRead(dir+"/a", "app's")
	}
	f := text("new")
	must(t, host.System().Commit(t.Context(), host.Edit{Path: s.path("etc/live/b"), After: f}))
	s.mustRead("srv/app/real/b", "new")

	// Below a link of the app nothing of another's is entered, whatever the app has moved there.
	must(t, os.Mkdir(s.path("srv/app/real/moved"), 0o700))
	must(t, os.WriteFile(s.path("srv/app/real/moved/secret"), []byte("secret"), 0o600))
	s.mustRefuse("srv/app/relative/moved/secret", "srv/app/relative/moved")
	s.mustRefuse("etc/live/moved/secret", "etc/live/moved")
	s.mustRead("srv/app/real/moved/secret", "secret") // without a link it is what the admin wrote
}

// Where everybody may put a link in the place of ours, even ours are not trusted.
func TestLinkInAnOpenDirectory(t *testing.T) {
	dir := t.TempDir()
	open := filepath.Join(dir, "open")
	must(t, os.Mkdir(open, 0o755))
	must(t, os.Mkdir(filepath.Join(open, "d"), 0o755))
	must(t, os.Symlink("/etc", filepath.Join(open, "l")))
	must(t, os.Symlink("d", filepath.Join(open, "own")))
	if f := lookup(t, filepath.Join(open, "l/passwd")); f == nil {
		t.Error("our link in our directory was not followed")
	}
	must(t, os.Chmod(open, 0o777))
	if os.Geteuid() == 0 {
		must(t, os.Chown(open, nobody, nobody))
	}
	if _, err := host.System().Lookup(filepath.Join(open, "l/passwd")); !errors.Is(err, host.ErrUnsafe) {
		t.Errorf("a link in a directory that everybody may write in: got %v, want ErrUnsafe", err)
	}
}

func TestDanglingAndEndlessLinks(t *testing.T) {
	dir := t.TempDir()
	must(t, os.Symlink("nowhere", filepath.Join(dir, "dangling")))
	must(t, os.Symlink("round", filepath.Join(dir, "round")))
	if f := lookup(t, filepath.Join(dir, "dangling/a")); f != nil {
		t.Errorf("behind a dangling link: got %v, want nothing", f)
	}
	if _, err := host.System().Lookup(filepath.Join(dir, "round/a")); !errors.Is(err, syscall.ELOOP) || diag.Fix(err) == "" {
		t.Errorf("a link to itself: got %v, want ELOOP with advice", err)
	}
	if f := lookup(t, "/"); f.Type != host.Directory {
		t.Errorf("/ is a %s", f.Type)
	}
}
