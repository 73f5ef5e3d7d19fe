package objectstore

import (
	"context"
	"errors"
	"strings"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/s3"
	"github.com/aws/aws-sdk-go-v2/service/s3/types"
)

// PublicAccessBlock is what a bucket does against being opened to everybody (Amazon S3 User Guide, "Blocking public access").
type PublicAccessBlock struct {
	BlockPublicACLs   bool // refuses ACLs for everybody
	IgnorePublicACLs  bool // what ACLs give everybody counts for nothing
	BlockPublicPolicy bool // refuses policies for everybody
	RestrictPublic    bool // what a policy gives everybody counts for nothing
}

// String names the switches that are on, as the provider does.
func (p PublicAccessBlock) String() string {
	var on []string
	for _, s := range []struct {
		name string
		set  bool
	}{
		{"BlockPublicAcls", p.BlockPublicACLs}, {"IgnorePublicAcls", p.IgnorePublicACLs},
		{"BlockPublicPolicy", p.BlockPublicPolicy}, {"RestrictPublicBuckets", p.RestrictPublic},
	} {
		if s.set {
			on = append(on, s.name)
		}
	}
	if len(on) == 0 {
		return "none"
	}
	return strings.Join(on, ", ")
}

// GetPublicAccessBlock returns the bucket's block, all off where it has none.
func (s *Store) GetPublicAccessBlock(ctx context.Context, bucket string) (PublicAccessBlock, error) {
	var out *s3.GetPublicAccessBlockOutput
	err := s.do(ctx, "GetPublicAccessBlock", func(ctx context.Context) (err error) {
		out, err = s.api.GetPublicAccessBlock(ctx, &s3.GetPublicAccessBlockInput{Bucket: &bucket})
		return err
	})
	var r *reply
	if errors.As(err, &r) && r.code == "NoSuchPublicAccessBlockConfiguration" {
		return PublicAccessBlock{}, nil
	}
	if err != nil {
		return PublicAccessBlock{}, s.failed("read the public access block of the bucket "+bucket, err)
	}
	c := out.PublicAccessBlockConfiguration
	if c == nil {
		return PublicAccessBlock{}, nil
	}
	return PublicAccessBlock{
		BlockPublicACLs: aws.ToBool(c.BlockPublicAcls), IgnorePublicACLs: aws.ToBool(c.IgnorePublicAcls),
		BlockPublicPolicy: aws.ToBool(c.BlockPublicPolicy), RestrictPublic: aws.ToBool(c.RestrictPublicBuckets),
	}, nil
}

// PutPublicAccessBlock sets all four switches of the bucket's block.
func (s *Store) PutPublicAccessBlock(ctx context.Context, bucket string, p PublicAccessBlock) error {
	in := &s3.PutPublicAccessBlockInput{Bucket: &bucket, PublicAccessBlockConfiguration: &types.PublicAccessBlockConfiguration{
		BlockPublicAcls: &p.BlockPublicACLs, IgnorePublicAcls: &p.IgnorePublicACLs,
		BlockPublicPolicy: &p.BlockPublicPolicy, RestrictPublicBuckets: &p.RestrictPublic,
	}}
	err := s.do(ctx, "PutPublicAccessBlock", func(ctx context.Context) error {
		_, err := s.api.PutPublicAccessBlock(ctx, in, plainMD5)
		return err
	})
	return s.failed("set the public access block of the bucket "+bucket, err)
}

// OwnerEnforced is the ownership in which the ACLs of a bucket and of its objects count for nothing.
const OwnerEnforced = string(types.ObjectOwnershipBucketOwnerEnforced)

// GetOwnership returns whose the objects of a bucket are, and so whether ACLs count: OwnerEnforced or another of the provider's
// names; "ObjectWriter", the default of old buckets, where nothing is set.
func (s *Store) GetOwnership(ctx context.Context, bucket string) (string, error) {
	var out *s3.GetBucketOwnershipControlsOutput
	err := s.do(ctx, "GetBucketOwnershipControls", func(ctx context.Context) (err error) {
		out, err = s.api.GetBucketOwnershipControls(ctx, &s3.GetBucketOwnershipControlsInput{Bucket: &bucket})
		return err
	})
	var r *reply
	if err != nil && (!errors.As(err, &r) || r.code != "OwnershipControlsNotFoundError") {
		return "", s.failed("read the ownership of the objects of the bucket "+bucket, err)
	}
	if err == nil && out.OwnershipControls != nil && len(out.OwnershipControls.Rules) > 0 {
		return string(out.OwnershipControls.Rules[0].ObjectOwnership), nil
	}
	return string(types.ObjectOwnershipObjectWriter), nil
}

// PutOwnership sets it. Amazon refuses OwnerEnforced while the bucket's ACL grants something to others.
func (s *Store) PutOwnership(ctx context.Context, bucket, ownership string) error {
	in := &s3.PutBucketOwnershipControlsInput{Bucket: &bucket, OwnershipControls: &types.OwnershipControls{
		Rules: []types.OwnershipControlsRule{{ObjectOwnership: types.ObjectOwnership(ownership)}},
	}}
	err := s.do(ctx, "PutBucketOwnershipControls", func(ctx context.Context) error {
		_, err := s.api.PutBucketOwnershipControls(ctx, in, plainMD5)
		return err
	})
	return s.failed("set the ownership of the objects of the bucket "+bucket, err)
}
