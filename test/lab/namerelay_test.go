package lab_test

import (
	"context"
	"crypto/tls"
	"errors"
	"io"
	"net"
	"net/http"
	"strings"
	"syscall"
	"testing"

	"github.com/converge-agent/converge/test/lab"
)

const (
	storeName = "s3.us-west-001.backblazeb2.test"
	acmeName  = "acme.example.com"
	unknown   = http.StatusNotFound // is what a store says of a bucket that it does not have
)

// openRelay opens a relay to a store and an authority, and returns it with a function that dials it.
func openRelay(t *testing.T) (*lab.NameRelay, func(context.Context, string, string) (net.Conn, error)) {
	t.Helper()
	s, _ := store(t, lab.B2)
	a, err := world.ACME(t.Context(), lab.ACMEOptions{})
	if err != nil {
		t.Fatal(err)
	}
	authority, _, _ := strings.Cut(strings.TrimPrefix(a.DirectoryURL, "https://"), "/")
	target, addr := strings.TrimPrefix(s.Endpoint, "https://"), "127.0.0.1:0"
	r := &lab.NameRelay{
		Targets: map[string]string{storeName: target, "*." + storeName: target, acmeName: authority},
		Listen: func(network, _ string) (net.Listener, error) {
			ln, err := net.Listen(network, addr)
			if err == nil {
				addr = ln.Addr().String() // opened again it has the same port
			}
			return ln, err
		},
	}
	if err := r.Open(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(r.Close)
	return r, func(ctx context.Context, network, _ string) (net.Conn, error) {
		return new(net.Dialer).DialContext(ctx, network, addr)
	}
}

// wantStatus asks a name for its directory; 0 is none, because the connection was reset or refused.
func wantStatus(t *testing.T, dial func(context.Context, string, string) (net.Conn, error), name string, want int) {
	t.Helper()
	client := web(t)
	client.Transport.(*http.Transport).DialContext = dial
	resp, err := client.Get("https://" + name + "/directory")
	switch {
	case want == 0 && (errors.Is(err, syscall.ECONNRESET) || errors.Is(err, syscall.ECONNREFUSED)):
	case err != nil:
		t.Errorf("%s: %v, want status %d", name, err, want)
	default:
		if resp.StatusCode != want {
			t.Errorf("%s: status %d, want %d", name, resp.StatusCode, want)
		}
		_ = resp.Body.Close()
	}
}

func TestNameRelay(t *testing.T) {
	r, dial := openRelay(t)
	wantStatus(t, dial, storeName, unknown)
	wantStatus(t, dial, "media."+storeName, unknown)
	wantStatus(t, dial, acmeName, http.StatusOK)
	wantStatus(t, dial, "other.example.com", 0)
	for name, want := range map[string]int{storeName: 1, "*." + storeName: 1, acmeName: 1} {
		if got := r.Requests(name); got != want {
			t.Errorf("%s had %d connections, want %d", name, got, want)
		}
	}

	r.SetDown(storeName, true)
	wantStatus(t, dial, storeName, 0)
	wantStatus(t, dial, acmeName, http.StatusOK)
	r.SetDown(storeName, false)
	wantStatus(t, dial, storeName, unknown)

	r.Close()
	wantStatus(t, dial, acmeName, 0)
	if err := r.Open(); err != nil {
		t.Fatal(err)
	}
	wantStatus(t, dial, acmeName, http.StatusOK)
}

// TestNameRelayBreaksConnectionsOff: a proxy that keeps its connections to a store must notice that it is down.
func TestNameRelayBreaksConnectionsOff(t *testing.T) {
	r, dial := openRelay(t)
	for name, end := range map[string]func(){
		storeName: func() { r.SetDown(storeName, true) },
		acmeName:  r.Close,
	} {
		raw, err := dial(t.Context(), "tcp", "")
		if err != nil {
			t.Fatal(err)
		}
		defer func() { _ = raw.Close() }()
		conn := tls.Client(raw, &tls.Config{RootCAs: web(t).Transport.(*http.Transport).TLSClientConfig.RootCAs, ServerName: name})
		if err := conn.Handshake(); err != nil {
			t.Fatal(err)
		}
		end()
		if _, err := io.ReadAll(conn); !errors.Is(err, syscall.ECONNRESET) {
			t.Errorf("%s: an open connection ended with %v, not with a reset", name, err)
		}
		if err := r.Open(); err != nil && name == acmeName {
			t.Fatal(err)
		}
	}
}
