package lab

import (
	"path"
	"slices"
	"strings"
)

// actions are the rights that operations need, as policies name them (Service Authorization Reference, "Actions, resources,
// and condition keys for Amazon S3"; Scaleway docs, "Amazon S3 and IAM permissions equivalence", has the same).
var actions = map[string]string{
	"ListBuckets":  "s3:ListAllMyBuckets",
	"CreateBucket": "s3:CreateBucket", "DeleteBucket": "s3:DeleteBucket", "HeadBucket": "s3:ListBucket",
	"ListObjects": "s3:ListBucket", "ListObjectsV2": "s3:ListBucket", "ListObjectVersions": "s3:ListBucketVersions",
	"ListMultipartUploads": "s3:ListBucketMultipartUploads", "GetBucketLocation": "s3:GetBucketLocation",

	"GetObject": "s3:GetObject", "HeadObject": "s3:GetObject", "GetObjectAttributes": "s3:GetObjectAttributes",
	"PutObject": "s3:PutObject", "CopyObject": "s3:PutObject", "CreateMultipartUpload": "s3:PutObject",
	"UploadPart": "s3:PutObject", "CompleteMultipartUpload": "s3:PutObject", "PostObject": "s3:PutObject",
	"ListParts": "s3:ListMultipartUploadParts", "AbortMultipartUpload": "s3:AbortMultipartUpload",
	"DeleteObject": "s3:DeleteObject", "DeleteObjects": "s3:DeleteObject",
	"GetObjectTagging": "s3:GetObjectTagging", "PutObjectTagging": "s3:PutObjectTagging", "DeleteObjectTagging": "s3:DeleteObjectTagging",

	"GetBucketAcl": "s3:GetBucketAcl", "PutBucketAcl": "s3:PutBucketAcl",
	"GetObjectAcl": "s3:GetObjectAcl", "PutObjectAcl": "s3:PutObjectAcl",
	"GetBucketPolicy": "s3:GetBucketPolicy", "PutBucketPolicy": "s3:PutBucketPolicy",
	"DeleteBucketPolicy": "s3:DeleteBucketPolicy", "GetBucketPolicyStatus": "s3:GetBucketPolicyStatus",
	"GetPublicAccessBlock": "s3:GetBucketPublicAccessBlock", "PutPublicAccessBlock": "s3:PutBucketPublicAccessBlock",
	"DeletePublicAccessBlock":    "s3:PutBucketPublicAccessBlock",
	"GetBucketOwnershipControls": "s3:GetBucketOwnershipControls", "PutBucketOwnershipControls": "s3:PutBucketOwnershipControls",
	"DeleteBucketOwnershipControls": "s3:PutBucketOwnershipControls",
	"GetBucketCors":                 "s3:GetBucketCORS", "PutBucketCors": "s3:PutBucketCORS", "DeleteBucketCors": "s3:PutBucketCORS",
	"GetBucketLifecycleConfiguration":    "s3:GetLifecycleConfiguration",
	"PutBucketLifecycleConfiguration":    "s3:PutLifecycleConfiguration",
	"DeleteBucketLifecycleConfiguration": "s3:PutLifecycleConfiguration",
	"GetBucketVersioning":                "s3:GetBucketVersioning", "PutBucketVersioning": "s3:PutBucketVersioning",
	"GetBucketTagging": "s3:GetBucketTagging", "PutBucketTagging": "s3:PutBucketTagging", "DeleteBucketTagging": "s3:PutBucketTagging",
	"GetBucketEncryption": "s3:GetEncryptionConfiguration", "PutBucketEncryption": "s3:PutEncryptionConfiguration",
	"DeleteBucketEncryption": "s3:PutEncryptionConfiguration",
}

// action is the right that an operation needs, "" for one that nobody has.
func action(operation string) string { return actions[operation] }

// actionMatches reports whether the pattern of a policy covers an action; both have no case (IAM User Guide, "Action").
func actionMatches(pattern, action string) bool {
	return action != "" && matches(strings.ToLower(pattern), strings.ToLower(action))
}

// matches reports whether s has the form of a pattern, in which * stands for anything and ? for one character.
func matches(pattern, s string) bool {
	const slash = "\x00" // path.Match has * end at a slash, and policies have not
	escape := strings.NewReplacer("/", slash, "[", `\[`, `\`, `\\`)
	ok, err := path.Match(escape.Replace(pattern), strings.ReplaceAll(s, "/", slash))
	return ok && err == nil
}

// limits are what a key may do that was made with rights of its own.
type limits struct {
	rights []string // as its provider names them
	bucket string   // the only one that it is for; "" for all of the account's
	// foreign says that the key is another account's.
	foreign bool
}

// limiter is a provider that names rights otherwise than by S3 actions.
type limiter interface {
	// gives reports whether a right covers an operation; restricted keys are for one bucket alone.
	gives(right, operation string, restricted bool) bool
}

// permits reports whether an account's own rights, beside any policy or ACL, cover a call.
func (s *S3) permits(acc account, c *call) bool {
	l := acc.limits
	switch {
	case l == nil:
		return acc.may != nil && acc.may(action(c.operation), strings.TrimPrefix(c.path(), "/"))
	case l.foreign, c.bucket != "" && c.operation != "CreateBucket" && !s.has(c.bucket):
		return false
	case l.bucket != "" && c.bucket != "" && c.bucket != l.bucket:
		return false
	}
	named, ok := s.rules.(limiter)
	for _, right := range l.rights {
		switch {
		case ok && named.gives(right, c.operation, l.bucket != ""):
			return true
		case !ok && actionMatches(right, action(c.operation)) && (l.bucket == "" || c.bucket != ""):
			return true
		}
	}
	return false
}

// owner is the account that all of the store's buckets belong to.
func (s *S3) owner() account {
	acc, _ := s.gateway.iam.find(s.AgentKey)
	return acc
}

// lendRights has a key whose own rights cover a call act as the owner, whose buckets the gateway knows.
func (s *S3) lendRights(c *call) {
	if _, judged := s.rules.(judge); judged || c.caller.limits == nil {
		return
	}
	c.limits = c.caller.limits
	if s.permits(c.caller, c) {
		c.caller, c.lent = s.owner(), true
	}
}

// NewKey makes a key of the store's account with some rights, named as the provider does: S3 actions ("s3:PutObject",
// "s3:*"), capabilities of Backblaze B2 ("writeFiles"), permission sets of Scaleway ("ObjectStorageObjectsWrite").
// A lab that goes on where an earlier one ended has not kept it.
func (s *S3) NewKey(rights ...string) (key, secret string) { return s.addKey(limits{rights: rights}) }

// NewBucketKey makes a key as NewKey does that is for one bucket alone.
func (s *S3) NewBucketKey(bucket string, rights ...string) (key, secret string) {
	return s.addKey(limits{rights: rights, bucket: bucket})
}

// ForeignKey makes a key of another customer's account, which has rights there and none here.
func (s *S3) ForeignKey() (key, secret string) { return s.addKey(limits{foreign: true}) }

// RevokeKey ends a key, as its deletion or the end of its time does.
func (s *S3) RevokeKey(key string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.revoked[key] = true
}

func (s *S3) addKey(l limits) (key, secret string) {
	acc, _ := s.rules.newKeys()
	acc.limits = &l
	// The gateway asks this of calls that the front did not decide: the key has nothing of its own there.
	acc.may = func(string, string) bool { return false }
	s.gateway.iam.add(acc)
	s.mu.Lock()
	defer s.mu.Unlock()
	s.keys[acc.key] = true
	return acc.key, acc.secret
}

// sharedNames are the providers whose customers share the names of buckets. MinIO has no others, and R2 and iDrive have an
// endpoint for each account.
var sharedNames = []Personality{B2, AWS, Scaleway, Wasabi}

// refusesOthersBucket answers a call about another customer's bucket.
func (s *S3) refusesOthersBucket(c *call) *apiError {
	if c.operation == "CreateBucket" || !slices.Contains(sharedNames, s.Personality) || !s.gateway.taken(c.bucket, s) {
		return nil
	}
	return errAccessDenied
}

// ForbidPublicUse has the account be one whose objects nobody may read without a key, whatever is set on a bucket: at AWS
// because public access is blocked for the account, at Wasabi because it is a new account or one on trial.
func (s *S3) ForbidPublicUse() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.unshown = true
}

func (s *S3) publicUseForbidden() bool {
	s.mu.RLock()
	defer s.mu.RUnlock()
	return s.unshown
}

// MoveBucket has a bucket be in another region of AWS or Wasabi, where this endpoint does not serve it.
func (s *S3) MoveBucket(name, region string) {
	s.know(name, func(b *bucket) { b.Region = region })
}

// knows reports whether a key is one of this store's.
func (s *S3) knows(key string) bool {
	s.mu.RLock()
	defer s.mu.RUnlock()
	return !s.revoked[key] && (key == s.AgentKey || key == s.AppKey || s.keys[key])
}
