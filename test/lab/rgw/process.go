package rgw

import (
	"bytes"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"syscall"
)

// process is a program that runs until it is killed.
type process struct {
	*exec.Cmd
	log   string // the file of its output
	ended chan struct{}
}

// spawn starts a program in the gateway's directory. It does not outlive this process.
func (s *Server) spawn(program string, args ...string) error {
	p := &process{Cmd: exec.Command(program, args...), log: filepath.Join(s.dir, program+".out"), ended: make(chan struct{})}
	out, err := os.Create(p.log)
	if err != nil {
		return err
	}
	defer func() { _ = out.Close() }() // the program has its own
	p.Dir, p.Env, p.Stdout, p.Stderr = s.dir, s.environment(), out, out
	p.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	begun := make(chan error)
	go func() {
		runtime.LockOSThread() // for good: the signal of death comes when this thread ends (prctl(2), PR_SET_PDEATHSIG)
		defer close(p.ended)
		err := p.Start()
		begun <- err
		if err == nil {
			_ = p.Wait() // it is killed in the end
		}
	}()
	if err := <-begun; err != nil {
		return err
	}
	s.processes = append(s.processes, p)
	return nil
}

// kill ends the process, and waits until it is gone. One that has ended already is fine.
func (p *process) kill() {
	_ = p.Process.Kill()
	<-p.ended
}

// output is the end of what the process said.
func (p *process) output() string {
	text, _ := os.ReadFile(p.log) // there is nothing to say without it
	return last(text)
}

// last returns the last lines of a text.
func last(text []byte) string {
	const most = 2000
	text = bytes.TrimSpace(text)
	return string(text[max(0, len(text)-most):])
}
