package ceph

import (
	"bytes"
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/credentials"
	"github.com/aws/aws-sdk-go-v2/service/s3"
	"github.com/aws/aws-sdk-go-v2/service/s3/types"
	"github.com/converge-agent/converge/test/lab"
)

// bucketAt is a bucket at some server, for what people do there.
type bucketAt struct {
	*s3.Client
	name, url string
}

func (b *bucketAt) put(t *testing.T, key string, acl types.ObjectCannedACL) string {
	_, err := b.PutObject(t.Context(), &s3.PutObjectInput{Bucket: &b.name, Key: &key, ACL: acl, Body: strings.NewReader("x")})
	return code(err)
}

func (b *bucketAt) setACL(t *testing.T, acl types.BucketCannedACL) string {
	_, err := b.PutBucketAcl(t.Context(), &s3.PutBucketAclInput{Bucket: &b.name, ACL: acl})
	return code(err)
}

func (b *bucketAt) setObjectACL(t *testing.T, key string, acl types.ObjectCannedACL) string {
	_, err := b.PutObjectAcl(t.Context(), &s3.PutObjectAclInput{Bucket: &b.name, Key: &key, ACL: acl})
	return code(err)
}

func (b *bucketAt) anonymous(t *testing.T, method, path string) string {
	return fmt.Sprint(anonymous(t, method, b.url+path))
}

// everybody are the rights of everybody in an ACL.
func everybody(grants []types.Grant, err error) string {
	if err != nil {
		return code(err)
	}
	var rights []string
	for _, g := range grants {
		if g.Grantee != nil && strings.HasSuffix(aws.ToString(g.Grantee.URI), "/AllUsers") {
			rights = append(rights, string(g.Permission))
		}
	}
	slices.Sort(rights)
	return strings.Join(rights, " ")
}

func (b *bucketAt) acl(t *testing.T) string {
	out, err := b.GetBucketAcl(t.Context(), &s3.GetBucketAclInput{Bucket: &b.name})
	if err != nil {
		return code(err)
	}
	return everybody(out.Grants, nil)
}

func (b *bucketAt) objectACL(t *testing.T, key string) string {
	out, err := b.GetObjectAcl(t.Context(), &s3.GetObjectAclInput{Bucket: &b.name, Key: &key})
	if err != nil {
		return code(err)
	}
	return everybody(out.Grants, nil)
}

// multipart uploads an object in one part.
func (b *bucketAt) multipart(t *testing.T, key string, acl types.ObjectCannedACL) string {
	up, err := b.CreateMultipartUpload(t.Context(), &s3.CreateMultipartUploadInput{Bucket: &b.name, Key: &key, ACL: acl})
	if err != nil {
		return code(err)
	}
	n := int32(1)
	part, err := b.UploadPart(t.Context(), &s3.UploadPartInput{Bucket: &b.name, Key: &key, UploadId: up.UploadId, PartNumber: &n, Body: bytes.NewReader([]byte("x"))})
	if err != nil {
		return code(err)
	}
	_, err = b.CompleteMultipartUpload(t.Context(), &s3.CompleteMultipartUploadInput{Bucket: &b.name, Key: &key, UploadId: up.UploadId, MultipartUpload: &types.CompletedMultipartUpload{
		Parts: []types.CompletedPart{{ETag: part.ETag, PartNumber: &n}},
	}})
	return code(err)
}

// TestACLsAsCephHasThem: what the lab's simulation of object ACLs answers (Scaleway's) is what a real server with ACLs
// answers, step by step. It tells of the simulation, not of Scaleway.
func TestACLsAsCephHasThem(t *testing.T) {
	const (
		private = types.ObjectCannedACLPrivate
		public  = types.ObjectCannedACLPublicRead
	)
	steps := []struct {
		name string
		do   func(*testing.T, *bucketAt) string
	}{
		{"put without an ACL", func(t *testing.T, b *bucketAt) string { return b.put(t, "none", "") }},
		{"put private", func(t *testing.T, b *bucketAt) string { return b.put(t, "private", private) }},
		{"put public", func(t *testing.T, b *bucketAt) string { return b.put(t, "public", public) }},
		{"put with no such ACL", func(t *testing.T, b *bucketAt) string { return b.put(t, "wrong", "public") }},
		{"parts, public", func(t *testing.T, b *bucketAt) string { return b.multipart(t, "parts", public) }},
		{"GET without an ACL", func(t *testing.T, b *bucketAt) string { return b.anonymous(t, "GET", "/none") }},
		{"GET private", func(t *testing.T, b *bucketAt) string { return b.anonymous(t, "GET", "/private") }},
		{"GET public", func(t *testing.T, b *bucketAt) string { return b.anonymous(t, "GET", "/public") }},
		{"HEAD public", func(t *testing.T, b *bucketAt) string { return b.anonymous(t, "HEAD", "/public") }},
		{"GET public parts", func(t *testing.T, b *bucketAt) string { return b.anonymous(t, "GET", "/parts") }},
		{"GET nothing", func(t *testing.T, b *bucketAt) string { return b.anonymous(t, "GET", "/nothing") }},
		{"LIST", func(t *testing.T, b *bucketAt) string { return b.anonymous(t, "GET", "/?list-type=2") }},
		{"PUT", func(t *testing.T, b *bucketAt) string { return b.anonymous(t, "PUT", "/new") }},
		{"PUT on public", func(t *testing.T, b *bucketAt) string { return b.anonymous(t, "PUT", "/public") }},
		{"DELETE public", func(t *testing.T, b *bucketAt) string { return b.anonymous(t, "DELETE", "/public") }},
		{"GET the ACL of the bucket", func(t *testing.T, b *bucketAt) string { return b.anonymous(t, "GET", "/?acl") }},
		{"GET the ACL of public", func(t *testing.T, b *bucketAt) string { return b.anonymous(t, "GET", "/public?acl") }},
		{"ACL of the bucket", func(t *testing.T, b *bucketAt) string { return b.acl(t) }},
		{"ACL of private", func(t *testing.T, b *bucketAt) string { return b.objectACL(t, "private") }},
		{"ACL of public", func(t *testing.T, b *bucketAt) string { return b.objectACL(t, "public") }},
		{"ACL of nothing", func(t *testing.T, b *bucketAt) string { return b.objectACL(t, "nothing") }},

		{"make private public", func(t *testing.T, b *bucketAt) string { return b.setObjectACL(t, "private", public) }},
		{"GET it", func(t *testing.T, b *bucketAt) string { return b.anonymous(t, "GET", "/private") }},
		{"and back", func(t *testing.T, b *bucketAt) string { return b.setObjectACL(t, "private", private) }},
		{"GET it again", func(t *testing.T, b *bucketAt) string { return b.anonymous(t, "GET", "/private") }},
		{"make nothing public", func(t *testing.T, b *bucketAt) string { return b.setObjectACL(t, "nothing", public) }},
		{"overwrite public without an ACL", func(t *testing.T, b *bucketAt) string { return b.put(t, "public", "") }},
		{"GET what was public", func(t *testing.T, b *bucketAt) string { return b.anonymous(t, "GET", "/public") }},
		{"copy public", func(t *testing.T, b *bucketAt) string {
			_, err := b.CopyObject(t.Context(), &s3.CopyObjectInput{Bucket: &b.name, Key: ptr("copy"), CopySource: ptr(b.name + "/parts")})
			return code(err)
		}},
		{"GET the copy", func(t *testing.T, b *bucketAt) string { return b.anonymous(t, "GET", "/copy") }},
		{"delete public", func(t *testing.T, b *bucketAt) string {
			_, err := b.DeleteObject(t.Context(), &s3.DeleteObjectInput{Bucket: &b.name, Key: ptr("parts")})
			return code(err)
		}},
		{"put it again without an ACL", func(t *testing.T, b *bucketAt) string { return b.put(t, "parts", "") }},
		{"GET what was put again", func(t *testing.T, b *bucketAt) string { return b.anonymous(t, "GET", "/parts") }},

		{"a public bucket", func(t *testing.T, b *bucketAt) string { return b.setACL(t, "public-read") }},
		{"ACL of the public bucket", func(t *testing.T, b *bucketAt) string { return b.acl(t) }},
		{"LIST the public bucket", func(t *testing.T, b *bucketAt) string { return b.anonymous(t, "GET", "/?list-type=2") }},
		{"LIST it the old way", func(t *testing.T, b *bucketAt) string { return b.anonymous(t, "GET", "/?max-keys=1") }},
		{"GET private in it", func(t *testing.T, b *bucketAt) string { return b.anonymous(t, "GET", "/private") }},
		{"PUT into it", func(t *testing.T, b *bucketAt) string { return b.anonymous(t, "PUT", "/new") }},
		{"a bucket to write in", func(t *testing.T, b *bucketAt) string { return b.setACL(t, "public-read-write") }},
		{"ACL of the bucket to write in", func(t *testing.T, b *bucketAt) string { return b.acl(t) }},
		{"PUT into that", func(t *testing.T, b *bucketAt) string { return b.anonymous(t, "PUT", "/new") }},
		{"DELETE from that", func(t *testing.T, b *bucketAt) string { return b.anonymous(t, "DELETE", "/private") }},
		{"a private bucket again", func(t *testing.T, b *bucketAt) string { return b.setACL(t, "private") }},
		{"LIST the private bucket", func(t *testing.T, b *bucketAt) string { return b.anonymous(t, "GET", "/?list-type=2") }},
		{"no such ACL", func(t *testing.T, b *bucketAt) string { return b.setACL(t, "public") }},
	}
	s := newSite(t)
	simulated, err := world.S3(t.Context(), lab.Scaleway)
	if err != nil {
		t.Fatal(err)
	}
	atCeph := &bucketAt{s.s3, s.bucket, gateway.Endpoint + "/" + s.bucket}
	atLab := &bucketAt{s3.New(s.s3.Options(), func(o *s3.Options) {
		o.BaseEndpoint, o.Region = &simulated.Endpoint, simulated.Region
		o.Credentials = credentials.NewStaticCredentialsProvider(simulated.AgentKey, simulated.AgentSecret, "")
	}), s.bucket, simulated.Endpoint + "/" + s.bucket}
	for _, b := range []*bucketAt{atCeph, atLab} {
		if _, err := b.CreateBucket(t.Context(), &s3.CreateBucketInput{Bucket: &b.name}); err != nil {
			t.Fatal(err)
		}
	}
	for _, step := range steps {
		if ceph, got := step.do(t, atCeph), step.do(t, atLab); got != ceph {
			t.Errorf("%s: Ceph answers %q, the lab %q", step.name, ceph, got)
		}
	}
}
