package faults

import (
	"context"
	"fmt"
	"time"

	"github.com/converge-agent/converge/test/faults/trace"
	"golang.org/x/sys/unix"
)

// Fault is what happens to one run. The zero value is a run that nothing happens to.
type Fault struct {
	Do    string // "kill", "half", "fail", or what stands in circumstances
	Point int    // at which call
	Errno int    // with what a call fails
	// Lasting has all later calls of the same kind fail too.
	Lasting bool
	// LoseState has the state directory vanish after the run.
	LoseState bool
}

func (f Fault) String() string {
	s := f.Do
	if f.Errno != 0 {
		s += " with " + unix.ErrnoName(unix.Errno(f.Errno))
	}
	s += fmt.Sprintf(" at call %d", f.Point)
	if f.Lasting {
		s += " and after"
	}
	if f.LoseState {
		s += ", and the state directory is lost"
	}
	return s
}

// inject is a fault in a run that goes on.
type inject struct {
	Fault
	world *world
	hit   []trace.Call   // the calls that the fault hit
	mend  []func() error // what puts back the circumstances after the run
}

func (i *inject) decide(c trace.Call) trace.Verdict {
	twice := i.Do == "interrupt twice" && c.Index == i.Point+1
	lasts := i.Lasting && len(i.hit) > 0 && c.Kind == i.hit[0].Kind
	if i.Point == 0 || c.Index != i.Point && !lasts && !twice {
		return trace.Verdict{}
	}
	i.hit = append(i.hit, c)
	switch i.Do {
	case "kill":
		return trace.Verdict{Kill: true}
	case "half":
		return trace.Verdict{Half: true}
	case "fail":
		return trace.Verdict{Errno: i.Errno}
	case "interrupt", "interrupt twice":
		return trace.Verdict{Signal: int(unix.SIGINT)}
	}
	return trace.Verdict{Before: func() { circumstances[i.Do](i) }}
}

// circumstances are what changes around a run while it stands before a call.
var circumstances = map[string]func(*inject){
	"the disk is full": func(i *inject) {
		var stat unix.Statfs_t
		must(unix.Statfs("/", &stat))
		const pages = 2 // that are still free
		size := (int64(stat.Blocks-stat.Bfree) + pages) * stat.Bsize
		must(unix.Mount("", "/", "", unix.MS_REMOUNT, fmt.Sprintf("size=%d", size)))
		i.mend = append(i.mend, func() error { return unix.Mount("", "/", "", unix.MS_REMOUNT, "size=50%") })
	},
	"read-only": func(i *inject) {
		const dir = "/etc/app"
		must(unix.Mount(dir, dir, "", unix.MS_BIND, ""))
		must(unix.Mount("", dir, "", unix.MS_BIND|unix.MS_REMOUNT|unix.MS_RDONLY, ""))
		i.mend = append(i.mend, func() error { return unix.Unmount(dir, unix.MNT_DETACH) })
	},
	"the bus is late": func(i *inject) {
		thaw := i.world.bus.Freeze()
		late := time.AfterFunc(3*time.Second, thaw)
		i.mend = append(i.mend, func() error { late.Stop(); thaw(); return nil })
	},
	"the bus dies": func(i *inject) {
		i.world.bus.StopBus()
		i.mend = append(i.mend, func() error { return i.world.bus.StartBus(context.Background()) })
	},
	"the store is gone": func(i *inject) {
		i.world.store(true)
		i.mend = append(i.mend, func() error { i.world.store(false); return nil })
	},
}

// must ends the worker, which cannot go on with a world of its own that it does not rule.
func must(err error) {
	if err != nil {
		panic(err)
	}
}
