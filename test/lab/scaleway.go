package lab

import (
	"net/http"
	"slices"
	"strconv"
	"strings"
)

// scalewayRegion is the region that the Scaleway stores pretend to be in.
const scalewayRegion = "fr-par"

// scalewayMaxParts is how many parts an upload may have (Scaleway docs, "Object Storage FAQ").
const scalewayMaxParts = 1000

// scalewayRules are the manners of Scaleway Object Storage (facts of 2026-11), from its documents: "Bucket policies
// overview", "How to manage the visibility of an object", "Amazon S3 and IAM permissions equivalence", "Object Storage FAQ".
// Assumed are its answer to a signature for another region, that any region may be named for a new bucket, and that it has no
// public access block and no ownership controls. Versions are not simulated.
type scalewayRules struct{}

func (scalewayRules) region() string { return scalewayRegion }

func (scalewayRules) domains() []string {
	return []string{"s3." + scalewayRegion + ".scw.test", "s3." + scalewayRegion + ".scw.cloud"}
}

// newKeys makes API keys: SCW and 17 characters, with a UUID for a secret.
func (scalewayRules) newKeys() (agent, app account) {
	key := func() account {
		h := func(n int) string { return randomFrom(hexDigits, n) }
		return account{
			key:    "SCW" + randomFrom("ABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789", 17),
			secret: strings.Join([]string{h(8), h(4), h(4), h(4), h(12)}, "-"),
		}
	}
	return key(), key()
}

func (scalewayRules) refuse(_ *http.Request, sig *signature) *apiError {
	if sig != nil && sig.region != scalewayRegion {
		return errWrongRegion(scalewayRegion, sig.region)
	}
	return nil
}

func (j scalewayRules) serve(s *S3, c *call, w http.ResponseWriter, r *http.Request) bool {
	if c.operation == "UploadPart" {
		if n, err := strconv.Atoi(c.query.Get("partNumber")); err != nil || n > scalewayMaxParts {
			(&apiError{400, "InvalidArgument", "Part number must be an integer between 1 and 1000, inclusive"}).write(w, r)
			return true
		}
	}
	return s.judged(j, c, w, r)
}

func (scalewayRules) answered(c *call, resp *http.Response) error { return c.finish(resp) }

// arn is empty: a resource of version 2023-04-17 is "my-bucket/*".
func (scalewayRules) arn() string { return "" }

// allow lets a policy decide alone where the bucket has one: whoever it does not name is out, the owner's own keys too, and
// ACLs count no more. Only setting and deleting the policy stays with the owner of the Organization ("Bucket policies overview").
func (scalewayRules) allow(s *S3, b *bucket, c *call, on subject, resource string) *apiError {
	own := s.permits(c.caller, c) && !c.anonymous
	if c.operation == "CopyObject" && on.action == "s3:GetObject" { // the source
		own = own && s.permits(c.caller, &call{operation: "GetObject", bucket: c.bucket, key: c.key})
	}
	policy := b.policy()
	switch {
	case c.bucket == "" || c.operation == "CreateBucket" || c.operation == "DeleteBucket":
		if own {
			return nil
		}
	case own && c.caller.key == s.AgentKey && slices.Contains([]string{"GetBucketPolicy", "PutBucketPolicy", "DeleteBucketPolicy"}, c.operation):
		return nil
	case policy != nil:
		if said := policy.decide(on); said == allows && (own || c.anonymous || everybodyMay(policy, on)) {
			return nil
		}
	case own, s.aclAllows(b, on.action, resource):
		return nil
	}
	return errAccessDenied
}

// scalewayOldPolicy refuses what the deprecated version of policies has not (gkrost/scaleway-ops-mcp-server issue 2, seen
// 2026-08-18). That it decides alone too is an assumption.
func scalewayOldPolicy(p *bucketPolicy) *apiError {
	for _, st := range p.Statement {
		for _, name := range st.Principal {
			if kind, _, ok := strings.Cut(name, ":"); ok && p.Version == "2012-10-17" {
				return malformedPolicy(kind + " Principal is supported in the bucket-policy versions 2023-04-17")
			}
		}
	}
	return nil
}

func everybodyMay(p *bucketPolicy, on subject) bool {
	on.names = nil
	return p.decide(on) == allows
}

func (scalewayRules) refuseACL(*S3, *bucket, *call, string) *apiError { return nil }

func (j scalewayRules) setting(s *S3, _ *bucket, c *call, w http.ResponseWriter, r *http.Request) bool {
	switch c.operation {
	case "CreateBucket":
		acl := r.Header.Get("X-Amz-Acl")
		if acl == "" {
			acl = "private"
		}
		s.createBucket(c, w, r, func(b *bucket) { b.ACL = acl })
	case "GetBucketPolicy", "PutBucketPolicy", "DeleteBucketPolicy", "GetBucketPolicyStatus":
		s.policySetting(j, c, w, r, []string{"2023-04-17", "2012-10-17"}, scalewayOldPolicy)
	case "GetBucketLifecycleConfiguration", "PutBucketLifecycleConfiguration", "DeleteBucketLifecycleConfiguration":
		s.keep(lifecycle(nil), c, w, r)
	case "GetBucketVersioning", "PutBucketVersioning":
		s.keep(versioning, c, w, r)
	case "GetBucketAcl", "PutBucketAcl", "GetObjectAcl", "PutObjectAcl":
		s.aclSetting(c, w, r, s.AgentKey)
	case "GetBucketLocation":
		location(w, r, scalewayRegion)
	case "GetPublicAccessBlock", "PutPublicAccessBlock", "DeletePublicAccessBlock",
		"GetBucketOwnershipControls", "PutBucketOwnershipControls", "DeleteBucketOwnershipControls":
		errNotImplemented.write(w, r)
	default:
		return false
	}
	return true
}

// scalewaySets are the permission sets and what they authorize ("Amazon S3 and IAM permissions equivalence").
var scalewaySets = map[string][]string{
	"ObjectStorageReadOnly": {
		"GetBucketAcl", "GetBucketCors", "GetBucketLifecycleConfiguration", "GetBucketLocation", "GetBucketPolicy", "GetBucketPolicyStatus",
		"GetBucketTagging", "GetBucketVersioning", "GetObject", "GetObjectAcl", "GetObjectTagging", "HeadBucket", "HeadObject",
		"ListBuckets", "ListMultipartUploads", "ListObjects", "ListObjectsV2", "ListObjectVersions", "ListParts",
	},
	"ObjectStorageBucketsRead": {
		"GetBucketAcl", "GetBucketCors", "GetBucketLifecycleConfiguration", "GetBucketLocation", "GetBucketTagging",
		"GetBucketVersioning", "HeadBucket", "ListBuckets",
	},
	"ObjectStorageBucketsWrite": {
		"CreateBucket", "DeleteBucketCors", "DeleteBucketLifecycleConfiguration", "DeleteBucketTagging", "PutBucketAcl", "PutBucketCors",
		"PutBucketLifecycleConfiguration", "PutBucketTagging", "PutBucketVersioning",
	},
	"ObjectStorageBucketsDelete": {"DeleteBucket"},
	"ObjectStorageObjectsRead": {
		"GetObject", "GetObjectAcl", "GetObjectTagging", "HeadObject", "ListMultipartUploads", "ListObjects", "ListObjectsV2",
		"ListObjectVersions", "ListParts",
	},
	"ObjectStorageObjectsWrite": {
		"CompleteMultipartUpload", "CopyObject", "CreateMultipartUpload", "DeleteObjectTagging", "PostObject", "PutObject",
		"PutObjectAcl", "PutObjectTagging", "UploadPart",
	},
	"ObjectStorageObjectsDelete":          {"AbortMultipartUpload", "DeleteObject", "DeleteObjects"},
	"ObjectStorageBucketPolicyFullAccess": {"DeleteBucketPolicy", "GetBucketPolicy", "GetBucketPolicyStatus", "PutBucketPolicy"},
}

// gives reports whether a permission set authorizes an operation. No set is for one bucket: a restricted key stands for one
// of a project that has no other, and the lab's one list of buckets is then not for it.
func (scalewayRules) gives(right, operation string, restricted bool) bool {
	if restricted && operation == "ListBuckets" {
		return false
	}
	return right == "ObjectStorageFullAccess" || slices.Contains(scalewaySets[right], operation)
}
