package secrets

import (
	"bytes"
	"crypto/rand"
	"encoding/base64"
	"encoding/pem"
	"fmt"
	"io"
	"io/fs"
	"net"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"

	"github.com/converge-agent/converge/host"
	"github.com/converge-agent/converge/resources"
	"github.com/converge-agent/converge/resources/all"
	"github.com/converge-agent/converge/test/lab"
	"github.com/converge-agent/converge/test/lab/sandbox"
	"golang.org/x/sys/unix"
)

// Where things are on the host.
const (
	stateDir   = "/var/lib/converge"
	configDir  = "/etc/converge"
	varFile    = "/etc/converge/values.vars"
	credstore  = "/etc/credstore"
	live       = "/home/mastodon/live"
	mainSite   = "/etc/nginx/sites-available/mastodon"
	brokenConf = "/etc/nginx/conf.d/zz-broken.conf"
	wwwData    = 33 // base-passwd
)

// world is a host in a sandbox with everything that a configuration can speak of, and a search over all that happens on it.
type world struct {
	*testing.T
	kinds  []*resources.Kind
	lab    *lab.Lab
	store  *lab.S3
	bus    *busMonitor
	search *searcher
	names  map[string]string // what ${NAME} in a body stands for
	round  int

	mu       sync.Mutex
	requests []sighting
	found    map[string]bool // "plant at where", of places
}

// sighting is bytes that somebody got to see, and where.
type sighting struct {
	sink string
	data []byte
	mode fs.FileMode // of a file
}

func newWorld(t *testing.T) *world {
	w := &world{
		T: t, kinds: all.Kinds(all.Deps{}), search: newSearcher(), names: map[string]string{}, found: map[string]bool{},
	}
	var err error
	if w.lab, err = lab.Start(t.Context(), lab.Options{Dir: labDir + "/lab"}); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(w.lab.Close)
	w.startServers()
	w.furnish()
	w.startUnits()
	return w
}

// startServers starts the store, the authority and the target of checks, each of which shows what it was asked. Another
// authority and the target say again whatever secret they were given, or may know.
func (w *world) startServers() {
	var err error
	if w.store, err = w.lab.S3(w.Context(), lab.MinIO); err != nil {
		w.Fatal(err)
	}
	w.storeRefuses(nil)
	hmac := w.fixed("acme_certificate.eab.hmac_key", base64.RawURLEncoding.EncodeToString(random(32)))
	acme, err := w.lab.ACME(w.Context(), lab.ACMEOptions{
		ExternalAccounts: map[string]string{"lab": hmac}, Seen: func(r *http.Request) { w.sawRequest("the authority", r) },
	})
	if err != nil {
		w.Fatal(err)
	}
	target := httptest.NewTLSServer(http.HandlerFunc(func(rw http.ResponseWriter, r *http.Request) {
		w.sawRequest("the target", r)
		rw.Header().Set("X-Echo", r.Header.Get(planted))
		_, _ = io.WriteString(rw, r.Header.Get(planted))
	}))
	w.Cleanup(target.Close)
	refusing := httptest.NewTLSServer(refusingAuthority(w, hmac))
	w.Cleanup(refusing.Close)
	w.put(labDir+"/target.pem", string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: target.Certificate().Raw})), 0o644)
	endpoint, err := url.Parse(w.store.Endpoint)
	if err != nil {
		w.Fatal(err)
	}
	endpoint.Host = net.JoinHostPort(w.store.Name, endpoint.Port()) // nginx checks certificates by name alone
	w.names["STORE"], w.names["ACME"] = endpoint.String(), acme.DirectoryURL
	w.names["TARGET"], w.names["REFUSING_ACME"] = target.URL, refusing.URL+"/directory"
	w.put("/etc/hosts", fmt.Sprintf("127.0.0.1 localhost social %s\n", w.store.Name), 0o644)
	w.fixed("object_store.access_key_id", w.store.AgentKey)
	w.fixed("object_store.secret_access_key", w.store.AgentSecret)
	w.fixed("s3_bucket.app_credentials.access_key_id", w.store.AppKey)
	w.fixed("s3_bucket.app_credentials.secret_access_key", w.store.AppSecret)
}

// refusingAuthority is an authority that refuses every account, and whose reason holds the key that it was to be bound with.
func refusingAuthority(w *world, hmac string) http.Handler {
	return http.HandlerFunc(func(rw http.ResponseWriter, r *http.Request) {
		w.sawRequest("the authority", r)
		base := "https://" + r.Host
		rw.Header().Set("Replay-Nonce", base64.RawURLEncoding.EncodeToString(random(16)))
		switch r.URL.Path {
		case "/directory":
			_, _ = fmt.Fprintf(rw, `{"newNonce":%q,"newAccount":%q,"newOrder":%q}`, base+"/nonce", base+"/account", base+"/order")
		case "/nonce":
		default:
			rw.Header().Set("Content-Type", "application/problem+json")
			rw.WriteHeader(http.StatusForbidden)
			_, _ = fmt.Fprintf(rw, `{"type":"urn:ietf:params:acme:error:unauthorized","detail":"the key %s (%s) is not known here"}`,
				hmac, base64.StdEncoding.EncodeToString([]byte(hmac)))
		}
	})
}

// storeRefuses has the store refuse the requests that which chooses (nil: none) in words that hold the agent's key.
func (w *world) storeRefuses(which func(*http.Request) bool) {
	w.store.Fault(func(r *http.Request) *lab.Fault {
		w.sawRequest("the store", r)
		if which == nil || !which(r) {
			return nil
		}
		return &lab.Fault{
			Status: http.StatusForbidden, Code: "SignatureDoesNotMatch",
			Message: fmt.Sprintf("The key %s with %s (%s, %x, ...%s) does not fit", w.store.AgentKey, w.store.AgentSecret,
				base64.StdEncoding.EncodeToString([]byte(":"+w.store.AgentSecret)), w.store.AgentSecret, w.store.AgentSecret[8:30]),
		}
	})
}

// sawRequest keeps what a server is asked. The body stays to be read.
func (w *world) sawRequest(server string, r *http.Request) {
	body, err := io.ReadAll(r.Body)
	if err != nil {
		body = []byte(err.Error()) // the client went away
	}
	r.Body = io.NopCloser(bytes.NewReader(body))
	to := "request to " + server + ": "
	seen := []sighting{{sink: to + "URL", data: []byte(r.Method + " " + r.Host + " " + r.URL.String())}, {sink: to + "body", data: body}}
	for name, values := range r.Header {
		seen = append(seen, sighting{sink: to + "header " + name, data: []byte(strings.Join(values, "\n"))})
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	w.requests = append(w.requests, seen...)
}

// furnish puts a Mastodon, programs, and secrets of others on the host.
func (w *world) furnish() {
	if _, err := lab.NewInstance(live, lab.InstanceSpec{Files: 20, Seed: 1, Domain: "example.com"}); err != nil {
		w.Fatal(err)
	}
	env := w.get(live + "/.env.production")
	w.put(live+"/.env.production", env+"SMTP_PASSWORD="+w.foreign("an unmanaged line of .env.production")+"\n"+planted+"="+
		w.foreign("an old value of a managed variable")+"\n", 0o640)
	w.put(live+"/.env.production.local", "UNMANAGED="+w.foreign("a file that shadows .env.production")+"\n"+planted+"="+w.foreign("a value that shadows another")+"\n", 0o600)
	w.put(live+"/bin/stand-in", "echo "+w.foreign("a line that a unit prints")+"\nexec sleep infinity\n", 0o600)
	w.put(live+"/bin/broken", "echo "+w.foreign("a line that a failing unit prints")+" >&2\nexit 3\n", 0o600)
	for _, log := range []string{"web.log", "broken.log", "nginx/error.log", "nginx/access.log", "nginx/output.log"} {
		w.put("/var/log/"+log, "", 0o600)
	}
	w.put("/etc/app/secret.txt", "old: "+w.foreign("the content that a file replaces")+"\n", 0o600)
	w.put("/etc/app/source.txt", "token: "+w.foreign("the source of a file")+"\n", 0o600)
	w.put(credstore+"/unused", w.foreign("a credential that nobody asked for")+"\n", 0o600)
	w.put(mainSite, "server {\n  listen 8080;\n  server_name example.com;\n  # "+w.foreign("a line of the instance's own site")+"\n  location / { return 404; }\n}\n", 0o600)
	w.put("/etc/nginx/conf.d/private.conf", "map $uri $token { default \""+w.foreign("the nginx configuration of somebody else")+"\"; }\n", 0o600)
	if err := os.Symlink(mainSite, "/etc/nginx/sites-enabled/mastodon"); err != nil {
		w.Fatal(err)
	}
	for name, script := range map[string]string{"good": goodProgram, "bad": badProgram, "hang": hangingProgram} {
		w.put(labDir+"/bin/"+name, script, 0o755)
	}
	for _, dir := range []string{"/full", "/root", "/srv", "/var/lib/node_exporter", labDir + "/out"} {
		if err := os.MkdirAll(dir, 0o755); err != nil {
			w.Fatal(err)
		}
	}
	w.fill("/full")
}

// fill mounts a file system at dir, and leaves no byte of it free.
func (w *world) fill(dir string) {
	if err := unix.Mount("none", dir, "tmpfs", 0, "size=16k,mode=0755"); err != nil {
		w.Fatal(err)
	}
	if err := os.WriteFile(dir+"/filler", make([]byte, 1<<20), 0o644); err == nil {
		w.Fatal("the file system does not fill up")
	}
}

// The programs of the kind command. Those that fail tell their secret in every way that a shell has at hand.
const (
	goodProgram = `echo "$PLANTED"; touch "/run/done-$1"` + "\n"
	badProgram  = `
printf '%s\n' "$PLANTED" | base64 -w 0 >&2; echo >&2
printf 'user:%s' "$PLANTED" | base64 >&2
printf '%s' "$PLANTED" | od -An -tx1 -w100 >&2
printf '%s' "$PLANTED" | od -An -tx1 -w100 | tr -d ' ' >&2
printf 'it begins with %.20s\n' "$PLANTED" >&2
printf '%s\n' "$PLANTED" | sed 's/^/> /' >&2
echo "the token is $PLANTED" >&2
echo "$PLANTED" >&2
exit 1
`
	hangingProgram = "echo $$ > /run/hanging.new; mv /run/hanging.new /run/hanging; exec sleep 600\n"
)

// startUnits starts the bus with the units, and a monitor on it.
func (w *world) startUnits() {
	nginx, err := exec.LookPath("nginx")
	if err != nil {
		w.Fatal("nginx is missing; install the package nginx-light")
	}
	units := []sandbox.Unit{
		{Name: "nginx.service", Command: []string{nginx, "-g", "daemon off;"}, Reload: syscall.SIGHUP, Enabled: true, UID: wwwData, Log: "/var/log/nginx/output.log"},
		{Name: "mastodon-web.service", Command: []string{"/bin/sh", live + "/bin/stand-in"}, Enabled: true, Log: "/var/log/web.log"},
		{Name: "mastodon-broken.service", Command: []string{"/bin/sh", live + "/bin/broken"}, Log: "/var/log/broken.log"},
	}
	bus, err := sandbox.Start(w.Context(), "/run", units...)
	if err != nil {
		w.Fatal(err)
	}
	w.Cleanup(bus.Close)
	if err := os.Symlink("../bus", "/run/dbus/system_bus_socket"); err != nil {
		w.Fatal(err)
	}
	systemd := host.Systemd()
	defer systemd.Close()
	for _, u := range units[:2] {
		if err := systemd.Start(w.Context(), u.Name); err != nil {
			w.Fatal(err)
		}
	}
	w.bus = listen(w.T, bus.Address)
}

// fixed plants a secret that stays the same in all rounds.
func (w *world) fixed(attr, text string) string {
	w.search.add(plant{attr, text})
	w.put(credstore+"/"+attr, text+"\n", 0o600)
	return text
}

// foreign plants a secret of somebody else's on the host.
func (w *world) foreign(what string) string {
	text := randomText(40)
	w.search.add(plant{"host: " + what, text})
	return text
}

// shapes are the secrets that an attribute can take, where they may be odder than letters and digits.
var shapes = map[string]func() string{
	"file.content": func() string {
		return randomText(16) + "\n\"$x'\\\n" + randomText(8) + "%&<é\n" + randomText(24) + "\n"
	},
	"command.env": func() string {
		return randomText(16) + "\n\"$x'\\\n" + randomText(8) + "%&<é\n" + randomText(24) + "\n"
	},
	"env_file.set":       func() string { return randomText(16) + ` "$x\%&< ` + randomText(24) },
	"http_check.headers": func() string { return randomText(16) + ` "$x'\%&< ` + randomText(24) },
}

// newRound gives every attribute that may hold a secret a new one, but those that others have to know, and writes the
// configurations anew: on a host that had converged, everything is to be changed.
func (w *world) newRound() {
	w.Helper()
	w.round++
	w.names["N"], w.names["RESTARTS"] = strconv.Itoa(w.round), strconv.Itoa(min(w.round, 2)) // a restart takes its time
	w.plantAll(func(s secretAttr) string {
		if shape := shapes[s.String()]; shape != nil {
			return shape()
		}
		return randomText(40)
	})
	w.configure("good.hcl", configuration(w.kinds, succeeding, credential)+sensitiveVariable)
	w.configure("failing.hcl", configuration(w.kinds, failingAll, credential))
	w.configure("failing-soon.hcl", configuration(w.kinds, failingSoon, credential))
	value := randomText(40)
	w.search.add(plant{w.named("the sensitive variable"), value})
	w.put(varFile, fmt.Sprintf("token = %q\n", value), 0o600)
}

// sensitiveVariable puts a variable to use that comes from a file of values or from the environment.
const sensitiveVariable = `
variable "plain" { default = "" }
variable "token" {
  sensitive = true
  default   = "nothing"
}
file "variable" {
  path    = "/etc/app/variable.txt"
  content = var.token
}
`

// named is the name of a plant of this round.
func (w *world) named(what string) string { return fmt.Sprintf("%s of round %d", what, w.round) }

// plantAll gives every attribute that may hold a secret of its own one that text makes.
func (w *world) plantAll(text func(secretAttr) string) {
	w.Helper()
	for _, k := range w.kinds {
		for _, s := range secretAttrs(k) {
			if slices.Contains(w.search.names, s.String()) {
				continue // fixed
			}
			p := plant{w.named(s.String()), text(s)}
			w.search.add(p)
			w.put(credstore+"/"+s.String(), p.text, 0o600)
		}
	}
}

// credential is the expression for the secret of an attribute.
func credential(s secretAttr) string { return fmt.Sprintf("credential(%q)", s) }

func (w *world) configure(name, text string) {
	w.Helper()
	w.put(configDir+"/"+name, filled(text, w.names), 0o644)
}

func (w *world) put(name, content string, mode fs.FileMode) {
	w.Helper()
	if err := os.MkdirAll(filepath.Dir(name), 0o755); err != nil {
		w.Fatal(err)
	}
	if err := os.WriteFile(name, []byte(content), mode); err != nil {
		w.Fatal(err)
	}
	if err := os.Chmod(name, mode); err != nil {
		w.Fatal(err)
	}
}

func (w *world) get(name string) string {
	w.Helper()
	b, err := os.ReadFile(name)
	if err != nil {
		w.Fatal(err)
	}
	return string(b)
}

func random(n int) []byte {
	b := make([]byte, n)
	_, _ = rand.Read(b) // never fails: crypto/rand, Go 1.24
	return b
}

// randomText returns n random letters and digits.
func randomText(n int) string {
	const alphabet = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789"
	b := random(n)
	for i := range b {
		b[i] = alphabet[int(b[i])%len(alphabet)]
	}
	return string(b)
}
