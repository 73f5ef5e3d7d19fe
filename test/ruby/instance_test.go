package ruby

import (
	"bytes"
	"context"
	"crypto/rand"
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"encoding/hex"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/converge-agent/converge/objectstore"
	"github.com/converge-agent/converge/test/lab"
)

// instance is a Mastodon with a bucket of its own at one provider, whose settings the agent has written.
type instance struct {
	lab               *lab.Lab
	store             *lab.S3
	provider          *objectstore.Provider
	bucket            string
	access            string // of the bucket
	appKey, appSecret string // with the rights that the table of providers says are enough
	dir               string // its files
	settings          string // its .env.production, as the agent left it
	ruby              *client
}

// The instances that there are at each provider: their buckets are named so, with the provider's name behind.
const (
	agrees = "agrees-"
	wrong  = "wrong-"
	closed = "closed-"
)

// elsewhere is a bucket that is not there.
const elsewhere = "somebody-elses"

// world is a lab with a store of each personality.
type world struct {
	dir    string // of its instances
	lab    *lab.Lab
	stores map[lab.Personality]*lab.S3
}

// newWorld starts the one lab of a test, in which the stores are found by their names, and where a provider has buckets in host
// names, the buckets too.
func newWorld(t *testing.T) *world {
	t.Helper()
	dir, err := os.MkdirTemp(labDir, "world-")
	if err != nil {
		t.Fatal(err)
	}
	l, err := lab.Start(t.Context(), lab.Options{Dir: filepath.Join(dir, "lab")})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(l.Close)
	w := &world{dir: dir, lab: l, stores: map[lab.Personality]*lab.S3{}}
	hosts := []string{"127.0.0.1 localhost"}
	for _, p := range lab.Personalities() {
		s, err := l.S3(t.Context(), p)
		if err != nil {
			t.Fatal(err)
		}
		w.stores[p] = s
		hosts = append(hosts, s.Name, elsewhere+"."+s.Name, publicName(agrees+p.String()), publicName(wrong+p.String()))
		if provider, ok := objectstore.Lookup(p.String()); ok && !provider.PathStyle {
			for _, instance := range []string{agrees, wrong, closed} {
				hosts = append(hosts, instance+p.String()+"."+s.Name)
			}
		}
	}
	put(t, "/etc/hosts", strings.Join(hosts, " ")+"\n") // at once, for Go looks at the file every 5 seconds only
	return w
}

// newInstance makes an instance, and has the agent give it a bucket at a provider and the settings for that.
func (w *world) newInstance(t *testing.T, p lab.Personality, name, access string) *instance {
	t.Helper()
	s, bucket := w.stores[p], name+p.String()
	provider, ok := objectstore.Lookup(s.Personality.String())
	if !ok {
		t.Fatalf("the agent does not know the provider %s", s.Personality)
	}
	i := &instance{lab: w.lab, store: s, provider: provider, bucket: bucket, access: access, dir: filepath.Join(w.dir, bucket, "live")}
	i.appKey, i.appSecret = s.NewKey(provider.AppRights...)
	sample, err := lab.NewInstance(i.dir, lab.InstanceSpec{Files: 20, Seed: 5, Domain: "example.com"})
	if err != nil {
		t.Fatal(err)
	}
	i.apply(t, sample.EnvPath)
	if i.publicHost() != "" { // which converge waits for
		s.ConnectDomain(bucket, publicName(bucket))
		i.apply(t, sample.EnvPath)
	}
	text, err := os.ReadFile(sample.EnvPath)
	if err != nil {
		t.Fatal(err)
	}
	i.settings = string(text)
	i.ruby = startClient(t, w.lab.CAFile)
	return i
}

// apply runs the agent on the bucket and the settings.
func (i *instance) apply(t *testing.T, env string) {
	t.Helper()
	for name, value := range map[string]string{
		"agent.id": i.store.AgentKey, "agent.key": i.store.AgentSecret, "app.id": i.appKey, "app.key": i.appSecret,
	} {
		put(t, "/etc/credstore/"+i.bucket+"."+name, value)
	}
	var publicHost, alias string
	if i.publicHost() != "" {
		publicHost, alias = fmt.Sprintf("public_host = %q", i.publicHost()), fmt.Sprintf("S3_ALIAS_HOST = %q", i.publicHost())
	}
	config := fmt.Sprintf(`
object_store "lab" {
  provider          = %q
  region            = %q
  endpoint          = %q
  ca_file           = %q
  access_key_id     = credential("%[5]s.agent.id")
  secret_access_key = credential("%[5]s.agent.key")
}
s3_bucket "media" {
  store  = object_store.lab
  name   = %[5]q
  access = %[6]q
  %[8]s

  app_credentials {
    access_key_id     = credential("%[5]s.app.id")
    secret_access_key = credential("%[5]s.app.key")
  }
}
env_file "mastodon" {
  path = %[7]q
  set  = merge(s3_bucket.media.mastodon_env, {%[9]s})
}
`, i.provider.Name, i.store.Region, i.endpoint(), i.lab.CAFile, i.bucket, i.access, env, publicHost, alias)
	file := "/etc/converge/" + i.bucket + ".hcl"
	put(t, file, config)
	cmd := exec.CommandContext(t.Context(), labDir+"/converge", "apply", "--auto-approve", "--lock-timeout", "10m", "--state-dir", filepath.Join(i.dir, "../state"), file)
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("converge apply: %v\n%s", err, out)
	}
}

// endpoint is the store's address by its name.
func (i *instance) endpoint() string {
	_, port, _ := strings.Cut(strings.TrimPrefix(i.store.Endpoint, "https://"), ":")
	return "https://" + net.JoinHostPort(i.store.Name, port)
}

// publicName is the name of a bucket's own domain, where it has one.
func publicName(bucket string) string { return bucket + ".media.example.com" }

// publicHost is where the world reads the bucket's objects if not at the store: "" else.
func (i *instance) publicHost() string {
	if i.provider.Public != objectstore.CustomDomain || i.access != "public-objects" {
		return ""
	}
	_, port, _ := strings.Cut(i.store.PublicHost, ":")
	return net.JoinHostPort(publicName(i.bucket), port)
}

// load has Ruby start anew with the instance's settings, some of them changed: a value, or nil for a line that is missing. It
// returns the storage that Mastodon would use.
func (i *instance) load(t *testing.T, newer bool, changed map[string]*string) string {
	t.Helper()
	var lines []string
	for line := range strings.Lines(i.settings) {
		name, _, _ := strings.Cut(line, "=")
		if _, ok := changed[name]; !ok {
			lines = append(lines, line)
		}
	}
	for name, value := range changed {
		if value != nil {
			lines = append(lines, name+"="+*value+"\n")
		}
	}
	put(t, filepath.Join(i.dir, ".env.production"), strings.Join(lines, ""))
	var storage string
	i.ruby.must(t, order{"do": "load", "directory": i.dir, "newer": newer}, &storage)
	return storage
}

// upload is a file that Mastodon has got to store.
type upload struct {
	key, file, kind string
	content         []byte
	digest          string // SHA-256
}

var uploads atomic.Int64 // made so far

// newUpload makes a file of so many random bytes. Its key has the sign that only some keys of Mastodon's have.
func newUpload(t *testing.T, size int) *upload {
	t.Helper()
	n := uploads.Add(1)
	u := &upload{
		key:     fmt.Sprintf("site_uploads/files/000/000/%03d/@1x/%016x.png", n, size),
		file:    fmt.Sprintf("/tmp/upload-%d", n),
		kind:    "image/png",
		content: make([]byte, size),
	}
	_, _ = rand.Read(u.content)
	sum := sha256.Sum256(u.content)
	u.digest = hex.EncodeToString(sum[:])
	if err := os.WriteFile(u.file, u.content, 0o600); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.Remove(u.file) })
	return u
}

// put has Ruby upload a file.
func (i *instance) put(t *testing.T, u *upload) error {
	return i.ruby.ask(t, order{"do": "put", "key": u.key, "file": u.file, "type": u.kind}, nil)
}

// url is where Mastodon tells the world that an object is.
func (i *instance) url(t *testing.T, u *upload) string {
	t.Helper()
	var at string
	i.ruby.must(t, order{"do": "url", "key": u.key}, &at)
	return at
}

// page is what an address shows.
type page struct {
	status int
	header http.Header
	body   []byte
}

// visit gets an address as anybody may.
func (i *instance) visit(t *testing.T, at string) (page, error) {
	t.Helper()
	pem, err := os.ReadFile(i.lab.CAFile)
	if err != nil {
		return page{}, err
	}
	pool := x509.NewCertPool()
	pool.AppendCertsFromPEM(pem)
	transport := &http.Transport{TLSClientConfig: &tls.Config{RootCAs: pool, MinVersion: tls.VersionTLS12}}
	defer transport.CloseIdleConnections()
	r, err := http.NewRequestWithContext(t.Context(), http.MethodGet, at, nil)
	if err != nil {
		return page{}, err
	}
	resp, err := transport.RoundTrip(r)
	if err != nil {
		return page{}, err
	}
	defer func() { _ = resp.Body.Close() }()
	body, err := io.ReadAll(resp.Body)
	return page{resp.StatusCode, resp.Header, body}, err
}

// shown reports how an address shows an upload to the world: nil when it does.
func (i *instance) shown(t *testing.T, at string, u *upload) error {
	t.Helper()
	if parsed, err := url.Parse(at); err != nil || parsed.Scheme != "https" {
		return fmt.Errorf("%q is no https address: a page of Mastodon's shows nothing of it", at)
	}
	got, err := i.visit(t, at)
	switch {
	case err != nil:
		return err
	case got.status != http.StatusOK:
		return fmt.Errorf("status %d: %s", got.status, got.body[:min(len(got.body), 300)])
	case !bytes.Equal(got.body, u.content):
		return fmt.Errorf("it shows %d other bytes", len(got.body))
	case got.header.Get("Content-Type") != u.kind || got.header.Get("Cache-Control") != "public, max-age=315576000, immutable":
		return fmt.Errorf("it comes with the headers %v", got.header)
	}
	return nil
}

// put writes a file of the sandbox.
func put(t *testing.T, name, content string) {
	t.Helper()
	if err := os.MkdirAll(filepath.Dir(name), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(name, []byte(content), 0o600); err != nil {
		t.Fatal(err)
	}
}

// idle waits until the store has done all that it was asked.
func (i *instance) idle(t *testing.T) {
	t.Helper()
	if err := i.store.AwaitIdle(context.Background()); err != nil {
		t.Fatal(err)
	}
}
