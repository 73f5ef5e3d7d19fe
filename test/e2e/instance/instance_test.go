package instance_test

import (
	"bytes"
	"context"
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"encoding/hex"
	"fmt"
	"image/png"
	"io"
	"io/fs"
	"maps"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/credentials"
	"github.com/aws/aws-sdk-go-v2/service/s3"
	"github.com/aws/aws-sdk-go-v2/service/s3/types"

	"github.com/converge-agent/converge/test/e2e/instance"
	"github.com/converge-agent/converge/test/e2e/machines"
	"github.com/converge-agent/converge/test/lab"
	"github.com/converge-agent/converge/test/machine"
)

const (
	domain = "example.com"
	files  = "files.example.com"
)

// network is a driver whose one machine shares a network with a lab in this process.
type network struct {
	machines.Driver
	n *machine.Network
}

func (d network) DialContext(ctx context.Context, network, addr string) (net.Conn, error) {
	return d.n.DialContext(ctx, network, addr)
}

type container struct {
	machines.Machine
	m *machine.Machine
}

func (c container) Name() string { return c.m.Name }
func (c container) IP() string   { return c.m.IP }

func (c container) Run(ctx context.Context, command ...string) (machine.Result, error) {
	return c.m.Run(ctx, command...)
}

func (c container) Put(ctx context.Context, path, content string, mode fs.FileMode) error {
	return c.m.Put(ctx, path, content, mode)
}

func (c container) Get(ctx context.Context, path string) (string, error) { return c.m.Get(ctx, path) }

// world is an instance in a container, and a lab beside it.
type world struct {
	*testing.T
	ctx  context.Context
	m    *machine.Machine
	lab  *lab.Lab
	i    *instance.Instance
	tree *lab.Instance // the same sample instance as is on the machine
}

func newWorld(t *testing.T, release string) *world {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 18*time.Minute)
	t.Cleanup(cancel)
	w := &world{T: t, ctx: ctx}
	base, err := machine.Base(ctx, "", release, machines.Packages(machines.Instance, release)...)
	w.must(err)
	n, err := machine.NewNetwork(ctx)
	w.must(err)
	t.Cleanup(func() { _ = n.Close() }) // goes with the process anyway
	dir := t.TempDir()
	w.lab, err = lab.Start(ctx, lab.Options{Dir: filepath.Join(dir, "lab"), IP: machine.HostIP, Listen: n.Listen, Dial: n.DialContext})
	w.must(err)
	t.Cleanup(w.lab.Close)
	w.m, err = machine.Start(ctx, machine.Options{Base: base, Name: "social", Network: n})
	w.must(err)
	t.Cleanup(func() {
		if err := w.m.Stop(); err != nil {
			t.Error(err)
		}
	})
	t.Cleanup(func() {
		if t.Failed() {
			t.Log(w.sh("journalctl --no-pager --lines=60 --unit='mastodon-*' --unit=nginx"))
		}
	})
	w.tree, err = lab.NewInstance(filepath.Join(dir, "live"), lab.InstanceSpec{Files: 60, Seed: 5, Domain: domain})
	w.must(err)
	certificate, key, err := w.lab.Certificate(domain)
	w.must(err)
	authority, err := os.ReadFile(w.lab.CAFile)
	w.must(err)
	w.i, err = instance.Install(ctx, network{n: n}, container{m: w.m}, instance.Options{
		Domain: domain, FilesDomain: files, Files: 60, Seed: 5,
		CertPEM: string(certificate), KeyPEM: string(key), CAPEM: []string{string(authority)}, Resolver: machine.HostIP,
	})
	w.must(err)
	return w
}

func (w *world) must(err error) {
	w.Helper()
	if err != nil {
		w.Fatal(err)
	}
}

// sh runs a script in the machine, which must succeed.
func (w *world) sh(script string) string {
	w.Helper()
	r, err := w.m.Run(context.WithoutCancel(w.ctx), "sh", "-ec", script)
	w.must(err)
	if r.Code != 0 {
		w.Fatalf("%s\nexit code %d\n%s%s", script, r.Code, r.Stdout, r.Stderr)
	}
	return strings.TrimSpace(r.Stdout)
}

// eventually waits until a condition holds.
func (w *world) eventually(what string, holds func() bool) {
	w.Helper()
	for !holds() {
		select {
		case <-w.ctx.Done():
			w.Fatalf("%s: it did not come to that", what)
		case <-time.After(50 * time.Millisecond):
		}
	}
}

func (w *world) known() map[string]instance.Media {
	w.Helper()
	all, err := w.i.Known(w.ctx)
	w.must(err)
	byKey := map[string]instance.Media{}
	for _, m := range all {
		byKey[m.Key] = m
	}
	if len(byKey) != len(all) {
		w.Errorf("%d files are known, with only %d keys", len(all), len(byKey))
	}
	return byKey
}

// styles returns the files of an attachment.
func (w *world) styles(id string) []instance.Media {
	w.Helper()
	var media []instance.Media
	for _, m := range w.known() {
		if m.ID == id {
			media = append(media, m)
		}
	}
	return media
}

func (w *world) post() instance.Media {
	w.Helper()
	m, err := w.i.Post(w.ctx)
	w.must(err)
	return m
}

// answer is what a visitor gets.
type answer struct {
	status int
	header http.Header
	body   []byte
}

// get visits a URL, without following redirects.
func (w *world) get(url string) answer {
	w.Helper()
	req, err := http.NewRequestWithContext(w.ctx, http.MethodGet, url, nil)
	w.must(err)
	client := *w.i.HTTPClient()
	client.CheckRedirect = func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }
	resp, err := client.Do(req)
	w.must(err)
	defer func() { _ = resp.Body.Close() }()
	body, err := io.ReadAll(resp.Body)
	w.must(err)
	return answer{resp.StatusCode, resp.Header, body}
}

func digest(content []byte) string {
	sum := sha256.Sum256(content)
	return hex.EncodeToString(sum[:])
}

var picture = regexp.MustCompile(`<img class="media" alt="" src="([^"]*)">`)

// page returns the URLs of the pictures on the instance's page, and the sources that its policy has for a directive.
func (w *world) page() (urls []string, sources func(directive string) []string) {
	w.Helper()
	a := w.get("https://" + domain + "/")
	for _, match := range picture.FindAllStringSubmatch(string(a.body), -1) {
		urls = append(urls, match[1])
	}
	policy := a.header.Get("Content-Security-Policy")
	return urls, func(directive string) []string {
		for part := range strings.SplitSeq(policy, "; ") {
			if words := strings.Fields(part); words[0] == directive {
				return words[1:]
			}
		}
		return nil
	}
}

func TestInstance(t *testing.T) {
	for _, release := range []string{"bookworm", "trixie"} {
		t.Run(release, func(t *testing.T) {
			w := newWorld(t, release)
			for _, step := range []struct {
				name string
				test func(*world)
			}{
				{"is confined as Mastodon is", confined},
				{"knows the media from before", knowsSample},
				{"has a site like Mastodon's", site},
				{"keeps media on its disk", onDisk},
				{"shows pictures on its page", page},
				{"reads its settings anew when told", reload},
				{"has the URLs and the policy of Mastodon", rules},
				{"loses nothing when it is killed", killed},
				{"keeps media at B2", func(w *world) { inBucket(w, lab.B2) }},
				{"keeps media at MinIO", func(w *world) { inBucket(w, lab.MinIO) }},
			} {
				ok := t.Run(step.name, func(t *testing.T) {
					own := *w
					own.T = t
					step.test(&own)
				})
				if !ok {
					return
				}
			}
		})
	}
}

func confined(w *world) {
	for _, unit := range instance.Units() {
		start, err := w.i.Started(w.ctx, unit)
		w.must(err)
		status := w.sh(fmt.Sprintf("cat /proc/%d/status", start.PID))
		for _, want := range []string{"Uid:\t991\t", "CapBnd:\t0000000000000000\n", "NoNewPrivs:\t1\n", "Seccomp:\t2\n"} {
			if !strings.Contains(status, want) {
				w.Errorf("the status of %s lacks %q:\n%s", unit, want, status)
			}
		}
		mounts := w.sh(fmt.Sprintf("cat /proc/%d/mountinfo", start.PID))
		if !regexp.MustCompile(` / / ro[, ]`).MatchString(mounts) {
			w.Errorf("%s can write to its root directory:\n%s", unit, mounts)
		}
	}
	if state := w.sh("systemctl is-active mastodon-streaming.service"); state != "active" {
		w.Errorf("mastodon-streaming is %s", state)
	}
}

func knowsSample(w *world) {
	known := w.known()
	for _, key := range w.tree.Public() {
		content, err := os.ReadFile(w.tree.Path(key))
		w.must(err)
		m := known[key]
		if m.SHA256 != digest(content) || m.State != instance.StateLive || m.ID == "" || m.CreatedAt.IsZero() {
			w.Errorf("%s is known as %+v", key, m)
		}
		if a := w.get(m.URL); !bytes.Equal(a.body, content) {
			w.Errorf("%s has other content than the file", m.URL)
		}
	}
	if len(known) != len(w.tree.Public()) {
		w.Errorf("%d files are known, want %d", len(known), len(w.tree.Public()))
	}
	for _, name := range []string{instance.EnvFile, instance.System + "/" + w.tree.Private()[0]} {
		if owner := w.sh("stat --format=%U:%G " + name); owner != "mastodon:mastodon" {
			w.Errorf("%s belongs to %s", name, owner)
		}
	}
	if mode := w.sh("stat --format=%a " + instance.EnvFile); mode != "640" {
		w.Errorf("the mode of the settings is %s", mode)
	}
}

func site(w *world) {
	a := w.get("http://" + domain + "/about?x=1")
	if to := a.header.Get("Location"); a.status != http.StatusMovedPermanently || to != "https://"+domain+"/about?x=1" {
		w.Errorf("port 80 answers %d to %q", a.status, to)
	}
	if a := w.get("http://" + domain + "/.well-known/acme-challenge/token"); a.status != http.StatusNotFound {
		w.Errorf("a challenge that is not there is answered %d", a.status)
	}
	a = w.get("https://" + domain + "/system/" + w.tree.Public()[0])
	for name, want := range map[string]string{
		"Cache-Control": "public, max-age=2419200, immutable", "X-Content-Type-Options": "nosniff",
		"Content-Security-Policy": "default-src 'none'; form-action 'none'",
	} {
		if got := a.header.Values(name); !slices.Equal(got, []string{want}) {
			w.Errorf("%s of a file is %q, want %q", name, got, want)
		}
	}
	if a := w.get("https://" + domain + "/system/none.png"); a.status != http.StatusNotFound {
		w.Errorf("a file that is not there is answered %d", a.status)
	}
}

func onDisk(w *world) {
	m := w.post()
	w.must(w.i.Settle(w.ctx))
	styles := w.styles(m.ID)
	if len(styles) != 2 {
		w.Fatalf("the picture has the files %+v, want two", styles)
	}
	for _, s := range styles {
		if s.URL != "https://"+domain+"/system/"+s.Key {
			w.Errorf("the URL of %s is %s", s.Key, s.URL)
		}
		a := w.get(s.URL)
		if a.status != http.StatusOK || digest(a.body) != s.SHA256 {
			w.Errorf("%s: %d, %d bytes, not what was posted", s.URL, a.status, len(a.body))
		}
		if _, err := png.Decode(bytes.NewReader(a.body)); err != nil {
			w.Errorf("%s is no picture: %s", s.URL, err)
		}
	}
	w.remove(m.ID)
	for _, s := range styles {
		if a := w.get(s.URL); a.status != http.StatusNotFound {
			w.Errorf("%s is answered %d after the deletion", s.URL, a.status)
		}
	}
	if left := w.sh("find " + instance.System + " -type d -empty"); left != "" {
		w.Errorf("empty directories are left: %s", left)
	}
	old := w.known()[w.tree.Public()[0]]
	w.remove(old.ID)
	if a := w.get(old.URL); a.status != http.StatusNotFound {
		w.Errorf("%s from before is answered %d after the deletion", old.URL, a.status)
	}
	if err := w.i.Delete(w.ctx, "media_attachments.files.1"); err == nil {
		w.Error("what is not known could be deleted")
	}
}

// remove deletes an attachment and waits until that has happened.
func (w *world) remove(id string) {
	w.Helper()
	w.must(w.i.Delete(w.ctx, id))
	w.must(w.i.Delete(w.ctx, id)) // twice is fine
	for _, s := range w.styles(id) {
		if s.State != instance.StateDeleted || s.DeletedAt.IsZero() {
			w.Errorf("%s was deleted and is %+v", s.Key, s)
		}
	}
	w.must(w.i.Settle(w.ctx))
	for _, s := range w.styles(id) {
		if s.RemovedAt.Before(s.DeletedAt) {
			w.Errorf("%s was removed and is %+v", s.Key, s)
		}
	}
}

func page(w *world) {
	m := w.post()
	w.must(w.i.Settle(w.ctx))
	urls, sources := w.page()
	if len(urls) != 20 || !slices.Contains(urls, m.URL) {
		w.Errorf("the page has the pictures %q, want 20 and among them %s", urls, m.URL)
	}
	for _, url := range urls {
		if a := w.get(url); a.status != http.StatusOK || !strings.HasPrefix(a.header.Get("Content-Type"), "image/") {
			w.Errorf("%s: %d, %s", url, a.status, a.header.Get("Content-Type"))
		}
	}
	if got, want := sources("img-src"), []string{"'self'", "data:", "blob:", "https://" + domain}; !slices.Equal(got, want) {
		w.Errorf("img-src is %q, want %q", got, want)
	}
	if a := w.get("https://" + domain + "/packs/stand-in.js"); a.header.Get("Content-Type") != "text/javascript" {
		w.Errorf("the script has the type %q", a.header.Get("Content-Type"))
	}
}

// reload has web read its settings while it answers: nobody notices.
func reload(w *world) {
	before, err := w.i.Started(w.ctx, "mastodon-web")
	w.must(err)
	stop := make(chan struct{})
	var asking sync.WaitGroup
	for range 4 {
		asking.Go(func() {
			for {
				select {
				case <-stop:
					return
				default:
				}
				if _, err := w.i.Known(w.ctx); err != nil {
					w.Errorf("during a reload: %s", err)
				}
			}
		})
	}
	w.setEnv("EXTRA_MEDIA_HOSTS=https://elsewhere.example.com, https://" + files)
	after := before
	for range 4 { // what is lost is lost by chance
		last := after.StartedAt
		w.sh("systemctl reload mastodon-web")
		w.eventually("the settings are read anew", func() bool {
			after, err = w.i.Started(w.ctx, "mastodon-web")
			return err == nil && after.StartedAt.After(last)
		})
	}
	close(stop)
	asking.Wait()
	if after.PID != before.PID {
		w.Errorf("process %d was replaced by %d", before.PID, after.PID)
	}
	_, sources := w.page()
	for _, directive := range []string{"img-src", "media-src", "connect-src"} {
		for _, host := range []string{"https://elsewhere.example.com", "https://" + files} {
			if !slices.Contains(sources(directive), host) {
				w.Errorf("%s is %q, without %s", directive, sources(directive), host)
			}
		}
	}
	if s, err := w.i.Started(w.ctx, "mastodon-sidekiq"); err != nil || s.Env["EXTRA_MEDIA_HOSTS"] != "" {
		w.Errorf("sidekiq, which was not restarted, has %+v, %v", s, err)
	}
}

// setEnv writes lines to the end of the settings, where the block of an earlier call was.
func (w *world) setEnv(lines ...string) {
	w.Helper()
	text, err := w.m.Get(w.ctx, instance.EnvFile)
	w.must(err)
	const mark = "# Storage\n"
	text, _, _ = strings.Cut(text, mark)
	text += mark + strings.Join(lines, "\n") + "\n"
	w.must(w.m.Put(w.ctx, instance.EnvFile, text, 0o640))
	w.sh("chown mastodon:mastodon " + instance.EnvFile)
}

// rules compares with what Mastodon was seen to do, by asking the programs' own code.
func rules(w *world) {
	const script = `
cd ` + instance.Live + ` && env -i LOCAL_DOMAIN=example.com "$@" ruby -I lib -e '
require "storage"; require "policy"
storage = Storage.from(ENV, Dir.pwd)
puts storage.name, storage.url("a/b.png"), Policy.new(ENV).header[/img-src ([^;]*)/, 1]'`
	for _, c := range []struct {
		env       []string
		url, csp  string
		s3, fails bool
	}{
		{url: "https://example.com/system/a/b.png", csp: "https://example.com"},
		{env: []string{"S3_ENABLED=True", "S3_BUCKET=b"}, url: "https://example.com/system/a/b.png", csp: "https://example.com"},
		{env: []string{"WEB_DOMAIN=web.example.com"}, url: "https://web.example.com/system/a/b.png", csp: "https://web.example.com"},
		{
			env: []string{"S3_ENABLED=true", "S3_BUCKET=b", "S3_ALIAS_HOST=files.example.com"}, s3: true,
			url: "https://files.example.com/a/b.png", csp: "https://example.com https://files.example.com",
		},
		{
			env: []string{"S3_ENABLED=true", "S3_BUCKET=b", "S3_ALIAS_HOST=files.example.com/b", "S3_KEY_PREFIX=p"}, s3: true,
			url: "https://files.example.com/b/p/a/b.png", csp: "https://example.com https://files.example.com/b/",
		},
		{
			env: []string{"S3_ENABLED=true", "S3_BUCKET=b", "S3_ALIAS_HOST=https://files.example.com"}, s3: true,
			url: "https://https://files.example.com/a/b.png", csp: "https://example.com https://https//files.example.com/",
		},
		{
			env: []string{"S3_ENABLED=true", "S3_BUCKET=b", "S3_ALIAS_HOST="}, s3: true,
			url: "https:///a/b.png", csp: "https://example.com",
		},
		{
			env: []string{"S3_ENABLED=true", "S3_BUCKET=b", "S3_REGION=eu-1", "S3_ENDPOINT=https://s3.eu-1.example.net"}, s3: true,
			url: "https://s3-eu-1.amazonaws.com/b/a/b.png", csp: "https://example.com",
		},
		{
			env: []string{"S3_ENABLED=true", "S3_BUCKET=b", "S3_HOSTNAME=s3.example.net", "S3_PROTOCOL=http"}, s3: true,
			url: "http://s3.example.net/b/a/b.png", csp: "https://example.com https://s3.example.net",
		},
		{env: []string{`S3_ALIAS_HOST="files.example.com"`}, fails: true},
	} {
		r, err := w.m.Run(w.ctx, append([]string{"sh", "-c", script, "sh"}, c.env...)...)
		w.must(err)
		storage := map[bool]string{false: "filesystem", true: "s3"}[c.s3]
		want := storage + "\n" + c.url + "\n'self' data: blob: " + c.csp + "\n"
		if failed := r.Code != 0; failed != c.fails || !failed && r.Stdout != want {
			w.Errorf("%q gives\n%s%s, want\n%s", c.env, r.Stdout, r.Stderr, want)
		}
	}
}

// killed kills both programs again and again while pictures are posted and deleted.
func killed(w *world) {
	var posted, deleted []string
	for round := range 4 {
		for range 3 {
			if m, err := w.i.Post(w.ctx); err == nil {
				posted = append(posted, m.ID)
			}
		}
		w.sh("systemctl kill --signal=KILL mastodon-web mastodon-sidekiq; printf '{\"event\":\"%01000d' 1 >> " + instance.Live + "/tmp/database.jsonl")
		w.eventually("web answers again", func() bool { _, err := w.i.Known(w.ctx); return err == nil })
		if len(posted) > round {
			w.must(w.i.Delete(w.ctx, posted[round]))
			deleted = append(deleted, posted[round])
		}
		w.sh("systemctl reset-failed mastodon-web mastodon-sidekiq") // so many kills are more than systemd takes for healthy
	}
	w.eventually("sidekiq runs again", func() bool {
		return w.sh("systemctl is-active mastodon-sidekiq || systemctl start mastodon-sidekiq") == "active"
	})
	w.must(w.i.Settle(w.ctx))
	if len(posted) == 0 || len(deleted) == 0 {
		w.Fatalf("%d pictures could be posted, and %d deleted", len(posted), len(deleted))
	}
	for _, id := range posted {
		styles := w.styles(id)
		if len(styles) != 2 && !slices.Contains(deleted, id) { // a deletion may be faster than the second file
			w.Errorf("%s was posted and has %d files", id, len(styles))
		}
		for _, s := range styles {
			a := w.get(s.URL)
			if gone := slices.Contains(deleted, id); gone != (a.status == http.StatusNotFound) || !gone && digest(a.body) != s.SHA256 {
				w.Errorf("%s of %s (deleted: %v): %d, %d bytes", s.URL, id, gone, a.status, len(a.body))
			}
		}
	}
}

// inBucket switches to a bucket by hand.
func inBucket(w *world, p lab.Personality) {
	store, err := w.lab.S3(w.ctx, p)
	w.must(err)
	bucket := "media-" + p.String()
	w.makeBucket(store, bucket)
	before := w.post()
	w.must(w.i.Settle(w.ctx))
	requests := record(store)
	lines := []string{
		"S3_ENABLED=true", "S3_BUCKET=" + bucket, "S3_REGION=" + store.Region, "S3_ENDPOINT=" + store.Endpoint,
		"S3_ALIAS_HOST=" + files, "AWS_ACCESS_KEY_ID=" + store.AppKey, "AWS_SECRET_ACCESS_KEY=" + store.AppSecret,
	}
	w.setEnv(lines...)
	w.restart("s3")

	m := w.post()
	w.must(w.i.Settle(w.ctx))
	want := map[string][]string{}
	for _, s := range w.styles(m.ID) {
		if s.URL != "https://"+files+"/"+s.Key {
			w.Errorf("the URL of %s is %s", s.Key, s.URL)
		}
		body, header, ok := store.Object(bucket, s.Key)
		if !ok || digest(body) != s.SHA256 {
			w.Errorf("%s in the bucket: %d bytes, not what was posted", s.Key, len(body))
		}
		if got := header.Get("Cache-Control") + "; " + header.Get("Content-Type"); got != "public, max-age=315576000, immutable; image/png" {
			w.Errorf("%s in the bucket has %s", s.Key, got)
		}
		want["PUT "+s.Key] = []string{"public-read"}
	}
	if len(want) != 2 {
		w.Fatalf("the picture has %d files, want two", len(want))
	}
	if got := requests(http.MethodPut); !maps.EqualFunc(got, want, slices.Equal) {
		w.Errorf("uploads had the ACLs %q, want %q", got, want)
	}
	urls, sources := w.page()
	if !slices.Contains(urls, m.URL) {
		w.Errorf("the page has the pictures %q, want %s among them", urls, m.URL)
	}
	for _, directive := range []string{"img-src", "media-src", "connect-src"} {
		if !slices.Contains(sources(directive), "https://"+files) {
			w.Errorf("%s is %q, without https://%s", directive, sources(directive), files)
		}
	}

	w.deleteFrom(store, bucket)
	w.remove(before.ID) // its files are not in the bucket, and those on the disk are forgotten
	if w.sh("ls "+instance.System+"/"+before.Key) == "" {
		w.Error("a file was deleted that is not in the storage of now")
	}
	w.outage(store, bucket)
	w.options(store, bucket, lines)

	requests = record(store)
	w.setEnv(append(lines, "S3_PERMISSION=")...)
	w.restart("s3")
	m = w.post()
	if acl, asked := requests(http.MethodPut)["PUT "+m.Key]; !asked || acl != nil {
		w.Errorf("with an empty S3_PERMISSION the ACLs are %q (asked: %v), want none", acl, asked)
	}
	w.must(w.i.Settle(w.ctx))
	w.setEnv()
	w.restart("filesystem")
}

// deleteFrom deletes until both ways of deletion were taken.
func (w *world) deleteFrom(store *lab.S3, bucket string) {
	w.Helper()
	store.ResetRequests()
	var ids []string
	for store.Requests()["DeleteObject 2xx"] == 0 || store.Requests()["DeleteObjects 2xx"] == 0 {
		m := w.post()
		w.must(w.i.Settle(w.ctx))
		w.remove(m.ID)
		ids = append(ids, m.ID)
	}
	left := store.Keys(bucket)
	for _, id := range ids {
		for _, s := range w.styles(id) {
			if slices.Contains(left, s.Key) {
				w.Errorf("%s was deleted and is in the bucket", s.Key)
			}
		}
	}
}

// outage has the store down: what is posted then is refused and not known, and what was accepted happens afterwards.
func (w *world) outage(store *lab.S3, bucket string) {
	w.Helper()
	m := w.post()
	w.must(w.i.Settle(w.ctx))
	known := len(w.known())
	store.Fault(func(*http.Request) *lab.Fault { return &lab.Fault{Status: 503, Code: "ServiceUnavailable"} })
	if _, err := w.i.Post(w.ctx); err == nil || !strings.Contains(err.Error(), "503") {
		w.Errorf("a picture was posted while the store was down: %v", err)
	}
	w.must(w.i.Delete(w.ctx, m.ID))
	if got := len(w.known()); got != known {
		w.Errorf("%d files are known, before it were %d", got, known)
	}
	w.eventually("sidekiq has tried", func() bool {
		r := store.Requests()
		return r["DeleteObject 5xx"]+r["DeleteObjects 5xx"] > 0
	})
	store.Fault(nil)
	w.must(w.i.Settle(w.ctx))
	if slices.Contains(store.Keys(bucket), m.Key) {
		w.Errorf("%s was deleted and is in the bucket", m.Key)
	}
}

// options stores and reads a file of 6 MiB with settings that uploads and downloads depend on.
func (w *world) options(store *lab.S3, bucket string, lines []string) {
	w.Helper()
	const script = `cd ` + instance.Live + ` && head -c 6291456 /dev/zero > /tmp/large && env -i "$@" ruby -I lib -e '
require "storage"
storage = Storage.from(ENV, Dir.pwd)
storage.put("a.bin", "/tmp/large", "application/octet-stream")
abort "other content" unless storage.get("a.bin") == File.binread("/tmp/large")'`
	for _, c := range []struct {
		env      []string
		key      string
		requests map[string]int64
		fails    string
	}{
		{key: "a.bin", requests: map[string]int64{"PutObject 2xx": 1}},
		{
			env: []string{"S3_MULTIPART_THRESHOLD=5242880", "S3_KEY_PREFIX=p"}, key: "p/a.bin",
			requests: map[string]int64{"PutObject 2xx": 0, "UploadPart 2xx": 2},
		},
		{env: []string{"S3_FORCE_SINGLE_REQUEST=true"}, key: "a.bin", requests: map[string]int64{"GetObject 2xx": 1, "HeadObject 2xx": 0}},
		{env: []string{"S3_ENDPOINT=" + strings.TrimPrefix(store.Endpoint, "https://")}, fails: "URI::InvalidURIError"},
	} {
		store.ResetRequests()
		r, err := w.m.Run(w.ctx, slices.Concat([]string{"sh", "-c", script, "sh"}, lines, c.env)...)
		w.must(err)
		if c.fails != "" {
			if r.Code == 0 || !strings.Contains(r.Stderr, c.fails) {
				w.Errorf("with %q it ends with %d, want %q: %s", c.env, r.Code, c.fails, r.Stderr)
			}
			continue
		}
		if r.Code != 0 {
			w.Errorf("with %q it fails: %s", c.env, r.Stderr)
		}
		if _, _, ok := store.Object(bucket, c.key); !ok {
			w.Errorf("with %q %s is not in the bucket", c.env, c.key)
		}
		for operation, want := range c.requests {
			if got := store.Requests()[operation]; got != want {
				w.Errorf("with %q there were %d %s, want %d: %v", c.env, got, operation, want, store.Requests())
			}
		}
	}
}

// restart restarts web and sidekiq, which must then use that storage.
func (w *world) restart(storage string) {
	w.Helper()
	since := w.sh("date --utc +%Y-%m-%dT%H:%M:%S.%NZ")
	w.sh("systemctl restart mastodon-web mastodon-sidekiq")
	for _, unit := range []string{"mastodon-web", "mastodon-sidekiq"} {
		w.eventually(unit+" uses "+storage, func() bool {
			s, err := w.i.Started(w.ctx, unit)
			return err == nil && s.StartedAt.Format("2006-01-02T15:04:05.000000Z") > since && s.Storage == storage
		})
	}
}

// makeBucket makes a bucket whose objects anyone may read where the provider knows that for a bucket.
func (w *world) makeBucket(store *lab.S3, name string) {
	w.Helper()
	authority, err := os.ReadFile(w.lab.CAFile)
	w.must(err)
	roots := x509.NewCertPool()
	roots.AppendCertsFromPEM(authority)
	transport := &http.Transport{
		DialContext: w.m.Network.DialContext, TLSClientConfig: &tls.Config{RootCAs: roots, MinVersion: tls.VersionTLS12},
	}
	defer transport.CloseIdleConnections()
	in := &s3.CreateBucketInput{Bucket: &name}
	if store.Personality == lab.B2 {
		in.ACL = types.BucketCannedACLPublicRead
	}
	_, err = s3.New(s3.Options{
		Region: store.Region, BaseEndpoint: aws.String(store.Endpoint), UsePathStyle: true,
		Credentials: credentials.NewStaticCredentialsProvider(store.AgentKey, store.AgentSecret, ""),
		HTTPClient:  &http.Client{Transport: transport},
	}).CreateBucket(w.ctx, in)
	w.must(err)
}

// record notes the ACLs that a store is asked for, by method and key, and returns how to look at those of a method.
func record(store *lab.S3) func(method string) map[string][]string {
	var mu sync.Mutex
	seen := map[string][]string{}
	store.Fault(func(r *http.Request) *lab.Fault {
		_, key, _ := strings.Cut(strings.TrimPrefix(r.URL.Path, "/"), "/")
		mu.Lock()
		defer mu.Unlock()
		seen[r.Method+" "+key] = r.Header.Values("X-Amz-Acl")
		return nil
	})
	return func(method string) map[string][]string {
		mu.Lock()
		defer mu.Unlock()
		found := map[string][]string{}
		for request, acl := range seen {
			if strings.HasPrefix(request, method+" ") {
				found[request] = acl
			}
		}
		return found
	}
}
