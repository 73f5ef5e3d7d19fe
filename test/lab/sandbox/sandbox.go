// Package sandbox is a stand-in for systemd on a private D-Bus, for people who are not root: it answers the calls of
// org.freedesktop.systemd1(5) that converge makes, for a handful of units that are real processes. Nothing outside its
// directory is touched, and nobody else can see it.
//
// It is no systemd: there are no dependencies, unit files, boots or automatic restarts, and every unit is Type=simple.
package sandbox

import (
	"context"
	"encoding/xml"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"time"

	"github.com/godbus/dbus/v5"
)

// Unit is one unit, and the process that it is.
type Unit struct {
	Name    string   // with its suffix: "nginx.service"
	Command []string // the program, by its whole path, and its arguments; it must not go to the background
	Dir     string
	// Reload is the signal that makes the program read its configuration again; 0 where it cannot.
	Reload syscall.Signal
	// Enabled says that it would start at boot.
	Enabled bool
	// UID, when it is not 0, is who the program takes itself for, though it has the rights of whoever started the sandbox: a
	// program that is root in a namespace without other users fails to change to one of them (user_namespaces(7)).
	UID int
	// Log takes what the program prints; nothing does where it is "".
	Log string
}

// Sandbox is a running bus with its units.
type Sandbox struct {
	// Address is what DBUS_SYSTEM_BUS_ADDRESS has to be for programs that shall see these units.
	Address string

	dir     string
	daemon  *exec.Cmd
	conn    *dbus.Conn
	manager *manager
}

// Start starts a bus in dir and the units on it, none of which runs yet. dir must not be long, for the path of a socket has
// 108 bytes at most: unix(7).
func Start(ctx context.Context, dir string, units ...Unit) (*Sandbox, error) {
	s := &Sandbox{dir: dir, manager: newManager(units)}
	err := s.StartBus(ctx)
	if err != nil {
		s.Close()
		return nil, fmt.Errorf("start a sandbox in %s: %w", dir, err)
	}
	return s, nil
}

// StartBus starts the bus anew, on the same address, after StopBus.
func (s *Sandbox) StartBus(ctx context.Context) error {
	socket := filepath.Join(s.dir, "bus")
	config := filepath.Join(s.dir, "bus.conf")
	if err := os.WriteFile(config, busConfig(socket), 0o600); err != nil {
		return err
	}
	s.Address = "unix:path=" + dbus.EscapeBusAddressValue(socket)
	daemon, err := exec.LookPath("dbus-daemon")
	if err != nil {
		return errors.New("dbus-daemon is missing; install the package dbus-daemon")
	}
	s.daemon = exec.CommandContext(context.WithoutCancel(ctx), daemon, "--nofork", "--nopidfile", "--config-file="+config)
	var complaints strings.Builder
	s.daemon.Stderr = &complaints
	if err := s.manager.starter.start(s.daemon, 0); err != nil {
		s.daemon = nil
		return err
	}
	if s.conn, err = connect(ctx, s.Address); err != nil {
		return fmt.Errorf("%w: %s", err, complaints.String())
	}
	return s.manager.export(s.conn)
}

// connect connects to a bus that may not be up yet.
func connect(ctx context.Context, address string) (*dbus.Conn, error) {
	ctx, cancel := context.WithTimeout(ctx, time.Minute)
	defer cancel()
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	for {
		conn, err := dbus.Connect(address)
		if err == nil {
			return conn, nil
		}
		select {
		case <-ctx.Done():
			return nil, errors.Join(errors.New("the bus does not answer"), err)
		case <-tick.C:
		}
	}
}

// StopBus kills the bus, as a crash does. The units run on.
func (s *Sandbox) StopBus() {
	_ = s.daemon.Process.Kill() // it is a child that nobody has waited for yet
	_ = s.daemon.Wait()         // by the signal: no error of interest
	_ = s.conn.Close()          // its other end is gone
	s.conn, s.daemon = nil, nil
}

// Freeze has the bus stand still, so that nobody is answered, until the returned function is called.
func (s *Sandbox) Freeze() (thaw func()) {
	process := s.daemon.Process
	_ = process.Signal(syscall.SIGSTOP) // as above
	return func() { _ = process.Signal(syscall.SIGCONT) }
}

// Close ends all units and the bus.
func (s *Sandbox) Close() {
	s.manager.close()
	if s.conn != nil {
		_ = s.conn.Close() // the bus goes anyway
	}
	if s.daemon != nil {
		_ = s.daemon.Process.Signal(syscall.SIGTERM)
		_ = s.daemon.Wait() // by the signal: no error of interest
		s.daemon = nil
	}
}

// busConfig is the configuration of a bus for one user: dbus-daemon(1).
func busConfig(socket string) []byte {
	var path strings.Builder
	_ = xml.EscapeText(&path, []byte(dbus.EscapeBusAddressValue(socket))) // a strings.Builder takes all
	return []byte(`<!DOCTYPE busconfig PUBLIC "-//freedesktop//DTD D-Bus Bus Configuration 1.0//EN"
 "http://www.freedesktop.org/standards/dbus/1.0/busconfig.dtd">
<busconfig>
  <listen>unix:path=` + path.String() + `</listen>
  <auth>EXTERNAL</auth>
  <policy context="default">
    <allow send_destination="*" eavesdrop="true"/>
    <allow eavesdrop="true"/>
    <allow own="*"/>
  </policy>
</busconfig>
`)
}

// MainPID returns the process of a unit; 0 while it does not run.
func (s *Sandbox) MainPID(name string) int {
	u := s.manager.units[name]
	u.mu.Lock()
	defer u.mu.Unlock()
	if u.process == nil {
		return 0
	}
	return u.process.Process.Pid
}

// StartUnit starts a unit without a call on the bus.
func (s *Sandbox) StartUnit(name string) error {
	if result := s.manager.units[name].start(); result != "done" {
		return fmt.Errorf("start %s: %s", name, result)
	}
	return nil
}
