package integration

import (
	"crypto/tls"
	"crypto/x509"
	"net/http"
	"os"
	"testing"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/credentials"
	"github.com/aws/aws-sdk-go-v2/service/s3"
)

// http is a client of its own that trusts the lab.
func (s *site) http(t *testing.T) (client *http.Client, done func()) {
	t.Helper()
	pem, err := os.ReadFile(s.lab.CAFile)
	if err != nil {
		t.Fatal(err)
	}
	pool := x509.NewCertPool()
	pool.AppendCertsFromPEM(pem)
	transport := &http.Transport{TLSClientConfig: &tls.Config{RootCAs: pool}}
	return &http.Client{Transport: transport}, transport.CloseIdleConnections
}

// deleteBucket removes the bucket with all that is in it, as an admin does with another tool.
func (s *site) deleteBucket(t *testing.T) {
	t.Helper()
	http, done := s.http(t)
	defer done()
	client := s3.New(s3.Options{
		Region: s.s3.Region, BaseEndpoint: aws.String(s.s3.Endpoint), UsePathStyle: true, HTTPClient: http,
		Credentials: credentials.NewStaticCredentialsProvider(s.s3.AgentKey, s.s3.AgentSecret, ""),
	})
	for _, key := range s.s3.Keys(s.name()) {
		s.s3.Delete(s.name(), key)
	}
	if _, err := client.DeleteBucket(t.Context(), &s3.DeleteBucketInput{Bucket: aws.String(s.name())}); err != nil {
		t.Fatal(err)
	}
}
