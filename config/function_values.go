package config

import (
	"errors"
	"maps"

	"github.com/converge-agent/converge/secret"
	"github.com/zclconf/go-cty/cty"
	"github.com/zclconf/go-cty/cty/convert"
	"github.com/zclconf/go-cty/cty/function"
)

// conversion makes a function that converts to a type and, other than stdlib.MakeToFunc, keeps the marks of elements.
func conversion(t cty.Type) function.Function {
	return function.New(&function.Spec{
		Params: []function.Parameter{takingAll(function.Parameter{Name: "v", Type: cty.DynamicPseudoType})},
		Type:   function.StaticReturnType(cty.DynamicPseudoType),
		Impl: func(args []cty.Value, _ cty.Type) (cty.Value, error) {
			out, err := convert.Convert(asList(args[0]), t)
			if err != nil {
				return cty.NilVal, function.NewArgError(0, err)
			}
			return out, nil
		},
	})
}

// asList gives a tuple of elements of one type as a list of them: convert (cty 1.19) compares the types of a tuple's elements
// each with each, which for thousands of names takes longer than all the rest.
func asList(v cty.Value) cty.Value {
	bare, marks := v.Unmark()
	if !bare.IsKnown() || bare.IsNull() || !bare.Type().IsTupleType() || bare.LengthInt() == 0 {
		return v
	}
	elements := bare.AsValueSlice()
	first := elements[0].Type()
	if first.HasDynamicTypes() {
		return v
	}
	for _, e := range elements {
		if !e.Type().Equals(first) {
			return v
		}
	}
	return cty.ListVal(elements).WithMarks(marks)
}

// coalesceFunction gives the first argument that is there: not null, not an empty text, not a missing secret.
var coalesceFunction = function.New(&function.Spec{
	VarParam: ptr(takingAll(function.Parameter{Name: "vals", Type: cty.DynamicPseudoType})),
	Type:     function.StaticReturnType(cty.DynamicPseudoType),
	Impl: func(args []cty.Value, _ cty.Type) (cty.Value, error) {
		skipped := cty.ValueMarks{} // of the missing ones
		for _, arg := range args {
			bare, marks := arg.Unmark()
			switch {
			case !bare.IsKnown() && isMissing(arg):
				maps.Copy(skipped, marks)
			case !bare.IsKnown():
				return cty.DynamicVal.WithMarks(marks), nil
			case bare.IsNull(), bare.Type() == cty.String && bare.AsString() == "":
			default:
				return arg, nil
			}
		}
		if len(skipped) > 0 {
			return cty.DynamicVal.WithMarks(skipped), nil
		}
		return cty.NilVal, errors.New("every argument is null or empty")
	},
})

// isMissing reports whether a secret was looked for and not found.
func isMissing(v cty.Value) bool {
	missing := secret.MissingIn(v)
	for _, m := range missing {
		if errors.Is(m.Err, errNotRead) {
			return false
		}
	}
	return len(missing) > 0
}

var sensitiveFunction = valueFunction(func(v cty.Value) cty.Value { return spread(secret.Mark(v)) })

var nonsensitiveFunction = valueFunction(func(v cty.Value) cty.Value {
	bare, paths := v.UnmarkDeepWithPaths()
	for i := range paths {
		for m := range secretMarks() {
			delete(paths[i].Marks, m)
		}
	}
	return bare.MarkWithPaths(paths)
})

// valueFunction makes a function that changes only the marks of its argument.
func valueFunction(f func(cty.Value) cty.Value) function.Function {
	return function.New(&function.Spec{
		Params: []function.Parameter{takingAll(function.Parameter{Name: "value", Type: cty.DynamicPseudoType})},
		Type:   func(args []cty.Value) (cty.Type, error) { return args[0].Type(), nil },
		Impl:   func(args []cty.Value, _ cty.Type) (cty.Value, error) { return f(args[0]), nil },
	})
}

func ptr[T any](v T) *T { return &v }
