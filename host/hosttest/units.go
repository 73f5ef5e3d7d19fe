package hosttest

import (
	"context"
	"fmt"
	"slices"
	"sync"
	"time"

	"github.com/converge-agent/converge/diag"
	"github.com/converge-agent/converge/host"
)

// Units is a systemd in memory. Starts and restarts give a unit a new invocation at the Clock's time; a reload moves
// nothing, as in systemd. It may be used by several goroutines.
type Units struct {
	Clock host.Clock
	// Fail, when set, is asked before each verb ("start", "stop", "restart", "reload", "enable", "disable", "mask",
	// "unmask", "daemon-reload" with no unit) and makes it fail with the error it returns.
	Fail func(verb, name string) error
	// Came, when set, is called after each verb that succeeded, and may change what the unit came to: a service that is
	// started and falls over. It must not use the Units itself.
	Came func(verb string, u *host.Unit)

	mu      sync.Mutex
	units   map[string]host.Unit
	calls   []string
	counter int
}

var _ host.Units = (*Units)(nil)

// NewUnits returns a systemd with these units. One without Load is loaded, one without Active is inactive and dead, one
// without FileState disabled; one that is active gets an invocation.
func NewUnits(clock host.Clock, units ...host.Unit) *Units {
	s := &Units{Clock: clock, units: map[string]host.Unit{}}
	for _, u := range units {
		s.Put(u)
	}
	return s
}

// Put makes u a unit as somebody else would have, filled up as NewUnits says.
func (s *Units) Put(u host.Unit) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if u.Load == "" {
		u.Load = "loaded"
	}
	if u.FileState == "" {
		u.FileState = "disabled"
	}
	if u.Active == "" {
		u.Active, u.Sub = "inactive", "dead"
	}
	if u.Up() && u.InvocationID == "" {
		s.started(&u)
	}
	s.units[u.Name] = u
}

// Calls lists the verbs that succeeded or failed, in order, such as "restart nginx.service".
func (s *Units) Calls() []string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return slices.Clone(s.calls)
}

// Unit returns the state of a unit.
func (s *Units) Unit(_ context.Context, name string) (host.Unit, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if u, ok := s.units[name]; ok {
		return u, nil
	}
	return host.Unit{Name: name, Load: "not-found", Active: "inactive", Sub: "dead"}, nil
}

// Start starts a unit; one that is up stays as it is.
func (s *Units) Start(ctx context.Context, name string) error {
	return s.do(ctx, "start", name, func(u *host.Unit) {
		if !u.Up() {
			s.started(u)
		}
	})
}

// Stop stops a unit. Its InvocationID stays, as in systemd.
func (s *Units) Stop(ctx context.Context, name string) error {
	return s.do(ctx, "stop", name, func(u *host.Unit) {
		u.Active, u.Sub, u.MainPID = "inactive", "dead", 0
		u.StartedAt, u.StartedBoot, u.UpBoot = time.Time{}, 0, 0
	})
}

// Restart starts a unit anew.
func (s *Units) Restart(ctx context.Context, name string) error {
	return s.do(ctx, "restart", name, s.started)
}

// Reload lets a unit that is up read its configuration again.
func (s *Units) Reload(ctx context.Context, name string) error {
	s.mu.Lock()
	up := s.units[name].Up()
	s.mu.Unlock()
	if !up {
		return diag.New("reload "+name, "it is not running", "Start it first.")
	}
	return s.do(ctx, "reload", name, func(*host.Unit) {})
}

// Enable lets a unit start at boot.
func (s *Units) Enable(ctx context.Context, name string) error {
	return s.do(ctx, "enable", name, func(u *host.Unit) { u.FileState = "enabled" })
}

// Disable keeps a unit from starting at boot.
func (s *Units) Disable(ctx context.Context, name string) error {
	return s.do(ctx, "disable", name, func(u *host.Unit) { u.FileState = "disabled" })
}

// Mask keeps a unit from starting at all.
func (s *Units) Mask(ctx context.Context, name string) error {
	return s.do(ctx, "mask", name, func(u *host.Unit) { u.Load, u.FileState = "masked", "masked" })
}

// Unmask undoes Mask.
func (s *Units) Unmask(ctx context.Context, name string) error {
	return s.do(ctx, "unmask", name, func(u *host.Unit) { u.Load, u.FileState = "loaded", "disabled" })
}

// DaemonReload reads the unit files again.
func (s *Units) DaemonReload(ctx context.Context) error {
	if err := s.begin(ctx, "daemon-reload", ""); err != nil {
		return err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	for name, u := range s.units {
		u.NeedDaemonReload = false
		s.units[name] = u
	}
	return nil
}

// do takes one verb to one unit.
func (s *Units) do(ctx context.Context, verb, name string, change func(*host.Unit)) error {
	if err := s.begin(ctx, verb, name); err != nil {
		return err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	u, ok := s.units[name]
	if !ok && verb != "mask" {
		return diag.New(verb+" "+name, "there is no such unit", "Correct the name, or install what brings the unit.")
	}
	if u.Load == "masked" && (verb == "start" || verb == "restart") {
		return diag.New(verb+" "+name, "the unit is masked", "Run systemctl unmask "+name+".")
	}
	u.Name = name
	change(&u)
	if s.Came != nil {
		s.Came(verb, &u)
	}
	s.units[name] = u
	return nil
}

func (s *Units) begin(ctx context.Context, verb, name string) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	s.mu.Lock()
	call := verb
	if name != "" {
		call += " " + name
	}
	s.calls = append(s.calls, call)
	s.mu.Unlock()
	if s.Fail == nil {
		return nil
	}
	return s.Fail(verb, name)
}

// started gives u a new invocation. The lock is held.
func (s *Units) started(u *host.Unit) {
	s.counter++
	u.Active, u.Sub, u.Result = "active", "running", "success"
	u.InvocationID = fmt.Sprintf("%032x", s.counter)
	u.MainPID = uint32(1000 + s.counter)
	u.StartedAt, u.StartedBoot = s.Clock.Now(), s.Clock.SinceBoot()
	u.UpBoot = u.StartedBoot
}
