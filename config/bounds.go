package config

import (
	"time"

	"github.com/converge-agent/converge/resources"
	"github.com/converge-agent/converge/secret"
	"github.com/hashicorp/hcl/v2"
	"github.com/hashicorp/hcl/v2/hclsyntax"
	"github.com/zclconf/go-cty/cty"
	"github.com/zclconf/go-cty/cty/convert"
)

// bounds are the expressions of timeout and of the block retry; nil where they are not written.
type bounds struct{ timeout, attempts, delay hclsyntax.Expression }

// The values of a retry block that does not write them.
const (
	defaultAttempts = 3
	defaultDelay    = "10s"
)

// takeBounds takes timeout and retry, where the kind has no attribute of that name itself.
func (b *block) takeBounds() hcl.Diagnostics {
	if a := b.body.Attributes["timeout"]; a != nil && isMeta(b.kind.Attrs, "timeout") {
		b.bounds.timeout = a.Expr
	}
	if !isMeta(b.kind.Attrs, "retry") {
		return nil
	}
	if a := b.body.Attributes["retry"]; a != nil {
		return hcl.Diagnostics{wrong(a.SrcRange, "Block written as an attribute", "Write retry { … }, without the equals sign.")}
	}
	var diags hcl.Diagnostics
	var first *hclsyntax.Block
	for _, nested := range b.body.Blocks {
		if nested.Type != "retry" {
			continue
		}
		switch {
		case b.kind.Facts != nil:
			diags = append(diags, wrong(nested.DefRange(), "Unknown block", "%s is only read: there is nothing to repeat.", b.kind.Name))
		case first != nil:
			diags = append(diags, wrong(nested.DefRange(), "Block written twice",
				"There is a retry block already, at %s. Put everything into one.", place(first.DefRange())))
		default:
			first = nested
			diags = append(diags, b.takeRetry(nested)...)
		}
	}
	return diags
}

func (b *block) takeRetry(retry *hclsyntax.Block) hcl.Diagnostics {
	if len(retry.Labels) > 0 {
		return hcl.Diagnostics{wrong(retry.DefRange(), "Label on a nested block", "Write retry { … }, without a label.")}
	}
	diags := checkBody(b.kind.Name+" retry", []resources.Attr{{Name: "attempts"}, {Name: "delay"}}, retry.Body, false)
	b.bounds.attempts = &hclsyntax.LiteralValueExpr{Val: cty.NumberIntVal(defaultAttempts), SrcRange: retry.DefRange()}
	b.bounds.delay = &hclsyntax.LiteralValueExpr{Val: cty.StringVal(defaultDelay), SrcRange: retry.DefRange()}
	if a := retry.Body.Attributes["attempts"]; a != nil {
		b.bounds.attempts = a.Expr
	}
	if a := retry.Body.Attributes["delay"]; a != nil {
		b.bounds.delay = a.Expr
	}
	return diags
}

// bounds evaluates timeout and retry of an instance.
func (e *evaluator) bounds(u *unit, i *instance) hcl.Diagnostics {
	var diags hcl.Diagnostics
	b := u.block.bounds
	i.timeout = e.duration(b.timeout, i.scope, "timeout", &diags)
	i.retry.Delay = e.duration(b.delay, i.scope, "delay", &diags)
	if v := e.constant(b.attempts, i.scope, "attempts", cty.Number, &diags); v != cty.NilVal {
		n, exact := v.AsBigFloat().Int64()
		if n < 1 || n > 1000 || exact != 0 {
			diags = append(diags, wrong(b.attempts.Range(), "Invalid attempts", "It is how often to try in all; write a whole number from 1 to 1000."))
		}
		i.retry.Attempts = int(n)
	}
	return diags
}

// duration evaluates an expression that may be nil; then, and while it is unknown, the duration is 0.
func (e *evaluator) duration(expr hclsyntax.Expression, scope *hcl.EvalContext, name string, diags *hcl.Diagnostics) time.Duration {
	v := e.constant(expr, scope, name, cty.String, diags)
	if v == cty.NilVal {
		return 0
	}
	d, err := resources.ParseDuration(v.AsString())
	switch {
	case err != nil:
		*diags = append(*diags, wrong(expr.Range(), "Invalid "+name, "%s", sentence(err.Error())))
	case d == 0 && name == "timeout":
		*diags = append(*diags, wrong(expr.Range(), "Invalid timeout", "Nothing can be done in no time; write one such as \"5m\"."))
	}
	return d
}

// constant evaluates an expression to a known value of a primitive type; cty.NilVal where there is none, or not yet.
func (e *evaluator) constant(expr hclsyntax.Expression, scope *hcl.EvalContext, name string, t cty.Type, diags *hcl.Diagnostics) cty.Value {
	if expr == nil {
		return cty.NilVal
	}
	v, bad := e.value(expr, scope)
	*diags = append(*diags, bad...)
	if bad.HasErrors() {
		return cty.NilVal
	}
	if d := e.undecided(v, expr.Range(), name); d != nil {
		*diags = append(*diags, d)
		return cty.NilVal
	}
	if secret.In(v) {
		*diags = append(*diags, wrong(expr.Range(), "Invalid "+name, "It is secret, and would show in how long things take."))
		return cty.NilVal
	}
	v, err := convert.Convert(v, t)
	v, _ = v.Unmark()
	switch {
	case err != nil || v.IsNull():
		*diags = append(*diags, wrong(expr.Range(), "Invalid "+name, "It must be %s.", map[cty.Type]string{
			cty.String: `a duration such as "5m"`, cty.Number: "a number such as 3"}[t]))
		return cty.NilVal
	case !v.IsKnown():
		return cty.NilVal
	}
	return v
}
