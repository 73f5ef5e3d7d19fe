package host_test

import (
	"errors"
	"os"
	"path/filepath"
	"testing"

	"github.com/converge-agent/converge/host"
)

// TestOutputFollowsNoLinkOfOthers: who owns a directory on the way to an output must not choose where root writes.
func TestOutputFollowsNoLinkOfOthers(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Fatal("it takes root to give a link to another user")
	}
	dir := t.TempDir()
	target, way := filepath.Join(dir, "target"), filepath.Join(dir, "way")
	if err := errors.Join(os.Mkdir(target, 0o755), os.Mkdir(way, 0o755), os.Symlink(target, filepath.Join(way, "link")),
		os.Lchown(filepath.Join(way, "link"), 1234, 1234), os.Chown(way, 1234, 1234)); err != nil {
		t.Fatal(err)
	}
	f, err := host.OpenOutput(filepath.Join(way, "link", "out"))
	if !errors.Is(err, host.ErrUnsafe) {
		t.Errorf("got %v, want that the link is not followed", err)
	}
	if f != nil {
		_ = f.Close()
	}
	if names, err := os.ReadDir(target); err != nil || len(names) > 0 {
		t.Errorf("written through the link of another user: %v, %v", names, err)
	}
}
