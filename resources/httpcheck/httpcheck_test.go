package httpcheck

import (
	"context"
	"crypto/tls"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"log"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/converge-agent/converge/diag"
	"github.com/converge-agent/converge/host"
	"github.com/converge-agent/converge/host/hosttest"
	"github.com/converge-agent/converge/nginx/nginxtest"
	"github.com/converge-agent/converge/resources"
	"github.com/converge-agent/converge/secret"
	"github.com/zclconf/go-cty/cty"
)

const caFile = "/etc/ssl/test.pem"

// site is a TLS server with a certificate for example.com, and the requests that it got.
type site struct {
	*httptest.Server
	requests atomic.Int32
}

func serve(t *testing.T, handler http.HandlerFunc) *site {
	t.Helper()
	s := &site{}
	s.Server = httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		s.requests.Add(1)
		handler(w, r)
	}))
	s.EnableHTTP2 = true
	s.StartTLS()
	t.Cleanup(s.Close)
	return s
}

// apply makes the check of the site once with these attributes, with the test server's authority in ca_file.
func (s *site) apply(ctx context.Context, t *testing.T, attrs map[string]cty.Value) error {
	t.Helper()
	return s.applyWithin(ctx, t, 0, attrs)
}

// applyWithin is apply with a check that is made again until so much time has passed.
func (s *site) applyWithin(ctx context.Context, t *testing.T, patience time.Duration, attrs map[string]cty.Value) error {
	t.Helper()
	files := hosttest.NewMemory()
	ca := pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: s.Certificate().Raw})
	files.Put(caFile, host.File{Content: ca, Mode: 0o644})
	for name, v := range map[string]cty.Value{
		"url": cty.StringVal("https://example.com/file"), "resolve": cty.StringVal(s.Listener.Addr().String()), "ca_file": cty.StringVal(caFile),
	} {
		if _, given := attrs[name]; !given {
			attrs[name] = v
		}
	}
	r, err := written(attrs)
	if err != nil {
		t.Fatal(err)
	}
	env := resources.Env{Files: files}
	st, err := r.Read(ctx, env.ReadEnv)
	if err != nil {
		t.Fatal(err)
	}
	c := r.Diff(st)
	if c.Action != resources.Check || s.requests.Load() != 0 {
		t.Fatalf("planned %s after %d requests", c.Action, s.requests.Load())
	}
	r.(*check).patience = patience
	return r.Apply(ctx, env, c)
}

func written(attrs map[string]cty.Value) (resources.Resource, error) {
	config, errs := Kind().Complete(cty.ObjectVal(attrs))
	if len(errs) > 0 {
		return nil, errs[0]
	}
	r, _, err := Kind().New(resources.Address{}, config)
	return r, err
}

func texts(pairs ...string) cty.Value {
	m := map[string]cty.Value{}
	for i := 0; i < len(pairs); i += 2 {
		m[pairs[i]] = cty.StringVal(pairs[i+1])
	}
	return cty.ObjectVal(m)
}

func expecting(attrs map[string]cty.Value) map[string]cty.Value {
	return map[string]cty.Value{"expect": cty.ObjectVal(attrs)}
}

func TestExpectations(t *testing.T) {
	handler := func(w http.ResponseWriter, r *http.Request) {
		if r.Host != "example.com" {
			http.Error(w, "wrong host "+r.Host, http.StatusMisdirectedRequest)
			return
		}
		w.Header().Set("Cache-Control", "max-age=60, public")
		w.Header().Add("Twice", "*")
		w.Header().Add("Twice", "*")
		w.WriteHeader(http.StatusAccepted)
		_, _ = fmt.Fprint(w, "hello world")
	}
	for _, tt := range []struct {
		name   string
		expect map[string]cty.Value
		wrong  []string
	}{
		{"nothing", map[string]cty.Value{}, nil},
		{"all", map[string]cty.Value{"status": cty.NumberIntVal(202), "body": cty.StringVal("^hello w"),
			"header": texts("cache-control", "~^max-age=\\d+", "Cache-Control", "max-age=60, public")}, nil},
		{"status", map[string]cty.Value{"status": cty.NumberIntVal(200)}, []string{"the status is 202 instead of 200"}},
		{"header missing", map[string]cty.Value{"header": texts("X-None", "x")}, []string{"X-None is missing"}},
		{"header twice", map[string]cty.Value{"header": texts("Twice", "*")}, []string{`Twice is there 2 times instead of once: ["*" "*"]`}},
		{"header differs", map[string]cty.Value{"header": texts("Cache-Control", "max-age=60")},
			[]string{`Cache-Control is "max-age=60, public" instead of "max-age=60"`}},
		{"header does not match", map[string]cty.Value{"header": texts("Cache-Control", "~^private")},
			[]string{`Cache-Control is "max-age=60, public", which does not match "^private"`}},
		{"body", map[string]cty.Value{"body": cty.StringVal("bye")}, []string{`the body, of which 11 bytes were read, does not match "bye"`}},
		{"several", map[string]cty.Value{"status": cty.NumberIntVal(404), "body": cty.StringVal("bye"), "header": texts("X-None", "x")},
			[]string{"the status is 202 instead of 404", "X-None is missing", "does not match \"bye\""}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			err := serve(t, handler).apply(t.Context(), t, expecting(tt.expect))
			if len(tt.wrong) == 0 {
				if err != nil {
					t.Errorf("got %v", err)
				}
				return
			}
			if err == nil || diag.Fix(err) == "" {
				t.Fatalf("got %v, want an error with a fix", err)
			}
			for _, want := range tt.wrong {
				if !strings.Contains(err.Error(), want) {
					t.Errorf("got %v\nwant in it %s", err, want)
				}
			}
		})
	}
}

func TestWithoutExpectAnErrorStatusFails(t *testing.T) {
	for status, fails := range map[int]bool{200: false, 301: false, 399: false, 400: true, 404: true, 503: true} {
		s := serve(t, func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(status) })
		if err := s.apply(t.Context(), t, map[string]cty.Value{}); (err != nil) != fails {
			t.Errorf("status %d: got %v", status, err)
		}
	}
}

func TestRedirectsAreNotFollowed(t *testing.T) {
	s := serve(t, func(w http.ResponseWriter, r *http.Request) { http.Redirect(w, r, "/other", http.StatusFound) })
	err := s.apply(t.Context(), t, expecting(map[string]cty.Value{"status": cty.NumberIntVal(302), "header": texts("Location", "/other")}))
	if err != nil || s.requests.Load() != 1 {
		t.Errorf("got %v after %d requests", err, s.requests.Load())
	}
}

func TestCache(t *testing.T) {
	for _, tt := range []struct {
		name, want string
		says       []string
		requests   int32
		fails      bool
	}{
		{"hit at once", "HIT", []string{"HIT"}, 1, false},
		{"miss, then hit", "HIT", []string{"MISS", "HIT"}, 2, false},
		{"never a hit", "HIT", []string{"MISS", "MISS", "HIT"}, 2, true},
		{"no cache", "HIT", []string{"", ""}, 2, true},
		{"miss", "MISS", []string{"MISS"}, 1, false},
		{"no miss", "MISS", []string{"HIT", "MISS"}, 1, true},
	} {
		t.Run(tt.name, func(t *testing.T) {
			var n atomic.Int32
			s := serve(t, func(w http.ResponseWriter, _ *http.Request) {
				if say := tt.says[n.Add(1)-1]; say != "" {
					w.Header().Set("X-Cache-Status", say)
				}
			})
			err := s.apply(t.Context(), t, expecting(map[string]cty.Value{"cache": cty.StringVal(tt.want)}))
			if (err != nil) != tt.fails || s.requests.Load() != tt.requests {
				t.Errorf("got %v after %d requests, want %d and failure %v", err, s.requests.Load(), tt.requests, tt.fails)
			}
		})
	}
}

// TestWhatIsReloadedMayTakeAMoment: a server that does not listen yet, or answers as before, is asked again.
func TestWhatIsReloadedMayTakeAMoment(t *testing.T) {
	var asked atomic.Int32
	s := serve(t, func(w http.ResponseWriter, _ *http.Request) {
		switch asked.Add(1) {
		case 1:
			panic(http.ErrAbortHandler)
		case 2:
			w.WriteHeader(http.StatusNotFound)
		}
	})
	s.Config.ErrorLog = log.New(io.Discard, "", 0)
	if err := s.applyWithin(t.Context(), t, time.Minute, map[string]cty.Value{}); err != nil || asked.Load() != 3 {
		t.Errorf("got %v after %d requests, want none after 3", err, asked.Load())
	}
	never := serve(t, func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusNotFound) })
	if err := never.applyWithin(t.Context(), t, 3*time.Second, map[string]cty.Value{}); err == nil || never.requests.Load() < 2 {
		t.Errorf("got %v after %d requests, want a failure after at least 2", err, never.requests.Load())
	}
}

func TestWhatIsSent(t *testing.T) {
	s := serve(t, func(w http.ResponseWriter, r *http.Request) {
		if r.Method != http.MethodOptions || r.Header.Get("Origin") != "https://social.example" || r.Header.Get("Authorization") != "s3cret" || r.Host != "other.example" {
			http.Error(w, "wrong request", http.StatusTeapot)
		}
	})
	err := s.apply(t.Context(), t, map[string]cty.Value{
		"method": cty.StringVal("OPTIONS"),
		"headers": cty.ObjectVal(map[string]cty.Value{
			"origin": cty.StringVal("https://social.example"), "Authorization": secret.New("s3cret").Value(), "host": cty.StringVal("other.example"),
		}),
	})
	if err != nil {
		t.Error(err)
	}
}

// TestLaw6WhatTheServerSaysAgain: a header that was sent as a secret is not shown when it comes back; another is.
func TestLaw6WhatTheServerSaysAgain(t *testing.T) {
	const token = "Bearer hunter2-and-more"
	s := serve(t, func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("X-Echo", r.Header.Get("Authorization"))
		w.Header().Set("X-Origin", r.Header.Get("Origin"))
	})
	err := s.apply(t.Context(), t, map[string]cty.Value{
		"headers": cty.ObjectVal(map[string]cty.Value{"Authorization": secret.New(token).Value(), "Origin": cty.StringVal("https://social.example")}),
		"expect":  cty.ObjectVal(map[string]cty.Value{"header": texts("X-Echo", "another", "X-Origin", "another")}),
	})
	want := `X-Echo is "(sensitive)" instead of "another"; X-Origin is "https://social.example" instead of "another"`
	if err == nil || !strings.Contains(err.Error(), want) {
		t.Errorf("got %v\nwant %s", err, want)
	}
}

func TestNoProxyIsUsed(t *testing.T) {
	r, err := written(map[string]cty.Value{"url": cty.StringVal("https://example.com/")})
	if err != nil {
		t.Fatal(err)
	}
	client, err := r.(*check).client(hosttest.NewMemory())
	if err != nil {
		t.Fatal(err)
	}
	if client.Transport.(*http.Transport).Proxy != nil {
		t.Error("the transport asks for a proxy")
	}
}

func TestRequestsWithoutAnswer(t *testing.T) {
	closed := fmt.Sprintf("127.0.0.1:%d", nginxtest.FreePort(t))
	for _, tt := range []struct {
		name      string
		attrs     map[string]cty.Value
		says, fix string
	}{
		{"unknown authority", map[string]cty.Value{"ca_file": cty.NullVal(cty.String)}, "unknown authority", "ca_file"},
		{"name not in the certificate", map[string]cty.Value{"url": cty.StringVal("https://other.test/")}, "not other.test", "Get a certificate for this host name"},
		{"nobody listens", map[string]cty.Value{"resolve": cty.StringVal(closed)}, "connection refused", "Start the server"},
		{"no such authority file", map[string]cty.Value{"ca_file": cty.StringVal("/etc/none.pem")}, "no certificate in PEM", "Write the path"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			s := serve(t, func(http.ResponseWriter, *http.Request) {})
			s.Config.ErrorLog = nil
			err := s.apply(t.Context(), t, tt.attrs)
			if err == nil || !strings.Contains(err.Error(), tt.says) || !strings.Contains(diag.Fix(err), tt.fix) {
				t.Errorf("got %v (%s), want %q (%s)", err, diag.Fix(err), tt.says, tt.fix)
			}
		})
	}
}

func TestTimeoutAndCancellation(t *testing.T) {
	done := make(chan struct{})
	slow := func(_ http.ResponseWriter, r *http.Request) {
		select {
		case <-r.Context().Done():
		case <-done:
		}
	}
	t.Cleanup(func() { close(done) })
	err := serve(t, slow).apply(t.Context(), t, map[string]cty.Value{"timeout": cty.StringVal("50ms")})
	if !errors.Is(err, context.DeadlineExceeded) || !strings.Contains(err.Error(), "no answer within 50ms") {
		t.Errorf("timeout: got %v", err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	time.AfterFunc(50*time.Millisecond, cancel)
	start := time.Now()
	if err := serve(t, slow).apply(ctx, t, map[string]cty.Value{"timeout": cty.StringVal("1m")}); !errors.Is(err, context.Canceled) {
		t.Errorf("cancelled: got %v", err)
	}
	if spent := time.Since(start); spent > 50*time.Second {
		t.Errorf("a cancelled check went on for %s", spent)
	}
}

func TestOldTLSIsRefused(t *testing.T) {
	s := httptest.NewUnstartedServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) {}))
	s.TLS = &tls.Config{MaxVersion: tls.VersionTLS11, MinVersion: tls.VersionTLS10} //nolint:gosec // what is refused
	s.StartTLS()
	t.Cleanup(s.Close)
	if err := (&site{Server: s}).apply(t.Context(), t, map[string]cty.Value{}); err == nil || !strings.Contains(err.Error(), "protocol version") {
		t.Errorf("got %v", err)
	}
}

func TestRefusals(t *testing.T) {
	for _, tt := range []struct {
		name  string
		attrs map[string]cty.Value
		says  string
	}{
		{"no host", map[string]cty.Value{"url": cty.StringVal("https:///x")}, "a scheme, a host and a path"},
		{"password", map[string]cty.Value{"url": cty.StringVal("https://u:p@h/")}, "a scheme, a host and a path"},
		{"method that changes", map[string]cty.Value{"method": cty.StringVal("PUT")}, "not one of its values"},
		{"resolve without port", map[string]cty.Value{"resolve": cty.StringVal("127.0.0.1")}, "not an address with a port"},
		{"no time", map[string]cty.Value{"timeout": cty.StringVal("0s")}, "in no time"},
		{"header that cannot be sent", map[string]cty.Value{"headers": texts("A", "x\r\nB: y")}, "no header that can be sent"},
		{"status", expecting(map[string]cty.Value{"status": cty.NumberIntVal(99)}), "not a status"},
		{"header pattern", expecting(map[string]cty.Value{"header": texts("A", "~(")}), "missing closing )"},
		{"body pattern", expecting(map[string]cty.Value{"body": cty.StringVal("(")}), "missing closing )"},
		{"cache", expecting(map[string]cty.Value{"cache": cty.StringVal("hit")}), "not one of its values"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			if tt.attrs["url"] == cty.NilVal {
				tt.attrs["url"] = cty.StringVal("https://example.com/")
			}
			if _, err := written(tt.attrs); err == nil || !strings.Contains(err.Error(), tt.says) {
				t.Errorf("got %v, want %q", err, tt.says)
			}
		})
	}
}

func TestSummaryAndCommand(t *testing.T) {
	r, err := written(map[string]cty.Value{
		"url": cty.StringVal("https://example.com/it's"), "method": cty.StringVal("HEAD"), "resolve": cty.StringVal("[::1]:443"),
		"headers": cty.ObjectVal(map[string]cty.Value{"Authorization": secret.New("s3cret").Value()}),
		"expect":  cty.ObjectVal(map[string]cty.Value{"status": cty.NumberIntVal(200), "header": texts("A", "b"), "cache": cty.StringVal("HIT")}),
	})
	if err != nil {
		t.Fatal(err)
	}
	if got, want := r.Diff(nil).Summary, "HEAD https://example.com/it's: 200, one A, cache HIT"; got != want {
		t.Errorf("got %q, want %q", got, want)
	}
	if got, want := r.(*check).curl(), "curl -sSi --head --connect-to ::[::1]:443 'https://example.com/it%27s'"; got != want {
		t.Errorf("got %q, want %q", got, want)
	}
}
