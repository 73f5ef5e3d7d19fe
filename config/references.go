package config

import (
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/converge-agent/converge/resources"
	"github.com/hashicorp/hcl/v2"
	"github.com/hashicorp/hcl/v2/hclsyntax"
	"github.com/zclconf/go-cty/cty"
)

// reference is one mention of a variable, a local value or a resource: kind.name, kind.name["key"], kind.name.export.
type reference struct {
	root, name string
	key        *string              // the key of one instance, written as a literal
	keyExpr    hclsyntax.Expression // the key of one instance, computed
	rest       hcl.Traversal        // what is taken from the value
	at         hcl.Range
}

// newReference reads a traversal. The name is "" where none was written.
func newReference(t hcl.Traversal) reference {
	r := reference{root: t.RootName(), at: t.SourceRange(), rest: t[1:]}
	if len(t) < 2 {
		return r
	}
	step, ok := t[1].(hcl.TraverseAttr)
	if !ok {
		return r
	}
	r.name, r.rest = step.Name, t[2:]
	if len(r.rest) == 0 || r.root == "var" || r.root == "local" || r.root == "each" {
		return r
	}
	if index, ok := r.rest[0].(hcl.TraverseIndex); ok && index.Key.Type() == cty.String {
		key := index.Key.AsString()
		r.key, r.rest = &key, r.rest[1:]
	}
	return r
}

// id returns the name under which the value is known.
func (r reference) id() string { return r.root + "." + r.name }

// text gives the reference as it is written, up to the value.
func (r reference) text() string {
	s := r.root
	if r.name != "" {
		s = r.id()
	}
	if r.key != nil {
		s += fmt.Sprintf("[%q]", *r.key)
	}
	return s
}

// checkReferences finds what every unit refers to, and reports what there is not. An expression with such a mistake is not
// evaluated later, so that nothing is reported twice.
func (c *Config) checkReferences() hcl.Diagnostics {
	var diags hcl.Diagnostics
	for _, u := range c.all() {
		for _, expr := range u.expressions() {
			refs, bad, whole := c.checkExpression(u, expr)
			u.refs = append(u.refs, refs...)
			c.broken[expr] = !whole
			diags = append(diags, bad...)
		}
		if u.block == nil {
			continue
		}
		for _, r := range u.block.dependsOn {
			if c.isLost(r) {
				continue
			}
			if d := c.checkReference(u, r); d != nil {
				diags = append(diags, d)
				continue
			}
			u.refs = append(u.refs, r)
		}
	}
	return diags
}

// all returns every unit in a fixed order.
func (c *Config) all() []*unit { return append(slices.Clone(c.locals), c.blocks...) }

// isLost reports whether a reference can only be to a block that was reported and not taken in.
func (c *Config) isLost(r reference) bool { return c.lost[r.root] && c.units[r.id()] == nil }

// checkExpression returns the references in an expression, what is wrong with its names, and whether all of them have values.
func (c *Config) checkExpression(u *unit, expr hclsyntax.Expression) (refs []reference, diags hcl.Diagnostics, whole bool) {
	diags = c.checkCalls(expr)
	whole = !diags.HasErrors()
	keys := computedKeys(expr)
	for _, t := range expr.Variables() {
		r := newReference(t)
		r.keyExpr = keys[t.SourceRange()]
		if c.isLost(r) {
			whole = false
			continue
		}
		if d := c.checkReference(u, r); d != nil {
			diags = append(diags, d)
			whole = false
			continue
		}
		refs = append(refs, r)
	}
	return refs, diags, whole
}

// computedKeys returns the keys of collection[key], by the place of the collection.
func computedKeys(expr hclsyntax.Expression) map[hcl.Range]hclsyntax.Expression {
	keys := map[hcl.Range]hclsyntax.Expression{}
	_ = hclsyntax.VisitAll(expr, func(n hclsyntax.Node) hcl.Diagnostics {
		if index, ok := n.(*hclsyntax.IndexExpr); ok {
			keys[index.Collection.Range()] = index.Key
		}
		return nil
	})
	return keys
}

// checkCalls reports the calls of functions that there are not, even in branches that would not be evaluated.
func (c *Config) checkCalls(expr hclsyntax.Expression) hcl.Diagnostics {
	return hclsyntax.VisitAll(expr, func(n hclsyntax.Node) hcl.Diagnostics {
		call, ok := n.(*hclsyntax.FunctionCallExpr)
		if !ok || c.functions.has(call.Name) {
			return nil
		}
		return hcl.Diagnostics{wrong(call.NameRange, "Unknown function",
			"There is no function %q%s", call.Name, nearest(call.Name, c.functions.names()))}
	})
}

func (c *Config) checkReference(u *unit, r reference) *hcl.Diagnostic {
	switch r.root {
	case "each":
		return checkEach(u, r)
	case "var":
		return c.checkValue(r, "variable", slices.Sorted(maps.Keys(c.variables)))
	case "local":
		var known []string
		for _, l := range c.locals {
			known = append(known, strings.TrimPrefix(l.id, "local."))
		}
		return c.checkValue(r, "local value", known)
	}
	kind := c.kinds[r.root]
	if kind == nil {
		known := append(slices.Sorted(maps.Keys(c.kinds)), "var", "local", "each")
		return wrong(r.at, "Unknown name", "Nothing is named %q%s", r.root, nearest(r.root, known))
	}
	target := c.units[r.id()]
	if target == nil || r.name == "" {
		return c.unknownBlock(r)
	}
	return checkResult(r, kind, target.block)
}

func checkEach(u *unit, r reference) *hcl.Diagnostic {
	if r.name != "key" && r.name != "value" {
		return wrong(r.at, "Unknown name", "Of each there are each.key and each.value.")
	}
	forEach := u.block != nil && u.block.forEach != nil
	if !forEach || u.block.forEach.Range().Overlaps(r.at) {
		return wrong(r.at, "Name without for_each", "%s has a value only in a block with for_each, outside of for_each itself.", r.text())
	}
	return nil
}

func (c *Config) checkValue(r reference, what string, known []string) *hcl.Diagnostic {
	if r.name == "" {
		return wrong(r.at, "Incomplete name", "Write the name of a %s: %s.name.", what, r.root)
	}
	if !slices.Contains(known, r.name) {
		return wrong(r.at, "Unknown "+what, "There is no %s %q%s", what, r.name, nearest(r.name, known))
	}
	return nil
}

func (c *Config) unknownBlock(r reference) *hcl.Diagnostic {
	var known []string
	for _, b := range c.blocks {
		if b.block.kind.Name == r.root {
			known = append(known, b.block.name)
		}
	}
	if r.name == "" {
		return wrong(r.at, "Incomplete name", "Write the name of a resource: %s.name.", r.root)
	}
	if len(known) == 0 {
		return wrong(r.at, "Unknown resource", "There is no %s in this configuration; write %s %q { … }.", r.root, r.root, r.name)
	}
	return wrong(r.at, "Unknown resource", "There is no %s named %q%s", r.root, r.name, nearest(r.name, known))
}

// checkResult checks what is taken from a resource: an instance of a for_each, and one of its exports.
func checkResult(r reference, kind *resources.Kind, target *block) *hcl.Diagnostic {
	if target.forEach == nil && (r.key != nil || r.keyExpr != nil) {
		return wrong(r.at, "Key without for_each", "%s has no for_each, so there is only one; write %s.", r.id(), r.id())
	}
	if len(r.rest) == 0 {
		return nil
	}
	if target.forEach != nil && r.key == nil {
		return wrong(r.at, "Missing key", "%s has for_each, so there may be several; choose one by its key: %s[\"key\"].", r.id(), r.id())
	}
	step, ok := r.rest[0].(hcl.TraverseAttr)
	if !ok {
		return wrong(r.at, "Key without for_each", "%s is one resource, which exports %s.", r.text(), exportNames(kind))
	}
	if resources.Find(kind.Exports, step.Name) == nil {
		var known []string
		for _, e := range kind.Exports {
			known = append(known, e.Name)
		}
		hint := nearest(step.Name, known)
		if hint == "." {
			hint = "; it exports " + exportNames(kind) + "."
		}
		return wrong(r.at, "Unknown export", "%s exports no %q%s", r.text(), step.Name, hint)
	}
	return nil
}

func exportNames(kind *resources.Kind) string {
	if len(kind.Exports) == 0 {
		return "nothing"
	}
	var names []string
	for _, e := range kind.Exports {
		names = append(names, e.Name)
	}
	return strings.Join(names, ", ")
}
