package hosttest_test

import (
	"context"
	"errors"
	"os"
	"slices"
	"testing"
	"time"

	"github.com/converge-agent/converge/host"
	"github.com/converge-agent/converge/host/hosttest"
)

func memory() (*hosttest.Memory, string) {
	m := hosttest.NewMemory()
	m.Put("/srv/root", host.File{Type: host.Directory, Mode: 0o755, UID: os.Geteuid(), GID: os.Getegid()})
	return m, "/srv/root"
}

func TestMemory(t *testing.T) {
	hosttest.TestFiles(t, func(*testing.T) (host.Files, string) {
		m, root := memory()
		return m, root
	})
}

func TestMemoryFaults(t *testing.T) {
	hosttest.TestFaults(t, func(_ *testing.T, fail func(op, path string) error) (host.Files, string) {
		m, root := memory()
		m.Fail = fail
		return m, root
	})
}

func TestOverlayOfMemory(t *testing.T) {
	hosttest.TestFiles(t, func(*testing.T) (host.Files, string) {
		m, root := memory()
		return hosttest.Overlay(host.NewOverlay(m)), root
	})
}

func TestMemoryIsChangedBehindItsBack(t *testing.T) {
	m := hosttest.NewMemory()
	clock := hosttest.NewClock(time.Unix(1000, 0))
	m.Clock = clock
	m.Put("/a/b/c", host.File{Content: []byte("x"), Mode: 0o600, UID: 5})
	clock.Advance(time.Minute)
	f, err := m.Lookup("/a/b/c")
	if err != nil || f.UID != 5 || !f.ChangedAt.Equal(time.Unix(1000, 0)) {
		t.Errorf("got %+v, %v; want what was put there, at its time", f, err)
	}
	m.Remove("/a")
	if f, err := m.Lookup("/a/b"); f != nil || err != nil {
		t.Errorf("below what was removed: got %v, %v; want nothing", f, err)
	}
	if writes := m.Writes(); len(writes) > 0 {
		t.Errorf("writes: %q, want none by converge", writes)
	}
	if err := m.Commit(t.Context(), host.Edit{Path: "/f", After: &host.File{Mode: 0o644}}); err != nil {
		t.Fatal(err)
	}
	if writes := m.Writes(); !slices.Equal(writes, []string{"/f"}) {
		t.Errorf("writes: %q, want /f", writes)
	}
}

func TestMemoryRefusesLinksOfUsers(t *testing.T) {
	m := hosttest.NewMemory()
	m.Put("/etc/secret", host.File{Content: []byte("x")})
	m.Put("/home/app/own", host.File{Type: host.Directory, UID: 5})
	m.Put("/home/app/bad", host.File{Type: host.Symlink, Target: "/etc", UID: 5})
	m.Put("/home/app/good", host.File{Type: host.Symlink, Target: "own", UID: 5})
	m.Put("/live", host.File{Type: host.Symlink, Target: "/home/app/good"})
	if _, err := m.Lookup("/home/app/bad/secret"); !errors.Is(err, host.ErrUnsafe) {
		t.Errorf("a user's link to root's: got %v, want ErrUnsafe", err)
	}
	if f, err := m.Lookup("/live/a"); f != nil || err != nil {
		t.Errorf("a user's link to his own: got %v, %v; want nothing there", f, err)
	}
}

func TestClockStepsAndAdvances(t *testing.T) {
	c := hosttest.NewClock(time.Unix(1000, 0))
	boot := c.SinceBoot()
	c.Advance(time.Second)
	c.Step(time.Unix(5, 0))
	if c.SinceBoot() != boot+time.Second || !c.Now().Equal(time.Unix(5, 0)) {
		t.Errorf("got %s and %s, want a second more and the time that was set", c.SinceBoot(), c.Now())
	}
}

func TestUnits(t *testing.T) {
	ctx, clock := t.Context(), hosttest.NewClock(time.Unix(1000, 0))
	s := hosttest.NewUnits(clock, host.Unit{Name: "a.service", Active: "active"}, host.Unit{Name: "b.service"})
	unit := func(name string) host.Unit {
		u, err := s.Unit(ctx, name)
		if err != nil {
			t.Fatal(err)
		}
		return u
	}
	must := func(err error) {
		t.Helper()
		if err != nil {
			t.Error(err)
		}
	}
	first := unit("a.service")
	clock.Advance(time.Minute)
	must(s.Reload(ctx, "a.service"))
	must(s.Start(ctx, "a.service"))
	if got := unit("a.service"); got != first {
		t.Errorf("a reload, and a start of what runs: got %+v, want %+v as before", got, first)
	}
	must(s.Restart(ctx, "a.service"))
	again := unit("a.service")
	if again.InvocationID == first.InvocationID || !again.StartedAt.Equal(clock.Now()) || again.StartedBoot != clock.SinceBoot() {
		t.Errorf("a restart: got %+v, want a new invocation, now", again)
	}
	must(s.Stop(ctx, "a.service"))
	if got := unit("a.service"); got.Up() || !got.StartedAt.IsZero() {
		t.Errorf("a stop: got %+v", got)
	}
	if got := unit("none.service"); got.Load != "not-found" {
		t.Errorf("no unit: got %+v", got)
	}
	must(s.Mask(ctx, "b.service"))
	for name, err := range map[string]error{
		"start of a masked one": s.Start(ctx, "b.service"),
		"start of none":         s.Start(ctx, "none.service"),
		"reload of a stopped":   s.Reload(ctx, "a.service"),
	} {
		if err == nil {
			t.Errorf("%s succeeded", name)
		}
	}
	s.Came = func(_ string, u *host.Unit) { u.Active, u.Sub = "failed", "failed" }
	must(s.Start(ctx, "a.service"))
	if unit("a.service").Up() {
		t.Error("a unit that falls over is up")
	}
	s.Fail = func(verb, name string) error { return errors.New(verb + name) }
	if err := s.Enable(ctx, "a.service"); err == nil || unit("a.service").FileState != "disabled" {
		t.Errorf("a verb that fails: got %v, %s", err, unit("a.service").FileState)
	}
	want := []string{"reload a.service", "start a.service", "restart a.service", "stop a.service", "mask b.service"}
	if got := s.Calls(); len(got) < 5 || !slices.Equal(got[:5], want) {
		t.Errorf("calls: got %q, want %q first", got, want)
	}
}

func TestCommands(t *testing.T) {
	c := &hosttest.Commands{Answer: func(cmd host.Command) (host.Result, error) { return host.Result{Code: len(cmd.Args)}, nil }}
	r, err := c.Run(t.Context(), host.Command{Args: []string{"a", "b"}})
	if err != nil || r.Code != 2 {
		t.Errorf("got %+v, %v", r, err)
	}
	if _, err := c.Probe(t.Context(), host.Command{Args: []string{"c"}}); err != nil {
		t.Error(err)
	}
	cancelled, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := c.Run(cancelled, host.Command{}); !errors.Is(err, context.Canceled) {
		t.Errorf("cancelled: got %v", err)
	}
	if calls := c.Calls(); len(calls) != 2 || calls[0].Probe || !calls[1].Probe {
		t.Errorf("calls: got %+v, want a run and a probe", calls)
	}
}

// As on a disk, each name that comes, is replaced or goes changes its directory (inode(7)).
func TestMemoryDirectoriesChangeWithTheirNames(t *testing.T) {
	m := hosttest.NewMemory()
	clock := hosttest.NewClock(time.Unix(1000, 0))
	m.Clock = clock
	m.Put("/d", host.File{Type: host.Directory, Mode: 0o755})
	one, two := &host.File{Content: []byte("1"), Mode: 0o644}, &host.File{Content: []byte("2"), Mode: 0o644}
	for _, e := range []host.Edit{{Path: "/d/f", After: one}, {Path: "/d/f", Before: one, After: two}, {Path: "/d/f", Before: two}} {
		clock.Advance(time.Minute)
		if err := m.Commit(t.Context(), e); err != nil {
			t.Fatal(err)
		}
		if d, err := m.Lookup("/d"); err != nil || !d.ChangedAt.Equal(clock.Now()) {
			t.Errorf("the directory changed at %s, %v; want now", d.ChangedAt, err)
		}
	}
}
