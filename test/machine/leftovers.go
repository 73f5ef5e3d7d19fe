package machine

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
)

// prefix begins the name of every directory and cgroup that a machine has outside its own.
const prefix = "converge-machine-"

// ownPrefix also names this process, so that others see whether it still lives.
func ownPrefix() string { return fmt.Sprintf("%s%d-", prefix, os.Getpid()) }

// removeStale removes what processes left that were killed before they could. What cannot be removed stays for the next.
func removeStale() {
	for _, dir := range []string{os.TempDir(), "/sys/fs/cgroup", "/sys/fs/cgroup/systemd", "/sys/fs/cgroup/unified"} {
		names, _ := filepath.Glob(filepath.Join(dir, prefix+"*"))
		for _, name := range names {
			id, _, _ := strings.Cut(strings.TrimPrefix(filepath.Base(name), prefix), "-")
			pid, err := strconv.Atoi(id)
			switch {
			case err != nil || alive(pid):
			case strings.HasPrefix(dir, "/sys/"):
				_ = removeCgroup(name)
			default:
				_ = os.RemoveAll(name)
			}
		}
	}
}

// removeCgroup removes a cgroup and those below it, once their last processes are gone.
func removeCgroup(cgroup string) error {
	var dirs []string
	err := filepath.WalkDir(cgroup, func(path string, d fs.DirEntry, err error) error {
		if err == nil && d.IsDir() {
			dirs = append(dirs, path)
		}
		return err
	})
	if err != nil {
		return err
	}
	for i := len(dirs) - 1; i >= 0; i-- {
		for tries := 0; ; tries++ {
			err := os.Remove(dirs[i])
			if err == nil {
				break
			}
			if tries == 100 || !errors.Is(err, syscall.EBUSY) {
				return err
			}
			_ = pause(context.Background(), 20)
		}
	}
	return nil
}
