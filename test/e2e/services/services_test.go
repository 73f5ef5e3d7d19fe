package services

import (
	"bytes"
	"context"
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"encoding/hex"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"maps"
	"net"
	"net/http"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/credentials"
	"github.com/aws/aws-sdk-go-v2/service/s3"
	"github.com/go-acme/lego/v4/certcrypto"
	legocertificate "github.com/go-acme/lego/v4/certificate"
	"github.com/go-acme/lego/v4/challenge/http01"
	"github.com/go-acme/lego/v4/lego"
	"github.com/go-acme/lego/v4/registration"
	"github.com/miekg/dns"

	"github.com/converge-agent/converge/test/e2e/machines"
)

// world is a host of services and another machine, which asks it.
type world struct {
	driver   machines.Driver
	services *Services
	machine  machines.Machine // that the services are on
	other    machines.Machine
}

const media = "media" // the bucket of all tests

// TestServices runs on one pair of machines, and cuts the power of the services in the end.
func TestServices(t *testing.T) {
	driver, err := machines.Nspawn(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := driver.Stop(context.Background()); err != nil {
			t.Error(err)
		}
	})
	ms, err := driver.Start(t.Context(), machines.Spec{Name: "services", Role: machines.Services, Release: "bookworm"},
		machines.Spec{Name: "other", Role: machines.Services, Release: "bookworm"})
	if err != nil {
		t.Fatal(err)
	}
	w := &world{driver: driver, machine: ms[0], other: ms[1]}
	w.start(t, "backblaze-b2")
	t.Cleanup(func() {
		if journal, err := w.machine.Journal(context.Background()); t.Failed() {
			t.Logf("the services' journal (%v):\n%s", err, journal)
		}
	})
	w.trust(t)
	if _, err := w.s3("agent").CreateBucket(t.Context(), &s3.CreateBucketInput{Bucket: aws.String(media)}); err != nil {
		t.Fatal(err)
	}
	for _, test := range []struct {
		name string
		run  func(*testing.T, *world)
	}{
		{"what it listens on", testListeners},
		{"names", testNames},
		{"names by UDP and TCP", testProtocols},
		{"store", testStore},
		{"oracles", testOracles},
		{"certificate", testCertificate},
		{"authority", testAuthority},
		{"down", testDown},
		{"fault", testFault},
		{"power cut", testPowerCut},
		{"another provider", testProvider},
		{"a provider that there is none of", testNoProvider},
	} {
		t.Run(test.name, func(t *testing.T) { test.run(t, w) })
	}
}

// start starts the services, or starts them again with another provider.
func (w *world) start(t *testing.T, provider string) {
	t.Helper()
	var err error
	w.services, err = Start(t.Context(), w.driver, w.machine, Options{
		Provider: provider, Resolve: map[string]string{"files.example.com": w.other.IP()}, CertificateLifetime: 60 * 24 * time.Hour,
	})
	if err != nil {
		t.Fatal(err)
	}
}

// trust has the other machine ask the name server, trust the authority, and serve pages.
func (w *world) trust(t *testing.T) {
	t.Helper()
	for path, content := range map[string]string{
		"/etc/resolv.conf": "nameserver " + w.services.IP + "\n",
		"/usr/local/share/ca-certificates/services.crt": w.services.CAPEM,
	} {
		if err := w.other.Put(t.Context(), path, content, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	sh(t, w.other, "update-ca-certificates >/dev/null 2>&1; systemctl unmask nginx; systemctl start nginx")
}

// sh runs a script that must succeed, and returns what it printed, without white space around it.
func sh(t *testing.T, m machines.Machine, script string) string {
	t.Helper()
	r, err := m.Run(t.Context(), "sh", "-ec", script)
	if err != nil || r.Code != 0 {
		t.Fatalf("%s: exit code %d, %v: %s%s", script, r.Code, err, r.Stdout, r.Stderr)
	}
	return strings.TrimSpace(r.Stdout)
}

// s3 is a client of the store by its provider's name, as the "agent" or the "app".
func (w *world) s3(who string) *s3.Client {
	s := w.services
	keys := map[string][2]string{"agent": {s.AgentKey, s.AgentSecret}, "app": {s.AppKey, s.AppSecret}}[who]
	return s3.New(s3.Options{
		BaseEndpoint:               &s.Endpoint,
		Region:                     s.Region,
		UsePathStyle:               true,
		Credentials:                credentials.NewStaticCredentialsProvider(keys[0], keys[1], ""),
		HTTPClient:                 s.HTTPClient(),
		RetryMaxAttempts:           1,
		RequestChecksumCalculation: aws.RequestChecksumCalculationWhenRequired,
		ResponseChecksumValidation: aws.ResponseChecksumValidationWhenRequired,
	})
}

func (w *world) put(ctx context.Context, key, body string) error {
	_, err := w.s3("app").PutObject(ctx, &s3.PutObjectInput{Bucket: aws.String(media), Key: &key, Body: strings.NewReader(body)})
	return err
}

// status is that of an answer of the store, or 0 for none.
func status(err error) int {
	var answered interface{ HTTPStatusCode() int }
	if errors.As(err, &answered) {
		return answered.HTTPStatusCode()
	}
	return 0
}

func digest(body string) string {
	sum := sha256.Sum256([]byte(body))
	return hex.EncodeToString(sum[:])
}

// testListeners reads the sockets as the kernel lists them (proc(5), /proc/net/tcp): nothing but loopback addresses, and the
// ports of the host's own.
func testListeners(t *testing.T, w *world) {
	ip := net.ParseIP(w.services.IP).To4()
	own := fmt.Sprintf("%02X%02X%02X%02X:", ip[3], ip[2], ip[1], ip[0])
	found := map[string]bool{}
	for line := range strings.Lines(sh(t, w.machine, `cd /proc/net
		awk '$4 == "0A" {print "tcp", $2}' tcp tcp6; awk 'FNR > 1 {print "udp", $2}' udp udp6`)) {
		protocol, addr, _ := strings.Cut(strings.TrimSpace(line), " ")
		if !strings.HasSuffix(strings.SplitN(addr, ":", 2)[0], "7F") { // 127.0.0.0/8
			found[protocol+" "+strings.TrimPrefix(addr, own)] = true
		}
	}
	got := slices.Sorted(maps.Keys(found))
	if want := []string{"tcp 0035", "tcp 01BB", "tcp 1F77", "udp 0035"}; !slices.Equal(got, want) { // 53, 443, 8055
		t.Errorf("the services listen on %v, want %v", got, want)
	}
}

// testNames asks as programs of the other machine do, by its C library.
func testNames(t *testing.T, w *world) {
	lookup := func(name string) string {
		return sh(t, w.other, "getent ahosts "+name+" | awk '{print $1}' | sort -u")
	}
	want := func(name, ip string) {
		t.Helper()
		if got := lookup(name); got != ip {
			t.Errorf("%s is at %q, want %q", name, got, ip)
		}
	}
	for _, name := range []string{"s3.us-west-001.backblazeb2.com", "media.s3.us-west-001.backblazeb2.com", letsEncrypt, "ACME-v02.api.LetsEncrypt.org"} {
		want(name, w.services.IP)
	}
	want("files.example.com", w.other.IP())
	want("example.com", "")
	want("www.files.example.com", "")
	for _, ip := range []string{w.other.IP(), w.services.IP, ""} {
		if err := w.services.Resolve(t.Context(), "example.com", ip); err != nil {
			t.Fatal(err)
		}
		want("example.com", ip)
	}
	if err := w.services.Resolve(t.Context(), "example.com", "nonsense"); err == nil || !strings.Contains(err.Error(), `"nonsense" is no IPv4 address`) {
		t.Errorf("a name got an address that is none: %v", err)
	}
}

func testProtocols(t *testing.T, w *world) {
	ask := func(protocol, name string, kind uint16) *dns.Msg {
		t.Helper()
		conn, err := w.driver.DialContext(t.Context(), protocol, net.JoinHostPort(w.services.IP, "53"))
		if err != nil {
			t.Fatal(err)
		}
		defer func() { _ = conn.Close() }()
		c := dns.Client{Net: protocol, Timeout: time.Minute}
		a, _, err := c.ExchangeWithConn(new(dns.Msg).SetQuestion(name+".", kind).SetEdns0(1232, false), &dns.Conn{Conn: conn})
		if err != nil {
			t.Fatal(err)
		}
		return a
	}
	for _, protocol := range []string{"udp", "tcp"} {
		for _, want := range []struct {
			name    string
			kind    uint16
			rcode   int
			answers string
		}{
			{"files.example.com", dns.TypeA, dns.RcodeSuccess, w.other.IP()},
			{"files.example.com", dns.TypeAAAA, dns.RcodeSuccess, ""}, // it exists, and has none
			{"unknown.example.com", dns.TypeA, dns.RcodeNameError, ""},
		} {
			a := ask(protocol, want.name, want.kind)
			var answers []string
			for _, rr := range a.Answer {
				answers = append(answers, rr.(*dns.A).A.String())
			}
			if got := strings.Join(answers, " "); a.Rcode != want.rcode || got != want.answers || a.IsEdns0() == nil {
				t.Errorf("%s, %+v: rcode %d, answers %q", protocol, want, a.Rcode, got)
			}
		}
	}
}

func testStore(t *testing.T, w *world) {
	if err := w.put(t.Context(), "a/b c.txt", "text"); err != nil {
		t.Fatal(err)
	}
	got, err := w.s3("app").GetObject(t.Context(), &s3.GetObjectInput{Bucket: aws.String(media), Key: aws.String("a/b c.txt")})
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = got.Body.Close() }()
	if body, err := io.ReadAll(got.Body); err != nil || string(body) != "text" {
		t.Errorf("got %q, %v", body, err)
	}
	// The other machine, by all that a program there goes by. A private bucket says 403 to who has no key.
	for _, url := range []string{w.services.Endpoint + "/media/a/b%20c.txt", "https://media.s3.us-west-001.backblazeb2.com/a/b%20c.txt"} {
		if got := sh(t, w.other, "curl -sS -o /dev/null -w '%{http_code}' "+url); got != "403" {
			t.Errorf("%s: status %s, want 403", url, got)
		}
	}
	_, err = w.s3("app").CreateBucket(t.Context(), &s3.CreateBucketInput{Bucket: aws.String("other")})
	if status(err) != http.StatusForbidden {
		t.Errorf("the app made a bucket: %v", err)
	}
}

func testOracles(t *testing.T, w *world) {
	ctx, s := t.Context(), w.services
	if err := w.put(ctx, "two", "2"); err != nil {
		t.Fatal(err)
	}
	keys, err := s.Keys(ctx, media)
	if want := []string{"a/b c.txt", "two"}; err != nil || !slices.Equal(keys, want) {
		t.Errorf("Keys = %q, %v, want %q", keys, err, want)
	}
	digests, err := s.SHA256(ctx, media)
	if want := map[string]string{"a/b c.txt": digest("text"), "two": digest("2")}; err != nil || !maps.Equal(digests, want) {
		t.Errorf("SHA256 = %v, %v, want %v", digests, err, want)
	}
	if names, err := s.Buckets(ctx); err != nil || !slices.Equal(names, []string{media}) {
		t.Errorf("Buckets = %q, %v", names, err)
	}
	keys, err = s.Keys(ctx, "none")
	if err != nil || len(keys) > 0 {
		t.Errorf("a bucket that does not exist has the keys %q, %v", keys, err)
	}
	if err := s.ResetRequests(ctx); err != nil {
		t.Fatal(err)
	}
	if err := w.put(ctx, "two", "2"); err != nil {
		t.Fatal(err)
	}
	if counts, err := s.Requests(ctx); err != nil || !maps.Equal(counts, map[string]int64{"PutObject 2xx": 1}) {
		t.Errorf("Requests = %v, %v, want one PutObject", counts, err)
	}
}

func testCertificate(t *testing.T, w *world) {
	certPEM, keyPEM, err := w.services.Certificate(t.Context(), "example.com", "www.example.com")
	if err != nil {
		t.Fatal(err)
	}
	pair, err := tls.X509KeyPair([]byte(certPEM), []byte(keyPEM))
	if err != nil {
		t.Fatal(err)
	}
	roots := x509.NewCertPool()
	roots.AppendCertsFromPEM([]byte(w.services.CAPEM))
	in90Days := time.Now().AddDate(0, 0, 90)
	if _, err := pair.Leaf.Verify(x509.VerifyOptions{Roots: roots, DNSName: "www.example.com", CurrentTime: in90Days}); err != nil {
		t.Error(err)
	}
	if _, _, err := w.services.Certificate(t.Context()); err == nil {
		t.Error("a certificate for no name was made")
	}
}

// user is an account at the authority.
type user struct {
	key          crypto.PrivateKey
	registration *registration.Resource
}

func (u *user) GetEmail() string                        { return "admin@example.com" }
func (u *user) GetRegistration() *registration.Resource { return u.registration }
func (u *user) GetPrivateKey() crypto.PrivateKey        { return u.key }

// webroot answers challenges by the other machine's nginx.
type webroot struct{ w *world }

func (r webroot) Present(_, token, answer string) error {
	return r.w.other.Put(context.Background(), "/var/www/html"+http01.ChallengePath(token), answer, 0o644)
}
func (webroot) CleanUp(string, string, string) error { return nil }

// testAuthority has a certificate issued for a name that is on the other machine.
func testAuthority(t *testing.T, w *world) {
	if err := w.services.Resolve(t.Context(), "issued.example.com", w.other.IP()); err != nil {
		t.Fatal(err)
	}
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	u := &user{key: key}
	config := lego.NewConfig(u)
	config.CADirURL, config.HTTPClient = w.services.ACMEDirectory, w.services.HTTPClient()
	config.Certificate.KeyType = certcrypto.EC256
	client, err := lego.NewClient(config)
	if err != nil {
		t.Fatal(err)
	}
	if err := client.Challenge.SetHTTP01Provider(webroot{w}); err != nil {
		t.Fatal(err)
	}
	if u.registration, err = client.Registration.Register(registration.RegisterOptions{TermsOfServiceAgreed: true}); err != nil {
		t.Fatal(err)
	}
	issued, err := client.Certificate.Obtain(legocertificate.ObtainRequest{Domains: []string{"issued.example.com"}, Bundle: true})
	if err != nil {
		t.Fatal(err)
	}
	leaf, rest := pem.Decode(issued.Certificate)
	cert, err := x509.ParseCertificate(leaf.Bytes)
	if err != nil {
		t.Fatal(err)
	}
	roots, chain := x509.NewCertPool(), x509.NewCertPool()
	roots.AppendCertsFromPEM([]byte(w.services.ACMERootPEM))
	chain.AppendCertsFromPEM(rest)
	if _, err := cert.Verify(x509.VerifyOptions{Roots: roots, Intermediates: chain, DNSName: "issued.example.com"}); err != nil {
		t.Error(err)
	}
	if life := cert.NotAfter.Sub(cert.NotBefore).Round(time.Hour); life != 60*24*time.Hour {
		t.Errorf("it is good for %s, want 60 days", life)
	}
	if _, err := client.Certificate.Obtain(legocertificate.ObtainRequest{Domains: []string{"unknown.example.com"}}); err == nil {
		t.Error("a certificate was issued for a name that does not exist")
	}
}

// wantDirectory expects that the authority answers.
func wantDirectory(t *testing.T, w *world) {
	t.Helper()
	resp, err := w.services.HTTPClient().Get(w.services.ACMEDirectory)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = resp.Body.Close() }()
	body, err := io.ReadAll(resp.Body)
	if err != nil || !bytes.Contains(body, []byte("https://"+letsEncrypt+"/")) {
		t.Errorf("the directory says %s, %v", body, err)
	}
}

func testDown(t *testing.T, w *world) {
	down := func(down bool) {
		t.Helper()
		if err := w.services.Down(t.Context(), down); err != nil {
			t.Fatal(err)
		}
	}
	kept := w.services.HTTPClient()
	kept.Transport.(*http.Transport).DisableKeepAlives = false
	if _, err := getStatus(t, kept, w.services.Endpoint); err != nil {
		t.Fatal(err)
	}
	down(true)
	for name, client := range map[string]*http.Client{"a kept connection": kept, "a new one": w.services.HTTPClient()} {
		if code, err := getStatus(t, client, w.services.Endpoint); !errors.Is(err, syscall.ECONNRESET) {
			t.Errorf("%s ended with %d, %v, want a reset", name, code, err)
		}
	}
	if err := w.put(t.Context(), "down", ""); err == nil || status(err) != 0 {
		t.Errorf("the store answered a request: %v", err)
	}
	if keys, err := w.services.Keys(t.Context(), media); err != nil || len(keys) != 2 {
		t.Errorf("Keys = %q, %v", keys, err)
	}
	wantDirectory(t, w)
	down(false)
	if err := w.put(t.Context(), "up", "again"); err != nil {
		t.Error(err)
	}
}

func getStatus(t *testing.T, c *http.Client, url string) (int, error) {
	t.Helper()
	resp, err := c.Get(url)
	if err != nil {
		return 0, err
	}
	_, err = io.Copy(io.Discard, resp.Body)
	return resp.StatusCode, errors.Join(err, resp.Body.Close())
}

func testFault(t *testing.T, w *world) {
	fault := func(f FaultSpec) {
		t.Helper()
		if err := w.services.Fault(t.Context(), f); err != nil {
			t.Fatal(err)
		}
	}
	busy := FaultSpec{Status: 503, Code: "SlowDown", Share: 1, For: time.Hour, Methods: []string{http.MethodPut}}
	fault(busy)
	err := w.put(t.Context(), "fault", "")
	if status(err) != 503 || !strings.Contains(err.Error(), "SlowDown") {
		t.Errorf("during a fault of all: %v, want 503 SlowDown", err)
	}
	if _, err := w.s3("app").HeadObject(t.Context(), &s3.HeadObjectInput{Bucket: aws.String(media), Key: aws.String("two")}); err != nil {
		t.Errorf("a fault of PUT touches HEAD: %v", err)
	}
	busy.Share = 0.5
	fault(busy)
	answered := map[int]int{}
	for range 60 { // one side alone comes once in 2^59
		answered[status(w.put(t.Context(), "half", ""))]++
	}
	if answered[503] == 0 || answered[503] == 60 || answered[503]+answered[0] != 60 {
		t.Errorf("during a fault of one in two the answers were %v", answered)
	}
	busy.Share, busy.For = 1, time.Millisecond
	fault(busy)
	deadline := time.Now().Add(time.Minute)
	for w.put(t.Context(), "over", "") != nil {
		if time.Now().After(deadline) {
			t.Fatal("a fault for a millisecond does not end")
		}
	}
	fault(FaultSpec{Delay: 300 * time.Millisecond, Share: 1, For: time.Hour})
	began := time.Now()
	if err := w.put(t.Context(), "late", ""); err != nil || time.Since(began) < 300*time.Millisecond {
		t.Errorf("a late answer came after %s: %v", time.Since(began), err)
	}
	busy.For = time.Hour
	fault(busy)
	fault(FaultSpec{})
	if err := w.put(t.Context(), "over", ""); err != nil {
		t.Errorf("after the fault was taken away: %v", err)
	}
	for _, bad := range []FaultSpec{{Status: 200, Share: 1, For: time.Hour}, {Status: 503, For: time.Hour}, {Status: 503, Share: 1}, {Status: 503, Share: 2, For: time.Hour}} {
		if err := w.services.Fault(t.Context(), bad); err == nil {
			t.Errorf("%+v was taken", bad)
		}
	}
}

// testPowerCut: the host comes back with what it had, except for the authority.
func testPowerCut(t *testing.T, w *world) {
	ctx, before := t.Context(), *w.services
	want, err := before.SHA256(ctx, media)
	if err != nil || len(want) == 0 {
		t.Fatal(want, err)
	}
	sh(t, w.machine, "sync") // power that is cut takes along what only the memory has
	if err := w.machine.Kill(ctx); err != nil {
		t.Fatal(err)
	}
	if err := w.machine.Boot(ctx); err != nil {
		t.Fatal(err)
	}
	if err := w.services.Wait(ctx); err != nil {
		t.Fatal(err)
	}
	if after := *w.services; after.AgentSecret != before.AgentSecret || after.AppSecret != before.AppSecret || after.CAPEM != before.CAPEM {
		t.Error("the host has other keys or another authority than before")
	}
	if w.services.ACMERootPEM == before.ACMERootPEM {
		t.Error("the authority is the same as before, which the documentation denies")
	}
	if got, err := w.services.SHA256(ctx, media); err != nil || !maps.Equal(got, want) {
		t.Errorf("the bucket has %v, %v, want %v", got, err, want)
	}
	if err := w.put(ctx, "after", "the cut"); err != nil {
		t.Error(err)
	}
	wantDirectory(t, w)
	if got := sh(t, w.other, "getent hosts files.example.com | awk '{print $1}'"); got != w.other.IP() {
		t.Errorf("files.example.com is at %q", got)
	}
}

// testProvider starts the services again, on the program that is there.
func testProvider(t *testing.T, w *world) {
	program := sh(t, w.machine, "stat -c '%i %Z' "+programPath)
	w.start(t, "minio")
	if got := sh(t, w.machine, "stat -c '%i %Z' "+programPath); got != program {
		t.Errorf("the program was put again: %s, before %s", got, program)
	}
	if w.services.Endpoint != "https://minio.test" || w.services.Region != "us-east-1" {
		t.Errorf("the endpoint is %s in %s", w.services.Endpoint, w.services.Region)
	}
	if _, err := w.s3("agent").CreateBucket(t.Context(), &s3.CreateBucketInput{Bucket: aws.String("mastodon")}); err != nil {
		t.Error(err)
	}
	if got := sh(t, w.other, "curl -sS -o /dev/null -w '%{http_code}' https://minio.test/mastodon/x"); got != "403" {
		t.Errorf("status %s, want 403", got)
	}
}

func testNoProvider(t *testing.T, w *world) {
	_, err := Start(t.Context(), w.driver, w.machine, Options{Provider: "none"})
	if err == nil || !strings.Contains(err.Error(), `there is no provider "none"`) {
		t.Errorf("error = %v, want one that says what the program said", err)
	}
}
