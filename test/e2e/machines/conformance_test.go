package machines

import (
	"context"
	"flag"
	"fmt"
	"io"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/converge-agent/converge/test/machine"
)

var driverName = flag.String("driver", "nspawn", "which driver's machines to test: nspawn or vagrant")

// TestDriver runs the conformance suite on the driver that was asked for.
func TestDriver(t *testing.T) {
	switch *driverName {
	case "nspawn":
		d, err := Nspawn(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		conformance(t, d, "bookworm", "trixie")
	case "vagrant":
		d, err := Vagrant(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		conformance(t, d, vmRelease)
		testVagrant(t, d)
	default:
		t.Fatalf("no driver is called %q", *driverName)
	}
}

// conformance tests what the suite relies on: an instance host of each release, and a services host of the first.
func conformance(t *testing.T, d Driver, releases ...string) {
	specs := []Spec{{Name: "services", Role: Services, Release: releases[0]}}
	for _, release := range releases {
		specs = append(specs, Spec{Name: "social-" + release, Role: Instance, Release: release})
	}
	t.Cleanup(func() {
		if err := d.Stop(context.Background()); err != nil {
			t.Error(err)
		}
	})
	started := startAll(t, d, specs)
	services := started[0]
	servePages(t, services)

	for i, m := range started {
		t.Run(m.Name(), func(t *testing.T) {
			t.Run("is what was asked for", func(t *testing.T) { testIdentity(t, m, specs[i]) })
			t.Run("runs commands", func(t *testing.T) { testRun(t, m) })
			t.Run("takes and gives files", func(t *testing.T) { testFiles(t, m) })
			if specs[i].Role != Instance {
				return
			}
			t.Run("has what an instance needs", func(t *testing.T) { testInstance(t, d, m) })
			t.Run("is unplugged and plugged", func(t *testing.T) { testCable(t, d, m, services) })
			t.Run("keeps what it must over power cut and reboot", func(t *testing.T) { testPower(t, d, m, services) })
			t.Run("is up when a unit has failed", func(t *testing.T) { testBootWithFailedUnit(t, m) })
			t.Run("sets its clock or says why not", func(t *testing.T) { testClock(t, d, m) })
		})
	}
	t.Run("starts fresh machines", func(t *testing.T) {
		old := started[1]
		if err := old.Put(t.Context(), "/etc/of-the-old", "", 0o644); err != nil {
			t.Fatal(err)
		}
		if err := d.Stop(t.Context()); err != nil {
			t.Fatal(err)
		}
		if err := d.Stop(t.Context()); err != nil {
			t.Errorf("stop what has been stopped = %v", err)
		}
		if r, err := old.Run(t.Context(), "true"); err == nil {
			t.Errorf("a command ran in a machine that was stopped: %+v", r)
		}
		fresh := startAll(t, d, specs[:2])[1]
		if got, err := fresh.Get(t.Context(), "/etc/of-the-old"); err == nil {
			t.Errorf("a file of the earlier machine is there: %q", got)
		}
		if d.Has(Clock) {
			wantClock(t, fresh, time.Now())
		}
	})
}

func startAll(t *testing.T, d Driver, specs []Spec) []Machine {
	t.Helper()
	ms, err := d.Start(t.Context(), specs...)
	if err != nil {
		t.Fatal(err)
	}
	if len(ms) != len(specs) {
		t.Fatalf("%d machines were started, want %d", len(ms), len(specs))
	}
	return ms
}

// servePages has the services host answer on port 80. Its nginx is masked.
func servePages(t *testing.T, services Machine) {
	t.Helper()
	must(t, services, "systemctl", "unmask", "nginx")
	must(t, services, "systemctl", "start", "nginx")
}

func testIdentity(t *testing.T, m Machine, want Spec) {
	if got := must(t, m, "hostname"); m.Name() != want.Name || got != want.Name+"\n" {
		t.Errorf("Name = %q and hostname = %q, want %q", m.Name(), got, want.Name)
	}
	if got := must(t, m, "cat", "/etc/os-release"); !strings.Contains(got, "VERSION_CODENAME="+want.Release+"\n") {
		t.Errorf("os-release = %s, want %s", got, want.Release)
	}
	if got := must(t, m, "cat", "/proc/1/comm"); got != "systemd\n" {
		t.Errorf("process 1 = %q, want systemd", got)
	}
	if got := must(t, m, "systemctl", "is-system-running"); got != "running\n" {
		t.Errorf("is-system-running = %q", got)
	}
	if got := must(t, m, "hostname", "-I"); !slices.Contains(strings.Fields(got), m.IP()) {
		t.Errorf("IP = %s, the machine's addresses = %s", m.IP(), got)
	}
}

func testRun(t *testing.T, m Machine) {
	r, err := m.Run(t.Context(), "sh", "-c", `printf '%s\n' "$1"; echo err >&2; id -u; exit 3`, "sh", "a  'b' $c;\n\"d\" *")
	if want := (machine.Result{Code: 3, Stdout: "a  'b' $c;\n\"d\" *\n0\n", Stderr: "err\n"}); err != nil || r != want {
		t.Errorf("Run = %+v, %v, want %+v", r, err, want)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if r, err := m.Run(ctx, "true"); err == nil {
		t.Errorf("Run with a context that has ended = %+v", r)
	}
}

func testFiles(t *testing.T, m Machine) {
	const path = "/srv/put/deep er/it's a file"
	for _, content := range []string{"", "no newline", "bytes \x00\xff\r\n\n", strings.Repeat("0123456789abcdef", 1<<16)} {
		if err := m.Put(t.Context(), path, content, 0o640); err != nil {
			t.Fatal(err)
		}
		if got, err := m.Get(t.Context(), path); err != nil || got != content {
			t.Errorf("Get = %d bytes %.20q, %v, want %d bytes %.20q", len(got), got, err, len(content), content)
		}
	}
	if got := must(t, m, "stat", "-c", "%a %U", path); got != "640 root\n" {
		t.Errorf("mode and owner = %s, want 640 root", got)
	}
	if got := must(t, m, "ls", "-A", "/srv/put/deep er"); got != "it's a file\n" {
		t.Errorf("Put left behind: %q", got)
	}
	_, err := m.Get(t.Context(), "/none")
	if err == nil || !strings.Contains(err.Error(), m.Name()) || !strings.Contains(err.Error(), "/none") {
		t.Errorf("error = %v, want one that names %s and /none", err, m.Name())
	}
	if err := m.Put(t.Context(), "/proc/none", "", 0o644); err == nil || !strings.Contains(err.Error(), m.Name()) {
		t.Errorf("error = %v, want one that names %s", err, m.Name())
	}
}

func testInstance(t *testing.T, d Driver, m Machine) {
	wantPage(t, d, m)
	must(t, m, "ruby", "-e", `require "aws-sdk-s3"; require "dotenv"; require "webrick"
		raise "no XML" unless Aws::Xml::Parser.new(Aws::S3::Client.api.operation(:list_buckets).output).parse("<a/>")
		raise "no dotenv" unless Dotenv::Parser.call("A='b'") == {"A" => "b"}`)
}

func testCable(t *testing.T, d Driver, m, services Machine) {
	wantReach(t, m, services)
	if err := m.Unplug(t.Context()); err != nil {
		t.Fatal(err)
	}
	for _, way := range [][2]Machine{{m, services}, {services, m}} {
		if r := fetch(t, way[0], way[1], 3); r.Code == 0 {
			t.Errorf("%s reaches %s, though %s is unplugged", way[0].Name(), way[1].Name(), m.Name())
		}
	}
	ctx, cancel := context.WithTimeout(t.Context(), 3*time.Second)
	defer cancel()
	if c, err := d.DialContext(ctx, "tcp", m.IP()+":80"); err == nil {
		_ = c.Close()
		t.Error("the driver reaches a machine that is unplugged")
	}
	wantPage(t, d, services)
	if err := m.Put(t.Context(), "/root/unplugged", "still here", 0o600); err != nil {
		t.Error(err)
	}
	if got, err := m.Get(t.Context(), "/root/unplugged"); err != nil || got != "still here" {
		t.Errorf("Get while unplugged = %q, %v", got, err)
	}
	if err := m.Plug(t.Context()); err != nil {
		t.Fatal(err)
	}
	wantReach(t, m, services)
	wantReach(t, services, m)
	wantPage(t, d, m)
}

// farewell leaves a file when it is stopped in good order.
const farewell = `[Service]
Type=oneshot
RemainAfterExit=yes
ExecStart=/bin/true
ExecStop=/bin/touch /var/lib/farewell
[Install]
WantedBy=multi-user.target
`

func testPower(t *testing.T, d Driver, m, services Machine) {
	if err := m.Put(t.Context(), "/etc/systemd/system/farewell.service", farewell, 0o644); err != nil {
		t.Fatal(err)
	}
	must(t, m, "systemctl", "daemon-reload")
	must(t, m, "systemctl", "enable", "--now", "farewell")
	say(t, m, "first boot")
	must(t, m, "sync")
	neighbour, first := bootID(t, services), bootID(t, m)

	if err := m.Kill(t.Context()); err != nil {
		t.Fatal(err)
	}
	if r, err := m.Run(t.Context(), "true"); err == nil {
		t.Errorf("a command ran in a machine without power: %+v", r)
	}
	if err := m.Boot(t.Context()); err != nil {
		t.Fatal(err)
	}
	second := bootID(t, m)
	if second == first {
		t.Error("Kill and Boot did not boot the machine")
	}
	if got := must(t, m, "ls", "/var/lib"); strings.Contains(got, "farewell") {
		t.Error("Kill let a unit stop in good order")
	}
	wantReach(t, m, services)
	wantPage(t, d, m)
	say(t, m, "second boot")

	if err := m.Reboot(t.Context()); err != nil {
		t.Fatal(err)
	}
	if bootID(t, m) == second {
		t.Error("Reboot did not boot the machine")
	}
	must(t, m, "ls", "/var/lib/farewell")
	wantReach(t, m, services)
	wantPage(t, d, m)
	say(t, m, "third boot")
	if bootID(t, services) != neighbour {
		t.Errorf("%s was booted together with %s", services.Name(), m.Name())
	}

	journal, err := m.Journal(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	rest := journal
	for _, said := range []string{"first boot", "second boot", "third boot"} {
		_, after, found := strings.Cut(rest, "conformance: "+said)
		if !found {
			t.Fatalf("the journal has no %q where it should be:\n%s", said, journal)
		}
		rest = after
	}
}

func testBootWithFailedUnit(t *testing.T, m Machine) {
	const unit = "[Service]\nType=oneshot\nExecStart=/bin/false\n[Install]\nWantedBy=multi-user.target\n"
	if err := m.Put(t.Context(), "/etc/systemd/system/failing.service", unit, 0o644); err != nil {
		t.Fatal(err)
	}
	must(t, m, "systemctl", "enable", "failing")
	if err := m.Reboot(t.Context()); err != nil {
		t.Errorf("Reboot = %v", err)
	}
	if got := must(t, m, "systemctl", "--failed", "--plain", "--no-legend"); !strings.Contains(got, "failing.service") {
		t.Errorf("failed units = %q, want failing.service", got)
	}
	must(t, m, "sync")
	if err := m.Kill(t.Context()); err != nil {
		t.Fatal(err)
	}
	if err := m.Boot(t.Context()); err != nil {
		t.Errorf("Boot = %v", err)
	}
	must(t, m, "systemctl", "disable", "failing")
	must(t, m, "systemctl", "reset-failed", "failing")
}

func testClock(t *testing.T, d Driver, m Machine) {
	to := time.Now().AddDate(0, 2, 0)
	err := m.SetClock(t.Context(), to)
	if d.Has(Clock) {
		if err != nil {
			t.Fatal(err)
		}
		wantClock(t, m, to)
		return
	}
	if err == nil || !strings.Contains(err.Error(), m.Name()) {
		t.Errorf("SetClock = %v, want an error that names %s", err, m.Name())
	}
	wantClock(t, m, time.Now())
}

// wantClock wants the machine's clock within half a day of a time: the test may take long.
func wantClock(t *testing.T, m Machine, want time.Time) {
	t.Helper()
	var seconds int64
	if _, err := fmt.Sscan(must(t, m, "date", "+%s"), &seconds); err != nil {
		t.Fatal(err)
	}
	if got := time.Unix(seconds, 0); got.Sub(want).Abs() > 12*time.Hour {
		t.Errorf("clock of %s = %s, want %s", m.Name(), got, want)
	}
}

// wantPage waits for nginx's page of a machine, as the driver dials it.
func wantPage(t *testing.T, d Driver, m Machine) {
	t.Helper()
	client := &http.Client{Transport: &http.Transport{DialContext: d.DialContext}, Timeout: time.Minute}
	defer client.CloseIdleConnections()
	await(t, "the page of "+m.Name(), func() error {
		resp, err := client.Get("http://" + m.IP() + "/")
		if err != nil {
			return err
		}
		defer func() { _ = resp.Body.Close() }()
		body, err := io.ReadAll(resp.Body)
		if err == nil && !strings.Contains(string(body), "nginx") {
			err = fmt.Errorf("%s: %s", resp.Status, body)
		}
		return err
	})
}

// wantReach waits until one machine gets the page of another.
func wantReach(t *testing.T, from, to Machine) {
	t.Helper()
	await(t, from.Name()+" to reach "+to.Name(), func() error {
		if r := fetch(t, from, to, 20); r.Code != 0 {
			return fmt.Errorf("curl ended with %d: %s", r.Code, r.Stderr)
		}
		return nil
	})
}

// fetch gets the page of a machine from another, within some seconds.
func fetch(t *testing.T, from, to Machine, seconds int) machine.Result {
	t.Helper()
	r, err := from.Run(t.Context(), "curl", "--silent", "--show-error", "--fail", "--max-time", strconv.Itoa(seconds), "http://"+to.IP()+"/")
	if err != nil {
		t.Fatal(err)
	}
	return r
}

// await polls until check is content.
func await(t *testing.T, what string, check func() error) {
	t.Helper()
	deadline := time.Now().Add(3 * time.Minute)
	for {
		err := check()
		if err == nil {
			return
		}
		if time.Now().After(deadline) {
			t.Fatalf("waited for %s: %v", what, err)
		}
		select {
		case <-t.Context().Done():
			t.Fatalf("waited for %s: %v", what, err)
		case <-time.After(100 * time.Millisecond):
		}
	}
}

// say writes a line to the journal, and has it on disk.
func say(t *testing.T, m Machine, what string) {
	t.Helper()
	must(t, m, "sh", "-c", `echo "conformance: $1" | systemd-cat && journalctl --sync`, "sh", what)
}

func bootID(t *testing.T, m Machine) string {
	t.Helper()
	return must(t, m, "cat", "/proc/sys/kernel/random/boot_id")
}

func must(t *testing.T, m Machine, command ...string) string {
	t.Helper()
	r, err := m.Run(t.Context(), command...)
	if err != nil {
		t.Fatal(err)
	}
	if r.Code != 0 {
		t.Fatalf("%q in %s ended with %d: %s%s", command, m.Name(), r.Code, r.Stdout, r.Stderr)
	}
	return r.Stdout
}
