package symlink_test

import (
	"errors"
	"strings"
	"syscall"
	"testing"

	"github.com/converge-agent/converge/diag"
	"github.com/converge-agent/converge/host"
	"github.com/converge-agent/converge/host/hosttest"
	"github.com/converge-agent/converge/resources"
	"github.com/converge-agent/converge/resources/resourcetest"
	"github.com/converge-agent/converge/resources/symlink"
	"github.com/zclconf/go-cty/cty"
)

type attrs map[string]cty.Value

func str(s string) cty.Value { return cty.StringVal(s) }

func TestConformance(t *testing.T) {
	put := func(target string) func(*resourcetest.Host) {
		return func(h *resourcetest.Host) { h.Files.Put("/etc/l", host.File{Type: host.Symlink, Target: target}) }
	}
	for name, c := range map[string]resourcetest.Case{
		"link": {
			Config: attrs{"path": str("/etc/l"), "target": str("../srv/x")},
			Drift: map[string]func(*resourcetest.Host){
				"target":  put("/elsewhere"),
				"removed": func(h *resourcetest.Host) { h.Files.Remove("/etc/l") },
			},
		},
		"absent": {Config: attrs{"path": str("/etc/l"), "ensure": str("absent")}, Setup: put("x")},
	} {
		c.Kind = symlink.Kind()
		t.Run(name, func(t *testing.T) { resourcetest.Run(t, c) })
	}
}

func create(t *testing.T, config attrs) (resources.Resource, error) {
	t.Helper()
	complete, errs := symlink.Kind().Complete(cty.ObjectVal(config))
	if len(errs) > 0 {
		t.Fatal(errs)
	}
	r, _, err := symlink.Kind().New(resources.Address{}, complete)
	return r, err
}

func TestRefusedConfigurations(t *testing.T) {
	for name, target := range map[string]cty.Value{
		"no target":    cty.NullVal(cty.String),
		"empty target": str(""),
		"itself":       str("/etc/l"),
		"too long":     str(strings.Repeat("x", 4096)),
	} {
		_, err := create(t, attrs{"path": str("/etc/l"), "target": target})
		var a *resources.AttrError
		if !errors.As(err, &a) || a.Path[0] != "target" {
			t.Errorf("%s: got %v, want an error of the attribute target", name, err)
		}
	}
}

func TestOwnerIsKept(t *testing.T) {
	files := hosttest.NewMemory()
	files.Put("/etc/l", host.File{Type: host.Symlink, Target: "old", UID: 33, GID: 34})
	r, err := create(t, attrs{"path": str("/etc/l"), "target": str("new")})
	if err != nil {
		t.Fatal(err)
	}
	state, err := r.Read(t.Context(), resources.ReadEnv{Files: files, Users: hosttest.Users{SelfUID: 7}})
	if err != nil {
		t.Fatal(err)
	}
	want := &host.File{Type: host.Symlink, Target: "new", UID: 33, GID: 34}
	if got := r.Diff(state).Edits[0].After; !got.Same(want) {
		t.Errorf("got %+v, want %+v", got, want)
	}
}

func TestOnlyLinksAreReplaced(t *testing.T) {
	for _, stands := range []host.File{{Content: []byte("x")}, {Type: host.Directory}} {
		files := hosttest.NewMemory()
		files.Put("/etc/l", stands)
		r, err := create(t, attrs{"path": str("/etc/l"), "target": str("new")})
		if err != nil {
			t.Fatal(err)
		}
		_, err = r.Read(t.Context(), resources.ReadEnv{Files: files, Users: hosttest.Users{}})
		if !errors.Is(err, syscall.EEXIST) || diag.Fix(err) == "" {
			t.Errorf("a %s in its place: got %v (%s), want a refusal with advice", stands.Type, err, diag.Fix(err))
		}
	}
}
