package lab_test

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"encoding/pem"
	"fmt"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/converge-agent/converge/nginx/nginxtest"
	"github.com/converge-agent/converge/test/lab"
	"github.com/go-acme/lego/v4/certcrypto"
	"github.com/go-acme/lego/v4/certificate"
	"github.com/go-acme/lego/v4/challenge/http01"
	"github.com/go-acme/lego/v4/lego"
	"github.com/go-acme/lego/v4/registration"
)

type user struct {
	key          crypto.PrivateKey
	registration *registration.Resource
}

func (u *user) GetEmail() string                        { return "admin@example.com" }
func (u *user) GetRegistration() *registration.Resource { return u.registration }
func (u *user) GetPrivateKey() crypto.PrivateKey        { return u.key }

// legoClient is a registered client whose challenges are answered on port.
func legoClient(t *testing.T, a *lab.ACME, port int) *lego.Client {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	u := &user{key: key}
	config := lego.NewConfig(u)
	config.CADirURL = a.DirectoryURL
	config.HTTPClient = web(t)
	config.Certificate.KeyType = certcrypto.EC256
	client, err := lego.NewClient(config)
	if err != nil {
		t.Fatal(err)
	}
	if err := client.Challenge.SetHTTP01Provider(http01.NewProviderServer("127.0.0.1", fmt.Sprint(port))); err != nil {
		t.Fatal(err)
	}
	if u.registration, err = client.Registration.Register(registration.RegisterOptions{TermsOfServiceAgreed: true}); err != nil {
		t.Fatal(err)
	}
	return client
}

func obtain(t *testing.T, c *lego.Client, names ...string) (*certificate.Resource, *x509.Certificate) {
	t.Helper()
	res, err := c.Certificate.Obtain(certificate.ObtainRequest{Domains: names, Bundle: true})
	if err != nil {
		t.Fatal(err)
	}
	block, _ := pem.Decode(res.Certificate)
	cert, err := x509.ParseCertificate(block.Bytes)
	if err != nil {
		t.Fatal(err)
	}
	return res, cert
}

func TestACMEIssues(t *testing.T) {
	port := nginxtest.FreePort(t)
	a, err := world.ACME(t.Context(), lab.ACMEOptions{HTTPPort: port})
	if err != nil {
		t.Fatal(err)
	}
	c := legoClient(t, a, port)
	start := time.Now()
	res, cert := obtain(t, c, "files.social.test")
	if life := cert.NotAfter.Sub(cert.NotBefore).Round(time.Hour); life != 90*24*time.Hour {
		t.Errorf("the certificate is valid for %s", life)
	}
	if before := start.Sub(cert.NotBefore); before < 30*time.Minute || before > 61*time.Minute {
		t.Errorf("the certificate began %s before it was asked for, not about an hour", before)
	}
	root, err := os.ReadFile(a.RootFile)
	if err != nil {
		t.Fatal(err)
	}
	roots, chain := x509.NewCertPool(), x509.NewCertPool()
	roots.AppendCertsFromPEM(root)
	chain.AppendCertsFromPEM(res.Certificate)
	if _, err := cert.Verify(x509.VerifyOptions{Roots: roots, Intermediates: chain, DNSName: "files.social.test"}); err != nil {
		t.Errorf("the certificate does not lead to the root file: %s", err)
	}
	window(t, a, c, res, cert)
}

// TestACMEHasChallengesAskedAgainSoon: else lego waits for 5 s or more wherever the first look came too early.
func TestACMEHasChallengesAskedAgainSoon(t *testing.T) {
	a, err := world.ACME(t.Context(), lab.ACMEOptions{})
	if err != nil {
		t.Fatal(err)
	}
	for path, want := range map[string]string{"/chalZ/x": "1", "/dir": ""} {
		resp, err := web(t).Get(strings.TrimSuffix(a.DirectoryURL, "/dir") + path)
		if err != nil {
			t.Fatal(err)
		}
		if got := resp.Header.Get("Retry-After"); got != want {
			t.Errorf("%s: Retry-After is %q, want %q", path, got, want)
		}
		if err := resp.Body.Close(); err != nil {
			t.Fatal(err)
		}
	}
}

func TestACMEAuthorizations(t *testing.T) {
	for _, reuse := range []bool{false, true} {
		port := nginxtest.FreePort(t)
		a, err := world.ACME(t.Context(), lab.ACMEOptions{HTTPPort: port, ReuseAuthorizations: reuse, Resolve: map[string]string{"files.social.test": "127.0.0.1"}})
		if err != nil {
			t.Fatal(err)
		}
		c := legoClient(t, a, port)
		obtain(t, c, "files.social.test")
		if err := a.Resolve("files.social.test", ""); err != nil {
			t.Fatal(err)
		}
		_, err = c.Certificate.Obtain(certificate.ObtainRequest{Domains: []string{"files.social.test"}})
		if (err == nil) != reuse {
			t.Errorf("reuse %v: a second certificate for a name that is gone: %v", reuse, err)
		}
	}
}

// window checks that the authority suggests the renewal that it was told to.
func window(t *testing.T, a *lab.ACME, c *lego.Client, res *certificate.Resource, cert *x509.Certificate) {
	t.Helper()
	start, end := time.Now().Add(-time.Hour).Truncate(time.Second), time.Now().Add(time.Hour).Truncate(time.Second)
	if err := a.SetRenewalWindow(res.Certificate, start, end); err != nil {
		t.Fatal(err)
	}
	info, err := c.Certificate.GetRenewalInfo(certificate.RenewalInfoRequest{Cert: cert})
	if err != nil {
		t.Fatal(err)
	}
	if !info.SuggestedWindow.Start.Equal(start) || !info.SuggestedWindow.End.Equal(end) {
		t.Errorf("the window is %v, want %s to %s", info.SuggestedWindow, start, end)
	}
	if err := a.SetRenewalWindow([]byte("no certificate"), start, end); err == nil {
		t.Error("a window for no certificate was set")
	}
}

func TestACMERefusesWhatItCannotReach(t *testing.T) {
	a, err := world.ACME(t.Context(), lab.ACMEOptions{HTTPPort: nginxtest.FreePort(t), Resolve: map[string]string{"files.social.test": "127.0.0.1"}})
	if err != nil {
		t.Fatal(err)
	}
	c := legoClient(t, a, nginxtest.FreePort(t)) // answers elsewhere
	for name, want := range map[string]string{"files.social.test": "connection refused", "other.social.test": "other.social.test"} {
		_, err := c.Certificate.Obtain(certificate.ObtainRequest{Domains: []string{name}})
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: got %v, want an error with %q", name, err, want)
		}
	}
}

func TestACMEProfiles(t *testing.T) {
	port := nginxtest.FreePort(t)
	a, err := world.ACME(t.Context(), lab.ACMEOptions{HTTPPort: port, Profiles: map[string]time.Duration{"default": 90 * 24 * time.Hour, "shortlived": 144 * time.Hour}})
	if err != nil {
		t.Fatal(err)
	}
	c := legoClient(t, a, port)
	res, err := c.Certificate.Obtain(certificate.ObtainRequest{Domains: []string{"files.social.test"}, Profile: "shortlived"})
	if err != nil {
		t.Fatal(err)
	}
	block, _ := pem.Decode(res.Certificate)
	cert, err := x509.ParseCertificate(block.Bytes)
	if err != nil {
		t.Fatal(err)
	}
	if life := cert.NotAfter.Sub(cert.NotBefore).Round(time.Hour); life != 144*time.Hour {
		t.Errorf("a short-lived certificate is valid for %s", life)
	}
	if _, err := c.Certificate.Obtain(certificate.ObtainRequest{Domains: []string{"files.social.test"}, Profile: "nothing"}); err == nil || !strings.Contains(err.Error(), "rofile") {
		t.Errorf("an unknown profile: %v", err)
	}
}
