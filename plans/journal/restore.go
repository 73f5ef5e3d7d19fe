package journal

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"path"
	"slices"
	"strings"

	"github.com/converge-agent/converge/host"
	"github.com/converge-agent/converge/resources"
	"github.com/converge-agent/converge/secret"
)

// Judge is who tests files that only mean something together before a service reads them: nginx its configuration.
type Judge interface {
	// Of names the whole that the file at path is a part of, "/etc/nginx/nginx.conf"; "" where it is judged by nobody.
	Of(files host.View, path string) (string, error)
	// Unjudged reports whether a run was killed before the whole had been judged.
	Unjudged(env resources.ReadEnv, whole string) (bool, error)
	// Make makes the edits, has the whole judged, and puts it back where it is refused.
	Make(ctx context.Context, env resources.Env, whole string, edits []host.Edit) error
}

// Nodes are the resources that bring the files of u back, for the engine to plan and apply as any others. Those of one whole
// are one resource: they are judged together.
func (s *Store) Nodes(u *Undo, judge Judge) ([]resources.Node, error) {
	wholes := map[string]*restoring{}
	var all []*restoring
	for _, g := range slices.Clone(u.Groups) {
		whole, err := wholeOf(judge, s.files, g)
		if err != nil {
			return nil, err
		}
		if known := wholes[whole]; whole != "" && known != nil {
			u.merge(known.group, g)
			continue
		}
		r := &restoring{store: s, undo: u, group: g, judge: judge, whole: whole}
		wholes[whole] = r
		all = append(all, r)
	}
	nodes := make([]resources.Node, len(all))
	for i, r := range all {
		addr := Address(r.group.Addresses[0])
		nodes[i] = resources.Node{
			Address: addr, Kind: &resources.Kind{Name: addr.Kind}, Resource: r,
			Config: fmt.Sprintf("as before run %d, of %d", u.Run, u.Runs[len(u.Runs)-1]), Where: fmt.Sprintf("run %d", r.by()),
		}
	}
	return nodes, nil
}

// Address is the address of a step, to be told apart and printed; a module counts as its kind.
func Address(text string) resources.Address {
	kind, name, _ := strings.Cut(text, ".")
	return resources.Address{Kind: kind, Name: name}
}

// wholeOf returns what judges the files of a group; "": nobody.
func wholeOf(judge Judge, files host.View, g *Group) (string, error) {
	for _, w := range g.Paths {
		if whole, err := judge.Of(files, w.Path); err != nil || whole != "" {
			return whole, err
		}
	}
	return "", nil
}

// restoring is a resource that brings the files of a group back.
type restoring struct {
	store *Store
	undo  *Undo
	group *Group
	judge Judge
	whole string // that judge is to judge; "" for none
}

// by is the run that edited one of the files last.
func (r *restoring) by() int {
	by := 0
	for _, w := range r.group.Paths {
		by = max(by, w.By)
	}
	return by
}

// Claims owns the paths.
func (r *restoring) Claims() []resources.Claim {
	var claims []resources.Claim
	for _, w := range r.group.Paths {
		claims = append(claims, resources.Claim{Path: w.Path, Own: true, Removes: w.Before == nil})
	}
	return claims
}

// Watches lists the paths.
func (r *restoring) Watches() []string {
	var paths []string
	for _, w := range r.group.Paths {
		paths = append(paths, w.Path)
	}
	return paths
}

// restoration is the state of a group: what is to be edited, and what cannot be brought back.
type restoration struct {
	edits    []host.Edit
	refused  []string
	unjudged bool
}

// Read compares what stands at the paths with what was before, and with what the runs left.
func (r *restoring) Read(_ context.Context, env resources.ReadEnv) (resources.State, error) {
	st := &restoration{}
	for _, w := range r.group.Paths {
		now, err := env.Files.Lookup(w.Path)
		if err != nil {
			return nil, err
		}
		edit, refused, err := r.edit(w, now)
		if err != nil {
			return nil, err
		}
		switch {
		case refused != "":
			st.refused = append(st.refused, refused)
		case edit != nil:
			st.edits = append(st.edits, *edit)
		}
	}
	slices.SortStableFunc(st.edits, byPath)
	if err := r.mustBeEmpty(env.Files, st); err != nil {
		return nil, err
	}
	if r.whole == "" {
		return st, nil
	}
	var err error
	st.unjudged, err = r.judge.Unjudged(env, r.whole)
	return st, err
}

// edit is what brings one path back, or why it cannot be brought back; neither where it is as it was.
func (r *restoring) edit(w *Was, now *host.File) (*host.Edit, string, error) {
	is := describe(now, r.store.digest)
	if is.is(w.Before) {
		return nil, "", nil
	}
	if !slices.ContainsFunc(w.Left, is.is) {
		return nil, fmt.Sprintf("%s is not what run %d left there: it was moved or changed by hand since", w.Path, w.By), nil
	}
	e := &host.Edit{Path: w.Path, Before: now, Private: w.Private}
	if w.Before == nil {
		return e, "", nil
	}
	var content []byte
	if w.Before.Type == host.Regular.String() {
		if now != nil && now.Type == host.Regular && is.Digest == w.Before.Digest {
			content = now.Content
		} else if kept, err := r.store.content(w.Before.Digest); err != nil {
			return nil, "", err
		} else if content = kept; kept == nil {
			return nil, fmt.Sprintf("what %s held was not kept: %s", w.Path, r.gone(w)), nil
		}
	}
	e.After = w.Before.file(content)
	return e, "", nil
}

func (r *restoring) gone(w *Was) string {
	if w.Gone != "" {
		return w.Gone
	}
	if w.Private {
		return "a secret in it was replaced since"
	}
	return "it is not in " + r.store.keptDir() + " any more"
}

// byPath puts what is made before what is removed, a directory before what stands in it, and removes it after that.
func byPath(a, b host.Edit) int {
	switch {
	case (a.After == nil) != (b.After == nil):
		if a.After != nil {
			return -1
		}
		return 1
	case a.After == nil:
		return strings.Compare(b.Path, a.Path)
	}
	return strings.Compare(a.Path, b.Path)
}

// mustBeEmpty refuses to remove a directory that holds what nobody is going to remove.
func (r *restoring) mustBeEmpty(files host.View, st *restoration) error {
	removed := map[string]bool{}
	for _, e := range st.edits {
		removed[e.Path] = e.After == nil
	}
	var kept []host.Edit
	for _, e := range st.edits {
		if e.After == nil && e.Before.Type == host.Directory {
			names, err := files.List(e.Path)
			if err != nil {
				return err
			}
			names = slices.DeleteFunc(names, func(name string) bool { return removed[path.Join(e.Path, name)] })
			if len(names) > 0 {
				st.refused = append(st.refused, fmt.Sprintf("the directory %s holds what no run has made: %q", e.Path, names[0]))
				continue
			}
		}
		kept = append(kept, e)
	}
	st.edits = kept
	return nil
}

// Diff makes the edits, all or none of a resource.
func (r *restoring) Diff(found resources.State) resources.Change {
	st := found.(*restoration)
	if len(st.refused) > 0 {
		return resources.Change{Action: resources.Blocked, Summary: strings.Join(st.refused, "; "),
			Notes: []string{"Bring it back by hand, or leave it as it is with --partial."}}
	}
	c := resources.Change{Edits: st.edits, Summary: r.summary(st), Digest: r.digest()}
	switch {
	case len(st.edits) == 0 && !st.unjudged:
		return resources.Change{Digest: c.Digest}
	case len(st.edits) == 0:
		c.Action, c.Summary = resources.Update, "test what a run left that was killed"
		return c
	}
	c.Action = resources.EditAction(st.edits[0])
	for _, e := range st.edits {
		if resources.EditAction(e) != c.Action {
			c.Action = resources.Update
		}
		if a := r.attr(e); a != nil {
			c.Attrs = append(c.Attrs, *a)
		}
	}
	return c
}

// attr tells that a content changes which is not shown. A secret that goes with it is marked as such, so that it is not kept.
func (r *restoring) attr(e host.Edit) *resources.AttrDiff {
	if e.Shown() || e.Before == nil || e.After == nil || bytes.Equal(e.Before.Content, e.After.Content) {
		return nil
	}
	i := slices.IndexFunc(r.group.Paths, func(w *Was) bool { return w.Path == e.Path })
	w := r.group.Paths[i]
	a := &resources.AttrDiff{Name: "content", Before: fmt.Sprintf("as run %d left it", w.By), After: fmt.Sprintf("as before run %d", r.undo.Run)}
	if w.Secret {
		a.Before = secret.Redacted
	}
	return a
}

func (r *restoring) summary(st *restoration) string {
	text := fmt.Sprintf("as before run %d", r.undo.Run)
	if len(st.edits) > 0 && !slices.ContainsFunc(st.edits, func(e host.Edit) bool { return e.After != nil }) {
		text = fmt.Sprintf("removed again: it was not there before run %d", r.undo.Run)
	}
	if others := r.group.Addresses[1:]; len(others) > 0 {
		text += ", with " + strings.Join(others, ", ")
	}
	return text
}

// digest stands for what is brought back, and is that of no kind: a unit has never read it.
func (r *restoring) digest() string {
	text, err := json.Marshal([]any{"rollback", r.undo.Run, r.group})
	if err != nil { // strings and numbers only
		panic(err)
	}
	sum := sha256.Sum256(text)
	return hex.EncodeToString(sum[:])
}

// Apply makes the edits, and has them judged where somebody does.
func (r *restoring) Apply(ctx context.Context, env resources.Env, c resources.Change) error {
	if r.whole == "" {
		return resources.CommitAll(ctx, env, c)
	}
	return r.judge.Make(ctx, env, r.whole, c.Edits)
}
