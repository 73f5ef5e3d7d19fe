package integration

import (
	"context"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"log"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
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
	"github.com/converge-agent/converge/test/lab"
	"github.com/zclconf/go-cty/cty"
)

const mediaName = "files.converge.test"

// certHost is a host without nginx that wants one certificate.
type certHost struct {
	t     *testing.T
	acme  *lab.ACME
	dir   string
	port  int
	clock *hosttest.Clock
}

func newCertHost(t *testing.T, o lab.ACMEOptions) *certHost {
	t.Helper()
	h := &certHost{t: t, dir: t.TempDir(), port: nginxtest.FreePort(t), clock: hosttest.NewClock(time.Now())}
	if o.HTTPPort == 0 {
		o.HTTPPort = h.port
	}
	var err error
	if h.acme, err = newLab(t).ACME(t.Context(), o); err != nil {
		t.Fatal(err)
	}
	return h
}

// resource makes the certificate as one run does.
func (h *certHost) resource(more map[string]cty.Value) resources.Resource {
	h.t.Helper()
	config := map[string]cty.Value{
		"domains": cty.ListVal([]cty.Value{cty.StringVal(mediaName)}), "email": cty.StringVal("admin@converge.test"),
		"directory_url": cty.StringVal(h.acme.DirectoryURL), "ca_file": cty.StringVal(h.acme.CAFile),
		"dir": cty.StringVal(filepath.Join(h.dir, "certificate")), "webroot": cty.StringVal(filepath.Join(h.dir, "webroot")),
		"http_port": cty.NumberIntVal(int64(h.port)), "http_address": cty.StringVal("127.0.0.1"),
		"conf_dir": cty.StringVal(filepath.Join(h.dir, "nginx")),
	}
	for name, v := range more {
		config[name] = v
	}
	kind := acmecertificate.Kind(acme.NewIssuer())
	full, errs := kind.Complete(cty.ObjectVal(config))
	if len(errs) > 0 {
		h.t.Fatal(errs)
	}
	r, _, err := kind.New(resources.Address{Kind: "acme_certificate", Name: "files"}, full)
	if err != nil {
		h.t.Fatal(err)
	}
	return r
}

func (h *certHost) env() resources.Env {
	files, commands, units := host.System(), host.SystemCommands(), hosttest.NewUnits(h.clock)
	return resources.Env{
		ReadEnv: resources.ReadEnv{
			Files: files, Units: units, Probe: commands, Users: host.SystemUsers(), Clock: h.clock,
			Records: resourcetest.Records{}, StateDir: filepath.Join(h.dir, "state"), Processes: host.SystemProcesses(),
		},
		Files: files, Units: units, Commands: commands,
	}
}

func (h *certHost) plan(r resources.Resource) resources.Change {
	h.t.Helper()
	st, err := r.Read(h.t.Context(), h.env().ReadEnv)
	if err != nil {
		h.t.Fatal(err)
	}
	return r.Diff(st)
}

// run does one run, and returns what it planned.
func (h *certHost) run(more map[string]cty.Value) (resources.Change, error) {
	h.t.Helper()
	r := h.resource(more)
	c := h.plan(r)
	if !c.Action.Changes() {
		return c, nil
	}
	if err := r.Apply(h.t.Context(), h.env(), c); err != nil {
		return c, err
	}
	if left := h.plan(r); left.Action != resources.None {
		h.t.Fatalf("after the apply: %s %q", left.Action, left.Summary)
	}
	return c, nil
}

func (h *certHost) mustRun(more map[string]cty.Value, want resources.Action) {
	h.t.Helper()
	c, err := h.run(more)
	if err != nil {
		h.t.Fatalf("%v; fix: %s", err, diag.Fix(err))
	}
	if c.Action != want {
		h.t.Fatalf("got %s %q, want %s", c.Action, c.Summary, want)
	}
}

// leaf is the current certificate, its chain verified to the authority's root.
func (h *certHost) leaf() *x509.Certificate {
	h.t.Helper()
	live := filepath.Join(h.dir, "certificate/live")
	chain, err := os.ReadFile(filepath.Join(live, "fullchain.pem"))
	if err != nil {
		h.t.Fatal(err)
	}
	key, err := os.ReadFile(filepath.Join(live, "privkey.pem"))
	if err != nil {
		h.t.Fatal(err)
	}
	pair, err := acme.ParsePair(chain, key)
	if err != nil {
		h.t.Fatal(err)
	}
	root, err := os.ReadFile(h.acme.RootFile)
	if err != nil {
		h.t.Fatal(err)
	}
	roots, others := x509.NewCertPool(), x509.NewCertPool()
	roots.AppendCertsFromPEM(root)
	others.AppendCertsFromPEM(chain)
	if _, err := pair.Leaf.Verify(x509.VerifyOptions{DNSName: mediaName, Roots: roots, Intermediates: others}); err != nil {
		h.t.Fatalf("the chain does not lead to the root: %v", err)
	}
	return pair.Leaf
}

func TestCertificateIsObtainedOnceAndRenewed(t *testing.T) {
	h := newCertHost(t, lab.ACMEOptions{})
	h.mustRun(nil, resources.Create)
	first := h.leaf()
	if info, err := os.Stat(filepath.Join(h.dir, "certificate/1/privkey.pem")); err != nil || info.Mode() != 0o600 {
		t.Errorf("the key: %v, %v", info.Mode(), err)
	}
	h.mustRun(nil, resources.None)
	account := h.account()

	// Pebble has no clock to set, so that only the plan is made 61 days later.
	r := h.resource(nil)
	h.clock.Advance(61 * 24 * time.Hour)
	due := h.plan(r)
	h.clock.Step(time.Now())
	if due.Action != resources.Update || !strings.Contains(due.Summary, "it expires in 2") {
		t.Fatalf("61 days later: %s %q", due.Action, due.Summary)
	}
	if err := r.Apply(t.Context(), h.env(), due); err != nil {
		t.Fatalf("%v; fix: %s", err, diag.Fix(err))
	}
	if h.leaf().SerialNumber.Cmp(first.SerialNumber) == 0 {
		t.Error("the certificate was not renewed")
	}
	h.mustRun(nil, resources.None)
	if h.account() != account {
		t.Error("the renewal made another account")
	}

	if err := os.Remove(filepath.Join(h.dir, "certificate/live")); err != nil { // killed before the link
		t.Fatal(err)
	}
	renewed := filepath.Join(h.dir, "certificate/2/fullchain.pem")
	before, err := os.ReadFile(renewed)
	if err != nil {
		t.Fatal(err)
	}
	h.mustRun(nil, resources.Update)
	if after, err := os.ReadFile(renewed); err != nil || string(after) != string(before) {
		t.Errorf("the certificate that was there already was not taken: %v", err)
	}
	if names, err := os.ReadDir(filepath.Join(h.dir, "certificate")); err != nil || len(names) != 3 {
		t.Errorf("got %v, %v; want two versions and the link", names, err)
	}
}

// account is the account's name at the authority.
func (h *certHost) account() string {
	h.t.Helper()
	found, err := filepath.Glob(filepath.Join(h.dir, "state/acme_certificate/accounts/*/account.json"))
	if err != nil || len(found) != 1 {
		h.t.Fatalf("accounts: %v, %v", found, err)
	}
	text, err := os.ReadFile(found[0])
	if err != nil {
		h.t.Fatal(err)
	}
	return string(text)
}

func TestForgottenAccountIsMadeAnew(t *testing.T) {
	h := newCertHost(t, lab.ACMEOptions{})
	h.mustRun(nil, resources.Create)
	account := h.account()
	found, err := filepath.Glob(filepath.Join(h.dir, "state/acme_certificate/accounts/*/account.json"))
	if err != nil {
		t.Fatal(err)
	}
	bogus := strings.Replace(account, "/my-account/", "/my-account/bogus", 1)
	if bogus == account {
		t.Fatalf("no account in %s", account)
	}
	if err := os.WriteFile(found[0], []byte(bogus), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.RemoveAll(filepath.Join(h.dir, "certificate")); err != nil {
		t.Fatal(err)
	}
	h.mustRun(nil, resources.Create)
	if h.account() != account {
		t.Errorf("got %s, want the account of the key, %s", h.account(), account)
	}
}

func TestProfileAndExternalAccount(t *testing.T) {
	const key = "zWNDZM6eQGHWpSRTPal5eIUYFTu7EajVIoguysqZ9wG44nMEtx3MUAsUDkMTQ12W"
	h := newCertHost(t, lab.ACMEOptions{
		Profiles:         map[string]time.Duration{"default": 90 * 24 * time.Hour, "shortlived": 6 * 24 * time.Hour},
		ExternalAccounts: map[string]string{"kid-1": key},
	})
	_, err := h.run(nil)
	if err == nil || !strings.Contains(diag.Fix(err), "eab {") {
		t.Fatalf("without an external account: %v, fix %q", err, diag.Fix(err))
	}
	more := map[string]cty.Value{
		"profile": cty.StringVal("shortlived"),
		"eab":     cty.ObjectVal(map[string]cty.Value{"key_id": cty.StringVal("kid-1"), "hmac_key": secret.New(key).Value()}),
	}
	h.mustRun(more, resources.Create)
	if leaf := h.leaf(); leaf.NotAfter.Sub(leaf.NotBefore) > 7*24*time.Hour {
		t.Errorf("it lasts from %s to %s", leaf.NotBefore, leaf.NotAfter)
	}
	h.mustRun(more, resources.None)
	more["profile"] = cty.StringVal("classic")
	if _, err := h.run(more); err == nil || !strings.Contains(diag.Fix(err), "Correct profile") {
		t.Errorf("a profile that does not exist: %v, fix %q", err, diag.Fix(err))
	}
}

// TestRefusals lets the authority find what goes wrong in practice, and checks what the admin is told.
func TestRefusals(t *testing.T) {
	other := httptest.NewServer(http.NotFoundHandler())
	defer other.Close()
	for _, c := range []struct {
		name, kind, fix string
		options         lab.ACMEOptions
		domain          string
	}{
		{"no address", "connection", "Let port 80 of this host be reached from the internet, and check that the A and AAAA records of files.converge.test", lab.ACMEOptions{Resolve: map[string]string{"other.test": "127.0.0.1"}}, mediaName},
		{"port closed", "connection", "Let port 80 of this host be reached", lab.ACMEOptions{HTTPPort: nginxtest.FreePort(t)}, mediaName},
		{"another server", "unauthorized", "Another server answered", lab.ACMEOptions{HTTPPort: other.Listener.Addr().(*net.TCPAddr).Port}, mediaName},
	} {
		t.Run(c.name, func(t *testing.T) {
			h := newCertHost(t, c.options)
			_, err := h.run(nil)
			var refusal *acme.Refusal
			if !errors.As(err, &refusal) || refusal.Type != c.kind || !strings.HasPrefix(diag.Fix(err), c.fix) {
				t.Fatalf("got %v, fix %q; want %s, %q", err, diag.Fix(err), c.kind, c.fix)
			}
			if w, err := h.run(nil); err != nil || w.Action != resources.Wait {
				t.Errorf("the next run: %s %q, %v; want it to wait", w.Action, w.Summary, err)
			}
			if _, err := os.Lstat(filepath.Join(h.dir, "certificate/live")); !errors.Is(err, os.ErrNotExist) {
				t.Errorf("live: %v", err)
			}
		})
	}
}

func TestAuthorityThatIsNone(t *testing.T) {
	h := newCertHost(t, lab.ACMEOptions{})
	web := httptest.NewUnstartedServer(http.NotFoundHandler())
	web.Config.ErrorLog = log.New(io.Discard, "", 0) // the handshake that is to fail
	web.StartTLS()
	defer web.Close()
	for _, c := range []struct {
		name, fix string
		more      map[string]cty.Value
	}{
		{"unreachable", "Check that this host can reach the authority", map[string]cty.Value{
			"directory_url": cty.StringVal(fmt.Sprintf("https://127.0.0.1:%d/dir", nginxtest.FreePort(t))),
		}},
		{"no such name", "Check directory_url, and the name servers", map[string]cty.Value{
			"directory_url": cty.StringVal("https://acme.invalid/dir"),
		}},
		{"no directory", "Check directory_url", map[string]cty.Value{"directory_url": cty.StringVal(h.acme.DirectoryURL + "x")}},
		{"not trusted", "If this is an authority of your own, write ca_file", map[string]cty.Value{"directory_url": cty.StringVal(web.URL)}},
	} {
		t.Run(c.name, func(t *testing.T) {
			_, err := h.run(c.more)
			if err == nil || !strings.HasPrefix(diag.Fix(err), c.fix) {
				t.Errorf("got %v, fix %q; want %q", err, diag.Fix(err), c.fix)
			}
			if next := h.plan(h.resource(c.more)); next.Action != resources.Create {
				t.Errorf("the next run: %s %q, want to try again", next.Action, next.Summary)
			}
		})
	}
}

func TestCancelledIssuanceEndsSoon(t *testing.T) {
	h := newCertHost(t, lab.ACMEOptions{})
	ctx, cancel := context.WithCancel(t.Context())
	asked := make(chan struct{})
	stuck := httptest.NewUnstartedServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		close(asked)
		<-r.Context().Done()
	}))
	stuck.StartTLS()
	defer stuck.Close()
	r := h.resource(map[string]cty.Value{"directory_url": cty.StringVal(stuck.URL), "ca_file": cty.StringVal(pemOf(t, stuck))})
	done := make(chan error, 1)
	go func() { done <- r.Apply(ctx, h.env(), h.plan(r)) }()
	<-asked
	cancel()
	select {
	case err := <-done:
		if !errors.Is(err, context.Canceled) {
			t.Errorf("got %v", err)
		}
	case <-time.After(5 * time.Minute):
		t.Fatal("it went on for minutes")
	}
	if nginxtest.Answers(h.port) {
		t.Error("the listener for challenges stayed open")
	}
}

// pemOf writes the certificate of a test server to a file.
func pemOf(t *testing.T, s *httptest.Server) string {
	t.Helper()
	file := filepath.Join(t.TempDir(), "server.pem")
	text := pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: s.Certificate().Raw})
	if err := os.WriteFile(file, text, 0o644); err != nil {
		t.Fatal(err)
	}
	return file
}
