package s3bucket

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/converge-agent/converge/objectstore"
	"github.com/converge-agent/converge/resources"
)

// access is what the bucket's own settings say about who may read it.
type access struct {
	Unreadable bool     // this key may not look; only the probes can tell
	Right      bool     // it is as it is to be
	Words      string   // what it is, for people
	Foreign    []string // statements of a policy that are not ours and allow everybody something, by Sid
	Others     string   // digest of all statements that are not ours; "" without any
}

// readAccess asks for the settings, in one request.
func (b *bucket) readAccess(ctx context.Context, s *objectstore.Store) (a access, err error) {
	if b.provider.Public == objectstore.BucketACL {
		a, err = b.readACL(ctx, s)
	} else {
		a, err = b.readPolicy(ctx, s)
	}
	if errors.Is(err, objectstore.ErrDenied) {
		return access{Unreadable: true}, nil
	}
	return a, err
}

func (b *bucket) readACL(ctx context.Context, s *objectstore.Store) (access, error) {
	everybody, err := s.GetBucketACL(ctx, b.Name)
	if err != nil {
		return access{}, err
	}
	a := access{Words: "everybody: " + strings.Join(everybody, ", ")}
	switch {
	case len(everybody) == 0:
		a.Words, a.Right = "private", b.Access == private
	case slices.Equal(everybody, []string{"READ"}):
		a.Words, a.Right = "public-read", b.Access == publicObjects
	}
	return a, nil
}

func (b *bucket) readPolicy(ctx context.Context, s *objectstore.Store) (access, error) {
	policy, err := b.getPolicy(ctx, s)
	if err != nil {
		return access{}, err
	}
	a := access{Right: policy.IsPublic(b.Name, b.policyPrefixes()), Foreign: policy.Foreign(), Others: policy.ForeignDigest()}
	switch prefixes, exact := policy.Public(b.Name); {
	case policy.IsPublic(b.Name, nil):
		a.Words = "not set"
	case exact:
		a.Words = "anyone may GET " + strings.Join(prefixes, ", ")
	default:
		a.Words = "changed by somebody"
	}
	return a, nil
}

func (b *bucket) getPolicy(ctx context.Context, s *objectstore.Store) (*objectstore.Policy, error) {
	text, err := s.GetBucketPolicy(ctx, b.Name)
	if err != nil {
		return nil, err
	}
	return objectstore.ParsePolicy(text)
}

// setAccess makes the settings as they are to be, and returns the digest of a policy's other statements. A policy is read again
// first, so that statements of others that came since the plan are kept.
func (b *bucket) setAccess(ctx context.Context, s *objectstore.Store) (others string, err error) {
	if b.provider.Public == objectstore.BucketACL {
		return "", s.PutBucketACL(ctx, b.Name, b.bucketACL())
	}
	policy, err := b.getPolicy(ctx, s)
	if err != nil {
		return "", err
	}
	others = policy.ForeignDigest()
	if policy.IsPublic(b.Name, b.policyPrefixes()) {
		return others, nil
	}
	policy.SetPublic(b.Name, b.policyPrefixes())
	if policy.Empty() {
		return others, s.DeleteBucketPolicy(ctx, b.Name)
	}
	return others, s.PutBucketPolicy(ctx, b.Name, policy.String())
}

// bucketACL is the canned ACL of the bucket itself, "" where the provider is told otherwise.
func (b *bucket) bucketACL() string {
	switch {
	case b.provider.Public != objectstore.BucketACL:
		return ""
	case b.Access == publicObjects:
		return "public-read"
	}
	return "private"
}

// policyPrefixes are the prefixes that our statement is to name; none where there is to be no statement.
func (b *bucket) policyPrefixes() []string {
	if b.Access == publicObjects {
		return b.Prefixes
	}
	return nil
}

// accessAttr shows what changes of the settings.
func (b *bucket) accessAttr(before string) resources.AttrDiff {
	d := resources.AttrDiff{Name: "acl", Before: before, After: b.bucketACL(), Added: before == ""}
	if b.provider.Public == objectstore.BucketPolicy {
		d.Name = "policy statement " + objectstore.PublicSid
		d.After = "anyone may GET " + strings.Join(slices.Sorted(slices.Values(b.Prefixes)), ", ")
		if b.Access == private {
			d.After, d.Removed = "", true
		}
	}
	return d
}

// words say in one line how the bucket is to be.
func (b *bucket) words() string {
	where := fmt.Sprintf("%s, %s %s: ", b.Name, b.Store.Provider, b.Store.Region)
	switch {
	case b.Access == private:
		return where + "private"
	case b.provider.Public == objectstore.BucketACL:
		return where + "objects public by bucket ACL; backups/ only unguessable"
	}
	return where + "objects public by policy; " + strings.Join(b.hiddenPrefixes(), " and ") + " private"
}
