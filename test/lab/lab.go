// Package lab is a small world of its own for tests and for the demo: S3 stores over TLS that behave like certain providers,
// an ACME authority with its name server, and sample Mastodon instances. All of it runs in the calling process and listens
// on one IP address.
//
// The stores are real: versitygw serves them, and a front gives each the manners of its provider as far as those are known.
// These manners are simulations, facts of November 2026: each file of a provider names the documents and reports that they
// come from, and says what is assumed; TestPersonalities has them in tables. None was seen at the provider itself by those
// who wrote it down here, but for MinIO, which was run.
package lab

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"sync/atomic"
	"time"
)

// Options says where a lab lives.
type Options struct {
	// Dir holds everything that the lab writes. It is made where it is missing, and never removed.
	Dir string
	// IP is the only address that the lab listens on; "127.0.0.1" where it is empty.
	IP string
	// Listen opens the lab's TCP listeners, for a lab in another network namespace; net.Listen where it is nil.
	Listen func(network, addr string) (net.Listener, error)
	// Dial connects to hosts that are certified, where they are in that namespace too. The ACME authority then connects,
	// and its name server listens, on addresses of 127.0.0.0/8 besides.
	Dial func(ctx context.Context, network, addr string) (net.Conn, error)
	// Names are names that the certificates of the lab's servers are for too, such as those that a provider's own servers
	// have. Who uses them finds the lab's address by a line in /etc/hosts.
	Names []string
	// Keep has the lab go on where an earlier one that kept its things in Dir was ended, even without warning: with the
	// same authority, and with the keys and buckets of its stores, which must be started in the same order. An ACME
	// authority is always a new one, because Pebble holds all that it knows in memory.
	Keep bool
}

// Lab is a running lab. Only one can run in a process at a time, because the gateway has global state; tests of a package
// share one from TestMain. While it runs, the working directory of the process is the gateway's: use absolute paths.
type Lab struct {
	Dir string
	IP  string
	// CAFile is the certificate, in PEM, of the authority that signed the certificates of the lab's servers.
	CAFile string

	listen  func(network, addr string) (net.Listener, error)
	dial    func(ctx context.Context, network, addr string) (net.Conn, error)
	names   []string
	keep    bool
	ca      *authority
	gateway *gateway
	ctx     context.Context
	cancel  context.CancelFunc
	back    string // the working directory to return to

	mu      sync.Mutex
	servers []*http.Server
	closers []func()
	stores  int // started so far
}

// running is set while a lab runs, for the gateway tolerates one in a process (versitygw 1.8.0, package embedgw).
var running atomic.Bool

// Start makes a lab and its authority. It ends with Close, or when ctx does.
func Start(ctx context.Context, o Options) (*Lab, error) {
	if !running.CompareAndSwap(false, true) {
		return nil, errors.New("a lab is running in this process already; share it, or close it first")
	}
	l := &Lab{Dir: o.Dir, IP: o.IP, listen: o.Listen, dial: o.Dial, names: o.Names, keep: o.Keep}
	l.ctx, l.cancel = context.WithCancel(ctx)
	if l.IP == "" {
		l.IP = "127.0.0.1"
	}
	if l.listen == nil {
		l.listen = net.Listen
	}
	if err := l.start(); err != nil {
		l.Close()
		return nil, fmt.Errorf("start the lab in %s: %w", o.Dir, err)
	}
	return l, nil
}

func (l *Lab) start() error {
	var err error
	if l.back, err = os.Getwd(); err != nil {
		return err
	}
	if l.Dir, err = filepath.Abs(l.Dir); err != nil {
		return err
	}
	if err := os.MkdirAll(l.Dir, 0o755); err != nil {
		return err
	}
	if l.ca, err = l.authority(); err != nil {
		return err
	}
	l.CAFile = filepath.Join(l.Dir, "ca.pem")
	if err := os.WriteFile(l.CAFile, l.ca.pem, 0o644); err != nil {
		return err
	}
	l.gateway, err = startGateway(l.ctx, l.Dir)
	return err
}

// Close ends all servers of the lab and returns to the working directory from before Start. It may be called twice.
func (l *Lab) Close() {
	if l.cancel == nil {
		return
	}
	l.cancel()
	l.mu.Lock()
	servers, closers := l.servers, l.closers
	l.servers, l.closers, l.cancel = nil, nil, nil
	l.mu.Unlock()
	for _, s := range servers {
		_ = s.Close() // what it still held open is of no use to anybody
	}
	for _, f := range closers {
		f()
	}
	if l.gateway != nil {
		l.gateway.wait()
	}
	if l.back != "" {
		_ = os.Chdir(l.back) // a directory removed meanwhile cannot be returned to
	}
	running.Store(false)
}

// serve answers TLS requests with h on a free port of the lab's address, and returns "ip:port".
func (l *Lab) serve(h http.Handler) (string, error) { return l.serveAs(h, nil) }

// serveAs is serve with certificates made for each client, where certificate is not nil and returns one.
func (l *Lab) serveAs(h http.Handler, certificate func(*tls.ClientHelloInfo) (*tls.Certificate, error)) (string, error) {
	cert, err := l.ca.issue([]net.IP{net.ParseIP(l.IP)}, slices.Concat(testNames, l.names))
	if err != nil {
		return "", err
	}
	ln, err := l.listen("tcp", net.JoinHostPort(l.IP, "0"))
	if err != nil {
		return "", err
	}
	config := serverTLS(cert)
	config.GetCertificate = certificate
	s := &http.Server{
		Handler:           h,
		TLSConfig:         config,
		ReadHeaderTimeout: time.Minute,
		ErrorLog:          silent,
	}
	l.mu.Lock()
	l.servers = append(l.servers, s)
	l.mu.Unlock()
	go func() { _ = s.ServeTLS(ln, "", "") }() // ends with Close, and then says only that
	return ln.Addr().String(), nil
}

// atClose registers f to be called by Close.
func (l *Lab) atClose(f func()) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.closers = append(l.closers, f)
}
