// Package secret holds values that must never be shown. A secret is marked where it is born (a configuration function, a
// file read on the way) and stays marked through every expression, attribute and diff; the only way to its text is Reveal.
package secret

import (
	"encoding/json"
	"fmt"
	"io"
	"log/slog"
	"slices"
	"strings"

	"github.com/zclconf/go-cty/cty"
)

// Redacted is what stands in the place of a secret wherever one is printed.
const Redacted = "(sensitive)"

// String is a secret text. Its zero value is the empty secret. Printing, formatting, marshalling or logging it gives Redacted.
type String struct {
	text    string
	missing *Missing
}

// New marks text as secret.
func New(text string) String { return String{text: text} }

// Absent is a secret that could not be read; see Missing.
func Absent(m *Missing) String { return String{missing: m} }

// Reveal returns the text. Call it only where the text is put to use: in a file told to hold it, in a signature.
func (s String) Reveal() string { return s.text }

// Empty reports whether there is no text.
func (s String) Empty() bool { return s.text == "" }

// Missing returns why the secret could not be read, or nil.
func (s String) Missing() *Missing { return s.missing }

func (s String) String() string { return Redacted }

// GoString gives the redacted form, for %#v.
func (s String) GoString() string { return Redacted }

// Format gives the redacted form, whatever the verb: %x and %q too.
func (s String) Format(f fmt.State, _ rune) { _, _ = io.WriteString(f, Redacted) }

// LogValue gives the redacted form, for log/slog.
func (s String) LogValue() slog.Value { return slog.StringValue(Redacted) }

// MarshalJSON gives the redacted form, so that a secret inside a larger value does not leak either.
func (s String) MarshalJSON() ([]byte, error) { return json.Marshal(Redacted) }

// MarshalText gives the redacted form.
func (s String) MarshalText() ([]byte, error) { return []byte(Redacted), nil }

// Missing says that a secret could not be read. It travels with the value, so that only what uses the secret fails.
type Missing struct {
	// Name is how the configuration asked for it: `credential("b2.app.key")`; "" where Err says all, of one that was read
	// and cannot be used.
	Name string
	// Err says where it was looked for.
	Err error
	// Fix is the command or sentence that would put it there.
	Fix string
}

func (m *Missing) Error() string {
	if m.Name == "" {
		return m.Err.Error()
	}
	return fmt.Sprintf("the secret %s is missing: %s", m.Name, m.Err)
}

// Unwrap returns what happened when the secret was read.
func (m *Missing) Unwrap() error { return m.Err }

// mark is the cty mark of every secret value. Equal marks are one mark, so values that meet in an expression carry one.
type mark struct{}

// missingMark is the cty mark of a value that some missing secret went into.
type missingMark struct{ missing *Missing }

// Value returns the secret as a marked configuration value.
func (s String) Value() cty.Value {
	v := cty.StringVal(s.text).Mark(mark{})
	if s.missing != nil {
		v = v.Mark(missingMark{s.missing})
	}
	return v
}

// FromValue returns the text of v, a known and non-null string, as a secret, whether it was marked or not.
func FromValue(v cty.Value) String {
	bare, marks := v.Unmark()
	s := String{text: bare.AsString()}
	for m := range marks {
		if miss, ok := m.(missingMark); ok {
			s.missing = miss.missing
		}
	}
	return s
}

// Mark marks v as secret as a whole.
func Mark(v cty.Value) cty.Value { return v.Mark(mark{}) }

// In reports whether v is, or holds at any depth, a secret.
func In(v cty.Value) bool {
	_, marks := v.UnmarkDeep()
	_, ok := marks[mark{}]
	return ok
}

// TextsIn returns the secret texts in v, at any depth. Unknown and missing ones have none.
func TextsIn(v cty.Value) []String {
	bare, places := v.UnmarkDeepWithPaths()
	var out []String
	for _, p := range places {
		if _, ok := p.Marks[mark{}]; !ok {
			continue
		}
		at, err := p.Path.Apply(bare)
		if err != nil {
			continue // the path is of v itself
		}
		_ = cty.Walk(at, func(_ cty.Path, e cty.Value) (bool, error) {
			if e.Type() == cty.String && e.IsKnown() && !e.IsNull() {
				out = append(out, New(e.AsString()))
			}
			return true, nil
		})
	}
	return out
}

// MissingIn returns the missing secrets that went into v, by name.
func MissingIn(v cty.Value) []*Missing {
	_, marks := v.UnmarkDeep()
	var out []*Missing
	for m := range marks {
		if miss, ok := m.(missingMark); ok {
			out = append(out, miss.missing)
		}
	}
	slices.SortFunc(out, func(a, b *Missing) int { return strings.Compare(a.Error(), b.Error()) })
	return out
}
