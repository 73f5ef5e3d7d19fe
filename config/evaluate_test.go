package config_test

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/converge-agent/converge/config"
	"github.com/converge-agent/converge/diag"
	"github.com/converge-agent/converge/host"
	"github.com/converge-agent/converge/resources"
	"github.com/converge-agent/converge/secret"
	"github.com/google/go-cmp/cmp"
	"github.com/zclconf/go-cty/cty"
)

func one(src string) *world { return &world{files: map[string]string{"site.hcl": src}} }

// attr returns an attribute of the configuration that a node's resource was made from.
func attr(t *testing.T, n resources.Node, name string) cty.Value {
	t.Helper()
	if n.Err != nil {
		t.Fatalf("%s: %v", n.Address, n.Err)
	}
	r, ok := n.Resource.(*thing)
	if !ok {
		t.Fatalf("%s has no resource", n.Address)
	}
	return r.config.GetAttr(name)
}

func TestEverythingTogether(t *testing.T) {
	w := one(`
variable "live"  { default = "/live" }
variable "files" {
  type        = string
  description = "where media are served"
  default     = "files.example.com"
}
locals {
  shared = { S3_ALIAS_HOST = var.files }
}
instance "main" {
  path = var.live
}
store "b2" {
  key = credential("b2.key")
}
bucket "media" {
  store = store.b2
  name  = "media"
  app {
    key = env("APP_KEY")
  }
}
cert "files" {
  domains = [var.files]
}
site "files" {
  server_name = var.files
  certificate = cert.files
  media {
    bucket     = bucket.media
    cache_size = "10GB"
    limits {
      rate = "5"
    }
  }
}
env "mastodon" {
  path       = instance.main.env_path
  set        = merge(bucket.media.env, local.shared)
  depends_on = [site.files]
}
unit "mastodon" {
  for_each   = toset(["web", "sidekiq"])
  name       = "mastodon-${each.key}"
  restart_on = [env.mastodon]
}
`)
	w.host = map[string]host.File{"/live/version": text("4.5.2"), "/etc/credstore/b2.key": text("k3y\n")}
	w.env = map[string]string{"APP_KEY": "appkey"}
	nodes := w.list(t)

	var got []string
	for _, n := range nodes {
		got = append(got, fmt.Sprintf("%s %s %v %v", n.Where, n.Address, n.Resource != nil, n.Needs))
	}
	want := []string{
		`site.hcl:11 instance.main false []`,
		`site.hcl:14 store.b2 false []`,
		`site.hcl:17 bucket.media true [store.b2]`,
		`site.hcl:24 cert.files true []`,
		`site.hcl:27 site.files true [cert.files bucket.media]`,
		`site.hcl:38 env.mastodon true [instance.main bucket.media site.files]`,
		`site.hcl:43 unit.mastodon["sidekiq"] true [env.mastodon]`,
		`site.hcl:43 unit.mastodon["web"] true [env.mastodon]`,
	}
	if d := cmp.Diff(want, got); d != "" {
		t.Errorf("nodes (-want +got):\n%s", d)
	}
	set := attr(t, nodes[5], "set").AsValueMap()
	for key, isSecret := range map[string]bool{"BUCKET": false, "SECRET": true, "S3_ALIAS_HOST": false} {
		if got := set[key].IsMarked(); got != isSecret {
			t.Errorf("%s is secret: %v, want %v", key, got, isSecret)
		}
	}
	if got := secret.FromValue(set["SECRET"]).Reveal(); got != "k3y" {
		t.Errorf("the line end of the credential stayed: %q", got)
	}
	if got := attr(t, nodes[7], "name").AsString(); got != "mastodon-web" {
		t.Errorf("name = %q", got)
	}
}

func TestDirectory(t *testing.T) {
	w := &world{files: map[string]string{
		"conf/b.hcl":        `unit "b" { name = local.n }`,
		"conf/a.hcl":        `unit "a" { name = file("a.txt") }` + "\nlocals { n = \"x\" }",
		"conf/.hidden.hcl":  `nonsense`,
		"conf/a.txt":        "from file",
		"conf/sub/deep.hcl": `nonsense`,
		"conf/old.hcl~":     `nonsense`,
	}}
	c, diags := w.load("conf")
	if diags.HasErrors() {
		t.Fatal(render(t, c, diags))
	}
	nodes, diags := c.Evaluate(context.Background(), resources.ReadEnv{Files: w.view})
	if diags.HasErrors() || len(nodes) != 2 {
		t.Fatalf("%d nodes\n%s", len(nodes), render(t, c, diags))
	}
	if nodes[0].Where != "conf/a.hcl:1" || nodes[1].Where != "conf/b.hcl:1" {
		t.Errorf("order: %s, %s", nodes[0].Where, nodes[1].Where)
	}
	if got := attr(t, nodes[0], "name").AsString(); got != "from file" {
		t.Errorf("file() is not relative to the configuration: %q", got)
	}
}

func TestFactsOrder(t *testing.T) {
	w := one(`
instance "second" {
  path = "${instance.first.version}/second"
}
unit "x" { name = instance.second.version }
instance "first" { path = "/live" }
`)
	w.host = map[string]host.File{"/live/version": text("/next"), "/next/second/version": text("2")}
	nodes := w.evaluate(t)
	if d := cmp.Diff([]string{"/live", "/next/second"}, w.facts); d != "" {
		t.Errorf("facts were read in another order:\n%s", d)
	}
	if got := attr(t, nodes["unit.x"], "name").AsString(); got != "2" {
		t.Errorf("name = %q", got)
	}
}

func TestFailedFactStopsItsUsersOnly(t *testing.T) {
	w := one(`
locals { v = instance.main.version }
instance "main" { path = "/gone" }
unit "user"     { name = local.v }
unit "other"    { name = "other" }
unit "below"    { 
  name       = "below"
  restart_on = [unit.user]
}
unit "each" {
  for_each = toset(instance.main.units)
  name     = each.key
}
site "exportless" {
  server_name = "a.b"
  unit        = unit.user
}
unit "keyed" {
  name       = "keyed"
  depends_on = [unit.each["web"]]
}
`)
	nodes := w.evaluate(t)
	wantErr(t, nodes["site.exportless"], "it needs instance.main", "")
	if got := fmt.Sprint(nodes["unit.keyed"].Needs); got != "[unit.each]" {
		t.Errorf("unit.keyed needs %s", got)
	}
	wantErr(t, nodes["instance.main"], "evaluate instance.main (site.hcl:3): read the version of /gone: there is none", "Check path.")
	wantErr(t, nodes["unit.user"], "it needs instance.main, which could not be evaluated", "")
	if n := nodes["unit.below"]; n.Err != nil || n.Resource == nil || fmt.Sprint(n.Needs) != "[unit.user]" {
		t.Errorf("unit.below uses no value of unit.user: %v, needs %v", n.Err, n.Needs)
	}
	wantErr(t, nodes["unit.each"], "It comes from instance.main, which could not be evaluated", "")
	if n := nodes["unit.other"]; n.Err != nil || n.Resource == nil {
		t.Errorf("unit.other: %v, %v", n.Resource, n.Err)
	}
	if len(nodes) != 7 {
		t.Errorf("%d nodes", len(nodes))
	}
}

func wantErr(t *testing.T, n resources.Node, want, fix string) {
	t.Helper()
	if n.Err == nil || !strings.Contains(n.Err.Error(), want) {
		t.Errorf("%s: error\n got %v\nwant …%s", n.Address, n.Err, want)
	}
	if n.Resource != nil {
		t.Errorf("%s failed and has a resource", n.Address)
	}
	if got := diag.Fix(n.Err); !strings.Contains(got, fix) {
		t.Errorf("%s: fix\n got %q\nwant %q", n.Address, got, fix)
	}
}

func TestMissingSecretStopsItsUsersOnly(t *testing.T) {
	w := one(`
store "b2" {
  key = credential("b2.key")
}
bucket "media" {
  store = store.b2
  name  = "media"
}
site "files" {
  server_name = bucket.media.host
  media {
    bucket = bucket.media
  }
}
env "app" {
  path = "/live/.env"
  set = merge({ A = "a" }, {
    B = env("NOT_SET")
    C = dotenv("/live/.env").OLD
    D = jsondecode(secret_file("/live/x.json")).d
  })
}
env "from_export" {
  path = "/live/.env2"
  set  = bucket.media.env
}
env "derived" {
  path = "/live/.env3"
  set  = { A = regex("^k", bucket.media.env.SECRET) }
}
bucket "app" {
  store = store.here
  name  = "app"
  app {
    key = env("NOT_SET")
  }
}
store "here" { key = "long enough" }
unit "x" {
  name       = env.app.path
  restart_on = [env.app, bucket.media]
}
`)
	w.host = map[string]host.File{"/live/.env": text("NEW=1\n")}
	nodes := w.evaluate(t)

	wantErr(t, nodes["store.b2"], `key (site.hcl:3): the secret credential("b2.key") is missing: there is no /run/credentials/converge/b2.key and no /etc/credstore/b2.key`,
		"install -D -m 0600 /dev/stdin /etc/credstore/b2.key")
	wantErr(t, nodes["bucket.media"], `store (site.hcl:6): the secret credential("b2.key") is missing`, "install")
	wantErr(t, nodes["env.app"], `dotenv("/live/.env").OLD`, "Add OLD=… to /live/.env.")
	wantErr(t, nodes["env.from_export"], `set (site.hcl:25): the secret credential("b2.key") is missing`, "install")

	wantErr(t, nodes["env.derived"], `set (site.hcl:29): the secret credential("b2.key") is missing`, "install")
	wantErr(t, nodes["bucket.app"], `app.key (site.hcl:35): the secret env("NOT_SET") is missing`, "export NOT_SET=")

	if got := attr(t, nodes["site.files"], "server_name").AsString(); got != "media.eu.example.net" {
		t.Errorf("server_name = %q", got)
	}
	if got := attr(t, nodes["unit.x"], "name").AsString(); got != "/live/.env" {
		t.Errorf("name = %q", got)
	}
	var m *secret.Missing
	if !errors.As(nodes["store.b2"].Err, &m) || m.Name != `credential("b2.key")` {
		t.Errorf("no *secret.Missing in %v", nodes["store.b2"].Err)
	}
	if w := nodes["site.files"].Config; w == "" {
		t.Error("site.files has no digest")
	}
}

// TestPassedOnSecretFailsItsUsersOnly: who only passes a missing secret on goes on, and so does who refers to it for another.
func TestPassedOnSecretFailsItsUsersOnly(t *testing.T) {
	nodes := one(`
passer "p" { key = credential("gone") }
copier "c" { from = passer.p }
env "e" {
  path = "/e"
  set  = { KEY = passer.p.key }
}
`).evaluate(t)
	for _, name := range []string{"passer.p", "copier.c"} {
		if n := nodes[name]; n.Err != nil || n.Resource == nil {
			t.Errorf("%s: %v", name, n.Err)
		}
	}
	wantErr(t, nodes["env.e"], `the secret credential("gone") is missing`, "install")
}

// TestUnfitSecretFailsItsUsersOnly: a secret that is there but cannot be right is as one that is missing.
func TestUnfitSecretFailsItsUsersOnly(t *testing.T) {
	w := one(`
store "b2" { key = credential("b2.key") }
bucket "media" {
  store = store.b2
  name  = "media"
}
site "files" {
  server_name = "a.b"
  media {
    bucket = bucket.media
  }
}
`)
	w.host = map[string]host.File{"/etc/credstore/b2.key": text("x")}
	nodes := w.evaluate(t)
	wantErr(t, nodes["store.b2"], `key (site.hcl:2): it is too short`, "")
	wantErr(t, nodes["bucket.media"], `store (site.hcl:4): key of store.b2: it is too short`, "")
	if n := nodes["site.files"]; n.Err != nil || n.Resource == nil {
		t.Errorf("site.files: %v", n.Err)
	}
}

func TestMissingSecretDoesNotChangeTheDigestOfWhatDoesNotUseIt(t *testing.T) {
	const src = `
store "b2"     { key = credential("b2.key") }
bucket "media" { 
  store = store.b2
  name  = "media"
}
site "files" {
  server_name = "a.b"
  media {
    bucket = bucket.media
  }
}
env "app" {
  path = "/live/.env"
  set  = bucket.media.env
}
`
	digests := func(content string) map[string]resources.Node {
		w := one(src)
		if content != "" {
			w.host = map[string]host.File{"/etc/credstore/b2.key": text(content)}
		}
		return w.evaluate(t)
	}
	first, second, gone := digests("key1"), digests("key2"), digests("")
	if a, b, c := first["site.files"].Config, second["site.files"].Config, gone["site.files"].Config; a != b || a != c || len(a) != 64 {
		t.Errorf("site.files: %q, %q, %q", a, b, c)
	}
	if a, b := first["env.app"].Config, second["env.app"].Config; a == b {
		t.Errorf("env.app did not change with its secret: %q", a)
	}
	if a, b := first["env.app"].Config, digests("key1")["env.app"].Config; a != b {
		t.Errorf("env.app: %q, %q", a, b)
	}
}

func TestWhen(t *testing.T) {
	w := one(`
cert "a" { domains = ["a.b"] }
env "b" {
  when       = 1 > 2
  path       = cert.a.path
  depends_on = [unit.before]
}
unit "before" { name = "before" }
unit "c" {
  name       = env.b.path
  restart_on = [env.b]
}
unit "each" {
  for_each = { web = true, worker = false }
  when     = each.value
  name     = each.key
}
unit "last" {
  name       = "last"
  depends_on = [unit.each]
}
`)
	var got []string
	for _, n := range w.list(t) {
		got = append(got, fmt.Sprint(n.Address, " ", n.Needs))
		if n.Address.String() == "unit.c" {
			if name := attr(t, n, "name").AsString(); name != "/certs/a" {
				t.Errorf("name = %q", name)
			}
			if refs := resources.AddressesIn(attr(t, n, "restart_on")); len(refs) != 1 || refs[0].String() != "env.b" {
				t.Errorf("restart_on = %v", refs)
			}
		}
	}
	want := []string{
		"cert.a []", "unit.before []", "unit.c [cert.a unit.before]", `unit.each["web"] []`, `unit.last [unit.each["web"]]`,
	}
	if d := cmp.Diff(want, got); d != "" {
		t.Errorf("nodes (-want +got):\n%s", d)
	}
}

func TestFactsAreNotReadWhenSwitchedOff(t *testing.T) {
	w := one(`
instance "main" {
  when = false
  path = "/live"
}
unit "x" { name = instance.main.version }
unit "y" { name = "y" }
`)
	nodes := w.evaluate(t)
	if len(w.facts) > 0 {
		t.Errorf("facts were read: %v", w.facts)
	}
	wantErr(t, nodes["unit.x"], "it needs instance.main", "")
	if nodes["unit.y"].Resource == nil {
		t.Error("unit.y has no resource")
	}
}

func TestForEach(t *testing.T) {
	w := one(`
locals { sites = { a = "a.example", b = "b.example" } }
cert "c" {
  for_each = local.sites
  domains  = [each.value]
}
site "s" {
  for_each    = local.sites
  server_name = each.value
  certificate = cert.c[each.key]
}
site "one" {
  server_name = "one.example"
  certificate = cert.c["a"]
}
unit "all" {
  name       = join(",", [for k, c in cert.c : c.path])
  restart_on = values(cert.c)
}
unit "whole" {
  name       = "whole"
  restart_on = [cert.c, site.one]
}
unit "none" {
  for_each = toset([])
  name     = each.key
}
unit "of_none" {
  name       = "x"
  restart_on = unit.none
}
`)
	var got []string
	for _, n := range w.list(t) {
		line := fmt.Sprint(n.Address, " ", n.Needs)
		if n.Kind.Name == "unit" {
			line += fmt.Sprint(" ", resources.AddressesIn(attr(t, n, "restart_on")))
		}
		got = append(got, line)
	}
	want := []string{
		`cert.c["a"] []`, `cert.c["b"] []`,
		`site.s["a"] [cert.c["a"]]`, `site.s["b"] [cert.c["b"]]`, `site.one [cert.c["a"]]`,
		`unit.all [cert.c["a"] cert.c["b"]] [cert.c["a"] cert.c["b"]]`,
		`unit.whole [cert.c["a"] cert.c["b"] site.one] [cert.c["a"] cert.c["b"] site.one]`,
		`unit.of_none [] []`,
	}
	if d := cmp.Diff(want, got); d != "" {
		t.Errorf("nodes (-want +got):\n%s", d)
	}
}

func TestValidateReadsNothing(t *testing.T) {
	w := one(`
instance "main" { path = "/live" }
store "b2" { key = credential("b2.key") }
bucket "media" {
  store = store.b2
  name  = "media"
}
env "app" {
  path = instance.main.env_path
  set  = merge(bucket.media.env, { A = env("A"), B = dotenv("/x").B, C = instance.main.version })
}
unit "x" {
  for_each = toset(instance.main.units)
  name     = each.key
}
`)
	w.env = map[string]string{"A": "a"}
	c, diags := w.load("site.hcl")
	diags = append(diags, c.Validate()...)
	if len(diags) > 0 {
		t.Errorf("Validate:\n%s", render(t, c, diags))
	}
	if len(w.facts) > 0 || len(w.view.read) > 0 {
		t.Errorf("read %v and %v", w.facts, w.view.read)
	}
}

// What asks nothing of the host is made once, what does (directly, by a local value, by a key) on the host once more.
func TestNothingIsEvaluatedTwice(t *testing.T) {
	w := one(`
instance "main" { path = "/live" }
locals {
  plain = "plain"
  told  = instance.main.version
}
store "plain" { key = local.plain }
store "secret" { key = env("A") }
unit "each" {
  for_each = toset(["a", "b"])
  name     = "${store.plain.host}-${each.key}"
}
unit "fact" { name = local.told }
unit "host" {
  for_each = toset(instance.main.units)
  name     = each.key
}
`)
	w.env = map[string]string{"A": "secret"}
	w.host = map[string]host.File{"/live/version": text("4.3")}
	made := map[string]int{}
	loader := w.loader()
	for _, k := range loader.Kinds {
		if construct := k.New; construct != nil {
			k.New = func(addr resources.Address, c cty.Value) (resources.Resource, cty.Value, error) {
				made[addr.String()]++
				return construct(addr, c)
			}
		}
	}
	c, diags := loader.Load("site.hcl", nil)
	nodes, more := c.Evaluate(t.Context(), resources.ReadEnv{Files: w.view})
	if diags = append(diags, more...); len(diags) > 0 {
		t.Fatalf("Evaluate:\n%s", render(t, c, diags))
	}
	for _, n := range nodes {
		if n.Err != nil || n.Address.Kind == "unit" && n.Resource == nil {
			t.Errorf("%s: %v, %v", n.Address, n.Resource, n.Err)
		}
	}
	want := map[string]int{
		"store.plain": 1, `unit.each["a"]`: 1, `unit.each["b"]`: 1,
		"unit.fact": 1, `unit.host["web"]`: 1, `unit.host["sidekiq"]`: 1, // not made before the fact is known
		"store.secret": 2,
	}
	if d := cmp.Diff(want, made); d != "" {
		t.Errorf("how often each was made:\n%s", d)
	}
}

func TestVariablePrecedence(t *testing.T) {
	tests := []struct {
		name string
		env  map[string]string
		vars config.Variables
		want string
	}{
		{"default", nil, nil, "default"},
		{"environment", map[string]string{"CONVERGE_VAR_v": "env"}, nil, "env"},
		{"var over environment", map[string]string{"CONVERGE_VAR_v": "env"}, config.Variables{{Assignment: "v=a=b"}}, "a=b"},
		{"file over environment", map[string]string{"CONVERGE_VAR_v": "env"}, config.Variables{{File: "my.vars"}}, "file"},
		{"later wins", nil, config.Variables{{Assignment: "v=var"}, {File: "my.vars"}}, "file"},
		{"later wins, other way round", nil, config.Variables{{File: "my.vars"}, {Assignment: "v=var"}}, "var"},
		{"empty is a value", nil, config.Variables{{Assignment: "v="}}, ""},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			w := one("variable \"v\" { default = \"default\" }\nunit \"x\" { name = var.v }")
			w.files["my.vars"] = `v = "file"`
			w.env, w.vars = tt.env, tt.vars
			if got := attr(t, w.evaluate(t)["unit.x"], "name").AsString(); got != tt.want {
				t.Errorf("got %q, want %q", got, tt.want)
			}
		})
	}
}

func TestVariableTypes(t *testing.T) {
	w := one(`
variable "list"   { type = list(string) }
variable "object" { type = object({ a = string, b = optional(number, 7) }) }
variable "number" { type = number }
variable "any"    {}
variable "secret" { 
  type      = map(string)
  sensitive = true
}
unit "x" {
  name  = "${join("+", var.list)} ${var.object.a} ${var.object.b} ${var.any}"
  count = var.number
}
env "y" {
  path = "/y"
  set  = merge(var.secret, { B = "plain" })
}
`)
	w.vars = config.Variables{
		{Assignment: `list=["a", "b"]`}, {Assignment: `object={ a = "x" }`}, {Assignment: "number=3"}, {Assignment: "any=[text]"},
		{Assignment: `secret={ A = "hidden" }`},
	}
	nodes := w.evaluate(t)
	if got := attr(t, nodes["unit.x"], "name").AsString(); got != "a+b x 7 [text]" {
		t.Errorf("name = %q", got)
	}
	set := attr(t, nodes["env.y"], "set").AsValueMap()
	if !set["A"].IsMarked() || set["B"].IsMarked() {
		t.Errorf("marks: A %v, B %v", set["A"].IsMarked(), set["B"].IsMarked())
	}
}

func TestWarnsOfReadableSecret(t *testing.T) {
	w := one(`env "x" {
  path = "/x"
  set  = { A = secret_file("/s"), B = secret_file("/s") }
}`)
	w.host = map[string]host.File{"/s": {Content: []byte("s3cret"), Mode: 0o644}}
	c, _ := w.load("site.hcl")
	nodes, diags := c.Evaluate(context.Background(), resources.ReadEnv{Files: w.view})
	if len(diags) != 1 || diags.HasErrors() || !strings.Contains(diags[0].Detail, "chmod 0600 /s") {
		t.Errorf("diagnostics: %v", diags)
	}
	if nodes[0].Err != nil {
		t.Error(nodes[0].Err)
	}
}

func TestSecretFiles(t *testing.T) {
	link := func(target string, uid int) host.File { return host.File{Type: host.Symlink, Target: target, UID: uid} }
	owned := func(s string, uid int) host.File { return host.File{Content: []byte(s), Mode: 0o600, UID: uid} }
	tests := []struct {
		name  string
		files map[string]host.File
		want  string // the secret, or after "!" a part of the error
	}{
		{"plain", map[string]host.File{"/a/s": owned("x\r\n", 7)}, "x"},
		{"spaces stay", map[string]host.File{"/a/s": owned(" x ", 7)}, " x "},
		{"empty", map[string]host.File{"/a/s": owned("\n", 7)}, "!it is empty"},
		{"not there", nil, "!read /a/s: it does not exist"},
		{"binary", map[string]host.File{"/a/s": owned("\xff\xfe", 7)}, "!not a text"},
		{"no right", map[string]host.File{"/a/s": {}}, "!permission denied"},
		{"directory", map[string]host.File{"/a/s": {Type: host.Directory}}, "!it is a directory"},
		{"pipe", map[string]host.File{"/a/s": {Type: host.Other}}, "!it is a special file"},
		{"link of root", map[string]host.File{"/a/s": link("../b/t", 0), "/b/t": owned("x", 7)}, "x"},
		{"link of the owner", map[string]host.File{"/a/s": link("/b/t", 7), "/b/t": owned("x", 7)}, "x"},
		{"link of somebody else", map[string]host.File{"/a/s": link("/etc/shadow", 7), "/etc/shadow": owned("x", 0)}, "!a link made by user 7"},
		{"loop", map[string]host.File{"/a/s": link("s", 0)}, "!too many links"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			w := one("env \"x\" {\n  path = \"/x\"\n  set = { A = secret_file(\"/a/s\") }\n}")
			w.host = tt.files
			n := w.evaluate(t)["env.x"]
			if part, isErr := strings.CutPrefix(tt.want, "!"); isErr {
				wantErr(t, n, part, "")
				return
			}
			if got := secret.FromValue(attr(t, n, "set").AsValueMap()["A"]).Reveal(); got != tt.want {
				t.Errorf("got %q, want %q", got, tt.want)
			}
		})
	}
}

func TestCredentialThatMayNotBeReadIsNotLookedForElsewhere(t *testing.T) {
	w := one("store \"s\" { key = credential(\"x\") }")
	w.host = map[string]host.File{"/run/credentials/converge/x": {}, "/etc/credstore/x": text("old key")}
	wantErr(t, w.evaluate(t)["store.s"], "read /run/credentials/converge/x: permission denied", "Run as root.")
}

func TestSyntaxErrorsComeAlone(t *testing.T) {
	w := &world{files: map[string]string{"d/a.hcl": "locals {\n  x = \n}\n", "d/b.hcl": "unit \"x\" { name = local.x }\nuntl \"y\" {}\n"}}
	c, diags := w.load("d")
	diags = append(diags, c.Validate()...)
	if len(diags) != 1 {
		t.Errorf("diagnostics:\n%s", render(t, c, diags))
	}
}

func TestCancelledEvaluate(t *testing.T) {
	w := one(`instance "main" { path = "/live" }`)
	w.host = map[string]host.File{"/live/version": text("4")}
	c, _ := w.load("site.hcl")
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	nodes, diags := c.Evaluate(ctx, resources.ReadEnv{Files: w.view})
	if !diags.HasErrors() || nodes != nil || len(w.facts) > 0 {
		t.Errorf("nodes %v, facts %v, diagnostics %v", nodes, w.facts, diags)
	}
}

func TestNeedsAreInTheOrderOfReferences(t *testing.T) {
	w := one(`
cert "b" { domains = ["b.b"] }
cert "a" { domains = ["a.a"] }
locals { pair = [cert.a, cert.b] }
unit "x" {
  name       = cert.b.path
  restart_on = local.pair
}
`)
	n := w.evaluate(t)["unit.x"]
	var got []string
	for _, a := range n.Needs {
		got = append(got, a.String())
	}
	if want := []string{"cert.b", "cert.a"}; !slices.Equal(got, want) {
		t.Errorf("got %v, want %v", got, want)
	}
}
