package host_test

import (
	"bufio"
	"os"
	"os/exec"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/converge-agent/converge/host"
)

// child returns the child of this test with the PID.
func child(t *testing.T, pid int) (host.Process, bool) {
	t.Helper()
	all, err := host.SystemProcesses().Children(os.Getpid())
	must(t, err)
	i := slices.IndexFunc(all, func(p host.Process) bool { return p.PID == pid })
	if i < 0 {
		return host.Process{}, false
	}
	return all[i], true
}

// TestChildren looks at a program with a title and a name that are hard to read, while it runs and after it has ended.
func TestChildren(t *testing.T) {
	const tick = 10 * time.Millisecond // of the kernel's times
	before := host.SystemClock().SinceBoot()
	script := `printf 'a ) R 1' > /proc/self/comm; echo; read x`
	cmd := exec.CommandContext(t.Context(), "bash", "-c", script, "one two", "")
	in, err := cmd.StdinPipe()
	must(t, err)
	out, err := cmd.StdoutPipe()
	must(t, err)
	must(t, cmd.Start())
	after := host.SystemClock().SinceBoot()
	if _, err := bufio.NewReader(out).ReadString('\n'); err != nil {
		t.Fatal(err)
	}
	p, ok := child(t, cmd.Process.Pid)
	if !ok || p.Title != "bash -c "+script+" one two" {
		t.Errorf("got %+v", p)
	}
	if again, err := host.SystemProcesses().Process(p.PID); err != nil || again == nil || again.Title != p.Title {
		t.Errorf("by its PID: got %+v, %v", again, err)
	}
	if p.StartedBoot < before-2*tick || p.StartedBoot > after {
		t.Errorf("it started at %s, want from %s to %s", p.StartedBoot, before, after)
	}
	must(t, in.Close())
	for deadline := time.Now().Add(time.Minute); ok; time.Sleep(time.Millisecond) { // a zombie until it is waited for below
		if _, ok = child(t, cmd.Process.Pid); ok && time.Now().After(deadline) {
			t.Fatal("it has ended, and is still among the children")
		}
	}
	if p, err := host.SystemProcesses().Process(cmd.Process.Pid); err != nil || p != nil {
		t.Errorf("after its end: got %v, %v", p, err)
	}
	if err := cmd.Wait(); err != nil && !strings.Contains(err.Error(), "exit status 1") { // read's, at the end of its input
		t.Fatal(err)
	}
}

func TestChildrenOfNobody(t *testing.T) {
	all, err := host.SystemProcesses().Children(1 << 30)
	if err != nil || len(all) != 0 {
		t.Errorf("got %v, %v", all, err)
	}
	if p, err := host.SystemProcesses().Process(1 << 30); err != nil || p != nil {
		t.Errorf("got %v, %v", p, err)
	}
}
