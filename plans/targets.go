package plans

import (
	"fmt"
	"path"
	"slices"
	"strings"

	"github.com/converge-agent/converge/diag"
	"github.com/converge-agent/converge/resources"
)

// Target returns those of nodes that targets name, with all that they need: what they refer to, and who makes the
// directories that they write below. A target is an address; one without its index names all instances, and
// "module.media" all of a module. No targets are all nodes. A target that names nothing is an error.
func Target(nodes []resources.Node, targets []string) ([]resources.Node, error) {
	if len(targets) == 0 {
		return nodes, nil
	}
	s := selection{nodes: nodes, index: map[resources.Address]int{}, makers: map[string]int{}, chosen: make([]bool, len(nodes))}
	for i, n := range nodes {
		s.index[n.Address] = i
		for _, c := range claimsOf(n) {
			if c.Own && !c.Removes {
				s.makers[path.Clean(c.Path)] = i
			}
		}
	}
	for _, target := range targets {
		if !s.chooseNamed(target) {
			return nil, unknownTarget(nodes, target)
		}
	}
	var out []resources.Node
	for i, n := range nodes {
		if s.chosen[i] {
			out = append(out, n)
		}
	}
	return out, nil
}

// selection is the choice of nodes in the making.
type selection struct {
	nodes  []resources.Node
	index  map[resources.Address]int
	makers map[string]int // of paths that one node owns
	chosen []bool
}

// chooseNamed chooses what target names, and reports whether there is any.
func (s *selection) chooseNamed(target string) bool {
	found := false
	for i, n := range s.nodes {
		if named(n.Address, target) {
			found = true
			s.choose(i)
		}
	}
	return found
}

// named reports whether target means the resource at a: by its address, its address without the index, or its module.
func named(a resources.Address, target string) bool {
	all := a
	all.Index = ""
	if target == a.String() || target == all.String() {
		return true
	}
	rest, within := strings.CutPrefix(a.Module, target)
	return within && strings.HasPrefix(target, "module.") && (rest == "" || rest[0] == '.' || rest[0] == '[')
}

// choose takes in node first and all that it needs.
func (s *selection) choose(first int) {
	for stack := []int{first}; len(stack) > 0; {
		i := stack[len(stack)-1]
		stack = stack[:len(stack)-1]
		if s.chosen[i] {
			continue
		}
		s.chosen[i] = true
		for _, need := range s.nodes[i].Needs {
			if j, ok := s.index[need]; ok {
				stack = append(stack, j)
			}
		}
		stack = append(stack, s.directories(i)...)
	}
}

// directories are the nodes that make the directories above what node i writes.
func (s *selection) directories(i int) []int {
	var out []int
	for _, c := range claimsOf(s.nodes[i]) {
		for dir := path.Dir(path.Clean(c.Path)); dir != path.Dir(dir); dir = path.Dir(dir) {
			if j, ok := s.makers[dir]; ok {
				out = append(out, j)
			}
		}
	}
	return out
}

func claimsOf(n resources.Node) []resources.Claim {
	if n.Resource == nil {
		return nil
	}
	return n.Resource.Claims()
}

func unknownTarget(nodes []resources.Node, target string) error {
	var known []string
	for _, n := range nodes {
		all := n.Address
		all.Index = ""
		known = append(known, n.Address.String(), all.String())
	}
	slices.Sort(known)
	return diag.New("select --target "+target,
		fmt.Sprintf("the configuration manages no resource of that address%s", resources.Nearest(target, slices.Compact(known))),
		`Write an address as the plan shows it, such as --target 'file.motd' or --target 'systemd_service.mastodon["mastodon-web"]'.`)
}
