package config_test

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/converge-agent/converge/host"
	"github.com/converge-agent/converge/resources"
	"github.com/converge-agent/converge/secret"
	"github.com/hashicorp/hcl/v2"
	"github.com/zclconf/go-cty/cty"
	ctyjson "github.com/zclconf/go-cty/cty/json"
)

// TestFunctions compares results, as JSON, with those that Terraform's documentation gives for these arguments.
func TestFunctions(t *testing.T) {
	tests := []struct{ expr, want string }{
		{`merge({ a = "b", c = "d" }, { e = "f", c = "z" })`, `{"a":"b","c":"z","e":"f"}`},
		{`concat(["a", ""], ["b", "c"])`, `["a","","b","c"]`},
		{`toset(["a", "b", "a"])`, `["a","b"]`},
		{`tolist(["a", 3])`, `["a","3"]`},
		{`tomap({ a = 1, b = "x" })`, `{"a":"1","b":"x"}`},
		{`tostring(1)`, `"1"`},
		{`tostring(true)`, `"true"`},
		{`tonumber("1")`, `1`},
		{`tobool("true")`, `true`},
		{`join(", ", ["foo", "bar"])`, `"foo, bar"`},
		{`split(",", "foo,bar,baz")`, `["foo","bar","baz"]`},
		{`format("Hello, %s! %03d", "Ander", 7)`, `"Hello, Ander! 007"`},
		{`lower("HELLO")`, `"hello"`},
		{`upper("hello")`, `"HELLO"`},
		{`trimspace("  hello\n\n")`, `"hello"`},
		{`trimprefix("helloworld", "hello")`, `"world"`},
		{`trimsuffix("helloworld", "world")`, `"hello"`},
		{`replace("1 + 2 + 3", "+", "-")`, `"1 - 2 - 3"`},
		{`replace("hello world", "/w.*d/", "everybody")`, `"hello everybody"`},
		{`replace("a/b", "/", "-")`, `"a-b"`},
		{`substr("hello world", 1, 4)`, `"ello"`},
		{`length(["a", "b"])`, `2`},
		{`length({ a = "b" })`, `1`},
		{`length("hello")`, `5`},
		{`length("👾🕹️")`, `2`},
		{`keys({ a = 1, c = 2, d = 3 })`, `["a","c","d"]`},
		{`values({ a = 3, c = 2, d = 1 })`, `[3,2,1]`},
		{`lookup({ a = "ay" }, "a", "what?")`, `"ay"`},
		{`lookup({ a = "ay" }, "c", "what?")`, `"what?"`},
		{`contains(["a", "b"], "a")`, `true`},
		{`coalesce("", "b")`, `"b"`},
		{`coalesce(null, 1)`, `1`},
		{`compact(["a", "", "b", null, "c"])`, `["a","b","c"]`},
		{`distinct(["a", "b", "a"])`, `["a","b"]`},
		{`flatten([["a", "b"], [], ["c"]])`, `["a","b","c"]`},
		{`jsonencode({ hello = "world" })`, `"{\"hello\":\"world\"}"`},
		{`jsondecode("{\"hello\": \"world\"}")`, `{"hello":"world"}`},
		{`regex("[a-z]+", "53453453.345345aaabbbccc23454")`, `"aaabbbccc"`},
		{`regexall("[a-z]+", "1234abcd5678efgh9")`, `["abcd","efgh"]`},
		{`startswith("hello world", "hello")`, `true`},
		{`endswith("hello world", "hello")`, `false`},
		{`basename("foo/bar/baz.txt")`, `"baz.txt"`},
		{`dirname("foo/bar/baz.txt")`, `"foo/bar"`},
		{`min(12, 54, 3)`, `3`},
		{`max([12, 54, 3]...)`, `54`},
		{`nonsensitive(sensitive("x"))`, `"x"`},
		{`nonsensitive(sensitive({ a = ["x"] })).a[0]`, `"x"`},
		{`file("greeting.txt")`, `"Hello, ${name}!\n"`},
		{`templatefile("greeting.txt", { name = "you" })`, `"Hello, you!\n"`},
		{`templatefile("list.tmpl", { list = ["a", "b"] })`, `"a;b;"`},
		{`[for k, v in { a = 1 } : "${k}=${v}"]`, `["a=1"]`},
		{`{ for s in ["a", "b"] : s => upper(s) }`, `{"a":"A","b":"B"}`},
		{`[{ a = "x" }, { a = "y" }][*].a`, `["x","y"]`},
		{`1 > 2 ? "a" : "b"`, `"b"`},
	}
	for _, tt := range tests {
		t.Run(tt.expr, func(t *testing.T) {
			got := plain(t, eval(t, tt.expr))
			if got != tt.want {
				t.Errorf("got %s, want %s", got, tt.want)
			}
		})
	}
}

// valueKind takes any value, secret or not.
func valueKind() *resources.Kind {
	return &resources.Kind{
		Name:  "value",
		Attrs: []resources.Attr{{Name: "of", Type: cty.DynamicPseudoType, Secret: true}},
		New:   keep,
	}
}

func evalNode(t *testing.T, expr string) resources.Node {
	t.Helper()
	w := one("value \"x\" {\n  of = " + expr + "\n}\n")
	w.files["greeting.txt"] = "Hello, ${name}!\n"
	w.files["list.tmpl"] = "%{ for x in list }${x};%{ endfor }"
	w.env = map[string]string{"A": "secret-a", "B": "secret-b", "KEY": "k", "JSON": `{"x":"y"}`, "N": "7", "FILE": "greeting.txt", "BOOL": "true"}
	w.host = map[string]host.File{"/there": {Content: []byte("X=secret-x"), Mode: 0o600}, "/etc/credstore/there": {Content: []byte("secret-c"), Mode: 0o600}}
	nodes := w.list(t)
	return nodes[0]
}

func eval(t *testing.T, expr string) cty.Value {
	t.Helper()
	return attr(t, evalNode(t, expr), "of")
}

func plain(t *testing.T, v cty.Value) string {
	t.Helper()
	v, _ = v.UnmarkDeep()
	out, err := ctyjson.Marshal(v, v.Type())
	if err != nil {
		t.Fatal(err)
	}
	return string(out)
}

// TestMarks says for each way to combine values which of the results are secret: each leaf as S or ".", in the order of keys.
func TestMarks(t *testing.T) {
	tests := []struct{ expr, want string }{
		{`env("A")`, "S"},
		{`"x"`, "."},
		{`"x-${env("A")}"`, "S"},
		{`{ a = env("A"), b = "plain" }`, "S."},
		{`merge({ a = env("A") }, { b = "plain" })`, "S."},
		{`merge(tomap({ a = env("A"), c = "plain" }), { b = "plain" })`, "S.."},
		{`tomap({ a = env("A"), b = "plain" })`, "S."},
		{`tolist([env("A"), "plain"])`, "S."},
		{`concat([env("A")], ["plain"])`, "S."},
		{`values({ a = env("A"), b = "plain" })`, "S."},
		{`flatten([[env("A")], ["plain"]])`, "S."},
		{`lookup({ a = env("A"), b = "plain" }, "b", "")`, "."},
		{`lookup({ a = env("A"), b = "plain" }, "a", "")`, "S"},
		{`keys({ a = env("A"), b = "plain" })`, ".."},
		{`length([env("A"), "x"])`, "S"},
		{`{ for k, v in { a = env("A"), b = "plain" } : upper(k) => v }`, "S."},
		{`[for v in [env("A"), "plain"] : upper(v)]`, "S."},
		{`{ for k, v in { a = env("A"), b = "plain" } : k => v if k != "c" }`, "S."},
		{`{ for k, v in { a = env("A"), b = "plain" } : k => v if v != "" }`, "SS"},
		{`{ (env("KEY")) = "plain", b = "plain" }`, "SS"},
		{`true ? { a = env("A"), b = "plain" } : { a = "x", b = "y" }`, "S."},
		{`env("A") == "x" ? { b = "plain" } : { b = "y" }`, "S"},
		{`coalesce("", "plain", env("A"))`, "."},
		{`coalesce(env("A"), "plain")`, "S"},
		{`coalesce(env("NOT_SET"), "plain")`, "."},
		{`join(",", [env("A"), "plain"])`, "S"},
		{`jsonencode({ a = env("A") })`, "S"},
		{`jsondecode(env("JSON"))`, "S"},
		{`sensitive({ a = "x", b = ["y"] })`, "SS"},
		{`merge(sensitive({ a = "x" }), { b = "plain" })`, "S."},
		{`nonsensitive(env("A"))`, "."},
		{`tonumber(env("N")) + 1`, "S"},
		{`templatefile("greeting.txt", { name = env("A") })`, "S"},
		{`[{ a = env("A") }, { a = "x" }][*].a`, "S."},
		{`dotenv("/live/.env").NOT_READ == "x" ? "a" : "b"`, "S"},
	}
	for _, tt := range tests {
		t.Run(tt.expr, func(t *testing.T) {
			if strings.Contains(tt.expr, "NOT_READ") {
				if n := evalNode(t, tt.expr); missing(n) == nil {
					t.Errorf("the missing secret got lost: %v", n.Err)
				}
				return
			}
			if got := leaves(eval(t, tt.expr)); got != tt.want {
				t.Errorf("got %s, want %s", got, tt.want)
			}
		})
	}
}

// TestLaw6EveryFunctionKeepsMarks calls every function with a secret in each of its arguments: what comes out is secret. A new
// function must be in the table. The keys of maps are names, which sensitive() does not hide.
func TestLaw6EveryFunctionKeepsMarks(t *testing.T) {
	calls := map[string][]string{
		"basename": {`basename(env("A"))`}, "compact": {`compact([env("A"), ""])`}, "concat": {`concat([env("A")], ["x"])`, `concat(["x"], [env("A")])`},
		"coalesce": {`coalesce(env("A"), "x")`, `coalesce("", env("A"))`},
		"contains": {`contains([env("A")], "x")`, `contains(["x"], env("A"))`}, "credential": {`credential("there")`},
		"dirname": {`dirname(env("A"))`}, "distinct": {`distinct([env("A"), "x"])`}, "dotenv": {`dotenv("/there")`},
		"endswith": {`endswith(env("A"), "x")`, `endswith("x", env("A"))`}, "env": {`env("A")`}, "file": {`file(env("FILE"))`},
		"flatten": {`flatten([[env("A")], ["x"]])`}, "format": {`format("%s", env("A"))`, `format(env("A"))`},
		"join":       {`join(",", [env("A")])`, `join(env("A"), ["x", "y"])`, `join(",", ["x"], [env("A")])`},
		"jsondecode": {`jsondecode(env("JSON"))`}, "jsonencode": {`jsonencode({ a = [env("A")] })`},
		"keys":   {`keys({ (env("A")) = "x" })`, `keys(jsondecode(env("JSON")))`},
		"length": {`length(env("A"))`, `length([env("A")])`},
		"lookup": {`lookup({ a = env("A") }, "a", "x")`, `lookup({ a = "x" }, env("A"), "y")`, `lookup({ a = "x" }, "b", env("A"))`},
		"lower":  {`lower(env("A"))`}, "max": {`max(1, env("N"))`}, "min": {`min(env("N"), 10)`},
		"merge": {`merge({ a = env("A") }, { b = "x" })`, `merge({ b = "x" }, sensitive({ a = "y" }))`},
		"regex": {`regex("s.*", env("A"))`, `regex(env("A"), "secret-a")`}, "regexall": {`regexall("s", env("A"))`, `regexall(env("A"), "x")`},
		"replace":     {`replace(env("A"), "x", "y")`, `replace("x", env("A"), "y")`, `replace("x", "x", env("A"))`, `replace("x", "/x/", env("A"))`, `replace(env("A"), "/s/", "")`},
		"secret_file": {`secret_file("/there")`}, "sensitive": {`sensitive("x")`},
		"split":      {`split(",", env("A"))`, `split(env("A"), "x")`},
		"startswith": {`startswith(env("A"), "x")`, `startswith("x", env("A"))`},
		"substr":     {`substr(env("A"), 0, 2)`, `substr("secret", env("N") - 7, 2)`, `substr("secret", 0, env("N"))`},
		"templatefile": {
			`templatefile("greeting.txt", { name = env("A") })`, `templatefile("list.tmpl", { list = [env("A")] })`,
			`templatefile("list.tmpl", sensitive({ list = ["x"] }))`,
		},
		"tobool": {`tobool(env("BOOL"))`}, "tolist": {`tolist([env("A")])`}, "tomap": {`tomap({ a = env("A") })`}, "tonumber": {`tonumber(env("N"))`},
		"toset": {`toset([env("A")])`}, "tostring": {`tostring(env("A"))`}, "trimprefix": {`trimprefix(env("A"), "s")`, `trimprefix("x", env("A"))`},
		"trimspace": {`trimspace(env("A"))`}, "trimsuffix": {`trimsuffix(env("A"), "s")`, `trimsuffix("x", env("A"))`},
		"upper": {`upper(env("A"))`}, "values": {`values({ a = env("A") })`},
		"nonsensitive": nil, // it is made to show
	}
	c, _ := one("").load("site.hcl")
	for _, name := range c.FunctionNames() {
		if _, ok := calls[name]; !ok {
			t.Errorf("%s is not in the table: add calls with a secret in each of its arguments", name)
		}
	}
	for name, exprs := range calls {
		if !slices.Contains(c.FunctionNames(), name) {
			t.Errorf("there is no function %s", name)
		}
		for _, expr := range exprs {
			if !secret.In(eval(t, expr)) {
				t.Errorf("%s is no secret any more", expr)
			}
		}
	}
}

func leaves(v cty.Value) string {
	out := ""
	bare, _ := v.Unmark()
	if bare.IsNull() || !bare.CanIterateElements() {
		if secret.In(v) {
			return "S"
		}
		return "."
	}
	for it := bare.ElementIterator(); it.Next(); {
		_, e := it.Element()
		out += leaves(e.WithSameMarks(v))
	}
	return out
}

// TestMissingSecretSurvives has a missing secret go through what could lose it.
func TestMissingSecretSurvives(t *testing.T) {
	for _, expr := range []string{
		`env("NOT_SET")`, `"x${env("NOT_SET")}"`, `upper(env("NOT_SET"))`, `{ a = env("NOT_SET") }`,
		`merge(dotenv("/gone"), { b = "x" })`, `merge({ b = "x" }, { a = env("NOT_SET") })`,
		`lookup(dotenv("/gone"), "A", "x")`, `values(dotenv("/gone"))`, `concat([env("NOT_SET")], ["x"])`,
		`dotenv("/gone").A`, `dotenv("/gone")["A"]`, `jsondecode(env("NOT_SET")).a.b`, `tonumber(env("NOT_SET")) + 1`,
		`[for v in [env("NOT_SET")] : upper(v)]`, `{ for k, v in dotenv("/gone") : k => v }`, `env("NOT_SET") == "" ? 1 : 2`,
		`coalesce(env("NOT_SET"), "")`, `nonsensitive(env("NOT_SET"))`, `sensitive(env("NOT_SET"))`,
		`split(",", env("NOT_SET"))[0]`, `toset([env("NOT_SET")])`, `tomap({ a = env("NOT_SET") })`, `dotenv("/gone")[*]`,
		`templatefile("greeting.txt", { name = env("NOT_SET") })`, `length(env("NOT_SET"))`, `credential("gone")`, `secret_file("/gone")`,
		`format("%s", env("NOT_SET"))`, `jsonencode({ a = env("NOT_SET") })`, `regex("x", env("NOT_SET"))`, `!tobool(env("NOT_SET"))`,
	} {
		t.Run(expr, func(t *testing.T) {
			n := evalNode(t, expr)
			if n.Err == nil || n.Resource != nil {
				t.Fatalf("no error: %#v", n.Resource)
			}
			if missing(n) == nil {
				t.Errorf("it does not tell which secret is missing: %v", n.Err)
			}
		})
	}
}

// missing returns a missing secret in a node's error, or nil.
func missing(n resources.Node) *secret.Missing {
	var m *secret.Missing
	errors.As(n.Err, &m)
	return m
}

// TestOddArguments calls every function with every combination of odd arguments: no panic, and no secret in what is said.
func TestOddArguments(t *testing.T) {
	odd := []string{
		`null`, `""`, `"x"`, `-1`, `[]`, `{}`, `toset([])`, `toset(["a", null])`, `[null]`, `{ a = null }`, `env("A")`, `[env("A")]`,
		`{ a = env("A") }`, `toset([env("A")])`, `sensitive(null)`, `env("NOT_SET")`, `dotenv("/gone")`, `dotenv("/there")`,
		`instance.main.version`, `instance.main`, `instance.gone.version`, `instance.gone`, `unit.u`, `[for i in unit.u : i]`, `1 / 3`,
		`jsondecode("{}")`, `true`,
	}
	c, _ := one("").load("site.hcl")
	names := c.FunctionNames()
	if len(names) < 40 {
		t.Fatalf("%d functions", len(names))
	}
	for _, name := range names {
		var src strings.Builder
		src.WriteString(`
instance "main" { path = "/live" }
instance "gone" { path = "/gone" }
unit "u" {
  for_each = toset(["a"])
  name     = each.key
}
`)
		for i, a := range odd {
			fmt.Fprintf(&src, "value \"v%d\" { of = %s(%s) }\n", i, name, a)
			fmt.Fprintf(&src, "value \"w%d\" { of = [%s(%s...)] }\n", i, name, a)
			for j, b := range odd {
				fmt.Fprintf(&src, "value \"v%d-%d\" { of = { x = %s(%s, %s) } }\n", i, j, name, a, b)
				if !strings.Contains("replace substr lookup merge", name) {
					continue
				}
				fmt.Fprintf(&src, "value \"w%d-%d\" { of = %s(%s, %s, %s) }\n", i, j, name, a, b, a)
			}
		}
		w := one(src.String())
		w.env = map[string]string{"A": "correct-horse"}
		w.host = map[string]host.File{"/live/version": text("4"), "/there": text("A=correct-horse")}
		c, diags := w.load("site.hcl")
		diags = append(diags, c.Validate()...)
		said := renderFor(t, nil, diags)

		// What is wrong without the host stops all, so the rest is evaluated without those blocks.
		w.files["site.hcl"] = without(src.String(), diags)
		for _, n := range w.list(t) {
			if n.Err != nil {
				said += n.Err.Error()
			}
		}
		if i := strings.Index(said, "correct-horse"); i >= 0 {
			t.Errorf("%s shows a secret: %s", name, said[max(0, i-300):i+20])
		}
		if i := strings.Index(said, "panic"); i >= 0 {
			t.Errorf("%s panics: %s", name, said[max(0, i-300):i+200])
		}
	}
}

// without takes the lines with errors out of a source.
func without(src string, diags hcl.Diagnostics) string {
	lines := strings.Split(src, "\n")
	for _, d := range diags {
		for i := d.Subject.Start.Line; i <= d.Subject.End.Line; i++ {
			lines[i-1] = ""
		}
	}
	return strings.Join(lines, "\n")
}
