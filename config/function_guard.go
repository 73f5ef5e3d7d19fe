package config

import (
	"errors"

	"github.com/converge-agent/converge/secret"
	"github.com/zclconf/go-cty/cty"
	"github.com/zclconf/go-cty/cty/function"
)

// guarded returns f with a promise that cty does not make: an error over a secret argument does not show it. Those of
// tonumber, lookup and jsondecode would.
func guarded(f function.Function) function.Function {
	spec := &function.Spec{
		Type: function.StaticReturnType(cty.DynamicPseudoType),
		Impl: func(args []cty.Value, _ cty.Type) (cty.Value, error) {
			out, err := f.Call(args)
			if err != nil {
				return cty.NilVal, withoutSecrets(err, args)
			}
			return out, nil
		},
	}
	for _, p := range f.Params() {
		spec.Params = append(spec.Params, takingAll(p))
	}
	if p := f.VarParam(); p != nil {
		all := takingAll(*p)
		spec.VarParam = &all
	}
	return function.New(spec)
}

// takingAll returns p for values of every sort; the function behind it decides.
func takingAll(p function.Parameter) function.Parameter {
	p.AllowMarked, p.AllowUnknown, p.AllowNull, p.AllowDynamicType = true, true, true, true
	return p
}

// unlessSecret returns a name or path without its marks, which is not to be secret: failures name it.
func unlessSecret(arg cty.Value) (cty.Value, error) {
	if secret.In(arg) {
		return cty.NilVal, function.NewArgErrorf(0, "it must not be secret itself")
	}
	bare, _ := arg.Unmark()
	return bare, nil
}

// withoutSecrets returns the error of a call in a form that may be shown.
func withoutSecrets(err error, args []cty.Value) error {
	shown := err
	var panicked function.PanicError
	if errors.As(err, &panicked) {
		shown = errors.New("the function cannot work with these arguments")
	}
	for _, arg := range args {
		if secret.In(arg) {
			shown = errors.New("the reason is not shown, because an argument is secret")
			break
		}
	}
	var at function.ArgError
	if errors.As(err, &at) {
		return function.NewArgError(at.Index, shown)
	}
	return shown
}
