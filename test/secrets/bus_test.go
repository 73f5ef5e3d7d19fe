package secrets

import (
	"fmt"
	"sync"
	"testing"
	"time"

	"github.com/godbus/dbus/v5"
)

// busMonitor keeps every message on a bus.
type busMonitor struct {
	address  string
	messages chan *dbus.Message

	mu   sync.Mutex
	kept []*dbus.Message
}

// listen begins to keep messages (D-Bus specification, org.freedesktop.DBus.Monitoring.BecomeMonitor).
func listen(t *testing.T, address string) *busMonitor {
	t.Helper()
	m := &busMonitor{address: address, messages: make(chan *dbus.Message, 1000)}
	conn, err := dbus.Connect(address)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = conn.Close() })
	if err := conn.BusObject().Call("org.freedesktop.DBus.Monitoring.BecomeMonitor", 0, []string{}, uint32(0)).Err; err != nil {
		t.Fatal(err)
	}
	conn.Eavesdrop(m.messages) // from now on it gets no answers to calls
	go func() {
		for msg := range m.messages {
			m.mu.Lock()
			m.kept = append(m.kept, msg)
			m.mu.Unlock()
		}
	}()
	return m
}

// markInterface is that of the signals that drain sends.
const markInterface = "test.Mark"

// drain returns all messages that were sent before, and forgets them: it sends one of its own and waits until that is there.
func (m *busMonitor) drain(t *testing.T) []string {
	t.Helper()
	conn, err := dbus.Connect(m.address)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = conn.Close() }()
	mark := conn.Names()[0]
	if err := conn.Emit("/mark", markInterface+".Now", mark); err != nil {
		t.Fatal(err)
	}
	for deadline := time.Now().Add(5 * time.Minute); ; time.Sleep(time.Millisecond) {
		if before, found := m.until(mark); found {
			return before
		}
		if time.Now().After(deadline) {
			t.Fatal("the monitor of the bus does not hear a message")
		}
	}
}

// until returns the messages before the signal that carries mark, and forgets them.
func (m *busMonitor) until(mark string) (before []string, found bool) {
	m.mu.Lock()
	defer m.mu.Unlock()
	for i, msg := range m.kept {
		if len(msg.Body) == 1 && msg.Body[0] == mark && msg.Headers[dbus.FieldInterface].Value() == markInterface {
			m.kept = m.kept[i+1:]
			return before, true
		}
		before = append(before, fmt.Sprint(msg.Headers, msg.Body))
	}
	return nil, false
}
