package faults

import (
	"fmt"
	"io"
	"net/http"
	"os"
	"strings"
)

// localSite has one of each kind that works on the host alone: what is there is changed, made or removed.
const localSite = `
directory "app" {
  path  = "/etc/app"
  mode  = "0750"
  group = "mastodon"
}
directory "data" {
  path  = "/srv/data"
  owner = "mastodon"
}
file "settings" {
  path    = "/etc/app/settings"
  content = "%s"
}
file "key" {
  path    = "/etc/app/key"
  content = credential("app.key")
  owner   = "mastodon"
}
file "shared" {
  path    = "/etc/app/shared"
  content = "for the group\n"
  group   = "mastodon"
  mode    = "0640"
}
file "gone" {
  path   = "/etc/app/gone"
  ensure = "absent"
}
symlink "current" {
  path   = "/srv/current"
  target = directory.data.path
}
env_file "app" {
  path  = "/srv/app.env"
  set   = { MODE = "new", TOKEN = credential("app.token") }
  unset = ["LEGACY"]
}
systemd_service "web" {
  name       = "web"
  restart_on = [env_file.app, file.key]
}
systemd_service "worker" {
  name       = "worker"
  restart_on = [file.settings]
}
nginx_site "www" {
  server_name = "www.social.test"
  listen      = ["8080"]
  content     = "location / { return 200 \"the new site\\n\"; }"
}
`

// localStory is a host that all of localSite is news for.
func localStory(w *world) error {
	const page = 64 // lines, so that half of it is torn
	w.config = fmt.Sprintf(localSite, strings.Repeat(`a new line\n`, page))
	w.secrets = map[string]string{"app.key": "key-7hV2mQ9xLr4tW8sB", "app.token": "token-3nK6pZ1yDf5gJ0cA"}
	w.services = map[string][]string{"web": {"/srv/app.env", "/etc/app/key"}, "worker": {"/etc/app/settings"}}
	put("/etc/app/settings", strings.Repeat("an old line\n", page), 0o600, 991, 991)
	put("/etc/app/key", "an old key\n", 0o600, 991, 0)
	put("/etc/app/shared", "for everybody\n", 0o644, 0, 0)
	put("/etc/app/gone", "to be removed\n", 0o644, 0, 0)
	put("/srv/app.env", "# kept\nMODE=old\nLEGACY=1\nOTHER=2\n", 0o640, 0, 991)
	w.check = func(final bool) error {
		if !final {
			return nil
		}
		return w.await("nginx serves the new site", newSite)
	}
	return os.Symlink("/srv/old", "/srv/current")
}

func newSite() error {
	r, err := http.NewRequest(http.MethodGet, "http://127.0.0.1:8080/", nil)
	if err != nil {
		return err
	}
	r.Host, r.Close = "www.social.test", true
	resp, err := http.DefaultClient.Do(r)
	if err != nil {
		return err
	}
	defer func() { _ = resp.Body.Close() }()
	body, err := io.ReadAll(resp.Body)
	if err == nil && string(body) != "the new site\n" {
		err = fmt.Errorf("it answers %s: %q", resp.Status, body)
	}
	return err
}
