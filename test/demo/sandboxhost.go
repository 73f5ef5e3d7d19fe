package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"syscall"
	"time"

	unithost "github.com/converge-agent/converge/host"
	"github.com/converge-agent/converge/test/lab"
	"github.com/converge-agent/converge/test/lab/sandbox"
)

// sandboxHost is the host that this process itself is in.
type sandboxHost struct {
	bus   *sandbox.Sandbox
	units *unithost.SystemdUnits
}

// wwwData is the user of nginx (base-passwd, /usr/share/doc/base-passwd/users-and-groups).
const wwwData = 33

func signalContext() (context.Context, func()) {
	return signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
}

func (s *sandboxHost) what() string {
	return "a sandbox: this system's programs in namespaces of your own, with a stand-in for systemd"
}

func (s *sandboxHost) lab() lab.Options { return lab.Options{Dir: "/demo/lab"} }

func (s *sandboxHost) ip() string { return "127.0.0.1" }

func (s *sandboxHost) disk(path string) string {
	if path == "/usr/local/bin/converge" {
		return "/root/bin/converge" // /usr is the system's own, and cannot be written to
	}
	return path
}

func (s *sandboxHost) start(ctx context.Context) error {
	nginx, err := exec.LookPath("nginx")
	if err != nil {
		return errors.New("nginx is missing; install the package nginx-light")
	}
	units := []sandbox.Unit{{
		Name: "nginx.service", Command: []string{nginx, "-g", "daemon off;"}, Reload: syscall.SIGHUP, Enabled: true, UID: wwwData, Log: "/var/log/nginx/output.log",
	}}
	for _, name := range mastodonUnits {
		units = append(units, sandbox.Unit{Name: name + ".service", Command: []string{"/bin/sh", filepath.Join(live, "bin/stand-in"), name}, Enabled: true})
	}
	if s.bus, err = sandbox.Start(ctx, "/run", units...); err != nil {
		return err
	}
	// Where every program looks for the system's bus (D-Bus specification, "Well-known Message Bus Instances").
	if err := os.Symlink("../bus", "/run/dbus/system_bus_socket"); err != nil {
		return err
	}
	s.units = unithost.Systemd()
	for _, u := range units {
		if err := s.units.Start(ctx, u.Name); err != nil {
			return err
		}
	}
	return s.settle(ctx, units)
}

// settle gives programs that cannot run the time to end, and tells what they said.
func (s *sandboxHost) settle(ctx context.Context, units []sandbox.Unit) error {
	select {
	case <-time.After(300 * time.Millisecond):
	case <-ctx.Done():
		return ctx.Err()
	}
	for _, u := range units {
		state, err := s.units.Unit(ctx, u.Name)
		if err != nil {
			return err
		}
		if !state.Up() {
			said, _ := os.ReadFile(u.Log) // it may have said nothing
			return fmt.Errorf("%s ended at once in the sandbox (%s, status %d): %s", u.Name, state.Result, state.ExitStatus, said)
		}
	}
	return nil
}

func (s *sandboxHost) run(ctx context.Context, args ...string) (string, int, error) {
	if args[0] == "converge" {
		args = append([]string{s.disk("/usr/local/bin/converge")}, args[1:]...)
	}
	cmd := exec.CommandContext(ctx, args[0], args[1:]...)
	var out bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &out
	err := cmd.Run()
	var exit *exec.ExitError
	if errors.As(err, &exit) {
		return out.String(), exit.ExitCode(), nil
	}
	return out.String(), 0, err
}

func (s *sandboxHost) service(ctx context.Context, verb, name string) (string, error) {
	if verb == "stop" {
		return "", s.units.Stop(ctx, name)
	}
	u, err := s.units.Unit(ctx, name)
	if verb == "invocation" {
		return u.InvocationID, err
	}
	return u.Active, err
}

func (s *sandboxHost) read(_ context.Context, path string) (string, error) {
	b, err := os.ReadFile(path)
	return string(b), err
}

func (s *sandboxHost) write(_ context.Context, path, content string, mode os.FileMode) error {
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		return err
	}
	return os.WriteFile(path, []byte(content), mode)
}

func (s *sandboxHost) dial(ctx context.Context, network, addr string) (net.Conn, error) {
	var d net.Dialer
	return d.DialContext(ctx, network, addr)
}

func (s *sandboxHost) shell() string {
	return "nsenter --user --mount --net --pid --preserve-credentials --target $(pgrep -nf " + insideArg + ") env PATH=/root/bin:$PATH sh"
}

func (s *sandboxHost) close() {
	if s.units != nil {
		s.units.Close()
	}
	if s.bus != nil {
		s.bus.Close()
	}
}
