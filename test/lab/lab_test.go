package lab_test

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/credentials"
	"github.com/aws/aws-sdk-go-v2/service/s3"
	"github.com/aws/aws-sdk-go-v2/service/s3/types"
	"github.com/aws/smithy-go"
	"github.com/converge-agent/converge/test/lab"
)

// world is the lab of all tests here; a process can have one.
var world *lab.Lab

func TestMain(m *testing.M) { os.Exit(run(m)) }

func run(m *testing.M) int {
	dir, err := os.MkdirTemp("", "lab-test")
	if err != nil {
		fmt.Println(err)
		return 1
	}
	defer func() { _ = os.RemoveAll(dir) }()
	if world, err = lab.Start(context.Background(), lab.Options{Dir: dir, Names: []string{"acme.example.com"}}); err != nil {
		fmt.Println(err)
		return 1
	}
	defer world.Close()
	return m.Run()
}

// store starts a store and a bucket in it.
func store(t *testing.T, p lab.Personality) (*lab.S3, string) {
	t.Helper()
	s, err := world.S3(t.Context(), p)
	if err != nil {
		t.Fatal(err)
	}
	name := fmt.Sprintf("media-%d", time.Now().UnixNano())
	in := &s3.CreateBucketInput{Bucket: &name}
	if p == lab.AWS {
		in.CreateBucketConfiguration = &types.CreateBucketConfiguration{LocationConstraint: types.BucketLocationConstraint(s.Region)}
	}
	if _, err := agent(t, s).CreateBucket(t.Context(), in); err != nil {
		t.Fatalf("create a bucket: %s", err)
	}
	return s, name
}

func agent(t *testing.T, s *lab.S3) *s3.Client { return client(t, s, s.AgentKey, s.AgentSecret) }
func app(t *testing.T, s *lab.S3) *s3.Client   { return client(t, s, s.AppKey, s.AppSecret) }

// client is a plain SDK client without retries and without the checksums that providers refuse.
func client(t *testing.T, s *lab.S3, key, secret string, options ...func(*s3.Options)) *s3.Client {
	t.Helper()
	return s3.New(s3.Options{
		BaseEndpoint:               &s.Endpoint,
		Region:                     s.Region,
		UsePathStyle:               true,
		Credentials:                credentials.NewStaticCredentialsProvider(key, secret, ""),
		HTTPClient:                 web(t),
		RetryMaxAttempts:           1,
		RequestChecksumCalculation: aws.RequestChecksumCalculationWhenRequired,
		ResponseChecksumValidation: aws.ResponseChecksumValidationWhenRequired,
	}, options...)
}

// web is a client that trusts the lab's authority and nothing else.
func web(t *testing.T) *http.Client {
	t.Helper()
	pem, err := os.ReadFile(world.CAFile)
	if err != nil {
		t.Fatal(err)
	}
	pool := x509.NewCertPool()
	if !pool.AppendCertsFromPEM(pem) {
		t.Fatal("the CA file holds no certificate")
	}
	transport := &http.Transport{TLSClientConfig: &tls.Config{RootCAs: pool}}
	t.Cleanup(transport.CloseIdleConnections)
	return &http.Client{Transport: transport, Timeout: 5 * time.Minute}
}

// code returns "status Code" of an error of the SDK, or "" for none.
func code(err error) string {
	if err == nil {
		return ""
	}
	var api smithy.APIError
	var status interface{ HTTPStatusCode() int }
	if !errors.As(err, &api) || !errors.As(err, &status) {
		return err.Error()
	}
	return fmt.Sprintf("%d %s", status.HTTPStatusCode(), api.ErrorCode())
}

// anonymous does a request without a key and returns its status.
func anonymous(t *testing.T, method, url string) int {
	t.Helper()
	r, err := http.NewRequestWithContext(t.Context(), method, url, nil)
	if err != nil {
		t.Fatal(err)
	}
	resp, err := web(t).Do(r)
	if err != nil {
		t.Fatal(err)
	}
	if err := resp.Body.Close(); err != nil {
		t.Fatal(err)
	}
	return resp.StatusCode
}

func TestOneLabInAProcess(t *testing.T) {
	if second, err := lab.Start(t.Context(), lab.Options{Dir: t.TempDir()}); err == nil {
		second.Close()
		t.Fatal("a second lab started beside the first")
	}
}

// TestKnownNames: with a line in /etc/hosts the lab passes for a provider's own servers.
func TestKnownNames(t *testing.T) {
	a, err := world.ACME(t.Context(), lab.ACMEOptions{})
	if err != nil {
		t.Fatal(err)
	}
	client := web(t)
	addr, _, _ := strings.Cut(strings.TrimPrefix(a.DirectoryURL, "https://"), "/")
	client.Transport.(*http.Transport).DialContext = func(ctx context.Context, network, _ string) (net.Conn, error) {
		return new(net.Dialer).DialContext(ctx, network, addr)
	}
	resp, err := client.Get("https://acme.example.com/directory")
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = resp.Body.Close() }()
	body, err := io.ReadAll(resp.Body)
	if err != nil || resp.StatusCode != http.StatusOK || !strings.Contains(string(body), `"newOrder": "https://acme.example.com/`) {
		t.Errorf("the directory under its known name: status %d, error %v, %s", resp.StatusCode, err, body)
	}
}
