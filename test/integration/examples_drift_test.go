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
	closes  bool                 // strangers cannot get objects any more
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
	closed := slices.ContainsFunc(drifts, func(d drift) bool { return d.closes })
	if got := e.anonymous(); closed != (got != http.StatusOK) {
		e.t.Fatalf("before the apply a stranger gets status %d for an object of the bucket", got)
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
	if status, _ := e.visit(key); status != http.StatusNotFound && status != http.StatusForbidden { // to who may not list, a store may not tell
		e.t.Errorf("GET /%s, which was deleted: status %d, want 404 or 403", key, status)
	}
	e.plan(0)
}

// breakage is what somebody does to a bucket that converge cannot undo, and what it says to it.
type breakage struct {
	what       string
	open, mend func(*example) error
	listed     bool // strangers can list the bucket
	says       []string
}

// stops: the bucket fails, loudly, and all other drift is repaired.
func (e *example) stops(b breakage) {
	e.t.Helper()
	if err := b.open(e); err != nil {
		e.t.Fatalf("%s: %v", b.what, err)
	}
	if status := e.stranger("/?list-type=2"); b.listed != (status == http.StatusOK) {
		e.t.Fatalf("%s: a stranger's listing has status %d", b.what, status)
	}
	e.sh(wipedKey)
	out := e.converge(6, e.args("apply", "--auto-approve", "--detailed-exitcode")...)
	message := strings.Join(strings.Fields(out.Stderr), " ")
	for _, words := range append([]string{"s3_bucket.media"}, b.says...) {
		if !strings.Contains(message, words) {
			e.t.Errorf("%s: stderr does not say %q:\n%s", b.what, words, out.Stderr)
		}
	}
	if err := b.mend(e); err != nil {
		e.t.Fatalf("%s: %v", b.what, err)
	}
	e.converge(0, e.args("apply", "--auto-approve")...)
	e.plan(0)
}

// keysAreRotated: new keys are taken as they are written, and the old ones are needed by nobody any more.
func (e *example) keysAreRotated() {
	e.t.Helper()
	old, starts := []key{e.agent, e.app}, e.starts()
	e.agent, e.app = e.newAgentKey(), e.newAppKey()
	e.putKeys()
	out := e.plan(2)
	if got, want := addresses(out, `[~]`), []string{
		"env_file.mastodon", `systemd_service.mastodon["mastodon-sidekiq"]`, `systemd_service.mastodon["mastodon-web"]`,
	}; !slices.Equal(got, want) {
		e.t.Errorf("with new keys the plan is to change %q, want %q:\n%s", got, want, out)
	}
	e.apply(2)
	for _, k := range old {
		e.store.RevokeKey(k.id)
	}
	e.apply(0)
	if env := e.get(exampleEnv); !strings.Contains(env, "AWS_ACCESS_KEY_ID="+e.app.id+"\n") || strings.Contains(env, old[1].secret) {
		e.t.Error("the env file does not hold the new key alone")
	}
	if got := e.starts(); got == starts {
		e.t.Errorf("after new keys were written nothing was restarted: starts %q", got)
	}
}

// settings are those of the bucket as another tool reads them: each document as it came, or the status of its refusal.
func (e *example) settings() map[string]string {
	e.t.Helper()
	all := map[string]string{}
	for _, name := range []string{"policy", "acl", "cors", "lifecycle", "versioning", "publicAccessBlock", "ownershipControls"} {
		status, body := e.signed("?" + name)
		all[name] = strings.ReplaceAll(string(body), ` xmlns="http://s3.amazonaws.com/doc/2006-03-01/"`, "")
		if status != http.StatusOK {
			all[name] = http.StatusText(status)
		}
	}
	return all
}

// signed gets a path below the bucket with the key of another tool.
func (e *example) signed(path string) (status int, body []byte) {
	e.t.Helper()
	const unsigned = "UNSIGNED-PAYLOAD"
	req, err := http.NewRequestWithContext(e.t.Context(), http.MethodGet, e.store.Endpoint+"/"+e.bucket+path, nil)
	if err != nil {
		e.t.Fatal(err)
	}
	req.Header.Set("X-Amz-Content-Sha256", unsigned)
	key := aws.Credentials{AccessKeyID: e.store.AgentKey, SecretAccessKey: e.store.AgentSecret}
	if err := v4.NewSigner().SignHTTP(e.t.Context(), key, req, unsigned, "s3", e.store.Region, time.Now()); err != nil {
		e.t.Fatal(err)
	}
	resp, err := e.browser(e.lab.CAFile, endpoint(e.store)).Do(req)
	if err != nil {
		e.t.Fatal(err)
	}
	defer func() { _ = resp.Body.Close() }()
	if body, err = io.ReadAll(resp.Body); err != nil {
		e.t.Fatal(err)
	}
	return resp.StatusCode, body
}

// stranger is the status that a stranger gets for a path below the bucket, at the store itself or, where there is one, at the
// bucket's own domain.
func (e *example) stranger(path string) int {
	e.t.Helper()
	client, url := e.browser(e.lab.CAFile, endpoint(e.store)), e.store.Endpoint+"/"+e.bucket+path
	if e.store.PublicHost != "" {
		client, url = e.browser(e.lab.CAFile, e.store.PublicHost), "https://"+r2Domain+path
	}
	resp, err := client.Get(url)
	if err != nil {
		return 0 // nothing is connected to the name
	}
	_ = resp.Body.Close()
	return resp.StatusCode
}

// anonymous is that of an object.
func (e *example) anonymous() int {
	e.t.Helper()
	return e.stranger("/" + e.instance.Public()[0])
}

func privateACL(e *example) error { return e.putACL(types.BucketCannedACLPrivate) }

func publicACL(e *example) error { return e.putACL(types.BucketCannedACLPublicRead) }

func (e *example) putACL(acl types.BucketCannedACL) error {
	_, err := e.client().PutBucketAcl(e.t.Context(), &s3.PutBucketAclInput{Bucket: &e.bucket, ACL: acl})
	return err
}

func noPolicy(e *example) error {
	_, err := e.client().DeleteBucketPolicy(e.t.Context(), &s3.DeleteBucketPolicyInput{Bucket: &e.bucket})
	return err
}

func noCORS(e *example) error {
	_, err := e.client().DeleteBucketCors(e.t.Context(), &s3.DeleteBucketCorsInput{Bucket: &e.bucket})
	return err
}

func noLifecycle(e *example) error {
	_, err := e.client().DeleteBucketLifecycle(e.t.Context(), &s3.DeleteBucketLifecycleInput{Bucket: &e.bucket})
	return err
}

func suspendVersioning(e *example) error {
	_, err := e.client().PutBucketVersioning(e.t.Context(), &s3.PutBucketVersioningInput{
		Bucket: &e.bucket, VersioningConfiguration: &types.VersioningConfiguration{Status: types.BucketVersioningStatusSuspended},
	})
	return err
}

func blockAll(e *example) error {
	on := aws.Bool(true)
	_, err := e.client().PutPublicAccessBlock(e.t.Context(), &s3.PutPublicAccessBlockInput{
		Bucket: &e.bucket, PublicAccessBlockConfiguration: &types.PublicAccessBlockConfiguration{
			BlockPublicAcls: on, IgnorePublicAcls: on, BlockPublicPolicy: on, RestrictPublicBuckets: on,
		},
	})
	return err
}

func objectWriter(e *example) error {
	_, err := e.client().PutBucketOwnershipControls(e.t.Context(), &s3.PutBucketOwnershipControlsInput{
		Bucket: &e.bucket, OwnershipControls: &types.OwnershipControls{
			Rules: []types.OwnershipControlsRule{{ObjectOwnership: types.ObjectOwnershipObjectWriter}},
		},
	})
	return err
}

// connectDomain makes the bucket; the plan says how to connect its domain, and that is done.
func connectDomain(e *example) error {
	if _, err := e.client().CreateBucket(e.t.Context(), &s3.CreateBucketInput{Bucket: &e.bucket}); err != nil {
		return err
	}
	out := e.plan(2)
	for _, words := range []string{r2Domain + " is not connected to the bucket", e.bucket + " > Settings > Custom Domains > Connect Domain"} {
		if !strings.Contains(strings.Join(strings.Fields(out), " "), words) {
			e.t.Errorf("without the bucket's domain the plan does not say %q:\n%s", words, out)
		}
	}
	e.store.ConnectDomain(e.bucket, r2Domain)
	return nil
}

// disconnected is a bucket whose domain somebody took away.
var disconnected = breakage{
	what: "a domain that is not connected",
	open: func(e *example) error {
		e.store.DisconnectDomain(r2Domain)
		return nil
	},
	mend: func(e *example) error {
		e.store.ConnectDomain(e.bucket, r2Domain)
		return nil
	},
	says: []string{r2Domain},
}

// listedByPolicy is a statement of somebody else's, which converge keeps.
var listedByPolicy = breakage{
	what: "a policy that lets everybody list the bucket",
	open: func(e *example) error {
		return e.changePolicy(func(statements []any) []any {
			return append(statements, map[string]any{
				"Sid": "Somebody", "Effect": "Allow", "Principal": "*", "Action": "s3:ListBucket", "Resource": "arn:aws:s3:::" + e.bucket,
			})
		})
	},
	mend: func(e *example) error {
		return e.changePolicy(func(statements []any) []any {
			return slices.DeleteFunc(statements, func(s any) bool { return s.(map[string]any)["Sid"] == "Somebody" })
		})
	},
	listed: true,
	says:   []string{"anyone can list it", "Take the statement that allows it out of the bucket's policy"},
}

func (e *example) changePolicy(change func(statements []any) []any) error {
	var policy map[string]any
	if _, text := e.signed("?policy"); json.Unmarshal(text, &policy) != nil {
		return fmt.Errorf("the policy is %q", text)
	}
	statements, _ := policy["Statement"].([]any)
	policy["Statement"] = change(statements)
	text, err := json.Marshal(policy)
	if err != nil {
		return err
	}
	_, err = e.client().PutBucketPolicy(e.t.Context(), &s3.PutBucketPolicyInput{Bucket: &e.bucket, Policy: aws.String(string(text))})
	return err
}
