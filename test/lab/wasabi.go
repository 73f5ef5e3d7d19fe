package lab

import (
	"net/http"
	"strings"
)

// wasabiRegion is the region that the Wasabi stores pretend to be in.
const wasabiRegion = "eu-central-2"

// wasabiRules are the manners of Wasabi (facts of 2026-11), from its documents ("Policies in Wasabi Hot Cloud Storage") and
// from the Mastodon documents ("Configuring object storage": an ACL for everyone lists the bucket and comes before a policy).
// Assumed are the form of its keys, that any region may be named for a new bucket, that it has no public access block and no
// ownership controls, and that who may not list is told of a missing object. Versions are not simulated.
type wasabiRules struct{}

func (wasabiRules) region() string { return wasabiRegion }

func (wasabiRules) domains() []string {
	return []string{"s3." + wasabiRegion + ".wasabisys.test", "s3." + wasabiRegion + ".wasabisys.com"}
}

func (wasabiRules) newKeys() (agent, app account) {
	key := func() account {
		return account{key: randomFrom("ABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789", 20), secret: randomText(40)}
	}
	return key(), key()
}

func (wasabiRules) refuse(_ *http.Request, sig *signature) *apiError {
	if sig != nil && sig.region != wasabiRegion {
		return errWrongRegion(wasabiRegion, sig.region)
	}
	return nil
}

// serve overwrites an object whatever If-None-Match says, as the real one was seen to do (vdavid/cmdr, "S3 live
// verification", 2026-10-02), and refuses CRC64NVME ("How do I use AWS CLI with Wasabi?", 2026-09-23; the code is AWS's for a
// wrong checksum header).
func (j wasabiRules) serve(s *S3, c *call, w http.ResponseWriter, r *http.Request) bool {
	if r.Header.Get("X-Amz-Checksum-Crc64nvme") != "" || strings.EqualFold(r.Header.Get("X-Amz-Trailer"), "x-amz-checksum-crc64nvme") {
		(&apiError{400, "InvalidRequest", "The algorithm type you specified in x-amz-checksum- header is invalid."}).write(w, r)
		return true
	}
	if c.storesObject() || c.operation == "CompleteMultipartUpload" {
		r.Header.Del("If-None-Match")
		r.Header.Del("If-Match")
	}
	return s.elsewhere(c, w, r, ".wasabisys.com") || s.judged(j, c, w, r)
}

// errNoPublicUse is what everybody without a key is answered where the account may not have public objects ("Defining a
// Bucket Policy for Public Access": accounts since 13 March 2023 and trials; the words: HBLL-Collection-Development/
// omeka-s-any-cloud issue 50).
var errNoPublicUse = &apiError{403, "AccessDenied", "Public use of objects is not allowed by this account. Please contact Wasabi Support at support@wasabi.com for assistance."}

func (wasabiRules) answered(c *call, resp *http.Response) error { return c.finish(resp) }

func (wasabiRules) arn() string { return "arn:aws:s3:::" }

// allow lets an ACL come before a policy: what it gives to everybody, no policy takes away.
func (wasabiRules) allow(s *S3, b *bucket, c *call, on subject, resource string) *apiError {
	said := b.policy().decide(on)
	switch {
	case c.anonymous && s.publicUseForbidden():
		return errNoPublicUse
	case s.aclAllows(b, on.action, resource):
		return nil
	case said == denies:
	case said == allows, s.awsMay(c, on.action, resource):
		return nil
	}
	return errAccessDenied
}

func (wasabiRules) refuseACL(*S3, *bucket, *call, string) *apiError { return nil }

func (j wasabiRules) setting(s *S3, _ *bucket, c *call, w http.ResponseWriter, r *http.Request) bool {
	switch c.operation {
	case "CreateBucket":
		acl := r.Header.Get("X-Amz-Acl")
		if acl == "" {
			acl = "private"
		}
		s.createBucket(c, w, r, func(b *bucket) { b.ACL = acl })
	case "GetBucketPolicy", "PutBucketPolicy", "DeleteBucketPolicy", "GetBucketPolicyStatus":
		s.policySetting(j, c, w, r, []string{"2012-10-17", "2008-10-17"}, func(*bucketPolicy) *apiError { return nil })
	case "GetBucketLifecycleConfiguration", "PutBucketLifecycleConfiguration", "DeleteBucketLifecycleConfiguration":
		s.keep(lifecycle(nil), c, w, r)
	case "GetBucketVersioning", "PutBucketVersioning":
		s.keep(versioning, c, w, r)
	case "GetBucketAcl", "PutBucketAcl", "GetObjectAcl", "PutObjectAcl":
		s.aclSetting(c, w, r, accountID)
	case "GetBucketLocation":
		location(w, r, wasabiRegion)
	case "GetPublicAccessBlock", "PutPublicAccessBlock", "DeletePublicAccessBlock",
		"GetBucketOwnershipControls", "PutBucketOwnershipControls", "DeleteBucketOwnershipControls":
		errNotImplemented.write(w, r)
	default:
		return false
	}
	return true
}
