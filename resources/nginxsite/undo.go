package nginxsite

import (
	"context"
	"encoding/json"
	"path"

	"github.com/converge-agent/converge/diag"
	"github.com/converge-agent/converge/host"
	"github.com/converge-agent/converge/resources"
)

// undo is what stood at a site's paths before they were written, kept on disk until nginx has judged the configuration. A
// run that is killed in between thereby leaves the next one what it needs to put the site back.
type undo struct {
	Files []was `json:"files"`
}

type was struct {
	Path string     `json:"path"`
	File *host.File `json:"file"` // nil: nothing stood there
}

func (s *site) undoPath(stateDir string) string {
	return path.Join(stateDir, "nginx_site", s.ServerName+".undo")
}

// readUndo returns what a killed run left, or nil. What cannot be read as such is as good as none.
func (s *site) readUndo(files host.View, stateDir string) (*undo, error) {
	f, err := files.Lookup(s.undoPath(stateDir))
	if err != nil || f == nil {
		return nil, err
	}
	u := &undo{}
	if json.Unmarshal(f.Content, u) != nil {
		u = nil
	}
	return u, nil
}

// keepUndo writes down what stands at the paths of the edits. What an earlier run wrote down counts: it is from before that.
func (s *site) keepUndo(ctx context.Context, env resources.Env, edits []host.Edit) (*undo, error) {
	u, err := s.readUndo(env.Files, env.StateDir)
	if u != nil || err != nil || len(edits) == 0 {
		return u, err
	}
	u = &undo{}
	for _, e := range edits {
		u.Files = append(u.Files, was{e.Path, e.Before})
	}
	text, err := json.Marshal(u)
	if err != nil {
		return nil, diag.Wrap(err, "keep what the site "+s.ServerName+" was", "")
	}
	uid, gid := env.Users.Self()
	target := s.undoPath(env.StateDir)
	writes, err := host.MissingDirs(env.Files, path.Dir(target), 0o700, uid, gid)
	if err != nil {
		return nil, err
	}
	writes = append(writes, host.Edit{Path: target, After: &host.File{Content: text, Mode: 0o600, UID: uid, GID: gid}, Private: true})
	for _, e := range writes {
		if err := env.Files.Commit(ctx, e); err != nil {
			return nil, err
		}
	}
	return u, nil
}

// dropUndo forgets what the site was, once nginx has taken what it is or what it was stands again.
func (s *site) dropUndo(ctx context.Context, env resources.Env) error {
	target := s.undoPath(env.StateDir)
	f, err := env.Files.Lookup(target)
	if err != nil || f == nil {
		return err
	}
	return env.Files.Commit(context.WithoutCancel(ctx), host.Edit{Path: target, Before: f, Private: true})
}
