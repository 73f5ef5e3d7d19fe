package machines

import (
	"context"
	"crypto/ed25519"
	"encoding/pem"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"golang.org/x/crypto/ssh"
)

// testVagrant tests what only this driver does: a command that is given up ends in the machine too, and a clock that was set
// stays so over what ends the kernel and the power.
func testVagrant(t *testing.T, d Driver) {
	t.Cleanup(func() {
		if err := d.Stop(context.Background()); err != nil {
			t.Error(err)
		}
	})
	if err := d.Stop(t.Context()); err != nil {
		t.Fatal(err)
	}
	spec := Spec{Name: "later", Role: Instance, Release: vmRelease}
	m := startAll(t, d, []Spec{spec})[0]
	t.Run("ends a command that is given up", func(t *testing.T) {
		ctx, cancel := context.WithTimeout(t.Context(), 5*time.Second)
		defer cancel()
		if r, err := m.Run(ctx, "sh", "-c", "sleep 4321 & wait"); err == nil {
			t.Errorf("Run = %+v, want an error", r)
		}
		await(t, "the command to end", func() error {
			if got := must(t, m, "sh", "-c", "pgrep -af '[s]leep 4321' || true"); got != "" {
				return fmt.Errorf("it runs: %s", got)
			}
			return nil
		})
	})
	to := time.Now().AddDate(0, 3, 0)
	if err := m.SetClock(t.Context(), to); err != nil {
		t.Fatal(err)
	}
	for what, again := range map[string]func(context.Context) error{"reboot": m.Reboot, "power cut": func(ctx context.Context) error {
		if err := m.Kill(ctx); err != nil {
			return err
		}
		return m.Boot(ctx)
	}} {
		t.Run("keeps its clock over a "+what, func(t *testing.T) {
			if err := again(t.Context()); err != nil {
				t.Fatal(err)
			}
			wantClock(t, m, to)
		})
	}
}

func TestVagrantAssign(t *testing.T) {
	d := &vagrant{}
	specs := []Spec{{"a", Instance, "bookworm"}, {"store", Services, "bookworm"}, {"b", Instance, "bookworm"}}
	ms, err := d.assign(specs)
	if err != nil {
		t.Fatal(err)
	}
	var got []string
	for _, m := range ms {
		got = append(got, m.Name()+" "+m.vm+" "+m.IP())
	}
	if want := "a social1 10.78.0.11, store services 10.78.0.2, b social2 10.78.0.12"; strings.Join(got, ", ") != want {
		t.Errorf("assign = %s, want %s", got, want)
	}
	for name, bad := range map[string]Spec{"trixie": {"new", Instance, "trixie"}, "services": {"other", Services, "bookworm"}} {
		if _, err := d.assign(append(specs, bad)); err == nil || !strings.Contains(err.Error(), bad.Name) || !strings.Contains(err.Error(), name) {
			t.Errorf("assign of %v = %v, want an error that names machine and %s", bad, err, name)
		}
	}
}

// TestVagrantOutsideItsNetwork is about a test process that has vagrant and libvirt, but in another network.
func TestVagrantOutsideItsNetwork(t *testing.T) {
	if err := onNetwork("192.0.2.1"); err == nil || !strings.Contains(err.Error(), "test/e2e/libvirt.sh") {
		t.Errorf("error = %v, want one that says where to run it", err)
	}
	if err := onNetwork("127.0.0.1"); err != nil {
		t.Error(err)
	}
}

func TestVagrantWithoutItsSurroundings(t *testing.T) {
	for what, env := range map[string][2]string{"libvirt": {"CONVERGE_CONSOLES", ""}, "programs": {"PATH", t.TempDir()}} {
		t.Run("no "+what, func(t *testing.T) {
			t.Setenv("CONVERGE_CONSOLES", t.TempDir())
			t.Setenv(env[0], env[1])
			if _, err := Vagrant(t.Context()); err == nil || !strings.Contains(err.Error(), "make e2e-vagrant") {
				t.Errorf("Vagrant = %v, want an error that says how to run it", err)
			}
		})
	}
}

func TestVagrantBeforeStart(t *testing.T) {
	d := &vagrant{}
	if _, err := d.DialContext(t.Context(), "tcp", "10.78.0.2:80"); err == nil || !strings.Contains(err.Error(), "no machines") {
		t.Errorf("dial before any start = %v", err)
	}
	if err := d.Stop(t.Context()); err != nil {
		t.Errorf("stop before any start = %v", err)
	}
}

// TestVagrantShellWords has a real shell read what root's shell is told.
func TestVagrantShellWords(t *testing.T) {
	words := []string{"a  b", "it's", "'", "", "$HOME", "`id`", "new\nline", `\`, "*", `"`}
	out, err := exec.Command("sh", "-c", shell(append([]string{"printf", `%s\0`}, words...))).Output()
	if want := strings.Join(words, "\x00") + "\x00"; err != nil || string(out) != want {
		t.Errorf("words = %q, %v, want %q", out, err, want)
	}
	out, err = exec.Command("sh", "-c", shell([]string{"sh", "-c", "pwd; echo $HOME $LANG $ANOTHER"})).Output()
	if err != nil || string(out) != "/\n/root C.UTF-8\n" {
		t.Errorf("directory and environment = %q, %v", out, err)
	}
}

func TestVagrantSSHConfig(t *testing.T) {
	const config = "Host services\n  HostName 192.168.121.224\n  User vagrant\n  Port 22\n  IdentityFile \"%s\"\n"
	key := filepath.Join(t.TempDir(), "a key")
	if _, err := newSSH(strings.Replace(config, "%s", key, 1)); err == nil || !strings.Contains(err.Error(), key) {
		t.Errorf("error = %v, want one that names the key that is not there", err)
	}
	_, private, err := ed25519.GenerateKey(nil)
	if err != nil {
		t.Fatal(err)
	}
	block, err := ssh.MarshalPrivateKey(private, "")
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(key, pem.EncodeToMemory(block), 0o600); err != nil {
		t.Fatal(err)
	}
	pool, err := newSSH(strings.Replace(config, "%s", key, 1))
	if err != nil || pool.addr != "192.168.121.224:22" {
		t.Errorf("newSSH = %+v, %v", pool, err)
	}
	if err := os.WriteFile(key, []byte("no key"), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := newSSH(strings.Replace(config, "%s", key, 1)); err == nil {
		t.Error("newSSH took a file for a key that is none")
	}
}
