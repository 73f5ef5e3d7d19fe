package integration

import (
	"encoding/json"
	"fmt"
	"io"
	"maps"
	"net/http"
	"regexp"
	"slices"
	"strings"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	v4 "github.com/aws/aws-sdk-go-v2/aws/signer/v4"
	"github.com/aws/aws-sdk-go-v2/service/s3"
	"github.com/aws/aws-sdk-go-v2/service/s3/types"
)

// drift is what somebody else changes of what had converged.
type drift struct {
	what    string
	on      string               // a script in the machine
	at      func(*example) error // or what another tool does at the store
	address string               // which resource the plan shows it at; the bucket's where at is set
	shows   string               // with which words
}

// hostDrifts are those of the host, the same in all examples.
var hostDrifts = []drift{
	{
		what: "a managed key", address: "env_file.mastodon", shows: "S3_BUCKET",
		on: `sed -i 's/^S3_BUCKET=.*/S3_BUCKET=elsewhere/' ` + exampleEnv,
	},
	{
		what: "the media site", address: "nginx_site.files", shows: "sniff",
		on: `sed -i 's/nosniff/sniff/' ` + exampleSite,
	},
	{
		what: "the line in the main site", address: "nginx_location.system", shows: "# converge",
		on: `sed -i '0,/# converge$/{//d}' ` + exampleMain + `; grep -c '# converge$' ` + exampleMain + ` | grep -qx 1`,
	},
	{
		what: "a stopped service", address: `systemd_service.mastodon["mastodon-sidekiq"]`, shows: "start",
		on: "systemctl stop mastodon-sidekiq",
	},
	{
		what: "no certificate", address: "acme_certificate.files", shows: exampleFiles,
		on: "rm -r " + exampleCert,
	},
}

// driftIsHealed has all of these happen at once: the plan shows each, and an apply leaves everything as it was.
func (e *example) driftIsHealed(drifts []drift) {
	e.t.Helper()
	contents, settings := e.withoutCertificate(), e.settings()
	addresses := map[string]bool{}
	for i, d := range drifts {
		if d.at != nil {
			drifts[i].address = "s3_bucket.media"
			if err := d.at(e); err != nil {
				e.t.Fatalf("%s: %v", d.what, err)
			}
		} else {
			e.sh(d.on)
		}
		addresses[drifts[i].address] = true
	}
	if got := e.anonymous(); got == http.StatusOK {
		e.t.Fatal("the bucket was not closed")
	}
	out := e.plan(2)
	for _, d := range drifts {
		block := regexp.MustCompile(`(?ms)^  [+~] ` + regexp.QuoteMeta(d.address) + ` +drift: .*?(^  \S|\z)`).FindString(out)
		if !strings.Contains(block, d.shows) {
			e.t.Errorf("the plan does not show %s as drift of %s with %q:\n%s", d.what, d.address, d.shows, out)
		}
	}
	if n := strings.Count(out, "drift: "); n != len(addresses) {
		e.t.Errorf("the plan shows the drift of %d resources, want %q:\n%s", n, slices.Sorted(maps.Keys(addresses)), out)
	}
	e.apply(2)
	e.wantSame("damage and healing", contents, e.withoutCertificate())
	if got := e.settings(); !maps.Equal(got, settings) {
		e.t.Errorf("the bucket's settings are now %q, want %q", got, settings)
	}
	if got := e.sh("systemctl is-active mastodon-sidekiq"); got != "active" {
		e.t.Errorf("mastodon-sidekiq is %s", got)
	}
	if got := e.anonymous(); got != http.StatusOK {
		e.t.Errorf("after the apply a stranger gets status %d for an object of the bucket", got)
	}
	e.plan(0)
	e.checkVisits()
}

// withoutCertificate lists the contents of the host but for what an authority makes anew each time.
func (e *example) withoutCertificate() string {
	e.t.Helper()
	var kept strings.Builder
	for line := range strings.Lines(e.traces("contents")) {
		if !strings.Contains(line, "/etc/ssl/"+exampleFiles) {
			kept.WriteString(line)
		}
	}
	return kept.String()
}

// deletedStaysDeleted: an object that goes from the bucket comes back neither in a run that goes by its ledger, nor in one that
// has lost it and lists the bucket; the old disk still has the file.
func (e *example) deletedStaysDeleted() {
	e.t.Helper()
	key := e.instance.Public()[5]
	if _, err := e.client().DeleteObject(e.t.Context(), &s3.DeleteObjectInput{Bucket: &e.bucket, Key: &key}); err != nil {
		e.t.Fatal(err)
	}
	want := slices.DeleteFunc(e.instance.Public(), func(k string) bool { return k == key })
	e.apply(0)
	e.sh("find /var/lib/converge -name '*.db' | grep -q . && find /var/lib/converge -name '*.db' -delete")
	e.converge(0, e.args("apply", "--auto-approve")...)
	if got := e.store.Keys(e.bucket); !slices.Equal(got, want) {
		e.t.Errorf("after %s was deleted the bucket holds %q, want %q", key, got, want)
	}
	e.sh("test -f " + exampleLive + "/public/system/" + key)
	if status, _ := e.visit(key); status != http.StatusNotFound {
		e.t.Errorf("GET /%s, which was deleted: status %d, want 404", key, status)
	}
	e.plan(0)
}

// exposure is how somebody has strangers list a bucket, and what converge says to it.
type exposure struct {
	open, mend func(*example) error
	says       []string
}

// exposureStops: the bucket fails, loudly, and so does no other repair.
func (e *example) exposureStops(x exposure) {
	e.t.Helper()
	if err := x.open(e); err != nil {
		e.t.Fatal(err)
	}
	if status := e.stranger("/?list-type=2"); status != http.StatusOK {
		e.t.Fatalf("a stranger's listing has status %d, want 200", status)
	}
	e.sh(wipedKey)
	out := e.converge(6, e.args("apply", "--auto-approve", "--detailed-exitcode")...)
	message := strings.Join(strings.Fields(out.Stderr), " ")
	for _, words := range append([]string{"s3_bucket.media", "anyone can list it"}, x.says...) {
		if !strings.Contains(message, words) {
			e.t.Errorf("of a bucket that anyone can list stderr does not say %q:\n%s", words, out.Stderr)
		}
	}
	if err := x.mend(e); err != nil {
		e.t.Fatal(err)
	}
	e.converge(0, e.args("apply", "--auto-approve")...)
	e.plan(0)
}

// settings are those of the bucket as another tool reads them: each document as it came, or the status of its refusal.
func (e *example) settings() map[string]string {
	e.t.Helper()
	all := map[string]string{}
	for _, name := range []string{"policy", "acl", "cors", "lifecycle", "versioning", "publicAccessBlock", "ownershipControls"} {
		status, body := e.signed("?" + name)
		if all[name] = string(body); status != http.StatusOK {
			all[name] = http.StatusText(status)
		}
	}
	return all
}

// signed gets a path below the bucket with the agent's key.
func (e *example) signed(path string) (status int, body []byte) {
	e.t.Helper()
	req, err := http.NewRequestWithContext(e.t.Context(), http.MethodGet, e.store.Endpoint+"/"+e.bucket+path, nil)
	if err != nil {
		e.t.Fatal(err)
	}
	key := aws.Credentials{AccessKeyID: e.store.AgentKey, SecretAccessKey: e.store.AgentSecret}
	req.Header.Set("X-Amz-Content-Sha256", unsigned)
	if err := v4.NewSigner().SignHTTP(e.t.Context(), key, req, unsigned, "s3", e.store.Region, time.Now()); err != nil {
		e.t.Fatal(err)
	}
	return e.fetch(req)
}

const unsigned = "UNSIGNED-PAYLOAD"

// fetch sends a request to the store itself.
func (e *example) fetch(req *http.Request) (status int, body []byte) {
	e.t.Helper()
	resp, err := e.browser(e.lab.CAFile, strings.TrimPrefix(e.store.Endpoint, "https://")).Do(req)
	if err != nil {
		e.t.Fatal(err)
	}
	defer func() { _ = resp.Body.Close() }()
	if body, err = io.ReadAll(resp.Body); err != nil {
		e.t.Fatal(err)
	}
	return resp.StatusCode, body
}

// stranger is the status that a stranger gets for a path below the bucket, at the store itself.
func (e *example) stranger(path string) int {
	e.t.Helper()
	req, err := http.NewRequestWithContext(e.t.Context(), http.MethodGet, e.store.Endpoint+"/"+e.bucket+path, nil)
	if err != nil {
		e.t.Fatal(err)
	}
	status, _ := e.fetch(req)
	return status
}

// anonymous is that of an object.
func (e *example) anonymous() int {
	e.t.Helper()
	return e.stranger("/" + e.instance.Public()[0])
}

func privateACL(e *example) error {
	_, err := e.client().PutBucketAcl(e.t.Context(), &s3.PutBucketAclInput{Bucket: &e.bucket, ACL: types.BucketCannedACLPrivate})
	return err
}

func noPolicy(e *example) error {
	_, err := e.client().DeleteBucketPolicy(e.t.Context(), &s3.DeleteBucketPolicyInput{Bucket: &e.bucket})
	return err
}

// listedByPolicy is a statement of somebody else's, which converge keeps.
var listedByPolicy = exposure{
	open: func(e *example) error {
		var policy map[string]any
		if _, text := e.signed("?policy"); json.Unmarshal(text, &policy) != nil {
			return fmt.Errorf("the policy is %q", text)
		}
		policy["Statement"] = append(policy["Statement"].([]any), map[string]any{
			"Sid": "Somebody", "Effect": "Allow", "Principal": "*", "Action": "s3:ListBucket", "Resource": "arn:aws:s3:::" + e.bucket,
		})
		return e.putPolicy(policy)
	},
	mend: func(e *example) error {
		var policy map[string]any
		if _, text := e.signed("?policy"); json.Unmarshal(text, &policy) != nil {
			return fmt.Errorf("the policy is %q", text)
		}
		policy["Statement"] = slices.DeleteFunc(policy["Statement"].([]any), func(s any) bool { return s.(map[string]any)["Sid"] == "Somebody" })
		return e.putPolicy(policy)
	},
	says: []string{"Take the statement that allows it out of the bucket's policy"},
}

func (e *example) putPolicy(policy map[string]any) error {
	text, err := json.Marshal(policy)
	if err != nil {
		return err
	}
	_, err = e.client().PutBucketPolicy(e.t.Context(), &s3.PutBucketPolicyInput{Bucket: &e.bucket, Policy: aws.String(string(text))})
	return err
}
