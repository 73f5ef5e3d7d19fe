package browser

import (
	"context"
	"fmt"
	"io"
	"log"
	"net"
	"net/http"
	"net/http/httputil"
	"strings"
	"sync"
)

// dialer connects to an address, as net.Dialer.DialContext does.
type dialer func(ctx context.Context, network, addr string) (net.Conn, error)

// proxy is the only way out that the browser has: an HTTP proxy on the loopback interface (RFC 9110 section 9.3.6 for CONNECT,
// RFC 9112 section 3.2.2 for plain http) that knows a few names and refuses all others.
type proxy struct {
	hosts   map[string]string
	dial    dialer
	addr    string
	server  *http.Server
	ctx     context.Context // ends with the proxy, and the tunnels with it
	cancel  context.CancelFunc
	tunnels sync.WaitGroup
}

func startProxy(hosts map[string]string, dial dialer) (*proxy, error) {
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return nil, fmt.Errorf("listening for the browser: %w", err)
	}
	p := &proxy{hosts: map[string]string{}, dial: dial, addr: listener.Addr().String()}
	for name, ip := range hosts {
		p.hosts[strings.ToLower(name)] = ip
	}
	p.ctx, p.cancel = context.WithCancel(context.Background())
	plain := &httputil.ReverseProxy{
		Rewrite:   func(*httputil.ProxyRequest) {}, // the request is already addressed to its server
		Transport: &http.Transport{DialContext: p.connect, DisableKeepAlives: true},
		// To the browser a server that cannot be reached must not look like one that answers with an error.
		ErrorHandler: func(http.ResponseWriter, *http.Request, error) { panic(http.ErrAbortHandler) },
		ErrorLog:     log.New(io.Discard, "", 0),
	}
	p.server = &http.Server{
		BaseContext: func(net.Listener) context.Context { return p.ctx },
		ErrorLog:    log.New(io.Discard, "", 0),
		Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			if r.Method == http.MethodConnect {
				p.tunnel(w, r)
				return
			}
			plain.ServeHTTP(w, r)
		}),
	}
	go func() { _ = p.server.Serve(listener) }() // it ends with Close
	return p, nil
}

// connect dials a server by its name, which must be one of the known.
func (p *proxy) connect(ctx context.Context, network, addr string) (net.Conn, error) {
	name, port, err := net.SplitHostPort(addr)
	if err != nil {
		return nil, err
	}
	ip, known := p.hosts[strings.ToLower(name)]
	if !known {
		return nil, fmt.Errorf("%s is not among the hosts that this browser may reach", name)
	}
	return p.dial(ctx, network, net.JoinHostPort(ip, port))
}

func (p *proxy) tunnel(w http.ResponseWriter, r *http.Request) {
	p.tunnels.Add(1)
	defer p.tunnels.Done()
	server, err := p.connect(r.Context(), "tcp", r.Host)
	if err != nil {
		http.Error(w, err.Error(), http.StatusBadGateway)
		return
	}
	defer func() { _ = server.Close() }()
	client, buffered, err := http.NewResponseController(w).Hijack()
	if err != nil {
		return
	}
	defer func() { _ = client.Close() }()
	defer context.AfterFunc(p.ctx, func() { _, _ = client.Close(), server.Close() })()
	if _, err := io.WriteString(client, "HTTP/1.1 200 Connection established\r\n\r\n"); err != nil {
		return
	}
	var both sync.WaitGroup
	both.Go(func() { pour(server, buffered) })
	both.Go(func() { pour(client, server) })
	both.Wait()
}

// pour copies until the source ends, and passes the end on while the other direction may still flow.
func pour(to net.Conn, from io.Reader) {
	_, _ = io.Copy(to, from) // a connection that breaks is the browser's to report
	if half, ok := to.(interface{ CloseWrite() error }); ok {
		_ = half.CloseWrite()
		return
	}
	_ = to.Close()
}

// close ends all connections and waits until they are gone.
func (p *proxy) close() error {
	p.cancel()
	err := p.server.Close()
	p.tunnels.Wait()
	return err
}
