package nginx_test

import (
	"bytes"
	"fmt"
	"net/http"
	"net/netip"
	"path/filepath"
	"strings"
	"testing"

	"github.com/converge-agent/converge/nginx"
	"github.com/converge-agent/converge/nginx/nginxtest"
)

// appAddress is where the app's requests come from in these tests; appHost is the same as it is configured.
const appAddress = "127.0.0.3"

var appHost = []netip.Prefix{netip.MustParsePrefix(appAddress + "/32")}

// bust sends what Mastodon sends after a deletion.
func (p *proxy) bust(t *testing.T, path string) answer {
	t.Helper()
	return p.doFrom(t, appAddress, "GET", path, nginx.BustHeader, nginx.BustValue)
}

// cached puts an object into the store and into the cache.
func (p *proxy) cached(t *testing.T, path, content string) {
	t.Helper()
	p.put(path, []byte(content))
	p.expect(t, path, 200, content, "MISS")
	p.expect(t, path, 200, content, "HIT")
}

// wantGone expects that no visitor gets the object, now, after the cache has asked the store once more, and in an outage.
func (p *proxy) wantGone(t *testing.T, path string, status int) {
	t.Helper()
	p.expect(t, path, status, "", "")
	seen := len(p.requests())
	nginxtest.Wait(t, "the store is asked again", func() bool {
		p.expect(t, path, status, "", "")
		return len(p.requests()) > seen
	})
	p.expect(t, path, status, "", "")
	p.failWith(503)
	if a := p.do(t, "GET", path); a.StatusCode == http.StatusOK {
		t.Errorf("GET %s: in an outage it came back", path)
	}
}

// TestProxyForgetsAtOnceWhatTheAppDeleted: without the app's word a deleted object would be served for two days.
func TestProxyForgetsAtOnceWhatTheAppDeleted(t *testing.T) {
	for name, c := range map[string]struct {
		change func(*proxy)
		says   int // what the store says of what was deleted; 0 is 404
		want   int
	}{
		"a store that says 404":  {want: 404},
		"a store that says 403":  {says: 403, want: 403},
		"Backblaze B2":           {change: func(p *proxy) { p.site.Proxy.ForbiddenIsOutage = true }, want: 404},
		"whole objects":          {change: func(p *proxy) { p.site.Build.Slice = false }, want: 404},
		"no auth_request module": {change: func(p *proxy) { p.site.Build.AuthRequest = false }, want: 404},
		"a fallback without it":  {change: func(p *proxy) { p.site.Proxy.LocalFallback = p.local }, want: 404},
		"a fallback that is over": {want: 404, change: func(p *proxy) {
			p.site.Proxy.LocalFallback, p.site.Proxy.FallbackUntil = p.local, filepath.Join(p.local, "moved")
			writeFile(t, p.site.Proxy.FallbackUntil, "")
			writeFile(t, filepath.Join(p.local, "media/a.png"), "local")
		}},
	} {
		t.Run(name, func(t *testing.T) {
			p := newProxy(t, func(p *proxy) {
				p.site.Proxy.BustFrom = appHost
				if c.change != nil {
					c.change(p)
				}
			})
			p.cached(t, "/media/a.png", "picture")
			p.remove("/media/a.png")
			p.failWith(c.says)
			p.expect(t, "/media/a.png", 200, "picture", "HIT")
			if a := p.bust(t, "/media/a.png"); a.StatusCode != c.want {
				t.Errorf("the app got %d, want %d\n%s", a.StatusCode, c.want, p.server.Log(t))
			}
			p.wantGone(t, "/media/a.png", c.want)
		})
	}
}

// TestProxyForgetsInAnOutage: the app has deleted the object, and the store cannot confirm it.
func TestProxyForgetsInAnOutage(t *testing.T) {
	p := newProxy(t, func(p *proxy) { p.site.Proxy.BustFrom, p.site.Proxy.ForbiddenIsOutage = appHost, true })
	for _, status := range []int{403, 429, 500, 503} {
		path := fmt.Sprintf("/%d.png", status)
		p.failWith(0)
		p.cached(t, path, "picture")
		p.remove(path)
		p.failWith(status)
		p.bust(t, path)
		p.expect(t, path, status, "", "")
	}
}

// TestProxyServesLocalFilesAfterABust: until the fallback is over, what lies here is served as before.
func TestProxyServesLocalFilesAfterABust(t *testing.T) {
	p := newProxy(t, func(p *proxy) { p.site.Proxy.BustFrom, p.site.Proxy.LocalFallback = appHost, p.local })
	writeFile(t, filepath.Join(p.local, "a.png"), "local")
	p.cached(t, "/a.png", "bucket")
	p.remove("/a.png")
	p.bust(t, "/a.png")
	nginxtest.Wait(t, "the file on disk is served", func() bool { return string(p.do(t, "GET", "/a.png").body) == "local" })
	p.expect(t, "/a.png", 200, "local", "")
}

func TestProxyFetchesALiveObjectAnew(t *testing.T) {
	p := newProxy(t, func(p *proxy) { p.site.Proxy.BustFrom = appHost })
	p.cached(t, "/a.png", "old")
	p.put("/a.png", []byte("new"))
	p.expect(t, "/a.png", 200, "old", "HIT")
	p.bust(t, "/a.png")
	p.expect(t, "/a.png", 200, "new", "HIT")
}

// order is a request that comes from an address, with headers.
type order struct {
	name, from string
	header     []string
}

func (p *proxy) wantIgnored(t *testing.T, path string, orders ...order) {
	t.Helper()
	for _, o := range orders {
		seen := len(p.requests())
		if a := p.doFrom(t, o.from, "GET", path, o.header...); a.Header.Get("X-Cache-Status") != "HIT" || len(p.requests()) != seen {
			t.Errorf("%s: got %d %q, and the store was asked %d times; want a HIT", o.name, a.StatusCode, a.Header.Get("X-Cache-Status"), len(p.requests())-seen)
		}
	}
}

func TestProxyTakesNoOrdersFromVisitors(t *testing.T) {
	p := newProxy(t, func(p *proxy) { p.site.Proxy.BustFrom = appHost })
	p.cached(t, "/a.png", "picture")
	right := []string{nginx.BustHeader, nginx.BustValue}
	p.wantIgnored(t, "/a.png",
		order{"a visitor", "127.0.0.2", right},
		order{"a visitor who claims to be the app", "127.0.0.2", append(right, "X-Forwarded-For", appAddress, "X-Real-IP", appAddress)},
		order{"a visitor passed on by a program here", "127.0.0.1", right},
		order{"the app without the header", appAddress, nil},
		order{"the app with another value", appAddress, []string{nginx.BustHeader, "false"}},
		order{"the app with more in it", appAddress, []string{nginx.BustHeader, "truest"}},
	)
}

// TestProxyTakesOrdersFromItsOwnHost has only addresses of loopback at hand, and so takes away what is said of those.
func TestProxyTakesOrdersFromItsOwnHost(t *testing.T) {
	p := newProxy(t, nil)
	text := string(render(t, p.site))
	own := strings.Replace(text, `"~^0 (127\.|::1 )" 0;`, "", 1)
	if own == text {
		t.Fatal("the site says nothing of loopback")
	}
	p.server.WriteSite(t, frontName, own)
	p.server.Reload(t)
	p.cached(t, "/a.png", "picture")
	right := []string{nginx.BustHeader, nginx.BustValue}
	p.wantIgnored(t, "/a.png",
		order{"a visitor", "127.0.0.2", right},
		order{"a visitor passed on by a proxy here", "127.0.0.1", append(right, "X-Forwarded-For", "192.0.2.9")},
		order{"a visitor passed on by a gateway here", "127.0.0.1", append(right, "Via", "1.1 gateway")},
		order{"a value of two headers", "127.0.0.1", []string{nginx.BustHeader, "tr", "Forwarded", "ue"}},
	)
	p.remove("/a.png")
	if a := p.do(t, "GET", "/a.png", right...); a.StatusCode != http.StatusNotFound {
		t.Errorf("the host itself got %d, want 404", a.StatusCode)
	}
	p.wantGone(t, "/a.png", 404)
}

// TestProxyForgetsEverySlice: what was deleted is not served in part either.
func TestProxyForgetsEverySlice(t *testing.T) {
	for name, change := range map[string]func(*proxy){
		"alone":      func(*proxy) {},
		"a fallback": func(p *proxy) { p.site.Proxy.LocalFallback = p.local },
		"a fallback that is over": func(p *proxy) {
			p.site.Proxy.LocalFallback, p.site.Proxy.FallbackUntil = p.local, filepath.Join(p.local, "moved")
			writeFile(t, p.site.Proxy.FallbackUntil, "")
			writeFile(t, filepath.Join(p.local, "v.mp4"), "local")
		},
	} {
		t.Run(name, func(t *testing.T) {
			p := newProxy(t, func(p *proxy) {
				p.site.Proxy.BustFrom = appHost
				change(p)
			})
			video := bytes.Repeat([]byte("0123456789abcdef"), 3<<20/16)
			p.cached(t, "/v.mp4", string(video))
			p.remove("/v.mp4")
			ranges := []string{"bytes=2097152-2097160", "bytes=1048576-", "bytes=-9", "bytes=0-9", "BYTES=  0002097152-", "bytes=0-1,2097152-2097160"}
			for _, r := range ranges {
				if a := p.do(t, "GET", "/v.mp4", "Range", r); a.StatusCode >= 300 {
					t.Errorf("before, %s: got %d, want bytes of the cache", r, a.StatusCode)
				}
			}
			p.bust(t, "/v.mp4")
			wantNone := func() {
				t.Helper()
				for _, r := range append(ranges, "") {
					for _, header := range [][]string{{"Range", r}, {"Range", r, "If-Range", `"abc"`}} {
						if a := p.do(t, "GET", "/v.mp4", header...); a.StatusCode != http.StatusNotFound {
							t.Errorf("%q: got %d, %d bytes, want 404", header, a.StatusCode, len(a.body))
						}
					}
				}
			}
			wantNone()
			p.wantGone(t, "/v.mp4", 404)
			p.failWith(0)
			wantNone()
			p.failWith(503)
			for _, r := range ranges {
				if a := p.do(t, "GET", "/v.mp4", "Range", r); a.StatusCode < 400 {
					t.Errorf("in an outage, %s: got %d, %d bytes", r, a.StatusCode, len(a.body))
				}
			}
		})
	}
}

// TestProxyKeepsTheOtherSlicesOfALiveObject: a range deep inside costs one look at the cache, and no fetch.
func TestProxyKeepsTheOtherSlicesOfALiveObject(t *testing.T) {
	p := newProxy(t, func(p *proxy) { p.site.Proxy.BustFrom = appHost })
	video := bytes.Repeat([]byte("0123456789abcdef"), 3<<20/16)
	p.cached(t, "/v.mp4", string(video))
	p.bust(t, "/v.mp4")
	if got := p.last(t).Header.Get("Range"); got != "bytes=0-1048575" {
		t.Errorf("the store was asked for %q, want the first slice", got)
	}
	seen := len(p.requests())
	p.expect(t, "/v.mp4", 200, string(video), "HIT")
	a := p.do(t, "GET", "/v.mp4", "Range", "bytes=2097152-2097160")
	if a.StatusCode != http.StatusPartialContent || !bytes.Equal(a.body, video[2097152:2097161]) || a.Header.Get("X-Cache-Status") != "HIT" {
		t.Errorf("got %d %q %q", a.StatusCode, a.body, a.Header.Get("X-Cache-Status"))
	}
	if n := len(p.requests()) - seen; n != 0 {
		t.Errorf("the store saw %d requests more, want none", n)
	}
}

// TestProxySeeksWhatLiesHere: before an object is in the bucket, ranges of it come from the disk.
func TestProxySeeksWhatLiesHere(t *testing.T) {
	p := newProxy(t, func(p *proxy) { p.site.Proxy.LocalFallback = p.local })
	video := strings.Repeat("0123456789abcdef", 3<<20/16)
	writeFile(t, filepath.Join(p.local, "v.mp4"), video)
	for _, status := range []int{0, 403, 503} {
		p.failWith(status)
		a := p.do(t, "GET", "/v.mp4", "Range", "bytes=2097152-2097160")
		if a.StatusCode != http.StatusPartialContent || string(a.body) != video[2097152:2097161] {
			t.Errorf("the store says %d: got %d %q", status, a.StatusCode, clip(a.body))
		}
		p.expect(t, "/v.mp4", 200, video, "")
	}
}

func TestFirstSliceIsNobodysPath(t *testing.T) {
	p := newProxy(t, nil)
	p.put("/.first-slice", []byte("x"))
	p.expect(t, "/.first-slice", 404, "", "")
}
