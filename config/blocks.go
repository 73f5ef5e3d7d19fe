package config

import (
	"cmp"
	"fmt"
	"maps"
	"slices"

	"github.com/converge-agent/converge/resources"
	"github.com/hashicorp/hcl/v2"
	"github.com/hashicorp/hcl/v2/hclsyntax"
)

// unit is one thing that is evaluated as a whole and that others refer to: a local value, or a block of a kind.
type unit struct {
	id    string    // "local.system", "s3_bucket.media"
	at    hcl.Range // the header of the block, or the name of the local value
	local hclsyntax.Expression
	block *block

	refs   []reference // in the order in which they are written
	cyclic bool
}

// block is a block of a kind as it is written.
type block struct {
	kind      *resources.Kind
	name      string
	body      *hclsyntax.Body
	forEach   hclsyntax.Expression // nil where it is not written, like when
	when      hclsyntax.Expression
	dependsOn []reference
	bounds    bounds
	misspelt  bool // an attribute that there is not was written, most likely in the place of one that now seems missing
}

// address returns the address of an instance; index is "" without for_each.
func (b *block) address(index string) resources.Address {
	return resources.Address{Kind: b.kind.Name, Name: b.name, Index: index}
}

// expressions returns everything that is evaluated of a unit.
func (u *unit) expressions() []hclsyntax.Expression {
	if u.block == nil {
		return []hclsyntax.Expression{u.local}
	}
	var out []hclsyntax.Expression
	b := u.block.bounds
	for _, e := range []hclsyntax.Expression{u.block.forEach, u.block.when, b.timeout, b.attempts, b.delay} {
		if e != nil {
			out = append(out, e)
		}
	}
	return append(out, u.block.written()...)
}

// written returns the expressions of the attributes of the kind.
func (b *block) written() []hclsyntax.Expression {
	var out []hclsyntax.Expression
	for _, a := range attributes(b.body) {
		if !isMeta(b.kind.Attrs, a.Name) {
			out = append(out, a.Expr)
		}
	}
	for _, nested := range b.body.Blocks {
		if !isMeta(b.kind.Attrs, nested.Type) {
			out = append(out, expressionsIn(nested.Body)...)
		}
	}
	return out
}

func expressionsIn(body *hclsyntax.Body) []hclsyntax.Expression {
	var out []hclsyntax.Expression
	for _, a := range attributes(body) {
		out = append(out, a.Expr)
	}
	for _, nested := range body.Blocks {
		out = append(out, expressionsIn(nested.Body)...)
	}
	return out
}

// attributes returns the attributes of a body in the order in which they are written.
func attributes(body *hclsyntax.Body) []*hclsyntax.Attribute {
	return slices.SortedFunc(maps.Values(body.Attributes), func(a, b *hclsyntax.Attribute) int {
		return cmp.Compare(a.SrcRange.Start.Byte, b.SrcRange.Start.Byte)
	})
}

// metaNames are the attributes and the block that every block of a kind has, unless the kind has one of that name itself.
var metaNames = []string{"for_each", "when", "depends_on", "timeout", "retry"}

// isMeta reports whether name is written in a block of a kind with these attributes for every kind's meaning.
func isMeta(attrs []resources.Attr, name string) bool {
	return slices.Contains(metaNames, name) && resources.Find(attrs, name) == nil
}

// declare takes in the top level of one file.
func (c *Config) declare(body *hclsyntax.Body) hcl.Diagnostics {
	var diags hcl.Diagnostics
	for _, a := range attributes(body) {
		diags = append(diags, wrong(a.NameRange, "Attribute outside of a block",
			"Only blocks stand at the top level. A value with a name goes into a locals block: locals { %s = … }.", a.Name))
	}
	for _, b := range body.Blocks {
		switch b.Type {
		case "variable":
			diags = append(diags, c.declareVariable(b)...)
		case "locals":
			diags = append(diags, c.declareLocals(b)...)
		default:
			diags = append(diags, c.declareBlock(b)...)
		}
	}
	return diags
}

func (c *Config) declareLocals(b *hclsyntax.Block) hcl.Diagnostics {
	var diags hcl.Diagnostics
	if len(b.Labels) > 0 {
		diags = append(diags, wrong(b.DefRange(), "Label on locals", "A locals block has no label; write locals { … }."))
	}
	for _, nested := range b.Body.Blocks {
		diags = append(diags, wrong(nested.DefRange(), "Block in locals",
			"A locals block holds only values; write %s = { … }.", nested.Type))
	}
	for _, a := range attributes(b.Body) {
		u := &unit{id: "local." + a.Name, at: a.NameRange, local: a.Expr}
		if d := c.add(u); d != nil {
			diags = append(diags, d)
			continue
		}
		c.locals = append(c.locals, u)
	}
	return diags
}

// add makes a unit known by its id, which is to be the only one.
func (c *Config) add(u *unit) *hcl.Diagnostic {
	if first := c.units[u.id]; first != nil {
		return wrong(u.at, "Duplicate name", "There is a %s already, at %s. Give one of them another name.", u.id, place(first.at))
	}
	c.units[u.id] = u
	return nil
}

func (c *Config) declareBlock(b *hclsyntax.Block) hcl.Diagnostics {
	kind := c.kinds[b.Type]
	if kind == nil {
		c.lost[b.Type] = true
		known := append(slices.Sorted(maps.Keys(c.kinds)), "variable", "locals")
		return hcl.Diagnostics{wrong(b.TypeRange, "Unknown kind of block", "There is no kind named %q%s", b.Type, nearest(b.Type, known))}
	}
	if d := checkLabel(b, "files"); d != nil {
		c.lost[b.Type] = true
		return hcl.Diagnostics{d}
	}
	u := &unit{
		id:    b.Type + "." + b.Labels[0],
		at:    b.DefRange(),
		block: &block{kind: kind, name: b.Labels[0], body: b.Body},
	}
	if d := c.add(u); d != nil {
		return hcl.Diagnostics{d}
	}
	c.blocks = append(c.blocks, u)

	diags := checkBody(kind.Name, kind.Attrs, b.Body, true)
	u.block.misspelt = diags.HasErrors()
	return append(diags, u.block.takeMeta()...)
}

// checkLabel checks that a block has one label, and that it can be written in a reference.
func checkLabel(b *hclsyntax.Block, example string) *hcl.Diagnostic {
	if len(b.Labels) != 1 {
		return wrong(b.DefRange(), "Wrong number of labels",
			"A %s block has one label, its name; write %s %q { … }.", b.Type, b.Type, example)
	}
	if !hclsyntax.ValidIdentifier(b.Labels[0]) {
		return wrong(b.LabelRanges[0], "Invalid name",
			"%q cannot be referred to. A name starts with a letter and goes on with letters, digits, _ and -.", b.Labels[0])
	}
	return nil
}

// takeMeta takes the attributes that every block of a kind has.
func (b *block) takeMeta() hcl.Diagnostics {
	if a := b.body.Attributes["for_each"]; a != nil {
		b.forEach = a.Expr
	}
	if a := b.body.Attributes["when"]; a != nil {
		b.when = a.Expr
	}
	diags := b.takeBounds()
	return append(diags, b.takeDependsOn()...)
}

func (b *block) takeDependsOn() hcl.Diagnostics {
	a := b.body.Attributes["depends_on"]
	if a == nil {
		return nil
	}
	const example = "depends_on lists resources without quotes, such as [s3_bucket.media]."
	items, diags := hcl.ExprList(a.Expr)
	if diags.HasErrors() {
		return hcl.Diagnostics{wrong(a.Expr.Range(), "Invalid depends_on", example)}
	}
	diags = nil
	for _, item := range items {
		t, bad := hcl.AbsTraversalForExpr(item)
		if bad.HasErrors() || len(t) < 2 {
			diags = append(diags, wrong(item.Range(), "Invalid depends_on", "This is no resource. %s", example))
			continue
		}
		r := newReference(t)
		if len(r.rest) > 0 || r.root == "var" || r.root == "local" || r.root == "each" {
			diags = append(diags, wrong(item.Range(), "Invalid depends_on",
				"This names a value, not a resource. %s", example))
			continue
		}
		b.dependsOn = append(b.dependsOn, r)
	}
	return diags
}

// checkBody checks the names in a body against those of the kind, or of a nested block of it.
func checkBody(kind string, attrs []resources.Attr, body *hclsyntax.Body, top bool) hcl.Diagnostics {
	var diags hcl.Diagnostics
	for _, a := range attributes(body) {
		if top && isMeta(attrs, a.Name) {
			continue
		}
		known := resources.Find(attrs, a.Name)
		switch {
		case known == nil:
			diags = append(diags, wrong(a.NameRange, "Unknown attribute",
				"%s has no attribute %q%s", kind, a.Name, nearest(a.Name, namesOf(attrs, top))))
		case known.Block != nil:
			diags = append(diags, wrong(a.SrcRange, "Block written as an attribute", "Write %s { … }, without the equals sign.", a.Name))
		}
	}
	first := map[string]hcl.Range{}
	for _, b := range body.Blocks {
		if top && b.Type == "retry" && isMeta(attrs, b.Type) {
			continue // see takeBounds
		}
		known := resources.Find(attrs, b.Type)
		where, twice := first[b.Type]
		switch {
		case known == nil:
			diags = append(diags, wrong(b.DefRange(), "Unknown block",
				"%s has no block %q%s", kind, b.Type, nearest(b.Type, namesOf(attrs, top))))
		case known.Block == nil:
			diags = append(diags, wrong(b.DefRange(), "Attribute written as a block", "Write %s = …, with an equals sign.", b.Type))
		case len(b.Labels) > 0:
			diags = append(diags, wrong(b.DefRange(), "Label on a nested block", "Write %s { … }, without a label.", b.Type))
		case twice:
			diags = append(diags, wrong(b.DefRange(), "Block written twice",
				"There is a %s block already, at %s. Put everything into one.", b.Type, place(where)))
		default:
			first[b.Type] = b.DefRange()
			diags = append(diags, checkBody(fmt.Sprintf("%s %s", kind, b.Type), known.Block, b.Body, false)...)
		}
	}
	return diags
}

// namesOf returns the names that can be written among attrs.
func namesOf(attrs []resources.Attr, top bool) []string {
	var out []string
	for _, a := range attrs {
		out = append(out, a.Name)
	}
	if top {
		out = append(out, metaNames...)
	}
	return out
}
