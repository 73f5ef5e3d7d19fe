package host

import (
	"context"
	"time"
)

// Command is one program to run, without a shell.
type Command struct {
	Args []string // the program and its arguments; never a secret, for everybody may read them in /proc
	Dir  string
	Env  []string // "NAME=value", added to a minimal environment: PATH, LANG=C.UTF-8, HOME of the user
	User string   // whose rights it gets; "" means those of converge
}

// Result is how a program ended.
type Result struct {
	Code   int // exit status; 128 + n when signal n ended it
	Stdout []byte
	Stderr []byte
}

// Prober runs programs that only look.
type Prober interface {
	// Probe runs c, which the caller vouches changes nothing. A status other than 0 is no error; a program that cannot be
	// started is. Cancelling ctx ends the program and all that it started.
	Probe(ctx context.Context, c Command) (Result, error)
}

// Commands runs programs.
type Commands interface {
	Prober
	// Run is Probe for a program that changes the host.
	Run(ctx context.Context, c Command) (Result, error)
}

// Users tells who is who.
type Users interface {
	// UID and GID take a name or a decimal number. Errors are *diag.Error and name the missing account.
	UID(user string) (int, error)
	GID(group string) (int, error)
	// Self is the effective user and group of converge itself.
	Self() (uid, gid int)
}

// Clock tells the time.
type Clock interface {
	Now() time.Time
	// SinceBoot is CLOCK_MONOTONIC, the clock of systemd's *TimestampMonotonic properties: it never steps.
	SinceBoot() time.Duration
}

// Process is one process of this host.
type Process struct {
	PID int
	// Title is its command line, the arguments parted by spaces: what programs such as nginx write there to say what they are.
	Title string
	// StartedBoot is when it started by the clock that never steps, since boot: at most 10 ms earlier than in truth, and by
	// as long as the host has slept since.
	StartedBoot time.Duration
}

// Processes tells what runs.
type Processes interface {
	// Process returns the process with this PID, or nil where none runs, or converge may not see it.
	Process(pid int) (*Process, error)
	// Children returns the processes that pid has started and that still run, by PID. Those that converge may not see are
	// missing.
	Children(pid int) ([]Process, error)
}
