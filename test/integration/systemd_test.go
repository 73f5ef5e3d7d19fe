package integration

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"github.com/converge-agent/converge/test/machine"
)

// converge is the command, built once from this repository, without libc.
var converge = sync.OnceValues(func() (binary string, err error) {
	dir, err := os.MkdirTemp("", "converge-build-")
	if err != nil {
		return "", err
	}
	defer func() { err = errors.Join(err, os.RemoveAll(dir)) }()
	built := filepath.Join(dir, "converge")
	cmd := exec.Command("go", "build", "-o", built, "./cmd/converge")
	cmd.Dir = filepath.Join("..", "..")
	cmd.Env = append(os.Environ(), "CGO_ENABLED=0")
	if out, err := cmd.CombinedOutput(); err != nil {
		return "", fmt.Errorf("build converge: %w\n%s", err, out)
	}
	content, err := os.ReadFile(built)
	return string(content), err
})

// pool are machines with converge, lent to one test at a time: most of a test is waiting.
type pool chan *machine.Machine

// bootMachines starts as many machines as there are tests at once.
func bootMachines(t *testing.T) pool {
	t.Helper()
	n := flag.Lookup("test.parallel").Value.(flag.Getter).Get().(int)
	machines := make(pool, n)
	for range n {
		m := bootMachine(t)
		installConverge(t, m)
		machines <- m
	}
	return machines
}

// borrow lets the test run beside others, on a machine that no other has meanwhile.
func (p pool) borrow(t *testing.T) *machine.Machine {
	t.Parallel()
	m := <-p
	t.Cleanup(func() { p <- m })
	return m
}

// installConverge puts the command into the machine.
func installConverge(t *testing.T, m *machine.Machine) {
	t.Helper()
	binary, err := converge()
	if err != nil {
		t.Fatal(err)
	}
	putFile(t, m, "/usr/local/bin/converge", binary, 0o755)
}

// app is a service that reads an env file when it starts, and the configuration that manages both. Everything of it is in
// the machine below dir.
type app struct {
	t    *testing.T
	m    *machine.Machine
	name string
	dir  string
}

// newApp makes the service: it notes each start, and what it has read, before systemd calls the start done.
func newApp(t *testing.T, m *machine.Machine, lines ...string) *app {
	t.Helper()
	name := strings.ToLower(strings.NewReplacer("/", "-", "_", "-").Replace(strings.SplitN(t.Name(), "/", 2)[1]))
	a := &app{t: t, m: m, name: name, dir: "/srv/" + name}
	a.write(".env", "# kept\nOTHER=1\n")
	if lines == nil {
		lines = []string{"ExecStart=sleep infinity"}
	}
	note := fmt.Sprintf("ExecStartPre=sh -c 'echo start >> %[1]s/starts; cp %[1]s/.env %[1]s/read'", a.dir)
	putUnit(t, m, name+".service", append([]string{note}, lines...)...)
	t.Cleanup(func() { _, _ = m.Run(context.Background(), "systemctl", "stop", name) })
	return a
}

func (a *app) path(name string) string { return a.dir + "/" + name }

func (a *app) write(name, content string) { putFile(a.t, a.m, a.path(name), content, 0o644) }

func (a *app) sh(script string) string {
	a.t.Helper()
	return inMachine(a.t, a.m, "sh", "-c", "cd "+a.dir+" && "+script)
}

// configure writes the configuration: the env file with these lines of set, and the service with these lines.
func (a *app) configure(set string, service ...string) {
	if service == nil {
		service = []string{"restart_on = [env_file.app]"}
	}
	a.write("converge.hcl", fmt.Sprintf(`
env_file "app" {
  path = %q
  set  = { %s }
}
systemd_service "app" {
  name = %q
  %s
}
`, a.path(".env"), set, a.name, strings.Join(service, "\n  ")))
}

func (a *app) command() []string {
	return []string{"converge", "apply", "--auto-approve", "--detailed-exitcode", "--state-dir", a.path("state"), a.path("converge.hcl")}
}

// The exit codes of apply --detailed-exitcode.
const (
	nothing = 0
	changed = 2
	failed  = 4
)

// apply runs converge and checks its exit code. It returns all that was printed.
func (a *app) apply(code int) string {
	a.t.Helper()
	r, err := a.m.Run(a.t.Context(), a.command()...)
	if err != nil {
		a.t.Fatal(err)
	}
	if r.Code != code {
		a.t.Errorf("converge apply: exit code %d, want %d\n%s%s", r.Code, code, r.Stdout, r.Stderr)
	}
	return r.Stdout + r.Stderr
}

func (a *app) starts() int {
	return strings.Count(a.sh("cat starts 2>/dev/null || true"), "start")
}

// applyWith runs converge and checks its exit code, how often the service was started by it, and that what runs has read
// the env file as it now is, as far as it is managed: one start too few is what must never be.
func (a *app) applyWith(code, starts int) string {
	a.t.Helper()
	before := a.starts()
	out := a.apply(code)
	if got := a.starts() - before; got != starts {
		a.t.Errorf("converge apply started the service %d times, want %d\n%s", got, starts, out)
	}
	a.wantRead()
	return out
}

func (a *app) wantRead() {
	a.t.Helper()
	const managed = "grep ^S3_ %s | sort"
	if read, env := a.sh(fmt.Sprintf(managed, "read")), a.sh(fmt.Sprintf(managed, ".env")); read != env {
		a.t.Errorf("the service runs with what it read before:\n%s\nand the file holds:\n%s", read, env)
	}
	if state := a.sh("systemctl is-active " + a.name + " || true"); state != "active" {
		a.t.Errorf("the service is %s", state)
	}
}

// restartByHand restarts the service when the file's last change is as long ago as converge needs to tell what was first:
// 10 ms, the coarsest tick of the kernel's file times.
func (a *app) restartByHand() {
	a.sh(`until touch now && [ $(($(stat -c %.9Z now | tr -d .) - $(stat -c %.9Z .env | tr -d .))) -gt 20000000 ]; do :; done`)
	inMachine(a.t, a.m, "systemctl", "restart", a.name)
}

const bucketOne, bucketTwo = `S3_BUCKET = "one"`, `S3_BUCKET = "two"`

// owed are the ways in which a restart can come to be owed or not. Each starts from a service that converge has started.
var owed = map[string]func(*app){
	"nothing changed": func(a *app) {
		before := a.sh("stat -c '%i %Z' .env")
		a.applyWith(nothing, 0)
		if after := a.sh("stat -c '%i %Z' .env"); after != before {
			a.t.Errorf("the env file was written again: %s, before %s", after, before)
		}
	},
	"configuration changed": func(a *app) {
		a.configure(bucketTwo)
		a.applyWith(changed, 1)
		a.applyWith(nothing, 0)
	},
	"two keys changed": func(a *app) {
		a.configure(`S3_BUCKET = "two", S3_REGION = "r"`)
		a.applyWith(changed, 1)
		a.applyWith(nothing, 0)
	},
	"our key edited and not read": func(a *app) {
		a.sh("sed -i s/one/edited/ .env")
		a.applyWith(changed, 0)
		a.applyWith(nothing, 0)
	},
	"our key edited and read by a restart": func(a *app) {
		a.sh("sed -i s/one/edited/ .env")
		a.restartByHand()
		a.applyWith(changed, 1)
		a.applyWith(nothing, 0)
	},
	"our key edited and undone": func(a *app) {
		a.sh("sed -i s/one/edited/ .env; sed -i s/edited/one/ .env")
		a.applyWith(nothing, 0)
	},
	"our key edited and read and undone with its old mtime": func(a *app) {
		a.sh("cp -p .env saved; sed -i s/one/edited/ .env")
		a.restartByHand()
		a.sh("cp -p saved .env")
		a.applyWith(changed, 1)
		a.applyWith(nothing, 0)
	},
	"our key edited and read and undone with touch": func(a *app) {
		a.sh("sed -i s/one/edited/ .env")
		a.restartByHand()
		a.sh("sed -i s/edited/one/ .env; touch -d 2001-01-01 .env")
		a.applyWith(changed, 1)
		a.applyWith(nothing, 0)
	},
	"another key edited": func(a *app) {
		a.sh("echo MORE=2 >> .env")
		out := a.applyWith(nothing, 0)
		r, err := a.m.Run(a.t.Context(), "converge", "plan", "--state-dir", a.path("state"), a.path("converge.hcl"))
		if err != nil {
			a.t.Fatal(err)
		}
		if want := "stale, not ours: " + a.path(".env") + " was edited after " + a.name + ".service started"; !strings.Contains(r.Stdout+out, want) {
			a.t.Errorf("plan does not say %q:\n%s", want, r.Stdout)
		}
	},
	"restarted by hand": func(a *app) {
		a.restartByHand()
		a.applyWith(nothing, 0)
	},
	"changed and restarted by hand": func(a *app) {
		a.configure(bucketTwo)
		a.sh("sed -i s/one/two/ .env")
		a.restartByHand()
		a.applyWith(nothing, 0)
	},
	"changed by hand as configured later": func(a *app) {
		a.configure(bucketTwo)
		a.sh("sed -i s/one/two/ .env")
		a.applyWith(changed, 1)
		a.applyWith(nothing, 0)
	},
	"stopped by hand": func(a *app) {
		a.sh("systemctl stop " + a.name)
		a.applyWith(changed, 1)
		a.applyWith(nothing, 0)
	},
	"stopped by hand and changed": func(a *app) {
		a.sh("systemctl stop " + a.name)
		a.configure(bucketTwo)
		a.applyWith(changed, 1)
		a.applyWith(nothing, 0)
	},
	"records lost": func(a *app) {
		a.sh("rm -rf state")
		a.applyWith(nothing, 0)
	},
	"records lost and our key changed": func(a *app) {
		a.sh("rm -rf state")
		a.configure(bucketTwo)
		a.applyWith(changed, 1)
		a.sh("rm -rf state")
		a.applyWith(nothing, 0)
	},
	"records lost and another key edited": func(a *app) {
		a.sh("rm -rf state; echo MORE=2 >> .env")
		a.applyWith(changed, 1) // one too many: nothing tells any more that our keys are as they were
		a.applyWith(nothing, 0)
	},
}

func TestRestartsExactlyAsOwed(t *testing.T) {
	machines := bootMachines(t)
	for name, scenario := range owed {
		t.Run(name, func(t *testing.T) {
			a := newApp(t, machines.borrow(t))
			a.configure(bucketOne)
			a.applyWith(changed, 1)
			scenario(a)
		})
	}
	t.Run("already running", func(t *testing.T) {
		a := newApp(t, machines.borrow(t))
		a.restartByHand()
		a.configure(bucketOne)
		a.applyWith(changed, 1)
		a.applyWith(nothing, 0)
	})
	t.Run("adopted", func(t *testing.T) {
		a := newApp(t, machines.borrow(t))
		a.write(".env", "S3_BUCKET=one\n")
		a.restartByHand()
		a.configure(bucketOne)
		a.applyWith(nothing, 0)
	})
	t.Run("two resources edit one file", func(t *testing.T) {
		a := newApp(t, machines.borrow(t))
		a.write("converge.hcl", fmt.Sprintf(`
env_file "bucket" {
  path = %[1]q
  set  = { S3_BUCKET = "one" }
}
env_file "region" {
  path = %[1]q
  set  = { S3_REGION = "r" }
}
systemd_service "app" {
  name       = %[2]q
  restart_on = [env_file.bucket, env_file.region]
}
`, a.path(".env"), a.name))
		a.restartByHand()
		a.applyWith(changed, 1)
		a.applyWith(nothing, 0)
	})
	t.Run("reload", func(t *testing.T) {
		reloadsAsOwed(newApp(t, machines.borrow(t), "ExecStart=sleep infinity", "ExecReload=sh -c 'echo reload >> /srv/reload/reloads'"))
	})
	t.Run("drop-in", func(t *testing.T) { dropInIsLoaded(newApp(t, machines.borrow(t))) })
	rollsBackAsOwed(t, machines)
}

func reloadsAsOwed(a *app) {
	reloads := func() int { return strings.Count(a.sh("cat reloads 2>/dev/null || true"), "reload") }
	want := func(code, n int) {
		a.t.Helper()
		before := reloads()
		out := a.apply(code)
		if got := reloads() - before; got != n {
			a.t.Errorf("converge apply reloaded the service %d times, want %d\n%s", got, n, out)
		}
	}
	a.configure(bucketOne, "reload_on = [env_file.app]")
	want(changed, 0) // a start settles everything
	a.configure(bucketTwo, "reload_on = [env_file.app]")
	want(changed, 1)
	want(nothing, 0)
	a.configure(bucketOne, "reload_on = [env_file.app]")
	a.sh("sed -i s/two/one/ .env; systemctl reload " + a.name)
	want(nothing, 0)
	a.sh("sed -i s/one/edited/ .env; systemctl reload " + a.name)
	want(changed, 1)
	a.sh("rm -rf state")
	want(nothing, 0)
	if got := a.starts(); got != 1 {
		a.t.Errorf("the service was started %d times, want once", got)
	}
}

// dropInIsLoaded: systemd does not notice the first drop-in of a unit by itself (NeedDaemonReload stays false).
func dropInIsLoaded(a *app) {
	a.restartByHand()
	a.write("converge.hcl", fmt.Sprintf(`
directory "drop_ins" {
  path = "/etc/systemd/system/%[1]s.service.d"
}
file "environment" {
  path       = "/etc/systemd/system/%[1]s.service.d/converge.conf"
  content    = "[Service]\nEnvironment=FROM=drop-in\n"
  depends_on = [directory.drop_ins]
}
systemd_service "app" {
  name       = %[1]q
  restart_on = [file.environment]
}
`, a.name))
	a.applyWith(changed, 1)
	if got := a.sh("systemctl show -P Environment " + a.name); got != "FROM=drop-in" {
		a.t.Errorf("Environment = %q: the drop-in was not loaded", got)
	}
	a.applyWith(nothing, 0)
}
