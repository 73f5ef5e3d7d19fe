// Package envfile is the kind env_file: variables in a .env file, each written so that every reader of such files reads it
// alike. Other lines, their order and the comments stay as they are, and several resources may edit one file.
package envfile

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"strconv"

	"github.com/converge-agent/converge/dotenv"
	"github.com/converge-agent/converge/resources"
	"github.com/converge-agent/converge/secret"
	"github.com/zclconf/go-cty/cty"
)

// Kind returns the kind env_file.
func Kind() *resources.Kind {
	return &resources.Kind{
		Name: "env_file",
		Doc: "Sets and removes variables in a .env file such as Mastodon's .env.production. It touches only the lines of the " +
			"variables that it is told: comments, order and everything else stay, and a variable that stands in the file more " +
			"than once is left in its last place. Values are written so that Ruby, Node, systemd and Docker Compose read " +
			"the same; a value for which there is no such way is refused. A plan shows the variables that are no secrets. " +
			"restart_on an env_file looks at the variables named here and at no others. With ensure = \"absent\" the variables " +
			"in set are removed, and the file stays.",
		Attrs:   append(attrs(), append(resources.OwnershipAttrs(), resources.EnsureAttr())...),
		Exports: []resources.Attr{resources.PathExport()},
		New:     newEnvFile,
	}
}

func attrs() []resources.Attr {
	return []resources.Attr{
		{Name: "path", Type: cty.String, Format: resources.Path, Required: true,
			Doc: "The file. It is made if it is missing, with mode 0600 if no other is written."},
		{Name: "set", Type: cty.Map(cty.String), Secret: true,
			Doc: "The variables and their values, each of which may be a secret. \"\" sets a variable to nothing, which is not " +
				"the same as not setting it; null leaves it as it is in the file."},
		{Name: "unset", Type: cty.List(cty.String),
			Doc: "The variables to remove."},
	}
}

// config is what somebody wrote, but for set: decoding that would lose which of its values are secret.
type config struct {
	resources.Ownership
	Path   string   `attr:"path"`
	Unset  []string `attr:"unset"`
	Ensure string   `attr:"ensure"`
}

// value is the value of one variable.
type value struct {
	text   secret.String
	hidden bool // it was given as a secret
}

// shown is the value as a plan may print it.
func (v value) shown() string {
	if v.hidden {
		return secret.Redacted
	}
	return v.text.Reveal()
}

type envFile struct {
	config
	set     map[string]value
	secrets []string // of the keys in set, sorted
}

func newEnvFile(_ resources.Address, written cty.Value) (resources.Resource, cty.Value, error) {
	r := &envFile{}
	if err := resources.Decode(written, &r.config); err != nil {
		return nil, cty.NilVal, err
	}
	var err error
	if r.set, err = values(written.GetAttr("set")); err != nil {
		return nil, cty.NilVal, err
	}
	for _, key := range r.keys() {
		if r.set[key].hidden {
			r.secrets = append(r.secrets, key)
		}
	}
	if open, _ := strconv.ParseUint(r.Mode, 8, 32); len(r.secrets) > 0 && open&0o007 != 0 {
		return nil, cty.NilVal, &resources.AttrError{Path: []string{"mode"},
			Err: fmt.Errorf("%s would open the secrets in the file to everybody on this host; write \"0640\" or \"0600\"", r.Mode)}
	}
	for _, key := range r.Unset {
		if err := dotenv.CheckName(key); err != nil {
			return nil, cty.NilVal, &resources.AttrError{Path: []string{"unset"}, Err: err}
		}
		if _, both := r.set[key]; both {
			return nil, cty.NilVal, &resources.AttrError{Path: []string{"unset"}, Err: fmt.Errorf("%s is in set too; take it out of one", key)}
		}
	}
	if r.Ensure == resources.Absent {
		r.Unset, r.set = append(r.Unset, r.keys()...), nil
	}
	slices.Sort(r.Unset)
	r.Unset = slices.Compact(r.Unset)
	return r, cty.ObjectVal(map[string]cty.Value{"path": cty.StringVal(r.Path)}), nil
}

// values reads the map set, with the marks of each value. Nulls are left out.
func values(set cty.Value) (map[string]value, error) {
	out := map[string]value{}
	if set.IsNull() {
		return out, nil
	}
	all, whole := set.Unmark() // a mark on the map is one on every value
	for key, v := range all.AsValueMap() {
		v = v.WithMarks(whole)
		if v.IsNull() {
			continue
		}
		fail := func(err error) error { return &resources.AttrError{Path: []string{"set", key}, Err: err} }
		if err := dotenv.CheckName(key); err != nil {
			return nil, fail(err)
		}
		if !v.IsKnown() {
			return nil, fail(fmt.Errorf("the value is not known yet"))
		}
		text := secret.FromValue(v)
		if _, err := dotenv.Quote(text.Reveal()); err != nil {
			return nil, fail(err)
		}
		out[key] = value{text: text, hidden: secret.In(v)}
	}
	return out, nil
}

// Claims shares the file: several resources may edit it, each its own variables.
func (r *envFile) Claims() []resources.Claim { return []resources.Claim{{Path: r.Path}} }

// Watches names the file. What counts of it is in the digest.
func (r *envFile) Watches() []string { return []string{r.Path} }

// keys are the variables in set, sorted.
func (r *envFile) keys() []string { return slices.Sorted(maps.Keys(r.set)) }

// digest stands for the managed variables only, so that an edit of others by hand restarts nothing.
func (r *envFile) digest() string {
	type variable struct {
		Key   string
		Value *string
	}
	var managed []variable
	for _, key := range r.keys() {
		text := r.set[key].text.Reveal()
		managed = append(managed, variable{key, &text})
	}
	for _, key := range r.Unset {
		managed = append(managed, variable{key, nil})
	}
	text, err := json.Marshal(managed)
	if err != nil { // strings only, all of them UTF-8: Quote refuses others
		panic(err)
	}
	sum := sha256.Sum256(text)
	return hex.EncodeToString(sum[:])
}
