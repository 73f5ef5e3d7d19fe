package acme

import (
	"context"
	"crypto/ecdsa"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/converge-agent/converge/diag"
	"github.com/converge-agent/converge/host"
	"github.com/converge-agent/converge/host/hosttest"
	"github.com/converge-agent/converge/nginx/nginxtest"
	"github.com/converge-agent/converge/secret"
	legoacme "github.com/go-acme/lego/v4/acme"
)

func problem(kind, detail string) *legoacme.ProblemDetails {
	return &legoacme.ProblemDetails{Type: namespace + kind, Detail: detail}
}

func TestRefusalsAreWorded(t *testing.T) {
	now := time.Date(2026, 11, 21, 12, 0, 0, 0, time.UTC)
	o := &order{Request: Request{Directory: "https://acme.example/dir", Domains: []string{"a.example", "b.example"}, Now: now,
		Account: Account{Dir: "/var/lib/converge/account"}}}
	atOnce := problem("unauthorized", "account is deactivated")
	atOnce.Method, atOnce.URL = "POST", "https://acme.example/order"
	for _, c := range []struct {
		name    string
		err     error
		kind    string
		fix     string
		retryAt time.Time
	}{
		{"dns", problem("dns", "NXDOMAIN looking up A for a.example"), "dns", "Create the A record of a.example, b.example", time.Time{}},
		{"several, the gravest counts", errors.Join(problem("connection", "refused"), fmt.Errorf("b: %w", problem("caa", "forbidden"))), "caa", "Add a CAA record", time.Time{}},
		{"CAA", problem("caa", "CAA record for a.example prevents issuance"), "caa", "Add a CAA record", time.Time{}},
		{"another server", problem("unauthorized", "Invalid response: 404"), "unauthorized", "Another server answered", time.Time{}},
		{"account closed", atOnce, "unauthorized", "The account was closed. Move /var/lib/converge/account away", time.Time{}},
		{"limit with seconds", &legoacme.RateLimitedError{ProblemDetails: problem("rateLimited", "too many"), RetryAfter: "7200"}, "rateLimited", "Wait", now.Add(2 * time.Hour)},
		{"limit with a date", &legoacme.RateLimitedError{ProblemDetails: problem("rateLimited", "too many"), RetryAfter: "Sun, 22 Nov 2026 01:02:03 GMT"}, "rateLimited", "Wait", time.Date(2026, 11, 22, 1, 2, 3, 0, time.UTC)},
		{"limit in words", &legoacme.RateLimitedError{ProblemDetails: problem("rateLimited", "too many certificates (5) already issued, retry after 2026-11-23 14:05:00 UTC: see https://…")}, "rateLimited", "Wait", time.Date(2026, 11, 23, 14, 5, 0, 0, time.UTC)},
		{"subproblems", &legoacme.ProblemDetails{Type: namespace + "malformed", Detail: "some", SubProblems: []legoacme.SubProblem{
			{Type: namespace + "rejectedIdentifier", Detail: "no", Identifier: legoacme.Identifier{Value: "b.example"}}}}, "rejectedIdentifier", "Take the name out", time.Time{}},
		{"a new one", problem("brandNew", "?"), "brandNew", "Look the authority's words up", time.Time{}},
	} {
		t.Run(c.name, func(t *testing.T) {
			err := o.explain(t.Context(), fmt.Errorf("one or more domains had a problem: %w", c.err))
			var r *Refusal
			if !errors.As(err, &r) {
				t.Fatalf("got %v, want a refusal", err)
			}
			if r.Type != c.kind || !strings.HasPrefix(diag.Fix(err), c.fix) || !r.RetryAt.Equal(c.retryAt) {
				t.Errorf("got %s, fix %q, retry at %s; want %s, %q, %s", r.Type, diag.Fix(err), r.RetryAt, c.kind, c.fix, c.retryAt)
			}
			if !strings.Contains(err.Error(), "a.example, b.example") {
				t.Errorf("it does not say what for: %v", err)
			}
		})
	}
}

// TestLaw6RefusalsKeepTheKeyOfTheAccount: an authority may say again what it was told, or knows already.
func TestLaw6RefusalsKeepTheKeyOfTheAccount(t *testing.T) {
	const key = "zWNDZM6eQGHWpSRTPal5eIUYFTu7EajVIoguysqZ9wG44nMEtx3MUAsUDkMTQ12W"
	o := &order{Request: Request{Domains: []string{"a.example"}, External: &ExternalAccount{KeyID: "kid", HMAC: secret.New(key)}}}
	for name, said := range map[string]error{
		"detail": problem("unauthorized", "no account with "+key), "type": problem(key, "?"), "part": problem("x", "it begins with "+key[:12]),
		"subproblem": &legoacme.ProblemDetails{SubProblems: []legoacme.SubProblem{{Detail: key}}}, "no problem": errors.New("odd answer: " + key),
	} {
		err := o.explain(t.Context(), said)
		var r *Refusal
		errors.As(err, &r)
		if text := fmt.Sprintf("%s %s %+v", err, diag.Fix(err), r); strings.Contains(text, key[:12]) || !strings.Contains(text, secret.Redacted) {
			t.Errorf("%s: got %s", name, text)
		}
	}
}

func TestEveryTypeHasAdvice(t *testing.T) {
	for _, a := range advice {
		if strings.Contains(a.fix, "%") {
			t.Errorf("%s: %q", a.kind, a.fix)
		}
	}
}

func memory() *hosttest.Memory {
	m := hosttest.NewMemory()
	m.Put("/var/lib", host.File{Type: host.Directory, Mode: 0o755})
	return m
}

func TestAccountIsMadeOnceAndPrivate(t *testing.T) {
	m := memory()
	a := Account{Files: m, Dir: "/var/lib/converge/accounts/x", UID: 7, GID: 8}
	first, err := a.load(t.Context(), "https://a.example/dir", "")
	if err != nil {
		t.Fatal(err)
	}
	second, err := a.load(t.Context(), "https://a.example/dir", "")
	if err != nil {
		t.Fatal(err)
	}
	if !first.key.(*ecdsa.PrivateKey).Equal(second.key) {
		t.Error("the second load made another key")
	}
	f, err := m.Lookup(a.keyPath())
	if err != nil || f.Mode != 0o600 || f.UID != 7 || f.GID != 8 {
		t.Errorf("the key: %+v, %v", f, err)
	}
	d, err := m.Lookup(a.Dir)
	if err != nil || d.Mode != 0o700 {
		t.Errorf("its directory: %+v, %v", d, err)
	}
	m.Put(a.infoPath(), host.File{Content: []byte(`{"directory":"https://a.example/dir","uri":"https://a.example/1"}`), Mode: 0o600})
	for directory, want := range map[string]bool{"https://a.example/dir": true, "https://other.example/dir": false} {
		u, err := a.load(t.Context(), directory, "")
		if err != nil || (u.registration != nil) != want {
			t.Errorf("%s: registered %t, %v; want %t", directory, u.registration != nil, err, want)
		}
	}
	m.Put(a.keyPath(), host.File{Content: []byte("-----BEGIN SECRET\nabc"), Mode: 0o600})
	if _, err := a.load(t.Context(), "", ""); err == nil || strings.Contains(err.Error(), "abc") || diag.Fix(err) == "" {
		t.Errorf("a spoiled key: %v", err)
	}
}

func TestWebrootHoldsTheAnswerForAWhile(t *testing.T) {
	m := memory()
	w := InWebroot{Files: m, Dir: "/var/lib/converge-acme"}
	if err := w.Present(t.Context(), "a.example", "tok_en-1", "answer"); err != nil {
		t.Fatal(err)
	}
	const file = "/var/lib/converge-acme/.well-known/acme-challenge/tok_en-1"
	if f, err := m.Lookup(file); err != nil || f == nil || string(f.Content) != "answer" || f.Mode != 0o644 {
		t.Errorf("got %+v, %v", f, err)
	}
	for range 2 {
		if err := w.CleanUp(t.Context(), "a.example", "tok_en-1", "answer"); err != nil {
			t.Fatal(err)
		}
	}
	if f, err := m.Lookup(file); err != nil || f != nil {
		t.Errorf("left: %+v, %v", f, err)
	}
	for _, token := range []string{"../../etc/passwd", "", "a/b", "a\x00", "a.b"} {
		if err := w.Present(t.Context(), "a.example", token, "x"); err == nil {
			t.Errorf("the token %q was taken", token)
		}
	}
}

// TestWebrootIsSweptAfterAKill: where others may answer challenges, too, only what is surely converge's goes.
func TestWebrootIsSweptAfterAKill(t *testing.T) {
	for dir, want := range map[string]string{Webroot: "", "/srv/www": "theirs"} {
		m := memory()
		w := InWebroot{Files: m, Dir: dir}
		if err := w.Sweep(t.Context()); err != nil { // there is nothing yet
			t.Fatal(err)
		}
		for _, token := range []string{"theirs", ProbeToken + "X"} {
			if err := w.Present(t.Context(), "a.example", token, "answer"); err != nil {
				t.Fatal(err)
			}
		}
		m.Put(dir+ChallengePath+".converge-0123abcd-0123456789abcdef", host.File{Content: []byte("ans"), Mode: 0o644})
		if err := w.Sweep(t.Context()); err != nil {
			t.Fatal(err)
		}
		if names, err := m.List(dir + ChallengePath[:len(ChallengePath)-1]); err != nil || strings.Join(names, " ") != want {
			t.Errorf("%s: left %q, %v; want %q", dir, names, err, want)
		}
	}
}

func TestStandaloneAnswersWhatWasPresented(t *testing.T) {
	addr := fmt.Sprintf("127.0.0.1:%d", nginxtest.FreePort(t))
	s, err := Listen(t.Context(), addr)
	if err != nil {
		t.Fatal(err)
	}
	if err := s.Present(t.Context(), "a.example", "token", "answer"); err != nil {
		t.Fatal(err)
	}
	for domain, want := range map[string]bool{"a.example": true, "A.example:80": true, "b.example": false} {
		if got := Answers(t.Context(), addr, domain, "token", "answer"); got != want {
			t.Errorf("%s: answered %t, want %t", domain, got, want)
		}
	}
	if Answers(t.Context(), addr, "a.example", "other", "answer") {
		t.Error("another token is answered")
	}
	res, err := http.Post("http://"+addr+ChallengePath+"token", "text/plain", nil)
	if err != nil {
		t.Fatal(err)
	}
	body, err := io.ReadAll(res.Body)
	if err != nil || strings.Contains(string(body), "answer") {
		t.Errorf("POST: %q, %v", body, err)
	}
	_ = res.Body.Close()
	if err := s.CleanUp(t.Context(), "a.example", "token", "answer"); err != nil {
		t.Fatal(err)
	}
	if Answers(t.Context(), addr, "a.example", "token", "answer") {
		t.Error("it is still answered after the end")
	}
	if err := s.Close(); err != nil {
		t.Error(err)
	}
	again, err := Listen(t.Context(), addr)
	if err != nil {
		t.Fatalf("the port was not given back: %v", err)
	}
	if err := again.Close(); err != nil { // at once, before its server runs
		t.Error(err)
	}
	if nginxtest.Answers(portOf(t, addr)) {
		t.Error("the listener stayed open")
	}
}

func portOf(t *testing.T, addr string) int {
	t.Helper()
	var port int
	if _, err := fmt.Sscanf(addr, "127.0.0.1:%d", &port); err != nil {
		t.Fatal(err)
	}
	return port
}

// stubborn is a presenter whose CleanUp fails until it is told otherwise.
type stubborn struct {
	open  map[string]bool
	fails bool
}

func (s *stubborn) Present(_ context.Context, _, token, _ string) error {
	s.open[token] = true
	return nil
}

func (s *stubborn) CleanUp(ctx context.Context, _, token, _ string) error {
	if s.fails || ctx.Err() != nil {
		return errors.New("no")
	}
	delete(s.open, token)
	return nil
}

func TestCleanerTakesEverythingAway(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	s := &stubborn{open: map[string]bool{}, fails: true}
	c := &cleaner{ctx: ctx, Presenter: s}
	for _, token := range []string{"a", "b"} {
		if err := c.Present("a.example", token, "x"); err != nil {
			t.Fatal(err)
		}
	}
	if err := c.CleanUp("a.example", "a", "x"); err == nil {
		t.Error("the failure was not reported")
	}
	cancel()
	s.fails = false
	c.cleanAll()
	if len(s.open) != 0 {
		t.Errorf("left: %v", s.open)
	}
	if err := c.Present("a.example", "late", "x"); err == nil || s.open["late"] {
		t.Error("an answer was presented after the end")
	}
}

func TestPair(t *testing.T) {
	dir := t.TempDir()
	ca := nginxtest.NewCA(t, dir)
	read := func(name string) []byte {
		b, err := os.ReadFile(name)
		if err != nil {
			t.Fatal(err)
		}
		return b
	}
	one, two := ca.Issue(t, filepath.Join(dir, "1"), "a.example", "b.example"), ca.Issue(t, filepath.Join(dir, "2"), "a.example")
	p, err := ParsePair(read(one.CertFile), read(one.KeyFile))
	if err != nil || p.KeyType != "ec256" {
		t.Fatalf("got %+v, %v", p, err)
	}
	for _, c := range []struct {
		domains []string
		want    bool
	}{
		{[]string{"b.example", "a.example"}, true}, {[]string{"a.example", "a.example", "b.example"}, true},
		{[]string{"a.example"}, false}, {[]string{"a.example", "b.example", "c.example"}, false},
	} {
		if p.For(c.domains) != c.want {
			t.Errorf("For(%q) = %t", c.domains, !c.want)
		}
	}
	if _, err := ParsePair(read(one.CertFile), read(two.KeyFile)); err == nil {
		t.Error("a key of another certificate was taken")
	}
}
