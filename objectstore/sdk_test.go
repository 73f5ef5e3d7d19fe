package objectstore

import (
	"bytes"
	"context"
	"crypto/md5"
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/converge-agent/converge/secret"
)

// pipes is a listener whose connections are pipes within the process, so that a test in a bubble (testing/synctest) has TLS
// and HTTP as they are, and time made up.
type pipes struct {
	conns chan net.Conn
	done  chan struct{}
	once  sync.Once
}

func newPipes() *pipes { return &pipes{conns: make(chan net.Conn), done: make(chan struct{})} }

func (p *pipes) dial() (net.Conn, error) {
	near, far := net.Pipe()
	select {
	case p.conns <- far:
		return near, nil
	case <-p.done:
		return nil, net.ErrClosed
	}
}

func (p *pipes) Accept() (net.Conn, error) {
	select {
	case c := <-p.conns:
		return c, nil
	case <-p.done:
		return nil, net.ErrClosed
	}
}

func (p *pipes) Close() error {
	p.once.Do(func() { close(p.done) })
	return nil
}

func (p *pipes) Addr() net.Addr { return &net.UnixAddr{Name: "pipes", Net: "pipe"} }

// recorder keeps all bytes that are read from the connections of a listener.
type recorder struct {
	net.Listener
	mu   sync.Mutex
	read bytes.Buffer
}

func (r *recorder) Accept() (net.Conn, error) {
	c, err := r.Listener.Accept()
	return recorded{c, r}, err
}

type recorded struct {
	net.Conn
	to *recorder
}

func (c recorded) Read(b []byte) (int, error) {
	n, err := c.Conn.Read(b)
	c.to.mu.Lock()
	defer c.to.mu.Unlock()
	c.to.read.Write(b[:n])
	return n, err
}

// serveInBubble starts a TLS server within a bubble, and returns a store at it and what the server reads, decrypted.
func serveInBubble(t *testing.T, h http.HandlerFunc) (*Store, *recorder) {
	t.Helper()
	keys := httptest.NewUnstartedServer(nil) // of which only the certificate is taken
	keys.StartTLS()
	config, certificate := keys.TLS.Clone(), keys.Certificate()
	keys.Close()
	config.NextProtos = []string{"http/1.1"}
	ln := newPipes()
	wire := &recorder{Listener: tls.NewListener(ln, config)}
	server := &http.Server{Handler: h, ReadHeaderTimeout: time.Hour}
	var served sync.WaitGroup
	served.Go(func() { _ = server.Serve(wire) }) // ends with Close, and then says only that
	s := mustStore(t, Config{
		Provider: "backblaze-b2", Region: "us-west-001", Endpoint: "https://example.com", PathStyle: true,
		AccessKeyID: secret.New(testID), SecretAccessKey: secret.New(testSecret),
	})
	pool := x509.NewCertPool()
	pool.AddCert(certificate)
	transport := s.http.Transport.(*counting).next.(*impatient).next.(*http.Transport)
	transport.TLSClientConfig.RootCAs = pool
	transport.DialContext = func(_ context.Context, _, _ string) (net.Conn, error) { return ln.dial() }
	t.Cleanup(func() {
		transport.CloseIdleConnections()
		_ = server.Close()
		served.Wait()
	})
	return s, wire
}

// answerAll is a store that says yes to everything.
func answerAll(w http.ResponseWriter, r *http.Request) {
	body, _ := io.ReadAll(r.Body)
	switch {
	case r.URL.Query().Get("list-type") == "2":
		_, _ = io.WriteString(w, page("false", ""))
	case r.Method == http.MethodGet && r.URL.Query().Has("policy"):
		_, _ = io.WriteString(w, `{"Statement":[]}`)
	case r.Method == http.MethodGet && r.URL.Query().Has("acl"):
		_, _ = io.WriteString(w, `<AccessControlPolicy></AccessControlPolicy>`)
	case r.Method == http.MethodPut:
		w.Header().Set("ETag", fmt.Sprintf("%q", fmt.Sprintf("%x", md5.Sum(body))))
	}
}

// TestThrottlingOverTLS: the SDK alone would not try again after 429 (aws-sdk-go-v2 aws/retry, DefaultRetryableHTTPStatusCodes),
// nor read Retry-After.
func TestThrottlingOverTLS(t *testing.T) {
	for _, tt := range []struct {
		name   string
		status int
		body   string
		after  string
	}{
		{"429 TooManyRequests", 429, s3Error("TooManyRequests", "Reduce your concurrent request rate for the same object."), ""},
		{"429 without a body", 429, "", ""},
		{"429 of something in between", 429, "<html><h1>Too many requests</h1></html>", ""},
		{"503 SlowDown", 503, s3Error("SlowDown", "x"), ""},
		{"400 RequestRateLimitExceeded", 400, s3Error("RequestRateLimitExceeded", "x"), ""},
		{"429 with Retry-After", 429, s3Error("TooManyRequests", "x"), "45"},
		{"503 with Retry-After", 503, s3Error("SlowDown", "x"), "45"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				var n atomic.Int64
				s, _ := serveInBubble(t, func(w http.ResponseWriter, r *http.Request) {
					if n.Add(1) > 2 {
						answerAll(w, r)
						return
					}
					if tt.after != "" {
						w.Header().Set("Retry-After", tt.after)
					}
					w.WriteHeader(tt.status)
					_, _ = io.WriteString(w, tt.body)
				})
				start := time.Now()
				if _, err := s.Put(t.Context(), "media", somePut("hello")); err != nil {
					t.Errorf("Put: %v", err)
				}
				if got := s.Requests()["PutObject"]; got != 3 {
					t.Errorf("%d requests, want 3", got)
				}
				if took := time.Since(start); tt.after != "" && took < 90*time.Second {
					t.Errorf("it took %s, though the store asked twice for 45 s", took)
				}
			})
		})
	}
}

// TestNoQuotaOfRetries: the SDK alone gives a client 500 tokens, and each retry takes 5 or 10: of 300 uploads that fail, the
// last would not be tried again, and a store that is ill for a minute would end a copy.
func TestNoQuotaOfRetries(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		const uploads = 300
		s, _ := serveInBubble(t, func(w http.ResponseWriter, r *http.Request) {
			_, _ = io.Copy(io.Discard, r.Body)
			w.WriteHeader(http.StatusInternalServerError)
			_, _ = io.WriteString(w, s3Error("InternalError", "x"))
		})
		var work sync.WaitGroup
		jobs := make(chan int)
		for range 16 {
			work.Go(func() {
				for range jobs {
					if _, err := s.Put(t.Context(), "media", somePut("hello")); err == nil || strings.Contains(err.Error(), "quota") {
						t.Errorf("Put: %v, want the store's failure", err)
					}
				}
			})
		}
		for i := range uploads {
			jobs <- i
		}
		close(jobs)
		work.Wait()
		if got := s.Requests()["PutObject"]; got != uploads*triesBroken {
			t.Errorf("%d uploads were sent %d times, want %d times each", uploads, got, triesBroken)
		}
	})
}

// hostile are variables that programs with an AWS SDK listen to (AWS SDKs and Tools Reference Guide, "Environment variables
// list", and the SDK's source), with values that would break or divert requests. TRAP is an address that nobody shall call,
// and FILE a file of profiles alike.
var hostile = map[string]string{
	"AWS_ACCESS_KEY_ID": "AKIAJUNKJUNKJUNKJUNK", "AWS_SECRET_ACCESS_KEY": "junk", "AWS_SESSION_TOKEN": "junk",
	"AWS_CREDENTIAL_EXPIRATION": "2001-01-01T00:00:00Z", "AWS_ACCOUNT_ID": "123456789012", "AWS_ACCOUNT_ID_ENDPOINT_MODE": "required",
	"AWS_PROFILE": "junk", "AWS_DEFAULT_PROFILE": "junk", "AWS_CONFIG_FILE": "FILE", "AWS_SHARED_CREDENTIALS_FILE": "FILE",
	"AWS_SDK_LOAD_CONFIG": "1", "AWS_ROLE_ARN": "arn:aws:iam::123456789012:role/junk", "AWS_ROLE_SESSION_NAME": "junk",
	"AWS_WEB_IDENTITY_TOKEN_FILE": "FILE", "AWS_CONTAINER_CREDENTIALS_FULL_URI": "http://TRAP/", "AWS_CONTAINER_AUTHORIZATION_TOKEN": "junk",
	"AWS_CONTAINER_CREDENTIALS_RELATIVE_URI": "/junk", "AWS_CONTAINER_AUTHORIZATION_TOKEN_FILE": "FILE",
	"AWS_EC2_METADATA_SERVICE_ENDPOINT": "http://TRAP/", "AWS_EC2_METADATA_SERVICE_ENDPOINT_MODE": "IPv6", "AWS_EC2_METADATA_DISABLED": "false",
	"AWS_EC2_METADATA_V1_DISABLED": "false", "AWS_EC2_INSTANCE_PROFILE_NAME": "junk",
	"AWS_REGION": "mars-1", "AWS_DEFAULT_REGION": "mars-1", "AWS_SIGV4A_SIGNING_REGION_SET": "*", "AWS_AUTH_SCHEME_PREFERENCE": "sigv4a",
	"AWS_ENDPOINT_URL": "http://TRAP", "AWS_ENDPOINT_URL_S3": "http://TRAP", "AWS_IGNORE_CONFIGURED_ENDPOINT_URLS": "false",
	"AWS_ENABLE_ENDPOINT_DISCOVERY": "true", "AWS_USE_DUALSTACK_ENDPOINT": "true", "AWS_USE_FIPS_ENDPOINT": "true",
	"AWS_S3_US_EAST_1_REGIONAL_ENDPOINT": "legacy", "AWS_S3_USE_ARN_REGION": "true", "AWS_S3_DISABLE_MULTIREGION_ACCESS_POINTS": "false",
	"AWS_S3_DISABLE_EXPRESS_SESSION_AUTH": "false", "AWS_STS_REGIONAL_ENDPOINTS": "legacy",
	"AWS_REQUEST_CHECKSUM_CALCULATION": "when_supported", "AWS_RESPONSE_CHECKSUM_VALIDATION": "when_supported",
	"AWS_DISABLE_REQUEST_COMPRESSION": "false", "AWS_REQUEST_MIN_COMPRESSION_SIZE_BYTES": "0",
	"AWS_RETRY_MODE": "adaptive", "AWS_MAX_ATTEMPTS": "1", "AWS_NEW_RETRIES_2026": "true", "AWS_DEFAULTS_MODE": "mobile",
	"AWS_ENABLE_DEFAULT_SOCKET_TIMEOUT_2026": "true", "AWS_METADATA_SERVICE_TIMEOUT": "1", "AWS_METADATA_SERVICE_NUM_ATTEMPTS": "99",
	"AWS_CA_BUNDLE": "/nonexistent", "AWS_SDK_UA_APP_ID": "junk", "AWS_EXECUTION_ENV": "junk", "AWS_LAMBDA_FUNCTION_NAME": "junk",
	"_X_AMZN_TRACE_ID": "junk", "AWS_LOGIN_CACHE_DIRECTORY": "/nonexistent", "AWS_BEARER_TOKEN_BEDROCK": "junk",
	"HTTP_PROXY": "http://TRAP", "HTTPS_PROXY": "http://TRAP", "ALL_PROXY": "http://TRAP", "http_proxy": "http://TRAP", "https_proxy": "http://TRAP",
	"all_proxy": "http://TRAP", "HOME": "DIR",
}

// TestEnvironmentChangesNoByte sends every kind of request with and without a hostile environment.
func TestEnvironmentChangesNoByte(t *testing.T) {
	for name := range hostile {
		unset(t, name)
	}
	want := bytesSent(t)
	trap, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	var sprung atomic.Int64
	var watch sync.WaitGroup
	watch.Go(func() {
		for {
			c, err := trap.Accept()
			if err != nil {
				return // closed
			}
			sprung.Add(1)
			_ = c.Close()
		}
	})
	dir := t.TempDir()
	marker := filepath.Join(dir, "ran")
	profiles := fmt.Sprintf("[default]\nregion = mars-1\nendpoint_url = http://%[1]s\ncredential_process = touch %[2]s\n"+
		"request_checksum_calculation = when_supported\n[profile junk]\nregion = mars-1\nendpoint_url = http://%[1]s\n", trap.Addr(), marker)
	file := filepath.Join(dir, ".aws", "config")
	if err := os.MkdirAll(filepath.Dir(file), 0o700); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(file, []byte(profiles), 0o600); err != nil {
		t.Fatal(err)
	}
	fill := strings.NewReplacer("TRAP", trap.Addr().String(), "FILE", file, "DIR", dir)
	for name, value := range hostile {
		t.Setenv(name, fill.Replace(value))
	}
	got := bytesSent(t)
	_ = trap.Close()
	watch.Wait()
	if got != want {
		t.Errorf("with a hostile environment this goes out:\n%s\nand without it:\n%s", got, want)
	}
	if n := sprung.Load(); n > 0 {
		t.Errorf("%d connections to what the environment names", n)
	}
	if _, err := os.Stat(marker); err == nil {
		t.Error("a program that a profile names was run")
	}
}

// TestUnusedProxyIsTold: who has a proxy in the environment is told that it is not used, and never what it is.
func TestUnusedProxyIsTold(t *testing.T) {
	for _, tt := range []struct {
		name, variable string
		err            error
		told           bool
	}{
		{"refused", "HTTPS_PROXY", &reply{is: ErrUnreachable, message: "dial tcp 192.0.2.1:443: connect: connection refused"}, true},
		{"no name", "all_proxy", &reply{is: ErrUnreachable, message: "dial tcp: lookup s3.example.com: no such host"}, true},
		{"no proxy", "", &reply{is: ErrUnreachable, message: "dial tcp 192.0.2.1:443: connect: connection refused"}, false},
		{"answered", "HTTPS_PROXY", &reply{is: ErrUnreachable, status: 500}, false},
		{"refused by the store", "HTTPS_PROXY", &reply{is: ErrDenied, status: 403}, false},
		{"certificate", "HTTPS_PROXY", &reply{is: ErrUnreachable, message: "x509: certificate signed by unknown authority"}, false},
	} {
		t.Run(tt.name, func(t *testing.T) {
			for _, name := range proxyVariables {
				unset(t, name)
			}
			if tt.variable != "" {
				t.Setenv(tt.variable, "http://user:password@proxy.example.com:3128")
			}
			got := fixProxy(tt.err)
			if told := strings.Contains(got, tt.variable+" "); tt.told != (got != "") || tt.told && !told || strings.Contains(got, "password") {
				t.Errorf("fixProxy = %q, told is %v", got, tt.told)
			}
		})
	}
}

// unset takes a variable out of the environment for the rest of the test.
func unset(t *testing.T, name string) {
	t.Helper()
	t.Setenv(name, "") // which puts the old value back
	if err := os.Unsetenv(name); err != nil {
		t.Fatal(err)
	}
}

// volatile are the parts of a request that are never the same: a random id, and the signature over that.
var volatile = regexp.MustCompile(`(Amz-Sdk-Invocation-Id: |Signature=)[0-9a-f-]+`)

// bytesSent returns all bytes that a new store sends for one request of each kind, at a time that does not change.
func bytesSent(t *testing.T) (sent string) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		s, wire := serveInBubble(t, answerAll)
		sendAll(t, s)
		wire.mu.Lock()
		defer wire.mu.Unlock()
		sent = volatile.ReplaceAllString(wire.read.String(), "$1*")
	})
	if n := strings.Count(sent, " HTTP/1.1\r\n"); n != 12 || !strings.Contains(sent, "Signature=*") {
		t.Fatalf("%d requests were recorded, want 12:\n%s", n, sent)
	}
	return sent
}

// sendAll sends one request of each kind.
func sendAll(t *testing.T, s *Store) {
	t.Helper()
	ctx := t.Context()
	check := func(what string, err error) {
		t.Helper()
		if err != nil {
			t.Errorf("%s: %v", what, err)
		}
	}
	check("HeadBucket", s.HeadBucket(ctx, "media"))
	check("CreateBucket", s.CreateBucket(ctx, "media", "public-read"))
	_, err := s.GetBucketPolicy(ctx, "media")
	check("GetBucketPolicy", err)
	check("PutBucketPolicy", s.PutBucketPolicy(ctx, "media", `{"Statement":[]}`))
	check("DeleteBucketPolicy", s.DeleteBucketPolicy(ctx, "media"))
	_, err = s.GetBucketACL(ctx, "media")
	check("GetBucketAcl", err)
	check("PutBucketAcl", s.PutBucketACL(ctx, "media", "public-read"))
	for _, err := range s.List(ctx, "media", "accounts/", "") {
		check("ListObjectsV2", err)
	}
	_, err = s.Put(ctx, "media", somePut("hello"))
	check("PutObject", err)
	_, err = s.Head(ctx, "media", "k")
	check("HeadObject", err)
	body, err := s.Get(ctx, "media", "k")
	check("GetObject", err)
	if err == nil {
		_, err = io.Copy(io.Discard, body)
		check("GetObject", err)
		check("GetObject", body.Close())
	}
	check("DeleteObject", s.Delete(ctx, "media", "k"))
}

// storageClasses are what looks like a variable in the SDK's source and is none.
var storageClasses = []string{"AWS_BACKUP_WARM", "AWS_BACKUP_LOW_COST_WARM"}

// TestEveryVariableOfTheSDKIsTried looks for names of variables in the source of what is linked, so that a new version of the
// SDK that listens to another one is told of.
func TestEveryVariableOfTheSDKIsTried(t *testing.T) {
	out, err := exec.CommandContext(t.Context(), "go", "list", "-deps", "-f", "{{if .Module}}{{.Dir}}{{end}}", ".").Output()
	if err != nil {
		t.Fatal(err)
	}
	name := regexp.MustCompile(`"(_?(?:AWS|X_AMZN)_[A-Z0-9_]+)"`)
	var found []string
	for dir := range strings.Lines(string(out)) {
		files, err := filepath.Glob(filepath.Join(strings.TrimSpace(dir), "*.go"))
		if err != nil || !strings.Contains(dir, "aws") {
			continue
		}
		for _, f := range files {
			text, err := os.ReadFile(f)
			if err != nil {
				t.Fatal(err)
			}
			for _, m := range name.FindAllSubmatch(text, -1) {
				found = append(found, string(m[1]))
			}
		}
	}
	slices.Sort(found)
	for _, v := range slices.Compact(found) {
		if _, ok := hostile[v]; !ok && !slices.Contains(storageClasses, v) {
			t.Errorf("the SDK knows a variable %s; add it to those that are tried", v)
		}
	}
	if len(found) < 5 {
		t.Errorf("only %q were found in the SDK's source", found)
	}
}
