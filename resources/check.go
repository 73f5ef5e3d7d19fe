package resources

import (
	"fmt"
	"slices"
	"strings"

	"github.com/agext/levenshtein"
	"github.com/converge-agent/converge/secret"
	"github.com/zclconf/go-cty/cty"
	"github.com/zclconf/go-cty/cty/convert"
)

// Complete checks written, an object of the attributes and blocks that somebody wrote, and returns it with every attribute
// of the kind present: converted to its type, its default or null where it was not written. Unknown values (of facts that
// were not read) pass. All that is wrong comes back at once.
func (k *Kind) Complete(written cty.Value) (cty.Value, []*AttrError) {
	return complete(k.Attrs, written, nil)
}

func complete(attrs []Attr, written cty.Value, path []string) (cty.Value, []*AttrError) {
	var errs []*AttrError
	for name := range written.Type().AttributeTypes() {
		if Find(attrs, name) == nil {
			errs = append(errs, &AttrError{append(path[:len(path):len(path)], name), unknownAttr(name, attrs)})
		}
	}
	out := map[string]cty.Value{}
	for i := range attrs {
		a := &attrs[i]
		at := append(path[:len(path):len(path)], a.Name)
		v := cty.NullVal(cty.DynamicPseudoType)
		if written.Type().HasAttribute(a.Name) {
			v = written.GetAttr(a.Name)
		}
		v, bad := a.complete(v, at)
		errs = append(errs, bad...)
		out[a.Name] = v
	}
	return cty.ObjectVal(out), errs
}

func (a *Attr) complete(v cty.Value, at []string) (cty.Value, []*AttrError) {
	fail := func(format string, args ...any) []*AttrError {
		return []*AttrError{{at, fmt.Errorf(format, args...)}}
	}
	if v.IsNull() {
		switch {
		case a.Required && a.Block != nil:
			return v, fail("the block is missing; write %s { … }", a.Name)
		case a.Required:
			return v, fail("it is missing, and has no default; write %s = …", a.Name)
		case a.Default != cty.NilVal:
			return a.Default, nil
		}
		return v, nil
	}
	if !a.Secret && len(a.Ref) == 0 && a.Block == nil && secret.In(v) {
		return v, fail("the value is secret, and %s would show it; take the secret out", a.Name)
	}
	switch {
	case a.Block != nil:
		return complete(a.Block, v, at)
	case len(a.Ref) > 0:
		if err := a.checkRef(v); err != nil {
			return v, []*AttrError{{at, err}}
		}
		return v, nil
	}
	conv, err := convert.Convert(v, a.Type)
	if err != nil {
		return v, fail("it must be %s: %s", typeName(a.Type), convert.MismatchMessage(v.Type(), a.Type))
	}
	if err := a.checkText(conv); err != nil {
		return conv, []*AttrError{{at, err}}
	}
	return conv, nil
}

// checkText applies OneOf and Format to a string, or to each string of a list. Of a secret it says only that it is wrong.
func (a *Attr) checkText(v cty.Value) error {
	err := a.checkForm(v)
	if err != nil && secret.In(v) {
		return fmt.Errorf("the secret has not the form that %s takes", a.Name)
	}
	return err
}

func (a *Attr) checkForm(v cty.Value) error {
	v, _ = v.Unmark()
	if !v.IsKnown() || v.IsNull() {
		return nil
	}
	if v.Type() != cty.String {
		if a.Format == Text && a.OneOf == nil || !v.CanIterateElements() {
			return nil
		}
		for it := v.ElementIterator(); it.Next(); {
			if _, e := it.Element(); e.Type() == cty.String {
				if err := a.checkText(e); err != nil {
					return err
				}
			}
		}
		return nil
	}
	s := v.AsString()
	if a.OneOf != nil && !slices.Contains(a.OneOf, s) {
		return fmt.Errorf("%q is not one of its values: %s%s", s, quoted(a.OneOf), Nearest(s, a.OneOf))
	}
	return CheckFormat(a.Format, s)
}

func (a *Attr) checkRef(v cty.Value) error {
	if bare, _ := v.Unmark(); !bare.IsKnown() {
		return nil
	}
	example := fmt.Sprintf("%s.name", a.Ref[0])
	if a.Ref[0] == "any" {
		example = "file.name"
	}
	addrs := AddressesIn(v)
	if len(addrs) == 0 && a.writtenInPlace(v) {
		return nil
	}
	if bare, _ := v.Unmark(); len(addrs) == 0 && (!a.List || !bare.CanIterateElements() || bare.LengthInt() > 0) {
		return fmt.Errorf("it must refer to a resource, such as %s", example)
	}
	for _, addr := range addrs {
		if a.Ref[0] != "any" && !slices.Contains(a.Ref, addr.Kind) {
			return fmt.Errorf("it refers to %s, which is not a kind that fits here; write one such as %s", addr, example)
		}
	}
	if !a.List && len(addrs) != 1 {
		return fmt.Errorf("it names %d resources instead of one; choose one by its key, such as %s[%q]", len(addrs), example, "key")
	}
	return nil
}

// writtenInPlace reports whether v is an object with the attributes of Or.
func (a *Attr) writtenInPlace(v cty.Value) bool {
	if len(a.Or) == 0 || !v.Type().IsObjectType() {
		return false
	}
	for _, name := range a.Or {
		if !v.Type().HasAttribute(name) || v.Type().AttributeType(name) != cty.String {
			return false
		}
	}
	return true
}

// Find returns the attribute of that name, or nil.
func Find(attrs []Attr, name string) *Attr {
	for i := range attrs {
		if attrs[i].Name == name {
			return &attrs[i]
		}
	}
	return nil
}

func unknownAttr(name string, attrs []Attr) error {
	var known []string
	for _, a := range attrs {
		known = append(known, a.Name)
	}
	return fmt.Errorf("there is no attribute %s here%s", name, Nearest(name, known))
}

// Nearest returns `; did you mean "x"?` for the known name that got was most likely meant to be, or "".
func Nearest(got string, known []string) string {
	best, least := "", len(got)/3+2
	for _, k := range known {
		if d := levenshtein.Distance(got, k, nil); d < least {
			best, least = k, d
		}
	}
	if best == "" {
		return ""
	}
	return fmt.Sprintf("; did you mean %q?", best)
}

func quoted(list []string) string {
	q := make([]string, len(list))
	for i, s := range list {
		q[i] = fmt.Sprintf("%q", s)
	}
	return strings.Join(q, ", ")
}

func typeName(t cty.Type) string {
	switch {
	case t == cty.String:
		return "a string"
	case t == cty.Number:
		return "a number"
	case t == cty.Bool:
		return "true or false"
	case t.IsMapType():
		return "a map"
	case t.IsListType(), t.IsSetType():
		return "a list"
	}
	return "of type " + t.FriendlyName()
}
