package config

import (
	"github.com/converge-agent/converge/resources"
	"github.com/hashicorp/hcl/v2"
	"github.com/zclconf/go-cty/cty"
)

// need is a block that a unit refers to, and the key of the one instance that it means; nil is all of them.
type need struct {
	id  string
	key *string
}

// needsOf returns what a unit refers to, through local values too.
func (e *evaluator) needsOf(u *unit, scope *hcl.EvalContext) []need {
	var out []need
	for _, r := range u.refs {
		to := e.config.units[r.id()]
		switch {
		case to == nil: // a variable, or each
		case to.block == nil:
			out = append(out, e.needs[to.id]...)
		default:
			out = append(out, need{to.id, keyOf(r, scope)})
		}
	}
	return out
}

// keyOf returns the key of a reference. A computed key that depends on the variables of a for expression is several, hence nil.
func keyOf(r reference, scope *hcl.EvalContext) *string {
	if r.keyExpr == nil {
		return r.key
	}
	v, diags := r.keyExpr.Value(scope)
	v, _ = v.Unmark()
	if diags.HasErrors() || v.Type() != cty.String || !v.IsKnown() || v.IsNull() {
		return nil
	}
	key := v.AsString()
	return &key
}

// addresses returns the nodes that are meant by needs. In the place of a resource that is not managed come those that it
// would have needed: what had to happen before it still has to happen before those that refer to it.
func (e *evaluator) addresses(needs []need) []resources.Address {
	var out []resources.Address
	for _, n := range needs {
		for _, i := range e.instances[n.id] {
			switch {
			case n.key != nil && i.key != *n.key && !i.all:
			case i.managed:
				out = append(out, i.address)
			default:
				out = append(out, e.addresses(i.needs)...)
			}
		}
	}
	return out
}
