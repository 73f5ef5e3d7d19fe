package mastodoninstance

import (
	"strings"
	"testing"

	"github.com/converge-agent/converge/diag"
	"github.com/converge-agent/converge/host"
	"github.com/converge-agent/converge/host/hosttest"
	"github.com/converge-agent/converge/resources"
	"github.com/google/go-cmp/cmp"
	"github.com/zclconf/go-cty/cty"
)

const root = "/home/mastodon/live"

const versionRb = "module Mastodon\n module Version\n  def major\n   4\n  end\n  def minor\n   5\n  end\n  def patch\n   2\n  end\n end\nend\n"

// machine is a host with these files, and a Mastodon of user 991.
func machine(texts map[string]string) *hosttest.Memory {
	m := hosttest.NewMemory()
	m.Put(root, host.File{Type: host.Directory, Mode: 0o755, UID: 991, GID: 991})
	m.Put("/etc/passwd", host.File{Content: []byte("root:x:0:0::/root:/bin/sh\nmastodon:x:991:991::/home/mastodon:/bin/sh\n"), Mode: 0o644})
	m.Put(root+"/lib/mastodon/version.rb", host.File{Content: []byte(versionRb), Mode: 0o644, UID: 991})
	m.Put(root+"/.env.production", host.File{Content: []byte("LOCAL_DOMAIN=social.example\n"), Mode: 0o640, UID: 991})
	m.Put("/dev/null", host.File{Type: host.Other})
	for name, text := range texts {
		if target, ok := strings.CutPrefix(text, "-> "); ok {
			m.Put(name, host.File{Type: host.Symlink, Target: target})
		} else {
			m.Put(name, host.File{Content: []byte(text), Mode: 0o644})
		}
	}
	return m
}

func read(t *testing.T, m *hosttest.Memory) (cty.Value, error) {
	t.Helper()
	config, errs := Kind().Complete(cty.ObjectVal(map[string]cty.Value{"path": cty.StringVal(root)}))
	if len(errs) > 0 {
		t.Fatal(errs)
	}
	return Kind().Facts(t.Context(), resources.ReadEnv{Files: m}, config)
}

// plain gives the exports as text, lists joined.
func plain(v cty.Value) map[string]string {
	out := map[string]string{}
	for name, e := range v.AsValueMap() {
		if e.Type() == cty.String {
			out[name] = e.AsString()
			continue
		}
		var all []string
		for _, s := range e.AsValueSlice() {
			all = append(all, s.AsString())
		}
		out[name] = strings.Join(all, " ")
	}
	return out
}

func TestFacts(t *testing.T) {
	const here = "[Service]\nWorkingDirectory=" + root + "\n"
	basic := map[string]string{
		"version": "4.5.2", "env_path": root + "/.env.production", "local_domain": "social.example", "web_domain": "social.example",
		"system_path": root + "/public/system", "units": "", "media_units": "", "user": "mastodon",
	}
	for _, tt := range []struct {
		name  string
		files map[string]string
		want  map[string]string // what differs from basic
	}{
		{"without units", nil, nil},
		{"settings", map[string]string{
			root + "/.env.production": "LOCAL_DOMAIN='social.example'\nWEB_DOMAIN=web.social.example\nPAPERCLIP_ROOT_PATH=/srv/media\n",
		}, map[string]string{"web_domain": "web.social.example", "system_path": "/srv/media"}},
		{"a local file wins", map[string]string{
			root + "/.env.production.local": "WEB_DOMAIN=local.example\n",
			root + "/.env":                  "WEB_DOMAIN=late.example\n",
		}, map[string]string{"web_domain": "local.example"}},
		{"settings behind a link", map[string]string{
			root + "/.env.production":     "-> ../settings/env",
			"/home/mastodon/settings/env": "LOCAL_DOMAIN=linked.example\n",
		}, map[string]string{"local_domain": "linked.example", "web_domain": "linked.example"}},
		{"units", map[string]string{
			"/etc/systemd/system/mastodon-web.service":                                             here,
			"/etc/systemd/system/mastodon-sidekiq.service":                                         here,
			"/etc/systemd/system/mastodon-sidekiq-push.service":                                    "-> " + root + "/dist/push.service",
			root + "/dist/push.service":                                                            here,
			"/etc/systemd/system/mastodon-streaming.service":                                       "[Service]\nType=oneshot\n",
			"/lib/systemd/system/mastodon-streaming@.service":                                      here,
			"/etc/systemd/system/mastodon-streaming.service.wants/mastodon-streaming@4000.service": "-> /lib/systemd/system/mastodon-streaming@.service",
			"/etc/systemd/system/mastodon-media-remove.service":                                    here,
			"/etc/systemd/system/nginx.service":                                                    "[Service]\n",
		}, map[string]string{
			"units":       "mastodon-sidekiq mastodon-sidekiq-push mastodon-streaming mastodon-streaming@4000 mastodon-web",
			"media_units": "mastodon-sidekiq mastodon-sidekiq-push mastodon-web",
		}},
		{"units of another instance, and a masked one", map[string]string{
			"/etc/systemd/system/mastodon-web.service":       here,
			"/etc/systemd/system/mastodon-other-web.service": "[Service]\nWorkingDirectory=/home/other/live\n",
			"/etc/systemd/system/mastodon-sidekiq.service":   "-> /dev/null",
			"/lib/systemd/system/mastodon-sidekiq.service":   here,
		}, map[string]string{"units": "mastodon-web", "media_units": "mastodon-web"}},
		{"a user without a name", map[string]string{"/etc/passwd": "root:x:0:0::/root:/bin/sh\n"}, map[string]string{"user": "991"}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			m := machine(tt.files)
			v, err := read(t, m)
			if err != nil {
				t.Fatal(err)
			}
			want := map[string]string{}
			for _, add := range []map[string]string{basic, tt.want} {
				for k, s := range add {
					want[k] = s
				}
			}
			if diff := cmp.Diff(want, plain(v)); diff != "" {
				t.Errorf("(-want +got)\n%s", diff)
			}
			if len(m.Writes()) > 0 {
				t.Errorf("wrote %q", m.Writes())
			}
			for _, e := range Kind().Exports {
				if got := v.GetAttr(e.Name).Type(); !got.Equals(e.Type) {
					t.Errorf("%s is a %s, want %s", e.Name, got.FriendlyName(), e.Type.FriendlyName())
				}
			}
		})
	}
}

func TestWhatIsNoMastodon(t *testing.T) {
	for _, tt := range []struct {
		name, says string
		spoil      func(m *hosttest.Memory)
	}{
		{"nothing there", "nothing stands there", func(m *hosttest.Memory) {
			for _, name := range []string{"/lib/mastodon/version.rb", "/lib/mastodon", "/lib", "/.env.production", ""} {
				m.Remove(root + name)
			}
		}},
		{"another program", "no lib/mastodon/version.rb", func(m *hosttest.Memory) { m.Remove(root + "/lib/mastodon/version.rb") }},
		{"unknown fork", "does not name a major", func(m *hosttest.Memory) {
			m.Put(root+"/lib/mastodon/version.rb", host.File{Content: []byte("VERSION = '5'\n")})
		}},
		{"not set up", "no .env.production", func(m *hosttest.Memory) { m.Remove(root + "/.env.production") }},
		{"no domain", "LOCAL_DOMAIN is not set", func(m *hosttest.Memory) { m.Put(root+"/.env.production", host.File{}) }},
		{"a directory instead", "it is a directory", func(m *hosttest.Memory) {
			m.Remove(root + "/.env.production")
			m.Put(root+"/.env.production", host.File{Type: host.Directory})
		}},
		{"a link in a circle", "it is a symlink", func(m *hosttest.Memory) {
			m.Put(root+"/.env.production", host.File{Type: host.Symlink, Target: root + "/.env.production"})
		}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			m := machine(nil)
			tt.spoil(m)
			_, err := read(t, m)
			if err == nil || !strings.Contains(err.Error(), tt.says) || !strings.Contains(err.Error(), root) || diag.Fix(err) == "" {
				t.Errorf("got %v, want an error with %q, the path and a fix", err, tt.says)
			}
		})
	}
}
