package sandbox

import (
	"encoding/hex"
	"fmt"
	"path"
	"strings"
	"sync"

	"github.com/godbus/dbus/v5"
)

const (
	busName      = "org.freedesktop.systemd1"
	managerPath  = dbus.ObjectPath("/org/freedesktop/systemd1")
	managerIface = busName + ".Manager"
	unitRoot     = managerPath + "/unit"
	jobRoot      = managerPath + "/job"
	propsIface   = "org.freedesktop.DBus.Properties"
)

// manager is the object org.freedesktop.systemd1.Manager. Its exported methods are those of the interface, and have its
// names, arguments and results (org.freedesktop.systemd1(5)).
type manager struct {
	starter *starter

	mu    sync.Mutex
	conn  *dbus.Conn
	units map[string]*unit
	jobs  uint32
	work  sync.WaitGroup
}

func newManager(units []Unit) *manager {
	m := &manager{starter: newStarter(), units: map[string]*unit{}}
	for _, u := range units {
		m.units[u.Name] = newUnit(u, m.starter)
	}
	return m
}

// export puts the manager and its units on the bus under systemd's name.
func (m *manager) export(conn *dbus.Conn) error {
	m.mu.Lock()
	m.conn = conn
	m.mu.Unlock()
	if err := conn.Export(m, managerPath, managerIface); err != nil {
		return err
	}
	if err := conn.ExportSubtree(properties{m}, unitRoot, propsIface); err != nil {
		return err
	}
	reply, err := conn.RequestName(busName, dbus.NameFlagDoNotQueue)
	if err == nil && reply != dbus.RequestNameReplyPrimaryOwner {
		err = fmt.Errorf("the name %s is taken on the bus", busName)
	}
	return err
}

func (m *manager) close() {
	m.work.Wait()
	for _, u := range m.units {
		u.stop()
	}
	m.starter.close()
}

func (m *manager) find(name string) (*unit, *dbus.Error) {
	if u, ok := m.units[name]; ok {
		return u, nil
	}
	return nil, failure("NoSuchUnit", "Unit %s not found.", name)
}

func failure(name, format string, args ...any) *dbus.Error {
	return dbus.NewError(busName+"."+name, []any{fmt.Sprintf(format, args...)})
}

// job does f for a unit and tells the bus of its end.
func (m *manager) job(name string, f func(*unit) string) (dbus.ObjectPath, *dbus.Error) {
	u, bad := m.find(name)
	if bad != nil {
		return "", bad
	}
	m.mu.Lock()
	m.jobs++
	id, conn := m.jobs, m.conn
	m.mu.Unlock()
	job := jobRoot + dbus.ObjectPath(fmt.Sprintf("/%d", id))
	m.work.Go(func() {
		result := f(u)
		_ = conn.Emit(managerPath, managerIface+".JobRemoved", id, job, name, result) // fails when the bus is gone
	})
	return job, nil
}

// LoadUnit returns the object of a unit, which need not exist.
func (m *manager) LoadUnit(name string) (dbus.ObjectPath, *dbus.Error) { return unitPath(name), nil }

// GetUnit returns the object of a unit.
func (m *manager) GetUnit(name string) (dbus.ObjectPath, *dbus.Error) {
	_, bad := m.find(name)
	return unitPath(name), bad
}

// StartUnit starts a unit that does not run.
func (m *manager) StartUnit(name, _ string) (dbus.ObjectPath, *dbus.Error) {
	if bad := m.refuseMasked(name); bad != nil {
		return "", bad
	}
	return m.job(name, (*unit).start)
}

// StopUnit stops a unit.
func (m *manager) StopUnit(name, _ string) (dbus.ObjectPath, *dbus.Error) {
	return m.job(name, (*unit).stop)
}

// RestartUnit stops a unit and starts it.
func (m *manager) RestartUnit(name, _ string) (dbus.ObjectPath, *dbus.Error) {
	if bad := m.refuseMasked(name); bad != nil {
		return "", bad
	}
	return m.job(name, func(u *unit) string {
		u.stop()
		return u.start()
	})
}

// ReloadUnit signals the process of a unit.
func (m *manager) ReloadUnit(name, _ string) (dbus.ObjectPath, *dbus.Error) {
	if u := m.units[name]; u != nil && u.Reload == 0 {
		return "", failure("JobTypeNotApplicable", "Job type reload is not applicable for unit %s.", name)
	}
	return m.job(name, (*unit).reload)
}

func (m *manager) refuseMasked(name string) *dbus.Error {
	if u := m.units[name]; u != nil && u.isMasked() {
		return failure("UnitMasked", "Unit %s is masked.", name)
	}
	return nil
}

// Reload would read unit files again, of which there are none.
func (m *manager) Reload() *dbus.Error { return nil }

// Subscribe is for signals that are sent to everybody anyway.
func (m *manager) Subscribe() *dbus.Error { return nil }

// fileChange is one link to a unit file that was made or removed.
type fileChange struct{ Kind, Link, Target string }

// changeFiles sets a state of unit files; those that have it already are not in the result.
func (m *manager) changeFiles(names []string, kind string, set func(*unit) bool) ([]fileChange, *dbus.Error) {
	changes := []fileChange{}
	for _, name := range names {
		u, bad := m.find(name)
		if bad != nil {
			return nil, bad
		}
		if set(u) {
			changes = append(changes, fileChange{kind, "/etc/systemd/system/" + name, ""})
		}
	}
	return changes, nil
}

// EnableUnitFiles has units start at boot.
func (m *manager) EnableUnitFiles(names []string, _, _ bool) (bool, []fileChange, *dbus.Error) {
	changes, bad := m.changeFiles(names, "symlink", func(u *unit) bool { return u.setEnabled(true) })
	return true, changes, bad
}

// DisableUnitFiles has units not start at boot.
func (m *manager) DisableUnitFiles(names []string, _ bool) ([]fileChange, *dbus.Error) {
	return m.changeFiles(names, "unlink", func(u *unit) bool { return u.setEnabled(false) })
}

// MaskUnitFiles keeps units from being started.
func (m *manager) MaskUnitFiles(names []string, _, _ bool) ([]fileChange, *dbus.Error) {
	return m.changeFiles(names, "symlink", func(u *unit) bool { return u.setMasked(true) })
}

// UnmaskUnitFiles undoes MaskUnitFiles.
func (m *manager) UnmaskUnitFiles(names []string, _ bool) ([]fileChange, *dbus.Error) {
	return m.changeFiles(names, "unlink", func(u *unit) bool { return u.setMasked(false) })
}

// properties are org.freedesktop.DBus.Properties of all units.
type properties struct{ manager *manager }

// GetAll returns the properties of a unit; one that does not exist has a few too, as systemd's do.
func (p properties) GetAll(msg dbus.Message, _ string) (map[string]dbus.Variant, *dbus.Error) {
	name := unitName(msg)
	if u, ok := p.manager.units[name]; ok {
		return u.properties(), nil
	}
	return map[string]dbus.Variant{
		"Id": dbus.MakeVariant(name), "LoadState": dbus.MakeVariant("not-found"),
		"ActiveState": dbus.MakeVariant("inactive"), "SubState": dbus.MakeVariant("dead"),
	}, nil
}

// Get returns one property of a unit.
func (p properties) Get(msg dbus.Message, iface, name string) (dbus.Variant, *dbus.Error) {
	all, bad := p.GetAll(msg, iface)
	if v, ok := all[name]; ok || bad != nil {
		return v, bad
	}
	return dbus.Variant{}, dbus.NewError("org.freedesktop.DBus.Error.UnknownProperty", []any{"Unknown property " + name})
}

// unitPath is the object of a unit: letters and digits stand for themselves, the rest is _xx
// (sd_bus_path_encode(3)).
func unitPath(name string) dbus.ObjectPath {
	var b strings.Builder
	for i := range len(name) {
		c := name[i]
		if c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z' || i > 0 && c >= '0' && c <= '9' {
			b.WriteByte(c)
			continue
		}
		fmt.Fprintf(&b, "_%02x", c)
	}
	return unitRoot + dbus.ObjectPath("/"+b.String())
}

// unitName is the unit whose object a message is for.
func unitName(msg dbus.Message) string {
	object, _ := msg.Headers[dbus.FieldPath].Value().(dbus.ObjectPath)
	encoded := path.Base(string(object))
	var name []byte
	for i := 0; i < len(encoded); i++ {
		if encoded[i] == '_' && i+2 < len(encoded) {
			if c, err := hex.DecodeString(encoded[i+1 : i+3]); err == nil {
				name = append(name, c...)
				i += 2
				continue
			}
		}
		name = append(name, encoded[i])
	}
	return string(name)
}
