package lab

import (
	"bytes"
	"encoding/xml"
	"fmt"
	"net/http"
	"slices"
	"strings"
)

// b2Region is the region that the B2 stores pretend to be in.
const b2Region = "us-west-001"

// b2Rules are the manners of Backblaze B2, from the "S3-Compatible API" pages of its documents and from what its users meet
// (owncast issue 1183, AzuraCast issue 7821, mastodon/mastodon issue 33624). That bucket policies are answered with 501 is
// an assumption, and so is that versioning cannot be suspended. Object versions, which the real one always keeps, are not
// simulated: a listing of them shows the current ones.
type b2Rules struct{}

func (b2Rules) region() string { return b2Region }

func (b2Rules) domains() []string {
	return []string{"s3." + b2Region + ".backblazeb2.test", "s3." + b2Region + ".backblazeb2.com"}
}

// newKeys makes application keys: the cluster (3 digits), the account (12 hex digits), a number that is not 0 (10 digits).
func (b2Rules) newKeys() (agent, app account) {
	owner := randomFrom(hexDigits, 12)
	key := func(n int) account {
		return account{key: fmt.Sprintf("001%s%010d", owner, n), secret: "K001" + randomText(27)}
	}
	return key(1), key(2)
}

// refuse knows master keys by their form, which do not work here, and the checksum headers of newer SDKs.
func (b2Rules) refuse(r *http.Request, sig *signature) *apiError {
	if sig != nil && masterKey(sig.key) {
		return &apiError{403, "InvalidAccessKeyId", "Malformed Access Key Id"}
	}
	if sig != nil && sig.region != b2Region {
		return errWrongRegion(b2Region, sig.region)
	}
	var refused []string
	for name := range r.Header {
		name = strings.ToLower(name)
		if strings.HasPrefix(name, "x-amz-checksum-") || name == "x-amz-sdk-checksum-algorithm" || name == "x-amz-trailer" {
			refused = append(refused, name)
		}
	}
	if len(refused) > 0 {
		return &apiError{400, "InvalidArgument", fmt.Sprintf("Unsupported header '%s' received for this API call.", slices.Min(refused))}
	}
	return nil
}

// b2OneRule refuses a second rule for the same objects ("Lifecycle Rules": no two may overlap).
func b2OneRule(body []byte) *apiError {
	if bytes.Count(body, []byte("<Rule>")) > 1 && bytes.Count(body, []byte("<Prefix></Prefix>")) > 1 {
		return &apiError{400, "InvalidRequest", "Two or more lifecycle rules apply to the same objects"}
	}
	return nil
}

// masterKey reports whether a key is the account itself: 12 hex digits, or 25 characters with the number 0.
func masterKey(key string) bool {
	return len(key) == 12 && strings.Trim(key, hexDigits) == "" || len(key) == 25 && strings.HasSuffix(key, "0000000000")
}

func (b2Rules) serve(s *S3, c *call, w http.ResponseWriter, r *http.Request) bool {
	if c.anonymous && c.operation != "Preflight" {
		return !s.b2Public(c, w, r)
	}
	if c.limits != nil && s.b2Limited(c, w, r) {
		return true
	}
	if r.Header.Get("If-None-Match") != "" && (c.storesObject() || c.operation == "CompleteMultipartUpload") {
		errNotImplemented.write(w, r) // vdavid/cmdr, "S3 live verification", 2026-10-02
		return true
	}
	if c.storesObject() {
		return s.b2RefusesACL(c, w, r)
	}
	switch c.operation {
	case "CreateBucket":
		s.b2CreateBucket(c, w, r)
	case "GetBucketAcl", "GetObjectAcl":
		s.b2GetACL(c, w, r)
	case "PutBucketAcl":
		s.b2PutBucketACL(c, w, r)
	case "PutObjectAcl":
		if !s.b2RefusesACL(c, w, r) {
			w.WriteHeader(http.StatusOK)
		}
	case "GetBucketLifecycleConfiguration", "PutBucketLifecycleConfiguration", "DeleteBucketLifecycleConfiguration",
		"GetBucketVersioning", "PutBucketVersioning":
		s.b2Keep(c, w, r)
	case "GetBucketPolicy", "PutBucketPolicy", "DeleteBucketPolicy", "GetBucketPolicyStatus",
		"GetPublicAccessBlock", "PutPublicAccessBlock", "DeletePublicAccessBlock",
		"GetBucketOwnershipControls", "PutBucketOwnershipControls", "DeleteBucketOwnershipControls":
		errNotImplemented.write(w, r)
	default:
		return false
	}
	return true
}

func (b2Rules) answered(c *call, resp *http.Response) error { return c.finish(resp) }

// b2Capabilities are those that give an operation, each enough by itself ("S3-Compatible App Keys", "Application Key
// Capabilities"; that writeBuckets sets CORS and lifecycles as it does the native settings is an assumption).
var b2Capabilities = map[string][]string{
	"ListBuckets": {"listBuckets", "listAllBucketNames"}, "HeadBucket": {"listBuckets"},
	"GetBucketAcl": {"readBuckets"}, "GetBucketLocation": {"readBuckets"}, "GetBucketVersioning": {"readBuckets"},
	"GetBucketCors": {"readBuckets"}, "GetBucketLifecycleConfiguration": {"readBuckets"},
	"CreateBucket": {"writeBuckets"}, "PutBucketAcl": {"writeBuckets"}, "PutBucketVersioning": {"writeBuckets"},
	"PutBucketCors": {"writeBuckets"}, "DeleteBucketCors": {"writeBuckets"},
	"PutBucketLifecycleConfiguration": {"writeBuckets"}, "DeleteBucketLifecycleConfiguration": {"writeBuckets"},
	"DeleteBucket":        {"deleteBuckets"},
	"GetBucketEncryption": {"readBucketEncryption"}, "PutBucketEncryption": {"writeBucketEncryption"},
	"DeleteBucketEncryption": {"writeBucketEncryption"},
	"ListObjects":            {"listFiles"}, "ListObjectsV2": {"listFiles"}, "ListObjectVersions": {"listFiles"},
	"ListMultipartUploads": {"listFiles"},
	"GetObject":            {"readFiles"}, "HeadObject": {"readFiles"}, "GetObjectAcl": {"readFiles"},
	"PutObject": {"writeFiles"}, "CopyObject": {"writeFiles"}, "PutObjectAcl": {"writeFiles"},
	"CreateMultipartUpload": {"writeFiles"}, "UploadPart": {"writeFiles"}, "CompleteMultipartUpload": {"writeFiles"},
	"AbortMultipartUpload": {"writeFiles"}, "ListParts": {"writeFiles"},
	"DeleteObject": {"writeFiles"}, "DeleteObjects": {"writeFiles"}, // which hides; deleteFiles is for a version by its id
	"GetObjectLockConfiguration": {"readBucketRetentions"}, "PutObjectLockConfiguration": {"writeBucketRetentions"},
}

// gives: a key for one bucket lists buckets only with listAllBucketNames, and changes none.
func (b2Rules) gives(right, operation string, restricted bool) bool {
	switch {
	case restricted && operation == "ListBuckets":
		return right == "listAllBucketNames"
	case restricted && (right == "writeBuckets" || right == "deleteBuckets"):
		return false
	}
	return slices.Contains(b2Capabilities[operation], right)
}

// The refusals of a key that lacks a capability, and of one that may not know which objects are missing (kopia/kopia issue
// 5329).
var (
	errNotEntitled  = &apiError{403, "AccessDenied", "not entitled"}
	errCannotAccess = &apiError{403, "AccessDenied", "Cannot access bucket"}
)

// b2Limited refuses what a key lacks the capability for.
func (s *S3) b2Limited(c *call, w http.ResponseWriter, r *http.Request) bool {
	if !c.lent || c.query.Has("versionId") && strings.HasPrefix(c.operation, "Delete") && !slices.Contains(c.limits.rights, "deleteFiles") {
		errNotEntitled.write(w, r)
		return true
	}
	if (c.operation == "GetObject" || c.operation == "HeadObject") && !slices.Contains(c.limits.rights, "listBuckets") {
		c.missing = errCannotAccess
	}
	return false
}

// b2Keep answers calls about a bucket's lifecycle, and about its versioning, which cannot be ended.
func (s *S3) b2Keep(c *call, w http.ResponseWriter, r *http.Request) {
	switch {
	case !allowed(c, action(c.operation)):
		errNotEntitled.write(w, r)
	case strings.HasSuffix(c.operation, "LifecycleConfiguration"):
		s.keep(lifecycle(b2OneRule), c, w, r)
	case r.Method == http.MethodGet:
		writeBody(w, r, http.StatusOK, []byte(xml.Header+`<VersioningConfiguration><Status>Enabled</Status></VersioningConfiguration>`))
	default:
		body, err := readDocument(r)
		if err == nil {
			body, err = versioning.check(body)
		}
		if err == nil && !strings.Contains(string(body), "Enabled") {
			err = &apiError{400, "InvalidArgument", "Versioning of a bucket cannot be suspended"}
		}
		if err != nil {
			err.write(w, r)
			return
		}
		w.WriteHeader(http.StatusOK)
	}
}

// MasterKey returns the key of the account itself, which B2 has not for this interface ("S3-Compatible App Keys"). Of other
// providers it is a key that they do not know.
func (s *S3) MasterKey() (key, secret string) {
	return s.AgentKey[:min(15, len(s.AgentKey))] + "0000000000", "K001" + randomText(27)
}

// b2Public lets anybody read objects of a public bucket, and nothing else: a listing takes a key even there
// ("S3-Compatible App Keys"). It reports whether the call may go on, then with the owner's rights.
func (s *S3) b2Public(c *call, w http.ResponseWriter, r *http.Request) bool {
	if (c.operation == "GetObject" || c.operation == "HeadObject") && s.acl(c.bucket) == "public-read" {
		c.anonymous, c.caller = false, s.gateway.root
		return true
	}
	errAccessDenied.write(w, r)
	return false
}

// b2RefusesACL answers a call whose ACL header is not the bucket's ACL, and takes the header away from the others.
func (s *S3) b2RefusesACL(c *call, w http.ResponseWriter, r *http.Request) bool {
	if acl := r.Header.Get("X-Amz-Acl"); acl != "" && acl != s.acl(c.bucket) {
		errUnsupportedACL(acl).write(w, r)
		return true
	}
	r.Header.Del("X-Amz-Acl")
	return false
}

func errUnsupportedACL(acl string) *apiError {
	return &apiError{400, "InvalidArgument", fmt.Sprintf("Unsupported value for canned acl '%s'", acl)}
}

func (s *S3) b2CreateBucket(c *call, w http.ResponseWriter, r *http.Request) {
	acl, err := b2ACL(r, "private")
	if err != nil {
		err.write(w, r)
		return
	}
	r.Header.Del("X-Amz-Acl")
	existed := s.has(c.bucket)
	s.forward(w, r, c)
	if !existed {
		s.know(c.bucket, func(b *bucket) { b.ACL = acl }) // knows nothing where the gateway refused
	}
}

func (s *S3) b2PutBucketACL(c *call, w http.ResponseWriter, r *http.Request) {
	if !allowed(c, "s3:PutBucketAcl") {
		errAccessDenied.write(w, r)
		return
	}
	acl, err := b2ACL(r, "")
	if err != nil {
		err.write(w, r)
		return
	}
	s.know(c.bucket, func(b *bucket) { b.ACL = acl })
	w.WriteHeader(http.StatusOK)
}

// b2ACL returns the ACL that the header names, which is the only way to write one ("S3 Put Bucket ACL").
func b2ACL(r *http.Request, missing string) (string, *apiError) {
	acl := r.Header.Get("X-Amz-Acl")
	if acl == "" {
		acl = missing
	}
	if acl != "private" && acl != "public-read" {
		return "", errUnsupportedACL(acl)
	}
	return acl, nil
}

func (s *S3) b2GetACL(c *call, w http.ResponseWriter, r *http.Request) {
	if !allowed(c, "s3:"+c.operation) {
		errAccessDenied.write(w, r)
		return
	}
	writeXML(w, r, http.StatusOK, ownersACL(s.AgentKey[3:15], s.acl(c.bucket) == "public-read"))
}

// aclDocument is the answer to GetBucketAcl and GetObjectAcl (Amazon S3 API reference).
type aclDocument struct {
	XMLName xml.Name   `xml:"AccessControlPolicy"`
	Owner   string     `xml:"Owner>ID"`
	Grants  []aclGrant `xml:"AccessControlList>Grant"`
}

type aclGrant struct {
	Grantee    aclGrantee
	Permission string
}

type aclGrantee struct {
	Schema string `xml:"xmlns:xsi,attr"`
	Type   string `xml:"xsi:type,attr"`
	ID     string `xml:",omitempty"`
	URI    string `xml:",omitempty"`
}

// ownersACL gives all rights to the owner, and where public is set the right to read to everybody.
func ownersACL(owner string, public bool) aclDocument {
	const schema = "http://www.w3.org/2001/XMLSchema-instance"
	doc := aclDocument{Owner: owner, Grants: []aclGrant{
		{aclGrantee{Schema: schema, Type: "CanonicalUser", ID: owner}, "FULL_CONTROL"},
	}}
	if public {
		doc.Grants = append(doc.Grants, aclGrant{
			aclGrantee{Schema: schema, Type: "Group", URI: "http://acs.amazonaws.com/groups/global/AllUsers"}, "READ",
		})
	}
	return doc
}
