package machine_test

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/converge-agent/converge/test/machine"
)

func TestMachine(t *testing.T) {
	ctx, cancel := context.WithTimeout(t.Context(), 15*time.Minute)
	defer cancel()
	lap := stopwatch(t)
	base, err := machine.Base(ctx, "", "bookworm")
	if err != nil {
		t.Fatal(err)
	}
	lap("base")
	m, err := machine.Start(ctx, machine.Options{Base: base, Name: "m1"})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := m.Stop(); err != nil {
			t.Error(err)
		}
	})
	lap("start")

	t.Run("runs commands as systemd's children", func(t *testing.T) {
		if got := must(t, m, "hostname"); got != "m1\n" {
			t.Errorf("hostname = %q, want m1", got)
		}
		if got := must(t, m, "cat", "/proc/1/comm"); got != "systemd\n" {
			t.Errorf("process 1 = %q, want systemd", got)
		}
		r, err := m.Run(ctx, "sh", "-c", "echo out; echo err >&2; exit 3")
		if err != nil || r != (machine.Result{Code: 3, Stdout: "out\n", Stderr: "err\n"}) {
			t.Errorf("Run = %+v, %v", r, err)
		}
	})
	lap("commands")

	t.Run("reaches servers of the test process", func(t *testing.T) {
		l, err := m.Network.Listen("tcp", machine.HostIP+":0")
		if err != nil {
			t.Fatal(err)
		}
		server := &http.Server{Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			_, _ = io.WriteString(w, "from "+r.RemoteAddr[:strings.LastIndex(r.RemoteAddr, ":")])
		})}
		go func() { _ = server.Serve(l) }()
		t.Cleanup(func() { _ = server.Close() })
		got := must(t, m, "curl", "--silent", "--show-error", fmt.Sprintf("http://controller:%s/", port(l.Addr().String())))
		if want := "from " + m.IP; got != want {
			t.Errorf("curl = %q, want %q", got, want)
		}
	})
	t.Run("is reached by the test process", func(t *testing.T) {
		must(t, m, "systemctl", "unmask", "nginx")
		must(t, m, "systemctl", "start", "nginx")
		client := &http.Client{Transport: &http.Transport{DialContext: m.Network.DialContext}}
		t.Cleanup(client.CloseIdleConnections)
		resp, err := client.Get("http://" + m.IP + "/")
		if err != nil {
			t.Fatal(err)
		}
		defer func() { _ = resp.Body.Close() }()
		if resp.StatusCode != http.StatusOK {
			t.Errorf("status = %d, want 200", resp.StatusCode)
		}
	})
	lap("network")

	t.Run("keeps files over a reboot and a power cut", func(t *testing.T) {
		if err := m.Put(ctx, "/srv/deep/file", "kept", 0o640); err != nil {
			t.Fatal(err)
		}
		before := must(t, m, "cat", "/proc/sys/kernel/random/boot_id", "/proc/1/stat")
		if err := m.Reboot(ctx); err != nil {
			t.Fatal(err)
		}
		lap("reboot")
		if after := must(t, m, "cat", "/proc/sys/kernel/random/boot_id", "/proc/1/stat"); after == before {
			t.Error("the machine did not reboot")
		}
		if err := m.Kill(ctx); err != nil {
			t.Fatal(err)
		}
		if _, err := m.Run(ctx, "true"); err == nil {
			t.Error("a command ran in a machine without power")
		}
		if err := m.Boot(ctx); err != nil {
			t.Fatal(err)
		}
		lap("kill and boot")
		if got, err := m.Get(ctx, "/srv/deep/file"); err != nil || got != "kept" {
			t.Errorf("Get = %q, %v", got, err)
		}
		if got := must(t, m, "stat", "-c", "%a", "/srv/deep/file"); got != "640\n" {
			t.Errorf("mode = %s, want 640", got)
		}
	})
}

func TestMachinesLeaveNothingBehind(t *testing.T) {
	ctx, cancel := context.WithTimeout(t.Context(), 15*time.Minute)
	defer cancel()
	base, err := machine.Base(ctx, "", "bookworm")
	if err != nil {
		t.Fatal(err)
	}
	mountsBefore := mounts(t)
	network, err := machine.NewNetwork(ctx)
	if err != nil {
		t.Fatal(err)
	}
	var ms []*machine.Machine
	for i := range 2 {
		m, err := machine.Start(ctx, machine.Options{Base: base, Name: fmt.Sprintf("m%d", i), Network: network})
		if err != nil {
			t.Fatal(err)
		}
		ms = append(ms, m)
	}
	if got := must(t, ms[0], "sh", "-c", "echo < /dev/tcp/"+ms[1].IP+"/1 2>&1; true"); strings.Contains(got, "unreachable") {
		t.Errorf("two machines on one network do not see each other: %s", got)
	}
	for _, m := range ms {
		if err := m.Stop(); err != nil {
			t.Error(err)
		}
	}
	if err := network.Close(); err != nil {
		t.Error(err)
	}
	if after := mounts(t); after != mountsBefore {
		t.Errorf("mounts were left behind:\n%s\nbefore:\n%s", after, mountsBefore)
	}
	own := fmt.Sprintf("converge-machine-%d-*", os.Getpid())
	for _, dir := range []string{os.TempDir(), "/sys/fs/cgroup", "/sys/fs/cgroup/systemd", "/sys/fs/cgroup/unified"} {
		if left, _ := filepath.Glob(filepath.Join(dir, own)); len(left) > 0 {
			t.Errorf("left behind: %q", left)
		}
	}
}

// TestMachinesEndWithTheirProcess kills a process that runs a machine.
func TestMachinesEndWithTheirProcess(t *testing.T) {
	if os.Getenv("MACHINE_TEST_CHILD") != "" {
		runForEver(t)
	}
	dir, mountsBefore := t.TempDir(), mounts(t)
	child := exec.CommandContext(t.Context(), os.Args[0], "-test.run=^TestMachinesEndWithTheirProcess$")
	child.Env = append(os.Environ(), "MACHINE_TEST_CHILD="+dir)
	out, err := child.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := child.Start(); err != nil {
		t.Fatal(err)
	}
	var pids [2]int
	if _, err := fmt.Fscanf(out, "running %d %d\n", &pids[0], &pids[1]); err != nil {
		t.Fatalf("the child did not start its machine: %v", err)
	}
	if err := child.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	_ = child.Wait() // that it was killed is no news
	for _, pid := range pids {
		for deadline := time.Now().Add(5 * time.Minute); processIs(pid); {
			if time.Now().After(deadline) {
				t.Errorf("process %d outlives the process that started it", pid)
				break
			}
		}
	}
	if after := mounts(t); after != mountsBefore {
		t.Errorf("mounts were left behind:\n%s\nbefore:\n%s", after, mountsBefore)
	}

	base, err := machine.Base(t.Context(), "", "bookworm")
	if err != nil {
		t.Fatal(err)
	}
	m, err := machine.Start(t.Context(), machine.Options{Base: base})
	if err != nil {
		t.Fatal(err)
	}
	if err := m.Stop(); err != nil {
		t.Error(err)
	}
	left, _ := filepath.Glob(fmt.Sprintf("/sys/fs/cgroup/*/converge-machine-%d-*", child.Process.Pid))
	if len(left) > 0 {
		t.Errorf("the next machine has not removed what the killed process left: %q", left)
	}
}

func runForEver(t *testing.T) {
	base, err := machine.Base(t.Context(), "", "bookworm")
	if err != nil {
		t.Fatal(err)
	}
	m, err := machine.Start(t.Context(), machine.Options{Base: base, Dir: os.Getenv("MACHINE_TEST_CHILD")})
	if err != nil {
		t.Fatal(err)
	}
	leader := strings.Split(m.Path("/"), "/")[2]
	status, err := os.ReadFile("/proc/" + leader + "/status")
	if err != nil {
		t.Fatal(err)
	}
	_, parent, _ := strings.Cut(string(status), "PPid:\t")
	parent, _, _ = strings.Cut(parent, "\n")
	fmt.Printf("running %s %s\n", leader, parent)
	select {}
}

// processIs reports whether there is a process with that id that has not ended.
func processIs(pid int) bool {
	stat, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	return err == nil && !strings.Contains(string(stat), ") Z ")
}

func mounts(t *testing.T) string {
	t.Helper()
	b, err := os.ReadFile("/proc/self/mountinfo")
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}

func must(t *testing.T, m *machine.Machine, command ...string) string {
	t.Helper()
	r, err := m.Run(t.Context(), command...)
	if err != nil || r.Code != 0 {
		t.Fatalf("%q = %+v, %v", command, r, err)
	}
	return r.Stdout
}

func port(address string) string { return address[strings.LastIndex(address, ":")+1:] }

func stopwatch(t *testing.T) func(what string) {
	start := time.Now()
	return func(what string) {
		t.Logf("%-14s %.2f s", what, time.Since(start).Seconds())
		start = time.Now()
	}
}
