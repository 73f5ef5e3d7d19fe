// Package rgw runs a real Ceph object gateway for tests: one monitor, one store in memory, and radosgw over TLS, all on a
// loopback address and with all their files in one directory. The programs are Debian's (test/ceph/packages.sh).
package rgw

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"text/template"
	"time"

	"github.com/converge-agent/converge/nginx/nginxtest"
)

// Options says what a gateway is made of.
type Options struct {
	// Dir holds everything that the gateway writes. It is made where it is missing, and never removed.
	Dir string
	// Certificate and Key are PEM files of the gateway's certificate for 127.0.0.1.
	Certificate, Key []byte
	// Client reaches the gateway: it trusts the certificate.
	Client *http.Client
}

// Server is a running gateway. It ends with Stop, or with the process.
type Server struct {
	Endpoint string // "https://127.0.0.1:40001"
	Region   string // that its requests are signed for

	dir       string
	processes []*process // in the order of their start
	release   []func()   // its ports
}

// User is somebody with a key. Buckets belong to who created them.
type User struct{ Key, Secret string }

// started bounds each step of the start: minutes, because a machine may be slow, and no test asserts the time.
const started = 5 * time.Minute

// attempts is how often a start is tried: a program that is no test may take a port that is free when it is chosen, before it is
// used.
const attempts = 3

// Start starts a gateway and waits until it answers.
func Start(ctx context.Context, o Options) (*Server, error) {
	if err := os.MkdirAll(o.Dir, 0o755); err != nil {
		return nil, err
	}
	var failed error
	for range attempts {
		dir, err := os.MkdirTemp(o.Dir, "rgw")
		if err != nil {
			return nil, err
		}
		s := &Server{Region: "default", dir: dir}
		if err = s.start(ctx, o); err == nil {
			return s, nil
		}
		s.Stop()
		failed = errors.Join(failed, err)
	}
	return nil, fmt.Errorf("start a Ceph object gateway: %w", failed)
}

// Stop ends the gateway's processes at once; what they keep is thrown away anyway. It may be called twice.
func (s *Server) Stop() {
	for i := len(s.processes) - 1; i >= 0; i-- {
		s.processes[i].kill()
	}
	for _, release := range s.release {
		release()
	}
	s.processes, s.release = nil, nil
}

// Ended is the error that a program of the gateway has ended by itself, with the last that it said; nil while all run.
func (s *Server) Ended() error {
	var ended error
	for _, p := range s.processes {
		select {
		case <-p.ended:
			ended = errors.Join(ended, fmt.Errorf("%s has ended by itself: %s\n%s", filepath.Base(p.Path), p.ProcessState, p.output()))
		default:
		}
	}
	return ended
}

// AddUser makes a user.
func (s *Server) AddUser(ctx context.Context, name string) (User, error) {
	u := User{Key: randomHex(10), Secret: randomHex(20)}
	_, err := s.run(ctx, "radosgw-admin", "user", "create", "--uid="+name, "--display-name="+name, "--access-key="+u.Key, "--secret="+u.Secret)
	return u, err
}

func (s *Server) start(ctx context.Context, o Options) error {
	var ports [2]int
	for i := range ports {
		port, release, err := nginxtest.ReservePort()
		if err != nil {
			return err
		}
		ports[i], s.release = port, append(s.release, release)
	}
	monitor, gateway := ports[0], ports[1]
	s.Endpoint = fmt.Sprintf("https://127.0.0.1:%d", gateway)
	if err := s.configure(o, monitor, gateway); err != nil {
		return err
	}
	for _, step := range []func(context.Context) error{s.startMonitor, s.startStore, s.startGateway} {
		if err := step(ctx); err != nil {
			return err
		}
	}
	return s.await(ctx, "radosgw", func(ctx context.Context) error {
		r, err := http.NewRequestWithContext(ctx, http.MethodGet, s.Endpoint, nil)
		if err != nil {
			return err
		}
		resp, err := o.Client.Do(r)
		if err != nil {
			return err
		}
		return resp.Body.Close()
	})
}

// configuration is ceph.conf: keys between all parts, one copy of everything, few placement groups, and none of the
// warnings and limits that are for real clusters. The monitor takes an address with a port, the store free ports of its own.
var configuration = template.Must(template.New("ceph.conf").Parse(`[global]
fsid = {{.ID}}
mon host = [v2:127.0.0.1:{{.Monitor}}]
mon initial members = a
public addr = 127.0.0.1
cluster addr = 127.0.0.1
public network = 127.0.0.0/8
auth cluster required = cephx
auth service required = cephx
auth client required = cephx
keyring = {{.Dir}}/keyring
osd pool default size = 1
osd pool default min size = 1
osd pool default pg num = 1
osd pool default pgp num = 1
osd pool default pg autoscale mode = off
osd crush chooseleaf type = 0
mon allow pool size one = true
mon max pg per osd = 2000
run dir = {{.Dir}}
admin socket =
log file = {{.Dir}}/$name.log
[mon]
mon data = {{.Dir}}/mon
mon data avail crit = 1
mon data avail warn = 2
[osd]
osd data = {{.Dir}}/osd
osd objectstore = memstore
memstore device bytes = 1073741824
[client]
rgw frontends = beast ssl_endpoint=127.0.0.1:{{.Gateway}} ssl_certificate={{.Dir}}/gateway.pem ssl_private_key={{.Dir}}/gateway.key
rgw data = {{.Dir}}/gateway
rgw enable usage log = false
rgw enable gc threads = false
crash dir = {{.Dir}}
`))

func (s *Server) configure(o Options, monitor, gateway int) error {
	for _, d := range []string{"mon", "osd", "gateway"} {
		if err := os.Mkdir(filepath.Join(s.dir, d), 0o755); err != nil {
			return err
		}
	}
	var text strings.Builder
	if err := configuration.Execute(&text, map[string]any{"ID": uuid(), "Dir": s.dir, "Monitor": monitor, "Gateway": gateway}); err != nil {
		return err
	}
	for name, content := range map[string][]byte{"ceph.conf": []byte(text.String()), "gateway.pem": o.Certificate, "gateway.key": o.Key} {
		if err := os.WriteFile(filepath.Join(s.dir, name), content, 0o600); err != nil {
			return err
		}
	}
	return nil
}

// startMonitor starts the monitor with the keys of all parts, and waits until it answers.
func (s *Server) startMonitor(ctx context.Context) error {
	monitor, _, _ := strings.Cut(s.setting("mon host"), "]")
	for _, command := range [][]string{
		{"ceph-authtool", "--create-keyring", "keyring", "--gen-key", "-n", "mon.", "--cap", "mon", "allow *"},
		{"ceph-authtool", "keyring", "--gen-key", "-n", "client.admin", "--cap", "mon", "allow *", "--cap", "osd", "allow *"},
		{"ceph-authtool", "keyring", "--gen-key", "-n", "osd.0", "--cap", "mon", "allow profile osd", "--cap", "osd", "allow *"},
		{"monmaptool", "--create", "--fsid", s.setting("fsid"), "--addv", "a", monitor + "]", "monmap"},
		{"ceph-mon", "-i", "a", "--mkfs", "--monmap", "monmap", "--keyring", "keyring"},
	} {
		if _, err := s.run(ctx, command[0], command[1:]...); err != nil {
			return err
		}
	}
	if err := s.spawn("ceph-mon", "-i", "a", "-f"); err != nil {
		return err
	}
	return s.await(ctx, "ceph-mon", func(ctx context.Context) error {
		_, err := s.run(ctx, "ceph", "--connect-timeout", "60", "mon", "stat")
		return err
	})
}

// startStore starts the one store. The gateway waits for it.
func (s *Server) startStore(ctx context.Context) error {
	id := uuid() // the monitor lets only that store have the number that it gives out
	for _, command := range [][]string{
		{"ceph", "osd", "new", id},
		{"ceph-osd", "-i", "0", "--mkfs", "--osd-uuid", id},
	} {
		if _, err := s.run(ctx, command[0], command[1:]...); err != nil {
			return err
		}
	}
	return s.spawn("ceph-osd", "-i", "0", "-f")
}

func (s *Server) startGateway(context.Context) error {
	return s.spawn("radosgw", "-n", "client.admin", "-f")
}

// setting is the value that ceph.conf has for a name.
func (s *Server) setting(name string) string {
	text, _ := os.ReadFile(filepath.Join(s.dir, "ceph.conf")) // written just now; without it the next command fails
	_, rest, _ := strings.Cut(string(text), "\n"+name+" = ")
	value, _, _ := strings.Cut(rest, "\n")
	return value
}

// await asks until ready has no error, the program has ended, or the time is up.
func (s *Server) await(ctx context.Context, program string, ready func(context.Context) error) error {
	ctx, cancel := context.WithTimeout(ctx, started)
	defer cancel()
	p := s.processes[len(s.processes)-1]
	tick := time.NewTicker(50 * time.Millisecond)
	defer tick.Stop()
	for {
		err := ready(ctx)
		if err == nil {
			return nil
		}
		select {
		case <-p.ended:
			return fmt.Errorf("%s ended at once: %w\n%s", program, err, p.output())
		case <-ctx.Done():
			return fmt.Errorf("%s is not ready: %w\n%s", program, err, p.output())
		case <-tick.C:
		}
	}
}

// run runs a program of Ceph to its end, in the gateway's directory.
func (s *Server) run(ctx context.Context, program string, args ...string) ([]byte, error) {
	ctx, cancel := context.WithTimeout(ctx, started)
	defer cancel()
	c := exec.CommandContext(ctx, program, args...)
	c.Dir, c.Env = s.dir, s.environment()
	out, err := c.Output()
	if err == nil {
		return out, nil
	}
	var exit *exec.ExitError
	if errors.As(err, &exit) {
		err = fmt.Errorf("%w: %s", err, last(exit.Stderr))
	}
	return nil, fmt.Errorf("%s %s: %w", program, strings.Join(args, " "), err)
}

func (s *Server) environment() []string {
	return append(os.Environ(), "CEPH_CONF="+filepath.Join(s.dir, "ceph.conf"))
}

func uuid() string {
	h := randomHex(16)
	return strings.Join([]string{h[:8], h[8:12], "4" + h[13:16], "8" + h[17:20], h[20:]}, "-")
}

func randomHex(n int) string {
	b := make([]byte, n)
	_, _ = rand.Read(b) // never fails: crypto/rand, Go 1.24
	return hex.EncodeToString(b)
}
