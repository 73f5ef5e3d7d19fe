package acmecertificate_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/converge-agent/converge/acme"
	"github.com/converge-agent/converge/diag"
	"github.com/converge-agent/converge/host"
	"github.com/converge-agent/converge/host/hosttest"
	"github.com/converge-agent/converge/nginx/nginxtest"
	"github.com/converge-agent/converge/resources"
	"github.com/converge-agent/converge/resources/acmecertificate"
	"github.com/converge-agent/converge/resources/resourcetest"
	"github.com/converge-agent/converge/secret"
	"github.com/zclconf/go-cty/cty"
)

const (
	name = "files.example.com"
	dir  = "/etc/ssl/files.example.com"
)

// authority issues what it is asked for, valid for lifetime from the clock's time, or refuses.
type authority struct {
	t        *testing.T
	ca       *nginxtest.CA
	lifetime time.Duration
	refuse   error
	visit    func(acme.Request) // as it looks for its challenge
	requests []acme.Request
}

func newAuthority(t *testing.T) *authority {
	return &authority{t: t, ca: nginxtest.NewCA(t, t.TempDir()), lifetime: 90 * 24 * time.Hour}
}

func (a *authority) Obtain(ctx context.Context, r acme.Request) (acme.Certificate, error) {
	a.requests = append(a.requests, r)
	if err := ctx.Err(); err != nil {
		return acme.Certificate{}, err
	}
	for _, d := range r.Domains {
		if err := r.Presenter.Present(ctx, d, "token", "token.thumb"); err != nil {
			return acme.Certificate{}, err
		}
	}
	if a.visit != nil {
		a.visit(r)
	}
	for _, d := range r.Domains {
		if err := r.Presenter.CleanUp(ctx, d, "token", "token.thumb"); err != nil {
			return acme.Certificate{}, err
		}
	}
	if a.refuse != nil {
		return acme.Certificate{}, diag.Wrap(a.refuse, "obtain a certificate", "Mend it.")
	}
	return a.issue(r.Domains, r.Now.Add(a.lifetime)), nil
}

func (a *authority) issue(domains []string, end time.Time) acme.Certificate {
	a.t.Helper()
	p := a.ca.IssueUntil(a.t, a.t.TempDir(), end, domains...)
	chain, err := os.ReadFile(p.CertFile)
	if err != nil {
		a.t.Fatal(err)
	}
	key, err := os.ReadFile(p.KeyFile)
	if err != nil {
		a.t.Fatal(err)
	}
	return acme.Certificate{Chain: chain, Key: secret.New(string(key))}
}

func text(s string) cty.Value { return cty.StringVal(s) }

func list(s ...string) cty.Value {
	var v []cty.Value
	for _, x := range s {
		v = append(v, text(x))
	}
	return cty.ListVal(v)
}

// config is the configuration of a test: on a free port of this host.
func config(t *testing.T, more map[string]cty.Value) map[string]cty.Value {
	c := map[string]cty.Value{
		"domains": list(name), "email": text("admin@example.com"),
		"http_port": cty.NumberIntVal(int64(nginxtest.FreePort(t))), "http_address": text("127.0.0.1"),
	}
	for k, v := range more {
		c[k] = v
	}
	return c
}

// ssl brings a host into the state of a Debian.
func ssl(h *resourcetest.Host) {
	h.Files.Put("/etc/ssl", host.File{Type: host.Directory, Mode: 0o755})
	h.Files.Put("/etc/nginx/nginx.conf", host.File{Content: []byte("http { include conf.d/*.conf; }"), Mode: 0o644})
	h.Files.Put("/etc/nginx/conf.d", host.File{Type: host.Directory, Mode: 0o755})
}

func TestSuite(t *testing.T) {
	a := newAuthority(t)
	resourcetest.Run(t, resourcetest.Case{
		Kind: acmecertificate.Kind(a), Setup: ssl,
		Config: config(t, map[string]cty.Value{"eab": cty.ObjectVal(map[string]cty.Value{
			"key_id": text("kid"), "hmac_key": secret.New("planted-hmac").Value(),
		})}),
		Secrets: []string{"planted-hmac"},
		Drift: map[string]func(*resourcetest.Host){
			"key removed": func(h *resourcetest.Host) { h.Files.Remove(dir + "/1/privkey.pem") },
			"key readable": func(h *resourcetest.Host) {
				f, _ := h.Files.Lookup(dir + "/1/privkey.pem")
				f.Mode = 0o644
				h.Files.Put(dir+"/1/privkey.pem", *f)
			},
			"chain damaged": func(h *resourcetest.Host) {
				h.Files.Put(dir+"/1/fullchain.pem", host.File{Content: []byte("x"), Mode: 0o644})
			},
			"link removed": func(h *resourcetest.Host) { h.Files.Remove(dir + "/live") },
			"another certificate": func(h *resourcetest.Host) {
				other := a.issue([]string{"other.example"}, h.Clock.Now().Add(a.lifetime))
				h.Files.Put(dir+"/1/fullchain.pem", host.File{Content: other.Chain, Mode: 0o644})
				h.Files.Put(dir+"/1/privkey.pem", host.File{Content: []byte(other.Key.Reveal()), Mode: 0o600})
			},
			"expired":                  func(h *resourcetest.Host) { h.Clock.Advance(100 * 24 * time.Hour) },
			"leftovers of a challenge": func(h *resourcetest.Host) { h.Files.Put(snippet, host.File{Content: []byte("x"), Mode: 0o644}) },
		},
	})
	if len(a.requests) == 0 {
		t.Error("nothing was ever issued")
	}
}

const snippet = "/etc/nginx/conf.d/converge-acme-files.example.com.conf"

// bench is one certificate on one host in memory.
type bench struct {
	*resourcetest.Host
	*authority
	t        *testing.T
	resource resources.Resource
}

func newBench(t *testing.T, more map[string]cty.Value) *bench {
	t.Helper()
	clock := hosttest.NewClock(time.Date(2026, 11, 21, 12, 0, 0, 0, time.UTC))
	b := &bench{t: t, authority: newAuthority(t), Host: &resourcetest.Host{
		Files: hosttest.NewMemory(), Units: hosttest.NewUnits(clock), Commands: &hosttest.Commands{},
		Users: hosttest.Users{}, Clock: clock, Records: resourcetest.Records{},
	}}
	b.Files.Put("/var/lib", host.File{Type: host.Directory, Mode: 0o755})
	ssl(b.Host)
	b.again(config(t, more))
	return b
}

// again makes the resource anew, as the next run does.
func (b *bench) again(config map[string]cty.Value) {
	b.t.Helper()
	kind := acmecertificate.Kind(b.authority)
	full, errs := kind.Complete(cty.ObjectVal(config))
	if len(errs) > 0 {
		b.t.Fatal(errs)
	}
	var err error
	if b.resource, _, err = kind.New(resources.Address{Kind: "acme_certificate", Name: "files"}, full); err != nil {
		b.t.Fatal(err)
	}
}

func (b *bench) env() resources.Env {
	return resources.Env{
		ReadEnv: resources.ReadEnv{
			Files: b.Files, Units: b.Units, Probe: b.Commands, Users: b.Users, Clock: b.Clock, Records: b.Records,
			StateDir: "/var/lib/converge", Processes: b.Processes,
		},
		Files: b.Files, Units: b.Units, Commands: b.Commands,
	}
}

func (b *bench) plan() resources.Change {
	b.t.Helper()
	st, err := b.resource.Read(b.t.Context(), b.env().ReadEnv)
	if err != nil {
		b.t.Fatal(err)
	}
	return b.resource.Diff(st)
}

func (b *bench) apply(c resources.Change) error {
	return b.resource.Apply(b.t.Context(), b.env(), c)
}

func (b *bench) converge() {
	b.t.Helper()
	if err := b.apply(b.plan()); err != nil {
		b.t.Fatal(err)
	}
	if c := b.plan(); c.Action != resources.None {
		b.t.Fatalf("after the apply: %s %q", c.Action, c.Summary)
	}
}

func (b *bench) read(path string) string {
	b.t.Helper()
	f, err := b.Files.Lookup(path)
	if err != nil || f == nil {
		b.t.Fatalf("%s: %+v, %v", path, f, err)
	}
	return string(f.Content)
}

func TestPlanCanBeStaged(t *testing.T) {
	b := newBench(t, nil)
	b.Files.Remove("/etc/ssl")
	overlay := host.NewOverlay(b.Files)
	c := b.plan()
	for _, e := range c.Edits {
		if err := overlay.Stage(e); err != nil {
			t.Fatalf("stage %s: %v", e.Path, err)
		}
		if strings.HasSuffix(e.Path, "privkey.pem") && !e.Private {
			t.Error("the key's edit is not private")
		}
	}
	for _, p := range b.resource.Watches() {
		if _, err := overlay.Lookup(p); !errors.Is(err, host.ErrOpaque) {
			t.Errorf("reading %s in the plan: %v, want ErrOpaque", p, err)
		}
	}
	if c.Digest != "" {
		t.Errorf("digest %q of bytes that nobody knows", c.Digest)
	}
}

func TestWhenItIsDue(t *testing.T) {
	day := 24 * time.Hour
	for _, c := range []struct {
		name     string
		lifetime time.Duration
		more     map[string]cty.Value
		after    time.Duration
		want     resources.Action
		summary  string
	}{
		{"fresh", 90 * day, nil, 0, resources.None, "files.example.com, until 19 Feb 2027"},
		{"a day before", 90 * day, nil, 59 * day, resources.None, ""},
		{"due", 90 * day, nil, 60 * day, resources.Update, "renew files.example.com by HTTP-01: it expires in 30 days"},
		{"almost over", 90 * day, nil, 89*day + time.Hour, resources.Update, "renew files.example.com by HTTP-01: it expires in 23 hours"},
		{"over", 90 * day, nil, 91 * day, resources.Update, "renew files.example.com by HTTP-01: it expired on 19 Feb 2027"},
		{"later by choice", 90 * day, map[string]cty.Value{"renew_before": text("10d")}, 79 * day, resources.None, ""},
		{"later by choice, due", 90 * day, map[string]cty.Value{"renew_before": text("10d")}, 80 * day, resources.Update, ""},
		{"six days, fresh", 6 * day, nil, 0, resources.None, ""},
		{"six days, not due", 6 * day, nil, 4*day - time.Minute, resources.None, ""},
		{"six days, due", 6 * day, nil, 4 * day, resources.Update, ""},
	} {
		t.Run(c.name, func(t *testing.T) {
			b := newBench(t, c.more)
			b.lifetime = c.lifetime
			cert := b.issueFor(c.lifetime)
			b.put(1, cert, acme.LetsEncrypt)
			b.Clock.Advance(c.after)
			got := b.plan()
			if renews := got.Renewal != nil; renews != (c.want == resources.Update) {
				t.Errorf("a renewal: %t", renews)
			}
			if got.Action != c.want || c.summary != "" && got.Summary != c.summary {
				t.Errorf("got %s %q, want %s %q", got.Action, got.Summary, c.want, c.summary)
			}
		})
	}
}

// issueFor makes a certificate that begins now and lasts as long.
func (b *bench) issueFor(lifetime time.Duration) acme.Certificate {
	b.t.Helper()
	p := b.ca.IssueBetween(b.t, b.t.TempDir(), b.Clock.Now(), b.Clock.Now().Add(lifetime), name)
	chain, err := os.ReadFile(p.CertFile)
	if err != nil {
		b.t.Fatal(err)
	}
	key, err := os.ReadFile(p.KeyFile)
	if err != nil {
		b.t.Fatal(err)
	}
	return acme.Certificate{Chain: chain, Key: secret.New(string(key))}
}

// put puts a version in place, and makes it the current one.
func (b *bench) put(n int, cert acme.Certificate, directory string) {
	v := fmt.Sprintf("%s/%d/", dir, n)
	b.Files.Put(v+"fullchain.pem", host.File{Content: cert.Chain, Mode: 0o644})
	b.Files.Put(v+"privkey.pem", host.File{Content: []byte(cert.Key.Reveal()), Mode: 0o600})
	b.Files.Put(v+"issued.json", host.File{Content: []byte(fmt.Sprintf(`{"directory_url":%q}`, directory)), Mode: 0o644})
	b.Files.Put(dir+"/live", host.File{Type: host.Symlink, Target: fmt.Sprint(n)})
}

func TestRenewalKeepsOnePrevious(t *testing.T) {
	b := newBench(t, nil)
	for n := 1; n <= 4; n++ {
		b.converge()
		live, _ := b.Files.Lookup(dir + "/live")
		if live.Target != fmt.Sprint(n) {
			t.Fatalf("live leads to %s, want %d", live.Target, n)
		}
		if names, _ := b.Files.List(dir); len(names) > 3 {
			t.Errorf("after %d issuances %q are kept", n, names)
		}
		b.Clock.Advance(61 * 24 * time.Hour)
	}
}

// TestVersionThatAKilledRunWasWritingGoes, with the temporary file of its key.
func TestVersionThatAKilledRunWasWritingGoes(t *testing.T) {
	b := newBench(t, nil)
	b.Files.Put(dir+"/1/.converge-ec0e3bf2-0123456789abcdef", host.File{Content: []byte("-----BEGIN"), Mode: 0o600})
	b.converge()
	if names, err := b.Files.List(dir); err != nil || !slices.Equal(names, []string{"2", "live"}) {
		t.Errorf("there are %q, %v", names, err)
	}
}

func TestAnotherConfigurationIsAnotherCertificate(t *testing.T) {
	for name, more := range map[string]map[string]cty.Value{
		"names":     {"domains": list(name, "www.example.com")},
		"authority": {"directory_url": text("https://acme-staging-v02.api.letsencrypt.org/directory")},
		"key":       {"key_type": text("rsa2048")},
		"profile":   {"profile": text("shortlived")},
	} {
		t.Run(name, func(t *testing.T) {
			b := newBench(t, nil)
			b.converge()
			more["dir"] = text(dir)
			b.again(config(t, more))
			b.Clock.Advance(100 * 24 * time.Hour) // that it has expired too does not make it a renewal
			if c := b.plan(); c.Action != resources.Update || c.Renewal != nil {
				t.Errorf("got %s %q, renewal %v", c.Action, c.Summary, c.Renewal)
			}
		})
	}
}

// TestKilledAnywhere cuts an issuance off at every step of every file: certificate and key must belong together whenever
// there is any, and the next run must finish.
func TestKilledAnywhere(t *testing.T) {
	for k := 1; ; k++ {
		b := newBench(t, nil)
		b.converge()
		b.Clock.Advance(61 * 24 * time.Hour)
		step, killed := 0, errors.New("killed")
		b.Files.Fail = func(string, string) error {
			if step++; step >= k {
				return killed
			}
			return nil
		}
		issued := len(b.requests)
		err := b.apply(b.plan())
		b.Files.Fail = nil
		if step < k {
			if k < 20 {
				t.Fatalf("only %d steps were tried", k)
			}
			return
		}
		if !errors.Is(err, killed) {
			t.Fatalf("step %d: got %v", k, err)
		}
		live := dir + "/live/"
		if _, err := acme.ParsePair([]byte(b.read(live+"fullchain.pem")), []byte(b.read(live+"privkey.pem"))); err != nil {
			t.Fatalf("step %d: certificate and key do not belong together: %v", k, err)
		}
		complete, _ := b.Files.Lookup(dir + "/2/issued.json")
		b.converge()
		if n := len(b.requests) - issued; complete != nil && n != 1 {
			t.Errorf("step %d: the authority was asked %d times for a certificate that was already there", k, n)
		}
	}
}

func refusal(at time.Time) *acme.Refusal {
	return &acme.Refusal{Type: "dns", Detail: []string{"no valid A records"}, RetryAt: at}
}

func TestARefusalIsNotRepeatedAtOnce(t *testing.T) {
	b := newBench(t, nil)
	b.refuse = refusal(time.Time{})
	if err := b.apply(b.plan()); err == nil || diag.Fix(err) != "Mend it." {
		t.Fatalf("got %v", err)
	}
	c := b.plan()
	if c.Action != resources.Wait || c.Wait == nil || !c.Wait.Until.Equal(b.Clock.Now().Add(5*time.Minute)) || !strings.Contains(c.Summary, "no valid A records") {
		t.Fatalf("got %+v", c)
	}
	for _, want := range []time.Duration{10 * time.Minute, 20 * time.Minute, 40 * time.Minute} {
		b.Clock.Advance(want / 2)
		if err := b.apply(b.plan()); err == nil {
			t.Fatal("want an error")
		}
		if c := b.plan(); c.Action != resources.Wait || !c.Wait.Until.Equal(b.Clock.Now().Add(want)) {
			t.Fatalf("got %+v, want to wait %s", c.Wait, want)
		}
	}
	b.Clock.Advance(40 * time.Minute)
	b.refuse = nil
	b.converge()
	b.Clock.Advance(61 * 24 * time.Hour)
	b.refuse = refusal(b.Clock.Now().Add(100 * time.Hour))
	if err := b.apply(b.plan()); err == nil {
		t.Fatal("want an error")
	}
	c = b.plan()
	if c.Action != resources.None || !strings.Contains(strings.Join(c.Notes, "\n"), "The renewal waits until 25 Jan 17:15 UTC") {
		t.Errorf("a certificate that still serves: got %s %q %q", c.Action, c.Summary, c.Notes)
	}
	b.Clock.Advance(99 * time.Hour)
	if c := b.plan(); c.Action != resources.None {
		t.Errorf("before the authority's own time: %s", c.Action)
	}
	b.Clock.Advance(2 * time.Hour)
	if c := b.plan(); c.Action != resources.Update {
		t.Errorf("after the authority's own time: %s", c.Action)
	}
}

func TestACorrectedRequestIsTriedAtOnce(t *testing.T) {
	b := newBench(t, nil)
	b.refuse = refusal(time.Time{})
	if err := b.apply(b.plan()); err == nil {
		t.Fatal("want an error")
	}
	b.again(config(t, map[string]cty.Value{"domains": list("right.example.com"), "dir": text(dir)}))
	if c := b.plan(); c.Action != resources.Create {
		t.Errorf("got %s %q", c.Action, c.Summary)
	}
}

func TestAnUnreachableAuthorityIsTriedInEveryRun(t *testing.T) {
	b := newBench(t, nil)
	b.refuse = errors.New("connection refused")
	if err := b.apply(b.plan()); err == nil {
		t.Fatal("want an error")
	}
	if c := b.plan(); c.Action != resources.Create {
		t.Errorf("got %s %q", c.Action, c.Summary)
	}
}

// get asks for the challenge as the authority does.
func get(t *testing.T, port int64, domain string) string {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, fmt.Sprintf("http://127.0.0.1:%d%stoken", port, acme.ChallengePath), nil)
	if err != nil {
		t.Fatal(err)
	}
	req.Host = domain
	res, err := http.DefaultClient.Do(req)
	if err != nil {
		return err.Error()
	}
	defer func() { _ = res.Body.Close() }()
	body, err := io.ReadAll(res.Body)
	if err != nil {
		t.Fatal(err)
	}
	return string(body)
}

func TestChallengeIsAnsweredWithoutNginx(t *testing.T) {
	port := int64(nginxtest.FreePort(t))
	b := newBench(t, map[string]cty.Value{"http_port": cty.NumberIntVal(port)})
	b.visit = func(acme.Request) {
		if got := get(t, port, name); got != "token.thumb" {
			t.Errorf("got %q", got)
		}
		if got := get(t, port, "other.example"); got == "token.thumb" {
			t.Error("another name is answered too")
		}
	}
	b.converge()
	if len(b.requests) != 1 {
		t.Fatalf("%d requests", len(b.requests))
	}
	if nginxtest.Answers(int(port)) {
		t.Error("the listener stayed open")
	}
}

func TestTakenPortIsNamed(t *testing.T) {
	port := nginxtest.FreePort(t)
	b := newBench(t, map[string]cty.Value{"http_port": cty.NumberIntVal(int64(port))})
	s, err := acme.Listen(t.Context(), fmt.Sprintf("127.0.0.1:%d", port))
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = s.Close() }()
	if err := b.apply(b.plan()); err == nil || !strings.Contains(diag.Fix(err), fmt.Sprintf("sport = :%d", port)) {
		t.Errorf("got %v, fix %q", err, diag.Fix(err))
	}
}

func TestBadConfigurationNamesTheAttribute(t *testing.T) {
	for attr, value := range map[string]cty.Value{
		"domains": list("*.example.com"), "directory_url": text("http://acme.example/dir"),
		"http_port": cty.NumberIntVal(0), "http_address": text("localhost"),
	} {
		kind := acmecertificate.Kind(newAuthority(t))
		full, errs := kind.Complete(cty.ObjectVal(config(t, map[string]cty.Value{attr: value})))
		if len(errs) > 0 {
			t.Fatal(errs)
		}
		_, _, err := kind.New(resources.Address{}, full)
		var bad *resources.AttrError
		if !errors.As(err, &bad) || bad.Path[0] != attr {
			t.Errorf("%s: got %v", attr, err)
		}
	}
}

func TestAbsentTakesAllAway(t *testing.T) {
	b := newBench(t, nil)
	b.converge()
	b.again(config(t, map[string]cty.Value{"ensure": text("absent")}))
	b.converge()
	if names, err := b.Files.List(dir); err != nil || len(names) != 0 {
		t.Errorf("left: %q, %v", names, err)
	}
}

func TestChallengeIsAnsweredByNginx(t *testing.T) {
	for _, served := range []bool{false, true} {
		t.Run(fmt.Sprintf("site serves it: %t", served), func(t *testing.T) {
			tmp := t.TempDir()
			server := nginxtest.New(t, tmp)
			port := nginxtest.FreePort(t)
			webroot := filepath.Join(tmp, "webroot")
			location := ""
			if served {
				location = "location ^~ /.well-known/acme-challenge/ { root " + webroot + "; }"
			}
			server.WriteSite(t, "site", fmt.Sprintf("server { listen 127.0.0.1:%d; server_name %s; %s location / { return 204; } }", port, name, location))
			server.Start(t, port)

			b := newBench(t, nil)
			units := nginxtest.NewUnits(server)
			b.again(config(t, map[string]cty.Value{
				"http_port": cty.NumberIntVal(int64(port)), "webroot": text(webroot), "conf_dir": text(server.ConfDir),
				"dir": text(filepath.Join(tmp, "certificate")), "domains": list(name, "second.example.com"),
			}))
			if served {
				b.again(config(t, map[string]cty.Value{
					"http_port": cty.NumberIntVal(int64(port)), "webroot": text(webroot), "conf_dir": text(server.ConfDir),
					"dir": text(filepath.Join(tmp, "certificate")),
				}))
			}
			env := b.env()
			env.Files, env.ReadEnv.Files = host.System(), host.System()
			env.Units, env.ReadEnv.Units = units, units
			env.Commands, env.Probe = host.SystemCommands(), host.SystemCommands()
			env.Users, env.Processes = host.SystemUsers(), host.SystemProcesses()
			env.StateDir = filepath.Join(tmp, "state")
			b.visit = func(r acme.Request) {
				for _, d := range r.Domains {
					if got := get(t, int64(port), d); got != "token.thumb" {
						t.Errorf("%s: got %q", d, got)
					}
				}
			}
			st, err := b.resource.Read(t.Context(), env.ReadEnv)
			if err != nil {
				t.Fatal(err)
			}
			if err := b.resource.Apply(t.Context(), env, b.resource.Diff(st)); err != nil {
				t.Fatalf("%v; fix: %s", err, diag.Fix(err))
			}
			if st, err = b.resource.Read(t.Context(), env.ReadEnv); err != nil {
				t.Fatal(err)
			}
			if c := b.resource.Diff(st); c.Action != resources.None {
				t.Errorf("after the apply: %s %q", c.Action, c.Summary)
			}
			left, err := os.ReadDir(filepath.Join(server.ConfDir, "conf.d"))
			if err != nil || len(left) != 0 {
				t.Errorf("left in conf.d: %v, %v", left, err)
			}
			if tokens, err := os.ReadDir(filepath.Join(webroot, acme.ChallengePath)); err != nil || len(tokens) != 0 {
				t.Errorf("left in the webroot: %v, %v", tokens, err)
			}
			want := 2 // to put the server for challenges there, and to take it away
			if served {
				want = 0
			}
			if n := len(units.Calls()); n != want {
				t.Errorf("%d reloads, want %d", n, want)
			}
		})
	}
}

// sealed is a file system of which converge may not read keys and the state directory, as a plan by anybody but root.
type sealed struct{ host.Files }

func (s sealed) Lookup(path string) (*host.File, error) {
	if strings.HasSuffix(path, "privkey.pem") || strings.HasPrefix(path, "/var/lib/converge/") {
		return nil, host.SystemError(syscall.EACCES, "read", path)
	}
	return s.Files.Lookup(path)
}

func TestPlanWithoutRights(t *testing.T) {
	b := newBench(t, nil)
	b.converge()
	env := b.env().ReadEnv
	env.Files = sealed{b.Files}
	for _, c := range []struct {
		after time.Duration
		want  resources.Action
	}{{0, resources.None}, {61 * 24 * time.Hour, resources.Update}} {
		b.Clock.Advance(c.after)
		st, err := b.resource.Read(t.Context(), env)
		if err != nil {
			t.Fatal(err)
		}
		if got := b.resource.Diff(st); got.Action != c.want {
			t.Errorf("after %s: %s %q, want %s", c.after, got.Action, got.Summary, c.want)
		}
	}
}
