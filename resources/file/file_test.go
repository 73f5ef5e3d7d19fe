package file_test

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"strings"
	"syscall"
	"testing"

	"github.com/converge-agent/converge/diag"
	"github.com/converge-agent/converge/host"
	"github.com/converge-agent/converge/host/hosttest"
	"github.com/converge-agent/converge/resources"
	"github.com/converge-agent/converge/resources/file"
	"github.com/converge-agent/converge/resources/resourcetest"
	"github.com/converge-agent/converge/secret"
	"github.com/zclconf/go-cty/cty"
)

const planted = "hunter2-planted"

type attrs map[string]cty.Value

func str(s string) cty.Value { return cty.StringVal(s) }

func TestConformance(t *testing.T) {
	put := func(f host.File) func(*resourcetest.Host) {
		return func(h *resourcetest.Host) { h.Files.Put("/etc/f", f) }
	}
	plain := attrs{"path": str("/etc/f"), "content": str("text\n"), "mode": str("0640"), "owner": str("33"), "group": str("34")}
	for name, c := range map[string]resourcetest.Case{
		"plain": {Config: plain, Drift: map[string]func(*resourcetest.Host){
			"content": put(host.File{Content: []byte("other"), Mode: 0o640, UID: 33, GID: 34}),
			"mode":    put(host.File{Content: []byte("text\n"), Mode: 0o666, UID: 33, GID: 34}),
			"owner":   put(host.File{Content: []byte("text\n"), Mode: 0o640, UID: 1000, GID: 34}),
			"group":   put(host.File{Content: []byte("text\n"), Mode: 0o640, UID: 33, GID: 1000}),
			"removed": func(h *resourcetest.Host) { h.Files.Remove("/etc/f") },
		}},
		"secret": {
			Config:  attrs{"path": str("/etc/f"), "content": secret.New("key: " + planted).Value()},
			Secrets: []string{planted},
			Drift: map[string]func(*resourcetest.Host){
				"readable for everybody": put(host.File{Content: []byte("key: " + planted), Mode: 0o644}),
				"content":                put(host.File{Content: []byte("key: old"), Mode: 0o644}),
			},
		},
		"source": {
			Config: attrs{"path": str("/etc/f"), "source": str("/etc/from")},
			Setup:  func(h *resourcetest.Host) { h.Files.Put("/etc/from", host.File{Content: []byte("text"), Mode: 0o644}) },
			Drift: map[string]func(*resourcetest.Host){
				"source": func(h *resourcetest.Host) { h.Files.Put("/etc/from", host.File{Content: []byte("new"), Mode: 0o644}) },
			},
		},
		"private source": {
			Config: attrs{"path": str("/etc/f"), "source": str("/etc/from")},
			Setup: func(h *resourcetest.Host) {
				h.Files.Put("/etc/from", host.File{Content: []byte(planted), Mode: 0o640})
			},
			Secrets: []string{planted},
		},
		"replaces what only root may read": {
			Config:  attrs{"path": str("/etc/f"), "content": str("text")},
			Setup:   put(host.File{Content: []byte(planted), Mode: 0o600}),
			Secrets: []string{planted},
		},
		"absent": {
			Config: attrs{"path": str("/etc/f"), "ensure": str("absent")},
			Setup:  put(host.File{Content: []byte("text"), Mode: 0o644}),
			Drift:  map[string]func(*resourcetest.Host){"back": put(host.File{Content: []byte("x"), Mode: 0o644})},
		},
	} {
		c.Kind = file.Kind()
		t.Run(name, func(t *testing.T) { resourcetest.Run(t, c) })
	}
}

// machine is a host in memory with /etc and one user.
type machine struct {
	*testing.T
	files *hosttest.Memory
}

func newMachine(t *testing.T) *machine {
	m := &machine{t, hosttest.NewMemory()}
	m.files.Put("/etc", host.File{Type: host.Directory, Mode: 0o755})
	return m
}

func (m *machine) create(config attrs) (resources.Resource, error) {
	m.Helper()
	complete, errs := file.Kind().Complete(cty.ObjectVal(config))
	if len(errs) > 0 {
		m.Fatalf("configuration refused: %v", errs)
	}
	r, _, err := file.Kind().New(resources.Address{Kind: "file", Name: "f"}, complete)
	return r, err
}

func (m *machine) plan(config attrs) (resources.Change, error) {
	m.Helper()
	r, err := m.create(config)
	if err != nil {
		m.Fatalf("New: %v", err)
	}
	users := hosttest.Users{Users: map[string]int{"mastodon": 991}, Groups: map[string]int{"mastodon": 992}, SelfUID: 7, SelfGID: 8}
	state, err := r.Read(context.Background(), resources.ReadEnv{Files: m.files, Users: users})
	if err != nil {
		return resources.Change{}, err
	}
	return r.Diff(state), nil
}

func (m *machine) mustPlan(config attrs) resources.Change {
	m.Helper()
	c, err := m.plan(config)
	if err != nil {
		m.Fatalf("plan: %v", err)
	}
	return c
}

func TestOwnership(t *testing.T) {
	existing := &host.File{Content: []byte("x"), Mode: 0o660, UID: 1, GID: 2}
	for name, tc := range map[string]struct {
		existing *host.File
		config   attrs
		want     host.File
	}{
		"new":         {nil, attrs{}, host.File{Mode: 0o644, UID: 7, GID: 8}},
		"kept":        {existing, attrs{}, host.File{Mode: 0o660, UID: 1, GID: 2}},
		"by name":     {existing, attrs{"owner": str("mastodon"), "group": str("mastodon")}, host.File{Mode: 0o660, UID: 991, GID: 992}},
		"by number":   {nil, attrs{"owner": str("5"), "mode": str("2755")}, host.File{Mode: 0o755 | fs.ModeSetgid, UID: 5, GID: 8}},
		"mode zero":   {existing, attrs{"mode": str("0000")}, host.File{Mode: 0, UID: 1, GID: 2}},
		"new, secret": {nil, attrs{"content": secret.New("y").Value()}, host.File{Mode: 0o600, UID: 7, GID: 8}},
		"kept, secret": {&host.File{Mode: 0o644}, attrs{"content": secret.New("y").Value()},
			host.File{Mode: 0o640}},
	} {
		t.Run(name, func(t *testing.T) {
			m := newMachine(t)
			if tc.existing != nil {
				m.files.Put("/etc/f", *tc.existing)
			}
			config := attrs{"path": str("/etc/f"), "content": str("y")}
			for k, v := range tc.config {
				config[k] = v
			}
			tc.want.Content = []byte("y")
			c := m.mustPlan(config)
			if got := c.Edits[0].After; !got.Same(&tc.want) {
				t.Errorf("got %+v, want %+v", *got, tc.want)
			}
		})
	}
}

func TestUnknownOwner(t *testing.T) {
	_, err := newMachine(t).plan(attrs{"path": str("/etc/f"), "content": str(""), "owner": str("nosuch")})
	if err == nil || !strings.Contains(err.Error(), `"nosuch"`) || diag.Fix(err) == "" {
		t.Errorf("got %v (%s), want an error with advice that names the account", err, diag.Fix(err))
	}
}

func TestOwnerAndModeAreShown(t *testing.T) {
	m := newMachine(t)
	m.files.Put("/etc/f", host.File{Content: []byte("y"), Mode: 0o644})
	c := m.mustPlan(attrs{"path": str("/etc/f"), "content": str("y"), "owner": str("mastodon"), "mode": str("0600")})
	want := "[{owner 0 mastodon false false} {mode 0644 0600 false false}]"
	if got := fmt.Sprint(c.Attrs); got != want || c.Summary != "same content, other owner or mode" {
		t.Errorf("got %s, %q; want %s", got, c.Summary, want)
	}
}

func TestDigestIsOfTheContentAlone(t *testing.T) {
	m := newMachine(t)
	one := m.mustPlan(attrs{"path": str("/etc/f"), "content": str("y")})
	mode := m.mustPlan(attrs{"path": str("/etc/f"), "content": str("y"), "mode": str("0600")})
	other := m.mustPlan(attrs{"path": str("/etc/f"), "content": str("z")})
	if one.Digest != mode.Digest || one.Digest == other.Digest || one.Digest == "" {
		t.Errorf("digests: %q, other mode %q, other content %q", one.Digest, mode.Digest, other.Digest)
	}
	m.files.Put("/etc/f", host.File{Content: []byte("y"), Mode: 0o644})
	if now := m.mustPlan(attrs{"path": str("/etc/f"), "content": str("y")}); now.Action != resources.None || now.Digest != one.Digest {
		t.Errorf("once converged: %s, digest %q, want none and %q", now.Action, now.Digest, one.Digest)
	}
}

func TestPrivateEdits(t *testing.T) {
	m := newMachine(t)
	m.files.Put("/etc/from", host.File{Content: []byte("x"), Mode: 0o600})
	m.files.Put("/etc/f", host.File{Content: []byte("old"), Mode: 0o644})
	for name, config := range map[string]attrs{
		"secret content": {"content": secret.New("s").Value()},
		"private source": {"source": str("/etc/from")},
	} {
		config["path"] = str("/etc/f")
		c := m.mustPlan(config)
		if !c.Edits[0].Private || !strings.Contains(fmt.Sprint(c.Attrs), "{content (sensitive) (sensitive)") {
			t.Errorf("%s: private %v, attributes %v; want it private and the content named", name, c.Edits[0].Private, c.Attrs)
		}
	}
}

func TestRefusedConfigurations(t *testing.T) {
	for name, tc := range map[string]struct {
		config attrs
		attr   string
	}{
		"neither":                 {attrs{}, "content"},
		"both":                    {attrs{"content": str(""), "source": str("/etc/from")}, "source"},
		"itself":                  {attrs{"source": str("/etc/f")}, "source"},
		"secret for everybody":    {attrs{"content": secret.New("s").Value(), "mode": str("0644")}, "mode"},
		"secret to be run by all": {attrs{"content": secret.New("s").Value(), "mode": str("0711")}, "mode"},
	} {
		tc.config["path"] = str("/etc/f")
		_, err := newMachine(t).create(tc.config)
		var a *resources.AttrError
		if !errors.As(err, &a) || a.Path[0] != tc.attr {
			t.Errorf("%s: got %v, want an error of the attribute %s", name, err, tc.attr)
		}
	}
}

func TestReadRefuses(t *testing.T) {
	plain := attrs{"path": str("/etc/f"), "content": str("y")}
	for name, tc := range map[string]struct {
		at     string
		stands host.File
		config attrs
		want   error
	}{
		"directory in its place":  {"/etc/f", host.File{Type: host.Directory}, plain, syscall.EEXIST},
		"link in its place":       {"/etc/f", host.File{Type: host.Symlink, Target: "x"}, plain, syscall.EEXIST},
		"absent, a directory":     {"/etc/f", host.File{Type: host.Directory}, attrs{"path": str("/etc/f"), "ensure": str("absent")}, syscall.EEXIST},
		"no source":               {"/etc/x", host.File{}, attrs{"path": str("/etc/f"), "source": str("/etc/from")}, fs.ErrNotExist},
		"source is no file":       {"/etc/from", host.File{Type: host.Directory}, attrs{"path": str("/etc/f"), "source": str("/etc/from")}, nil},
		"inside what is no place": {"/etc/f", host.File{}, attrs{"path": str("/etc/f/g"), "content": str("")}, syscall.ENOTDIR},
	} {
		t.Run(name, func(t *testing.T) {
			m := newMachine(t)
			m.files.Put(tc.at, tc.stands)
			_, err := m.plan(tc.config)
			if err == nil || tc.want != nil && !errors.Is(err, tc.want) || diag.Fix(err) == "" {
				t.Errorf("got %v (%s), want %v with advice", err, diag.Fix(err), tc.want)
			}
		})
	}
}

func TestParentRemovedBeforeApply(t *testing.T) {
	m := newMachine(t)
	m.files.Put("/etc/d", host.File{Type: host.Directory, Mode: 0o755})
	config := attrs{"path": str("/etc/d/f"), "content": str("y")}
	c := m.mustPlan(config)
	m.files.Remove("/etc/d")
	r, err := m.create(config)
	if err != nil {
		t.Fatal(err)
	}
	err = r.Apply(t.Context(), resources.Env{Files: m.files}, c)
	if !errors.Is(err, fs.ErrNotExist) || !strings.Contains(diag.Fix(err), `directory block with path = "/etc/d"`) {
		t.Errorf("got %v (%s), want advice to add a directory block", err, diag.Fix(err))
	}
}
