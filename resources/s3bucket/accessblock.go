package s3bucket

import (
	"context"
	"fmt"
	"slices"

	"github.com/converge-agent/converge/objectstore"
	"github.com/converge-agent/converge/resources"
)

// accessBlock is the public access block, of which new buckets at Amazon have all four switches on. Those of ACLs stay on. Those
// of policies are off where a policy makes objects public, and only then.
type accessBlock struct{ public bool }

func (accessBlock) operation() string { return "GetPublicAccessBlock" }
func (accessBlock) access() bool      { return true }

func (a accessBlock) withdrawn() setting {
	if !a.public {
		return nil
	}
	return accessBlock{}
}

func (accessBlock) read(ctx context.Context, s *objectstore.Store, bucket string) (any, error) {
	return s.GetPublicAccessBlock(ctx, bucket)
}

func (a accessBlock) want() objectstore.PublicAccessBlock {
	return objectstore.PublicAccessBlock{
		BlockPublicACLs: true, IgnorePublicACLs: true, BlockPublicPolicy: !a.public, RestrictPublic: !a.public,
	}
}

// steps lock after everything was closed. They unlock in two: first a policy for everybody may be set, and does not count; and
// once it is the right one, it counts. A wrong statement that stands there already is never in force for a moment.
func (a accessBlock) steps(bucket string, found any) []step {
	now, read := found.(objectstore.PublicAccessBlock)
	if !read { // how new buckets are
		now = accessBlock{}.want()
	}
	want := a.want()
	if now == want {
		return nil
	}
	shown := resources.AttrDiff{Name: "public access block", Before: now.String(), After: want.String()}
	if !a.public {
		return []step{putBlock(bucket, locking, shown, want)}
	}
	first := want
	first.RestrictPublic = now.RestrictPublic
	switch {
	case !now.RestrictPublic:
		return []step{putBlock(bucket, preparing, shown, want)}
	case now == first:
		return []step{putBlock(bucket, opening, shown, want)}
	}
	return []step{
		putBlock(bucket, preparing, shown, first),
		putBlock(bucket, opening, resources.AttrDiff{}, want),
	}
}

func putBlock(bucket string, when phase, shown resources.AttrDiff, to objectstore.PublicAccessBlock) step {
	return step{
		phase: when, attr: shown,
		effect: resources.Effect{Verb: "set", Target: "public access block of " + bucket + ": " + to.String(), Operations: once("PutPublicAccessBlock")},
		do: func(ctx context.Context, s *objectstore.Store) error {
			return s.PutPublicAccessBlock(ctx, bucket, to)
		},
	}
}

// wouldFree reports whether the steps take away a block that holds back statements of others, which were never seen to be harmless.
func (st *state) wouldFree(steps []step) bool {
	opens := slices.ContainsFunc(steps, func(s step) bool { return s.phase == opening })
	return opens && len(st.Foreign) > 0 && (st.Probes == nil || st.Probes.Others != st.Others)
}

// locked is the change while the block stays for the sake of these statements: nobody but a person knows what they are to allow.
func (b *bucket) locked(st *state) resources.Change {
	return resources.Change{
		Action: resources.Blocked,
		Summary: fmt.Sprintf("%s: to open it would let everybody do what statements of its policy allow that are not converge's: %q",
			b.Name, st.Foreign),
		Notes: []string{"The public access block of the bucket holds them back now. Take them out of the policy; or, if they are meant, " +
			"take the block off in the provider's console: converge then looks at the bucket from outside."},
	}
}

// ignoresACLs reports whether the block was read, and the policy before it, and ACLs count for nothing: then nothing else that
// cannot be read opens the bucket.
func (f found) ignoresACLs() bool {
	for _, v := range f.Values {
		if block, ok := v.(objectstore.PublicAccessBlock); ok {
			return block.IgnorePublicACLs && f.policy() != nil
		}
	}
	return false
}
