// Package faults kills converge, and has its system calls fail, at each point of whole applies of the real program, and
// looks at what is left of the host: docs/crash-safety.md.
package faults

import (
	"flag"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"sync"
	"testing"
)

// all has every point of every story tried, which takes long; else the points are sampled as far as time allows.
var all = flag.Bool("all", false, "try every point of every story: make faults")

// workerArg is the first argument of the test program when it runs itself as a worker.
const workerArg = "__worker__"

func TestMain(m *testing.M) {
	if len(os.Args) > 2 && os.Args[1] == workerArg {
		os.Exit(work(os.Args[2], os.Args[3]))
	}
	code := m.Run()
	if dir, err := converge(); err == nil {
		_ = os.RemoveAll(dir) // one that stays is in the directory for such things
	}
	os.Exit(code)
}

// converge builds the agent, and returns the directory that it is in.
var converge = sync.OnceValues(func() (dir string, err error) {
	if dir, err = os.MkdirTemp("", "faults"); err != nil {
		return "", err
	}
	cmd := exec.Command("go", "build", "-trimpath", "-ldflags", "-s -w", "-o", filepath.Join(dir, "converge"), "./cmd/converge")
	cmd.Dir, cmd.Env = "../..", append(os.Environ(), "CGO_ENABLED=0")
	if out, err := cmd.CombinedOutput(); err != nil {
		return "", fmt.Errorf("build converge: %w\n%s", err, out)
	}
	return dir, nil
})
