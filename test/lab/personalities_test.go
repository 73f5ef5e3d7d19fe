package lab_test

import (
	"context"
	"crypto/md5"
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"encoding/xml"
	"fmt"
	"io"
	"net"
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	v4 "github.com/aws/aws-sdk-go-v2/aws/signer/v4"
	"github.com/aws/aws-sdk-go-v2/service/s3"
	"github.com/converge-agent/converge/test/lab"
)

// signer is whose key a request is signed with; nobody's by default.
type signer struct{ key, secret, region string }

var nobody = signer{}

// ask is one request, without any SDK, and its answer.
type ask struct {
	by      signer
	request string // "PUT /bucket?acl"
	header  string // "X-Amz-Acl: public-read"
	body    string
	want    string // "200", or for an error "403 AccessDenied"
	holds   string // what is in the answer's body
}

// answers does the requests in their order.
func answers(t *testing.T, s *lab.S3, asks []ask) {
	t.Helper()
	for i, a := range asks {
		got, _, body := plain(t, s, a)
		if got != a.want || !strings.Contains(body, a.holds) {
			t.Errorf("%d: %s %s by %.8s: got %q, want %q with %q in\n%s", i, a.request, a.header, a.by.key, got, a.want, a.holds, body)
		}
	}
}

// plain does one request over TLS.
func plain(t *testing.T, s *lab.S3, a ask) (status string, header http.Header, body string) {
	t.Helper()
	method, path, _ := strings.Cut(a.request, " ")
	r, err := http.NewRequestWithContext(t.Context(), method, s.Endpoint+path, strings.NewReader(a.body))
	if err != nil {
		t.Fatal(err)
	}
	if name, value, ok := strings.Cut(a.header, ": "); ok {
		r.Header.Set(name, value)
	}
	sign(t, r, a.by, s.Region, a.body)
	client := web(t)
	client.CheckRedirect = func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }
	resp, err := client.Do(r)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = resp.Body.Close() }()
	text, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	var doc struct {
		XMLName xml.Name
		Code    string
	}
	status = fmt.Sprint(resp.StatusCode)
	if xml.Unmarshal(text, &doc) == nil && doc.XMLName.Local == "Error" {
		status += " " + doc.Code
	}
	return status, resp.Header, string(text)
}

func sign(t *testing.T, r *http.Request, by signer, region, body string) {
	t.Helper()
	if by == nobody {
		return
	}
	sum := sha256.Sum256([]byte(body))
	hash := hex.EncodeToString(sum[:])
	r.Header.Set("X-Amz-Content-Sha256", hash)
	if body != "" {
		digest := md5.Sum([]byte(body))
		r.Header.Set("Content-MD5", base64.StdEncoding.EncodeToString(digest[:]))
	}
	if by.region != "" {
		region = by.region
	}
	signer := v4.NewSigner(func(o *v4.SignerOptions) { o.DisableURIPathEscaping = true })
	creds := aws.Credentials{AccessKeyID: by.key, SecretAccessKey: by.secret}
	if err := signer.SignHTTP(t.Context(), creds, r, hash, "s3", region, time.Now()); err != nil {
		t.Fatal(err)
	}
}

// keys are those of a store.
func keys(s *lab.S3) (agent, app signer) {
	return signer{key: s.AgentKey, secret: s.AgentSecret}, signer{key: s.AppKey, secret: s.AppSecret}
}

func made(key, secret string) signer { return signer{key: key, secret: secret} }

const (
	noBlock = `<PublicAccessBlockConfiguration xmlns="http://s3.amazonaws.com/doc/2006-03-01/"><BlockPublicAcls>false</BlockPublicAcls>` +
		`<IgnorePublicAcls>false</IgnorePublicAcls><BlockPublicPolicy>false</BlockPublicPolicy>` +
		`<RestrictPublicBuckets>false</RestrictPublicBuckets></PublicAccessBlockConfiguration>`
	restricted = `<PublicAccessBlockConfiguration><RestrictPublicBuckets>true</RestrictPublicBuckets></PublicAccessBlockConfiguration>`
	ignored    = `<PublicAccessBlockConfiguration><IgnorePublicAcls>true</IgnorePublicAcls></PublicAccessBlockConfiguration>`
	writersOwn = `<OwnershipControls><Rule><ObjectOwnership>ObjectWriter</ObjectOwnership></Rule></OwnershipControls>`
	enforced   = `<OwnershipControls><Rule><ObjectOwnership>BucketOwnerEnforced</ObjectOwnership></Rule></OwnershipControls>`
	corsRule   = `<CORSConfiguration><CORSRule><ID>web</ID><AllowedMethod>GET</AllowedMethod><AllowedOrigin>https://social.example</AllowedOrigin>` +
		`<AllowedHeader>*</AllowedHeader></CORSRule></CORSConfiguration>`
	abortRule = `<LifecycleConfiguration><Rule><Filter><Prefix></Prefix></Filter><Status>Enabled</Status>` +
		`<AbortIncompleteMultipartUpload><DaysAfterInitiation>7</DaysAfterInitiation></AbortIncompleteMultipartUpload></Rule></LifecycleConfiguration>`
	expireRule = `<LifecycleConfiguration><Rule><ID>old</ID><Filter><Prefix></Prefix></Filter><Status>Enabled</Status>` +
		`<NoncurrentVersionExpiration><NoncurrentDays>7</NoncurrentDays></NoncurrentVersionExpiration></Rule></LifecycleConfiguration>`
	versioned = `<VersioningConfiguration><Status>Enabled</Status></VersioningConfiguration>`
	suspended = `<VersioningConfiguration><Status>Suspended</Status></VersioningConfiguration>`
	everybody = `http://acs.amazonaws.com/groups/global/AllUsers`
)

// policyOf allows everybody an action; the statement may have more in it.
func policyOf(version, effect, action, more string, resources ...string) string {
	return fmt.Sprintf(`{"Version":%q,"Statement":[{"Sid":"s","Effect":%q,"Principal":"*","Action":%q,"Resource":["%s"]%s}]}`,
		version, effect, action, strings.Join(resources, `","`), more)
}

// settings are the asks of what all but MinIO and B2 have alike: CORS, lifecycle and versioning (Amazon S3 API Reference).
func settings(b string, agent, app signer) []ask {
	return []ask{
		{agent, "GET /" + b + "?cors", "", "", "404 NoSuchCORSConfiguration", ""},
		{app, "PUT /" + b + "?cors", "", corsRule, "403 AccessDenied", ""},
		{agent, "PUT /" + b + "?cors", "", corsRule, "200", ""},
		{agent, "GET /" + b + "?cors", "", "", "200", "<ID>web</ID>"},
		{agent, "DELETE /" + b + "?cors", "", "", "204", ""},
		{agent, "GET /" + b + "?cors", "", "", "404 NoSuchCORSConfiguration", ""},
		{agent, "GET /" + b + "?lifecycle", "", "", "404 NoSuchLifecycleConfiguration", ""},
		{app, "PUT /" + b + "?lifecycle", "", abortRule, "403 AccessDenied", ""},
		{agent, "PUT /" + b + "?lifecycle", "", abortRule, "200", ""},
		{agent, "GET /" + b + "?lifecycle", "", "", "200", "<Rule><ID>"}, // one is given (LifecycleRule)
		{agent, "PUT /" + b + "?lifecycle", "", expireRule, "200", ""},
		{agent, "GET /" + b + "?lifecycle", "", "", "200", "<ID>old</ID>"},
		{agent, "PUT /" + b + "?lifecycle", "", "<LifecycleConfiguration/>", "400 MalformedXML", ""},
		{agent, "DELETE /" + b + "?lifecycle", "", "", "204", ""},
		{agent, "GET /" + b + "?lifecycle", "", "", "404 NoSuchLifecycleConfiguration", ""},
		{agent, "GET /" + b + "?versioning", "", "", "200", "<VersioningConfiguration"},
		{app, "PUT /" + b + "?versioning", "", versioned, "403 AccessDenied", ""},
		{agent, "PUT /" + b + "?versioning", "", versioned, "200", ""},
		{agent, "GET /" + b + "?versioning", "", "", "200", "<Status>Enabled"},
		{agent, "PUT /" + b + "?versioning", "", suspended, "200", ""},
	}
}

// TestPersonalities: what each provider refuses, and how, in a table of its own. Where no other source is named, it is the
// Amazon S3 API Reference, whose codes the others took over.
func TestPersonalities(t *testing.T) {
	t.Run("minio", testMinIO)
	t.Run("backblaze-b2", testB2)
	t.Run("aws", testAWS)
	t.Run("scaleway", testScaleway)
	t.Run("wasabi", testWasabi)
}

// testMinIO: measured on its release of 2026-02-12; its documents, "S3 API Compatibility".
func testMinIO(t *testing.T) {
	s, b := store(t, lab.MinIO)
	agent, app := keys(s)
	answers(t, s, []ask{
		{agent, "PUT /" + b + "?cors", "", corsRule, "501 NotImplemented", ""},
		{agent, "DELETE /" + b + "?cors", "", "", "501 NotImplemented", ""},
		{agent, "PUT /" + b + "?lifecycle", "", abortRule, "400 InvalidArgument", "AbortIncompleteMultipartUpload"},
		{agent, "PUT /" + b + "?lifecycle", "", expireRule, "200", ""},
		{agent, "GET /" + b + "?lifecycle", "", "", "200", "<ID>old</ID>"},
		{agent, "GET /" + b + "?versioning", "", "", "200", "<VersioningConfiguration"},
		{app, "PUT /" + b + "?versioning", "", versioned, "403 AccessDenied", ""},
		{agent, "PUT /" + b + "?versioning", "", versioned, "200", ""},
		{agent, "GET /" + b + "?versioning", "", "", "200", "<Status>Enabled"},
		{agent, "PUT /" + b + "/k", "", "x", "200", ""},
		{agent, "PUT /" + b + "/k", "If-None-Match: *", "x", "412 PreconditionFailed", ""},
		{agent, "PUT /" + b + "/k?acl", "X-Amz-Acl: public-read", "", "501 NotImplemented", ""},
		{agent, "GET /nobodys-bucket", "", "", "404 NoSuchBucket", ""},
	})
}

// testB2: Backblaze docs, "S3-Compatible API", "S3 Put Bucket ACL", "S3 Put Lifecycle Configuration"; owncast issue 1183 (ACLs).
func testB2(t *testing.T) {
	s, b := store(t, lab.B2)
	agent, _ := keys(s)
	answers(t, s, []ask{
		{agent, "PUT /" + b + "/k", "", "x", "200", ""},
		{agent, "PUT /" + b + "/k", "X-Amz-Acl: public-read", "x", "400 InvalidArgument", "Unsupported value for canned acl"},
		{agent, "PUT /" + b + "/k", "X-Amz-Checksum-Crc32: AAAAAA==", "x", "400 InvalidArgument", "Unsupported header"}, // mastodon/mastodon issue 33624
		{agent, "PUT /" + b + "/k", "If-None-Match: *", "x", "501 NotImplemented", ""},                                  // vdavid/cmdr, "S3 live verification"
		{agent, "PUT /" + b + "?policy", "", "{}", "501 NotImplemented", ""},
		{agent, "PUT /" + b + "?cors", "", corsRule, "200", ""},
		{agent, "GET /" + b + "?cors", "", "", "200", "<ID>web</ID>"},
		{agent, "GET /" + b + "?lifecycle", "", "", "404 NoSuchLifecycleConfiguration", ""},
		{agent, "PUT /" + b + "?lifecycle", "", expireRule, "200", ""},
		{agent, "GET /" + b + "?lifecycle", "", "", "200", "<ID>old</ID>"},
		{agent, "GET /" + b + "?versioning", "", "", "200", "<Status>Enabled"}, // "Lifecycle Rules": all versions are kept
		{agent, "PUT /" + b + "?versioning", "", versioned, "200", ""},
		{agent, "PUT /" + b + "?versioning", "", suspended, "400 InvalidArgument", ""},
		{agent, "GET /" + b + "?versioning", "", "", "200", "<Status>Enabled"},
		{nobody, "GET /" + b + "/k", "", "", "403 AccessDenied", ""},
		{agent, "PUT /" + b + "?acl", "X-Amz-Acl: public-read", "", "200", ""},
		{nobody, "GET /" + b + "/k", "", "", "200", ""},
		{nobody, "GET /" + b, "", "", "403 AccessDenied", ""}, // "S3-Compatible App Keys": no listing without a key
		{agent, "GET /nobodys-bucket", "", "", "404 NoSuchBucket", ""},
		{made(s.MasterKey()), "GET /", "", "", "403 InvalidAccessKeyId", "Malformed Access Key Id"}, // craft-remote-backup issue 11
	})
}

func testAWS(t *testing.T) {
	t.Run("access", awsAccess)
	t.Run("ACLs", awsACLs)
	t.Run("buckets and regions", awsBuckets)
	t.Run("settings", func(t *testing.T) {
		s, b := store(t, lab.AWS)
		agent, app := keys(s)
		answers(t, s, settings(b, agent, app))
	})
}

// awsAccess: User Guide, "Blocking public access to your Amazon S3 storage"; IAM User Guide, "Troubleshoot access denied
// error messages".
func awsAccess(t *testing.T) {
	s, b := store(t, lab.AWS)
	agent, app := keys(s)
	media := "arn:aws:s3:::" + b + "/media/*"
	public := policyOf("2012-10-17", "Allow", "s3:GetObject", "", media)
	answers(t, s, []ask{
		{app, "PUT /" + b + "/media/a", "", "x", "200", ""},
		{app, "PUT /" + b + "/backups/b", "", "x", "200", ""},
		{agent, "PUT /" + b + "/media/a", "If-None-Match: *", "x", "412 PreconditionFailed", ""}, // "Conditional writes"
		{agent, "PUT /" + b + "/media/c", "X-Amz-Checksum-Crc32: jNwWgw==", "x", "200", ""},
		{agent, "GET /" + b + "?policy", "", "", "404 NoSuchBucketPolicy", ""},
		{agent, "GET /" + b + "?policyStatus", "", "", "404 NoSuchBucketPolicy", ""},
		{agent, "GET /" + b + "?publicAccessBlock", "", "", "200", "<BlockPublicPolicy>true"}, // all on since April 2023
		{agent, "PUT /" + b + "?policy", "", public, "403 AccessDenied", "prevented by the BlockPublicPolicy setting in S3 Block Public Access"},
		{agent, "PUT /" + b + "?policy", "", "{", "400 MalformedPolicy", ""},
		{agent, "PUT /" + b + "?policy", "", policyOf("2012-10-17", "Allow", "s3:GetObject", "", "arn:aws:s3:::other/*"), "400 MalformedPolicy", "invalid resource"},
		{agent, "PUT /" + b + "?policy", "", policyOf("2023-04-17", "Allow", "s3:GetObject", "", media), "400 MalformedPolicy", "version"},
		{app, "DELETE /" + b + "?publicAccessBlock", "", "", "403 AccessDenied", "s3:PutBucketPublicAccessBlock"},
		{agent, "PUT /" + b + "?publicAccessBlock", "", noBlock, "200", ""},
		{agent, "PUT /" + b + "?policy", "", public, "204", ""},
		{agent, "GET /" + b + "?policy", "", "", "200", media},
		{agent, "GET /" + b + "?policyStatus", "", "", "200", "<IsPublic>true"},
		{nobody, "GET /" + b + "/media/a", "", "", "200", ""},
		{nobody, "HEAD /" + b + "/media/a", "", "", "200", ""},
		{nobody, "GET /" + b + "/backups/b", "", "", "403 AccessDenied", ""},
		{nobody, "GET /" + b + "?list-type=2", "", "", "403 AccessDenied", ""},
		{nobody, "PUT /" + b + "/media/new", "", "x", "403 AccessDenied", ""},
		{nobody, "DELETE /" + b + "/media/a", "", "", "403 AccessDenied", ""},
		{nobody, "GET /" + b + "/media/none", "", "", "403 AccessDenied", ""}, // GetObject: 404 takes s3:ListBucket
		{app, "GET /" + b + "/media/none", "", "", "403 AccessDenied", ""},
		{app, "HEAD /" + b + "/media/none", "", "", "403", ""},
		{agent, "GET /" + b + "/media/none", "", "", "404 NoSuchKey", ""},
		{app, "GET /" + b + "?list-type=2", "", "", "403 AccessDenied", "is not authorized to perform: s3:ListBucket"},
		{made(s.ForeignKey()), "GET /" + b + "/media/a", "", "", "200", ""}, // everybody is anybody
		{agent, "PUT /" + b + "?publicAccessBlock", "", restricted, "200", ""},
		{nobody, "GET /" + b + "/media/a", "", "", "403 AccessDenied", ""}, // RestrictPublicBuckets
		{made(s.ForeignKey()), "GET /" + b + "/media/a", "", "", "403 AccessDenied", ""},
		{app, "GET /" + b + "/media/a", "", "", "200", ""},
		{agent, "DELETE /" + b + "?publicAccessBlock", "", "", "204", ""},
		{agent, "GET /" + b + "?publicAccessBlock", "", "", "404 NoSuchPublicAccessBlockConfiguration", ""},
		{nobody, "GET /" + b + "/media/a", "", "", "200", ""},
		{agent, "PUT /" + b + "?policy", "", policyOf("2012-10-17", "Deny", "s3:DeleteObject", "", media), "204", ""},
		{agent, "DELETE /" + b + "/media/a", "", "", "403 AccessDenied", "with an explicit deny in a resource-based policy"},
		{agent, "POST /" + b + "?delete", "", `<Delete><Object><Key>media/a</Key></Object><Object><Key>backups/b</Key></Object></Delete>`, "200",
			"<Error><Key>media/a</Key><Code>AccessDenied</Code>"}, // DeleteObjects: a refusal for each key
		{agent, "GET /" + b + "/backups/b", "", "", "404 NoSuchKey", ""},
		{agent, "GET /" + b + "/media/a", "", "", "200", ""},
		{agent, "POST /" + b + "?delete", "", `<Delete><Object><Key>media/a</Key></Object></Delete>`, "200", "<Error><Key>media/a</Key>"},
		{agent, "PUT /" + b + "?policy", "", policyOf("2012-10-17", "Deny", "s3:*", `,"Condition":{"Bool":{"aws:SecureTransport":"false"}}`, media), "204", ""},
		{agent, "DELETE /" + b + "/media/a", "", "", "204", ""}, // TLS: the condition does not hold
		{agent, "PUT /" + b + "?policy", "", policyOf("2012-10-17", "Allow", "s3:GetObject", `,"Condition":{"IpAddress":{"aws:SourceIp":"127.0.0.0/8"}}`, media), "204", ""},
		{agent, "GET /" + b + "?policyStatus", "", "", "200", "<IsPublic>false"}, // "The meaning of public"
		{nobody, "GET /" + b + "/media/c", "", "", "200", ""},
		{agent, "PUT /" + b + "?policy", "", policyOf("2012-10-17", "Allow", "s3:GetObject", `,"Condition":{"NotIpAddress":{"aws:SourceIp":"127.0.0.0/8"}}`, media), "204", ""},
		{nobody, "GET /" + b + "/media/c", "", "", "403 AccessDenied", ""},
		{agent, "DELETE /" + b + "?policy", "", "", "204", ""},
		{agent, "GET /" + b + "?policy", "", "", "404 NoSuchBucketPolicy", ""},
	})
	s.ForbidPublicUse() // the account's own block, which is not the bucket's
	answers(t, s, []ask{
		{agent, "PUT /" + b + "?policy", "", public, "403 AccessDenied", "BlockPublicPolicy"},
		{agent, "GET /" + b + "?publicAccessBlock", "", "", "404 NoSuchPublicAccessBlockConfiguration", ""},
	})
}

// awsACLs: User Guide, "Controlling ownership of objects and disabling ACLs for your bucket".
func awsACLs(t *testing.T) {
	s, b := store(t, lab.AWS)
	agent, app := keys(s)
	answers(t, s, []ask{
		{agent, "GET /" + b + "?ownershipControls", "", "", "200", "BucketOwnerEnforced"}, // since April 2023
		{app, "PUT /" + b + "/a", "X-Amz-Acl: public-read", "x", "400 AccessControlListNotSupported", "The bucket does not allow ACLs"},
		{app, "PUT /" + b + "/a", "X-Amz-Acl: private", "x", "400 AccessControlListNotSupported", ""},
		{app, "PUT /" + b + "/a", "X-Amz-Acl: bucket-owner-full-control", "x", "200", ""},
		{app, "PUT /" + b + "/a", "", "x", "200", ""},
		{agent, "PUT /" + b + "/a?acl", "X-Amz-Acl: public-read", "", "400 AccessControlListNotSupported", ""},
		{agent, "PUT /" + b + "?acl", "X-Amz-Acl: public-read", "", "400 AccessControlListNotSupported", ""},
		{agent, "GET /" + b + "?acl", "", "", "200", "FULL_CONTROL"},
		{agent, "GET /" + b + "/a?acl", "", "", "200", "FULL_CONTROL"},
		{agent, "PUT /" + b + "?ownershipControls", "", "<OwnershipControls/>", "400 MalformedXML", ""},
		{agent, "PUT /" + b + "?ownershipControls", "", writersOwn, "200", ""},
		{agent, "GET /" + b + "?ownershipControls", "", "", "200", "ObjectWriter"},
		{app, "PUT /" + b + "/a", "X-Amz-Acl: public-read", "x", "403 AccessDenied", ""}, // BlockPublicAcls
		{agent, "PUT /" + b + "?acl", "X-Amz-Acl: public-read", "", "403 AccessDenied", ""},
		{agent, "PUT /" + b + "?publicAccessBlock", "", noBlock, "200", ""},
		{app, "PUT /" + b + "/a", "X-Amz-Acl: public-read", "x", "200", ""},
		{nobody, "GET /" + b + "/a", "", "", "200", ""},
		{agent, "GET /" + b + "/a?acl", "", "", "200", everybody},
		{agent, "PUT /" + b + "?publicAccessBlock", "", ignored, "200", ""},
		{nobody, "GET /" + b + "/a", "", "", "403 AccessDenied", ""}, // IgnorePublicAcls
		{agent, "PUT /" + b + "?publicAccessBlock", "", noBlock, "200", ""},
		{nobody, "GET /" + b, "", "", "403 AccessDenied", ""},
		{agent, "PUT /" + b + "?acl", "X-Amz-Acl: public-read", "", "200", ""},
		{nobody, "GET /" + b, "", "", "200", "<Key>a</Key>"}, // READ on a bucket lists it
		{agent, "PUT /" + b + "?ownershipControls", "", enforced, "400 InvalidBucketAclWithObjectOwnership", ""},
		{agent, "PUT /" + b + "?acl", "X-Amz-Acl: private", "", "200", ""},
		{agent, "PUT /" + b + "?ownershipControls", "", enforced, "200", ""},
		{nobody, "GET /" + b + "/a", "", "", "403 AccessDenied", ""}, // ACLs count no more
		{agent, "DELETE /" + b + "?ownershipControls", "", "", "204", ""},
		{agent, "GET /" + b + "?ownershipControls", "", "", "404 OwnershipControlsNotFoundError", ""},
	})
}

// awsBuckets: CreateBucket, HeadBucket; User Guide, "Virtual hosting of buckets"; vdavid/cmdr, "S3 live verification".
func awsBuckets(t *testing.T) {
	s, b := store(t, lab.AWS)
	agent, _ := keys(s)
	here := `<CreateBucketConfiguration><LocationConstraint>` + s.Region + `</LocationConstraint></CreateBucketConfiguration>`
	there := `<CreateBucketConfiguration><LocationConstraint>us-west-2</LocationConstraint></CreateBucketConfiguration>`
	astray := agent
	astray.region = "us-east-1"
	other, others := store(t, lab.AWS)
	otherAgent, _ := keys(other)
	answers(t, s, []ask{
		{agent, "PUT /" + b + "-2", "", "", "400 IllegalLocationConstraintException", "unspecified"},
		{agent, "PUT /" + b + "-2", "", there, "400 IllegalLocationConstraintException", "us-west-2"},
		{agent, "PUT /" + b + "-2", "X-Amz-Acl: public-read", here, "400 InvalidBucketAclWithObjectOwnership", ""},
		{agent, "PUT /" + b + "-2", "", here, "200", ""},
		{agent, "PUT /" + b + "-2", "", here, "409 BucketAlreadyOwnedByYou", ""},
		{agent, "PUT /" + others, "", here, "409 BucketAlreadyExists", ""},
		{agent, "GET /" + b + "-2?location", "", "", "200", s.Region},
		{agent, "GET /" + b + "-2?ownershipControls", "", "", "200", "BucketOwnerEnforced"},
		{agent, "GET /", "", "", "200", "<BucketRegion>" + s.Region},
		{agent, "GET /" + others, "", "", "403 AccessDenied", ""},
		{agent, "HEAD /" + others, "", "", "403", ""},
		{agent, "HEAD /nobodys-bucket", "", "", "404", ""},
		{agent, "GET /nobodys-bucket", "", "", "404 NoSuchBucket", ""},
		{astray, "GET /" + b, "", "", "400 AuthorizationHeaderMalformed", "<Region>" + s.Region + "</Region>"},
		{agent, "DELETE /" + b + "-2", "", "", "204", ""},
		{agent, "GET /" + b + "-2", "", "", "404 NoSuchBucket", ""},
	})
	if _, header, _ := plain(t, s, ask{by: agent, request: "HEAD /" + b}); header.Get("X-Amz-Bucket-Region") != s.Region {
		t.Errorf("the headers of a HEAD: %v", header)
	}
	answers(t, other, []ask{{otherAgent, "GET /" + others, "", "", "200", ""}})
	s.MoveBucket(b, "us-west-2")
	answers(t, s, []ask{
		{agent, "GET /" + b, "", "", "301 PermanentRedirect", b + ".s3.us-west-2.amazonaws.com"},
		{agent, "HEAD /" + b, "", "", "301", ""},
	})
	if _, header, _ := plain(t, s, ask{by: agent, request: "HEAD /" + b}); header.Get("X-Amz-Bucket-Region") != "us-west-2" {
		t.Errorf("the headers of a HEAD of a bucket elsewhere: %v", header)
	}
}

// testScaleway: Scaleway docs, "Bucket policies overview", "How to manage object visibility", "Amazon S3 and IAM permissions
// equivalence"; gkrost/scaleway-ops-mcp-server issue 2 (what a policy is refused for, seen 2026-08-18).
func testScaleway(t *testing.T) {
	s, b := store(t, lab.Scaleway)
	agent, app := keys(s)
	public := policyOf("2023-04-17", "Allow", "s3:GetObject", "", b+"/media/*")
	part := "/" + b + "/big?uploadId=none&partNumber="
	answers(t, s, []ask{
		{app, "PUT /" + b + "/media/a", "X-Amz-Acl: public-read", "x", "200", ""},
		{app, "PUT /" + b + "/media/b", "", "x", "200", ""},
		{nobody, "GET /" + b + "/media/a", "", "", "200", ""},
		{nobody, "GET /" + b + "/media/b", "", "", "403 AccessDenied", "Access Denied"},
		{nobody, "GET /" + b, "", "", "403 AccessDenied", ""},
		{nobody, "PUT /" + b + "/media/a", "", "x", "403 AccessDenied", ""},
		{agent, "GET /" + b + "/media/a?acl", "", "", "200", everybody},
		{agent, "PUT /" + b + "?acl", "X-Amz-Acl: public-read", "", "200", ""},
		{agent, "GET /" + b + "?acl", "", "", "200", everybody},
		{nobody, "GET /" + b, "", "", "200", "<Key>media/b</Key>"},
		{nobody, "GET /" + b + "/media/b", "", "", "403 AccessDenied", ""}, // "all objects are private by default, even in a public bucket"
		{agent, "PUT /" + b + "?acl", "X-Amz-Acl: private", "", "200", ""},
		{app, "PUT /" + b + "/media/b?acl", "X-Amz-Acl: public-read", "", "200", ""},
		{nobody, "GET /" + b + "/media/b", "", "", "200", ""},
		{app, "PUT /" + b + "/media/b", "", "x", "200", ""}, // overwritten, it is private again
		{nobody, "GET /" + b + "/media/b", "", "", "403 AccessDenied", ""},
		{app, "PUT /" + b + "/media/b", "If-None-Match: *", "x", "412 PreconditionFailed", ""}, // "Using conditional writes", 2026-07
		{app, "PUT /" + b + "/media/b", "X-Amz-Checksum-Crc32: jNwWgw==", "x", "200", ""},      // "Supported checksums"
		{app, "PUT " + part + "1001", "", "x", "400 InvalidArgument", "1000"},                  // FAQ: 1000 parts
		{app, "PUT " + part + "1000", "", "x", "404 NoSuchUpload", ""},
		{agent, "PUT /" + b + "?policy", "", policyOf("2012-10-17", "Allow", "s3:GetObject", "", "arn:aws:s3:::"+b+"/*"), "400 MalformedPolicy", "Policy has invalid resource"},
		{agent, "PUT /" + b + "?policy", "", strings.Replace(policyOf("2012-10-17", "Allow", "s3:*", "", b), `"*"`, `{"SCW":"`+s.Principal(app.key)+`"}`, 1),
			"400 MalformedPolicy", "application_id Principal is supported in the bucket-policy versions 2023-04-17"},
		{agent, "GET /" + b + "?policy", "", "", "404 NoSuchBucketPolicy", ""},
		{agent, "PUT /" + b + "?policy", "", public, "204", ""},
		{agent, "GET /" + b + "?policyStatus", "", "", "403 AccessDenied", ""},
		{nobody, "GET /" + b + "/media/b", "", "", "200", ""},
		{app, "GET /" + b + "/media/b", "", "", "200", ""},
		{app, "PUT /" + b + "/media/c", "", "x", "403 AccessDenied", ""}, // "You will lose access to your bucket"
		{agent, "PUT /" + b + "/media/c", "", "x", "403 AccessDenied", ""},
		{agent, "GET /" + b, "", "", "403 AccessDenied", ""},
		{agent, "GET /" + b + "?acl", "", "", "403 AccessDenied", ""},
		{made(s.NewKey("ObjectStorageFullAccess")), "PUT /" + b + "?policy", "", public, "403 AccessDenied", ""},
		{agent, "PUT /" + b + "?policy", "", strings.Replace(policyOf("2023-04-17", "Allow", "s3:*", "", b, b+"/*"), `"*"`, `{"SCW":"`+s.Principal(app.key)+`"}`, 1), "204", ""},
		{app, "PUT /" + b + "/media/c", "", "x", "200", ""},
		{nobody, "GET /" + b + "/media/a", "", "", "403 AccessDenied", ""}, // its ACL counts no more
		{app, "GET /" + b, "", "", "403 AccessDenied", ""},                 // IAM has to allow it too
		{agent, "DELETE /" + b + "?policy", "", "", "204", ""},             // "The owner of the Organization always has the right"
		{agent, "GET /" + b, "", "", "200", ""},
		{nobody, "GET /" + b + "/media/a", "", "", "200", ""},
		{agent, "DELETE /" + b + "/media/a", "", "", "204", ""},
		{nobody, "GET /" + b + "/media/a", "", "", "403 AccessDenied", ""}, // and its ACL with it
		{agent, "PUT /" + b + "/media/a", "", "x", "200", ""},
		{nobody, "GET /" + b + "/media/a", "", "", "403 AccessDenied", ""},
		{signer{agent.key, agent.secret, "nl-ams"}, "GET /" + b, "", "", "400 AuthorizationHeaderMalformed", ""},
	})
	answers(t, s, settings(b, agent, app))
	s.Put(b, "behind", []byte("x"), http.Header{"X-Amz-Acl": {"public-read"}})
	answers(t, s, []ask{{nobody, "GET /" + b + "/behind", "", "", "200", ""}})
}

// testWasabi: Wasabi docs, "Policies in Wasabi Hot Cloud Storage", "Defining a Bucket Policy for Public Access"; Mastodon
// docs, "Configuring object storage" (ACLs come before policies, and list).
func testWasabi(t *testing.T) {
	s, b := store(t, lab.Wasabi)
	agent, app := keys(s)
	media := "arn:aws:s3:::" + b + "/media/*"
	answers(t, s, []ask{
		{app, "PUT /" + b + "/media/a", "", "x", "200", ""},
		{app, "PUT /" + b + "/media/a", "If-None-Match: *", "y", "200", ""}, // vdavid/cmdr, "S3 live verification": ignored
		{app, "GET /" + b + "/media/a", "", "", "200", "y"},
		{app, "PUT /" + b + "/media/b", "X-Amz-Checksum-Crc32: jNwWgw==", "x", "200", ""},
		{app, "PUT /" + b + "/media/b", "X-Amz-Checksum-Crc64nvme: AAAAAAAAAAA=", "x", "400 InvalidRequest", "The algorithm type"}, // "How do I use AWS CLI with Wasabi?"
		{nobody, "GET /" + b + "/media/a", "", "", "403 AccessDenied", ""},
		{agent, "PUT /" + b + "?policy", "", policyOf("2012-10-17", "Allow", "s3:GetObject", "", media), "204", ""},
		{nobody, "GET /" + b + "/media/a", "", "", "200", ""},
		{nobody, "GET /" + b, "", "", "403 AccessDenied", ""},
		{agent, "PUT /" + b + "?policy", "", policyOf("2012-10-17", "Deny", "s3:ListBucket", "", "arn:aws:s3:::"+b), "204", ""},
		{agent, "GET /" + b, "", "", "403 AccessDenied", ""},
		{agent, "PUT /" + b + "?acl", "X-Amz-Acl: public-read", "", "200", ""},
		{nobody, "GET /" + b, "", "", "200", "<Key>media/a</Key>"},
		{agent, "PUT /" + b + "?acl", "", `<AccessControlPolicy><AccessControlList/></AccessControlPolicy>`, "200", ""},
		{nobody, "GET /" + b, "", "", "403 AccessDenied", ""},
		{agent, "DELETE /" + b + "?policy", "", "", "204", ""},
		{app, "PUT /" + b + "/media/b?acl", "X-Amz-Acl: public-read", "", "200", ""},
		{nobody, "GET /" + b + "/media/b", "", "", "200", ""},
		{signer{agent.key, agent.secret, "us-east-1"}, "GET /" + b, "", "", "400 AuthorizationHeaderMalformed", "<Region>" + s.Region},
	})
	answers(t, s, settings(b, agent, app))
	s.ForbidPublicUse()
	answers(t, s, []ask{
		{nobody, "GET /" + b + "/media/b", "", "", "403 AccessDenied", "Public use of objects is not allowed by this account."},
		{app, "GET /" + b + "/media/b", "", "", "200", ""},
	})
	s.MoveBucket(b, "us-east-1")
	answers(t, s, []ask{{agent, "GET /" + b, "", "", "301 PermanentRedirect", b + ".s3.us-east-1.wasabisys.com"}})
}

// TestLimitedKeys: what a key may do that was made with some rights, named as its provider does, and how it is refused.
func TestLimitedKeys(t *testing.T) {
	type limited struct {
		rights        []string
		request, body string
		want, holds   string
	}
	type table struct {
		p     lab.Personality
		cases []limited
	}
	const denied = "403 AccessDenied"
	s3Actions := func(p lab.Personality, words string) table {
		return table{p, []limited{
			{[]string{"s3:PutObject"}, "PUT /B/new", "x", "200", ""},
			{[]string{"s3:PutObject"}, "GET /B/k", "", denied, words},
			{[]string{"s3:*"}, "GET /B/k", "", "200", ""},
			{[]string{"s3:Get*"}, "GET /B/k", "", "200", ""},
			{[]string{"s3:Get*"}, "DELETE /B/k", "", denied, words},
			{[]string{"s3:GetObject", "s3:DeleteObject"}, "DELETE /B/new", "", "204", ""},
			{[]string{"s3:ListBucket"}, "GET /B", "", "200", ""},
			{[]string{"s3:ListBucket"}, "HEAD /B", "", "200", ""},
			{[]string{"s3:GetObject"}, "HEAD /B", "", "403", ""},
			{[]string{"s3:ListAllMyBuckets"}, "GET /", "", "200", "<Name>B</Name>"},
			{[]string{"s3:ListBucket"}, "GET /", "", denied, words},
			{[]string{"s3:GetBucketPolicy"}, "GET /B?policy", "", "404 NoSuchBucketPolicy", ""},
			{[]string{"s3:GetBucketVersioning"}, "GET /B?versioning", "", "200", ""},
			{[]string{"s3:GetLifecycleConfiguration"}, "GET /B?lifecycle", "", "404 NoSuchLifecycleConfiguration", ""},
			{[]string{"s3:GetObject"}, "GET /B?lifecycle", "", denied, ""},
			{nil, "GET /B/k", "", denied, words},
		}}
	}
	tables := []table{
		s3Actions(lab.MinIO, ""), s3Actions(lab.AWS, "is not authorized to perform: s3:"), s3Actions(lab.Wasabi, "Access Denied"),
		// Backblaze docs, "S3-Compatible App Keys"; "not entitled": many a user's log, such as that of pgbackrest and litestream.
		{lab.B2, []limited{
			{[]string{"writeFiles"}, "PUT /B/new", "x", "200", ""},
			{[]string{"readFiles"}, "PUT /B/new", "x", denied, "not entitled"},
			{[]string{"readFiles"}, "GET /B/k", "", "200", ""},
			{[]string{"readFiles"}, "GET /B/none", "", denied, "Cannot access bucket"}, // kopia/kopia issue 5329
			{[]string{"readFiles", "listBuckets"}, "GET /B/none", "", "404 NoSuchKey", ""},
			{[]string{"readFiles"}, "GET /B", "", denied, "not entitled"},
			{[]string{"listFiles"}, "GET /B", "", "200", ""},
			{[]string{"writeFiles"}, "DELETE /B/new", "", "204", ""}, // hides
			{[]string{"deleteFiles"}, "DELETE /B/k", "", denied, "not entitled"},
			{[]string{"writeFiles"}, "DELETE /B/k?versionId=1", "", denied, "not entitled"},
			{[]string{"listBuckets"}, "GET /", "", "200", "<Name>B</Name>"},
			{[]string{"listBuckets"}, "HEAD /B", "", "200", ""},
			{[]string{"listFiles"}, "HEAD /B", "", "403", ""},
			{[]string{"readBuckets"}, "GET /B?acl", "", "200", "FULL_CONTROL"},
			{[]string{"readFiles"}, "GET /B?acl", "", denied, "not entitled"},
			{[]string{"readBuckets"}, "GET /B?lifecycle", "", "404 NoSuchLifecycleConfiguration", ""},
			{[]string{"readBuckets"}, "PUT /B?lifecycle", expireRule, denied, "not entitled"},
			{[]string{"writeBuckets"}, "PUT /B?lifecycle", expireRule, "200", ""},
		}},
		// Scaleway docs, "Amazon S3 and IAM permissions equivalence".
		{lab.Scaleway, []limited{
			{[]string{"ObjectStorageObjectsWrite"}, "PUT /B/new", "x", "200", ""},
			{[]string{"ObjectStorageObjectsWrite"}, "GET /B/k", "", denied, ""},
			{[]string{"ObjectStorageObjectsRead"}, "GET /B/k", "", "200", ""},
			{[]string{"ObjectStorageObjectsRead"}, "GET /B", "", "200", ""},
			{[]string{"ObjectStorageObjectsRead"}, "HEAD /B", "", "403", ""},
			{[]string{"ObjectStorageObjectsRead"}, "GET /", "", denied, ""},
			{[]string{"ObjectStorageObjectsDelete"}, "DELETE /B/new", "", "204", ""},
			{[]string{"ObjectStorageObjectsWrite"}, "DELETE /B/k", "", denied, ""},
			{[]string{"ObjectStorageBucketsRead"}, "GET /", "", "200", "<Name>B</Name>"},
			{[]string{"ObjectStorageBucketsRead"}, "HEAD /B", "", "200", ""},
			{[]string{"ObjectStorageBucketsRead"}, "GET /B", "", denied, ""},
			{[]string{"ObjectStorageBucketsRead"}, "GET /B?acl", "", "200", ""},
			{[]string{"ObjectStorageBucketsRead"}, "PUT /B?lifecycle", abortRule, denied, ""},
			{[]string{"ObjectStorageBucketsWrite"}, "PUT /B?lifecycle", abortRule, "200", ""},
			{[]string{"ObjectStorageBucketsWrite"}, "GET /B?policy", "", denied, ""},
			{[]string{"ObjectStorageBucketPolicyFullAccess"}, "GET /B?policy", "", "404 NoSuchBucketPolicy", ""},
			{[]string{"ObjectStorageReadOnly"}, "GET /B/k", "", "200", ""},
			{[]string{"ObjectStorageReadOnly"}, "PUT /B/new", "x", denied, ""},
			{[]string{"ObjectStorageFullAccess"}, "PUT /B/new", "x", "200", ""},
		}},
	}
	for _, table := range tables {
		t.Run(table.p.String(), func(t *testing.T) {
			s, b := store(t, table.p)
			s.Put(b, "k", []byte("body"), nil)
			for _, l := range table.cases {
				key, secret := s.NewKey(l.rights...)
				fill := strings.NewReplacer("/B", "/"+b, ">B<", ">"+b+"<").Replace
				got, _, body := plain(t, s, ask{by: made(key, secret), request: fill(l.request), body: l.body})
				if got != l.want || !strings.Contains(body, fill(l.holds)) {
					t.Errorf("%q does %s: got %q, want %q with %q in\n%s", l.rights, l.request, got, l.want, l.holds, body)
				}
			}
		})
	}
}

// TestKeysOfOneBucketAndOfOthers: a key for one bucket, a revoked one, and one of another customer.
func TestKeysOfOneBucketAndOfOthers(t *testing.T) {
	all := map[lab.Personality][]string{
		lab.MinIO: {"s3:*"}, lab.AWS: {"s3:*"}, lab.Wasabi: {"s3:*"}, lab.IDrive: {"s3:*"}, lab.Scaleway: {"ObjectStorageFullAccess"},
		lab.B2: {"listBuckets", "readBuckets", "writeBuckets", "listFiles", "readFiles", "writeFiles", "deleteFiles"},
	}
	test := func(t *testing.T, p lab.Personality) {
		s, b := store(t, p)
		agent, app := keys(s)
		second := `<CreateBucketConfiguration><LocationConstraint>` + s.Region + `</LocationConstraint></CreateBucketConfiguration>`
		if p == lab.MinIO || p == lab.B2 {
			second = ""
		}
		key, secret := s.NewBucketKey(b, all[p]...)
		one, foreign := made(key, secret), made(s.ForeignKey())
		answers(t, s, []ask{
			{agent, "PUT /" + b + "-2", "", second, "200", ""},
			{one, "PUT /" + b + "/k", "", "x", "200", ""},
			{one, "GET /" + b, "", "", "200", ""},
			{one, "HEAD /" + b, "", "", "200", ""},
			{one, "GET /", "", "", "403 AccessDenied", ""},
			{one, "GET /" + b + "-2", "", "", "403 AccessDenied", ""},
			{one, "PUT /" + b + "-2/k", "", "x", "403 AccessDenied", ""},
			{foreign, "GET /" + b + "/k", "", "", "403 AccessDenied", ""},
			{foreign, "HEAD /" + b, "", "", "403", ""},
			{foreign, "PUT /" + b + "/k", "", "x", "403 AccessDenied", ""},
			{foreign, "DELETE /" + b, "", "", "403 AccessDenied", ""},
		})
		if p == lab.B2 { // "writeBuckets ... is not allowed for app keys that are restricted to a bucket"
			answers(t, s, []ask{
				{one, "PUT /" + b + "?acl", "X-Amz-Acl: public-read", "", "403 AccessDenied", "not entitled"},
				{made(s.NewBucketKey(b, "listAllBucketNames")), "GET /", "", "", "200", b + "-2"},
			})
		}
		s.RevokeKey(key)
		s.RevokeKey(app.key)
		answers(t, s, []ask{
			{one, "GET /" + b + "/k", "", "", "403 InvalidAccessKeyId", ""},
			{app, "GET /" + b + "/k", "", "", "403 InvalidAccessKeyId", ""},
			{made(s.NewKey(all[p]...)), "GET /" + b + "/k", "", "", "200", ""},
			{agent, "GET /" + b + "/k", "", "", "200", ""},
		})
	}
	for p := range all {
		t.Run(p.String(), func(t *testing.T) { test(t, p) })
	}
}

// TestBucketsInHostNames: a bucket is the first label of the host, for which the certificate holds, unless it has a dot in it
// (Scaleway docs, "Object Storage FAQ"; Amazon S3 User Guide, "Virtual hosting of buckets").
func TestBucketsInHostNames(t *testing.T) {
	for _, p := range []lab.Personality{lab.AWS, lab.Scaleway, lab.Wasabi} {
		t.Run(p.String(), func(t *testing.T) {
			s, b := store(t, p)
			s.Put(b, "a b/ü.png", []byte("body"), nil)
			client := web(t)
			client.Transport.(*http.Transport).DialContext = func(ctx context.Context, network, _ string) (net.Conn, error) {
				return new(net.Dialer).DialContext(ctx, network, strings.TrimPrefix(s.Endpoint, "https://"))
			}
			get := func(host string) (string, error) {
				r, err := http.NewRequestWithContext(t.Context(), http.MethodGet, "https://"+host+"/a%20b/%C3%BC.png", nil)
				if err != nil {
					t.Fatal(err)
				}
				agent, _ := keys(s)
				sign(t, r, agent, s.Region, "")
				resp, err := client.Do(r)
				if err != nil {
					return "", err
				}
				defer func() { _ = resp.Body.Close() }()
				body, err := io.ReadAll(resp.Body)
				return string(body), err
			}
			if got, err := get(b + "." + s.Name); err != nil || got != "body" {
				t.Errorf("a bucket in the host: %q, %v", got, err)
			}
			if _, err := get("files." + b + "." + s.Name); err == nil || !strings.Contains(err.Error(), "x509") {
				t.Errorf("a bucket with a dot in the host: %v", err)
			}
		})
	}
}

// TestCORSIsActedOn: a browser's question is answered as the bucket's rules say, and so is what it then gets.
func TestCORSIsActedOn(t *testing.T) {
	for _, p := range []lab.Personality{lab.B2, lab.AWS, lab.Scaleway, lab.Wasabi} {
		t.Run(p.String(), func(t *testing.T) {
			s, b := store(t, p)
			agent, _ := keys(s)
			s.Put(b, "k", []byte("body"), nil)
			answers(t, s, []ask{{agent, "PUT /" + b + "?cors", "", corsRule, "200", ""}})
			for origin, want := range map[string]string{"https://social.example": "https://social.example", "https://else.example": ""} {
				r, err := http.NewRequestWithContext(t.Context(), http.MethodOptions, s.Endpoint+"/"+b+"/k", nil)
				if err != nil {
					t.Fatal(err)
				}
				r.Header.Set("Origin", origin)
				r.Header.Set("Access-Control-Request-Method", "GET")
				resp, err := web(t).Do(r)
				if err != nil {
					t.Fatal(err)
				}
				_ = resp.Body.Close()
				_, header, _ := plain(t, s, ask{by: agent, request: "GET /" + b + "/k", header: "Origin: " + origin})
				if asked, got := resp.Header.Get("Access-Control-Allow-Origin"), header.Get("Access-Control-Allow-Origin"); asked != want || got != want {
					t.Errorf("from %s: a preflight allows %q and a GET %q, want %q", origin, asked, got, want)
				}
			}
		})
	}
}

// TestUploadsKeepTheirACL: a multipart upload and a copy have the ACL that they were begun with.
func TestUploadsKeepTheirACL(t *testing.T) {
	s, b := store(t, lab.Scaleway)
	agent, _ := keys(s)
	_, _, begun := plain(t, s, ask{by: agent, request: "POST /" + b + "/big?uploads", header: "X-Amz-Acl: public-read"})
	var upload struct{ UploadId string } //nolint:revive // the element's name
	if err := xml.Unmarshal([]byte(begun), &upload); err != nil || upload.UploadId == "" {
		t.Fatalf("no upload: %s, %v", begun, err)
	}
	_, header, _ := plain(t, s, ask{by: agent, request: "PUT /" + b + "/big?partNumber=1&uploadId=" + upload.UploadId, body: "body"})
	done := "<CompleteMultipartUpload><Part><PartNumber>1</PartNumber><ETag>" + header.Get("ETag") + "</ETag></Part></CompleteMultipartUpload>"
	answers(t, s, []ask{
		{agent, "POST /" + b + "/big?uploadId=" + upload.UploadId, "", done, "200", ""},
		{nobody, "GET /" + b + "/big", "", "", "200", "body"},
		{agent, "PUT /" + b + "/copy", "X-Amz-Copy-Source: /" + b + "/big", "", "200", ""},
		{nobody, "GET /" + b + "/copy", "", "", "403 AccessDenied", ""},
	})
}

// TestSDKDefaultChecksums: an upload with the trailing checksum that the SDK sends by default is taken where it is known to be.
func TestSDKDefaultChecksums(t *testing.T) {
	modern := func(o *s3.Options) { o.RequestChecksumCalculation = aws.RequestChecksumCalculationWhenSupported }
	for _, p := range []lab.Personality{lab.MinIO, lab.AWS, lab.Scaleway, lab.Wasabi} {
		t.Run(p.String(), func(t *testing.T) {
			s, b := store(t, p)
			_, err := client(t, s, s.AgentKey, s.AgentSecret, modern).PutObject(t.Context(), &s3.PutObjectInput{Bucket: &b, Key: ptr("k"), Body: strings.NewReader("body")})
			if body, _, _ := s.Object(b, "k"); err != nil || string(body) != "body" {
				t.Errorf("stored %q, %v", body, err)
			}
		})
	}
}

// TestKeyShapes: keys look as their providers make them.
func TestKeyShapes(t *testing.T) {
	shapes := map[lab.Personality]struct {
		prefix      string
		key, secret int
	}{lab.AWS: {"AKIA", 20, 40}, lab.Scaleway: {"SCW", 20, 36}, lab.Wasabi: {"", 20, 40}, lab.B2: {"001", 25, 31}, lab.MinIO: {"", 20, 40}}
	for p, want := range shapes {
		s, _ := store(t, p)
		key, secret := s.NewKey()
		for _, k := range [][2]string{{s.AgentKey, s.AgentSecret}, {s.AppKey, s.AppSecret}, {key, secret}} {
			if !strings.HasPrefix(k[0], want.prefix) || len(k[0]) != want.key || len(k[1]) != want.secret {
				t.Errorf("%s: a key %q with a secret of %d characters", p, k[0], len(k[1]))
			}
		}
		if all := []string{s.AgentKey, s.AppKey, key}; len(slices.Compact(slices.Sorted(slices.Values(all)))) != 3 {
			t.Errorf("%s: the same key twice: %q", p, all)
		}
	}
}
