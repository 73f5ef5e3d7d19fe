package s3bucket

import (
	"flag"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/converge-agent/converge/mastodon"
	"github.com/converge-agent/converge/objectstore"
	"github.com/converge-agent/converge/resources"
	"github.com/converge-agent/converge/resources/store"
	"github.com/converge-agent/converge/secret"
	"github.com/zclconf/go-cty/cty"
)

var update = flag.Bool("update", false, "write testdata/providers anew")

const goldenDir = "testdata/providers"

// TestEachProviderComesToItsGoldenFile: what an entry of the table comes to, as text. A new entry needs a golden file and nothing
// else; go test ./resources/s3bucket -run Golden -update writes it.
func TestEachProviderComesToItsGoldenFile(t *testing.T) {
	if *update {
		if err := os.RemoveAll(goldenDir); err != nil {
			t.Fatal(err)
		}
		if err := os.MkdirAll(goldenDir, 0o755); err != nil {
			t.Fatal(err)
		}
	}
	var want []string
	for _, name := range objectstore.Names() {
		want = append(want, name+".golden")
		t.Run(name, func(t *testing.T) {
			p, _ := objectstore.Lookup(name)
			got, file := (&entry{T: t, p: p}).text(), filepath.Join(goldenDir, name+".golden")
			if *update {
				if err := os.WriteFile(file, []byte(got), 0o600); err != nil {
					t.Fatal(err)
				}
			}
			text, err := os.ReadFile(file)
			if err != nil {
				t.Fatalf("the entry has no golden file: %v; write it with -update, and read it", err)
			}
			if string(text) != got {
				t.Errorf("%s is not what the entry comes to:\n%s", file, got)
			}
		})
	}
	files, err := os.ReadDir(goldenDir)
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range files {
		if !slices.Contains(want, f.Name()) {
			t.Errorf("%s is the golden file of no entry", f.Name())
		}
	}
}

// entry is an entry of the table on its way into text.
type entry struct {
	*testing.T
	p   *objectstore.Provider
	out strings.Builder
}

func (e *entry) line(name, format string, args ...any) {
	fmt.Fprintf(&e.out, "%-22s %s\n", name, fmt.Sprintf(format, args...))
}

func (e *entry) text() string {
	p := e.p
	s := e.store()
	e.line(p.Name, "%s; %s, facts of %s", p.Title, p.Evidence(), p.Date)
	e.line("endpoint", "%s", s.GetAttr("endpoint").AsString())
	e.line("signed for", "%s", p.SigningRegion(s.GetAttr("region").AsString()))
	public := e.bucket(s, publicObjects)
	e.line("objects at", "%s/KEY", public.exports().GetAttr("url").AsString())
	e.line("public by", "%s", p.Public)
	e.line("private prefixes", "%v", p.PrivatePrefixes)
	e.requests("an unchanged bucket", public)
	all := e.bucketWithAll(s)
	e.requests("with all settings", all)
	if n := total(e.T, all.Diff(&state{found: found{Missing: true}, Now: now})); n > 100 {
		e.Errorf("to create a bucket takes %d requests", n)
	}
	e.env(public, e.bucket(s, private))
	e.lint(public)
	e.list("rights of converge's key", p.AgentRights)
	e.list("rights of the app's key", p.AppRights)
	e.list("notes", p.Notes)
	e.list("unknown", p.Unknown)
	return e.out.String()
}

// requests are those of a Read, from what the bucket says of itself; that it keeps to it is counted at real stores elsewhere.
func (e *entry) requests(what string, b *bucket) {
	sent := objectstore.Sent{}
	for _, one := range b.settings() {
		sent.Add(e.p.Name, one.operation(), 1)
	}
	if len(b.settings()) == 0 {
		sent.Add(e.p.Name, "HeadBucket", 1)
	}
	if b.publicURL() != "" || b.asksListing(found{}) {
		sent.Add(e.p.Name, "AnonymousGET", 1)
	}
	if n := sent.Total(e.p.Name); n > 6 {
		e.Errorf("%s costs %d requests", what, n)
	}
	ops := slices.Sorted(maps.Keys(sent[e.p.Name]))
	e.line(what, "%s", strings.TrimSuffix(fmt.Sprintf("requests: %s; %s", strings.Join(ops, ", "), sent.Classes(e.p.Name)), "; "))
}

// env writes the settings of Mastodon with a public bucket, and what is different with a private one.
func (e *entry) env(public, private *bucket) {
	all, other := settingsOf(public), settingsOf(private)
	fmt.Fprintf(&e.out, "\nmastodon_env:\n")
	for _, line := range all {
		fmt.Fprintf(&e.out, "  %s\n", line)
	}
	fmt.Fprintf(&e.out, "\nmastodon_env of a private bucket:\n")
	for _, line := range other {
		if !slices.Contains(all, line) {
			fmt.Fprintf(&e.out, "  %s\n", line)
		}
	}
	for _, line := range all {
		if name, _, _ := strings.Cut(line, "="); !slices.ContainsFunc(other, func(o string) bool { return strings.HasPrefix(o, name+"=") }) {
			fmt.Fprintf(&e.out, "  without %s\n", name)
		}
	}
	if slices.Equal(all, other) {
		fmt.Fprintf(&e.out, "  the same\n")
	}
}

// lint: Mastodon, old and new, makes of the settings what they look like.
func (e *entry) lint(b *bucket) {
	env := mastodon.Env{"S3_ALIAS_HOST": "files.example.com"}
	for key, v := range b.exports().GetAttr("mastodon_env").AsValueMap() {
		bare, _ := v.Unmark()
		env[key] = bare.AsString()
	}
	for _, v := range []mastodon.Version{{Major: 4, Patch: 2}, {Major: 4, Minor: 3}, {Major: 4, Minor: 6, Patch: 5}} {
		for _, f := range mastodon.Lint(env, v) {
			if f.Breaks {
				e.Errorf("Mastodon %s: %s: %s", v, f.Key, f.What)
			}
		}
	}
}

func settingsOf(b *bucket) []string {
	var lines []string
	for key, v := range b.exports().GetAttr("mastodon_env").AsValueMap() {
		text := "(sensitive)"
		if !secret.In(v) {
			text = v.AsString()
		}
		lines = append(lines, key+"="+text)
	}
	slices.Sort(lines)
	return lines
}

func (e *entry) list(name string, list []string) {
	fmt.Fprintf(&e.out, "\n%s:\n", name)
	if len(list) == 0 {
		list = []string{"none"}
	}
	for _, text := range list {
		fmt.Fprintf(&e.out, "  %s\n", text)
	}
}

// store are the exports of the shortest object_store of the provider.
func (e *entry) store() cty.Value {
	p := e.p
	id, key := e.keys()
	written := map[string]cty.Value{
		"provider": cty.StringVal(p.Name), "access_key_id": secret.New(id).Value(), "secret_access_key": secret.New(key).Value(),
	}
	if p.DefaultRegion == "" {
		written["region"] = cty.StringVal(p.RegionExample)
	}
	switch {
	case p.Account != nil:
		written["account_id"] = cty.StringVal(p.AccountExample)
	case p.Discovery != "":
		written["endpoint"] = cty.StringVal("https://m2s0.tx11.idrivee2-3.com")
	case p.Endpoint == "":
		written["endpoint"] = cty.StringVal("https://s3.example.com")
	}
	return e.make(store.Kind(nil), written)
}

// keys are a key of the provider's form.
func (e *entry) keys() (id, key string) {
	id, key = "someid", "somekey"
	if e.p.KeyID != nil {
		id = e.p.KeyIDExample
	}
	for _, form := range []string{strings.Repeat("a", 64), strings.Repeat("a", 40), "11111111-2222-3333-4444-555555555555"} {
		if e.p.Secret != nil && e.p.Secret.MatchString(form) {
			key = form
		}
	}
	return id, key
}

func (e *entry) bucket(s cty.Value, access string) *bucket {
	id, key := e.keys()
	written := map[string]cty.Value{
		"store":  resources.Reference(resources.Address{Kind: "object_store", Name: "s"}, s),
		"name":   cty.StringVal("my-instance-media"),
		"access": cty.StringVal(access), "app_credentials": appCredentials(id, key),
	}
	return e.made(written, access)
}

func (e *entry) bucketWithAll(s cty.Value) *bucket {
	written := map[string]cty.Value{
		"store":  resources.Reference(resources.Address{Kind: "object_store", Name: "s"}, s),
		"name":   cty.StringVal("my-instance-media"),
		"access": cty.StringVal(publicObjects),
	}
	if e.p.CORS {
		written["cors"] = cty.EmptyObjectVal
	}
	if e.p.Lifecycle {
		days := "incomplete_uploads_days"
		if !e.p.AbortsUploads && e.p.Knows("AbortsUploads") || e.p.AlwaysVersioned {
			days = "hidden_versions_days"
		}
		written["lifecycle"] = cty.ObjectVal(map[string]cty.Value{days: cty.NumberIntVal(7)})
	}
	if e.p.Versioning {
		written["versioning"] = cty.True
	}
	return e.made(written, publicObjects)
}

func (e *entry) made(written map[string]cty.Value, access string) *bucket {
	if e.p.Public == objectstore.CustomDomain && access == publicObjects {
		written["public_host"] = cty.StringVal("media.example.com")
	}
	b, _ := mustMake(e.T, written)
	return b
}

func (e *entry) make(kind *resources.Kind, written map[string]cty.Value) cty.Value {
	config, errs := kind.Complete(cty.ObjectVal(written))
	for _, err := range errs {
		e.Fatal(err)
	}
	_, exports, err := kind.New(resources.Address{Kind: kind.Name, Name: "s"}, config)
	if err != nil {
		e.Fatal(err)
	}
	return exports
}
