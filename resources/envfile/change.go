package envfile

import (
	"context"
	"fmt"
	"path"
	"regexp"
	"slices"
	"strings"

	"github.com/converge-agent/converge/diag"
	"github.com/converge-agent/converge/dotenv"
	"github.com/converge-agent/converge/host"
	"github.com/converge-agent/converge/mastodon"
	"github.com/converge-agent/converge/resources"
	"github.com/converge-agent/converge/secret"
)

// newMode is the mode of a file that is made: it is going to hold secrets.
const newMode = 0o600

// maxSize bounds the files that are read, in bytes. Mastodon 4.6's .env.production.sample has 7 kB; a file of more than a
// hundred times that is something else.
const maxSize = 1 << 20

// state is the file before and after. The edit is made while reading, because it can fail.
type state struct {
	edit  host.Edit
	attrs []resources.AttrDiff
	notes []string
	// secrets are the variables that are or ever were secret here, sorted: what stands in the file for them is not shown.
	secrets []string
}

// Read finds the file and what is to become of it.
func (r *envFile) Read(_ context.Context, env resources.ReadEnv) (resources.State, error) {
	before, err := env.Files.Lookup(r.Path)
	if err != nil {
		return nil, err
	}
	if err := r.editable(before); err != nil {
		return nil, err
	}
	s := &state{}
	if s.secrets, err = r.everSecret(env.Records); err != nil {
		return nil, err
	}
	after := &host.File{}
	if err := r.Fill(after, before, env.Users, newMode); err != nil {
		return nil, diag.Wrap(err, "find the owner of "+r.Path, "")
	}
	if err := r.close(after); err != nil {
		return nil, err
	}
	file := dotenv.Parse(nil)
	if before != nil {
		file = dotenv.Parse(before.Content)
	}
	if s.attrs, err = r.rewrite(file, s.secrets); err != nil {
		return nil, diag.Wrap(err, "edit "+r.Path, "")
	}
	after.Content = file.Bytes()
	if before == nil && len(after.Content) == 0 {
		after = nil // there is nothing to remove, and nothing to make a file for
	}
	s.edit = host.Edit{Path: r.Path, Before: before, After: after, Private: true}
	s.attrs = append(s.attrs, r.Diffs(before, after)...)
	s.notes = append(r.shadows(env.Files), r.exposure(before, after)...)
	return s, nil
}

// editable refuses what is no file of variables. A link is not replaced by a file behind the admin's back.
func (r *envFile) editable(f *host.File) error {
	doing := "edit " + r.Path
	switch {
	case f == nil:
		return nil
	case f.Type == host.Symlink:
		return diag.New(doing, "it is a symlink to "+f.Target, "Write the path of the file that it leads to.")
	case f.Type != host.Regular:
		return diag.New(doing, "it is a "+f.Type.String(), "Correct the path.")
	case len(f.Content) > maxSize:
		return diag.New(doing, "it is larger than a file of variables can be", "Correct the path.")
	}
	return nil
}

// secretsRecord is the record of the variables that ever were secret.
const secretsRecord = "secrets"

// everSecret returns the variables that are secret in the configuration, or were when it last converged.
func (r *envFile) everSecret(records resources.RecordView) ([]string, error) {
	var names []string
	if _, err := records.Record(secretsRecord, &names); err != nil {
		return nil, diag.Wrap(err, "read which variables of "+r.Path+" are secret", "")
	}
	names = append(names, r.secrets...)
	slices.Sort(names)
	return slices.Compact(names), nil
}

// close takes everybody else's access to a file that is to hold secrets away. It does not where that would lock out the app,
// whose user is not known then.
func (r *envFile) close(f *host.File) error {
	if len(r.secrets) == 0 || r.Ensure == resources.Absent || f.Mode&0o007 == 0 {
		return nil
	}
	if f.UID == 0 {
		return diag.New("write secrets into "+r.Path, "the file belongs to root, and everybody on this host can read it",
			"Write owner, group and mode, such as mode = \"0640\", so that the app can read it and others cannot.")
	}
	f.Mode &^= 0o007
	return nil
}

// rewrite makes the edits in file, and returns what they come to.
func (r *envFile) rewrite(file *dotenv.File, secrets []string) ([]resources.AttrDiff, error) {
	var diffs []resources.AttrDiff
	for _, key := range r.keys() {
		old, there := file.Get(key)
		doubt := file.Doubt(key)
		before := string(file.Bytes())
		if err := file.Set(key, r.set[key].text.Reveal()); err != nil {
			return nil, err
		}
		if string(file.Bytes()) == before {
			continue
		}
		d := resources.AttrDiff{Name: key, After: r.set[key].shown(), Added: !there}
		if there {
			d.Before = oldValue(key, old, slices.Contains(secrets, key)) + remark(doubt, old == r.set[key].text.Reveal())
		}
		diffs = append(diffs, d)
	}
	for _, key := range r.Unset {
		old, there := file.Get(key)
		before := string(file.Bytes())
		if err := file.Unset(key); err != nil {
			return nil, err
		}
		if string(file.Bytes()) == before {
			continue
		}
		d := resources.AttrDiff{Name: key, Removed: true}
		if there {
			d.Before = oldValue(key, old, slices.Contains(secrets, key))
		}
		diffs = append(diffs, d)
	}
	return diffs, nil
}

// secretName is what the variables that hold secrets have in their names: SECRET_KEY_BASE, DB_PASS, SMTP_PASSWORD,
// VAPID_PRIVATE_KEY, ACTIVE_RECORD_ENCRYPTION_KEY_DERIVATION_SALT, and those of other programs that are named alike.
var secretName = regexp.MustCompile(`(?i)SECRET|PASS|KEY|TOKEN|SALT|ENCRYPTION|CREDENTIAL|AUTH|DSN`)

// userInfo is the password in the address of a database.
var userInfo = regexp.MustCompile(`://[^/]*@`)

// oldValue is a value that stands in the file, as a plan may print it: no secret's, and none that looks like one, for
// nothing marks the values in a file.
func oldValue(key, old string, hidden bool) string {
	if hidden || old != "" && (secretName.MatchString(key) || userInfo.MatchString(old)) {
		return secret.Redacted
	}
	return old
}

// remark says what is wrong with the old line where its value does not tell.
func remark(doubt string, same bool) string {
	switch {
	case doubt != "":
		return " (" + doubt + ")"
	case same:
		return " (written more than once)"
	}
	return ""
}

// shadows says which files beside this one set a managed variable too, and win.
func (r *envFile) shadows(files host.View) []string {
	var notes []string
	for _, name := range mastodon.Shadowing(path.Base(r.Path)) {
		beside := path.Join(path.Dir(r.Path), name)
		f, err := files.Lookup(beside)
		if err != nil {
			notes = append(notes, fmt.Sprintf("%s could not be read; what it sets wins over this file", beside))
			continue
		}
		if f == nil || f.Type != host.Regular || len(f.Content) > maxSize {
			continue
		}
		var keys []string
		other := dotenv.Parse(f.Content)
		for _, key := range append(r.keys(), r.Unset...) {
			if _, ok := other.Get(key); ok {
				keys = append(keys, key)
			}
		}
		if len(keys) > 0 {
			notes = append(notes, fmt.Sprintf("%s sets %s too, and wins over this file", beside, strings.Join(keys, ", ")))
		}
	}
	return notes
}

// exposure says who can read a file with secrets who should not, and who cannot who should.
func (r *envFile) exposure(before, after *host.File) []string {
	if after == nil {
		return nil
	}
	if before == nil && r.Owner == "" {
		return []string{"the file is new and will belong to the user that converge runs as; write owner if another is to read it"}
	}
	return nil
}

// Diff words the change.
func (r *envFile) Diff(st resources.State) resources.Change {
	s := st.(*state)
	c := resources.Change{Action: resources.EditAction(s.edit), Notes: s.notes, Digest: r.digest()}
	if len(s.secrets) > 0 {
		c.Remember = map[string]any{secretsRecord: s.secrets}
	}
	if c.Action == resources.None {
		return c
	}
	c.Edits, c.Attrs = []host.Edit{s.edit}, s.attrs
	c.Summary = summary(c.Action, s.attrs)
	return c
}

// summary names what is set, removed and otherwise changed: "set S3_BUCKET, S3_ENABLED; remove AWS_REGION".
func summary(a resources.Action, attrs []resources.AttrDiff) string {
	var set, removed []string
	for _, d := range attrs {
		if d.Removed {
			removed = append(removed, d.Name)
		} else {
			set = append(set, d.Name)
		}
	}
	var parts []string
	if a == resources.Create {
		parts = append(parts, "new file")
	}
	if len(set) > 0 {
		parts = append(parts, "set "+names(set))
	}
	if len(removed) > 0 {
		parts = append(parts, "remove "+names(removed))
	}
	return strings.Join(parts, "; ")
}

// names lists variables, the first few by name: the others stand below the line.
func names(list []string) string {
	const shown = 3
	if len(list) <= shown+1 {
		return strings.Join(list, ", ")
	}
	return fmt.Sprintf("%s and %d more", strings.Join(list[:shown], ", "), len(list)-shown)
}

// Apply writes the file.
func (r *envFile) Apply(ctx context.Context, env resources.Env, c resources.Change) error {
	return resources.CommitAll(ctx, env, c)
}
