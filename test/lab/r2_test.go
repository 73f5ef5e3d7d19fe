package lab_test

import (
	"bytes"
	"context"
	"io"
	"net"
	"net/http"
	"regexp"
	"strings"
	"testing"

	"github.com/aws/aws-sdk-go-v2/service/s3"
	"github.com/aws/aws-sdk-go-v2/service/s3/types"
	"github.com/converge-agent/converge/test/lab"
)

func TestR2Answers(t *testing.T) {
	s, bucket := store(t, lab.R2)
	c, object := agent(t, s), app(t, s)
	s.Put(bucket, "k", []byte("b"), nil)
	region := func(name string) func(*s3.Options) { return func(o *s3.Options) { o.Region = name } }
	list := func(c *s3.Client) error {
		_, err := c.ListObjectsV2(t.Context(), &s3.ListObjectsV2Input{Bucket: &bucket})
		return err
	}
	location := func(name, region string) error {
		_, err := c.CreateBucket(t.Context(), &s3.CreateBucketInput{Bucket: ptr(bucket + name), CreateBucketConfiguration: &types.CreateBucketConfiguration{
			LocationConstraint: types.BucketLocationConstraint(region),
		}})
		return err
	}
	const regions = "Must be one of: wnam, enam, weur, eeur, apac, oc, auto"
	cors := &types.CORSConfiguration{CORSRules: []types.CORSRule{{AllowedMethods: []string{"GET"}, AllowedOrigins: []string{"*"}}}}
	expectAnswers(t, []answered{
		{"region auto", "", func() error { return list(c) }},
		{"region us-east-1", "", func() error { return list(client(t, s, s.AgentKey, s.AgentSecret, region("us-east-1"))) }},
		{"another region", "400 InvalidRegionName: The region name 'eu-central-1' is not valid. " + regions, func() error {
			return list(client(t, s, s.AgentKey, s.AgentSecret, region("eu-central-1")))
		}},
		{"wrong secret", "403 SignatureDoesNotMatch: The request signature we calculated does not match the signature you provided. Check your key and signing method.", func() error {
			return list(client(t, s, s.AgentKey, "wrong"))
		}},
		{"unknown key", "401 Unauthorized: Unauthorized", func() error { return list(client(t, s, strings.Repeat("0", 32), "wrong")) }},
		{"another provider's key", "400 InvalidArgument: Credential access key has length 20, should be 32", func() error {
			return list(client(t, s, "AKIANOBODYNOBODYNOBO", "wrong"))
		}},
		{"no such bucket", "404 NoSuchBucket: The specified bucket does not exist.", func() error { return put(t, c, "nowhere", "k", "b") }},
		{"bucket with location", "", func() error { return location("-auto", "auto") }},
		{"bucket with a hint", "", func() error { return location("-weur", "weur") }},
		{"bucket elsewhere", "400 InvalidRegionName: The region name 'eu-west-1' is not valid. " + regions, func() error { return location("-x", "eu-west-1") }},

		{"upload with an ACL", "", func() error {
			return put(t, object, bucket, "k", "b", func(in *s3.PutObjectInput) { in.ACL = types.ObjectCannedACLPublicRead })
		}},
		{"upload with a CRC32", "", func() error {
			return put(t, object, bucket, "k", "b", func(in *s3.PutObjectInput) { in.ContentMD5, in.ChecksumCRC32 = nil, ptr("cb7v+Q==") })
		}},
		{"upload where there is one", "412 PreconditionFailed: At least one of the pre-conditions you specified did not hold.", func() error {
			return put(t, object, bucket, "k", "other", func(in *s3.PutObjectInput) { in.IfNoneMatch = ptr("*") })
		}},
		{"upload where there is none", "", func() error {
			return put(t, object, bucket, "fresh", "b", func(in *s3.PutObjectInput) { in.IfNoneMatch = ptr("*") })
		}},
		{"upload with tags", "501 NotImplemented: Header 'x-amz-tagging' with value 'a=b' not implemented", func() error {
			return put(t, object, bucket, "k", "b", func(in *s3.PutObjectInput) { in.Tagging = ptr("a=b") })
		}},

		{"policy", "501 NotImplemented: GetBucketPolicy not implemented", func() error {
			_, err := c.GetBucketPolicy(t.Context(), &s3.GetBucketPolicyInput{Bucket: &bucket})
			return err
		}},
		{"put a policy", "501 NotImplemented: PutBucketPolicy not implemented", func() error {
			_, err := c.PutBucketPolicy(t.Context(), &s3.PutBucketPolicyInput{Bucket: &bucket, Policy: ptr("{}")})
			return err
		}},
		{"bucket ACL", "501 NotImplemented: PutBucketAcl not implemented", func() error {
			_, err := c.PutBucketAcl(t.Context(), &s3.PutBucketAclInput{Bucket: &bucket, ACL: "public-read"})
			return err
		}},
		{"object ACL", "501 NotImplemented: PutObjectAcl not implemented", func() error {
			_, err := c.PutObjectAcl(t.Context(), &s3.PutObjectAclInput{Bucket: &bucket, Key: ptr("k"), ACL: "public-read"})
			return err
		}},
		{"versioning", "501 NotImplemented: PutBucketVersioning not implemented", func() error {
			_, err := c.PutBucketVersioning(t.Context(), &s3.PutBucketVersioningInput{Bucket: &bucket, VersioningConfiguration: &types.VersioningConfiguration{Status: "Enabled"}})
			return err
		}},
		{"tags", "501 NotImplemented: PutObjectTagging not implemented", func() error {
			_, err := c.PutObjectTagging(t.Context(), &s3.PutObjectTaggingInput{Bucket: &bucket, Key: ptr("k"), Tagging: &types.Tagging{TagSet: []types.Tag{{Key: ptr("a"), Value: ptr("b")}}}})
			return err
		}},
		{"public access block", "501 NotImplemented: GetPublicAccessBlock not implemented", func() error {
			_, err := c.GetPublicAccessBlock(t.Context(), &s3.GetPublicAccessBlockInput{Bucket: &bucket})
			return err
		}},
		{"CORS", "", func() error {
			_, err := c.PutBucketCors(t.Context(), &s3.PutBucketCorsInput{Bucket: &bucket, CORSConfiguration: cors})
			return err
		}},
		{"CORS back", "", func() error {
			_, err := c.GetBucketCors(t.Context(), &s3.GetBucketCorsInput{Bucket: &bucket})
			return err
		}},
		{"HEAD of the bucket", "", func() error {
			_, err := c.HeadBucket(t.Context(), &s3.HeadBucketInput{Bucket: &bucket})
			return err
		}},

		{"object token: list objects", "", func() error { return list(object) }},
		{"object token: list buckets", "403 AccessDenied: Access Denied", func() error {
			_, err := object.ListBuckets(t.Context(), &s3.ListBucketsInput{})
			return err
		}},
		{"object token: create a bucket", "403 AccessDenied: Access Denied", func() error {
			_, err := object.CreateBucket(t.Context(), &s3.CreateBucketInput{Bucket: ptr(bucket + "-2")})
			return err
		}},
		{"object token: HEAD of the bucket", "403 Forbidden: Forbidden", func() error {
			_, err := object.HeadBucket(t.Context(), &s3.HeadBucketInput{Bucket: &bucket})
			return err
		}},
		{"object token: bucket ACL", "403 AccessDenied: Access Denied", func() error {
			_, err := object.GetBucketAcl(t.Context(), &s3.GetBucketAclInput{Bucket: &bucket})
			return err
		}},
		{"object token: CORS", "403 AccessDenied: Access Denied", func() error {
			_, err := object.GetBucketCors(t.Context(), &s3.GetBucketCorsInput{Bucket: &bucket})
			return err
		}},
		{"object token: lifecycle", "403 AccessDenied: Access Denied", func() error {
			_, err := object.GetBucketLifecycleConfiguration(t.Context(), &s3.GetBucketLifecycleConfigurationInput{Bucket: &bucket})
			return err
		}},
	})
	acl, err := c.GetBucketAcl(t.Context(), &s3.GetBucketAclInput{Bucket: &bucket})
	if err != nil || len(acl.Grants) != 1 {
		t.Errorf("the bucket ACL is a dummy: %v, %v", acl, err)
	}
	versioning, err := c.GetBucketVersioning(t.Context(), &s3.GetBucketVersioningInput{Bucket: &bucket})
	if err != nil || versioning.Status != "Suspended" {
		t.Errorf("versioning: %v, %v", versioning, err)
	}
	lifecycle, err := c.GetBucketLifecycleConfiguration(t.Context(), &s3.GetBucketLifecycleConfigurationInput{Bucket: &bucket})
	if err != nil || len(lifecycle.Rules) != 1 || *lifecycle.Rules[0].ID != "Default Multipart Abort Rule" || *lifecycle.Rules[0].AbortIncompleteMultipartUpload.DaysAfterInitiation != 7 {
		t.Errorf("the lifecycle of a new bucket: %v, %v", lifecycle, err)
	}
	for _, k := range []struct{ key, secret string }{{s.AgentKey, s.AgentSecret}, {s.AppKey, s.AppSecret}} {
		if !regexp.MustCompile(`^[0-9a-f]{32}$`).MatchString(k.key) || !regexp.MustCompile(`^[0-9a-f]{64}$`).MatchString(k.secret) {
			t.Errorf("the key %s has not R2's form", k.key)
		}
	}
}

func TestR2RefusesWhoHasNoKey(t *testing.T) {
	s, bucket := store(t, lab.R2)
	s.Put(bucket, "k", []byte("b"), nil)
	for _, call := range []string{"GET /k", "HEAD /k", "GET /?list-type=2", "PUT /new", "DELETE /k"} {
		method, path, _ := strings.Cut(call, " ")
		if got := anonymous(t, method, s.Endpoint+"/"+bucket+path); got != 400 {
			t.Errorf("%s: got %d", call, got)
		}
	}
	resp, err := web(t).Get(s.Endpoint + "/" + bucket + "/k")
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = resp.Body.Close() }()
	body, err := io.ReadAll(resp.Body)
	if err != nil || !strings.Contains(string(body), "<Code>InvalidArgument</Code><Message>Authorization</Message>") {
		t.Errorf("got %s, %v", body, err)
	}
}

func TestR2PartsOfAnUploadAreEqual(t *testing.T) {
	s, bucket := store(t, lab.R2)
	const notEqual = "400 InvalidPart: All non-trailing parts must have the same length."
	for _, test := range []struct {
		name, want string
		sizes      []int
	}{
		{"equal", "", []int{5 << 20, 5 << 20, 1}},
		{"one", "", []int{1}},
		{"the last is greater", notEqual, []int{5 << 20, 5<<20 + 1}},
		{"the second is greater", notEqual, []int{5 << 20, 6 << 20, 1}},
	} {
		c, key := app(t, s), "big"
		up, err := c.CreateMultipartUpload(t.Context(), &s3.CreateMultipartUploadInput{Bucket: &bucket, Key: &key})
		if err != nil {
			t.Fatal(err)
		}
		var parts []types.CompletedPart
		for i, size := range test.sizes {
			n := int32(i + 1)
			out, err := c.UploadPart(t.Context(), &s3.UploadPartInput{Bucket: &bucket, Key: &key, UploadId: up.UploadId, PartNumber: &n, Body: bytes.NewReader(make([]byte, size))})
			if err != nil {
				t.Fatalf("%s: part %d: %s", test.name, n, err)
			}
			parts = append(parts, types.CompletedPart{ETag: out.ETag, PartNumber: &n})
		}
		_, err = c.CompleteMultipartUpload(t.Context(), &s3.CompleteMultipartUploadInput{
			Bucket: &bucket, Key: &key, UploadId: up.UploadId, MultipartUpload: &types.CompletedMultipartUpload{Parts: parts},
		})
		if got := answer(err); got != test.want {
			t.Errorf("%s: got %q, want %q", test.name, got, test.want)
		}
	}
}

// TestR2Domain: a connected domain gives objects by their keys, and nothing else.
func TestR2Domain(t *testing.T) {
	s, bucket := store(t, lab.R2)
	s.Put(bucket, "media/a b.png", []byte("picture"), http.Header{"Content-Type": {"image/png"}, "Cache-Control": {"public, max-age=315576000, immutable"}})
	s.Put(bucket, "media/dump", []byte("other"), nil)
	const host = "files.example.test"
	visitor := web(t)
	visitor.Transport.(*http.Transport).DialContext = func(ctx context.Context, network, _ string) (net.Conn, error) {
		return new(net.Dialer).DialContext(ctx, network, s.PublicHost)
	}
	visitor.Transport.(*http.Transport).DisableKeepAlives = true
	if resp, err := visitor.Get("https://" + host + "/media/dump"); err == nil {
		_ = resp.Body.Close()
		t.Fatalf("before the domain is connected: %s", resp.Status)
	}
	byAddress := "https://" + s.PublicHost + "/media/dump"
	if got := anonymous(t, "GET", byAddress); got != 404 {
		t.Errorf("by the address, before it is connected: %d", got)
	}
	s.ConnectDomain(bucket, host)
	for _, test := range []struct {
		call   string
		status int
		header string // "Name: value"
		body   string
	}{
		{"GET /media/a%20b.png", 200, "Cf-Cache-Status: MISS", "picture"},
		{"GET /media/a%20b.png", 200, "Cf-Cache-Status: HIT", "picture"},
		{"HEAD /media/a%20b.png", 200, "Cache-Control: public, max-age=315576000, immutable", ""},
		{"GET /media/dump", 200, "Cf-Cache-Status: DYNAMIC", "other"},
		{"GET /media/none", 404, "Server: cloudflare", ""},
		{"GET /", 404, "", ""},
		{"GET /?list-type=2", 404, "", ""},
		{"GET /media/", 404, "", ""},
		{"PUT /media/new", 405, "Allow: GET, HEAD", ""},
		{"DELETE /media/dump", 405, "", ""},
		{"POST /?delete", 405, "", ""},
	} {
		method, path, _ := strings.Cut(test.call, " ")
		r, err := http.NewRequestWithContext(t.Context(), method, "https://"+host+path, nil)
		if err != nil {
			t.Fatal(err)
		}
		resp, err := visitor.Do(r)
		if err != nil {
			t.Fatalf("%s: %s", test.call, err)
		}
		body, err := io.ReadAll(resp.Body)
		_ = resp.Body.Close()
		name, value, _ := strings.Cut(test.header, ": ")
		if err != nil || resp.StatusCode != test.status || resp.Header.Get(name) != value || test.status == 200 && string(body) != test.body {
			t.Errorf("%s: got %s, %q, %q, %v", test.call, resp.Status, resp.Header.Get(name), body, err)
		}
	}
	if _, _, ok := s.Object(bucket, "media/dump"); !ok {
		t.Error("a visitor deleted an object")
	}
	s.ConnectDomain(bucket, s.PublicHost)
	if got := anonymous(t, "GET", byAddress); got != 200 {
		t.Errorf("by the address, once it is connected: %d", got)
	}
	s.DisconnectDomain(host)
	if resp, err := visitor.Get("https://" + host + "/media/dump"); err == nil {
		_ = resp.Body.Close()
		t.Errorf("after the domain was disconnected: %s", resp.Status)
	}
	if got := s.Requests(); got["PublicGetObject 2xx"] == 0 || got["GetObject 2xx"] != 0 {
		t.Errorf("counted %v", got)
	}
}

// TestR2Tokens: what each permission of a token gives.
func TestR2Tokens(t *testing.T) {
	s, bucket := store(t, lab.R2)
	s.Put(bucket, "k", []byte("b"), nil)
	_, other := store(t, lab.R2)
	calls := []struct {
		name string
		do   func(*s3.Client) error
	}{
		{"list buckets", func(c *s3.Client) error { _, err := c.ListBuckets(t.Context(), &s3.ListBucketsInput{}); return err }},
		{"put CORS", func(c *s3.Client) error {
			_, err := c.DeleteBucketCors(t.Context(), &s3.DeleteBucketCorsInput{Bucket: &bucket})
			return err
		}},
		{"list", func(c *s3.Client) error {
			_, err := c.ListObjectsV2(t.Context(), &s3.ListObjectsV2Input{Bucket: &bucket})
			return err
		}},
		{"get", func(c *s3.Client) error {
			_, err := c.GetObject(t.Context(), &s3.GetObjectInput{Bucket: &bucket, Key: ptr("k")})
			return err
		}},
		{"put", func(c *s3.Client) error { return put(t, c, bucket, "k", "b") }},
		{"put elsewhere", func(c *s3.Client) error { return put(t, c, other, "k", "b") }},
	}
	for _, test := range []struct {
		right  string
		bucket string // that it is for alone
		may    string // which of the calls
	}{
		{"Admin Read & Write", "", "list buckets, put CORS, list, get, put"},
		{"Admin Read only", "", "list buckets, list, get"},
		{"Object Read & Write", "", "list, get, put"},
		{"Object Read & Write", bucket, "list, get, put"},
		{"Object Read & Write", other, ""},
		{"Object Read only", bucket, "list, get"},
	} {
		key, secret := s.NewBucketKey(test.bucket, test.right)
		var may []string
		for _, call := range calls {
			err := call.do(client(t, s, key, secret))
			if err == nil {
				may = append(may, call.name)
			} else if got := answer(err); got != "403 AccessDenied: Access Denied" && call.name != "put elsewhere" {
				t.Errorf("%s: %s: got %q", test.right, call.name, got)
			}
		}
		s.RevokeKey(key)
		if got := answer(calls[0].do(client(t, s, key, secret))); got != "401 Unauthorized: Unauthorized" {
			t.Errorf("a token that was revoked: got %q", got)
		}
		if got := strings.Join(may, ", "); got != test.may {
			t.Errorf("%s for %q may %s, want %s", test.right, test.bucket, got, test.may)
		}
	}
}
