package nginxlocation_test

import (
	"encoding/json"
	"errors"
	"os/exec"
	"strings"
	"testing"
	"time"

	"github.com/converge-agent/converge/diag"
	"github.com/converge-agent/converge/host"
	"github.com/converge-agent/converge/resources"
	"github.com/converge-agent/converge/resources/nginxlocation"
	"github.com/converge-agent/converge/resources/resourcetest"
	"github.com/zclconf/go-cty/cty"
)

const (
	siteFile = "/etc/nginx/sites-available/mastodon"
	siteLink = "/etc/nginx/sites-enabled/mastodon"
	included = "/etc/nginx/converge/mastodon-system.conf"
	line     = "  include " + included + "; # converge\n"
)

// mainSite is what admins make of Mastodon's dist/nginx.conf.
const mainSite = `upstream backend {
    server 127.0.0.1:3000 fail_timeout=0;
}
server {
  listen 80;
  server_name example.com;
  location / { return 301 https://$host$request_uri; }
}
server {
  listen 443 ssl;
  server_name example.com;
  location ^~ /system/ { add_header Cache-Control "public"; }
}
server {
  listen 443 ssl;
  server_name other.example;
}
`

func text(s string) cty.Value { return cty.StringVal(s) }

func config(more map[string]cty.Value) map[string]cty.Value {
	c := map[string]cty.Value{
		"site": text(siteFile), "server_name": text("example.com"), "match": text("/system/"), "redirect": text("https://files.example.com"),
		"except": cty.ListVal([]cty.Value{text("/system/backups/")}),
	}
	for name, v := range more {
		c[name] = v
	}
	return c
}

// debian brings a host into the state of a Debian with nginx and a Mastodon.
func debian(h *resourcetest.Host) {
	for name, content := range map[string]string{"/etc/nginx/nginx.conf": "http { include /etc/nginx/sites-enabled/*; }", siteFile: mainSite} {
		h.Files.Put(name, host.File{Content: []byte(content), Mode: 0o640, UID: 7, GID: 8, ChangedAt: h.Clock.Now().Add(-time.Hour)})
	}
	h.Files.Put(siteLink, host.File{Type: host.Symlink, Target: siteFile, ChangedAt: h.Clock.Now().Add(-time.Hour)})
	h.Units.Put(host.Unit{Name: "nginx.service", Active: "active", CanReload: true})
	h.Clock.Advance(time.Minute)
	h.Files.Clock = h.Clock
	h.Commands.Answer = nginxOf("")
}

// nginxOf answers as nginx does, and refuses with a reason if there is one.
func nginxOf(refusal string) func(host.Command) (host.Result, error) {
	return func(c host.Command) (host.Result, error) {
		switch strings.Join(c.Args, " ") {
		case "nginx -V":
			return host.Result{Stderr: []byte("nginx version: nginx/1.22.1\n")}, nil
		case "nginx -t -c /etc/nginx/nginx.conf":
			if refusal != "" {
				return host.Result{Code: 1, Stderr: []byte("nginx: [emerg] " + refusal + "\n")}, nil
			}
			return host.Result{}, nil
		}
		return host.Result{}, errors.New("unexpected program: " + strings.Join(c.Args, " "))
	}
}

func TestSuite(t *testing.T) {
	edit := func(change func(string) string) func(*resourcetest.Host) {
		return func(h *resourcetest.Host) {
			f, err := h.Files.Lookup(siteFile)
			if err != nil {
				t.Fatal(err)
			}
			f.Content = []byte(change(string(f.Content)))
			h.Files.Put(siteFile, *f)
		}
	}
	for name, c := range map[string]resourcetest.Case{
		"by its file": {Config: config(nil)},
		"by its link": {Config: config(map[string]cty.Value{"site": text(siteLink)})},
	} {
		t.Run(name, func(t *testing.T) {
			c.Kind, c.Setup = nginxlocation.Kind(), debian
			c.Drift = map[string]func(*resourcetest.Host){
				"all lines gone":     edit(func(s string) string { return strings.ReplaceAll(s, line, "") }),
				"one line gone":      edit(func(s string) string { return strings.Replace(s, line, "", 1) }),
				"a line moved":       edit(func(s string) string { return strings.Replace(s, line+"  listen 80;\n", "  listen 80;\n"+line, 1) }),
				"a line too much":    edit(func(s string) string { return strings.Replace(s, "  server_name other", line+"  server_name other", 1) }),
				"another server":     edit(func(s string) string { return s + "server {\n  server_name example.com;\n  listen 81;\n}\n" }),
				"the site as of old": edit(func(string) string { return mainSite }),
				"the file edited":    func(h *resourcetest.Host) { h.Files.Put(included, host.File{Content: []byte("# none"), Mode: 0o644}) },
				"the file gone":      func(h *resourcetest.Host) { h.Files.Remove(included) },
			}
			resourcetest.Run(t, c)
		})
	}
	resourcetest.Run(t, resourcetest.Case{
		Kind: nginxlocation.Kind(), Config: config(map[string]cty.Value{"ensure": text("absent")}),
		Setup: func(h *resourcetest.Host) {
			debian(h)
			edit(func(s string) string { return strings.ReplaceAll(s, "  listen", line+"  listen") })(h)
			h.Files.Put(included, host.File{Content: []byte("# it"), Mode: 0o644})
		},
	})
}

// bench is one location on one host in memory.
type bench struct {
	*resourcetest.Host
	t        *testing.T
	location resources.Resource
}

func newBench(t *testing.T, config map[string]cty.Value) *bench {
	t.Helper()
	b := &bench{t: t, Host: resourcetest.Case{Setup: debian}.NewHost()}
	b.again(config)
	return b
}

// again makes the resource anew, as the next run does.
func (b *bench) again(config map[string]cty.Value) {
	b.t.Helper()
	kind := nginxlocation.Kind()
	full, errs := kind.Complete(cty.ObjectVal(config))
	if len(errs) > 0 {
		b.t.Fatal(errs)
	}
	var err error
	if b.location, _, err = kind.New(resources.Address{Kind: "nginx_location", Name: "system"}, full); err != nil {
		b.t.Fatal(err)
	}
}

func (b *bench) plan() resources.Change {
	b.t.Helper()
	st, err := b.location.Read(b.t.Context(), b.Env().ReadEnv)
	if err != nil {
		b.t.Fatal(err)
	}
	return b.location.Diff(st)
}

func (b *bench) apply() error {
	b.t.Helper()
	return b.location.Apply(b.t.Context(), b.Env(), b.plan())
}

func (b *bench) must() {
	b.t.Helper()
	if err := b.apply(); err != nil {
		b.t.Fatal(err)
	}
}

// remember keeps what the engine would keep of a location that is as it should be.
func (b *bench) remember() {
	b.t.Helper()
	c := b.plan()
	if c.Action != resources.None {
		b.t.Fatalf("got %s %q, want nothing to do", c.Action, c.Summary)
	}
	b.keep(c)
}

// keep keeps what a change asks for.
func (b *bench) keep(c resources.Change) {
	b.t.Helper()
	for name, v := range c.Remember {
		raw, err := json.Marshal(v)
		if err != nil {
			b.t.Fatal(err)
		}
		b.Records[name] = raw
	}
}

func (b *bench) content(name string) string {
	b.t.Helper()
	f, err := b.Files.Lookup(name)
	if err != nil {
		b.t.Fatal(err)
	}
	if f == nil {
		return "nothing"
	}
	return string(f.Content)
}

func (b *bench) write(name, content string) {
	b.Clock.Advance(time.Minute)
	b.Files.Put(name, host.File{Content: []byte(content), Mode: 0o644, ChangedAt: b.Clock.Now()})
}

// TestOnlyLinesAreAdded: the rest of the site, its owner and its mode stay, and all of it comes back with ensure = "absent".
func TestOnlyLinesAreAdded(t *testing.T) {
	for name, c := range map[string]struct {
		server cty.Value
		lines  int
	}{
		"of one name": {text("example.com"), 2}, "every server block": {cty.NullVal(cty.String), 3},
	} {
		t.Run(name, func(t *testing.T) {
			more := map[string]cty.Value{"server_name": c.server, "site": text(siteLink)}
			b := newBench(t, config(more))
			b.must()
			got := b.content(siteFile)
			if strings.Count(got, line) != c.lines || strings.ReplaceAll(got, line, "") != mainSite {
				t.Errorf("got %s", got)
			}
			if f, _ := b.Files.Lookup(siteFile); f.UID != 7 || f.GID != 8 || f.Mode != 0o640 {
				t.Errorf("the site is now %+v", f)
			}
			if f, _ := b.Files.Lookup(siteLink); f.Type != host.Symlink || f.Target != siteFile {
				t.Errorf("the link is now %+v", f)
			}
			more["ensure"] = text("absent")
			b.again(config(more))
			b.must()
			if got := b.content(siteFile); got != mainSite {
				t.Errorf("taken out, the site holds %s", got)
			}
			if got := b.content(included); got != "nothing" {
				t.Errorf("taken out, the file holds %s", got)
			}
		})
	}
}

// TestLaw5RefusedLocationIsPutBack: neither the site nor the file stays, and nginx is not told.
func TestLaw5RefusedLocationIsPutBack(t *testing.T) {
	b := newBench(t, config(nil))
	b.Commands.Answer = nginxOf("nonsense in /etc/nginx/sites-enabled/x:1")
	err := b.apply()
	if err == nil || !strings.Contains(err.Error(), "nonsense in") || diag.Fix(err) == "" {
		t.Errorf("got %v, want nginx's own words and advice", err)
	}
	if b.content(siteFile) != mainSite || b.content(included) != "nothing" {
		t.Errorf("it was not put back: %s", b.content(siteFile))
	}
	if calls := b.Units.Calls(); len(calls) > 0 {
		t.Errorf("nginx was told: %q", calls)
	}
}

// TestLaw5KilledBeforeNginxJudged: the next run finds that nginx refuses what the killed one wrote, and puts it back.
func TestLaw5KilledBeforeNginxJudged(t *testing.T) {
	b := newBench(t, config(nil))
	b.Commands.Answer = func(c host.Command) (host.Result, error) {
		if c.Args[1] == "-t" {
			panic("killed")
		}
		return nginxOf("")(c)
	}
	func() {
		defer func() { _ = recover() }()
		_ = b.apply()
		t.Error("the run was not killed")
	}()
	if !strings.Contains(b.content(siteFile), line) {
		t.Fatal("the line does not stand on disk, so the test shows nothing")
	}
	b.again(config(nil))
	b.Commands.Answer = nginxOf("nonsense")
	if err := b.apply(); err == nil || b.content(siteFile) != mainSite || b.content(included) != "nothing" {
		t.Errorf("got %v, and the site is %s", err, b.content(siteFile))
	}
	b.again(config(nil))
	b.Commands.Answer = nginxOf("")
	b.must()
	b.remember()
}

// TestLaw4ReloadIsOwedUntilItIsDone, of lines that are added and of lines that are taken out.
func TestLaw4ReloadIsOwedUntilItIsDone(t *testing.T) {
	for _, ensure := range []string{resources.Present, resources.Absent} {
		t.Run(ensure, func(t *testing.T) {
			b := newBench(t, config(nil))
			written := config(map[string]cty.Value{"ensure": text(ensure)})
			if ensure == resources.Absent {
				b.must()
				b.Clock.Advance(time.Minute)
				b.again(written)
			}
			b.Units.Fail = func(string, string) error { return errors.New("killed here") }
			if err := b.apply(); err == nil {
				t.Fatal("the failed reload was not reported")
			}
			b.Units.Fail = nil
			b.again(written)
			if c := b.plan(); !c.Action.Changes() || len(c.Edits) != 0 || len(c.Effects) != 1 || c.Effects[0].Verb != "reload" {
				t.Fatalf("after the kill: got %+v, want a reload alone", c)
			}
			b.must()
			b.remember()
			b.again(written)
			b.remember()
		})
	}
}

// TestEditsByHand: nginx reads what the admin wrote when converge sees it, tested before.
func TestEditsByHand(t *testing.T) {
	b := newBench(t, config(nil))
	b.must()
	b.remember()
	b.write(siteFile, b.content(siteFile)+"# by hand\n")
	b.again(config(nil))
	if c := b.plan(); c.Action != resources.Update || len(c.Edits) != 0 {
		t.Fatalf("got %+v, want a reload alone", c)
	}
	b.Commands.Answer = nginxOf("nonsense")
	if err := b.apply(); err == nil || !strings.HasSuffix(b.content(siteFile), "# by hand\n") {
		t.Errorf("got %v, and the site is %s", err, b.content(siteFile))
	}
	b.Commands.Answer = nginxOf("")
	b.must()
	b.remember()
}

func TestBlocked(t *testing.T) {
	for name, c := range map[string]struct {
		more map[string]cty.Value
		site string // "" as it is
		why  string
		note string
	}{
		"another name":    {more: map[string]cty.Value{"server_name": text("none.example")}, why: "none.example", note: "example.com, other.example"},
		"no server block": {site: "upstream x { server 127.0.0.1; }", why: "no server block", note: "nginx -T"},
		"not enabled":     {more: map[string]cty.Value{"site": text("/etc/nginx/sites-available/spare")}, why: "does not read", note: "ln -s /etc/nginx/sites-available/spare /etc/nginx/sites-enabled/"},
	} {
		t.Run(name, func(t *testing.T) {
			b := newBench(t, config(c.more))
			b.write("/etc/nginx/sites-available/spare", mainSite)
			if c.site != "" {
				b.write(siteFile, c.site)
			}
			got := b.plan()
			if got.Action != resources.Blocked || !strings.Contains(got.Summary, c.why) || !strings.Contains(strings.Join(got.Notes, "\n"), c.note) {
				t.Errorf("got %+v", got)
			}
		})
	}
}

func TestReadErrors(t *testing.T) {
	pending := map[resources.Address]resources.Upstream{{Kind: "command", Name: "install"}: {Pending: true}}
	for name, c := range map[string]struct {
		damage func(b *bench)
		fix    string
	}{
		"no site":        {func(b *bench) { b.Files.Remove(siteFile); b.Upstreams = pending }, "in site"},
		"a directory":    {func(b *bench) { b.Files.Remove(siteFile); b.Files.Put(siteFile, host.File{Type: host.Directory}) }, "by hand"},
		"braces":         {func(b *bench) { b.write(siteFile, "server {") }, "nginx -t"},
		"includes":       {func(b *bench) { b.write("/etc/nginx/nginx.conf", "include nginx.conf;") }, "nginx -t"},
		"nginx missing":  {func(b *bench) { b.Commands.Answer = missing }, "apt install"},
		"nginx to come":  {func(b *bench) { b.Commands.Answer = missing; b.Upstreams = pending }, ""},
		"nothing broken": {func(*bench) {}, ""},
	} {
		t.Run(name, func(t *testing.T) {
			b := newBench(t, config(nil))
			c.damage(b)
			_, err := b.location.Read(t.Context(), b.Env().ReadEnv)
			if (err == nil) != (c.fix == "") || err != nil && !strings.Contains(diag.Fix(err), c.fix) {
				t.Errorf("got %v, fix %q, want %q", err, diag.Fix(err), c.fix)
			}
		})
	}
}

// missing answers where there is no nginx.
func missing(host.Command) (host.Result, error) {
	return host.Result{}, diag.Wrap(exec.ErrNotFound, "run nginx", "")
}

// TestAbsentWithoutNginx: where neither the site nor nginx is there any more, what is left goes all the same.
func TestAbsentWithoutNginx(t *testing.T) {
	b := newBench(t, config(map[string]cty.Value{"ensure": text("absent")}))
	b.write(included, "# left")
	b.Files.Remove(siteFile)
	b.Commands.Answer = missing
	b.must()
	if got := b.content(included); got != "nothing" {
		t.Errorf("the file holds %q", got)
	}
}

// TestTwoInOneSite: two locations edit one site in one plan, as the engine stages them.
func TestTwoInOneSite(t *testing.T) {
	b := newBench(t, config(nil))
	overlay := host.NewOverlay(b.Files)
	for _, c := range []map[string]cty.Value{config(nil), config(map[string]cty.Value{"match": text("/media/"), "except": cty.ListValEmpty(cty.String)})} {
		b.again(c)
		env := b.Env().ReadEnv
		env.Files = overlay
		st, err := b.location.Read(t.Context(), env)
		if err != nil {
			t.Fatal(err)
		}
		for _, e := range b.location.Diff(st).Edits {
			if err := overlay.Stage(e); err != nil {
				t.Fatal(err)
			}
		}
	}
	f, err := overlay.Lookup(siteFile)
	if err != nil || strings.Count(string(f.Content), "# converge") != 4 {
		t.Errorf("got %s, %v", f.Content, err)
	}
}

func TestStoppedNginxIsNotReloaded(t *testing.T) {
	b := newBench(t, config(nil))
	if err := b.Units.Stop(t.Context(), "nginx.service"); err != nil {
		t.Fatal(err)
	}
	if notes := strings.Join(b.plan().Notes, "\n"); !strings.Contains(notes, "does not run") {
		t.Errorf("got notes %q", notes)
	}
	b.must()
	b.remember()
	if calls := strings.Join(b.Units.Calls(), "\n"); strings.Contains(calls, "reload") {
		t.Errorf("got %s", calls)
	}
}

func TestBadConfigurationNamesTheAttribute(t *testing.T) {
	for attr, more := range map[string]map[string]cty.Value{
		"match":    {"match": text("^~ /system/")},
		"redirect": {"redirect": text("https://files.example.com/")},
		"except":   {"except": cty.ListVal([]cty.Value{text("/backups/")})},
	} {
		kind := nginxlocation.Kind()
		full, errs := kind.Complete(cty.ObjectVal(config(more)))
		if len(errs) > 0 {
			t.Fatal(attr, errs)
		}
		_, _, err := kind.New(resources.Address{}, full)
		var bad *resources.AttrError
		if !errors.As(err, &bad) || bad.Path[0] != attr {
			t.Errorf("%s: got %v", attr, err)
		}
	}
}
