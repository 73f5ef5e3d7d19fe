package s3bucket

import (
	"context"
	"errors"

	"github.com/converge-agent/converge/objectstore"
	"github.com/converge-agent/converge/resources"
)

// withdrawn is a bucket that converge is to let go: what it opened is closed, and nothing else is touched. The bucket stays,
// for it may hold the only copy of what people wrote.
type withdrawn struct{ *bucket }

// Read costs two requests, HeadBucket and its policy or ACL; none where converge has never opened anything.
func (w *withdrawn) Read(ctx context.Context, _ resources.ReadEnv) (resources.State, error) {
	if w.Access == private {
		return access{Right: true}, nil
	}
	s, err := w.clients.Store(w.Store)
	if err != nil {
		return nil, err
	}
	switch err := s.HeadBucket(ctx, w.Name); {
	case errors.Is(err, objectstore.ErrNoBucket):
		return access{Right: true}, nil
	case err != nil:
		return nil, err
	}
	return w.closed().readAccess(ctx, s)
}

// closed is the bucket as it is to be: without our statement, or with a private ACL.
func (w *withdrawn) closed() *bucket {
	b := *w.bucket
	b.Access = private
	return &b
}

// Diff is to close, or nothing.
func (w *withdrawn) Diff(s resources.State) resources.Change {
	found := s.(access)
	switch {
	case found.Unreadable:
		return resources.Change{
			Action:  resources.Blocked,
			Summary: "this key may not read who may read " + w.Name + ", so nobody can tell whether it is closed",
			Notes:   []string{"Close the bucket in the provider's console, and take this block out of the configuration."},
		}
	case found.Right:
		return resources.Change{Digest: resources.Absent}
	}
	b := w.closed()
	return resources.Change{
		Action: resources.Update, Digest: resources.Absent,
		Summary: w.Name + ": closed; the bucket and its objects stay",
		Attrs:   []resources.AttrDiff{b.accessAttr(found.Words)},
		Effects: b.accessEffects(),
	}
}

// Apply closes it.
func (w *withdrawn) Apply(ctx context.Context, _ resources.Env, _ resources.Change) error {
	s, err := w.clients.Store(w.Store)
	if err != nil {
		return err
	}
	_, err = w.closed().setAccess(ctx, s)
	return err
}
