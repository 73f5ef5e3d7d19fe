package config

import (
	"github.com/converge-agent/converge/resources"
	"github.com/converge-agent/converge/secret"
	"github.com/zclconf/go-cty/cty"
)

// failure is the cty mark of an unknown value that would have come from something that could not be evaluated. It goes
// where the value would have gone, so that exactly those who use it fail.
type failure struct {
	origin *unit // what failed
	err    error
}

// value returns the value that stands for what the failure prevented.
func (f *failure) value(t cty.Type) cty.Value { return cty.UnknownVal(t).Mark(f) }

// failureIn returns a failure that something in v comes from, or nil.
func failureIn(v cty.Value) *failure {
	for f := range cty.ValueMarksOfTypeDeep[*failure](v) {
		return f
	}
	return nil
}

// secretMarks are the marks of a secret that is there.
func secretMarks() cty.ValueMarks { return secret.Mark(cty.True).Marks() }

// causes returns the marks in v that tell why something is unknown.
func causes(v cty.Value) cty.ValueMarks {
	_, marks := v.UnmarkDeep()
	out := cty.ValueMarks{}
	for m := range marks {
		if !secretMarks().Has(m) {
			out[m] = struct{}{}
		}
	}
	return out
}

// absent returns the value of a secret that is not there: unknown, so that expressions over it give unknown values
// instead of errors, and marked, so that its users are found.
func absent(m *secret.Missing, t cty.Type) cty.Value {
	return cty.UnknownVal(t).WithMarks(secret.Absent(m).Value().Marks())
}

// spread moves the marks of a map, list or object to its elements, so that one secret hides one element and merge() keeps
// the others plain. Sets cannot hold marked elements (cty); they and empty collections stay marked as a whole.
func spread(v cty.Value) cty.Value {
	bare, marks := v.Unmark()
	if !bare.IsKnown() || bare.IsNull() || !bare.CanIterateElements() || bare.Type().IsSetType() || bare.LengthInt() == 0 {
		return v
	}
	each := func(e cty.Value) cty.Value { return spread(e.WithMarks(marks)) }
	t := bare.Type()
	if t.IsObjectType() || t.IsMapType() {
		elements := bare.AsValueMap()
		for k, e := range elements {
			elements[k] = each(e)
		}
		if t.IsMapType() {
			return cty.MapVal(elements)
		}
		return cty.ObjectVal(elements)
	}
	elements := bare.AsValueSlice()
	for i, e := range elements {
		elements[i] = each(e)
	}
	if t.IsListType() {
		return cty.ListVal(elements)
	}
	return cty.TupleVal(elements)
}

// fillMissing puts an empty value in the place of each that a missing secret left unknown, still marked: with it a kind can
// make its exports.
func fillMissing(v cty.Value) cty.Value {
	filled, err := cty.Transform(v, func(_ cty.Path, e cty.Value) (cty.Value, error) {
		bare, marks := e.Unmark()
		if bare.IsKnown() || len(secret.MissingIn(e)) == 0 {
			return e, nil
		}
		return zero(bare.Type()).WithMarks(marks), nil
	})
	if err != nil {
		return v // the function above has no errors
	}
	return filled
}

// hideMissing undoes fillMissing in what was made from its result.
func hideMissing(v cty.Value) cty.Value {
	hidden, err := cty.Transform(v, func(_ cty.Path, e cty.Value) (cty.Value, error) {
		bare, marks := e.Unmark()
		if !bare.IsKnown() || !bare.Type().IsPrimitiveType() || len(secret.MissingIn(e)) == 0 {
			return e, nil
		}
		return cty.UnknownVal(bare.Type()).WithMarks(marks), nil
	})
	if err != nil {
		return v // the function above has no errors
	}
	return hidden
}

// zero returns the empty value of a type.
func zero(t cty.Type) cty.Value {
	switch {
	case t == cty.String:
		return cty.StringVal("")
	case t == cty.Number:
		return cty.Zero
	case t == cty.Bool:
		return cty.False
	case t.IsMapType():
		return cty.MapValEmpty(t.ElementType())
	case t.IsListType():
		return cty.ListValEmpty(t.ElementType())
	case t.IsSetType():
		return cty.SetValEmpty(t.ElementType())
	}
	return cty.NullVal(t)
}

// use is a missing secret, and the attribute that it went into.
type use struct {
	path    []string
	missing *secret.Missing
}

// missingIn returns the missing secrets that a configuration uses. Those among the exports of a resource that it refers
// to count only where the attribute is declared to use them.
func missingIn(attrs []resources.Attr, config cty.Value, path []string) []use {
	var out []use
	for i := range attrs {
		a := &attrs[i]
		v, at := config.GetAttr(a.Name), append(path[:len(path):len(path)], a.Name)
		switch {
		case v.IsNull():
		case a.Block != nil:
			out = append(out, missingIn(a.Block, v, at)...)
		case refersOnly(a, v), a.Passes:
		default:
			for _, m := range secret.MissingIn(used(a, v)) {
				out = append(out, use{at, m})
			}
		}
	}
	return out
}

// used is the part of v whose secrets are used: of a reference those exports that the attribute names.
func used(a *resources.Attr, v cty.Value) cty.Value {
	bare, _ := v.Unmark()
	if len(a.Uses) == 0 || !bare.IsKnown() || !bare.Type().IsObjectType() {
		return v
	}
	parts := make([]cty.Value, 0, len(a.Uses))
	for _, name := range a.Uses {
		if bare.Type().HasAttribute(name) {
			parts = append(parts, bare.GetAttr(name))
		}
	}
	return cty.TupleVal(parts)
}

// refersOnly reports whether v is a reference whose secrets are not used.
func refersOnly(a *resources.Attr, v cty.Value) bool {
	return len(a.Ref) > 0 && !a.Secret && len(resources.AddressesIn(v)) > 0
}
