package machines

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"time"

	"golang.org/x/sync/errgroup"
)

// The network of the virtual machines, as the Vagrantfile has it: this host's address on it, and what it is told by
// CONVERGE_NETWORK.
const (
	vmNetwork = "10.78.0"
	vmHost    = vmNetwork + ".1"
)

// vmRelease is the release of Debian in the box (test/e2e/box/build.sh).
const vmRelease = "bookworm"

// snapshot is the name of the state that machines are put back to: just up, with nothing done to them.
const snapshot = "clean"

// vagrant makes virtual machines with the Vagrantfile of this repository and libvirt. A machine that is started for the first
// time is made, which takes a minute or some; later it is put back to its snapshot.
type vagrant struct {
	repository string
	logs       string // the directory of vagrant's output and of the machines' consoles

	mu       sync.Mutex
	machines []*virtual // nil when there are none
}

// Vagrant returns the driver whose machines are virtual. It needs vagrant with its plugin for libvirt and a running libvirt, and
// it must be on the machines' network: test/e2e/vagrant.sh installs what is missing, and this runs inside test/e2e/libvirt.sh.
func Vagrant(ctx context.Context) (Driver, error) {
	const advice = "run the suite with make e2e-vagrant, or inside test/e2e/libvirt.sh"
	logs := os.Getenv("CONVERGE_CONSOLES")
	if logs == "" { // set by libvirt.sh: machines of this host's own libvirt are left alone
		return nil, errors.New("virtual machines are made in a libvirt of their own, and this is not in one; " + advice)
	}
	for _, program := range []string{"vagrant", "virsh"} {
		if _, err := exec.LookPath(program); err != nil {
			return nil, fmt.Errorf("look for what makes virtual machines: %w; %s", err, advice)
		}
	}
	if _, err := virsh(ctx, "version"); err != nil {
		return nil, fmt.Errorf("ask libvirt for its version: %w; %s", err, advice)
	}
	dir, err := os.Getwd()
	if err != nil {
		return nil, err
	}
	for ; dir != "/"; dir = filepath.Dir(dir) {
		if _, err := os.Stat(filepath.Join(dir, "Vagrantfile")); err == nil {
			return &vagrant{repository: dir, logs: logs}, nil
		}
	}
	return nil, errors.New("look for the Vagrantfile: no directory above the tests has one")
}

func (*vagrant) Name() string     { return "vagrant" }
func (*vagrant) Has(Feature) bool { return true }

// Start makes the machines, or puts them back to how they were when they had just been made. There is one services host, and as
// many instance hosts as are wanted.
func (d *vagrant) Start(ctx context.Context, specs ...Spec) ([]Machine, error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.machines != nil {
		return nil, errors.New("start machines: stop those of the last start first")
	}
	machines, err := d.assign(specs)
	if err != nil {
		return nil, err
	}
	d.machines = machines
	snapshots, err := d.snapshots(ctx)
	if err != nil {
		return nil, err
	}
	isNew := func(m *virtual) bool { return !snapshots[m.domain()] }
	if err := d.up(ctx, slices.DeleteFunc(slices.Clone(machines), func(m *virtual) bool { return !isNew(m) })); err != nil {
		return nil, err
	}
	if err := onNetwork(vmHost); err != nil {
		return nil, err
	}
	if err := each(machines, func(m *virtual) error {
		if isNew(m) {
			return nil
		}
		_, err := virsh(ctx, "snapshot-revert", m.domain(), snapshot, "--running")
		return m.tell("restore the snapshot of", err)
	}); err != nil {
		return nil, err
	}
	if err := d.connect(ctx, machines); err != nil {
		return nil, err
	}
	err = each(machines, func(m *virtual) error {
		if isNew(m) {
			if err := m.prepare(ctx); err != nil {
				return m.tell("prepare", err)
			}
		}
		return m.tell("start", m.begin(ctx))
	})
	if err != nil {
		return nil, err
	}
	started := make([]Machine, len(machines))
	for i, m := range machines {
		started[i] = m
	}
	return started, nil
}

// assign chooses the virtual machine of the Vagrantfile for each machine that is wanted.
func (d *vagrant) assign(specs []Spec) ([]*virtual, error) {
	var machines []*virtual
	instances, services := 0, 0
	for _, spec := range specs {
		if spec.Release != vmRelease {
			return nil, fmt.Errorf("start machine %s: virtual machines have Debian %s, not %s", spec.Name, vmRelease, spec.Release)
		}
		m := &virtual{spec: spec, vm: "services", ip: vmNetwork + ".2", logs: d.logs}
		if spec.Role == Instance {
			instances++
			m.vm, m.ip = "social"+strconv.Itoa(instances), vmNetwork+"."+strconv.Itoa(10+instances)
		} else if services++; services > 1 {
			return nil, fmt.Errorf("start machine %s: the Vagrantfile has one services host", spec.Name)
		}
		machines = append(machines, m)
	}
	return machines, nil
}

// snapshots returns the domains that have a snapshot.
func (d *vagrant) snapshots(ctx context.Context) (map[string]bool, error) {
	out, err := virsh(ctx, "list", "--all", "--name", "--with-snapshot")
	have := map[string]bool{}
	for _, domain := range strings.Fields(out) {
		have[domain] = true
	}
	return have, err
}

// up makes machines that are not there yet. What failed is tried once more from the beginning: on a machine that is busy with
// other things, a boot may take longer than vagrant waits.
func (d *vagrant) up(ctx context.Context, machines []*virtual) error {
	if len(machines) == 0 {
		return nil
	}
	var names []string
	for _, m := range machines {
		names = append(names, m.vm)
	}
	var errs []error
	for range 2 {
		// What there is of them was not finished, or is somebody's who had a look around.
		err := d.vagrant(ctx, "destroy", append([]string{"--force"}, names...)...)
		if err == nil {
			err = d.vagrant(ctx, "up", append([]string{"--no-provision"}, names...)...)
		}
		if err == nil {
			return nil
		}
		errs = append(errs, err)
		if ctx.Err() != nil {
			break
		}
	}
	return fmt.Errorf("make %s: %w", strings.Join(names, ", "), errors.Join(errs...))
}

// vagrant runs a command of vagrant. What it prints is kept in the directory of logs.
func (d *vagrant) vagrant(ctx context.Context, command string, args ...string) error {
	log, err := os.OpenFile(filepath.Join(d.logs, "vagrant.log"), os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o644)
	if err != nil {
		return err
	}
	defer func() { _ = log.Close() }() // what it holds is for people
	var out bytes.Buffer
	cmd := d.command(ctx, append([]string{command}, args...)...)
	cmd.Stdout, cmd.Stderr = log, &out
	err = cmd.Run()
	_, _ = log.Write(out.Bytes())
	if err != nil {
		return fmt.Errorf("%s: %w: %s; %s has what it printed", cmd, err, strings.TrimSpace(out.String()), log.Name())
	}
	return nil
}

// command prepares a command of vagrant, which ends with ctx.
func (d *vagrant) command(ctx context.Context, args ...string) *exec.Cmd {
	cmd := exec.CommandContext(ctx, "vagrant", args...)
	cmd.Dir = d.repository
	cmd.Env = append(os.Environ(), "CONVERGE_BARE=1", "CONVERGE_VMS=9", "CONVERGE_NETWORK="+vmNetwork, "CONVERGE_CONSOLES="+d.logs,
		"VAGRANT_DEFAULT_PROVIDER=libvirt", "VAGRANT_CHECKPOINT_DISABLE=1")
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	cmd.Cancel = func() error { return syscall.Kill(-cmd.Process.Pid, syscall.SIGKILL) }
	return cmd
}

// onNetwork says whether this process is on the machines' network, where this host has an address.
func onNetwork(host string) error {
	addresses, err := net.InterfaceAddrs()
	if err != nil {
		return err
	}
	for _, a := range addresses {
		if ip, ok := a.(*net.IPNet); ok && ip.IP.String() == host {
			return nil
		}
	}
	return fmt.Errorf("this process is not on the machines' network, for it has no interface with the address %s: "+
		"run it where libvirt runs, inside test/e2e/libvirt.sh", host)
}

// connect finds out how the machines are reached by SSH: on a network of their own, which no scenario unplugs.
func (d *vagrant) connect(ctx context.Context, machines []*virtual) error {
	return each(machines, func(m *virtual) error {
		var stderr bytes.Buffer
		cmd := d.command(ctx, "ssh-config", m.vm)
		cmd.Stderr = &stderr
		out, err := cmd.Output()
		if err != nil {
			return fmt.Errorf("%s: %w: %s", cmd, err, stderr.String())
		}
		m.ssh, err = newSSH(string(out))
		return m.tell("find the way to", err)
	})
}

// Stop switches the machines off. They and their snapshots are there until test/e2e/libvirt.sh ends, or vagrant destroy. With
// CONVERGE_KEEP in the environment they stay on, for whoever wants to look into them.
func (d *vagrant) Stop(ctx context.Context) error {
	d.mu.Lock()
	defer d.mu.Unlock()
	err := each(d.machines, func(m *virtual) error {
		if _, keep := os.LookupEnv("CONVERGE_KEEP"); keep {
			m.disconnect()
			return nil
		}
		return m.tell("stop", m.powerOff(ctx))
	})
	d.machines = nil
	return err
}

// DialContext connects to an address of the machines' network.
func (d *vagrant) DialContext(ctx context.Context, network, addr string) (net.Conn, error) {
	d.mu.Lock()
	started := d.machines != nil
	d.mu.Unlock()
	if !started {
		return nil, fmt.Errorf("dial %s: no machines were started", addr)
	}
	var dialer net.Dialer
	return dialer.DialContext(ctx, network, addr)
}

// each does something to all machines at once, and returns all errors.
func each(machines []*virtual, do func(*virtual) error) error {
	errs := make([]error, len(machines))
	var group errgroup.Group
	for i, m := range machines {
		group.Go(func() error {
			errs[i] = do(m)
			return nil
		})
	}
	_ = group.Wait() // the errors are in errs
	return errors.Join(errs...)
}

// virsh runs a command of libvirt's and returns what it printed.
func virsh(ctx context.Context, args ...string) (string, error) {
	var stderr bytes.Buffer
	cmd := exec.CommandContext(ctx, "virsh", append([]string{"--quiet", "--connect", "qemu:///system"}, args...)...)
	cmd.Stderr = &stderr
	cmd.WaitDelay = time.Second
	out, err := cmd.Output()
	if err != nil {
		err = fmt.Errorf("%s: %w: %s", cmd, err, strings.TrimSpace(stderr.String()))
	}
	return string(out), err
}
