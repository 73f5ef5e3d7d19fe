package trace

import (
	"errors"
	"fmt"
	"io"
	"os"
	"runtime"
	"sync/atomic"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// Run runs a program to its end.
func Run(p Program) (Result, error) {
	type outcome struct {
		result Result
		err    error
	}
	done := make(chan outcome)
	go func() {
		// ptrace(2) belongs to a thread. This one ends with the goroutine, and with it goes what it traced.
		runtime.LockOSThread()
		r, err := run(p)
		done <- outcome{r, err}
	}()
	o := <-done
	if o.err != nil {
		return o.result, fmt.Errorf("trace %s: %w", p.Args[0], o.err)
	}
	return o.result, nil
}

func run(p Program) (Result, error) {
	t := &tracer{Program: p, groups: map[int]int{}, halves: map[int]bool{}, started: map[int]bool{}}
	out, err := t.start()
	if err != nil {
		return Result{}, err
	}
	err = t.prepare()
	if err == nil {
		var late atomic.Bool
		if p.Limit > 0 {
			timer := time.AfterFunc(p.Limit, func() {
				late.Store(true)
				_ = unix.Kill(-t.pid, unix.SIGKILL)
				_ = unix.Kill(t.pid, unix.SIGKILL)
			})
			defer timer.Stop()
		}
		err = t.follow()
		if late.Load() {
			err = errors.Join(fmt.Errorf("it was killed because it had not ended after %s", p.Limit), err)
		}
	}
	if err != nil {
		_ = unix.Kill(t.pid, unix.SIGKILL)
		err = errors.Join(err, t.reap())
	}
	t.result.Stdout, t.result.Stderr = out()
	return t.result, err
}

// tracer is one program that is traced by this thread.
type tracer struct {
	Program
	pid     int
	result  Result
	groups  map[int]int  // the process of each thread
	halves  map[int]bool // threads that make the first half of a write, to be killed after it
	started map[int]bool // threads whose first stop has been seen
}

// start starts the program, which stops before its first instruction, and returns how to get what it prints once it has ended.
func (t *tracer) start() (output func() (string, string), err error) {
	null, err := os.Open(os.DevNull)
	if err != nil {
		return nil, err
	}
	defer func() { _ = null.Close() }()
	files := []uintptr{null.Fd()}
	var collected [2]chan string
	var writers []*os.File
	for i := range collected {
		r, w, err := os.Pipe()
		if err != nil {
			return nil, err
		}
		defer func() { _ = w.Close() }()
		writers = append(writers, w)
		collected[i] = make(chan string, 1)
		go func() {
			text, _ := io.ReadAll(r) // a pipe has no other errors than its end
			_ = r.Close()
			collected[i] <- string(text)
		}()
	}
	for _, w := range writers {
		files = append(files, w.Fd())
	}
	t.pid, err = syscall.ForkExec(t.Args[0], t.Args, &syscall.ProcAttr{
		Dir: t.Dir, Env: t.Env, Files: files, Sys: &syscall.SysProcAttr{Ptrace: true, Setpgid: true},
	})
	return func() (string, string) { return <-collected[0], <-collected[1] }, err
}

// prepare waits for the stop at the first instruction, and installs the filter.
func (t *tracer) prepare() error {
	var status unix.WaitStatus
	if _, err := wait(t.pid, &status); err != nil {
		return err
	}
	if !status.Stopped() || status.StopSignal() != unix.SIGTRAP {
		return fmt.Errorf("it did not stop at its beginning, but has the status %#x", status)
	}
	t.started[t.pid] = true
	options := unix.PTRACE_O_TRACESECCOMP | unix.PTRACE_O_TRACECLONE | unix.PTRACE_O_TRACEFORK | unix.PTRACE_O_TRACEVFORK |
		unix.PTRACE_O_TRACEEXEC | unix.PTRACE_O_TRACESYSGOOD | unix.PTRACE_O_EXITKILL
	if err := unix.PtraceSetOptions(t.pid, options); err != nil {
		return err
	}
	if err := installFilter(t.pid); err != nil {
		return err
	}
	return unix.PtraceCont(t.pid, 0)
}

// wait waits for a child of this thread, or for one that it traces; pid -1 is any.
func wait(pid int, status *unix.WaitStatus) (int, error) {
	for {
		got, err := unix.Wait4(pid, status, unix.WALL|unix.WNOTHREAD, nil)
		if !errors.Is(err, unix.EINTR) {
			return got, err
		}
	}
}

// follow serves all stops until the program and all that it started have ended.
func (t *tracer) follow() error {
	for {
		var status unix.WaitStatus
		tid, err := wait(-1, &status)
		if errors.Is(err, unix.ECHILD) {
			return nil
		}
		if err != nil {
			return err
		}
		if err := t.stop(tid, status); err != nil && !errors.Is(err, unix.ESRCH) { // ESRCH: it was killed meanwhile
			return err
		}
	}
}

// reap waits for the end of what has been killed.
func (t *tracer) reap() error {
	for {
		var status unix.WaitStatus
		tid, err := wait(-1, &status)
		if errors.Is(err, unix.ECHILD) {
			return nil
		}
		if err != nil {
			return err
		}
		if status.Stopped() {
			_ = unix.Kill(t.group(tid), unix.SIGKILL)
			_ = unix.PtraceCont(tid, 0)
		}
	}
}

// stop serves one stop of a thread, or notes its end.
func (t *tracer) stop(tid int, status unix.WaitStatus) error {
	switch {
	case status.Exited() || status.Signaled():
		if tid == t.pid {
			t.result.Code = status.ExitStatus()
		}
		delete(t.groups, tid)
		return nil
	case !status.Stopped():
		return nil
	}
	signal := status.StopSignal()
	switch {
	case signal == unix.SIGTRAP|0x80: // after a call that was to be seen to its end
		if t.halves[tid] {
			return t.kill()
		}
		return unix.PtraceCont(tid, 0)
	case status.TrapCause() == unix.PTRACE_EVENT_SECCOMP:
		return t.call(tid)
	case status.TrapCause() > 0:
		return unix.PtraceCont(tid, 0)
	case signal == unix.SIGSTOP && !t.started[tid]: // how a new thread begins
		t.started[tid] = true
		return unix.PtraceCont(tid, 0)
	}
	return unix.PtraceCont(tid, int(signal))
}

func (t *tracer) kill() error {
	t.result.Killed = true
	return unix.Kill(t.pid, unix.SIGKILL)
}

// call has the program's call decided upon. Calls of other programs that it started go through.
func (t *tracer) call(tid int) error {
	var regs unix.PtraceRegs
	if err := unix.PtraceGetRegs(tid, &regs); err != nil {
		return err
	}
	c, counts := t.describe(tid, &regs)
	if !counts || t.result.Killed {
		return unix.PtraceCont(tid, 0)
	}
	c.Index = len(t.result.Calls) + 1
	t.result.Calls = append(t.result.Calls, c)
	v := t.Decide(c)
	if v.Before != nil {
		v.Before()
	}
	if v.Signal != 0 {
		if err := unix.Kill(t.pid, unix.Signal(v.Signal)); err != nil {
			return err
		}
	}
	switch {
	case v.Half && c.Size > 1:
		t.halves[tid] = true
		regs.Rdx = uint64(c.Size / 2)
		if err := unix.PtraceSetRegs(tid, &regs); err != nil {
			return err
		}
		return unix.PtraceSyscall(tid, 0)
	case v.Kill || v.Half:
		if err := t.kill(); err != nil || t.group(tid) == t.pid {
			return err
		}
		return unix.PtraceCont(tid, 0) // a child that was about to become another program outlives it
	case v.Errno != 0:
		regs.Orig_rax = ^uint64(0) // no call: seccomp(2), SECCOMP_RET_TRACE
		regs.Rax = uint64(-int64(v.Errno))
		if err := unix.PtraceSetRegs(tid, &regs); err != nil {
			return err
		}
	}
	return unix.PtraceCont(tid, 0)
}
