package objectstore

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"maps"
	"net"
	"net/http"
	"os"
	"sync"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/credentials"
	"github.com/aws/aws-sdk-go-v2/service/s3"
	"github.com/aws/smithy-go/logging"
	"github.com/aws/smithy-go/middleware"
	"github.com/converge-agent/converge/diag"
	"github.com/converge-agent/converge/secret"
)

// MaxWorkers is the number of requests at a time that one Store keeps idle connections for. More work, but reconnect.
const MaxWorkers = 128

// Clients makes stores, one for each configuration, so that pacing and counts are per store.
type Clients struct {
	mu     sync.Mutex
	stores map[Config]*Store
}

// NewClients returns an empty set of stores.
func NewClients() *Clients { return &Clients{stores: map[Config]*Store{}} }

// Store returns the store of cfg, which is made at the first call. It sends nothing. Errors are *diag.Error: an unknown
// provider, a missing key, an unreadable CAFile.
func (c *Clients) Store(cfg Config) (*Store, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if s, ok := c.stores[cfg]; ok {
		return s, nil
	}
	s, err := newStore(cfg)
	if err != nil {
		return nil, err
	}
	c.stores[cfg] = s
	return s, nil
}

// Store is one object store as one key sees it. Its methods may be called from several goroutines. They fail with the
// errors of this package, each inside a *diag.Error, or with that of their context.
type Store struct {
	cfg      Config
	provider *Provider
	api      *s3.Client
	http     *http.Client // for requests without a signature
	pace     pacer

	mu       sync.Mutex
	requests map[string]int64
}

func newStore(cfg Config) (*Store, error) {
	doing := "use the object store at " + cfg.Host()
	provider, ok := cfg.Entry()
	if !ok {
		return nil, diag.New(doing, fmt.Sprintf("there is no provider %q", cfg.Provider), "Write one of those that converge knows as provider of the object_store.")
	}
	for _, key := range []secret.String{cfg.AccessKeyID, cfg.SecretAccessKey} {
		if m := key.Missing(); m != nil {
			return nil, diag.Wrap(m, doing, m.Fix)
		}
	}
	if err := provider.CheckKeyID(cfg.AccessKeyID); err != nil {
		return nil, diag.Wrap(err, doing, "Write the id of one of its keys as access_key_id.")
	}
	s := &Store{cfg: cfg, provider: provider, requests: map[string]int64{}}
	transport, err := newTransport(cfg.CAFile, maxStall)
	if err != nil {
		return nil, diag.Wrap(err, doing, "Name a readable PEM file of certificates in ca_file, or leave it out.")
	}
	s.http = &http.Client{
		Transport:     &counting{next: transport, store: s},
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}
	s.api = s3.New(s.options())
	return s, nil
}

// Provider returns the entry of the table that the store is of, with the overrides of its Config.
func (s *Store) Provider() *Provider { return s.provider }

// Config returns what the store was made from.
func (s *Store) Config() Config { return s.cfg }

// Requests returns how many requests went out to all stores, repeated ones included, by operation; nil where there is none.
func (c *Clients) Requests() map[string]int64 {
	c.mu.Lock()
	defer c.mu.Unlock()
	if len(c.stores) == 0 {
		return nil
	}
	sum := map[string]int64{}
	for _, s := range c.stores {
		s.mu.Lock()
		for op, n := range s.requests {
			sum[op] += n
		}
		s.mu.Unlock()
	}
	return sum
}

// Requests returns how many requests went out, repeated ones included, by operation, and all together as Total.
func (s *Store) Requests() map[string]int64 {
	s.mu.Lock()
	defer s.mu.Unlock()
	all := maps.Clone(s.requests)
	var total int64
	for _, n := range all {
		total += n
	}
	all["Total"] = total
	return all
}

// options says all that the SDK would otherwise take from AWS_* variables and shared files. Checksums are only sent where
// the S3 protocol requires one: the SDK's default, an aws-chunked trailer over TLS, is refused or stored as data by several
// stores. Retries are our own (see do), and the clock is not corrected: the admin shall hear of it.
func (s *Store) options() s3.Options {
	return s3.Options{
		Region:       s.provider.SigningRegion(s.cfg.Region),
		BaseEndpoint: aws.String(s.cfg.Endpoint),
		UsePathStyle: s.cfg.PathStyle,
		Credentials: credentials.NewStaticCredentialsProvider(
			s.cfg.AccessKeyID.Reveal(), s.cfg.SecretAccessKey.Reveal(), ""),
		HTTPClient:                                s.http,
		RequestChecksumCalculation:                aws.RequestChecksumCalculationWhenRequired,
		ResponseChecksumValidation:                aws.ResponseChecksumValidationWhenRequired,
		Retryer:                                   aws.NopRetryer{},
		DisableClockSkewCorrection:                true,
		DisableMultiRegionAccessPoints:            true,
		DisableS3ExpressSessionAuth:               aws.Bool(true),
		DisableLogOutputChecksumValidationSkipped: true,
		Logger: logging.Nop{},
		APIOptions: []func(*middleware.Stack) error{
			func(stack *middleware.Stack) error { return removeEnvironment(stack) },
		},
	}
}

// removeEnvironment takes out the two steps of the SDK that look at the environment for every request: a trace header that
// depends on AWS_LAMBDA_FUNCTION_NAME, and a User-Agent that holds AWS_EXECUTION_ENV.
func removeEnvironment(stack *middleware.Stack) error {
	for _, id := range []string{"RecursionDetection", "UserAgent"} {
		if _, err := stack.Build.Remove(id); err != nil {
			return fmt.Errorf("remove the SDK's step %s: %w", id, err)
		}
	}
	return nil
}

// newTransport makes connections that trust the system's authorities and those of caFile, and use no proxy (proxy.go). HTTP/2 is off:
// it would send all requests of a sync through one connection. Idle connections are kept for every worker, for with Go's 10
// most small uploads would start with a TLS handshake. What stalls for longer than stall ends.
func newTransport(caFile string, stall time.Duration) (http.RoundTripper, error) {
	pool, err := x509.SystemCertPool()
	if err != nil {
		pool = x509.NewCertPool()
	}
	if caFile != "" {
		pem, err := os.ReadFile(caFile)
		if err != nil {
			return nil, fmt.Errorf("read ca_file: %w", err)
		}
		if !pool.AppendCertsFromPEM(pem) {
			return nil, fmt.Errorf("read ca_file: %s holds no certificate in PEM", caFile)
		}
	}
	dialer := &net.Dialer{Timeout: 10 * time.Second, KeepAlive: 30 * time.Second}
	dial := func(ctx context.Context, network, address string) (net.Conn, error) {
		conn, err := dialer.DialContext(ctx, network, address)
		if err != nil {
			return nil, err
		}
		return &writing{Conn: conn, most: stall}, nil
	}
	return &impatient{most: stall, next: &http.Transport{
		DialContext:           dial,
		TLSClientConfig:       &tls.Config{RootCAs: pool, MinVersion: tls.VersionTLS12},
		TLSHandshakeTimeout:   10 * time.Second,
		TLSNextProto:          map[string]func(string, *tls.Conn) http.RoundTripper{},
		MaxIdleConns:          MaxWorkers,
		MaxIdleConnsPerHost:   MaxWorkers,
		IdleConnTimeout:       90 * time.Second,
		ResponseHeaderTimeout: 2 * time.Minute,
		ExpectContinueTimeout: time.Second,
		DisableCompression:    true,
	}}, nil
}

// opKey is the context's key of the operation that a request belongs to.
type opKey struct{}

// counting counts requests as they go out.
type counting struct {
	next  http.RoundTripper
	store *Store
}

func (c *counting) RoundTrip(r *http.Request) (*http.Response, error) {
	op, _ := r.Context().Value(opKey{}).(string)
	c.store.mu.Lock()
	c.store.requests[op]++
	c.store.mu.Unlock()
	r = r.Clone(r.Context())
	r.Header.Set("User-Agent", "converge")
	return c.next.RoundTrip(r)
}
