package acme

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"net"
	"net/http"
	"sync"
	"time"

	"github.com/converge-agent/converge/diag"
	"github.com/converge-agent/converge/host"
	legolog "github.com/go-acme/lego/v4/log"
)

// newTransport returns a client whose requests end with ctx. Nothing of it comes from the environment.
func newTransport(ctx context.Context, caFile string, files host.View) (*http.Client, error) {
	config := &tls.Config{MinVersion: tls.VersionTLS12}
	if caFile != "" {
		var err error
		if config.RootCAs, err = readPool(caFile, files); err != nil {
			return nil, err
		}
	}
	const each = 30 * time.Second
	return &http.Client{Transport: &bound{ctx: ctx, base: &http.Transport{
		DialContext:           (&net.Dialer{Timeout: each}).DialContext,
		TLSClientConfig:       config,
		TLSHandshakeTimeout:   each,
		ResponseHeaderTimeout: each,
		IdleConnTimeout:       each,
	}}}, nil
}

func readPool(caFile string, files host.View) (*x509.CertPool, error) {
	const doing, fix = "read the authorities in ", "Correct ca_file: it must be a file of certificates in PEM."
	f, err := files.Lookup(caFile)
	if err != nil {
		return nil, err
	}
	if f == nil {
		return nil, diag.New(doing+caFile, "there is no such file", fix)
	}
	pool := x509.NewCertPool()
	if !pool.AppendCertsFromPEM(f.Content) {
		return nil, diag.Wrap(errors.New("it holds no certificate"), doing+caFile, fix)
	}
	return pool, nil
}

// bound gives every request a context, for lego has none (v4).
type bound struct {
	ctx  context.Context
	base http.RoundTripper
}

func (b *bound) RoundTrip(r *http.Request) (*http.Response, error) {
	return b.base.RoundTrip(r.WithContext(b.ctx))
}

// silence takes lego's log away, which is a variable of its package and writes to standard error.
var silence = sync.OnceFunc(func() { legolog.Logger = discard{} })

type discard struct{}

func (discard) Fatal(...any)          {}
func (discard) Fatalln(...any)        {}
func (discard) Fatalf(string, ...any) {}
func (discard) Print(...any)          {}
func (discard) Println(...any)        {}
func (discard) Printf(string, ...any) {}
