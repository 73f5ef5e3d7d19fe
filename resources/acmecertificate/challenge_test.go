package acmecertificate

import (
	"net"
	"net/http"
	"net/http/httptest"
	"sync/atomic"
	"testing"

	"github.com/converge-agent/converge/acme"
	"github.com/converge-agent/converge/host"
)

// TestOldWorkersMayStillAnswer: while nginx reloads, old workers without the challenge take some of the connections.
func TestOldWorkersMayStillAnswer(t *testing.T) {
	var asked atomic.Int32
	webroot := t.TempDir()
	files := http.FileServer(http.Dir(webroot))
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if n := asked.Add(1); n <= 6 && n%3 == 0 {
			http.NotFound(w, r)
			return
		}
		files.ServeHTTP(w, r)
	}))
	t.Cleanup(server.Close)
	c := &certificate{config: config{Domains: []string{"files.example.com"}, Address: "127.0.0.1", Port: int64(server.Listener.Addr().(*net.TCPAddr).Port)}}
	uid, gid := host.SystemUsers().Self()
	if err := c.awaitAnswers(t.Context(), acme.InWebroot{Files: host.System(), Dir: webroot, UID: uid, GID: gid}); err != nil {
		t.Fatal(err)
	}
	if n := asked.Load(); n <= 6 {
		t.Errorf("the challenge counted as answered after %d requests, of which the 3rd and the 6th were refused", n)
	}
}
