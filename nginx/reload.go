package nginx

import (
	"context"
	"fmt"
	"path"
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
// nginx -t does not see, and go on as before: that is an error after half a minute by the clock. Where the main process of u
// is no nginx that can be seen, nothing is waited for.
func Reload(ctx context.Context, units host.Units, processes host.Processes, clock host.Clock, u host.Unit) error {
	r := &reload{processes: processes, clock: clock, unit: u}
	if err := r.awaitStart(ctx); err != nil {
		return err
	}
	if err := units.Reload(ctx, u.Name); err != nil {
		return err
	}
	if len(r.before) == 0 {
		return nil
	}
	done, err := r.await(ctx, "wait until "+u.Name+" has taken its new configuration", r.tookOver)
	if err != nil || done {
		return err
	}
	return diag.New("reload "+u.Name,
		fmt.Sprintf("after %s nginx had not taken the new configuration; it goes on with the old one", reloadLimit),
		"See the end of its error log, by default /var/log/nginx/error.log. If an address is in use, ss -ltnp names the program "+
			"that has it: stop that, or change the listen lines. The next run reloads again.")
}

// reload is one reload of a unit.
type reload struct {
	processes host.Processes
	clock     host.Clock
	unit      host.Unit
	before    []int // the workers before it
}

// await looks until done reports true, or, false, until reloadLimit is over.
func (r *reload) await(ctx context.Context, doing string, done func() (bool, error)) (bool, error) {
	tick := time.NewTicker(reloadPoll)
	defer tick.Stop()
	for end := r.clock.SinceBoot() + reloadLimit; ; {
		ok, err := done()
		if err != nil || ok || r.clock.SinceBoot() >= end {
			return ok, err
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			return false, diag.Wrap(ctx.Err(), doing, "")
		}
	}
}

// awaitStart waits until a nginx that was only just started has all its workers, and notes them. Before it has its title a
// master loses the signal to reload, or is ended by it. One that never has any (master_process off) is not waited for twice.
func (r *reload) awaitStart(ctx context.Context) error {
	_, err := r.await(ctx, "wait for the start of "+r.unit.Name, func() (bool, error) {
		if r.unit.MainPID == 0 {
			return true, nil
		}
		main, err := r.processes.Process(int(r.unit.MainPID))
		if err != nil || main == nil || !isNginx(*main) {
			return true, err
		}
		now, complete, err := r.workers()
		r.before = now
		return complete, err
	})
	return err
}

// tookOver reports whether of the workers before none takes connections any more, and new ones do.
func (r *reload) tookOver() (bool, error) {
	now, complete, err := r.workers()
	old := func(pid int) bool { return slices.Contains(r.before, pid) }
	return complete && !slices.ContainsFunc(now, old), err
}

// workers are those that take connections. They are complete when there are some, and none is still to begin.
func (r *reload) workers() (pids []int, complete bool, err error) {
	now, err := r.processes.Children(int(r.unit.MainPID))
	if err != nil {
		return nil, false, err
	}
	for _, p := range now {
		if isWorker(p) {
			pids = append(pids, p.PID)
		}
		if !strings.HasPrefix(p.Title, masterTitle) {
			continue
		}
		// One that has children is a master indeed: of a nginx that is being upgraded ("Upgrading Executable on the Fly").
		if own, err := r.processes.Children(p.PID); err != nil || len(own) == 0 {
			return pids, false, err
		}
	}
	return pids, len(pids) > 0, nil
}

// isNginx reports whether a main process is a nginx's, be it before it has taken its title.
func isNginx(p host.Process) bool {
	program, _, _ := strings.Cut(p.Title, " ")
	return strings.HasPrefix(p.Title, masterTitle) || path.Base(program) == "nginx"
}

// isWorker reports whether a process is a worker that takes connections.
func isWorker(p host.Process) bool { return p.Title == workerTitle }

// startTick is by how much a process may have started later than StartedBoot says.
const startTick = 10 * time.Millisecond

// Carried returns u without its last reload by systemd if nginx has not carried that out: a worker that takes connections is
// older than it.
func Carried(processes host.Processes, u host.Unit) (host.Unit, error) {
	if u.ReloadedBoot == 0 || u.MainPID == 0 {
		return u, nil
	}
	now, err := processes.Children(int(u.MainPID))
	if err != nil {
		return host.Unit{}, err
	}
	older := func(p host.Process) bool { return isWorker(p) && p.StartedBoot+startTick < u.ReloadedBoot }
	if slices.ContainsFunc(now, older) {
		u.ReloadedAt, u.ReloadedBoot = time.Time{}, 0
	}
	return u, nil
}
