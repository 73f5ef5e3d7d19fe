package machine

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// Network is an Ethernet of its own that machines are plugged into, with no way out. The test process is on it as HostIP.
// It exists as long as somebody has it open, so nothing is left of it after a test process that was killed.
type Network struct {
	space *namespace

	mu   sync.Mutex
	next int // the last part of the next machine's address
}

// The addresses of every network. Since each is in a namespace of its own, all can have the same.
const (
	HostIP  = "10.77.0.1" // where servers of the test process may listen, see Network.Listen
	firstIP = 11
)

// NewNetwork makes a network. Close it when its machines have been stopped.
func NewNetwork(ctx context.Context) (*Network, error) {
	if err := Require(ctx); err != nil {
		return nil, err
	}
	space, err := newNamespace()
	if err != nil {
		return nil, err
	}
	n := &Network{space: space, next: firstIP}
	for _, args := range []string{
		"link set lo up",
		// By itself a bridge has the lowest address of its ports, and another one when a machine is unplugged: those that stay
		// would send to the old one until they ask again, for half a minute.
		"link add br0 address 02:00:00:00:00:01 type bridge",
		"addr add " + HostIP + "/24 dev br0",
		"link set br0 up",
	} {
		if err := space.ip(ctx, args); err != nil {
			return nil, errors.Join(err, n.Close())
		}
	}
	return n, nil
}

// Close lets the network go.
func (n *Network) Close() error { return n.space.close() }

// Listen opens a listener in the network: on HostIP for the machines, or on 127.0.0.1 for what Do runs there.
func (n *Network) Listen(network, address string) (net.Listener, error) {
	var l net.Listener
	err := n.space.do(func() (err error) {
		l, err = net.Listen(network, address)
		return err
	})
	return l, err
}

// DialContext connects to an address in the network; it fits http.Transport.
func (n *Network) DialContext(ctx context.Context, network, address string) (net.Conn, error) {
	host, _, err := net.SplitHostPort(address)
	if err != nil {
		return nil, err
	}
	if net.ParseIP(host) == nil {
		return nil, fmt.Errorf("dial %s in a machines' network: write an IP address, for it has no name server", address)
	}
	var c net.Conn
	err = n.space.do(func() (err error) {
		c, err = (&net.Dialer{}).DialContext(ctx, network, address)
		return err
	})
	return c, err
}

// Do runs f on a thread that is in the network: sockets that f itself opens, and processes that it starts, are there.
func (n *Network) Do(f func() error) error { return n.space.do(f) }

// plug connects a machine's namespace, and returns its address and the port of the network that it has.
func (n *Network) plug(ctx context.Context, space *namespace) (ip, port string, err error) {
	n.mu.Lock()
	last := n.next
	n.next++
	n.mu.Unlock()
	ip = "10.77.0." + strconv.Itoa(last)
	port = "port" + strconv.Itoa(last)
	for _, args := range []string{
		"link add " + port + " type veth peer name eth0 netns " + space.path(),
		"link set " + port + " master br0 up",
	} {
		if err := n.space.ip(ctx, args); err != nil {
			return "", "", err
		}
	}
	for _, args := range []string{
		"link set lo up",
		"addr add " + ip + "/24 dev eth0",
		"link set eth0 up",
		"route add default via " + HostIP,
	} {
		if err := space.ip(ctx, args); err != nil {
			return "", "", err
		}
	}
	return ip, port, nil
}

// namespace is a network namespace that lives as long as its file is open, or a process is in it.
type namespace struct{ file *os.File }

func newNamespace() (*namespace, error) {
	var file *os.File
	err := onThread(func() (err error) {
		if err = unix.Unshare(unix.CLONE_NEWNET); err != nil {
			return fmt.Errorf("make a network namespace: %w", err)
		}
		file, err = os.Open("/proc/thread-self/ns/net")
		return err
	})
	return &namespace{file}, err
}

func (s *namespace) close() error { return s.file.Close() }

// path is a name of the namespace for other processes, good while this one lives.
func (s *namespace) path() string {
	return filepath.Join("/proc", strconv.Itoa(os.Getpid()), "fd", strconv.Itoa(int(s.file.Fd())))
}

// do runs f on a thread that is in the namespace.
func (s *namespace) do(f func() error) error {
	return onThread(func() error {
		if err := unix.Setns(int(s.file.Fd()), unix.CLONE_NEWNET); err != nil {
			return fmt.Errorf("enter a network namespace: %w", err)
		}
		return f()
	})
}

// ip runs ip(8) in the namespace.
func (s *namespace) ip(ctx context.Context, args string) error {
	return s.do(func() error { return run(ctx, "ip", strings.Fields(args)...) })
}

// onThread runs f on a thread that ends with it: a goroutine that ends while locked takes its thread along.
func onThread(f func() error) error {
	done := make(chan error, 1)
	go func() {
		runtime.LockOSThread()
		done <- f()
	}()
	return <-done
}

// pause waits for some milliseconds, or for the end of ctx.
func pause(ctx context.Context, milliseconds int) error {
	select {
	case <-ctx.Done():
		return context.Cause(ctx)
	case <-time.After(time.Duration(milliseconds) * time.Millisecond):
		return nil
	}
}

// alive reports whether the process pid is there and no zombie.
func alive(pid int) bool {
	stat, err := os.ReadFile(filepath.Join("/proc", strconv.Itoa(pid), "stat"))
	if err != nil || syscall.Kill(pid, 0) != nil {
		return false
	}
	_, rest, _ := strings.Cut(string(stat), ") ")
	return !strings.HasPrefix(rest, "Z")
}
