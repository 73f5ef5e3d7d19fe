package directory_test

import (
	"errors"
	"strings"
	"syscall"
	"testing"

	"github.com/converge-agent/converge/diag"
	"github.com/converge-agent/converge/host"
	"github.com/converge-agent/converge/host/hosttest"
	"github.com/converge-agent/converge/resources"
	"github.com/converge-agent/converge/resources/directory"
	"github.com/converge-agent/converge/resources/resourcetest"
	"github.com/zclconf/go-cty/cty"
)

type attrs map[string]cty.Value

func str(s string) cty.Value { return cty.StringVal(s) }

func TestConformance(t *testing.T) {
	put := func(f host.File) func(*resourcetest.Host) {
		f.Type = host.Directory
		return func(h *resourcetest.Host) { h.Files.Put("/etc/d", f) }
	}
	for name, c := range map[string]resourcetest.Case{
		"owned": {
			Config: attrs{"path": str("/etc/d"), "mode": str("2750"), "owner": str("33"), "group": str("34")},
			Drift: map[string]func(*resourcetest.Host){
				"mode":    put(host.File{Mode: 0o777, UID: 33, GID: 34}),
				"owner":   put(host.File{Mode: 0o750, UID: 1, GID: 34}),
				"removed": func(h *resourcetest.Host) { h.Files.Remove("/etc/d") },
			},
		},
		"plain":  {Config: attrs{"path": str("/etc/d")}},
		"exists": {Config: attrs{"path": str("/etc/d")}, Setup: put(host.File{Mode: 0o700, UID: 5})},
		"absent": {Config: attrs{"path": str("/etc/d"), "ensure": str("absent")}, Setup: put(host.File{Mode: 0o700})},
	} {
		c.Kind = directory.Kind()
		t.Run(name, func(t *testing.T) { resourcetest.Run(t, c) })
	}
}

func plan(t *testing.T, files *hosttest.Memory, config attrs) (resources.Change, error) {
	t.Helper()
	complete, errs := directory.Kind().Complete(cty.ObjectVal(config))
	if len(errs) > 0 {
		t.Fatal(errs)
	}
	r, exports, err := directory.Kind().New(resources.Address{}, complete)
	if err != nil {
		t.Fatal(err)
	}
	if got := exports.GetAttr("path"); !got.RawEquals(config["path"]) {
		t.Errorf("the export path is %#v, want %#v", got, config["path"])
	}
	state, err := r.Read(t.Context(), resources.ReadEnv{Files: files, Users: hosttest.Users{SelfUID: 7, SelfGID: 8}})
	if err != nil {
		return resources.Change{}, err
	}
	return r.Diff(state), nil
}

func TestNewAndExisting(t *testing.T) {
	files := hosttest.NewMemory()
	files.Put("/etc/there", host.File{Type: host.Directory, Mode: 0o711, UID: 1, GID: 2})
	for path, want := range map[string]*host.File{
		"/etc/new":   {Type: host.Directory, Mode: 0o755, UID: 7, GID: 8},
		"/etc/there": nil,
	} {
		c, err := plan(t, files, attrs{"path": str(path)})
		switch {
		case err != nil:
			t.Errorf("%s: %v", path, err)
		case want == nil && c.Action != resources.None:
			t.Errorf("%s: got %s %v, want none: what is not written is kept", path, c.Action, c.Attrs)
		case want != nil && !c.Edits[0].After.Same(want):
			t.Errorf("%s: got %+v, want %+v", path, c.Edits[0].After, want)
		}
	}
}

func TestRefuses(t *testing.T) {
	files := hosttest.NewMemory()
	files.Put("/etc/file", host.File{Mode: 0o644})
	files.Put("/etc/link", host.File{Type: host.Symlink, Target: "/etc/there"})
	files.Put("/etc/there/entry", host.File{Mode: 0o644})
	for name, tc := range map[string]struct {
		config attrs
		want   error
		says   string
	}{
		"file in its place": {attrs{"path": str("/etc/file")}, syscall.EEXIST, "a file stands there"},
		"link in its place": {attrs{"path": str("/etc/link")}, syscall.EEXIST, "a symlink to /etc/there stands there"},
		"removal in use":    {attrs{"path": str("/etc/there"), "ensure": str("absent")}, syscall.ENOTEMPTY, "entry"},
	} {
		_, err := plan(t, files, tc.config)
		if !errors.Is(err, tc.want) || !strings.Contains(err.Error(), tc.says) || diag.Fix(err) == "" {
			t.Errorf("%s: got %v (%s), want %v that says %q", name, err, diag.Fix(err), tc.want, tc.says)
		}
	}
}
