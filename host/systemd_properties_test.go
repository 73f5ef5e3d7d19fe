package host

import (
	"errors"
	"fmt"
	"testing"
	"time"

	"github.com/converge-agent/converge/diag"
	godbus "github.com/godbus/dbus/v5"
	"github.com/google/go-cmp/cmp"
)

func TestUnitFromProperties(t *testing.T) {
	reload := func(ignore bool, start, exit uint64, code, status int32) []any {
		return []any{"/bin/kill", []string{"kill", "-USR1"}, ignore, start, start - 1000, exit, exit, uint32(7), code, status}
	}
	running := map[string]any{
		"LoadState": "loaded", "ActiveState": "active", "SubState": "running", "UnitFileState": "enabled", "Result": "success",
		"InvocationID": []byte{0xab, 0x01}, "NRestarts": uint32(2), "MainPID": uint32(77), "ExecMainStatus": int32(0),
		"NeedDaemonReload": true, "CanReload": true, "Type": "simple", "RemainAfterExit": false,
		"InactiveExitTimestamp": uint64(1_700_000_000_000_001), "InactiveExitTimestampMonotonic": uint64(5_000_000),
		"ActiveEnterTimestamp": uint64(1_700_000_001_000_001), "ActiveEnterTimestampMonotonic": uint64(6_000_000),
	}
	want := Unit{
		Name: "a.service", Load: "loaded", Active: "active", Sub: "running", FileState: "enabled", Result: "success",
		InvocationID: "ab01", Restarts: 2, MainPID: 77, NeedDaemonReload: true, CanReload: true, Type: "simple",
		StartedAt: time.UnixMicro(1_700_000_000_000_001), StartedBoot: 5 * time.Second, UpBoot: 6 * time.Second,
	}
	reloaded := want
	reloaded.ReloadedAt, reloaded.ReloadedBoot = time.UnixMicro(9000), 8*time.Millisecond
	stopped := want
	stopped.Active, stopped.StartedAt, stopped.StartedBoot, stopped.UpBoot = "failed", time.Time{}, 0, 0
	cases := map[string]struct {
		set  map[string]any
		want Unit
	}{
		"running":                      {nil, want},
		"never reloaded":               {map[string]any{"ExecReload": [][]any{reload(false, 0, 0, 0, 0)}}, want},
		"reloaded":                     {map[string]any{"ExecReload": [][]any{reload(false, 9000, 9500, 1, 0)}}, reloaded},
		"reloaded by two commands":     {map[string]any{"ExecReload": [][]any{reload(false, 9000, 9500, 1, 0), reload(false, 9600, 9700, 1, 0)}}, reloaded},
		"second command failed":        {map[string]any{"ExecReload": [][]any{reload(false, 9000, 9500, 1, 0), reload(false, 9600, 9700, 1, 1)}}, want},
		"failure that does not matter": {map[string]any{"ExecReload": [][]any{reload(true, 9000, 9500, 1, 1)}}, reloaded},
		"reload killed":                {map[string]any{"ExecReload": [][]any{reload(false, 9000, 9500, 2, 0)}}, want},
		"reload still runs":            {map[string]any{"ExecReload": [][]any{reload(false, 9000, 8000, 1, 0)}}, want},
		"of a form we do not know":     {map[string]any{"ExecReload": [][]any{{"/bin/kill"}}}, want},
		"failed":                       {map[string]any{"ActiveState": "failed", "ExecReload": [][]any{reload(false, 9000, 9500, 1, 0)}}, stopped},
	}
	for name, c := range cases {
		t.Run(name, func(t *testing.T) {
			p := properties{}
			for k, v := range running {
				p[k] = v
			}
			for k, v := range c.set {
				p[k] = v
			}
			if diff := cmp.Diff(c.want, unitFromProperties("a.service", p)); diff != "" {
				t.Errorf("unit (-want +got):\n%s", diff)
			}
		})
	}
}

func TestUnitName(t *testing.T) {
	for name, want := range map[string]string{
		"nginx": "nginx.service", "nginx.service": "nginx.service", "mastodon-streaming@4000": "mastodon-streaming@4000.service",
		"apt-daily.timer": "apt-daily.timer", "dbus.socket": "dbus.socket", "php8.2-fpm": "php8.2-fpm.service",
	} {
		if got := UnitName(name); got != want {
			t.Errorf("UnitName(%q) = %q, want %q", name, got, want)
		}
	}
}

func TestUnitErrorsSayWhatToDo(t *testing.T) {
	bus := func(name string) error {
		return godbus.Error{Name: name, Body: []any{"raw text of the bus"}}
	}
	cases := map[string]struct {
		err       error
		want, fix string
	}{
		"no such unit": {bus("org.freedesktop.systemd1.NoSuchUnit"), "start x.service: there is no such unit",
			"Correct the name, or install what brings x.service; systemctl list-unit-files lists all there are."},
		"wrapped": {fmt.Errorf("deeper: %w", bus("org.freedesktop.systemd1.UnitMasked")), "start x.service: the unit is masked",
			"Write masked = false in its block, or run: systemctl unmask x.service"},
		"denied":    {bus("org.freedesktop.DBus.Error.AccessDenied"), "start x.service: access was denied", "Run converge as root."},
		"unknown":   {bus("org.example.New"), "start x.service: raw text of the bus", ""},
		"job":       {jobFailure("dependency"), "start x.service: a unit that it requires could not be started", "Read why with: journalctl -u x.service -n 20"},
		"no bus":    {&noBusError{errors.Join(errors.New("a"), errors.New("b"))}, "start x.service: systemd does not answer on this host (a; b)", "Run converge as root on a host that was booted with systemd: only there it can manage units."},
		"hangs":     {errNoAnswer, "start x.service: systemd has not answered for 2m0s", "Look at journalctl -b _PID=1 -n 20: systemd hangs, or has crashed and the host needs a reboot."},
		"conn lost": {errLostConnection, "start x.service: the connection to systemd was lost while its job ran", "Run converge apply again."},
	}
	for name, c := range cases {
		t.Run(name, func(t *testing.T) {
			err := unitError(c.err, "start x.service", "x.service")
			if err.Error() != c.want || diag.Fix(err) != c.fix {
				t.Errorf("got %q, fix %q\nwant %q, fix %q", err, diag.Fix(err), c.want, c.fix)
			}
			if name == "no bus" && !errors.Is(err, ErrNoSystemd) {
				t.Error("it cannot be told as ErrNoSystemd any more")
			}
		})
	}
	if unitError(nil, "start x.service", "x.service") != nil {
		t.Error("no error became one")
	}
}
