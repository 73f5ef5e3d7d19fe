package nginx_test

import (
	"bufio"
	"errors"
	"fmt"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/converge-agent/converge/nginx"
	"github.com/converge-agent/converge/nginx/nginxtest"
	"github.com/google/go-cmp/cmp"
)

// system is what the examples make of Mastodon's old paths.
func system() nginx.Location {
	return nginx.Location{
		Origin: "nginx_location.system", Match: "/system/", Redirect: "https://files.example.com",
		Except: []string{"/system/backups/", "/system/imports/"},
	}
}

func TestRenderLocation(t *testing.T) {
	deeper := nginx.Location{Match: "/media/old.v1/", Redirect: "https://files.example.com/media"}
	for name, l := range map[string]nginx.Location{"location": system(), "location-deeper": deeper} {
		got, err := l.Render()
		if err != nil {
			t.Fatal(err)
		}
		golden := filepath.Join("testdata", name+".conf")
		if *update {
			if err := os.WriteFile(golden, got, 0o600); err != nil {
				t.Fatal(err)
			}
		}
		want, err := os.ReadFile(golden)
		if err != nil {
			t.Fatal(err)
		}
		if d := cmp.Diff(string(want), string(got)); d != "" {
			t.Errorf("%s: -want +got (go test ./nginx -update writes it):\n%s", name, d)
		}
	}
}

func TestLocationErrors(t *testing.T) {
	for field, changes := range map[string][]func(*nginx.Location){
		"Match": {
			func(l *nginx.Location) { l.Match = "^~ /system/" }, func(l *nginx.Location) { l.Match = "/system" },
			func(l *nginx.Location) { l.Match = "/" }, func(l *nginx.Location) { l.Match = "/a/../b/" },
			func(l *nginx.Location) { l.Match = "/a//b/" }, func(l *nginx.Location) { l.Match = "/a%20b/" }, func(l *nginx.Location) { l.Match = "/$x/" },
		},
		"Redirect": {
			func(l *nginx.Location) { l.Redirect = "https://files.example.com/" }, func(l *nginx.Location) { l.Redirect = "https://x/$uri" },
		},
		"Except": {
			func(l *nginx.Location) { l.Except = []string{"/backups/"} }, func(l *nginx.Location) { l.Except = []string{"/system/"} },
			func(l *nginx.Location) { l.Except = []string{"/system/backups"} },
		},
	} {
		for i, change := range changes {
			l := system()
			change(&l)
			_, err := l.Render()
			var bad *nginx.FieldError
			if !errors.As(err, &bad) || bad.Field != field {
				t.Errorf("%s %d: got %v", field, i, err)
			}
		}
	}
}

// The forms in which admins have the location, from dist/nginx.conf of Mastodon 4.6, 4.0 to 4.5 and 3.5, and from elsewhere;
// each serves the disk.
var forms = map[string]string{
	"4.6":        "location ^~ /system/ { add_header X-From disk; }",
	"4.0 to 4.5": "location ~ ^/system/ { add_header X-From disk; try_files $uri =404; }",
	"3.5":        "location ~ ^/(emoji|packs|system/accounts/avatars|system/media_attachments/files) { add_header X-From disk; try_files $uri @app; }",
	"exact":      "location = /system/a/b.png { }\nlocation ~* \\.(png|jpg)$ { add_header X-From disk; }",
	"rewritten":  "rewrite ^/system/(.*)$ /system/$1 last; try_files $uri @app;",
	"loose":      "merge_slashes off; try_files $uri @app;",
}

// oldSite is a server block in one of the forms, on a disk that holds files.
const oldSite = `server {
  listen 127.0.0.1:%d;
  root %s;
  error_page 404 /500.html;
  location / { try_files $uri @app; }
  location @app { return 418; }
  location ^~ /.well-known/ { return 204; }
  %s
}
`

// startOld runs an old site whose server blocks include the location, and returns its port.
func startOld(t *testing.T, form string, l nginx.Location) int {
	t.Helper()
	dir := t.TempDir()
	for _, name := range []string{"500.html", "other.png", "system/a/b.png", "system/backups/dump.tar.gz", "system/imports/x", "systematic"} {
		file := filepath.Join(dir, "public", name)
		if err := os.MkdirAll(filepath.Dir(file), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(file, []byte("the disk's "+name), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	text, err := l.Render()
	if err != nil {
		t.Fatal(err)
	}
	file := filepath.Join(dir, "location.conf")
	if err := os.WriteFile(file, text, 0o600); err != nil {
		t.Fatal(err)
	}
	port := nginxtest.FreePort(t)
	site := fmt.Appendf(nil, oldSite, port, filepath.Join(dir, "public"), form)
	servers, err := nginx.Servers(site)
	if err != nil {
		t.Fatal(err)
	}
	if site, err = nginx.Include(site, servers, file); err != nil {
		t.Fatal(err)
	}
	server := nginxtest.New(t, dir)
	server.WriteSite(t, "old", string(site))
	server.Start(t, port)
	return port
}

// ask sends a request line as it stands, for a client would tidy the path. It returns the status and where it leads.
func ask(t *testing.T, port int, method, target string) (status int, location string) {
	t.Helper()
	var dialer net.Dialer
	conn, err := dialer.DialContext(t.Context(), "tcp", fmt.Sprintf("127.0.0.1:%d", port))
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = conn.Close() }()
	if err := conn.SetDeadline(time.Now().Add(time.Minute)); err != nil {
		t.Fatal(err)
	}
	if _, err := fmt.Fprintf(conn, "%s %s HTTP/1.1\r\nHost: old.test\r\nConnection: close\r\n\r\n", method, target); err != nil {
		t.Fatal(err)
	}
	res, err := http.ReadResponse(bufio.NewReader(conn), nil)
	if err != nil {
		t.Fatalf("%s: %v", target, err)
	}
	_ = res.Body.Close()
	return res.StatusCode, res.Header.Get("Location")
}

// TestLocationWins: whatever form the site has the location in, what lies below it is not served from the disk.
func TestLocationWins(t *testing.T) {
	moved := map[string]string{}
	for _, rest := range []string{
		"/a/b.png", "/a/b.png?x=1&y=%20?z", "/a%20b@1x.png", "/a%3Fb.png", "/a%2525b.png", "/%C3%A4.png", "/a+b;c=d.png?", "/x..y/.z",
		"/Backups/x", "/backupsish/x", "/", "/a%0d%0ab", "/a$b`{}\"'.png", "/none/such",
	} {
		moved["/system"+rest] = "https://files.example.com" + rest
	}
	nowhere := []string{
		"/system/backups/dump.tar.gz", "/system/backups/", "/system/backups", "/system/imports/x", "/system/imports/x?y",
		"//system//backups/dump.tar.gz", "/system//backups/dump.tar.gz", "/system/%62ackups/dump.tar.gz", "/system/a/../backups/dump.tar.gz",
		"/system/./backups/dump.tar.gz", "/system/a/%2e%2e/backups/dump.tar.gz", "/system/a%2f..%2fbackups/dump.tar.gz", "/system%2fbackups%2fdump.tar.gz",
		"//system/a/b.png", "/%73ystem/a/b.png", "/system/./a/b.png", "/system//a/b.png", "/x/../system/a/b.png", "/system%2fa/b.png", "/system/a/%2e/b.png",
		"/system/%2e%2e/system/a/b.png", "/system/a//b.png",
	}
	others := map[string]int{
		"/other.png": 200, "/systematic": 200, "/SYSTEM/a/b": 418, "/system": 418, "/.well-known/webfinger?resource=/system/": 204,
		"/x/system/a/b": 418, "/system/../other.png": 200, "/?/system/a/b.png": 418,
	}
	for name, form := range forms {
		t.Run(name, func(t *testing.T) {
			port := startOld(t, form, system())
			for target, want := range moved {
				for _, method := range []string{http.MethodGet, http.MethodHead} {
					if status, to := ask(t, port, method, target); status != http.StatusMovedPermanently || to != want {
						t.Errorf("%s %s: got %d %q, want 301 %q", method, target, status, to, want)
					}
				}
			}
			for _, target := range nowhere {
				if status, to := ask(t, port, http.MethodGet, target); status != http.StatusNotFound {
					t.Errorf("%s: got %d %q, want 404", target, status, to)
				}
			}
			for target, want := range others {
				if status, to := ask(t, port, http.MethodGet, target); status != want {
					t.Errorf("%s: got %d %q, want %d as without the location", target, status, to, want)
				}
			}
		})
	}
}

// TestLocationsTogether: two in one server block, one of them below the other's neighbour.
func TestLocationsTogether(t *testing.T) {
	dir := t.TempDir()
	port := nginxtest.FreePort(t)
	var site strings.Builder
	fmt.Fprintf(&site, "server {\n listen 127.0.0.1:%d;\n", port)
	for i, l := range []nginx.Location{system(), {Match: "/media/old/", Redirect: "https://m.example/x"}} {
		text, err := l.Render()
		if err != nil {
			t.Fatal(err)
		}
		file := filepath.Join(dir, fmt.Sprintf("%d.conf", i))
		if err := os.WriteFile(file, text, 0o600); err != nil {
			t.Fatal(err)
		}
		fmt.Fprintf(&site, " include %s;\n", file)
	}
	site.WriteString(" return 418;\n}\n")
	server := nginxtest.New(t, dir)
	server.WriteSite(t, "both", site.String())
	server.Start(t, port)
	for target, want := range map[string]string{
		"/system/a": "https://files.example.com/a", "/media/old/a?b": "https://m.example/x/a?b", "/media/new": "", "/system/backups/": "",
	} {
		if _, to := ask(t, port, http.MethodGet, target); to != want {
			t.Errorf("%s leads to %q, want %q", target, to, want)
		}
	}
}
