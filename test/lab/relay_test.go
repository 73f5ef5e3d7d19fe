package lab

import (
	"bufio"
	"context"
	"fmt"
	"net"
	"strconv"
	"testing"
)

func TestRelays(t *testing.T) {
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = ln.Close() }()
	go func() {
		for {
			conn, err := ln.Accept()
			if err != nil {
				return
			}
			line, _ := bufio.NewReader(conn).ReadString('\n')
			_, _ = fmt.Fprintf(conn, "got %s", line)
			_ = conn.Close()
		}
	}()
	dialed := make(chan string, 1)
	r, err := newRelays(t.Context(), func(ctx context.Context, network, addr string) (net.Conn, error) {
		dialed <- addr
		var d net.Dialer
		return d.DialContext(ctx, network, ln.Addr().String())
	}, 80)
	if err != nil {
		t.Fatal(err)
	}
	local, err := r.address("10.77.0.11")
	if err != nil {
		t.Fatal(err)
	}
	if again, _ := r.address("10.77.0.11"); again != local {
		t.Errorf("the same machine got %s and %s", local, again)
	}
	if other, _ := r.address("10.77.0.12"); other == local {
		t.Errorf("two machines got %s", other)
	}
	target := net.JoinHostPort(local, strconv.Itoa(r.here))
	conn, err := net.Dial("tcp", target)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := fmt.Fprintln(conn, "hello"); err != nil {
		t.Fatal(err)
	}
	answer, err := bufio.NewReader(conn).ReadString('\n')
	if answer != "got hello\n" || err != nil {
		t.Errorf("got %q, %v", answer, err)
	}
	if to := <-dialed; to != "10.77.0.11:80" {
		t.Errorf("the relay connected to %s", to)
	}
	r.close()
	if conn, err := net.Dial("tcp", target); err == nil {
		_ = conn.Close()
		t.Error("the relay listens after it was closed")
	}
}
