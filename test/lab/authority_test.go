package lab_test

import (
	"crypto/tls"
	"crypto/x509"
	"os"
	"testing"
	"time"

	"github.com/converge-agent/converge/nginx/nginxtest"
	"github.com/converge-agent/converge/test/lab"
)

// TestCertificate: tests set clocks ahead by months, and clocks of machines are not the lab's.
func TestCertificate(t *testing.T) {
	certificate, key, err := world.Certificate("example.com", "www.example.com")
	if err != nil {
		t.Fatal(err)
	}
	pair, err := tls.X509KeyPair(certificate, key)
	if err != nil {
		t.Fatal(err)
	}
	pem, err := os.ReadFile(world.CAFile)
	if err != nil {
		t.Fatal(err)
	}
	roots := x509.NewCertPool()
	roots.AppendCertsFromPEM(pem)
	for _, name := range []string{"example.com", "www.example.com"} {
		for _, when := range []time.Time{time.Now().Add(-12 * time.Hour), time.Now().AddDate(4, 0, 0)} {
			if _, err := pair.Leaf.Verify(x509.VerifyOptions{Roots: roots, DNSName: name, CurrentTime: when}); err != nil {
				t.Errorf("%s on %s: %v", name, when, err)
			}
		}
	}
	if err := pair.Leaf.VerifyHostname("localhost"); err == nil {
		t.Error("it is for names that were not asked for")
	}
	if _, _, err := world.Certificate(); err == nil {
		t.Error("a certificate for no name was made")
	}
}

func TestACMENameServerOfSomebodyElse(t *testing.T) {
	other, err := world.ACME(t.Context(), lab.ACMEOptions{HTTPPort: nginxtest.FreePort(t), Resolve: map[string]string{"files.social.test": "127.0.0.1"}})
	if err != nil {
		t.Fatal(err)
	}
	port := nginxtest.FreePort(t)
	a, err := world.ACME(t.Context(), lab.ACMEOptions{HTTPPort: port, NameServer: other.DNS})
	if err != nil {
		t.Fatal(err)
	}
	obtain(t, legoClient(t, a, port), "files.social.test")
	if err := a.Resolve("more.social.test", "127.0.0.1"); err == nil {
		t.Error("the authority took a name that its name server will not know")
	}
}
