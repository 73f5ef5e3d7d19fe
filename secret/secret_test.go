package secret_test

import (
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"strings"
	"testing"

	"github.com/converge-agent/converge/secret"
	"github.com/zclconf/go-cty/cty"
)

func TestLaw6NeverPrints(t *testing.T) {
	s := secret.New("hunter2")
	wrapped := struct {
		S secret.String
		M map[string]secret.String
	}{s, map[string]secret.String{"k": s}}
	text, err := json.Marshal(wrapped)
	if err != nil {
		t.Fatal(err)
	}
	var log strings.Builder
	slog.New(slog.NewTextHandler(&log, nil)).Info("x", "s", s, "w", wrapped)
	for _, out := range []string{
		fmt.Sprint(s), fmt.Sprintf("%s %v %+v %#v %q %x %d", s, s, s, s, s, s, s), fmt.Sprintf("%v %+v %#v", wrapped, wrapped, wrapped),
		string(text), log.String(), fmt.Errorf("with %v", s).Error(),
	} {
		if strings.Contains(out, "hunter2") || strings.Contains(out, "68756e74657232") {
			t.Errorf("it prints: %s", out)
		}
	}
	if s.Reveal() != "hunter2" {
		t.Error("Reveal lost the text")
	}
}

func TestTextsIn(t *testing.T) {
	v := cty.ObjectVal(map[string]cty.Value{
		"plain": cty.StringVal("p"), "secret": secret.New("s").Value(), "unknown": secret.Mark(cty.UnknownVal(cty.String)),
		"null": secret.Mark(cty.NullVal(cty.String)), "number": secret.Mark(cty.Zero),
		"whole": secret.Mark(cty.ListVal([]cty.Value{cty.StringVal("a"), cty.StringVal("b")})),
		"part":  cty.MapVal(map[string]cty.Value{"x": secret.New("m").Value(), "y": cty.StringVal("p")}),
	})
	var got []string
	for _, s := range secret.TextsIn(v) {
		got = append(got, s.Reveal())
	}
	slices.Sort(got)
	if want := []string{"a", "b", "m", "s"}; !slices.Equal(got, want) {
		t.Errorf("got %q, want %q", got, want)
	}
}

func TestMarksStayWithTheirValue(t *testing.T) {
	m := &secret.Missing{Name: `env("X")`, Err: errors.New("not set")}
	obj := cty.ObjectVal(map[string]cty.Value{
		"plain": cty.StringVal("p"), "secret": secret.New("s").Value(), "missing": secret.Absent(m).Value(),
	})
	if secret.In(obj.GetAttr("plain")) || !secret.In(obj.GetAttr("secret")) || !secret.In(obj) {
		t.Error("In does not tell the values apart")
	}
	if got := secret.MissingIn(obj); len(got) != 1 || got[0] != m {
		t.Errorf("MissingIn = %v", got)
	}
	if got := secret.FromValue(obj.GetAttr("missing")); got.Missing() != m || !got.Empty() {
		t.Errorf("FromValue lost what is missing: %v", got.Missing())
	}
	if got := secret.MissingIn(obj.GetAttr("secret")); got != nil {
		t.Errorf("a secret that is there counts as missing: %v", got)
	}
}
