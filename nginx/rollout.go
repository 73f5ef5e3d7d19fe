package nginx

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"path"
	"slices"

	"github.com/converge-agent/converge/diag"
	"github.com/converge-agent/converge/host"
)

// Rollout writes files of the configuration, has nginx judge the whole, and puts them back where nginx refuses it.
type Rollout struct {
	Files    host.Files
	Commands host.Commands
	Users    host.Users

	What string // what the files are, for errors: "the site files.example.com"
	Main string // the path of nginx.conf
	// Undo is the path that keeps, until nginx has judged, what the files were. A run that is killed in between thereby
	// leaves the next one what it needs to put them back.
	Undo string
	// Optional lets it pass that there is no nginx: what is taken away there leaves nothing to judge.
	Optional bool
}

// undo is what stood at the paths of files that nginx has not judged yet.
type undo struct {
	Files []was `json:"files"`
}

type was struct {
	Path string     `json:"path"`
	File *host.File `json:"file"` // nil: nothing stood there
	// Wrote is what was put there. Anything else that is found there is somebody else's, and stays.
	Wrote *host.File `json:"wrote"`
}

// Unjudged reports whether a run has left what it keeps at the path of a Rollout's Undo.
func Unjudged(files host.View, path string) (bool, error) {
	u, err := readUndo(files, path)
	return u != nil, err
}

// readUndo returns what a killed run left, or nil. What cannot be read as such is as good as none.
func readUndo(files host.View, path string) (*undo, error) {
	f, err := files.Lookup(path)
	if err != nil || f == nil {
		return nil, err
	}
	u := &undo{}
	if json.Unmarshal(f.Content, u) != nil {
		u = nil
	}
	return u, nil
}

// Make makes the edits. Without any it has nginx judge what is there, and puts back what a killed run has left.
func (r Rollout) Make(ctx context.Context, edits []host.Edit) error {
	u, err := r.keep(ctx, edits)
	if err != nil {
		return err
	}
	if err := r.write(ctx, edits); err != nil {
		return r.putBack(ctx, u, err)
	}
	return r.drop(ctx)
}

// write makes the edits and has nginx judge the whole.
func (r Rollout) write(ctx context.Context, edits []host.Edit) error {
	for _, e := range edits {
		if err := r.Files.Commit(ctx, e); err != nil {
			return err
		}
	}
	if r.Optional {
		if build, err := Installed(ctx, r.Commands); err != nil || build == nil {
			return err
		}
	}
	return Check(ctx, r.Commands, r.Files, r.Main)
}

// keep writes down what stands at the paths of the edits, and returns all that nginx has not judged.
func (r Rollout) keep(ctx context.Context, edits []host.Edit) (*undo, error) {
	left, err := readUndo(r.Files, r.Undo)
	if err != nil || len(edits) == 0 {
		return left, err
	}
	u := &undo{}
	if left != nil {
		u.Files = slices.Clone(left.Files)
	}
	for _, e := range edits {
		u.add(e)
	}
	text, err := json.Marshal(u)
	if err != nil {
		return nil, diag.Wrap(err, "keep what "+r.What+" was", "")
	}
	uid, gid := r.Users.Self()
	writes, err := host.MissingDirs(r.Files, path.Dir(r.Undo), 0o700, uid, gid)
	if err != nil {
		return nil, err
	}
	before, err := r.Files.Lookup(r.Undo)
	if err != nil {
		return nil, err
	}
	after := &host.File{Content: text, Mode: 0o600, UID: uid, GID: gid}
	for _, e := range append(writes, host.Edit{Path: r.Undo, Before: before, After: after, Private: true}) {
		if err := r.Files.Commit(ctx, e); err != nil {
			return nil, err
		}
	}
	return u, nil
}

// add notes what an edit replaces. Of a file that a killed run wrote, what stood there before that counts. Directories are
// left out: an empty one does no harm.
func (u *undo) add(e host.Edit) {
	if e.After != nil && e.After.Type == host.Directory {
		return
	}
	i := slices.IndexFunc(u.Files, func(w was) bool { return w.Path == e.Path })
	switch {
	case i < 0:
		u.Files = append(u.Files, was{e.Path, e.Before, e.After})
	case u.Files[i].Wrote.Same(e.Before):
		u.Files[i].Wrote = e.After
	default:
		u.Files[i] = was{e.Path, e.Before, e.After}
	}
}

// putBack makes the files what they were before, the last one first, after cause.
func (r Rollout) putBack(ctx context.Context, u *undo, cause error) error {
	if u == nil {
		return cause
	}
	ctx = context.WithoutCancel(ctx) // half a change is worse than a late end
	var failed []error
	for _, w := range slices.Backward(u.Files) {
		if err := r.restore(ctx, w); err != nil {
			failed = append(failed, err)
		}
	}
	if len(failed) == 0 {
		return errors.Join(cause, r.drop(ctx))
	}
	return diag.Wrap(errors.Join(append([]error{cause}, failed...)...), "put "+r.What+" back as it was",
		"Run nginx -t and mend it by hand before nginx is restarted: what is on disk now may keep it from starting.")
}

func (r Rollout) restore(ctx context.Context, w was) error {
	now, err := r.Files.Lookup(w.Path)
	switch {
	case err != nil:
		return err
	case now.Same(w.File):
		return nil
	case !now.Same(w.Wrote):
		return diag.New("", fmt.Sprintf("%s was changed by somebody else in the meantime, and stays as it is", w.Path), "")
	}
	return r.Files.Commit(ctx, host.Edit{Path: w.Path, Before: now, After: w.File})
}

// drop forgets what the files were, once nginx has taken what they are or what they were stands again.
func (r Rollout) drop(ctx context.Context) error {
	f, err := r.Files.Lookup(r.Undo)
	if err != nil || f == nil {
		return err
	}
	return r.Files.Commit(context.WithoutCancel(ctx), host.Edit{Path: r.Undo, Before: f, Private: true})
}
