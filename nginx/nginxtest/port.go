package nginxtest

import (
	"fmt"
	"math/rand/v2"
	"net"
	"os"
	"syscall"
	"testing"
)

// FreePort returns a port of 127.0.0.1 that nobody listens on, and that nobody else gets before the end of the test: the
// kernel gives it to no connection and no listener that lets it choose, and other tests see that it is taken.
func FreePort(t testing.TB) int {
	t.Helper()
	low, high := unchosen(t)
	for range 1000 {
		port := low + rand.IntN(high-low)
		if reserve(t, port) && !taken(t, port) {
			return port
		}
	}
	t.Fatalf("no port of %d to %d is free", low, high)
	return 0
}

// unchosen is where ports lie that the kernel does not choose by itself (ip(7), ip_local_port_range).
func unchosen(t testing.TB) (low, high int) {
	t.Helper()
	text, err := os.ReadFile("/proc/sys/net/ipv4/ip_local_port_range")
	if err != nil {
		t.Fatal(err)
	}
	var first, last int
	if _, err := fmt.Sscan(string(text), &first, &last); err != nil {
		t.Fatal(err)
	}
	const lowest, highest, enough = 10_000, 65_536, 1000 // below are ports that services are known by
	switch {
	case first-lowest >= enough:
		return lowest, first
	case highest-last-1 >= enough:
		return last + 1, highest
	}
	t.Fatalf("the kernel chooses from all ports, %d to %d: lower net.ipv4.ip_local_port_range", first, last)
	return 0, 0
}

// reserve takes a name that stands for the port among tests, as long as this one runs. Names of abstract sockets belong to a
// network as its ports do, and end with the process (unix(7)).
func reserve(t testing.TB, port int) bool {
	t.Helper()
	fd, err := syscall.Socket(syscall.AF_UNIX, syscall.SOCK_DGRAM|syscall.SOCK_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	if err := syscall.Bind(fd, &syscall.SockaddrUnix{Name: fmt.Sprintf("@converge-test-port-%d", port)}); err != nil {
		_ = syscall.Close(fd)
		return false
	}
	t.Cleanup(func() { _ = syscall.Close(fd) })
	return true
}

// taken reports whether a program of another kind has the port.
func taken(t testing.TB, port int) bool {
	t.Helper()
	var config net.ListenConfig
	l, err := config.Listen(t.Context(), "tcp", fmt.Sprintf("127.0.0.1:%d", port))
	if err != nil {
		return true
	}
	_ = l.Close()
	return false
}
