package integration

import (
	"fmt"
	"strings"
	"testing"
)

// rollback runs converge rollback and checks its exit code. It returns all that was printed.
func (a *app) rollback(code int, run string) string {
	a.t.Helper()
	r, err := a.m.Run(a.t.Context(), "converge", "rollback", run, "--auto-approve", "--state-dir", a.path("state"))
	if err != nil {
		a.t.Fatal(err)
	}
	if r.Code != code {
		a.t.Errorf("converge rollback %s: exit code %d, want %d\n%s%s", run, r.Code, code, r.Stdout, r.Stderr)
	}
	return r.Stdout + r.Stderr
}

// rollbackWith rolls back and checks how often the service was started by it, and that it runs with what stands in the file.
func (a *app) rollbackWith(code int, run string, starts int) string {
	a.t.Helper()
	before := a.starts()
	out := a.rollback(code, run)
	if got := a.starts() - before; got != starts {
		a.t.Errorf("converge rollback started the service %d times, want %d\n%s", got, starts, out)
	}
	return out
}

func (a *app) wantEnv(line string) {
	a.t.Helper()
	if got := a.sh("grep ^S3_ .env || true"); got != line {
		a.t.Errorf("the env file says %q, want %q", got, line)
	}
}

// rollbacks are what a rollback owes to the units of the runs that it takes back.
var rollbacks = map[string]func(*app){
	"restarts what read the file": func(a *app) {
		a.rollbackWith(nothing, "2", 1)
		a.wantEnv("S3_BUCKET=one")
		a.wantRead()
		if out := a.rollbackWith(nothing, "2", 0); !strings.Contains(out, "Nothing to do") {
			a.t.Errorf("a second rollback says:\n%s", out)
		}
		a.applyWith(nothing, 0) // disabled: the rollback stays
		a.wantEnv("S3_BUCKET=one")
		inMachine(a.t, a.m, "converge", "enable", "--state-dir", a.path("state"))
		a.applyWith(changed, 1)
		a.wantEnv("S3_BUCKET=two")
	},
	"is rolled back": func(a *app) {
		a.rollbackWith(nothing, "2", 1)
		a.rollbackWith(nothing, "3", 1)
		a.wantEnv("S3_BUCKET=two")
		a.wantRead()
	},
	"behind the first run": func(a *app) {
		a.rollbackWith(nothing, "1", 1)
		a.wantEnv("")
		if got := a.sh("cat .env"); got != "# kept\nOTHER=1" {
			a.t.Errorf("the env file holds %q", got)
		}
		a.wantRead()
	},
	"leaves what does not run": func(a *app) {
		a.sh("systemctl stop " + a.name)
		a.rollbackWith(nothing, "2", 0)
		a.wantEnv("S3_BUCKET=one")
		if state := a.sh("systemctl is-active " + a.name + " || true"); state != "inactive" {
			a.t.Errorf("the service is %s", state)
		}
	},
	"restarted by hand since": func(a *app) {
		a.restartByHand()
		a.rollbackWith(nothing, "2", 1) // the file changes once more
		a.wantRead()
	},
	"finishes the restart that failed": func(a *app) {
		a.sh("mv read was; ln -s /nowhere/read read") // what it reads cannot be noted, so the start fails
		if out := a.rollback(1, "2"); !strings.Contains(out, "restart "+a.name+".service") {
			a.t.Errorf("the failure does not name the service:\n%s", out)
		}
		a.wantEnv("S3_BUCKET=one")
		a.sh("rm read; systemctl reset-failed " + a.name + "; systemctl start " + a.name)
		if out := a.rollbackWith(nothing, "2", 0); !strings.Contains(out, "Nothing to do") {
			a.t.Errorf("after a start by hand nothing is owed, but:\n%s", out)
		}
		a.wantRead()
	},
}

// rollsBackAsOwed has what a rollback owes as tests of its own, on machines that are there.
func rollsBackAsOwed(t *testing.T, machines pool) {
	for name, scenario := range rollbacks {
		t.Run("rollback "+name, func(t *testing.T) {
			a := newApp(t, machines.borrow(t))
			a.configure(bucketOne)
			a.applyWith(changed, 1)
			a.configure(bucketTwo)
			a.applyWith(changed, 1)
			scenario(a)
		})
	}
	t.Run("rollback of a whole nginx", func(t *testing.T) { nginxIsRolledBack(newApp(t, machines.borrow(t))) })
}

// nginxIsRolledBack: a reload and no restart, after nginx has tested the whole; and nothing where it refuses that.
func nginxIsRolledBack(a *app) {
	a.sh("systemctl unmask nginx && systemctl daemon-reload && systemctl start nginx")
	serve := func(text string) {
		a.write("converge.hcl", fmt.Sprintf(`
file "answer" {
  path    = "/etc/nginx/conf.d/answer.conf"
  content = "server { listen 127.0.0.1:8099; return 200 %s; }\n"
}
file "map" {
  path    = "/etc/nginx/conf.d/map-%[1]s.conf"
  content = "map $uri $%[1]s { default %[1]s; }\n"
}
systemd_service "nginx" {
  name      = "nginx"
  reload_on = [file.answer, file.map]
}
`, text))
		a.apply(changed)
	}
	started := a.sh("systemctl show -P InvocationID nginx")
	serve("one")
	serve("two")
	a.sh(`until [ "$(curl -s 127.0.0.1:8099)" = two ]; do sleep 0.1; done`) // of a plain file nobody waits for nginx

	a.sh("echo 'nonsense;' > /etc/nginx/conf.d/theirs.conf")
	reloads := a.sh("journalctl -u nginx --no-pager -o cat | grep -c Reloaded || true")
	if out := a.rollback(1, "2"); !strings.Contains(out, "nginx refuses it") {
		a.t.Errorf("the refusal is not told:\n%s", out)
	}
	if got := a.sh("cat /etc/nginx/conf.d/answer.conf; ls /etc/nginx/conf.d"); !strings.Contains(got, "return 200 two") || !strings.Contains(got, "map-two.conf") {
		a.t.Errorf("what nginx refused was not put back: %s", got)
	}
	if got := a.sh("journalctl -u nginx --no-pager -o cat | grep -c Reloaded || true"); got != reloads {
		a.t.Errorf("nginx was reloaded with what it refuses")
	}
	a.sh("rm /etc/nginx/conf.d/theirs.conf")
	a.rollback(nothing, "2")
	if got := a.sh("curl -sS 127.0.0.1:8099"); got != "one" {
		a.t.Errorf("right after the rollback nginx answers %q", got)
	}
	if got := a.sh("ls /etc/nginx/conf.d"); strings.Contains(got, "two") {
		a.t.Errorf("what run 2 made stands still: %s", got)
	}
	if got := a.sh("systemctl show -P InvocationID nginx"); got != started {
		a.t.Error("nginx was restarted, where a reload is due")
	}
}
