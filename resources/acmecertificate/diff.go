package acmecertificate

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"maps"
	"path"
	"slices"
	"strconv"
	"strings"

	"github.com/converge-agent/converge/host"
	"github.com/converge-agent/converge/resources"
)

// task is what Apply is to do beside removing leftovers.
type task int

const (
	commit task = iota + 1 // the edits as they stand
	issue
)

// Diff compares the current version with the certificate that is wanted.
func (c *certificate) Diff(found resources.State) resources.Change {
	st := found.(*state)
	if c.Ensure == resources.Absent {
		return c.absent(st)
	}
	ch := c.difference(st)
	ch.Metrics = c.metrics(st)
	return ch
}

// metrics tell until when the certificate in use is good.
func (c *certificate) metrics(st *state) []resources.Metric {
	if st.current == nil || st.current.pair.Leaf == nil {
		return nil
	}
	return []resources.Metric{{
		Name: "converge_certificate_not_after_seconds", Help: "When the certificate in use ends, in seconds since 1970.",
		Labels: map[string]string{"name": c.Domains[0]}, Value: float64(st.current.pair.Leaf.NotAfter.Unix()),
	}}
}

func (c *certificate) difference(st *state) resources.Change {
	why := c.wrong(st.current, st.now)
	switch best := c.best(st); {
	case why == "":
		return c.settled(st)
	case best != nil:
		return c.renewing(st, c.switchTo(st, best))
	case st.failure != nil && st.now.Before(st.failure.Until):
		return c.backOff(st)
	}
	return c.renewing(st, c.issue(st, why))
}

// renewing says of a change that it is but a renewal, where only its age is wrong with the current version.
func (c *certificate) renewing(st *state, ch resources.Change) resources.Change {
	if c.unfit(st.current) == "" {
		whole := ch
		ch.Renewal = &whole
	}
	return ch
}

// best is the version that is as wanted and lasts longest; nil: none.
func (c *certificate) best(st *state) *version {
	var best *version
	for _, v := range st.versions {
		if c.wrong(v, st.now) == "" && (best == nil || v.pair.Leaf.NotAfter.After(best.pair.Leaf.NotAfter)) {
			best = v
		}
	}
	return best
}

// settled is the change of a certificate that is as it should be: none, or the repair of who may read its files, or the
// removal of leftovers.
func (c *certificate) settled(st *state) resources.Change {
	ch := resources.Change{
		Summary: fmt.Sprintf("%s, until %s", c.names(), st.current.pair.Leaf.NotAfter.UTC().Format("2 Jan 2006")),
		Digest:  digest(st.current),
		Edits:   c.repairs(st),
	}
	if len(ch.Edits) > 0 {
		ch.Action, ch.Private = resources.Update, commit
	}
	return c.withLeftovers(st, ch)
}

// repairs gives the files of the current version the owner and mode that they are to have.
func (c *certificate) repairs(st *state) []host.Edit {
	var edits []host.Edit
	for _, name := range []string{keyFile, chainFile, infoFile} {
		now := st.current.files[name]
		if now == nil { // sealed
			continue
		}
		after := *now
		after.Mode, after.UID, after.GID = 0o644, st.uid, st.gid
		if name == keyFile {
			after.Mode = 0o600
		}
		e := host.Edit{Path: path.Join(c.versionDir(st.current.number), name), Before: now, After: &after, Private: name == keyFile}
		if !e.Empty() {
			edits = append(edits, e)
		}
	}
	return edits
}

// withLeftovers adds the removal of a server for challenges that a killed run left behind.
func (c *certificate) withLeftovers(st *state, ch resources.Change) resources.Change {
	if len(st.snippets) == 0 {
		return ch
	}
	ch.Edits = append(slices.Clone(st.snippets), ch.Edits...)
	if !ch.Action.Changes() {
		ch.Action, ch.Private = resources.Update, commit
	}
	if st.nginxUp {
		ch.Effects = append(ch.Effects, resources.Effect{Verb: "reload", Target: c.unit, Why: "a challenge that was interrupted is taken away"})
	}
	return ch
}

// switchTo makes a version that was issued the current one: a run that was killed between the two.
func (c *certificate) switchTo(st *state, v *version) resources.Change {
	return c.withLeftovers(st, resources.Change{
		Action:  resources.Update,
		Summary: fmt.Sprintf("%s: take the certificate that was issued already", c.names()),
		Edits:   []host.Edit{c.linkEdit(st, v.number)},
		Digest:  digest(v),
		Private: commit,
	})
}

func (c *certificate) linkEdit(st *state, n int) host.Edit {
	return host.Edit{Path: c.live(), Before: st.link,
		After: &host.File{Type: host.Symlink, Target: strconv.Itoa(n), UID: st.uid, GID: st.gid}}
}

// issue is the change that obtains a new certificate.
func (c *certificate) issue(st *state, why string) resources.Change {
	ch := resources.Change{Action: resources.Create, Summary: c.names() + " by HTTP-01", Private: issue}
	if st.current != nil {
		ch.Action, ch.Summary = resources.Update, fmt.Sprintf("renew %s by HTTP-01: %s", c.names(), why)
	}
	ch.Effects = []resources.Effect{{Verb: "issue", Target: c.names(), Why: why}}
	ch.Edits = c.issueEdits(st)
	if f := st.failure; f != nil {
		ch.Notes = append(ch.Notes, fmt.Sprintf("the last try, %s, failed: %s", f.At.UTC().Format("2 Jan 15:04 MST"), f.Why))
	}
	return c.withLeftovers(st, ch)
}

// issueEdits writes a new version beside the others, turns the link over to it, and removes those that are neither the new
// nor the old one. The bytes of certificate and key are the authority's and ours to make.
func (c *certificate) issueEdits(st *state) []host.Edit {
	n := 1
	for _, v := range st.versions {
		n = max(n, v.number+1)
	}
	dir := c.versionDir(n)
	own := func(f host.File) *host.File {
		f.UID, f.GID = st.uid, st.gid
		return &f
	}
	info, err := json.Marshal(issued{Directory: c.Directory, Profile: c.Profile})
	if err != nil { // two strings
		panic(err)
	}
	edits := append(slices.Clone(st.dirs),
		host.Edit{Path: dir, After: own(host.File{Type: host.Directory, Mode: 0o755})},
		host.Edit{Path: path.Join(dir, keyFile), After: own(host.File{Mode: 0o600}), Opaque: true, Private: true},
		host.Edit{Path: path.Join(dir, chainFile), After: own(host.File{Mode: 0o644}), Opaque: true},
		host.Edit{Path: path.Join(dir, infoFile), After: own(host.File{Content: append(info, '\n'), Mode: 0o644})},
		c.linkEdit(st, n),
	)
	for _, v := range st.versions {
		if v != st.current {
			edits = append(edits, c.removal(v)...)
		}
	}
	return edits
}

// removal removes a version, and its directory if it holds nothing else. Its chain and where it comes from are public; its
// key, and what may become one, are not.
func (c *certificate) removal(v *version) []host.Edit {
	dir := c.versionDir(v.number)
	var edits []host.Edit
	for _, name := range slices.Backward(slices.Sorted(maps.Keys(v.files))) {
		public := name == chainFile || name == infoFile
		edits = append(edits, host.Edit{Path: path.Join(dir, name), Before: v.files[name], Private: !public})
	}
	if len(v.names) == len(v.files) {
		edits = append(edits, host.Edit{Path: dir, Before: v.dir})
	}
	return edits
}

// backOff is the change while the authority is not to be asked again. A certificate that still serves holds nobody back.
func (c *certificate) backOff(st *state) resources.Change {
	f := st.failure
	why := fmt.Sprintf("the last try, %s, failed: %s", f.At.UTC().Format("2 Jan 15:04 MST"), f.Why)
	if c.serves(st.current, st.now) {
		ch := c.settled(st)
		ch.Wait = &resources.Waiting{For: "the next try for " + c.names(), Until: f.Until}
		ch.Notes = append(ch.Notes, fmt.Sprintf("The renewal waits until %s: %s. To try at once, remove %s.",
			f.Until.UTC().Format("2 Jan 15:04 MST"), why, f.path))
		return ch
	}
	return resources.Change{
		Action: resources.Wait, Summary: "the authority is not to be asked again at once; " + why,
		Wait:  &resources.Waiting{For: "the next try for " + c.names(), Until: f.Until},
		Notes: []string{"Mend the cause meanwhile. To try at once, remove " + f.path + "."},
	}
}

// absent removes the link and every version. The certificate is not revoked.
func (c *certificate) absent(st *state) resources.Change {
	ch := resources.Change{Summary: "no certificate"}
	if link := (host.Edit{Path: c.live(), Before: st.link}); !link.Empty() {
		ch.Edits = append(ch.Edits, link)
	}
	for _, v := range st.versions {
		ch.Edits = append(ch.Edits, c.removal(v)...)
	}
	if len(ch.Edits) > 0 {
		ch.Action, ch.Private = resources.Delete, commit
		ch.Effects = []resources.Effect{{Verb: "remove", Target: c.Dir, Why: "ensure is absent", Destructive: true}}
	}
	return c.withLeftovers(st, ch)
}

func (c *certificate) names() string { return strings.Join(c.Domains, ", ") }

func digest(v *version) string {
	sum := sha256.Sum256(v.files[chainFile].Content)
	return hex.EncodeToString(sum[:])
}
