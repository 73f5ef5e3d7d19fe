package browser

import (
	"bytes"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"fmt"
	"image/color"
	"image/png"
	"math/big"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"
)

// A page whose own host is web.test and whose pictures are at files.test, as with an instance and its media.
const (
	web   = "192.0.2.1"
	files = "192.0.2.2"
)

var hosts = map[string]string{
	"web.test": web, "files.test": files,
	"stranger.test": "192.0.2.3", "misnamed.test": "192.0.2.4", "expired.test": "192.0.2.5", "plain.test": "192.0.2.6",
}

func TestGoodPage(t *testing.T) {
	t.Parallel()
	p := load(t, shared(t), "https://web.test/good")
	if p.Title != "All is well" || p.Status != http.StatusOK {
		t.Errorf("title %q and status %d, want %q and 200", p.Title, p.Status, "All is well")
	}
	if problems := p.Problems(); len(problems) > 0 || len(p.Console) > 0 {
		t.Errorf("problems %q and console %q of a page without a fault", problems, p.Console)
	}
	want := []Image{
		{URL: "https://files.test/a.png", Width: 30, Height: 20, Status: 200, Complete: true},
		{URL: "https://web.test/old/a.png", Width: 30, Height: 20, Status: 200, Complete: true},
		{URL: "https://files.test/b.svg#part", Width: 40, Height: 50, Status: 200, Complete: true},
		{URL: "https://files.test/lazy.png", Width: 30, Height: 20, Status: 200, Complete: true},
		{URL: "https://files.test/script.png", Width: 30, Height: 20, Status: 200, Complete: true},
	}
	if !slices.Equal(p.Images, want) {
		t.Errorf("images\n%+v\nwant\n%+v", p.Images, want)
	}
	picture, err := png.Decode(bytes.NewReader(p.Screenshot))
	if err != nil {
		t.Fatalf("decoding the screenshot: %v", err)
	}
	if size := picture.Bounds().Size(); size.X < 1000 || size.Y < 20000 {
		t.Errorf("the screenshot has %v pixels, want the whole page", size)
	}
	if got := color.RGBAModel.Convert(picture.At(10, 10)); got != red {
		t.Errorf("the first picture has the colour %v, want %v", got, red)
	}
}

// Each fault must come to light, and where it is the browser's complaint or a picture, as a problem.
func TestFaults(t *testing.T) {
	t.Parallel()
	for path, want := range map[string]struct {
		problems []string // parts of different problems
		console  string   // part of a line
	}{
		"missing-image": {problems: []string{"image https://web.test/none.png: broken (HTTP status 404)", "404"}, console: "404"},
		"missing-media": {problems: []string{"image https://files.test/none.png: broken (HTTP status 404)", "ERR_BLOCKED_BY_ORB"}, console: "404"},
		"not-an-image":  {problems: []string{"image https://web.test/good: broken (HTTP status 200)"}},
		"lazy-missing":  {problems: []string{"image https://files.test/none.png: broken (HTTP status 404)", "404"}, console: "404"},
		"csp":           {problems: []string{"image https://files.test/a.png: broken (HTTP status 0)", "Content Security Policy"}, console: "img-src"},
		"csp-script":    {problems: []string{"Content Security Policy"}, console: "script-src"},
		"cors":          {problems: []string{"blocked by CORS policy", "Failed to load"}, console: "https://files.test/private.json"},
		"mixed-image":   {problems: []string{"Mixed Content"}, console: "http://files.test/a.png"},
		"mixed-script":  {problems: []string{"Mixed Content"}, console: "http://files.test/a.js"},
		"failed-fetch":  {problems: []string{"503"}, console: "https://web.test/fails"},
		"unknown-host":  {problems: []string{"image https://unknown.test/a.png: broken (HTTP status 0)", "ERR_TUNNEL_CONNECTION_FAILED"}},
		"untrusted":     {problems: []string{"image https://stranger.test/a.png: broken (HTTP status 0)", "ERR_CERT_AUTHORITY_INVALID"}},
		"console-error": {console: `console.error: "it went wrong" 7`},
		"exception":     {console: "uncaught exception: Error: it broke"},
		"no-favicon":    {console: "https://plain.test/favicon.ico"},
	} {
		t.Run(path, func(t *testing.T) {
			t.Parallel()
			p := load(t, shared(t), "https://web.test/"+path)
			problems := p.Problems()
			for _, part := range want.problems {
				if !slices.ContainsFunc(problems, func(s string) bool { return strings.Contains(s, part) }) {
					t.Errorf("no problem says %q: %q", part, problems)
				}
			}
			if len(problems) != len(want.problems) {
				t.Errorf("%d problems, want %d: %q", len(problems), len(want.problems), problems)
			}
			if !slices.ContainsFunc(p.Console, func(s string) bool { return strings.Contains(s, want.console) }) && want.console != "" {
				t.Errorf("no line of the console says %q: %q", want.console, p.Console)
			}
		})
	}
}

// A page that is an error is a page. One that cannot be had, or by whom nobody knows, is an error.
func TestPageItself(t *testing.T) {
	t.Parallel()
	p := load(t, shared(t), "https://web.test/nothing-here")
	if p.Status != http.StatusNotFound || len(p.Problems()) != 1 {
		t.Errorf("status %d and problems %q of a page that does not exist", p.Status, p.Problems())
	}
	for url, want := range map[string]string{
		"https://stranger.test/good": "ERR_CERT_AUTHORITY_INVALID",
		"https://misnamed.test/good": "ERR_CERT_COMMON_NAME_INVALID",
		"https://expired.test/good":  "ERR_CERT_DATE_INVALID",
		"https://unknown.test/good":  "ERR_TUNNEL_CONNECTION_FAILED",
		"https://127.0.0.1/good":     "ERR_TUNNEL_CONNECTION_FAILED",
		"http://unknown.test/good":   "ERR_EMPTY_RESPONSE",
		"http://127.0.0.1/good":      "ERR_EMPTY_RESPONSE",
	} {
		_, err := shared(t).Load(t.Context(), url)
		if err == nil || !strings.Contains(err.Error(), want) || !strings.Contains(err.Error(), url) {
			t.Errorf("loading %s: %v, want %s", url, err, want)
		}
	}
}

func TestPlainHTTP(t *testing.T) {
	t.Parallel()
	if p := load(t, shared(t), "http://plain.test/good-plain"); p.Title != "Plain" || p.Status != http.StatusOK || len(p.Problems()) > 0 {
		t.Errorf("title %q, status %d, problems %q", p.Title, p.Status, p.Problems())
	}
}

// Every visitor is new: a picture is asked for again.
func TestEachLoadIsAVisitorOfItsOwn(t *testing.T) {
	t.Parallel()
	for range 2 {
		if p := load(t, shared(t), "https://web.test/visitor"); p.Title != "new" {
			t.Fatalf("the page says that the visitor is %q", p.Title)
		}
	}
}

func TestWhatNeverEnds(t *testing.T) {
	t.Parallel()
	b := open(t, 30*time.Second)
	problems := load(t, b, "https://web.test/endless").Problems()
	want := []string{"image https://files.test/endless.png: still loading", "still loading: https://files.test/endless.png"}
	if !slices.Equal(problems, want) {
		t.Errorf("problems %q, want %q", problems, want)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := b.Load(ctx, "https://web.test/good"); err == nil || !strings.Contains(err.Error(), context.Canceled.Error()) {
		t.Errorf("loading without time: %v", err)
	}
}

func TestCloseLeavesNothing(t *testing.T) {
	t.Parallel()
	b := open(t, 0)
	load(t, b, "https://web.test/good")
	if running, err := using(b.dir); err != nil || len(running) < 3 {
		t.Fatalf("of a running browser only the processes %v were found (%v)", running, err)
	}
	if err := b.Close(); err != nil {
		t.Fatal(err)
	}
	if running, err := using(b.dir); err != nil || len(running) > 0 {
		t.Errorf("still running: %v (%v)", running, err)
	}
	if _, err := os.Stat(b.dir); !os.IsNotExist(err) {
		t.Errorf("%s is still there: %v", b.dir, err)
	}
	if _, err := b.Load(t.Context(), "https://web.test/good"); err == nil {
		t.Error("a browser that was closed loads pages")
	}
}

func TestOpenFails(t *testing.T) {
	t.Parallel()
	if _, err := Open(t.Context(), Options{CAPEM: []string{"no certificate"}}); err == nil || !strings.Contains(err.Error(), "PEM") {
		t.Errorf("opening with a broken authority: %v", err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := Open(ctx, Options{}); err == nil || !strings.Contains(err.Error(), context.Canceled.Error()) {
		t.Errorf("opening without time: %v", err)
	}
}

// shared is one browser for all tests, which also shows that they don't disturb each other.
func shared(t *testing.T) *Browser {
	t.Helper()
	b, err := sharedBrowser()
	if err != nil {
		t.Fatal(err)
	}
	return b
}

var sharedBrowser = sync.OnceValues(func() (*Browser, error) { return Open(context.Background(), testOptions()) })

func TestMain(m *testing.M) {
	code := m.Run()
	if b, err := sharedBrowser(); err == nil {
		if err := b.Close(); err != nil {
			fmt.Fprintln(os.Stderr, err)
			code = 1
		}
	}
	os.Exit(code)
}

func open(t *testing.T, patience time.Duration) *Browser {
	t.Helper()
	o := testOptions()
	o.Patience = patience
	b, err := Open(t.Context(), o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = b.Close() })
	return b
}

func load(t *testing.T, b *Browser, url string) Page {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 5*time.Minute)
	defer cancel()
	p, err := b.Load(ctx, url)
	if err != nil {
		t.Fatal(err)
	}
	return p
}

// testOptions are those of a browser that reaches one server, which has all the pages and a certificate for each name.
var testOptions = sync.OnceValue(func() Options {
	ours, theirs := newAuthority(), newAuthority()
	now := time.Now()
	certificates := map[string]*tls.Certificate{
		"web.test":      ours.issue("web.test", now.Add(time.Hour)),
		"files.test":    ours.issue("files.test", now.Add(time.Hour)),
		"misnamed.test": ours.issue("other.test", now.Add(time.Hour)),
		"expired.test":  ours.issue("expired.test", now.Add(-time.Hour)),
		"stranger.test": theirs.issue("stranger.test", now.Add(time.Hour)),
	}
	secure := httptest.NewUnstartedServer(http.HandlerFunc(serve))
	secure.TLS = &tls.Config{GetCertificate: func(hello *tls.ClientHelloInfo) (*tls.Certificate, error) {
		if c, ok := certificates[hello.ServerName]; ok {
			return c, nil
		}
		return nil, fmt.Errorf("no certificate for %q", hello.ServerName)
	}}
	secure.Config.ErrorLog = silent
	secure.StartTLS()
	plain := httptest.NewServer(http.HandlerFunc(serve))
	servers := map[string]string{"443": secure.Listener.Addr().String(), "80": plain.Listener.Addr().String()}
	return Options{
		Hosts: hosts,
		CAPEM: []string{ours.pem},
		Dial: func(ctx context.Context, network, addr string) (net.Conn, error) {
			ip, port, err := net.SplitHostPort(addr)
			if err != nil {
				return nil, err
			}
			if ip == hosts["plain.test"] && port != "80" {
				return nil, fmt.Errorf("nobody listens on %s", addr)
			}
			return new(net.Dialer).DialContext(ctx, network, servers[port])
		},
	}
})

// An authority like the lab's.
type authority struct {
	cert *x509.Certificate
	key  *ecdsa.PrivateKey
	pem  string
}

func newAuthority() *authority {
	key := must(ecdsa.GenerateKey(elliptic.P256(), rand.Reader))
	template := &x509.Certificate{
		SerialNumber: must(rand.Int(rand.Reader, big.NewInt(1<<62))),
		NotBefore:    time.Now().Add(-24 * time.Hour), NotAfter: time.Now().Add(24 * time.Hour),
		KeyUsage: x509.KeyUsageCertSign, BasicConstraintsValid: true, IsCA: true,
	}
	template.Subject.CommonName = "test authority " + template.SerialNumber.String()
	der := must(x509.CreateCertificate(rand.Reader, template, template, key.Public(), key))
	return &authority{must(x509.ParseCertificate(der)), key, string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}))}
}

func (a *authority) issue(name string, until time.Time) *tls.Certificate {
	key := must(ecdsa.GenerateKey(elliptic.P256(), rand.Reader))
	template := &x509.Certificate{
		SerialNumber: must(rand.Int(rand.Reader, big.NewInt(1<<62))),
		NotBefore:    time.Now().Add(-12 * time.Hour), NotAfter: until,
		KeyUsage: x509.KeyUsageDigitalSignature, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth},
		DNSNames: []string{name},
	}
	der := must(x509.CreateCertificate(rand.Reader, template, a.cert, key.Public(), a.key))
	return &tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key}
}

func must[T any](value T, err error) T {
	if err != nil {
		panic(err)
	}
	return value
}
