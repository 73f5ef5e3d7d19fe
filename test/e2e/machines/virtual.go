package machines

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"os"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"sync/atomic"
	"time"

	"github.com/converge-agent/converge/test/machine"
)

// bootTime is how long a virtual machine may take to come up, or to be switched off: its processor is emulated, and this host
// may have other things to do.
const bootTime = 10 * time.Minute

// virtual is a machine of the driver vagrant.
type virtual struct {
	spec Spec
	vm   string // its name in the Vagrantfile
	ip   string
	logs string
	ssh  *sshPool
	off  atomic.Bool // by Kill or Stop

	ahead atomic.Int64 // how many seconds the clock was set ahead of this host's
}

func (m *virtual) Name() string   { return m.spec.Name }
func (m *virtual) IP() string     { return m.ip }
func (m *virtual) domain() string { return "converge-" + m.vm }

// prepare makes a new machine what its role says, and takes the snapshot.
func (m *virtual) prepare(ctx context.Context) error {
	if err := m.waitUp(ctx, ""); err != nil {
		return err
	}
	script := "sync"
	if m.spec.Role == Instance {
		script = "systemctl unmask nginx.service && systemctl enable --now nginx.service && sync"
	}
	if err := m.must(ctx, script); err != nil {
		return err
	}
	m.ssh.close() // a connection in the snapshot would be one that nobody has
	_, err := virsh(ctx, "snapshot-create-as", m.domain(), snapshot, "--atomic")
	return err
}

// begin waits for a machine that was made or restored, and tells it its name and the time.
func (m *virtual) begin(ctx context.Context) error {
	if err := m.waitUp(ctx, ""); err != nil {
		return err
	}
	if m.spec.Name != m.vm {
		if err := m.must(ctx, `hostnamectl set-hostname "$1" && sed -i "s/\b$2\b/$1/g" /etc/hosts`, m.spec.Name, m.vm); err != nil {
			return err
		}
	}
	return m.SetClock(ctx, time.Now())
}

// Run runs a command as root, in /.
func (m *virtual) Run(ctx context.Context, command ...string) (machine.Result, error) {
	return m.run(ctx, "", command...)
}

func (m *virtual) run(ctx context.Context, stdin string, command ...string) (machine.Result, error) {
	if m.off.Load() {
		return machine.Result{}, fmt.Errorf("run %q: machine %s is off", command, m.Name())
	}
	r, err := m.ssh.run(ctx, stdin, command)
	if err != nil {
		err = fmt.Errorf("run %q in machine %s: %w", command, m.Name(), err)
	}
	return r, err
}

// must runs a script, which must end with 0.
func (m *virtual) must(ctx context.Context, script string, args ...string) error {
	return m.feed(ctx, "", script, args...)
}

// feed is must with a standard input.
func (m *virtual) feed(ctx context.Context, stdin, script string, args ...string) error {
	r, err := m.run(ctx, stdin, append([]string{"sh", "-c", script, "sh"}, args...)...)
	if err == nil && r.Code != 0 {
		err = fmt.Errorf("%s: it ended with %d: %s%s", script, r.Code, r.Stdout, r.Stderr)
	}
	return err
}

func (m *virtual) Put(ctx context.Context, path, content string, mode fs.FileMode) error {
	const script = `set -e; mkdir -p "$(dirname "$1")"; cat >"$1.put"; chmod "$2" "$1.put"; mv -T "$1.put" "$1"`
	return m.tell("put "+path+" into", m.feed(ctx, content, script, path, fmt.Sprintf("%o", mode.Perm())))
}

func (m *virtual) Get(ctx context.Context, path string) (string, error) {
	r, err := m.Run(ctx, "cat", path)
	if err == nil && r.Code != 0 {
		err = fmt.Errorf("get %s from machine %s: %s", path, m.Name(), r.Stderr)
	}
	return r.Stdout, err
}

// Unplug takes the cable out of the machines' network: there is no carrier until Plug, also over a power cut.
func (m *virtual) Unplug(ctx context.Context) error {
	return m.tell("unplug", m.cable(ctx, "down"))
}

// Plug puts the cable back in, and waits until the machine, when it is on, answers there.
func (m *virtual) Plug(ctx context.Context) error {
	if err := m.cable(ctx, "up"); err != nil || m.off.Load() {
		return m.tell("plug in", err)
	}
	ctx, cancel := context.WithTimeout(ctx, bootTime)
	defer cancel()
	return m.tell("plug in", poll(ctx, func() error {
		dialer := net.Dialer{Timeout: 5 * time.Second}
		c, err := dialer.DialContext(ctx, "tcp", net.JoinHostPort(m.ip, "22"))
		if err == nil {
			err = c.Close()
		}
		return err
	}))
}

// cable sets the state of the second interface, in the machine as it runs and as it boots the next time.
func (m *virtual) cable(ctx context.Context, state string) error {
	out, err := virsh(ctx, "domiflist", m.domain())
	if err != nil {
		return err
	}
	for line := range strings.Lines(out) {
		f := strings.Fields(line) // interface, type, source, model, MAC
		if len(f) != 5 || f[2] != "converge-lab" {
			continue
		}
		if _, err := virsh(ctx, "domif-setlink", m.domain(), f[4], state, "--config"); err != nil || m.off.Load() {
			return err
		}
		_, err := virsh(ctx, "domif-setlink", m.domain(), f[4], state)
		return err
	}
	return fmt.Errorf("it has no interface on the network converge-lab: %s", out)
}

// Kill ends the machine's processor at once. What it had not written to its disk is lost.
func (m *virtual) Kill(ctx context.Context) error { return m.tell("kill", m.powerOff(ctx)) }

// powerOff does nothing to a machine that is off.
func (m *virtual) powerOff(ctx context.Context) error {
	m.off.Store(true)
	m.disconnect()
	ctx, cancel := context.WithTimeout(ctx, bootTime)
	defer cancel()
	return poll(ctx, func() error {
		on, err := m.isOn(ctx)
		if err != nil || !on {
			return err
		}
		// Gracefully is about QEMU, which writes down what the machine had given to its disk; the guest is not asked.
		_, err = virsh(ctx, "destroy", m.domain(), "--graceful")
		return err
	})
}

func (m *virtual) isOn(ctx context.Context) (bool, error) {
	out, err := virsh(ctx, "list", "--all", "--name", "--state-shutoff")
	if err != nil {
		return false, err
	}
	for _, domain := range strings.Fields(out) {
		if domain == m.domain() {
			return false, nil
		}
	}
	out, err = virsh(ctx, "list", "--all", "--name")
	return strings.Contains("\n"+out, "\n"+m.domain()+"\n"), err
}

func (m *virtual) disconnect() {
	if m.ssh != nil {
		m.ssh.close()
	}
}

func (m *virtual) Boot(ctx context.Context) error {
	if err := m.keepClock(ctx); err != nil {
		return m.tell("set the clock of", err)
	}
	if _, err := virsh(ctx, "start", m.domain()); err != nil {
		return m.tell("boot", err)
	}
	m.disconnect()
	m.off.Store(false)
	return m.tell("boot", m.waitUp(ctx, ""))
}

// adjustment is the part of a domain's definition that says how far its clock is ahead.
var adjustment = regexp.MustCompile(`(<clock offset='variable' adjustment=')-?\d+`)

// keepClock has the next boot begin with a clock that is as far ahead as it was set: libvirt forgets that with the power.
func (m *virtual) keepClock(ctx context.Context) error {
	definition, err := virsh(ctx, "dumpxml", "--inactive", m.domain())
	if err != nil {
		return err
	}
	if !adjustment.MatchString(definition) {
		return fmt.Errorf("its definition has no clock that could be adjusted: %s", definition)
	}
	name := filepath.Join(m.logs, m.vm+".xml")
	definition = adjustment.ReplaceAllString(definition, "${1}"+strconv.FormatInt(m.ahead.Load(), 10))
	if err := os.WriteFile(name, []byte(definition), 0o600); err != nil {
		return err
	}
	_, err = virsh(ctx, "define", name)
	return err
}

func (m *virtual) Reboot(ctx context.Context) error {
	before, err := m.bootID(ctx)
	if err != nil {
		return m.tell("reboot", err)
	}
	if err := m.must(ctx, "systemctl --no-block reboot"); err != nil {
		return m.tell("reboot", err)
	}
	m.disconnect()
	return m.tell("reboot", m.waitUp(ctx, before))
}

func (m *virtual) bootID(ctx context.Context) (string, error) {
	return m.Get(ctx, "/proc/sys/kernel/random/boot_id")
}

// waitUp waits until all units of a boot other than that one have started, or failed: scenarios break them, and look at what
// they need.
func (m *virtual) waitUp(ctx context.Context, other string) error {
	ctx, cancel := context.WithTimeout(ctx, bootTime)
	defer cancel()
	err := poll(ctx, func() error {
		if id, err := m.bootID(ctx); err != nil || id == other {
			return errors.Join(fmt.Errorf("it has not booted yet (%s)", strings.TrimSpace(id)), err)
		}
		r, err := m.Run(ctx, "systemctl", "is-system-running", "--wait")
		if state := strings.TrimSpace(r.Stdout); err == nil && state != "running" && state != "degraded" {
			err = fmt.Errorf("it is not up: %s%s", state, r.Stderr)
		}
		return err
	})
	if err != nil {
		return fmt.Errorf("%w; its console said: %s", err, m.console())
	}
	return nil
}

// console returns the last of what the machine printed.
func (m *virtual) console() string {
	name := filepath.Join(m.logs, m.vm+".console")
	out, err := os.ReadFile(name)
	if err != nil {
		return err.Error()
	}
	return string(out[max(0, len(out)-1500):])
}

// SetClock sets the clock and the one that goes on while the machine is off.
func (m *virtual) SetClock(ctx context.Context, to time.Time) error {
	ahead := time.Until(to)
	if err := m.must(ctx, "true"); err != nil { // so that there is a connection, and the time told is a moment old
		return m.tell("set the clock of", err)
	}
	to = time.Now().Add(ahead)
	m.ahead.Store(int64(ahead / time.Second))
	return m.tell("set the clock of", m.must(ctx, `date --utc --set="$1" && hwclock --systohc --utc`, fmt.Sprintf("@%d", to.Unix())))
}

func (m *virtual) Journal(ctx context.Context) (string, error) {
	r, err := m.Run(ctx, "sh", "-c", "journalctl --sync && exec journalctl --no-pager --quiet --output=short-iso-precise")
	if err == nil && r.Code != 0 {
		err = fmt.Errorf("read the journal of machine %s: %s", m.Name(), r.Stderr)
	}
	return r.Stdout, err
}

// tell adds to an error what was done to which machine.
func (m *virtual) tell(what string, err error) error {
	if err == nil {
		return nil
	}
	return fmt.Errorf("%s machine %s: %w", what, m.Name(), err)
}

// poll waits until a function has no error, and returns its last one when ctx ends before.
func poll(ctx context.Context, f func() error) error {
	tick := time.NewTicker(250 * time.Millisecond)
	defer tick.Stop()
	for {
		err := f()
		if err == nil {
			return nil
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			return fmt.Errorf("%w: %w", context.Cause(ctx), err)
		}
	}
}
