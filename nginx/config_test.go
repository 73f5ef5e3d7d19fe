package nginx_test

import (
	"testing"

	"github.com/converge-agent/converge/host"
	"github.com/converge-agent/converge/host/hosttest"
	"github.com/converge-agent/converge/nginx"
	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
)

func memory(files map[string]string, links map[string]string) *hosttest.Memory {
	m := hosttest.NewMemory()
	for name, text := range files {
		m.Put(name, host.File{Content: []byte(text), Mode: 0o644})
	}
	for name, target := range links {
		m.Put(name, host.File{Type: host.Symlink, Target: target})
	}
	return m
}

func TestReadConfig(t *testing.T) {
	m := memory(map[string]string{
		"/etc/nginx/nginx.conf": "user www-data;\nhttp { # server_name comment.example;\n include mime.types; include conf.d/*.conf;\n" +
			"include /etc/nginx/sites-enabled/*;\n log_format x '; server_name log.example;';\n}\n",
		"/etc/nginx/mime.types":               "types { text/html html; }",
		"/etc/nginx/conf.d/a.conf":            "server{server_name a.example \"b.example\";location / {return 200 ${host};}}",
		"/etc/nginx/conf.d/off.disabled":      "server { server_name off.example; }",
		"/etc/nginx/sites-available/c":        "server { server_name c.example\n  a.example; }\nserver { server_name c.example; }",
		"/etc/nginx/sites-enabled/.hidden":    "server { server_name hidden.example; }",
		"/etc/nginx/sites-available/unlinked": "server { server_name unlinked.example; }",
	}, map[string]string{
		"/etc/nginx/sites-enabled/c":      "../sites-available/c",
		"/etc/nginx/sites-enabled/broken": "../sites-available/none",
	})
	got, err := nginx.ReadConfig(m, "/etc/nginx/nginx.conf")
	if err != nil {
		t.Fatal(err)
	}
	want := nginx.Config{
		Files: []string{"/etc/nginx/nginx.conf", "/etc/nginx/mime.types", "/etc/nginx/conf.d/a.conf", "/etc/nginx/sites-enabled/c"},
		Names: map[string][]string{
			"a.example": {"/etc/nginx/conf.d/a.conf", "/etc/nginx/sites-enabled/c"},
			"b.example": {"/etc/nginx/conf.d/a.conf"},
			"c.example": {"/etc/nginx/sites-enabled/c"},
		},
	}
	if d := cmp.Diff(want, got, cmpopts.IgnoreUnexported(nginx.Config{})); d != "" {
		t.Errorf("-want +got:\n%s", d)
	}
	for name, want := range map[string]bool{
		"/etc/nginx/sites-enabled/new": true, "/etc/nginx/conf.d/new.conf": true, "/etc/nginx/conf.d/new": false, "/etc/nginx/sites-available/new": false,
	} {
		if got.Includes(name) != want {
			t.Errorf("Includes(%s) = %t", name, !want)
		}
	}
}

func TestReadConfigThatIncludesItself(t *testing.T) {
	m := memory(map[string]string{"/etc/nginx/nginx.conf": "include nginx.conf;"}, nil)
	if _, err := nginx.ReadConfig(m, "/etc/nginx/nginx.conf"); err == nil {
		t.Error("want an error")
	}
}

func FuzzReadConfig(f *testing.F) {
	for _, s := range []string{"a b;", `a "b\"c" {`, "${", "'", "\\", "#", "a\\;"} {
		f.Add(s)
	}
	f.Fuzz(func(_ *testing.T, text string) {
		m := memory(map[string]string{"/n": text}, nil)
		_, _ = nginx.ReadConfig(m, "/n") // any answer will do, if only there is one
	})
}
