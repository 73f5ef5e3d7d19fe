package plans

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"path/filepath"
	"time"

	"github.com/converge-agent/converge/diag"
	"github.com/converge-agent/converge/host"
	"github.com/converge-agent/converge/resources"
)

// disabledVersion is the version of the format of disabled.json.
const disabledVersion = 1

// Disabled says that applies hold everything but the renewal of certificates, and why.
type Disabled struct {
	Version int        `json:"version"`
	Why     string     `json:"why"`
	Since   time.Time  `json:"since"`
	Until   *time.Time `json:"until"` // nil: until Enable
}

// String words it for an admin: "disabled (mending the database) until 2026-11-21 15:00 UTC".
func (d *Disabled) String() string {
	until := "until converge enable"
	if d.Until != nil {
		until = "until " + clock(*d.Until)
	}
	return fmt.Sprintf("disabled (%s) %s", d.Why, until)
}

func clock(t time.Time) string { return t.UTC().Format("2006-01-02 15:04 MST") }

func disabledPath(dir string) string { return filepath.Join(dir, "disabled.json") }

// Disable has the applies with the state directory dir hold everything but renewals from now on: until that time, or, where
// it is zero, until Enable. It takes the place of an earlier one.
func Disable(files host.Files, users host.Users, dir, why string, now, until time.Time) error {
	d := Disabled{Version: disabledVersion, Why: why, Since: now.UTC()}
	if !until.IsZero() {
		until = until.UTC()
		d.Until = &until
	}
	text, err := json.Marshal(d)
	if err != nil {
		return diag.Wrap(err, "disable converge", "This is a fault of converge; please report it.")
	}
	r := &Records{dir: dir, files: files, users: users}
	if err := r.ensureDir(dir); err != nil {
		return diag.Wrap(err, "disable converge", "")
	}
	return diag.Wrap(r.put(disabledPath(dir), append(text, '\n')), "disable converge", "")
}

// Enable ends what Disable began, and returns that; nil when nothing was disabled at now.
func Enable(files host.Files, dir string, now time.Time) (*Disabled, error) {
	path := disabledPath(dir)
	f, err := files.Lookup(path)
	if err != nil || f == nil {
		return nil, diag.Wrap(err, "enable converge", "")
	}
	was, err := parseDisabled(path, f.Content) // one that cannot be read goes too
	if err == nil && was.over(now) {
		was = nil
	}
	return was, diag.Wrap(commitRemoval(files, path, f), "enable converge", "")
}

// DisabledAt returns what Disable has written in dir, if that still holds at now; else nil. Who may not look, for a plan
// without root's rights, finds nothing.
func DisabledAt(files host.View, dir string, now time.Time) (*Disabled, error) {
	path := disabledPath(dir)
	f, err := files.Lookup(path)
	if errors.Is(err, fs.ErrPermission) || err == nil && f == nil {
		return nil, nil
	}
	if err != nil {
		return nil, diag.Wrap(err, "look whether converge is disabled", "")
	}
	d, err := parseDisabled(path, f.Content)
	if err != nil || d.over(now) {
		return nil, err
	}
	return d, nil
}

func parseDisabled(path string, text []byte) (*Disabled, error) {
	const doing, fix = "look whether converge is disabled", "Run converge enable, or converge disable anew."
	d := &Disabled{}
	if err := json.Unmarshal(text, d); err != nil {
		return nil, diag.New(doing, path+" is damaged", fix)
	}
	if d.Version > disabledVersion {
		return nil, diag.New(doing, fmt.Sprintf("%s has format version %d, and this converge knows up to %d", path, d.Version, disabledVersion), fix)
	}
	return d, nil
}

// over reports whether its time has passed.
func (d *Disabled) over(now time.Time) bool { return d.Until != nil && !now.Before(*d.Until) }

// Disable has an apply of the plan hold everything but the renewal of certificates, and the reloads that follow from that.
func (p *Plan) Disable(d *Disabled) {
	for i, it := range p.Items {
		it.Left = &Left{Outcome: Held, Message: d.String(), renews: it.Change.Renewal != nil}
		for _, j := range p.graph.needs[i] {
			need := p.Items[j].Change.Renewal
			it.Left.renews = it.Left.renews || need != nil && onlyReloads(it.Change)
		}
	}
}

// onlyReloads reports whether all that a change does is to have services read their files again.
func onlyReloads(c resources.Change) bool {
	for _, e := range c.Effects {
		if e.Verb != "reload" {
			return false
		}
	}
	return len(c.Effects) > 0 && len(c.Edits) == 0
}

// renewal returns the part of a change that is made though the resource is left alone otherwise.
func (l *Left) renewal(c resources.Change) (resources.Change, bool) {
	switch {
	case !l.renews:
		return resources.Change{}, false
	case c.Renewal != nil:
		return *c.Renewal, true
	}
	return c, onlyReloads(c)
}
