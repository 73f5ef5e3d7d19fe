package sandbox

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
)

// enclosed is the variable that tells a test program that it runs in a sandbox, and where that was made.
const enclosed = "CONVERGE_TEST_SANDBOX"

// Tests runs a package's tests in a sandbox, from their TestMain, so that nothing outside is touched and the whole of a host
// is theirs. Before, out of it, prepare may put files into a directory, which the tests see at the path at; the agent is
// built there under the name converge. It returns the exit code, and prints why there could be no tests.
func Tests(m interface{ Run() int }, at string, prepare func(dir string) error) int {
	if dir := os.Getenv(enclosed); dir != "" {
		if err := Enter(dir, at); err != nil {
			fmt.Fprintln(os.Stderr, err)
			return 1
		}
		return m.Run()
	}
	code, err := runEnclosed(prepare)
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	return code
}

// runEnclosed builds the program, and runs these tests anew in a sandbox.
func runEnclosed(prepare func(dir string) error) (code int, err error) {
	dir, err := os.MkdirTemp("", "converge-sandbox-")
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
	if err := prepare(dir); err != nil {
		return 0, err
	}
	runtime.LockOSThread() // the sandbox ends with the thread that starts it
	cmd, err := Enclosed(context.Background(), slices.DeleteFunc(os.Args[1:], hostPath)...)
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
		return 0, fmt.Errorf("make a sandbox; %s: %w", Refused, err)
	}
	return 0, nil
}

// hostPath reports whether an argument names a file of the host's for the go command to read, which is not there inside.
func hostPath(arg string) bool { return strings.HasPrefix(arg, "-test.testlogfile=") }
