package machines

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"slices"
	"sync"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/converge-agent/converge/test/machine"
)

// packages are what a role's machines have beside machine.Minimum. All are in Debian 12 and in Debian 13.
var packages = map[Role][]string{
	Instance: {"ruby", "ruby-aws-sdk-s3", "ruby-dotenv", "ruby-webrick"},
	Services: nil,
}

// Packages returns the Debian packages of a machine. Every driver's machines have these, and those that they depend on;
// recommended ones are left out. The releases have the same so far.
func Packages(role Role, _ string) []string { return append(machine.Minimum(), packages[role]...) }

// nspawn makes containers. Each has its own systemd, network and files over a base that is built once.
type nspawn struct {
	mu       sync.Mutex
	network  *machine.Network // nil when there are no machines
	machines []*machine.Machine
}

// Nspawn returns the driver whose machines are containers, and installs on this host what it needs. It needs root.
func Nspawn(ctx context.Context) (Driver, error) {
	if err := machine.Require(ctx); err != nil {
		return nil, fmt.Errorf("prepare this host for containers: %w", err)
	}
	return &nspawn{}, nil
}

func (*nspawn) Name() string     { return "nspawn" }
func (*nspawn) Has(Feature) bool { return false }

// Start makes the machines all at once, on a new network. Bases that are missing are built first, at once too.
func (d *nspawn) Start(ctx context.Context, specs ...Spec) ([]Machine, error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.network != nil {
		return nil, errors.New("start machines: stop those of the last start first")
	}
	network, err := machine.NewNetwork(ctx)
	if err != nil {
		return nil, fmt.Errorf("make a network for machines: %w", err)
	}
	d.network, d.machines = network, make([]*machine.Machine, len(specs))
	group, ctx := errgroup.WithContext(ctx)
	for i, spec := range specs {
		group.Go(func() (err error) {
			d.machines[i], err = startContainer(ctx, spec, network)
			return err
		})
	}
	if err := group.Wait(); err != nil {
		return nil, err
	}
	started := make([]Machine, len(specs))
	for i, m := range d.machines {
		started[i] = container{m}
	}
	return started, nil
}

// startContainer starts one machine, and on an instance host its nginx.
func startContainer(ctx context.Context, spec Spec, network *machine.Network) (*machine.Machine, error) {
	base, err := machine.Base(ctx, "", spec.Release, Packages(spec.Role, spec.Release)...)
	if err != nil {
		return nil, fmt.Errorf("build the base of machine %s: %w", spec.Name, err)
	}
	m, err := machine.Start(ctx, machine.Options{Base: base, Name: spec.Name, Network: network})
	if err != nil || spec.Role != Instance {
		return m, err
	}
	for _, command := range [][]string{{"systemctl", "unmask", "nginx.service"}, {"systemctl", "enable", "--now", "nginx.service"}} {
		r, err := m.Run(ctx, command...)
		if err == nil && r.Code != 0 {
			err = fmt.Errorf("run %q in machine %s: it ended with %d: %s", command, spec.Name, r.Code, r.Stderr)
		}
		if err != nil {
			return m, err
		}
	}
	return m, nil
}

// Stop ends the machines and removes all of them. Without any it does nothing.
func (d *nspawn) Stop(context.Context) error {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.network == nil {
		return nil
	}
	var errs []error
	for _, m := range slices.Backward(d.machines) {
		if m == nil {
			continue
		}
		if err := m.Stop(); err != nil {
			errs = append(errs, fmt.Errorf("stop machine %s: %w", m.Name, err))
		}
	}
	errs = append(errs, d.network.Close())
	d.network, d.machines = nil, nil
	return errors.Join(errs...)
}

// DialContext connects to an address of the machines' network.
func (d *nspawn) DialContext(ctx context.Context, network, addr string) (net.Conn, error) {
	d.mu.Lock()
	machines := d.network
	d.mu.Unlock()
	if machines == nil {
		return nil, fmt.Errorf("dial %s: no machines were started", addr)
	}
	return machines.DialContext(ctx, network, addr)
}

// container is a machine of this driver.
type container struct{ m *machine.Machine }

func (c container) Name() string { return c.m.Name }
func (c container) IP() string   { return c.m.IP }

func (c container) Run(ctx context.Context, command ...string) (machine.Result, error) {
	return c.m.Run(ctx, command...)
}

func (c container) Put(ctx context.Context, path, content string, mode fs.FileMode) error {
	return c.m.Put(ctx, path, content, mode)
}

func (c container) Get(ctx context.Context, path string) (string, error) { return c.m.Get(ctx, path) }
func (c container) Unplug(ctx context.Context) error                     { return c.m.Unplug(ctx) }
func (c container) Plug(ctx context.Context) error                       { return c.m.Plug(ctx) }

func (c container) Kill(ctx context.Context) error {
	return c.tell("kill", c.m.Kill(ctx))
}

// Boot and Reboot take a machine for up on which units have failed: scenarios break them, and look at what they need.
func (c container) Boot(ctx context.Context) error { return c.tell("boot", c.m.Boot(ctx)) }

func (c container) Reboot(ctx context.Context) error { return c.tell("reboot", c.m.Reboot(ctx)) }

// SetClock is always an error.
func (c container) SetClock(_ context.Context, to time.Time) error {
	return c.tell("set the clock", fmt.Errorf("to %s: containers share the clock of this host", to.Format(time.RFC3339)))
}

func (c container) Journal(ctx context.Context) (string, error) { return c.m.Journal(ctx) }

// tell adds to an error what was done to which machine.
func (c container) tell(what string, err error) error {
	var failed *machine.UnitsFailedError
	if err == nil || errors.As(err, &failed) {
		return nil
	}
	return fmt.Errorf("%s machine %s: %w", what, c.m.Name, err)
}
