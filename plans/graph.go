package plans

import (
	"cmp"
	"container/heap"
	"fmt"
	"maps"
	"path"
	"slices"
	"strings"

	"github.com/converge-agent/converge/diag"
	"github.com/converge-agent/converge/resources"
)

// graph is the order of the nodes: for each, by index, those that must come before it.
type graph struct {
	nodes []resources.Node
	needs [][]int // sorted, without duplicates
	users [][]int // the same edges the other way
	// sharers are, for each node and each of its paths that others write too, those who do so before it.
	sharers [][][]int

	visit   int   // the number of the search that leads is at
	visited []int // by which search each node was last met
}

// newGraph derives the order from references and from shared paths. It refuses a cycle, and two owners of one path.
func newGraph(nodes []resources.Node) (*graph, error) {
	g := &graph{nodes: nodes, needs: make([][]int, len(nodes))}
	index := make(map[resources.Address]int, len(nodes))
	for i, n := range nodes {
		index[n.Address] = i
	}
	for i, n := range nodes {
		for _, need := range n.Needs {
			if j, ok := index[need]; ok && j != i {
				g.needs[i] = append(g.needs[i], j)
			}
		}
	}
	if err := g.checkCycle(); err != nil {
		return nil, err
	}
	if err := g.orderClaims(); err != nil {
		return nil, err
	}
	g.link()
	return g, nil
}

// link sorts the edges, drops doubles, and notes them the other way too.
func (g *graph) link() {
	g.users = make([][]int, len(g.nodes))
	for i := range g.needs {
		slices.Sort(g.needs[i])
		g.needs[i] = slices.Compact(g.needs[i])
		for _, j := range g.needs[i] {
			g.users[j] = append(g.users[j], i)
		}
	}
}

// orderClaims orders those that write one path, and a directory with what stands in it. It refuses two owners of a path.
func (g *graph) orderClaims() error {
	claimants := map[string][]int{}
	owners := map[string]owner{}
	for i, n := range g.nodes {
		if n.Resource == nil {
			continue
		}
		for _, c := range n.Resource.Claims() {
			p := path.Clean(c.Path)
			if c.Own {
				if other, taken := owners[p]; taken && other.index != i {
					return g.twoOwners(p, other.index, i)
				}
				owners[p] = owner{i, c.Removes}
			}
			claimants[p] = append(claimants[p], i)
		}
	}
	paths := slices.Sorted(maps.Keys(claimants))
	for _, p := range paths {
		g.orderAncestors(p, claimants[p], owners)
	}
	g.chain(paths, claimants)
	return nil
}

// owner is who owns a path, and whether it is to remove what stands there.
type owner struct {
	index   int
	removes bool
}

// orderAncestors puts who makes a directory (or a link in its place) before those that write below it, and who removes it
// behind them, unless the references say otherwise.
func (g *graph) orderAncestors(p string, writers []int, owners map[string]owner) {
	for dir := path.Dir(p); ; dir = path.Dir(dir) {
		if o, owned := owners[dir]; owned {
			for _, i := range writers {
				before, after := o.index, i
				if o.removes {
					before, after = i, o.index
				}
				if before != after && !g.leads(before, after) {
					g.needs[after] = append(g.needs[after], before)
				}
			}
		}
		if dir == path.Dir(dir) {
			return
		}
	}
}

// leads reports whether node needs target, directly or through others.
func (g *graph) leads(node, target int) bool {
	if g.visited == nil {
		g.visited = make([]int, len(g.nodes))
	}
	g.visit++
	for stack := []int{node}; len(stack) > 0; {
		top := stack[len(stack)-1]
		stack = stack[:len(stack)-1]
		for _, n := range g.needs[top] {
			if n == target {
				return true
			}
			if g.visited[n] != g.visit {
				g.visited[n] = g.visit
				stack = append(stack, n)
			}
		}
	}
	return false
}

// chain puts those that write one path in a row. All rows follow one order of the whole graph, so they make no cycle.
func (g *graph) chain(paths []string, claimants map[string][]int) {
	position := make([]int, len(g.nodes))
	g.sharers = make([][][]int, len(g.nodes))
	g.link()
	next := 0
	g.walk(1, func(int) int { return 0 }, func(i int) { position[i] = next; next++ })
	for _, p := range paths {
		list := claimants[p]
		slices.SortFunc(list, func(a, b int) int { return cmp.Compare(position[a], position[b]) })
		for k := 1; k < len(list); k++ {
			if list[k] != list[k-1] {
				g.needs[list[k]] = append(g.needs[list[k]], list[k-1])
				g.sharers[list[k]] = append(g.sharers[list[k]], list[:k])
			}
		}
	}
}

func (g *graph) twoOwners(p string, first, second int) error {
	a, b := g.nodes[first], g.nodes[second]
	return diag.New(
		fmt.Sprintf("order %s (%s)", b.Address, b.Where),
		fmt.Sprintf("it writes %s, which %s (%s) writes too", p, a.Address, a.Where),
		"Remove one of the two blocks, or give one another path.")
}

// checkCycle returns an error that shows the whole path of a cycle, if there is one.
func (g *graph) checkCycle() error {
	const (
		unseen = iota
		open
		closed
	)
	state := make([]int, len(g.nodes))
	var trail []int
	var visit func(i int) []int
	visit = func(i int) []int {
		switch state[i] {
		case closed:
			return nil
		case open:
			return append(slices.Clone(trail[slices.Index(trail, i):]), i)
		}
		state[i], trail = open, append(trail, i)
		for _, j := range g.needs[i] {
			if cycle := visit(j); cycle != nil {
				return cycle
			}
		}
		state[i], trail = closed, trail[:len(trail)-1]
		return nil
	}
	for i := range g.nodes {
		if cycle := visit(i); cycle != nil {
			names := make([]string, len(cycle))
			for k, j := range cycle {
				names[k] = g.nodes[j].Address.String()
			}
			return diag.New("order the resources", "they need each other in a circle: "+strings.Join(names, " -> "),
				"Remove one of these references or depends_on.")
		}
	}
	return nil
}

// walk calls visit once for each node, when all that it needs have been visited, at most width at a time. Among those that
// are ready, the one of the lowest rank goes first, and of equal rank the one that comes first in the configuration.
func (g *graph) walk(width int, rank func(i int) int, visit func(i int)) {
	missing := make([]int, len(g.nodes))
	var ready queue
	for i := range g.nodes {
		if missing[i] = len(g.needs[i]); missing[i] == 0 {
			heap.Push(&ready, turn{rank(i), i})
		}
	}
	done := make(chan int)
	for running, left := 0, len(g.nodes); left > 0; left-- {
		for running < width && len(ready) > 0 {
			next := heap.Pop(&ready).(turn).index
			running++
			go func() { visit(next); done <- next }()
		}
		i := <-done
		running--
		for _, user := range g.users[i] {
			if missing[user]--; missing[user] == 0 {
				heap.Push(&ready, turn{rank(user), user})
			}
		}
	}
}

// turn is a node whose turn it is.
type turn struct{ rank, index int }

// queue is a heap of turns.
type queue []turn

func (q queue) Len() int      { return len(q) }
func (q queue) Swap(a, b int) { q[a], q[b] = q[b], q[a] }
func (q *queue) Push(t any)   { *q = append(*q, t.(turn)) }
func (q queue) Less(a, b int) bool {
	return cmp.Or(cmp.Compare(q[a].rank, q[b].rank), cmp.Compare(q[a].index, q[b].index)) < 0
}

func (q *queue) Pop() any {
	last := (*q)[len(*q)-1]
	*q = (*q)[:len(*q)-1]
	return last
}
