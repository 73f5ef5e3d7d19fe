package s3bucket

import (
	"context"
	"slices"

	"github.com/converge-agent/converge/objectstore"
	"github.com/converge-agent/converge/resources"
)

// withdrawn is a bucket that converge is to let go: what it opened is closed, its rules are taken out, and nothing else is
// touched. The bucket stays, for it may hold the only copy of what people wrote.
type withdrawn struct{ *bucket }

// settings are those of which something of converge's is to be taken out.
func (w *withdrawn) settings() []setting {
	var list []setting
	for _, one := range w.bucket.settings() {
		if without := one.withdrawn(); without != nil {
			list = append(list, without)
		}
	}
	return list
}

// Read costs one request for each of these settings; none where converge has never set anything.
func (w *withdrawn) Read(ctx context.Context, _ resources.ReadEnv) (resources.State, error) {
	list := w.settings()
	if len(list) == 0 {
		return found{}, nil
	}
	s, err := w.clients.Store(w.Store)
	if err != nil {
		return nil, err
	}
	return w.readSettings(ctx, s, list)
}

// Diff is to close and to take out, or nothing.
func (w *withdrawn) Diff(s resources.State) resources.Change {
	f := s.(found)
	c := resources.Change{Digest: resources.Absent, Notes: w.stays()}
	switch {
	case f.Missing:
		return c
	case f.Unreadable:
		return resources.Change{
			Action:  resources.Blocked,
			Summary: "this key may not read who may read " + w.Name + ", so nobody can tell whether it is closed",
			Notes:   []string{"Close the bucket in the provider's console, and take this block out of the configuration."},
		}
	}
	steps := w.steps(w.settings(), f)
	if p := f.policy(); p != nil && len(p.Foreign()) > 0 {
		locks := func(s step) bool { return s.phase == locking }
		if slices.ContainsFunc(steps, locks) {
			c.Notes = append(c.Notes, "the public access block stays as it is: the policy has a statement of others that allows everybody something")
		}
		steps = slices.DeleteFunc(steps, locks)
	}
	if len(steps) == 0 {
		return c
	}
	c.Action, c.Summary, c.Private = resources.Update, w.Name+": closed; the bucket and its objects stay", todo{steps: steps}
	w.show(&c, steps)
	return c
}

// stays says what stays open, for no request of converge's can close it.
func (w *withdrawn) stays() []string {
	switch {
	case w.Access == private:
	case w.provider.Public == objectstore.CustomDomain:
		return []string{"the objects stay public at https://" + w.PublicHost + " until that is taken from the bucket in the provider's console"}
	case w.provider.Public == objectstore.ObjectACL:
		return []string{"the objects that were uploaded with the ACL " + w.provider.ObjectACL + " stay public, each by its own ACL"}
	}
	return nil
}

// Apply does it.
func (w *withdrawn) Apply(ctx context.Context, _ resources.Env, c resources.Change) error {
	s, err := w.clients.Store(w.Store)
	if err != nil {
		return err
	}
	do, _ := c.Private.(todo)
	for _, st := range do.steps {
		if err := st.do(ctx, s); err != nil {
			return err
		}
	}
	return nil
}
