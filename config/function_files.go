package config

import (
	"errors"
	"path/filepath"
	"unicode/utf8"

	"github.com/hashicorp/hcl/v2"
	"github.com/hashicorp/hcl/v2/hclsyntax"
	"github.com/zclconf/go-cty/cty"
	"github.com/zclconf/go-cty/cty/convert"
	"github.com/zclconf/go-cty/cty/function"
)

// readText reads a text file by a path that is relative to the configuration.
func (c *Config) readText(name string) (string, error) {
	if !filepath.IsAbs(name) {
		name = filepath.Join(c.dir, name)
	}
	src, err := c.readFile(name)
	if err != nil {
		return "", err
	}
	if !utf8.Valid(src) {
		return "", errors.New(name + " is not a text in UTF-8")
	}
	return string(src), nil
}

// fileFunction gives the text of a file of the configuration. It is not for secrets.
func (c *Config) fileFunction() function.Function {
	return function.New(&function.Spec{
		Params: []function.Parameter{{Name: "path", Type: cty.String}},
		Type:   function.StaticReturnType(cty.String),
		Impl: func(args []cty.Value, _ cty.Type) (cty.Value, error) {
			text, err := c.readText(args[0].AsString())
			if err != nil {
				return cty.NilVal, function.NewArgError(0, err)
			}
			return cty.StringVal(text), nil
		},
	})
}

// templateFunction gives the text of a template with its variables filled in. Templates have all functions but this one
// and those of secrets, which are passed to them as variables.
func (c *Config) templateFunction(available map[string]function.Function) function.Function {
	return function.New(&function.Spec{
		Params: []function.Parameter{
			{Name: "path", Type: cty.String, AllowMarked: true},
			takingAll(function.Parameter{Name: "vars", Type: cty.DynamicPseudoType}),
		},
		Type: function.StaticReturnType(cty.String),
		Impl: func(args []cty.Value, _ cty.Type) (cty.Value, error) {
			bare, err := unlessSecret(args[0])
			if err != nil {
				return cty.NilVal, err
			}
			name := bare.AsString()
			text, err := c.readText(name)
			if err != nil {
				return cty.NilVal, function.NewArgError(0, err)
			}
			vars, marks := args[1].Unmark()
			if !vars.IsKnown() {
				return cty.UnknownVal(cty.String).WithMarks(marks), nil
			}
			if t := vars.Type(); vars.IsNull() || !t.IsObjectType() && !t.IsMapType() {
				return cty.NilVal, function.NewArgErrorf(1, "it must be an object: { name = value }")
			}
			out, err := render(name, text, vars, available)
			return out.WithMarks(marks), err
		},
	})
}

func render(name, text string, vars cty.Value, available map[string]function.Function) (cty.Value, error) {
	expr, diags := hclsyntax.ParseTemplate([]byte(text), name, hcl.InitialPos)
	if diags.HasErrors() {
		return cty.DynamicVal, function.NewArgError(0, asError(diags))
	}
	ctx := &hcl.EvalContext{Variables: vars.AsValueMap(), Functions: available}
	out, diags := expr.Value(ctx)
	if diags.HasErrors() {
		return cty.DynamicVal, function.NewArgError(0, asError(redact(diags, expr, ctx)))
	}
	out, err := convert.Convert(out, cty.String)
	if err != nil {
		return cty.DynamicVal, function.NewArgError(0, errors.New("its result is not a text"))
	}
	return out, nil
}
