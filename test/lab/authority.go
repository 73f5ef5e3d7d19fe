package lab

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"log"
	"math/big"
	"net"
	"strings"
	"time"
)

// testNames are the names, beside its address and localhost, that the certificates of the lab's servers are for. The domain
// .test belongs to nobody (RFC 6761 section 6.2).
var testNames = []string{
	"localhost",
	"s3." + b2Region + ".backblazeb2.test", "*.s3." + b2Region + ".backblazeb2.test",
	"minio.test", "*.minio.test",
	"s3." + awsRegion + ".amazonaws.test", "*.s3." + awsRegion + ".amazonaws.test",
	"s3." + scalewayRegion + ".scw.test", "*.s3." + scalewayRegion + ".scw.test",
	"s3." + wasabiRegion + ".wasabisys.test", "*.s3." + wasabiRegion + ".wasabisys.test",
	r2Account + ".r2.cloudflarestorage.test", "*." + r2Account + ".r2.cloudflarestorage.test",
	r2Account + ".eu.r2.cloudflarestorage.test", "*." + r2Account + ".eu.r2.cloudflarestorage.test",
	idriveName, idriveDiscovery,
	"acme.test",
}

// silent is a log for servers whose complaints about clients that hang up are the point of a test.
var silent = log.New(io.Discard, "", 0)

// backdated is how long before they are made certificates begin, for machines whose clocks are behind the lab's.
const backdated = 24 * time.Hour

// authority signs the certificates of the lab's servers. Its key leaves the process only where a lab keeps it in its
// directory.
type authority struct {
	cert *x509.Certificate
	key  *ecdsa.PrivateKey
	pem  []byte
}

func newAuthority(name string) (*authority, error) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, err
	}
	template := &x509.Certificate{
		SerialNumber:          big.NewInt(time.Now().UnixNano()),
		Subject:               pkix.Name{CommonName: name},
		NotBefore:             time.Now().Add(-backdated),
		NotAfter:              time.Now().AddDate(10, 0, 0),
		KeyUsage:              x509.KeyUsageCertSign,
		BasicConstraintsValid: true,
		IsCA:                  true,
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, &key.PublicKey, key)
	if err != nil {
		return nil, err
	}
	cert, err := x509.ParseCertificate(der)
	if err != nil {
		return nil, err
	}
	return &authority{cert, key, certificatePEM(der)}, nil
}

// issue makes a server certificate for addresses and names. It is good for years, so that a test may set its clock ahead.
func (a *authority) issue(ips []net.IP, names []string) (tls.Certificate, error) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return tls.Certificate{}, err
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(time.Now().UnixNano()),
		NotBefore:    time.Now().Add(-backdated),
		NotAfter:     time.Now().AddDate(5, 0, 0),
		KeyUsage:     x509.KeyUsageDigitalSignature,
		ExtKeyUsage:  []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth},
		IPAddresses:  ips,
		DNSNames:     names,
	}
	der, err := x509.CreateCertificate(rand.Reader, template, a.cert, &key.PublicKey, a.key)
	if err != nil {
		return tls.Certificate{}, err
	}
	return tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key}, nil
}

// Certificate makes a certificate of the lab's authority for a server that is not the lab's, by its names and addresses, and
// its key, both in PEM. It is good for five years.
func (l *Lab) Certificate(names ...string) (certificate, key []byte, err error) {
	if len(names) == 0 {
		return nil, nil, errors.New("make a certificate: it needs a name")
	}
	var ips []net.IP
	var hosts []string
	for _, name := range names {
		if ip := net.ParseIP(name); ip != nil {
			ips = append(ips, ip)
		} else {
			hosts = append(hosts, name)
		}
	}
	made, err := l.ca.issue(ips, hosts)
	if err != nil {
		return nil, nil, fmt.Errorf("make a certificate for %s: %w", strings.Join(names, ", "), err)
	}
	der, err := x509.MarshalPKCS8PrivateKey(made.PrivateKey)
	if err != nil {
		return nil, nil, err
	}
	return certificatePEM(made.Certificate[0]), pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: der}), nil
}

// serverTLS offers HTTP/1.1 alone, so that a fault of one connection is a fault of one request.
func serverTLS(cert tls.Certificate) *tls.Config {
	return &tls.Config{
		Certificates: []tls.Certificate{cert},
		MinVersion:   tls.VersionTLS12,
		NextProtos:   []string{"http/1.1"},
	}
}

func certificatePEM(der []byte) []byte {
	var b bytes.Buffer
	_ = pem.Encode(&b, &pem.Block{Type: "CERTIFICATE", Bytes: der}) // a bytes.Buffer takes all
	return b.Bytes()
}
