// Package machines gives the end-to-end suite whole machines through one interface: a Debian with its own systemd, network
// and files. Two drivers make them: containers (systemd-nspawn), which are there in a second and share the kernel and the
// clock of this host, and virtual machines (Vagrant), which have their own.
package machines

import (
	"context"
	"io/fs"
	"net"
	"time"

	"github.com/converge-agent/converge/test/machine"
)

// Feature is what only some drivers' machines have.
type Feature string

// The features.
const (
	Clock  Feature = "a clock that can be set"
	Kernel Feature = "a kernel of its own"
)

// Role says what a machine is for, and so which packages it has.
type Role string

// The roles. An instance host has nginx and what a Mastodon stand-in needs (Ruby with dotenv and the S3 SDK); a services
// host has no more than a minimal Debian.
const (
	Instance Role = "instance"
	Services Role = "services"
)

// Spec is a machine that is wanted.
type Spec struct {
	Name    string // its host name, unique within a call of Start
	Role    Role
	Release string // of Debian: "bookworm" (12), "trixie" (13)
}

// Machine is one machine. A method that returns an error says in it what was done to which machine.
type Machine interface {
	Name() string
	IP() string

	// Run runs a command as root and returns when it has ended; that it fails is no error, its exit code says so.
	Run(ctx context.Context, command ...string) (machine.Result, error)
	// Put writes a file, whole or not at all, and the directories on its way.
	Put(ctx context.Context, path, content string, mode fs.FileMode) error
	// Get reads a file.
	Get(ctx context.Context, path string) (string, error)

	// Unplug cuts the machine off its network, and Plug connects it again. Run, Put and Get go on to work.
	Unplug(ctx context.Context) error
	Plug(ctx context.Context) error

	// Kill takes the power away without warning. Boot switches the machine on again and waits until it is up.
	Kill(ctx context.Context) error
	Boot(ctx context.Context) error
	// Reboot restarts the machine from inside, and waits until it is up.
	Reboot(ctx context.Context) error

	// SetClock sets the time of day. It is an error where the driver has no Clock.
	SetClock(ctx context.Context, to time.Time) error
	// Journal returns the system's journal since the machine was made, the newest last.
	Journal(ctx context.Context) (string, error)
}

// Driver makes machines.
type Driver interface {
	// Name is "nspawn" or "vagrant".
	Name() string
	Has(Feature) bool
	// Start makes fresh machines on one network and waits until they are up. Files and clock are as on a new machine,
	// whatever was done to earlier ones. The caller stops them, also after an error.
	Start(ctx context.Context, specs ...Spec) ([]Machine, error)
	// Stop ends the machines of the last Start.
	Stop(ctx context.Context) error
	// DialContext connects to an address ("ip:port") of the machines of the last Start.
	DialContext(ctx context.Context, network, addr string) (net.Conn, error)
}
