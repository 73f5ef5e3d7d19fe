package nginxlocation

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"maps"
	"path"
	"slices"
	"strings"

	"github.com/converge-agent/converge/host"
	"github.com/converge-agent/converge/nginx"
	"github.com/converge-agent/converge/resources"
)

// Diff compares the site's lines and the file that they include with what they are to be, and what nginx has loaded with both.
func (l *location) Diff(found resources.State) resources.Change {
	st := found.(*state)
	if l.Ensure == resources.Absent {
		return l.absent(st)
	}
	servers := l.servers(st)
	if blocked := l.blocked(st, servers); blocked != nil {
		return *blocked
	}
	text, err := nginx.Include(st.bare, servers, l.include())
	if err != nil {
		return resources.Change{Action: resources.Blocked, Summary: err.Error(), Notes: []string{"Correct conf_dir."}}
	}
	c := resources.Change{
		Edits: l.edits(st, text), Summary: fmt.Sprintf("%s leads to %s", l.Match, l.Redirect),
		Digest: l.digest(len(servers)), Notes: l.notes(st),
	}
	if len(c.Edits) == 0 && len(st.owed) == 0 && !st.unjudged {
		c.Remember = l.remember(st)
		return c
	}
	c.Action = resources.Update
	switch {
	case len(c.Edits) == 0:
		c.Summary = "reload " + l.Unit + ": " + reason(st, len(c.Edits))
	case st.include == nil && bytes.Equal(st.bare, st.site.Content()):
		c.Action, c.Summary = resources.Create, c.Summary+"; "+places(len(servers))
	}
	c.Effects = []resources.Effect{{Verb: "reload", Target: l.unit, Why: reason(st, len(c.Edits))}}
	return c
}

// places words into how many server blocks a line goes.
func places(n int) string {
	if n == 1 {
		return "a line in 1 server block"
	}
	return fmt.Sprintf("a line in %d server blocks", n)
}

// servers are the server blocks that are meant.
func (l *location) servers(st *state) []nginx.Server {
	if l.ServerName == "" {
		return st.servers
	}
	return slices.DeleteFunc(slices.Clone(st.servers), func(s nginx.Server) bool { return !s.Serves(l.ServerName) })
}

// blocked is the change where the site is not one that a line could be added to.
func (l *location) blocked(st *state, servers []nginx.Server) *resources.Change {
	c := &resources.Change{Action: resources.Blocked}
	switch {
	case len(st.servers) == 0:
		c.Summary = st.site.Path + " has no server block"
		c.Notes = []string{"Write the path of the file with the server blocks in site; nginx -T names the files of every site."}
	case len(servers) == 0:
		c.Summary = fmt.Sprintf("no server block in %s has the name %s", st.site.Path, l.ServerName)
		c.Notes = []string{fmt.Sprintf("Its names are: %s. Correct server_name, or leave it out to mean every server block.", names(st.servers))}
	case !st.live:
		c.Summary = fmt.Sprintf("nginx does not read %s, so that nothing in it takes effect", st.site.Path)
		c.Notes = []string{fmt.Sprintf("Enable the site, or correct the path: ln -s %s %s/", st.site.Path, path.Join(l.ConfDir, "sites-enabled"))}
	default:
		return nil
	}
	return c
}

// names lists those of all the server blocks.
func names(servers []nginx.Server) string {
	all := map[string]bool{}
	for _, s := range servers {
		for _, n := range s.Names {
			all[n] = true
		}
	}
	if len(all) == 0 {
		return "none"
	}
	return strings.Join(slices.Sorted(maps.Keys(all)), ", ")
}

// edits are those of the file before those of the lines that include it: in between, nginx can be started too.
func (l *location) edits(st *state, text []byte) []host.Edit {
	edits := slices.Clone(st.dirs)
	for _, e := range []host.Edit{
		{Path: l.include(), Before: st.include, After: &host.File{Content: l.text, Mode: 0o644, UID: st.uid, GID: st.gid}},
		siteEdit(st, text),
	} {
		if !e.Empty() {
			edits = append(edits, e)
		}
	}
	return edits
}

// siteEdit gives the site another text, and leaves its owner and mode.
func siteEdit(st *state, text []byte) host.Edit {
	after := *st.site.File
	after.Content = text
	return host.Edit{Path: st.site.Path, Before: st.site.File, After: &after}
}

// reason is why nginx is to be reloaded.
func reason(st *state, edits int) string {
	switch {
	case st.unjudged:
		return "a run ended before nginx had judged it"
	case edits > 0:
		return "the site changes"
	}
	return "it has not read the site as it stands"
}

// remember is what nginx has loaded, where it runs.
func (l *location) remember(st *state) map[string]any {
	if !st.unit.Up() {
		return nil
	}
	return map[string]any{record: st.loaded}
}

func (l *location) notes(st *state) []string {
	if st.unit.Up() {
		return nil
	}
	return []string{fmt.Sprintf("%s does not run: the site is written and tested, and there is nothing to reload.", l.unit)}
}

// absent takes the lines out, and then the file that they include.
func (l *location) absent(st *state) resources.Change {
	c := resources.Change{Summary: l.Match + " as the site has it", Digest: l.digest(0)}
	if st.site.File != nil {
		if e := siteEdit(st, st.bare); !e.Empty() {
			c.Edits = append(c.Edits, e)
		}
	}
	if st.include != nil {
		c.Edits = append(c.Edits, host.Edit{Path: l.include(), Before: st.include})
	}
	if len(c.Edits) == 0 && len(st.owed) == 0 && !st.unjudged {
		c.Remember = l.remember(st)
		return c
	}
	c.Action = resources.Delete
	c.Effects = []resources.Effect{{Verb: "reload", Target: l.unit, Why: "the location goes", Destructive: true}}
	return c
}

// digest stands for the location in a number of server blocks: what else the site says is not its business.
func (l *location) digest(servers int) string {
	sum := sha256.Sum256(fmt.Appendf(nil, "%d\n%s", servers, l.text))
	return hex.EncodeToString(sum[:])
}
