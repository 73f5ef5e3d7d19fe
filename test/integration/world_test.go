package integration

import (
	"bytes"
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/base64"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/converge-agent/converge/objectstore"
	"github.com/converge-agent/converge/test/lab"
	"github.com/converge-agent/converge/test/machine"
)

// The names and places that the examples have as their defaults.
const (
	exampleLive   = "/home/mastodon/live"
	exampleEnv    = exampleLive + "/.env.production"
	exampleFiles  = "files.example.com"
	exampleCert   = "/etc/ssl/" + exampleFiles + "/live"
	exampleSite   = "/etc/nginx/sites-available/" + exampleFiles + ".conf"
	exampleDomain = "example.com"
	exampleMain   = "/etc/nginx/sites-available/mastodon"
	b2Endpoint    = "s3.us-west-001.backblazeb2.com"
	letsEncrypt   = "acme-v02.api.letsencrypt.org"
	exampleConfig = "/etc/converge"
)

var exampleUnits = []string{"mastodon-sidekiq", "mastodon-web"}

// town is a lab on a network, for worlds beside each other.
type town struct {
	dir     string
	base    string // of the machines
	network *machine.Network
	lab     *lab.Lab

	mu     sync.Mutex
	worlds int
}

// newTown starts a lab whose servers may be found under these names besides; each ends with the test.
func newTown(t *testing.T, names ...string) *town {
	t.Helper()
	if _, err := converge(); err != nil { // before the lab, which changes the working directory
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 15*time.Minute) // the first ever builds the base
	defer cancel()
	to := &town{dir: t.TempDir()}
	var err error
	if to.base, err = machine.Base(ctx, "", "bookworm"); err != nil {
		t.Fatal(err)
	}
	if to.network, err = machine.NewNetwork(ctx); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = to.network.Close() }) // goes with the process anyway
	to.lab, err = lab.Start(t.Context(), lab.Options{
		Dir: filepath.Join(to.dir, "lab"), IP: machine.HostIP, Listen: to.network.Listen, Dial: to.network.DialContext,
		Names: append(names, letsEncrypt),
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(to.lab.Close)
	return to
}

// newStore starts a store, and gives the lab one more address on the network, where it is to be found.
func (to *town) newStore(t *testing.T, p lab.Personality) (store *lab.S3, ip string) {
	t.Helper()
	to.mu.Lock()
	defer to.mu.Unlock()
	to.worlds++
	ip = fmt.Sprintf("10.77.0.%d", 100+to.worlds) // machines count from 11
	err := to.network.Do(func() error {
		out, err := exec.CommandContext(t.Context(), "ip", "addr", "add", ip+"/24", "dev", "br0").CombinedOutput()
		if err != nil {
			return fmt.Errorf("give the lab the address %s: %w: %s", ip, err, out)
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return newS3(t, to.lab, p), ip
}

// world is a Mastodon host in a machine, and the servers that the examples speak of under their own names: a relay on port
// 443 of an address of its own, in the machines' network alone, tells them apart by the name that a client asks for.
type world struct {
	t        *testing.T
	m        *machine.Machine
	lab      *lab.Lab
	store    *lab.S3
	acme     *lab.ACME
	relay    *lab.NameRelay
	instance *lab.Instance
	disk     string // where the machine's own files lie on this host
	setting

	agent, app key // that the example has

	planted []string        // secrets that nobody may ever see
	printed strings.Builder // all that converge has printed
}

// setting says what is particular to a world: its store, and how the example speaks of that.
type setting struct {
	personality lab.Personality
	names       map[string]func(*lab.S3) string // of the provider's servers, and where ("ip:port") they are
	credentials string                          // what the names of its keys in /etc/credstore begin with
	bucket      string                          // to be
}

// endpoint is where a store answers.
func endpoint(s *lab.S3) string { return strings.TrimPrefix(s.Endpoint, "https://") }

// backblaze is the world of the example for Backblaze B2.
var backblaze = setting{
	personality: lab.B2, credentials: "b2", bucket: "my-instance-media",
	names: map[string]func(*lab.S3) string{b2Endpoint: endpoint},
}

// key is one key with its secret.
type key struct{ id, secret string }

// newAgentKey makes a key for converge with the least rights that the table of providers names.
func (w *world) newAgentKey() (k key) {
	w.t.Helper()
	k.id, k.secret = w.store.NewKey(w.provider().AgentRights...)
	w.planted = append(w.planted, k.id, k.secret)
	return k
}

// newAppKey makes one for Mastodon, for the bucket alone.
func (w *world) newAppKey() (k key) {
	w.t.Helper()
	k.id, k.secret = w.store.NewBucketKey(w.bucket, w.provider().AppRights...)
	w.planted = append(w.planted, k.id, k.secret)
	return k
}

// provider is the store's entry in the table.
func (w *world) provider() *objectstore.Provider {
	w.t.Helper()
	p, ok := objectstore.Lookup(w.store.Personality.String())
	if !ok {
		w.t.Fatalf("there is no provider %s", w.store.Personality)
	}
	return p
}

// newWorld starts a world with a sample instance, its units, and a store whose keys are in /etc/credstore.
func (to *town) newWorld(t *testing.T, s setting) *world {
	t.Helper()
	dir := t.TempDir()
	w := &world{t: t, lab: to.lab, setting: s, disk: filepath.Join(dir, "upper")}
	w.furnish()
	w.startServers(to, dir)
	w.openMainSite()
	w.certify()
	w.planted = []string{w.store.AgentKey, w.store.AgentSecret, w.store.AppKey, w.store.AppSecret}
	w.agent, w.app = w.newAgentKey(), w.newAppKey()
	w.putKeys()
	given := len(w.planted)
	for line := range strings.Lines(w.get(exampleEnv)) {
		if name, value, _ := strings.Cut(strings.TrimSpace(line), "="); len(value) >= 32 && !strings.HasPrefix(name, "SMTP") {
			w.planted = append(w.planted, value)
		}
	}
	if len(w.planted) < given+5 {
		t.Fatalf("the sample instance has only %d secrets", len(w.planted)-given)
	}
	installConverge(t, w.m)
	t.Cleanup(func() {
		if t.Failed() {
			t.Logf("converge printed:\n%s", w.printed.String())
		}
	})
	return w
}

// putKeys writes the keys to where the example reads them.
func (w *world) putKeys() {
	w.t.Helper()
	for name, value := range map[string]string{
		".agent.id": w.agent.id, ".agent.key": w.agent.secret, ".app.id": w.app.id, ".app.key": w.app.secret,
	} {
		putFile(w.t, w.m, "/etc/credstore/"+w.credentials+name, value+"\n", 0o600)
	}
}

// standInUnit is a unit of Mastodon's as its dist/*.service are, with a program in the place of Ruby.
const standInUnit = `[Service]
User=mastodon
WorkingDirectory=` + exampleLive + `
ExecStart=/bin/sh bin/stand-in %s
Restart=always
[Install]
WantedBy=multi-user.target
`

// standIn notes each start and the storage that it was started with.
const standIn = `echo start >> "tmp/$1.starts"; grep -E '^(S3|AWS)_' .env.production > "tmp/$1.loaded"; exec sleep infinity
`

// furnish puts an instance and its units onto the disk of a machine that is still to be started.
func (w *world) furnish() {
	w.t.Helper()
	const user = 991
	live := filepath.Join(w.disk, exampleLive)
	files := map[string]string{filepath.Join(live, "bin/stand-in"): standIn, filepath.Join(live, "tmp/none"): ""}
	for _, name := range exampleUnits {
		files[filepath.Join(w.disk, "etc/systemd/system", name+".service")] = fmt.Sprintf(standInUnit, name)
	}
	for name, content := range files {
		if err := os.MkdirAll(filepath.Dir(name), 0o755); err != nil {
			w.t.Fatal(err)
		}
		if err := os.WriteFile(name, []byte(content), 0o644); err != nil {
			w.t.Fatal(err)
		}
	}
	var err error
	w.instance, err = lab.NewInstance(live, lab.InstanceSpec{Files: 40, Seed: 7, UID: user, GID: user, Domain: exampleDomain})
	if err != nil {
		w.t.Fatal(err)
	}
}

// startServers starts the store, the machine, the authority and the relay, each ending with the test.
func (w *world) startServers(to *town, dir string) {
	t := w.t
	t.Helper()
	var ip string
	var err error
	w.store, ip = to.newStore(t, w.personality)
	w.m, err = machine.Start(t.Context(), machine.Options{Base: to.base, Dir: dir, Name: "social", Network: to.network})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := w.m.Stop(); err != nil {
			t.Error(err)
		}
	})
	w.acme, err = w.lab.ACME(t.Context(), lab.ACMEOptions{Resolve: map[string]string{exampleFiles: w.m.IP}})
	if err != nil {
		t.Fatal(err)
	}
	authority, _, _ := strings.Cut(strings.TrimPrefix(w.acme.DirectoryURL, "https://"), "/")
	w.relay = &lab.NameRelay{
		Addr: ip + ":443", Listen: to.network.Listen, Dial: to.network.DialContext,
		Targets: map[string]string{letsEncrypt: authority},
	}
	for name, address := range w.names {
		w.relay.Targets[name], w.relay.Targets["*."+name] = address(w.store), address(w.store)
	}
	w.openRelay()
	t.Cleanup(w.relay.Close)
}

// openRelay takes connections to the servers, from now on or again.
func (w *world) openRelay() {
	w.t.Helper()
	if err := w.relay.Open(); err != nil {
		w.t.Fatal(err)
	}
}

// mainSite is the instance's own site as its dist/nginx.conf is, without the app.
const mainSite = `server {
  listen 80;
  server_name ` + exampleDomain + `;
  location / { return 301 https://$host$request_uri; }
}
server {
  listen 443 ssl http2;
  server_name ` + exampleDomain + `;
  ssl_certificate /etc/ssl/main.crt;
  ssl_certificate_key /etc/ssl/main.key;
  root ` + exampleLive + `/public;
  error_page 404 500 501 502 503 504 /500.html;
  location / { try_files $uri =404; }
  location ^~ /system/ {
    add_header Cache-Control "public, max-age=2419200, immutable";
  }
}
`

// openMainSite puts the instance's own site into the machine, whose nginx is still to be started.
func (w *world) openMainSite() {
	w.t.Helper()
	certificate, key, err := w.lab.Certificate(exampleDomain)
	if err != nil {
		w.t.Fatal(err)
	}
	putFile(w.t, w.m, "/etc/ssl/main.crt", string(certificate), 0o644)
	putFile(w.t, w.m, "/etc/ssl/main.key", string(key), 0o600)
	putFile(w.t, w.m, exampleMain, mainSite, 0o644)
	w.sh("ln -s " + exampleMain + " /etc/nginx/sites-enabled/mastodon")
}

// certify lets the machine find the servers under their names and trust them, and starts its services.
func (w *world) certify() {
	w.t.Helper()
	relay, _, _ := strings.Cut(w.relay.Addr, ":")
	hosts := w.get("/etc/hosts") + fmt.Sprintf("%s %s\n%s %s\n", w.m.IP, exampleFiles, relay, letsEncrypt)
	for name := range w.names {
		hosts += fmt.Sprintf("%[1]s %[2]s %[3]s.%[2]s\n", relay, name, w.bucket)
	}
	putFile(w.t, w.m, "/etc/hosts", hosts, 0o644)
	for name, file := range map[string]string{"lab": w.lab.CAFile, "acme": w.acme.RootFile} {
		pem, err := os.ReadFile(file)
		if err != nil {
			w.t.Fatal(err)
		}
		putFile(w.t, w.m, "/usr/local/share/ca-certificates/"+name+".crt", string(pem), 0o644)
	}
	w.sh(`update-ca-certificates >/dev/null 2>&1
		useradd --uid 991 --home-dir /home/mastodon --shell /bin/bash mastodon
		chown -R mastodon: /home/mastodon && chmod 755 /home/mastodon
		systemctl unmask nginx.service && systemctl daemon-reload
		systemctl enable --now nginx.service mastodon-web.service mastodon-sidekiq.service
		until [ -e ` + exampleLive + `/tmp/mastodon-web.loaded ] && [ -e ` + exampleLive + `/tmp/mastodon-sidekiq.loaded ]; do sleep 0.05; done`)
}

// installExample puts one of the examples, as it stands in the repository, into a directory of the machine. name is below examples/.
func (w *world) installExample(name, dir string) string {
	w.t.Helper()
	text, err := os.ReadFile(filepath.Join(repository(w.t), "examples", name))
	if err != nil {
		w.t.Fatal(err)
	}
	at := path.Join(dir, path.Base(name))
	putFile(w.t, w.m, at, string(text), 0o644)
	return at
}

// startDir is where the tests run; while a lab does, the process is elsewhere.
var startDir, startDirErr = os.Getwd()

func repository(t *testing.T) string {
	t.Helper()
	if startDirErr != nil {
		t.Fatal(startDirErr)
	}
	return filepath.Join(startDir, "..", "..")
}

// sh runs a script that must succeed in the machine.
func (w *world) sh(script string) string {
	w.t.Helper()
	return inMachine(w.t, w.m, "sh", "-ec", script)
}

func (w *world) get(name string) string {
	w.t.Helper()
	text, err := w.m.Get(w.t.Context(), name)
	if err != nil {
		w.t.Fatal(err)
	}
	return text
}

// converge runs it and checks the exit code.
func (w *world) converge(code int, args ...string) machine.Result {
	w.t.Helper()
	r, err := w.m.Run(w.t.Context(), append([]string{"converge"}, args...)...)
	if err != nil {
		w.t.Fatal(err)
	}
	fmt.Fprintf(&w.printed, "$ converge %s  -> %d\n%s%s\n", strings.Join(args, " "), r.Code, r.Stdout, r.Stderr)
	if r.Code != code {
		w.t.Fatalf("converge %q: exit code %d, want %d\n%s%s", args, r.Code, code, r.Stdout, r.Stderr)
	}
	return r
}

// traces lists every file that converge could have written: its inode and times, or its content.
func (w *world) traces(how string) string {
	w.t.Helper()
	const places = "/etc " + exampleLive + "/.env* /var/lib /usr/local /root"
	const without = ` ! -path '/var/lib/systemd/*'`
	switch how {
	case "writes":
		return w.sh("find " + places + without + ` -printf '%p %i %T@ %C@ %m %U:%G %s\n' | sort`)
	case "contents":
		return w.sh("find " + places + without + ` ! -path '/var/lib/*' -printf '%p %y %m %U:%G %l\n' | sort
			find ` + places + without + ` ! -path '/var/lib/*' -type f -exec sha256sum {} + | sort`)
	}
	panic(how)
}

// starts counts the starts of the stand-ins.
func (w *world) starts() string {
	return w.sh("cd " + exampleLive + "/tmp && for u in " + strings.Join(exampleUnits, " ") + `; do echo "$u $(wc -l < $u.starts)"; done`)
}

// invocations stands for the runs that nginx and the services are in.
func (w *world) invocations() string {
	return w.sh("systemctl show --property=InvocationID --value nginx " + strings.Join(exampleUnits, " "))
}

// browser returns a client that trusts one authority and nothing else, and finds every name at an address of the network.
func (w *world) browser(caFile, addr string) *http.Client {
	w.t.Helper()
	pem, err := os.ReadFile(caFile)
	if err != nil {
		w.t.Fatal(err)
	}
	pool := x509.NewCertPool()
	pool.AppendCertsFromPEM(pem)
	transport := &http.Transport{
		TLSClientConfig: &tls.Config{RootCAs: pool},
		DialContext: func(ctx context.Context, network, _ string) (net.Conn, error) {
			return w.m.Network.DialContext(ctx, network, addr)
		},
	}
	w.t.Cleanup(transport.CloseIdleConnections)
	return &http.Client{Transport: transport, Timeout: 5 * time.Minute}
}

// visit gets a path of the media site as a browser does.
func (w *world) visit(what string) (int, []byte) {
	w.t.Helper()
	resp, err := w.browser(w.acme.RootFile, w.m.IP+":443").Get("https://" + exampleFiles + "/" + what)
	if err != nil {
		w.t.Fatal(err)
	}
	defer func() { _ = resp.Body.Close() }()
	body, err := io.ReadAll(resp.Body)
	if err != nil {
		w.t.Fatal(err)
	}
	return resp.StatusCode, body
}

// visitMain gets a path of the instance's own site, and returns the status and where it leads.
func (w *world) visitMain(path string) (status int, location string) {
	w.t.Helper()
	client := w.browser(w.lab.CAFile, w.m.IP+":443")
	client.CheckRedirect = func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }
	resp, err := client.Get("https://" + exampleDomain + path)
	if err != nil {
		w.t.Fatal(err)
	}
	_ = resp.Body.Close()
	return resp.StatusCode, resp.Header.Get("Location")
}

// checkSecrets looks for the planted secrets in all that was printed, in the state directory, and in logs.
func (w *world) checkSecrets() {
	w.t.Helper()
	read := func(script string) []byte {
		r, err := w.m.Run(w.t.Context(), "sh", "-c", script)
		if err != nil {
			w.t.Fatal(err)
		}
		return []byte(r.Stdout)
	}
	places := map[string][]byte{
		"what converge printed": []byte(w.printed.String()),
		"the state directory":   read("find /var/lib/converge -path " + keptFiles + " -prune -o -type f -exec cat {} +"),
		"the journal":           read("journalctl --no-pager --all -o export"),
		"logs and leftovers":    read("find /var/log/nginx /tmp /var/tmp -type f -exec cat {} +"),
		"files of the site":     read("find /etc/nginx /etc/ssl/" + exampleFiles + " -type f -exec cat {} +"),
	}
	if len(places["the state directory"]) == 0 || len(places["the journal"]) == 0 {
		w.t.Fatal("the state directory or the journal is empty, so nothing could be found there")
	}
	if env := w.get(exampleEnv); w.secretIn([]byte(env)) == "" {
		w.t.Fatal("the search does not find secrets where they are")
	}
	for place, content := range places {
		if form := w.secretIn(content); form != "" {
			w.t.Errorf("%s holds a secret as %s", place, form)
		}
	}
	w.checkKept(read("find "+keptFiles+" -type f -exec cat {} +"), read("find "+keptFiles+" -type f ! -perm 600"))
}

// keptFiles is where converge keeps what it replaced, whole files of other people's secrets among it.
const keptFiles = "/var/lib/converge/journal/kept"

// checkKept expects of the replaced files that root alone may read them, and that they hold no secret which the env file does
// not hold any more, or never did.
func (w *world) checkKept(kept, open []byte) {
	w.t.Helper()
	if len(kept) == 0 || len(open) > 0 {
		w.t.Errorf("%d bytes of replaced files are kept, and others may read %q", len(kept), open)
	}
	env := w.get(exampleEnv)
	for i, s := range w.planted {
		if bytes.Contains(kept, []byte(s)) && !strings.Contains(env, s) {
			w.t.Errorf("what is kept holds secret number %d, which %s does not hold", i, exampleEnv)
		}
	}
}

// secretIn returns in what form content holds a planted secret, or "".
func (w *world) secretIn(content []byte) string {
	for i, s := range w.planted {
		if bytes.Contains(content, []byte(s)) {
			return fmt.Sprintf("text (number %d)", i)
		}
		for shift := range 3 { // where in a longer text that was encoded it may have stood
			code := base64.StdEncoding.EncodeToString([]byte(strings.Repeat("x", shift) + s))
			middle := code[4 : len(code)-4]
			if bytes.Contains(content, []byte(middle)) {
				return fmt.Sprintf("base64 (number %d)", i)
			}
		}
	}
	return ""
}
