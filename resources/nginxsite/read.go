package nginxsite

import (
	"context"
	"errors"
	"io/fs"
	"net/url"
	"path"

	"github.com/converge-agent/converge/diag"
	"github.com/converge-agent/converge/host"
	"github.com/converge-agent/converge/nginx"
	"github.com/converge-agent/converge/resources"
)

// state is what was found of the site, and of what its text depends on.
type state struct {
	build     *nginx.Build // nil: there is none yet, and an upstream may bring it
	ipv6      bool
	resolvers []string
	address   string // of the bucket's host, where /etc/hosts has it

	file, link *host.File
	unjudged   bool // a run was killed before nginx had judged what it wrote
	uid, gid   int

	included bool     // a file in sites-enabled is part of the configuration
	others   []string // files that serve the same name
	closed   string   // the first directory on the way to the fallback that others may not enter

	unit     host.Unit
	noChain  bool // the certificate does not exist
	renewing bool // the certificate is going to change in this run
	owed     []string
	loaded   resources.Loaded
}

// record is the name of the one record, a resources.Loaded.
const record = "loaded"

// Read looks at the site's files, at nginx, and at what it has loaded.
func (s *site) Read(ctx context.Context, env resources.ReadEnv) (resources.State, error) {
	st := &state{}
	st.uid, st.gid = env.Users.Self()
	for _, read := range []func(context.Context, resources.ReadEnv, *state) error{
		s.readBuild, s.readFiles, s.readNetwork, s.readConfig, s.readLoaded,
	} {
		if err := read(ctx, env, st); err != nil {
			return nil, err
		}
	}
	return st, nil
}

func (s *site) readBuild(ctx context.Context, env resources.ReadEnv, st *state) error {
	build, err := nginx.Installed(ctx, env.Probe)
	if err != nil {
		return err
	}
	st.build = build
	if build != nil || s.Ensure == resources.Absent {
		return nil
	}
	for _, up := range env.Upstreams {
		if up.Pending {
			s.blind = true
			return nil
		}
	}
	return diag.New("manage the site "+s.ServerName, "nginx is not installed", nginx.Install)
}

func (s *site) readFiles(_ context.Context, env resources.ReadEnv, st *state) error {
	var err error
	if st.file, err = env.Files.Lookup(s.path()); err != nil {
		return err
	}
	if st.link, err = env.Files.Lookup(s.link()); err != nil {
		return err
	}
	if st.unjudged, err = nginx.Unjudged(env.Files, s.undoPath(env.StateDir)); err != nil && !errors.Is(err, fs.ErrPermission) {
		return err // a plan without root cannot look, and needs not
	}
	if err := resources.MustBe(s.path(), st.file, host.Regular); err != nil {
		return err
	}
	if err := resources.MustBe(s.link(), st.link, host.Symlink); err != nil || s.Ensure == resources.Absent {
		return err
	}
	if s.Proxy != nil {
		st.closed = closedDir(env.Files, s.Proxy.LocalFallback)
	}
	return nil
}

// closedDir returns the first directory on the way to dir that others may not enter, or "". It is for advice alone: nginx's
// user may still be in the directory's group.
func closedDir(files host.View, dir string) string {
	closed := ""
	for ; len(dir) > 1; dir = path.Dir(dir) {
		if f, err := files.Lookup(dir); err == nil && f != nil && f.Type == host.Directory && f.Mode&0o001 == 0 {
			closed = dir
		}
	}
	return closed
}

func (s *site) readNetwork(_ context.Context, env resources.ReadEnv, st *state) error {
	v6, err := env.Files.Lookup("/proc/sys/net/ipv6") // there unless the kernel was told ipv6.disable=1
	if err != nil {
		return err
	}
	st.ipv6 = v6 != nil
	if s.Proxy == nil {
		return nil
	}
	conf, err := nginx.Follow(env.Files, "/etc/resolv.conf")
	if err != nil {
		return err
	}
	st.resolvers = nginx.Resolvers(conf.Content())
	hosts, err := nginx.Follow(env.Files, "/etc/hosts")
	if err != nil {
		return err
	}
	if u, err := url.Parse(s.Proxy.Bucket.URL); err == nil {
		st.address = nginx.HostsAddress(hosts.Content(), u.Hostname())
	}
	return nil
}

func (s *site) readConfig(_ context.Context, env resources.ReadEnv, st *state) error {
	conf, err := nginx.ReadConfig(env.Files, s.main())
	if err != nil {
		return diag.Wrap(err, "read the nginx configuration", "Run nginx -t, and mend what it complains about.")
	}
	st.included = conf.Includes(s.link())
	for _, f := range conf.Names[s.ServerName] {
		if f != s.link() {
			st.others = append(st.others, f)
		}
	}
	return nil
}

func (s *site) readLoaded(ctx context.Context, env resources.ReadEnv, st *state) error {
	unit, err := env.Units.Unit(ctx, s.unit)
	if err != nil {
		return err
	}
	if unit, err = nginx.Carried(env.Processes, unit); err != nil {
		return err
	}
	st.unit = resources.LastRead(unit)
	watched, err := s.watched(env.Files, st)
	if err != nil {
		return err
	}
	known := resources.Loaded{}
	if s.loaded != nil {
		known = *s.loaded
	} else if _, err := env.Records.Record(record, &known); err != nil {
		return err
	}
	st.owed = resources.Owed(st.unit, env.Clock, known, watched)
	st.loaded = resources.NowLoaded(st.unit, watched)
	return nil
}

// watched is what nginx reads of this site: its two files, and its certificate. Of one that is to be absent it is the lack of
// them, since the directory last changed.
func (s *site) watched(files host.View, st *state) (map[string]resources.Watched, error) {
	w := map[string]resources.Watched{}
	if s.Ensure == resources.Absent {
		dir, err := files.Lookup(path.Dir(s.link()))
		if err == nil && dir != nil {
			w[s.link()] = resources.Watched{Digest: resources.Absent, ChangedAt: dir.ChangedAt}
		}
		return w, err
	}
	for _, name := range []string{s.path(), s.link()} {
		f, err := files.Lookup(name)
		if err != nil {
			return nil, err
		}
		if f != nil {
			w[name] = watch(nginx.Found{File: f, ChangedAt: f.ChangedAt})
		}
	}
	if s.Certificate == nil {
		return w, nil
	}
	chain, err := nginx.Follow(files, s.Certificate.Chain)
	switch {
	case errors.Is(err, host.ErrOpaque):
		st.renewing = true
		return w, nil
	case err != nil:
		return nil, err
	case chain.Content() == nil:
		st.noChain = true
		return w, nil
	}
	w[s.Certificate.Chain] = watch(chain)
	return w, nil
}

func watch(f nginx.Found) resources.Watched {
	return resources.Watched{Digest: f.Stamp(), ChangedAt: f.ChangedAt}
}
