package machine

import (
	"context"
	"errors"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"time"
)

// TestBuildTriesTwice builds from a real mirror behind a proxy that has times when it knows nothing.
func TestBuildTriesTwice(t *testing.T) {
	ctx, cancel := context.WithTimeout(t.Context(), 15*time.Minute)
	defer cancel()
	if err := Require(ctx); err != nil {
		t.Fatal(err)
	}
	for name, test := range map[string]struct {
		outages int64 // as many tries find the mirror empty
		tries   int64
		built   bool
	}{
		"an outage that passes": {outages: 1, tries: 2, built: true},
		"an outage that stays":  {outages: 9, tries: 2},
	} {
		t.Run(name, func(t *testing.T) {
			var tries atomic.Int64
			proxy := httptest.NewServer(mirror(ctx, t, func(r *http.Request) bool {
				if strings.HasSuffix(r.URL.Path, "/InRelease") { // what apt asks for first
					tries.Add(1)
				}
				return tries.Load() <= test.outages
			}))
			t.Cleanup(proxy.Close)
			root := filepath.Join(t.TempDir(), "root")
			err := build(ctx, root, "bookworm", proxy.URL, []string{"systemd"})
			if got := tries.Load(); got != test.tries {
				t.Errorf("tries = %d, want %d", got, test.tries)
			}
			if test.built {
				if err != nil {
					t.Fatal(err)
				}
				if _, err := os.Stat(filepath.Join(root, "var/log/journal")); err != nil {
					t.Error(err)
				}
				return
			}
			if err == nil || strings.Count(err.Error(), "404") < 2 || !strings.Contains(err.Error(), "second try: ") {
				t.Errorf("error = %v, want what both tries said", err)
			}
			if left, _ := filepath.Glob(root + "*"); len(left) > 0 {
				t.Errorf("a root that is not whole was left: %q", left)
			}
		})
	}
}

// TestBuildEndsWithItsContext cancels a build that waits for its mirror: nothing of it goes on.
func TestBuildEndsWithItsContext(t *testing.T) {
	if err := Require(t.Context()); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	var tries atomic.Int64
	slow := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		tries.Add(1)
		cancel()
		<-r.Context().Done() // the client has gone
	}))
	t.Cleanup(slow.Close) // waits for that
	root := filepath.Join(t.TempDir(), "root")
	if err := build(ctx, root, "bookworm", slow.URL, []string{"systemd"}); !errors.Is(err, context.Canceled) {
		t.Errorf("build = %v, want %v", err, context.Canceled)
	}
	if got := tries.Load(); got != 1 {
		t.Errorf("requests = %d, want 1", got)
	}
	if left, _ := filepath.Glob(root + "*"); len(left) > 0 {
		t.Errorf("left behind: %q", left)
	}
}

// mirror passes requests on to the archive of this host's apt, except those for which empty says that nothing is there.
func mirror(ctx context.Context, t *testing.T, empty func(*http.Request) bool) http.Handler {
	t.Helper()
	archive, err := aptMirror(ctx)
	if err == nil && archive == "" { // apt has no lists yet
		if err = run(ctx, "apt-get", "update", "--quiet"); err == nil {
			archive, err = aptMirror(ctx)
		}
	}
	if err != nil || archive == "" {
		t.Fatalf("this host's apt names no archive of Debian's: %q, %v", archive, err)
	}
	to, err := url.Parse(archive)
	if err != nil {
		t.Fatal(err)
	}
	proxy := &httputil.ReverseProxy{Rewrite: func(r *httputil.ProxyRequest) { r.SetURL(to) }}
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if empty(r) {
			http.NotFound(w, r)
			return
		}
		proxy.ServeHTTP(w, r)
	})
}
