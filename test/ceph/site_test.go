package ceph

import (
	"bytes"
	"errors"
	"fmt"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/credentials"
	"github.com/aws/aws-sdk-go-v2/service/s3"
	"github.com/aws/smithy-go"
	"github.com/converge-agent/converge/test/lab/rgw"
)

// site is one host's configuration of a bucket at the gateway, and its records.
type site struct {
	dir    string
	user   rgw.User
	bucket string
	s3     *s3.Client // the user's own, for what people do with other tools
}

func newSite(t *testing.T) *site {
	t.Helper()
	name := strings.ToLower(t.Name())
	s := &site{dir: t.TempDir(), user: user(t, name), bucket: name + "-media"}
	s.s3 = sdk(s.user)
	return s
}

func user(t *testing.T, name string) rgw.User {
	t.Helper()
	u, err := gateway.AddUser(t.Context(), name)
	if err != nil {
		t.Fatal(err)
	}
	return u
}

func sdk(u rgw.User) *s3.Client {
	return s3.New(s3.Options{
		BaseEndpoint: &gateway.Endpoint, Region: gateway.Region, UsePathStyle: true, HTTPClient: visitor,
		Credentials:                credentials.NewStaticCredentialsProvider(u.Key, u.Secret, ""),
		RequestChecksumCalculation: aws.RequestChecksumCalculationWhenRequired,
		ResponseChecksumValidation: aws.ResponseChecksumValidationWhenRequired,
	})
}

// configure writes the configuration: the store with some attributes, the bucket with others, and what follows them.
func (s *site) configure(t *testing.T, ofStore, ofBucket, rest string) {
	t.Helper()
	text := fmt.Sprintf(`
object_store "ceph" {
  provider          = "ceph-rgw"
  endpoint          = %q
  ca_file           = %q
  access_key_id     = env("CEPH_ID")
  secret_access_key = env("CEPH_KEY")
  %s
}
s3_bucket "media" {
  store = object_store.ceph
  name  = %q
  %s
}
%s
`, gateway.Endpoint, world.CAFile, ofStore, s.bucket, ofBucket, rest)
	if err := os.WriteFile(filepath.Join(s.dir, "converge.hcl"), []byte(text), 0o644); err != nil {
		t.Fatal(err)
	}
}

// converge applies by the program, and returns what it printed and its exit code: 2 with changes, 0 without.
func (s *site) converge(t *testing.T) (string, int) {
	t.Helper()
	c := exec.CommandContext(t.Context(), program, "apply", "--auto-approve", "--detailed-exitcode",
		"--lock-timeout", "5m", // another test's run may have the host's lock
		"--state-dir", filepath.Join(s.dir, "state"), filepath.Join(s.dir, "converge.hcl"))
	c.Env = []string{"PATH=" + os.Getenv("PATH"), "HOME=" + s.dir, "CEPH_ID=" + s.user.Key, "CEPH_KEY=" + s.user.Secret}
	var out bytes.Buffer
	c.Stdout, c.Stderr = &out, &out
	err := c.Run()
	var exit *exec.ExitError
	if err != nil && !errors.As(err, &exit) {
		t.Fatal(err)
	}
	if strings.Contains(out.String(), s.user.Secret) {
		t.Errorf("it shows the secret key:\n%s", out.String())
	}
	return out.String(), c.ProcessState.ExitCode()
}

// apply applies, checks that what it shows before says each of the words, and that there is nothing left to do afterwards.
func (s *site) apply(t *testing.T, says ...string) {
	t.Helper()
	out, code := s.converge(t)
	if code != 2 {
		t.Fatalf("apply exits with %d, want changes:\n%s", code, out)
	}
	for _, word := range says {
		if !strings.Contains(out, word) {
			t.Errorf("apply does not say %q:\n%s", word, out)
		}
	}
	s.unchanged(t)
}

// unchanged checks that there is nothing to do.
func (s *site) unchanged(t *testing.T) {
	t.Helper()
	if out, code := s.converge(t); code != 0 {
		t.Fatalf("apply exits with %d, want nothing to do:\n%s", code, out)
	}
}

func (s *site) put(t *testing.T, key string) {
	t.Helper()
	if _, err := s.s3.PutObject(t.Context(), &s3.PutObjectInput{Bucket: &s.bucket, Key: &key, Body: strings.NewReader("body of " + key)}); err != nil {
		t.Fatal(err)
	}
}

func (s *site) keys(t *testing.T) []string {
	t.Helper()
	var keys []string
	pages := s3.NewListObjectsV2Paginator(s.s3, &s3.ListObjectsV2Input{Bucket: &s.bucket})
	for pages.HasMorePages() {
		page, err := pages.NextPage(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		for _, o := range page.Contents {
			keys = append(keys, *o.Key)
		}
	}
	return keys
}

// empty checks that there is nothing in the bucket but what the test has put there.
func (s *site) empty(t *testing.T, put ...string) {
	t.Helper()
	if got := s.keys(t); !slices.Equal(got, put) {
		t.Errorf("in the bucket: %q, want only what was put there, %q", got, put)
	}
}

// anonymously does requests without a key below the bucket: "GET /key" and the status that it is to have.
func (s *site) anonymously(t *testing.T, calls map[string]int) {
	t.Helper()
	for call, want := range calls {
		method, path, _ := strings.Cut(call, " ")
		if got := anonymous(t, method, gateway.Endpoint+"/"+s.bucket+path); got != want {
			t.Errorf("anonymous %s: got %d, want %d", call, got, want)
		}
	}
}

func anonymous(t *testing.T, method, url string) int {
	t.Helper()
	r, err := http.NewRequestWithContext(t.Context(), method, url, nil)
	if err != nil {
		t.Fatal(err)
	}
	resp, err := visitor.Do(r)
	if err != nil {
		t.Fatal(err)
	}
	_ = resp.Body.Close()
	return resp.StatusCode
}

func (s *site) policy(t *testing.T) string {
	t.Helper()
	out, err := s.s3.GetBucketPolicy(t.Context(), &s3.GetBucketPolicyInput{Bucket: &s.bucket})
	if code(err) == "404 NoSuchBucketPolicy" {
		return ""
	}
	if err != nil {
		t.Fatal(err)
	}
	return *out.Policy
}

func (s *site) setPolicy(t *testing.T, policy string) {
	t.Helper()
	if _, err := s.s3.PutBucketPolicy(t.Context(), &s3.PutBucketPolicyInput{Bucket: &s.bucket, Policy: &policy}); err != nil {
		t.Fatal(err)
	}
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

func ptr[T any](v T) *T { return &v }
