// Package directory is the kind directory: one directory with its owner and mode; what it holds is not looked at.
package directory

import (
	"context"
	"fmt"
	"io/fs"

	"github.com/converge-agent/converge/host"
	"github.com/converge-agent/converge/resources"
	"github.com/zclconf/go-cty/cty"
)

// newMode is the mode of a directory that is new and whose mode is not written.
const newMode fs.FileMode = 0o755

// Kind returns the kind directory.
func Kind() *resources.Kind {
	attrs := []resources.Attr{
		{Name: "path", Type: cty.String, Required: true, Format: resources.Path,
			Doc: "Where it is. The directory above it must exist, or be another directory block."},
	}
	attrs = append(attrs, resources.OwnershipAttrs()...)
	return &resources.Kind{
		Name: "directory",
		Doc: "A directory with an owner and permissions. What it holds is left alone; it is removed (ensure = \"absent\") only " +
			"when it is empty.",
		Attrs:   append(attrs, resources.EnsureAttr()),
		Exports: []resources.Attr{resources.PathExport()},
		New:     newDirectory,
	}
}

// directory is the configuration of one directory.
type directory struct {
	Path   string `attr:"path"`
	Ensure string `attr:"ensure"`
	resources.Ownership
}

func newDirectory(_ resources.Address, config cty.Value) (resources.Resource, cty.Value, error) {
	d := &directory{}
	if err := resources.Decode(config, d); err != nil {
		return nil, cty.NilVal, err
	}
	return d, cty.ObjectVal(map[string]cty.Value{"path": cty.StringVal(d.Path)}), nil
}

// Claims is the path itself; what is below it belongs to others.
func (d *directory) Claims() []resources.Claim {
	return []resources.Claim{{Path: d.Path, Own: true, Removes: d.Ensure == resources.Absent}}
}

// Watches is the path.
func (d *directory) Watches() []string { return []string{d.Path} }

// state is what stands at the path, and what is to stand there.
type state struct{ now, want *host.File }

// Read looks at the path.
func (d *directory) Read(_ context.Context, env resources.ReadEnv) (resources.State, error) {
	now, err := env.Files.Lookup(d.Path)
	if err != nil {
		return nil, err
	}
	if err := resources.MustBe(d.Path, now, host.Directory); err != nil {
		return nil, err
	}
	if d.Ensure == resources.Absent {
		return state{now, nil}, d.mustBeEmpty(now, env.Files)
	}
	want := &host.File{Type: host.Directory}
	return state{now, want}, d.Fill(want, now, env.Users, newMode)
}

// mustBeEmpty says at plan time what the removal would run into.
func (d *directory) mustBeEmpty(now *host.File, files host.View) error {
	if now == nil {
		return nil
	}
	names, err := files.List(d.Path)
	if err == nil && len(names) > 0 {
		err = host.NotEmpty(d.Path, names)
	}
	return err
}

// Diff compares owner, group and mode.
func (d *directory) Diff(s resources.State) resources.Change {
	st := s.(state)
	edit := host.Edit{Path: d.Path, Before: st.now, After: st.want}
	c := resources.Change{Action: resources.EditAction(edit), Digest: resources.Absent}
	if st.want != nil {
		c.Digest = fmt.Sprintf("%04o %d %d", host.ModeBits(st.want.Mode), st.want.UID, st.want.GID)
	}
	if edit.Empty() {
		return c
	}
	c.Edits = []host.Edit{edit}
	c.Attrs = d.Diffs(st.now, st.want)
	switch c.Action {
	case resources.Create:
		c.Summary = fmt.Sprintf("new directory, %04o", host.ModeBits(st.want.Mode))
	case resources.Delete:
		c.Summary = "removed, being empty"
	default:
		c.Summary = "other owner or mode"
	}
	return c
}

// Apply makes, changes or removes the directory.
func (d *directory) Apply(ctx context.Context, env resources.Env, c resources.Change) error {
	return resources.CommitAll(ctx, env, c)
}
