package main

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"io/fs"
	"os"
	"path"
	"strings"

	"github.com/converge-agent/converge/diag"
	"github.com/converge-agent/converge/host"
	"github.com/converge-agent/converge/nginx"
	"github.com/converge-agent/converge/resources"
)

// nginxJudge has nginx test its whole configuration when a rollback changes a part of it.
type nginxJudge struct{}

// Of returns the nginx.conf in the nearest directory above name that holds one. One that somebody else could have put there,
// the app's user above its env file for one, is an error: to test it is to load the modules that it names, with our rights.
func (nginxJudge) Of(files host.View, name string) (string, error) {
	for dir := path.Dir(name); ; dir = path.Dir(dir) {
		main := path.Join(dir, "nginx.conf")
		f, err := files.Lookup(main)
		if err != nil && !errors.Is(err, fs.ErrPermission) {
			return "", err
		}
		if f != nil {
			return main, onlyOurs(files, main)
		}
		if dir == "/" {
			return "", nil
		}
	}
}

// onlyOurs returns why somebody besides root and ourselves could have written what stands at name, or put it there.
func onlyOurs(files host.View, name string) error {
	for at := name; ; at = path.Dir(at) {
		f, err := files.Lookup(at)
		if err != nil {
			return err
		}
		if f == nil || !ours(f) {
			return diag.New("test "+name, at+" is not root's alone, so that somebody else could have written that nginx.conf",
				"Remove it if it is not the configuration of an nginx; else let root own it, and nobody else write to it.")
		}
		if f.Type == host.Symlink {
			target := f.Target
			if !path.IsAbs(target) {
				target = path.Join(path.Dir(at), target)
			}
			return errors.Join(onlyOurs(files, path.Dir(at)), onlyOurs(files, path.Join(target, strings.TrimPrefix(name, at))))
		}
		if at == "/" {
			return nil
		}
	}
}

// ours reports whether nobody but root and ourselves can change f. In a sticky directory only the owner of a file can.
func ours(f *host.File) bool {
	mode := host.ModeBits(f.Mode)
	switch {
	case f.UID != 0 && f.UID != os.Geteuid():
		return false
	case f.Type == host.Symlink, f.Type == host.Directory && f.Mode&fs.ModeSticky != 0:
		return true
	}
	return mode&0o002 == 0 && (mode&0o020 == 0 || f.GID == 0 || f.GID == os.Getegid())
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
