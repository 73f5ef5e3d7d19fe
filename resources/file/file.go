// Package file is the kind file: one file with a content that the configuration, or another file of the host, gives.
package file

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"io/fs"

	"github.com/converge-agent/converge/diag"
	"github.com/converge-agent/converge/host"
	"github.com/converge-agent/converge/resources"
	"github.com/converge-agent/converge/secret"
	"github.com/zclconf/go-cty/cty"
)

// The modes of a file that is new and whose mode is not written.
const (
	newMode        fs.FileMode = 0o644
	newPrivateMode fs.FileMode = 0o600
)

// others are the bits that let everybody in; a file with a secret has none of them.
const others fs.FileMode = 0o007

// Kind returns the kind file.
func Kind() *resources.Kind {
	attrs := []resources.Attr{
		{Name: "path", Type: cty.String, Required: true, Format: resources.Path, Doc: "Where it is."},
		{Name: "content", Type: cty.String, Secret: true, Doc: "What it holds, to the byte: a text file ends in a newline. " +
			"A secret content is never shown, and everybody else's access to the file is taken away."},
		{Name: "source", Type: cty.String, Format: resources.Path, Doc: "A file on this host whose content it gets, instead of " +
			"content. One that not everybody may read is treated as a secret."},
	}
	attrs = append(attrs, resources.OwnershipAttrs()...)
	return &resources.Kind{
		Name:    "file",
		Doc:     "A file with the given content. Whatever else it held is replaced; use env_file or block_in_file to edit a part.",
		Attrs:   append(attrs, resources.EnsureAttr()),
		Exports: []resources.Attr{resources.PathExport()},
		New:     newFile,
	}
}

// file is the configuration of one file.
type file struct {
	Path    string        `attr:"path"`
	Content secret.String `attr:"content"`
	Source  string        `attr:"source"`
	Ensure  string        `attr:"ensure"`
	resources.Ownership

	private bool // the content is secret
}

func newFile(_ resources.Address, config cty.Value) (resources.Resource, cty.Value, error) {
	f := &file{private: secret.In(config.GetAttr("content"))}
	if err := resources.Decode(config, f); err != nil {
		return nil, cty.NilVal, err
	}
	if err := f.check(!config.GetAttr("content").IsNull()); err != nil {
		return nil, cty.NilVal, err
	}
	return f, cty.ObjectVal(map[string]cty.Value{"path": cty.StringVal(f.Path)}), nil
}

func (f *file) check(hasContent bool) error {
	wrong := func(attr, format string, args ...any) error {
		return &resources.AttrError{Path: []string{attr}, Err: fmt.Errorf(format, args...)}
	}
	switch {
	case hasContent && f.Source != "":
		return wrong("source", "content is written too; keep one of them")
	case !hasContent && f.Source == "" && f.Ensure != resources.Absent:
		return wrong("content", "it is missing, and so is source; write one of them (content = \"\" makes an empty file)")
	case f.Source == f.Path && f.Source != "":
		return wrong("source", "it is the path of the file itself; write another")
	}
	if mode, _ := f.WrittenMode(); f.private && mode&others != 0 {
		return wrong("mode", "the content is secret, and with %q everybody could get at it; write \"0600\" or \"0640\"", f.Mode)
	}
	return nil
}

// Claims is the path, which it owns.
func (f *file) Claims() []resources.Claim { return []resources.Claim{{Path: f.Path, Own: true}} }

// Watches is the path.
func (f *file) Watches() []string { return []string{f.Path} }

// state is what stands at the path, and what is to stand there.
type state struct {
	now, want *host.File
	private   bool
}

// Read looks at the path, and at the source.
func (f *file) Read(_ context.Context, env resources.ReadEnv) (resources.State, error) {
	now, err := env.Files.Lookup(f.Path)
	if err != nil {
		return nil, err
	}
	if err := resources.MustBe(f.Path, now, host.Regular); err != nil {
		return nil, err
	}
	if f.Ensure == resources.Absent {
		return state{now: now, private: f.private}, nil
	}
	content, private, err := f.content(env.Files)
	if err != nil {
		return nil, err
	}
	want := &host.File{Type: host.Regular, Content: content}
	mode := newMode
	if private {
		mode = newPrivateMode
	}
	if err := f.Fill(want, now, env.Users, mode); err != nil {
		return nil, err
	}
	if f.Mode == "" && private {
		want.Mode &^= others // of a file that was there, with everybody's access
	}
	return state{now, want, private}, nil
}

// content returns what the file is to hold, and whether that must not be shown.
func (f *file) content(files host.View) ([]byte, bool, error) {
	if f.Source == "" {
		return []byte(f.Content.Reveal()), f.private, nil
	}
	source, err := files.Lookup(f.Source)
	if err != nil {
		return nil, false, err
	}
	if source == nil {
		return nil, false, diag.Wrap(fs.ErrNotExist, "read the source "+f.Source, "Put the file there, or correct source.")
	}
	if source.Type != host.Regular {
		return nil, false, diag.New("read the source "+f.Source, "it is a "+source.Type.String(), "Name a file in source.")
	}
	return source.Content, source.Mode&0o004 == 0, nil
}

// Diff compares content, owner, group and mode.
func (f *file) Diff(s resources.State) resources.Change {
	st := s.(state)
	edit := host.Edit{Path: f.Path, Before: st.now, After: st.want, Private: st.private}
	c := resources.Change{Action: resources.EditAction(edit), Digest: digest(st.want)}
	if edit.Empty() {
		return c
	}
	c.Edits = []host.Edit{edit}
	c.Attrs = f.Diffs(st.now, st.want)
	if other := st.now != nil && st.want != nil && string(st.now.Content) != string(st.want.Content); other && !edit.Shown() {
		c.Attrs = append(c.Attrs, resources.AttrDiff{Name: "content", Before: secret.Redacted, After: secret.Redacted})
	}
	c.Summary = summary(edit)
	return c
}

// digest stands for the content: a change of owner or mode alone restarts nobody.
func digest(f *host.File) string {
	if f == nil {
		return resources.Absent
	}
	sum := sha256.Sum256(f.Content)
	return hex.EncodeToString(sum[:])
}

func summary(e host.Edit) string {
	switch {
	case e.After == nil:
		return "removed"
	case e.Before == nil:
		return fmt.Sprintf("new file, %d bytes, %04o", len(e.After.Content), host.ModeBits(e.After.Mode))
	case string(e.Before.Content) == string(e.After.Content):
		return "same content, other owner or mode"
	}
	return fmt.Sprintf("new content, %d bytes", len(e.After.Content))
}

// Apply writes the file.
func (f *file) Apply(ctx context.Context, env resources.Env, c resources.Change) error {
	return resources.CommitAll(ctx, env, c)
}
