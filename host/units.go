package host

import (
	"context"
	"time"
)

// Unit is the state of one systemd unit, as D-Bus tells it (org.freedesktop.systemd1(5)).
type Unit struct {
	Name             string // with its suffix: "nginx.service"
	Load             string // loaded, not-found, bad-setting, error, masked
	Active           string // active, reloading, inactive, failed, activating, deactivating
	Sub              string // running, exited, dead, auto-restart, ...
	FileState        string // enabled, disabled, static, masked, indirect, ...; "" when there is no unit file
	Result           string // success, exit-code, signal, timeout, ...
	InvocationID     string // hex, new with every start; "" when it never ran
	Restarts         uint32 // NRestarts: by the unit's own Restart=
	MainPID          uint32
	ExitStatus       int32 // of the main process, when it ended
	NeedDaemonReload bool  // the unit file or a drop-in changed on disk
	CanReload        bool
	Type             string // of a service: simple, forking, oneshot, notify, ...
	RemainAfterExit  bool   // of a service: it stays active when its processes have ended

	// StartedAt is when the current invocation left inactive (InactiveExitTimestamp), by the wall clock of that moment;
	// zero when it is not running. StartedBoot is the same by the clock that never steps, since boot.
	StartedAt   time.Time
	StartedBoot time.Duration
	// UpBoot is when it last became active (ActiveEnterTimestampMonotonic), since boot; 0 when it is not running.
	UpBoot time.Duration

	// ReloadedAt is when the last reload of the current invocation that succeeded began, whoever asked systemd for it, by
	// the wall clock of that moment; zero when there was none, or when the unit reloads otherwise than by ExecReload=.
	// ReloadedBoot is the same by the clock that never steps, since boot.
	ReloadedAt   time.Time
	ReloadedBoot time.Duration
}

// Up reports whether the unit does its work: active, or reloading.
func (u Unit) Up() bool { return u.Active == "active" || u.Active == "reloading" }

// UnitView reads units.
type UnitView interface {
	// Unit returns the state of a unit; one that does not exist has Load "not-found" and is no error.
	Unit(ctx context.Context, name string) (Unit, error)
}

// Units reads and commands units. Each call returns when systemd's job has ended, which for a start does not yet mean that
// the unit is up: whoever commands it looks again.
type Units interface {
	UnitView
	Start(ctx context.Context, name string) error
	Stop(ctx context.Context, name string) error
	Restart(ctx context.Context, name string) error
	Reload(ctx context.Context, name string) error
	Enable(ctx context.Context, name string) error
	Disable(ctx context.Context, name string) error
	Mask(ctx context.Context, name string) error
	Unmask(ctx context.Context, name string) error
	DaemonReload(ctx context.Context) error
}
