package resources

import (
	"context"

	"github.com/zclconf/go-cty/cty"
)

// NothingWhenAbsent gives the attribute ensure to a kind that leaves nothing behind which could be removed: a program that was
// run, a question that was asked. With ensure = "absent" its block is checked, exports what it always does, and does nothing.
// The doc says what stays.
func NothingWhenAbsent(k *Kind, doc string) *Kind {
	ensure := EnsureAttr()
	ensure.Doc = doc
	k.Attrs = append(k.Attrs, ensure)
	k.LeavesNothing = true
	present := k.New
	k.New = func(addr Address, config cty.Value) (Resource, cty.Value, error) {
		r, exports, err := present(addr, config)
		if err != nil || config.GetAttr(ensure.Name).AsString() != Absent {
			return r, exports, err
		}
		return nothing{}, exports, nil
	}
	return k
}

// nothing is the resource of which nothing is there.
type nothing struct{}

func (nothing) Claims() []Claim                                  { return nil }
func (nothing) Watches() []string                                { return nil }
func (nothing) Read(context.Context, ReadEnv) (State, error)     { return nil, nil }
func (nothing) Diff(State) Change                                { return Change{Digest: Absent} }
func (nothing) Apply(ctx context.Context, _ Env, _ Change) error { return ctx.Err() }
