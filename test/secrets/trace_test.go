package secrets

import (
	"fmt"
	"os"
	"runtime"
	"strings"
	"syscall"

	"golang.org/x/sys/unix"
)

// program is one that was started: what everybody on a host can read of it, and what its own user can.
type program struct {
	main    bool // the one that was traced, not one that it started
	path    string
	cmdline []byte
	environ []byte
}

// traced runs a program and calls each with every program that it starts, itself first, at the moment of its exec(2): none is
// too short-lived to be seen. started, where it is not nil, gets the process number. It returns how the program ended.
func traced(argv, env []string, out, errs *os.File, started func(pid int), each func(program)) (syscall.WaitStatus, error) {
	type end struct {
		status syscall.WaitStatus
		err    error
	}
	done := make(chan end)
	go func() {
		runtime.LockOSThread() // ptrace(2) is by thread; it ends with this goroutine, and lets go of what is left
		t := tracer{each: each}
		t.run(argv, env, out, errs, started)
		done <- end{t.status, t.err}
	}()
	e := <-done
	return e.status, e.err
}

type tracer struct {
	each   func(program)
	main   int
	status syscall.WaitStatus
	err    error
}

func (t *tracer) run(argv, env []string, out, errs *os.File, started func(pid int)) {
	null, err := os.Open(os.DevNull)
	if err != nil {
		t.err = err
		return
	}
	defer func() { _ = null.Close() }()
	t.main, t.err = syscall.ForkExec(argv[0], argv, &syscall.ProcAttr{
		Dir: "/", Env: env, Files: []uintptr{null.Fd(), out.Fd(), errs.Fd()}, Sys: &syscall.SysProcAttr{Ptrace: true},
	})
	if t.err != nil {
		return
	}
	if _, t.err = syscall.Wait4(t.main, &t.status, 0, nil); t.err != nil {
		return
	}
	const follow = unix.PTRACE_O_TRACEEXEC | unix.PTRACE_O_TRACECLONE | unix.PTRACE_O_TRACEFORK | unix.PTRACE_O_TRACEVFORK
	if t.err = syscall.PtraceSetOptions(t.main, follow); t.err != nil {
		return
	}
	t.look(t.main)
	if started != nil {
		started(t.main)
	}
	if t.err == nil {
		t.err = syscall.PtraceCont(t.main, 0)
	}
	t.loop()
}

// loop lets all go on, from stop to stop, until the main program has ended.
func (t *tracer) loop() {
	fresh := map[int]bool{t.main: true} // seen before: the first SIGSTOP of the others comes from being traced
	for t.err == nil {
		var status syscall.WaitStatus
		pid, err := syscall.Wait4(-1, &status, syscall.WALL|unix.WNOTHREAD, nil)
		switch {
		case err == syscall.EINTR: //nolint:errorlint // a number of the system's
			continue
		case err != nil:
			t.err = fmt.Errorf("wait for what is traced: %w", err)
			return
		case pid == t.main && !status.Stopped():
			t.status = status
			return
		case !status.Stopped():
			continue
		}
		signal := status.StopSignal()
		switch {
		case signal == syscall.SIGTRAP:
			if status.TrapCause() == unix.PTRACE_EVENT_EXEC {
				t.look(pid)
			}
			signal = 0
		case signal == syscall.SIGSTOP && !fresh[pid]:
			signal = 0
		}
		fresh[pid] = true
		if err := syscall.PtraceCont(pid, int(signal)); err != nil && err != syscall.ESRCH { //nolint:errorlint // as above; it may have been killed
			t.err = fmt.Errorf("let process %d go on: %w", pid, err)
		}
	}
}

// look reads what /proc says of a process that stands at the beginning of its program.
func (t *tracer) look(pid int) {
	p := program{main: pid == t.main}
	var err error
	proc := fmt.Sprintf("/proc/%d/", pid)
	if p.path, err = os.Readlink(proc + "exe"); err == nil {
		if p.cmdline, err = os.ReadFile(proc + "cmdline"); err == nil {
			p.environ, err = os.ReadFile(proc + "environ")
		}
	}
	if err != nil {
		t.err = fmt.Errorf("look at a program that was started: %w", err)
		return
	}
	t.each(p)
}

func (p program) String() string {
	return p.path + " (" + strings.TrimRight(strings.ReplaceAll(string(p.cmdline), "\x00", " "), " ") + ")"
}
