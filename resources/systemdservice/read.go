package systemdservice

import (
	"context"
	"fmt"
	"path"
	"slices"
	"strings"
	"time"

	"github.com/converge-agent/converge/diag"
	"github.com/converge-agent/converge/host"
	"github.com/converge-agent/converge/resources"
)

// state is what was found of the unit.
type state struct {
	unit    host.Unit
	falls   bool   // it was up and fell over while it was looked at, and systemd started it again
	similar string // where there is no such unit: `; did you mean "x"?`
	pending bool   // a resource that it depends on is still to change, and may bring or mend the unit
	restart []string
	reload  []string // due, by address; each sorted
	stale   []string // paths that changed after the start in what is not managed
	loaded  resources.Loaded
}

// record is the name of the one record, a resources.Loaded.
const record = "loaded"

// Read looks at the unit, and at what it reads.
func (s *service) Read(ctx context.Context, env resources.ReadEnv) (resources.State, error) {
	u, falls, err := s.look(ctx, env)
	if err != nil {
		return nil, err
	}
	st := &state{unit: u, falls: falls}
	if u.Load == "not-found" {
		st.similar = similar(env.Files, s.name)
	}
	for _, up := range env.Upstreams {
		st.pending = st.pending || up.Pending
	}
	known, err := s.known(env.Records)
	if err != nil {
		return nil, err
	}
	restartOn, reloadOn := s.watch(env, s.restartOn), s.watch(env, s.reloadOn)
	st.restart = resources.Owed(asStarted(u), env.Clock, known, restartOn)
	st.reload = resources.Owed(asReloaded(u), env.Clock, known, reloadOn)
	st.stale = append(stalePaths(env, asStarted(u), st.restart, restartOn), stalePaths(env, asReloaded(u), st.reload, reloadOn)...)
	slices.Sort(st.stale)
	st.stale = slices.Compact(st.stale)
	st.loaded = s.nowLoaded(u, known, env.Upstreams)
	return st, nil
}

// look returns the unit. One that systemd itself has just started again has to stay up first, for as long as one that is
// started here: a unit in a crash loop is found up at some moments, and is not up for that. It falls when it did not stay up
// and is already up again.
func (s *service) look(ctx context.Context, env resources.ReadEnv) (u host.Unit, falls bool, err error) {
	first, err := env.Units.Unit(ctx, s.name)
	if err != nil || !s.running {
		return first, false, err
	}
	u = first
	for age := env.Clock.SinceBoot() - u.UpBoot; u.Restarts > 0 && u.Up() && age < s.settle; age += s.poll {
		if err := pause(ctx, s.poll); err != nil {
			return u, false, diag.Wrap(err, "watch whether "+s.name+" stays up", "")
		}
		if u, err = env.Units.Unit(ctx, s.name); err != nil {
			return u, false, err
		}
		if u.InvocationID != first.InvocationID {
			return u, u.Up(), nil
		}
	}
	return u, false, nil
}

// known is what the unit is known to have loaded.
func (s *service) known(records resources.RecordView) (resources.Loaded, error) {
	if s.loaded != nil {
		return *s.loaded, nil
	}
	var known resources.Loaded
	_, err := records.Record(record, &known)
	return known, diag.Wrap(err, "read what "+s.name+" is known to have loaded", "")
}

// nowLoaded is what the unit has loaded when nothing is owed. Resources that are not there to be seen, because they failed
// or are held back, keep what was known of them as long as the unit runs on.
func (s *service) nowLoaded(u host.Unit, known resources.Loaded, upstreams map[resources.Address]resources.Upstream) resources.Loaded {
	now := resources.Loaded{Invocation: incarnation(u), Digests: map[string]string{}}
	for _, addr := range s.triggers() {
		name := addr.String()
		if up, ok := upstreams[addr]; ok && up.Digest != "" {
			now.Digests[name] = up.Digest
		} else if d, ok := known.Digests[name]; ok && known.Invocation == now.Invocation {
			now.Digests[name] = d
		}
	}
	return now
}

// incarnation names what runs: the invocation and, as a process may read everything anew on a reload, the last of these. A
// reload by hand that took in an edit by hand thereby voids what was known of the process.
func incarnation(u host.Unit) string {
	if u.ReloadedAt.IsZero() {
		return u.InvocationID
	}
	return fmt.Sprintf("%s reloaded at %d", u.InvocationID, u.ReloadedBoot.Microseconds())
}

// asStarted is the unit as restart_on sees it.
func asStarted(u host.Unit) host.Unit {
	if u.InvocationID != "" {
		u.InvocationID = incarnation(u)
	}
	return u
}

// asReloaded is the unit as reload_on sees it: read anew by the last reload, whoever asked for it.
func asReloaded(u host.Unit) host.Unit {
	return asStarted(resources.LastRead(u))
}

// watch looks at the resources that are there to be seen and have something to read.
func (s *service) watch(env resources.ReadEnv, addrs []resources.Address) map[string]resources.Watched {
	watched := map[string]resources.Watched{}
	for _, addr := range addrs {
		up, ok := env.Upstreams[addr]
		if !ok || len(up.Paths) == 0 && up.Digest == "" {
			continue
		}
		w := resources.Watched{Digest: up.Digest}
		if !up.Pending {
			w.ChangedAt = s.firstSeen(env.Disk, addr, up.Paths)
		}
		watched[addr.String()] = w
	}
	return watched
}

// firstSeen is when the paths of a resource had changed as this run first looked at them, zero when one of them could not be
// looked at. What others write there or beside it later in the run is theirs: by it, an apply would find owed what no plan
// has shown.
func (s *service) firstSeen(disk host.View, addr resources.Address, paths []string) time.Time {
	if s.seen == nil {
		s.seen = map[resources.Address]time.Time{}
	}
	at, known := s.seen[addr]
	if !known {
		at = lastChange(disk, paths)
		s.seen[addr] = at
	}
	return at
}

// lastChange is the latest change of the paths, or zero when one of them cannot be looked at.
func lastChange(disk host.View, paths []string) time.Time {
	var last time.Time
	for _, p := range paths {
		at := changedAt(disk, p)
		if at.IsZero() {
			return at
		}
		if at.After(last) {
			last = at
		}
	}
	return last
}

// changedAt is when the file at p changed, or, where nothing stands, when its name can last have gone: the change of the
// nearest directory above.
func changedAt(disk host.View, p string) time.Time {
	for {
		f, err := disk.Lookup(p)
		switch {
		case err != nil:
			return time.Time{}
		case f != nil:
			return f.ChangedAt
		case p == "/":
			return time.Time{}
		}
		p = path.Dir(p)
	}
}

// stalePaths are those that changed after the unit started though nothing is owed for them: the digests are what the unit
// has read, so what changed is not managed.
func stalePaths(env resources.ReadEnv, u host.Unit, owed []string, watched map[string]resources.Watched) []string {
	var paths []string
	for _, name := range resources.Owed(u, env.Clock, resources.Loaded{}, watched) {
		if slices.Contains(owed, name) {
			continue
		}
		for addr, up := range env.Upstreams {
			if addr.String() == name && !up.Pending {
				paths = append(paths, up.Paths...)
			}
		}
	}
	return paths
}

// unitDirs are where unit files are, from systemd.unit(5), "Unit File Load Path".
var unitDirs = []string{"/etc/systemd/system", "/run/systemd/system", "/usr/local/lib/systemd/system", "/usr/lib/systemd/system", "/lib/systemd/system"}

// similar returns `; did you mean "x"?` for the installed unit whose name is nearest, or "".
func similar(files host.View, name string) string {
	_, suffix, _ := strings.Cut(name, ".")
	var installed []string
	for _, dir := range unitDirs {
		names, err := files.List(dir)
		if err != nil {
			continue // a hint is no reason to fail
		}
		for _, n := range names {
			if strings.HasSuffix(n, "."+suffix) {
				installed = append(installed, n)
			}
		}
	}
	return resources.Nearest(name, installed)
}
