package lab

import (
	"net"
	"net/http"
	"net/url"
	"strings"
)

// call is one request as S3 understands it.
type call struct {
	operation   string // its name in the Amazon S3 API reference: "PutObject"
	bucket, key string
	query       url.Values
	caller      account
	anonymous   bool

	limits *limits // of the key that signed it
	lent   bool    // those limits cover it

	// What is left to do with the gateway's answer, where the front is the judge.
	store   *S3
	keys    []string  // that DeleteObjects names
	kept    []string  // those of them that the caller may not delete
	acl     string    // canned, of an object or an upload that is to be stored
	missing *apiError // the answer for an object that is not there; nil is the gateway's own
}

// subresources are the parts of a query that make a request one about something other than the object or bucket itself, with
// the name that goes into the operation's. The first one found decides.
var subresources = []struct{ parameter, name string }{
	{"uploads", "MultipartUploads"},
	{"uploadId", "Part"},
	{"publicAccessBlock", "PublicAccessBlock"},
	{"ownershipControls", "BucketOwnershipControls"},
	{"policyStatus", "BucketPolicyStatus"},
	{"policy", "BucketPolicy"},
	{"acl", "Acl"},
	{"cors", "BucketCors"},
	{"lifecycle", "BucketLifecycleConfiguration"},
	{"versioning", "BucketVersioning"},
	{"versions", "ObjectVersions"},
	{"encryption", "BucketEncryption"},
	{"tagging", "Tagging"},
	{"location", "BucketLocation"},
	{"delete", "Objects"},
	{"attributes", "ObjectAttributes"},
	{"website", "BucketWebsite"},
	{"notification", "BucketNotificationConfiguration"},
	{"logging", "BucketLogging"},
	{"object-lock", "ObjectLockConfiguration"},
	{"retention", "ObjectRetention"},
	{"legal-hold", "ObjectLegalHold"},
	{"replication", "BucketReplication"},
}

// parseCall finds out what r asks for. Where its host is below one of domains, the bucket is the first part of the host.
func parseCall(r *http.Request, domains []string) *call {
	c := &call{query: r.URL.Query()}
	c.bucket, c.key, _ = strings.Cut(strings.TrimPrefix(r.URL.Path, "/"), "/")
	host := r.Host
	if h, _, err := net.SplitHostPort(r.Host); err == nil {
		host = h
	}
	for _, d := range domains {
		if bucket, ok := strings.CutSuffix(host, "."+d); ok {
			c.bucket, c.key = bucket, strings.TrimPrefix(r.URL.Path, "/")
		}
	}
	c.operation = c.name(r)
	return c
}

func (c *call) name(r *http.Request) string {
	verb := map[string]string{"GET": "Get", "HEAD": "Head", "PUT": "Put", "POST": "Post", "DELETE": "Delete"}[r.Method]
	if r.Method == http.MethodOptions {
		return "Preflight"
	}
	for _, s := range subresources {
		if c.query.Has(s.parameter) {
			return c.subresource(verb, s.parameter, s.name)
		}
	}
	switch {
	case c.bucket == "":
		return "ListBuckets"
	case c.key != "":
		if verb == "Put" && r.Header.Get("X-Amz-Copy-Source") != "" {
			return "CopyObject"
		}
		return verb + "Object"
	case verb == "Get" && c.query.Get("list-type") == "2":
		return "ListObjectsV2"
	case verb == "Get":
		return "ListObjects"
	case verb == "Put":
		return "CreateBucket"
	}
	return verb + "Bucket"
}

func (c *call) subresource(verb, parameter, name string) string {
	switch parameter + " " + verb {
	case "uploads Post":
		return "CreateMultipartUpload"
	case "uploads Get":
		return "ListMultipartUploads"
	case "uploadId Put":
		return "UploadPart"
	case "uploadId Post":
		return "CompleteMultipartUpload"
	case "uploadId Delete":
		return "AbortMultipartUpload"
	case "uploadId Get":
		return "ListParts"
	case "delete Post":
		return "DeleteObjects"
	case "versions Get":
		return "ListObjectVersions"
	}
	if parameter == "acl" || parameter == "tagging" {
		if c.key == "" {
			return verb + "Bucket" + name
		}
		return verb + "Object" + name
	}
	return verb + name
}

// storesObject reports whether the operation stores an object, and so may carry an ACL for it.
func (c *call) storesObject() bool {
	return c.operation == "PutObject" || c.operation == "CopyObject" || c.operation == "CreateMultipartUpload"
}

// path is where the call's bucket or object lies below the gateway, in path style.
func (c *call) path() string {
	switch {
	case c.bucket == "":
		return "/"
	case c.key == "":
		return "/" + c.bucket
	}
	return "/" + c.bucket + "/" + c.key
}
