package nginxsite_test

import (
	"context"
	"encoding/json"
	"errors"
	"maps"
	"os/exec"
	"strings"
	"testing"
	"time"

	"github.com/converge-agent/converge/diag"
	"github.com/converge-agent/converge/host"
	"github.com/converge-agent/converge/host/hosttest"
	"github.com/converge-agent/converge/resources"
	"github.com/converge-agent/converge/resources/nginxsite"
	"github.com/converge-agent/converge/resources/resourcetest"
	"github.com/zclconf/go-cty/cty"
)

const (
	available = "/etc/nginx/sites-available/files.example.com.conf"
	enabled   = "/etc/nginx/sites-enabled/files.example.com.conf"
	chain     = "/etc/ssl/own/fullchain.pem"
	key       = "/etc/ssl/own/privkey.pem"
	versions  = "nginx version: nginx/1.22.1\nconfigure arguments: --with-http_v2_module --with-http_slice_module --with-http_auth_request_module\n"
)

func text(s string) cty.Value { return cty.StringVal(s) }

// bucket is a reference to an s3_bucket, as far as a site uses one.
func bucket(provider, url string) cty.Value {
	return resources.Reference(resources.Address{Kind: "s3_bucket", Name: "media"}, cty.ObjectVal(map[string]cty.Value{
		"name": text("media"), "url": text(url), "provider": text(provider),
		"store": cty.ObjectVal(map[string]cty.Value{"ca_file": text("")}),
	}))
}

func media(more map[string]cty.Value) map[string]cty.Value {
	block := map[string]cty.Value{"bucket": bucket("minio", "https://s3.example.net/media")}
	for name, v := range more {
		block[name] = v
	}
	return map[string]cty.Value{
		"server_name": text("files.example.com"),
		"certificate": cty.ObjectVal(map[string]cty.Value{"fullchain_path": text(chain), "key_path": text(key)}),
		"media_proxy": cty.ObjectVal(block),
	}
}

// debian brings a host into the state of a Debian with nginx and a certificate.
func debian(h *resourcetest.Host) {
	for name, content := range map[string]string{
		"/etc/nginx/nginx.conf": "http { include /etc/nginx/sites-enabled/*; }", chain: "chain", key: "key",
		"/etc/nginx/sites-available/default": "server { server_name _; }", "/etc/resolv.conf": "nameserver 192.0.2.53\n",
		"/etc/hosts": "127.0.0.1 localhost\n",
	} {
		h.Files.Put(name, host.File{Content: []byte(content), Mode: 0o644, ChangedAt: h.Clock.Now().Add(-time.Hour)})
	}
	for _, dir := range []string{"/etc/nginx/sites-enabled", "/var/cache/nginx", "/proc/sys/net/ipv6", "/home/mastodon/live/public/system"} {
		h.Files.Put(dir, host.File{Type: host.Directory, Mode: 0o755})
	}
	h.Units.Put(host.Unit{Name: "nginx.service", Active: "active", CanReload: true})
	h.Clock.Advance(time.Minute)
	h.Files.Clock = h.Clock
	h.Commands.Answer = nginxOf(h, "")
}

// nginxOf answers as nginx does. It refuses configurations whose enabled site holds the word refused.
func nginxOf(h *resourcetest.Host, refused string) func(host.Command) (host.Result, error) {
	return func(c host.Command) (host.Result, error) {
		switch strings.Join(c.Args, " ") {
		case "nginx -V":
			return host.Result{Stderr: []byte(versions)}, nil
		case "nginx -t -c /etc/nginx/nginx.conf":
			f, err := h.Files.Lookup(available)
			if err != nil {
				return host.Result{}, err
			}
			if f != nil && refused != "" && strings.Contains(string(f.Content), refused) {
				return host.Result{Code: 1, Stderr: []byte("nginx: [warn] a warning\nnginx: [emerg] unknown directive \"" + refused +
					"\" in " + enabled + ":7\nnginx: configuration file /etc/nginx/nginx.conf test failed\n")}, nil
			}
			return host.Result{}, nil
		}
		return host.Result{}, errors.New("unexpected program: " + strings.Join(c.Args, " "))
	}
}

func TestSuite(t *testing.T) {
	for name, c := range map[string]resourcetest.Case{
		"media proxy": {Config: media(map[string]cty.Value{"local_fallback": text("/home/mastodon/live/public/system")})},
		"redirect":    {Config: map[string]cty.Value{"server_name": text("files.example.com"), "redirect": text("https://a.example")}},
		"content":     {Config: map[string]cty.Value{"server_name": text("files.example.com"), "content": text("return 204;")}},
	} {
		t.Run(name, func(t *testing.T) {
			c.Kind, c.Setup = nginxsite.Kind(), debian
			c.Drift = map[string]func(*resourcetest.Host){
				"edited": func(h *resourcetest.Host) {
					h.Files.Put(available, host.File{Content: []byte("server {}"), Mode: 0o644})
				},
				"disabled": func(h *resourcetest.Host) { h.Files.Remove(enabled) },
				"linked elsewhere": func(h *resourcetest.Host) {
					h.Files.Put(enabled, host.File{Type: host.Symlink, Target: "/etc/passwd"})
				},
			}
			if name == "media proxy" {
				c.Drift["certificate renewed"] = func(h *resourcetest.Host) {
					h.Clock.Advance(time.Hour)
					h.Files.Put(chain, host.File{Content: []byte("new chain"), Mode: 0o644, ChangedAt: h.Clock.Now()})
				}
				c.Drift["other name server"] = func(h *resourcetest.Host) {
					h.Files.Put("/etc/resolv.conf", host.File{Content: []byte("nameserver 192.0.2.54\n"), Mode: 0o644})
				}
			}
			resourcetest.Run(t, c)
		})
	}
	resourcetest.Run(t, resourcetest.Case{
		Kind:   nginxsite.Kind(),
		Config: map[string]cty.Value{"server_name": text("files.example.com"), "content": text("x;"), "ensure": text("absent")},
		Setup: func(h *resourcetest.Host) {
			debian(h)
			h.Files.Put(available, host.File{Content: []byte("server {}"), Mode: 0o644})
			h.Files.Put(enabled, host.File{Type: host.Symlink, Target: available})
		},
	})
}

// bench is one site on one host in memory.
type bench struct {
	*resourcetest.Host
	t    *testing.T
	site resources.Resource
}

func newBench(t *testing.T, config map[string]cty.Value) *bench {
	t.Helper()
	clock := hosttest.NewClock(time.Date(2026, 11, 21, 12, 0, 0, 0, time.UTC))
	b := &bench{t: t, Host: &resourcetest.Host{
		Files: hosttest.NewMemory(), Units: hosttest.NewUnits(clock), Commands: &hosttest.Commands{},
		Users: hosttest.Users{}, Clock: clock, Records: resourcetest.Records{},
	}}
	debian(b.Host)
	b.again(config)
	return b
}

// again makes the resource anew, as the next run does.
func (b *bench) again(config map[string]cty.Value) {
	b.t.Helper()
	kind := nginxsite.Kind()
	full, errs := kind.Complete(cty.ObjectVal(config))
	if len(errs) > 0 {
		b.t.Fatal(errs)
	}
	var err error
	if b.site, _, err = kind.New(resources.Address{Kind: "nginx_site", Name: "files"}, full); err != nil {
		b.t.Fatal(err)
	}
}

func (b *bench) env() resources.Env {
	return resources.Env{
		ReadEnv: resources.ReadEnv{
			Files: b.Files, Units: b.Units, Probe: b.Commands, Users: b.Users, Clock: b.Clock, Records: b.Records,
			StateDir: "/var/lib/converge", Upstreams: b.Upstreams, Processes: b.Processes,
		},
		Files: b.Files, Units: b.Units, Commands: b.Commands,
	}
}

func (b *bench) plan() resources.Change {
	b.t.Helper()
	st, err := b.site.Read(b.t.Context(), b.env().ReadEnv)
	if err != nil {
		b.t.Fatal(err)
	}
	return b.site.Diff(st)
}

func (b *bench) apply(c resources.Change) error {
	return b.site.Apply(b.t.Context(), b.env(), c)
}

// reloads counts the reloads so far.
func (b *bench) reloads() int {
	return strings.Count(strings.Join(b.Units.Calls(), "\n"), "reload nginx.service")
}

func TestRefusedSiteIsPutBack(t *testing.T) {
	for name, old := range map[string]string{"over another": "server { server_name old.example; }", "new": ""} {
		t.Run(name, func(t *testing.T) {
			b := newBench(t, map[string]cty.Value{"server_name": text("files.example.com"), "content": text("frobnicate on;")})
			b.Commands.Answer = nginxOf(b.Host, "frobnicate")
			if old != "" {
				b.Files.Put(available, host.File{Content: []byte(old), Mode: 0o640, UID: 7})
				b.Files.Put(enabled, host.File{Type: host.Symlink, Target: "../sites-available/files.example.com.conf"})
			}
			beforeFile, _ := b.Files.Lookup(available)
			beforeLink, _ := b.Files.Lookup(enabled)
			err := b.apply(b.plan())
			if err == nil || !strings.Contains(err.Error(), `unknown directive "frobnicate" in `+enabled+":7") || strings.Contains(err.Error(), "warning") || diag.Fix(err) == "" {
				t.Errorf("got error %v, fix %q; want nginx's own words", err, diag.Fix(err))
			}
			for path, before := range map[string]*host.File{available: beforeFile, enabled: beforeLink} {
				if now, _ := b.Files.Lookup(path); !now.Same(before) {
					t.Errorf("%s: got %+v, want it as it was, %+v", path, now, before)
				}
			}
			if n := b.reloads(); n != 0 {
				t.Errorf("nginx was reloaded %d times", n)
			}
		})
	}
}

// TestLaw5KilledBeforeNginxJudged: a run is killed when the site stands on disk and nginx has not looked at it. The next one
// finds that nginx refuses it, and puts back what was there before.
func TestLaw5KilledBeforeNginxJudged(t *testing.T) {
	c := resourcetest.Case{Kind: nginxsite.Kind(), Setup: debian, Config: media(nil)}
	for name, old := range map[string]*host.File{"nothing before": nil, "a good site before": {Content: []byte("# good\n"), Mode: 0o644}} {
		t.Run(name, func(t *testing.T) {
			h := c.NewHost()
			if old != nil {
				h.Files.Put(available, *old)
			}
			h.Commands.Answer = func(cmd host.Command) (host.Result, error) {
				if cmd.Args[1] == "-t" {
					panic("killed")
				}
				return nginxOf(h, "")(cmd)
			}
			func() {
				defer func() { _ = recover() }()
				_ = converge(t, c, h)
				t.Error("the run was not killed")
			}()
			if f, _ := h.Files.Lookup(available); f == nil || !strings.Contains(string(f.Content), "proxy_pass") {
				t.Fatal("the new site does not stand on disk, so the test shows nothing")
			}
			h.Commands.Answer = nginxOf(h, "proxy_pass")
			if err := converge(t, c, h); err == nil || !strings.Contains(err.Error(), "nginx refuses it") {
				t.Errorf("got %v, want nginx's refusal", err)
			}
			f, err := h.Files.Lookup(available)
			if err != nil {
				t.Fatal(err)
			}
			if (f == nil) != (old == nil) || f != nil && string(f.Content) != string(old.Content) {
				t.Errorf("the site holds %v, want what it was", f)
			}
			h.Commands.Answer = nginxOf(h, "")
			if err := converge(t, c, h); err != nil {
				t.Errorf("with a good nginx: %v", err)
			}
		})
	}
}

// converge is one run: read, diff, apply.
func converge(t *testing.T, c resourcetest.Case, h *resourcetest.Host) error {
	t.Helper()
	config, errs := c.Kind.Complete(cty.ObjectVal(c.Config))
	if len(errs) > 0 {
		t.Fatal(errs)
	}
	r, _, err := c.Kind.New(resources.Address{Kind: "nginx_site", Name: "files"}, config)
	if err != nil {
		t.Fatal(err)
	}
	env := h.Env()
	state, err := r.Read(t.Context(), env.ReadEnv)
	if err != nil {
		return err
	}
	ch := r.Diff(state)
	if !ch.Action.Changes() {
		return nil
	}
	return r.Apply(t.Context(), env, ch)
}

func TestReloadIsOwedUntilItIsDone(t *testing.T) {
	config := media(nil)
	b := newBench(t, config)
	b.Units.Fail = func(verb, _ string) error {
		if verb == "reload" {
			return errors.New("killed here")
		}
		return nil
	}
	if err := b.apply(b.plan()); err == nil {
		t.Fatal("the failed reload was not reported")
	}
	b.Units.Fail = nil
	b.again(config)
	c := b.plan()
	if c.Action != resources.Update || len(c.Edits) != 0 || len(c.Effects) != 1 || c.Effects[0].Verb != "reload" {
		t.Fatalf("after the kill: got %+v, want a reload alone", c)
	}
	if err := b.apply(c); err != nil {
		t.Fatal(err)
	}
	settled := b.plan()
	if settled.Action != resources.None {
		t.Fatalf("after the reload: got %s %q", settled.Action, settled.Summary)
	}
	b.remember(settled)
	b.again(config)
	if c := b.plan(); c.Action != resources.None {
		t.Errorf("in the next run: got %s %q", c.Action, c.Summary)
	}
	clear(b.Records)
	b.again(config)
	if c := b.plan(); c.Action != resources.Update {
		t.Errorf("with the record lost: got %s, want one reload too many", c.Action)
	}
}

func (b *bench) remember(c resources.Change) {
	b.t.Helper()
	for name, v := range c.Remember {
		raw, err := json.Marshal(v)
		if err != nil {
			b.t.Fatal(err)
		}
		b.Records[name] = raw
	}
}

func TestRestartByHandSettlesTheDebt(t *testing.T) {
	config := media(nil)
	b := newBench(t, config)
	b.Units.Fail = func(string, string) error { return errors.New("killed here") }
	if err := b.apply(b.plan()); err == nil {
		t.Fatal("want an error")
	}
	b.Units.Fail = nil
	b.Clock.Advance(time.Minute)
	if err := b.Units.Restart(t.Context(), "nginx.service"); err != nil {
		t.Fatal(err)
	}
	b.again(config)
	if c := b.plan(); c.Action != resources.None {
		t.Errorf("got %s %q", c.Action, c.Summary)
	}
}

func TestRenewedCertificateIsLoadedInTheSameRun(t *testing.T) {
	config := media(nil)
	b := newBench(t, config)
	if err := b.apply(b.plan()); err != nil {
		t.Fatal(err)
	}
	b.remember(b.plan())
	b.again(config)
	overlay := host.NewOverlay(b.Files)
	now, _ := b.Files.Lookup(chain)
	if err := overlay.Stage(host.Edit{Path: chain, Before: now, After: &host.File{Mode: 0o644}, Opaque: true}); err != nil {
		t.Fatal(err)
	}
	env := b.env().ReadEnv
	env.Files = overlay
	st, err := b.site.Read(t.Context(), env)
	if err != nil {
		t.Fatal(err)
	}
	planned := b.site.Diff(st)
	b.Clock.Advance(time.Minute)
	b.Files.Put(chain, host.File{Content: []byte("new chain"), Mode: 0o644, ChangedAt: b.Clock.Now()})
	due := b.plan()
	for name, c := range map[string]resources.Change{"planned": planned, "due": due} {
		if c.Action != resources.Update || len(c.Edits) != 0 || len(c.Effects) != 1 || c.Effects[0].Target != "nginx.service" {
			t.Errorf("%s: got %+v, want a reload alone", name, c)
		}
	}
}

// TestRenewalIsReadWhateverElseIsDue: the part that a run makes while converge is disabled leaves the site's file alone, and
// what it did is known to the next run.
func TestRenewalIsReadWhateverElseIsDue(t *testing.T) {
	b := newBench(t, media(nil))
	if err := b.apply(b.plan()); err != nil {
		t.Fatal(err)
	}
	b.remember(b.plan())
	b.Clock.Advance(time.Minute)
	b.Files.Put(chain, host.File{Content: []byte("new chain"), Mode: 0o644, ChangedAt: b.Clock.Now()})
	changed := media(map[string]cty.Value{"cache_size": text("1GB")})
	b.again(changed)
	c := b.plan()
	if c.Renewal == nil || len(c.Edits) != 1 || len(c.Renewal.Edits) != 0 {
		t.Fatalf("got %+v", c)
	}
	before, _ := b.Files.Lookup(available)
	if err := b.apply(*c.Renewal); err != nil {
		t.Fatal(err)
	}
	if after, _ := b.Files.Lookup(available); !after.Same(before) {
		t.Error("the site was written")
	}
	b.remember(b.plan())
	b.again(changed)
	if c := b.plan(); c.Renewal != nil || len(c.Edits) != 1 {
		t.Errorf("afterwards: %+v", c)
	}
}

func TestMissingCertificate(t *testing.T) {
	b := newBench(t, media(nil))
	b.Files.Remove(key)
	err := b.apply(b.plan())
	if err == nil || !strings.Contains(err.Error(), key) {
		t.Errorf("got %v", err)
	}
	if w := b.Files.Writes(); len(w) > 0 {
		t.Errorf("it wrote %q", w)
	}
}

func TestWithoutNginx(t *testing.T) {
	b := newBench(t, media(nil))
	installed := b.Commands.Answer
	b.Commands.Answer = func(host.Command) (host.Result, error) {
		return host.Result{}, diag.Wrap(exec.ErrNotFound, "run nginx", "")
	}
	_, err := b.site.Read(t.Context(), b.env().ReadEnv)
	if err == nil || !strings.Contains(diag.Fix(err), "apt install nginx-light") {
		t.Fatalf("got %v, fix %q", err, diag.Fix(err))
	}
	pkg := resources.Address{Kind: "package", Name: "nginx"}
	b.Upstreams = map[resources.Address]resources.Upstream{pkg: {Pending: true}}
	for _, gone := range []string{"/etc/nginx/sites-available/default", "/etc/nginx/nginx.conf", "/etc/nginx/sites-available", "/etc/nginx/sites-enabled", "/etc/nginx", "/var/cache/nginx"} {
		b.Files.Remove(gone)
	}
	planned := b.plan()
	if planned.Action != resources.Create {
		t.Fatalf("planned with a package to come: %+v", planned)
	}
	overlay := host.NewOverlay(b.Files)
	for _, e := range planned.Edits {
		if err := overlay.Stage(e); err != nil {
			t.Errorf("stage %s: %v", e.Path, err)
		}
	}
	debian(b.Host)
	b.Commands.Answer, b.Upstreams = installed, map[resources.Address]resources.Upstream{pkg: {}}
	due := b.plan()
	if due.Action != planned.Action || len(due.Edits) != len(planned.Edits) || len(due.Effects) != len(planned.Effects) {
		t.Errorf("due is %+v, planned was %+v", due, planned)
	}
	if err := b.apply(due); err != nil {
		t.Fatal(err)
	}
	if c := b.plan(); c.Action != resources.None {
		t.Errorf("after the apply: %s %q", c.Action, c.Summary)
	}
}

func TestDirectoriesAboveTheCacheAreMade(t *testing.T) {
	b := newBench(t, media(map[string]cty.Value{"cache_path": text("/srv/cache/media/files")}))
	if err := b.apply(b.plan()); err != nil {
		t.Fatal(err)
	}
	if f, err := b.Files.Lookup("/srv/cache/media"); err != nil || f == nil || f.Mode != 0o755 {
		t.Errorf("got %+v, %v", f, err)
	}
	if f, err := b.Files.Lookup("/srv/cache/media/files"); err != nil || f != nil {
		t.Errorf("the cache itself: got %+v, %v; nginx makes it for its own user", f, err)
	}
}

func TestNotes(t *testing.T) {
	for _, c := range []struct {
		name, want string
		setup      func(b *bench)
		more       map[string]cty.Value
	}{
		{name: "the name is served elsewhere", want: "/etc/nginx/sites-enabled/other", setup: func(b *bench) {
			b.Files.Put("/etc/nginx/sites-enabled/other", host.File{Content: []byte("server { server_name files.example.com; }"), Mode: 0o644})
		}},
		{name: "a home that nobody may enter", want: "chmod o+x /home/mastodon", more: map[string]cty.Value{"local_fallback": text("/home/mastodon/live/public/system")},
			setup: func(b *bench) {
				b.Files.Put("/home/mastodon", host.File{Type: host.Directory, Mode: 0o700})
			}},
		{name: "nginx does not run", want: "does not run", setup: func(b *bench) {
			_ = b.Units.Stop(context.Background(), "nginx.service")
		}},
		{name: "no certificate yet", want: "does not exist yet", setup: func(b *bench) { b.Files.Remove(chain) }},
	} {
		t.Run(c.name, func(t *testing.T) {
			b := newBench(t, media(c.more))
			c.setup(b)
			if notes := strings.Join(b.plan().Notes, "\n"); !strings.Contains(notes, c.want) {
				t.Errorf("got notes %q, want %q", notes, c.want)
			}
		})
	}
}

func TestStoppedNginxIsNotReloaded(t *testing.T) {
	b := newBench(t, media(nil))
	if err := b.Units.Stop(t.Context(), "nginx.service"); err != nil {
		t.Fatal(err)
	}
	if err := b.apply(b.plan()); err != nil {
		t.Fatal(err)
	}
	if n := b.reloads(); n != 0 {
		t.Errorf("%d reloads", n)
	}
	if c := b.plan(); c.Action != resources.None {
		t.Errorf("after the apply: %s %q", c.Action, c.Summary)
	}
}

func TestConfigurationWithoutSitesEnabledIsRefused(t *testing.T) {
	b := newBench(t, media(nil))
	b.Files.Put("/etc/nginx/nginx.conf", host.File{Content: []byte("http { include conf.d/*.conf; }"), Mode: 0o644})
	if c := b.plan(); c.Action != resources.Blocked || !strings.Contains(c.Notes[0], "include /etc/nginx/sites-enabled/*;") {
		t.Errorf("got %+v", c)
	}
}

func TestSummaries(t *testing.T) {
	for want, more := range map[string]map[string]cty.Value{
		"new site, bucket first, then local; cache 10 GB": {"local_fallback": text("/srv/system")},
		"new site, from the bucket; cache 2.5 GB":         {"cache_size": text("2500MB")},
	} {
		if got := newBench(t, media(more)).plan().Summary; got != want {
			t.Errorf("got %q, want %q", got, want)
		}
	}
}

func TestMastodonEnv(t *testing.T) {
	ports := func(list ...cty.Value) map[string]cty.Value {
		config := media(nil)
		config["listen"] = cty.ListVal(list)
		return config
	}
	plain := media(nil)
	delete(plain, "certificate")
	for _, c := range []struct {
		name, alias string
		config      map[string]cty.Value
	}{
		{"HTTPS", "files.example.com", media(nil)},
		{"another port", "files.example.com:8443", ports(text("80"), text("8443 ssl"))},
		{"plain, behind another", "files.example.com", plain},
		{"a redirect", "", map[string]cty.Value{"server_name": text("files.example.com"), "redirect": text("https://a.example")}},
	} {
		kind := nginxsite.Kind()
		full, errs := kind.Complete(cty.ObjectVal(c.config))
		if len(errs) > 0 {
			t.Fatal(c.name, errs)
		}
		_, exports, err := kind.New(resources.Address{}, full)
		if err != nil {
			t.Fatal(c.name, err)
		}
		for _, e := range kind.Exports {
			if v := exports.GetAttr(e.Name); !v.Type().Equals(e.Type) {
				t.Errorf("%s: export %s is %s, want %s", c.name, e.Name, v.Type().GoString(), e.Type.GoString())
			}
		}
		want := map[string]string{}
		if c.alias != "" {
			want = map[string]string{
				"S3_ALIAS_HOST": c.alias, "CACHE_BUSTER_ENABLED": "true", "CACHE_BUSTER_HTTP_METHOD": "GET",
				"CACHE_BUSTER_SECRET_HEADER": "X-Converge-Cache-Bust", "CACHE_BUSTER_SECRET": "true",
			}
		}
		got := map[string]string{}
		for name, v := range exports.GetAttr("mastodon_env").AsValueMap() {
			got[name] = v.AsString()
		}
		if !maps.Equal(got, want) {
			t.Errorf("%s: got %v, want %v", c.name, got, want)
		}
	}
}

func TestOrdersToForgetComeFromThoseNamed(t *testing.T) {
	from := []cty.Value{text("192.0.2.7"), text("172.18.0.9/16"), text("2001:db8::/64"), text("172.18.0.0/16")}
	edits := newBench(t, media(map[string]cty.Value{"cache_bust_from": cty.ListVal(from)})).plan().Edits
	want := "    default 0;\n    192.0.2.7/32 1;\n    172.18.0.0/16 1;\n    2001:db8::/64 1;\n}"
	if site := string(edits[0].After.Content); !strings.Contains(site, want) {
		t.Errorf("the site has not these lines:\n%s\n%s", want, site)
	}
}

func TestBadConfigurationNamesTheAttribute(t *testing.T) {
	for _, c := range []struct {
		name, attr string
		config     map[string]cty.Value
	}{
		{"wildcard", "server_name", map[string]cty.Value{"server_name": text("*.example.com"), "content": text("x;")}},
		{"nothing to serve", "content", map[string]cty.Value{"server_name": text("a.example")}},
		{"listen", "listen", map[string]cty.Value{"server_name": text("a.example"), "content": text("x;"), "listen": cty.ListVal([]cty.Value{text("http")})}},
		{"cache in /tmp", "cache_path", media(map[string]cty.Value{"cache_path": text("/tmp/cache")})},
		{"name of the app's host", "cache_bust_from", media(map[string]cty.Value{"cache_bust_from": cty.ListVal([]cty.Value{text("app.example")})})},
		{"address", "bucket", media(map[string]cty.Value{"bucket": bucket("minio", "https://192.0.2.1/media")})},
	} {
		kind := nginxsite.Kind()
		full, errs := kind.Complete(cty.ObjectVal(c.config))
		if len(errs) > 0 {
			t.Fatal(c.name, errs)
		}
		_, _, err := kind.New(resources.Address{}, full)
		var bad *resources.AttrError
		if !errors.As(err, &bad) || bad.Path[len(bad.Path)-1] != c.attr {
			t.Errorf("%s: got %v, want an error of %s", c.name, err, c.attr)
		}
	}
}
