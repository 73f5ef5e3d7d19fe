package nginx

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/converge-agent/converge/diag"
	"github.com/converge-agent/converge/host"
)

// The titles of nginx's processes (src/os/unix/ngx_process_cycle.c, nginx 1.22). A worker takes the second one before it
// closes the sockets that it listens on, and from then on it takes no connection. A child that was just made still has the
// title of its master.
const (
	workerTitle = "nginx: worker process"
	masterTitle = "nginx: master process"
)

// reloadLimit is how long a reload may take. nginx tries for 2.5 s to bind a port (ngx_open_listening_sockets); a large
// configuration with many certificates takes seconds to read.
const reloadLimit = 30 * time.Second

// reloadPoll is how often the processes are looked at.
const reloadPoll = 25 * time.Millisecond

// Reload has systemd reload the unit u, and returns once nginx has done it: the old workers take no more connections, and new
// ones do. For systemd a reload is done when the signal is sent; nginx may then still find that it cannot bind a port, which
// nginx -t does not see, and go on as before: that is an error after half a minute by the clock. Where u has no workers that
// can be seen, nothing is waited for.
func Reload(ctx context.Context, units host.Units, processes host.Processes, clock host.Clock, u host.Unit) error {
	before, err := children(processes, u)
	if err != nil {
		return err
	}
	if err := units.Reload(ctx, u.Name); err != nil {
		return err
	}
	if !slices.ContainsFunc(before, isWorker) {
		return nil
	}
	tick := time.NewTicker(reloadPoll)
	defer tick.Stop()
	for end := clock.SinceBoot() + reloadLimit; ; {
		now, err := children(processes, u)
		if err != nil || tookOver(before, now) {
			return err
		}
		if clock.SinceBoot() >= end {
			return notTaken(u)
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			return diag.Wrap(ctx.Err(), "wait until "+u.Name+" has taken its new configuration", "")
		}
	}
}

func notTaken(u host.Unit) error {
	return diag.New("reload "+u.Name,
		fmt.Sprintf("after %s nginx had not taken the new configuration; it goes on with the old one", reloadLimit),
		"See the end of its error log, by default /var/log/nginx/error.log. If an address is in use, ss -ltnp names the program "+
			"that has it: stop that, or change the listen lines. The next run reloads again.")
}

// children are the processes of u below its main one.
func children(processes host.Processes, u host.Unit) ([]host.Process, error) {
	if u.MainPID == 0 {
		return nil, nil
	}
	return processes.Children(int(u.MainPID))
}

// isWorker reports whether a process is a worker that takes connections.
func isWorker(p host.Process) bool { return p.Title == workerTitle }

// tookOver reports whether of the children before no worker takes connections any more, while new ones do and none of those
// is still to begin.
func tookOver(before, now []host.Process) bool {
	begun := false
	for _, p := range now {
		old := slices.ContainsFunc(before, func(b host.Process) bool { return b.PID == p.PID })
		switch {
		case old && isWorker(p), !old && strings.HasPrefix(p.Title, masterTitle):
			return false
		case isWorker(p):
			begun = true
		}
	}
	return begun
}

// startTick is by how much a process may have started later than StartedBoot says.
const startTick = 10 * time.Millisecond

// Carried returns u without its last reload by systemd if nginx has not carried that out: a worker that takes connections is
// older than it.
func Carried(processes host.Processes, u host.Unit) (host.Unit, error) {
	if u.ReloadedBoot == 0 {
		return u, nil
	}
	now, err := children(processes, u)
	if err != nil {
		return host.Unit{}, err
	}
	older := func(p host.Process) bool { return isWorker(p) && p.StartedBoot+startTick < u.ReloadedBoot }
	if slices.ContainsFunc(now, older) {
		u.ReloadedAt, u.ReloadedBoot = time.Time{}, 0
	}
	return u, nil
}
