package lab_test

import (
	"bytes"
	"crypto/md5"
	"encoding/base64"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"testing"
	"time"

	v4 "github.com/aws/aws-sdk-go-v2/aws/signer/v4"
	"github.com/aws/aws-sdk-go-v2/service/s3"
	"github.com/aws/aws-sdk-go-v2/service/s3/types"
	"github.com/converge-agent/converge/test/lab"
)

func personalities(t *testing.T, test func(*testing.T, lab.Personality), except ...lab.Personality) {
	for _, p := range []lab.Personality{lab.MinIO, lab.B2, lab.AWS, lab.Scaleway, lab.R2, lab.IDrive, lab.Wasabi} {
		if slices.Contains(except, p) {
			continue // it has a table of its own
		}
		t.Run(p.String(), func(t *testing.T) { test(t, p) })
	}
}

func put(t *testing.T, c *s3.Client, bucket, key, body string, options ...func(*s3.PutObjectInput)) error {
	t.Helper()
	sum := md5.Sum([]byte(body))
	in := &s3.PutObjectInput{Bucket: &bucket, Key: &key, Body: strings.NewReader(body), ContentMD5: ptr(base64.StdEncoding.EncodeToString(sum[:]))}
	for _, o := range options {
		o(in)
	}
	_, err := c.PutObject(t.Context(), in)
	return err
}

func ptr[T any](v T) *T { return &v }

func TestObjectsAreStoredAndListed(t *testing.T) {
	personalities(t, func(t *testing.T, p lab.Personality) {
		s, bucket := store(t, p)
		keys := []string{"a b/ü&+.png", "media/ü.jpg", "site_uploads/files/@1x/abc.png", "x'(1)!*.txt", "~plus+%.txt"}
		for _, k := range keys {
			if err := put(t, agent(t, s), bucket, k, "body of "+k, func(in *s3.PutObjectInput) { in.ContentType = ptr("image/png") }); err != nil {
				t.Fatalf("put %s: %s", k, err)
			}
			out, err := app(t, s).GetObject(t.Context(), &s3.GetObjectInput{Bucket: &bucket, Key: &k})
			if err != nil {
				t.Fatalf("get %s: %s", k, err)
			}
			body, err := io.ReadAll(out.Body)
			if err != nil || string(body) != "body of "+k || *out.ContentType != "image/png" {
				t.Errorf("get %s: %q, %s, %v", k, body, *out.ContentType, err)
			}
			if oracle, header, ok := s.Object(bucket, k); !ok || string(oracle) != "body of "+k || header.Get("Content-Type") != "image/png" {
				t.Errorf("the oracle sees %q, %v of %s", oracle, ok, k)
			}
		}
		if got := s.Keys(bucket); !slices.Equal(got, keys) {
			t.Errorf("keys: got %q, want %q", got, keys)
		}
		list, err := agent(t, s).ListObjectsV2(t.Context(), &s3.ListObjectsV2Input{Bucket: &bucket, Prefix: ptr("media/")})
		if err != nil || len(list.Contents) != 1 || *list.Contents[0].Key != "media/ü.jpg" {
			t.Errorf("list by prefix: %v, %v", list, err)
		}
		encoded, err := agent(t, s).ListObjectsV2(t.Context(), &s3.ListObjectsV2Input{Bucket: &bucket, EncodingType: "url"})
		if err != nil || encoded.EncodingType != "url" || *encoded.Contents[0].Key != "a+b/%C3%BC%26%2B.png" {
			t.Errorf("an encoded list: %v, %v", encoded, err)
		}
		if got := s.Requests()["PutObject 2xx"]; got != int64(len(keys)) {
			t.Errorf("counted %d uploads of %d: %v", got, len(keys), s.Requests())
		}
		s.ResetRequests()
		if got := s.Requests(); len(got) != 0 {
			t.Errorf("after a reset: %v", got)
		}
		source := bucket + "/" + strings.ReplaceAll(url.QueryEscape(keys[0]), "+", "%20")
		if _, err := agent(t, s).CopyObject(t.Context(), &s3.CopyObjectInput{Bucket: &bucket, Key: ptr("copy"), CopySource: &source}); err != nil {
			t.Errorf("copy: %s", err)
		}
		if body, _, ok := s.Object(bucket, "copy"); !ok || string(body) != "body of "+keys[0] {
			t.Errorf("the copy: %q, %v", body, ok)
		}
		s.ResetRequests()
		s.Delete(bucket, keys[0])
		if _, _, ok := s.Object(bucket, keys[0]); ok {
			t.Error("deleted, and still there")
		}
		s.Put(bucket, "back", []byte("again"), nil)
		if body, _, ok := s.Object(bucket, "back"); !ok || string(body) != "again" {
			t.Errorf("put around the front: %q, %v", body, ok)
		}
		if got := s.Requests(); len(got) != 0 {
			t.Errorf("the oracle was counted: %v", got)
		}
	})
}

func TestKeysOfMoreThanOnePage(t *testing.T) {
	s, bucket := store(t, lab.MinIO)
	const n = 1003 // a page has 1000
	for i := range n {
		s.Put(bucket, fmt.Sprintf("%04d", i), nil, nil)
	}
	if got := s.Keys(bucket); len(got) != n || got[n-1] != "1002" || !slices.IsSorted(got) {
		t.Errorf("got %d keys of %d", len(got), n)
	}
}

func TestMultipartUpload(t *testing.T) {
	personalities(t, func(t *testing.T, p lab.Personality) {
		s, bucket := store(t, p)
		c, key, part := agent(t, s), "big.mp4", bytes.Repeat([]byte("0123456789abcdef"), 5<<20/16)
		up, err := c.CreateMultipartUpload(t.Context(), &s3.CreateMultipartUploadInput{Bucket: &bucket, Key: &key})
		if err != nil {
			t.Fatal(err)
		}
		var parts []types.CompletedPart
		for n := int32(1); n <= 2; n++ {
			out, err := c.UploadPart(t.Context(), &s3.UploadPartInput{Bucket: &bucket, Key: &key, UploadId: up.UploadId, PartNumber: &n, Body: bytes.NewReader(part)})
			if err != nil {
				t.Fatal(err)
			}
			parts = append(parts, types.CompletedPart{ETag: out.ETag, PartNumber: &n})
		}
		if _, err := c.CompleteMultipartUpload(t.Context(), &s3.CompleteMultipartUploadInput{
			Bucket: &bucket, Key: &key, UploadId: up.UploadId, MultipartUpload: &types.CompletedMultipartUpload{Parts: parts},
		}); err != nil {
			t.Fatal(err)
		}
		if body, _, _ := s.Object(bucket, key); !bytes.Equal(body, append(part, part...)) {
			t.Errorf("the object has %d bytes, and others than were sent", len(body))
		}
		for _, op := range []string{"CreateMultipartUpload 2xx", "UploadPart 2xx", "CompleteMultipartUpload 2xx"} {
			if s.Requests()[op] == 0 {
				t.Errorf("%s was not counted: %v", op, s.Requests())
			}
		}
	})
}

func TestKeysAndSignatures(t *testing.T) {
	personalities(t, func(t *testing.T, p lab.Personality) {
		s, bucket := store(t, p)
		list := func(c *s3.Client) string {
			_, err := c.ListObjectsV2(t.Context(), &s3.ListObjectsV2Input{Bucket: &bucket})
			return code(err)
		}
		region := func(o *s3.Options) { o.Region = "eu-central-003" }
		wrongRegion := "400 AuthorizationHeaderMalformed"
		if p == lab.MinIO || p == lab.IDrive {
			wrongRegion = ""
		}
		for _, test := range []struct{ name, got, want string }{
			{"right key", list(agent(t, s)), ""},
			{"wrong secret", list(client(t, s, s.AgentKey, "wrong")), "403 SignatureDoesNotMatch"},
			{"unknown key", list(client(t, s, "AKIANOBODYNOBODYNOBO", "wrong")), "403 InvalidAccessKeyId"},
			{"root of the gateway", list(client(t, s, "root", "wrong")), "403 InvalidAccessKeyId"},
			{"another region", list(client(t, s, s.AgentKey, s.AgentSecret, region)), wrongRegion},
			{"no such bucket", code(put(t, agent(t, s), "nowhere", "k", "b")), "404 NoSuchBucket"},
		} {
			if test.got != test.want {
				t.Errorf("%s: got %q, want %q", test.name, test.got, test.want)
			}
		}
	}, lab.R2)
}

func TestPresignedURL(t *testing.T) {
	s, bucket := store(t, lab.B2)
	s.Put(bucket, "backups/dump.zip", []byte("archive"), nil)
	url := func(expires time.Duration) string {
		req, err := s3.NewPresignClient(app(t, s)).PresignGetObject(t.Context(),
			&s3.GetObjectInput{Bucket: &bucket, Key: ptr("backups/dump.zip")}, s3.WithPresignExpires(expires))
		if err != nil {
			t.Fatal(err)
		}
		return req.URL
	}
	if got := anonymous(t, "GET", url(time.Minute)); got != 200 {
		t.Errorf("a good URL: %d", got)
	}
	if got := anonymous(t, "GET", strings.Replace(url(time.Minute), "dump", "dumq", 1)); got != 403 {
		t.Errorf("a URL for another key: %d", got)
	}
	creds, err := app(t, s).Options().Credentials.Retrieve(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	for age, want := range map[time.Duration]int{time.Minute: 200, 3 * time.Minute: 403} {
		r, err := http.NewRequestWithContext(t.Context(), http.MethodGet, s.Endpoint+"/"+bucket+"/backups/dump.zip?X-Amz-Expires=120", nil)
		if err != nil {
			t.Fatal(err)
		}
		old, _, err := v4.NewSigner().PresignHTTP(t.Context(), creds, r, "UNSIGNED-PAYLOAD", "s3", s.Region, time.Now().Add(-age))
		if err != nil {
			t.Fatal(err)
		}
		if got := anonymous(t, "GET", old); got != want {
			t.Errorf("a URL for 2 minutes, %s old: got %d, want %d", age, got, want)
		}
	}
}

func TestSignedTooLongAgo(t *testing.T) {
	s, bucket := store(t, lab.MinIO)
	r, err := http.NewRequestWithContext(t.Context(), http.MethodGet, s.Endpoint+"/"+bucket+"?list-type=2", nil)
	if err != nil {
		t.Fatal(err)
	}
	const empty = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"
	for _, test := range []struct {
		age  time.Duration
		want int
	}{{0, 200}, {14 * time.Minute, 200}, {20 * time.Minute, 403}, {-20 * time.Minute, 403}} {
		creds, err := agent(t, s).Options().Credentials.Retrieve(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		r.Header = http.Header{"X-Amz-Content-Sha256": {empty}}
		if err := v4.NewSigner().SignHTTP(t.Context(), creds, r, empty, "s3", s.Region, time.Now().Add(-test.age)); err != nil {
			t.Fatal(err)
		}
		resp, err := web(t).Do(r)
		if err != nil {
			t.Fatal(err)
		}
		body, _ := io.ReadAll(resp.Body)
		_ = resp.Body.Close()
		if resp.StatusCode != test.want {
			t.Errorf("signed %s ago: got %d, want %d: %s", test.age, resp.StatusCode, test.want, body)
		}
	}
}

func TestTheAppHasFewerRights(t *testing.T) {
	personalities(t, func(t *testing.T, p lab.Personality) {
		s, bucket := store(t, p)
		c := app(t, s)
		policy := `{"Version":"2012-10-17","Statement":[{"Effect":"Allow","Principal":"*","Action":"s3:GetObject","Resource":"arn:aws:s3:::` + bucket + `/*"}]}`
		denied := "403 AccessDenied"
		noPolicy := denied
		if p == lab.B2 {
			noPolicy = "501 NotImplemented"
		}
		calls := []struct {
			name, want string
			do         func() error
		}{
			{"put", "", func() error { return put(t, c, bucket, "k", "b") }},
			{"get", "", func() error {
				_, err := c.GetObject(t.Context(), &s3.GetObjectInput{Bucket: &bucket, Key: ptr("k")})
				return err
			}},
			{"delete", "", func() error {
				_, err := c.DeleteObject(t.Context(), &s3.DeleteObjectInput{Bucket: &bucket, Key: ptr("k")})
				return err
			}},
			{"list", denied, func() error {
				_, err := c.ListObjectsV2(t.Context(), &s3.ListObjectsV2Input{Bucket: &bucket})
				return err
			}},
			{"tag an object", denied, func() error {
				_, err := c.PutObjectTagging(t.Context(), &s3.PutObjectTaggingInput{Bucket: &bucket, Key: ptr("other"), Tagging: &types.Tagging{TagSet: []types.Tag{{Key: ptr("a"), Value: ptr("b")}}}}, withoutChecksum)
				return err
			}},
			{"list buckets", denied, func() error {
				_, err := c.ListBuckets(t.Context(), &s3.ListBucketsInput{})
				return err
			}},
			{"create bucket", denied, func() error {
				_, err := c.CreateBucket(t.Context(), &s3.CreateBucketInput{Bucket: ptr(bucket + "-2")})
				return err
			}},
			{"delete bucket", denied, func() error {
				_, err := c.DeleteBucket(t.Context(), &s3.DeleteBucketInput{Bucket: &bucket})
				return err
			}},
			{"put policy", noPolicy, func() error {
				_, err := c.PutBucketPolicy(t.Context(), &s3.PutBucketPolicyInput{Bucket: &bucket, Policy: &policy})
				return err
			}},
		}
		for _, call := range calls {
			if got := code(call.do()); p == lab.B2 && call.name == "put policy" {
				if got != "501 NotImplemented" && !strings.HasPrefix(got, "400 InvalidArgument") { // the SDK sends a checksum there
					t.Errorf("%s: got %q", call.name, got)
				}
			} else if got != call.want {
				t.Errorf("%s: got %q, want %q", call.name, got, call.want)
			}
		}
	}, lab.R2)
}

func TestStoresShareNoBucket(t *testing.T) {
	one, bucket := store(t, lab.MinIO)
	other, _ := store(t, lab.B2)
	if got := code(put(t, agent(t, other), bucket, "k", "b")); got != "404 NoSuchBucket" {
		t.Errorf("writing into another store's bucket: %q", got)
	}
	if _, err := agent(t, other).CreateBucket(t.Context(), &s3.CreateBucketInput{Bucket: &bucket}); code(err) != "409 BucketAlreadyExists" {
		t.Errorf("making another store's bucket: %q", code(err))
	}
	if _, err := agent(t, one).CreateBucket(t.Context(), &s3.CreateBucketInput{Bucket: &bucket}); code(err) != "409 BucketAlreadyOwnedByYou" {
		t.Errorf("making one's own bucket again: %q", code(err))
	}
	out, err := agent(t, one).ListBuckets(t.Context(), &s3.ListBucketsInput{})
	if err != nil || len(out.Buckets) != 1 || *out.Buckets[0].Name != bucket {
		t.Errorf("the buckets of one store: %v, %v", out, err)
	}
	if got := anonymous(t, "GET", other.Endpoint+"/"+bucket+"/k"); got != 404 {
		t.Errorf("anonymous GET at the other store: %d", got)
	}
}

func TestMinIOPolicies(t *testing.T) {
	s, bucket := store(t, lab.MinIO)
	c := agent(t, s)
	for _, k := range []string{"media/a.png", "backups/b.zip"} {
		if err := put(t, c, bucket, k, "x", func(in *s3.PutObjectInput) { in.ACL = types.ObjectCannedACLPublicRead }); err != nil {
			t.Fatalf("an object ACL is ignored, not refused: %s", err)
		}
	}
	url := s.Endpoint + "/" + bucket
	if got := anonymous(t, "GET", url+"/media/a.png"); got != 403 {
		t.Errorf("without a policy, although uploaded as public-read: %d", got)
	}
	if _, err := c.GetBucketPolicy(t.Context(), &s3.GetBucketPolicyInput{Bucket: &bucket}); code(err) != "404 NoSuchBucketPolicy" {
		t.Errorf("no policy yet: %q", code(err))
	}
	policy := fmt.Sprintf(`{"Version":"2012-10-17","Statement":[{"Sid":"p","Effect":"Allow","Principal":"*","Action":"s3:GetObject","Resource":"arn:aws:s3:::%s/media/*"}]}`, bucket)
	if _, err := c.PutBucketPolicy(t.Context(), &s3.PutBucketPolicyInput{Bucket: &bucket, Policy: &policy}); err != nil {
		t.Fatal(err)
	}
	out, err := c.GetBucketPolicy(t.Context(), &s3.GetBucketPolicyInput{Bucket: &bucket})
	if err != nil || !strings.Contains(*out.Policy, `"Principal":{"AWS":["*"]}`) || !strings.Contains(*out.Policy, `"Action":["s3:GetObject"]`) {
		t.Errorf("a policy comes back in MinIO's form: %v, %v", out, err)
	}
	for _, test := range []struct {
		method, path string
		want         int
	}{
		{"GET", "/media/a.png", 200}, {"HEAD", "/media/a.png", 200}, {"GET", "/backups/b.zip", 403},
		{"GET", "/?list-type=2", 403}, {"GET", "?list-type=2", 403}, {"PUT", "/media/new.png", 403}, {"DELETE", "/media/a.png", 403},
	} {
		if got := anonymous(t, test.method, url+test.path); got != test.want {
			t.Errorf("anonymous %s %s: got %d, want %d", test.method, test.path, got, test.want)
		}
	}
	if err := put(t, c, bucket, "media/after.png", "x"); err != nil {
		t.Errorf("a policy for everybody takes rights from the agent: %s", err)
	}
	if err := put(t, app(t, s), bucket, "media/after2.png", "x"); err != nil {
		t.Errorf("a policy for everybody takes rights from the app: %s", err)
	}
}

func TestMinIORefusals(t *testing.T) {
	s, bucket := store(t, lab.MinIO)
	c := agent(t, s)
	if err := put(t, c, bucket, "k", "b"); err != nil {
		t.Fatal(err)
	}
	block := &types.PublicAccessBlockConfiguration{BlockPublicAcls: ptr(true)}
	abort := &types.BucketLifecycleConfiguration{Rules: []types.LifecycleRule{{
		ID: ptr("a"), Status: "Enabled", Filter: &types.LifecycleRuleFilter{Prefix: ptr("")}, AbortIncompleteMultipartUpload: &types.AbortIncompleteMultipartUpload{DaysAfterInitiation: ptr[int32](7)},
	}}}
	expire := &types.BucketLifecycleConfiguration{Rules: []types.LifecycleRule{{
		ID: ptr("a"), Status: "Enabled", Filter: &types.LifecycleRuleFilter{Prefix: ptr("tmp/")}, Expiration: &types.LifecycleExpiration{Days: ptr[int32](7)},
	}}}
	calls := []struct {
		name, want string
		do         func() (any, error)
	}{
		{"PutBucketAcl", "501 NotImplemented", func() (any, error) {
			return c.PutBucketAcl(t.Context(), &s3.PutBucketAclInput{Bucket: &bucket, ACL: "public-read"})
		}},
		{"PutObjectAcl", "501 NotImplemented", func() (any, error) {
			return c.PutObjectAcl(t.Context(), &s3.PutObjectAclInput{Bucket: &bucket, Key: ptr("k"), ACL: "public-read"})
		}},
		{"GetBucketAcl", "", func() (any, error) { return c.GetBucketAcl(t.Context(), &s3.GetBucketAclInput{Bucket: &bucket}) }},
		{"GetPublicAccessBlock", "501 NotImplemented", func() (any, error) {
			return c.GetPublicAccessBlock(t.Context(), &s3.GetPublicAccessBlockInput{Bucket: &bucket})
		}},
		{"PutPublicAccessBlock", "400 MalformedXML", func() (any, error) {
			return c.PutPublicAccessBlock(t.Context(), &s3.PutPublicAccessBlockInput{Bucket: &bucket, PublicAccessBlockConfiguration: block})
		}},
		{"PutBucketCors", "501 NotImplemented", func() (any, error) {
			return c.PutBucketCors(t.Context(), &s3.PutBucketCorsInput{Bucket: &bucket, CORSConfiguration: &types.CORSConfiguration{CORSRules: []types.CORSRule{{AllowedMethods: []string{"GET"}, AllowedOrigins: []string{"*"}}}}})
		}},
		{"lifecycle: none", "404 NoSuchLifecycleConfiguration", func() (any, error) {
			return c.GetBucketLifecycleConfiguration(t.Context(), &s3.GetBucketLifecycleConfigurationInput{Bucket: &bucket})
		}},
		{"lifecycle: abort", "400 InvalidArgument", func() (any, error) {
			return c.PutBucketLifecycleConfiguration(t.Context(), &s3.PutBucketLifecycleConfigurationInput{Bucket: &bucket, LifecycleConfiguration: abort})
		}},
		{"lifecycle: expire", "", func() (any, error) {
			return c.PutBucketLifecycleConfiguration(t.Context(), &s3.PutBucketLifecycleConfigurationInput{Bucket: &bucket, LifecycleConfiguration: expire})
		}},
		{"lifecycle: back", "", func() (any, error) {
			return c.GetBucketLifecycleConfiguration(t.Context(), &s3.GetBucketLifecycleConfigurationInput{Bucket: &bucket})
		}},
	}
	for _, call := range calls {
		if _, err := call.do(); code(err) != call.want {
			t.Errorf("%s: got %q, want %q", call.name, code(err), call.want)
		}
	}
}

func TestB2ACLs(t *testing.T) {
	s, bucket := store(t, lab.B2)
	c := agent(t, s)
	acl := func(a types.ObjectCannedACL) func(*s3.PutObjectInput) {
		return func(in *s3.PutObjectInput) { in.ACL = a }
	}
	url := s.Endpoint + "/" + bucket
	expect := func(when string, get, list int, public, private string) {
		t.Helper()
		for _, test := range []struct{ name, got, want string }{
			{"put as public-read", code(put(t, app(t, s), bucket, "k", "b", acl("public-read"))), public},
			{"put as private", code(put(t, app(t, s), bucket, "k", "b", acl("private"))), private},
			{"put without an ACL", code(put(t, app(t, s), bucket, "k", "b")), ""},
			{"put as authenticated-read", code(put(t, app(t, s), bucket, "k", "b", acl("authenticated-read"))), "400 InvalidArgument"},
			{"GET", fmt.Sprint(anonymous(t, "GET", url+"/k")), fmt.Sprint(get)},
			{"HEAD", fmt.Sprint(anonymous(t, "HEAD", url+"/k")), fmt.Sprint(get)},
			{"LIST", fmt.Sprint(anonymous(t, "GET", url+"/?list-type=2")), fmt.Sprint(list)},
			{"PUT", fmt.Sprint(anonymous(t, "PUT", url+"/new")), "403"},
			{"DELETE", fmt.Sprint(anonymous(t, "DELETE", url+"/k")), "403"},
			{"GET ?acl", fmt.Sprint(anonymous(t, "GET", url+"/?acl")), "403"},
		} {
			if test.got != test.want {
				t.Errorf("%s: %s: got %q, want %q", when, test.name, test.got, test.want)
			}
		}
	}
	expect("private bucket", 403, 403, "400 InvalidArgument", "")
	if grants := b2Grants(t, c, bucket); len(grants) != 1 {
		t.Errorf("grants of a private bucket: %v", grants)
	}
	if _, err := app(t, s).PutBucketAcl(t.Context(), &s3.PutBucketAclInput{Bucket: &bucket, ACL: "public-read"}, withoutChecksum); code(err) != "403 AccessDenied" {
		t.Errorf("the app opens the bucket: %q", code(err))
	}
	if _, err := c.PutBucketAcl(t.Context(), &s3.PutBucketAclInput{Bucket: &bucket, ACL: "public-read-write"}, withoutChecksum); code(err) != "400 InvalidArgument" {
		t.Errorf("public-read-write: %q", code(err))
	}
	if _, err := c.PutBucketAcl(t.Context(), &s3.PutBucketAclInput{Bucket: &bucket, ACL: "public-read"}, withoutChecksum); err != nil {
		t.Fatal(err)
	}
	expect("public bucket", 200, 403, "", "400 InvalidArgument")
	grants := b2Grants(t, c, bucket)
	if len(grants) != 2 || grants[1].Grantee.URI == nil || *grants[1].Grantee.URI != "http://acs.amazonaws.com/groups/global/AllUsers" || grants[1].Permission != "READ" {
		t.Errorf("grants of a public bucket: %v", grants)
	}
	open := bucket + "-open"
	if _, err := c.CreateBucket(t.Context(), &s3.CreateBucketInput{Bucket: &open, ACL: "public-read"}); err != nil {
		t.Fatal(err)
	}
	if got := len(b2Grants(t, c, open)); got != 2 {
		t.Errorf("a bucket made public-read has %d grants", got)
	}
}

func b2Grants(t *testing.T, c *s3.Client, bucket string) []types.Grant {
	t.Helper()
	out, err := c.GetBucketAcl(t.Context(), &s3.GetBucketAclInput{Bucket: &bucket})
	if err != nil {
		t.Fatal(err)
	}
	return out.Grants
}

func TestB2Refusals(t *testing.T) {
	s, bucket := store(t, lab.B2)
	modern := func(o *s3.Options) { o.RequestChecksumCalculation = 1 } // WhenSupported, the SDK's default
	err := put(t, client(t, s, s.AgentKey, s.AgentSecret, modern), bucket, "k", "b")
	if code(err) != "400 InvalidArgument" || !strings.Contains(err.Error(), "Unsupported header 'x-amz-") {
		t.Errorf("an upload with the SDK's default checksums: %v", err)
	}
	_, err = agent(t, s).PutObject(t.Context(), &s3.PutObjectInput{Bucket: &bucket, Key: ptr("k"), Body: strings.NewReader("b"), ChecksumCRC32: ptr("cTkVvA==")})
	if err == nil || !strings.Contains(err.Error(), "Unsupported header 'x-amz-checksum-crc32' received for this API call.") {
		t.Errorf("an upload with a CRC32: %v", err)
	}
	_, err = agent(t, s).GetObject(t.Context(), &s3.GetObjectInput{Bucket: &bucket, Key: ptr("k"), ChecksumMode: "ENABLED"})
	if code(err) != "400 InvalidArgument" {
		t.Errorf("a download with checksum mode: %v", err)
	}
	for _, key := range []string{s.AgentKey[3:15], s.AgentKey[:15] + "0000000000"} {
		_, err := client(t, s, key, s.AgentSecret).ListBuckets(t.Context(), &s3.ListBucketsInput{})
		if code(err) != "403 InvalidAccessKeyId" || !strings.Contains(err.Error(), "Malformed Access Key Id") {
			t.Errorf("the master key %s: %v", key, err)
		}
	}
	_, err = agent(t, s).GetBucketPolicy(t.Context(), &s3.GetBucketPolicyInput{Bucket: &bucket})
	if code(err) != "501 NotImplemented" {
		t.Errorf("a policy: %v", err)
	}
	for _, key := range []string{s.AgentKey, s.AppKey} {
		if len(key) != 25 || !strings.HasPrefix(key, "001") {
			t.Errorf("the key %s has not B2's form", key)
		}
	}
}

func TestBatchDeleteWithContentMD5(t *testing.T) {
	personalities(t, func(t *testing.T, p lab.Personality) {
		s, bucket := store(t, p)
		for _, k := range []string{"a", "b", "c", "d", "e"} {
			s.Put(bucket, k, []byte("x"), nil)
		}
		for _, batch := range []struct {
			by   *s3.Client
			a, b string
		}{{agent(t, s), "a", "b"}, {app(t, s), "c", "d"}} {
			out, err := batch.by.DeleteObjects(t.Context(), &s3.DeleteObjectsInput{Bucket: &bucket, Delete: &types.Delete{
				Objects: []types.ObjectIdentifier{{Key: &batch.a}, {Key: &batch.b}},
			}}, withoutChecksum)
			if err != nil || len(out.Errors) > 0 {
				t.Fatalf("%s and %s: %v, %+v", batch.a, batch.b, err, out)
			}
		}
		if got := s.Keys(bucket); !slices.Equal(got, []string{"e"}) {
			t.Errorf("left: %q", got)
		}
	})
}
