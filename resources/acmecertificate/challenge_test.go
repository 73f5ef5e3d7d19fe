package acmecertificate

import (
	"net"
	"net/http"
	"net/http/httptest"
	"sync/atomic"
	"testing"
	"time"

	"github.com/converge-agent/converge/acme"
	"github.com/converge-agent/converge/host"
)

// reloading is a server that answers from a webroot, but for those requests that go to workers without the challenge.
func reloading(t *testing.T, elsewhere func(n int32) bool) (*certificate, acme.InWebroot, *atomic.Int32) {
	t.Helper()
	asked := new(atomic.Int32)
	uid, gid := host.SystemUsers().Self()
	web := acme.InWebroot{Files: host.System(), Dir: t.TempDir(), UID: uid, GID: gid}
	files := http.FileServer(http.Dir(web.Dir))
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if elsewhere(asked.Add(1)) {
			http.NotFound(w, r)
			return
		}
		files.ServeHTTP(w, r)
	}))
	t.Cleanup(server.Close)
	port := int64(server.Listener.Addr().(*net.TCPAddr).Port)
	return &certificate{config: config{Domains: []string{"files.example.com"}, Address: "127.0.0.1", Port: port}}, web, asked
}

// TestALeftoverMayStillAnswer: the server for challenges of a killed run was just taken away, and old workers have it yet.
func TestALeftoverMayStillAnswer(t *testing.T) {
	c, web, _ := reloading(t, func(n int32) bool { return n > 2 })
	if answered, err := c.answered(t.Context(), web); answered || err != nil {
		t.Errorf("answered: %v, %v; the new workers do not answer", answered, err)
	}
	c, web, _ = reloading(t, func(int32) bool { return false })
	if answered, err := c.answered(t.Context(), web); !answered || err != nil {
		t.Errorf("answered: %v, %v; every request was answered", answered, err)
	}
}

// TestOldWorkersMayStillAnswer: while nginx reloads, old workers without the challenge take some of the connections.
func TestOldWorkersMayStillAnswer(t *testing.T) {
	c, web, asked := reloading(t, func(n int32) bool { return n <= 6 && n%3 == 0 })
	if err := c.awaitAnswers(t.Context(), web); err != nil {
		t.Fatal(err)
	}
	if n := asked.Load(); n <= 6 {
		t.Errorf("the challenge counted as answered after %d requests, of which the 3rd and the 6th were refused", n)
	}
}

// TestFewAnswersProveNothing: on a slow host half a second is only some requests, all of which may go to the same workers.
func TestFewAnswersProveNothing(t *testing.T) {
	slow := func(n int32) bool {
		time.Sleep(answerFor / 4)
		return n == 6
	}
	c, web, asked := reloading(t, slow)
	if err := c.awaitAnswers(t.Context(), web); err != nil {
		t.Fatal(err)
	}
	if n := asked.Load(); n <= 6 {
		t.Errorf("the challenge counted as answered after %d requests, of which the 6th was to be refused", n)
	}
	c, web, _ = reloading(t, slow)
	if answered, err := c.answered(t.Context(), web); answered || err != nil {
		t.Errorf("answered: %v, %v; the 6th request was refused", answered, err)
	}
}
