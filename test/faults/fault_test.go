package faults

import (
	"fmt"

	"github.com/converge-agent/converge/test/faults/trace"
	"golang.org/x/sys/unix"
)

// Fault is what happens to one run. The zero value is a run that nothing happens to.
type Fault struct {
	Do    string // "kill", "half" or "fail"
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
	hit []trace.Call // the calls that the fault hit
}

func (i *inject) decide(c trace.Call) trace.Verdict {
	due := i.Point > 0 && (c.Index == i.Point || i.Lasting && len(i.hit) > 0 && c.Kind == i.hit[0].Kind)
	if !due {
		return trace.Verdict{}
	}
	i.hit = append(i.hit, c)
	switch i.Do {
	case "kill":
		return trace.Verdict{Kill: true}
	case "half":
		return trace.Verdict{Half: true}
	default:
		return trace.Verdict{Errno: i.Errno}
	}
}
