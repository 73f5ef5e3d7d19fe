package lab

import (
	"encoding/xml"
	"fmt"
	"io"
	"net/http"
	"strings"
)

// awsRegion is the region that the AWS stores pretend to be in.
const awsRegion = "eu-central-1"

// awsRules are the manners of Amazon S3 (facts of 2026-11), from its API Reference, its User Guide ("Blocking public access
// to your Amazon S3 storage", "Controlling ownership of objects and disabling ACLs for your bucket", both on for buckets
// since April 2023) and the Service Authorization Reference. Versions of objects are not simulated, nor do lifecycles act.
type awsRules struct{}

func (awsRules) region() string { return awsRegion }

func (awsRules) domains() []string {
	return []string{"s3." + awsRegion + ".amazonaws.test", "s3." + awsRegion + ".amazonaws.com"}
}

// newKeys makes keys of users: AKIA and 16 characters of base 32 (IAM User Guide, "Unique identifiers").
func (awsRules) newKeys() (agent, app account) {
	key := func() account {
		return account{key: "AKIA" + randomFrom("ABCDEFGHIJKLMNOPQRSTUVWXYZ234567", 16), secret: randomText(40)}
	}
	return key(), key()
}

// refuse answers a request that is signed for another region than the endpoint's (API Reference, AuthorizationHeaderMalformed).
func (awsRules) refuse(_ *http.Request, sig *signature) *apiError {
	if sig != nil && sig.region != awsRegion {
		return errWrongRegion(awsRegion, sig.region)
	}
	return nil
}

// serve has a caller who may not list the bucket learn nothing of which objects are missing (API Reference, GetObject: "If
// you don't have the s3:ListBucket permission, Amazon S3 returns an HTTP status code 403").
func (j awsRules) serve(s *S3, c *call, w http.ResponseWriter, r *http.Request) bool {
	if s.elsewhere(c, w, r, ".amazonaws.com") {
		return true
	}
	if c.operation == "GetObject" || c.operation == "HeadObject" {
		listing := *c
		listing.operation, listing.key = "ListObjectsV2", ""
		if s.refuses(j, s.look(c.bucket), &listing, r) != nil {
			c.missing = errAccessDenied
		}
	}
	return s.judged(j, c, w, r)
}

func (awsRules) answered(c *call, resp *http.Response) error { return c.finish(resp) }

func (awsRules) arn() string { return "arn:aws:s3:::" }

// awsBlock is a bucket's public access block.
type awsBlock struct {
	XMLName               xml.Name `xml:"PublicAccessBlockConfiguration"`
	BlockPublicAcls       bool
	IgnorePublicAcls      bool
	BlockPublicPolicy     bool
	RestrictPublicBuckets bool
}

var awsAllBlocked = awsBlock{BlockPublicAcls: true, IgnorePublicAcls: true, BlockPublicPolicy: true, RestrictPublicBuckets: true}

// awsBlock is what is blocked on a bucket and on its account together (User Guide: "the most restrictive combination").
func (s *S3) awsBlock(b *bucket) (block awsBlock) {
	if s.publicUseForbidden() {
		return awsAllBlocked
	}
	if text := b.Settings["publicAccessBlock"]; text != nil {
		if err := xml.Unmarshal(text, &block); err != nil {
			panic(err) // it was checked when it was put
		}
	}
	return block
}

// awsOwnership is a bucket's rule of ownership; "" is that of buckets from before April 2023, which have ACLs.
func (b *bucket) awsOwnership() string {
	var doc struct {
		ObjectOwnership string `xml:"Rule>ObjectOwnership"`
	}
	if text := b.Settings["ownershipControls"]; text != nil {
		if err := xml.Unmarshal(text, &doc); err != nil {
			panic(err)
		}
	}
	return doc.ObjectOwnership
}

const awsOwnerEnforced = "BucketOwnerEnforced"

// allow judges as "How Amazon S3 authorizes a request" says: a denial wins, then the rights of the key, the bucket's policy
// and its ACLs each suffice, and what is public is restricted by the public access block.
func (awsRules) allow(s *S3, b *bucket, c *call, on subject, resource string) *apiError {
	policy, block := b.policy(), s.awsBlock(b)
	said := policy.decide(on)
	own := c.own()
	switch {
	case said == denies:
		return awsDenied(s, c, on, "with an explicit deny in a resource-based policy")
	case own && s.awsMay(c, on.action, resource):
		return nil
	case said == allows && (own || !policy.public() || !block.RestrictPublicBuckets):
		return nil
	case b.awsOwnership() != awsOwnerEnforced && !block.IgnorePublicAcls && s.aclAllows(b, on.action, resource):
		return nil
	}
	return awsDenied(s, c, on, "because no identity-based policy allows the "+on.action+" action")
}

// awsMay reports whether the caller's own rights cover an action.
func (s *S3) awsMay(c *call, action, resource string) bool {
	l := c.caller.limits
	if c.anonymous || l == nil {
		return !c.anonymous && c.caller.may(action, resource)
	}
	name, _, _ := strings.Cut(resource, "/")
	if l.foreign || name != "" && action != "s3:CreateBucket" && !s.has(name) || l.bucket != "" && l.bucket != name {
		return false
	}
	for _, right := range l.rights {
		if actionMatches(right, action) {
			return true
		}
	}
	return false
}

// awsDenied says who may not do what to what, to those who have a key here (IAM User Guide, "Troubleshoot access denied
// error messages").
func awsDenied(s *S3, c *call, on subject, why string) *apiError {
	if len(on.names) == 0 {
		return errAccessDenied
	}
	return &apiError{403, "AccessDenied", fmt.Sprintf("User: %s is not authorized to perform: %s on resource: %q %s", s.Principal(c.caller.key), on.action, on.resource, why)}
}

func (awsRules) refuseACL(s *S3, b *bucket, c *call, acl string) *apiError {
	if c.operation == "CreateBucket" || acl == "" && c.operation != "PutBucketAcl" && c.operation != "PutObjectAcl" {
		return nil
	}
	switch {
	case b.awsOwnership() == awsOwnerEnforced && acl != "bucket-owner-full-control":
		return errACLsNotSupported
	case s.awsBlock(b).BlockPublicAcls && publicACL(acl):
		return errAccessDenied
	}
	return nil
}

func (j awsRules) setting(s *S3, b *bucket, c *call, w http.ResponseWriter, r *http.Request) bool {
	switch c.operation {
	case "CreateBucket":
		s.awsCreate(c, w, r)
	case "GetBucketPolicy", "PutBucketPolicy", "DeleteBucketPolicy", "GetBucketPolicyStatus":
		s.policySetting(j, c, w, r, []string{"2012-10-17", "2008-10-17"}, func(p *bucketPolicy) *apiError {
			if s.awsBlock(b).BlockPublicPolicy && p.public() {
				on := subject{names: s.namesOf(c), action: "s3:PutBucketPolicy", resource: "arn:aws:s3:::" + c.bucket}
				return awsDenied(s, c, on, "because public policies are prevented by the BlockPublicPolicy setting in S3 Block Public Access.")
			}
			return nil
		})
	case "GetPublicAccessBlock", "PutPublicAccessBlock", "DeletePublicAccessBlock":
		s.keep(document{name: "publicAccessBlock", missing: errNoSuchBlock, check: func(body []byte) ([]byte, *apiError) {
			if xml.Unmarshal(body, new(awsBlock)) != nil {
				return nil, errMalformedXML
			}
			return body, nil
		}}, c, w, r)
	case "GetBucketOwnershipControls", "PutBucketOwnershipControls", "DeleteBucketOwnershipControls":
		s.keep(document{name: "ownershipControls", missing: errNoOwnership, check: func(body []byte) ([]byte, *apiError) {
			return body, awsCheckOwnership(b, body)
		}}, c, w, r)
	case "GetBucketLifecycleConfiguration", "PutBucketLifecycleConfiguration", "DeleteBucketLifecycleConfiguration":
		s.keep(lifecycle(nil), c, w, r)
	case "GetBucketVersioning", "PutBucketVersioning":
		s.keep(versioning, c, w, r)
	case "GetBucketAcl", "PutBucketAcl", "GetObjectAcl", "PutObjectAcl":
		s.aclSetting(c, w, r, accountID)
	case "GetBucketLocation":
		location(w, r, awsRegion)
	default:
		return false
	}
	return true
}

func awsCheckOwnership(b *bucket, body []byte) *apiError {
	now := (&bucket{Settings: map[string][]byte{"ownershipControls": body}}).awsOwnership()
	switch {
	case now != awsOwnerEnforced && now != "BucketOwnerPreferred" && now != "ObjectWriter":
		return errMalformedXML
	case now == awsOwnerEnforced && publicACL(b.ACL):
		return &apiError{400, "InvalidBucketAclWithObjectOwnership", "Bucket cannot have ACLs set with ObjectOwnership's BucketOwnerEnforced setting"}
	}
	return nil
}

// awsCreate makes a bucket with all public access blocked and without ACLs. Outside us-east-1 the region must be named,
// and be the endpoint's (API Reference, CreateBucket and IllegalLocationConstraintException).
func (s *S3) awsCreate(c *call, w http.ResponseWriter, r *http.Request) {
	region, err := locationOf(r)
	switch {
	case err != nil:
	case region == "":
		err = &apiError{400, "IllegalLocationConstraintException", "The unspecified location constraint is incompatible for the region specific endpoint this request was sent to."}
	case region != awsRegion:
		err = &apiError{400, "IllegalLocationConstraintException", "The " + region + " location constraint is incompatible for the region specific endpoint this request was sent to."}
	}
	ownership := r.Header.Get("X-Amz-Object-Ownership")
	if ownership == "" {
		ownership = awsOwnerEnforced
	}
	if acl := r.Header.Get("X-Amz-Acl"); err == nil && publicACL(acl) {
		if ownership == awsOwnerEnforced {
			err = &apiError{400, "InvalidBucketAclWithObjectOwnership", "Bucket cannot have ACLs set with ObjectOwnership's BucketOwnerEnforced setting"}
		} else {
			err = &apiError{400, "InvalidBucketAclWithBlockPublicAccessError", "Bucket cannot have public ACLs set with BlockPublicAccess enabled"}
		}
	}
	if err != nil {
		err.write(w, r)
		return
	}
	s.createBucket(c, w, r, func(b *bucket) {
		block := must(xml.Marshal(awsAllBlocked))
		b.Settings = map[string][]byte{
			"publicAccessBlock": block,
			"ownershipControls": []byte("<OwnershipControls><Rule><ObjectOwnership>" + ownership + "</ObjectOwnership></Rule></OwnershipControls>"),
		}
	})
}

// replace puts an error in the place of an answer.
func (e *apiError) replace(resp *http.Response) {
	discard(resp.Body)
	body := append([]byte(xml.Header), must(xml.Marshal(e.document(resp.Request.URL.Path)))...)
	resp.StatusCode, resp.Status = e.status, http.StatusText(e.status)
	resp.Header = http.Header{"Content-Type": {"application/xml"}, "Content-Length": {fmt.Sprint(len(body))}}
	if resp.Request.Method == http.MethodHead {
		body = nil
	}
	resp.Body = io.NopCloser(strings.NewReader(string(body)))
}
