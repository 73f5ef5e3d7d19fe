package ceph

import (
	"strings"
	"testing"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/s3"
	"github.com/aws/aws-sdk-go-v2/service/s3/types"
	"github.com/converge-agent/converge/objectstore"
)

// TestCephIsAsTheTableSays: what the table of providers says that Ceph does, this one does. It may do more: Debian's 16.2
// honours If-None-Match, and takes an upload with a wrong x-amz-checksum-crc32 without a word.
func TestCephIsAsTheTableSays(t *testing.T) {
	entry, ok := objectstore.Lookup("ceph-rgw")
	if !ok {
		t.Fatal("no entry")
	}
	s := newSite(t)
	if _, err := s.s3.CreateBucket(t.Context(), &s3.CreateBucketInput{Bucket: &s.bucket}); err != nil {
		t.Fatal(err)
	}
	s.put(t, "taken")
	modern := s3.New(s.s3.Options(), func(o *s3.Options) { o.RequestChecksumCalculation = aws.RequestChecksumCalculationWhenSupported })
	for _, test := range []struct {
		claim   string
		claimed bool
		want    string
		do      func() error
	}{
		{"conditional writes", entry.ConditionalWrites, "412 PreconditionFailed", func() error {
			_, err := s.s3.PutObject(t.Context(), &s3.PutObjectInput{Bucket: &s.bucket, Key: ptr("taken"), IfNoneMatch: ptr("*"), Body: strings.NewReader("other")})
			return err
		}},
		{"refuses the SDK's checksums", entry.RefusesChecksums, "400 XAmzContentSHA256Mismatch", func() error {
			_, err := modern.PutObject(t.Context(), &s3.PutObjectInput{Bucket: &s.bucket, Key: ptr("new"), Body: strings.NewReader("body")})
			return err
		}},
		{"deletes in batches", entry.BatchDelete, "", func() error {
			_, err := s.s3.DeleteObjects(t.Context(), &s3.DeleteObjectsInput{Bucket: &s.bucket, Delete: &types.Delete{
				Objects: []types.ObjectIdentifier{{Key: ptr("taken")}},
			}})
			return err
		}},
	} {
		if got := code(test.do()); test.claimed && got != test.want {
			t.Errorf("%s: got %q, want %q", test.claim, got, test.want)
		}
	}
	s.empty(t)
}
