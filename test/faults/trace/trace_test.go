package trace_test

import (
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/converge-agent/converge/test/faults/trace"
)

// script is what is traced here: a shell that writes a file, renames it, and runs a program.
const script = `echo 0123456789 > a && ln a b && /bin/echo ran >> c; echo said $?`

func run(t *testing.T, decide func(trace.Call) trace.Verdict) (trace.Result, string) {
	t.Helper()
	dir := t.TempDir()
	r, err := trace.Run(trace.Program{Args: []string{"/bin/sh", "-c", script}, Env: []string{"PATH=/usr/bin:/bin"}, Dir: dir, Decide: decide, Limit: time.Minute})
	if err != nil {
		t.Fatal(err)
	}
	return r, dir
}

func free(trace.Call) trace.Verdict { return trace.Verdict{} }

// at gives a verdict on the first call whose words begin so.
func at(words string, v trace.Verdict) func(trace.Call) trace.Verdict {
	return func(c trace.Call) trace.Verdict {
		if strings.HasPrefix(c.String(), words) {
			return v
		}
		return trace.Verdict{}
	}
}

func read(t *testing.T, dir, name string) string {
	t.Helper()
	b, err := os.ReadFile(filepath.Join(dir, name))
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}

func TestCallsAreSeenInOrder(t *testing.T) {
	r, dir := run(t, free)
	var got []string
	for i, c := range r.Calls {
		if c.Index != i+1 {
			t.Errorf("call %d has the index %d", i+1, c.Index)
		}
		got = append(got, c.Kind.String()+" "+strings.ReplaceAll(c.String(), dir, ""))
	}
	// The shell itself writes a and says something; two programs are started for the rest, and what they do is theirs.
	want := []string{"file openat /a", "file write /a", "exec execve /usr/bin/ln", "exec execve /bin/echo"}
	if len(got) < len(want) || !slices.Equal(got[:len(want)-1], want[:len(want)-1]) || !slices.Contains(got, want[len(want)-1]) {
		t.Errorf("got %q, want them to begin with %q", got, want)
	}
	if r.Code != 0 || r.Killed || r.Stdout != "said 0\n" {
		t.Errorf("it ended with %d, killed %v, and said %q", r.Code, r.Killed, r.Stdout)
	}
	if read(t, dir, "b") != "0123456789\n" || read(t, dir, "c") != "ran\n" {
		t.Error("it did not do its work")
	}
}

func TestKill(t *testing.T) {
	r, dir := run(t, at("openat", trace.Verdict{Kill: true}))
	if !r.Killed || r.Code != -1 || len(r.Calls) != 1 {
		t.Errorf("killed %v, code %d after %d calls", r.Killed, r.Code, len(r.Calls))
	}
	if names, _ := os.ReadDir(dir); len(names) != 0 {
		t.Errorf("it made %v", names)
	}
}

func TestHalf(t *testing.T) {
	r, dir := run(t, at("write", trace.Verdict{Half: true}))
	if got := read(t, dir, "a"); !r.Killed || got != "01234" {
		t.Errorf("killed %v, and wrote %q", r.Killed, got)
	}
}

// TestKillInAChild kills the program while its child is about to become another one, which goes on.
func TestKillInAChild(t *testing.T) {
	r, dir := run(t, at("execve /bin/echo", trace.Verdict{Kill: true}))
	if got := read(t, dir, "c"); !r.Killed || got != "ran\n" || r.Stdout != "" {
		t.Errorf("killed %v, the child wrote %q, and it said %q", r.Killed, got, r.Stdout)
	}
}

func TestErrno(t *testing.T) {
	r, dir := run(t, at("openat", trace.Verdict{Errno: int(syscall.ENOSPC)}))
	if r.Killed || r.Stdout != "said 2\n" || !strings.Contains(r.Stderr, "No space left") && !strings.Contains(r.Stderr, "cannot create") {
		t.Errorf("it said %q and %q", r.Stdout, r.Stderr)
	}
	if names, _ := os.ReadDir(dir); len(names) != 0 {
		t.Errorf("it made %v", names)
	}
}

func TestSignalAndBefore(t *testing.T) {
	before := false
	r, _ := run(t, at("execve /usr/bin/ln", trace.Verdict{Signal: int(syscall.SIGTERM), Before: func() { before = true }}))
	if r.Killed || r.Code != -1 || !before {
		t.Errorf("killed %v, code %d, before %v", r.Killed, r.Code, before)
	}
}

func TestLimit(t *testing.T) {
	_, err := trace.Run(trace.Program{Args: []string{"/bin/sh", "-c", "sleep 1000; true"}, Env: []string{"PATH=/usr/bin:/bin"}, Dir: "/", Decide: free, Limit: 10 * time.Millisecond})
	if err == nil || !strings.Contains(err.Error(), "had not ended after 10ms") {
		t.Errorf("got %v", err)
	}
}
