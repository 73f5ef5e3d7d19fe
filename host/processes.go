package host

import (
	"bytes"
	"errors"
	"io/fs"
	"math"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/converge-agent/converge/diag"
	"golang.org/x/sys/unix"
)

type systemProcesses struct{}

// SystemProcesses returns the processes of this host, as /proc shows them.
func SystemProcesses() Processes { return systemProcesses{} }

func (systemProcesses) Process(pid int) (*Process, error) {
	stat, ok, err := readStat(pid)
	if err != nil || !ok || stat.ended {
		return nil, err
	}
	return newProcess(pid, stat)
}

func (systemProcesses) Children(pid int) ([]Process, error) {
	entries, err := os.ReadDir("/proc")
	if err != nil {
		return nil, diag.Wrap(err, "list the processes", "Mount /proc.")
	}
	var children []Process
	for _, e := range entries {
		id, err := strconv.Atoi(e.Name())
		if err != nil {
			continue
		}
		stat, ok, err := readStat(id)
		if err != nil {
			return nil, err
		}
		if !ok || stat.parent != pid || stat.ended {
			continue
		}
		child, err := newProcess(id, stat)
		if err != nil {
			return nil, err
		}
		children = append(children, *child)
	}
	slices.SortFunc(children, func(a, b Process) int { return a.PID - b.PID })
	return children, nil
}

func newProcess(pid int, stat processStat) (*Process, error) {
	title, err := readProc(pid, "cmdline")
	if err != nil {
		return nil, err
	}
	asleep, err := sleptFor()
	if err != nil {
		return nil, err
	}
	return &Process{PID: pid, Title: processTitle(title), StartedBoot: stat.started - asleep}, nil
}

// processTitle words a command line. A program that writes a title over it fills up what is left of the place with zeros.
func processTitle(cmdline []byte) string {
	return strings.ReplaceAll(string(bytes.TrimRight(cmdline, "\x00 ")), "\x00", " ")
}

// processStat is what /proc/PID/stat says: proc_pid_stat(5).
type processStat struct {
	parent  int
	ended   bool          // a zombie, which its parent has not asked for yet
	started time.Duration // since boot, the time that the host slept counted
}

// userHZ is the unit of times in /proc, in ticks a second: 100 on every architecture that Go knows (USER_HZ, times(2)).
const userHZ = 100

// readStat reports false for a process that is gone or may not be seen.
func readStat(pid int) (processStat, bool, error) {
	text, err := readProc(pid, "stat")
	if err != nil || text == nil {
		return processStat{}, false, err
	}
	// The second field is the program's name in parentheses, which may hold spaces and parentheses of its own.
	fields := strings.Fields(string(text[bytes.LastIndexByte(text, ')')+1:]))
	const state, ppid, starttime = 0, 1, 19 // fields 3, 4 and 22 of the manual
	if len(fields) <= starttime {
		return processStat{}, false, nil
	}
	parent, err := strconv.Atoi(fields[ppid])
	ticks, err2 := strconv.ParseInt(fields[starttime], 10, 64)
	if err := errors.Join(err, err2); err != nil {
		return processStat{}, false, diag.Wrap(err, "read /proc/"+strconv.Itoa(pid)+"/stat", "")
	}
	ended := fields[state] == "Z" || fields[state] == "X"
	return processStat{parent, ended, time.Duration(ticks) * time.Second / userHZ}, true, nil
}

// readProc reads a file of a process; nil where that has ended meanwhile, or may not be seen.
func readProc(pid int, name string) ([]byte, error) {
	text, err := os.ReadFile(filepath.Join("/proc", strconv.Itoa(pid), name))
	if errors.Is(err, fs.ErrNotExist) || errors.Is(err, fs.ErrPermission) || errors.Is(err, unix.ESRCH) {
		return nil, nil
	}
	return text, SystemError(err, "read", filepath.Join("/proc", strconv.Itoa(pid), name))
}

// sleptFor is how long the host has slept since boot: the clock of /proc/PID/stat counts that, the clock of systemd not. The
// two can't be read at once, and a process that is put aside in between finds too much: the least of a few tries counts.
func sleptFor() (time.Duration, error) {
	least := time.Duration(math.MaxInt64)
	for range 5 {
		var boot, awake unix.Timespec
		err := errors.Join(unix.ClockGettime(unix.CLOCK_MONOTONIC, &awake), unix.ClockGettime(unix.CLOCK_BOOTTIME, &boot))
		if err != nil {
			return 0, diag.Wrap(err, "read the clock", "")
		}
		least = min(least, time.Duration(boot.Nano()-awake.Nano()))
	}
	return least, nil
}
