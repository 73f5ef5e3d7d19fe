package lab

import (
	"context"
	"fmt"
	"io"
	"net"
	"strconv"
	"sync"
)

// relays lets Pebble, which connects and listens only where the process itself does, reach machines in another network:
// each of their addresses gets one of this host's loopback addresses, and connections to that are passed on.
type relays struct {
	dial  func(ctx context.Context, network, addr string) (net.Conn, error)
	ctx   context.Context
	there int // the port on the machines

	mu   sync.Mutex
	here int               // the port on the loopback addresses; 0 until the first
	byIP map[string]string // loopback address by machine's address
	open []net.Listener
}

func newRelays(ctx context.Context, dial func(context.Context, string, string) (net.Conn, error), port int) (*relays, error) {
	r := &relays{dial: dial, ctx: ctx, there: port, byIP: map[string]string{}}
	_, err := r.address("127.0.0.1") // takes the port that all will have
	return r, err
}

// address returns the loopback address that stands for ip.
func (r *relays) address(ip string) (string, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if local, ok := r.byIP[ip]; ok {
		return local, nil
	}
	local := fmt.Sprintf("127.77.0.%d", len(r.byIP)+1)
	var c net.ListenConfig
	ln, err := c.Listen(r.ctx, "tcp", net.JoinHostPort(local, strconv.Itoa(r.here)))
	if err != nil {
		return "", fmt.Errorf("relay to %s: %w", ip, err)
	}
	r.here = ln.Addr().(*net.TCPAddr).Port
	r.byIP[ip] = local
	r.open = append(r.open, ln)
	go r.accept(ln, net.JoinHostPort(ip, strconv.Itoa(r.there)))
	return local, nil
}

func (r *relays) accept(ln net.Listener, target string) {
	for {
		conn, err := ln.Accept()
		if err != nil {
			return // closed
		}
		go r.pass(conn, target)
	}
}

// pass passes bytes both ways until either side ends. A target that refuses is a connection that is closed at once.
func (r *relays) pass(from net.Conn, target string) {
	defer func() { _ = from.Close() }()
	to, err := r.dial(r.ctx, "tcp", target)
	if err != nil {
		return
	}
	defer func() { _ = to.Close() }()
	splice(from, to)
}

// splice passes bytes between two connections until either ends.
func splice(a, b net.Conn) {
	done := make(chan struct{}, 2)
	for _, way := range [][2]net.Conn{{a, b}, {b, a}} {
		go func() {
			_, _ = io.Copy(way[0], way[1]) // either end of a connection may go at any time
			done <- struct{}{}
		}()
	}
	<-done
}

func (r *relays) close() {
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, ln := range r.open {
		_ = ln.Close() // nobody is left to tell
	}
}
