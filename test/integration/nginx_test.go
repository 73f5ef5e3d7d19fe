package integration

import (
	"crypto/md5"
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/converge-agent/converge/acme"
	"github.com/converge-agent/converge/diag"
	"github.com/converge-agent/converge/host"
	"github.com/converge-agent/converge/nginx/nginxtest"
	"github.com/converge-agent/converge/objectstore"
	"github.com/converge-agent/converge/plans"
	"github.com/converge-agent/converge/resources"
	"github.com/converge-agent/converge/resources/acmecertificate"
	"github.com/converge-agent/converge/resources/nginxsite"
	"github.com/converge-agent/converge/resources/s3bucket"
	"github.com/converge-agent/converge/test/lab"
	"github.com/zclconf/go-cty/cty"
)

// mediaHost is a host whose nginx serves a bucket of a lab, with a certificate from the lab's authority: all by the engine.
type mediaHost struct {
	t          *testing.T
	dir        string
	site       *site
	acme       *lab.ACME
	server     *nginxtest.Server
	units      host.Units
	plain, tls int
}

func newMediaHost(t *testing.T, p lab.Personality) *mediaHost {
	t.Helper()
	l := newLab(t)
	h := &mediaHost{t: t, dir: t.TempDir(), site: newSite(t, l, p), plain: nginxtest.FreePort(t), tls: nginxtest.FreePort(t)}
	if p == lab.R2 {
		h.site.bucket["public_host"] = cty.StringVal(h.site.s3.PublicHost)
	}
	h.site.settle(t)
	var err error
	if h.acme, err = l.ACME(t.Context(), lab.ACMEOptions{HTTPPort: h.plain}); err != nil {
		t.Fatal(err)
	}
	h.server = nginxtest.New(t, h.dir)
	base := nginxtest.FreePort(t)
	h.server.WriteSite(t, "base", fmt.Sprintf("server { listen 127.0.0.1:%d; return 204; }", base))
	h.server.Start(t, base)
	h.units = nginxtest.NewUnits(h.server)
	return h
}

func (h *mediaHost) node(kind *resources.Kind, config map[string]cty.Value, needs ...resources.Address) (resources.Node, cty.Value) {
	h.t.Helper()
	full, errs := kind.Complete(cty.ObjectVal(config))
	if len(errs) > 0 {
		h.t.Fatal(errs)
	}
	addr := resources.Address{Kind: kind.Name, Name: "files"}
	r, exports, err := kind.New(addr, full)
	if err != nil {
		h.t.Fatal(err)
	}
	return resources.Node{Address: addr, Kind: kind, Resource: r, Needs: needs, Config: "1"}, resources.Reference(addr, exports)
}

// nodes are the certificate and the site, as one run makes them.
func (h *mediaHost) nodes() []resources.Node {
	h.t.Helper()
	bucketKind := s3bucket.Kind(objectstore.NewClients())
	_, bucket, err := bucketKind.New(resources.Address{Kind: "s3_bucket", Name: "media"}, h.site.config(h.t, bucketKind))
	if err != nil {
		h.t.Fatal(err)
	}
	text := func(s string) cty.Value { return cty.StringVal(s) }
	conf, webroot := text(h.server.ConfDir), text(filepath.Join(h.dir, "webroot"))
	cert, certRef := h.node(acmecertificate.Kind(acme.NewIssuer()), map[string]cty.Value{
		"domains": cty.ListVal([]cty.Value{text(mediaName)}), "directory_url": text(h.acme.DirectoryURL), "ca_file": text(h.acme.CAFile),
		"dir": text(filepath.Join(h.dir, "certificate")), "webroot": webroot, "conf_dir": conf,
		"http_port": cty.NumberIntVal(int64(h.plain)), "http_address": text("127.0.0.1"),
	})
	site, _ := h.node(nginxsite.Kind(), map[string]cty.Value{
		"server_name": text(mediaName), "certificate": certRef, "conf_dir": conf, "webroot": webroot,
		"listen": cty.ListVal([]cty.Value{text(fmt.Sprintf("127.0.0.1:%d", h.plain)), text(fmt.Sprintf("127.0.0.1:%d ssl", h.tls))}),
		"media_proxy": cty.ObjectVal(map[string]cty.Value{
			"bucket":         resources.Reference(resources.Address{Kind: "s3_bucket", Name: "media"}, bucket),
			"local_fallback": text(filepath.Join(h.dir, "system")), "cache_path": text(h.cache()), "cache_size": text("100MB"),
		}),
	}, cert.Address)
	return []resources.Node{site, cert}
}

// cache lies outside /tmp, where a site refuses to have it.
func (h *mediaHost) cache() string {
	return filepath.Join("/var/tmp", filepath.Base(filepath.Dir(h.dir)))
}

// run is one run of the engine. It returns the outcomes, site first.
func (h *mediaHost) run() []plans.Outcome {
	h.t.Helper()
	files, commands, users := host.System(), host.SystemCommands(), host.SystemUsers()
	state := filepath.Join(h.dir, "state")
	records, err := plans.OpenRecords(state, files, users)
	if err != nil {
		h.t.Fatal(err)
	}
	engine := &plans.Engine{Records: records, Env: resources.Env{
		ReadEnv: resources.ReadEnv{
			Files: files, Units: h.units, Probe: commands, Users: users, Clock: host.SystemClock(), StateDir: state,
			Processes: host.SystemProcesses(),
		},
		Files: files, Units: h.units, Commands: commands,
	}}
	plan, err := engine.Plan(h.t.Context(), h.nodes())
	if err != nil {
		h.t.Fatal(err)
	}
	var out []plans.Outcome
	for _, r := range engine.Apply(h.t.Context(), plan).Results {
		if r.Err != nil {
			h.t.Errorf("%s: %v; fix: %s", r.Item.Node.Address, r.Err, diag.Fix(r.Err))
		}
		out = append(out, r.Outcome)
	}
	return out
}

func (h *mediaHost) mustRun(site, cert plans.Outcome) {
	h.t.Helper()
	if got := h.run(); got[0] != site || got[1] != cert {
		h.t.Fatalf("got site %s and certificate %s, want %s and %s", got[0], got[1], site, cert)
	}
}

// get asks the site by HTTPS, its certificate verified, and returns status, body and cache status.
func (h *mediaHost) get(path string) (int, string, string) {
	h.t.Helper()
	root, err := os.ReadFile(h.acme.RootFile)
	if err != nil {
		h.t.Fatal(err)
	}
	pool := x509.NewCertPool()
	pool.AppendCertsFromPEM(root)
	client := &http.Client{Transport: &http.Transport{TLSClientConfig: &tls.Config{RootCAs: pool, ServerName: mediaName}, DisableKeepAlives: true}}
	res, err := client.Get(fmt.Sprintf("https://127.0.0.1:%d%s", h.tls, path))
	if err != nil {
		h.t.Fatal(err)
	}
	defer func() { _ = res.Body.Close() }()
	body, err := io.ReadAll(res.Body)
	if err != nil {
		h.t.Fatal(err)
	}
	return res.StatusCode, string(body), res.Header.Get("X-Cache-Status")
}

func (h *mediaHost) put(key, text string) {
	h.t.Helper()
	_, err := h.site.client(h.t).Put(h.t.Context(), h.site.name(), objectstore.Put{
		Key: key, Body: strings.NewReader(text), Size: int64(len(text)), MD5: md5.Sum([]byte(text)), ContentType: "image/png",
		CacheControl: "public, max-age=315576000, immutable",
	})
	if err != nil {
		h.t.Fatal(err)
	}
}

// TestMediaProxyFromNothing goes from a host with nothing but nginx to a media proxy by HTTPS, in one run.
func TestMediaProxyFromNothing(t *testing.T) {
	for _, p := range []lab.Personality{lab.MinIO, lab.B2, lab.R2} {
		t.Run(p.String(), func(t *testing.T) {
			h := newMediaHost(t, p)
			t.Cleanup(func() { _ = os.RemoveAll(h.cache()) })
			const key, odd = "media_attachments/files/1/original/a.png", "site_uploads/files/@1x/b c?.png"
			h.put(key, "picture")
			h.put(odd, "odd")
			h.put("backups/dumps/a.tar.gz", "private")
			local := filepath.Join(h.dir, "system/accounts/x.png")
			if err := os.MkdirAll(filepath.Dir(local), 0o755); err != nil {
				t.Fatal(err)
			}
			if err := os.WriteFile(local, []byte("local"), 0o644); err != nil {
				t.Fatal(err)
			}

			h.mustRun(plans.Changed, plans.Changed)
			for _, c := range []struct {
				path, body, cache string
				status            int
			}{
				{"/" + key, "picture", "MISS", 200},
				{"/" + key + "?x=1", "picture", "HIT", 200},
				{"/site_uploads/files/@1x/b%20c%3F.png", "odd", "MISS", 200},
				{"/accounts/x.png", "local", "", 200},
				{"/backups/dumps/a.tar.gz", "", "", 404},
				{"/?list-type=2", "", "", 404},
			} {
				status, body, cache := h.get(c.path)
				if status != c.status || c.body != "" && body != c.body || c.cache != "" && cache != c.cache {
					t.Errorf("GET %s: got %d %.80q %s, want %d %q %s\n%s", c.path, status, body, cache, c.status, c.body, c.cache, h.server.Log(t))
				}
			}
			if status, _, _ := h.get("/none.png"); status != 404 && status != 403 {
				t.Errorf("a missing object: %d", status)
			}
			h.mustRun(plans.Unchanged, plans.Unchanged)
			if n := h.site.s3.Requests()["PublicGetObject 2xx"]; (n > 1) != (p == lab.R2) {
				t.Errorf("the domain of the bucket was asked %d times: %v", n, h.site.s3.Requests())
			}

			// Both drift: the site by hand, the certificate by loss. The site serves the challenge of the new one itself.
			if err := os.Remove(filepath.Join(h.dir, "certificate/1/privkey.pem")); err != nil {
				t.Fatal(err)
			}
			available := filepath.Join(h.server.ConfDir, "sites-available", mediaName+".conf")
			text, err := os.ReadFile(available)
			if err != nil {
				t.Fatal(err)
			}
			edited := strings.Replace(string(text), "proxy_cache_lock on;", "proxy_cache_lock off;", 1)
			if err := os.WriteFile(available, []byte(edited), 0o644); err != nil {
				t.Fatal(err)
			}
			h.mustRun(plans.Changed, plans.Changed)
			h.mustRun(plans.Unchanged, plans.Unchanged)
			if _, body, _ := h.get("/" + key); body != "picture" {
				t.Errorf("after healing: %q", body)
			}
		})
	}
}

// TestMediaProxyOutlivesItsStore: what was fetched once, and what lies on disk, is served while the store is down.
func TestMediaProxyOutlivesItsStore(t *testing.T) {
	h := newMediaHost(t, lab.MinIO)
	t.Cleanup(func() { _ = os.RemoveAll(h.cache()) })
	h.put("accounts/a.png", "picture")
	h.mustRun(plans.Changed, plans.Changed)
	if _, body, _ := h.get("/accounts/a.png"); body != "picture" {
		t.Fatalf("got %q", body)
	}
	h.site.lab.Close()
	h.get("/accounts/b.png")
	if status, body, cache := h.get("/accounts/a.png"); status != 200 || body != "picture" || cache != "HIT" {
		t.Errorf("cached: got %d %q %s", status, body, cache)
	}
	if status, _, _ := h.get("/accounts/b.png"); status != 503 {
		t.Errorf("not cached: got %d, want 503, never 404", status)
	}
}
