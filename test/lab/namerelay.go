package lab

import (
	"bytes"
	"context"
	"crypto/tls"
	"fmt"
	"io"
	"net"
	"strings"
	"sync"
)

// NameRelay takes TLS connections at one address, and passes each on to the server whose name the client asks for (TLS
// server name indication, RFC 6066). So several servers of a lab are found on port 443, each under the name that it has on
// the internet. Its fields are not to be changed once it was opened.
type NameRelay struct {
	Addr string // where it takes connections: "10.77.0.1:443"
	// Targets are the addresses ("ip:port") of servers by their names; "*.name" stands for all names one label below.
	// Connections that ask for any other name are closed.
	Targets map[string]string
	// Listen and Dial open its listener and connect to the servers; where they are nil, in the process's own network.
	Listen func(network, addr string) (net.Listener, error)
	Dial   func(ctx context.Context, network, addr string) (net.Conn, error)

	mu       sync.Mutex
	listener net.Listener // nil while it is closed
	down     map[string]bool
	asked    map[string]int
	passing  map[net.Conn]string // the connections of clients, and the names in Targets that they asked for
}

// Open takes connections from now on, after Close again.
func (r *NameRelay) Open() error {
	listen := r.Listen
	if listen == nil {
		listen = net.Listen
	}
	ln, err := listen("tcp", r.Addr)
	if err != nil {
		return fmt.Errorf("relay connections by their names: %w", err)
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	r.listener, r.asked, r.passing = ln, map[string]int{}, map[net.Conn]string{}
	go r.accept(ln)
	return nil
}

func (r *NameRelay) accept(ln net.Listener) {
	for {
		conn, err := ln.Accept()
		if err != nil {
			return // closed
		}
		go r.pass(conn)
	}
}

// Close has connections refused from now on, and breaks those off that are passing. It may be called twice.
func (r *NameRelay) Close() {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.listener != nil {
		_ = r.listener.Close() // nobody is left to tell
		r.listener = nil
	}
	for conn := range r.passing {
		hangUp(conn)
	}
}

// SetDown has the connections to a server broken off, those that are passing as well as new ones at once, or not any more.
// The server is named as in Targets. They are reset before a byte was answered, which is as near to refusing as comes who
// must read the name first.
func (r *NameRelay) SetDown(name string, down bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.down == nil {
		r.down = map[string]bool{}
	}
	r.down[name] = down
	for conn, asked := range r.passing {
		if down && asked == name {
			hangUp(conn)
		}
	}
}

// Requests returns how many connections a server had since the relay was opened. The server is named as in Targets.
func (r *NameRelay) Requests(name string) int {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.asked[name]
}

func (r *NameRelay) pass(from net.Conn) {
	defer func() { _ = from.Close() }()
	asked, hello := clientHello(from)
	target := r.begin(from, asked)
	if target == "" {
		hangUp(from)
		return
	}
	defer r.end(from)
	dial := r.Dial
	if dial == nil {
		dial = new(net.Dialer).DialContext
	}
	to, err := dial(context.Background(), "tcp", target)
	if err != nil {
		return
	}
	defer func() { _ = to.Close() }()
	if _, err := to.Write(hello); err != nil {
		return
	}
	splice(from, to)
}

// begin counts a connection, and returns where it shall go: "" is nowhere.
func (r *NameRelay) begin(conn net.Conn, asked string) string {
	name := strings.ToLower(asked)
	if _, ok := r.Targets[name]; !ok {
		_, parent, _ := strings.Cut(name, ".")
		name = "*." + parent
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	r.asked[name]++
	target := r.Targets[name]
	if target == "" || r.down[name] || r.listener == nil {
		return ""
	}
	r.passing[conn] = name
	return target
}

func (r *NameRelay) end(conn net.Conn) {
	r.mu.Lock()
	defer r.mu.Unlock()
	delete(r.passing, conn)
}

// hangUp closes a connection with a TCP reset, so that nobody takes it for an orderly end.
func hangUp(conn net.Conn) {
	if t, ok := conn.(*net.TCPConn); ok {
		_ = t.SetLinger(0) // of a connection that has ended anyway
	}
	_ = conn.Close()
}

// clientHello reads the first message of a TLS client, and returns the name in it and its bytes.
func clientHello(conn net.Conn) (name string, read []byte) {
	var buf bytes.Buffer
	_ = tls.Server(readOnly{conn, io.TeeReader(conn, &buf)}, &tls.Config{ // it ends with io.EOF
		GetConfigForClient: func(h *tls.ClientHelloInfo) (*tls.Config, error) {
			name = h.ServerName
			return nil, io.EOF
		},
	}).Handshake()
	return name, buf.Bytes()
}

// readOnly is a connection that nothing is written to.
type readOnly struct {
	net.Conn
	r io.Reader
}

func (c readOnly) Read(p []byte) (int, error)  { return c.r.Read(p) }
func (c readOnly) Write(p []byte) (int, error) { return len(p), nil }
