package config_test

import (
	"context"
	"errors"
	"strings"
	"testing"

	"github.com/converge-agent/converge/config"
	"github.com/converge-agent/converge/diag"
	"github.com/converge-agent/converge/host"
	"github.com/converge-agent/converge/resources"
	"github.com/converge-agent/converge/secret"
	"github.com/hashicorp/hcl/v2"
	"github.com/spf13/afero"
	"github.com/zclconf/go-cty/cty"
)

// thing is the resource of all test kinds: it keeps what it was made from.
type thing struct {
	resources.Resource
	config cty.Value
}

// world is a loader with kinds, a host, and a record of the facts that were read.
type world struct {
	note  string               // of what is found
	files map[string]string    // of the configuration
	host  map[string]host.File // what the host's View shows
	env   map[string]string
	vars  config.Variables
	facts []string // addresses, in the order in which they were read
	view  *view
}

func (w *world) loader() *config.Loader {
	fs := afero.NewMemMapFs()
	for name, text := range w.files {
		if err := afero.WriteFile(fs, name, []byte(text), 0o600); err != nil {
			panic(err)
		}
	}
	w.view = &view{files: w.host}
	return &config.Loader{
		Kinds:          w.kinds(),
		Files:          fs,
		Getenv:         func(name string) (string, bool) { v, ok := w.env[name]; return v, ok },
		CredentialDirs: []string{"/run/credentials/converge", "/etc/credstore", "/run/credstore"},
		Dotenv: func(text []byte) map[string]string {
			out := map[string]string{}
			for line := range strings.Lines(string(text)) {
				if k, v, ok := strings.Cut(strings.TrimSpace(line), "="); ok {
					out[k] = v
				}
			}
			return out
		},
	}
}

// load loads the file site.hcl, or where there are others the directory.
func (w *world) load(path string) (*config.Config, hcl.Diagnostics) {
	return w.loader().Load(path, w.vars)
}

// evaluate loads and evaluates, and fails the test on any error that stops all.
// warnings are the warnings of an evaluation.
func (w *world) warnings(t *testing.T) hcl.Diagnostics {
	t.Helper()
	c, _ := w.load("site.hcl")
	_, diags := c.Evaluate(context.Background(), resources.ReadEnv{Files: w.view})
	return diags
}

func (w *world) evaluate(t *testing.T) map[string]resources.Node {
	t.Helper()
	nodes := map[string]resources.Node{}
	for _, n := range w.list(t) {
		nodes[n.Address.String()] = n
	}
	return nodes
}

func (w *world) list(t *testing.T) []resources.Node {
	t.Helper()
	c, diags := w.load("site.hcl")
	if diags.HasErrors() {
		t.Fatalf("Load:\n%s", render(t, c, diags))
	}
	nodes, diags := c.Evaluate(context.Background(), resources.ReadEnv{Files: w.view})
	if diags.HasErrors() {
		t.Fatalf("Evaluate:\n%s", render(t, c, diags))
	}
	return nodes
}

func render(t *testing.T, c *config.Config, diags hcl.Diagnostics) string {
	t.Helper()
	return renderFor(t, c.Sources(), diags)
}

func renderFor(t *testing.T, files map[string]*hcl.File, diags hcl.Diagnostics) string {
	t.Helper()
	var b strings.Builder
	if err := hcl.NewDiagnosticTextWriter(&b, files, 78, false).WriteDiagnostics(diags); err != nil {
		t.Fatal(err)
	}
	return b.String()
}

// view is a host.View of a fixed set of files.
type view struct {
	files map[string]host.File
	read  []string
}

func (v *view) Lookup(path string) (*host.File, error) {
	v.read = append(v.read, path)
	f, ok := v.files[path]
	if !ok {
		return nil, nil
	}
	if f.Mode == 0 && f.Type == host.Regular {
		return nil, diag.New("read "+path, "permission denied", "Run as root.")
	}
	return &f, nil
}

func (v *view) List(string) ([]string, error) { return nil, errors.New("not asked for") }

func text(s string) host.File { return host.File{Content: []byte(s), Mode: 0o600} }

func (w *world) kinds() []*resources.Kind {
	return []*resources.Kind{w.instanceKind(), w.askerKind(), storeKind(), bucketKind(), passerKind(), copierKind(), siteKind(), certKind(), envKind(), unitKind(), valueKind()}
}

// instanceKind is a fact kind.
func (w *world) instanceKind() *resources.Kind {
	return &resources.Kind{
		Name:  "instance",
		Attrs: []resources.Attr{{Name: "path", Type: cty.String, Format: resources.Path, Required: true}, {Name: "after", Ref: []string{"instance"}}},
		Exports: []resources.Attr{
			{Name: "version", Type: cty.String}, {Name: "env_path", Type: cty.String}, {Name: "units", Type: cty.List(cty.String)},
		},
		Facts: func(_ context.Context, env resources.ReadEnv, c cty.Value) (cty.Value, error) {
			path := c.GetAttr("path").AsString()
			w.facts = append(w.facts, path)
			f, err := env.Files.Lookup(path + "/version")
			if err != nil || f == nil {
				return cty.NilVal, diag.New("read the version of "+path, "there is none", "Check path.")
			}
			return cty.ObjectVal(map[string]cty.Value{
				"version":  cty.StringVal(string(f.Content)),
				"env_path": cty.StringVal(path + "/.env.production"),
				"units":    cty.ListVal([]cty.Value{cty.StringVal("web"), cty.StringVal("sidekiq")}),
			}), nil
		},
	}
}

// askerKind has its place found on the host where it is not written.
func (w *world) askerKind() *resources.Kind {
	return &resources.Kind{
		Name: "asker",
		Attrs: []resources.Attr{
			{Name: "of", Type: cty.String, Required: true, Secret: true}, {Name: "place", Type: cty.String}, {Name: "size", Type: cty.String},
		},
		Exports: []resources.Attr{{Name: "place", Type: cty.String}, {Name: "size", Type: cty.String}},
		Ask: func(c cty.Value) string {
			if c.GetAttr("place").IsNull() {
				return "place"
			}
			return ""
		},
		Find: func(_ context.Context, env resources.ReadEnv, c cty.Value) (cty.Value, string, error) {
			of := secret.FromValue(c.GetAttr("of"))
			if of.Missing() != nil {
				return cty.NilVal, "", of.Missing()
			}
			w.facts = append(w.facts, of.Reveal())
			f, err := env.Files.Lookup("/places/" + of.Reveal())
			if err != nil || f == nil {
				return cty.NilVal, "", diag.New("ask for a place", "nobody answers", "Write place.")
			}
			return cty.StringVal(string(f.Content)), w.note, nil
		},
		New: func(_ resources.Address, c cty.Value) (resources.Resource, cty.Value, error) {
			if c.GetAttr("size").RawEquals(cty.StringVal("wrong")) {
				return nil, cty.NilVal, &resources.AttrError{Path: []string{"size"}, Err: errors.New("it is no size")}
			}
			place := c.GetAttr("place")
			if place.IsNull() {
				place = cty.UnknownVal(cty.String)
			}
			return nil, cty.ObjectVal(map[string]cty.Value{"place": place, "size": c.GetAttr("size")}), nil
		},
	}
}

// storeKind only exports. It passes its keys on without declaring them.
func storeKind() *resources.Kind {
	return &resources.Kind{
		Name: "store",
		Attrs: []resources.Attr{
			{Name: "region", Type: cty.String, Default: cty.StringVal("eu")},
			{Name: "key", Type: cty.String, Required: true, Secret: true},
		},
		Exports: []resources.Attr{{Name: "host", Type: cty.String}},
		New: func(_ resources.Address, c cty.Value) (resources.Resource, cty.Value, error) {
			if len(secret.MissingIn(c)) == 0 && len(secret.FromValue(c.GetAttr("key")).Reveal()) < 3 {
				return nil, cty.NilVal, &resources.AttrError{Path: []string{"key"}, Err: errors.New("it is too short")}
			}
			return nil, cty.ObjectVal(map[string]cty.Value{
				"host": cty.StringVal(c.GetAttr("region").AsString() + ".example.net"),
				"key":  c.GetAttr("key"),
			}), nil
		},
	}
}

func bucketKind() *resources.Kind {
	return &resources.Kind{
		Name: "bucket",
		Attrs: []resources.Attr{
			{Name: "store", Ref: []string{"store"}, Required: true, Secret: true},
			{Name: "name", Type: cty.String, Format: resources.DNSName, Required: true},
			{Name: "access", Type: cty.String, OneOf: []string{"private", "public"}, Default: cty.StringVal("private")},
			{Name: "app", Block: []resources.Attr{{Name: "id", Type: cty.String}, {Name: "key", Type: cty.String, Secret: true, Required: true}}},
		},
		Exports: []resources.Attr{
			{Name: "name", Type: cty.String}, {Name: "host", Type: cty.String},
			{Name: "env", Type: cty.Map(cty.String), Secret: true}, {Name: "password", Type: cty.String, Secret: true},
		},
		New: func(_ resources.Address, c cty.Value) (resources.Resource, cty.Value, error) {
			if strings.Contains(c.GetAttr("name").AsString(), ".") {
				return nil, cty.NilVal, &resources.AttrError{Path: []string{"name"}, Err: errors.New("a dot in it breaks TLS; write it with dashes")}
			}
			if app := c.GetAttr("app"); !app.IsNull() && secret.FromValue(app.GetAttr("key")).Empty() {
				return nil, cty.NilVal, &resources.AttrError{Path: []string{"app", "key"}, Err: errors.New("it is empty")}
			}
			store := c.GetAttr("store")
			return &thing{config: c}, cty.ObjectVal(map[string]cty.Value{
				"name":     c.GetAttr("name"),
				"host":     cty.StringVal(c.GetAttr("name").AsString() + "." + store.GetAttr("host").AsString()),
				"env":      cty.MapVal(map[string]cty.Value{"BUCKET": c.GetAttr("name"), "SECRET": store.GetAttr("key")}),
				"password": cty.StringVal("hunter2"),
			}), nil
		},
	}
}

// passerKind passes a secret on, which it does not need itself.
func passerKind() *resources.Kind {
	return &resources.Kind{
		Name:    "passer",
		Attrs:   []resources.Attr{{Name: "key", Type: cty.String, Required: true, Secret: true, Passes: true}},
		Exports: []resources.Attr{{Name: "key", Type: cty.String, Secret: true}, {Name: "own", Type: cty.String, Secret: true}},
		New: func(_ resources.Address, c cty.Value) (resources.Resource, cty.Value, error) {
			return &thing{config: c}, cty.ObjectVal(map[string]cty.Value{"key": c.GetAttr("key"), "own": secret.New("x").Value()}), nil
		},
	}
}

// copierKind uses one of the secrets that a passer exports.
func copierKind() *resources.Kind {
	return &resources.Kind{
		Name:  "copier",
		Attrs: []resources.Attr{{Name: "from", Ref: []string{"passer"}, Required: true, Secret: true, Uses: []string{"own"}}},
		New:   keep,
	}
}

func keep(_ resources.Address, c cty.Value) (resources.Resource, cty.Value, error) {
	return &thing{config: c}, cty.NilVal, nil
}

func siteKind() *resources.Kind {
	return &resources.Kind{
		Name: "site",
		Attrs: []resources.Attr{
			{Name: "server_name", Type: cty.String, Format: resources.DNSName, Required: true},
			{Name: "certificate", Ref: []string{"cert"}, Or: []string{"chain", "key"}},
			{Name: "unit", Ref: []string{"unit"}},
			{Name: "headers", Type: cty.Map(cty.String)},
			{Name: "media", Block: []resources.Attr{
				{Name: "bucket", Ref: []string{"bucket"}, Required: true},
				{Name: "cache_size", Type: cty.String, Format: resources.Size},
				{Name: "limits", Block: []resources.Attr{{Name: "rate", Type: cty.Number}}},
			}},
		},
		Exports: []resources.Attr{{Name: "path", Type: cty.String}},
		New: func(_ resources.Address, c cty.Value) (resources.Resource, cty.Value, error) {
			return &thing{config: c}, cty.ObjectVal(map[string]cty.Value{
				"path": cty.StringVal("/etc/nginx/" + c.GetAttr("server_name").AsString()),
			}), nil
		},
	}
}

func certKind() *resources.Kind {
	return &resources.Kind{
		Name:    "cert",
		Attrs:   []resources.Attr{{Name: "domains", Type: cty.Set(cty.String), Format: resources.DNSName, Required: true}},
		Exports: []resources.Attr{{Name: "path", Type: cty.String}},
		New: func(a resources.Address, c cty.Value) (resources.Resource, cty.Value, error) {
			return &thing{config: c}, cty.ObjectVal(map[string]cty.Value{"path": cty.StringVal("/certs/" + a.Name)}), nil
		},
	}
}

func envKind() *resources.Kind {
	return &resources.Kind{
		Name: "env",
		Attrs: []resources.Attr{
			{Name: "path", Type: cty.String, Format: resources.Path, Required: true},
			{Name: "set", Type: cty.Map(cty.String), Secret: true},
			{Name: "mode", Type: cty.String, Format: resources.Mode, Default: cty.StringVal("0640")},
			{Name: "url", Type: cty.String, Format: resources.URL, Secret: true},
		},
		Exports: []resources.Attr{{Name: "path", Type: cty.String}},
		New: func(_ resources.Address, c cty.Value) (resources.Resource, cty.Value, error) {
			return &thing{config: c}, cty.ObjectVal(map[string]cty.Value{"path": c.GetAttr("path")}), nil
		},
	}
}

func unitKind() *resources.Kind {
	return &resources.Kind{
		Name: "unit",
		Attrs: []resources.Attr{
			{Name: "name", Type: cty.String, Required: true},
			{Name: "count", Type: cty.Number},
			{Name: "restart_on", Ref: []string{"any"}, List: true},
		},
		New: keep,
	}
}
