package s3bucket

import (
	"context"

	"github.com/converge-agent/converge/objectstore"
	"github.com/converge-agent/converge/resources"
)

// rules is our rule among those of one kind, CORS or the lifecycle. The rules of others stay.
type rules struct {
	kind *objectstore.RuleKind
	ours *objectstore.Rule // as it is to be
	gone bool              // it is to be taken out
}

func (r rules) operation() string { return r.kind.Read }
func (rules) access() bool        { return false }

func (r rules) withdrawn() setting { return rules{kind: r.kind, ours: r.ours, gone: true} }

func (r rules) read(ctx context.Context, s *objectstore.Store, bucket string) (any, error) {
	return s.GetRules(ctx, bucket, r.kind)
}

func (r rules) steps(bucket string, found any) []step {
	var was *objectstore.Rule
	if now, ok := found.(*objectstore.Rules); ok {
		if r.right(now) {
			return nil
		}
		was = now.Ours(r.ours)
	} else if r.gone {
		return nil
	}
	st := step{
		phase:  adding,
		attr:   resources.AttrDiff{Name: r.kind.Name + " rule " + objectstore.RuleID, After: r.ours.String(), Added: was == nil},
		effect: resources.Effect{Verb: "set", Target: r.kind.Name + " of " + bucket, Operations: once(r.kind.Read, r.kind.Write)},
		do:     func(ctx context.Context, s *objectstore.Store) error { return r.set(ctx, s, bucket) },
	}
	if was != nil {
		st.attr.Before = was.String()
	}
	if r.gone {
		st.attr.After, st.attr.Removed = "", true
		if found.(*objectstore.Rules).With(nil, r.ours).Empty() {
			st.effect.Verb, st.effect.Operations = "delete", once(r.kind.Read, r.kind.Remove)
		}
	}
	return []step{st}
}

func (r rules) right(now *objectstore.Rules) bool {
	was := now.Ours(r.ours)
	if r.gone {
		return was == nil
	}
	return was != nil && was.Equal(r.ours) && now.Once()
}

// set reads them again, so that rules of others that came since the plan are kept.
func (r rules) set(ctx context.Context, s *objectstore.Store, bucket string) error {
	now, err := s.GetRules(ctx, bucket, r.kind)
	if err != nil || r.right(now) {
		return err
	}
	if r.gone {
		return s.PutRules(ctx, bucket, now.With(nil, r.ours))
	}
	return s.PutRules(ctx, bucket, now.With(r.ours, r.ours))
}
