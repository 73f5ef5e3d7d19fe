package config_test

import (
	"path/filepath"
	"testing"
	"time"

	"github.com/converge-agent/converge/config"
	"github.com/converge-agent/converge/host"
	"github.com/converge-agent/converge/resources"
	"github.com/google/go-cmp/cmp"
)

func TestTimeoutAndRetry(t *testing.T) {
	w := one(`
variable "slow" { default = "2m" }
unit "both" {
  name    = "x"
  timeout = var.slow
  retry {
    attempts = 5
    delay    = "1s"
  }
}
unit "defaults" {
  name = "x"
  retry {}
}
unit "each" {
  for_each = { a = "1m", b = "1h" }
  name     = each.key
  timeout  = each.value
}
unit "plain" { name = "x" }
`)
	nodes := w.evaluate(t)
	for name, want := range map[string]resources.Node{
		"unit.both":      {Timeout: 2 * time.Minute, Retry: resources.Retry{Attempts: 5, Delay: time.Second}},
		"unit.defaults":  {Retry: resources.Retry{Attempts: 3, Delay: 10 * time.Second}},
		`unit.each["a"]`: {Timeout: time.Minute},
		`unit.each["b"]`: {Timeout: time.Hour},
		"unit.plain":     {},
	} {
		if got := nodes[name]; got.Timeout != want.Timeout || got.Retry != want.Retry {
			t.Errorf("%s: timeout %s, retry %+v", name, got.Timeout, got.Retry)
		}
	}
}

// TestFactsHaveADigest: what was found counts, and what is written does not.
func TestFactsHaveADigest(t *testing.T) {
	digest := func(version, more string) string {
		w := one("instance \"i\" {\n  path = \"/live\"\n" + more + "}\nunit \"x\" { name = \"x\" }")
		w.host = map[string]host.File{"/live/version": text(version)}
		nodes := w.evaluate(t)
		if nodes["unit.x"].Facts != "" {
			t.Error("what has no facts has a digest of them")
		}
		return nodes["instance.i"].Facts
	}
	one, same, other := digest("1", ""), digest("1", "timeout = \"1m\"\n"), digest("2", "")
	if one == "" || one != same || one == other {
		t.Errorf("digests %q, %q, %q", one, same, other)
	}
}

// TestSettings: what is kept gives the same values again, elsewhere and without the environment, but for the sensitive ones.
func TestSettings(t *testing.T) {
	w := one(`
variable "a" {}
variable "b" {}
variable "c" { default = "x" }
variable "secret" { sensitive = true }
variable "key" { sensitive = true }
`)
	w.files["my.vars"] = `b = "file"`
	w.env = map[string]string{"CONVERGE_VAR_a": "env", "CONVERGE_VAR_key": "k", "CONVERGE_VAR_unknown": "x"}
	w.vars = config.Variables{{Assignment: "secret=s=1"}, {File: "my.vars"}, {Assignment: "a=given"}, {Assignment: "secret=again"}}
	cfg, diags := w.load("site.hcl")
	if diags.HasErrors() {
		t.Fatal(diags)
	}
	kept, withheld, err := cfg.Settings(w.vars)
	if err != nil {
		t.Fatal(err)
	}
	path, err := filepath.Abs("my.vars")
	if err != nil {
		t.Fatal(err)
	}
	want := config.Variables{{Assignment: "a=env"}, {File: path}, {Assignment: "a=given"}}
	if d := cmp.Diff(want, kept); d != "" {
		t.Errorf("kept:\n%s", d)
	}
	if d := cmp.Diff([]string{"key", "secret"}, withheld); d != "" {
		t.Errorf("withheld:\n%s", d)
	}
}
