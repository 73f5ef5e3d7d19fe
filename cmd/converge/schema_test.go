package main

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/converge-agent/converge/plans"
	"github.com/converge-agent/converge/resources"
	"github.com/rogpeppe/go-internal/testscript"
	"github.com/santhosh-tekuri/jsonschema/v6"
)

// outputSchema compiles the published schema, with its formats asserted.
func outputSchema() (*jsonschema.Schema, error) {
	c := jsonschema.NewCompiler()
	c.AssertFormat()
	return c.Compile("../../docs/schema/output.schema.json")
}

// schemaOf is the one that scripts use: they run in directories of their own.
var schemaOf *jsonschema.Schema

// fits checks each line of text, and returns the types of the lines.
func fits(s *jsonschema.Schema, text []byte) ([]string, error) {
	var types []string
	for n, line := range bytes.Split(bytes.TrimSuffix(text, []byte("\n")), []byte("\n")) {
		v, err := jsonschema.UnmarshalJSON(bytes.NewReader(line))
		if err == nil {
			err = s.Validate(v)
		}
		if err != nil {
			return types, fmt.Errorf("line %d, %s: %w", n+1, line, err)
		}
		types = append(types, v.(map[string]any)["type"].(string))
	}
	return types, nil
}

// checkLines checks a file (or stdout) of a script against the schema, and that its types come in this order, each once or
// more: lines stdout plan_item plan_summary
func checkLines(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) < 2 {
		ts.Fatalf("usage: lines FILE TYPE...")
	}
	text := ts.ReadFile(args[0])
	types, err := fits(schemaOf, []byte(text))
	if err != nil {
		ts.Fatalf("%v", err)
	}
	var order []string
	for i, t := range types {
		if i == 0 || types[i-1] != t {
			order = append(order, t)
		}
	}
	if got, want := strings.Join(order, " "), strings.Join(args[1:], " "); got != want {
		ts.Fatalf("the lines are of the types %s, want %s", got, want)
	}
}

// TestEveryFieldIsInTheSchema fills every field of every line: one that the schema does not know, or that has another type,
// is an error, for the schema is closed.
func TestEveryFieldIsInTheSchema(t *testing.T) {
	s, err := outputSchema()
	if err != nil {
		t.Fatal(err)
	}
	now := time.Unix(1, 0).UTC()
	for kind, line := range map[string]any{
		"plan_item": &lineItem{}, "plan_summary": &linePlanSummary{}, "begin": &lineBegin{}, "progress": &lineProgress{},
		"end": &lineEnd{}, "summary": &lineSummary{}, "diagnostic": &lineDiagnostic{}, "validation": &lineValidation{},
		"version": &lineVersion{}, "orphan": &lineOrphan{}, "run": &lineRun{}, "run_step": &lineStep{}, "saved_plan": &lineSaved{},
		"saved_item": &lineSavedItem{},
	} {
		t.Run(kind, func(t *testing.T) {
			v := reflect.ValueOf(line).Elem()
			fill(v)
			v.FieldByName("Format").SetString(outputFormat)
			v.FieldByName("Type").SetString(kind)
			switch l := line.(type) {
			case *lineItem:
				l.Action, l.Left.Outcome = "create", "held"
				for _, f := range []*lineFile{l.Edits[0].Before, l.Edits[0].After} {
					f.Type, f.Mode = "special_file", "4755"
				}
			case *lineRun:
				l.State = "killed"
			case *lineStep:
				l.Action, l.Outcome = "create", "failed"
				for _, f := range []*lineFile{l.Edits[0].Before, l.Edits[0].After} {
					f.Type, f.Mode = "special_file", "4755"
				}
			case *lineSavedItem:
				l.Action = "failed"
			case *lineBegin:
				l.Action = "in_progress"
			case *lineEnd:
				l.Outcome = "held"
			case *lineDiagnostic:
				l.Severity = "warning"
			case *lineSummary:
				l.Outcomes = map[string]int{}
				for _, o := range plans.Outcomes() {
					l.Outcomes[word(o.String())] = 1
				}
			}
			if !slices.Contains([]string{"begin", "progress", "end", "summary", "run", "run_step"}, kind) {
				v.FieldByName("Time").SetZero()
			}
			text, err := json.Marshal(line)
			if err != nil {
				t.Fatal(err)
			}
			if _, err := fits(s, text); err != nil {
				t.Error(err)
			}
			more := bytes.Replace(text, []byte("{"), []byte(`{"more":1,`), 1)
			if _, err := fits(s, more); err == nil {
				t.Error("the schema lets a field pass that it does not know")
			}
		})
	}
	for a := resources.None; a <= resources.Blocked; a++ {
		var b bytes.Buffer
		l := &jsonLines{to: []io.Writer{&b}, now: func() time.Time { return now }}
		l.write(lineBegin{l.eventHead("begin"), "a", word(a.String())})
		if _, err := fits(s, b.Bytes()); err != nil {
			t.Error(err)
		}
	}
}

// fill gives every field a value that is not left out.
func fill(v reflect.Value) {
	switch v.Kind() {
	case reflect.Struct:
		if v.Type() == reflect.TypeFor[time.Time]() {
			v.Set(reflect.ValueOf(time.Unix(1, 0).UTC()))
			return
		}
		for i := range v.NumField() {
			fill(v.Field(i))
		}
	case reflect.Pointer:
		v.Set(reflect.New(v.Type().Elem()))
		fill(v.Elem())
	case reflect.Slice:
		v.Set(reflect.MakeSlice(v.Type(), 1, 1))
		fill(v.Index(0))
	case reflect.Map:
		v.Set(reflect.MakeMap(v.Type()))
		v.SetMapIndex(reflect.ValueOf("x"), reflect.ValueOf(1).Convert(v.Type().Elem()))
	case reflect.String:
		v.SetString("x")
	case reflect.Bool:
		v.SetBool(true)
	case reflect.Int, reflect.Int64:
		v.SetInt(1)
	case reflect.Float64:
		v.SetFloat(0.5)
	default:
		panic("no value for a " + v.Kind().String())
	}
}

// TestLinesHoldNoControlCharacters: whatever a file name or a server says, a terminal that shows the lines is not commanded.
func TestLinesHoldNoControlCharacters(t *testing.T) {
	var b bytes.Buffer
	l := &jsonLines{to: []io.Writer{&b}}
	l.message("error", "a\x1b]0;x\x07b\u009bc\x7f", "\r\n\x00")
	for _, c := range b.String() {
		if c < 0x20 && c != '\n' || isRest(c) {
			t.Errorf("%q holds %U", b.String(), c)
		}
	}
	var got lineDiagnostic
	if err := json.Unmarshal(b.Bytes(), &got); err != nil || got.Summary != "a\x1b]0;x\x07b\u009bc\x7f" {
		t.Errorf("read back: %q, %v", got.Summary, err)
	}
}
