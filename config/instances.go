package config

import (
	"errors"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"time"

	"github.com/converge-agent/converge/resources"
	"github.com/converge-agent/converge/secret"
	"github.com/hashicorp/hcl/v2"
	"github.com/zclconf/go-cty/cty"
	"github.com/zclconf/go-cty/cty/convert"
)

// instance is one resource: of a block without for_each the only one.
type instance struct {
	key     string
	address resources.Address
	scope   *hcl.EvalContext
	managed bool // not switched off by when
	all     bool // stands for every instance of a for_each that could not be evaluated
	needs   []need

	exports  cty.Value // an object, perhaps of unknown values
	resource resources.Resource
	digest   string
	facts    string // digest of what was read; "" of a kind without facts
	asked    string // the attribute that was found, of a kind that asks
	timeout  time.Duration
	retry    resources.Retry
	absent   bool // ensure is "absent"
	err      error
}

// value is what a reference to the instance gives.
func (i *instance) value() cty.Value { return resources.Reference(i.address, i.exports) }

func (e *evaluator) block(u *unit) {
	keys, diags := e.expand(u)
	f := e.failed(u, diags)
	switch {
	case f != nil || keys == nil: // it is not known which instances there are
		e.unexpanded(u, f)
	case u.block.forEach == nil:
		i := e.instance(u, "", nil)
		e.instances[u.id] = []*instance{i}
		e.values[u.id] = i.value()
	default:
		e.each(u, keys)
	}
}

// unexpanded evaluates a block whose for_each is unknown once, as the one that it stands for as yet.
func (e *evaluator) unexpanded(u *unit, f *failure) {
	if f != nil {
		i := &instance{address: u.block.address(""), managed: true, all: true, err: f.error(u), needs: e.needsOf(u, e.scope(u, nil))}
		e.instances[u.id] = []*instance{i}
		e.values[u.id] = f.value(cty.DynamicPseudoType)
		return
	}
	e.ask()
	e.instance(u, "", map[string]cty.Value{"key": cty.UnknownVal(cty.String), "value": cty.DynamicVal})
	e.values[u.id] = cty.DynamicVal
}

func (e *evaluator) each(u *unit, keys []eachKey) {
	values := map[string]cty.Value{}
	for _, k := range keys {
		i := e.instance(u, k.key, map[string]cty.Value{"key": cty.StringVal(k.key), "value": k.value})
		e.instances[u.id] = append(e.instances[u.id], i)
		values[k.key] = i.value()
	}
	e.values[u.id] = cty.ObjectVal(values)
}

// eachKey is one key of a for_each and its value.
type eachKey struct {
	key   string
	value cty.Value
}

// expand returns the instances of a block, nil while they are unknown. A block without for_each has one.
func (e *evaluator) expand(u *unit) ([]eachKey, hcl.Diagnostics) {
	expr := u.block.forEach
	if expr == nil {
		return []eachKey{{}}, nil
	}
	v, diags := e.value(expr, e.scope(u, nil))
	if diags.HasErrors() {
		return nil, diags
	}
	fail := func(format string, args ...any) ([]eachKey, hcl.Diagnostics) {
		d := wrong(expr.Range(), "Invalid for_each", format, args...)
		return nil, hcl.Diagnostics{d}
	}
	if d := e.undecided(v, expr.Range(), "for_each"); d != nil {
		return nil, hcl.Diagnostics{d}
	}
	t := v.Type()
	switch {
	case secret.In(outer(v)):
		return fail("It is secret, and its keys would be shown in addresses. Where they may be, write nonsensitive(…).")
	case v.IsNull():
		return fail("It is null; write toset([]) where there is to be none.")
	case !v.IsKnown(), t.IsSetType() && !v.IsWhollyKnown():
		return nil, nil
	case t.IsObjectType(), t.IsMapType():
	case t.IsSetType() && t.ElementType() == cty.String:
	case t.IsSetType() && v.LengthInt() == 0:
		return []eachKey{}, nil
	case t.IsTupleType(), t.IsListType():
		return fail("It must be a set of strings or a map; write toset(…) around a list.")
	default:
		return fail("It must be a set of strings or a map, not a %s.", t.FriendlyName())
	}
	keys := []eachKey{}
	v, _ = v.Unmark()
	for it := v.ElementIterator(); it.Next(); {
		k, value := it.Element()
		if k.IsNull() {
			return fail("One of its keys is null.")
		}
		keys = append(keys, eachKey{k.AsString(), value})
	}
	return keys, nil
}

// undecided returns the diagnostic of a value that must be known on the host, and is not because something failed.
func (e *evaluator) undecided(v cty.Value, at hcl.Range, name string) *hcl.Diagnostic {
	if e.env == nil {
		if !v.IsKnown() {
			e.ask()
		}
		return nil
	}
	if f := failureIn(outer(v)); f != nil {
		return wrong(at, "Unknown "+name, "It comes from %s, which could not be evaluated.", f.origin.id)
	}
	for _, m := range secret.MissingIn(outer(v)) {
		return wrong(at, "Unknown "+name, "%s %s", sentence(m.Error()), m.Fix)
	}
	if !v.IsKnown() || v.Type().IsSetType() && !v.IsWhollyKnown() {
		return wrong(at, "Unknown "+name, "Its value cannot be told from what was read.")
	}
	return nil
}

// outer gives an unknown value with the marks of v as a whole, without those of its elements.
func outer(v cty.Value) cty.Value { return cty.DynamicVal.WithSameMarks(v) }

// when evaluates the condition of an instance. While it is unknown the resource counts as managed, to be checked.
func (e *evaluator) when(u *unit, scope *hcl.EvalContext) (bool, hcl.Diagnostics) {
	expr := u.block.when
	if expr == nil {
		return true, nil
	}
	v, diags := e.value(expr, scope)
	if diags.HasErrors() {
		return true, diags
	}
	if d := e.undecided(v, expr.Range(), "when"); d != nil {
		return true, hcl.Diagnostics{d}
	}
	if secret.In(v) {
		return true, hcl.Diagnostics{wrong(expr.Range(), "Invalid when",
			"It is secret, and would show in whether the resource is managed. Where it may, write nonsensitive(…).")}
	}
	v, err := convert.Convert(v, cty.Bool)
	bare, _ := v.Unmark()
	if err != nil || bare.IsNull() {
		return true, hcl.Diagnostics{wrong(expr.Range(), "Invalid when", "It must be true or false.")}
	}
	return !bare.IsKnown() || bare.True(), nil
}

// instance evaluates one resource of a block.
func (e *evaluator) instance(u *unit, key string, each map[string]cty.Value) *instance {
	i := &instance{key: key, address: u.block.address(""), scope: e.scope(u, each)}
	if u.block.forEach != nil {
		i.address = u.block.address("[" + strconv.Quote(key) + "]")
	}
	i.needs = e.needsOf(u, i.scope)

	var diags hcl.Diagnostics
	i.managed, diags = e.when(u, i.scope)
	diags = append(diags, e.checkKeys(u.block.dependsOn)...)
	written, bad := e.body(u.block.body, u.block.kind.Attrs, i.scope)
	diags = append(diags, bad...)
	diags = append(diags, e.bounds(u, i)...)
	config, errs := u.block.kind.Complete(written)
	for _, err := range errs {
		if !u.block.misspelt || hasValue(written, err.Path) { // else it only seems missing
			diags = append(diags, attributeDiag(u, err))
		}
	}
	f := e.failed(u, diags)
	if f == nil && (len(errs) > 0 || u.block.misspelt) {
		f = &failure{origin: u, err: errors.New("its block has errors")} // which Load reported
	}
	if f != nil {
		i.fail(u, f)
		return i
	}
	e.construct(u, i, config)
	return i
}

// fail gives the instance up: what it would have exported is unknown because of f.
func (i *instance) fail(u *unit, f *failure) {
	i.err = f.error(u)
	i.exports = unknownExports(u.block.kind, f)
}

// checkKeys reports the references to instances that there are not.
func (e *evaluator) checkKeys(refs []reference) hcl.Diagnostics {
	var diags hcl.Diagnostics
	for _, r := range refs {
		v, ok := e.values[r.id()]
		if r.key == nil || !ok || !v.IsKnown() || v.Type().HasAttribute(*r.key) {
			continue
		}
		keys := slices.Sorted(maps.Keys(v.Type().AttributeTypes()))
		hint := nearest(*r.key, keys)
		if hint == "." && len(keys) > 0 {
			hint = fmt.Sprintf("; there are %q.", keys)
		}
		diags = append(diags, wrong(r.at, "Unknown key", "%s has no instance %q%s", r.id(), *r.key, hint))
	}
	return diags
}
