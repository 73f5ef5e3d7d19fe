package config

import (
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/converge-agent/converge/diag"
	"github.com/converge-agent/converge/secret"
	"github.com/hashicorp/hcl/v2"
	"github.com/hashicorp/hcl/v2/hclsyntax"
	"github.com/zclconf/go-cty/cty"
)

// missingKey finds a key that expr takes from dotenv("path") by name and that the file does not have, or returns nil. Such
// a key is a missing secret, though to hcl it is a mistake in the expression.
func missingKey(expr hclsyntax.Expression, scope *hcl.EvalContext) *secret.Missing {
	var found []*secret.Missing
	_ = hclsyntax.VisitAll(expr, func(n hclsyntax.Node) hcl.Diagnostics {
		get, ok := n.(*hclsyntax.RelativeTraversalExpr)
		if !ok {
			return nil
		}
		call, ok := get.Source.(*hclsyntax.FunctionCallExpr)
		if !ok || call.Name != "dotenv" {
			return nil
		}
		values, diags := call.Value(scope)
		key := firstKey(get.Traversal)
		if diags.HasErrors() || key == "" || !values.IsKnown() || values.Type().HasAttribute(key) {
			return nil
		}
		path, _ := call.Args[0].Value(scope)
		path, _ = path.Unmark()
		found = append(found, &secret.Missing{
			Name: fmt.Sprintf("dotenv(%q).%s", path.AsString(), key),
			Err:  errors.New("the file has no such key"),
			Fix:  fmt.Sprintf("Add %s=… to %s.", key, path.AsString()),
		})
		return nil
	})
	if len(found) == 0 {
		return nil
	}
	return found[0]
}

// causesIn returns the marks of what an expression uses that tell why something is unknown.
func causesIn(expr hclsyntax.Expression, scope *hcl.EvalContext) cty.ValueMarks {
	out := cty.ValueMarks{}
	_ = hclsyntax.VisitAll(expr, func(n hclsyntax.Node) hcl.Diagnostics {
		v, diags := cty.DynamicVal, hcl.Diagnostics(nil)
		switch n := n.(type) {
		case *hclsyntax.ScopeTraversalExpr:
			v, diags = n.Traversal.TraverseAbs(scope)
		case *hclsyntax.FunctionCallExpr:
			if slices.Contains(secretFunctions, n.Name) {
				v, diags = n.Value(scope)
			}
		}
		if !diags.HasErrors() {
			maps.Copy(out, causes(v))
		}
		return nil
	})
	return out
}

// firstKey returns the name that a traversal begins with: .KEY or ["KEY"].
func firstKey(t hcl.Traversal) string {
	switch step := t[0].(type) {
	case hcl.TraverseAttr:
		return step.Name
	case hcl.TraverseIndex:
		if step.Key.Type() == cty.String {
			return step.Key.AsString()
		}
	}
	return ""
}

// missingSecrets is the failure of a resource for want of secrets; errors.As finds each *secret.Missing in it.
type missingSecrets []error

func (m missingSecrets) Error() string {
	var texts []string
	for _, err := range m {
		texts = append(texts, err.Error())
	}
	return strings.Join(texts, "; ")
}

// Unwrap returns the failures of the single attributes.
func (m missingSecrets) Unwrap() []error { return m }

// missingError says which attributes want which secrets, and how to put them there.
func missingError(u *unit, uses []use) error {
	var all missingSecrets
	var fixes []string
	seen := map[string]bool{}
	for _, s := range uses {
		at := attributeRange(u, s.path)
		all = append(all, diag.Wrap(told(s.missing, u, s.path), fmt.Sprintf("%s (%s)", strings.Join(s.path, "."), place(at)), ""))
		if fix := s.missing.Fix; fix != "" && !seen[fix] {
			seen[fix] = true
			fixes = append(fixes, fix)
		}
	}
	return diag.Wrap(all, "evaluate "+u.id, strings.Join(fixes, "\n"))
}

// unfitError says what is wrong with a secret that is there, and where it was written, for those who use it elsewhere.
type unfitError struct {
	attr, unit string
	err        error
}

func (e *unfitError) Error() string { return fmt.Sprintf("%s of %s: %v", e.attr, e.unit, e.err) }

// Unwrap returns what is wrong with it.
func (e *unfitError) Unwrap() error { return e.err }

// told is a missing secret as it is told of the attribute at path: where it was written itself, the place is not said again.
func told(m *secret.Missing, u *unit, path []string) *secret.Missing {
	var unfit *unfitError
	if errors.As(m, &unfit) && unfit.unit == u.id && unfit.attr == strings.Join(path, ".") {
		return &secret.Missing{Err: unfit.err, Fix: m.Fix}
	}
	return m
}
