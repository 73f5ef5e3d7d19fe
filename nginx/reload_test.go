package nginx_test

import (
	"context"
	"errors"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/converge-agent/converge/diag"
	"github.com/converge-agent/converge/host"
	"github.com/converge-agent/converge/host/hosttest"
	"github.com/converge-agent/converge/nginx"
)

const (
	worker   = "nginx: worker process"
	leaving  = "nginx: worker process is shutting down"
	master   = "nginx: master process /usr/sbin/nginx -g daemon on; master_process on;"
	starting = "/usr/sbin/nginx -g daemon on; master_process on;"
	managing = "nginx: cache manager process"
)

// scenes are what the children of a nginx are, one look after the other; the last one stays.
type scenes struct {
	main  string // title of the main process
	looks [][]host.Process
	seen  int
	look  func() // called before each look

	upgrade int // a child that is a master with children of its own
}

func (s *scenes) Process(pid int) (*host.Process, error) {
	return &host.Process{PID: pid, Title: s.main}, nil
}

func (s *scenes) Children(pid int) ([]host.Process, error) {
	switch pid {
	case mainPID:
	case s.upgrade:
		return scene(1, worker), nil
	default:
		return nil, nil
	}
	if s.look != nil {
		s.look()
	}
	now := s.looks[min(s.seen, len(s.looks)-1)]
	s.seen++
	return now, nil
}

// mainPID is that of nginx.service.
const mainPID = 1001

// scene is children by their titles, with the PIDs from first on. One without a title is gone.
func scene(first int, titles ...string) []host.Process {
	var all []host.Process
	for i, title := range titles {
		if title != "" {
			all = append(all, host.Process{PID: first + i, Title: title})
		}
	}
	return all
}

// service is a systemd with nginx.service.
func service(t *testing.T, clock host.Clock) (*hosttest.Units, host.Unit) {
	t.Helper()
	units := hosttest.NewUnits(clock, host.Unit{Name: "nginx.service", Active: "active"})
	u, err := units.Unit(t.Context(), "nginx.service")
	if err != nil || u.MainPID != mainPID {
		t.Fatalf("got %+v, %v", u, err)
	}
	return units, u
}

func TestReloadWaitsForTheOldWorkers(t *testing.T) {
	old := scene(10, worker, worker, managing)
	for name, c := range map[string]struct {
		looks [][]host.Process
		after int // at which look it is told to reload
	}{
		"they leave": {[][]host.Process{
			old, old, scene(10, worker, worker, managing, worker), scene(10, leaving, worker, managing, worker), scene(10, leaving, leaving, "", worker),
		}, 1},
		"they end":               {[][]host.Process{old, old, scene(10, worker, worker, managing, worker), scene(10, "", "", "", worker)}, 1},
		"the new one comes late": {[][]host.Process{old, scene(10, leaving, "", ""), scene(10, leaving, "", "", master), scene(10, leaving, "", "", worker)}, 1},
		"the second one is late": {[][]host.Process{old, scene(10, "", "", "", worker, master), scene(10, "", "", "", worker, worker)}, 1},
		"one leaves from before": {[][]host.Process{scene(10, leaving, worker), scene(10, leaving, worker), scene(10, leaving, leaving, worker)}, 1},
		"it was only just started": {[][]host.Process{
			nil, scene(10, master), scene(10, worker, master), scene(10, worker, worker), scene(10, worker, worker), scene(10, leaving, "", worker),
		}, 4},
		"it is being upgraded": {[][]host.Process{scene(99, master, worker), scene(99, master, worker), scene(99, master, leaving, worker)}, 1},
	} {
		t.Run(name, func(t *testing.T) {
			clock := hosttest.NewClock(time.Unix(0, 0))
			units, u := service(t, clock)
			s := &scenes{main: master, looks: c.looks, upgrade: 99}
			if c.looks[0] == nil {
				s.main = starting
			}
			s.look = func() {
				if reloaded := len(units.Calls()) > 0; reloaded != (s.seen >= c.after) {
					t.Errorf("at look %d it was told to reload: %t", s.seen, reloaded)
				}
			}
			if err := nginx.Reload(t.Context(), units, s, clock, u); err != nil {
				t.Error(err)
			}
			if calls := units.Calls(); !slices.Equal(calls, []string{"reload nginx.service"}) {
				t.Errorf("got %q", calls)
			}
			if s.seen != len(c.looks) {
				t.Errorf("it looked %d times, want %d", s.seen, len(c.looks))
			}
		})
	}
}

// TestReloadOfWhatCannotBeSeen: a unit that is no nginx, or one that has no process at all, is told and not waited for.
func TestReloadOfWhatCannotBeSeen(t *testing.T) {
	clock := hosttest.NewClock(time.Unix(0, 0))
	for title, change := range map[string]func(*host.Unit){
		"/usr/bin/docker run nginx": func(*host.Unit) {}, master: func(u *host.Unit) { u.MainPID = 0 },
	} {
		units, u := service(t, clock)
		change(&u)
		s := &scenes{main: title, looks: [][]host.Process{scene(10, worker)}}
		if err := nginx.Reload(t.Context(), units, s, clock, u); err != nil || len(units.Calls()) != 1 || s.seen > 0 {
			t.Errorf("%s: got %v, %q after %d looks", title, err, units.Calls(), s.seen)
		}
	}
}

func TestReloadThatNginxDoesNotCarryOut(t *testing.T) {
	clock := hosttest.NewClock(time.Unix(0, 0))
	units, u := service(t, clock)
	s := &scenes{main: master, looks: [][]host.Process{scene(10, worker)}, look: func() { clock.Advance(10 * time.Second) }}
	err := nginx.Reload(t.Context(), units, s, clock, u)
	if err == nil || !strings.Contains(err.Error(), "goes on with the old one") || !strings.Contains(diag.Fix(err), "error log") {
		t.Errorf("got %v, fix %q", err, diag.Fix(err))
	}
	if s.seen < 4 {
		t.Errorf("it gave up after %d looks, 10 s each", s.seen)
	}

	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	s = &scenes{main: master, looks: s.looks}
	s.look = func() {
		if s.seen == 2 {
			cancel()
		}
	}
	if err := nginx.Reload(ctx, units, s, clock, u); !errors.Is(err, context.Canceled) {
		t.Errorf("cancelled: got %v", err)
	}
}

func TestReloadThatSystemdRefuses(t *testing.T) {
	clock, refused := hosttest.NewClock(time.Unix(0, 0)), errors.New("refused")
	units, u := service(t, clock)
	units.Fail = func(string, string) error { return refused }
	s := &scenes{main: master, looks: [][]host.Process{scene(10, worker)}}
	if err := nginx.Reload(t.Context(), units, s, clock, u); !errors.Is(err, refused) {
		t.Errorf("got %v", err)
	}
}

// TestCarried: only workers that take connections tell whether the last reload was carried out.
func TestCarried(t *testing.T) {
	const reload = time.Hour
	at := func(title string, started time.Duration) host.Process {
		return host.Process{PID: int(started.Milliseconds()), Title: title, StartedBoot: started}
	}
	late, early := reload+100*time.Millisecond, reload-time.Second
	for name, c := range map[string]struct {
		children []host.Process
		want     bool
	}{
		"carried out":          {[]host.Process{at(worker, late), at(leaving, early)}, true},
		"not carried out":      {[]host.Process{at(worker, early), at(managing, early)}, false},
		"one has died since":   {[]host.Process{at(worker, early), at(worker, late)}, false},
		"within a tick":        {[]host.Process{at(worker, reload-9*time.Millisecond)}, true},
		"nobody is to be seen": {nil, true},
	} {
		u := host.Unit{Name: "nginx.service", MainPID: 7, ReloadedAt: time.Unix(3600, 0), ReloadedBoot: reload}
		got, err := nginx.Carried(hosttest.Processes{7: c.children}, u)
		if err != nil || (got == u) != c.want || !c.want && (got.ReloadedBoot != 0 || !got.ReloadedAt.IsZero()) {
			t.Errorf("%s: got %+v, %v", name, got, err)
		}
	}
}
