package s3bucket

import (
	"context"
	"errors"
	"fmt"

	"github.com/converge-agent/converge/objectstore"
	"github.com/converge-agent/converge/resources"
)

// versioning is whether the bucket keeps old versions. What there is of them is never deleted by it.
type versioning struct{ on bool }

func (versioning) operation() string  { return "GetBucketVersioning" }
func (versioning) access() bool       { return false }
func (versioning) withdrawn() setting { return nil } // how it was before nobody knows, and more versions do no harm

func (versioning) read(ctx context.Context, s *objectstore.Store, bucket string) (any, error) {
	return s.GetVersioning(ctx, bucket)
}

func (v versioning) steps(bucket string, found any) []step {
	now, _ := found.(string)
	const enabled, suspended = "Enabled", "Suspended"
	want := suspended
	if v.on {
		want = enabled
	}
	if v.on == (now == enabled) {
		return nil
	}
	d := resources.AttrDiff{Name: "versioning", Before: now, After: want, Added: now == ""}
	e := resources.Effect{Verb: "set", Target: "versioning of " + bucket, Operations: once("PutBucketVersioning")}
	if !v.on {
		e.Why = "what is overwritten or deleted from now on is gone; versions that there are stay"
	}
	return []step{{phase: adding, attr: d, effect: e, do: func(ctx context.Context, s *objectstore.Store) error {
		return s.PutVersioning(ctx, bucket, want)
	}}}
}

func checkVersioning(p *objectstore.Provider, on bool) error {
	switch {
	case p.AlwaysVersioned && on:
		return errors.New(p.Title + " always keeps versions; leave it out, and write a lifecycle that ends hidden ones")
	case p.AlwaysVersioned:
		return errors.New(p.Title + " always keeps versions, and cannot be told otherwise; leave it out")
	case !p.Versioning:
		return fmt.Errorf("%s has no versioning that could be set through S3; leave it out", p.Title)
	}
	return nil
}
