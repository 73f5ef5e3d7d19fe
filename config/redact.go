package config

import (
	"slices"

	"github.com/converge-agent/converge/secret"
	"github.com/hashicorp/hcl/v2"
	"github.com/hashicorp/hcl/v2/hclsyntax"
	"github.com/zclconf/go-cty/cty"
)

// hidden stands for what a diagnostic would have said about a secret.
const hidden = "What is wrong is not shown, because a secret is part of this expression."

// toldOfTypes are the summaries of hcl's diagnostics whose details are made of names in the source and of types, never of
// values (read in hcl v2.25.0: hclsyntax/expression.go, hclsyntax/expression_template.go, ops.go, traversal.go). The one
// that is left out on purpose is "Duplicate object key", which shows the key.
var toldOfTypes = []string{
	"Attempt to get attribute from null value", "Attempt to index null value", "Call to unknown function", "Condition is null",
	"Error in function call", "Function calls not allowed", "Inconsistent conditional result types", "Incorrect condition type",
	"Incorrect key type", "Invalid 'for' condition", "Invalid expanding argument value", "Invalid function argument",
	"Invalid index", "Invalid object key", "Invalid operand", "Invalid template interpolation value",
	"Iteration over non-iterable value", "Iteration over null value", "Missing map element", "Not enough function arguments",
	"Null condition", "Null value as key", "Splat of null value", "Too many function arguments", "Unknown variable",
	"Unsupported attribute", "Variables not allowed",
}

// redact takes out of the diagnostics of an expression what could show a secret. Calls of functions are taken care of where
// the functions are made (see guarded), and hcl itself shows no marked variable.
func redact(diags hcl.Diagnostics, expr hclsyntax.Expression, ctx *hcl.EvalContext) hcl.Diagnostics {
	if len(diags) == 0 || !holdsSecret(expr, ctx) {
		return diags
	}
	for i, d := range diags {
		if !slices.Contains(toldOfTypes, d.Summary) {
			quiet := *d
			quiet.Detail = hidden
			diags[i] = &quiet
		}
	}
	return diags
}

// holdsSecret reports whether a secret can go into the value of an expression.
func holdsSecret(expr hclsyntax.Expression, ctx *hcl.EvalContext) bool {
	found := false
	_ = hclsyntax.VisitAll(expr, func(n hclsyntax.Node) hcl.Diagnostics {
		switch n := n.(type) {
		case *hclsyntax.FunctionCallExpr:
			found = found || n.Name == "sensitive" || slices.Contains(secretFunctions, n.Name)
		case *hclsyntax.ScopeTraversalExpr:
			v, diags := n.Traversal.TraverseAbs(ctx)
			if diags.HasErrors() {
				v = rootValue(n.Traversal, ctx)
			}
			found = found || secret.In(v)
		}
		return nil
	})
	return found
}

// rootValue returns the value that a traversal begins at.
func rootValue(t hcl.Traversal, ctx *hcl.EvalContext) cty.Value {
	for ; ctx != nil; ctx = ctx.Parent() {
		if v, ok := ctx.Variables[t.RootName()]; ok {
			return v
		}
	}
	return cty.DynamicVal
}
