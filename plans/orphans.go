package plans

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"path/filepath"
	"slices"
	"strings"

	"github.com/converge-agent/converge/diag"
	"github.com/converge-agent/converge/host"
	"github.com/converge-agent/converge/resources"
)

// Orphan is a resource that was converged once and is not in the configuration any more. What it made stays on the host:
// a block that disappears removes nothing.
type Orphan struct {
	Address string
	// Run is the number of the first run without it; 0 while there was none yet.
	Run int

	file string // of its record
	body recordBody
}

// leftovers is what stays on the host of a resource whose block is deleted.
type leftovers struct {
	// Paths are those that it claimed. Once none of them exists, nothing stays. Of a resource without any (a unit), nobody
	// can tell.
	Paths []string `json:"paths,omitempty"`
	// Elsewhere says that it is not this host's alone: a bucket.
	Elsewhere bool `json:"elsewhere,omitempty"`
}

// leaves is what of a node stays without it; nil: nothing.
func leaves(n *resources.Node) *leftovers {
	if n.Absent || n.Kind.LeavesNothing {
		return nil
	}
	own, shared := []string{}, []string{}
	for _, c := range n.Resource.Claims() {
		switch {
		case !filepath.IsAbs(c.Path): // a store of converge's own, which is not the host's
		case c.Own:
			own = append(own, c.Path)
		default:
			shared = append(shared, c.Path)
		}
	}
	if len(own) == 0 {
		own = shared
	}
	return &leftovers{Paths: own, Elsewhere: n.Kind.Scope == resources.Instance}
}

// left returns the resources on record that are neither among nodes nor written in the configuration otherwise, sorted.
func (e *Engine) left(nodes []resources.Node) ([]Orphan, error) {
	names, err := e.Records.files.List(e.Records.recordsDir())
	if errors.Is(err, fs.ErrNotExist) || errors.Is(err, fs.ErrPermission) {
		return nil, nil // none yet; or a plan without root, which cannot know
	}
	if err != nil {
		return nil, diag.Wrap(err, "look for resources that left the configuration", "")
	}
	known := make(map[string]bool, len(nodes))
	var unexpanded []string // of a for_each that could not be evaluated: all its instances
	for _, n := range nodes {
		known[recordName(n.Address.String())] = true
		if n.Err != nil && n.Address.Index == "" {
			unexpanded = append(unexpanded, n.Address.String()+"[")
		}
	}
	var left []Orphan
	for _, name := range names {
		if known[name] || !strings.HasSuffix(name, ".json") {
			continue
		}
		o, err := e.orphan(filepath.Join(e.Records.recordsDir(), name))
		if err != nil {
			return nil, err
		}
		instance := o != nil && slices.ContainsFunc(unexpanded, func(prefix string) bool { return strings.HasPrefix(o.Address, prefix) })
		if o != nil && !instance && (e.Written == nil || !e.Written(o.Address)) {
			left = append(left, *o)
		}
	}
	slices.SortFunc(left, func(a, b Orphan) int { return strings.Compare(a.Address, b.Address) })
	return left, nil
}

// orphan returns what the record in file says is left on the host; nil: nothing.
func (e *Engine) orphan(file string) (*Orphan, error) {
	f, err := e.Records.files.Lookup(file)
	if err != nil || f == nil {
		return nil, diag.Wrap(err, "look for resources that left the configuration", "")
	}
	o := &Orphan{file: file}
	valid := json.Unmarshal(f.Content, &o.body) == nil
	if !valid || o.body.Version > recordVersion || o.body.Leaves == nil || !o.body.Leaves.stay(e.Env.Files) {
		return nil, nil
	}
	if from := o.body.Source; from != "" && e.Records.Source != "" && from != e.Records.Source {
		return nil, nil // of another configuration
	}
	o.Address, o.Run = o.body.Address, o.body.Left
	return o, nil
}

// stay reports whether anything is still there. What cannot be looked at may well be.
func (r *leftovers) stay(files host.View) bool {
	for _, p := range r.Paths {
		f, err := files.Lookup(p)
		if err != nil || f != nil {
			return true
		}
	}
	return len(r.Paths) == 0
}

// noteLeft writes down what has left the configuration since the last run. A failure is not told: nothing was done, and the
// next run comes to the same.
func (e *Engine) noteLeft(p *Plan) {
	var fresh []string
	for _, o := range p.Left {
		if o.Run == 0 {
			fresh = append(fresh, o.Address)
		}
	}
	if e.Journal == nil || len(fresh) == 0 {
		return
	}
	run, err := e.Journal.Left(fresh)
	if err != nil {
		return
	}
	for i := range p.Left {
		if o := &p.Left[i]; o.Run == 0 {
			body := o.body
			body.Left = run
			if text, err := json.Marshal(body); err == nil && e.Records.put(o.file, append(text, '\n')) == nil {
				o.Run = run
			}
		}
	}
}

// String tells what became of it, after its address.
func (o Orphan) String() string {
	where := "on the host"
	if o.body.Leaves != nil && o.body.Leaves.Elsewhere {
		where = "there"
	}
	if o.Run == 0 {
		return fmt.Sprintf("%s leaves the configuration, stays %s", o.Address, where)
	}
	return fmt.Sprintf("%s left the configuration (run %d), still %s", o.Address, o.Run, where)
}
