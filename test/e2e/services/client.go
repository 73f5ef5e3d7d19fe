package services

import (
	"bytes"
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"time"
)

// Certificate makes a certificate for a server of the suite, and its key, both in PEM. Who trusts CAPEM trusts it. It is
// good for five years.
func (s *Services) Certificate(ctx context.Context, names ...string) (certPEM, keyPEM string, err error) {
	var made certificate
	err = s.call(ctx, "certificate", names, &made)
	return made.Certificate, made.Key, err
}

// Resolve gives a name an address, for hosts that ask the name server and for the authority alike. An empty ip takes the
// name away.
func (s *Services) Resolve(ctx context.Context, name, ip string) error {
	return s.call(ctx, "resolve", record{name, ip}, nil)
}

// FaultSpec is a time in which the store answers some requests late, or with an error, or both. The zero value is no fault.
type FaultSpec struct {
	Delay   time.Duration // before anything is done
	Status  int           // of the answer: 503; 0 lets the store answer, after the Delay
	Code    string        // of the answer's S3 error: "SlowDown"
	Share   float64       // of the requests, each by chance: above 0, 1 is all
	For     time.Duration // from now on, whatever the clock is set to
	Methods []string      // of HTTP that it is about; nil is all
}

// Fault begins a time of faults, and ends one that is.
func (s *Services) Fault(ctx context.Context, f FaultSpec) error { return s.call(ctx, "fault", f, nil) }

// Down has every connection to the store, also those that are open, reset before it answers, or not any more. The authority
// shares its address and stays.
func (s *Services) Down(ctx context.Context, down bool) error { return s.call(ctx, "down", down, nil) }

// Buckets returns the names of the store's buckets, sorted.
func (s *Services) Buckets(ctx context.Context) (names []string, err error) {
	err = s.call(ctx, "buckets", nil, &names)
	return names, err
}

// Keys returns all keys in a bucket, in the order of their bytes. A bucket that does not exist has none.
func (s *Services) Keys(ctx context.Context, bucket string) (keys []string, err error) {
	err = s.call(ctx, "keys", bucket, &keys)
	return keys, err
}

// SHA256 returns the digests, in hexadecimal, of the bytes that the store has by key. A bucket that does not exist has none.
func (s *Services) SHA256(ctx context.Context, bucket string) (digests map[string]string, err error) {
	err = s.call(ctx, "sha256", bucket, &digests)
	return digests, err
}

// Requests returns how many requests the store had since it began or ResetRequests was called, by operation and class of
// status: "PutObject 2xx".
func (s *Services) Requests(ctx context.Context) (counts map[string]int64, err error) {
	err = s.call(ctx, "requests", nil, &counts)
	return counts, err
}

// ResetRequests forgets the requests counted so far.
func (s *Services) ResetRequests(ctx context.Context) error {
	return s.call(ctx, "reset-requests", nil, nil)
}

// HTTPClient returns a client that finds every name at the host of the services, trusts its servers and nobody else, and
// keeps no connection open.
func (s *Services) HTTPClient() *http.Client {
	pool := x509.NewCertPool()
	pool.AppendCertsFromPEM([]byte(s.CAPEM))
	return &http.Client{Transport: &http.Transport{
		TLSClientConfig:   &tls.Config{RootCAs: pool},
		DisableKeepAlives: true,
		DialContext: func(ctx context.Context, network, addr string) (net.Conn, error) {
			_, port, err := net.SplitHostPort(addr)
			if err != nil {
				return nil, err
			}
			return s.dial(ctx, network, net.JoinHostPort(s.IP, port))
		},
	}}
}

// call calls the control API with in, and reads its answer into out where that is not nil.
func (s *Services) call(ctx context.Context, path string, in, out any) error {
	body, err := json.Marshal(in)
	if err != nil {
		return err
	}
	url := "http://" + net.JoinHostPort(s.IP, controlPort) + "/" + path
	r, err := http.NewRequestWithContext(ctx, http.MethodPost, url, bytes.NewReader(body))
	if err != nil {
		return err
	}
	resp, err := s.control.Do(r)
	if err != nil {
		return fmt.Errorf("ask the services for %s: %w", path, err)
	}
	defer func() { _ = resp.Body.Close() }()
	answer, err := io.ReadAll(resp.Body)
	if err != nil {
		return fmt.Errorf("ask the services for %s: %w", path, err)
	}
	if resp.StatusCode != http.StatusOK {
		return fmt.Errorf("ask the services for %s: %s: %s", path, resp.Status, strings.TrimSpace(string(answer)))
	}
	if out == nil {
		return nil
	}
	return json.Unmarshal(answer, out)
}
