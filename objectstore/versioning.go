package objectstore

import (
	"context"

	"github.com/aws/aws-sdk-go-v2/service/s3"
	"github.com/aws/aws-sdk-go-v2/service/s3/types"
)

// GetVersioning returns whether a bucket keeps old versions: "Enabled", "Suspended", or "" where it never did.
func (s *Store) GetVersioning(ctx context.Context, bucket string) (string, error) {
	var out *s3.GetBucketVersioningOutput
	err := s.do(ctx, "GetBucketVersioning", func(ctx context.Context) (err error) {
		out, err = s.api.GetBucketVersioning(ctx, &s3.GetBucketVersioningInput{Bucket: &bucket})
		return err
	})
	if err != nil {
		return "", s.failed("read the versioning of the bucket "+bucket, err)
	}
	return string(out.Status), nil
}

// PutVersioning sets it: "Enabled", or "Suspended", which deletes no version that there is.
func (s *Store) PutVersioning(ctx context.Context, bucket, status string) error {
	in := &s3.PutBucketVersioningInput{Bucket: &bucket, VersioningConfiguration: &types.VersioningConfiguration{
		Status: types.BucketVersioningStatus(status),
	}}
	err := s.do(ctx, "PutBucketVersioning", func(ctx context.Context) error {
		_, err := s.api.PutBucketVersioning(ctx, in, plainMD5)
		return err
	})
	return s.failed("set the versioning of the bucket "+bucket, err)
}
