package nginxsite

import (
	"context"
	"errors"
	"fmt"
	"path"
	"slices"

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
	before, err := s.keepUndo(ctx, env, c.Edits)
	if err != nil {
		return err
	}
	if err := s.goLive(ctx, env, c.Edits); err != nil {
		return s.putBack(ctx, env, before, err)
	}
	if err := s.dropUndo(ctx, env); err != nil {
		return err
	}
	return s.reload(ctx, env)
}

// goLive writes the files and has nginx judge the whole.
func (s *site) goLive(ctx context.Context, env resources.Env, edits []host.Edit) error {
	for _, e := range edits {
		if err := env.Files.Commit(ctx, e); err != nil {
			return err
		}
	}
	return s.check(ctx, env)
}

// check has nginx judge the configuration. A site that was taken away where there is no nginx leaves nothing to judge.
func (s *site) check(ctx context.Context, env resources.Env) error {
	if s.Ensure == resources.Absent {
		if build, err := nginx.Installed(ctx, env.Commands); err != nil || build == nil {
			return err
		}
	}
	return nginx.Check(ctx, env.Commands, s.main())
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

// putBack makes the site what it was before, the last file first, after cause.
func (s *site) putBack(ctx context.Context, env resources.Env, before *undo, cause error) error {
	if before == nil {
		return cause
	}
	ctx = context.WithoutCancel(ctx) // half a change is worse than a late end
	var failed []error
	for _, w := range slices.Backward(before.Files) {
		now, err := env.Files.Lookup(w.Path)
		if err == nil && !now.Same(w.File) {
			err = env.Files.Commit(ctx, host.Edit{Path: w.Path, Before: now, After: w.File})
		}
		if err != nil {
			failed = append(failed, err)
		}
	}
	if len(failed) == 0 {
		return errors.Join(cause, s.dropUndo(ctx, env))
	}
	return diag.Wrap(errors.Join(append([]error{cause}, failed...)...), "put the site back as it was",
		"Run nginx -t and mend the site by hand before nginx is restarted: what is on disk now may keep it from starting.")
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
	if err := env.Units.Reload(ctx, s.unit); err != nil {
		return err
	}
	loaded := nowLoaded(u, watched)
	s.loaded = &loaded
	return nil
}
