// Package symlink is the kind symlink: one symbolic link.
package symlink

import (
	"context"
	"errors"
	"strings"

	"github.com/converge-agent/converge/host"
	"github.com/converge-agent/converge/resources"
	"github.com/zclconf/go-cty/cty"
)

// Kind returns the kind symlink.
func Kind() *resources.Kind {
	return &resources.Kind{
		Name: "symlink",
		Doc:  "A symbolic link. It may point to what does not exist (yet).",
		Attrs: []resources.Attr{
			{Name: "path", Type: cty.String, Required: true, Format: resources.Path, Doc: "Where the link is."},
			{Name: "target", Type: cty.String, Doc: "Where it points, as it is written into the link: an absolute path, or one " +
				"that is relative to the link's directory."},
			resources.EnsureAttr(),
		},
		Exports: []resources.Attr{resources.PathExport()},
		New:     newSymlink,
	}
}

// symlink is the configuration of one link.
type symlink struct {
	Path   string `attr:"path"`
	Target string `attr:"target"`
	Ensure string `attr:"ensure"`
}

// maxTarget is the longest target in bytes that Linux keeps (PATH_MAX less the terminating null: symlink(2)).
const maxTarget = 4095

func newSymlink(_ resources.Address, config cty.Value) (resources.Resource, cty.Value, error) {
	l := &symlink{}
	if err := resources.Decode(config, l); err != nil {
		return nil, cty.NilVal, err
	}
	if err := l.check(); err != nil {
		return nil, cty.NilVal, &resources.AttrError{Path: []string{"target"}, Err: err}
	}
	return l, cty.ObjectVal(map[string]cty.Value{"path": cty.StringVal(l.Path)}), nil
}

func (l *symlink) check() error {
	switch {
	case l.Target == "" && l.Ensure != resources.Absent:
		return errors.New("it is missing, and has no default; write target = \"/where/it/points\"")
	case l.Target == l.Path:
		return errors.New("the link would point to itself; correct one of the two")
	case strings.ContainsRune(l.Target, 0) || len(l.Target) > maxTarget:
		return errors.New("no link can hold it; write a path of up to 4095 bytes")
	}
	return nil
}

// Claims is the path of the link.
func (l *symlink) Claims() []resources.Claim {
	return []resources.Claim{{Path: l.Path, Own: true, Removes: l.Ensure == resources.Absent}}
}

// Watches is the path of the link, not what it points to.
func (l *symlink) Watches() []string { return []string{l.Path} }

// state is what stands at the path, and what is to stand there.
type state struct{ now, want *host.File }

// Read looks at the path.
func (l *symlink) Read(_ context.Context, env resources.ReadEnv) (resources.State, error) {
	now, err := env.Files.Lookup(l.Path)
	if err != nil {
		return nil, err
	}
	if err := resources.MustBe(l.Path, now, host.Symlink); err != nil || l.Ensure == resources.Absent {
		return state{now, nil}, err
	}
	want := &host.File{Type: host.Symlink, Target: l.Target}
	return state{now, want}, resources.Ownership{}.Fill(want, now, env.Users, 0)
}

// Diff compares the target.
func (l *symlink) Diff(s resources.State) resources.Change {
	st := s.(state)
	edit := host.Edit{Path: l.Path, Before: st.now, After: st.want}
	c := resources.Change{Action: resources.EditAction(edit), Digest: resources.Absent}
	if st.want != nil {
		c.Digest = "to " + st.want.Target
	}
	if edit.Empty() {
		return c
	}
	c.Edits = []host.Edit{edit}
	switch c.Action {
	case resources.Create:
		c.Summary = "new link to " + l.Target
	case resources.Delete:
		c.Summary = "removed"
	default:
		c.Summary = "to " + l.Target + " instead of " + st.now.Target
		c.Attrs = []resources.AttrDiff{{Name: "target", Before: st.now.Target, After: l.Target}}
	}
	return c
}

// Apply makes, changes or removes the link.
func (l *symlink) Apply(ctx context.Context, env resources.Env, c resources.Change) error {
	return resources.CommitAll(ctx, env, c)
}
