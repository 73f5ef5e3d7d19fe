package host_test

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"os/signal"
	"strings"
	"syscall"
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
	case "log":
		return logWithinLimit(path)
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

// limited is a child that is to end by itself.
func limited(t *testing.T, does, path string) *exec.Cmd {
	t.Helper()
	self, err := os.Executable()
	must(t, err)
	return exec.CommandContext(t.Context(), self, "child", does, path)
}

// logWithinLimit appends until no file may be larger, and then what still fits. A limit ends a write as a full disk does:
// after a part of it (setrlimit(2), RLIMIT_FSIZE).
func logWithinLimit(path string) error {
	signal.Ignore(syscall.SIGXFSZ)
	if err := syscall.Setrlimit(syscall.RLIMIT_FSIZE, &syscall.Rlimit{Cur: 1500, Max: 1500}); err != nil {
		return err
	}
	l, err := host.CreateLog(path)
	if err != nil {
		return err
	}
	line := []byte(strings.Repeat("a", 1000) + "\n")
	if err := l.Append(line); err != nil {
		return err
	}
	if err := l.Append(line); !errors.Is(err, syscall.EFBIG) {
		return fmt.Errorf("beyond the limit: %w", err)
	}
	if err := l.Append([]byte("last\n")); err != nil {
		return err
	}
	l.Close()
	fmt.Println("ok")
	os.Exit(0)
	return nil
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
