package config

import (
	"slices"
	"strings"

	"github.com/hashicorp/hcl/v2"
)

// sort puts the units into the order of evaluation, each after what it refers to, and reports cycles.
func (c *Config) sort() hcl.Diagnostics {
	w := &walk{config: c, done: map[*unit]bool{}}
	for _, u := range c.all() {
		w.visit(u)
	}
	return w.diags
}

// walk is a depth-first walk along the references.
type walk struct {
	config *Config
	path   []*unit // from where it began to where it is
	done   map[*unit]bool
	diags  hcl.Diagnostics
}

func (w *walk) visit(u *unit) {
	if w.done[u] {
		return
	}
	w.path = append(w.path, u)
	for _, r := range u.refs {
		to := w.config.units[r.id()]
		if to == nil {
			continue // a variable, or each
		}
		if i := slices.Index(w.path, to); i >= 0 {
			w.cycle(w.path[i:], r)
			continue
		}
		w.visit(to)
	}
	w.path = w.path[:len(w.path)-1]
	w.done[u] = true
	w.config.order = append(w.config.order, u)
}

// cycle reports the units of a cycle that closing, a reference in the last of them to the first, makes.
func (w *walk) cycle(units []*unit, closing reference) {
	var ids []string
	reported := true
	for _, u := range units {
		reported = reported && u.cyclic
		u.cyclic = true
		ids = append(ids, u.id)
	}
	if reported {
		return // the same one again, by a second reference
	}
	ids = append(ids, units[0].id)
	w.diags = append(w.diags, wrong(closing.at, "Cycle",
		"%s. Each would have to come before the others; take out one of these references.", strings.Join(ids, " -> ")))
}
