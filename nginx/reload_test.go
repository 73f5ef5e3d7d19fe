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
	unborn   = "nginx: master process /usr/sbin/nginx -g daemon on; master_process on;"
	managing = "nginx: cache manager process"
)

// scenes are what the children of nginx are, one look after the other; the last one stays.
type scenes struct {
	looks [][]host.Process
	seen  int
	look  func() // called at each look
}

func (s *scenes) Children(int) ([]host.Process, error) {
	if s.look != nil {
		s.look()
	}
	now := s.looks[min(s.seen, len(s.looks)-1)]
	s.seen++
	return now, nil
}

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

func TestReloadWaitsForTheOldWorkers(t *testing.T) {
	old := scene(10, worker, worker, managing)
	for name, looks := range map[string][][]host.Process{
		"they leave": {old, old, scene(10, worker, worker, managing, worker), scene(10, leaving, worker, managing, worker),
			scene(10, leaving, leaving, "", worker)},
		"they end":                {old, old, scene(10, worker, worker, managing, worker), scene(10, "", "", "", worker)},
		"the new one comes late":  {old, scene(10, leaving, "", ""), scene(10, leaving, "", "", unborn), scene(10, leaving, "", "", worker)},
		"the second one is late":  {old, scene(10, "", "", "", worker, unborn), scene(10, "", "", "", worker, worker)},
		"one leaves from before":  {scene(10, leaving, worker), scene(10, leaving, worker), scene(10, leaving, leaving, worker)},
		"a master from before":    {scene(10, unborn, worker), scene(10, unborn, worker), scene(10, unborn, leaving, worker)},
		"there are none":          {nil},
		"a program that is other": {scene(10, "docker run nginx")},
	} {
		t.Run(name, func(t *testing.T) {
			clock := hosttest.NewClock(time.Unix(0, 0))
			units := hosttest.NewUnits(clock, host.Unit{Name: "nginx.service", Active: "active"})
			u, err := units.Unit(t.Context(), "nginx.service")
			if err != nil {
				t.Fatal(err)
			}
			s := &scenes{looks: looks}
			if err := nginx.Reload(t.Context(), units, s, clock, u); err != nil {
				t.Error(err)
			}
			if calls := units.Calls(); !slices.Equal(calls, []string{"reload nginx.service"}) {
				t.Errorf("got %q", calls)
			}
			if s.seen != len(looks) {
				t.Errorf("it looked %d times, want %d", s.seen, len(looks))
			}
		})
	}
}

func TestReloadThatNginxDoesNotCarryOut(t *testing.T) {
	clock := hosttest.NewClock(time.Unix(0, 0))
	units := hosttest.NewUnits(clock, host.Unit{Name: "nginx.service", Active: "active"})
	u, err := units.Unit(t.Context(), "nginx.service")
	if err != nil {
		t.Fatal(err)
	}
	s := &scenes{looks: [][]host.Process{scene(10, worker)}, look: func() { clock.Advance(10 * time.Second) }}
	err = nginx.Reload(t.Context(), units, s, clock, u)
	if err == nil || !strings.Contains(err.Error(), "goes on with the old one") || !strings.Contains(diag.Fix(err), "error log") {
		t.Errorf("got %v, fix %q", err, diag.Fix(err))
	}
	if s.seen < 4 {
		t.Errorf("it gave up after %d looks, 10 s each", s.seen)
	}

	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	s = &scenes{looks: s.looks}
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
	units := hosttest.NewUnits(clock, host.Unit{Name: "nginx.service", Active: "active"})
	units.Fail = func(string, string) error { return refused }
	u, err := units.Unit(t.Context(), "nginx.service")
	if err != nil {
		t.Fatal(err)
	}
	if err := nginx.Reload(t.Context(), units, &scenes{looks: [][]host.Process{scene(10, worker)}}, clock, u); !errors.Is(err, refused) {
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
