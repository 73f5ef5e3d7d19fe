package nginxlocation_test

import (
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/converge-agent/converge/host"
	"github.com/converge-agent/converge/nginx/nginxtest"
	"github.com/converge-agent/converge/resources"
	"github.com/converge-agent/converge/resources/nginxlocation"
	"github.com/converge-agent/converge/resources/resourcetest"
	"github.com/zclconf/go-cty/cty"
)

// live is a site of an admin's on a real nginx and a real file system.
type live struct {
	t       *testing.T
	server  *nginxtest.Server
	units   *nginxtest.Units
	records resourcetest.Records
	port    int
	file    string // of the site
	before  string // its text
}

// newLive starts an nginx whose site has the location in one form, and whose disk holds a picture and a backup.
func newLive(t *testing.T, form string) *live {
	t.Helper()
	dir := t.TempDir()
	l := &live{t: t, server: nginxtest.New(t, dir), records: resourcetest.Records{}, port: nginxtest.FreePort(t)}
	l.file = filepath.Join(l.server.ConfDir, "sites-available/mastodon")
	public := filepath.Join(dir, "public")
	l.before = fmt.Sprintf("server {\n  listen 127.0.0.1:%d;\n  server_name example.com;\n  root %s;\n  %s\n  location / { try_files $uri =404; }\n}\n",
		l.port, public, form)
	for name, content := range map[string]string{
		l.file: l.before, filepath.Join(public, "system/a/b.png"): "disk", filepath.Join(public, "system/backups/x"): "disk",
	} {
		if err := os.MkdirAll(filepath.Dir(name), 0o750); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(name, []byte(content), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.Symlink("../sites-available/mastodon", l.link()); err != nil {
		t.Fatal(err)
	}
	l.server.Start(t, l.port)
	l.units = nginxtest.NewUnits(l.server)
	return l
}

func (l *live) link() string { return filepath.Join(l.server.ConfDir, "sites-enabled/mastodon") }

func (l *live) env() resources.Env {
	files, commands := host.System(), host.SystemCommands()
	return resources.Env{
		ReadEnv: resources.ReadEnv{Files: files, Units: l.units, Probe: commands, Users: host.SystemUsers(), Clock: host.SystemClock(), Records: l.records,
			StateDir: filepath.Join(l.server.Dir, "state"), Processes: host.SystemProcesses()},
		Files: files, Units: l.units, Commands: commands,
	}
}

// run plans and applies as one run does, and returns what it found to do.
func (l *live) run(ensure string) (resources.Action, error) {
	l.t.Helper()
	kind := nginxlocation.Kind()
	full, errs := kind.Complete(cty.ObjectVal(config(map[string]cty.Value{
		"site": text(l.link()), "conf_dir": text(l.server.ConfDir), "ensure": text(ensure),
	})))
	if len(errs) > 0 {
		l.t.Fatal(errs)
	}
	r, _, err := kind.New(resources.Address{Kind: "nginx_location", Name: "system"}, full)
	if err != nil {
		l.t.Fatal(err)
	}
	diff := func() resources.Change {
		st, err := r.Read(l.t.Context(), l.env().ReadEnv)
		if err != nil {
			l.t.Fatal(err)
		}
		return r.Diff(st)
	}
	c := diff()
	if !c.Action.Changes() {
		return c.Action, nil
	}
	if err := r.Apply(l.t.Context(), l.env(), c); err != nil {
		return c.Action, err
	}
	left := diff()
	if left.Action != resources.None {
		l.t.Fatalf("after the apply: %s %q", left.Action, left.Summary)
	}
	b := &bench{t: l.t, Host: &resourcetest.Host{Records: l.records}}
	b.keep(left)
	return c.Action, nil
}

func (l *live) must(ensure string, want resources.Action) {
	l.t.Helper()
	if got, err := l.run(ensure); err != nil || got != want {
		l.t.Fatalf("got %s and %v, want %s", got, err, want)
	}
}

// get returns the status, and where it leads or what it says.
func (l *live) get(path string) string {
	l.t.Helper()
	client := &http.Client{
		Transport:     &http.Transport{DisableKeepAlives: true},
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}
	res, err := client.Get(fmt.Sprintf("http://127.0.0.1:%d%s", l.port, path))
	if err != nil {
		l.t.Fatalf("%v\n%s", err, l.server.Log(l.t))
	}
	defer func() { _ = res.Body.Close() }()
	body, err := io.ReadAll(res.Body)
	if err != nil {
		l.t.Fatal(err)
	}
	if res.StatusCode == http.StatusOK {
		return "200 " + string(body)
	}
	return strings.TrimSpace(fmt.Sprintf("%d %s", res.StatusCode, res.Header.Get("Location")))
}

func (l *live) text() string {
	l.t.Helper()
	b, err := os.ReadFile(l.file)
	if err != nil {
		l.t.Fatal(err)
	}
	return string(b)
}

func TestLive(t *testing.T) {
	for name, form := range map[string]string{
		"4.6": "location ^~ /system/ { }", "4.0 to 4.5": "location ~ ^/system/ { try_files $uri =404; }",
		"3.5": "location ~ ^/(emoji|system/media_attachments/files) { } location ~* \\.png$ { }",
	} {
		t.Run(name, func(t *testing.T) {
			l := newLive(t, form)
			answers := func(picture, backup string) {
				t.Helper()
				if got := l.get("/system/a/b.png?x"); got != picture {
					t.Errorf("the picture: got %q, want %q", got, picture)
				}
				if got := l.get("/system/backups/x"); got != backup {
					t.Errorf("the backup: got %q, want %q", got, backup)
				}
			}
			const there = "301 https://files.example.com/a/b.png?x"
			answers("200 disk", "200 disk")
			l.must(resources.Present, resources.Create)
			answers(there, "404")
			l.must(resources.Present, resources.None)

			if err := os.WriteFile(l.file, []byte(l.before), 0o600); err != nil { // an upgrade brings the old site back
				t.Fatal(err)
			}
			l.server.Reload(t)
			answers("200 disk", "200 disk")
			l.must(resources.Present, resources.Update)
			answers(there, "404")

			l.must(resources.Absent, resources.Delete)
			answers("200 disk", "200 disk")
			if got := l.text(); got != l.before {
				t.Errorf("taken out, the site holds %s", got)
			}
			l.must(resources.Absent, resources.None)
		})
	}
}

func TestLiveSurvivesWhatNginxRefuses(t *testing.T) {
	l := newLive(t, "location ^~ /system/ { }")
	neighbour := filepath.Join(l.server.ConfDir, "sites-enabled/neighbour")
	l.server.WriteSite(t, "neighbour", "server { nonsense; }")
	if _, err := l.run(resources.Present); err == nil || !strings.Contains(err.Error(), neighbour+":1") {
		t.Errorf("got %v, want nginx's own words", err)
	}
	if got := l.text(); got != l.before {
		t.Errorf("the site was not put back: %s", got)
	}
	if got := l.get("/system/a/b.png"); got != "200 disk" {
		t.Errorf("the live site answers %q", got)
	}
	if err := os.Remove(neighbour); err != nil {
		t.Fatal(err)
	}
	l.must(resources.Present, resources.Create)
	if got := l.get("/system/a/b.png"); got != "301 https://files.example.com/a/b.png" {
		t.Errorf("with the neighbour mended it answers %q", got)
	}
}
