package nginxlocation

import (
	"context"
	"errors"
	"io/fs"

	"github.com/converge-agent/converge/diag"
	"github.com/converge-agent/converge/host"
	"github.com/converge-agent/converge/nginx"
	"github.com/converge-agent/converge/resources"
)

// state is what was found of the site and of the file that it includes.
type state struct {
	site    nginx.Found
	bare    []byte         // the site without our lines
	servers []nginx.Server // of bare
	live    bool           // nginx reads the site

	include  *host.File
	dirs     []host.Edit // to make before it
	unjudged bool        // a run was killed before nginx had judged what it wrote
	uid, gid int

	unit   host.Unit
	owed   []string
	loaded resources.Loaded
}

// record is the name of the one record, a resources.Loaded.
const record = "loaded"

// Read looks at the site, at the file that it includes, and at what nginx has loaded.
func (l *location) Read(ctx context.Context, env resources.ReadEnv) (resources.State, error) {
	st := &state{}
	st.uid, st.gid = env.Users.Self()
	for _, read := range []func(context.Context, resources.ReadEnv, *state) error{
		l.readNginx, l.readSite, l.readInclude, l.readLoaded,
	} {
		if err := read(ctx, env, st); err != nil {
			return nil, err
		}
	}
	return st, nil
}

// readNginx refuses a host without nginx, unless another resource may be about to install it.
func (l *location) readNginx(ctx context.Context, env resources.ReadEnv, _ *state) error {
	build, err := nginx.Installed(ctx, env.Probe)
	if err != nil || build != nil || l.Ensure == resources.Absent {
		return err
	}
	for _, up := range env.Upstreams {
		if up.Pending {
			return nil
		}
	}
	return diag.New(l.doing(), "nginx is not installed", nginx.Install)
}

// doing is what the resource does, for errors.
func (l *location) doing() string { return "manage " + l.Match + " of the site " + l.Site }

func (l *location) readSite(_ context.Context, env resources.ReadEnv, st *state) error {
	var err error
	if st.site, err = nginx.Follow(env.Files, l.Site); err != nil {
		return err
	}
	if err := resources.MustBe(st.site.Path, st.site.File, host.Regular); err != nil {
		return err
	}
	if st.site.File == nil {
		if l.Ensure == resources.Absent {
			return nil
		}
		return diag.New(l.doing(), "no file stands there",
			"Write the path of the file with the server blocks of your instance in site; nginx -T names the files of every site.")
	}
	st.bare = nginx.Exclude(st.site.Content(), l.include())
	if l.Ensure == resources.Absent {
		return nil
	}
	if st.servers, err = nginx.Servers(st.bare); err != nil {
		return diag.Wrap(err, "find the server blocks in "+st.site.Path, "Run nginx -t, and mend what it complains about.")
	}
	conf, err := nginx.ReadConfig(env.Files, l.main())
	if err != nil {
		return diag.Wrap(err, "read the nginx configuration", "Run nginx -t, and mend what it complains about.")
	}
	st.live = len(conf.Files) == 0 || conf.Reads(st.site.Path) // none: it may not be read, or is still to come
	return nil
}

func (l *location) readInclude(_ context.Context, env resources.ReadEnv, st *state) error {
	var err error
	if st.include, err = env.Files.Lookup(l.include()); err != nil {
		return err
	}
	if err := resources.MustBe(l.include(), st.include, host.Regular); err != nil {
		return err
	}
	if st.dirs, err = host.MissingDirs(env.Files, l.dir(), 0o755, st.uid, st.gid); err != nil {
		return err
	}
	st.unjudged, err = nginx.Unjudged(env.Files, l.undoPath(env.StateDir))
	if errors.Is(err, fs.ErrPermission) {
		return nil // a plan without root cannot look, and needs not
	}
	return err
}

func (l *location) readLoaded(ctx context.Context, env resources.ReadEnv, st *state) error {
	unit, err := env.Units.Unit(ctx, l.unit)
	if err != nil {
		return err
	}
	if unit, err = nginx.Carried(env.Processes, unit); err != nil {
		return err
	}
	st.unit = resources.LastRead(unit)
	watched, err := l.watched(env.Files)
	if err != nil {
		return err
	}
	known := resources.Loaded{}
	if l.loaded != nil {
		known = *l.loaded
	} else if _, err := env.Records.Record(record, &known); err != nil {
		return err
	}
	st.owed = resources.Owed(st.unit, env.Clock, known, watched)
	st.loaded = resources.NowLoaded(st.unit, watched)
	return nil
}

// watched is what nginx reads of this location: the site and the file that it includes. Of one that is to be absent it is the
// lack of that file, since its directory last changed.
func (l *location) watched(files host.View) (map[string]resources.Watched, error) {
	names := []string{l.Site, l.include()}
	if l.Ensure == resources.Absent {
		names = []string{l.dir()}
	}
	w := map[string]resources.Watched{}
	for _, name := range names {
		found, err := nginx.Follow(files, name)
		if err != nil {
			return nil, err
		}
		if found.File != nil {
			w[name] = resources.Watched{Digest: found.Stamp(), ChangedAt: found.ChangedAt}
		}
	}
	return w, nil
}
