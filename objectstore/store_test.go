package objectstore

import (
	"context"
	"crypto/md5"
	"encoding/base64"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/converge-agent/converge/diag"
	"github.com/converge-agent/converge/secret"
)

const (
	testID     = "0014aa9865d6f0000000000b1"
	testSecret = "K001verysecretverysecretverysec"
)

// serve starts a TLS server and returns a store of the provider at it.
func serve(t *testing.T, provider string, h http.HandlerFunc) *Store {
	t.Helper()
	server := httptest.NewUnstartedServer(h)
	server.EnableHTTP2 = true // which a store may offer, and which is not to be taken
	server.StartTLS()
	t.Cleanup(server.Close)
	ca := filepath.Join(t.TempDir(), "ca.pem")
	block := pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: server.Certificate().Raw})
	if err := os.WriteFile(ca, block, 0o600); err != nil {
		t.Fatal(err)
	}
	return mustStore(t, Config{
		Provider: provider, Region: "us-west-001", Endpoint: server.URL, PathStyle: true, CAFile: ca,
		AccessKeyID: secret.New(testID), SecretAccessKey: secret.New(testSecret),
	})
}

func mustStore(t *testing.T, cfg Config) *Store {
	t.Helper()
	s, err := NewClients().Store(cfg)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// roundTrip is a transport without a network, for tests in which time is made up.
type roundTrip func(*http.Request) (*http.Response, error)

func (f roundTrip) RoundTrip(r *http.Request) (*http.Response, error) { return f(r) }

// within makes a store whose requests go to f.
func within(t *testing.T, f roundTrip) *Store {
	t.Helper()
	s := mustStore(t, Config{
		Provider: "backblaze-b2", Region: "us-west-001", Endpoint: "https://s3.us-west-001.backblazeb2.com", PathStyle: true,
		AccessKeyID: secret.New(testID), SecretAccessKey: secret.New(testSecret),
	})
	s.http.Transport = &counting{next: f, store: s}
	return s
}

func answer(r *http.Request, status int, body string, header ...string) *http.Response {
	h := http.Header{}
	for i := 0; i+1 < len(header); i += 2 {
		h.Set(header[i], header[i+1])
	}
	if r.Body != nil {
		_, _ = io.Copy(io.Discard, r.Body)
		_ = r.Body.Close()
	}
	return &http.Response{
		StatusCode: status, Status: fmt.Sprint(status), Header: h, Request: r, ProtoMajor: 1, ProtoMinor: 1,
		Body: io.NopCloser(strings.NewReader(body)), ContentLength: int64(len(body)),
	}
}

func s3Error(code, message string) string {
	return fmt.Sprintf("<?xml version=\"1.0\"?><Error><Code>%s</Code><Message>%s</Message></Error>", code, message)
}

func somePut(text string) Put {
	return Put{
		Key: "accounts/a b@1x.png", Body: strings.NewReader(text), Size: int64(len(text)), MD5: md5.Sum([]byte(text)),
		ContentType: "image/png", CacheControl: "public, max-age=315576000, immutable",
	}
}

func etagOf(text string) string { return fmt.Sprintf("%x", md5.Sum([]byte(text))) }

// TestOnlyPlainMD5GoesOut looks at the bytes on the wire over TLS, where the SDK's default would be an aws-chunked trailer.
func TestOnlyPlainMD5GoesOut(t *testing.T) {
	junk := map[string]string{
		"AWS_REQUEST_CHECKSUM_CALCULATION": "when_supported", "AWS_ENDPOINT_URL": "http://127.0.0.1:1", "AWS_REGION": "mars-1",
		"AWS_ENDPOINT_URL_S3": "http://127.0.0.1:1", "AWS_ACCESS_KEY_ID": "junk", "AWS_SECRET_ACCESS_KEY": "junk",
		"AWS_SESSION_TOKEN": "junk", "AWS_PROFILE": "junk", "AWS_CA_BUNDLE": "/nonexistent", "AWS_EXECUTION_ENV": "junk",
		"AWS_LAMBDA_FUNCTION_NAME": "junk", "_X_AMZN_TRACE_ID": "junk", "HTTPS_PROXY": "http://127.0.0.1:1", "AWS_MAX_ATTEMPTS": "9",
	}
	for name, value := range junk {
		t.Setenv(name, value)
	}
	var mu sync.Mutex
	var seen []*http.Request
	s := serve(t, "backblaze-b2", func(w http.ResponseWriter, r *http.Request) {
		body, _ := io.ReadAll(r.Body)
		mu.Lock()
		defer mu.Unlock()
		seen = append(seen, r)
		if r.URL.Query().Has("policy") || r.URL.Query().Has("acl") {
			return
		}
		if r.Method == http.MethodPut {
			if got := string(body); strings.Contains(r.URL.Path, "png") && got != "hello" {
				t.Errorf("body = %q, want %q", got, "hello")
			}
			w.Header().Set("ETag", `"`+etagOf("hello")+`"`)
		}
	})
	ctx := t.Context()
	if etag, err := s.Put(ctx, "media", somePut("hello")); err != nil || etag != etagOf("hello") {
		t.Fatalf("Put = %q, %v", etag, err)
	}
	for name, call := range map[string]func() error{
		"CreateBucket":    func() error { return s.CreateBucket(ctx, "media", "public-read") },
		"PutBucketPolicy": func() error { return s.PutBucketPolicy(ctx, "media", `{"Statement":[]}`) },
		"PutBucketAcl":    func() error { return s.PutBucketACL(ctx, "media", "public-read") },
		"DeletePolicy":    func() error { return s.DeleteBucketPolicy(ctx, "media") },
		"Delete":          func() error { return s.Delete(ctx, "media", "k") },
	} {
		if err := call(); err != nil {
			t.Errorf("%s: %v", name, err)
		}
	}
	for _, r := range seen {
		where := r.Method + " " + r.URL.String()
		for name, values := range r.Header {
			lower := strings.ToLower(name)
			if strings.Contains(lower, "checksum") || strings.Contains(lower, "trailer") || lower == "content-encoding" {
				t.Errorf("%s carries %s: %s", where, name, values)
			}
			if strings.Contains(strings.Join(values, " "), "junk") {
				t.Errorf("%s carries the environment's %s: %s", where, name, values)
			}
		}
		if !strings.Contains(r.Header.Get("Authorization"), testID+"/") || !strings.Contains(r.Header.Get("Authorization"), "/us-west-001/s3/") {
			t.Errorf("%s is signed as %s", where, r.Header.Get("Authorization"))
		}
		needsMD5 := r.Method == http.MethodPut && r.ContentLength > 0
		if got := r.Header.Get("Content-Md5"); needsMD5 != (got != "") {
			t.Errorf("%s has Content-MD5 %q, and a body of %d bytes", where, got, r.ContentLength)
		}
		if acl := r.Header.Get("X-Amz-Acl"); strings.Contains(where, "acl") && acl != "public-read" {
			t.Errorf("%s has x-amz-acl %q, want public-read", where, acl)
		}
		if r.ProtoMajor != 1 || r.Header.Get("User-Agent") != "converge" {
			t.Errorf("%s came by %s from %q, want HTTP/1.1 from converge", where, r.Proto, r.Header.Get("User-Agent"))
		}
	}
	if got := s.Requests(); got["Total"] != 6 || got["PutObject"] != 1 || got["CreateBucket"] != 1 {
		t.Errorf("Requests = %v, want 6 in total", got)
	}
}

func TestErrorsSayWhatToDo(t *testing.T) {
	tests := []struct {
		name         string
		status       int
		code, said   string
		want         error
		fix, message string
	}{
		{"master key", 403, "InvalidAccessKeyId", "Malformed Access Key Id", ErrDenied, "master key", "InvalidAccessKeyId"},
		{"wrong secret", 403, "SignatureDoesNotMatch", "x", ErrDenied, "does not belong to access_key_id", "does not belong"},
		{"clock", 403, "RequestTimeTooSkewed", "x", ErrDenied, "ahead of the store's", ""},
		{"no rights", 403, "AccessDenied", "x", ErrDenied, "readFiles", "may not"},
		{"cap", 403, "AccessDenied", "Cannot download file, download bandwidth or transaction (Class B) cap exceeded.", ErrDenied, "cap on download bandwidth or transaction (Class B) is", ""},
		{"other's bucket", 409, "BucketAlreadyExists", "x", ErrDenied, "another name", ""},
		{"region", 400, "AuthorizationHeaderMalformed", "x", ErrDenied, "us-west-001", ""},
		{"no bucket", 404, "NoSuchBucket", "x", ErrNoBucket, "create", ""},
		{"no object", 404, "NoSuchKey", "x", ErrNotFound, "", ""},
		{"not known", 501, "NotImplemented", "x", ErrRejected, "really is backblaze-b2", ""},
		{"elsewhere", 301, "PermanentRedirect", "x", ErrRejected, "region", ""},
		{"damaged", 400, "BadDigest", "x", ErrDigest, "", ""},
		{"our key is said back", 403, "AccessDenied", "no rights for " + testID, ErrDenied, "readFiles", "no rights for (sensitive)"},
		{"our secret is said back in base64", 403, "AccessDenied", base64.StdEncoding.EncodeToString([]byte(":" + testSecret)), ErrDenied, "readFiles", "(sensitive)"},
		{"our secret is the code", 403, testSecret, "x", ErrDenied, "readFiles", "(sensitive)"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			s := serve(t, "backblaze-b2", func(w http.ResponseWriter, _ *http.Request) {
				w.Header().Set("Date", time.Now().Add(-20*time.Minute).UTC().Format(http.TimeFormat))
				w.WriteHeader(tt.status)
				_, _ = io.WriteString(w, s3Error(tt.code, tt.said))
			})
			_, err := s.Get(t.Context(), "media", "k")
			if !errors.Is(err, tt.want) || !strings.Contains(diag.Fix(err), tt.fix) || !strings.Contains(err.Error(), tt.message) {
				t.Errorf("error = %v\nfix = %s\nwant %v with a fix about %q", err, diag.Fix(err), tt.want, tt.fix)
			}
			if strings.Contains(err.Error()+diag.Fix(err), testID) || strings.Contains(err.Error(), testSecret) ||
				strings.Contains(err.Error(), base64.RawStdEncoding.EncodeToString([]byte(testSecret)[2:17])) {
				t.Errorf("the error shows a key: %v", err)
			}
			if got := s.Requests()["Total"]; got != 1 {
				t.Errorf("%d requests, want 1: such an answer does not change", got)
			}
		})
	}
}

// TestClockIsNotCorrectedInSilence: a second request must not work by a correction that the first one taught the SDK, for
// then nobody hears of a clock that everything else on the host suffers from.
func TestClockIsNotCorrectedInSilence(t *testing.T) {
	var signed []string
	s := serve(t, "minio", func(w http.ResponseWriter, r *http.Request) {
		signed = append(signed, r.Header.Get("X-Amz-Date"))
		w.Header().Set("Date", time.Now().Add(-20*time.Minute).UTC().Format(http.TimeFormat))
		w.WriteHeader(http.StatusForbidden)
		_, _ = io.WriteString(w, s3Error("RequestTimeTooSkewed", "x"))
	})
	for range 2 {
		if _, err := s.Get(t.Context(), "media", "k"); !errors.Is(err, ErrDenied) {
			t.Errorf("error = %v, want ErrDenied", err)
		}
	}
	for _, text := range signed {
		at, err := time.Parse("20060102T150405Z", text)
		if err != nil || time.Since(at).Abs() > time.Minute {
			t.Errorf("a request is signed for %s, %v; want this host's time", text, err)
		}
	}
}

func TestConnectionErrorsSayWhatToDo(t *testing.T) {
	plain := httptest.NewServer(http.NotFoundHandler())
	defer plain.Close()
	secure := httptest.NewUnstartedServer(http.NotFoundHandler())
	secure.Config.ErrorLog = nil
	secure.StartTLS()
	defer secure.Close()
	tests := []struct {
		name, endpoint, fix string
		requests            int64
	}{
		{"down", "https://127.0.0.1:1", "is up", triesUnreachable},
		{"plain http", strings.Replace(plain.URL, "http:", "https:", 1), "plain HTTP", 1},
		{"unknown authority", secure.URL, "ca_file", 1},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			s := mustStore(t, Config{Provider: "minio", Region: "us-east-1", Endpoint: tt.endpoint, PathStyle: true,
				AccessKeyID: secret.New(testID), SecretAccessKey: secret.New(testSecret)})
			err := s.HeadBucket(t.Context(), "media")
			if !errors.Is(err, ErrUnreachable) || !strings.Contains(diag.Fix(err), tt.fix) {
				t.Errorf("error = %v\nfix = %s\nwant ErrUnreachable with a fix about %q", err, diag.Fix(err), tt.fix)
			}
			if got := s.Requests()["Total"]; got != tt.requests {
				t.Errorf("%d requests, want %d", got, tt.requests)
			}
		})
	}
}

func TestStoreRefusesBadConfigurations(t *testing.T) {
	good := Config{Provider: "backblaze-b2", Region: "us-west-001", Endpoint: "https://s3.us-west-001.backblazeb2.com",
		AccessKeyID: secret.New(testID), SecretAccessKey: secret.New(testSecret)}
	missing := &secret.Missing{Name: `credential("x")`, Err: errors.New("not found"), Fix: "systemd-creds encrypt"}
	tests := map[string]func(*Config){
		"provider":    func(c *Config) { c.Provider = "b3" },
		"master key":  func(c *Config) { c.AccessKeyID = secret.New("4aa9865d6f00") },
		"missing":     func(c *Config) { c.SecretAccessKey = secret.Absent(missing) },
		"no CA file":  func(c *Config) { c.CAFile = filepath.Join(t.TempDir(), "none") },
		"not a PEM":   func(c *Config) { c.CAFile = "/proc/self/status" },
		"empty keyid": func(c *Config) { c.AccessKeyID = secret.New("") },
	}
	for name, change := range tests {
		cfg := good
		change(&cfg)
		_, err := NewClients().Store(cfg)
		if err == nil || diag.Fix(err) == "" {
			t.Errorf("%s: error = %v, fix = %q; want both", name, err, diag.Fix(err))
		}
	}
	clients := NewClients()
	a, _ := clients.Store(good)
	b, _ := clients.Store(good)
	if a == nil || a != b {
		t.Error("the same configuration gave two stores: pacing and counts would be split")
	}
}

func TestHeadBucketAsksForTheReason(t *testing.T) {
	s := serve(t, "backblaze-b2", func(w http.ResponseWriter, r *http.Request) {
		w.WriteHeader(http.StatusForbidden)
		if r.Method != http.MethodHead {
			_, _ = io.WriteString(w, s3Error("SignatureDoesNotMatch", "x"))
		}
	})
	err := s.HeadBucket(t.Context(), "media")
	if !errors.Is(err, ErrDenied) || !strings.Contains(diag.Fix(err), "secret_access_key") {
		t.Errorf("error = %v, fix = %q; want the wrong secret named", err, diag.Fix(err))
	}
}

// TestHeadBucketGoneNeedsTwoWitnesses: only a listing that says so too makes a HEAD of 404 a bucket that is not there, for that
// a bucket is gone stops the run or has it created.
func TestHeadBucketGoneNeedsTwoWitnesses(t *testing.T) {
	tests := []struct {
		name   string
		status int    // of the listing
		body   string // of the listing
		is     error
	}{
		{"both say so", http.StatusNotFound, s3Error("NoSuchBucket", "x"), ErrNoBucket},
		{"the listing is there", http.StatusOK, page("false", ""), ErrUnreachable},
		{"no store answers", http.StatusNotFound, "nothing here", ErrUnreachable},
		{"the listing is refused", http.StatusForbidden, s3Error("AccessDenied", "x"), ErrDenied},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			s := serve(t, "minio", func(w http.ResponseWriter, r *http.Request) {
				if r.Method == http.MethodHead {
					w.WriteHeader(http.StatusNotFound)
					return
				}
				w.WriteHeader(tt.status)
				_, _ = io.WriteString(w, tt.body)
			})
			err := s.HeadBucket(t.Context(), "media")
			if !errors.Is(err, tt.is) || errors.Is(err, ErrNoBucket) != errors.Is(tt.is, ErrNoBucket) {
				t.Errorf("error = %v, want %v", err, tt.is)
			}
		})
	}
	t.Run("the run ends meanwhile", func(t *testing.T) {
		ctx, cancel := context.WithCancel(t.Context())
		s := serve(t, "minio", func(w http.ResponseWriter, r *http.Request) {
			if r.Method != http.MethodHead {
				cancel()
			}
			w.WriteHeader(http.StatusNotFound)
		})
		if err := s.HeadBucket(ctx, "media"); !errors.Is(err, context.Canceled) || errors.Is(err, ErrNoBucket) {
			t.Errorf("error = %v, want context.Canceled: nothing is known of the bucket", err)
		}
	})
}
