package host_test

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/converge-agent/converge/diag"
	"github.com/converge-agent/converge/host"
	"golang.org/x/sys/unix"
)

func run(t *testing.T, c host.Command) host.Result {
	t.Helper()
	r, err := host.SystemCommands().Run(t.Context(), c)
	must(t, err)
	return r
}

func sh(script string) []string { return []string{"/bin/sh", "-c", script} }

func TestCommandResult(t *testing.T) {
	for name, tc := range map[string]struct {
		script, stdout, stderr string
		code                   int
	}{
		"both outputs":  {"echo out; echo err >&2", "out\n", "err\n", 0},
		"status":        {"exit 3", "", "", 3},
		"signal":        {"kill -9 $$", "", "", 137},
		"no input":      {"cat; echo end", "end\n", "", 0},
		"starts in /":   {"pwd", "/\n", "", 0},
		"not the shell": {"true", "", "", 0},
	} {
		r := run(t, host.Command{Args: sh(tc.script)})
		if string(r.Stdout) != tc.stdout || string(r.Stderr) != tc.stderr || r.Code != tc.code {
			t.Errorf("%s: got %q, %q, %d; want %q, %q, %d", name, r.Stdout, r.Stderr, r.Code, tc.stdout, tc.stderr, tc.code)
		}
	}
	if r := run(t, host.Command{Args: []string{"echo", "$HOME;", "`id`"}}); string(r.Stdout) != "$HOME; `id`\n" {
		t.Errorf("arguments went through a shell: %q", r.Stdout)
	}
}

func TestCommandEnvironment(t *testing.T) {
	t.Setenv("LEAK", "leaked")
	t.Setenv("PATH", t.TempDir())
	r := run(t, host.Command{Args: []string{"env"}, Env: []string{"MINE=1", "LANG=de_DE.UTF-8"}, Dir: "/etc"})
	got := strings.Fields(string(r.Stdout))
	slices.Sort(got)
	var names []string
	for _, e := range got {
		name, _, _ := strings.Cut(e, "=")
		names = append(names, name)
	}
	if !slices.Equal(names, []string{"HOME", "LANG", "MINE", "PATH"}) || !slices.Contains(got, "LANG=de_DE.UTF-8") {
		t.Errorf("got %q, want HOME, LANG as given, MINE and PATH", got)
	}
}

func TestCommandsThatCannotStart(t *testing.T) {
	dir := t.TempDir()
	must(t, os.WriteFile(filepath.Join(dir, "plain"), []byte("x"), 0o644))
	for name, c := range map[string]host.Command{
		"none":           {},
		"unknown":        {Args: []string{"no-such-program"}},
		"unknown path":   {Args: []string{"/no/such/program"}},
		"not executable": {Args: []string{filepath.Join(dir, "plain")}},
		"no directory":   {Args: []string{"true"}, Dir: "/no/such"},
		"no user":        {Args: []string{"true"}, User: "no-such-user"},
	} {
		_, err := host.SystemCommands().Run(t.Context(), c)
		var d *diag.Error
		if !errors.As(err, &d) || diag.Fix(err) == "" {
			t.Errorf("%s: got %v, want a failure with advice", name, err)
		}
	}
}

func TestCommandAsAnotherUser(t *testing.T) {
	r, err := host.SystemCommands().Run(t.Context(), host.Command{Args: sh("id -u; id -G; echo $HOME"), User: "daemon"})
	if os.Geteuid() != 0 {
		if !errors.Is(err, fs.ErrPermission) || !strings.Contains(diag.Fix(err), "root") {
			t.Errorf("without rights: got %v (%s), want to be told to be root", err, diag.Fix(err))
		}
		return
	}
	must(t, err)
	id, err := host.SystemUsers().UID("daemon")
	must(t, err)
	lines := strings.Split(string(r.Stdout), "\n")
	if lines[0] != strconv.Itoa(id) || lines[2] != "/usr/sbin" {
		t.Errorf("got %q, want user %d and its home", lines, id)
	}
	// Each account runs with the groups that id(1) tells of it: none of root's, all of its own.
	accounts, err := os.ReadFile("/etc/passwd")
	must(t, err)
	for line := range strings.Lines(string(accounts)) {
		name, _, _ := strings.Cut(line, ":")
		want := strings.Fields(string(run(t, host.Command{Args: []string{"id", "-G", name}}).Stdout))
		got := strings.Fields(string(run(t, host.Command{Args: []string{"id", "-G"}, User: name}).Stdout))
		slices.Sort(want)
		if slices.Sort(got); name != "root" && !slices.Equal(got, want) {
			t.Errorf("%s runs with the groups %q, want %q", name, got, want)
		}
	}
}

func TestCommandOutputIsCapped(t *testing.T) {
	r := run(t, host.Command{Args: sh("echo first; head -c 5000000 /dev/zero | tr '\\0' x; echo last")})
	out := string(r.Stdout)
	if len(out) > host.MaxOutput+100 || !strings.HasPrefix(out, "first\n") || !strings.HasSuffix(out, "last\n") ||
		!strings.Contains(out, "bytes left out") {
		t.Errorf("got %d bytes, from %q to %q", len(out), out[:20], out[len(out)-20:])
	}
	r = run(t, host.Command{Args: sh(fmt.Sprintf("head -c %d /dev/zero", host.MaxOutput))})
	if len(r.Stdout) != host.MaxOutput || strings.Contains(string(r.Stdout), "left out") {
		t.Errorf("got %d bytes, want exactly as many as fit", len(r.Stdout))
	}
}

// A program that is cancelled takes all that it started with it, even what ignores SIGTERM.
func TestCancelledCommandEndsWithItsChildren(t *testing.T) {
	for name, script := range map[string]string{
		"ends in order":   "sleep 1000 & echo $! > pid; wait",
		"ignores SIGTERM": "trap '' TERM; sleep 1000 & echo $! > pid; wait; wait",
		"leaves one":      "trap 'exit 0' TERM; (trap '' TERM; sleep 1000) & echo $! > pid; wait",
	} {
		t.Run(name, func(t *testing.T) {
			dir := t.TempDir()
			pidFile := filepath.Join(dir, "pid")
			ctx, cancel := context.WithCancel(t.Context())
			defer cancel()
			go func() {
				await(t, func() bool { b, err := os.ReadFile(pidFile); return err == nil && strings.HasSuffix(string(b), "\n") })
				cancel()
			}()
			commands := host.SystemCommandsWithGrace(200 * time.Millisecond)
			start := time.Now()
			_, err := commands.Run(ctx, host.Command{Args: sh(script), Dir: dir})
			if !errors.Is(err, context.Canceled) {
				t.Errorf("got %v, want context.Canceled", err)
			}
			if took := time.Since(start); took > time.Minute {
				t.Errorf("it took %s to end it", took)
			}
			content, err := os.ReadFile(pidFile)
			must(t, err)
			pid, err := strconv.Atoi(strings.TrimSpace(string(content)))
			must(t, err)
			await(t, func() bool { return !alive(pid) })
		})
	}
}

// alive reports whether a process exists and is no zombie that only waits to be reaped.
func alive(pid int) bool {
	stat, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		return false
	}
	_, after, _ := strings.Cut(string(stat), ") ")
	return !strings.HasPrefix(after, "Z")
}

// await waits until done, and fails the test after a minute.
func await(t *testing.T, done func() bool) {
	t.Helper()
	for end := time.Now().Add(time.Minute); !done(); time.Sleep(5 * time.Millisecond) {
		if time.Now().After(end) {
			t.Error("waited a minute in vain")
			return
		}
	}
}

// A program that leaves a child in the background with its output open does not hold up the run.
func TestCommandThatLeavesAChild(t *testing.T) {
	start := time.Now()
	r := run(t, host.Command{Args: sh("sleep 1000 & echo $!")})
	pid, err := strconv.Atoi(strings.TrimSpace(string(r.Stdout)))
	must(t, err)
	defer func() { _ = unix.Kill(pid, unix.SIGKILL) }()
	if took := time.Since(start); took > 5*time.Minute || r.Code != 0 {
		t.Errorf("got %d after %s, want 0 soon", r.Code, took)
	}
	if !alive(pid) {
		t.Error("what it left was killed, though nobody cancelled it")
	}
}

func TestUsers(t *testing.T) {
	users := host.SystemUsers()
	for _, tc := range []struct {
		name string
		find func(string) (int, error)
		want int
	}{
		{"root", users.UID, 0},
		{"root", users.GID, 0},
		{"nobody", users.UID, nobody},
		{"12345", users.UID, 12345},
		{"12345", users.GID, 12345},
	} {
		if got, err := tc.find(tc.name); err != nil || got != tc.want {
			t.Errorf("%s: got %d, %v; want %d", tc.name, got, err, tc.want)
		}
	}
	for _, name := range []string{"no-such-account", "", "-1", "4294967295", "--help", "a b", "root:x"} {
		for what, find := range map[string]func(string) (int, error){"user": users.UID, "group": users.GID} {
			if got, err := find(name); err == nil || !strings.Contains(err.Error(), what) || diag.Fix(err) == "" {
				t.Errorf("%s %q: got %d, %v; want an error with advice", what, name, got, err)
			}
		}
	}
	if uid, gid := users.Self(); uid != os.Geteuid() || gid != os.Getegid() {
		t.Errorf("Self: got %d, %d", uid, gid)
	}
}

func TestClock(t *testing.T) {
	clock := host.SystemClock()
	a, b := clock.SinceBoot(), clock.SinceBoot()
	if a <= 0 || b < a {
		t.Errorf("SinceBoot: got %s, then %s", a, b)
	}
	if d := time.Since(clock.Now()); d < 0 || d > time.Minute {
		t.Errorf("Now is %s off", d)
	}
}
