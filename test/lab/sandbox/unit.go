package sandbox

import (
	"context"
	"crypto/rand"
	"errors"
	"os"
	"os/exec"
	"runtime"
	"sync"
	"syscall"
	"time"

	"github.com/godbus/dbus/v5"
	"golang.org/x/sys/unix"
)

// unit is a Unit and what has become of it.
type unit struct {
	Unit
	starter *starter

	mu       sync.Mutex
	enabled  bool
	masked   bool
	process  *exec.Cmd // nil while it does not run
	ended    chan struct{}
	stopping bool
	active   string
	sub      string
	result   string
	status   int32
	id       []byte
	started  stamp
	reloaded stamp
}

// stamp is a moment by both clocks that systemd gives, in µs; 0 for none.
type stamp struct{ wall, boot uint64 }

func now() stamp {
	var t unix.Timespec
	_ = unix.ClockGettime(unix.CLOCK_MONOTONIC, &t) // cannot fail with a clock that every Linux has
	return stamp{uint64(time.Now().UnixMicro()), uint64(t.Nano() / 1000)}
}

func newUnit(u Unit, s *starter) *unit {
	return &unit{Unit: u, starter: s, enabled: u.Enabled, active: "inactive", sub: "dead", result: "success", id: make([]byte, 0)}
}

// start starts the process, and returns the result of the job. A process that ends at once is found out later, as with
// systemd's Type=simple.
func (u *unit) start() string {
	u.mu.Lock()
	defer u.mu.Unlock()
	if u.process != nil {
		return "done"
	}
	cmd := exec.CommandContext(context.Background(), u.Command[0], u.Command[1:]...) // it ends with stop
	cmd.Dir, cmd.Env = u.Dir, []string{"PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin", "LANG=C.UTF-8"}
	var log *os.File
	if u.Log != "" {
		var err error
		if log, err = os.OpenFile(u.Log, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o644); err != nil {
			return u.fail("resources")
		}
		defer func() { _ = log.Close() }()
		cmd.Stdout, cmd.Stderr = log, log
	}
	u.id = make([]byte, 16)
	_, _ = rand.Read(u.id) // never fails: crypto/rand, Go 1.24
	u.started, u.reloaded = now(), stamp{}
	if err := u.starter.start(cmd, u.UID); err != nil {
		return u.fail("exec")
	}
	u.process, u.ended, u.stopping = cmd, make(chan struct{}), false
	u.active, u.sub, u.result, u.status = "active", "running", "success", 0
	go u.wait(cmd, u.ended)
	return "done"
}

// fail records that the process could not be started.
func (u *unit) fail(result string) string {
	u.active, u.sub, u.result, u.status = "failed", "failed", result, 203 // EXIT_EXEC, systemd.exec(5)
	return "failed"
}

// wait records how the process ended.
func (u *unit) wait(cmd *exec.Cmd, ended chan struct{}) {
	err := cmd.Wait()
	u.mu.Lock()
	defer u.mu.Unlock()
	u.process = nil
	u.active, u.sub, u.result = "inactive", "dead", "success"
	var exit *exec.ExitError
	if errors.As(err, &exit) && !u.stopping {
		u.active, u.sub, u.result, u.status = "failed", "failed", "exit-code", int32(exit.ExitCode())
		if s, ok := exit.Sys().(syscall.WaitStatus); ok && s.Signaled() {
			u.result, u.status = "signal", int32(s.Signal())
		}
	}
	close(ended)
}

// patience is how long a process may take to end when it is told to; then it is killed.
const patience = 5 * time.Second

// stop ends the process and all that it started, and returns the result of the job.
func (u *unit) stop() string {
	u.mu.Lock()
	cmd, ended := u.process, u.ended
	u.stopping = true
	if cmd == nil {
		if u.active == "failed" {
			u.active, u.sub = "inactive", "dead"
		}
		u.mu.Unlock()
		return "done"
	}
	u.mu.Unlock()
	_ = cmd.Process.Signal(syscall.SIGTERM) // it may have ended by itself meanwhile
	select {
	case <-ended:
	case <-time.After(patience):
	}
	_ = syscall.Kill(-cmd.Process.Pid, syscall.SIGKILL) // what is left of its group
	<-ended
	return "done"
}

// reload signals the process, and returns the result of the job.
func (u *unit) reload() string {
	u.mu.Lock()
	defer u.mu.Unlock()
	if u.process == nil {
		return "failed"
	}
	at := now()
	if err := u.process.Process.Signal(u.Reload); err != nil {
		return "failed"
	}
	u.reloaded = at
	return "done"
}

func (u *unit) setEnabled(on bool) bool { return u.set(&u.enabled, on) }
func (u *unit) setMasked(on bool) bool  { return u.set(&u.masked, on) }

func (u *unit) set(field *bool, to bool) (changed bool) {
	u.mu.Lock()
	defer u.mu.Unlock()
	changed = *field != to
	*field = to
	return changed
}

func (u *unit) isMasked() bool {
	u.mu.Lock()
	defer u.mu.Unlock()
	return u.masked
}

// execCommand is one command of ExecReload, of type a(sasbttttuii): the program, its arguments, whether a failure counts,
// the times of the last run, its process, and how it ended.
type execCommand struct {
	Path                                     string
	Args                                     []string
	Ignore                                   bool
	StartWall, StartBoot, ExitWall, ExitBoot uint64
	PID                                      uint32
	Code, Status                             int32
}

// properties are those of a service that converge reads: org.freedesktop.systemd1(5).
func (u *unit) properties() map[string]dbus.Variant {
	u.mu.Lock()
	defer u.mu.Unlock()
	load, file := "loaded", "disabled"
	switch {
	case u.masked:
		load, file = "masked", "masked"
	case u.enabled:
		file = "enabled"
	}
	values := map[string]any{
		"Id": u.Name, "LoadState": load, "ActiveState": u.active, "SubState": u.sub, "UnitFileState": file,
		"Result": u.result, "InvocationID": u.id, "NRestarts": uint32(0), "MainPID": uint32(0), "ExecMainStatus": u.status,
		"NeedDaemonReload": false, "CanReload": u.Reload != 0, "Type": "simple", "RemainAfterExit": false,
		"InactiveExitTimestamp": u.started.wall, "InactiveExitTimestampMonotonic": u.started.boot,
		"ActiveEnterTimestamp": u.started.wall, "ActiveEnterTimestampMonotonic": u.started.boot,
		"ExecReload": u.reloads(), "Environment": []string{}, "EnvironmentFiles": []struct {
			Path   string
			Ignore bool
		}{},
	}
	if u.process != nil {
		values["MainPID"] = uint32(u.process.Process.Pid)
	}
	variants := map[string]dbus.Variant{}
	for name, v := range values {
		variants[name] = dbus.MakeVariant(v)
	}
	return variants
}

func (u *unit) reloads() []execCommand {
	if u.Reload == 0 {
		return []execCommand{}
	}
	c := execCommand{Path: "/bin/kill", Args: []string{"/bin/kill", "-s", unix.SignalName(u.Reload), "$MAINPID"}}
	if u.reloaded.wall != 0 {
		const exited = 1 // CLD_EXITED, sigaction(2)
		c.StartWall, c.StartBoot, c.ExitWall, c.ExitBoot, c.Code = u.reloaded.wall, u.reloaded.boot, u.reloaded.wall, u.reloaded.boot, exited
	}
	return []execCommand{c}
}

// starter starts processes that end when this one does, however it ends. The kernel ties them to the thread that started
// them (PR_SET_PDEATHSIG, prctl(2)), so one thread starts all, and lives as long as it can.
type starter struct{ requests chan func() }

func newStarter() *starter {
	s := &starter{requests: make(chan func())}
	go func() {
		runtime.LockOSThread()
		for f := range s.requests {
			f()
		}
	}()
	return s
}

func (s *starter) start(cmd *exec.Cmd, uid int) error {
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true, Pdeathsig: syscall.SIGTERM}
	if uid != 0 {
		cmd.SysProcAttr.Cloneflags = unix.CLONE_NEWUSER
		cmd.SysProcAttr.UidMappings = []syscall.SysProcIDMap{{ContainerID: uid, HostID: os.Geteuid(), Size: 1}}
		cmd.SysProcAttr.GidMappings = []syscall.SysProcIDMap{{ContainerID: uid, HostID: os.Getegid(), Size: 1}}
	}
	done := make(chan error)
	s.requests <- func() { done <- cmd.Start() }
	return <-done
}

// close lets the thread go; processes that are left are signalled by its end.
func (s *starter) close() { close(s.requests) }
