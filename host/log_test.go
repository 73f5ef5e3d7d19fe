package host_test

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"github.com/converge-agent/converge/host"
)

func TestLog(t *testing.T) {
	path := filepath.Join(t.TempDir(), "log")
	l, err := host.CreateLog(path)
	must(t, err)
	must(t, l.Append([]byte("one\n")))
	must(t, l.Add([]byte("two\n")))
	text, open, err := host.ReadLog(path)
	must(t, err)
	if string(text) != "one\ntwo\n" || !open {
		t.Errorf("while it is written: %q, open %v", text, open)
	}
	if _, err := host.CreateLog(path); !errors.Is(err, fs.ErrExist) {
		t.Errorf("a second log of one name: %v", err)
	}
	l.Close()
	if _, open, err = host.ReadLog(path); err != nil || open {
		t.Errorf("after its end: open %v, %v", open, err)
	}
	info, err := os.Stat(path)
	must(t, err)
	if info.Mode() != 0o600 {
		t.Errorf("mode %v", info.Mode())
	}
	if _, _, err := host.ReadLog(path + "x"); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("reading none: %v", err)
	}
}

func TestLogIsNoOther(t *testing.T) {
	dir := t.TempDir()
	must(t, os.Symlink(filepath.Join(dir, "elsewhere"), filepath.Join(dir, "log")))
	if _, err := host.CreateLog(filepath.Join(dir, "log")); !errors.Is(err, fs.ErrExist) {
		t.Errorf("a link in its place: %v", err)
	}
	if _, err := os.Lstat(filepath.Join(dir, "elsewhere")); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("the link was followed: %v", err)
	}
	must(t, os.WriteFile(filepath.Join(dir, "file"), []byte("x"), 0o600))
	if _, _, err := host.ReadLog(filepath.Join(dir, "log")); !errors.Is(err, syscall.ELOOP) {
		t.Errorf("reading a link: %v", err)
	}
	if _, err := host.CreateLog(filepath.Join(dir, "none/log")); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("without its directory: %v", err)
	}
}

func TestLogThatNothingWasWrittenTo(t *testing.T) {
	path := filepath.Join(t.TempDir(), "log")
	l, err := host.CreateLog(path)
	must(t, err)
	l.Close()
	if _, err := os.Stat(path); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("it stays: %v", err)
	}
}

// TestLogOnAFullDisk: what cannot be written whole leaves what was there, and what fits afterwards follows on it.
func TestLogOnAFullDisk(t *testing.T) {
	path := filepath.Join(t.TempDir(), "log")
	out, err := limited(t, "log", path).CombinedOutput()
	if err != nil || string(out) != "ok\n" {
		t.Fatalf("%v\n%s", err, out)
	}
	text, _, err := host.ReadLog(path)
	must(t, err)
	if want := strings.Repeat("a", 1000) + "\nlast\n"; string(text) != want {
		t.Errorf("it holds %d bytes: …%q", len(text), text[max(0, len(text)-20):])
	}
}
