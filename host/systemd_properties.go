package host

import (
	"encoding/hex"
	"time"
)

// properties are a unit's properties as D-Bus gives them: those of org.freedesktop.systemd1.Unit and of its type together.
// A property that a unit's type does not have, or that has another type than expected, is the zero value.
type properties map[string]any

func property[T any](p properties, name string) T {
	v, _ := p[name].(T)
	return v
}

// stamps returns the times of the properties called name and nameMonotonic, in µs since 1970 and since boot; zero when unset.
func (p properties) stamps(name string) (time.Time, time.Duration) {
	return stamp(property[uint64](p, name), property[uint64](p, name+"Monotonic"))
}

func stamp(wall, boot uint64) (time.Time, time.Duration) {
	if wall == 0 {
		return time.Time{}, 0
	}
	return time.UnixMicro(int64(wall)), time.Duration(boot) * time.Microsecond
}

func unitFromProperties(name string, p properties) Unit {
	u := Unit{
		Name:             name,
		Load:             property[string](p, "LoadState"),
		Active:           property[string](p, "ActiveState"),
		Sub:              property[string](p, "SubState"),
		FileState:        property[string](p, "UnitFileState"),
		Result:           property[string](p, "Result"),
		InvocationID:     hex.EncodeToString(property[[]byte](p, "InvocationID")),
		Restarts:         property[uint32](p, "NRestarts"),
		MainPID:          property[uint32](p, "MainPID"),
		ExitStatus:       property[int32](p, "ExecMainStatus"),
		NeedDaemonReload: property[bool](p, "NeedDaemonReload"),
		CanReload:        property[bool](p, "CanReload"),
		Type:             property[string](p, "Type"),
		RemainAfterExit:  property[bool](p, "RemainAfterExit"),
	}
	if u.Active != "inactive" && u.Active != "failed" {
		u.StartedAt, u.StartedBoot = p.stamps("InactiveExitTimestamp")
		_, u.UpBoot = p.stamps("ActiveEnterTimestamp")
		u.ReloadedAt, u.ReloadedBoot = lastReload(p)
	}
	return u
}

// execCommand is one element of ExecReload, of type a(sasbttttuii): org.freedesktop.systemd1(5), "Service Unit Objects".
type execCommand struct {
	ignoreFailure        bool
	startWall, startBoot uint64
	exitWall             uint64
	exitCode, exitStatus int32
}

// cldExited is the code of a process that ended by itself and not by a signal (CLD_EXITED of sigaction(2)).
const cldExited = 1

// lastReload returns when the last reload began, if all its commands ended well. systemd forgets them with each start.
func lastReload(p properties) (time.Time, time.Duration) {
	commands := property[[][]any](p, "ExecReload")
	var first execCommand
	for i, raw := range commands {
		c, ok := newExecCommand(raw)
		if !ok || c.exitWall < c.startWall || !c.succeeded() {
			return time.Time{}, 0
		}
		if i == 0 || c.startBoot < first.startBoot {
			first = c
		}
	}
	return stamp(first.startWall, first.startBoot)
}

func newExecCommand(raw []any) (execCommand, bool) {
	if len(raw) != 10 {
		return execCommand{}, false
	}
	var c execCommand
	var ok [6]bool
	c.ignoreFailure, ok[0] = raw[2].(bool)
	c.startWall, ok[1] = raw[3].(uint64)
	c.startBoot, ok[2] = raw[4].(uint64)
	c.exitWall, ok[3] = raw[5].(uint64)
	c.exitCode, ok[4] = raw[8].(int32)
	c.exitStatus, ok[5] = raw[9].(int32)
	return c, ok == [6]bool{true, true, true, true, true, true}
}

func (c execCommand) succeeded() bool {
	return c.startWall != 0 && (c.ignoreFailure || c.exitCode == cldExited && c.exitStatus == 0)
}
