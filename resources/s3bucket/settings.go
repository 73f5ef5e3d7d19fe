package s3bucket

import (
	"cmp"
	"context"
	"errors"
	"slices"

	"github.com/converge-agent/converge/diag"
	"github.com/converge-agent/converge/objectstore"
	"github.com/converge-agent/converge/resources"
)

// setting is one thing that a store keeps about a bucket. A setting that is not written in the configuration, or that the
// provider does not have, is not in the list of a bucket, and costs nothing.
type setting interface {
	// operation is the one request that read makes.
	operation() string
	// access reports whether the setting decides who may read the bucket. One of these that the key may not read is no
	// error, for anonymous requests can tell as well.
	access() bool
	// read finds what the store has.
	read(ctx context.Context, s *objectstore.Store, bucket string) (any, error)
	// steps make it as it is to be; found is what read gave, nil of a bucket that is still to be created.
	steps(bucket string, found any) []step
	// withdrawn is the setting without what is converge's; nil where there is nothing to take out.
	withdrawn() setting
}

// step is one thing that Apply does, and all that the plan says of it.
type step struct {
	phase  phase
	attr   resources.AttrDiff // what changes; without a name another step of the setting shows it
	effect resources.Effect
	do     func(context.Context, *objectstore.Store) error

	access bool // the bucket is to be looked at from outside afterwards
}

// phase is when a step is done. After each of them the bucket is no more open than before, or as open as it is to be: a run
// that ends anywhere leaves nothing open that shall not be.
type phase int

const (
	creating  phase = iota
	closing         // take out what lets everybody in
	locking         // then lock, which is refused while something is open
	preparing       // unlock what a statement needs to be taken at all, while nothing counts yet
	granting        // let everybody in to what is public
	opening         // and let that count
	adding          // all that has nothing to do with it
)

// settings are those of the bucket, in the order in which they are read: the first that decides about access tells as well
// whether there is a bucket.
func (b *bucket) settings() []setting {
	list := b.accessSettings()
	if b.CORS != nil {
		list = append(list, rules{kind: objectstore.CORS, ours: b.CORS.rule()})
	}
	if b.Lifecycle != nil {
		list = append(list, rules{kind: objectstore.Lifecycle, ours: b.Lifecycle.rule()})
	}
	if b.Versioning != nil {
		list = append(list, versioning{on: *b.Versioning})
	}
	return list
}

// accessSettings are those that decide who may read, by the provider's entry in the table.
func (b *bucket) accessSettings() []setting {
	public := b.Access == publicObjects
	p := b.provider
	switch p.Public {
	case objectstore.BucketACL:
		return []setting{bucketACL{public: public, ofObjects: true}}
	case objectstore.ObjectACL:
		return []setting{bucketACL{}, policy{others: &b.others}}
	case objectstore.CustomDomain:
		return nil
	}
	list := []setting{policy{prefixes: b.policyPrefixes(), others: &b.others}}
	if p.PublicAccessBlock {
		list = append(list, accessBlock{public: public})
	}
	switch {
	case p.Ownership: // which makes ACLs count for nothing
		list = append(list, ownership{})
	case p.ACLs:
		list = append(list, bucketACL{})
	}
	return list
}

// found is what was read of the settings.
type found struct {
	Missing    bool
	Unreadable bool   // this key may not read all that decides about access; only the probes can tell
	Refused    string // the first operation of those that it may not do
	Values     []any  // of the settings, in their order; nil of those that were not read
}

// readSettings reads them, each by one request. The first one tells whether there is a bucket, so that no request is spent
// on that alone; only where it was refused, or where there is none, HeadBucket does.
func (b *bucket) readSettings(ctx context.Context, s *objectstore.Store, list []setting) (found, error) {
	f := found{Values: make([]any, len(list))}
	seen := false
	for i, one := range list {
		if one.access() && f.Unreadable {
			continue
		}
		v, err := one.read(ctx, s, b.Name)
		switch {
		case errors.Is(err, objectstore.ErrNoBucket):
			return found{Missing: true}, nil
		case errors.Is(err, objectstore.ErrDenied) && one.access():
			f.Unreadable, f.Refused = true, one.operation()
		case errors.Is(err, objectstore.ErrNotFound) && !seen: // a 404 that is not a store's: HeadBucket says it in words
			if _, e := missing(ctx, s, b.Name); e != nil {
				err = e
			}
			return found{}, err
		case objectstore.Unsupported(err):
			return found{}, diag.Wrap(err, "manage the bucket "+b.Name, "What the store does not have cannot be managed: take cors, "+
				"lifecycle or versioning out of the s3_bucket, or look whether public_by of the object_store fits.")
		case err != nil:
			return found{}, err
		}
		if err == nil {
			f.Values[i] = v
		} else if !seen { // it may be the key, or somebody else's bucket
			if f.Missing, err = missing(ctx, s, b.Name); f.Missing || err != nil {
				return f, err
			}
		}
		seen = true
	}
	if seen {
		return f, nil
	}
	var err error
	f.Missing, err = missing(ctx, s, b.Name)
	return f, err
}

func missing(ctx context.Context, s *objectstore.Store, bucket string) (bool, error) {
	err := s.HeadBucket(ctx, bucket)
	if errors.Is(err, objectstore.ErrNoBucket) {
		return true, nil
	}
	return false, err
}

// policy returns the policy that was read; nil where none was.
func (f found) policy() *objectstore.Policy {
	for _, v := range f.Values {
		if p, ok := v.(*objectstore.Policy); ok {
			return p
		}
	}
	return nil
}

// steps make the settings as they are to be, in the order in which they are done.
func (b *bucket) steps(list []setting, f found) []step {
	var all []step
	for i, one := range list {
		var v any
		if !f.Missing {
			if v = f.Values[i]; v == nil {
				continue // not read
			}
		}
		for _, st := range one.steps(b.Name, v) {
			st.access = one.access()
			all = append(all, st)
		}
	}
	slices.SortStableFunc(all, func(a, b step) int { return cmp.Compare(a.phase, b.phase) })
	return all
}

// show puts the steps into a change, with what they cost.
func (b *bucket) show(c *resources.Change, steps []step) {
	for _, st := range steps {
		if st.attr.Name != "" {
			c.Attrs = append(c.Attrs, st.attr)
		}
		c.Effects = append(c.Effects, b.costs(st.effect))
	}
}

// costs completes an effect whose Operations are known.
func (b *bucket) costs(e resources.Effect) resources.Effect {
	e.Provider, e.Requests = b.Store.Provider, 0
	for _, n := range e.Operations {
		e.Requests += n
	}
	return e
}

// once is the cost of one request of each of these operations.
func once(operations ...string) map[string]int64 {
	out := map[string]int64{}
	for _, op := range operations {
		out[op]++
	}
	return out
}
