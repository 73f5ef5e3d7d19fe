package nginxsite_test

import (
	"crypto/tls"
	"fmt"
	"io"
	"math/big"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/converge-agent/converge/diag"
	"github.com/converge-agent/converge/host"
	"github.com/converge-agent/converge/nginx/nginxtest"
	"github.com/converge-agent/converge/resources"
	"github.com/converge-agent/converge/resources/nginxsite"
	"github.com/converge-agent/converge/resources/resourcetest"
	"github.com/zclconf/go-cty/cty"
)

// live is sites on a real nginx and a real file system.
type live struct {
	t       *testing.T
	server  *nginxtest.Server
	units   *nginxtest.Units
	records resourcetest.Records
	ca      *nginxtest.CA
	port    int
	tls     int
	dir     string
	clock   host.Clock
}

func newLive(t *testing.T) *live {
	t.Helper()
	dir := t.TempDir()
	l := &live{t: t, server: nginxtest.New(t, dir), clock: host.SystemClock(), records: resourcetest.Records{}, ca: nginxtest.NewCA(t, dir), dir: dir,
		port: nginxtest.FreePort(t), tls: nginxtest.FreePort(t)}
	base := nginxtest.FreePort(t)
	l.server.WriteSite(t, "base", fmt.Sprintf("server { listen 127.0.0.1:%d; return 204; }", base))
	l.server.Start(t, base)
	l.units = nginxtest.NewUnits(l.server)
	return l
}

// site makes the resource as one run does.
func (l *live) site(content string) resources.Resource {
	l.t.Helper()
	kind := nginxsite.Kind()
	config, errs := kind.Complete(cty.ObjectVal(map[string]cty.Value{
		"server_name": text("site.test"), "content": text(content),
		"certificate": cty.ObjectVal(map[string]cty.Value{
			"fullchain_path": text(filepath.Join(l.dir, "live/fullchain.pem")), "key_path": text(filepath.Join(l.dir, "live/privkey.pem")),
		}),
		"listen":   cty.ListVal([]cty.Value{text(fmt.Sprintf("127.0.0.1:%d", l.port)), text(fmt.Sprintf("127.0.0.1:%d ssl", l.tls))}),
		"conf_dir": text(l.server.ConfDir), "webroot": text(filepath.Join(l.dir, "webroot")),
	}))
	if len(errs) > 0 {
		l.t.Fatal(errs)
	}
	r, _, err := kind.New(resources.Address{Kind: "nginx_site", Name: "site"}, config)
	if err != nil {
		l.t.Fatal(err)
	}
	return r
}

func (l *live) env() resources.Env {
	files, commands := host.System(), host.SystemCommands()
	return resources.Env{
		ReadEnv: resources.ReadEnv{Files: files, Units: l.units, Probe: commands, Users: host.SystemUsers(), Clock: l.clock, Records: l.records,
			StateDir: filepath.Join(l.dir, "state"), Processes: host.SystemProcesses()},
		Files: files, Units: l.units, Commands: commands,
	}
}

// run plans and applies as one run does, and returns the plan.
func (l *live) run(content string) (resources.Change, error) {
	l.t.Helper()
	r := l.site(content)
	diff := func() resources.Change {
		st, err := r.Read(l.t.Context(), l.env().ReadEnv)
		if err != nil {
			l.t.Fatal(err)
		}
		return r.Diff(st)
	}
	c := diff()
	if !c.Action.Changes() {
		return c, nil
	}
	if err := r.Apply(l.t.Context(), l.env(), c); err != nil {
		return c, err
	}
	left := diff()
	if left.Action != resources.None {
		l.t.Fatalf("after the apply: %s %q", left.Action, left.Summary)
	}
	b := &bench{t: l.t, Host: &resourcetest.Host{Records: l.records}}
	b.remember(left)
	return c, nil
}

// pair makes the certificate that live leads to.
func (l *live) pair(version string) *big.Int {
	l.t.Helper()
	p := l.ca.Issue(l.t, filepath.Join(l.dir, version), "site.test")
	next := filepath.Join(l.dir, "next")
	if err := os.Symlink(version, next); err != nil {
		l.t.Fatal(err)
	}
	if err := os.Rename(next, filepath.Join(l.dir, "live")); err != nil {
		l.t.Fatal(err)
	}
	return p.TLS.Leaf.SerialNumber
}

// get asks the site, and returns its answer and the serial number of its certificate.
func (l *live) get() (string, *big.Int) {
	l.t.Helper()
	client := &http.Client{Transport: &http.Transport{
		TLSClientConfig: &tls.Config{RootCAs: l.ca.Pool, ServerName: "site.test"}, DisableKeepAlives: true,
	}}
	res, err := client.Get(fmt.Sprintf("https://127.0.0.1:%d/", l.tls))
	if err != nil {
		l.t.Fatalf("%v\n%s", err, l.server.Log(l.t))
	}
	defer func() { _ = res.Body.Close() }()
	body, err := io.ReadAll(res.Body)
	if err != nil {
		l.t.Fatal(err)
	}
	return string(body), res.TLS.PeerCertificates[0].SerialNumber
}

func answer(text string) string { return "location / { return 200 " + text + "; }" }

func TestLiveSite(t *testing.T) {
	l := newLive(t)
	first := l.pair("1")
	must := func(content string, want resources.Action) {
		t.Helper()
		c, err := l.run(content)
		if err != nil {
			t.Fatal(err)
		}
		if c.Action != want {
			t.Fatalf("got %s %q, want %s", c.Action, c.Summary, want)
		}
	}
	mustServe := func(want string, serial *big.Int) {
		t.Helper()
		if body, got := l.get(); body != want || got.Cmp(serial) != 0 {
			t.Fatalf("got %q with certificate %s, want %q with %s", body, got, want, serial)
		}
	}
	must(answer("one"), resources.Create)
	mustServe("one", first)
	must(answer("one"), resources.None)
	must(answer("two"), resources.Update)
	mustServe("two", first)

	second := l.pair("2")
	must(answer("two"), resources.Update)
	mustServe("two", second)
	must(answer("two"), resources.None)

	l.server.Reload(t) // by hand
	reloads := len(l.units.Calls())
	must(answer("two"), resources.None)
	if len(l.units.Calls()) != reloads {
		t.Errorf("a reload by hand cost another")
	}
}

func TestLiveSiteSurvivesWhatNginxRefuses(t *testing.T) {
	l := newLive(t)
	l.pair("1")
	if _, err := l.run(answer("one")); err != nil {
		t.Fatal(err)
	}
	file := filepath.Join(l.server.ConfDir, "sites-available/site.test.conf")
	before, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	mustStay := func(err error, words string) {
		t.Helper()
		if err == nil || !strings.Contains(err.Error(), words) {
			t.Errorf("got %v, want %q in it", err, words)
		}
		now, err := os.ReadFile(file)
		if err != nil || string(now) != string(before) {
			t.Errorf("the site's file was not put back: %v", err)
		}
		if body, _ := l.get(); body != "one" {
			t.Errorf("the live site answers %q", body)
		}
		if out, err := l.server.Test(t); err != nil && !strings.Contains(out, "neighbour") {
			t.Errorf("what is on disk now is refused: %s", out)
		}
	}
	_, err = l.run("frobnicate on;")
	mustStay(err, "unknown directive \"frobnicate\" in "+filepath.Join(l.server.ConfDir, "sites-enabled/site.test.conf")+":")
	l.server.WriteSite(t, "neighbour", "server { nonsense; }")
	_, err = l.run(answer("two"))
	mustStay(err, "sites-enabled/neighbour:1")
	if err := os.Remove(filepath.Join(l.server.ConfDir, "sites-enabled/neighbour")); err != nil {
		t.Fatal(err)
	}
	if _, err := l.run(answer("two")); err != nil {
		t.Fatal(err)
	}
	if body, _ := l.get(); body != "two" {
		t.Errorf("got %q after the neighbour was mended", body)
	}
}

// hasty is a clock on which minutes have passed as soon as nginx has given up to bind a port.
type hasty struct {
	host.Clock
	t      *testing.T
	server *nginxtest.Server
}

func (h hasty) passed() time.Duration {
	if strings.Contains(h.server.Log(h.t), "still could not bind()") {
		return 10 * time.Minute
	}
	return 0
}

func (h hasty) Now() time.Time           { return h.Clock.Now().Add(h.passed()) }
func (h hasty) SinceBoot() time.Duration { return h.Clock.SinceBoot() + h.passed() }

// TestLiveSiteWhosePortIsTaken: nginx -t finds nothing wrong with a port that another program has, and systemd is content
// when the signal is sent. nginx goes on as before, which is a failure; once the port is free the next run reloads.
func TestLiveSiteWhosePortIsTaken(t *testing.T) {
	l := newLive(t)
	serial := l.pair("1")
	if _, err := l.run(answer("one")); err != nil {
		t.Fatal(err)
	}
	var config net.ListenConfig
	other, err := config.Listen(t.Context(), "tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = other.Close() }()
	l.port = other.Addr().(*net.TCPAddr).Port
	l.clock = hasty{l.clock, t, l.server}
	_, err = l.run(answer("two"))
	if err == nil || !strings.Contains(err.Error(), "nginx had not taken the new configuration") || !strings.Contains(diag.Fix(err), "ss -ltnp") {
		t.Errorf("got %v, fix %q", err, diag.Fix(err))
	}
	if body, _ := l.get(); body != "one" {
		t.Errorf("with the port taken the site answers %q", body)
	}
	if out, err := l.server.Test(t); err != nil {
		t.Fatalf("nginx -t sees it, so that the test shows nothing: %s", out)
	}

	l.clock = host.SystemClock()
	if err := other.Close(); err != nil {
		t.Fatal(err)
	}
	c, err := l.run(answer("two"))
	if err != nil || c.Action != resources.Update || !strings.Contains(c.Summary, "reload nginx: ") {
		t.Fatalf("with the port free: %s %q, %v; want a reload", c.Action, c.Summary, err)
	}
	if body, got := l.get(); body != "two" || got.Cmp(serial) != 0 || !nginxtest.Answers(l.port) {
		t.Errorf("with the port free the site answers %q", body)
	}
	if c, err := l.run(answer("two")); err != nil || c.Action != resources.None {
		t.Errorf("the run after that: %s %q, %v", c.Action, c.Summary, err)
	}
}
