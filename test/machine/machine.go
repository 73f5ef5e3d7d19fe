// Package machine boots whole machines for tests: Debian with a real systemd as process 1 and a real D-Bus, in
// systemd-nspawn, on a network of their own. A machine boots in about half a second and shares the kernel and the clock of
// this host. It needs root.
//
// Machines end with the test process, whatever ends that: processes by their parent-death signal, mounts and network
// namespaces because nothing holds them any more. Only a directory of files, and an empty cgroup, can be left.
package machine

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
)

// Options says what machine to start.
type Options struct {
	Base string // the root directory that it sees, which is never written to; see Base
	Dir  string // where its own files are kept while it exists; "" is a new temporary directory
	Name string // its host name; "" is "machine"
	// Network is what it is plugged into; nil is a network of its own.
	Network *Network
}

// Machine is one running machine.
type Machine struct {
	Name    string
	IP      string // on Network
	Network *Network

	dir     string
	port    string // of Network
	space   *namespace
	cgroups []string
	ownsNet bool
	ownsDir bool
	base    string
	outer   *process // what it runs in; nil before its first boot
	leader  int      // its process 1, as this host counts
	console *os.File
}

// Start makes a machine and waits until it is up. Whatever happens, call Stop on a machine that was returned.
func Start(ctx context.Context, o Options) (*Machine, error) {
	if err := Require(ctx); err != nil {
		return nil, err
	}
	m := &Machine{Name: o.Name, Network: o.Network, dir: o.Dir, base: o.Base}
	if m.Name == "" {
		m.Name = "machine"
	}
	removeStale()
	err := m.prepare(ctx)
	if err == nil {
		err = m.Boot(ctx)
	}
	if err != nil {
		return nil, errors.Join(fmt.Errorf("start machine %s: %w", m.Name, err), m.Stop())
	}
	return m, nil
}

// prepare makes all that the machine needs besides its processes.
func (m *Machine) prepare(ctx context.Context) (err error) {
	if m.Network == nil {
		m.ownsNet = true
		if m.Network, err = NewNetwork(ctx); err != nil {
			return err
		}
	}
	if m.dir == "" {
		m.ownsDir = true
		if m.dir, err = os.MkdirTemp("", ownPrefix()); err != nil {
			return err
		}
	}
	if m.dir, err = filepath.Abs(m.dir); err != nil {
		return err
	}
	for _, sub := range []string{"upper/etc", "work", "root"} {
		if err := os.MkdirAll(filepath.Join(m.dir, sub), 0o755); err != nil {
			return err
		}
	}
	if m.space, err = newNamespace(); err != nil {
		return err
	}
	if m.IP, m.port, err = m.Network.plug(ctx, m.space); err != nil {
		return err
	}
	if err := m.identify(); err != nil {
		return err
	}
	if m.console, err = os.OpenFile(filepath.Join(m.dir, "console.log"), os.O_CREATE|os.O_APPEND|os.O_RDWR, 0o644); err != nil {
		return err
	}
	return m.makeCgroups()
}

// identify gives the machine a name and an identity, in the layer over its base.
func (m *Machine) identify() error {
	id := make([]byte, 16)
	_, _ = rand.Read(id) // never fails: crypto/rand
	hosts := fmt.Sprintf("127.0.0.1 localhost\n%s controller\n%s %s\n", HostIP, m.IP, m.Name)
	for name, content := range map[string]string{
		"hostname": m.Name + "\n", "machine-id": hex.EncodeToString(id) + "\n", "hosts": hosts, "resolv.conf": "",
	} {
		if err := os.WriteFile(filepath.Join(m.dir, "upper/etc", name), []byte(content), 0o644); err != nil {
			return err
		}
	}
	return nil
}

// makeCgroups gives the machine a cgroup in each hierarchy where systemd looks: the name=systemd and unified ones of a
// hybrid host, or the one of a host with cgroup v2 alone.
func (m *Machine) makeCgroups() error {
	var hierarchies []string
	for _, h := range []string{"/sys/fs/cgroup/systemd", "/sys/fs/cgroup/unified"} {
		if _, err := os.Stat(filepath.Join(h, "cgroup.procs")); err == nil {
			hierarchies = append(hierarchies, h)
		}
	}
	if hierarchies == nil {
		hierarchies = []string{"/sys/fs/cgroup"}
	}
	suffix := make([]byte, 4)
	_, _ = rand.Read(suffix) // never fails: crypto/rand
	for _, h := range hierarchies {
		cgroup := filepath.Join(h, ownPrefix()+hex.EncodeToString(suffix))
		if err := os.Mkdir(cgroup, 0o755); err != nil {
			return err
		}
		m.cgroups = append(m.cgroups, cgroup)
	}
	return nil
}

// bootScript joins the cgroups, mounts the root where only the machine and its processes see it, and runs nspawn. It is
// process 1 of a process namespace, so nothing in there outlives it: nspawn by itself leaves a machine running when it is
// killed. File 3 is the machine's network namespace; nspawn closes what it inherits, so the script holds it open for it.
const bootScript = `set -e
base=$1 dir=$2 name=$3; shift 3
for cgroup; do echo 0 > "$cgroup/cgroup.procs"; done
mount -t overlay overlay -o "lowerdir=$base,upperdir=$dir/upper,workdir=$dir/work" "$dir/root"
systemd-nspawn --quiet --register=no --keep-unit --network-namespace-path=/proc/1/fd/3 --machine="$name" \
  --resolv-conf=off --timezone=off --link-journal=no --console=pipe --kill-signal=SIGRTMIN+3 --boot --directory="$dir/root"`

// UnitsFailedError says that a machine is up, but not all that it should run.
type UnitsFailedError struct {
	Units string // as systemctl --failed lists them, one on a line
}

func (e *UnitsFailedError) Error() string { return "units failed: " + e.Units }

// Boot switches a machine on that is off, after Kill or a poweroff inside, and waits until all its units are up. It is an
// UnitsFailedError when some have failed; the machine is on then.
func (m *Machine) Boot(ctx context.Context) error {
	if m.Running() {
		return fmt.Errorf("boot: machine %s is on already", m.Name)
	}
	args := []string{"--mount", "--mount-proc", "--pid", "--fork", "--kill-child", "sh", "-c", bootScript, "sh", m.base, m.dir, m.Name}
	cmd := exec.Command("unshare", append(args, m.cgroups...)...)
	cmd.Stdout, cmd.Stderr = m.console, m.console
	cmd.ExtraFiles = []*os.File{m.space.file}
	p, err := startProcess(cmd)
	if err != nil {
		return err
	}
	m.outer, m.leader = p, 0
	if err := m.waitUp(ctx); err != nil {
		return fmt.Errorf("boot: %w; the console says: %s", err, m.consoleTail())
	}
	return nil
}

// waitUp waits for process 1, and for all units that it starts.
func (m *Machine) waitUp(ctx context.Context) error {
	for {
		if m.leader = payload(m.outer.pid()); m.leader != 0 {
			break
		}
		if err := m.outer.pause(ctx, 10); err != nil {
			return err
		}
	}
	for {
		r, err := m.Run(ctx, "systemctl", "is-system-running", "--wait")
		switch state := strings.TrimSpace(r.Stdout); {
		case err == nil && state == "running":
			return nil
		case err == nil && state == "degraded":
			failed, _ := m.Run(ctx, "systemctl", "--failed", "--no-legend", "--plain")
			return &UnitsFailedError{failed.Stdout}
		}
		if err := m.outer.pause(ctx, 20); err != nil {
			return err
		}
	}
}

// payload returns process 1 of the machine that runs below the process with that pid, or 0 as long as there is none.
func payload(outer int) int {
	children, err := os.ReadFile(fmt.Sprintf("/proc/%d/task/%d/children", outer, outer))
	if err != nil {
		return 0
	}
	for _, field := range strings.Fields(string(children)) {
		pid, err := strconv.Atoi(field)
		if err != nil {
			continue
		}
		if isInit(pid) {
			return pid
		}
		if below := payload(pid); below != 0 {
			return below
		}
	}
	return 0
}

// isInit reports whether the process is a systemd that is process 1 of its namespace.
func isInit(pid int) bool {
	comm, _ := os.ReadFile(fmt.Sprintf("/proc/%d/comm", pid)) // of a process that has ended there is none
	status, _ := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid))
	_, ids, _ := strings.Cut(string(status), "NSpid:")
	ids, _, _ = strings.Cut(ids, "\n")
	pids := strings.Fields(ids)
	return strings.TrimSpace(string(comm)) == "systemd" && len(pids) > 1 && pids[len(pids)-1] == "1"
}

// Running reports whether the machine is on.
func (m *Machine) Running() bool { return m.outer != nil && !m.outer.ended() && m.leader != 0 }

// Reboot restarts the machine from inside and waits until it is up again. Its files stay.
func (m *Machine) Reboot(ctx context.Context) error {
	if r, err := m.Run(ctx, "systemctl", "--no-block", "reboot"); err != nil || r.Code != 0 {
		return errors.Join(fmt.Errorf("reboot machine %s: %s", m.Name, r.Stderr), err)
	}
	if err := m.outer.wait(ctx); err != nil {
		return err
	}
	return m.Boot(ctx)
}

// Kill takes the machine's power away: all its processes end at once, and nothing is written any more. What was written
// but not synced stays, unlike on a real machine, for this host's kernel has it.
func (m *Machine) Kill(ctx context.Context) error {
	if m.outer == nil {
		return nil
	}
	m.outer.kill()
	if err := m.outer.wait(ctx); err != nil {
		return err
	}
	for m.leader != 0 && alive(m.leader) {
		if err := pause(ctx, 5); err != nil {
			return err
		}
	}
	return nil
}

// Unplug takes the cable out of the machine: its interface has no carrier until Plug.
func (m *Machine) Unplug(ctx context.Context) error { return m.cable(ctx, "down") }

// Plug puts the cable back in.
func (m *Machine) Plug(ctx context.Context) error { return m.cable(ctx, "up") }

func (m *Machine) cable(ctx context.Context, state string) error {
	if err := m.Network.space.ip(ctx, "link set "+m.port+" "+state); err != nil {
		return fmt.Errorf("set the network cable of machine %s %s: %w", m.Name, state, err)
	}
	return nil
}

// Journal returns the machine's journal since it was made, the newest last. Of a machine that is off it has what journald
// had written.
func (m *Machine) Journal(ctx context.Context) (string, error) {
	const options = "--no-pager --quiet --output=short-iso-precise"
	if !m.Running() {
		out, err := exec.CommandContext(ctx, "journalctl", append(strings.Fields(options),
			"--directory="+filepath.Join(m.dir, "upper/var/log/journal"))...).Output()
		if err != nil {
			return "", fmt.Errorf("read the journal of machine %s, which is off: %w", m.Name, err)
		}
		return string(out), nil
	}
	r, err := m.Run(ctx, "sh", "-c", "journalctl --sync && exec journalctl "+options)
	if err == nil && r.Code != 0 {
		err = fmt.Errorf("read the journal of machine %s: %s", m.Name, r.Stderr)
	}
	return r.Stdout, err
}

// Stop ends the machine and removes all of it.
func (m *Machine) Stop() error {
	var errs []error
	errs = append(errs, m.Kill(context.Background()))
	for _, cgroup := range m.cgroups {
		errs = append(errs, removeCgroup(cgroup))
	}
	if m.space != nil {
		errs = append(errs, m.space.close())
	}
	if m.ownsNet && m.Network != nil {
		errs = append(errs, m.Network.Close())
	}
	if m.console != nil {
		errs = append(errs, m.console.Close())
	}
	if m.ownsDir {
		errs = append(errs, os.RemoveAll(m.dir))
	} else if m.dir != "" {
		for _, sub := range []string{"upper", "work", "root", "console.log"} {
			errs = append(errs, os.RemoveAll(filepath.Join(m.dir, sub)))
		}
	}
	return errors.Join(errs...)
}

// consoleTail returns the last of what the machine printed.
func (m *Machine) consoleTail() string {
	out, err := os.ReadFile(m.console.Name())
	if err != nil {
		return err.Error()
	}
	return tail(string(out), 1500)
}
