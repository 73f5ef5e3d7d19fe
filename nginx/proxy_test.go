package nginx_test

import (
	"bufio"
	"bytes"
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/converge-agent/converge/nginx"
	"github.com/converge-agent/converge/nginx/nginxtest"
)

// proxy is a media proxy on a real nginx, before a store.
type proxy struct {
	*store
	server *nginxtest.Server
	site   nginx.Site
	local  string // the directory of the fallback, whether used or not
	roots  *x509.CertPool
	tls    int // its port
}

const frontName = "files.test"

// newProxy starts a proxy; change may alter the site before.
func newProxy(t *testing.T, change func(p *proxy)) *proxy {
	t.Helper()
	dir := t.TempDir()
	ca := nginxtest.NewCA(t, dir)
	front := ca.Issue(t, filepath.Join(dir, "front"), frontName)
	p := &proxy{
		store:  newStore(t, ca.Issue(t, filepath.Join(dir, "back"), "bucket.s3.test")),
		server: nginxtest.New(t, dir),
		local:  filepath.Join(dir, "public/system"),
		roots:  ca.Pool,
		tls:    nginxtest.FreePort(t),
	}
	plain := nginxtest.FreePort(t)
	p.site = nginx.Site{
		ServerName: frontName, Webroot: filepath.Join(dir, "webroot"),
		Listen:      []nginx.Listen{{Address: "127.0.0.1", Port: plain}, {Address: "127.0.0.1", Port: p.tls, TLS: true}},
		Certificate: front.CertFile, Key: front.KeyFile,
		Proxy: &nginx.MediaProxy{
			Backend: "https://bucket.s3.test:" + p.port(), Resolvers: []string{nameServer(t)}, CAFile: ca.File,
			CachePath: cacheDir(t), CacheSize: 100 << 20, Inactive: time.Hour,
		},
		Build: installed(t, p.server),
	}
	if change != nil {
		change(p)
	}
	p.server.WriteSite(t, frontName, string(render(t, p.site)))
	p.server.Start(t, p.tls)
	return p
}

// cacheDir is a directory for a cache. t.TempDir() lies in /tmp, where a site refuses to have one.
func cacheDir(t *testing.T) string {
	t.Helper()
	dir, err := os.MkdirTemp("/var/tmp", "converge-cache-")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.RemoveAll(dir) })
	return dir
}

func installed(t *testing.T, s *nginxtest.Server) nginx.Build {
	t.Helper()
	out, err := s.Command(t.Context(), "-V").CombinedOutput()
	if err != nil {
		t.Fatalf("run nginx -V: %v (install it: apt-get install nginx-light)", err)
	}
	b, err := nginx.ParseBuild(string(out))
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func render(t *testing.T, s nginx.Site) []byte {
	t.Helper()
	text, err := s.Render()
	if err != nil {
		t.Fatal(err)
	}
	return text
}

// answer is a response, read to its end.
type answer struct {
	*http.Response
	body []byte
}

// do sends the path as it stands, which net/http's client would not.
func (p *proxy) do(t *testing.T, method, path string, header ...string) answer {
	t.Helper()
	return p.doFrom(t, "127.0.0.1", method, path, header...)
}

// doFrom is do from another address of this host.
func (p *proxy) doFrom(t *testing.T, from, method, path string, header ...string) answer {
	t.Helper()
	dialer := &net.Dialer{LocalAddr: &net.TCPAddr{IP: net.ParseIP(from)}}
	conn, err := tls.DialWithDialer(dialer, "tcp", fmt.Sprintf("127.0.0.1:%d", p.tls), &tls.Config{RootCAs: p.roots, ServerName: frontName})
	if err != nil {
		t.Fatalf("%s %s: %v\n%s", method, path, err, p.server.Log(t))
	}
	defer func() { _ = conn.Close() }()
	text := method + " " + path + " HTTP/1.1\r\nHost: " + frontName + "\r\nConnection: close\r\n"
	for i := 0; i < len(header); i += 2 {
		text += header[i] + ": " + header[i+1] + "\r\n"
	}
	if _, err := io.WriteString(conn, text+"\r\n"); err != nil {
		t.Fatalf("%s %s: %v", method, path, err)
	}
	res, err := http.ReadResponse(bufio.NewReader(conn), &http.Request{Method: method})
	if err != nil {
		t.Fatalf("%s %s: %v\n%s", method, path, err, p.server.Log(t))
	}
	body, err := io.ReadAll(res.Body)
	if err != nil {
		t.Fatalf("%s %s: read the body: %v", method, path, err)
	}
	_ = res.Body.Close()
	return answer{res, body}
}

func (p *proxy) expect(t *testing.T, path string, status int, body, cache string) answer {
	t.Helper()
	a := p.do(t, "GET", path)
	if a.StatusCode != status || body != "" && string(a.body) != body || cache != "" && a.Header.Get("X-Cache-Status") != cache {
		t.Fatalf("GET %s: got %d %q, X-Cache-Status %q; want %d %q %q\n%s", path, a.StatusCode, clip(a.body),
			a.Header.Get("X-Cache-Status"), status, clip([]byte(body)), cache, p.server.Log(t))
	}
	return a
}

func clip(b []byte) string { return string(b[:min(len(b), 200)]) }

func TestProxyCachesByPathAlone(t *testing.T) {
	p := newProxy(t, nil)
	p.put("/media/a.png", []byte("picture"))
	p.expect(t, "/media/a.png?x=1", 200, "picture", "MISS")
	p.expect(t, "/media/a.png?x=2", 200, "picture", "HIT")
	p.expect(t, "/media/a.png", 200, "picture", "HIT")
	head := p.do(t, "HEAD", "/media/a.png")
	if head.StatusCode != http.StatusOK || head.ContentLength != 7 || head.Header.Get("X-Cache-Status") != "HIT" {
		t.Errorf("HEAD: got %d, length %d, %q", head.StatusCode, head.ContentLength, head.Header.Get("X-Cache-Status"))
	}
	if n := len(p.requests()); n != 1 {
		t.Errorf("the store saw %d requests, want 1", n)
	}
	if got := p.last(t).URI; got != "/media/a.png" {
		t.Errorf("the store saw %s, want no arguments", got)
	}
}

func TestProxyIsWhatTheStoreNeeds(t *testing.T) {
	p := newProxy(t, nil)
	p.put("/a.png", []byte("x"))
	a := p.do(t, "GET", "/a.png", "Authorization", "Bearer secret", "Cookie", "session=1", "Origin", "https://x.example",
		"Accept-Encoding", "br", "X-Amz-Date", "now", "Content-Length", "0")
	if a.StatusCode != http.StatusOK {
		t.Fatalf("got %d\n%s", a.StatusCode, p.server.Log(t))
	}
	got := p.last(t)
	if want := "bucket.s3.test:" + p.port(); got.Host != want {
		t.Errorf("Host %q, want %q", got.Host, want)
	}
	if got.SNI != "bucket.s3.test" {
		t.Errorf("SNI %q, want bucket.s3.test", got.SNI)
	}
	if got.Proto != "HTTP/1.1" {
		t.Errorf("protocol %q, want HTTP/1.1", got.Proto)
	}
	for name := range got.Header {
		if name != "Range" && name != "User-Agent" {
			t.Errorf("the store saw the header %s: %q", name, got.Header[name])
		}
	}
}

func TestProxySetsItsHeadersOnceAndAlways(t *testing.T) {
	p := newProxy(t, nil)
	p.put("/a.png", []byte("x"))
	for _, c := range []struct {
		method, path, caching string
		status                int
	}{
		{"GET", "/a.png", "public, max-age=31536000, immutable", 200},
		{"HEAD", "/a.png", "public, max-age=31536000, immutable", 200},
		{"GET", "/none.png", "no-store", 404},
		{"GET", "/backups/x", "no-store", 404},
		{"GET", "/", "no-store", 404},
		{"PUT", "/a.png", "no-store", 405},
		{"OPTIONS", "/a.png", "no-store", 405},
	} {
		a := p.do(t, c.method, c.path, "Origin", "https://x.example")
		if a.StatusCode != c.status {
			t.Errorf("%s %s: got %d, want %d", c.method, c.path, a.StatusCode, c.status)
		}
		for name, want := range map[string]string{
			"Access-Control-Allow-Origin": "*", "X-Content-Type-Options": "nosniff", "Cache-Control": c.caching,
			"Content-Security-Policy": "default-src 'none'; form-action 'none'",
		} {
			if got := a.Header.Values(name); len(got) != 1 || got[0] != want {
				t.Errorf("%s %s: %s is %q, want %q once", c.method, c.path, name, got, want)
			}
		}
		for _, name := range []string{"Set-Cookie", "X-Amz-Request-Id", "X-Amz-Id-2", "Vary", "Expires"} {
			if got := a.Header.Values(name); len(got) > 0 {
				t.Errorf("%s %s: %s reached the client: %q", c.method, c.path, name, got)
			}
		}
	}
}

func TestProxyKeepsTheEncodingOfKeys(t *testing.T) {
	p := newProxy(t, nil)
	for _, key := range []string{"/a%20b.png", "/q%3Fz.png", "/pct%2525.png", "/files/@1x/c.png", "/plus+%2B.png", "/%C3%A9.png", "/semi;colon.png"} {
		p.put(key, []byte(key))
		p.expect(t, key, 200, key, "MISS")
		if got := p.last(t).URI; got != key {
			t.Errorf("the store saw %s, want %s", got, key)
		}
	}
}

func TestProxyRefuses(t *testing.T) {
	p := newProxy(t, func(p *proxy) { p.site.Proxy.LocalFallback = p.local })
	secret := []byte("secret archive")
	p.put("/backups/dumps/a.tar.gz", secret)
	p.put("/imports/data/a.csv", secret)
	p.put("/x/../backups/dumps/a.tar.gz", secret)
	for _, dir := range []string{"backups/dumps", "imports/data"} {
		writeFile(t, filepath.Join(p.local, dir, "a.tar.gz"), string(secret))
		writeFile(t, filepath.Join(p.local, dir, "a.csv"), string(secret))
	}
	for _, path := range []string{
		"/", "/?list-type=2", "//", "//?list-type=2", "/?max-keys=1&x-random=1", "/%2F", "/.", "/x/..", "/x/%2e%2e/?list-type=2", "/%2e/",
		"/backups/dumps/a.tar.gz", "/imports/data/a.csv", "//backups/dumps/a.tar.gz", "/%62ackups/dumps/a.tar.gz",
		"/backups%2Fdumps%2Fa.tar.gz", "/x/../backups/dumps/a.tar.gz", "/x/%2e%2e/backups/dumps/a.tar.gz",
		"/x/..%2fbackups/dumps/a.tar.gz", "/x%2f..%2fbackups/dumps/a.tar.gz", "/./backups/dumps/a.tar.gz",
		"/%2e/backups/dumps/a.tar.gz", "/%2Fbackups/dumps/a.tar.gz", "/backups//dumps/a.tar.gz", "/%69mports/data/a.csv",
		"/x/../../other-bucket/key", "/x/../other/key.png", "/x/%2E%2e/other/key.png", "/./key.png", "/x/%2e/key.png", "/x//key.png", "/a/..", "/a/%2E%2E",
	} {
		a := p.do(t, "GET", path)
		if a.StatusCode < 400 || bytes.Contains(a.body, secret) || bytes.Contains(a.body, []byte("ListBucketResult")) {
			t.Errorf("GET %s: got %d %q", path, a.StatusCode, clip(a.body))
		}
	}
	for _, s := range p.requests() {
		t.Errorf("%s %s reached the store", s.Method, s.URI)
	}
	p.put("/a.png", []byte("x"))
	writeFile(t, filepath.Join(p.local, "a.png"), "x")
	for _, method := range []string{"PUT", "POST", "DELETE", "PATCH", "OPTIONS", "COPY", "PROPFIND"} {
		if a := p.do(t, method, "/a.png"); a.StatusCode != http.StatusMethodNotAllowed {
			t.Errorf("%s: got %d, want 405", method, a.StatusCode)
		}
	}
	if n := len(p.requests()); n != 0 {
		t.Errorf("%d refused requests reached the store", n)
	}
}

func writeFile(t *testing.T, path, content string) {
	t.Helper()
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, []byte(content), 0o644); err != nil {
		t.Fatal(err)
	}
}

func TestProxyRangesComeInSlices(t *testing.T) {
	p := newProxy(t, nil)
	video := bytes.Repeat([]byte("0123456789abcdef"), 3<<20/16)
	p.put("/v.mp4", video)
	a := p.do(t, "GET", "/v.mp4", "Range", "bytes=2097152-2097160")
	if a.StatusCode != http.StatusPartialContent || !bytes.Equal(a.body, video[2097152:2097161]) || a.Header.Get("Content-Range") != "bytes 2097152-2097160/3145728" {
		t.Fatalf("got %d %q %q", a.StatusCode, a.body, a.Header.Get("Content-Range"))
	}
	if got := p.last(t).Header.Get("Range"); got != "bytes=2097152-3145727" {
		t.Errorf("the store was asked for %q, want the one slice", got)
	}
	if whole := p.do(t, "GET", "/v.mp4"); whole.StatusCode != http.StatusOK || !bytes.Equal(whole.body, video) {
		t.Errorf("the whole: got %d, %d bytes", whole.StatusCode, len(whole.body))
	}
	if n := len(p.requests()); n != 3 {
		t.Errorf("the store saw %d requests, want one for each of 3 slices", n)
	}
	p.mu.Lock()
	p.noRanges = true // a store that does not know Range
	p.mu.Unlock()
	p.put("/w.mp4", video)
	if whole := p.do(t, "GET", "/w.mp4"); whole.StatusCode != http.StatusOK || !bytes.Equal(whole.body, video) {
		t.Errorf("without ranges at the store: got %d, %d bytes\n%s", whole.StatusCode, len(whole.body), p.server.Log(t))
	}
}

func TestProxyRefusesABackendThatIsNotTrusted(t *testing.T) {
	other := nginxtest.NewCA(t, t.TempDir())
	p := newProxy(t, func(p *proxy) { p.site.Proxy.CAFile = other.File })
	p.put("/a.png", []byte("x"))
	p.expect(t, "/a.png", 502, "", "")
	if n := len(p.requests()); n != 0 {
		t.Errorf("%d requests reached a store that is not trusted", n)
	}
}

func TestProxyRefusesABackendOfAnotherName(t *testing.T) {
	p := newProxy(t, func(p *proxy) {
		p.site.Proxy.Backend = strings.Replace(p.site.Proxy.Backend, "bucket.s3.test", "imposter.test", 1)
	})
	p.put("/a.png", []byte("x"))
	p.expect(t, "/a.png", 502, "", "")
}

func TestProxyConnectsToTheAddressOfHosts(t *testing.T) {
	p := newProxy(t, func(p *proxy) {
		p.site.Proxy.Address, p.site.Proxy.Resolvers = "127.0.0.1", nil
		p.site.Proxy.Backend += "/bucket"
	})
	p.put("/a.png", []byte("x"))
	p.expect(t, "/a.png", 200, "x", "MISS")
	got := p.last(t)
	if got.SNI != "bucket.s3.test" || got.URI != "/bucket/a.png" || !strings.HasPrefix(got.Host, "bucket.s3.test:") {
		t.Errorf("the store saw %+v", got)
	}
}

func TestProxyFallsBackToLocalFiles(t *testing.T) {
	p := newProxy(t, func(p *proxy) { p.site.Proxy.LocalFallback = p.local })
	writeFile(t, filepath.Join(p.local, "both.png"), "local")
	writeFile(t, filepath.Join(p.local, "local.png"), "local")
	writeFile(t, filepath.Join(p.local, "a b.png"), "local")
	writeFile(t, filepath.Join(p.local, "../secret.txt"), "secret")
	if err := os.Symlink("../secret.txt", filepath.Join(p.local, "link.png")); err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink("..", filepath.Join(p.local, "dir")); err != nil {
		t.Fatal(err)
	}
	p.put("/both.png", []byte("bucket"))
	p.expect(t, "/both.png", 200, "bucket", "MISS")
	a := p.expect(t, "/local.png", 200, "local", "")
	if got := a.Header.Values("Access-Control-Allow-Origin"); len(got) != 1 || got[0] != "*" {
		t.Errorf("from disk: ACAO %q", got)
	}
	if got := a.Header.Get("Content-Type"); got != "image/png" {
		t.Errorf("from disk: Content-Type %q", got)
	}
	p.expect(t, "/a%20b.png", 200, "local", "")
	p.expect(t, "/none.png", 404, "", "")
	p.expect(t, "/link.png", 404, "", "")
	p.expect(t, "/dir/secret.txt", 404, "", "")
	for status, missing := range map[int]int{403: 403, 429: 503, 500: 503, 502: 503, 503: 503, 504: 503} {
		p.failWith(status)
		p.expect(t, fmt.Sprintf("/local.png?%d", status), 200, "local", "")
		p.expect(t, fmt.Sprintf("/none-%d.png", status), missing, "", "")
	}
}

// TestLaw3WhatWasDeletedIsNotServedFromDisk: once the media have moved, the old disk is not asked any more.
func TestLaw3WhatWasDeletedIsNotServedFromDisk(t *testing.T) {
	p := newProxy(t, func(p *proxy) {
		p.site.Proxy.LocalFallback, p.site.Proxy.FallbackUntil = p.local, filepath.Join(p.local, "moved")
	})
	writeFile(t, filepath.Join(p.local, "deleted.png"), "local")
	p.expect(t, "/deleted.png", 200, "local", "")
	writeFile(t, filepath.Join(p.local, "moved"), "")
	for status, want := range map[int]int{0: 404, 403: 403, 404: 404, 500: 503} {
		name := fmt.Sprintf("deleted-%d.png", status) // one each: what is missing is cached for a minute
		writeFile(t, filepath.Join(p.local, name), "local")
		p.failWith(status)
		p.expect(t, "/"+name, want, "", "")
	}
}

func TestProxyFallsBackWhenTheStoreIsDown(t *testing.T) {
	p := newProxy(t, func(p *proxy) { p.site.Proxy.LocalFallback = p.local })
	writeFile(t, filepath.Join(p.local, "a.png"), "local")
	p.put("/cached.png", []byte("bucket"))
	p.expect(t, "/cached.png", 200, "bucket", "MISS")
	p.Close()
	p.expect(t, "/a.png", 200, "local", "")
	p.expect(t, "/cached.png", 200, "bucket", "HIT")
	p.expect(t, "/none.png", 503, "", "")
}

// briefly makes cached objects due again after a second.
func briefly(t *testing.T, p *proxy) string {
	t.Helper()
	return strings.Replace(string(render(t, p.site)), "proxy_cache_valid 200 206 48h", "proxy_cache_valid 200 206 1s", 1)
}

func TestProxyForgetsWhatWasDeleted(t *testing.T) {
	for _, c := range []struct {
		name     string
		gone     int
		fallback bool
	}{{"a store that says 404", 0, false}, {"a store that says 403", 403, false}, {"with a fallback", 0, true}} {
		t.Run(c.name, func(t *testing.T) {
			p := newProxy(t, func(p *proxy) {
				if c.fallback {
					p.site.Proxy.LocalFallback = p.local
				}
			})
			p.server.WriteSite(t, frontName, briefly(t, p))
			p.server.Reload(t)
			p.put("/a.png", []byte("x"))
			p.expect(t, "/a.png", 200, "x", "MISS")
			p.remove("/a.png")
			p.failWith(c.gone)
			want := 404
			if c.gone != 0 {
				want = c.gone
			}
			nginxtest.Wait(t, "the deleted object goes", func() bool { return p.do(t, "GET", "/a.png").StatusCode == want })
			p.failWith(503)
			if a := p.do(t, "GET", "/a.png"); a.StatusCode == http.StatusOK {
				t.Error("the deleted object came back with an outage")
			}
		})
	}
}

func TestProxyServesWhatItHasInAnOutage(t *testing.T) {
	for _, c := range []struct {
		name   string
		status int
		b2     bool
	}{{"errors", 500, false}, {"unavailable", 503, false}, {"too many requests", 429, false}, {"a cap at Backblaze B2", 403, true}} {
		t.Run(c.name, func(t *testing.T) {
			p := newProxy(t, func(p *proxy) { p.site.Proxy.ForbiddenIsOutage = c.b2 })
			p.server.WriteSite(t, frontName, briefly(t, p))
			p.server.Reload(t)
			p.put("/a.png", []byte("x"))
			p.expect(t, "/a.png", 200, "x", "MISS")
			p.failWith(c.status)
			nginxtest.Wait(t, "the object is due", func() bool {
				a := p.expect(t, "/a.png", 200, "x", "")
				return a.Header.Get("X-Cache-Status") == "STALE"
			})
			p.failWith(0)
			a := p.expect(t, "/a.png", 200, "x", "")
			if got := a.Header.Get("X-Cache-Status"); got != "REVALIDATED" && got != "EXPIRED" {
				t.Errorf("after the outage: X-Cache-Status %q", got)
			}
		})
	}
}

func TestProxyRevalidatesInsteadOfFetching(t *testing.T) {
	p := newProxy(t, nil)
	p.server.WriteSite(t, frontName, briefly(t, p))
	p.server.Reload(t)
	p.put("/a.png", []byte("x"))
	p.expect(t, "/a.png", 200, "x", "MISS")
	nginxtest.Wait(t, "the object is asked for again", func() bool {
		return p.expect(t, "/a.png", 200, "x", "").Header.Get("X-Cache-Status") == "REVALIDATED"
	})
	if got := p.last(t).Header.Get("If-None-Match"); got != `"abc"` {
		t.Errorf("If-None-Match %q", got)
	}
}

func TestProxyFetchesOnceForMany(t *testing.T) {
	p := newProxy(t, nil)
	p.put("/slow.png", []byte("x"))
	gate := make(chan struct{})
	p.mu.Lock()
	p.gate = gate
	p.mu.Unlock()
	var clients sync.WaitGroup
	for range 5 {
		clients.Go(func() {
			if a := p.do(t, "GET", "/slow.png"); a.StatusCode != http.StatusOK {
				t.Errorf("got %d", a.StatusCode)
			}
		})
	}
	nginxtest.Wait(t, "a request reaches the store", func() bool { return len(p.requests()) > 0 })
	close(gate)
	clients.Wait()
	if n := len(p.requests()); n != 1 {
		t.Errorf("the store saw %d requests, want 1", n)
	}
}

func TestPlainPortAnswersChallengesAndRedirects(t *testing.T) {
	p := newProxy(t, nil)
	writeFile(t, filepath.Join(p.site.Webroot, ".well-known/acme-challenge/token"), "token.thumbprint")
	client := &http.Client{CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }}
	defer client.CloseIdleConnections()
	base := fmt.Sprintf("http://127.0.0.1:%d", p.site.Listen[0].Port)
	for _, c := range []struct {
		path, want string
		status     int
	}{
		{"/.well-known/acme-challenge/token", "token.thumbprint", 200},
		{"/.well-known/acme-challenge/none", "", 404},
		{"/a%20b.png?x=1", fmt.Sprintf("https://%s:%d/a%%20b.png?x=1", frontName, p.tls), 301},
	} {
		req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, base+c.path, nil)
		if err != nil {
			t.Fatal(err)
		}
		req.Host = frontName
		res, err := client.Do(req)
		if err != nil {
			t.Fatal(err)
		}
		body, err := io.ReadAll(res.Body)
		if err != nil {
			t.Fatal(err)
		}
		_ = res.Body.Close()
		got := string(body)
		if c.status == 301 {
			got = res.Header.Get("Location")
		}
		if res.StatusCode != c.status || c.want != "" && got != c.want {
			t.Errorf("GET %s: got %d %q, want %d %q", c.path, res.StatusCode, got, c.status, c.want)
		}
	}
}

func TestTwoProxiesShareNothing(t *testing.T) {
	p := newProxy(t, nil)
	other := p.site
	proxy := *p.site.Proxy
	proxy.CachePath = cacheDir(t)
	other.ServerName, other.Proxy = "media-files.test", &proxy
	p.server.WriteSite(t, other.ServerName, string(render(t, other)))
	if out, err := p.server.Test(t); err != nil {
		t.Errorf("nginx -t: %v\n%s", err, out)
	}
}
