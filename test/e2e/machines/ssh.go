package machines

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"strings"
	"sync"
	"time"

	"golang.org/x/crypto/ssh"

	"github.com/converge-agent/converge/test/machine"
)

// dialTime is how long a connection may take to come about, and a command to begin.
const dialTime = 30 * time.Second

// sshPool runs commands in a machine by SSH, as root. Connections are kept for the next command, since a new one costs an
// emulated processor half a second; each runs one command at a time.
type sshPool struct {
	addr   string
	config *ssh.ClientConfig

	mu   sync.Mutex
	idle []*ssh.Client
	all  map[*ssh.Client]struct{}
}

// newSSH reads what vagrant ssh-config says (ssh_config(5)).
func newSSH(config string) (*sshPool, error) {
	option := map[string]string{}
	for line := range strings.Lines(config) {
		key, value, _ := strings.Cut(strings.TrimSpace(line), " ")
		option[key] = strings.Trim(value, `"`)
	}
	key, err := os.ReadFile(option["IdentityFile"])
	if err != nil {
		return nil, fmt.Errorf("read Vagrant's key: %w", err)
	}
	signer, err := ssh.ParsePrivateKey(key)
	if err != nil {
		return nil, fmt.Errorf("read Vagrant's key %s: %w", option["IdentityFile"], err)
	}
	return &sshPool{
		addr: net.JoinHostPort(option["HostName"], option["Port"]),
		config: &ssh.ClientConfig{
			User: "root", Auth: []ssh.AuthMethod{ssh.PublicKeys(signer)},
			HostKeyCallback: ssh.InsecureIgnoreHostKey(), // it was made a minute ago, on this host's own network
		},
		all: map[*ssh.Client]struct{}{},
	}, nil
}

// run runs a command and returns when it has ended; when ctx ends, it and all of its process group are killed.
func (p *sshPool) run(ctx context.Context, stdin string, command []string) (machine.Result, error) {
	client, session, err := p.session(ctx)
	if err != nil {
		return machine.Result{}, err
	}
	var stdout bytes.Buffer
	var stderr leader
	session.Stdin, session.Stdout, session.Stderr = strings.NewReader(stdin), &stdout, &stderr
	done := make(chan struct{})
	go func() {
		defer close(done)
		err = session.Run(shell(command))
	}()
	select {
	case <-done:
	case <-ctx.Done():
		p.kill(stderr.pid())
		p.discard(client)
		<-done
		return machine.Result{}, context.Cause(ctx)
	}
	r := machine.Result{Stdout: stdout.String(), Stderr: stderr.rest()}
	var exit *ssh.ExitError
	if errors.As(err, &exit) {
		r.Code, err = exit.ExitStatus(), nil
	}
	if err != nil {
		p.discard(client)
		return r, err
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	if _, ok := p.all[client]; ok {
		p.idle = append(p.idle, client)
	}
	return r, nil
}

// kill ends a process group, as far as the machine still listens. A signal by SSH itself is not for root's commands
// (OpenSSH's session.c), and that a connection ends is no news to a command that writes nothing.
func (p *sshPool) kill(pid string) {
	if pid == "" {
		return // it had not begun
	}
	ctx, cancel := context.WithTimeout(context.Background(), dialTime)
	defer cancel()
	client, session, err := p.session(ctx)
	if err != nil {
		return
	}
	defer p.discard(client)
	_, _ = within(ctx, func() (any, error) { return nil, session.Run("kill -KILL -- -" + pid) }, func() { p.discard(client) })
}

// leader takes a standard error whose first line is the process that leads the command's group.
type leader struct {
	mu   sync.Mutex
	text []byte
}

func (l *leader) Write(b []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.text = append(l.text, b...)
	return len(b), nil
}

func (l *leader) pid() string {
	pid, _ := l.cut()
	return pid
}

func (l *leader) rest() string {
	_, rest := l.cut()
	return rest
}

// cut returns no process until the first line is there.
func (l *leader) cut() (pid, rest string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	pid, rest, found := strings.Cut(string(l.text), "\n")
	if !found {
		return "", pid
	}
	return pid, rest
}

// session returns one on a connection that nobody else uses: a kept one if it still works, else a new one.
func (p *sshPool) session(ctx context.Context) (*ssh.Client, *ssh.Session, error) {
	for {
		client, err := p.client(ctx)
		if err != nil {
			return nil, nil, err
		}
		session, err := within(ctx, func() (*ssh.Session, error) { return client.client.NewSession() }, func() { p.discard(client.client) })
		if err == nil {
			return client.client, session, nil
		}
		p.discard(client.client)
		if client.fresh || ctx.Err() != nil {
			return nil, nil, err
		}
	}
}

// connection is one that session gets.
type connection struct {
	client *ssh.Client
	fresh  bool // not kept from an earlier command
}

func (p *sshPool) client(ctx context.Context) (connection, error) {
	p.mu.Lock()
	if n := len(p.idle); n > 0 {
		client := p.idle[n-1]
		p.idle = p.idle[:n-1]
		p.mu.Unlock()
		return connection{client: client}, nil
	}
	p.mu.Unlock()
	dialer := net.Dialer{Timeout: dialTime}
	conn, err := dialer.DialContext(ctx, "tcp", p.addr)
	if err != nil {
		return connection{}, err
	}
	client, err := within(ctx, func() (*ssh.Client, error) {
		c, channels, requests, err := ssh.NewClientConn(conn, p.addr, p.config)
		if err != nil {
			return nil, err
		}
		return ssh.NewClient(c, channels, requests), nil
	}, func() { _ = conn.Close() })
	if err != nil {
		return connection{}, errors.Join(fmt.Errorf("log in at %s: %w", p.addr, err), conn.Close())
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	p.all[client] = struct{}{}
	return connection{client, true}, nil
}

// within waits for f, which ends when abort was called, until ctx ends or it has taken dialTime.
func within[T any](ctx context.Context, f func() (T, error), abort func()) (T, error) {
	ctx, cancel := context.WithTimeout(ctx, dialTime)
	defer cancel()
	stop := context.AfterFunc(ctx, abort)
	defer stop()
	got, err := f()
	if err != nil && ctx.Err() != nil {
		err = fmt.Errorf("%w: %w", ctx.Err(), err)
	}
	return got, err
}

// discard closes a connection, and ends what runs on it.
func (p *sshPool) discard(client *ssh.Client) {
	p.mu.Lock()
	delete(p.all, client)
	p.mu.Unlock()
	_ = client.Close() // it may have been closed by the other side
}

// close closes all connections. The pool may be used again.
func (p *sshPool) close() {
	p.mu.Lock()
	clients := p.all
	p.all, p.idle = map[*ssh.Client]struct{}{}, nil
	p.mu.Unlock()
	for client := range clients {
		_ = client.Close() // the machine may be gone
	}
}

// shell writes a command for root's shell, with a known environment. The shell says on standard error what process it is, and
// becomes the command.
func shell(command []string) string {
	const begin = "cd / && echo $$ >&2 && exec env -i PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin HOME=/root LANG=C.UTF-8"
	var b strings.Builder
	b.WriteString(begin)
	for _, word := range command {
		b.WriteString(" '" + strings.ReplaceAll(word, "'", `'\''`) + "'")
	}
	return b.String()
}
