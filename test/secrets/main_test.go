// Package secrets plants secrets in everything that may hold one, runs every command of the real program over them, and
// searches all that comes of it: what is printed, written, sent, and passed to other programs.
package secrets

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"testing"

	"github.com/converge-agent/converge/test/lab/sandbox"
)

// enclosed is the variable that tells this test program that it runs in a sandbox, and where that was made.
const enclosed = "CONVERGE_SECRETS_SANDBOX"

// labDir is where that directory is inside.
const labDir = "/lab"

// TestMain runs the tests in a sandbox, so that the whole of a host can be searched, and nothing else is touched.
func TestMain(m *testing.M) {
	if dir := os.Getenv(enclosed); dir != "" {
		if err := sandbox.Enter(dir, labDir); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		os.Exit(m.Run())
	}
	code, err := runEnclosed()
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		code = 1
	}
	os.Exit(code)
}

// runEnclosed builds the program, and runs these tests anew in a sandbox.
func runEnclosed() (code int, err error) {
	dir, err := os.MkdirTemp("", "converge-secrets-")
	if err != nil {
		return 0, err
	}
	defer func() { err = errors.Join(err, os.RemoveAll(dir)) }()
	build := exec.CommandContext(context.Background(), "go", "build", "-o", filepath.Join(dir, "converge"), "./cmd/converge")
	build.Dir = filepath.Join("..", "..")
	build.Env = append(os.Environ(), "CGO_ENABLED=0")
	if out, err := build.CombinedOutput(); err != nil {
		return 0, fmt.Errorf("build the agent: %w\n%s", err, out)
	}
	runtime.LockOSThread() // the sandbox ends with the thread that starts it
	cmd, err := sandbox.Enclosed(context.Background(), slices.DeleteFunc(os.Args[1:], hostPath)...)
	if err != nil {
		return 0, err
	}
	cmd.Env = append(os.Environ(), enclosed+"="+dir)
	err = cmd.Run()
	var exit *exec.ExitError
	if errors.As(err, &exit) {
		return exit.ExitCode(), nil
	}
	if err != nil {
		return 0, fmt.Errorf("make a sandbox; %s: %w", sandbox.Refused, err)
	}
	return 0, nil
}

// hostPath reports whether an argument names a file of the host's for the go command to read, which is not there inside.
func hostPath(arg string) bool { return strings.HasPrefix(arg, "-test.testlogfile=") }
