package host

import (
	"context"
	"errors"
	"fmt"
	"os"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/coreos/go-systemd/v22/dbus"
)

// SystemdUnits reads and commands the units of this host's systemd. It connects on first use: as root straight to systemd
// (/run/systemd/private, which works without a D-Bus daemon), else over the system bus, which DBUS_SYSTEM_BUS_ADDRESS may
// name. A connection that died, as when systemd executes itself anew, is made again. It may be used from several goroutines.
type SystemdUnits struct {
	mu   sync.Mutex
	conn *dbus.Conn
}

// Systemd returns the units of this host's systemd. Nothing is connected before the first call.
func Systemd() *SystemdUnits { return &SystemdUnits{} }

// Close ends the connection, if there is one. Using the units again opens another.
func (s *SystemdUnits) Close() {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.conn != nil {
		s.conn.Close()
		s.conn = nil
	}
}

// Unit returns the state of a unit; one that does not exist has Load "not-found" and is no error.
func (s *SystemdUnits) Unit(ctx context.Context, name string) (Unit, error) {
	name = UnitName(name)
	var u Unit
	err := s.call(ctx, func(ctx context.Context, c *dbus.Conn) error {
		props, err := c.GetAllPropertiesContext(ctx, name)
		if err == nil {
			u = unitFromProperties(name, props)
		}
		return err
	})
	if err != nil {
		return Unit{}, unitError(err, "read the state of "+name, name)
	}
	return u, nil
}

// Start starts a unit. One that runs stays as it is.
func (s *SystemdUnits) Start(ctx context.Context, name string) error {
	return s.job(ctx, "start", name, (*dbus.Conn).StartUnitContext)
}

// Stop stops a unit. One that does not run stays as it is.
func (s *SystemdUnits) Stop(ctx context.Context, name string) error {
	return s.job(ctx, "stop", name, (*dbus.Conn).StopUnitContext)
}

// Restart stops a unit and starts it; one that does not run is started.
func (s *SystemdUnits) Restart(ctx context.Context, name string) error {
	return s.job(ctx, "restart", name, (*dbus.Conn).RestartUnitContext)
}

// Reload makes a running unit read its configuration again.
func (s *SystemdUnits) Reload(ctx context.Context, name string) error {
	return s.job(ctx, "reload", name, (*dbus.Conn).ReloadUnitContext)
}

// Enable makes the unit start at boot, and has systemd read its unit files again, as systemctl(1) does.
func (s *SystemdUnits) Enable(ctx context.Context, name string) error {
	return s.fileChange(ctx, "enable", name, func(ctx context.Context, c *dbus.Conn, files []string) error {
		carriesInstallInfo, _, err := c.EnableUnitFilesContext(ctx, files, false, true)
		if err == nil && !carriesInstallInfo {
			err = errNoInstall
		}
		return err
	})
}

// Disable keeps the unit from starting at boot, for good and until the next boot, and has systemd read its unit files again.
func (s *SystemdUnits) Disable(ctx context.Context, name string) error {
	return s.fileChange(ctx, "disable", name, func(ctx context.Context, c *dbus.Conn, files []string) error {
		for _, untilBoot := range []bool{false, true} {
			if _, err := c.DisableUnitFilesContext(ctx, files, untilBoot); err != nil {
				return err
			}
		}
		return nil
	})
}

// Mask makes it impossible to start the unit, and has systemd read its unit files again. A unit that runs goes on.
func (s *SystemdUnits) Mask(ctx context.Context, name string) error {
	return s.fileChange(ctx, "mask", name, func(ctx context.Context, c *dbus.Conn, files []string) error {
		_, err := c.MaskUnitFilesContext(ctx, files, false, true)
		return err
	})
}

// Unmask undoes Mask, both for good and until the next boot, and has systemd read its unit files again.
func (s *SystemdUnits) Unmask(ctx context.Context, name string) error {
	return s.fileChange(ctx, "unmask", name, func(ctx context.Context, c *dbus.Conn, files []string) error {
		for _, untilBoot := range []bool{false, true} {
			if _, err := c.UnmaskUnitFilesContext(ctx, files, untilBoot); err != nil {
				return err
			}
		}
		return nil
	})
}

// DaemonReload has systemd read all unit files again.
func (s *SystemdUnits) DaemonReload(ctx context.Context) error {
	err := s.call(ctx, func(ctx context.Context, c *dbus.Conn) error { return c.ReloadContext(ctx) })
	return unitError(err, "have systemd read its unit files again", "")
}

// jobMethod is one of the methods of a connection that queue a job for a unit.
type jobMethod func(c *dbus.Conn, ctx context.Context, name, mode string, done chan<- string) (int, error)

// job queues a job and waits for its end.
func (s *SystemdUnits) job(ctx context.Context, verb, name string, method jobMethod) error {
	name = UnitName(name)
	done := make(chan string, 1) // with a buffer, or a wait that ended early would block the connection for good
	var conn *dbus.Conn
	err := s.call(ctx, func(ctx context.Context, c *dbus.Conn) error {
		conn = c
		_, err := method(c, ctx, name, "replace", done)
		return err
	})
	if err == nil {
		err = waitForJob(ctx, conn, done)
	}
	return unitError(err, verb+" "+name, name)
}

// connectionCheck is how often a wait for a job looks whether the connection that will tell of its end is still there.
const connectionCheck = 500 * time.Millisecond

// waitForJob waits until systemd says how the job ended. The results are those of JobRemoved in org.freedesktop.systemd1(5).
func waitForJob(ctx context.Context, conn *dbus.Conn, done <-chan string) error {
	check := time.NewTicker(connectionCheck)
	defer check.Stop()
	for {
		select {
		case result := <-done:
			if result != "done" && result != "skipped" {
				return jobFailure(result)
			}
			return nil
		case <-ctx.Done():
			return fmt.Errorf("the wait for systemd's job was given up, which may still end well: %w", context.Cause(ctx))
		case <-check.C:
			if !conn.Connected() {
				return errLostConnection
			}
		}
	}
}

// fileChange changes the links that enable or mask a unit, then has systemd read them, for it does not by itself.
func (s *SystemdUnits) fileChange(ctx context.Context, verb, name string, change func(context.Context, *dbus.Conn, []string) error) error {
	name = UnitName(name)
	err := s.call(ctx, func(ctx context.Context, c *dbus.Conn) error {
		if err := change(ctx, c, []string{name}); err != nil {
			return err
		}
		return c.ReloadContext(ctx)
	})
	return unitError(err, verb+" "+name, name)
}

// answerLimit bounds each answer of systemd: a daemon-reload of a large, loaded host takes seconds, and systemctl(1) gives
// up after 90 s. Without a bound, a systemd that crashed ("Freezing execution") would hold up converge for ever.
const answerLimit = 2 * time.Minute

// call does f over the connection, once more over a new one if that turns out to be dead: all that f does can be repeated.
func (s *SystemdUnits) call(ctx context.Context, f func(context.Context, *dbus.Conn) error) error {
	ctx, cancel := context.WithTimeoutCause(ctx, answerLimit, errNoAnswer)
	defer cancel()
	for again := false; ; again = true {
		c, err := s.connect(ctx)
		if err == nil {
			err = f(ctx, c)
		}
		switch {
		case err == nil:
			return nil
		case ctx.Err() != nil:
			return context.Cause(ctx)
		case again || c == nil || c.Connected():
			return err
		}
	}
}

// connect returns the connection, or a new one where there is none or it died.
func (s *SystemdUnits) connect(ctx context.Context) (*dbus.Conn, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.conn != nil && s.conn.Connected() {
		return s.conn, nil
	}
	if s.conn != nil {
		s.conn.Close()
		s.conn = nil
	}
	c, err := dial(ctx)
	if err != nil {
		return nil, &noBusError{err}
	}
	s.conn = c
	return c, nil
}

// dial connects straight to systemd, which only root may, or else over the system bus.
func dial(ctx context.Context) (*dbus.Conn, error) {
	ways := []func(context.Context) (*dbus.Conn, error){dbus.NewSystemConnectionContext}
	if os.Geteuid() == 0 {
		ways = slices.Insert(ways, 0, dbus.NewSystemdConnectionContext)
	}
	var errs []error
	for _, way := range ways {
		c, err := dialLasting(ctx, way)
		if err == nil {
			return c, nil
		}
		errs = append(errs, err)
	}
	return nil, errors.Join(errs...)
}

// dialLasting makes a connection that outlives ctx, though ctx may end the making of it: go-systemd ends a connection with
// the context that it was made with.
func dialLasting(ctx context.Context, way func(context.Context) (*dbus.Conn, error)) (*dbus.Conn, error) {
	lasting, cancel := context.WithCancel(context.WithoutCancel(ctx))
	release := context.AfterFunc(ctx, cancel)
	c, err := way(lasting)
	if err != nil {
		cancel()
		return nil, err
	}
	if !release() { // ctx has ended, and has closed the connection or is about to
		c.Close()
		return nil, context.Cause(ctx)
	}
	return c, nil
}

// unitSuffixes are the types of units, from systemd.unit(5).
var unitSuffixes = [...]string{".service", ".socket", ".device", ".mount", ".automount", ".swap", ".target", ".path", ".timer",
	".slice", ".scope"}

// UnitName returns the full name of a unit: one without the suffix of a type is a service's, as for systemctl(1).
func UnitName(name string) string {
	for _, suffix := range unitSuffixes {
		if strings.HasSuffix(name, suffix) {
			return name
		}
	}
	return name + ".service"
}
