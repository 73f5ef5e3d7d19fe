package host

import (
	"errors"
	"fmt"
	"strings"

	"github.com/converge-agent/converge/diag"
	godbus "github.com/godbus/dbus/v5"
)

// What goes wrong between us and systemd, to be told apart with errors.Is.
var (
	// ErrNoSystemd says that nothing answered where systemd does.
	ErrNoSystemd = errors.New("systemd does not answer on this host")
	// errNoInstall is what systemctl(1) says when there is nothing to enable.
	errNoInstall = errors.New("its unit file has no [Install] section, so nothing says when it is to be started")
	// errLostConnection ends the wait for a job whose end can no longer be told.
	errLostConnection = errors.New("the connection to systemd was lost while its job ran")
	errNoAnswer       = fmt.Errorf("systemd has not answered for %s", answerLimit)
)

// noBusError is a failure to connect.
type noBusError struct{ err error }

func (e *noBusError) Error() string   { return fmt.Sprintf("%s (%s)", ErrNoSystemd, oneLine(e.err)) }
func (e *noBusError) Unwrap() []error { return []error{ErrNoSystemd, e.err} }

// oneLine joins what errors.Join put on lines of their own.
func oneLine(err error) string {
	joined, ok := err.(interface{ Unwrap() []error })
	if !ok {
		return err.Error()
	}
	text := ""
	for i, e := range joined.Unwrap() {
		if i > 0 {
			text += "; "
		}
		text += oneLine(e)
	}
	return text
}

// jobFailure is a job's result other than done, as JobRemoved gives it (org.freedesktop.systemd1(5)).
type jobFailure string

func (f jobFailure) Error() string {
	switch f {
	case "canceled":
		return "another command for the same unit took the place of this one"
	case "timeout":
		return "systemd's job for it timed out"
	case "dependency":
		return "a unit that it requires could not be started"
	case "failed":
		return "systemd's job for it failed"
	}
	return fmt.Sprintf("systemd's job for it ended as %q", string(f))
}

// busAdvice is what the errors that systemd and the bus send mean, and what to do about them; UNIT stands for its name. The names
// of the first group are those of systemd's src/libsystemd/sd-bus/bus-common-errors.h (v252).
var busAdvice = map[string]struct{ what, fix string }{
	"org.freedesktop.systemd1.NoSuchUnit": {"there is no such unit",
		"Correct the name, or install what brings UNIT; systemctl list-unit-files lists all there are."},
	"org.freedesktop.systemd1.LoadFailed": {"systemd cannot load its unit file",
		"Read what systemd-analyze verify UNIT says, and correct the unit file."},
	"org.freedesktop.systemd1.UnitMasked": {"the unit is masked",
		"Write masked = false in its block, or run: systemctl unmask UNIT"},
	"org.freedesktop.systemd1.BadUnitSetting": {"its unit file has a setting that systemd refuses",
		"Read what systemd-analyze verify UNIT says, and correct the unit file."},
	"org.freedesktop.systemd1.JobTypeNotApplicable": {"the unit cannot do that: a reload needs ExecReload= in its unit file",
		"Use restart_on in the place of reload_on for UNIT."},
	"org.freedesktop.systemd1.OnlyByDependency": {"its unit file lets it be started and stopped only by other units (RefuseManualStart=, RefuseManualStop=)",
		"Manage the unit that pulls in UNIT."},
	"org.freedesktop.systemd1.UnitExists": {"a unit file of that name stands in /etc/systemd/system, where the mask would have to be",
		"Move UNIT from /etc/systemd/system to /usr/local/lib/systemd/system, or write running = false and enabled = false instead."},
	"org.freedesktop.systemd1.TransactionIsDestructive": {"the host is going down, or another job that must not be replaced is waiting",
		"Look at systemctl list-jobs, and run converge apply again when it is empty."},
	"org.freedesktop.systemd1.ShuttingDown": {"the host is shutting down",
		"Run converge apply again when the host is up."},

	"org.freedesktop.DBus.Error.AccessDenied": {"access was denied", "Run converge as root."},
	"org.freedesktop.DBus.Error.InteractiveAuthorizationRequired": {"only an administrator may do that",
		"Run converge as root."},
	"org.freedesktop.DBus.Error.ServiceUnknown": {"the D-Bus daemon runs, but systemd is not on its bus",
		"Run converge on a host that was booted with systemd."},
	"org.freedesktop.DBus.Error.NameHasNoOwner": {"the D-Bus daemon runs, but systemd is not on its bus",
		"Run converge on a host that was booted with systemd."},
	"org.freedesktop.DBus.Error.InvalidArgs": {"systemd takes that for no unit's name",
		"Correct the name UNIT; systemctl list-unit-files lists all there are."},
	"org.freedesktop.DBus.Error.NoReply": {"systemd did not answer in time",
		"Look at systemctl status and the load of the host, then run converge apply again."},
}

// unitError words a failure of doing something to a unit (or, with "", to systemd as a whole); nil stays nil.
func unitError(err error, doing, name string) error {
	var bus godbus.Error
	var job jobFailure
	switch {
	case err == nil:
		return nil
	case errors.As(err, &bus):
		advice, known := busAdvice[bus.Name]
		if !known {
			return diag.Wrap(err, doing, "")
		}
		if name == "" {
			name = "the unit"
		}
		return diag.Wrap(&busError{advice.what, bus}, doing, strings.ReplaceAll(advice.fix, "UNIT", name))
	case errors.As(err, &job):
		return diag.Wrap(err, doing, fmt.Sprintf("Read why with: journalctl -u %s -n 20", name))
	case errors.Is(err, errNoInstall):
		return diag.Wrap(err, doing, "Take enabled = true out of its block, or add an [Install] section to its unit file.")
	case errors.Is(err, ErrNoSystemd):
		return diag.Wrap(err, doing, "Run converge as root on a host that was booted with systemd: only there it can manage units.")
	case errors.Is(err, errNoAnswer):
		return diag.Wrap(err, doing, "Look at journalctl -b _PID=1 -n 20: systemd hangs, or has crashed and the host needs a reboot.")
	case errors.Is(err, errLostConnection), errors.Is(err, godbus.ErrClosed):
		return diag.Wrap(err, doing, "Run converge apply again.")
	}
	return diag.Wrap(err, doing, "")
}

// busError is an error of the bus in our words.
type busError struct {
	what string
	err  godbus.Error
}

func (e *busError) Error() string { return e.what }
func (e *busError) Unwrap() error { return e.err }
