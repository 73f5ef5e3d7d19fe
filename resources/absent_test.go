package resources_test

import (
	"errors"
	"testing"

	"github.com/converge-agent/converge/resources"
	"github.com/zclconf/go-cty/cty"
)

// TestNothingWhenAbsent: such a kind does nothing when absent, exports what it always does, and still refuses a wrong block.
func TestNothingWhenAbsent(t *testing.T) {
	refused := errors.New("refused")
	k := resources.NothingWhenAbsent(&resources.Kind{
		Name:  "k",
		Attrs: []resources.Attr{{Name: "bad", Type: cty.Bool, Default: cty.False}},
		New: func(_ resources.Address, config cty.Value) (resources.Resource, cty.Value, error) {
			if config.GetAttr("bad").True() {
				return nil, cty.NilVal, refused
			}
			return nil, cty.StringVal("exported"), nil
		},
	}, "Doc.")
	made := func(written map[string]cty.Value) (resources.Resource, cty.Value, error) {
		t.Helper()
		config, errs := k.Complete(cty.ObjectVal(written))
		if len(errs) > 0 {
			t.Fatal(errs[0])
		}
		return k.New(resources.Address{}, config)
	}
	if r, _, err := made(map[string]cty.Value{"ensure": cty.StringVal("present")}); r != nil || err != nil {
		t.Errorf("present: got %v, %v; want what the kind makes", r, err)
	}
	if _, _, err := made(map[string]cty.Value{"ensure": cty.StringVal("absent"), "bad": cty.True}); !errors.Is(err, refused) {
		t.Errorf("a wrong block that is absent: got %v", err)
	}
	r, exports, err := made(map[string]cty.Value{"ensure": cty.StringVal("absent")})
	if err != nil || exports.AsString() != "exported" {
		t.Fatalf("absent: got %v, %v", exports, err)
	}
	st, err := r.Read(t.Context(), resources.ReadEnv{})
	if err != nil || len(r.Claims())+len(r.Watches()) > 0 {
		t.Errorf("it reads %v, claims %v, watches %v", err, r.Claims(), r.Watches())
	}
	if c := r.Diff(st); c.Action != resources.None {
		t.Errorf("it would %s", c.Action)
	}
}
