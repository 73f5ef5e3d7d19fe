package integration

import (
	"fmt"
	"os"
	"strings"
	"testing"
	"time"
)

// TestRestartSurvives are the ways in which a run can end in the middle.
func TestRestartSurvives(t *testing.T) {
	m := bootMachine(t)
	installConverge(t, m)
	t.Run("a kill between write and restart", func(t *testing.T) { killBetween(newApp(t, m)) })
	t.Run("a kill between restart and record", func(t *testing.T) {
		a := newApp(t, m)
		a.configure(bucketOne)
		a.applyWith(changed, 1)
		a.configure(bucketTwo)
		before := a.starts()
		a.killWhen(func() bool { return a.starts() > before })
		a.applyWith(nothing, 0)
	})
	t.Run("a systemd that does not answer", func(t *testing.T) {
		a := newApp(t, m)
		a.configure(bucketOne)
		a.applyWith(changed, 1)
		a.configure(bucketTwo)
		a.sh("mv /run/systemd/private /run/systemd/away; mv /run/dbus/system_bus_socket /run/dbus/away")
		out := a.apply(failed | changed)
		a.sh("mv /run/systemd/away /run/systemd/private; mv /run/dbus/away /run/dbus/system_bus_socket")
		if !strings.Contains(out, "systemd does not answer on this host") {
			t.Errorf("the error does not say that systemd does not answer:\n%s", out)
		}
		a.applyWith(changed, 1)
		a.applyWith(nothing, 0)
	})
	t.Run("a power cut", func(t *testing.T) {
		a := newApp(t, m)
		a.configure(bucketOne, "enabled = true", "restart_on = [env_file.app]")
		a.applyWith(changed, 1)
		if err := m.Kill(t.Context()); err != nil {
			t.Fatal(err)
		}
		if err := m.Boot(t.Context()); err != nil {
			t.Fatal(err)
		}
		a.applyWith(nothing, 0)
	})
}

// killWhen runs converge and kills it as soon as the condition holds.
func (a *app) killWhen(condition func() bool) {
	a.t.Helper()
	p, err := a.m.Start(a.t.Context(), a.command()...)
	if err != nil {
		a.t.Fatal(err)
	}
	for deadline := time.Now().Add(5 * time.Minute); !condition(); {
		if time.Now().After(deadline) {
			a.t.Error("converge was not seen to come that far")
			break
		}
	}
	p.Kill()
}

// killBetween kills converge when the env file has been written and the service has not been restarted yet. The test only
// sees when it happens, so it tries until it was quick enough.
func killBetween(a *app) {
	a.configure(bucketOne)
	a.applyWith(changed, 1)
	env := a.m.Path(a.path(".env"))
	for attempt := range 50 {
		before := a.starts()
		value := fmt.Sprintf("attempt-%d", attempt)
		a.configure(fmt.Sprintf("S3_BUCKET = %q", value))
		a.killWhen(func() bool {
			content, err := os.ReadFile(env)
			return err == nil && strings.Contains(string(content), value)
		})
		if a.starts() != before {
			continue
		}
		a.applyWith(changed, 1)
		a.applyWith(nothing, 0)
		return
	}
	a.t.Error("converge was never killed in time")
}

func TestServiceThatDoesNotStayUp(t *testing.T) {
	machines := bootMachines(t)
	cases := map[string]struct {
		unit []string
		want string
	}{
		"false":       {[]string{"ExecStart=false"}, "it did not stay up: it is failed (exit-code), exit status 1"},
		"no program":  {[]string{"ExecStart=/no/such/program"}, "exit status 203: its program cannot be executed"},
		"no user":     {[]string{"User=nosuchuser", "ExecStart=true"}, "one of the commands beside its main process failed"},
		"ends":        {[]string{"ExecStart=true"}, "it ended at once, without an error: it is inactive (dead)"},
		"crash loop":  {[]string{"ExecStart=false", "Restart=always", "RestartSec=100ms", "StartLimitIntervalSec=0"}, "it keeps falling over: systemd has restarted it 3 times"},
		"start limit": {[]string{"ExecStart=false", "Restart=always", "RestartSec=10ms"}, ""}, // whichever is seen first
		"dies late":   {[]string{"ExecStart=sh -c 'sleep 0.5; exit 7'"}, "exit status 7"},
		"never ready": {[]string{"Type=notify", "TimeoutStartSec=500ms", "ExecStart=sleep infinity"}, "it is failed (timeout), it took longer than its unit file lets it"},
	}
	for name, c := range cases {
		t.Run(name, func(t *testing.T) {
			a := newApp(t, machines.borrow(t), c.unit...)
			a.configure(bucketOne)
			out := a.apply(failed | changed)
			flat := strings.Join(strings.Fields(out), " ")
			if !strings.Contains(flat, c.want) {
				t.Errorf("output does not say %q:\n%s", c.want, out)
			}
			if want := "journalctl -u " + a.name + ".service -n 20"; !strings.Contains(flat, want) {
				t.Errorf("output does not say %q:\n%s", want, out)
			}
			a.apply(failed) // and it is tried again
		})
	}
	t.Run("oneshot that ended", func(t *testing.T) {
		a := newApp(t, machines.borrow(t), "Type=oneshot", "ExecStart=true")
		a.configure(bucketOne)
		a.apply(changed)
		a.apply(nothing)
	})
	t.Run("oneshot that remains", func(t *testing.T) {
		a := newApp(t, machines.borrow(t), "Type=oneshot", "RemainAfterExit=yes", "ExecStart=true")
		a.configure(bucketOne)
		a.applyWith(changed, 1)
		a.configure(bucketTwo)
		a.applyWith(changed, 1)
		a.applyWith(nothing, 0)
	})
	t.Run("absent", func(t *testing.T) {
		a := newApp(t, machines.borrow(t))
		a.write("converge.hcl", `systemd_service "app" { name = "absnet" }`)
		if out := a.apply(failed); !strings.Contains(out, `there is no unit absnet.service; did you mean "absent.service"?`) {
			t.Errorf("output:\n%s", out)
		}
	})
}
