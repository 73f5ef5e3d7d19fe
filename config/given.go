package config

import (
	"maps"
	"slices"
	"strings"

	"github.com/hashicorp/hcl/v2"
	"github.com/hashicorp/hcl/v2/hclsyntax"
	"github.com/zclconf/go-cty/cty"
)

// Variables are the values given on the command line, in its order: of two for one variable the later one wins, and both
// win over CONVERGE_VAR_name, as with Terraform ("Variable Definition Precedence").
type Variables []Setting

// Setting is one --var or one --var-file: one of its fields is set.
type Setting struct {
	Assignment string // "name=value" of --var
	File       string // the path of --var-file, a file of name = value lines in HCL
}

// EnvPrefix is what the name of an environment variable begins with that sets a variable.
const EnvPrefix = "CONVERGE_VAR_"

// setting is a value that somebody gave a variable: a text from the command line or environment, or a value from a file.
type setting struct {
	text   *string
	value  cty.Value
	origin string // "--var files", "prod.vars:3"
}

// collect returns the settings that win, by the name of their variable.
func (c *Config) collect(given Variables) (map[string]setting, hcl.Diagnostics) {
	won := map[string]setting{}
	for name := range c.variables {
		if text, ok := c.fromEnvironment(name); ok {
			won[name] = setting{text: &text, origin: EnvPrefix + name}
		}
	}
	var diags hcl.Diagnostics
	for _, g := range given {
		if g.File != "" {
			diags = append(diags, c.collectFile(g.File, won)...)
			continue
		}
		name, text, ok := strings.Cut(g.Assignment, "=")
		switch {
		case !ok:
			diags = append(diags, &hcl.Diagnostic{Severity: hcl.DiagError, Summary: "Invalid --var",
				Detail: "A variable is given its value with an equals sign: --var name=value."})
		case c.variables[name] == nil:
			diags = append(diags, &hcl.Diagnostic{Severity: hcl.DiagError, Summary: "Unknown variable",
				Detail: sentence("there is no variable \"" + name + "\" to set with --var" + nearest(name, c.variableNames()))})
		default:
			won[name] = setting{text: &text, origin: "--var " + name}
		}
	}
	return won, diags
}

func (c *Config) variableNames() []string { return slices.Sorted(maps.Keys(c.variables)) }

func (c *Config) collectFile(path string, won map[string]setting) hcl.Diagnostics {
	src, err := c.readFile(path)
	if err != nil {
		return fromError("Cannot read the variables", err)
	}
	file, diags := hclsyntax.ParseConfig(src, path, hcl.InitialPos)
	if diags.HasErrors() {
		return diags
	}
	body := file.Body.(*hclsyntax.Body)
	for _, b := range body.Blocks {
		diags = append(diags, wrong(b.DefRange(), "Block in a file of variables", "It holds only lines such as name = \"value\"."))
	}
	for _, a := range attributes(body) {
		if c.variables[a.Name] == nil {
			diags = append(diags, wrong(a.NameRange, "Unknown variable",
				"There is no variable %q%s", a.Name, nearest(a.Name, c.variableNames())))
			continue
		}
		v, bad := a.Expr.Value(nil)
		diags = append(diags, bad...)
		if bad.HasErrors() {
			v = cty.DynamicVal
		}
		won[a.Name] = setting{value: v, origin: place(a.SrcRange)}
	}
	return diags
}
