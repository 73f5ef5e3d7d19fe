package nginxsite

import (
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"path"
	"slices"
	"strings"

	"github.com/converge-agent/converge/host"
	"github.com/converge-agent/converge/resources"
)

// Diff compares the files with what they are to be, and what nginx has loaded with the files.
func (s *site) Diff(found resources.State) resources.Change {
	st := found.(*state)
	if s.Ensure == resources.Absent {
		return s.absent(st)
	}
	text, err := s.text(st)
	switch {
	case err != nil:
		return resources.Change{Action: resources.Blocked, Summary: err.Error(), Notes: []string{"Correct the configuration."}}
	case s.blind:
		return s.unknown(st)
	case !st.included:
		return resources.Change{
			Action:  resources.Blocked,
			Summary: fmt.Sprintf("%s does not include sites-enabled, so that the site would never be read", s.main()),
			Notes:   []string{fmt.Sprintf("Add this line inside http { } of %s: include %s/*;", s.main(), path.Dir(s.link()))},
		}
	}
	c := resources.Change{Edits: s.edits(st, text), Notes: s.notes(st)}
	if len(c.Edits) == 0 && len(st.owed) == 0 && !s.reloadFor(st) && !st.unjudged {
		c.Summary = s.summary("site")
		c.Digest = digest(text)
		if st.unit.Up() {
			c.Remember = map[string]any{record: st.loaded}
		}
		return c
	}
	c.Action, c.Summary = resources.Update, s.summary("site")
	if st.file == nil {
		c.Action, c.Summary = resources.Create, s.summary("new site")
	}
	if len(c.Edits) == 0 {
		c.Summary = "reload " + s.Unit + ": " + s.reason(st)
	}
	c.Digest = digest(text)
	c.Effects = []resources.Effect{{Verb: "reload", Target: s.unit, Why: s.reason(st)}}
	c.Renewal = s.renewal(st)
	if len(st.owed) == 0 && st.unit.Up() && !st.renewing {
		c.Remember = map[string]any{record: st.loaded} // of the site as it stands
	}
	return c
}

// renewal has a site that stands read its renewed certificate, whatever else is to be done about it.
func (s *site) renewal(st *state) *resources.Change {
	if s.Certificate == nil || st.link == nil || !st.unit.Up() || !st.renewing && !slices.Contains(st.owed, s.Certificate.Chain) {
		return nil
	}
	const why = "the certificate is a new one"
	return &resources.Change{
		Action: resources.Update, Summary: "reload " + s.Unit + ": " + why,
		Effects: []resources.Effect{{Verb: "reload", Target: s.unit, Why: why}},
	}
}

// unknown is the change while nginx is still to be installed by another resource.
func (s *site) unknown(st *state) resources.Change {
	return resources.Change{
		Action: resources.Create, Summary: s.summary("new site"),
		Effects: []resources.Effect{
			{Verb: "write", Target: s.path(), Why: "the site is new"}, {Verb: "reload", Target: s.unit, Why: "the site is new"},
		},
		Notes: append(s.notes(st), "nginx is still to be installed; what the site's file will say depends on its version."),
	}
}

// text is the site's file; nil while there is no nginx to write it for.
func (s *site) text(st *state) ([]byte, error) {
	if st.build == nil {
		return nil, nil
	}
	w := s.wanted
	w.Build, w.IPv6 = *st.build, st.ipv6
	if w.Proxy != nil {
		proxy := *w.Proxy
		proxy.Resolvers, proxy.Address = st.resolvers, st.address
		w.Proxy = &proxy
	}
	return w.Render()
}

func (s *site) edits(st *state, text []byte) []host.Edit {
	var edits []host.Edit
	for _, e := range []host.Edit{
		{Path: s.path(), Before: st.file, After: &host.File{Content: text, Mode: 0o644, UID: st.uid, GID: st.gid}},
		{Path: s.link(), Before: st.link, After: &host.File{Type: host.Symlink, Target: s.path(), UID: st.uid, GID: st.gid}},
	} {
		if !e.Empty() {
			edits = append(edits, e)
		}
	}
	return edits
}

// reloadFor reports whether nginx must be told of a certificate that is going to be renewed in this run.
func (s *site) reloadFor(st *state) bool { return st.renewing && st.unit.Up() }

func (s *site) reason(st *state) string {
	switch {
	case st.unjudged:
		return "a run ended before nginx had judged it"
	case s.Certificate != nil && (st.renewing || len(st.owed) == 1 && st.owed[0] == s.Certificate.Chain):
		return "the certificate is a new one"
	case len(st.owed) > 0 && st.file != nil:
		return "it has not read the site as it stands"
	}
	return "the site changes"
}

// summary is what the site comes to, in one line.
func (s *site) summary(what string) string {
	switch {
	case s.Redirect != "":
		return what + ", redirects to " + s.Redirect
	case s.Proxy == nil:
		return what + ", directives of its own"
	case s.Proxy.LocalFallback != "":
		return fmt.Sprintf("%s, bucket first, then local; cache %s", what, bytes(s.Proxy.CacheSize))
	}
	return fmt.Sprintf("%s, from the bucket; cache %s", what, bytes(s.Proxy.CacheSize))
}

// bytes words a size in powers of 1000.
func bytes(n resources.Bytes) string {
	for _, u := range []struct {
		size resources.Bytes
		name string
	}{{1e12, "TB"}, {1e9, "GB"}, {1e6, "MB"}} {
		if n >= u.size {
			return fmt.Sprintf("%.3g %s", float64(n)/float64(u.size), u.name)
		}
	}
	return fmt.Sprintf("%d bytes", n)
}

func (s *site) notes(st *state) []string {
	var notes []string
	if len(st.others) > 0 {
		notes = append(notes, fmt.Sprintf("%s serves %s too: of two sites of one name on one port nginx takes the one that it "+
			"reads first, and only warns. Remove the other.", strings.Join(st.others, ", "), s.ServerName))
	}
	if st.closed != "" {
		notes = append(notes, fmt.Sprintf("The user of nginx may not enter %s, so that it finds nothing in local_fallback unless it "+
			"is in the directory's group. To let it in: chmod o+x %s", st.closed, st.closed))
	}
	if !s.blind && !st.unit.Up() {
		notes = append(notes, fmt.Sprintf("%s does not run: the site is written and tested, and there is nothing to reload.", s.unit))
	}
	if st.noChain {
		notes = append(notes, fmt.Sprintf("The certificate %s does not exist yet.", s.Certificate.Chain))
	}
	return notes
}

// absent takes the site away, the link first.
func (s *site) absent(st *state) resources.Change {
	c := resources.Change{Summary: "no site", Digest: digest(nil)}
	for _, e := range []host.Edit{{Path: s.link(), Before: st.link}, {Path: s.path(), Before: st.file}} {
		if !e.Empty() {
			c.Edits = append(c.Edits, e)
		}
	}
	if len(c.Edits) == 0 && len(st.owed) == 0 && !st.unjudged {
		if st.unit.Up() {
			c.Remember = map[string]any{record: st.loaded}
		}
		return c
	}
	c.Action = resources.Delete
	c.Effects = []resources.Effect{{Verb: "reload", Target: s.unit, Why: "the site goes", Destructive: true}}
	return c
}

func digest(text []byte) string {
	sum := sha256.Sum256(text)
	return hex.EncodeToString(sum[:])
}
