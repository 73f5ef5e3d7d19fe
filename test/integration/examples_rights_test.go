package integration

import (
	"cmp"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/credentials"
	"github.com/aws/aws-sdk-go-v2/service/s3"
	"github.com/aws/aws-sdk-go-v2/service/s3/types"
	"github.com/converge-agent/converge/objectstore"
	"github.com/converge-agent/converge/test/lab"
)

// The two keys, as the test names them.
const (
	agents = "converge's key"
	apps   = "Mastodon's key"
)

// unasked are rights that the table documents and that the story of this test does not need, and why they are documented.
var unasked = map[[2]string]string{
	{agents, "s3:AbortMultipartUpload"}:       "ends the parts that a trial of Mastodon's key has left when it was killed",
	{agents, "s3:ListBucketMultipartUploads"}: "the same",
	{agents, "s3:ListBucketVersions"}:         "finds the versions of probe objects that a run has left when it was killed",
	{agents, "s3:DeleteObjectVersion"}:        "removes the versions of probe objects, and the lab keeps none",
	{agents, "deleteFiles"}:                   "the same at Backblaze",
	{agents, "listAllBucketNames"}:            "a key that is restricted to a bucket takes it",
	{apps, "s3:ListBucket"}:                   "tootctl media remove-orphans lists, and what is missing is told only to who may",
	{apps, "deleteFiles"}:                     "removes versions, and the lab keeps none",
	{apps, "listAllBucketNames"}:              "a key that is restricted to a bucket takes it",
	{apps, "listBuckets"}:                     "what is missing is told only to who has it",
	{apps, "listFiles"}:                       "tootctl media remove-orphans lists",
	{apps, "ObjectStorageBucketsRead"}:        "what is missing is told only to who has it",
}

// parts are rights of which the message may name a part.
var parts = map[string]string{"ObjectStorageReadOnly": "ObjectStorageBucketsRead"}

// TestLeastRights: with the rights that the table of providers names for both keys everything can be done; and without any one of
// them something cannot, and is told with the right's name.
func TestLeastRights(t *testing.T) {
	binary := convergeFile(t)
	l := newLab(t)
	for p := lab.MinIO; p <= lab.Wasabi; p++ {
		t.Run(p.String(), func(t *testing.T) {
			provider, ok := objectstore.Lookup(p.String())
			if !ok {
				t.Fatalf("there is no provider %s", p)
			}
			e := &entitled{t: t, lab: l, store: newS3(t, l, p), provider: provider, binary: binary}
			if said, done := e.story(provider.AgentRights, provider.AppRights); !done {
				t.Fatalf("with the documented rights it fails:\n%s", said)
			}
			for _, right := range provider.AgentRights {
				e.needs(agents, right, without(provider.AgentRights, right), provider.AppRights)
			}
			for _, right := range provider.AppRights {
				e.needs(apps, right, provider.AgentRights, without(provider.AppRights, right))
			}
		})
	}
}

// convergeFile puts the command where it can be run.
func convergeFile(t *testing.T) string {
	t.Helper()
	binary, err := converge()
	if err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(t.TempDir(), "converge")
	if err := os.WriteFile(path, []byte(binary), 0o755); err != nil {
		t.Fatal(err)
	}
	return path
}

func without(rights []string, right string) []string {
	return slices.DeleteFunc(slices.Clone(rights), func(r string) bool { return r == right })
}

// entitled is a provider's store, and a bucket and a sync there with keys of some rights.
type entitled struct {
	t        *testing.T
	lab      *lab.Lab
	store    *lab.S3
	provider *objectstore.Provider
	binary   string
	stories  int
}

// needs fails where nothing is said of a right that one of the keys lacks.
func (e *entitled) needs(whose, right string, agent, app []string) {
	e.t.Helper()
	said, done := e.story(agent, app)
	named := strings.Contains(said, cmp.Or(parts[right], right))
	switch reason := unasked[[2]string{whose, right}]; {
	case reason != "" && !done:
		e.t.Errorf("%s lacks %s, which is for something else (%s), and yet:\n%s", whose, right, reason, said)
	case reason == "" && !named:
		e.t.Errorf("%s lacks %s, and nothing names it (done: %v):\n%s", whose, right, done, said)
	}
}

// story has keys with these rights make a bucket, set all that the provider has, copy, follow a deletion, close the bucket, and
// returns what converge says until it fails, or has done all.
func (e *entitled) story(agent, app []string) (said string, done bool) {
	e.t.Helper()
	e.stories++
	dir := e.t.TempDir()
	bucket := fmt.Sprintf("rights-%s-%d", strings.ReplaceAll(e.provider.Name, "-", ""), e.stories)
	media := filepath.Join(dir, "system")
	for _, key := range []string{"accounts/avatars/1.png", "accounts/avatars/2.png"} {
		e.write(filepath.Join(media, key), key)
	}
	e.write(filepath.Join(dir, "converge.hcl"), e.configuration(bucket, media, agent, app))
	if e.provider.Public == objectstore.CustomDomain {
		e.makeBucket(bucket)
	}
	var all strings.Builder
	for _, step := range []struct {
		access string
		before func()
	}{
		{access: "public-objects", before: func() {}},
		{access: "public-objects", before: func() {
			_ = os.Remove(filepath.Join(media, "accounts/avatars/2.png"))
			e.exposed(bucket)
		}},
		{access: "private", before: func() { e.store.DisconnectDomain(e.store.PublicHost) }},
	} {
		step.before()
		cmd := exec.Command(e.binary, "apply", "--auto-approve", "--lock-timeout", "10m", "--state-dir", filepath.Join(dir, "state"), "--var", "access="+step.access, dir)
		out, err := cmd.CombinedOutput()
		all.Write(out)
		if err != nil {
			return all.String(), false
		}
	}
	if got, want := e.store.Keys(bucket), []string{"accounts/avatars/1.png"}; !slices.Equal(got, want) {
		e.t.Errorf("the bucket holds %q, want %q:\n%s", got, want, all.String())
	}
	return all.String(), true
}

func (e *entitled) write(path, content string) {
	e.t.Helper()
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		e.t.Fatal(err)
	}
	if err := os.WriteFile(path, []byte(content), 0o600); err != nil {
		e.t.Fatal(err)
	}
}

// configuration has all that can be set at the provider with the rights of the table.
func (e *entitled) configuration(bucket, media string, agent, app []string) string {
	agentID, agentSecret := e.store.NewKey(agent...)
	appID, appSecret := e.store.NewBucketKey(bucket, app...)
	var settings []string
	p := e.provider
	if p.Public == objectstore.CustomDomain {
		settings = append(settings, "create = false", fmt.Sprintf("public_host = var.access == \"private\" ? null : %q", e.store.PublicHost))
	} else {
		for what, has := range map[string]bool{
			"cors {}": p.CORS, "versioning = true": p.Versioning,
			"lifecycle {\n hidden_versions_days = 7\n }": p.Lifecycle && (p.Versioning || p.AlwaysVersioned),
		} {
			if has {
				settings = append(settings, what)
			}
		}
	}
	slices.Sort(settings)
	account := ""
	if p.Account != nil {
		account = fmt.Sprintf("account_id = %q", p.AccountExample)
	}
	return fmt.Sprintf(`
variable "access" {}
object_store "s" {
  provider          = %q
  region            = %q
  endpoint          = %q
  path_style        = true
  ca_file           = %q
  access_key_id     = %q
  secret_access_key = %q
  %s
}
s3_bucket "b" {
  store  = object_store.s
  name   = %q
  access = var.access
  %s
  app_credentials {
    access_key_id     = %q
    secret_access_key = %q
  }
}
s3_sync "s" {
  bucket       = s3_bucket.b
  source       = %q
  delete_until = %q
}
`, p.Name, e.store.Region, e.store.Endpoint, e.lab.CAFile, agentID, agentSecret, account, bucket,
		strings.Join(settings, "\n  "), appID, appSecret, media, filepath.Join(filepath.Dir(media), "moved"))
}

// exposed is what another tool does to the bucket: it counts ACLs again, as those from before April 2023 do, or lets everybody list it.
func (e *entitled) exposed(bucket string) {
	e.t.Helper()
	var err error
	client, done := e.console()
	defer done()
	switch {
	case e.provider.Ownership:
		_, err = client.PutBucketOwnershipControls(e.t.Context(), &s3.PutBucketOwnershipControlsInput{
			Bucket: &bucket, OwnershipControls: &types.OwnershipControls{
				Rules: []types.OwnershipControlsRule{{ObjectOwnership: types.ObjectOwnershipObjectWriter}},
			},
		})
	case e.provider.ACLs, e.provider.Public == objectstore.ObjectACL:
		_, err = client.PutBucketAcl(e.t.Context(), &s3.PutBucketAclInput{Bucket: &bucket, ACL: types.BucketCannedACLPublicRead})
	}
	if err != nil {
		e.t.Fatal(err)
	}
}

// makeBucket is what a person does in the console of a provider whose buckets have domains.
func (e *entitled) makeBucket(name string) {
	e.t.Helper()
	client, done := e.console()
	defer done()
	if _, err := client.CreateBucket(e.t.Context(), &s3.CreateBucketInput{Bucket: &name}); err != nil {
		e.t.Fatal(err)
	}
	e.store.ConnectDomain(name, e.store.PublicHost)
}

// console is another tool with all rights.
func (e *entitled) console() (client *s3.Client, done func()) {
	e.t.Helper()
	http, done := (&site{lab: e.lab}).http(e.t)
	return s3.New(s3.Options{
		Region: e.store.Region, BaseEndpoint: aws.String(e.store.Endpoint), UsePathStyle: true, HTTPClient: http,
		Credentials: credentials.NewStaticCredentialsProvider(e.store.AgentKey, e.store.AgentSecret, ""),
	}), done
}
