package nginx_test

import (
	"errors"
	"flag"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/converge-agent/converge/nginx"
	"github.com/converge-agent/converge/nginx/nginxtest"
	"github.com/google/go-cmp/cmp"
)

var update = flag.Bool("update", false, "write the golden files anew")

var (
	debian12 = nginx.Build{Version: nginx.Version{Major: 1, Minor: 22, Patch: 1}, Slice: true, AuthRequest: true, HTTP2: true}
	debian13 = nginx.Build{Version: nginx.Version{Major: 1, Minor: 26, Patch: 3}, Slice: true, AuthRequest: true, HTTP2: true}
	ubuntu22 = nginx.Build{Version: nginx.Version{Major: 1, Minor: 18}, Slice: true, AuthRequest: true, HTTP2: true}
	minimal  = nginx.Build{Version: nginx.Version{Major: 1, Minor: 26, Patch: 3}}
)

// sample is a media proxy in full.
func sample(b nginx.Build) nginx.Site {
	return nginx.Site{
		Origin: "nginx_site.files", ServerName: "files.example.com", IPv6: true,
		Listen:      []nginx.Listen{{Port: 80}, {Port: 443, TLS: true}},
		Certificate: "/etc/converge/certificates/files.example.com/live/fullchain.pem",
		Key:         "/etc/converge/certificates/files.example.com/live/privkey.pem",
		Webroot:     "/var/lib/converge-acme",
		Proxy: &nginx.MediaProxy{
			Backend: "https://s3.example.net/my-media", Resolvers: []string{"192.0.2.53", "[2001:db8::53]", "ipv6=off"},
			LocalFallback: "/home/mastodon/live/public/system", FallbackUntil: "/etc/nginx/files.example.com.moved",
			CachePath: "/var/cache/nginx/files.example.com", CacheSize: 10e9, Inactive: 7 * 24 * time.Hour,
		},
		Build: b,
	}
}

func with(s nginx.Site, change func(*nginx.Site)) nginx.Site {
	if s.Proxy != nil {
		proxy := *s.Proxy
		s.Proxy = &proxy
	}
	change(&s)
	return s
}

func TestRender(t *testing.T) {
	for name, site := range map[string]nginx.Site{
		"media-1.22.1": sample(debian12),
		"media-1.26.3": sample(debian13),
		"media-1.18.0": sample(ubuntu22),
		"media-without-modules": with(sample(minimal), func(s *nginx.Site) {
			s.IPv6, s.Proxy.LocalFallback = false, ""
		}),
		"media-b2-own-ca": with(sample(debian12), func(s *nginx.Site) {
			s.Proxy.ForbiddenIsOutage, s.Proxy.CAFile, s.Proxy.LocalFallback = true, "/etc/ssl/own ca.pem", ""
			s.Proxy.BustFrom = []netip.Prefix{netip.MustParsePrefix("172.18.0.0/16"), netip.MustParsePrefix("2001:db8::7/128")}
		}),
		"media-by-hosts-plain-http": with(sample(debian12), func(s *nginx.Site) {
			s.Certificate, s.Key = "", ""
			s.Proxy.Backend, s.Proxy.Address = "http://garage.internal:3902", "10.0.0.7"
		}),
		"redirect": with(sample(debian12), func(s *nginx.Site) {
			s.Proxy, s.Redirect = nil, "https://social.example.com/media"
		}),
		"content": with(sample(debian13), func(s *nginx.Site) {
			s.Proxy, s.Content = nil, "root /var/www/x;\n\nlocation / {\n    try_files $uri =404;\n}\n"
			s.Listen = []nginx.Listen{{Address: "127.0.0.1", Port: 8080}, {Address: "[::1]", Port: 8443, TLS: true}}
		}),
		"content-plain": with(sample(debian13), func(s *nginx.Site) {
			s.Proxy, s.Content, s.Certificate, s.Key = nil, "return 204;", "", ""
		}),
	} {
		t.Run(name, func(t *testing.T) {
			got := string(render(t, site))
			file := filepath.Join("testdata", name+".conf")
			if *update {
				if err := os.WriteFile(file, []byte(got), 0o644); err != nil {
					t.Fatal(err)
				}
			}
			want, err := os.ReadFile(file)
			if err != nil {
				t.Fatal(err)
			}
			if d := cmp.Diff(string(want), got); d != "" {
				t.Errorf("differs from %s (-want +got; go test -update writes it anew):\n%s", file, d)
			}
		})
	}
}

// TestNginxTakesEverySite lets the installed nginx judge what is rendered for its version.
func TestNginxTakesEverySite(t *testing.T) {
	dir := t.TempDir()
	server := nginxtest.New(t, dir)
	ca := nginxtest.NewCA(t, dir)
	base := sample(installed(t, server))
	for name, change := range map[string]func(*nginx.Site){
		"media":        func(*nginx.Site) {},
		"no modules":   func(s *nginx.Site) { s.Build.Slice, s.Build.HTTP2 = false, false },
		"no fallback":  func(s *nginx.Site) { s.Proxy.LocalFallback = "" },
		"no resolver":  func(s *nginx.Site) { s.Proxy.Resolvers = nil },
		"odd path":     func(s *nginx.Site) { s.Proxy.LocalFallback = `/srv/a "b\c; d{e` },
		"odd end":      func(s *nginx.Site) { s.Proxy.FallbackUntil = `/srv/a "b\c; d{e` },
		"redirect":     func(s *nginx.Site) { s.Proxy, s.Redirect = nil, "https://a.example/b" },
		"content":      func(s *nginx.Site) { s.Proxy, s.Content = nil, "return 204;" },
		"longest name": func(s *nginx.Site) { s.ServerName = strings.Repeat("a", 34) + ".example.com" },
		"bust from": func(s *nginx.Site) {
			s.Proxy.BustFrom = []netip.Prefix{netip.MustParsePrefix("127.0.0.0/8"), netip.MustParsePrefix("2001:db8::/64")}
		},
		"no auth_request": func(s *nginx.Site) { s.Build.AuthRequest = false },
		"own authority":   func(s *nginx.Site) { s.Proxy.CAFile = ca.File },
	} {
		t.Run(name, func(t *testing.T) {
			site := with(base, change)
			pair := ca.Issue(t, filepath.Join(dir, "pair"), site.ServerName)
			site.Certificate, site.Key = pair.CertFile, pair.KeyFile
			site.Listen = []nginx.Listen{{Address: "127.0.0.1", Port: nginxtest.FreePort(t)}, {Address: "127.0.0.1", Port: nginxtest.FreePort(t), TLS: true}}
			if site.Proxy != nil {
				site.Proxy.CachePath = cacheDir(t)
			}
			server.WriteSite(t, "site", string(render(t, site)))
			if out, err := server.Test(t); err != nil || strings.Contains(out, "[warn]") && !strings.Contains(out, "\"user\"") {
				t.Errorf("nginx -t: %v\n%s", err, out)
			}
		})
	}
}

func TestValidateNamesTheField(t *testing.T) {
	for _, c := range []struct {
		name, field string
		change      func(*nginx.Site)
	}{
		{"injection by the name", "ServerName", func(s *nginx.Site) { s.ServerName = "a.example; include /etc/passwd" }},
		{"wildcard", "ServerName", func(s *nginx.Site) { s.ServerName = "*.example.com" }},
		{"upper case", "ServerName", func(s *nginx.Site) { s.ServerName = "A.example" }},
		{"line break in a path", "Certificate", func(s *nginx.Site) { s.Certificate = "/etc/x;\ninclude /y" }},
		{"variable in a path", "Key", func(s *nginx.Site) { s.Key = "/etc/$host" }},
		{"relative path", "Webroot", func(s *nginx.Site) { s.Webroot = "webroot" }},
		{"nothing to serve", "Content", func(s *nginx.Site) { s.Proxy = nil }},
		{"two things to serve", "Content", func(s *nginx.Site) { s.Redirect = "https://a.example" }},
		{"redirect with a variable", "Redirect", func(s *nginx.Site) { s.Proxy, s.Redirect = nil, "https://a.example/$host" }},
		{"redirect with a quote", "Redirect", func(s *nginx.Site) { s.Proxy, s.Redirect = nil, `https://a.example/";` }},
		{"redirect with arguments", "Redirect", func(s *nginx.Site) { s.Proxy, s.Redirect = nil, "https://a.example/?x" }},
		{"redirect with a slash", "Redirect", func(s *nginx.Site) { s.Proxy, s.Redirect = nil, "https://a.example/" }},
		{"redirect elsewhere", "Redirect", func(s *nginx.Site) { s.Proxy, s.Redirect = nil, "ftp://a.example" }},
		{"no port for HTTPS", "Listen", func(s *nginx.Site) { s.Listen = s.Listen[:1] }},
		{"no plain port", "Listen", func(s *nginx.Site) { s.Listen, s.Certificate = s.Listen[1:], "" }},
		{"bucket name", "Backend", func(s *nginx.Site) { s.Proxy.Backend = "https://s3.example.net/a b;" }},
		{"bucket with a variable", "Backend", func(s *nginx.Site) { s.Proxy.Backend = "https://s3.example.net/$uri" }},
		{"backend with a password", "Backend", func(s *nginx.Site) { s.Proxy.Backend = "https://u:p@s3.example.net" }},
		{"backend that ends in a slash", "Backend", func(s *nginx.Site) { s.Proxy.Backend = "https://s3.example.net/" }},
		{"backend by address", "Backend", func(s *nginx.Site) { s.Proxy.Backend = "https://192.0.2.1/b" }},
		{"backend without a scheme", "Backend", func(s *nginx.Site) { s.Proxy.Backend = "s3.example.net" }},
		{"authorities", "CAFile", func(s *nginx.Site) { s.Proxy.CAFile = "/x\x00" }},
		{"fallback", "LocalFallback", func(s *nginx.Site) { s.Proxy.LocalFallback = "/home/$user" }},
		{"cache in /tmp", "CachePath", func(s *nginx.Site) { s.Proxy.CachePath = "/tmp/cache" }},
		{"small cache", "CacheSize", func(s *nginx.Site) { s.Proxy.CacheSize = 1000 }},
		{"short time", "Inactive", func(s *nginx.Site) { s.Proxy.Inactive = time.Second }},
	} {
		t.Run(c.name, func(t *testing.T) {
			site := with(sample(debian12), func(s *nginx.Site) {
				s.Listen = append([]nginx.Listen(nil), s.Listen...)
				c.change(s)
			})
			_, err := site.Render()
			var bad *nginx.FieldError
			if !errors.As(err, &bad) || bad.Field != c.field {
				t.Errorf("got %v, want an error of %s", err, c.field)
			}
		})
	}
}

func TestQuote(t *testing.T) {
	for in, want := range map[string]string{
		"/var/cache/a-b_c.d": "/var/cache/a-b_c.d", "/a b": `"/a b"`, `/a"b`: `"/a\"b"`, `/a\b`: `"/a\\b"`, "/a;b": `"/a;b"`,
		"/a{b}": `"/a{b}"`, "/a#b": `"/a#b"`, "": `""`, "/é": `"/é"`,
		"/a$b": "", "/a\nb": "", "/a\x00": "", "/a\x7f": "",
	} {
		got, err := nginx.Quote(in)
		if got != want || (err != nil) != (want == "") {
			t.Errorf("Quote(%q) = %s, %v; want %s", in, got, err, want)
		}
	}
}

func TestParseListen(t *testing.T) {
	for in, want := range map[string]nginx.Listen{
		"80":                 {Port: 80},
		"443":                {Port: 443, TLS: true},
		"8443 ssl":           {Port: 8443, TLS: true},
		"127.0.0.1:8443 ssl": {Address: "127.0.0.1", Port: 8443, TLS: true},
		"[::1]:80":           {Address: "[::1]", Port: 80},
		"0":                  {}, "65536": {}, "": {}, "example.com:80": {}, "80 ssl http2": {}, "::1:80": {}, "80;": {}, "+80": {}, "127.0.0.1": {}, "[127.0.0.1]:80": {},
	} {
		got, err := nginx.ParseListen(in)
		if got != want || (err != nil) != (want == nginx.Listen{}) {
			t.Errorf("ParseListen(%q) = %+v, %v; want %+v", in, got, err, want)
		}
	}
}

func TestParsePrefix(t *testing.T) {
	for in, want := range map[string]string{
		"192.0.2.7": "192.0.2.7/32", "172.18.0.9/16": "172.18.0.0/16", "2001:db8::1": "2001:db8::1/128", "::ffff:192.0.2.7": "192.0.2.7/32",
		"2001:db8::7/64": "2001:db8::/64",
		"":               "", "0.0.0.0/0": "", "::/0": "", "app.example": "", "fe80::1%eth0": "", "192.0.2.7;": "", "192.0.2.0/33": "", "unix:": "",
	} {
		got, err := nginx.ParsePrefix(in)
		if (err != nil) != (want == "") || err == nil && got.String() != want {
			t.Errorf("ParsePrefix(%q) = %s, %v; want %s", in, got, err, want)
		}
	}
}

func TestParseBuild(t *testing.T) {
	for _, c := range []struct {
		name, output string
		want         nginx.Build
	}{
		{"Debian 12", "nginx version: nginx/1.22.1\nbuilt with OpenSSL\nconfigure arguments: --with-http_v2_module --with-http_slice_module --with-http_auth_request_module\n", debian12},
		{"Ubuntu", "nginx version: nginx/1.18.0 (Ubuntu)\nconfigure arguments: --with-http_v2_module --with-http_slice_module --with-http_auth_request_module\n", ubuntu22},
		{"without modules", "nginx version: nginx/1.26.3\nconfigure arguments:\n", minimal},
		{"openresty", "nginx version: openresty/1.21.4.1\n", nginx.Build{Version: nginx.Version{Major: 1, Minor: 21, Patch: 4}}},
	} {
		if got, err := nginx.ParseBuild(c.output); err != nil || got != c.want {
			t.Errorf("%s: got %+v, %v; want %+v", c.name, got, err, c.want)
		}
	}
	if _, err := nginx.ParseBuild("bash: nginx: command not found"); err == nil {
		t.Error("no version: want an error")
	}
}

func TestResolvers(t *testing.T) {
	for _, c := range []struct {
		name, conf string
		want       []string
	}{
		{"one", "# by hand\nnameserver 192.0.2.1\noptions edns0\n", []string{"192.0.2.1", "ipv6=off"}},
		{"both", "nameserver 192.0.2.1\nnameserver 2001:db8::1\n", []string{"192.0.2.1", "[2001:db8::1]", "ipv6=off"}},
		{"IPv6 alone", "nameserver 2001:db8::1\n", []string{"[2001:db8::1]"}},
		{"systemd-resolved", "nameserver 127.0.0.53\nsearch .\n", []string{"127.0.0.53"}},
		{"zone and rubbish", "nameserver fe80::1%eth0\nnameserver x;y\nnameserver\n", nil},
		{"nothing", "", nil},
	} {
		if d := cmp.Diff(c.want, nginx.Resolvers([]byte(c.conf))); d != "" {
			t.Errorf("%s (-want +got):\n%s", c.name, d)
		}
	}
}

func TestHostsAddress(t *testing.T) {
	hosts := []byte("127.0.0.1 localhost\n::1 localhost ip6-localhost\n10.0.0.7\tstore.internal Store # x other\nfe80::1%eth0 zoned\n")
	for name, want := range map[string]string{
		"localhost": "127.0.0.1", "ip6-localhost": "[::1]", "store.internal": "10.0.0.7", "STORE": "10.0.0.7", "other": "", "zoned": "", "example.com": "",
	} {
		if got := nginx.HostsAddress(hosts, name); got != want {
			t.Errorf("HostsAddress(%s) = %q, want %q", name, got, want)
		}
	}
}
