package main

import (
	"os/exec"
	"path"
	"strings"
	"testing"
)

const module = "github.com/converge-agent/converge/"

// layers are the floors of the house, lowest first: a package imports from floors below its own, and from its own only what
// stands in sameFloor.
var layers = [][]string{
	{"diag", "secret"},
	{"host", "host/hosttest"},
	{"objectstore", "objectstore/*", "acme", "nginx", "nginx/*", "dotenv", "mastodon"},
	{"resources"},
	{"resources/resourcetest"},
	{"resources/*"},
	{"resources/all"},
	{"config", "plans"},
	{"plans/journal"},
	{"cmd/converge"},
}

var sameFloor = map[string]bool{
	"host/hosttest host":             true,
	"secret diag":                    true,
	"objectstore/ledger objectstore": true,
	"mastodon dotenv":                true,
	"acme nginx":                     true,
	"nginx/nginxtest nginx":          true,
}

// never lists what a package, by prefix, must not import whatever its floor.
var never = map[string][]string{
	"resources": {"github.com/hashicorp/hcl/v2", module + "plans", module + "config"},
	"plans":     {"github.com/hashicorp/hcl/v2"},
}

func TestImportsPointOneWay(t *testing.T) {
	out, err := exec.CommandContext(t.Context(), "go", "list", "-f", `{{.ImportPath}} {{join .Imports " "}}`, module+"...").Output()
	if err != nil {
		t.Fatalf("go list: %v", err)
	}
	lines := strings.Split(strings.TrimSpace(string(out)), "\n")
	if len(lines) < 10 {
		t.Fatalf("go list names only %d packages", len(lines))
	}
	for _, line := range lines {
		words := strings.Fields(line)
		pkg := strings.TrimPrefix(words[0], module)
		floor := floorOf(pkg)
		if floor < 0 {
			t.Errorf("%s stands on no floor; give it one in layers, or move it", pkg)
			continue
		}
		for _, imp := range words[1:] {
			checkImport(t, pkg, floor, imp)
		}
	}
}

func checkImport(t *testing.T, pkg string, floor int, imp string) {
	t.Helper()
	for prefix, banned := range never {
		for _, b := range banned {
			if strings.HasPrefix(pkg, prefix) && strings.HasPrefix(imp, b) {
				t.Errorf("%s imports %s", pkg, imp)
			}
		}
	}
	lower, ours := strings.CutPrefix(imp, module)
	if !ours {
		return
	}
	if to := floorOf(lower); to > floor || to == floor && !sameFloor[pkg+" "+lower] {
		t.Errorf("%s (floor %d) imports %s (floor %d)", pkg, floor, lower, to)
	}
}

// floorOf finds the floor of a package: the one that names it, else one whose pattern matches.
func floorOf(pkg string) int {
	match := -1
	for i, names := range layers {
		for _, name := range names {
			if name == pkg {
				return i
			}
			if ok, _ := path.Match(name, pkg); ok {
				match = i
			}
		}
	}
	return match
}
