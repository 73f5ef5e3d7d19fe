package main

import (
	"bytes"
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"time"
)

// visitor is somebody with a browser, who trusts the lab's authority and knows where the host is.
type visitor struct{ client *http.Client }

func newVisitor(h host, rootFile string) (*visitor, error) {
	pem, err := os.ReadFile(rootFile)
	if err != nil {
		return nil, err
	}
	roots := x509.NewCertPool()
	if !roots.AppendCertsFromPEM(pem) {
		return nil, errors.New("the authority's root is no certificate")
	}
	transport := &http.Transport{
		TLSClientConfig: &tls.Config{RootCAs: roots},
		DialContext: func(ctx context.Context, network, _ string) (net.Conn, error) {
			return h.dial(ctx, network, net.JoinHostPort(h.ip(), "443"))
		},
	}
	return &visitor{&http.Client{Transport: transport, Timeout: time.Minute, CheckRedirect: func(*http.Request, []*http.Request) error {
		return http.ErrUseLastResponse
	}}}, nil
}

// visit is one request and what has to come of it.
type visit struct {
	method, path string
	status       int
	cache        string // X-Cache-Status, where it matters
	body         []byte // where it matters
}

// visit makes a request through the proxy, shows it, and checks the answer.
func (s *story) visit(ctx context.Context, v visit) error {
	r, err := http.NewRequestWithContext(ctx, v.method, "https://"+filesName+v.path, nil)
	if err != nil {
		return err
	}
	resp, err := s.visitor.client.Do(r)
	if err != nil {
		return fmt.Errorf("%s %s: %w", v.method, v.path, err)
	}
	defer func() { _ = resp.Body.Close() }()
	body, err := io.ReadAll(resp.Body)
	if err != nil {
		return fmt.Errorf("%s %s: %w", v.method, v.path, err)
	}
	cache := resp.Header.Get("X-Cache-Status")
	line := fmt.Sprintf("%-6s https://%s%s  ->  %d", v.method, filesName, v.path, resp.StatusCode)
	if cache != "" {
		line += ", cache " + cache
	}
	switch {
	case resp.StatusCode != v.status:
		return fmt.Errorf("%s instead of %d", line, v.status)
	case v.cache != "" && cache != v.cache:
		return fmt.Errorf("%s instead of %s", line, v.cache)
	case v.body != nil && !bytes.Equal(body, v.body):
		return fmt.Errorf("%s, with other bytes than the file has", line)
	}
	s.ok("%s", line)
	return nil
}
