package all_test

import (
	"flag"
	"fmt"
	"os"
	"slices"
	"strings"
	"testing"

	"github.com/converge-agent/converge/resources"
	"github.com/converge-agent/converge/resources/all"
	"github.com/zclconf/go-cty/cty"
)

var update = flag.Bool("update", false, "write docs/reference.md anew")

const referenceFile = "../../docs/reference.md"

// TestReferenceIsCurrent holds docs/reference.md to the kinds' own data.
func TestReferenceIsCurrent(t *testing.T) {
	want := reference(all.Kinds(all.Deps{}))
	if *update {
		if err := os.WriteFile(referenceFile, []byte(want), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	got, err := os.ReadFile(referenceFile)
	if err != nil {
		t.Fatal(err)
	}
	if string(got) != want {
		t.Error("docs/reference.md is not what the kinds say; run: go test ./resources/all -update")
	}
}

// TestKindsAreWhole: no name twice, and everything documented.
func TestKindsAreWhole(t *testing.T) {
	seen := map[string]bool{}
	for _, k := range all.Kinds(all.Deps{}) {
		if seen[k.Name] {
			t.Errorf("two kinds are named %s", k.Name)
		}
		seen[k.Name] = true
		if k.Doc == "" || (k.New == nil) == (k.Facts == nil) {
			t.Errorf("%s: want a Doc, and either New or Facts", k.Name)
		}
		checkDocs(t, k.Name, k.Attrs)
		checkDocs(t, k.Name+" export", k.Exports)
	}
}

// onlyExports are the kinds that have no resource, so that nothing of them is on a host.
var onlyExports = []string{"object_store"}

// TestEveryKindCanBeAbsent: what a block made so can be taken back by the same word everywhere.
func TestEveryKindCanBeAbsent(t *testing.T) {
	for _, k := range all.Kinds(all.Deps{}) {
		ensure := resources.Find(k.Attrs, "ensure")
		switch {
		case k.Facts != nil || slices.Contains(onlyExports, k.Name):
			if ensure != nil {
				t.Errorf("%s has nothing that could be absent", k.Name)
			}
		case ensure == nil:
			t.Errorf("%s has no ensure", k.Name)
		case !slices.Equal(ensure.OneOf, []string{resources.Present, resources.Absent}) || ensure.Default.AsString() != resources.Present:
			t.Errorf("%s has another ensure than the others", k.Name)
		}
	}
}

func checkDocs(t *testing.T, where string, attrs []resources.Attr) {
	t.Helper()
	for _, a := range attrs {
		if a.Doc == "" {
			t.Errorf("%s.%s has no Doc", where, a.Name)
		}
		checkDocs(t, where+"."+a.Name, a.Block)
	}
}

func reference(kinds []*resources.Kind) string {
	var b strings.Builder
	b.WriteString("# Reference\n\nThe kinds of blocks, made from the code by `go test ./resources/all -update`. Every block has one label, and may have\n" +
		"`for_each` (a set or map of strings), `when` (true or false) and `depends_on` (a list of references).\n\n" +
		"Every block may also have `timeout` (a duration), which bounds each try to read and each try to apply it, and a block\n" +
		"`retry { … }` with `attempts` (how often a failed apply is tried in all, 3 where it is not written) and `delay` (the pause\n" +
		"before each further try, \"10s\"). A kind that lists a `timeout` below has one of its own: there it has that meaning\n" +
		"instead. Facts are read once, so they take no `retry`. More in [plans.md](plans.md).\n")
	for _, k := range kinds {
		fmt.Fprintf(&b, "\n## %s\n\n%s\n", k.Name, k.Doc)
		writeAttrs(&b, "", k.Attrs)
		if len(k.Exports) > 0 {
			b.WriteString("\nExports:\n")
			for _, e := range k.Exports {
				fmt.Fprintf(&b, "- `%s`: %s\n", e.Name, e.Doc)
			}
		}
	}
	return b.String()
}

func writeAttrs(b *strings.Builder, in string, attrs []resources.Attr) {
	if len(attrs) == 0 {
		return
	}
	b.WriteString("\n| attribute | type | default | |\n|---|---|---|---|\n")
	for _, a := range attrs {
		fmt.Fprintf(b, "| `%s%s` | %s | %s | %s |\n", in, a.Name, typeText(a), defaultText(a), strings.ReplaceAll(a.Doc, "|", `\|`))
	}
	for _, a := range attrs {
		if a.Block != nil {
			fmt.Fprintf(b, "\nIn the block `%s%s`:\n", in, a.Name)
			writeAttrs(b, in+a.Name+".", a.Block)
		}
	}
}

func typeText(a resources.Attr) string {
	switch {
	case a.Block != nil:
		return "block"
	case a.List && len(a.Ref) > 0:
		return "list of references (" + strings.Join(a.Ref, ", ") + ")"
	case len(a.Ref) > 0:
		return "reference (" + strings.Join(a.Ref, ", ") + ")"
	case a.OneOf != nil:
		return "`\"" + strings.Join(a.OneOf, "\"`, `\"") + "\"`"
	case a.Secret:
		return a.Type.FriendlyName() + ", may be secret"
	}
	if name, ok := map[resources.Format]string{
		resources.Path: "path", resources.Mode: "mode", resources.Duration: "duration", resources.Size: "size",
		resources.Rate: "rate", resources.URL: "URL", resources.DNSName: "host name",
	}[a.Format]; ok {
		if a.Type != cty.String {
			return "list of " + name + "s"
		}
		return name
	}
	return a.Type.FriendlyName()
}

func defaultText(a resources.Attr) string {
	switch {
	case a.Required:
		return "**required**"
	case a.Default == cty.NilVal || a.Default.IsNull():
		return ""
	case a.Default.Type() == cty.String:
		return "`\"" + a.Default.AsString() + "\"`"
	case a.Default.Type() == cty.Bool:
		return fmt.Sprintf("`%t`", a.Default.True())
	case a.Default.Type() == cty.Number:
		return "`" + a.Default.AsBigFloat().Text('f', -1) + "`"
	}
	var parts []string
	for _, v := range a.Default.AsValueSlice() {
		parts = append(parts, fmt.Sprintf("%q", v.AsString()))
	}
	return "`[" + strings.Join(parts, ", ") + "]`"
}
