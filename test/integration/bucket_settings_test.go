package integration

import (
	"crypto/md5"
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"fmt"
	"io"
	"maps"
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	v4 "github.com/aws/aws-sdk-go-v2/aws/signer/v4"
	"github.com/aws/aws-sdk-go-v2/credentials"
	"github.com/aws/aws-sdk-go-v2/service/s3"
	"github.com/aws/aws-sdk-go-v2/service/s3/types"
	"github.com/converge-agent/converge/diag"
	"github.com/converge-agent/converge/objectstore"
	"github.com/converge-agent/converge/resources"
	"github.com/converge-agent/converge/resources/s3bucket"
	"github.com/converge-agent/converge/test/lab"
	"github.com/zclconf/go-cty/cty"
)

// allProviders are the personalities of the lab.
var allProviders = []lab.Personality{lab.MinIO, lab.B2, lab.AWS, lab.Scaleway, lab.R2, lab.IDrive, lab.Wasabi}

// everyProvider runs a test on each, with every setting managed that the provider has.
func everyProvider(t *testing.T, test func(*testing.T, *site)) {
	l := newLab(t)
	for _, p := range allProviders {
		t.Run(p.String(), func(t *testing.T) {
			s := managedSite(t, l, p)
			test(t, s)
		})
	}
}

// managedSite is a site of which every setting is managed that the provider has.
func managedSite(t *testing.T, l *lab.Lab, p lab.Personality) *site {
	t.Helper()
	s := newSite(t, l, p)
	entry, ok := objectstore.Lookup(p.String())
	if !ok {
		t.Fatalf("no provider %s", p)
	}
	if entry.CORS {
		s.bucket["cors"] = cty.ObjectVal(map[string]cty.Value{"origins": list("https://social.example"), "max_age": cty.StringVal("10m")})
	}
	cycle := map[string]cty.Value{}
	if entry.Versioning || entry.AlwaysVersioned {
		cycle["hidden_versions_days"] = cty.NumberIntVal(7)
	}
	if entry.AbortsUploads {
		cycle["incomplete_uploads_days"] = cty.NumberIntVal(3)
	}
	if entry.Lifecycle && len(cycle) > 0 {
		s.bucket["lifecycle"] = cty.ObjectVal(cycle)
	}
	if entry.Versioning {
		s.bucket["versioning"] = cty.True
	}
	if entry.Public == objectstore.CustomDomain {
		s.bucket["public_host"] = cty.StringVal(s.s3.PublicHost)
	}
	return s
}

func list(texts ...string) cty.Value {
	var values []cty.Value
	for _, t := range texts {
		values = append(values, cty.StringVal(t))
	}
	return cty.ListVal(values)
}

// private makes the bucket a private one.
func (s *site) private() {
	s.bucket["access"] = cty.StringVal("private")
	delete(s.bucket, "public_host")
}

// settle applies until nothing is left, and does by hand what a person has to.
func (s *site) settle(t *testing.T) {
	t.Helper()
	for range 4 {
		c, err := s.apply(t)
		if err != nil {
			t.Fatalf("apply: %v\n%s", err, diag.Fix(err))
		}
		if c.Action == resources.None {
			return
		}
		if s.s3.Personality == lab.R2 {
			s.s3.ConnectDomain(s.name(), s.s3.PublicHost)
		}
	}
	_, c, err := s.plan(t)
	t.Fatalf("it does not come to rest: %s %s, %v", c.Action, c.Summary, err)
}

// sdk is somebody else's client with the owner's key, to break things with.
func (s *site) sdk(t *testing.T) *s3.Client {
	t.Helper()
	client, done := s.http(t)
	t.Cleanup(done)
	return s3.New(s3.Options{
		Region: s.s3.Region, BaseEndpoint: &s.s3.Endpoint, UsePathStyle: true, HTTPClient: client,
		Credentials:                credentials.NewStaticCredentialsProvider(s.s3.AgentKey, s.s3.AgentSecret, ""),
		RequestChecksumCalculation: aws.RequestChecksumCalculationWhenRequired,
		APIOptions:                 nil,
	})
}

// known are our names of operations by those of the lab, where they differ.
var known = map[string]string{
	"DeleteBucketLifecycleConfiguration": "DeleteBucketLifecycle", "PublicGetObject": "AnonymousGET",
}

// counted are the lab's counts as converge names them, anonymous requests aside: those the lab does not tell apart.
func (s *site) counted() (byOperation map[string]int64, total int64) {
	byOperation = map[string]int64{}
	for what, n := range s.s3.Requests() {
		op, _, _ := strings.Cut(what, " ")
		if name, ok := known[op]; ok {
			op = name
		}
		byOperation[op] += n
		total += n
	}
	return byOperation, total
}

// TestFigureRequestsOfAnUnchangedBucket: with everything managed that the provider has, an unchanged bucket costs these requests,
// and no more than 6, by the store's own count as by the lab's.
func TestFigureRequestsOfAnUnchangedBucket(t *testing.T) {
	public := map[lab.Personality]string{
		lab.MinIO:    "GetBucketLifecycleConfiguration GetBucketPolicy GetBucketVersioning",
		lab.B2:       "GetBucketAcl GetBucketCors GetBucketLifecycleConfiguration",
		lab.AWS:      "GetBucketCors GetBucketLifecycleConfiguration GetBucketOwnershipControls GetBucketPolicy GetBucketVersioning GetPublicAccessBlock",
		lab.Scaleway: "GetBucketAcl GetBucketCors GetBucketLifecycleConfiguration GetBucketPolicy GetBucketVersioning",
		lab.R2:       "AnonymousGET GetBucketCors GetBucketLifecycleConfiguration",
		lab.IDrive:   "AnonymousGET GetBucketCors GetBucketLifecycleConfiguration GetBucketPolicy GetBucketVersioning",
		lab.Wasabi:   "GetBucketAcl GetBucketCors GetBucketLifecycleConfiguration GetBucketPolicy GetBucketVersioning",
	}
	everyProvider(t, func(t *testing.T, s *site) {
		for _, access := range []string{"public-objects", "private"} {
			want := public[s.s3.Personality]
			if access == "private" {
				s.private()
				if s.s3.Personality == lab.R2 { // nothing is read from outside
					want = strings.TrimPrefix(want, "AnonymousGET ")
				}
			}
			s.settle(t)
			s.s3.ResetRequests()
			clients := objectstore.NewClients()
			kind := s3bucket.Kind(clients)
			r, _, err := kind.New(resources.Address{Kind: kind.Name, Name: "b"}, s.config(t, kind))
			if err != nil {
				t.Fatal(err)
			}
			st, err := r.Read(t.Context(), s.env().ReadEnv)
			if err != nil {
				t.Fatal(err)
			}
			if c := r.Diff(st); c.Action != resources.None || len(c.Effects) > 0 {
				t.Fatalf("%s: the bucket is not unchanged: %s %s %+v", access, c.Action, c.Summary, c.Attrs)
			}
			sent := clients.Requests()
			if got := strings.Join(slices.Sorted(maps.Keys(sent)), " "); got != want {
				t.Errorf("%s: an unchanged bucket costs %s, want %s", access, got, want)
			}
			var total int64
			for _, n := range sent {
				total += n
			}
			if _, seen := s.counted(); total > 6 || seen != total || total != int64(len(strings.Fields(want))) {
				t.Errorf("%s: %d requests were sent, and the lab has seen %d: %v", access, total, seen, s.s3.Requests())
			}
		}
	})
}

// TestLaw1CreationSendsWhatThePlanSays: by operation, with everything managed, public and private.
func TestLaw1CreationSendsWhatThePlanSays(t *testing.T) {
	everyProvider(t, func(t *testing.T, s *site) {
		for _, access := range []string{"public-objects", "private"} {
			if access == "private" {
				s.deleteBucket(t)
				clear(s.records)
				s.private()
			}
			want := resources.Create
			if s.s3.Personality == lab.R2 && access == "public-objects" { // connected, or the probes end sooner than the plan can know
				if err := s.client(t).CreateBucket(t.Context(), s.name(), ""); err != nil {
					t.Fatal(err)
				}
				s.s3.ConnectDomain(s.name(), s.s3.PublicHost)
				want = resources.Update
			}
			s.sendsWhatItSays(t, want)
		}
	})
}

// sendsWhatItSays plans and applies, and compares what is sent with what the plan says, by operation.
func (s *site) sendsWhatItSays(t *testing.T, want resources.Action) resources.Change {
	t.Helper()
	clients := objectstore.NewClients()
	kind := s3bucket.Kind(clients)
	r, _, err := kind.New(resources.Address{Kind: kind.Name, Name: "b"}, s.config(t, kind))
	if err != nil {
		t.Fatal(err)
	}
	st, err := r.Read(t.Context(), s.env().ReadEnv)
	if err != nil {
		t.Fatal(err)
	}
	c := r.Diff(st)
	if c.Action != want {
		t.Fatalf("the change is %s (%s), want %s", c.Action, c.Summary, want)
	}
	said := map[string]int64{}
	for _, e := range c.Effects {
		var n int64
		for op, k := range e.Operations {
			said[op] += k
			n += k
		}
		if n != e.Requests {
			t.Errorf("%s %s: %d requests, by operation %v", e.Verb, e.Target, e.Requests, e.Operations)
		}
		if e.Destructive && want == resources.Create {
			t.Errorf("%s %s: it is said to be destructive in a bucket that is not there yet", e.Verb, e.Target)
		}
	}
	before := clients.Requests()
	s.s3.ResetRequests()
	if err := r.Apply(t.Context(), s.env(), c); err != nil {
		t.Fatalf("apply: %v\n%s", err, diag.Fix(err))
	}
	sent := clients.Requests()
	var total int64
	for op, n := range sent {
		if sent[op] = n - before[op]; sent[op] == 0 {
			delete(sent, op)
		}
		total += sent[op]
	}
	if !maps.Equal(sent, said) {
		t.Errorf("sent were %v\nsaid    %v", sent, said)
	}
	if _, seen := s.counted(); seen != total {
		t.Errorf("%d requests were counted, and the lab has seen %v", total, s.s3.Requests())
	}
	return c
}

// bucketDrift is a way in which somebody changes a bucket by hand.
type bucketDrift struct {
	name  string
	shows string // an attribute of the plan
	by    func(ctx *testing.T, c *s3.Client, bucket string) error
}

// drifts are those that can happen at a provider.
func drifts(s *site) []bucketDrift {
	b := &s.bucket
	has := func(name string) bool { _, ok := (*b)[name]; return ok }
	entry, _ := objectstore.Lookup(s.s3.Personality.String())
	var out []bucketDrift
	add := func(name, shows string, by func(*testing.T, *s3.Client, string) error) {
		out = append(out, bucketDrift{name, shows, by})
	}
	putACL := func(acl types.BucketCannedACL) func(*testing.T, *s3.Client, string) error {
		return func(t *testing.T, c *s3.Client, bucket string) error {
			_, err := c.PutBucketAcl(t.Context(), &s3.PutBucketAclInput{Bucket: &bucket, ACL: acl})
			return err
		}
	}
	switch entry.Public {
	case objectstore.BucketPolicy:
		add("policy removed", "policy statement", func(t *testing.T, c *s3.Client, bucket string) error {
			_, err := c.DeleteBucketPolicy(t.Context(), &s3.DeleteBucketPolicyInput{Bucket: &bucket})
			return err
		})
	case objectstore.BucketACL:
		add("bucket made private", "acl", func(t *testing.T, _ *s3.Client, bucket string) error {
			return s.client(t).PutBucketACL(t.Context(), bucket, "private")
		})
	}
	if entry.Public == objectstore.ObjectACL || entry.ACLs {
		add("bucket made listable", "acl", putACL("public-read"))
		add("bucket made writable", "acl", putACL("public-read-write"))
	}
	if entry.PublicAccessBlock {
		block := func(acls, policies bool) func(*testing.T, *s3.Client, string) error {
			return func(t *testing.T, _ *s3.Client, bucket string) error {
				return s.client(t).PutPublicAccessBlock(t.Context(), bucket, objectstore.PublicAccessBlock{
					BlockPublicACLs: acls, IgnorePublicACLs: acls, BlockPublicPolicy: policies, RestrictPublic: policies,
				})
			}
		}
		add("all public access blocked", "public access block", block(true, true))
		add("ACLs allowed", "public access block", block(false, false))
	}
	if entry.Ownership {
		add("ACLs allowed and public", "object ownership", func(t *testing.T, _ *s3.Client, bucket string) error {
			c := s.client(t)
			if err := c.PutPublicAccessBlock(t.Context(), bucket, objectstore.PublicAccessBlock{}); err != nil {
				return err
			}
			if err := c.PutOwnership(t.Context(), bucket, "ObjectWriter"); err != nil {
				return err
			}
			return c.PutBucketACL(t.Context(), bucket, "public-read")
		})
	}
	for _, kind := range []*objectstore.RuleKind{objectstore.CORS, objectstore.Lifecycle} {
		if !has(strings.ToLower(kind.Name)) {
			continue
		}
		add(kind.Name+" removed", kind.Name+" rule", func(t *testing.T, _ *s3.Client, _ string) error {
			return s.putRules(t, kind, "")
		})
		add(kind.Name+" changed", kind.Name+" rule", func(t *testing.T, _ *s3.Client, _ string) error {
			return s.putRules(t, kind, changedRule[kind]+foreignRule[kind])
		})
		add(kind.Name+" replaced", kind.Name+" rule", func(t *testing.T, _ *s3.Client, _ string) error {
			return s.putRules(t, kind, foreignRule[kind])
		})
	}
	if has("versioning") {
		add("versioning suspended", "versioning", func(t *testing.T, _ *s3.Client, bucket string) error {
			return s.client(t).PutVersioning(t.Context(), bucket, "Suspended")
		})
	}
	return out
}

// changedRule is our rule with something else in it; foreignRule is somebody else's, with parts that no SDK knows.
var (
	changedRule = map[*objectstore.RuleKind]string{
		objectstore.CORS:      `<CORSRule><ID>converge</ID><AllowedMethod>PUT</AllowedMethod><AllowedOrigin>*</AllowedOrigin></CORSRule>`,
		objectstore.Lifecycle: `<Rule><ID>converge</ID><Status>Disabled</Status><Filter><Prefix>x/</Prefix></Filter><NoncurrentVersionExpiration><NoncurrentDays>1</NoncurrentDays></NoncurrentVersionExpiration></Rule>`,
	}
	foreignRule = map[*objectstore.RuleKind]string{
		objectstore.CORS:      `<CORSRule><ID>theirs</ID><AllowedMethod>GET</AllowedMethod><AllowedOrigin>https://their.example</AllowedOrigin><MaxAgeSeconds>5</MaxAgeSeconds></CORSRule>`,
		objectstore.Lifecycle: `<Rule><ID>theirs</ID><Status>Enabled</Status><Filter><Prefix>logs/</Prefix><Kept>by us</Kept></Filter><Expiration><Days>30</Days></Expiration></Rule>`,
	}
)

// theirParts are what must be left of it: the gateway behind the lab writes CORS in its own order.
var theirParts = map[*objectstore.RuleKind][]string{
	objectstore.CORS:      {"<ID>theirs</ID>", "<AllowedOrigin>https://their.example</AllowedOrigin>", "<MaxAgeSeconds>5</MaxAgeSeconds>"},
	objectstore.Lifecycle: {foreignRule[objectstore.Lifecycle]},
}

// putRules sets a document of rules as it stands; "" deletes it.
func (s *site) putRules(t *testing.T, kind *objectstore.RuleKind, text string) error {
	t.Helper()
	if text == "" {
		_, err := s.document(t, http.MethodDelete, kind, "")
		return err
	}
	root := map[*objectstore.RuleKind]string{objectstore.CORS: "CORSConfiguration", objectstore.Lifecycle: "LifecycleConfiguration"}[kind]
	_, err := s.document(t, http.MethodPut, kind, fmt.Sprintf(`<%[1]s xmlns="http://s3.amazonaws.com/doc/2006-03-01/">%[2]s</%[1]s>`, root, text))
	return err
}

// document asks for a document, or sets it, with the owner's key.
func (s *site) document(t *testing.T, method string, kind *objectstore.RuleKind, body string) (string, error) {
	t.Helper()
	client, done := s.http(t)
	defer done()
	req, err := http.NewRequestWithContext(t.Context(), method, s.s3.Endpoint+"/"+s.name()+"?"+strings.ToLower(kind.Name)+"=", strings.NewReader(body))
	if err != nil {
		return "", err
	}
	digest, sum := sha256.Sum256([]byte(body)), md5.Sum([]byte(body))
	req.Header.Set("X-Amz-Content-Sha256", hex.EncodeToString(digest[:]))
	req.Header.Set("Content-Md5", base64.StdEncoding.EncodeToString(sum[:]))
	key := aws.Credentials{AccessKeyID: s.s3.AgentKey, SecretAccessKey: s.s3.AgentSecret}
	signer := v4.NewSigner(func(o *v4.SignerOptions) { o.DisableURIPathEscaping = true })
	if err := signer.SignHTTP(t.Context(), key, req, hex.EncodeToString(digest[:]), "s3", s.s3.Region, time.Now()); err != nil {
		return "", err
	}
	resp, err := client.Do(req)
	if err != nil {
		return "", err
	}
	defer func() { _ = resp.Body.Close() }()
	answer, err := io.ReadAll(resp.Body)
	if err == nil && resp.StatusCode >= 300 {
		err = fmt.Errorf("%s ?%s: %s: %s", method, kind.Name, resp.Status, answer)
	}
	return string(answer), err
}

// TestDriftOfEachSettingIsShownAndHealed: at each provider, each thing that somebody may change by hand.
func TestDriftOfEachSettingIsShownAndHealed(t *testing.T) {
	everyProvider(t, func(t *testing.T, s *site) {
		s.settle(t)
		for _, d := range drifts(s) {
			t.Run(d.name, func(t *testing.T) {
				if err := d.by(t, s.sdk(t), s.name()); err != nil {
					t.Fatal(err)
				}
				c := s.sendsWhatItSays(t, resources.Update)
				shown := slices.IndexFunc(c.Attrs, func(a resources.AttrDiff) bool { return strings.HasPrefix(a.Name, d.shows) })
				if shown < 0 || c.Attrs[shown].Before == c.Attrs[shown].After {
					t.Errorf("the plan shows %+v, want %s before and after", c.Attrs, d.shows)
				}
				s.settle(t)
				s.publicMeansOneThing(t)
			})
		}
	})
}

// publicMeansOneThing asks from outside what nobody may do.
func (s *site) publicMeansOneThing(t *testing.T) {
	t.Helper()
	for _, path := range []string{"/?list-type=2", "/?max-keys=1", ""} {
		if got := s.anonymously(t, path); got == http.StatusOK {
			t.Errorf("anyone can list the bucket by GET %s", path)
		}
	}
}

// TestRulesOfOthersStay when ours is set, healed and taken out.
func TestRulesOfOthersStay(t *testing.T) {
	everyProvider(t, func(t *testing.T, s *site) {
		s.settle(t)
		for _, kind := range []*objectstore.RuleKind{objectstore.CORS, objectstore.Lifecycle} {
			if _, managed := s.bucket[strings.ToLower(kind.Name)]; !managed {
				continue
			}
			if err := s.putRules(t, kind, foreignRule[kind]); err != nil {
				t.Fatal(err)
			}
		}
		s.settle(t)
		s.theirsStay(t, true)
		s.bucket["ensure"] = cty.StringVal("absent")
		s.must(t, resources.Update)
		s.must(t, resources.None)
		s.theirsStay(t, false)
	})
}

func (s *site) theirsStay(t *testing.T, andOurs bool) {
	t.Helper()
	for _, kind := range []*objectstore.RuleKind{objectstore.CORS, objectstore.Lifecycle} {
		if _, managed := s.bucket[strings.ToLower(kind.Name)]; !managed {
			continue
		}
		text, err := s.document(t, http.MethodGet, kind, "")
		if err != nil {
			t.Fatal(err)
		}
		for _, part := range theirParts[kind] {
			if !strings.Contains(text, part) {
				t.Errorf("%s = %s, want in it %s", kind.Name, text, part)
			}
		}
		if ours := strings.Contains(text, "<ID>converge</ID>"); ours != andOurs {
			t.Errorf("%s = %s, our rule in it: %v, want %v", kind.Name, text, ours, andOurs)
		}
	}
}

// TestAbsentTakesOutWhatIsOurs and says what stays open all the same.
func TestAbsentTakesOutWhatIsOurs(t *testing.T) {
	everyProvider(t, func(t *testing.T, s *site) {
		s.settle(t)
		s.bucket["ensure"] = cty.StringVal("absent")
		s.sendsWhatItSays(t, resources.Update)
		c := s.must(t, resources.None)
		entry, _ := objectstore.Lookup(s.s3.Personality.String())
		if stays := entry.Public == objectstore.CustomDomain || entry.Public == objectstore.ObjectACL; stays != (len(c.Notes) > 0) {
			t.Errorf("notes = %q", c.Notes)
		}
		if entry.PublicAccessBlock {
			if block, err := s.client(t).GetPublicAccessBlock(t.Context(), s.name()); err != nil || !block.BlockPublicPolicy || !block.RestrictPublic {
				t.Errorf("the public access block is %v, %v", block, err)
			}
		}
		for _, kind := range []*objectstore.RuleKind{objectstore.CORS, objectstore.Lifecycle} {
			if text, err := s.document(t, http.MethodGet, kind, ""); err == nil && strings.Contains(text, "converge") {
				t.Errorf("%s = %s, want nothing of ours", kind.Name, text)
			}
		}
	})
}
