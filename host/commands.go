package host

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"os/user"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"time"

	"github.com/converge-agent/converge/diag"
	"golang.org/x/sys/unix"
)

const (
	// MaxOutput is how many bytes are kept of what a program writes to each of its outputs: the first and the last half.
	MaxOutput = 1 << 20
	// programPath is where programs are looked for: the default of Debian's login.defs(5) for root.
	programPath = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
	// grace is how long a cancelled program may take to end in order, before it is killed.
	grace = 10 * time.Second
	// lingering is how long to wait for output of what a program has left running when it ends.
	lingering = 2 * time.Second
)

type systemCommands struct{ grace time.Duration }

// SystemCommands returns the programs of this host. They are found in the system's directories, whatever PATH converge has,
// read nothing from standard input, and start in / unless told. A cancelled one gets SIGTERM, and SIGKILL ten seconds
// later, with all that it started and that stayed in its process group.
func SystemCommands() Commands { return systemCommands{grace} }

func (s systemCommands) Probe(ctx context.Context, c Command) (Result, error) { return s.Run(ctx, c) }

func (s systemCommands) Run(ctx context.Context, c Command) (Result, error) {
	if len(c.Args) == 0 {
		return Result{}, diag.Wrap(fs.ErrInvalid, "run a program", "Write which program.")
	}
	doing := "run " + c.Args[0]
	if err := ctx.Err(); err != nil {
		return Result{}, diag.Wrap(err, doing, "")
	}
	cmd, err := prepare(c)
	if err != nil {
		return Result{}, diag.Wrap(err, doing, "")
	}
	var stdout, stderr capped
	cmd.Stdout, cmd.Stderr = &stdout, &stderr
	if err := cmd.Start(); err != nil {
		return Result{}, startError(err, c)
	}
	err = s.wait(ctx, cmd)
	r := Result{Code: exitCode(cmd.ProcessState), Stdout: stdout.bytes(), Stderr: stderr.bytes()}
	if ctx.Err() != nil {
		return r, diag.Wrap(ctx.Err(), doing, "")
	}
	var exit *exec.ExitError
	if errors.As(err, &exit) || errors.Is(err, exec.ErrWaitDelay) {
		err = nil
	}
	return r, diag.Wrap(err, doing, "")
}

// wait waits until the program has ended. A cancelled one's process group is ended before its leader is reaped: as long as
// that has not happened, its number names no other group.
func (s systemCommands) wait(ctx context.Context, cmd *exec.Cmd) error {
	group := -cmd.Process.Pid
	ended := make(chan struct{})
	var watching sync.WaitGroup
	watching.Go(func() {
		select {
		case <-ended:
			return
		case <-ctx.Done():
		}
		_ = unix.Kill(group, unix.SIGTERM)
		select {
		case <-ended:
		case <-time.After(s.grace):
			_ = unix.Kill(group, unix.SIGKILL)
		}
	})
	_, err := retry(func() (struct{}, error) {
		return struct{}{}, unix.Waitid(unix.P_PID, cmd.Process.Pid, nil, unix.WEXITED|unix.WNOWAIT, nil)
	})
	close(ended)
	watching.Wait()
	if ctx.Err() != nil { // what the leader has left behind
		_ = unix.Kill(group, unix.SIGKILL)
	}
	if err != nil {
		return errors.Join(err, cmd.Wait())
	}
	return cmd.Wait()
}

// prepare fills an exec.Cmd: nothing in it comes from the environment of converge.
func prepare(c Command) (*exec.Cmd, error) {
	account := c.User
	if account == "" {
		account = strconv.Itoa(os.Geteuid())
	}
	home, credential, err := credentialOf(account)
	if err != nil {
		return nil, err
	}
	env := append([]string{"PATH=" + programPath, "LANG=C.UTF-8", "HOME=" + home}, c.Env...)
	cmd := &exec.Cmd{
		Args:        c.Args,
		Env:         env,
		Dir:         "/",
		SysProcAttr: &syscall.SysProcAttr{Setpgid: true, Credential: credential},
		WaitDelay:   lingering,
	}
	if c.Dir != "" {
		cmd.Dir = c.Dir
	}
	cmd.Path, err = findProgram(c.Args[0], env)
	return cmd, err
}

// credentialOf returns the home directory of an account, and its rights; nil where converge has them already.
func credentialOf(account string) (home string, credential *syscall.Credential, err error) {
	uid, err := SystemUsers().UID(account)
	if err != nil {
		return "", nil, err
	}
	u, err := user.LookupId(strconv.Itoa(uid))
	home = "/"
	if err == nil {
		home = u.HomeDir
	}
	if uid == os.Geteuid() {
		return home, nil, nil
	}
	if err != nil {
		return "", nil, NoAccount("user", account) // a number alone has no group to run with
	}
	ids, err := u.GroupIds()
	if err != nil {
		return "", nil, diag.Wrap(err, "look up the groups of "+account, "")
	}
	gid, err := strconv.ParseUint(u.Gid, 10, 32)
	if err != nil {
		return "", nil, diag.Wrap(err, "look up the group of "+account, "")
	}
	credential = &syscall.Credential{Uid: uint32(uid), Gid: uint32(gid)}
	for _, id := range ids {
		if n, err := strconv.ParseUint(id, 10, 32); err == nil {
			credential.Groups = append(credential.Groups, uint32(n))
		}
	}
	return home, credential, nil
}

// findProgram returns the file of a program, which is looked for in the last PATH of env when it has no slash.
func findProgram(name string, env []string) (string, error) {
	if strings.Contains(name, "/") {
		return name, nil
	}
	var dirs string
	for _, e := range env {
		if v, ok := strings.CutPrefix(e, "PATH="); ok {
			dirs = v
		}
	}
	for _, dir := range filepath.SplitList(dirs) {
		file := filepath.Join(dir, name)
		if info, err := os.Stat(file); err == nil && info.Mode().IsRegular() && info.Mode()&0o111 != 0 {
			return file, nil
		}
	}
	return "", diag.Wrap(exec.ErrNotFound, "", fmt.Sprintf("Install the program %s, or write its full path.", name))
}

func startError(err error, c Command) error {
	doing, fix := "run "+c.Args[0], ""
	switch {
	case errors.Is(err, syscall.EPERM) && c.User != "":
		fix = fmt.Sprintf("Run converge as root: only root may run a program as %s.", c.User)
	case errors.Is(err, fs.ErrNotExist):
		fix = "Install the program, or correct its path or the directory that it is to run in."
	case errors.Is(err, fs.ErrPermission):
		fix = "Make the program executable, and its directory accessible, for the user that it is to run as."
	}
	return diag.Wrap(err, doing, fix)
}

// exitCode is the status as a shell tells it: 128 + n for a program that signal n ended.
func exitCode(s *os.ProcessState) int {
	if s == nil {
		return -1
	}
	if w, ok := s.Sys().(syscall.WaitStatus); ok && w.Signaled() {
		return 128 + int(w.Signal())
	}
	return s.ExitCode()
}

// capped keeps the first and the last half of MaxOutput of what is written to it.
type capped struct {
	head, tail []byte
	left       int64 // bytes between the two that are gone
}

func (c *capped) Write(p []byte) (int, error) {
	const half = MaxOutput / 2
	n := min(len(p), half-len(c.head))
	c.head = append(c.head, p[:n]...)
	c.tail = append(c.tail, p[n:]...)
	if over := len(c.tail) - half; over > half { // cut seldom: each cut moves half a mebibyte
		c.drop(over)
	}
	return len(p), nil
}

func (c *capped) drop(n int) {
	c.left += int64(n)
	c.tail = slices.Delete(c.tail, 0, n)
}

func (c *capped) bytes() []byte {
	if over := len(c.tail) - MaxOutput/2; over > 0 {
		c.drop(over)
	}
	if c.left == 0 {
		return append(c.head, c.tail...)
	}
	gap := fmt.Appendf(nil, "\n[%d bytes left out]\n", c.left)
	return slices.Concat(c.head, gap, c.tail)
}
