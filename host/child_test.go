package host_test

import (
	"bufio"
	"context"
	"fmt"
	"os"
	"os/exec"
	"testing"
	"time"

	"github.com/converge-agent/converge/host"
)

// The test binary runs itself as a child that a test can kill.
func TestMain(m *testing.M) {
	if len(os.Args) == 4 && os.Args[1] == "child" {
		fmt.Fprintln(os.Stderr, runChild(os.Args[2], os.Args[3]))
		os.Exit(1)
	}
	os.Exit(m.Run())
}

func runChild(does, path string) error {
	switch does {
	case "commit":
		return commitForever(path)
	case "lock":
		return lockForever(path)
	}
	return fmt.Errorf("no such child: %s", does)
}

// startChild starts a child and waits until it says that it is at work.
func startChild(t *testing.T, does, path string) *exec.Cmd {
	t.Helper()
	self, err := os.Executable()
	must(t, err)
	child := exec.Command(self, "child", does, path)
	child.Stderr = os.Stderr
	out, err := child.StdoutPipe()
	must(t, err)
	must(t, child.Start())
	t.Cleanup(func() { _ = child.Process.Kill() })
	if _, err := bufio.NewReader(out).ReadString('\n'); err != nil {
		t.Fatalf("the child did not begin: %v", err)
	}
	return child
}

func lockForever(path string) error {
	lock, err := host.AcquireLock(context.Background(), path, "apply (a child)", 0)
	if err != nil {
		return err
	}
	fmt.Println("ready")
	time.Sleep(time.Hour) // until it is killed
	return lock.Release()
}
