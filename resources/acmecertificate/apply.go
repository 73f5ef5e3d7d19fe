package acmecertificate

import (
	"context"
	"errors"
	"net/url"
	"path"

	"github.com/converge-agent/converge/acme"
	"github.com/converge-agent/converge/diag"
	"github.com/converge-agent/converge/host"
	"github.com/converge-agent/converge/nginx"
	"github.com/converge-agent/converge/resources"
)

// Apply removes leftovers, and obtains the certificate if that is due.
func (c *certificate) Apply(ctx context.Context, env resources.Env, ch resources.Change) error {
	left, edits := split(ch.Edits, c.snippets())
	if len(left) > 0 {
		if err := c.removeSnippets(ctx, env, left); err != nil {
			return err
		}
	}
	if ch.Private != issue {
		return resources.CommitAll(ctx, env, resources.Change{Edits: edits})
	}
	cert, err := c.obtain(ctx, env)
	switch {
	case err != nil && ch.Action == resources.Update:
		return diag.Wrap(err, ch.Summary, "") // it says how long the old one is still good for
	case err != nil:
		return err
	}
	fill(edits, cert)
	if err := resources.CommitAll(ctx, env, resources.Change{Edits: edits}); err != nil {
		return err
	}
	return c.writeFailure(ctx, env, nil)
}

// split parts the edits of paths from the others.
func split(edits []host.Edit, paths []string) (of, others []host.Edit) {
	for _, e := range edits {
		if e.After == nil && (e.Path == paths[0] || e.Path == paths[1]) {
			of = append(of, e)
		} else {
			others = append(others, e)
		}
	}
	return of, others
}

// fill gives the opaque edits their bytes.
func fill(edits []host.Edit, cert acme.Certificate) {
	for i := range edits {
		e := &edits[i]
		if !e.Opaque {
			continue
		}
		after := *e.After
		after.Content = cert.Chain
		if path.Base(e.Path) == keyFile {
			after.Content = []byte(cert.Key.Reveal())
		}
		e.After, e.Opaque = &after, false
	}
}

// obtain has the authority issue the certificate, with its challenges answered for as long as that takes.
func (c *certificate) obtain(ctx context.Context, env resources.Env) (acme.Certificate, error) {
	d, err := c.open(ctx, env)
	if err != nil {
		return acme.Certificate{}, err
	}
	cert, err := c.issuer.Obtain(ctx, c.request(env, d.presenter))
	closing := d.close(context.WithoutCancel(ctx))
	if err != nil {
		return acme.Certificate{}, errors.Join(c.remember(ctx, env, err), closing)
	}
	// A certificate that was issued is kept, whatever became of the server for challenges: the next run finds that.
	return cert, nil
}

func (c *certificate) request(env resources.Env, p acme.Presenter) acme.Request {
	uid, gid := env.Users.Self()
	r := acme.Request{
		Directory: c.Directory, CAFile: c.CAFile, Email: c.Email, Domains: c.Domains, KeyType: c.KeyType, Profile: c.Profile,
		Account: acme.Account{
			Files: env.Files, Dir: path.Join(c.stateDir(env.ReadEnv), "accounts", url.PathEscape(c.Directory)), UID: uid, GID: gid,
		},
		Presenter: p, Now: env.Clock.Now(),
	}
	if c.External != nil {
		r.External = &acme.ExternalAccount{KeyID: c.External.KeyID, HMAC: c.External.HMAC}
	}
	return r
}

// removeSnippets takes away a server for challenges, and lets nginx know.
func (c *certificate) removeSnippets(ctx context.Context, env resources.Env, edits []host.Edit) error {
	if err := resources.CommitAll(ctx, env, resources.Change{Edits: edits}); err != nil {
		return err
	}
	return c.reload(ctx, env)
}

// reload lets nginx read its configuration again, if it runs and the configuration is good.
func (c *certificate) reload(ctx context.Context, env resources.Env) error {
	u, err := env.Units.Unit(ctx, c.unit)
	if err != nil || !u.Up() {
		return err
	}
	if err := nginx.Check(ctx, env.Commands, env.Files, path.Join(c.ConfDir, "nginx.conf")); err != nil {
		return diag.Wrap(err, "let nginx answer the authority's challenge", "")
	}
	return nginx.Reload(ctx, env.Units, env.Processes, env.Clock, u)
}
