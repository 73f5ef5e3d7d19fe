package main

import (
	"context"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/converge-agent/converge/test/e2e/machines"
	"github.com/converge-agent/converge/test/e2e/services"
)

// TestInstanceHost runs the program as the Vagrantfile does, in a container.
func TestInstanceHost(t *testing.T) {
	ctx := t.Context()
	must := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	built := filepath.Join(t.TempDir(), "instance")
	build := exec.CommandContext(ctx, "go", "build", "-o", built, ".")
	build.Env = append(os.Environ(), "CGO_ENABLED=0")
	if out, err := build.CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	program, err := os.ReadFile(built)
	must(err)
	d, err := machines.Nspawn(ctx)
	must(err)
	t.Cleanup(func() {
		if err := d.Stop(context.Background()); err != nil {
			t.Error(err)
		}
	})
	started, err := d.Start(ctx, machines.Spec{Name: "social1", Role: machines.Instance, Release: "bookworm"},
		machines.Spec{Name: "services", Role: machines.Services, Release: "bookworm"})
	must(err)
	social, other := started[0], started[1]
	_, err = services.Start(ctx, d, other, services.Options{
		Provider: "backblaze-b2", Resolve: map[string]string{"example.com": social.IP(), "files.example.com": social.IP()},
	})
	must(err)
	must(social.Put(ctx, "/opt/converge/instance", string(program), 0o755))
	must(social.Put(ctx, "/opt/converge/backblaze-b2.hcl", "# an example\n", 0o644))
	r, err := social.Run(ctx, "sh", "-ec", "/opt/converge/instance --ip "+social.IP()+" --services "+other.IP()+
		` --files 40 --example /opt/converge/backblaze-b2.hcl
		curl -fsS https://example.com/ && ls /etc/converge && stat -c %a /etc/credstore/*`)
	must(err)
	for _, want := range []string{"<html", "backblaze-b2.hcl", "\n600\n600\n600\n600\n"} {
		if r.Code != 0 || !strings.Contains(r.Stdout, want) {
			t.Errorf("exit code %d, and no %q:\n%s%s", r.Code, want, r.Stdout, r.Stderr)
		}
	}
}
