package main

import (
	"io/fs"
	"testing"

	"github.com/converge-agent/converge/host"
	"github.com/converge-agent/converge/host/hosttest"
)

// TestPlantedNginxConfIsNotTested: nginx loads the modules that a configuration names when it tests it. One that the app's
// user has put above its env file must not be run by root.
func TestPlantedNginxConfIsNotTested(t *testing.T) {
	dir := func(uid int, mode fs.FileMode) host.File {
		return host.File{Type: host.Directory, Mode: mode, UID: uid}
	}
	const app = 991
	for name, c := range map[string]struct {
		dir, conf host.File
		refused   bool
	}{
		"root's":                     {dir(0, 0o755), host.File{Mode: 0o644}, false},
		"the app's":                  {dir(app, 0o755), host.File{Mode: 0o644, UID: app}, true},
		"in a directory of the app":  {dir(app, 0o755), host.File{Mode: 0o644}, true},
		"in one that all write to":   {dir(0, 0o777), host.File{Mode: 0o644}, true},
		"in one that a group may":    {host.File{Type: host.Directory, Mode: 0o775, GID: app}, host.File{Mode: 0o644}, true},
		"that all write to":          {dir(0, 0o755), host.File{Mode: 0o666}, true},
		"in a sticky directory":      {dir(0, 0o777|fs.ModeSticky), host.File{Mode: 0o644}, false},
		"a link to the app's":        {dir(0, 0o755), host.File{Type: host.Symlink, Target: "/srv/app/evil.conf"}, true},
		"a link to what is root's":   {dir(0, 0o755), host.File{Type: host.Symlink, Target: "../other.conf"}, false},
		"a link to nothing":          {dir(0, 0o755), host.File{Type: host.Symlink, Target: "none"}, true},
		"a link of the app's itself": {dir(0, 0o755), host.File{Type: host.Symlink, Target: "../other.conf", UID: app}, true},
	} {
		t.Run(name, func(t *testing.T) {
			m := hosttest.NewMemory()
			m.Put("/srv", dir(0, 0o755))
			m.Put("/srv/other.conf", host.File{Mode: 0o644})
			m.Put("/srv/app", dir(app, 0o755))
			m.Put("/srv/app/evil.conf", host.File{Mode: 0o644})
			m.Put("/srv/live", c.dir)
			m.Put("/srv/live/nginx.conf", c.conf)
			main, err := nginxJudge{}.Of(m, "/srv/live/sites/.env.production")
			if main != "/srv/live/nginx.conf" || (err != nil) != c.refused {
				t.Errorf("got %q, %v; want it refused: %v", main, err, c.refused)
			}
		})
	}
}
