package config

import (
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"

	"github.com/converge-agent/converge/diag"
	"github.com/converge-agent/converge/resources"
	"github.com/hashicorp/hcl/v2"
	"github.com/hashicorp/hcl/v2/hclsyntax"
	"github.com/zclconf/go-cty/cty"
)

// body evaluates the attributes and blocks of a body. What cannot be evaluated is unknown in the result, so that all the
// rest can still be checked.
func (e *evaluator) body(body *hclsyntax.Body, attrs []resources.Attr, scope *hcl.EvalContext) (cty.Value, hcl.Diagnostics) {
	var diags hcl.Diagnostics
	out := map[string]cty.Value{}
	for _, a := range attributes(body) {
		known := resources.Find(attrs, a.Name)
		if known == nil || known.Block != nil {
			continue // no attribute of the kind, or reported by Load
		}
		v, bad := e.value(a.Expr, scope)
		diags = append(diags, bad...)
		if slices.Contains(known.Ref, "any") {
			v = withoutExports(v)
		}
		out[a.Name] = spread(v)
	}
	for _, b := range body.Blocks {
		known := resources.Find(attrs, b.Type)
		if _, twice := out[b.Type]; twice || known == nil || known.Block == nil || len(b.Labels) > 0 {
			continue // reported by Load
		}
		v, bad := e.body(b.Body, known.Block, scope)
		diags = append(diags, bad...)
		out[b.Type] = v
	}
	return cty.ObjectVal(out), diags
}

// withoutExports leaves only the addresses of references. A kind that takes any resource can use no more of them, so that it
// does not have to wait until their exports are known.
func withoutExports(v cty.Value) cty.Value {
	bare, marks := v.Unmark()
	if !bare.IsKnown() || bare.IsNull() || !bare.CanIterateElements() {
		return v
	}
	t := bare.Type()
	if t.IsObjectType() && t.HasAttribute("address") && t.AttributeType("address").Equals(resources.AddressType) {
		return cty.ObjectVal(map[string]cty.Value{"address": bare.GetAttr("address")})
	}
	if t.IsObjectType() || t.IsMapType() {
		all := map[string]cty.Value{}
		for key, item := range bare.AsValueMap() {
			all[key] = withoutExports(item)
		}
		return cty.ObjectVal(all).WithMarks(marks)
	}
	all := []cty.Value{}
	for _, item := range bare.AsValueSlice() {
		all = append(all, withoutExports(item))
	}
	return cty.TupleVal(all).WithMarks(marks)
}

// attributeDiag returns the diagnostic of what is wrong with one attribute.
func attributeDiag(u *unit, err *resources.AttrError) *hcl.Diagnostic {
	name := strings.Join(err.Path, ".")
	detail := sentence(err.Err.Error())
	if fix := diag.Fix(err.Err); fix != "" {
		detail += " " + fix
	}
	at, written := locate(u.block.body, u.at, err.Path)
	if written {
		return wrong(at, fmt.Sprintf("Invalid value of %s", name), "%s", detail)
	}
	return wrong(at, fmt.Sprintf("Missing %s", name), "%s", detail)
}

// hasValue reports whether an attribute has a value in an object of attributes and blocks.
func hasValue(v cty.Value, path []string) bool {
	for _, name := range path {
		if !v.Type().IsObjectType() || !v.Type().HasAttribute(name) {
			return false
		}
		v = v.GetAttr(name)
	}
	return true
}

// attributeRange returns where the attribute at a path is written, or the block where it is not.
func attributeRange(u *unit, path []string) hcl.Range {
	at, _ := locate(u.block.body, u.at, path)
	return at
}

// locate finds the expression at a path, as near as the source shows it, and reports whether anything is written for it.
func locate(body *hclsyntax.Body, header hcl.Range, path []string) (hcl.Range, bool) {
	if len(path) == 0 {
		return header, true
	}
	if a := body.Attributes[path[0]]; a != nil {
		return element(a.Expr, path[1:]), true
	}
	for _, b := range body.Blocks {
		if b.Type == path[0] {
			return locate(b.Body, b.DefRange(), path[1:])
		}
	}
	return header, false
}

// element returns the place of an element of a list or object that is written out, or else of the whole.
func element(expr hclsyntax.Expression, path []string) hcl.Range {
	if len(path) == 0 {
		return expr.Range()
	}
	switch expr := expr.(type) {
	case *hclsyntax.TupleConsExpr:
		if i, err := strconv.Atoi(path[0]); err == nil && i >= 0 && i < len(expr.Exprs) {
			return element(expr.Exprs[i], path[1:])
		}
	case *hclsyntax.ObjectConsExpr:
		for _, item := range expr.Items {
			if key := hcl.ExprAsKeyword(item.KeyExpr); key == path[0] {
				return element(item.ValueExpr, path[1:])
			}
		}
	}
	return expr.Range()
}

// errorDiags returns the diagnostics of an error of a kind's New, which may be several joined.
func errorDiags(u *unit, err error) hcl.Diagnostics {
	if joined, ok := err.(interface{ Unwrap() []error }); ok { //nolint:errorlint // only what is joined at the top is taken apart
		var diags hcl.Diagnostics
		for _, one := range joined.Unwrap() {
			diags = append(diags, errorDiags(u, one)...)
		}
		return diags
	}
	var at *resources.AttrError
	if errors.As(err, &at) && len(at.Path) > 0 {
		return hcl.Diagnostics{attributeDiag(u, at)}
	}
	detail := sentence(err.Error())
	if fix := diag.Fix(err); fix != "" {
		detail += " " + fix
	}
	return hcl.Diagnostics{wrong(u.at, "Invalid "+u.id, "%s", detail)}
}
