package plans

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/converge-agent/converge/diag"
	"github.com/converge-agent/converge/host"
	"github.com/converge-agent/converge/resources"
)

// savedFormat and savedVersion tell the files of saved plans.
const (
	savedFormat  = "converge plan"
	savedVersion = 1
)

// Saved is a plan in a file: what it was made from and what it showed, by keyed digests. It holds no content and no secret.
type Saved struct {
	Format   string          `json:"format"`
	Version  int             `json:"version"`
	Converge string          `json:"converge"` // the version of converge that made it
	Made     time.Time       `json:"made"`
	Host     string          `json:"host"` // host.Identity; "" where the host has none
	Origin   Origin          `json:"origin"`
	Targets  []string        `json:"targets,omitempty"`
	Items    []SavedResource `json:"resources"`
	Key      string          `json:"key"`  // shows whether the key of the digests is that of the state directory
	Seal     string          `json:"seal"` // over all of the above
}

// Origin is where the plan's configuration and its values came from, so that they can be found again.
type Origin struct {
	Path      string         `json:"path"`                // absolute
	Variables []SavedSetting `json:"variables,omitempty"` // in their order
	// Withheld are the sensitive variables that were set by a text, which is not kept: it must be given again.
	Withheld []string `json:"withheld,omitempty"`
}

// SavedSetting is one text "name=value" or one file of variables: one of its fields is set.
type SavedSetting struct {
	Assignment string `json:"assignment,omitempty"`
	File       string `json:"file,omitempty"` // absolute
}

// SavedResource is what a saved plan holds of one resource.
type SavedResource struct {
	Address string        `json:"address"`
	Where   string        `json:"where"`
	Config  string        `json:"config"`            // keyed digest of its configuration and of what it needs
	Facts   string        `json:"facts,omitempty"`   // keyed digest of what was found, of facts
	Action  string        `json:"action"`            // what was to be done; "failed" where that could not be told
	Later   bool          `json:"later,omitempty"`   // it was to be planned again when due
	Summary string        `json:"summary,omitempty"` // as the plan worded it
	Change  string        `json:"change"`            // keyed digest of all that apply is bound to
	Files   []SavedFile   `json:"files,omitempty"`
	Effects []SavedEffect `json:"effects,omitempty"`
}

// SavedFile is what was to happen to one path.
type SavedFile struct {
	Path   string `json:"path"`
	Action string `json:"action"`
}

// SavedEffect is an effect as the plan showed it. Of what runs, its estimates are the ceiling for how much more may be due
// by the time it is applied.
type SavedEffect struct {
	Verb        string `json:"verb"`
	Target      string `json:"target,omitempty"`
	Why         string `json:"why,omitempty"` // left out of what runs: it may list files
	Destructive bool   `json:"destructive,omitempty"`
	Requests    int64  `json:"requests,omitempty"`
	Bytes       int64  `json:"bytes,omitempty"`
	Deletes     int64  `json:"deletes,omitempty"`
}

// Save writes the plan to the file at path, for its owner alone, by which Apply on this host can be bound to it later. With
// it the key of the records is saved, without which the digests mean nothing. It takes the place of an older saved plan,
// and of nothing else.
func (e *Engine) Save(ctx context.Context, p *Plan, path, converge string, origin Origin) error {
	doing := "save the plan to " + path
	before, err := e.Env.Files.Lookup(path)
	if err != nil {
		return diag.Wrap(err, doing, "")
	}
	if before != nil && (before.Type != host.Regular || len(before.Content) > 0 && !isSaved(before.Content)) {
		return diag.New(doing, "something other than a saved plan stands there", "Name another file with --out, or remove that one by hand.")
	}
	identity, err := host.Identity(e.Env.Files)
	if err != nil {
		return err
	}
	if err := e.Records.SaveKey(); err != nil {
		return diag.Wrap(err, doing+", with the key that it needs", "Run converge as root, or name a directory of your own with --state-dir.")
	}
	s := &Saved{
		Format: savedFormat, Version: savedVersion, Converge: converge, Made: e.Env.Clock.Now().UTC().Truncate(time.Second), Host: identity,
		Origin: origin, Targets: p.Targets, Key: e.Records.Keyed(savedFormat),
	}
	for _, it := range p.Items {
		s.Items = append(s.Items, e.saved(it))
	}
	s.Seal = e.seal(s)
	text, err := json.MarshalIndent(s, "", "  ")
	if err != nil {
		return diag.Wrap(err, doing, "This is a fault of converge; please report it.")
	}
	uid, gid := e.Env.Users.Self()
	after := &host.File{Content: append(text, '\n'), Mode: 0o600, UID: uid, GID: gid}
	return diag.Wrap(e.Env.Files.Commit(ctx, host.Edit{Path: path, Before: before, After: after, Private: true}), doing, "")
}

func isSaved(text []byte) bool {
	var head struct{ Format string }
	return json.Unmarshal(text, &head) == nil && head.Format == savedFormat
}

// saved is the item of a plan as it is kept in a file.
func (e *Engine) saved(it *Item) SavedResource {
	c := it.Change
	s := SavedResource{
		Address: it.Node.Address.String(), Where: it.Node.Where, Config: e.configKey(it.Node), Facts: e.Records.Keyed(it.Node.Facts),
		Action: c.Action.String(), Later: it.Later(), Summary: c.Summary, Change: e.changeKey(it),
	}
	if it.Err != nil {
		s.Action = "failed"
		return s
	}
	for _, edit := range c.Edits {
		s.Files = append(s.Files, SavedFile{Path: edit.Path, Action: resources.EditAction(edit).String()})
	}
	for _, f := range c.Effects {
		effect := SavedEffect{Verb: f.Verb, Target: f.Target, Why: f.Why, Destructive: f.Destructive,
			Requests: f.Requests, Bytes: f.Bytes, Deletes: f.Deletes}
		if c.Action == resources.Run {
			effect.Why = ""
		}
		s.Effects = append(s.Effects, effect)
	}
	return s
}

// configKey stands for what is written of a node, with what it needs and how it is bounded.
func (e *Engine) configKey(n *resources.Node) string {
	var needs []string
	for _, need := range n.Needs {
		needs = append(needs, need.String())
	}
	slices.Sort(needs)
	return e.key(struct {
		Config  string
		Needs   []string
		Timeout time.Duration
		Retry   resources.Retry
	}{n.Config, needs, n.Timeout, n.Retry})
}

// changeKey stands for all that a plan showed of what is to be done about an item. Times, processes and estimates are not
// in it.
func (e *Engine) changeKey(it *Item) string {
	if it.Err != nil {
		return e.key("failed")
	}
	return e.key(struct {
		Change string
		Attrs  []resources.AttrDiff
	}{fingerprint(it.Change), it.Change.Attrs})
}

func (e *Engine) key(v any) string {
	text, err := json.Marshal(v)
	if err != nil { // strings and numbers only
		panic(err)
	}
	return e.Records.Keyed(string(text))
}

// seal stands for all of s but itself.
func (e *Engine) seal(s *Saved) string {
	bare := *s
	bare.Seal = ""
	return e.key(bare)
}

// ReadSaved reads a saved plan. One of a newer format is refused.
func ReadSaved(files host.View, path string) (*Saved, error) {
	doing := "read the saved plan " + path
	f, err := files.Lookup(path)
	if err != nil {
		return nil, diag.Wrap(err, doing, "")
	}
	if f == nil {
		return nil, diag.New(doing, "there is no such file", "Make it: converge plan --out "+path)
	}
	if f.Type != host.Regular || !isSaved(f.Content) {
		return nil, diag.New(doing, "it is no saved plan", "Name a file that converge plan --out has written.")
	}
	var head struct{ Version int }
	if err := json.Unmarshal(f.Content, &head); err == nil && head.Version > savedVersion {
		return nil, diag.New(doing, fmt.Sprintf("it has format version %d, and this converge knows up to %d", head.Version, savedVersion),
			"Plan again with this converge, or apply it with the newer one that wrote it.")
	}
	s := &Saved{}
	d := json.NewDecoder(bytes.NewReader(f.Content))
	d.DisallowUnknownFields()
	if err := d.Decode(s); err != nil {
		return nil, diag.Wrap(errors.New("it is damaged"), doing, "Plan again.")
	}
	return s, nil
}

// Accept returns why s cannot be applied here: it was made on another host, with another key, or was changed since. Nothing
// that s says is to be believed before: not even the path of its configuration.
func (e *Engine) Accept(s *Saved) error {
	const doing, again = "apply the saved plan", "Plan again on this host, and look at it: converge plan --out FILE"
	identity, err := host.Identity(e.Env.Files)
	switch {
	case err != nil:
		return err
	case s.Host != identity:
		return diag.New(doing, "it was made on another host", again)
	case !e.Records.saved:
		return diag.New(doing, "the key that it was made with is lost, or cannot be read: "+e.Records.keyPath(),
			"Run converge as root, with the --state-dir that the plan was made with; or plan again: converge plan --out FILE")
	case s.Key != e.Records.Keyed(savedFormat):
		return diag.New(doing, "it was made with another key than that in "+e.Records.dir,
			"Give the --state-dir that the plan was made with, or plan again: converge plan --out FILE")
	case s.Seal != e.seal(s):
		return diag.New(doing, "its file was changed since it was made", again)
	}
	return nil
}
