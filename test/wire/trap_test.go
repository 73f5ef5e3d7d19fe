package wire

import (
	"io"
	"net"
	"net/http"
	"strings"
	"sync/atomic"
	"testing"

	"golang.org/x/sys/unix"
)

// proxyName is the host name of the proxy: one that is not the loopback's own, where programs use none.
const proxyName = "proxy.example.com"

// trap is a server that nobody is to call; it counts who does.
type trap struct {
	addr   string
	sprung atomic.Int64
}

// setTrap starts a server at an address until the end of the test, which fails if it was called by then.
func setTrap(t *testing.T, addr string) *trap {
	t.Helper()
	ln, err := net.Listen("tcp", addr)
	if err != nil {
		t.Fatal(err)
	}
	p := &trap{addr: ln.Addr().String()}
	done := make(chan struct{})
	go func() {
		defer close(done)
		for {
			c, err := ln.Accept()
			if err != nil {
				return // closed
			}
			p.sprung.Add(1)
			_ = c.Close()
		}
	}()
	t.Cleanup(func() {
		_ = ln.Close()
		<-done
		if n := p.sprung.Load(); n > 0 {
			t.Errorf("%s was called %d times", p.addr, n)
		}
	})
	return p
}

// metadata is where machines of several providers find keys that every program on them may have (AWS SDKs and Tools Reference
// Guide, "IMDS credential provider" and "Container credential provider").
var metadata = []string{"169.254.169.254:80", "169.254.170.2:80"}

// haveMetadata gives the sandbox's loopback the addresses of metadata services.
func haveMetadata(t *testing.T) {
	t.Helper()
	for i, addr := range metadata {
		ip, _, _ := strings.Cut(addr, ":")
		if err := addAddress("lo:"+string(rune('1'+i)), net.ParseIP(ip).To4()); err != nil {
			t.Fatalf("give the loopback the address %s: %v", ip, err)
		}
		setTrap(t, addr)
	}
}

// addAddress gives a network device an address more, under an alias (netdevice(7), SIOCSIFADDR).
func addAddress(alias string, ip net.IP) error {
	fd, err := unix.Socket(unix.AF_INET, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return err
	}
	defer func() { _ = unix.Close(fd) }()
	request, err := unix.NewIfreq(alias)
	if err != nil {
		return err
	}
	if err := request.SetInet4Addr(ip); err != nil {
		return err
	}
	return unix.IoctlIfreq(fd, unix.SIOCSIFADDR, request)
}

// proxy is a server that passes connections on, as those of companies do (RFC 9110, 9.3.6: CONNECT).
type proxy struct {
	addr   string
	passed atomic.Int64
}

// startProxy starts a proxy until the end of the test.
func startProxy(t *testing.T) *proxy {
	t.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	_, port, _ := net.SplitHostPort(ln.Addr().String())
	p := &proxy{addr: net.JoinHostPort(proxyName, port)}
	server := &http.Server{Handler: http.HandlerFunc(p.connect), ReadHeaderTimeout: 0}
	go func() { _ = server.Serve(ln) }() // ends with Close, and then says only that
	t.Cleanup(func() { _ = server.Close() })
	return p
}

func (p *proxy) connect(w http.ResponseWriter, r *http.Request) {
	p.passed.Add(1)
	to, err := new(net.Dialer).DialContext(r.Context(), "tcp", r.Host)
	if err != nil || r.Method != http.MethodConnect {
		http.Error(w, "no such host", http.StatusBadGateway)
		return
	}
	defer func() { _ = to.Close() }()
	from, early, err := http.NewResponseController(w).Hijack()
	if err != nil {
		return
	}
	defer func() { _ = from.Close() }()
	if _, err := io.WriteString(from, "HTTP/1.1 200 OK\r\n\r\n"); err != nil {
		return
	}
	go func() { // ends with the connections
		_, _ = io.Copy(to, early)
		_ = to.(*net.TCPConn).CloseWrite()
	}()
	_, _ = io.Copy(from, to)
}
