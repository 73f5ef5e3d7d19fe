package config_test

import (
	"context"
	"strings"
	"testing"

	"github.com/converge-agent/converge/config"
	"github.com/converge-agent/converge/host"
	"github.com/converge-agent/converge/resources"
)

// FuzzLoad feeds the loader with configurations: whatever they are, it says something and neither panics nor shows the
// secret.
func FuzzLoad(f *testing.F) {
	all := ""
	for _, seed := range []string{
		"",
		`unit "a" { name = "x" }`,
		"variable \"v\" {\n  type = map(string)\n  default = {}\n}\nlocals { x = var.v }\n",
		"store \"s\" { key = env(\"A\") }\nbucket \"b\" {\n  store = store.s\n  name = \"b\"\n  app { key = credential(\"c\") }\n}\n",
		"env \"e\" {\n  path = \"/e\"\n  set = merge(bucket.b.env, { for k, v in dotenv(\"/e\") : k => v if v != \"\" })\n}\n",
		"unit \"u\" {\n  for_each = toset([\"a\"])\n  when = each.key != \"a\"\n  name = \"${each.key}%{ if true }x%{ endif }\"\n  depends_on = [store.s]\n}\n",
		"value \"x\" { of = [for a in values(unit.u)[*] : jsonencode(a)...] }",
		"instance \"i\" { path = \"/i\" }\nvalue \"y\" { of = { (instance.i.version) = sensitive(instance.i) } }\n",
		"value \"z\" { of = value.z }\nlocals { a = local.b, b = local.a }",
		"value \"w\" { of = <<-EOT\n  ${upper(templatefile(\"t\", { a = 1 }))}\n  EOT\n}",
	} {
		f.Add(seed, "v={}")
		all += seed + "\n"
	}
	f.Add(all, "v={ a = 1 }")
	f.Fuzz(func(t *testing.T, src, assignment string) {
		w := one(src)
		w.files["t"] = "${a}"
		w.env = map[string]string{"A": "correct-horse"}
		w.host = map[string]host.File{"/e": text("K=correct-horse\n"), "/i/version": text("4")}
		w.vars = config.Variables{{Assignment: assignment}}
		c, diags := w.load("site.hcl")
		diags = append(diags, c.Validate()...)
		nodes, more := c.Evaluate(context.Background(), resources.ReadEnv{Files: w.view})
		said := render(t, c, append(diags, more...))
		for _, n := range nodes {
			if n.Err != nil {
				said += n.Err.Error()
			}
		}
		if strings.Contains(said, "correct-horse") && !strings.Contains(src+assignment, "orse") && !strings.Contains(src, "nonsensitive") {
			t.Errorf("a secret is shown:\n%s", said)
		}
	})
}
