package wire

import (
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"maps"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/converge-agent/converge/objectstore"
	"github.com/converge-agent/converge/secret"
	"github.com/converge-agent/converge/test/lab"
)

// TestRequests: what goes out in the whole life of a bucket and a copy into it, in a hostile environment, are the requests of
// testdata/requests.golden with those headers and no other. A new version of the SDK that adds one, or a new request of ours,
// is told of.
func TestRequests(t *testing.T) {
	w := newWorld(t)
	haveMetadata(t)
	env := hostile(t)
	for _, p := range lab.Personalities() {
		t.Run(p.String(), func(t *testing.T) {
			s := w.stores[p]
			w.live(t, s, env, storeBlock(s, trusts(w.lab.CAFile)), settings(s))
		})
	}
	t.Run("nothing to read of a bucket", func(t *testing.T) {
		s := w.stores[lab.R2]
		w.live(t, s, env, storeBlock(s, trusts(w.lab.CAFile)), nil)
	})
	t.Run("a bucket with ACLs", func(t *testing.T) {
		s := w.stores[lab.AWS]
		file := configure(t, s, storeBlock(s, trusts(w.lab.CAFile)), bucketBlock(s, "present"))
		apply := []string{"apply", "--auto-approve", "--state-dir", t.TempDir(), file}
		must(t, env, apply...)
		if err := w.client(t, s).PutOwnership(t.Context(), bucketName(lab.AWS), "ObjectWriter"); err != nil {
			t.Fatal(err)
		}
		must(t, env, apply...)
	})
	got := w.headers()
	w.checkChecksums(t)
	golden, err := os.ReadFile(labDir + "/testdata/requests.golden")
	if err != nil {
		t.Error(err)
	}
	var lines []string
	for _, operation := range slices.Sorted(maps.Keys(got)) {
		lines = append(lines, operation+": "+strings.Join(got[operation], " "))
	}
	if text := strings.Join(lines, "\n") + "\n"; text != string(golden) {
		t.Errorf("other requests or headers went out than testdata/requests.golden has; if that is right, it is now to hold:\n%s", text)
	}
	for _, operation := range operations(t) {
		if got[operation] == nil && got[operation+" of a probe"] == nil && !slices.Contains(unsent, operation) {
			t.Errorf("the agent can send %s, and did not: no header of it was looked at", operation)
		}
	}
}

// live has the agent make a bucket as it shall be, copy files into it, look at it again, and let it go.
func (w *world) live(t *testing.T, s *lab.S3, env []string, store string, settings []string) {
	t.Helper()
	dir := t.TempDir()
	if _, err := lab.NewInstance(dir+"/live", lab.InstanceSpec{Files: 20, Seed: 3}); err != nil {
		t.Fatal(err)
	}
	sync := fmt.Sprintf("s3_sync \"media\" {\n bucket = s3_bucket.media\n source = %q\n}\n", dir+"/live/public/system")
	file := configure(t, s, store, bucketBlock(s, "present", settings...), sync)
	run := func(args ...string) { must(t, env, append(args, "--state-dir", dir+"/state", file)...) }
	run("plan")
	run("apply", "--auto-approve")
	if s.PublicHost != "" { // which converge waits for
		s.ConnectDomain(bucketName(s.Personality), publicName(s.Personality))
		run("apply", "--auto-approve")
	}
	if n := len(s.Keys(bucketName(s.Personality))); n < 10 {
		t.Errorf("%d files were copied", n)
	}
	run("apply", "--auto-approve")
	configure(t, s, store, bucketBlock(s, "absent", slices.DeleteFunc(settings, func(a string) bool { return a == "versioning = true" })...))
	run("apply", "--auto-approve")
}

// client is a store of the agent's own, in this process.
func (w *world) client(t *testing.T, s *lab.S3) *objectstore.Store {
	t.Helper()
	c, err := objectstore.NewClients().Store(objectstore.Config{
		Provider: s.Personality.String(), Region: s.Region, Endpoint: s.Endpoint, PathStyle: true, CAFile: w.lab.CAFile,
		AccessKeyID: secret.New(s.AgentKey), SecretAccessKey: secret.New(s.AgentSecret),
	})
	if err != nil {
		t.Fatal(err)
	}
	return c
}

// checkChecksums expects what stores count as a checksum, and nothing that any of them refuses: no checksum of the newer kinds
// and no trailer anywhere, but where a probe tries one out, and Content-MD5 with every document and every upload.
func (w *world) checkChecksums(t *testing.T) {
	t.Helper()
	w.mu.Lock()
	defer w.mu.Unlock()
	for _, s := range w.seen {
		probe := strings.Contains(s.operation, "PutObject of a probe")
		for name, values := range s.header {
			name, value := strings.ToLower(name), strings.ToLower(strings.Join(values, " "))
			if strings.Contains(name, "checksum") && !probe || strings.Contains(name, "trailer") || strings.Contains(value, "aws-chunked") ||
				strings.Contains(value, "streaming-") {
				t.Errorf("%s (%s) carries %s: %s", s.operation, s.where, name, value)
			}
			if strings.Contains(value, "junk") {
				t.Errorf("%s (%s) carries the environment's %s: %s", s.operation, s.where, name, value)
			}
		}
		signed := s.header.Get("Authorization") != ""
		if length := s.header.Get("Content-Length"); signed && !probe && length != "" && length != "0" && s.header.Get("Content-Md5") == "" {
			t.Errorf("%s (%s) has a body of %s bytes and no Content-MD5", s.operation, s.where, length)
		}
	}
}

// unsent are operations that are not looked for: a request of anybody's has another name in the lab, and a refused key's buckets
// are asked for only to find out why it was.
var unsent = []string{"Anonymous", "AnonymousGET", "ListBuckets"}

// operations are those that the source of the agent names.
func operations(t *testing.T) []string {
	t.Helper()
	files, err := filepath.Glob(labDir + "/objectstore/*.go")
	if err != nil {
		t.Fatal(err)
	}
	call := regexp.MustCompile(`\.do\(ctx, "(\w+)"`)
	var found []string
	for _, file := range files {
		text, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		for _, m := range call.FindAllSubmatch(text, -1) {
			found = append(found, string(m[1]))
		}
	}
	if len(found) < 10 {
		t.Fatalf("the source names only the operations %q", found)
	}
	slices.Sort(found)
	return slices.Compact(found)
}

// hostile is an environment that names traps for all that programs with an AWS SDK listen to. Each variable alone is tried in
// the package objectstore; here the program starts with them.
func hostile(t *testing.T) []string {
	t.Helper()
	at := setTrap(t, "127.0.0.1:0").addr
	profiles := "/root/.aws/config"
	put(t, profiles, "[default]\nregion = mars-1\nendpoint_url = http://"+at+"\nrequest_checksum_calculation = when_supported\n"+
		"aws_access_key_id = AKIAJUNKJUNKJUNKJUNK\naws_secret_access_key = junk\n")
	put(t, "/root/.aws/credentials", "[default]\naws_access_key_id = AKIAJUNKJUNKJUNKJUNK\naws_secret_access_key = junk\n")
	env := []string{
		"AWS_CONFIG_FILE=" + profiles, "AWS_SHARED_CREDENTIALS_FILE=/root/.aws/credentials", "AWS_SDK_LOAD_CONFIG=1",
		"AWS_ACCESS_KEY_ID=AKIAJUNKJUNKJUNKJUNK", "AWS_SECRET_ACCESS_KEY=junk", "AWS_SESSION_TOKEN=junk",
		"AWS_CONTAINER_CREDENTIALS_FULL_URI=http://" + at, "AWS_CONTAINER_CREDENTIALS_RELATIVE_URI=/junk",
		"AWS_REGION=mars-1", "AWS_DEFAULT_REGION=mars-1", "AWS_USE_DUALSTACK_ENDPOINT=true", "AWS_USE_FIPS_ENDPOINT=true",
		"AWS_S3_US_EAST_1_REGIONAL_ENDPOINT=legacy", "AWS_REQUEST_CHECKSUM_CALCULATION=when_supported",
		"AWS_RESPONSE_CHECKSUM_VALIDATION=when_supported", "AWS_MAX_ATTEMPTS=1", "AWS_RETRY_MODE=adaptive", "AWS_NEW_RETRIES_2026=true",
		"AWS_CA_BUNDLE=/nonexistent", "AWS_EXECUTION_ENV=junk", "AWS_LAMBDA_FUNCTION_NAME=junk", "_X_AMZN_TRACE_ID=junk",
	}
	for _, name := range []string{"AWS_ENDPOINT_URL", "AWS_ENDPOINT_URL_S3", "HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY"} {
		env = append(env, name+"=http://"+at, strings.ToLower(name)+"=http://"+at)
	}
	return env
}

// TestProxyIsNotUsed has the agent work past a proxy that works, and say so when the store cannot be reached.
func TestProxyIsNotUsed(t *testing.T) {
	w := newWorld(t)
	s, p := w.stores[lab.MinIO], startProxy(t)
	const password = "proxy-password"
	env := []string{"HTTPS_PROXY=http://user:" + password + "@" + p.addr}
	if status := w.getBy(t, p, endpoint(s)); status != http.StatusForbidden || p.passed.Load() != 1 {
		t.Fatalf("by the proxy the store answers %d, and %d connections were passed on; the proxy does not work", status, p.passed.Load())
	}
	file := configure(t, s, storeBlock(s, trusts(w.lab.CAFile)), bucketBlock(s, "present"))
	state := t.TempDir()
	must(t, env, "apply", "--auto-approve", "--state-dir", state, file)
	if n := p.passed.Load() - 1; n > 0 {
		t.Errorf("%d connections went through the proxy", n)
	}
	put(t, file, strings.Replace(storeBlock(s), endpoint(s), "https://"+s.Name+":1", 1)+bucketBlock(s, "present"))
	code, out := converge(t, env, "plan", "--state-dir", state, file)
	if text := strings.Join(strings.Fields(out), " "); code != 1 || !strings.Contains(text, "A proxy is named by HTTPS_PROXY here: converge does not use it") {
		t.Errorf("a plan for a store that is down, with a proxy in the environment: exit code %d\n%s", code, out)
	}
	if strings.Contains(out, password) {
		t.Error("the proxy's password is shown")
	}
}

// getBy asks a store for the list of its buckets through a proxy, without a key.
func (w *world) getBy(t *testing.T, p *proxy, at string) int {
	t.Helper()
	pem, err := os.ReadFile(w.lab.CAFile)
	if err != nil {
		t.Fatal(err)
	}
	pool := x509.NewCertPool()
	pool.AppendCertsFromPEM(pem)
	transport := &http.Transport{
		Proxy:           http.ProxyURL(&url.URL{Scheme: "http", Host: p.addr}),
		TLSClientConfig: &tls.Config{RootCAs: pool, MinVersion: tls.VersionTLS12},
	}
	defer transport.CloseIdleConnections()
	resp, err := (&http.Client{Transport: transport}).Get(at)
	if err != nil {
		t.Fatal(err)
	}
	_ = resp.Body.Close()
	return resp.StatusCode
}

// TestAuthorities: ca_file is trusted besides the authorities of the system, AWS_CA_BUNDLE is not, and of an unknown authority
// it is said what to do.
func TestAuthorities(t *testing.T) {
	w := newWorld(t)
	s := w.stores[lab.MinIO]
	other, _, err := w.lab.Certificate("other.example.com") // a certificate that has signed nothing
	if err != nil {
		t.Fatal(err)
	}
	put(t, "/etc/ssl/other.pem", string(other))
	own, wrong := trusts(w.lab.CAFile), trusts("/etc/ssl/other.pem")
	for _, tt := range []struct {
		name, trusted string
		env           []string
		fails         bool
	}{
		{"ca_file alone", own, nil, false},
		{"ca_file with another authority of the system", own, []string{"SSL_CERT_FILE=/etc/ssl/other.pem"}, false},
		{"the system's authority", "", []string{"SSL_CERT_FILE=" + w.lab.CAFile}, false},
		{"the system's authority besides another ca_file", wrong, []string{"SSL_CERT_FILE=" + w.lab.CAFile}, false},
		{"another ca_file", wrong, nil, true},
		{"no ca_file", "", nil, true},
		{"AWS_CA_BUNDLE", "", []string{"AWS_CA_BUNDLE=" + w.lab.CAFile}, true},
	} {
		t.Run(tt.name, func(t *testing.T) {
			file := configure(t, s, storeBlock(s, tt.trusted), bucketBlock(s, "present"))
			code, out := converge(t, tt.env, "plan", "--state-dir", t.TempDir(), file)
			text := strings.Join(strings.Fields(out), " ")
			if told := strings.Contains(text, "authority of your own, name that in ca_file"); tt.fails != (code != 0) || tt.fails != told {
				t.Errorf("exit code %d, want a failure: %v\n%s", code, tt.fails, out)
			}
		})
	}
}
