package s3bucket

import (
	"context"

	"github.com/converge-agent/converge/objectstore"
	"github.com/converge-agent/converge/resources"
)

// ownership has every object belong to the bucket's owner, so that ACLs count for nothing. Buckets from before April 2023 at
// Amazon are otherwise, and one of their ACLs may open them.
type ownership struct{}

func (ownership) operation() string  { return "GetBucketOwnershipControls" }
func (ownership) access() bool       { return true }
func (ownership) withdrawn() setting { return nil } // ACLs that count again could open something

func (ownership) read(ctx context.Context, s *objectstore.Store, bucket string) (any, error) {
	return s.GetOwnership(ctx, bucket)
}

// steps of a bucket that is still to be created are none: it is created so. The ACL goes first, for Amazon refuses the rest
// while it lets anybody else in.
func (ownership) steps(bucket string, found any) []step {
	now, read := found.(string)
	if !read || now == objectstore.OwnerEnforced {
		return nil
	}
	return []step{{
		phase: closing,
		attr:  resources.AttrDiff{Name: "object ownership", Before: now, After: objectstore.OwnerEnforced},
		effect: resources.Effect{
			Verb: "set", Target: "object ownership of " + bucket, Why: "ACLs count for nothing then, and what they grant to other accounts ends",
			Operations: once("PutBucketAcl", "PutBucketOwnershipControls"),
		},
		do: func(ctx context.Context, s *objectstore.Store) error {
			if err := s.PutBucketACL(ctx, bucket, "private"); err != nil {
				return err
			}
			return s.PutOwnership(ctx, bucket, objectstore.OwnerEnforced)
		},
	}}
}
