package machine

import (
	"context"
	"fmt"
	"os/exec"
	"runtime"
	"syscall"
)

// process is a program that ends when this one does, however that is.
type process struct {
	cmd  *exec.Cmd
	done chan struct{} // closed when it has ended
}

// startProcess starts cmd in a session of its own. The kernel sends its parent-death signal when the thread that made a
// process ends (prctl(2), PR_SET_PDEATHSIG), so that thread is kept until the process has ended.
func startProcess(cmd *exec.Cmd) (*process, error) {
	cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true, Pdeathsig: syscall.SIGKILL}
	p := &process{cmd: cmd, done: make(chan struct{})}
	started := make(chan error)
	go func() {
		runtime.LockOSThread()
		err := cmd.Start()
		started <- err
		if err == nil {
			_ = cmd.Wait() // how it ended is told by what it printed
			close(p.done)
		}
	}()
	if err := <-started; err != nil {
		return nil, err
	}
	return p, nil
}

func (p *process) pid() int { return p.cmd.Process.Pid }

func (p *process) ended() bool {
	select {
	case <-p.done:
		return true
	default:
		return false
	}
}

// kill ends it. It does no harm when it has ended already.
func (p *process) kill() { _ = p.cmd.Process.Kill() }

// wait waits until it has ended.
func (p *process) wait(ctx context.Context) error {
	select {
	case <-p.done:
		return nil
	case <-ctx.Done():
		return fmt.Errorf("wait for process %d to end: %w", p.pid(), context.Cause(ctx))
	}
}

// pause waits for some milliseconds; it is an error when the process ends meanwhile.
func (p *process) pause(ctx context.Context, milliseconds int) error {
	if p.ended() {
		return fmt.Errorf("it ended: %s", p.cmd.ProcessState)
	}
	return pause(ctx, milliseconds)
}
