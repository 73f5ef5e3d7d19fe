package main

import (
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/converge-agent/converge/plans"
	"github.com/converge-agent/converge/resources"
	"github.com/google/go-cmp/cmp"
	"github.com/rogpeppe/go-internal/testscript"
)

// exposition is one line of Prometheus' text format 0.0.4, as far as converge uses it.
var exposition = regexp.MustCompile(`^(# HELP [a-z_]+ [^\n]+|# TYPE [a-z_]+ gauge|[a-z_]+(\{[a-z_]+="([^"\\]|\\[\\n"])*"(,[a-z_]+="([^"\\]|\\[\\n"])*")*\})? -?[0-9]+(\.[0-9]+)?)$`)

// checkMetrics checks that a file is in the text format, and that each name is described once, before its samples.
func checkMetrics(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) != 1 {
		ts.Fatalf("usage: metrics FILE")
	}
	described := map[string]int{}
	last := ""
	for line := range strings.Lines(ts.ReadFile(args[0])) {
		line = strings.TrimSuffix(line, "\n")
		if !exposition.MatchString(line) {
			ts.Fatalf("no line of the format: %q", line)
		}
		if name, ok := strings.CutPrefix(line, "# TYPE "); ok {
			last, _, _ = strings.Cut(name, " ")
			if described[last]++; described[last] > 1 {
				ts.Fatalf("%s is described twice", last)
			}
		}
		if name := regexp.MustCompile(`^[a-z_]+`).FindString(line); name != "" && name != last {
			ts.Fatalf("%s stands behind %s", name, last)
		}
	}
}

// TestMetricsReadBack: what is written is read back as it was, whatever the labels hold.
func TestMetricsReadBack(t *testing.T) {
	s := samples{}
	s.set("converge_a", `help \ of`+"\n"+`it`, "", 1.5)
	s.set("converge_b_seconds", "b", labelText("address", `module.m["x\y"].file.f`, map[string]string{"unit": "a\n\"}"}), 1795000000)
	if diff := cmp.Diff(s.String(), parseSamples(s.String()).String()); diff != "" {
		t.Errorf("read back (-written +read):\n%s", diff)
	}
	s.forget(map[string]bool{`module.m["x\y"].file.f`: true})
	if len(s) != 2 {
		t.Errorf("a resource that stays was forgotten: %v", s)
	}
	s.forget(map[string]bool{})
	if diff := cmp.Diff([]string{"converge_a"}, []string{strings.Fields(s.String())[2]}); diff != "" || len(s) != 1 {
		t.Errorf("a resource that is no more was kept: %v", s)
	}
}

// TestMetricsOfAPartialRun: a run with --target replaces what its own resources told, and nothing else.
func TestMetricsOfAPartialRun(t *testing.T) {
	path := filepath.Join(t.TempDir(), "converge.prom")
	const before = "# HELP converge_a a\n# TYPE converge_a gauge\nconverge_a{address=\"file.mine\"} 1\nconverge_a{address=\"file.other\"} 2\n" +
		"# HELP converge_last_run_success x\n# TYPE converge_last_run_success gauge\nconverge_last_run_success 0\n"
	if err := os.WriteFile(path, []byte(before), 0o644); err != nil {
		t.Fatal(err)
	}
	r := &plans.Report{Results: []plans.Result{{
		Item:    &plans.Item{Node: &resources.Node{Address: resources.Address{Kind: "file", Name: "mine"}}},
		Metrics: []resources.Metric{{Name: "converge_a", Help: "a", Value: 3}},
	}}}
	if err := metricsFile(path).write(r, time.Now(), true); err != nil {
		t.Fatal(err)
	}
	got, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(strings.Replace(before, "} 1", "} 3", 1), string(got)); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
}
