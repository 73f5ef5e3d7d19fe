package config

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"maps"

	"github.com/converge-agent/converge/resources"
	"github.com/zclconf/go-cty/cty"
)

// digest stands for a configuration: equal ones have equal digests. It is the SHA-256 of their JSON with keys sorted,
// secrets as they are, references by their address and exports. Secrets among the exports of a resource that is only
// referred to are left out: a new password in one is no change in the others.
func digest(attrs []resources.Attr, config cty.Value) (string, error) {
	return digestOf(canonical(attrs, config))
}

func digestOf(data any) (string, error) {
	text, err := json.Marshal(data)
	if err != nil {
		return "", fmt.Errorf("encode the configuration: %w", err)
	}
	sum := sha256.Sum256(text)
	return hex.EncodeToString(sum[:]), nil
}

func canonical(attrs []resources.Attr, config cty.Value) map[string]any {
	out := map[string]any{}
	for i := range attrs {
		a := &attrs[i]
		v := config.GetAttr(a.Name)
		switch {
		case a.Block != nil && !v.IsNull():
			out[a.Name] = canonical(a.Block, v)
		default:
			out[a.Name] = plainData(v, !refersOnly(a, v))
		}
	}
	return out
}

// plainData gives a known value as what encoding/json takes, without its secrets where they are not wanted.
func plainData(v cty.Value, secrets bool) any {
	bare, marks := v.Unmark()
	if !secrets && hasAll(marks, secretMarks()) {
		return nil
	}
	t := bare.Type()
	switch {
	case bare.IsNull() || !bare.IsKnown():
		return nil
	case t == cty.String:
		return bare.AsString()
	case t == cty.Bool:
		return bare.True()
	case t == cty.Number:
		return json.Number(bare.AsBigFloat().Text('g', -1))
	case t.Equals(resources.AddressType):
		return bare.EncapsulatedValue().(*resources.Address).String()
	case t.IsMapType(), t.IsObjectType():
		out := map[string]any{}
		for k, e := range bare.AsValueMap() {
			out[k] = plainData(e, secrets)
		}
		return out
	case bare.CanIterateElements():
		out := []any{}
		for _, e := range bare.AsValueSlice() {
			out = append(out, plainData(e, secrets))
		}
		return out
	}
	return nil // a capsule of a kind's own, which no configuration can write
}

func hasAll(marks, wanted cty.ValueMarks) bool {
	for m := range maps.Keys(wanted) {
		if !marks.Has(m) {
			return false
		}
	}
	return true
}
