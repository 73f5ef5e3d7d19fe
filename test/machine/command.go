package machine

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
)

// Result is how a command in a machine ended.
type Result struct {
	Code           int // exit status; 128 + n when signal n ended it
	Stdout, Stderr string
}

// Run runs a command in the machine, as root and in /. A status other than 0 is no error.
func (m *Machine) Run(ctx context.Context, command ...string) (Result, error) {
	return m.RunWith(ctx, "", command...)
}

// RunWith is Run with a standard input.
func (m *Machine) RunWith(ctx context.Context, stdin string, command ...string) (Result, error) {
	if !m.Running() {
		return Result{}, fmt.Errorf("run %q: machine %s is off", command, m.Name)
	}
	cmd := m.command(ctx, command...)
	cmd.Stdin = strings.NewReader(stdin)
	var stdout, stderr bytes.Buffer
	cmd.Stdout, cmd.Stderr = &stdout, &stderr
	err := cmd.Run()
	r := Result{Stdout: stdout.String(), Stderr: stderr.String()}
	var exit *exec.ExitError
	if errors.As(err, &exit) && ctx.Err() == nil {
		r.Code = exit.ExitCode()
		if status := exit.Sys().(syscall.WaitStatus); status.Signaled() {
			r.Code = 128 + int(status.Signal())
		}
		return r, nil
	}
	if err != nil {
		return r, fmt.Errorf("run %q in machine %s: %w", command, m.Name, err)
	}
	return r, nil
}

// Process is a command that runs in a machine.
type Process struct{ cmd *exec.Cmd }

// Start starts a command in the machine, as root and in /. It ends when ctx does, with all that it started.
func (m *Machine) Start(ctx context.Context, command ...string) (*Process, error) {
	if !m.Running() {
		return nil, fmt.Errorf("start %q: machine %s is off", command, m.Name)
	}
	p := &Process{m.command(ctx, command...)}
	return p, p.cmd.Start()
}

// Kill sends SIGKILL to the command and all that it started, and returns when it has ended.
func (p *Process) Kill() {
	_ = p.cmd.Cancel() // it may have ended already
	_ = p.cmd.Wait()   // that it was killed is no news
}

// command prepares a command that enters all the machine's namespaces. It ends when ctx does, with all that it started.
func (m *Machine) command(ctx context.Context, command ...string) *exec.Cmd {
	args := append([]string{"--target", strconv.Itoa(m.leader), "--mount", "--uts", "--ipc", "--net", "--pid", "--cgroup",
		"--root", "--wd", "env", "-i", "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin", "HOME=/root",
		"LANG=C.UTF-8"}, command...)
	cmd := exec.CommandContext(ctx, "nsenter", args...)
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	cmd.Cancel = func() error { return syscall.Kill(-cmd.Process.Pid, syscall.SIGKILL) }
	return cmd
}

// Put writes a file in the machine, whole or not at all, and the directories on its way.
func (m *Machine) Put(ctx context.Context, path, content string, mode fs.FileMode) error {
	const script = `set -e; mkdir -p "$(dirname "$1")"; cat > "$1.put"; chmod "$2" "$1.put"; mv -T "$1.put" "$1"`
	r, err := m.RunWith(ctx, content, "sh", "-c", script, "sh", path, fmt.Sprintf("%o", mode.Perm()))
	if err == nil && r.Code != 0 {
		err = fmt.Errorf("put %s into machine %s: %s", path, m.Name, r.Stderr)
	}
	return err
}

// Get reads a file of the machine.
func (m *Machine) Get(ctx context.Context, path string) (string, error) {
	r, err := m.Run(ctx, "cat", path)
	if err == nil && r.Code != 0 {
		err = fmt.Errorf("get %s from machine %s: %s", path, m.Name, r.Stderr)
	}
	return r.Stdout, err
}

// Path returns the path by which this host reaches a file of the running machine, such as a socket. A symbolic link on the
// way leads out of the machine, so use it for what the machine does not let others link.
func (m *Machine) Path(path string) string {
	return filepath.Join("/proc", strconv.Itoa(m.leader), "root", path)
}
