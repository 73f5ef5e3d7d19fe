package config_test

import (
	"context"
	"flag"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/converge-agent/converge/config"
	"github.com/converge-agent/converge/host"
	"github.com/converge-agent/converge/resources"
	"github.com/google/go-cmp/cmp"
)

var update = flag.Bool("update", false, "write what the tests get to testdata/*.golden")

// TestErrors compares what Load and Validate say about wrong configurations with testdata/NAME.golden.
func TestErrors(t *testing.T) {
	tests := []struct {
		name string
		src  string
		vars config.Variables
		env  map[string]string
	}{
		{name: "syntax", src: "unit \"x\" {\n  name = \n}\n"},
		{name: "not-hcl", src: strings.Repeat("\\\n", 300)},
		{name: "unknown-kind", src: "buckt \"media\" {\n}\nmodule \"x\" {}\n"},
		{name: "labels", src: "unit {\n  name = \"x\"\n}\nunit \"a\" \"b\" {}\nunit \"a b\" {}\nlocals \"x\" {}\n"},
		{name: "top-level-attribute", src: "live = \"/home\"\n"},
		{name: "duplicate", src: "unit \"a\" { name = \"a\" }\nunit \"a\" { name = \"b\" }\nlocals { x = 1 }\nlocals { x = 2 }\n" +
			"variable \"v\" { default = 1 }\nvariable \"v\" { default = 2 }\n"},
		{name: "unknown-attribute", src: `
site "a" {
  servername = "a.b"
  media {
    cashe_size = "1GB"
  }
}
`},
		{name: "blocks", src: `
site "a" {
  server_name {}
  media = {}
  medai {}
  media "x" {}
}
site "b" {
  server_name = "a.b"
  media {
    bucket = bucket.x
  }
  media {}
}
bucket "x" {
  store = store.x
  name  = "x"
}
store "x" { key = "long enough" }
`},
		{name: "missing", src: "site \"a\" {\n  media {\n    cache_size = \"1GB\"\n  }\n}\n"},
		{name: "values", src: `
site "a" {
  server_name = "https://a.b/"
  headers     = { A = "a", B = ["b"] }
  media {
    bucket     = "media"
    cache_size = "ten"
    limits {
      rate = "fast"
    }
  }
}
unit "b" {
  name       = ["b"]
  restart_on = "site.a"
}
bucket "c" {
  store  = site.a
  name   = "c"
  access = "pubic"
}
`},
		{name: "new-error", src: "store \"a\" { key = \"x\" }\nbucket \"b\" {\n  store = store.a\n  name  = \"a.b\"\n}\n"},
		{name: "new-error-with-secret", src: "store \"a\" { key = env(\"K\") }\nbucket \"b\" {\n  store = store.a\n  name  = \"a.b\"\n}\n"},
		{name: "unknown-references", src: `
variable "files" { default = "a.b" }
locals { system = "/x" }
cert "one" { domains = ["a.b"] }
cert "many" {
  for_each = toset(["a"])
  domains  = ["a.b"]
}
unit "a" { name = var.fils }
unit "b" { name = local.sistem }
unit "c" { name = cert.on.path }
unit "d" { name = site.x.path }
unit "e" { name = crt.one.path }
unit "f" { name = cert.one.pth }
unit "g" { name = cert.one["a"].path }
unit "h" { name = cert.many.path }
unit "i" { name = each.key }
unit "j" { name = unit.a.anything }
unit "k" {
  for_each = toset([each.key])
  name     = each.kee
}
unit "l" { name = uper(var) }
unit "m" { name = cert }
unit "n" { name = false ? nope(1) : "n" }
`},
		{name: "unknown-key", src: `
cert "c" {
  for_each = toset(["a"])
  domains  = ["a.b"]
}
unit "x" {
  name       = cert.c["b"].path
  depends_on = [cert.c["d"]]
}
`},
		{name: "depends-on", src: `
cert "c" { domains = ["a.b"] }
locals { x = 1 }
unit "a" {
  name       = "a"
  depends_on = ["cert.c"]
}
unit "b" {
  name       = "b"
  depends_on = [cert.c.path, local.x, cert.d]
}
unit "c" {
  name       = "b"
  depends_on = cert.c
}
`},
		{name: "cycle", src: `
locals { p = site.c.path }
unit "a" {
  name       = "a"
  depends_on = [unit.b]
}
unit "b" {
  name = "${local.p}${local.p}"
}
site "c" {
  server_name = "a.b"
  headers     = { A = unit.a.address, B = jsonencode(unit.a) }
}
unit "self" { name = jsonencode(unit.self) }
unit "user" { name = jsonencode(unit.a) }
`},
		{name: "for-each", src: `
variable "s" {
  default   = ["a"]
  sensitive = true
}
unit "a" {
  for_each = ["a", "b"]
  name     = each.key
}
unit "b" {
  for_each = "a"
  name     = each.key
}
unit "c" {
  for_each = toset([1, 2])
  name     = each.key
}
unit "d" {
  for_each = null
  name     = each.key
}
unit "e" {
  for_each = toset(var.s)
  name     = each.key
}
unit "f" {
  for_each = toset(["a", "b"])
  name     = [each.key]
}
unit "g" {
  for_each = toset([env("X")])
  name     = each.key
}
`},
		{name: "when", src: "unit \"a\" {\n  when = \"maybe\"\n  name = \"a\"\n}\nunit \"b\" {\n  when = env(\"X\") == \"1\"\n  name = \"b\"\n}\n"},
		{name: "no-follow-up", src: `
cert "bad" { domains = 5 + "x" }
locals { p = cert.bad.path }
unit "a" { name = local.p }
unit "b" { name = upper(cert.bad.path) }
site "c" {
  server_name = lower(local.p)
  certificate = cert.bad
}
`},
		{name: "lost-blocks", src: `
crt "files" { domains = ["a.b"] }
site {
  server_name = "a.b"
}
unit "a" {
  name       = crt.files.path
  restart_on = [site.files]
  depends_on = [crt.files, site.files]
}
`},
		{name: "several", src: `
unit "a" {
  nme   = "x"
  count = "many"
}
unit "b" {
  name  = upper("a", "b")
  count = [1]
}
unti "c" {}
unit "d" { name = unit.e.x }
`},
		{name: "missing-variable", src: "variable \"files\" {\n  type = string\n}\nunit \"a\" { name = var.files }\n"},
		{name: "variables", src: `
variable "n" {
  type    = number
  default = "three"
}
variable "m" { type = list(number) }
variable "k" { type = numbr }
variable "o" {
  descriptio = "x"
  validation { condition = true }
  validate {}
}
variable "p" { default = upper("x") }
variable "q" { type = bool }
variable "r" {
  sensitive = "perhaps"
  default   = 1
}
variable "s" {
  type      = number
  sensitive = true
  default   = "hunter2"
}
variable "t" { type = number }
`,
			vars: config.Variables{{Assignment: "m=[hunter2"}, {Assignment: "x"}, {Assignment: "nn=1"}, {Assignment: "q=hunter2"}, {Assignment: "o=1"}, {Assignment: "k=1"}},
			env:  map[string]string{"CONVERGE_VAR_t": "hunter2"}},
		{name: "var-file", src: "variable \"files\" {}\n", vars: config.Variables{{File: "bad.vars"}, {File: "gone.vars"}}},
		{name: "validation", src: `
variable "files" {
  default = "Files.example.com"
  validation {
    condition     = var.files == lower(var.files)
    error_message = "Write ${var.files} in lower case."
  }
}
variable "password" {
  default   = "hunter2"
  sensitive = true
  validation {
    condition     = length(var.password) > 12
    error_message = "The password ${var.password} is too short."
  }
  validation {
    condition     = tonumber(var.password) > 12
    error_message = "It is no number."
  }
}
variable "other" {
  default = 1
  validation {
    condition     = var.files == "x" || env("X") == "y"
    error_message = "x"
  }
}
`},
		{name: "secrets-stay-secret", src: `
variable "password" {
  default   = "hunter2"
  sensitive = true
}
variable "region" { default = "eu" }
locals {
  words = { (var.password) = 1 }
}
unit "plain"     { name = var.password }
unit "number"    { count = var.password }
unit "tonumber"  { 
  name = "x"
  count = tonumber(var.password)
}
unit "lookup"    { name = lookup({ a = "b" }, var.password, ["x"]) }
unit "index"     { name = { a = "b" }[var.password] }
unit "decode"    { name = jsondecode(var.password).x }
unit "for"       { name = { for s in [var.password, var.password] : s => 1 } }
unit "attribute" { name = var.password.x }
unit "format"    { name = format("%d %s", var.password, var.region) }
unit "regex"     { name = regex(var.password, "x") }
unit "template"  { name = "${var.password}${[var.password]}" }
unit "words"     { name = local.words.hunter }
unit "file"      { name = file(var.password) }
unit "tmpl"      { name = templatefile("t.tmpl", { p = var.password }) }
env "url" {
  path = "/x"
  url  = var.password
}
unit "named"     { name = credential(var.password) }
unit "tmplname"  { name = templatefile(var.password, {}) }
store "s"        { key = "long enough" }
bucket "b" {
  store = store.s
  name  = "b"
}
unit "export"    { name = bucket.b.password }
unit "operand"   { name = var.region + var.password }
`},
		{name: "files", src: "unit \"a\" { name = file(\"gone.txt\") }\nunit \"b\" { name = templatefile(\"t.tmpl\", { q = \"x\" }) }\n" +
			"unit \"c\" { name = credential(\"../x\") }\nunit \"d\" { name = file(\"dir\") }\nunit \"e\" { name = templatefile(\"t.tmpl\", []) }\n"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			w := &world{env: tt.env, vars: tt.vars, files: map[string]string{
				"site.hcl": strings.TrimPrefix(tt.src, "\n"),
				"t.tmpl":   "%{ for x in [p, p] }${jsondecode(x)}%{ endfor }",
				"bad.vars": "file = 1\nfiles = upper(\"x\")\nb {}\n",
				"dir/x":    "",
			}}
			c, diags := w.load("site.hcl")
			got := render(t, c, append(diags, c.Validate()...))
			if strings.Contains(strings.ReplaceAll(got, `default   = "hunter2"`, ""), "hunter2") {
				t.Errorf("a secret is shown:\n%s", got)
			}
			compare(t, tt.name, got)

			nodes, diags := c.Evaluate(context.Background(), resources.ReadEnv{Files: w.view})
			if nodes != nil || !diags.HasErrors() {
				t.Errorf("Evaluate went on: %d nodes", len(nodes))
			}
		})
	}
}

func compare(t *testing.T, name, got string) {
	t.Helper()
	path := filepath.Join("testdata", name+".golden")
	if *update {
		if err := os.WriteFile(path, []byte(got), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if d := cmp.Diff(string(want), got); d != "" {
		t.Errorf("%s (-want +got):\n%s", path, d)
	}
}

// TestPathErrors compares what is said about a path that is no configuration.
func TestPathErrors(t *testing.T) {
	w := &world{files: map[string]string{"empty/readme.txt": "x"}}
	var all []string
	for _, path := range []string{"gone", "empty"} {
		c, diags := w.load(path)
		all = append(all, render(t, c, append(diags, c.Validate()...)))
	}
	compare(t, "path", strings.Join(all, ""))
}

// TestHostErrors compares what nodes say when an expression fails for what a secret or a fact turns out to be.
func TestHostErrors(t *testing.T) {
	w := one(`
instance "main" { path = "/live" }
env "number" {
  path = "/x"
  set  = { A = tonumber(env("PASSWORD")) + 1, B = jsondecode(env("PASSWORD")).x }
}
env "spread" {
  path = "/x"
  set  = { for w in [env("PASSWORD"), env("PASSWORD")] : w => 1 }
}
env "url" {
  path = "/x"
  url  = env("PASSWORD")
}
env "twice" {
  path = "/x"
  url  = env(env("PASSWORD"))
}
store "short" { key = env("SHORT") }
unit "facts" { name = instance.main.units[7] }
unit "when" {
  when = tobool(instance.main.version)
  name = "x"
}
unit "user" {
  name       = "x"
  restart_on = [env.url]
}
`)
	w.env = map[string]string{"PASSWORD": "hunter2", "SHORT": "ab"}
	w.host = map[string]host.File{"/live/version": text("4.5.2")}
	var b strings.Builder
	for _, n := range w.list(t) {
		if n.Err != nil {
			b.WriteString(n.Address.String() + ": " + n.Err.Error() + "\n")
		}
	}
	if strings.Contains(b.String(), "hunter2") {
		t.Errorf("a secret is shown:\n%s", b.String())
	}
	compare(t, "host", b.String())
}
