package e2e

import (
	"context"
	"fmt"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/converge-agent/converge/test/e2e/instance"
	"github.com/converge-agent/converge/test/e2e/machines"
	"github.com/converge-agent/converge/test/e2e/services"
	"github.com/converge-agent/converge/test/machine"
)

// The names that the examples have as their defaults.
const (
	domain      = "example.com"
	files       = "files.example.com"
	live        = "/home/mastodon/live"
	envFile     = live + "/.env.production"
	mediaMoved  = "/etc/nginx/media-moved"
	siteFile    = "/etc/nginx/sites-available/" + files + ".conf"
	certFile    = "/etc/ssl/" + files + "/live/fullchain.pem"
	agentBinary = "/usr/local/bin/converge"
)

// examples says of each provider what the example that uses it is called in.
var examples = map[string]struct{ file, credentials, bucket string }{
	"backblaze-b2": {"backblaze-b2.hcl", "b2", "my-instance-media"},
	"minio":        {"minio.hcl", "minio", "mastodon"},
}

// world is a Mastodon host that converge has never run on, and the host with the servers that it uses.
type world struct {
	*testing.T

	social   machines.Machine
	other    machines.Machine // the services' host
	services *services.Services
	instance *instance.Instance
	bucket   string
	config   string   // the example, in the machine
	flags    []string // that the example needs

	printed strings.Builder // all that converge has printed
}

// patience is how long a scenario waits for what must come; virtual machines are slow.
const patience = 5 * time.Minute

func newWorld(t *testing.T, s scenario, release string) *world {
	t.Helper()
	w := &world{T: t, bucket: examples[s.provider].bucket}
	started, err := driver.Start(t.Context(),
		machines.Spec{Name: "social1", Role: machines.Instance, Release: release},
		machines.Spec{Name: "services", Role: machines.Services, Release: "bookworm"})
	t.Cleanup(func() {
		if err := driver.Stop(context.Background()); err != nil {
			t.Error(err)
		}
	})
	w.must(err)
	w.social, w.other = started[0], started[1]
	t.Cleanup(w.keepLogs)
	w.startServices(s.provider)
	w.install(s)
	w.installConverge(s.provider)
	return w
}

func (w *world) must(err error) {
	w.Helper()
	if err != nil {
		w.Fatal(err)
	}
}

func (w *world) startServices(provider string) {
	w.Helper()
	var err error
	w.services, err = services.Start(w.Context(), driver, w.other, services.Options{
		Provider: provider, Resolve: map[string]string{domain: w.social.IP(), files: w.social.IP()},
	})
	w.must(err)
}

func (w *world) install(s scenario) {
	w.Helper()
	certificate, key, err := w.services.Certificate(w.Context(), domain)
	w.must(err)
	w.instance, err = instance.Install(w.Context(), driver, w.social, instance.Options{
		Domain: domain, FilesDomain: files, Files: s.files, Seed: 7, CertPEM: certificate, KeyPEM: key,
		CAPEM: []string{w.services.CAPEM, w.services.ACMERootPEM}, Resolver: w.services.IP,
	})
	w.must(err)
}

// converge is the agent, built once from this repository.
var converge = sync.OnceValues(func() (binary string, err error) {
	dir, err := os.MkdirTemp("", "converge-build-")
	if err != nil {
		return "", err
	}
	defer func() { _ = os.RemoveAll(dir) }() // a leftover there harms nobody
	cmd := exec.Command("go", "build", "-trimpath", "-ldflags", "-s -w", "-o", filepath.Join(dir, "converge"), "./cmd/converge")
	cmd.Dir = repository
	cmd.Env = append(os.Environ(), "CGO_ENABLED=0")
	if out, err := cmd.CombinedOutput(); err != nil {
		return "", fmt.Errorf("build converge: %w\n%s", err, out)
	}
	content, err := os.ReadFile(filepath.Join(dir, "converge"))
	return string(content), err
})

// repository is the top of this repository, as seen from the directory in which the tests run.
const repository = "../.."

func (w *world) installConverge(provider string) {
	w.Helper()
	binary, err := converge()
	w.must(err)
	w.must(w.social.Put(w.Context(), agentBinary, binary, 0o755))
	example := examples[provider]
	text, err := os.ReadFile(filepath.Join(repository, "examples", example.file))
	w.must(err)
	w.config = "/etc/converge/" + example.file
	w.put(w.config, string(text))
	for name, value := range map[string]string{
		".agent.id": w.services.AgentKey, ".agent.key": w.services.AgentSecret,
		".app.id": w.services.AppKey, ".app.key": w.services.AppSecret,
	} {
		w.must(w.social.Put(w.Context(), "/etc/credstore/"+example.credentials+name, value+"\n", 0o600))
	}
	if provider == "minio" {
		w.put("/etc/ssl/own-ca.pem", w.services.CAPEM)
		w.flags = []string{"--var", "endpoint=" + w.services.Endpoint, "--var", "ca_file=/etc/ssl/own-ca.pem"}
	}
}

func (w *world) put(path, content string) {
	w.Helper()
	w.must(w.social.Put(w.Context(), path, content, 0o644))
}

func (w *world) get(path string) string {
	w.Helper()
	text, err := w.social.Get(w.Context(), path)
	w.must(err)
	return text
}

// sh runs a script on the instance host, which must succeed, and returns what it printed, without white space around it.
func (w *world) sh(script string) string {
	w.Helper()
	r, err := w.social.Run(w.Context(), "sh", "-ec", script)
	w.must(err)
	if r.Code != 0 {
		w.Fatalf("%s\nexit code %d\n%s%s", script, r.Code, r.Stdout, r.Stderr)
	}
	return strings.TrimSpace(r.Stdout)
}

// command is converge with the example, for a shell.
func (w *world) command(words ...string) string {
	return strings.Join(slices.Concat([]string{agentBinary}, words, w.flags, []string{w.config}), " ")
}

// run runs converge, whatever becomes of it.
func (w *world) run(words ...string) machine.Result {
	w.Helper()
	r, err := w.social.Run(w.Context(), "sh", "-c", w.command(words...))
	w.must(err)
	fmt.Fprintf(&w.printed, "$ converge %s  -> %d\n%s%s\n", strings.Join(words, " "), r.Code, r.Stdout, r.Stderr)
	return r
}

// want runs converge and checks its exit code.
func (w *world) want(code int, words ...string) string {
	w.Helper()
	r := w.run(words...)
	if r.Code != code {
		w.Fatalf("converge %q: exit code %d, want %d\n%s%s", words, r.Code, code, r.Stdout, r.Stderr)
	}
	return r.Stdout
}

// The exit codes of plan and apply with --detailed-exitcode.
const (
	unchanged     = 0
	changed       = 2
	failed        = 4
	changedFailed = 6
)

func (w *world) plan(code int) string {
	w.Helper()
	return w.want(code, "plan", "--detailed-exitcode")
}

func (w *world) apply(code int) string {
	w.Helper()
	return w.want(code, "apply", "--auto-approve", "--detailed-exitcode")
}

// done expects that the host is as the example says, and that one more apply changes nothing on it: law 2.
func (w *world) done() {
	w.Helper()
	before := w.traces()
	w.apply(unchanged)
	w.same("an apply of what is done", before, w.traces())
	w.plan(unchanged)
	w.checkMedia()
}

// traces lists what converge may write on the host, with inodes and times, and what runs of its services.
func (w *world) traces() string {
	w.Helper()
	return w.sh(`find /etc ` + live + `/.env* /usr/local -printf '%p %i %C@ %m %U:%G %s\n' | sort
		systemctl show --property=Id,InvocationID mastodon-web mastodon-sidekiq nginx`)
}

// same fails where two traces differ, and names the lines.
func (w *world) same(after, want, got string) {
	w.Helper()
	lines := map[string]int{}
	for _, line := range strings.Split(want, "\n") {
		lines[line]--
	}
	for _, line := range strings.Split(got, "\n") {
		lines[line]++
	}
	for line, n := range lines {
		if n != 0 {
			w.Errorf("%s changed the host: %+d %s", after, n, line)
		}
	}
}

// checkMedia expects that the bucket holds what the instance knows to be there, byte for byte, and nothing else.
func (w *world) checkMedia() {
	w.Helper()
	w.must(w.instance.Settle(w.Context()))
	objects, err := w.services.SHA256(w.Context(), w.bucket)
	w.must(err)
	known, err := w.instance.Known(w.Context())
	w.must(err)
	deleted, living := map[string]bool{}, 0
	for _, m := range known {
		deleted[m.Key] = m.State != instance.StateLive
		if deleted[m.Key] {
			continue
		}
		living++
		if objects[m.Key] != m.SHA256 {
			w.Errorf("%s in the bucket has the SHA-256 %q, want %q", m.Key, objects[m.Key], m.SHA256)
		}
	}
	if living == 0 {
		w.Error("the instance knows no media, so nothing was compared")
	}
	for key := range objects {
		if gone, ours := deleted[key]; gone || !ours {
			w.Errorf("%s is in the bucket, and not among the live media of the instance", key)
		}
	}
}

// eventually waits until a condition holds.
func (w *world) eventually(what string, holds func() bool) {
	w.Helper()
	ctx, cancel := context.WithTimeout(w.Context(), patience)
	defer cancel()
	tick := time.NewTicker(100 * time.Millisecond)
	defer tick.Stop()
	for !holds() {
		select {
		case <-tick.C:
		case <-ctx.Done():
			w.Fatalf("%s: it did not come to that within %s", what, patience)
		}
	}
}

// objects is how many objects the bucket has.
func (w *world) objects() int {
	w.Helper()
	keys, err := w.services.Keys(w.Context(), w.bucket)
	w.must(err)
	return len(keys)
}

// startRun starts converge apply as a unit of the host, so that it goes on by itself and ends with the power. It returns
// the unit's name.
func (w *world) startRun() string {
	w.Helper()
	const unit = "a-run"
	w.sh("systemctl reset-failed " + unit + ` 2>/dev/null || true
		systemd-run --quiet --unit=` + unit + ` --collect -p StandardOutput=journal ` + w.command("apply", "--auto-approve"))
	return unit
}

// meetRun starts a run and returns when the bucket has n objects. The store takes its time over each, so that the run is still
// in its middle, however late that is seen. Then forget lets the store be as quick as it can.
func (w *world) meetRun(n int) (run string, forget func()) {
	w.Helper()
	w.must(w.services.Fault(w.Context(), services.FaultSpec{
		Delay: 3 * time.Second, Share: 1, For: time.Hour, Methods: []string{http.MethodPut},
	}))
	run = w.startRun()
	w.eventually(fmt.Sprintf("%d objects are in the bucket", n), func() bool { return w.objects() >= n })
	return run, func() {
		w.Helper()
		w.must(w.services.Fault(w.Context(), services.FaultSpec{}))
	}
}

// running reports whether a unit that startRun made still runs.
func (w *world) running(unit string) bool {
	w.Helper()
	r, err := w.social.Run(w.Context(), "systemctl", "is-active", unit)
	w.must(err)
	return strings.HasPrefix(r.Stdout, "activ") // active, activating
}

// drifts returns the addresses that a plan shows as drift.
func drifts(plan string) []string {
	var list []string
	for _, m := range regexp.MustCompile(`(?m)^  [~+] (\S+) +drift: `).FindAllStringSubmatch(plan, -1) {
		list = append(list, m[1])
	}
	slices.Sort(list)
	return list
}

// keepLogs writes what the machines and converge said to a directory, when the scenario has failed.
func (w *world) keepLogs() {
	if !w.Failed() {
		return
	}
	dir, err := filepath.Abs(filepath.Join(repository, ".cache", "e2e", strings.NewReplacer("/", "-", " ", "-").Replace(w.Name())))
	if err != nil {
		w.Error(err)
		return
	}
	logs := map[string]string{"converge.log": w.printed.String()}
	ctx, cancel := context.WithTimeout(context.Background(), 2*time.Minute)
	defer cancel()
	for _, m := range []machines.Machine{w.social, w.other} {
		journal, err := m.Journal(ctx)
		if err != nil {
			journal += err.Error()
		}
		logs[m.Name()+".journal"] = journal
	}
	const others = "tail -n 200 /var/log/nginx/*.log " + live + "/log/*.log; cat " + siteFile + "; nginx -T"
	if r, err := w.social.Run(ctx, "sh", "-c", others); err == nil {
		logs["social1.files"] = r.Stdout + r.Stderr
	}
	for name, text := range logs {
		w.keep(dir, name, []byte(text))
	}
	w.Logf("what the machines said is in %s", dir)
}

// keep writes one file for whoever looks into a failure.
func (w *world) keep(dir, name string, content []byte) {
	err := os.MkdirAll(dir, 0o755)
	if err == nil {
		err = os.WriteFile(filepath.Join(dir, name), content, 0o600)
	}
	if err != nil {
		w.Error(err)
	}
}
