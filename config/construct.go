package config

import (
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/converge-agent/converge/diag"
	"github.com/converge-agent/converge/resources"
	"github.com/converge-agent/converge/secret"
	"github.com/hashicorp/hcl/v2"
	"github.com/zclconf/go-cty/cty"
	"github.com/zclconf/go-cty/cty/convert"
)

// construct makes the resource and the exports of an instance from its checked configuration. A missing secret stops the
// resource but not the exports: with an empty text in its place they are made all the same, and those which the secret
// went into stay unknown.
func (e *evaluator) construct(u *unit, i *instance, config cty.Value) {
	kind := u.block.kind
	if f := failureIn(config); f != nil {
		i.fail(u, f)
		return
	}
	if uses := missingIn(kind.Attrs, config, nil); len(uses) > 0 {
		i.err = missingError(u, uses)
	}
	config = fillMissing(config)
	switch {
	case !config.IsWhollyKnown():
		e.unknown(u, i, "a value that it uses cannot be told from what was read")
		return
	case kind.Facts != nil:
		e.readFacts(u, i, config)
	case kind.Ask != nil && kind.Ask(config) != "":
		e.findFirst(u, i, config, kind.Ask(config))
	case kind.New != nil:
		e.callNew(u, i, config)
	default:
		i.exports = cty.EmptyObjectVal
	}
	if resources.Find(kind.Attrs, "ensure") != nil {
		i.absent = config.GetAttr("ensure").RawEquals(cty.StringVal(resources.Absent))
	}
	if text, err := digest(kind.Attrs, config); err == nil {
		i.digest = text
	}
}

// unknown leaves the exports of an instance unknown: while validating that is all, on the host it is a failure.
func (e *evaluator) unknown(u *unit, i *instance, why string) {
	e.ask()
	if e.env == nil {
		i.exports = unknownExports(u.block.kind, nil)
		return
	}
	f := &failure{origin: u, err: i.err}
	if i.err == nil {
		f.err = errors.New(why)
		i.err = f.error(u)
	}
	i.exports = unknownExports(u.block.kind, f)
}

func (e *evaluator) readFacts(u *unit, i *instance, config cty.Value) {
	switch {
	case e.env == nil || i.err != nil:
		e.unknown(u, i, "")
		return
	case !i.managed:
		e.unknown(u, i, "it is switched off by when, so nothing is read")
		return
	}
	ctx, cancel := resources.Within(e.ctx, i.timeout)
	defer cancel()
	exports, err := u.block.kind.Facts(ctx, *e.env, config)
	if err == nil {
		exports, err = completeExports(u.block.kind, exports)
	}
	if err == nil {
		i.facts, err = digestOf(plainData(exports, true))
	}
	if err != nil {
		i.fail(u, &failure{origin: u, err: resources.TimedOut(ctx, err)})
		return
	}
	i.exports = exports
}

// findFirst has the value of an attribute found that New needs and nobody wrote.
func (e *evaluator) findFirst(u *unit, i *instance, config cty.Value, attr string) {
	e.ask()
	switch {
	case e.env == nil:
		e.callNew(u, i, config)
		return
	case !i.managed:
		e.unknown(u, i, "it is switched off by when, so nobody is asked for its "+attr)
		return
	}
	ctx, cancel := resources.Within(e.ctx, i.timeout)
	defer cancel()
	found, note, err := u.block.kind.Find(ctx, *e.env, config)
	if note != "" {
		e.warnings = append(e.warnings, &hcl.Diagnostic{
			Severity: hcl.DiagWarning, Summary: "Not asked anew for " + attr, Detail: i.address.String() + ": " + note + ".", Subject: u.at.Ptr(),
		})
	}
	if err == nil {
		i.asked = attr
		i.facts, err = digestOf(plainData(found, true))
	}
	switch {
	case err == nil:
		e.callNew(u, i, with(config, attr, found))
	case i.err != nil:
		e.unknown(u, i, "") // a secret is missing, which says more
	default:
		i.fail(u, &failure{origin: u, err: resources.TimedOut(ctx, err)})
	}
}

// with is config with another value of one attribute.
func with(config cty.Value, attr string, value cty.Value) cty.Value {
	bare, marks := config.Unmark()
	attrs := bare.AsValueMap()
	attrs[attr] = value
	return cty.ObjectVal(attrs).WithMarks(marks)
}

func (e *evaluator) callNew(u *unit, i *instance, config cty.Value) {
	resource, exports, err := u.block.kind.New(i.address, config)
	if err == nil {
		exports, err = completeExports(u.block.kind, exports)
	}
	if err == nil {
		i.resource, i.exports = resource, hideMissing(exports)
		return
	}
	if without, ok := withoutUnfit(u, config, err); ok && e.env != nil {
		e.construct(u, i, without)
		return
	}
	if len(secret.MissingIn(config)) > 0 && !plainError(config, err) {
		e.unknown(u, i, err.Error()) // an empty text in the place of a secret may well be wrong
		return
	}
	if e.env == nil {
		i.fail(u, e.failed(u, errorDiags(u, err)))
		return
	}
	i.fail(u, &failure{origin: u, err: err})
}

// withoutUnfit returns config with the secret that err is about made a missing one: what uses a secret that is there but
// cannot be right, such as one with a blank in it, fails, and nothing else. It reports false where err is about no such.
func withoutUnfit(u *unit, config cty.Value, err error) (cty.Value, bool) {
	var at *resources.AttrError
	if !errors.As(err, &at) {
		return config, false
	}
	found := false
	out, failed := cty.Transform(config, func(path cty.Path, v cty.Value) (cty.Value, error) {
		if !names(path, at.Path) || v.Type() != cty.String || !secret.In(v) || len(secret.MissingIn(v)) > 0 {
			return v, nil
		}
		found = true
		return absent(&secret.Missing{Err: &unfitError{attr: strings.Join(at.Path, "."), unit: u.id, err: at.Err}, Fix: diag.Fix(err)}, cty.String), nil
	})
	return out, found && failed == nil
}

// names reports whether path consists of these attributes.
func names(path cty.Path, attrs []string) bool {
	return slices.EqualFunc(path, attrs, func(step cty.PathStep, name string) bool {
		get, ok := step.(cty.GetAttrStep)
		return ok && get.Name == name
	})
}

// plainError reports whether an error of New is about an attribute that holds no secret.
func plainError(config cty.Value, err error) bool {
	var at *resources.AttrError
	if !errors.As(err, &at) {
		return false
	}
	v := config
	for _, name := range at.Path {
		if !v.IsKnown() || v.IsNull() || !v.Type().IsObjectType() || !v.Type().HasAttribute(name) {
			break
		}
		v = v.GetAttr(name)
	}
	return !secret.In(v)
}

// completeExports returns what a kind exported with every declared export present, of its type, and secret where it is
// declared so. What is not declared is kept: kinds may pass each other more than expressions can name.
func completeExports(kind *resources.Kind, exports cty.Value) (cty.Value, error) {
	out := map[string]cty.Value{}
	if exports != cty.NilVal && exports.IsKnown() && !exports.IsNull() && exports.Type().IsObjectType() {
		out = spread(exports).AsValueMap()
		if out == nil {
			out = map[string]cty.Value{}
		}
	}
	for i := range kind.Exports {
		x := &kind.Exports[i]
		v, ok := out[x.Name]
		if !ok {
			v = cty.NullVal(exportType(x))
		}
		v, err := convert.Convert(v, exportType(x))
		if err != nil {
			return cty.NilVal, fmt.Errorf("the kind %s exported a wrong %s: %w", kind.Name, x.Name, err)
		}
		out[x.Name] = marked(x, v)
	}
	return cty.ObjectVal(out), nil
}

func exportType(x *resources.Attr) cty.Type {
	if x.Type == cty.NilType {
		return cty.DynamicPseudoType
	}
	return x.Type
}

// marked marks a secret export. In a map of some secret values it is the kind that marks those.
func marked(x *resources.Attr, v cty.Value) cty.Value {
	if x.Secret && exportType(x).IsPrimitiveType() {
		return secret.Mark(v)
	}
	return v
}

// unresolved is an attribute that no expression can name. It keeps a reference with unknown exports from being taken for
// one that is wholly known, whatever its kind declares.
const unresolved = "(unresolved)"

// unknownExports returns the exports of a resource that cannot be made, because of f or, without one, not yet.
func unknownExports(kind *resources.Kind, f *failure) cty.Value {
	unknown := cty.UnknownVal
	if f != nil {
		unknown = f.value
	}
	out := map[string]cty.Value{unresolved: unknown(cty.DynamicPseudoType)}
	for i := range kind.Exports {
		x := &kind.Exports[i]
		out[x.Name] = marked(x, unknown(exportType(x)))
	}
	return cty.ObjectVal(out)
}

// error words the failure for the unit u, which is where it happened or uses something of it.
func (f *failure) error(u *unit) error {
	doing := fmt.Sprintf("evaluate %s (%s)", u.id, place(u.at))
	switch {
	case f.origin == u:
		return diag.Wrap(f.err, doing, "")
	case f.origin.block == nil:
		return diag.Wrap(f.err, fmt.Sprintf("%s: it uses %s", doing, f.origin.id), "")
	}
	return diag.New(doing, fmt.Sprintf("it needs %s, which could not be evaluated", f.origin.id), "")
}
