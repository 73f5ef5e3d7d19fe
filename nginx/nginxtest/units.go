package nginxtest

import (
	"context"
	"sync"
	"syscall"

	"github.com/converge-agent/converge/host"
	"github.com/converge-agent/converge/host/hosttest"
)

// Units is a systemd whose nginx.service is a real nginx. Its reload is done as soon as the signal is sent, as systemd's.
type Units struct {
	*hosttest.Units
	server *Server

	mu       sync.Mutex
	reloaded host.Unit // when
}

const unitName = "nginx.service"

// NewUnits returns a systemd that runs s, by the clock of this host.
func NewUnits(s *Server) *Units {
	return &Units{Units: hosttest.NewUnits(host.SystemClock(), host.Unit{Name: unitName, Active: "active"}), server: s}
}

// Unit returns the state of a unit.
func (u *Units) Unit(ctx context.Context, name string) (host.Unit, error) {
	found, err := u.Units.Unit(ctx, name)
	if err != nil || !found.Up() {
		return found, err
	}
	u.mu.Lock()
	defer u.mu.Unlock()
	found.MainPID = uint32(u.server.PID())
	found.ReloadedAt, found.ReloadedBoot = u.reloaded.ReloadedAt, u.reloaded.ReloadedBoot
	return found, nil
}

// Reload tells nginx to read its configuration again, and does not wait until it has.
func (u *Units) Reload(ctx context.Context, name string) error {
	if err := u.Units.Reload(ctx, name); err != nil {
		return err
	}
	u.mu.Lock()
	defer u.mu.Unlock()
	clock := host.SystemClock()
	u.reloaded.ReloadedAt, u.reloaded.ReloadedBoot = clock.Now(), clock.SinceBoot()
	return syscall.Kill(u.server.PID(), syscall.SIGHUP)
}
