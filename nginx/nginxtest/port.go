package nginxtest

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
	"os"
	"syscall"
	"testing"
)

// FreePort is ReservePort until the end of the test.
func FreePort(t testing.TB) int {
	t.Helper()
	port, release, err := ReservePort()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(release)
	return port
}

// ReservePort returns a port of 127.0.0.1 that nobody listens on, and that nobody else gets before release is called: the
// kernel gives it to no connection and no listener that lets it choose, and other tests see that it is taken.
func ReservePort() (port int, release func(), err error) {
	low, high, err := unchosen()
	if err != nil {
		return 0, nil, err
	}
	for range 1000 {
		port := low + rand.IntN(high-low)
		release, err := reserve(port)
		if errors.Is(err, syscall.EADDRINUSE) {
			continue
		}
		if err != nil {
			return 0, nil, err
		}
		if !taken(port) {
			return port, release, nil
		}
		release()
	}
	return 0, nil, fmt.Errorf("no port of %d to %d is free", low, high)
}

// unchosen is where ports lie that the kernel does not choose by itself (ip(7), ip_local_port_range).
func unchosen() (low, high int, err error) {
	text, err := os.ReadFile("/proc/sys/net/ipv4/ip_local_port_range")
	if err != nil {
		return 0, 0, err
	}
	var first, last int
	if _, err := fmt.Sscan(string(text), &first, &last); err != nil {
		return 0, 0, err
	}
	const lowest, highest, enough = 10_000, 65_536, 1000 // below are ports that services are known by
	switch {
	case first-lowest >= enough:
		return lowest, first, nil
	case highest-last-1 >= enough:
		return last + 1, highest, nil
	}
	return 0, 0, fmt.Errorf("the kernel chooses from all ports, %d to %d: lower net.ipv4.ip_local_port_range", first, last)
}

// reserve takes a name that stands for the port among tests, until release is called: EADDRINUSE where another has it. Names
// of abstract sockets belong to a network as its ports do, and end with the process (unix(7)).
func reserve(port int) (release func(), err error) {
	fd, err := syscall.Socket(syscall.AF_UNIX, syscall.SOCK_DGRAM|syscall.SOCK_CLOEXEC, 0)
	if err != nil {
		return nil, err
	}
	if err := syscall.Bind(fd, &syscall.SockaddrUnix{Name: fmt.Sprintf("@converge-test-port-%d", port)}); err != nil {
		_ = syscall.Close(fd)
		return nil, err
	}
	return func() { _ = syscall.Close(fd) }, nil
}

// taken reports whether a program of another kind has the port.
func taken(port int) bool {
	var config net.ListenConfig
	l, err := config.Listen(context.Background(), "tcp", fmt.Sprintf("127.0.0.1:%d", port))
	if err != nil {
		return true
	}
	_ = l.Close()
	return false
}
