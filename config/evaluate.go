package config

import (
	"context"
	"maps"
	"slices"

	"github.com/converge-agent/converge/diag"
	"github.com/converge-agent/converge/resources"
	"github.com/hashicorp/hcl/v2"
	"github.com/hashicorp/hcl/v2/hclsyntax"
	"github.com/zclconf/go-cty/cty"
	"github.com/zclconf/go-cty/cty/function"
)

// Validate finds what is wrong with the values of the configuration, as far as that shows without the host: facts and
// secrets are unknown, and a kind's New is called where everything else that it needs is known. It may be called after a
// Load with errors too, and does not report those again.
func (c *Config) Validate() hcl.Diagnostics {
	if c.functions.plain == nil {
		return nil // nothing was read
	}
	return unique(c.evaluateWithoutHost().diags)
}

// evaluateWithoutHost is the evaluation of Validate.
func (c *Config) evaluateWithoutHost() *evaluator {
	e := c.evaluator()
	e.run()
	return e
}

// Evaluate reads facts and secrets through env and returns the nodes in the order of the files. It begins with Validate,
// whose errors are the only ones that it returns. What fails after that fails because of something on the host, so it
// becomes the Err of the nodes that use it, while the others go on. The diagnostics may hold warnings in any case.
func (c *Config) Evaluate(ctx context.Context, env resources.ReadEnv) ([]resources.Node, hcl.Diagnostics) {
	if c.functions.plain == nil {
		return nil, loadedWithErrors()
	}
	validated := c.evaluateWithoutHost()
	diags := unique(validated.diags)
	if c.failed && !diags.HasErrors() {
		diags = append(diags, loadedWithErrors()...)
	}
	if diags.HasErrors() {
		return nil, diags
	}
	e := c.evaluator()
	e.ctx, e.env, e.secrets.view, e.before = ctx, &env, env.Files, validated
	e.run()
	if ctx.Err() != nil {
		err := diag.New("read the facts of the configuration", "the run was interrupted", "Run it again; nothing was changed.")
		return nil, append(diags, fromError("Interrupted", err)...)
	}
	c.unmanaged = e.unmanaged()
	return e.nodes(), slices.Concat(diags, e.secrets.diags, e.warnings)
}

func loadedWithErrors() hcl.Diagnostics {
	return hcl.Diagnostics{{Severity: hcl.DiagError, Summary: "Configuration with errors",
		Detail: "It was loaded with errors; correct them first."}}
}

// Unmanaged returns, once Evaluate has been called, the resources that when switches off.
func (c *Config) Unmanaged() []resources.Address { return c.unmanaged }

// evaluator is one evaluation of a configuration.
type evaluator struct {
	config    *Config
	ctx       context.Context
	env       *resources.ReadEnv // nil for Validate
	before    *evaluator         // Validate's; nil for Validate
	secrets   *secretSource
	functions map[string]function.Function

	values    map[string]cty.Value   // by the ids of variables, local values and blocks
	instances map[string][]*instance // by the ids of blocks
	needs     map[string][]need      // by the ids of local values
	asked     int                    // how often something came up that only the host can tell
	settled   map[string]bool        // by the ids of local values and blocks: nothing of them is the host's to tell
	diags     hcl.Diagnostics        // of Validate
	warnings  hcl.Diagnostics        // of what was found outside
}

func (c *Config) evaluator() *evaluator {
	e := &evaluator{
		config:    c,
		values:    map[string]cty.Value{},
		instances: map[string][]*instance{},
		needs:     map[string][]need{},
		settled:   map[string]bool{},
	}
	e.secrets = &secretSource{loader: c.loader, dir: c.dir, warned: map[string]bool{}, ask: e.ask}
	e.functions = maps.Clone(c.functions.plain)
	maps.Copy(e.functions, e.secrets.functions())
	for name, v := range c.variables {
		e.values["var."+name] = v.value
	}
	return e
}

func (e *evaluator) run() {
	for _, u := range e.config.order {
		if e.ctx != nil && e.ctx.Err() != nil {
			return
		}
		if e.before != nil && e.before.settled[u.id] {
			e.values[u.id], e.instances[u.id], e.needs[u.id] = e.before.values[u.id], e.before.instances[u.id], e.before.needs[u.id]
			continue
		}
		asked := e.asked
		switch {
		case u.cyclic:
			e.values[u.id] = cty.DynamicVal
		case u.block == nil:
			e.local(u)
		default:
			e.block(u)
		}
		e.settled[u.id] = e.asked == asked && e.refersToSettled(u)
	}
}

// ask notes that something came up that only the host can tell: a secret, a fact, a value that is not known yet. A unit of
// which, and of all that it refers to, there is no such thing comes out on the host as it did in Validate, so it is not
// evaluated again.
func (e *evaluator) ask() { e.asked++ }

func (e *evaluator) refersToSettled(u *unit) bool {
	return !slices.ContainsFunc(u.refs, func(r reference) bool {
		to := e.config.units[r.id()]
		return to != nil && !e.settled[to.id]
	})
}

func (e *evaluator) local(u *unit) {
	scope := e.scope(u, nil)
	v, diags := e.value(u.local, scope)
	if f := e.failed(u, diags); f != nil {
		v = f.value(cty.DynamicPseudoType)
	}
	e.values[u.id] = v
	e.needs[u.id] = e.needsOf(u, scope)
}

// scope holds what the expressions of a unit can name.
func (e *evaluator) scope(u *unit, each map[string]cty.Value) *hcl.EvalContext {
	roots := map[string]map[string]cty.Value{}
	for _, r := range u.refs {
		v, ok := e.values[r.id()]
		if !ok {
			continue
		}
		if roots[r.root] == nil {
			roots[r.root] = map[string]cty.Value{}
		}
		roots[r.root][r.name] = v
	}
	if each != nil {
		roots["each"] = each
	}
	ctx := &hcl.EvalContext{Variables: map[string]cty.Value{}, Functions: e.functions}
	for root, values := range roots {
		ctx.Variables[root] = cty.ObjectVal(values)
	}
	return ctx
}

// value evaluates an expression; what was found wrong with its names before gives an unknown value.
func (e *evaluator) value(expr hclsyntax.Expression, scope *hcl.EvalContext) (cty.Value, hcl.Diagnostics) {
	if e.config.broken[expr] {
		return cty.DynamicVal, nil
	}
	v, diags := expr.Value(scope)
	if !diags.HasErrors() {
		if !v.IsWhollyKnown() && len(causes(v)) == 0 {
			v = v.WithMarks(causesIn(expr, scope)) // hcl and cty drop them in places: for expressions, merge()
		}
		return v, nil
	}
	if m := missingKey(expr, scope); m != nil {
		return absent(m, cty.DynamicPseudoType), nil
	}
	var refs []reference
	for _, t := range expr.Variables() {
		refs = append(refs, newReference(t))
	}
	if unknown := e.checkKeys(refs); unknown.HasErrors() {
		return cty.DynamicVal, unknown
	}
	return cty.DynamicVal, redact(diags, expr, scope)
}

// failed takes in the errors of a unit: in Validate as what is wrong with the configuration, else as its failure alone.
func (e *evaluator) failed(u *unit, diags hcl.Diagnostics) *failure {
	if !diags.HasErrors() {
		return nil
	}
	if e.env == nil {
		e.diags = append(e.diags, diags...)
	}
	return &failure{origin: u, err: asError(diags)}
}

// nodes returns the nodes of all blocks.
func (e *evaluator) nodes() []resources.Node {
	var out []resources.Node
	for _, u := range e.config.blocks {
		for _, i := range e.instances[u.id] {
			if i.managed {
				out = append(out, e.node(u, i))
			}
		}
	}
	return out
}

func (e *evaluator) unmanaged() []resources.Address {
	var out []resources.Address
	for _, u := range e.config.blocks {
		for _, i := range e.instances[u.id] {
			if !i.managed {
				out = append(out, i.address)
			}
		}
	}
	return out
}

func (e *evaluator) node(u *unit, i *instance) resources.Node {
	n := resources.Node{
		Address: i.address,
		Kind:    u.block.kind,
		Where:   place(u.at),
		Config:  i.digest,
		Facts:   i.facts,
		Asked:   i.asked,
		Timeout: i.timeout,
		Retry:   i.retry,
		Absent:  i.absent,
		Err:     i.err,
	}
	if n.Err == nil {
		n.Resource = i.resource
	}
	for _, a := range e.addresses(i.needs) {
		if a != i.address && !slices.Contains(n.Needs, a) {
			n.Needs = append(n.Needs, a)
		}
	}
	return n
}
