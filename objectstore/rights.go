package objectstore

import (
	"fmt"
	"slices"
	"strings"
)

// vocabulary is how a provider calls the rights to operations.
type vocabulary struct {
	of    string // a right that only this vocabulary has
	right func(operation string) string
	add   string // how a key gets a right, with %s for the right and %s for the place where the key is written
}

// vocabularies are the names of rights that the table's providers have, known by one of them. Sources: "Actions, resources, and
// condition keys for Amazon S3" (Service Authorization Reference); Backblaze docs, "Application Key Capabilities"; Scaleway docs, "IAM
// permission sets"; Cloudflare docs, "R2 API tokens".
var vocabularies = []vocabulary{
	{"s3:PutObject", actionOf, "Add %[1]s to the policy of the key's user, for this bucket and its objects."},
	{"writeFiles", capabilityOf, "It needs the capability %[1]s. Capabilities of a key cannot be changed: make a new application key with it, and write that as access_key_id and secret_access_key %[2]s."},
	{"ObjectStorageObjectsWrite", permissionSetOf, "Add the permission set %[1]s to the IAM policy of the key's application or user."},
	{"Object Read & Write", tokenPermissionOf, "Give the API token the permission %[1]s for this bucket, under R2, Manage API tokens."},
}

// actions are the S3 actions whose name is not that of the operation.
var actions = map[string]string{
	"HeadObject": "s3:GetObject", "HeadBucket": "s3:ListBucket", "ListObjectsV2": "s3:ListBucket", "ListObjectVersions": "s3:ListBucketVersions",
	"ListMultipartUploads": "s3:ListBucketMultipartUploads", "ListBuckets": "s3:ListAllMyBuckets", "DeleteObjects": "s3:DeleteObject",
	"CreateMultipartUpload": "s3:PutObject", "UploadPart": "s3:PutObject", "CompleteMultipartUpload": "s3:PutObject",
	"GetBucketCors": "s3:GetBucketCORS", "PutBucketCors": "s3:PutBucketCORS", "DeleteBucketCors": "s3:PutBucketCORS",
	"GetBucketLifecycleConfiguration": "s3:GetLifecycleConfiguration", "PutBucketLifecycleConfiguration": "s3:PutLifecycleConfiguration",
	"DeleteBucketLifecycle": "s3:PutLifecycleConfiguration", "GetPublicAccessBlock": "s3:GetBucketPublicAccessBlock",
	"PutPublicAccessBlock": "s3:PutBucketPublicAccessBlock", "DeletePublicAccessBlock": "s3:PutBucketPublicAccessBlock",
}

func actionOf(operation string) string {
	if a, ok := actions[operation]; ok {
		return a
	}
	return "s3:" + operation
}

// kindOf is what sort of thing an operation does: "read", "write", "delete" or "list" objects, or "look" at a bucket, or "set" it up.
func kindOf(operation string) string {
	switch operation {
	case "GetObject", "HeadObject", "GetObjectAcl":
		return "read"
	case "PutObject", "PutObjectAcl", "CreateMultipartUpload", "UploadPart", "CompleteMultipartUpload", "AbortMultipartUpload":
		return "write"
	case "DeleteObject", "DeleteObjects":
		return "delete"
	case "ListObjectsV2", "ListObjectVersions", "ListMultipartUploads":
		return "list"
	case "HeadBucket", "ListBuckets":
		return "look"
	}
	if strings.HasPrefix(operation, "Get") {
		return "get"
	}
	return "set"
}

func capabilityOf(operation string) string {
	return map[string]string{
		"read": "readFiles", "write": "writeFiles", "delete": "deleteFiles", "list": "listFiles", "look": "listBuckets",
		"get": "readBuckets", "set": "writeBuckets",
	}[kindOf(operation)]
}

func permissionSetOf(operation string) string {
	return map[string]string{
		"read": "ObjectStorageObjectsRead", "write": "ObjectStorageObjectsWrite", "delete": "ObjectStorageObjectsDelete",
		"list": "ObjectStorageObjectsRead", "look": "ObjectStorageBucketsRead", "get": "ObjectStorageBucketsRead", "set": "ObjectStorageBucketsWrite",
	}[kindOf(operation)]
}

func tokenPermissionOf(operation string) string {
	switch kindOf(operation) {
	case "get", "set":
		return "Admin Read & Write"
	}
	return "Object Read & Write"
}

func (p *Provider) vocabulary() *vocabulary {
	for i, v := range vocabularies {
		if slices.Contains(p.AppRights, v.of) {
			return &vocabularies[i]
		}
	}
	return nil
}

// RightOf returns what the provider calls the right to an operation, such as "s3:DeleteObject" or "deleteFiles"; "" where its
// rights are not told apart by operations.
func (p *Provider) RightOf(operation string) string {
	if v := p.vocabulary(); v != nil {
		return v.right(operation)
	}
	return ""
}

// addRights says how a key gets rights to operations.
func (p *Provider) addRights(operations []string, where string) string {
	v := p.vocabulary()
	if v == nil {
		return fmt.Sprintf("Give the key these rights on this bucket: %s.", strings.Join(p.AppRights, ", "))
	}
	var rights []string
	for _, op := range operations {
		if right := v.right(op); !slices.Contains(rights, right) {
			rights = append(rights, right)
		}
	}
	return fmt.Sprintf(v.add, enumerated(rights), where)
}

// enumerated words a list: "a, b and c".
func enumerated(list []string) string {
	if len(list) < 2 {
		return strings.Join(list, "")
	}
	last := len(list) - 1
	return strings.Join(list[:last], ", ") + " and " + list[last]
}
