// Package nginxtest runs a real nginx for tests, in a directory of its own and on ports of 127.0.0.1 alone. A test that
// needs it fails where the program is not installed.
package nginxtest

import (
	"context"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"testing"
	"time"

	"github.com/converge-agent/converge/host"
	"github.com/converge-agent/converge/nginx"
)

// Server is one nginx, with a configuration directory laid out as Debian's.
type Server struct {
	// Dir is the prefix; ConfDir, below it, holds nginx.conf, conf.d, sites-available and sites-enabled.
	Dir, ConfDir string
	cmd          *exec.Cmd
}

// config is Debian's nginx.conf as far as it matters, kept within the prefix. Run by root, the workers stay root, so that
// they may read the directories of a test.
const config = `user root;
worker_processes 1;
pid %[1]s/nginx.pid;
error_log %[1]s/error.log notice;
daemon off;
events { worker_connections 256; }
http {
    include /etc/nginx/mime.types;
    default_type application/octet-stream;
    access_log %[1]s/access.log;
    client_body_temp_path %[1]s/body;
    proxy_temp_path %[1]s/proxy;
    fastcgi_temp_path %[1]s/fastcgi;
    uwsgi_temp_path %[1]s/uwsgi;
    scgi_temp_path %[1]s/scgi;
    include %[2]s/conf.d/*.conf;
    include %[2]s/sites-enabled/*;
}
`

// New lays out the directories of an nginx below dir (t.TempDir() for one) and starts nothing.
func New(t testing.TB, dir string) *Server {
	t.Helper()
	s := &Server{Dir: dir, ConfDir: filepath.Join(dir, "etc")}
	for _, d := range []string{"conf.d", "sites-available", "sites-enabled"} {
		if err := os.MkdirAll(filepath.Join(s.ConfDir, d), 0o750); err != nil {
			t.Fatal(err)
		}
	}
	text := fmt.Sprintf(config, s.Dir, s.ConfDir)
	if err := os.WriteFile(s.MainFile(), []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	return s
}

// MainFile is the path of nginx.conf.
func (s *Server) MainFile() string { return filepath.Join(s.ConfDir, "nginx.conf") }

// WriteSite puts a site into sites-enabled.
func (s *Server) WriteSite(t testing.TB, name, text string) {
	t.Helper()
	if err := os.WriteFile(filepath.Join(s.ConfDir, "sites-enabled", name), []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
}

// Command returns the program with the arguments that choose this configuration, and more.
func (s *Server) Command(ctx context.Context, more ...string) *exec.Cmd {
	args := append([]string{"-p", s.Dir, "-c", s.MainFile(), "-e", filepath.Join(s.Dir, "error.log")}, more...)
	return exec.CommandContext(ctx, "nginx", args...)
}

// Test runs nginx -t and returns what it says.
func (s *Server) Test(t testing.TB) (string, error) {
	t.Helper()
	out, err := s.Command(t.Context(), "-t").CombinedOutput()
	return string(out), err
}

// Start runs nginx until the end of the test, and returns once port answers.
func (s *Server) Start(t testing.TB, port int) {
	t.Helper()
	s.cmd = s.Command(context.Background())
	if err := s.cmd.Start(); err != nil {
		t.Fatalf("start nginx: %v (install it: apt-get install nginx-light)", err)
	}
	t.Cleanup(func() { s.Stop(t) })
	if !poll(func() bool { return Answers(port) }) {
		t.Fatalf("nginx does not listen on %d\n%s", port, s.Log(t))
	}
}

// Stop ends it at once; it may be started again.
func (s *Server) Stop(t testing.TB) {
	t.Helper()
	if s.cmd == nil {
		return
	}
	if err := s.cmd.Process.Signal(os.Interrupt); err != nil {
		t.Logf("stop nginx: %v", err)
	}
	_ = s.cmd.Wait() // its status says how it ended, which is what was asked for
	s.cmd = nil
}

// Running reports whether it has been started and not stopped.
func (s *Server) Running() bool { return s.cmd != nil }

// PID is the process id of the master.
func (s *Server) PID() int { return s.cmd.Process.Pid }

// Reload makes the running nginx read its configuration again, and returns once only the new one is served.
func (s *Server) Reload(t testing.TB) {
	t.Helper()
	units := NewUnits(s)
	u, err := units.Unit(t.Context(), unitName)
	if err == nil {
		err = nginx.Reload(t.Context(), units, host.SystemProcesses(), host.SystemClock(), u)
	}
	if err != nil {
		t.Fatalf("%v\n%s", err, s.Log(t))
	}
}

// Log is the error log so far.
func (s *Server) Log(t testing.TB) string {
	t.Helper()
	b, err := os.ReadFile(filepath.Join(s.Dir, "error.log"))
	if err != nil && !os.IsNotExist(err) {
		t.Fatal(err)
	}
	return string(b)
}

// Answers reports whether somebody listens on a port of 127.0.0.1.
func Answers(port int) bool {
	ctx, cancel := context.WithTimeout(context.Background(), time.Second)
	defer cancel()
	var dialer net.Dialer
	c, err := dialer.DialContext(ctx, "tcp", fmt.Sprintf("127.0.0.1:%d", port))
	if err != nil {
		return false
	}
	_ = c.Close()
	return true
}

// patience is how long a test waits for a process on a machine that is busy with other things.
const patience = time.Minute

// Wait polls until ok, for a minute at most.
func Wait(t testing.TB, what string, ok func() bool) {
	t.Helper()
	if !poll(ok) {
		t.Fatalf("waited %s in vain: %s", patience, what)
	}
}

func poll(ok func() bool) bool {
	tick := time.NewTicker(10 * time.Millisecond)
	defer tick.Stop()
	for end := time.Now().Add(patience); !ok(); <-tick.C {
		if time.Now().After(end) {
			return false
		}
	}
	return true
}
