package config_test

import (
	"slices"
	"strings"
	"testing"

	"github.com/converge-agent/converge/host"
)

const asking = `
asker "a" {
  of = "e2"
}
unit "u" { name = asker.a.place }
unit "apart" { name = "apart" }
`

// TestWhatIsFoundBeforePlanning: New gets it as if it had been written, and it is a fact of the node.
func TestWhatIsFoundBeforePlanning(t *testing.T) {
	found := func(src, place string) (*world, string) {
		w := one(src)
		w.host = map[string]host.File{"/places/e2": text(place)}
		nodes := w.evaluate(t)
		if got := attr(t, nodes["unit.u"], "name").AsString(); got != place && src == asking {
			t.Errorf("the unit is called %q, want %q", got, place)
		}
		if nodes["unit.u"].Facts+nodes["unit.u"].Asked != "" {
			t.Error("what asks nobody has facts")
		}
		if asked := nodes["asker.a"].Asked; (asked == "place") != (src == asking) {
			t.Errorf("asked was for %q", asked)
		}
		return w, nodes["asker.a"].Facts
	}
	w, one := found(asking, "here")
	if !slices.Equal(w.facts, []string{"e2"}) {
		t.Errorf("asked was %q", w.facts)
	}
	_, same := found(asking, "here")
	_, other := found(asking, "there")
	if one == "" || one != same || one == other {
		t.Errorf("digests %q, %q, %q", one, same, other)
	}
	if w, none := found(strings.Replace(asking, "of =", "place = \"written\"\n  of =", 1), "here"); none != "" || len(w.facts) > 0 {
		t.Errorf("what is written was asked for: %q, digest %q", w.facts, none)
	}
}

// TestANoteOfWhatWasFoundIsAWarning: that what was found is an old answer, say.
func TestANoteOfWhatWasFoundIsAWarning(t *testing.T) {
	w := one(asking)
	w.host = map[string]host.File{"/places/e2": text("here")}
	if diags := w.warnings(t); len(diags) > 0 {
		t.Errorf("warned without a note: %v", diags)
	}
	w.note = "it is that of yesterday"
	diags := w.warnings(t)
	if len(diags) != 1 || diags.HasErrors() || diags[0].Detail != "asker.a: it is that of yesterday." || diags[0].Subject.Start.Line != 2 {
		t.Errorf("warned was %v", diags)
	}
}

// TestWhatCannotBeFound fails its users and nothing else.
func TestWhatCannotBeFound(t *testing.T) {
	for name, src := range map[string]string{
		"nobody answers": asking,
		"no secret":      strings.Replace(asking, `"e2"`, `credential("e2.id")`, 1),
		"switched off":   strings.Replace(asking, "  of =", "  when = false\n  of =", 1),
	} {
		t.Run(name, func(t *testing.T) {
			w := one(src)
			nodes := w.evaluate(t)
			if nodes["unit.apart"].Err != nil || nodes["unit.u"].Err == nil {
				t.Errorf("apart: %v; its user: %v", nodes["unit.apart"].Err, nodes["unit.u"].Err)
			}
			err := nodes["asker.a"].Err
			switch name {
			case "nobody answers":
				if err == nil || !strings.Contains(err.Error(), "nobody answers") {
					t.Errorf("error = %v", err)
				}
			case "no secret":
				if err == nil || !strings.Contains(err.Error(), "e2.id") {
					t.Errorf("error = %v", err)
				}
			}
		})
	}
}

// TestValidateAsksNobody, and finds what is wrong with the rest all the same.
func TestValidateAsksNobody(t *testing.T) {
	w := one(asking)
	c, diags := w.load("site.hcl")
	diags = append(diags, c.Validate()...)
	if len(diags) > 0 || len(w.facts) > 0 {
		t.Errorf("asked was %q:\n%s", w.facts, render(t, c, diags))
	}
	w = one(strings.Replace(asking, "of =", "size = \"wrong\"\n  of =", 1))
	c, diags = w.load("site.hcl")
	diags = append(diags, c.Validate()...)
	if text := render(t, c, diags); !strings.Contains(text, "It is no size") || !strings.Contains(text, "site.hcl line 3") || len(w.facts) > 0 {
		t.Errorf("asked was %q:\n%s", w.facts, text)
	}
}
