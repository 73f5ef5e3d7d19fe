package integration

import (
	"crypto/sha256"
	"crypto/x509"
	"encoding/pem"
	"maps"
	"net/http"
	"os"
	"path"
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

// exampleOf is one of the examples: the world that it is for, and what can happen there.
type exampleOf struct {
	setting
	file   string
	flags  []string
	before func(*example) error // what the admin does first, in the provider's console
	env    []string             // lines that Mastodon must have for this provider
	drifts []drift              // of the bucket
	breaks []breakage
}

// The names that providers have, or that the examples take for ones.
const (
	awsEndpoint      = "s3.eu-central-1.amazonaws.com"
	idriveDiscovery  = "api.idrivee2.com"
	idriveEndpoint   = "s3.us-west-1.idrivee2.test" // of the lab's account
	minioEndpoint    = "minio.test"
	r2Account        = "0a1b2c3d4e5f60718293a4b5c6d7e8f9"
	r2Endpoint       = r2Account + ".r2.cloudflarestorage.com"
	r2Domain         = "r2.example.com"
	scalewayEndpoint = "s3.fr-par.scw.cloud"
	wasabiEndpoint   = "s3.eu-central-2.wasabisys.com"
)

// labCA is where a world has the certificate of the authority of the lab's servers.
const labCA = "/usr/local/share/ca-certificates/lab.crt"

var exampleList = []exampleOf{
	{
		setting: setting{
			personality: lab.AWS, credentials: "aws", bucket: "media-at-amazon",
			names: map[string]func(*lab.S3) string{awsEndpoint: endpoint},
		},
		file: "aws.hcl",
		env:  []string{"S3_ENDPOINT=https://" + awsEndpoint, "S3_REGION=eu-central-1", "S3_OVERRIDE_PATH_STYLE=true", "S3_PERMISSION="},
		drifts: []drift{
			{what: "no policy", at: noPolicy, shows: "policy", closes: true},
			{what: "public access block", at: blockAll, shows: "public access block"},
			{what: "ownership", at: objectWriter, shows: "ownership"},
			{what: "no CORS", at: noCORS, shows: "CORS"},
			{what: "no lifecycle", at: noLifecycle, shows: "lifecycle"},
			{what: "versioning", at: suspendVersioning, shows: "versioning"},
		},
		breaks: []breakage{listedByPolicy},
	},
	{
		setting: backblaze,
		file:    "backblaze-b2.hcl",
		env:     []string{"S3_ENDPOINT=https://" + b2Endpoint, "S3_REGION=us-west-001", "S3_PERMISSION="},
		drifts: []drift{
			{what: "bucket ACL", at: privateACL, shows: "acl", closes: true},
			{what: "no lifecycle", at: noLifecycle, shows: "lifecycle"},
		},
	},
	{
		setting: setting{
			personality: lab.R2, credentials: "r2", bucket: "media-at-cloudflare",
			names: map[string]func(*lab.S3) string{r2Endpoint: endpoint, r2Domain: func(s *lab.S3) string { return s.PublicHost }},
		},
		file:   "cloudflare-r2.hcl",
		flags:  []string{"--var", "account=" + r2Account},
		before: connectDomain,
		env:    []string{"S3_ENDPOINT=https://" + r2Endpoint, "S3_REGION=auto", "S3_PERMISSION="},
		breaks: []breakage{disconnected},
	},
	{
		setting: setting{
			personality: lab.IDrive, credentials: "idrive", bucket: "media-at-idrive",
			names: map[string]func(*lab.S3) string{idriveDiscovery: discovery, idriveEndpoint: endpoint},
		},
		file:   "idrive-e2.hcl",
		env:    []string{"S3_ENDPOINT=https://" + idriveEndpoint, "S3_PERMISSION="},
		drifts: []drift{{what: "no policy", at: noPolicy, shows: "policy", closes: true}},
		breaks: []breakage{listedByPolicy},
	},
	{
		setting: setting{
			personality: lab.MinIO, credentials: "minio", bucket: "mastodon",
			names: map[string]func(*lab.S3) string{minioEndpoint: endpoint},
		},
		file:   "minio.hcl",
		flags:  []string{"--var", "endpoint=https://" + minioEndpoint, "--var", "ca_file=" + labCA},
		env:    []string{"S3_ENDPOINT=https://" + minioEndpoint, "S3_REGION=us-east-1", "S3_PERMISSION="},
		drifts: []drift{{what: "no policy", at: noPolicy, shows: "policy", closes: true}},
		breaks: []breakage{listedByPolicy},
	},
	{
		setting: setting{
			personality: lab.Scaleway, credentials: "scaleway", bucket: "media-at-scaleway",
			names: map[string]func(*lab.S3) string{scalewayEndpoint: endpoint},
		},
		file: "scaleway.hcl",
		env:  []string{"S3_ENDPOINT=https://" + scalewayEndpoint, "S3_REGION=fr-par", "S3_OVERRIDE_PATH_STYLE=true", "S3_PERMISSION=public-read"},
		drifts: []drift{
			{what: "a bucket that everybody lists", at: publicACL, shows: "acl"},
			{what: "no lifecycle", at: noLifecycle, shows: "lifecycle"},
		},
	},
	{
		setting: setting{
			personality: lab.Wasabi, credentials: "wasabi", bucket: "media-at-wasabi",
			names: map[string]func(*lab.S3) string{wasabiEndpoint: endpoint},
		},
		file: "../test/integration/testdata/wasabi.hcl",
		env:  []string{"S3_ENDPOINT=https://" + wasabiEndpoint, "S3_REGION=eu-central-2", "S3_OVERRIDE_PATH_STYLE=true", "S3_PERMISSION="},
		drifts: []drift{
			{what: "no policy", at: noPolicy, shows: "policy", closes: true},
			{what: "a bucket that everybody lists", at: publicACL, shows: "acl"},
		},
		breaks: []breakage{listedByPolicy},
	},
}

// discovery is the service of iDrive that tells the endpoint of a key.
func discovery(s *lab.S3) string {
	address, _, _ := strings.Cut(strings.TrimPrefix(s.Discovery, "https://"), "/")
	return address
}

// TestExamples runs each of the examples on a host of its own, with keys that have the least rights that the documents name.
func TestExamples(t *testing.T) {
	var names []string
	for _, x := range exampleList {
		for name := range x.names {
			if name != r2Domain { // which has a certificate only while it is connected
				names = append(names, name, "*."+name)
			}
		}
	}
	to := newTown(t, names...)
	for _, x := range exampleList {
		t.Run(strings.TrimSuffix(path.Base(x.file), ".hcl"), func(t *testing.T) {
			t.Parallel()
			w := to.newWorld(t, x.setting)
			e := &example{world: w, path: w.installExample(x.file, exampleConfig), flags: append(x.flags, "--var", "bucket="+x.bucket)}
			if x.before != nil {
				if err := x.before(e); err != nil {
					t.Fatal(err)
				}
			}
			e.fromFreshToDone(x.env)
			e.driftIsHealed(append(slices.Clone(hostDrifts), x.drifts...))
			e.deletedStaysDeleted()
			for _, b := range x.breaks {
				e.stops(b)
			}
			e.keysAreRotated()
			e.checkSecrets()
		})
	}
}

// fromFreshToDone is the life of an example until nothing is left to do.
func (e *example) fromFreshToDone(lines []string) {
	e.converge(0, e.args("validate")...)
	env, buckets := e.get(exampleEnv), e.store.Buckets()
	for _, key := range []string{e.instance.Public()[3], e.instance.Private()[0]} {
		if status, _ := e.visitMain("/system/" + key); status != http.StatusOK {
			e.t.Errorf("GET /system/%s before the move: status %d, want 200", key, status)
		}
	}
	planned := e.planChangesNothing(buckets)
	e.applyDoesAsPlanned(planned)
	e.checkObjects()
	e.checkEnv(env, lines)
	e.checkRestarts()
	e.checkVisits()
	e.applyAgainDoesNothing()
	e.checkMetrics()
}

// planChangesNothing returns what the plan of a fresh host says will be done, by address.
func (e *example) planChangesNothing(buckets []string) []string {
	e.t.Helper()
	before := e.traces("writes")
	out := e.plan(2)
	e.wantSame("a plan", beforeCache(before), beforeCache(e.traces("writes")))
	if got := e.store.Buckets(); !slices.Equal(got, buckets) {
		e.t.Errorf("the plan made buckets: now there are %q, before %q", got, buckets)
	}
	if strings.Contains(out, "drift") {
		e.t.Errorf("the plan of a fresh host speaks of drift:\n%s", out)
	}
	return addresses(out, `[+~>?]`)
}

// beforeCache leaves out of a trace what a plan may leave in a state directory that it finds missing: the endpoint that a provider
// told it.
func beforeCache(trace string) string {
	return regexp.MustCompile(`(?m)^/var/lib(/converge(/endpoints\.json)?)? .*\n`).ReplaceAllString(trace+"\n", "")
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
func (e *example) checkEnv(before string, lines []string) {
	e.t.Helper()
	env := e.get(exampleEnv)
	added, ok := strings.CutPrefix(env, before)
	if !ok {
		e.t.Errorf("what was in the env file is not as it was")
	}
	for _, line := range append([]string{
		"S3_ENABLED=true", "S3_BUCKET=" + e.bucket, "S3_ALIAS_HOST=" + exampleFiles,
		"CACHE_BUSTER_ENABLED=true", "CACHE_BUSTER_SECRET_HEADER=X-Converge-Cache-Bust", "CACHE_BUSTER_SECRET=true",
		"AWS_ACCESS_KEY_ID=" + e.app.id, "AWS_SECRET_ACCESS_KEY=" + e.app.secret,
	}, lines...) {
		if strings.Count("\n"+added, "\n"+line+"\n") != 1 {
			e.t.Errorf("the env file has not one line %s", strings.ReplaceAll(line, e.app.secret, "…"))
		}
	}
	if strings.Contains(env, e.agent.id) || strings.Contains(env, e.agent.secret) {
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

// applyAgainDoesNothing is law 2: nothing written, nothing restarted; to look at the bucket costs at most 6 requests, none of them
// for an object.
func (e *example) applyAgainDoesNothing() {
	e.t.Helper()
	before, runs := e.traces("writes"), e.invocations()
	e.store.ResetRequests()
	planned := e.plan(0)
	look := e.store.Requests()
	e.showsRequests(planned, look)
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
	for name, n := range look {
		if total += n; requests[name] != 2*n {
			e.t.Errorf("%s: %d requests of the plan, %d of the apply, want as many", name, n, requests[name]-n)
		}
	}
	for name, n := range requests {
		switch {
		case name == "ListObjectsV2 2xx" && n == requests["HeadBucket 4xx"]: // of one key, in the place of a look at the bucket
		case name == "ListObjectsV2 4xx", name == "PublicGetObject 4xx": // a stranger's
		case strings.Contains(name, "Object"):
			e.t.Errorf("an unchanged host asked for objects: %d %s", n, name)
		}
	}
	if total == 0 || total > 6 || len(requests) != len(look) {
		e.t.Errorf("to look at an unchanged bucket costs %d requests, want 1 to 6: plan %v, both %v", total, look, requests)
	}
}

// showsRequests expects that a plan says how many requests it has sent, and of which of the provider's classes they were.
func (e *example) showsRequests(plan string, sent map[string]int64) {
	e.t.Helper()
	var total, byClass int64
	for _, n := range sent {
		total += n
	}
	line := regexp.MustCompile(`(?m)^This plan took (\d+) requests? to the object store(?:: ([^;.]*))?.*\.$`).FindStringSubmatch(plan)
	if line == nil || line[1] != strconv.FormatInt(total, 10) {
		e.t.Fatalf("the plan does not say that it took %d requests:\n%s", total, plan)
	}
	if len(e.provider().Prices) < 2 { // all of one class
		return
	}
	for _, n := range regexp.MustCompile(`\b(\d+) `).FindAllStringSubmatch(line[2], -1) {
		count, err := strconv.ParseInt(n[1], 10, 64)
		if err != nil {
			e.t.Fatal(err)
		}
		byClass += count
	}
	if byClass != total {
		e.t.Errorf("of %d requests the plan names the classes of %d: %s", total, byClass, line[0])
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
