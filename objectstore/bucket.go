package objectstore

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"slices"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/s3"
	"github.com/aws/aws-sdk-go-v2/service/s3/types"
	"github.com/aws/smithy-go/middleware"
	smithyhttp "github.com/aws/smithy-go/transport/http"
)

// HeadBucket looks whether a bucket is there and ours: ErrNoBucket when there is none, ErrDenied when the key has no rights
// on it. The answer to a HEAD has no body, so a refusal is asked for again in words, by a listing. A key that may list, though
// not look (a token that is for objects alone), has seen the bucket. Where both are refused for want of rights, the list of the
// account's buckets tells whether the bucket is somebody else's, to keys that may have it.
func (s *Store) HeadBucket(ctx context.Context, bucket string) error {
	err := s.do(ctx, "HeadBucket", func(ctx context.Context) error {
		_, err := s.api.HeadBucket(ctx, &s3.HeadBucketInput{Bucket: &bucket})
		return err
	})
	var r *reply
	if errors.As(err, &r) {
		switch r.status {
		case http.StatusNotFound:
			err = s.reason(ctx, bucket, &reply{is: ErrNoBucket, status: r.status})
		case http.StatusForbidden, http.StatusBadRequest, http.StatusUnauthorized:
			err = s.owner(ctx, bucket, s.reason(ctx, bucket, err))
		}
	}
	return s.failed("look at the bucket "+bucket, err)
}

// reason asks for the shortest listing, whose failure has an error code, and returns that failure. A listing that succeeds
// leaves err, where it is no proof that the bucket is ours, but not when that is ErrNoBucket: then the two answers contradict
// each other, and nothing is known. Nor is it when the listing had no answer.
func (s *Store) reason(ctx context.Context, bucket string, err error) error {
	_, e := s.listPage(ctx, &s3.ListObjectsV2Input{Bucket: &bucket, MaxKeys: aws.Int32(1)})
	var r *reply
	switch {
	case e == nil && errors.Is(err, ErrNoBucket):
		return &reply{is: ErrUnreachable, message: "HEAD says that the bucket is not there, and a listing that it is"}
	case e == nil && s.provider.Public == CustomDomain:
		return nil // a key for objects alone may list the bucket and not look at it, and nothing is listed to others (Cloudflare R2)
	case e == nil:
		return err
	case errors.As(e, &r) && r.status == http.StatusNotFound && !errors.Is(r, ErrNoBucket):
		return &reply{is: ErrUnreachable, status: r.status, message: "the answer is not that of an S3 store"}
	}
	return e
}

// owner looks whether a bucket that err refuses for want of rights is among those of the account, and notes it in err.
func (s *Store) owner(ctx context.Context, bucket string, err error) error {
	var r *reply
	if !errors.As(err, &r) || r.code != "AccessDenied" {
		return err
	}
	if d := diagnose(seen{reply: r, store: s}); d == nil || !d.right {
		return err // what is wrong is known
	}
	var out *s3.ListBucketsOutput
	e := s.do(ctx, "ListBuckets", func(ctx context.Context) (err error) {
		out, err = s.api.ListBuckets(ctx, &s3.ListBucketsInput{})
		return err
	})
	if e != nil || aws.ToString(out.ContinuationToken) != "" || out.Owner == nil {
		return err // it may not, or what came is no whole list
	}
	r.owned = theirs
	if slices.ContainsFunc(out.Buckets, func(b types.Bucket) bool { return aws.ToString(b.Name) == bucket }) {
		r.owned = ours
	}
	return err
}

// CreateBucket creates a bucket, with a canned ACL where acl is not "". A bucket that is ours already is no error.
func (s *Store) CreateBucket(ctx context.Context, bucket, acl string) error {
	in := &s3.CreateBucketInput{Bucket: &bucket, ACL: types.BucketCannedACL(acl)}
	if s.provider.Ownership { // which new buckets have anyway, unless a key's owner asked for another
		in.ObjectOwnership = types.ObjectOwnershipBucketOwnerEnforced
	}
	if s.provider.NamesRegion && s.cfg.Region != "us-east-1" { // the one region that must not be named (Amazon S3 API Reference)
		in.CreateBucketConfiguration = &types.CreateBucketConfiguration{LocationConstraint: types.BucketLocationConstraint(s.cfg.Region)}
	}
	err := s.do(ctx, "CreateBucket", func(ctx context.Context) error {
		_, err := s.api.CreateBucket(ctx, in, plainMD5)
		return err
	})
	var r *reply
	if errors.As(err, &r) && r.code == "BucketAlreadyOwnedByYou" {
		return nil
	}
	return s.failed("create the bucket "+bucket, err)
}

// GetBucketPolicy returns the bucket's policy as the store has it, "" where there is none.
func (s *Store) GetBucketPolicy(ctx context.Context, bucket string) (string, error) {
	var out *s3.GetBucketPolicyOutput
	err := s.do(ctx, "GetBucketPolicy", func(ctx context.Context) (err error) {
		out, err = s.api.GetBucketPolicy(ctx, &s3.GetBucketPolicyInput{Bucket: &bucket})
		return err
	})
	var r *reply
	if errors.As(err, &r) && r.code == "NoSuchBucketPolicy" {
		return "", nil
	}
	if err != nil {
		return "", s.failed("read the policy of the bucket "+bucket, err)
	}
	return aws.ToString(out.Policy), nil
}

// PutBucketPolicy sets the bucket's policy.
func (s *Store) PutBucketPolicy(ctx context.Context, bucket, policy string) error {
	err := s.do(ctx, "PutBucketPolicy", func(ctx context.Context) error {
		_, err := s.api.PutBucketPolicy(ctx, &s3.PutBucketPolicyInput{Bucket: &bucket, Policy: &policy}, plainMD5)
		return err
	})
	return s.failed("set the policy of the bucket "+bucket, err)
}

// DeleteBucketPolicy deletes the bucket's policy.
func (s *Store) DeleteBucketPolicy(ctx context.Context, bucket string) error {
	err := s.do(ctx, "DeleteBucketPolicy", func(ctx context.Context) error {
		_, err := s.api.DeleteBucketPolicy(ctx, &s3.DeleteBucketPolicyInput{Bucket: &bucket})
		return err
	})
	return s.failed("delete the policy of the bucket "+bucket, err)
}

// The groups of everybody, and of everybody who has an account with the provider, which anybody may have (Amazon S3 User Guide,
// "Access control list overview").
const (
	allUsers           = "http://acs.amazonaws.com/groups/global/AllUsers"
	authenticatedUsers = "http://acs.amazonaws.com/groups/global/AuthenticatedUsers"
)

// GetBucketACL returns what the bucket's ACL grants to everybody, such as READ and WRITE, in the store's order, and what only to
// those who have an account as "READ with any account".
func (s *Store) GetBucketACL(ctx context.Context, bucket string) (everybody []string, err error) {
	var out *s3.GetBucketAclOutput
	err = s.do(ctx, "GetBucketAcl", func(ctx context.Context) (err error) {
		out, err = s.api.GetBucketAcl(ctx, &s3.GetBucketAclInput{Bucket: &bucket})
		return err
	})
	if err != nil {
		return nil, s.failed("read the ACL of the bucket "+bucket, err)
	}
	for _, g := range out.Grants {
		if g.Grantee == nil {
			continue
		}
		switch aws.ToString(g.Grantee.URI) {
		case allUsers:
			everybody = append(everybody, string(g.Permission))
		case authenticatedUsers:
			everybody = append(everybody, string(g.Permission)+" with any account")
		}
	}
	return everybody, nil
}

// PutBucketACL sets the bucket's canned ACL, by header, for there are stores that take no ACL in a body.
func (s *Store) PutBucketACL(ctx context.Context, bucket, acl string) error {
	err := s.do(ctx, "PutBucketAcl", func(ctx context.Context) error {
		_, err := s.api.PutBucketAcl(ctx, &s3.PutBucketAclInput{Bucket: &bucket, ACL: types.BucketCannedACL(acl)}, plainMD5)
		return err
	})
	return s.failed(fmt.Sprintf("set the ACL of the bucket %s to %s", bucket, acl), err)
}

// plainMD5 makes a request carry Content-MD5 and no x-amz-checksum-*, which the SDK sends with these requests even under
// WhenRequired and which several stores refuse or do not count as a checksum (aws/aws-sdk-go-v2#3258).
func plainMD5(o *s3.Options) {
	o.APIOptions = append(o.APIOptions, func(stack *middleware.Stack) error {
		_, _ = stack.Initialize.Remove("AWSChecksum:SetupInputContext") // absent where the request has no checksum
		_, _ = stack.Finalize.Remove("AWSChecksum:ComputeInputPayloadChecksum")
		_, _ = stack.Finalize.Remove("addInputChecksumTrailer")
		return smithyhttp.AddContentChecksumMiddleware(stack)
	})
}
