package sandbox_test

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/converge-agent/converge/host"
	"github.com/converge-agent/converge/test/lab/sandbox"
	"github.com/coreos/go-systemd/v22/dbus"
	godbus "github.com/godbus/dbus/v5"
)

// bus starts a sandbox and a connection to it.
func bus(t *testing.T, units ...sandbox.Unit) (*sandbox.Sandbox, *dbus.Conn) {
	t.Helper()
	dir, err := os.MkdirTemp("", "sb")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.RemoveAll(dir) })
	s, err := sandbox.Start(t.Context(), dir, units...)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(s.Close)
	conn, err := dbus.NewConnection(func() (*godbus.Conn, error) { return godbus.Connect(s.Address) })
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(conn.Close)
	return s, conn
}

func job(t *testing.T, f func(chan<- string) (int, error)) string {
	t.Helper()
	done := make(chan string, 1)
	if _, err := f(done); err != nil {
		return err.Error()
	}
	select {
	case r := <-done:
		return r
	case <-time.After(time.Minute):
		t.Fatal("the job did not end")
		return ""
	}
}

func get(t *testing.T, c *dbus.Conn, unit string) map[string]any {
	t.Helper()
	p, err := c.GetAllPropertiesContext(t.Context(), unit)
	if err != nil {
		t.Fatal(err)
	}
	return p
}

// eventually waits until a unit's property has a value.
func eventually(t *testing.T, c *dbus.Conn, unit, name, want string) {
	t.Helper()
	for deadline := time.Now().Add(5 * time.Minute); ; time.Sleep(5 * time.Millisecond) {
		got := fmt.Sprint(get(t, c, unit)[name])
		if got == want {
			return
		}
		if time.Now().After(deadline) {
			t.Fatalf("%s of %s is %s, not %s", name, unit, got, want)
		}
	}
}

func TestLifeOfAUnit(t *testing.T) {
	log := filepath.Join(t.TempDir(), "log")
	script := `trap 'echo reloaded' USR1; trap 'echo stopped; exit 0' TERM; echo started; while :; do sleep 0.05; done`
	_, c := bus(t, sandbox.Unit{Name: "web-1.service", Command: []string{"/bin/sh", "-c", script}, Reload: syscall.SIGUSR1, Log: log})
	const name = "web-1.service"
	if p := get(t, c, name); p["ActiveState"] != "inactive" || p["LoadState"] != "loaded" || p["MainPID"] != uint32(0) {
		t.Errorf("before it was started: %v", p)
	}
	start := func(ch chan<- string) (int, error) { return c.StartUnitContext(t.Context(), name, "replace", ch) }
	if got := job(t, start); got != "done" {
		t.Fatalf("start: %s", got)
	}
	first := get(t, c, name)
	if first["ActiveState"] != "active" || len(first["InvocationID"].([]byte)) != 16 || first["InactiveExitTimestamp"].(uint64) == 0 {
		t.Errorf("after the start: %v", first)
	}
	waitFor(t, log, "started")
	if got := job(t, start); got != "done" || fmt.Sprint(get(t, c, name)["InvocationID"]) != fmt.Sprint(first["InvocationID"]) {
		t.Errorf("starting what runs: %s, and a new invocation", got)
	}
	if got := job(t, func(ch chan<- string) (int, error) { return c.ReloadUnitContext(t.Context(), name, "replace", ch) }); got != "done" {
		t.Errorf("reload: %s", got)
	}
	waitFor(t, log, "reloaded")
	if got := job(t, func(ch chan<- string) (int, error) { return c.RestartUnitContext(t.Context(), name, "replace", ch) }); got != "done" {
		t.Errorf("restart: %s", got)
	}
	second := get(t, c, name)
	if fmt.Sprint(second["InvocationID"]) == fmt.Sprint(first["InvocationID"]) || second["MainPID"] == first["MainPID"] {
		t.Error("a restart left the invocation as it was")
	}
	if err := syscall.Kill(int(second["MainPID"].(uint32)), syscall.SIGKILL); err != nil {
		t.Fatal(err)
	}
	eventually(t, c, name, "ActiveState", "failed")
	if p := get(t, c, name); p["Result"] != "signal" || p["ExecMainStatus"] != int32(9) {
		t.Errorf("after a SIGKILL: %v", p)
	}
	if got := job(t, start); got != "done" {
		t.Errorf("start after a failure: %s", got)
	}
	if got := job(t, func(ch chan<- string) (int, error) { return c.StopUnitContext(t.Context(), name, "replace", ch) }); got != "done" {
		t.Errorf("stop: %s", got)
	}
	if p := get(t, c, name); p["ActiveState"] != "inactive" || p["MainPID"] != uint32(0) {
		t.Errorf("after the stop: %v", p)
	}
}

func TestUnitOfAnotherUser(t *testing.T) {
	log := filepath.Join(t.TempDir(), "log")
	_, c := bus(t, sandbox.Unit{Name: "who.service", Command: []string{"/bin/sh", "-c", "id -u; exec sleep 1000"}, UID: 33, Log: log})
	if got := job(t, func(ch chan<- string) (int, error) {
		return c.StartUnitContext(t.Context(), "who.service", "replace", ch)
	}); got != "done" {
		t.Fatalf("start: %s", got)
	}
	waitFor(t, log, "33\n")
}

func waitFor(t *testing.T, log, text string) {
	t.Helper()
	for deadline := time.Now().Add(5 * time.Minute); ; time.Sleep(5 * time.Millisecond) {
		if b, err := os.ReadFile(log); err == nil && strings.Contains(string(b), text) {
			return
		}
		if time.Now().After(deadline) {
			t.Fatalf("the unit did not print %q", text)
		}
	}
}

func TestUnitsThatCannot(t *testing.T) {
	_, c := bus(t,
		sandbox.Unit{Name: "short.service", Command: []string{"/bin/false"}},
		sandbox.Unit{Name: "missing.service", Command: []string{"/no/such/program"}},
	)
	start := func(name string) string {
		return job(t, func(ch chan<- string) (int, error) { return c.StartUnitContext(t.Context(), name, "replace", ch) })
	}
	if got := start("short.service"); got != "done" {
		t.Errorf("a process that ends at once: %s", got)
	}
	eventually(t, c, "short.service", "Result", "exit-code")
	if got := start("missing.service"); got != "failed" {
		t.Errorf("a program that is missing: %s", got)
	}
	if got := start("nobody.service"); !strings.Contains(got, "not found") {
		t.Errorf("a unit that is missing: %s", got)
	}
	if p := get(t, c, "nobody.service"); p["LoadState"] != "not-found" || p["ActiveState"] != "inactive" {
		t.Errorf("a unit that is missing: %v", p)
	}
	if got := job(t, func(ch chan<- string) (int, error) {
		return c.ReloadUnitContext(t.Context(), "short.service", "replace", ch)
	}); !strings.Contains(got, "not applicable") {
		t.Errorf("reload of a unit that cannot: %s", got)
	}
}

// TestTheAgentsOwnCalls goes through the agent's own code; as root it reaches the sandbox where no systemd runs.
func TestTheAgentsOwnCalls(t *testing.T) {
	if _, err := os.Stat("/run/systemd/private"); err == nil && os.Geteuid() == 0 {
		t.Log("this host's own systemd comes first for root, so the calls are not made")
		return
	}
	log := filepath.Join(t.TempDir(), "log")
	script := "trap : USR1; echo ready; while :; do sleep 0.05; done"
	s, _ := bus(t, sandbox.Unit{Name: "mastodon-web.service", Command: []string{"/bin/sh", "-c", script}, Reload: syscall.SIGUSR1, Log: log})
	t.Setenv("DBUS_SYSTEM_BUS_ADDRESS", s.Address)
	units := host.Systemd()
	defer units.Close()
	ctx, name := t.Context(), "mastodon-web"
	state := func() host.Unit {
		t.Helper()
		u, err := units.Unit(ctx, name)
		if err != nil {
			t.Fatal(err)
		}
		return u
	}
	if u := state(); u.Load != "loaded" || u.Active != "inactive" || u.FileState != "disabled" || !u.CanReload || u.Type != "simple" {
		t.Errorf("at first: %+v", u)
	}
	for what, f := range map[string]func() error{
		"enable": func() error { return units.Enable(ctx, name) },
		"start":  func() error { return units.Start(ctx, name) },
		"daemon": func() error { return units.DaemonReload(ctx) },
	} {
		if err := f(); err != nil {
			t.Errorf("%s: %s", what, err)
		}
	}
	before := state()
	if !before.Up() || before.FileState != "enabled" || before.MainPID == 0 || time.Since(before.StartedAt) > time.Minute || before.StartedBoot == 0 {
		t.Errorf("started and enabled: %+v", before)
	}
	waitFor(t, log, "ready")
	if err := units.Reload(ctx, name); err != nil {
		t.Error(err)
	}
	if u := state(); u.ReloadedBoot < before.StartedBoot || u.ReloadedAt.Before(before.StartedAt) || u.InvocationID != before.InvocationID || !u.Up() {
		t.Errorf("after a reload: %+v", u)
	}
	if err := units.Restart(ctx, name); err != nil {
		t.Error(err)
	}
	if after := state(); after.InvocationID == before.InvocationID || after.StartedBoot <= before.StartedBoot {
		t.Errorf("after a restart: %+v", after)
	}
	if err := units.Stop(ctx, name); err != nil {
		t.Error(err)
	}
	if err := units.Mask(ctx, name); err != nil {
		t.Error(err)
	}
	if err := units.Start(ctx, name); err == nil || state().Load != "masked" {
		t.Errorf("start of a masked unit: %v", err)
	}
	if err := units.Unmask(ctx, name); err != nil {
		t.Error(err)
	}
	if err := units.Disable(ctx, name); err != nil || state().FileState != "disabled" {
		t.Errorf("disable: %v", err)
	}
}
