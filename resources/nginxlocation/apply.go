package nginxlocation

import (
	"context"

	"github.com/converge-agent/converge/nginx"
	"github.com/converge-agent/converge/resources"
)

// Apply writes the file and the site's lines, has nginx judge the whole configuration, and lets it read that. Where nginx
// refuses, both are put back.
func (l *location) Apply(ctx context.Context, env resources.Env, c resources.Change) error {
	rollout := nginx.Rollout{
		Files: env.Files, Commands: env.Commands, Users: env.Users, What: "the site " + l.Site, Main: l.main(),
		Undo: l.undoPath(env.StateDir), Optional: l.Ensure == resources.Absent,
	}
	if err := rollout.Make(ctx, c.Edits); err != nil {
		return err
	}
	return l.reload(ctx, env)
}

// reload lets a running nginx read its configuration. What it reads is looked at before: a later change is owed anew.
func (l *location) reload(ctx context.Context, env resources.Env) error {
	u, err := env.Units.Unit(ctx, l.unit)
	if err != nil || !u.Up() {
		return err
	}
	watched, err := l.watched(env.Files)
	if err != nil {
		return err
	}
	if err := nginx.Reload(ctx, env.Units, env.Processes, env.Clock, u); err != nil {
		return err
	}
	loaded := resources.NowLoaded(u, watched)
	l.loaded = &loaded
	return nil
}
