package nginxsite

import (
	"context"
	"fmt"
	"path"

	"github.com/converge-agent/converge/diag"
	"github.com/converge-agent/converge/host"
	"github.com/converge-agent/converge/nginx"
	"github.com/converge-agent/converge/resources"
)

// Apply writes the site, has nginx judge the whole configuration, and lets it read that. Where nginx refuses, both files are
// put back.
func (s *site) Apply(ctx context.Context, env resources.Env, c resources.Change) error {
	if s.blind {
		known, err := s.seeing(ctx, env.ReadEnv)
		if err != nil {
			return err
		}
		c = known
	}
	if err := s.mustHaveCertificate(env.Files); err != nil {
		return err
	}
	if err := s.makeCacheParent(ctx, env); err != nil {
		return err
	}
	rollout := nginx.Rollout{
		Files: env.Files, Commands: env.Commands, Users: env.Users, What: "the site " + s.ServerName, Main: s.main(),
		Undo: s.undoPath(env.StateDir), Optional: s.Ensure == resources.Absent,
	}
	if err := rollout.Make(ctx, c.Edits); err != nil {
		return err
	}
	return s.reload(ctx, env)
}

// undoPath is what lies in the state directory between the writing of the site and the verdict of nginx.
func (s *site) undoPath(stateDir string) string {
	return path.Join(stateDir, "nginx_site", s.ServerName+".undo")
}

// seeing makes the change anew, now that nginx is there.
func (s *site) seeing(ctx context.Context, env resources.ReadEnv) (resources.Change, error) {
	s.blind = false
	st, err := s.Read(ctx, env)
	if err != nil {
		return resources.Change{}, err
	}
	if s.blind {
		return resources.Change{}, diag.New("write the site "+s.ServerName, "nginx is still not installed", nginx.Install)
	}
	c := s.Diff(st)
	if c.Action == resources.Blocked {
		return resources.Change{}, diag.New("write the site "+s.ServerName, c.Summary, c.Notes[len(c.Notes)-1])
	}
	return c, nil
}

// mustHaveCertificate refuses a site whose certificate is not there: nginx would refuse the whole configuration.
func (s *site) mustHaveCertificate(files host.View) error {
	if s.Certificate == nil || s.Ensure == resources.Absent {
		return nil
	}
	for _, name := range []string{s.Certificate.Chain, s.Certificate.Key} {
		f, err := files.Lookup(name)
		if err != nil {
			return err
		}
		if f == nil {
			return diag.New("write the site "+s.ServerName, fmt.Sprintf("its certificate %s does not exist", name),
				"Refer to an acme_certificate, or correct the paths in certificate.")
		}
	}
	return nil
}

// makeCacheParent makes the directories above the cache. nginx makes the last one itself, for its own user. They are no
// edits of the plan, for several sites may lack the same one.
func (s *site) makeCacheParent(ctx context.Context, env resources.Env) error {
	if s.Proxy == nil || s.Ensure == resources.Absent {
		return nil
	}
	uid, gid := env.Users.Self()
	missing, err := host.MissingDirs(env.Files, path.Dir(s.Proxy.CachePath), 0o755, uid, gid)
	if err != nil {
		return err
	}
	for _, e := range missing {
		if err := env.Files.Commit(ctx, e); err != nil {
			return err
		}
	}
	return nil
}

// reload lets a running nginx read its configuration. What it reads is looked at before: a later change is owed anew.
func (s *site) reload(ctx context.Context, env resources.Env) error {
	u, err := env.Units.Unit(ctx, s.unit)
	if err != nil || !u.Up() {
		return err
	}
	watched, err := s.watched(env.Files, &state{})
	if err != nil {
		return err
	}
	if err := nginx.Reload(ctx, env.Units, env.Processes, env.Clock, u); err != nil {
		return err
	}
	loaded := resources.NowLoaded(u, watched)
	s.loaded = &loaded
	return nil
}
