package s3bucket

import (
	"context"
	"slices"
	"strings"

	"github.com/converge-agent/converge/objectstore"
	"github.com/converge-agent/converge/resources"
)

// bucketACL is the canned ACL of the bucket itself: public-read where that is how objects become public, else private, for
// elsewhere a public ACL opens the listing. What it gives to single accounts is not looked at.
type bucketACL struct {
	public    bool
	ofObjects bool // it decides who may read objects too
}

func (bucketACL) operation() string { return "GetBucketAcl" }
func (bucketACL) access() bool      { return true }

func (a bucketACL) withdrawn() setting {
	if !a.public {
		return nil
	}
	return bucketACL{ofObjects: a.ofObjects}
}

// acl is what an ACL lets everybody do.
type acl []string

func (bucketACL) read(ctx context.Context, s *objectstore.Store, bucket string) (any, error) {
	everybody, err := s.GetBucketACL(ctx, bucket)
	if objectstore.Unsupported(err) {
		return acl{}, nil // a store without ACLs has none that opens anything
	}
	if err != nil {
		return nil, err
	}
	slices.Sort(everybody)
	return acl(slices.Compact(everybody)), nil
}

func (a acl) String() string {
	switch {
	case len(a) == 0:
		return "private"
	case slices.Equal(a, acl{"READ"}):
		return "public-read"
	}
	return "everybody: " + strings.Join(a, ", ")
}

func (a bucketACL) canned() string {
	if a.public {
		return "public-read"
	}
	return "private"
}

// steps of a bucket that is still to be created are none: it is created with its ACL.
func (a bucketACL) steps(bucket string, found any) []step {
	now, read := found.(acl)
	if !read || now.String() == a.canned() {
		return nil
	}
	st := step{
		phase:  closing,
		attr:   resources.AttrDiff{Name: "acl", Before: now.String(), After: a.canned()},
		effect: resources.Effect{Verb: "set", Target: "ACL of " + bucket, Operations: once("PutBucketAcl")},
		do:     func(ctx context.Context, s *objectstore.Store) error { return s.PutBucketACL(ctx, bucket, a.canned()) },
	}
	switch {
	case a.public:
		st.phase = granting
	case a.ofObjects:
		st.effect.Why, st.effect.Destructive = closesWhy, true
	default:
		st.effect.Why = "nobody else is to list it, or to write"
	}
	return []step{st}
}
