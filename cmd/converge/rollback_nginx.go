package main

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"io/fs"
	"path"

	"github.com/converge-agent/converge/host"
	"github.com/converge-agent/converge/nginx"
	"github.com/converge-agent/converge/resources"
)

// nginxJudge has nginx test its whole configuration when a rollback changes a part of it.
type nginxJudge struct{}

// Of returns the nginx.conf in the nearest directory above name that holds one.
func (nginxJudge) Of(files host.View, name string) (string, error) {
	for dir := path.Dir(name); ; dir = path.Dir(dir) {
		f, err := files.Lookup(path.Join(dir, "nginx.conf"))
		if err != nil && !errors.Is(err, fs.ErrPermission) {
			return "", err
		}
		if f != nil {
			return path.Join(dir, "nginx.conf"), nil
		}
		if dir == "/" {
			return "", nil
		}
	}
}

// Unjudged reports whether a killed rollback has left what the files were.
func (nginxJudge) Unjudged(env resources.ReadEnv, main string) (bool, error) {
	return nginx.Unjudged(env.Files, undoPath(env.StateDir, main))
}

// Make rolls the files out as a site is.
func (nginxJudge) Make(ctx context.Context, env resources.Env, main string, edits []host.Edit) error {
	return nginx.Rollout{
		Files: env.Files, Commands: env.Commands, Users: env.Users, What: "the nginx configuration", Main: main,
		Undo: undoPath(env.StateDir, main), Optional: true,
	}.Make(ctx, edits)
}

// undoPath is what lies in the state directory between the writing of the files and the verdict of nginx.
func undoPath(stateDir, main string) string {
	sum := sha256.Sum256([]byte(main))
	return path.Join(stateDir, "rollback", hex.EncodeToString(sum[:8])+".undo")
}

// carriedOut are units whose reload has been carried out when it returns, where a unit is nginx: see nginx.Reload.
type carriedOut struct {
	host.Units
	processes host.Processes
	clock     host.Clock
}

func (c carriedOut) Reload(ctx context.Context, name string) error {
	u, err := c.Unit(ctx, name)
	if err != nil {
		return err
	}
	return nginx.Reload(ctx, c.Units, c.processes, c.clock, u)
}
