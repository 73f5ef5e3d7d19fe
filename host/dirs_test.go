package host_test

import (
	"testing"

	"github.com/converge-agent/converge/host"
	"github.com/converge-agent/converge/host/hosttest"
)

func TestMissingDirs(t *testing.T) {
	m := hosttest.NewMemory()
	m.Put("/srv/data", host.File{Type: host.Directory, Mode: 0o755})
	edits, err := host.MissingDirs(m, "/srv/data/a/b", 0o750, 7, 8)
	if err != nil || len(edits) != 2 {
		t.Fatalf("got %+v, %v; want two edits", edits, err)
	}
	for _, e := range edits {
		if err := m.Commit(t.Context(), e); err != nil {
			t.Fatal(err)
		}
	}
	f, err := m.Lookup("/srv/data/a/b")
	if err != nil || f == nil || f.Type != host.Directory || f.Mode != 0o750 || f.UID != 7 || f.GID != 8 {
		t.Errorf("got %+v, %v", f, err)
	}
	if edits, err = host.MissingDirs(m, "/srv/data/a/b", 0o750, 7, 8); err != nil || len(edits) != 0 {
		t.Errorf("the second time: got %+v, %v; want nothing", edits, err)
	}
}
