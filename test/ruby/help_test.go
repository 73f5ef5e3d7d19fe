package ruby

import (
	"cmp"
	"net"
	"net/http"
	"slices"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/converge-agent/converge/test/lab"
)

// TestRetriesAndWholeDownloads: what the agent sets against Mastodon's defaults, of no retry and of downloads in pieces, helps.
func TestRetriesAndWholeDownloads(t *testing.T) {
	w := newWorld(t)
	i := w.newInstance(t, lab.MinIO, agrees, "public-objects")
	for _, tt := range []struct {
		missing string
		fails   bool
		gets    []string // what a download of a large object asks for
	}{
		{"", false, []string{"GetObject 2xx"}},
		{"S3_RETRY_LIMIT", true, []string{"GetObject 2xx"}},
		{"S3_FORCE_SINGLE_REQUEST", false, []string{"GetObject 2xx", "HeadObject 2xx"}},
	} {
		t.Run(cmp.Or(tt.missing, "none")+" is missing", func(t *testing.T) {
			i.load(t, false, unset(tt.missing))
			var tries atomic.Int64
			i.store.Fault(func(r *http.Request) *lab.Fault {
				if r.Method == http.MethodPut && tries.Add(1) == 1 {
					return &lab.Fault{Status: http.StatusInternalServerError, Code: "InternalError", Message: "We encountered an internal error."}
				}
				return nil
			})
			err := i.put(t, newUpload(t, small))
			i.store.Fault(nil)
			if tt.fails != (err != nil) {
				t.Errorf("an upload to a store that fails once: %v", err)
			}
			u := newUpload(t, large)
			if err := i.put(t, u); err != nil {
				t.Fatal(err)
			}
			i.store.ResetRequests()
			i.ruby.must(t, order{"do": "get", "key": u.key}, nil)
			i.idle(t)
			var asked []string
			for operation := range i.store.Requests() {
				asked = append(asked, operation)
			}
			if slices.Sort(asked); !slices.Equal(asked, tt.gets) {
				t.Errorf("a download asked for %q, want %q", asked, tt.gets)
			}
		})
	}
}

// TestMastodonUsesNoProxy: the agent uses none either (objectstore), so that it sees of a store what the app sees.
func TestMastodonUsesNoProxy(t *testing.T) {
	w := newWorld(t)
	i := w.newInstance(t, lab.MinIO, agrees, "public-objects")
	proxy, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	var asked atomic.Int64
	done := make(chan struct{})
	go func() {
		defer close(done)
		for {
			c, err := proxy.Accept()
			if err != nil {
				return // closed
			}
			asked.Add(1)
			_ = c.Close()
		}
	}()
	for _, name := range []string{"HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY"} {
		i.settings += name + "=http://" + proxy.Addr().String() + "\n" + strings.ToLower(name) + "=http://" + proxy.Addr().String() + "\n"
	}
	i.load(t, true, nil)
	if err := i.put(t, newUpload(t, small)); err != nil {
		t.Errorf("the upload: %v", err)
	}
	_ = proxy.Close()
	<-done
	if n := asked.Load(); n > 0 {
		t.Errorf("the proxy was asked %d times", n)
	}
}
