package faults

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"syscall"
	"time"

	"github.com/converge-agent/converge/test/faults/trace"
	"github.com/converge-agent/converge/test/lab/sandbox"
)

// world is a host, a configuration for it, and what is known of how it is before and after an apply.
type world struct {
	config  string            // the text of site.hcl
	secrets map[string]string // by the names of credential()
	units   []sandbox.Unit
	// services are units whose stand-in notes what it has read when it starts, with the files that it reads.
	services map[string][]string
	// opaque are directories whose content is another one after each apply; check looks at it.
	opaque []string
	// passing are files, and directories of such, that are there while an apply lasts.
	passing []string
	// check is asked after a disturbed run, and again (final) after the one that puts all in order.
	check func(final bool) error
	// reset puts back what is outside the file system.
	reset func() error
	// store has the object store vanish, and come back.
	store func(gone bool)

	before, after snapshot
	bus           *sandbox.Sandbox
	printed       strings.Builder
}

const (
	siteFile = "/etc/converge/site.hcl"
	stateDir = "/var/lib/converge"
	binary   = "/lab/bin/converge"
	// patience is how long anything is waited for that must come.
	patience = 5 * time.Minute
)

// volatile are the places that programs other than converge write to, or that are nobody's business after a run.
var volatile = []string{"/run", "/tmp", "/var/log", "/var/cache", "/var/lib/nginx", stateDir, standInNotes}

// newWorld makes the world of a story, and has it applied once without any fault, to know what comes of it.
func newWorld(ctx context.Context, story func(*world) error) (*world, error) {
	w := &world{
		check: func(bool) error { return nil },
		reset: func() error { return nil },
	}
	w.units = []sandbox.Unit{{
		Name: "nginx.service", Command: []string{"/usr/sbin/nginx", "-g", "daemon off;"}, Reload: syscall.SIGHUP, Enabled: true,
		Log: "/var/log/nginx/output.log",
	}}
	if err := story(w); err != nil {
		return nil, err
	}
	if err := w.furnish(); err != nil {
		return nil, err
	}
	var err error
	if w.before, err = look(); err != nil {
		return nil, err
	}
	if err := w.start(ctx); err != nil {
		return nil, err
	}
	if err := w.settle(ctx); err != nil {
		return nil, fmt.Errorf("%w\n%s", err, &w.printed)
	}
	w.after, err = look()
	return w, err
}

// furnish writes what every story has.
func (w *world) furnish() error {
	put(siteFile, w.config, 0o644, 0, 0)
	for name, secret := range w.secrets {
		put("/etc/credstore/"+name, secret, 0o600, 0, 0)
	}
	put(standIn, standInScript, 0o755, 0, 0)
	for name, files := range w.services {
		w.units = append(w.units, sandbox.Unit{Name: name + ".service", Command: append([]string{"/bin/sh", standIn, name}, files...), Enabled: true})
	}
	if err := os.MkdirAll(standInNotes, 0o755); err != nil {
		return err
	}
	// Where all programs look for the system's bus (D-Bus specification, "Well-known Message Bus Instances").
	return errors.Join(os.Symlink("../run", "/var/run"), os.Symlink("../bus", "/run/dbus/system_bus_socket"))
}

// standIn is the program of the services. It notes what it has read under its process number.
const (
	standIn       = "/opt/stand-in"
	standInNotes  = "/var/stand-in"
	standInScript = `umask 077; name=$1; shift
read=$(cat "$@" 2>/dev/null; echo .)
until printf %s "${read%.}" > ` + standInNotes + `/$name.$$.new && mv ` + standInNotes + `/$name.$$.new ` + standInNotes + `/$name.$$
do sleep 0.1; done 2>/dev/null
exec sleep infinity
`
)

// put writes a file of the world as it is at the beginning. A worker whose own disk fails cannot go on.
func put(path, content string, mode os.FileMode, uid, gid int) {
	err := errors.Join(os.MkdirAll(filepath.Dir(path), 0o755), os.WriteFile(path, []byte(content), 0o600),
		os.Chown(path, uid, gid), os.Chmod(path, mode))
	if err != nil {
		panic(err)
	}
}

func (w *world) close() {
	if w.bus != nil {
		w.bus.Close()
		w.bus = nil
	}
}

// start starts the bus and all units.
func (w *world) start(ctx context.Context) error {
	var err error
	if w.bus, err = sandbox.Start(ctx, "/run", w.units...); err != nil {
		return err
	}
	for _, u := range w.units {
		if err := w.bus.StartUnit(u.Name); err != nil {
			return err
		}
	}
	return w.await("the services have started", func() error {
		for name := range w.services {
			if _, err := os.ReadFile(w.notes(name)); err != nil {
				return err
			}
		}
		_, err := os.Stat("/run/nginx.pid")
		return err
	})
}

// notes is where the running process of a service notes what it has read.
func (w *world) notes(service string) string {
	return fmt.Sprintf("%s/%s.%d", standInNotes, service, w.bus.MainPID(service+".service"))
}

// await waits until f returns nil.
func (w *world) await(what string, f func() error) error {
	deadline := time.Now().Add(patience)
	for {
		err := f()
		if err == nil {
			return nil
		}
		if time.Now().After(deadline) {
			return fmt.Errorf("after %s it is still not so that %s: %w", patience, what, err)
		}
		time.Sleep(2 * time.Millisecond)
	}
}

// again makes the world what it was at the beginning.
func (w *world) again(ctx context.Context) error {
	w.close()
	if err := errors.Join(w.before.restore(), w.reset()); err != nil {
		return fmt.Errorf("make the world anew: %w", err)
	}
	w.printed.Reset()
	return w.start(ctx)
}

var programEnv = []string{"PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin", "HOME=/root"}

// converge runs the program to its end, and checks its exit code.
func (w *world) converge(ctx context.Context, want int, args ...string) error {
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	cmd := exec.CommandContext(ctx, binary, args...)
	cmd.Env, cmd.Dir = programEnv, "/"
	var out bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &out
	err := cmd.Run()
	var exit *exec.ExitError
	if err != nil && !errors.As(err, &exit) {
		return err
	}
	code := cmd.ProcessState.ExitCode()
	fmt.Fprintf(&w.printed, "$ converge %s  -> %d\n%s", strings.Join(args, " "), code, &out)
	if code != want {
		return fmt.Errorf("converge %s ended with %d instead of %d", strings.Join(args, " "), code, want)
	}
	return nil
}

// disturbed runs an apply with a fault in it.
func (w *world) disturbed(f Fault) (trace.Result, []trace.Call, error) {
	in := &inject{Fault: f, world: w}
	r, err := trace.Run(trace.Program{
		Args: []string{binary, "apply", "--auto-approve", siteFile}, Env: programEnv, Dir: "/", Decide: in.decide, Limit: patience,
	})
	fmt.Fprintf(&w.printed, "$ converge apply, disturbed: %s -> %d\n", f, r.Code)
	for _, c := range in.hit {
		fmt.Fprintf(&w.printed, "[%d %s]\n", c.Index, c)
	}
	fmt.Fprintf(&w.printed, "%s%s", r.Stdout, r.Stderr)
	for _, f := range in.mend {
		err = errors.Join(err, f())
	}
	return r, in.hit, err
}

// try has one fault happen in a world that is as it was at the beginning, and looks at all that must hold then.
func (w *world) try(ctx context.Context, f Fault) report {
	r, err := w.live(ctx, f)
	if err != nil {
		r.Failure = err.Error()
	}
	r.Printed = w.printed.String()
	return r
}

func (w *world) live(ctx context.Context, f Fault) (report, error) {
	if err := w.again(ctx); err != nil {
		return report{}, err
	}
	result, hit, err := w.disturbed(f)
	r := report{Reached: len(hit) > 0, Code: result.Code}
	for _, c := range result.Calls {
		r.Calls = append(r.Calls, call{c.Kind.String(), numbers.ReplaceAllString(c.String(), "N")})
	}
	if err != nil {
		return r, err
	}
	if err := errors.Join(w.whole(), w.said(f, result, hit), w.check(false)); err != nil {
		return r, err
	}
	if f.LoseState {
		if err := os.RemoveAll(stateDir); err != nil {
			return r, err
		}
	}
	return r, w.settle(ctx)
}

// numbers are those of sockets and pipes, and what makes temporary names unique.
var numbers = regexp.MustCompile(`\[\d+\]|-[0-9a-f]{16}\b`)

// told is what a run says that fails because of a fault.
var told = map[string]string{
	"interrupt": "Interrupted: stopping cleanly", "interrupt twice": "Interrupted: stopping cleanly",
	"the disk is full": "no space left on device", "read-only": "read-only file system",
	"the bus dies": "systemd", "the store is gone": "cannot be reached",
}

// said checks what a run has told that was not killed.
func (w *world) said(f Fault, r trace.Result, hit []trace.Call) error {
	if r.Killed {
		return nil
	}
	all := r.Stdout + r.Stderr
	for _, bad := range []string{"panic:", "goroutine ", "runtime error", "nil pointer", "context canceled"} {
		if strings.Contains(all, bad) {
			return fmt.Errorf("it printed %q", bad)
		}
	}
	switch {
	case r.Code == 0:
		return nil
	case r.Code != 1:
		return fmt.Errorf("it ended with %d", r.Code)
	case f.Do == "the bus is late":
		return errors.New("it failed, though the bus was only late")
	case len(hit) == 0:
		return errors.New("it failed though nothing happened to it")
	case f.Do != "fail" && !strings.Contains(strings.Join(strings.Fields(all), " "), told[f.Do]):
		return fmt.Errorf("it failed and did not say %q", told[f.Do])
	case f.Do != "fail":
		return nil
	}
	for _, c := range hit {
		if c.Kind != trace.File || strings.Contains(all, filepath.Dir(c.Path)) {
			return nil
		}
	}
	return fmt.Errorf("it failed and did not name %s", filepath.Dir(hit[0].Path))
}

// settle has one more run put all in order, and yet another one find nothing to do.
func (w *world) settle(ctx context.Context) error {
	if err := w.converge(ctx, 0, "apply", "--auto-approve", siteFile); err != nil {
		return err
	}
	if err := errors.Join(w.complete(), w.restarted(), w.check(true)); err != nil {
		return fmt.Errorf("after the next run: %w", err)
	}
	before, err := look()
	if err != nil {
		return err
	}
	invocations := w.invocations()
	if err := w.converge(ctx, 0, "apply", "--auto-approve", "--detailed-exitcode", siteFile); err != nil {
		return fmt.Errorf("there should have been nothing left to do: %w", err)
	}
	if w.invocations() != invocations {
		return errors.New("a service was restarted although nothing had changed")
	}
	return unwritten(before)
}

func (w *world) invocations() string {
	var all strings.Builder
	for _, u := range w.units {
		fmt.Fprintln(&all, u.Name, w.bus.MainPID(u.Name))
	}
	return all.String()
}
