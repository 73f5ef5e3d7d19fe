package plans

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"slices"
	"sync"

	"github.com/converge-agent/converge/diag"
	"github.com/converge-agent/converge/host"
	"github.com/converge-agent/converge/resources"
)

// Plan is what an apply would do, resource by resource, in the order of the configuration.
type Plan struct {
	Items []*Item
	// Targets are those of a plan that is only about a part of the configuration (Target); nil: it is about all of it.
	Targets []string
	// Left are the resources that were converged once, are not in the configuration any more, and stay on the host.
	Left  []Orphan
	graph *graph
}

// Item is the plan of one resource.
type Item struct {
	Node *resources.Node
	// Change is what would be done now. It is empty where Err is set or nothing can be converged.
	Change resources.Change
	// Err is why the resource could not be evaluated or read.
	Err error
	// HeldBy are those that keep this one from changing: they failed, wait, or are in progress. Nothing is done about
	// Change then, unless it is the repair of Drift.
	HeldBy []resources.Address
	// Drift says that the resource had converged with this very configuration before: what differs, somebody changed.
	Drift bool
	// Follows says that something it needs is configured anew, so that its own change may come from there.
	Follows bool
	// Left is why an apply is to leave the resource alone though there may be something to do; nil: it does not.
	Left *Left
}

// held reports whether the item's change is kept from being made.
func (it *Item) held() bool {
	return len(it.HeldBy) > 0 && it.Change.Action != resources.None && !it.heals()
}

// heals reports whether the item's change repairs drift, which never waits. Running something is more than a repair.
func (it *Item) heals() bool {
	return it.Drift && it.Change.Action != resources.Run && !it.Change.Action.Looks()
}

// Later reports whether something is to be done about the resource, but not now: it is held, waits, or is in progress.
func (it *Item) Later() bool {
	waits := it.Change.Action == resources.Wait || it.Change.Action == resources.InProgress
	left := it.Left != nil && it.Change.Action != resources.None && !it.Left.renews
	return it.Err == nil && (waits || left || it.held() && it.Change.Action != resources.Blocked)
}

// Changes reports whether applying the plan would change this resource now.
func (it *Item) Changes() bool {
	return it.Err == nil && !it.held() && it.Change.Action.Changes() && (it.Left == nil || it.Left.renews)
}

// Changes counts the resources that applying would change now.
func (p *Plan) Changes() int {
	n := 0
	for _, it := range p.Items {
		if it.Changes() {
			n++
		}
	}
	return n
}

// Failures counts the resources that could not be planned.
func (p *Plan) Failures() int {
	n := 0
	for _, it := range p.Items {
		if it.Err != nil || it.Change.Action == resources.Blocked {
			n++
		}
	}
	return n
}

// Plan reads every resource and returns what applying would do. It changes nothing. Errors are those of the graph (two
// owners of a path, a cycle) and of ctx; what is wrong with one resource stands in its item.
func (e *Engine) Plan(ctx context.Context, nodes []resources.Node) (*Plan, error) {
	g, err := newGraph(nodes)
	if err != nil {
		return nil, err
	}
	p := &planning{Engine: e, graph: g, overlay: host.NewOverlay(e.Env.Files), items: make([]*Item, len(nodes))}
	for i := range nodes {
		p.items[i] = &Item{Node: &nodes[i]}
	}
	g.walk(e.width(), func(int) int { return 0 }, func(i int) { p.plan(ctx, i) })
	if err := ctx.Err(); err != nil {
		return nil, diag.Wrap(&interruption{err}, "plan", "Run it again; nothing was changed.")
	}
	left, err := e.left(nodes)
	if err != nil {
		return nil, err
	}
	return &Plan{Items: p.items, Left: left, graph: g}, nil
}

func (e *Engine) width() int {
	if e.Parallelism > 0 {
		return e.Parallelism
	}
	return DefaultParallelism
}

// planning is the walk that makes one plan.
type planning struct {
	*Engine
	graph   *graph
	overlay *host.Overlay

	items     []*Item
	upstreams sync.Map // of index: resources.Upstream, of those that will be as they should
}

func (p *planning) plan(ctx context.Context, i int) {
	it := p.items[i]
	it.HeldBy = p.holders(i)
	if it.Err = it.Node.Err; it.Err != nil || it.Node.Resource == nil || ctx.Err() != nil {
		if it.Err == nil && it.Node.Resource == nil {
			p.upstreams.Store(i, resources.Upstream{})
		}
		return
	}
	for _, j := range p.graph.needs[i] {
		up := p.items[j]
		it.Follows = it.Follows || up.Node.Resource != nil && !up.Drift || up.Follows
	}
	rec := p.Records.Of(it.Node.Address)
	if it.Err = rec.err; it.Err != nil {
		return
	}
	it.Drift = rec.ConvergedWith(it.Node.Config)
	it.Change, it.Err = readAndDiff(ctx, it.Node, p.readEnv(i))
	if it.Err != nil && len(it.HeldBy) > 0 { // most likely because of them: one failure, one message
		it.Err, it.Change = nil, resources.Change{Action: resources.Wait, Summary: "cannot be read yet"}
	}
	if it.Err != nil || it.held() || it.Change.Action.Holds() {
		return
	}
	if it.Err = p.undoes(ctx, i); it.Err != nil {
		return
	}
	for _, edit := range it.Change.Edits {
		if it.Err = p.overlay.Stage(edit); it.Err != nil {
			return
		}
	}
	p.upstreams.Store(i, p.upstream(it, it.Change.Action.Changes() || p.rewritten(i)))
}

// readEnv is what the Read of node i sees: the host as the changes planned so far leave it.
func (p *planning) readEnv(i int) resources.ReadEnv {
	env := p.Env.ReadEnv
	env.Files, env.Disk, env.Records = p.overlay, p.Env.Files, p.Records.Of(p.items[i].Node.Address)
	env.Upstreams = p.graph.upstreamsOf(i, &p.upstreams)
	return env
}

// holders are those that keep node i from changing: its needs that failed or wait, and what in turn holds those that do not.
func (p *planning) holders(i int) []resources.Address {
	var held []resources.Address
	add := func(addrs ...resources.Address) {
		for _, a := range addrs {
			if !slices.Contains(held, a) {
				held = append(held, a)
			}
		}
	}
	for _, j := range p.graph.needs[i] {
		up := p.items[j]
		switch {
		case up.Err != nil, up.Change.Action.Holds():
			add(up.Node.Address)
		default:
			add(up.HeldBy...)
		}
	}
	return held
}

// upstream is what others see of an item once its change has been made.
func (e *Engine) upstream(it *Item, pending bool) resources.Upstream {
	return resources.Upstream{
		Paths:   it.Node.Resource.Watches(),
		Digest:  e.Records.Keyed(it.Change.Digest),
		Pending: pending,
	}
}

// upstreamsOf collects, for node i, those of its needs that are as they should be.
func (g *graph) upstreamsOf(i int, known *sync.Map) map[resources.Address]resources.Upstream {
	ups := make(map[resources.Address]resources.Upstream, len(g.needs[i]))
	for _, j := range g.needs[i] {
		if up, ok := known.Load(j); ok {
			ups[g.nodes[j].Address] = up.(resources.Upstream)
		}
	}
	return ups
}

// within reports whether now does nothing that planned does not: fewer files and fewer effects, perhaps.
func within(now, planned resources.Change) bool {
	for _, e := range now.Edits {
		if !slices.ContainsFunc(planned.Edits, func(p host.Edit) bool { return p.Path == e.Path }) {
			return false
		}
	}
	for _, e := range now.Effects {
		if !slices.ContainsFunc(planned.Effects, func(p resources.Effect) bool { return p.Verb == e.Verb && p.Target == e.Target }) {
			return false
		}
	}
	return now.Action == planned.Action
}

// fingerprint stands for all that a plan showed of a change and that apply is bound to. Estimates, reasons and summaries
// are not in it, and of an opaque edit only its path.
func fingerprint(c resources.Change) string {
	type effect struct{ Verb, Target string }
	type edit struct {
		Path          string
		Before, After *host.File
	}
	shown := struct {
		Action  resources.Action
		Effects []effect
		Edits   []edit
	}{Action: c.Action}
	for _, e := range c.Effects {
		shown.Effects = append(shown.Effects, effect{e.Verb, e.Target})
	}
	for _, e := range c.Edits {
		if e.Opaque {
			shown.Edits = append(shown.Edits, edit{Path: e.Path})
			continue
		}
		shown.Edits = append(shown.Edits, edit{e.Path, e.Before.WithoutTime(), e.After.WithoutTime()})
	}
	text, err := json.Marshal(shown)
	if err != nil { // strings, numbers and bytes only
		panic(err)
	}
	sum := sha256.Sum256(text)
	return hex.EncodeToString(sum[:])
}
