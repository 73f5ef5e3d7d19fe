package plans

import (
	"context"
	"fmt"
	"slices"

	"github.com/converge-agent/converge/diag"
	"github.com/converge-agent/converge/host"
	"github.com/converge-agent/converge/resources"
)

// undoes finds whether the change of node i undoes that of one that writes the same file before it: then each run would
// change the file twice, and none would ever be the last. It reads those again as the change would leave the file.
func (p *planning) undoes(ctx context.Context, i int) error {
	earlier := slices.Concat(p.graph.sharers[i]...)
	if len(earlier) == 0 || len(p.items[i].Change.Edits) == 0 {
		return nil
	}
	after := host.NewOverlay(p.overlay)
	for _, e := range p.items[i].Change.Edits {
		if err := after.Stage(e); err != nil {
			return err
		}
	}
	for _, j := range earlier {
		at := writesToo(p.items[j].Node.Resource, p.items[i].Change.Edits)
		if _, converges := p.upstreams.Load(j); !converges || at == "" {
			continue
		}
		env := p.readEnv(j)
		env.Files = after
		again, err := readAndDiff(ctx, p.items[j].Node, env)
		if err == nil && again.Action.Changes() {
			return undoneError(at, p.items[j].Node)
		}
	}
	return nil
}

// rewritten reports whether a file of node i is changed by another one before it: then nothing may be left to do for i itself,
// and what i manages of the file is still going to change.
func (p *planning) rewritten(i int) bool {
	return slices.ContainsFunc(slices.Concat(p.graph.sharers[i]...), func(j int) bool {
		return writesToo(p.items[i].Node.Resource, p.items[j].Change.Edits) != "" && p.items[j].Changes()
	})
}

// writesToo returns the first path among the edits that r claims, or "".
func writesToo(r resources.Resource, edits []host.Edit) string {
	claims := r.Claims()
	for _, e := range edits {
		if slices.ContainsFunc(claims, func(c resources.Claim) bool { return c.Path == e.Path }) {
			return e.Path
		}
	}
	return ""
}

func undoneError(path string, other *resources.Node) error {
	return diag.New("plan "+path, fmt.Sprintf("%s (%s) writes it too, and each would undo what the other does, in every run", other.Address, other.Where),
		"Take what both of them write out of one of the two blocks, or remove one.")
}
