package wire

import (
	"fmt"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/converge-agent/converge/objectstore"
	"github.com/converge-agent/converge/test/lab"
)

// world is a lab with a store of each personality, and the requests that these have had.
type world struct {
	lab    *lab.Lab
	stores map[lab.Personality]*lab.S3

	mu   sync.Mutex
	seen []sighting
}

// sighting is one request to a store, without its body.
type sighting struct {
	operation string
	where     string // "PUT /bucket/key"
	header    http.Header
}

// newWorld starts the one lab of a test, in which the stores are found by their names, and buckets by theirs where the provider
// has them in host names.
func newWorld(t *testing.T) *world {
	t.Helper()
	dir, err := os.MkdirTemp(labDir, "world-")
	if err != nil {
		t.Fatal(err)
	}
	l, err := lab.Start(t.Context(), lab.Options{Dir: dir})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(l.Close)
	w := &world{lab: l, stores: map[lab.Personality]*lab.S3{}}
	hosts := []string{"127.0.0.1 localhost", proxyName}
	for _, p := range lab.Personalities() {
		s, err := l.S3(t.Context(), p)
		if err != nil {
			t.Fatal(err)
		}
		s.Fault(func(r *http.Request) *lab.Fault { w.saw(s, r); return nil })
		w.stores[p] = s
		hosts = append(hosts, s.Name, publicName(p))
		if provider, ok := objectstore.Lookup(p.String()); ok && !provider.PathStyle {
			hosts = append(hosts, bucketName(p)+"."+s.Name)
		}
	}
	put(t, "/etc/hosts", strings.Join(hosts, " ")+"\n") // at once, for Go looks at the file every 5 seconds only
	return w
}

// saw remembers a request. Those for the probes' own objects, which try out what others may not send, are told apart.
func (w *world) saw(s *lab.S3, r *http.Request) {
	operation := s.Operation(r)
	if strings.HasSuffix(strings.Split(r.Host, ":")[0], publicName(s.Personality)) {
		operation = r.Method + " at a domain of its own"
	}
	if strings.Contains(r.URL.Path, "converge-probe-") {
		operation += " of a probe"
	}
	if r.Header.Get("Authorization") == "" {
		operation += " by anybody"
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	w.seen = append(w.seen, sighting{operation, r.Method + " " + r.URL.String(), r.Header.Clone()})
}

func bucketName(p lab.Personality) string { return "wire-" + p.String() }

// publicName is the name of a bucket's own domain, where it has one.
func publicName(p lab.Personality) string { return bucketName(p) + ".media.example.com" }

// endpoint is the address of a store by its name.
func endpoint(s *lab.S3) string {
	_, port, _ := strings.Cut(s.Endpoint, "127.0.0.1:")
	return "https://" + net.JoinHostPort(s.Name, port)
}

// storeBlock is the object_store of a personality, with further attributes.
func storeBlock(s *lab.S3, attrs ...string) string {
	return fmt.Sprintf(`
object_store "lab" {
  provider          = %q
  region            = %q
  endpoint          = %q
  access_key_id     = credential("agent.id")
  secret_access_key = credential("agent.key")
%s
}
`, s.Personality.String(), s.Region, endpoint(s), strings.Join(attrs, "\n"))
}

// trusts is the attribute of a store whose authority is that of a file.
func trusts(caFile string) string { return fmt.Sprintf("  ca_file = %q", caFile) }

// bucketBlock is a bucket of a store, as ensure says, with attributes, and with a key of the app's that has the least rights.
func bucketBlock(s *lab.S3, ensure string, attrs ...string) string {
	provider, _ := objectstore.Lookup(s.Personality.String())
	attrs = append([]string{"store = object_store.lab", fmt.Sprintf("name = %q", bucketName(s.Personality)), `access = "public-objects"`,
		fmt.Sprintf("ensure = %q", ensure)}, attrs...)
	if provider.Public == objectstore.CustomDomain {
		_, port, _ := strings.Cut(s.PublicHost, ":")
		attrs = append(attrs, fmt.Sprintf("public_host = %q", net.JoinHostPort(publicName(s.Personality), port)))
	}
	attrs = append(attrs, `app_credentials {
    access_key_id     = credential("app.id")
    secret_access_key = credential("app.key")
  }`)
	return "s3_bucket \"media\" {\n" + strings.Join(attrs, "\n") + "\n}\n"
}

// settings are the attributes of all that can be set on a bucket of the provider.
func settings(s *lab.S3) []string {
	provider, _ := objectstore.Lookup(s.Personality.String())
	var attrs []string
	if provider.CORS {
		attrs = append(attrs, "cors {}")
	}
	if provider.Lifecycle && provider.AbortsUploads {
		attrs = append(attrs, "lifecycle {\n incomplete_uploads_days = 7\n }")
	}
	if provider.Versioning && !provider.AlwaysVersioned && s.Personality != lab.MinIO { // the gateway of which has none
		attrs = append(attrs, "versioning = true")
	}
	return attrs
}

// configure writes a configuration of a store, and the keys that it names.
func configure(t *testing.T, s *lab.S3, blocks ...string) string {
	t.Helper()
	put(t, "/etc/credstore/agent.id", s.AgentKey)
	put(t, "/etc/credstore/agent.key", s.AgentSecret)
	provider, _ := objectstore.Lookup(s.Personality.String())
	key, secret := s.NewKey(provider.AppRights...)
	put(t, "/etc/credstore/app.id", key)
	put(t, "/etc/credstore/app.key", secret)
	file := "/etc/converge/" + s.Personality.String() + ".hcl"
	put(t, file, strings.Join(blocks, ""))
	return file
}

// converge runs the agent with variables in its environment, and returns the exit code and what it printed.
func converge(t *testing.T, env []string, args ...string) (int, string) {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), labDir+"/converge", args...)
	cmd.Env = append([]string{"PATH=/usr/sbin:/usr/bin:/sbin:/bin", "HOME=/root"}, env...)
	out, err := cmd.CombinedOutput()
	if cmd.ProcessState == nil {
		t.Fatal(err)
	}
	return cmd.ProcessState.ExitCode(), string(out)
}

// must runs the agent and expects that it succeeds.
func must(t *testing.T, env []string, args ...string) string {
	t.Helper()
	code, out := converge(t, env, args...)
	if code != 0 {
		t.Fatalf("converge %q: exit code %d\n%s", args, code, out)
	}
	return out
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

// headers are the names of the headers of all requests, by operation, each name once.
func (w *world) headers() map[string][]string {
	w.mu.Lock()
	defer w.mu.Unlock()
	all := map[string][]string{}
	for _, s := range w.seen {
		for name := range s.header {
			all[s.operation] = append(all[s.operation], name)
		}
	}
	for operation, names := range all {
		slices.Sort(names)
		all[operation] = slices.Compact(names)
	}
	return all
}
