package hosttest

import (
	"context"
	"slices"
	"strconv"
	"sync"
	"time"

	"github.com/converge-agent/converge/host"
)

// Users are accounts in memory, by name. Numbers are accepted as they stand, root is always there.
type Users struct {
	Users  map[string]int
	Groups map[string]int
	// SelfUID and SelfGID are converge's own.
	SelfUID, SelfGID int
}

var _ host.Users = Users{}

// UID returns the number of a user.
func (u Users) UID(name string) (int, error) { return account("user", u.Users, name) }

// GID returns the number of a group.
func (u Users) GID(name string) (int, error) { return account("group", u.Groups, name) }

// Self returns converge's own user and group.
func (u Users) Self() (uid, gid int) { return u.SelfUID, u.SelfGID }

func account(what string, ids map[string]int, name string) (int, error) {
	if id, ok := ids[name]; ok {
		return id, nil
	}
	if id, err := strconv.ParseUint(name, 10, 32); err == nil {
		return int(id), nil
	}
	if name == "root" {
		return 0, nil
	}
	return 0, host.NoAccount(what, name)
}

// Clock is a clock that stands still until it is told to go on. It may be used by several goroutines.
type Clock struct {
	mu   sync.Mutex
	now  time.Time
	boot time.Duration
}

var _ host.Clock = (*Clock)(nil)

// NewClock returns a clock that shows now, on a host that was started an hour before.
func NewClock(now time.Time) *Clock { return &Clock{now: now, boot: time.Hour} }

// Now returns the time of day.
func (c *Clock) Now() time.Time {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.now
}

// SinceBoot returns the time of the clock that never steps.
func (c *Clock) SinceBoot() time.Duration {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.boot
}

// Advance lets time pass, on both clocks.
func (c *Clock) Advance(d time.Duration) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.now, c.boot = c.now.Add(d), c.boot+d
}

// Step sets the time of day to now without any time passing, as an admin or NTP does.
func (c *Clock) Step(now time.Time) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.now = now
}

// Commands answers each program by a function. It may be used by several goroutines.
type Commands struct {
	// Answer is asked for every program. Without one, all succeed and print nothing.
	Answer func(host.Command) (host.Result, error)

	mu    sync.Mutex
	calls []Call
}

// Call is one program that was run.
type Call struct {
	host.Command
	Probe bool // by Probe, which must change nothing
}

var _ host.Commands = (*Commands)(nil)

// Probe records and answers c.
func (c *Commands) Probe(ctx context.Context, cmd host.Command) (host.Result, error) {
	return c.answer(ctx, Call{cmd, true})
}

// Run records and answers c.
func (c *Commands) Run(ctx context.Context, cmd host.Command) (host.Result, error) {
	return c.answer(ctx, Call{cmd, false})
}

func (c *Commands) answer(ctx context.Context, call Call) (host.Result, error) {
	if err := ctx.Err(); err != nil {
		return host.Result{}, err
	}
	c.mu.Lock()
	c.calls = append(c.calls, call)
	c.mu.Unlock()
	if c.Answer == nil {
		return host.Result{}, nil
	}
	return c.Answer(call.Command)
}

// Calls lists the programs that were run, in order.
func (c *Commands) Calls() []Call {
	c.mu.Lock()
	defer c.mu.Unlock()
	return slices.Clone(c.calls)
}

// Processes are processes in memory, by the one that has started them.
type Processes map[int][]host.Process

var _ host.Processes = Processes(nil)

// Process returns the process with this PID.
func (p Processes) Process(pid int) (*host.Process, error) {
	for _, children := range p {
		for _, c := range children {
			if c.PID == pid {
				return &c, nil
			}
		}
	}
	return nil, nil
}

// Children returns the processes that pid has started.
func (p Processes) Children(pid int) ([]host.Process, error) { return p[pid], nil }
