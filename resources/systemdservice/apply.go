package systemdservice

import (
	"context"
	"fmt"
	"strings"
	"time"

	"github.com/converge-agent/converge/diag"
	"github.com/converge-agent/converge/host"
	"github.com/converge-agent/converge/resources"
)

// Apply does the effects of c in order, and returns when a unit that is to run has shown that it stays up.
func (s *service) Apply(ctx context.Context, env resources.Env, c resources.Change) error {
	if err := s.readUnitFile(ctx, env); err != nil {
		return err
	}
	for _, e := range c.Effects {
		if err := s.perform(ctx, env, e.Verb); err != nil {
			return err
		}
	}
	return nil
}

// readUnitFile has systemd read its unit files where it knows only an older one of this unit, or none. NeedDaemonReload
// does not tell of the first drop-in in a new directory (systemd 252), so a resource that writes unit files counts as well.
func (s *service) readUnitFile(ctx context.Context, env resources.Env) error {
	u, err := env.Units.Unit(ctx, s.name)
	if err != nil {
		return err
	}
	if u.NeedDaemonReload || u.Load == "not-found" || writesUnitFiles(env.Upstreams) {
		return env.Units.DaemonReload(ctx)
	}
	return nil
}

// writesUnitFiles reports whether one of the resources that the unit depends on writes where systemd reads.
func writesUnitFiles(upstreams map[resources.Address]resources.Upstream) bool {
	for _, up := range upstreams {
		for _, p := range up.Paths {
			for _, dir := range unitDirs {
				if strings.HasPrefix(p, dir+"/") {
					return true
				}
			}
		}
	}
	return false
}

func (s *service) perform(ctx context.Context, env resources.Env, verb string) error {
	switch verb {
	case "unmask":
		return env.Units.Unmask(ctx, s.name)
	case "mask":
		return env.Units.Mask(ctx, s.name)
	case "enable":
		return env.Units.Enable(ctx, s.name)
	case "disable":
		return env.Units.Disable(ctx, s.name)
	case "stop":
		return env.Units.Stop(ctx, s.name)
	case "start":
		return s.bringUp(ctx, env, verb, env.Units.Start)
	case "restart":
		return s.bringUp(ctx, env, verb, env.Units.Restart)
	case "reload":
		return s.bringUp(ctx, env, verb, env.Units.Reload)
	}
	return diag.New(verb+" "+s.name, "there is no such verb", "This is a fault of converge; please report it.")
}

// bringUp commands the unit and waits until it is up. What it has loaded by then is known.
func (s *service) bringUp(ctx context.Context, env resources.Env, verb string, command func(context.Context, string) error) error {
	if err := pause(ctx, s.apart); err != nil {
		return diag.Wrap(err, verb+" "+s.name, "")
	}
	if err := s.await(ctx, command); err != nil {
		return s.explain(ctx, env.Units, verb, err)
	}
	u, err := s.awaitUp(ctx, env.Units, verb)
	if err != nil {
		return err
	}
	loaded := s.nowLoaded(u, resources.Loaded{}, env.Upstreams)
	s.loaded = &loaded
	return nil
}

// await gives the command, and its job as long as it may take.
func (s *service) await(ctx context.Context, command func(context.Context, string) error) error {
	ctx, cancel := context.WithTimeoutCause(ctx, s.job, fmt.Errorf("it has taken longer than %s", s.job))
	defer cancel()
	return command(ctx, s.name)
}

// explain adds to the failure of a command what became of the unit, where that says more.
func (s *service) explain(ctx context.Context, units host.UnitView, verb string, failure error) error {
	u, err := units.Unit(ctx, s.name)
	if err != nil || u.Active != "failed" {
		return failure
	}
	return notUp(verb+" "+s.name, u, u)
}

// maxRestarts is after how many restarts of its own a unit counts as one that does not come up.
const maxRestarts = 3

// awaitUp watches the unit until it has been up for long enough without being started anew, and says why when it is not.
func (s *service) awaitUp(ctx context.Context, units host.UnitView, verb string) (host.Unit, error) {
	doing := verb + " " + s.name
	var first host.Unit
	var up, watched time.Duration
	for {
		u, err := units.Unit(ctx, s.name)
		if err != nil {
			return u, err
		}
		if watched == 0 {
			first = u
		}
		switch {
		case oneshotDone(u):
			return u, nil
		case u.Active == "failed" || u.Active == "inactive" || u.Restarts >= first.Restarts+maxRestarts:
			return u, notUp(doing, u, first)
		case u.InvocationID != first.InvocationID || !u.Up():
			first.InvocationID, up = u.InvocationID, 0
		case up >= s.settle:
			return u, nil
		}
		if watched >= s.limit {
			return u, notUp(doing, u, first)
		}
		if err := pause(ctx, s.poll); err != nil {
			return u, diag.Wrap(err, doing, "Run converge apply again: it looks at the unit anew.")
		}
		up, watched = up+s.poll, watched+s.poll
	}
}

// notUp words why the unit is not up. The journal may hold secrets of the application, so it is named and not quoted.
func notUp(doing string, u, first host.Unit) error {
	what := "it did not stay up"
	switch {
	case u.Active == "inactive":
		what = "it ended at once, without an error"
	case u.Active != "failed" && u.Restarts > first.Restarts:
		what = fmt.Sprintf("it keeps falling over: systemd has restarted it %d times", u.Restarts-first.Restarts)
	case u.Active != "failed":
		what = "it did not come up in time"
	}
	return diag.New(doing, fmt.Sprintf("%s: it is %s%s", what, condition(u), ending(u)), "Read why with: journalctl -u "+u.Name+" -n 20")
}

// statusMeanings are the exit statuses with which systemd itself ends a process that it could not make (systemd.exec(5),
// "Process Exit Codes").
var statusMeanings = map[int32]string{
	200: "its WorkingDirectory= cannot be entered",
	201: "its Nice= cannot be set",
	203: "its program cannot be executed",
	209: "its StandardOutput= cannot be opened",
	216: "its Group= does not exist",
	217: "its User= does not exist",
	218: "its capabilities cannot be set",
	226: "its mount namespace cannot be made, maybe because a path of ReadWritePaths= or its like does not exist",
	243: "its credentials cannot be loaded",
}

// results are what the other values of the property Result mean (org.freedesktop.systemd1(5), "Service Unit Objects").
var results = map[string]string{
	"timeout":         ", it took longer than its unit file lets it",
	"protocol":        ", it did not do what its Type= promises",
	"resources":       ", systemd could not make what it needs",
	"start-limit-hit": ", started too often in too short a time",
	"oom-kill":        ", killed because memory ran out",
}

// ending words how the unit ended, from the properties Result and ExecMainStatus.
func ending(u host.Unit) string {
	meaning := statusMeanings[u.ExitStatus]
	switch {
	case u.Result == "exit-code" && u.ExitStatus == 0: // it is the main process's, and that one did not fail
		return ", one of the commands beside its main process failed (ExecStartPre= or its like)"
	case u.Result == "exit-code" && meaning != "":
		return fmt.Sprintf(", exit status %d: %s", u.ExitStatus, meaning)
	case u.Result == "exit-code":
		return fmt.Sprintf(", exit status %d", u.ExitStatus)
	case u.Result == "signal", u.Result == "core-dump":
		return fmt.Sprintf(", killed by signal %d", u.ExitStatus)
	}
	return results[u.Result]
}

// pause waits for d, or for the end of ctx.
func pause(ctx context.Context, d time.Duration) error {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-ctx.Done():
		return context.Cause(ctx)
	case <-timer.C:
		return nil
	}
}
