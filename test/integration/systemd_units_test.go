package integration

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"strings"
	"testing"
	"time"

	"github.com/converge-agent/converge/diag"
	"github.com/converge-agent/converge/host"
	"github.com/converge-agent/converge/test/machine"
)

// bootMachine starts a machine that ends with the test.
func bootMachine(t *testing.T) *machine.Machine {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 15*time.Minute) // the first ever builds the base
	defer cancel()
	base, err := machine.Base(ctx, "", "bookworm")
	if err != nil {
		t.Fatal(err)
	}
	m, err := machine.Start(ctx, machine.Options{Base: base})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := m.Stop(); err != nil {
			t.Error(err)
		}
	})
	return m
}

// inMachine runs a command that must succeed, and returns what it printed.
func inMachine(t *testing.T, m *machine.Machine, command ...string) string {
	t.Helper()
	r, err := m.Run(t.Context(), command...)
	if err != nil || r.Code != 0 {
		t.Fatalf("%q: status %d, error %v\n%s%s", command, r.Code, err, r.Stdout, r.Stderr)
	}
	return strings.TrimSpace(r.Stdout)
}

// putFile writes a file in the machine.
func putFile(t *testing.T, m *machine.Machine, path, content string, mode fs.FileMode) {
	t.Helper()
	if err := m.Put(t.Context(), path, content, mode); err != nil {
		t.Fatal(err)
	}
}

// putUnit writes a unit file whose [Service] section has these lines, and has systemd read it.
func putUnit(t *testing.T, m *machine.Machine, name string, lines ...string) {
	t.Helper()
	putFile(t, m, "/etc/systemd/system/"+name, "[Service]\n"+strings.Join(lines, "\n")+"\n[Install]\nWantedBy=multi-user.target\n", 0o644)
	inMachine(t, m, "systemctl", "daemon-reload")
}

// machineUnits are the units of the machine, over its system bus.
func machineUnits(t *testing.T, m *machine.Machine) *host.SystemdUnits {
	t.Helper()
	t.Setenv("DBUS_SYSTEM_BUS_ADDRESS", "unix:path="+m.Path("/run/dbus/system_bus_socket"))
	units := host.Systemd()
	t.Cleanup(units.Close)
	return units
}

func TestSystemdUnits(t *testing.T) {
	m := bootMachine(t)
	units := machineUnits(t, m)
	putUnit(t, m, "good.service", "ExecStart=sleep infinity", "ExecReload=true")
	putUnit(t, m, "false.service", "ExecStart=false")
	putUnit(t, m, "bad.service", "ExecStart=relative/path")
	putUnit(t, m, "never.service", "Type=notify", "TimeoutStartSec=200ms", "ExecStart=sleep infinity")
	putUnit(t, m, "plain.service", "ExecStart=sleep infinity")
	putUnit(t, m, "hidden.service", "ExecStart=true")
	inMachine(t, m, "mv", "/etc/systemd/system/hidden.service", "/usr/lib/systemd/system/")
	inMachine(t, m, "systemctl", "mask", "hidden")
	inMachine(t, m, "systemctl", "start", "plain")

	t.Run("a start and what it moves", func(t *testing.T) { unitStart(t, units) })
	t.Run("a reload and what it moves", func(t *testing.T) { unitReload(t, m, units) })
	t.Run("done is not up", func(t *testing.T) { unitDone(t, units) })
	t.Run("unit files", func(t *testing.T) { unitFiles(t, m, units) })
	t.Run("refusals", func(t *testing.T) { unitRefusals(t, units) })
	t.Run("a connection that died", func(t *testing.T) {
		stateOf(t, units, "good")
		inMachine(t, m, "systemctl", "restart", "dbus")
		if u := stateOf(t, units, "good"); u.Load != "loaded" {
			t.Errorf("Load = %q after the bus was restarted", u.Load)
		}
		inMachine(t, m, "systemctl", "daemon-reexec")
		if err := units.Restart(t.Context(), "good"); err != nil {
			t.Errorf("after systemd executed itself anew: %v", err)
		}
	})
	t.Run("a cancelled wait", func(t *testing.T) {
		putUnit(t, m, "slow.service", "Type=oneshot", "ExecStart=sleep infinity")
		ctx, cancel := context.WithTimeout(t.Context(), 200*time.Millisecond)
		defer cancel()
		if err := units.Start(ctx, "slow"); !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("error = %v, want the deadline", err)
		}
		if err := units.Stop(t.Context(), "slow"); err != nil {
			t.Errorf("the connection is stuck after a wait that was given up: %v", err)
		}
	})
}

func stateOf(t *testing.T, units host.UnitView, name string) host.Unit {
	t.Helper()
	u, err := units.Unit(t.Context(), name)
	if err != nil {
		t.Fatal(err)
	}
	return u
}

func unitStart(t *testing.T, units *host.SystemdUnits) {
	if u := stateOf(t, units, "absent"); u.Name != "absent.service" || u.Load != "not-found" || u.Up() {
		t.Errorf("an absent unit = %+v", u)
	}
	if u := stateOf(t, units, "bad"); u.Load != "bad-setting" {
		t.Errorf("a bad unit file = %+v", u)
	}
	before := time.Now()
	if err := units.Start(t.Context(), "good"); err != nil {
		t.Fatal(err)
	}
	u := stateOf(t, units, "good")
	if !u.Up() || u.Sub != "running" || u.Type != "simple" || u.FileState != "disabled" || u.MainPID == 0 || len(u.InvocationID) != 32 || !u.CanReload {
		t.Errorf("a started unit = %+v", u)
	}
	if u.StartedAt.Before(before) || u.StartedAt.After(time.Now()) {
		t.Errorf("StartedAt = %s, not between %s and now", u.StartedAt, before)
	}
	boot := host.SystemClock().SinceBoot()
	if age := boot - u.StartedBoot; age < 0 || age > 5*time.Minute {
		t.Errorf("StartedBoot = %s, now it is %s", u.StartedBoot, boot)
	}
	if err := units.Start(t.Context(), "good"); err != nil {
		t.Fatal(err)
	}
	if again := stateOf(t, units, "good"); again.InvocationID != u.InvocationID {
		t.Error("a start of what runs has started it anew")
	}
	if err := units.Restart(t.Context(), "good"); err != nil {
		t.Fatal(err)
	}
	again := stateOf(t, units, "good")
	if again.InvocationID == u.InvocationID || !again.StartedAt.After(u.StartedAt) || again.StartedBoot <= u.StartedBoot {
		t.Errorf("a restart moved nothing: %+v, before %+v", again, u)
	}
}

func unitReload(t *testing.T, m *machine.Machine, units *host.SystemdUnits) {
	before := stateOf(t, units, "good")
	if !before.ReloadedAt.IsZero() {
		t.Errorf("a unit that was never reloaded: %+v", before)
	}
	asked := time.Now()
	if err := units.Reload(t.Context(), "good"); err != nil {
		t.Fatal(err)
	}
	after := stateOf(t, units, "good")
	if after.ReloadedAt.Before(asked) || after.ReloadedBoot <= before.StartedBoot {
		t.Errorf("ReloadedAt = %s, asked for at %s; ReloadedBoot = %s, started at %s", after.ReloadedAt, asked, after.ReloadedBoot, before.StartedBoot)
	}
	after.ReloadedAt, after.ReloadedBoot = time.Time{}, 0
	if after != before {
		t.Errorf("a reload moved more than its own time:\n%+v\n%+v", after, before)
	}
	inMachine(t, m, "systemctl", "reload", "good")
	if byHand := stateOf(t, units, "good"); !byHand.ReloadedAt.After(asked) || byHand.ReloadedBoot == after.ReloadedBoot {
		t.Errorf("a reload by hand is not seen: %+v", byHand)
	}
	if err := units.Restart(t.Context(), "good"); err != nil {
		t.Fatal(err)
	}
	if u := stateOf(t, units, "good"); !u.ReloadedAt.IsZero() {
		t.Errorf("a restart has not forgotten the reload: %+v", u)
	}
}

func unitDone(t *testing.T, units *host.SystemdUnits) {
	if err := units.Start(t.Context(), "false"); err != nil {
		t.Fatalf("systemd calls the start of a simple service done, whatever becomes of it: %v", err)
	}
	for deadline := time.Now().Add(5 * time.Minute); ; {
		u := stateOf(t, units, "false")
		if u.Active == "failed" {
			if u.Result != "exit-code" || u.ExitStatus != 1 {
				t.Errorf("a failed unit = %+v", u)
			}
			return
		}
		if time.Now().After(deadline) {
			t.Fatalf("it has not failed: %+v", u)
		}
	}
}

func unitFiles(t *testing.T, m *machine.Machine, units *host.SystemdUnits) {
	for _, step := range []struct {
		verb func(context.Context, string) error
		want string
	}{
		{units.Enable, "enabled"}, {units.Enable, "enabled"}, {units.Disable, "disabled"}, {units.Disable, "disabled"},
	} {
		if err := step.verb(t.Context(), "good"); err != nil {
			t.Fatal(err)
		}
		if u := stateOf(t, units, "good"); u.FileState != step.want {
			t.Errorf("FileState = %q, want %q", u.FileState, step.want)
		}
	}
	inMachine(t, m, "systemctl", "enable", "--runtime", "good")
	if err := units.Disable(t.Context(), "good"); err != nil {
		t.Fatal(err)
	}
	if u := stateOf(t, units, "good"); u.FileState != "disabled" {
		t.Errorf("FileState = %q after disabling what was enabled until the next boot", u.FileState)
	}
	if u := stateOf(t, units, "hidden"); u.Load != "masked" || u.FileState != "masked" {
		t.Errorf("a masked unit = %+v", u)
	}
	if err := units.Unmask(t.Context(), "hidden"); err != nil {
		t.Fatal(err)
	}
	if u := stateOf(t, units, "hidden"); u.Load != "loaded" {
		t.Errorf("an unmasked unit = %+v", u)
	}
	if err := units.Mask(t.Context(), "hidden"); err != nil {
		t.Fatal(err)
	}
	if u := stateOf(t, units, "hidden"); u.Load != "masked" {
		t.Errorf("a unit masked by converge = %+v", u)
	}
	putFile(t, m, "/etc/systemd/system/plain.service", "[Service]\nExecStart=sleep 1000000\n", 0o644)
	if u := stateOf(t, units, "plain"); !u.NeedDaemonReload {
		t.Error("a new unit file is not noticed")
	}
	if err := units.DaemonReload(t.Context()); err != nil {
		t.Fatal(err)
	}
	if u := stateOf(t, units, "plain"); u.NeedDaemonReload {
		t.Error("a unit file is not read by a daemon-reload")
	}
}

func unitRefusals(t *testing.T, units *host.SystemdUnits) {
	for name, c := range map[string]struct {
		verb       func(context.Context, string) error
		unit, want string
		fix        string
	}{
		"absent":      {units.Start, "absent", "start absent.service: there is no such unit", "install what brings absent.service"},
		"masked":      {units.Start, "hidden", "start hidden.service: the unit is masked", "systemctl unmask hidden.service"},
		"bad setting": {units.Start, "bad", "start bad.service: its unit file has a setting that systemd refuses", "systemd-analyze verify bad.service"},
		"no reload":   {units.Reload, "plain", "reload plain.service: the unit cannot do that", "restart_on"},
		"not ready":   {units.Start, "never", "start never.service: systemd's job for it failed", "journalctl -u never.service -n 20"},
		"no install":  {units.Enable, "systemd-journald", "enable systemd-journald.service: its unit file has no [Install] section", "enabled = true"},
		"unit file in the way": {units.Mask, "plain", "mask plain.service: a unit file of that name stands in /etc/systemd/system",
			"Move plain.service"},
		"no name": {units.Start, "a b", "start a b.service: systemd takes that for no unit's name", "Correct the name"},
	} {
		t.Run(name, func(t *testing.T) {
			err := c.verb(t.Context(), c.unit)
			if err == nil || !strings.HasPrefix(err.Error(), c.want) || !strings.Contains(diag.Fix(err), c.fix) {
				t.Errorf("error = %v (fix: %s), want %s … (fix: … %s …)", err, diag.Fix(err), c.want, c.fix)
			}
		})
	}
}

func TestSystemdUnitsWithoutSystemd(t *testing.T) {
	t.Setenv("DBUS_SYSTEM_BUS_ADDRESS", fmt.Sprintf("unix:path=%s/none", t.TempDir()))
	units := host.Systemd()
	defer units.Close()
	_, err := units.Unit(t.Context(), "nginx")
	if !errors.Is(err, host.ErrNoSystemd) || strings.Contains(err.Error(), "\n") || diag.Fix(err) == "" {
		t.Errorf("error = %v, fix = %q", err, diag.Fix(err))
	}
}
