package integration

import (
	"crypto/sha256"
	"crypto/x509"
	"encoding/pem"
	"maps"
	"net/http"
	"os"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/credentials"
	"github.com/aws/aws-sdk-go-v2/service/s3"
	"github.com/aws/smithy-go/middleware"
	"github.com/converge-agent/converge/test/lab"
)

// example is one of the repository's examples, run as it stands on a fresh host.
type example struct {
	*world
	path  string
	flags []string
}

func (e *example) args(command string, flags ...string) []string {
	return append(append(append([]string{command}, flags...), e.flags...), e.path)
}

func (e *example) plan(code int) string {
	e.t.Helper()
	return e.converge(code, e.args("plan", "--detailed-exitcode")...).Stdout
}

func (e *example) apply(code int) string {
	e.t.Helper()
	return e.converge(code, e.args("apply", "--auto-approve", "--detailed-exitcode")...).Stdout
}

// exampleOf is one of the examples: the world that it is for, and what can drift there.
type exampleOf struct {
	setting
	file   string
	flags  []string
	drifts []drift   // of the bucket
	expose *exposure // nil where nobody can have strangers list a bucket
}

var exampleList = []exampleOf{
	{
		setting: backblaze,
		file:    "backblaze-b2.hcl",
		drifts:  []drift{{what: "bucket ACL", at: privateACL, shows: "acl"}},
	},
	{
		setting: setting{personality: lab.MinIO, host: "minio.test", credentials: "minio", bucket: "mastodon"},
		file:    "minio.hcl",
		flags:   []string{"--var", "endpoint=https://minio.test", "--var", "ca_file=" + labCA},
		drifts:  []drift{{what: "bucket policy", at: noPolicy, shows: "policy"}},
		expose:  &listedByPolicy,
	},
}

// labCA is where a world has the certificate of the authority of the lab's servers.
const labCA = "/usr/local/share/ca-certificates/lab.crt"

// TestExamples runs each of the examples on a host of its own.
func TestExamples(t *testing.T) {
	var names []string
	for _, x := range exampleList {
		names = append(names, x.host, "*."+x.host)
	}
	to := newTown(t, names...)
	for _, x := range exampleList {
		t.Run(strings.TrimSuffix(x.file, ".hcl"), func(t *testing.T) {
			t.Parallel()
			w := to.newWorld(t, x.setting)
			e := &example{world: w, path: w.installExample(x.file, exampleConfig), flags: append(x.flags, "--var", "bucket="+x.bucket)}
			e.fromFreshToDone()
			e.driftIsHealed(append(hostDrifts, x.drifts...))
			e.deletedStaysDeleted()
			if x.expose != nil {
				e.exposureStops(*x.expose)
			}
			e.checkSecrets()
		})
	}
}

// fromFreshToDone is the life of an example until nothing is left to do.
func (e *example) fromFreshToDone() {
	e.converge(0, e.args("validate")...)
	env := e.get(exampleEnv)
	for _, key := range []string{e.instance.Public()[3], e.instance.Private()[0]} {
		if status, _ := e.visitMain("/system/" + key); status != http.StatusOK {
			e.t.Errorf("GET /system/%s before the move: status %d, want 200", key, status)
		}
	}
	planned := e.planChangesNothing()
	e.applyDoesAsPlanned(planned)
	e.checkObjects()
	e.checkEnv(env)
	e.checkRestarts()
	e.checkVisits()
	e.applyAgainDoesNothing()
	e.checkMetrics()
}

// planChangesNothing returns what the plan of a fresh host says will be done, by address.
func (e *example) planChangesNothing() []string {
	e.t.Helper()
	before := e.traces("writes")
	out := e.plan(2)
	e.wantSame("a plan", before, e.traces("writes"))
	if got := e.store.Buckets(); len(got) > 0 {
		e.t.Errorf("the plan made buckets: %q", got)
	}
	if strings.Contains(out, "drift") {
		e.t.Errorf("the plan of a fresh host speaks of drift:\n%s", out)
	}
	return addresses(out, `[+~>?]`)
}

// addresses returns those of the lines that begin with a sign, sorted.
func addresses(out, sign string) []string {
	var list []string
	for _, m := range regexp.MustCompile(`(?m)^  `+sign+` +(\w+\.\S+) `).FindAllStringSubmatch(out, -1) {
		list = append(list, m[1])
	}
	slices.Sort(list)
	return list
}

// applyDoesAsPlanned: the last copy alone may find that nothing was written since the first.
func (e *example) applyDoesAsPlanned(planned []string) {
	e.t.Helper()
	out := e.converge(0, e.args("apply", "--auto-approve")...).Stdout
	done := append(addresses(out, "ok"), "s3_sync.delta")
	slices.Sort(done)
	if done = slices.Compact(done); !slices.Equal(done, planned) || len(done) < 8 {
		e.t.Errorf("done was %q, planned %q", done, planned)
	}
}

// wantSame fails where two traces of the host differ, and names the lines.
func (w *world) wantSame(after, want, got string) {
	w.t.Helper()
	lines := map[string]int{}
	for line := range strings.Lines(want + "\n") {
		lines[strings.TrimSpace(line)]--
	}
	for line := range strings.Lines(got + "\n") {
		lines[strings.TrimSpace(line)]++
	}
	maps.DeleteFunc(lines, func(_ string, n int) bool { return n == 0 })
	for _, line := range slices.Sorted(maps.Keys(lines)) {
		w.t.Errorf("%s changed the host: %+d %s", after, lines[line], line)
	}
}

// checkObjects compares the bucket with the instance's public files, byte for byte.
func (e *example) checkObjects() {
	e.t.Helper()
	got, want := e.store.Keys(e.bucket), e.instance.Public()
	if !slices.Equal(got, want) || len(want) < 20 || len(e.instance.Private()) == 0 {
		e.t.Fatalf("the bucket holds %d objects, want the %d public files: got %q", len(got), len(want), got)
	}
	for _, key := range want {
		file, err := os.ReadFile(e.instance.Path(key))
		if err != nil {
			e.t.Fatal(err)
		}
		if object, _, _ := e.store.Object(e.bucket, key); sha256.Sum256(object) != sha256.Sum256(file) {
			e.t.Errorf("the object %s is not what the file is", key)
		}
	}
}

// checkEnv expects the old lines as they were, and behind them the store's with the app's key.
func (e *example) checkEnv(before string) {
	e.t.Helper()
	env := e.get(exampleEnv)
	added, ok := strings.CutPrefix(env, before)
	if !ok {
		e.t.Errorf("what was in the env file is not as it was")
	}
	for _, line := range []string{
		"S3_ENABLED=true", "S3_BUCKET=" + e.bucket, "S3_ALIAS_HOST=" + exampleFiles,
		"CACHE_BUSTER_ENABLED=true", "CACHE_BUSTER_SECRET_HEADER=X-Converge-Cache-Bust", "CACHE_BUSTER_SECRET=true",
		"AWS_ACCESS_KEY_ID=" + e.store.AppKey, "AWS_SECRET_ACCESS_KEY=" + e.store.AppSecret,
	} {
		if strings.Count("\n"+added, "\n"+line+"\n") != 1 {
			e.t.Errorf("the env file has not one line %s", strings.ReplaceAll(line, e.store.AppSecret, "…"))
		}
	}
	if strings.Contains(env, e.store.AgentKey) || strings.Contains(env, e.store.AgentSecret) {
		e.t.Error("the env file holds the agent's key")
	}
	if got := e.sh("stat -c '%U:%G %a' " + exampleEnv); got != "mastodon:mastodon 640" {
		e.t.Errorf("the env file is now %s", got)
	}
}

// checkRestarts expects that the services were started once by systemd and once by converge, and have read the new settings.
func (e *example) checkRestarts() {
	e.t.Helper()
	if got, want := e.starts(), "mastodon-sidekiq 2\nmastodon-web 2"; got != want {
		e.t.Errorf("starts: got %q, want %q", got, want)
	}
	for _, unit := range exampleUnits {
		if loaded := e.get(exampleLive + "/tmp/" + unit + ".loaded"); !strings.Contains(loaded, "S3_BUCKET="+e.bucket+"\n") {
			e.t.Errorf("%s runs without the bucket", unit)
		}
	}
}

func (e *example) checkVisits() {
	e.t.Helper()
	key := e.instance.Public()[3]
	want, _, _ := e.store.Object(e.bucket, key)
	if status, body := e.visit(key); status != http.StatusOK || sha256.Sum256(body) != sha256.Sum256(want) {
		e.t.Errorf("GET %s: status %d, %d bytes; want 200 and the object", key, status, len(body))
	}
	for _, path := range []string{e.instance.Private()[0], "?list-type=2", ""} {
		if status, _ := e.visit(path); status != http.StatusNotFound {
			e.t.Errorf("GET /%s: status %d, want 404", path, status)
		}
	}
	e.checkOldAddresses(key)
}

// checkOldAddresses expects that the address of a picture before the move leads to it, and that the disk is not served.
func (e *example) checkOldAddresses(key string) {
	e.t.Helper()
	for path, want := range map[string]struct {
		status int
		to     string
	}{
		"/system/" + key:                       {http.StatusMovedPermanently, "https://" + exampleFiles + "/" + key},
		"/system/" + key + "?1700000000":       {http.StatusMovedPermanently, "https://" + exampleFiles + "/" + key + "?1700000000"},
		"/system/" + e.instance.Private()[0]:   {http.StatusNotFound, ""},
		"//system//" + e.instance.Private()[0]: {http.StatusNotFound, ""},
	} {
		if status, to := e.visitMain(path); status != want.status || to != want.to {
			e.t.Errorf("GET %s of the main site: status %d to %q, want %d to %q", path, status, to, want.status, want.to)
		}
	}
}

// applyAgainDoesNothing is law 2: nothing written, nothing restarted, at most 6 requests and none for an object.
func (e *example) applyAgainDoesNothing() {
	e.t.Helper()
	before, runs := e.traces("writes"), e.invocations()
	e.store.ResetRequests()
	out := e.apply(0)
	requests := e.store.Requests()
	e.wantSame("a second apply", before, e.traces("writes"))
	if after := e.invocations(); after != runs {
		e.t.Errorf("the second apply restarted something: %s, before %s", after, runs)
	}
	if !strings.Contains(out, "0 changed, ") {
		e.t.Errorf("the second apply:\n%s", out)
	}
	total := int64(0)
	for name, n := range requests {
		total += n
		if strings.Contains(name, "Object") && !strings.HasPrefix(name, "ListObjects") || name == "ListObjectsV2 2xx" {
			e.t.Errorf("an unchanged host asked for objects: %d %s", n, name)
		}
	}
	if total == 0 || total > 6 {
		e.t.Errorf("an unchanged host cost %d requests, want 1 to 6: %v", total, requests)
	}
}

// checkMetrics compares what the kinds tell of themselves with the certificate, the bucket and the units that there are.
func (e *example) checkMetrics() {
	e.t.Helper()
	const file = "/run/converge.prom"
	e.converge(0, e.args("apply", "--auto-approve", "--metrics-file", file)...)
	block, _ := pem.Decode([]byte(e.sh("cat " + exampleCert + "/fullchain.pem")))
	cert, err := x509.ParseCertificate(block.Bytes)
	if err != nil {
		e.t.Fatal(err)
	}
	var bytes int
	keys := e.store.Keys(e.bucket)
	for _, key := range keys {
		object, _, _ := e.store.Object(e.bucket, key)
		bytes += len(object)
	}
	got := metrics(e.get(file))
	want := map[string]float64{
		"converge_last_run_success":              1,
		"converge_drift_resources":               0,
		"converge_owed_restarts":                 0,
		"converge_sync_objects":                  float64(len(keys)),
		"converge_sync_bytes":                    float64(bytes),
		"converge_sync_owed_objects":             0,
		"converge_certificate_not_after_seconds": float64(cert.NotAfter.Unix()),
	}
	for name, value := range want {
		if n := len(got[name]); n == 0 || slices.Min(got[name]) != value || slices.Max(got[name]) != value {
			e.t.Errorf("%s is %v, want %v", name, got[name], value)
		}
	}
	if !strings.HasPrefix(e.sh("stat -c '%a %U' "+file), "644 root") {
		e.t.Errorf("%s is %s", file, e.sh("stat -c '%a %U' "+file))
	}
}

// metrics reads the values of each metric, whatever their labels.
func metrics(text string) map[string][]float64 {
	all := map[string][]float64{}
	for _, m := range regexp.MustCompile(`(?m)^(\w+)(?:\{.*\})? (\S+)$`).FindAllStringSubmatch(text, -1) {
		if v, err := strconv.ParseFloat(m[2], 64); err == nil {
			all[m[1]] = append(all[m[1]], v)
		}
	}
	return all
}

// client is another tool of the admin's.
func (w *world) client() *s3.Client {
	return s3.New(s3.Options{
		Region: w.store.Region, BaseEndpoint: aws.String(w.store.Endpoint), UsePathStyle: true,
		HTTPClient:  w.browser(w.lab.CAFile, strings.TrimPrefix(w.store.Endpoint, "https://")),
		Credentials: credentials.NewStaticCredentialsProvider(w.store.AgentKey, w.store.AgentSecret, ""),
		APIOptions: []func(*middleware.Stack) error{func(s *middleware.Stack) error {
			_, _ = s.Finalize.Remove("AWSChecksum:ComputeInputPayloadChecksum") // B2 refuses it; not every operation has it
			return nil
		}},
	})
}
