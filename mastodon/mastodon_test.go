package mastodon

import (
	"maps"
	"slices"
	"strings"
	"testing"

	"github.com/converge-agent/converge/dotenv"
)

func TestParseVersion(t *testing.T) {
	const upstream = `# frozen_string_literal: true

module Mastodon
  module Version
    module_function

    def major
      4
    end

    def minor
      6
    end

    def patch
      5
    end

    def default_prerelease
      'alpha.1'
    end

    def to_a
      [major, minor, patch].compact
    end
`
	for _, tt := range []struct{ name, source, want string }{
		{"upstream", upstream, "4.6.5"},
		{"CR LF", strings.ReplaceAll(upstream, "\n", "\r\n"), "4.6.5"},
		{"on one line", "def major; 3; end\ndef minor() 1 end\ndef self.patch; 10; end", "3.1.10"},
		{"a comment between is not guessed at", strings.Replace(upstream, "      6", "      # 6\n      7", 1), ""},
		{"a part is missing", strings.Replace(upstream, "def patch", "def patches", 1), ""},
		{"no version", "puts 'hello'", ""},
	} {
		t.Run(tt.name, func(t *testing.T) {
			v, err := ParseVersion([]byte(tt.source))
			if tt.want == "" {
				if err == nil {
					t.Errorf("got %s, want an error", v)
				}
				return
			}
			if err != nil || v.String() != tt.want {
				t.Errorf("got %s, %v; want %s", v, err, tt.want)
			}
		})
	}
}

func TestBefore(t *testing.T) {
	list := []Version{{3, 9, 9}, {4, 0, 0}, {4, 1, 3}, {4, 1, 10}, {4, 10, 0}}
	for i, a := range list {
		for j, b := range list {
			if a.Before(b) != (i < j) {
				t.Errorf("%s before %s: got %v", a, b, a.Before(b))
			}
		}
	}
}

func TestSettings(t *testing.T) {
	file := func(s string) *dotenv.File { return dotenv.Parse([]byte(s)) }
	got := Settings(file("A=local\n"), nil, file("A=production\nB=production\n"), file("B=any\nC=any\n"))
	if want := (Env{"A": "local", "B": "production", "C": "any"}); !maps.Equal(got, want) {
		t.Errorf("got %v, want %v", got, want)
	}
}

func TestShadowing(t *testing.T) {
	for name, want := range map[string][]string{
		".env.production":       {".env.production.local", ".env.local"},
		".env.production.local": {},
		"docker.env":            {},
	} {
		if got := Shadowing(name); !slices.Equal(got, want) {
			t.Errorf("%s: got %q, want %q", name, got, want)
		}
	}
}

func TestPlaces(t *testing.T) {
	for _, tt := range []struct {
		name             string
		env              Env
		local, web, path string
	}{
		{"default", Env{"LOCAL_DOMAIN": "a.example"}, "a.example", "a.example", "/live/public/system"},
		{"web domain", Env{"LOCAL_DOMAIN": "a.example", "WEB_DOMAIN": "w.a.example"}, "a.example", "w.a.example", "/live/public/system"},
		{"absolute", Env{"PAPERCLIP_ROOT_PATH": "/srv/media/"}, "", "", "/srv/media"},
		{"in the root", Env{"PAPERCLIP_ROOT_PATH": ":rails_root/media"}, "", "", "/live/media"},
		{"relative", Env{"PAPERCLIP_ROOT_PATH": "../media"}, "", "", "/media"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			if got := tt.env.LocalDomain(); got != tt.local {
				t.Errorf("local domain %q, want %q", got, tt.local)
			}
			if got := tt.env.WebDomain(); got != tt.web {
				t.Errorf("web domain %q, want %q", got, tt.web)
			}
			if got := tt.env.SystemPath("/live"); got != tt.path {
				t.Errorf("system path %q, want %q", got, tt.path)
			}
		})
	}
}

func TestUnits(t *testing.T) {
	for name, want := range map[string]string{
		"mastodon-web.service":                 "media",
		"mastodon-web-2.service":               "media",
		"mastodon-sidekiq.service":             "media",
		"mastodon-sidekiq-push.service":        "media",
		"mastodon-sidekiq@ingress.service":     "media",
		"mastodon-default-sidekiq.service":     "media",
		"mastodon-other-web.service":           "media",
		"mastodon-streaming.service":           "unit",
		"mastodon-streaming@4000.service":      "unit",
		"mastodon-streaming@.service":          "",
		"mastodon-sidekiq@.service":            "",
		"mastodon-media-remove.service":        "",
		"mastodon-media-remove.timer":          "",
		"mastodon-prometheus-exporter.service": "",
		"mastodon-web-backup.service":          "",
		"nginx.service":                        "",
		"sidekiq.service":                      "",
	} {
		got := ""
		switch {
		case StoresMedia(name):
			got = "media"
		case IsUnit(name):
			got = "unit"
		}
		if got != want {
			t.Errorf("%s: got %q, want %q", name, got, want)
		}
	}
}

func TestRunsIn(t *testing.T) {
	for text, want := range map[string]bool{
		"[Service]\nWorkingDirectory=/home/mastodon/live\n":                       true,
		"[Service]\nWorkingDirectory=-/home/mastodon/live/\n":                     true,
		"[Service]\nWorkingDirectory=/home/mastodon/live/streaming\n":             true,
		"[Service]\nExecStart=/bin/echo\n":                                        true,
		"[Service]\nWorkingDirectory=/home/mastodon/live2\n":                      false,
		"[Service]\nWorkingDirectory=/home/other/live\n":                          false,
		"[Service]\n#WorkingDirectory=/x\nWorkingDirectory=/home/mastodon/live\n": true,
	} {
		if got := RunsIn([]byte(text), "/home/mastodon/live"); got != want {
			t.Errorf("%q: got %v, want %v", text, got, want)
		}
	}
}

// good is a working set of settings.
func good() Env {
	return Env{
		"S3_ENABLED": "true", "S3_BUCKET": "media", "AWS_ACCESS_KEY_ID": "a", "AWS_SECRET_ACCESS_KEY": "b",
		"S3_ENDPOINT": "https://s3.example.com", "S3_ALIAS_HOST": "files.example.com", "S3_PERMISSION": "",
		"S3_PROTOCOL": "https", "S3_MULTIPART_THRESHOLD": "15728640", "S3_RETRY_LIMIT": "3", "EXTRA_MEDIA_HOSTS": "https://a.example,https://b.example",
		"AWS_REQUEST_CHECKSUM_CALCULATION": "when_required",
	}
}

func TestLint(t *testing.T) {
	now := Version{4, 6, 5}
	const unset = "\x00"
	for _, tt := range []struct {
		name    string
		change  Env
		version Version
		want    []string // "KEY!" breaks, "KEY?" is advice
	}{
		{name: "good", version: now},
		{name: "nothing", change: Env{"S3_ENABLED": unset, "S3_BUCKET": unset}, version: now},
		{name: "off", change: Env{"S3_ENABLED": "false", "S3_BUCKET": unset}, version: now},
		{name: "True", change: Env{"S3_ENABLED": "True"}, version: now, want: []string{"S3_ENABLED!"}},
		{name: "1", change: Env{"S3_ENABLED": "1"}, version: now, want: []string{"S3_ENABLED!"}},
		{name: "path style yes", change: Env{"S3_OVERRIDE_PATH_STYLE": "yes"}, version: now, want: []string{"S3_OVERRIDE_PATH_STYLE!"}},
		{name: "no bucket", change: Env{"S3_BUCKET": ""}, version: now, want: []string{"S3_BUCKET!"}},
		{name: "half a key", change: Env{"AWS_SECRET_ACCESS_KEY": unset}, version: now, want: []string{"AWS_ACCESS_KEY_ID!"}},
		{name: "no key at all", change: Env{"AWS_ACCESS_KEY_ID": unset, "AWS_SECRET_ACCESS_KEY": unset}, version: now},
		{name: "empty endpoint", change: Env{"S3_ENDPOINT": ""}, version: now, want: []string{"S3_ENDPOINT!"}},
		{name: "endpoint without scheme", change: Env{"S3_ENDPOINT": "s3.example.com"}, version: now, want: []string{"S3_ENDPOINT!"}},
		{name: "endpoint with port only", change: Env{"S3_ENDPOINT": "s3.example.com:9000"}, version: now, want: []string{"S3_ENDPOINT!"}},
		{name: "endpoint with bucket", change: Env{"S3_ENDPOINT": "https://media.s3.example.com"}, version: now, want: []string{"S3_ENDPOINT!"}},
		{name: "endpoint with path", change: Env{"S3_ENDPOINT": "https://s3.example.com/media"}, version: now, want: []string{"S3_ENDPOINT!"}},
		{name: "endpoint with slash", change: Env{"S3_ENDPOINT": "https://s3.example.com/"}, version: now},
		{name: "dots and virtual host", change: Env{"S3_BUCKET": "files.example.com", "S3_OVERRIDE_PATH_STYLE": "true"}, version: now, want: []string{"S3_OVERRIDE_PATH_STYLE!"}},
		{name: "dots and path style", change: Env{"S3_BUCKET": "files.example.com"}, version: now},
		{name: "alias with scheme", change: Env{"S3_ALIAS_HOST": "https://files.example.com"}, version: now, want: []string{"S3_ALIAS_HOST!"}},
		{name: "alias with slash", change: Env{"S3_ALIAS_HOST": "files.example.com/"}, version: now, want: []string{"S3_ALIAS_HOST!"}},
		{name: "alias with two slashes", change: Env{"S3_ALIAS_HOST": "files.example.com//x"}, version: now, want: []string{"S3_ALIAS_HOST!"}},
		{name: "alias with port and path", change: Env{"S3_ALIAS_HOST": "link.example:8443/raw/KEY/media"}, version: now},
		{name: "alias with path, too old", change: Env{"S3_ALIAS_HOST": "a.example/system", "S3_RETRY_LIMIT": unset, "EXTRA_MEDIA_HOSTS": unset}, version: Version{4, 1, 2}, want: []string{"S3_ALIAS_HOST!"}},
		{name: "empty alias", change: Env{"S3_ALIAS_HOST": ""}, version: now, want: []string{"S3_ALIAS_HOST!"}},
		{name: "no public host", change: Env{"S3_ALIAS_HOST": unset}, version: now, want: []string{"S3_ALIAS_HOST!"}},
		{name: "host name instead", change: Env{"S3_ALIAS_HOST": unset, "S3_HOSTNAME": "s3.example.com"}, version: now},
		{name: "host name with scheme", change: Env{"S3_HOSTNAME": "https://s3.example.com"}, version: now, want: []string{"S3_HOSTNAME!"}},
		{name: "http", change: Env{"S3_PROTOCOL": "http"}, version: now, want: []string{"S3_PROTOCOL!"}},
		{name: "megabytes", change: Env{"S3_MULTIPART_THRESHOLD": "15"}, version: now, want: []string{"S3_MULTIPART_THRESHOLD!"}},
		{name: "the least threshold", change: Env{"S3_MULTIPART_THRESHOLD": "5242880"}, version: now},
		{name: "one less", change: Env{"S3_MULTIPART_THRESHOLD": "5242879"}, version: now, want: []string{"S3_MULTIPART_THRESHOLD!"}},
		{name: "retries", change: Env{"S3_RETRY_LIMIT": "5"}, version: now, want: []string{"S3_RETRY_LIMIT?"}},
		{name: "world-writable", change: Env{"S3_PERMISSION": "public-read-write"}, version: now, want: []string{"S3_PERMISSION!"}},
		{name: "no ACL, too old", change: Env{"S3_RETRY_LIMIT": unset, "EXTRA_MEDIA_HOSTS": unset}, version: Version{3, 5, 0}, want: []string{"S3_PERMISSION!"}},
		{name: "unknown yet", version: Version{4, 2, 0}, want: []string{"S3_RETRY_LIMIT?", "EXTRA_MEDIA_HOSTS?"}},
		{name: "hosts without scheme", change: Env{"EXTRA_MEDIA_HOSTS": "https://a.example b.example"}, version: now, want: []string{"EXTRA_MEDIA_HOSTS!"}},
		{name: "CDN without scheme", change: Env{"S3_ENABLED": unset, "CDN_HOST": "cdn.example"}, version: now, want: []string{"CDN_HOST!"}},
		{name: "checksums", change: Env{"AWS_REQUEST_CHECKSUM_CALCULATION": unset}, version: now, want: []string{"AWS_REQUEST_CHECKSUM_CALCULATION?"}},
		{name: "checksums before 4.6", change: Env{"AWS_REQUEST_CHECKSUM_CALCULATION": unset}, version: Version{4, 5, 0}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			env := good()
			for key, value := range tt.change {
				env[key] = value
				if value == unset {
					delete(env, key)
				}
			}
			var got []string
			for _, f := range Lint(env, tt.version) {
				mark := "?"
				if f.Breaks {
					mark = "!"
				}
				got = append(got, f.Key+mark)
				if f.What == "" || !strings.HasSuffix(f.Fix, ".") {
					t.Errorf("%s has no words: %+v", f.Key, f)
				}
			}
			if !slices.Equal(got, tt.want) {
				t.Errorf("got %q, want %q", got, tt.want)
			}
		})
	}
}
