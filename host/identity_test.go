package host_test

import (
	"strings"
	"testing"

	"github.com/converge-agent/converge/host"
	"github.com/converge-agent/converge/host/hosttest"
)

// TestIdentity compares with what systemd makes of the same id:
// systemd-id128 machine-id --app-specific=5b8e0f631cd44a279e7130c8af1562e9
func TestIdentity(t *testing.T) {
	files := hosttest.NewMemory()
	files.Put("/etc", host.File{Type: host.Directory, Mode: 0o755})
	for content, want := range map[string]string{
		"0123456789abcdef0123456789abcdef\n": "6baa9997af394654a865d5d2a9e14cdb",
		"uninitialized\n":                    "", "": "", "0123\n": "",
	} {
		files.Put("/etc/machine-id", host.File{Content: []byte(content), Mode: 0o444})
		got, err := host.Identity(files)
		if err != nil || got != want {
			t.Errorf("%q: got %q, %v; want %q", content, got, err, want)
		}
		if strings.Contains(got, "0123456789abcdef") {
			t.Errorf("it shows the id: %q", got)
		}
	}
	files.Remove("/etc/machine-id")
	if got, err := host.Identity(files); err != nil || got != "" {
		t.Errorf("without one: got %q, %v", got, err)
	}
}
