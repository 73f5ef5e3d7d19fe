package config

import (
	"slices"

	"github.com/converge-agent/converge/resources"
	"github.com/converge-agent/converge/secret"
	"github.com/hashicorp/hcl/v2"
	"github.com/hashicorp/hcl/v2/ext/typeexpr"
	"github.com/hashicorp/hcl/v2/hclsyntax"
	"github.com/zclconf/go-cty/cty"
	"github.com/zclconf/go-cty/cty/convert"
)

// variable is a declared variable.
type variable struct {
	name        string
	at          hcl.Range
	typ         cty.Type
	typed       bool
	inner       *typeexpr.Defaults // of optional attributes
	byDefault   cty.Value          // cty.NilVal where there is none
	sensitive   bool
	validations []*hclsyntax.Block

	value cty.Value // unknown where it is missing or wrong, which was reported
}

var variableAttrs = []resources.Attr{
	{Name: "type"}, {Name: "default"}, {Name: "description"}, {Name: "sensitive"},
}

var validationAttrs = []resources.Attr{{Name: "condition"}, {Name: "error_message"}}

func (c *Config) declareVariable(b *hclsyntax.Block) hcl.Diagnostics {
	if d := checkLabel(b, "files"); d != nil {
		return hcl.Diagnostics{d}
	}
	v := &variable{name: b.Labels[0], at: b.DefRange(), typ: cty.DynamicPseudoType, value: cty.DynamicVal}
	if first := c.variables[v.name]; first != nil {
		return hcl.Diagnostics{wrong(v.at, "Duplicate name",
			"There is a variable %q already, at %s. Give one of them another name.", v.name, place(first.at))}
	}
	c.variables[v.name] = v

	flat := *b.Body
	flat.Blocks = nil
	diags := checkBody("variable", variableAttrs, &flat, false)
	for _, nested := range b.Body.Blocks {
		diags = append(diags, v.addValidation(nested)...)
	}
	attrs := b.Body.Attributes
	if a := attrs["type"]; a != nil {
		typ, inner, bad := typeexpr.TypeConstraintWithDefaults(a.Expr)
		diags = append(diags, bad...)
		v.typ, v.inner, v.typed = typ, inner, !bad.HasErrors()
	}
	if a := attrs["description"]; a != nil {
		_, bad := literal(a.Expr, cty.String)
		diags = append(diags, bad...)
	}
	if a := attrs["sensitive"]; a != nil {
		flag, bad := literal(a.Expr, cty.Bool)
		diags = append(diags, bad...)
		v.sensitive = !bad.HasErrors() && flag.True()
	}
	if a := attrs["default"]; a != nil {
		diags = append(diags, v.setDefault(a)...)
	}
	return diags
}

func (v *variable) addValidation(b *hclsyntax.Block) hcl.Diagnostics {
	if b.Type != "validation" {
		return hcl.Diagnostics{wrong(b.DefRange(), "Unknown block",
			"variable has no block %q%s", b.Type, nearest(b.Type, []string{"validation"}))}
	}
	diags := checkBody("variable validation", validationAttrs, b.Body, false)
	for _, a := range validationAttrs {
		if b.Body.Attributes[a.Name] == nil {
			diags = append(diags, wrong(b.DefRange(), "Missing attribute",
				"A validation has a condition and an error_message; write %s = ….", a.Name))
		}
	}
	if !diags.HasErrors() {
		v.validations = append(v.validations, b)
	}
	return diags
}

// setDefault takes the default. Errors about that of a sensitive variable point to its header, so as not to show it.
func (v *variable) setDefault(a *hclsyntax.Attribute) hcl.Diagnostics {
	value, diags := a.Expr.Value(nil)
	if diags.HasErrors() {
		v.byDefault = cty.DynamicVal
		return diags
	}
	at := a.Expr.Range()
	if v.sensitive {
		at = v.at
	}
	value, err := v.convert(value)
	if err != nil {
		v.byDefault = cty.DynamicVal
		return hcl.Diagnostics{wrong(at, "Invalid default", "The default of %q does not fit its type: %s.", v.name, err)}
	}
	v.byDefault = value
	return nil
}

// convert makes a value of the type of the variable. Its errors name types and places, never values.
func (v *variable) convert(value cty.Value) (cty.Value, error) {
	if v.inner != nil && !value.IsNull() {
		value = v.inner.Apply(value)
	}
	out, err := convert.Convert(value, v.typ)
	if err != nil {
		return cty.DynamicVal, err
	}
	return out, nil
}

// literal evaluates what must be written out, without variables and functions.
func literal(expr hcl.Expression, typ cty.Type) (cty.Value, hcl.Diagnostics) {
	v, diags := expr.Value(nil)
	if diags.HasErrors() {
		return v, diags
	}
	v, err := convert.Convert(v, typ)
	if err != nil || v.IsNull() || !v.IsKnown() {
		return v, hcl.Diagnostics{wrong(expr.Range(), "Invalid value", "It must be a %s, written out.", typ.FriendlyName())}
	}
	return v, nil
}

// setVariables gives every variable its value and checks it.
func (c *Config) setVariables(given Variables) hcl.Diagnostics {
	won, diags := c.collect(given)
	for _, name := range c.variableNames() {
		v := c.variables[name]
		s, ok := won[name]
		switch {
		case ok:
			diags = append(diags, v.set(s)...)
		case v.byDefault != cty.NilVal:
			v.value = v.byDefault
		default:
			diags = append(diags, wrong(v.at, "Missing value of a variable",
				"%q has no default. Give it a value with --var %s=…, in a file named with --var-file, or as %s%s in the environment.",
				name, name, EnvPrefix, name))
		}
		if v.sensitive {
			v.value = spread(secret.Mark(v.value))
		}
	}
	for _, name := range c.variableNames() {
		diags = append(diags, c.validate(c.variables[name])...)
	}
	return diags
}

// set takes a value that somebody gave. A text stands for itself where the type is a primitive or not told, and else for
// an expression of the language, as with Terraform ("Input Variables on the Command Line").
func (v *variable) set(s setting) hcl.Diagnostics {
	value := s.value
	if s.text != nil {
		value = cty.StringVal(*s.text)
		if v.typed && !v.typ.IsPrimitiveType() {
			expr, diags := hclsyntax.ParseExpression([]byte(*s.text), s.origin, hcl.InitialPos)
			if !diags.HasErrors() {
				value, diags = expr.Value(nil)
			}
			if diags.HasErrors() {
				return hcl.Diagnostics{wrong(v.at, "Invalid value of a variable",
					"The value given by %s is no expression of type %s; write one such as '[\"a\", \"b\"]' or '{ a = \"b\" }'.",
					s.origin, typeexpr.TypeString(v.typ))}
			}
		}
	}
	value, err := v.convert(value)
	if err != nil {
		return hcl.Diagnostics{wrong(v.at, "Invalid value of a variable", "The value given by %s does not fit: %s.", s.origin, err)}
	}
	v.value = value
	return nil
}

// validate checks the value against the validation blocks of its variable.
func (c *Config) validate(v *variable) hcl.Diagnostics {
	var diags hcl.Diagnostics
	ctx := &hcl.EvalContext{
		Variables: map[string]cty.Value{"var": cty.ObjectVal(map[string]cty.Value{v.name: v.value})},
		Functions: c.functions.plain,
	}
	for _, b := range v.validations {
		condition, message := b.Body.Attributes["condition"].Expr, b.Body.Attributes["error_message"].Expr
		if bad := append(c.checkOnly(v, condition), c.checkOnly(v, message)...); bad.HasErrors() {
			diags = append(diags, bad...)
			continue
		}
		result, bad := condition.Value(ctx)
		if bad.HasErrors() {
			diags = append(diags, redact(bad, condition, ctx)...)
			continue
		}
		held, err := convert.Convert(result, cty.Bool)
		held, _ = held.Unmark()
		switch {
		case err != nil || held.IsNull():
			diags = append(diags, wrong(condition.Range(), "Invalid condition", "It must be true or false."))
		case held.IsKnown() && held.False():
			d := wrong(condition.Range(), "Invalid value of a variable", "%s", errorMessage(message, ctx))
			d.Expression, d.EvalContext = condition, ctx
			diags = append(diags, d)
		}
	}
	return diags
}

// checkOnly checks that an expression of a validation uses its own variable only, and no secret of the host.
func (c *Config) checkOnly(v *variable, expr hclsyntax.Expression) hcl.Diagnostics {
	diags := hclsyntax.VisitAll(expr, func(n hclsyntax.Node) hcl.Diagnostics {
		call, ok := n.(*hclsyntax.FunctionCallExpr)
		if !ok || slices.Contains(c.functions.plainNames(), call.Name) {
			return nil
		}
		return hcl.Diagnostics{wrong(call.NameRange, "Unknown function",
			"There is no function %q for a validation%s", call.Name, nearest(call.Name, c.functions.plainNames()))}
	})
	for _, t := range expr.Variables() {
		if r := newReference(t); r.id() != "var."+v.name {
			diags = append(diags, wrong(r.at, "Name from elsewhere", "A validation can use var.%s only.", v.name))
		}
	}
	return diags
}

func errorMessage(expr hclsyntax.Expression, ctx *hcl.EvalContext) string {
	v, diags := expr.Value(ctx)
	if diags.HasErrors() {
		return "The value does not meet this condition."
	}
	v, err := convert.Convert(v, cty.String)
	switch {
	case err != nil || v.IsNull() || !v.IsKnown():
		return "The value does not meet this condition."
	case secret.In(v):
		return "The value does not meet this condition; the error_message holds a secret and is not shown."
	}
	return v.AsString()
}
