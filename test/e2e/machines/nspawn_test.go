package machines

import (
	"context"
	"slices"
	"strings"
	"testing"

	"github.com/converge-agent/converge/test/machine"
)

func TestPackages(t *testing.T) {
	for _, role := range []Role{Instance, Services} {
		got := Packages(role, "trixie")
		for _, pkg := range machine.Minimum() {
			if !slices.Contains(got, pkg) {
				t.Errorf("%s hosts have no %s", role, pkg)
			}
		}
		if ruby := slices.Contains(got, "ruby"); ruby != (role == Instance) {
			t.Errorf("%s hosts have ruby = %v", role, ruby)
		}
	}
}

// TestNspawnJournalOfAMachineThatIsOff reads what is kept of a failed scenario when the machine was killed in it.
func TestNspawnJournalOfAMachineThatIsOff(t *testing.T) {
	d := nspawnDriver(t)
	ms := startAll(t, d, []Spec{{"old", Services, "bookworm"}, {"new", Instance, "trixie"}})
	for _, m := range ms {
		say(t, m, "before the power cut")
		if err := m.Kill(t.Context()); err != nil {
			t.Fatal(err)
		}
		journal, err := m.Journal(t.Context())
		if err != nil || !strings.Contains(journal, "conformance: before the power cut") {
			t.Errorf("journal of %s = %v\n%s", m.Name(), err, journal)
		}
	}
}

func TestNspawnAfterAStartThatFailed(t *testing.T) {
	d := nspawnDriver(t)
	if _, err := d.DialContext(t.Context(), "tcp", "10.77.0.11:80"); err == nil || !strings.Contains(err.Error(), "no machines") {
		t.Errorf("dial before any start = %v", err)
	}
	specs := []Spec{{"good", Services, "bookworm"}, {"bad", Services, "none"}}
	if _, err := d.Start(t.Context(), specs...); err == nil || !strings.Contains(err.Error(), "bad") {
		t.Fatalf("Start = %v, want an error that names the machine bad", err)
	}
	if _, err := d.Start(t.Context(), specs[0]); err == nil || !strings.Contains(err.Error(), "stop") {
		t.Fatalf("Start = %v, want an error that says to stop first", err)
	}
	if err := d.Stop(t.Context()); err != nil {
		t.Fatal(err)
	}
	m := startAll(t, d, specs[:1])[0]
	if err := m.Boot(t.Context()); err == nil {
		t.Error("a machine was booted that was on")
	}
	must(t, m, "true")
}

func nspawnDriver(t *testing.T) Driver {
	t.Helper()
	d, err := Nspawn(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := d.Stop(context.Background()); err != nil {
			t.Error(err)
		}
	})
	return d
}
