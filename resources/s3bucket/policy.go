package s3bucket

import (
	"context"
	"errors"
	"slices"
	"strings"
	"time"

	"github.com/converge-agent/converge/diag"
	"github.com/converge-agent/converge/objectstore"
	"github.com/converge-agent/converge/resources"
)

// policy is our statement in the bucket's policy: anyone may GET objects below these prefixes. Without prefixes there shall be
// none of ours. The statements of others stay.
type policy struct {
	prefixes []string
	others   *string // where to note what the other statements were when ours was set
}

func (policy) operation() string { return "GetBucketPolicy" }
func (policy) access() bool      { return true }

func (p policy) withdrawn() setting {
	if len(p.prefixes) == 0 {
		return nil
	}
	return policy{others: p.others}
}

func (policy) read(ctx context.Context, s *objectstore.Store, bucket string) (any, error) {
	text, err := s.GetBucketPolicy(ctx, bucket)
	if err != nil {
		return nil, err
	}
	return objectstore.ParsePolicy(text)
}

func (p policy) steps(bucket string, found any) []step {
	now, _ := found.(*objectstore.Policy)
	if now == nil {
		now, _ = objectstore.ParsePolicy("") // the empty one has no errors
	}
	if now.IsPublic(bucket, p.prefixes) {
		return nil
	}
	st := step{
		phase:  granting,
		attr:   resources.AttrDiff{Name: "policy statement " + objectstore.PublicSid, Before: policyWords(bucket, now)},
		effect: resources.Effect{Verb: "set", Target: "policy of " + bucket, Operations: once("GetBucketPolicy", "PutBucketPolicy")},
		do:     func(ctx context.Context, s *objectstore.Store) error { return p.set(ctx, s, bucket) },
	}
	if len(p.prefixes) > 0 {
		st.attr.After = "anyone may GET " + strings.Join(slices.Sorted(slices.Values(p.prefixes)), ", ")
		st.attr.Added = now.IsPublic(bucket, nil)
		if st.attr.Added {
			st.attr.Before = ""
		}
		return []step{st}
	}
	st.phase, st.attr.Removed = closing, true
	st.effect.Why, st.effect.Destructive = closesWhy, true
	if now.ForeignDigest() == "" { // and so nothing will be left of it
		st.effect.Verb, st.effect.Operations = "delete", once("GetBucketPolicy", "DeleteBucketPolicy")
	}
	return []step{st}
}

// closesWhy says what it means that a bucket is closed.
const closesWhy = "its objects will not be readable without a key any more"

// policyWords say what our statement comes to.
func policyWords(bucket string, p *objectstore.Policy) string {
	switch prefixes, exact := p.Public(bucket); {
	case p.IsPublic(bucket, nil):
		return "not set"
	case exact:
		return "anyone may GET " + strings.Join(prefixes, ", ")
	}
	return "changed by somebody"
}

// set reads the policy again, so that statements of others that came since the plan are kept.
func (p policy) set(ctx context.Context, s *objectstore.Store, bucket string) error {
	v, err := p.read(ctx, s, bucket)
	if err != nil {
		return err
	}
	now := v.(*objectstore.Policy)
	*p.others = now.ForeignDigest()
	if now.IsPublic(bucket, p.prefixes) {
		return nil
	}
	now.SetPublic(bucket, p.prefixes)
	if now.Empty() {
		return s.DeleteBucketPolicy(ctx, bucket)
	}
	err = p.put(ctx, s, bucket, now.String())
	if err != nil && errors.Is(err, objectstore.ErrDenied) && s.Provider().PublicAccessBlock {
		return diag.Wrap(err, "let everybody GET objects", "If converge's key has s3:PutBucketPolicy, the account refuses it for all its "+
			"buckets: in the console, open S3 > Block Public Access settings for this account, and take the two blocks of policies away.")
	}
	return err
}

// put sets the policy, again for a while where a block that was just taken away may still refuse it: it takes Amazon seconds until
// that is known everywhere.
func (p policy) put(ctx context.Context, s *objectstore.Store, bucket, text string) error {
	for until := time.Now().Add(settle); ; {
		err := s.PutBucketPolicy(ctx, bucket, text)
		if !errors.Is(err, objectstore.ErrDenied) || !s.Provider().PublicAccessBlock || !time.Now().Before(until) {
			return err
		}
		select {
		case <-time.After(time.Second):
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}
