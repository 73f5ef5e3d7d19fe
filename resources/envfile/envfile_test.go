package envfile

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/converge-agent/converge/diag"
	"github.com/converge-agent/converge/host"
	"github.com/converge-agent/converge/host/hosttest"
	"github.com/converge-agent/converge/resources"
	"github.com/converge-agent/converge/resources/resourcetest"
	"github.com/converge-agent/converge/secret"
	"github.com/zclconf/go-cty/cty"
)

const file = "/home/mastodon/live/.env.production"

// bench is a host with one env_file.
type bench struct {
	*testing.T
	files   *hosttest.Memory
	records resourcetest.Records
}

func newBench(t *testing.T, content string) bench {
	b := bench{t, hosttest.NewMemory(), resourcetest.Records{}}
	b.files.Put("/home/mastodon/live/Gemfile", host.File{})
	if content != "" {
		b.files.Put(file, host.File{Content: []byte(content), Mode: 0o640, UID: 991, GID: 991})
	}
	return b
}

func (b bench) env() resources.Env {
	users := hosttest.Users{Users: map[string]int{"mastodon": 991}, Groups: map[string]int{"mastodon": 991}}
	return resources.Env{ReadEnv: resources.ReadEnv{Files: b.files, Users: users, Records: b.records}, Files: b.files}
}

// written makes a resource of attributes as somebody would write them.
func written(attrs map[string]cty.Value) (resources.Resource, error) {
	if attrs["path"] == cty.NilVal {
		attrs["path"] = cty.StringVal(file)
	}
	config, errs := Kind().Complete(cty.ObjectVal(attrs))
	if len(errs) > 0 {
		return nil, errs[0]
	}
	r, _, err := Kind().New(resources.Address{Kind: "env_file", Name: "x"}, config)
	return r, err
}

func (b bench) make(attrs map[string]cty.Value) resources.Resource {
	b.Helper()
	r, err := written(attrs)
	if err != nil {
		b.Fatal(err)
	}
	return r
}

func (b bench) plan(r resources.Resource) resources.Change {
	b.Helper()
	s, err := r.Read(b.Context(), b.env().ReadEnv)
	if err != nil {
		b.Fatal(err)
	}
	return r.Diff(s)
}

// converge applies r, and fails unless a second plan finds nothing.
func (b bench) converge(r resources.Resource) resources.Change {
	b.Helper()
	c := b.plan(r)
	if err := r.Apply(b.Context(), b.env(), c); err != nil {
		b.Fatal(err)
	}
	if left := b.plan(r); left.Action != resources.None || left.Digest != c.Digest {
		b.Errorf("after the apply: %s %s, digest same: %v", left.Action, left.Summary, left.Digest == c.Digest)
	}
	return c
}

func (b bench) content() string {
	b.Helper()
	f, err := b.files.Lookup(file)
	if err != nil || f == nil {
		b.Fatalf("no file: %v", err)
	}
	return string(f.Content)
}

// set is the attribute set with these values; those that begin with "secret:" are secrets.
func set(pairs ...string) map[string]cty.Value {
	m := map[string]cty.Value{}
	for i := 0; i < len(pairs); i += 2 {
		if text, ok := strings.CutPrefix(pairs[i+1], "secret:"); ok {
			m[pairs[i]] = secret.New(text).Value()
		} else {
			m[pairs[i]] = cty.StringVal(pairs[i+1])
		}
	}
	return map[string]cty.Value{"set": cty.ObjectVal(m)}
}

func TestConformance(t *testing.T) {
	write := func(text string) func(*resourcetest.Host) {
		return func(h *resourcetest.Host) {
			h.Files.Put("/etc/app.env", host.File{Content: []byte(text), Mode: 0o644, UID: 991})
		}
	}
	attrs := set("A", "1", "KEY", "secret:n3w-s3cret", "EMPTY", "")
	attrs["path"] = cty.StringVal("/etc/app.env")
	attrs["unset"] = cty.TupleVal([]cty.Value{cty.StringVal("GONE_SECRET")})
	for name, setup := range map[string]func(*resourcetest.Host){
		"new file":  nil,
		"old file":  write("# x\nA=0\nKEY=0ld-s3cret\nOTHER=0ld-s3cret\nGONE_SECRET=0ld-s3cret\n"),
		"duplicate": write("A=0\nA=2\nB='x\ny'\nA=1"),
	} {
		t.Run(name, func(t *testing.T) {
			resourcetest.Run(t, resourcetest.Case{
				Kind: Kind(), Config: attrs, Setup: setup, Secrets: []string{"n3w-s3cret", "0ld-s3cret"},
				Drift: map[string]func(*resourcetest.Host){
					"emptied": write(""),
					"edited":  write("A=1\nKEY=n3w-s3cret\nEMPTY=x\n"),
					"removed": func(h *resourcetest.Host) { h.Files.Remove("/etc/app.env") },
				},
			})
		})
	}
}

func TestSetsOnlyItsOwnVariables(t *testing.T) {
	b := newBench(t, "# Mastodon\nLOCAL_DOMAIN=social.example\nS3_ENABLED=false # for now\nDB_PASS=hunter2\nS3_ENABLED=no\n\n# end\n")
	attrs := set("S3_ENABLED", "true", "S3_PERMISSION", "", "AWS_SECRET_ACCESS_KEY", "secret:K005/x+y=")
	attrs["unset"] = cty.TupleVal([]cty.Value{cty.StringVal("DB_PASS"), cty.StringVal("NOT_THERE")})
	c := b.converge(b.make(attrs))
	want := "# Mastodon\nLOCAL_DOMAIN=social.example\nS3_ENABLED=true\n\n# end\nAWS_SECRET_ACCESS_KEY=K005/x+y=\nS3_PERMISSION=\n"
	if got := b.content(); got != want {
		t.Errorf("the file is\n%s\nwant\n%s", got, want)
	}
	f, err := b.files.Lookup(file)
	if err != nil || f.UID != 991 || f.GID != 991 || f.Mode != 0o640 {
		t.Errorf("owner and mode became %+v, %v", f, err)
	}
	if c.Action != resources.Update || c.Summary != "set AWS_SECRET_ACCESS_KEY, S3_ENABLED, S3_PERMISSION; remove DB_PASS" {
		t.Errorf("%s: %s", c.Action, c.Summary)
	}
	wantAttrs := []resources.AttrDiff{
		{Name: "AWS_SECRET_ACCESS_KEY", After: "(sensitive)", Added: true},
		{Name: "S3_ENABLED", Before: "no", After: "true"},
		{Name: "S3_PERMISSION", Added: true},
		{Name: "DB_PASS", Before: "(sensitive)", Removed: true},
	}
	if !slices.Equal(c.Attrs, wantAttrs) {
		t.Errorf("shown: %+v\nwant: %+v", c.Attrs, wantAttrs)
	}
}

func TestWhatAPlanShowsOfOldValues(t *testing.T) {
	for _, tt := range []struct {
		name, content string
		set           map[string]cty.Value
		want          string
	}{
		{"unmarked", "A=old\n", set("A", "new"), "old"},
		{"new one is secret", "A=old\n", set("A", "secret:new"), "(sensitive)"},
		{"name of a secret", "SMTP_PASSWORD=old\n", set("SMTP_PASSWORD", ""), "(sensitive)"},
		{"password in an address", "REDIS=redis://u:pw@h/0\n", set("REDIS", "x"), "(sensitive)"},
		{"read differently", "A=\"a\\nb\"\n", set("A", "x"), `a\nb (Node reads it differently from Ruby)`},
		{"doubtful secret", "A=$(cat /x)\n", set("A", "secret:x"), "(sensitive) (Ruby runs a command in it)"},
		{"written twice", "A=1\nA=1\n", set("A", "1"), "1 (written more than once)"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			b := newBench(t, tt.content)
			c := b.converge(b.make(tt.set))
			if len(c.Attrs) != 1 || c.Attrs[0].Before != tt.want {
				t.Errorf("got %+v, want Before %q", c.Attrs, tt.want)
			}
		})
	}
}

func TestEmptyIsNotUnset(t *testing.T) {
	b := newBench(t, "S3_PERMISSION=public-read\n")
	b.converge(b.make(set("S3_PERMISSION", "")))
	if got := b.content(); got != "S3_PERMISSION=\n" {
		t.Errorf("got %q", got)
	}
	b.converge(b.make(map[string]cty.Value{"unset": cty.TupleVal([]cty.Value{cty.StringVal("S3_PERMISSION")})}))
	if got := b.content(); got != "" {
		t.Errorf("got %q", got)
	}
}

func TestAbsent(t *testing.T) {
	b := newBench(t, "A=1\nB=2\nC=3\n")
	attrs := set("A", "1", "C", "secret:x")
	attrs["ensure"] = cty.StringVal("absent")
	c := b.converge(b.make(attrs))
	if got := b.content(); got != "B=2\n" || c.Summary != "remove A, C" {
		t.Errorf("got %q: %s", got, c.Summary)
	}
}

func TestNewFile(t *testing.T) {
	b := newBench(t, "")
	attrs := set("A", "1")
	if c := b.plan(b.make(set("A", "1"))); len(c.Notes) != 1 || !strings.Contains(c.Notes[0], "write owner") {
		t.Errorf("notes: %q", c.Notes)
	}
	attrs["owner"], attrs["group"] = cty.StringVal("mastodon"), cty.StringVal("mastodon")
	c := b.converge(b.make(attrs))
	f, err := b.files.Lookup(file)
	if err != nil || f.Mode != 0o600 || f.UID != 991 || f.GID != 991 || string(f.Content) != "A=1\n" {
		t.Errorf("got %+v, %v", f, err)
	}
	if c.Action != resources.Create || c.Summary != "new file; set A" || len(c.Notes) != 0 {
		t.Errorf("%s: %s, notes %q", c.Action, c.Summary, c.Notes)
	}
}

func TestNothingIsMadeToRemoveFrom(t *testing.T) {
	b := newBench(t, "")
	b.converge(b.make(map[string]cty.Value{"unset": cty.TupleVal([]cty.Value{cty.StringVal("A")})}))
	if w := b.files.Writes(); len(w) > 0 {
		t.Errorf("wrote %q", w)
	}
}

func TestModeChangeIsShown(t *testing.T) {
	b := newBench(t, "A=1\n")
	attrs := set("A", "1")
	attrs["mode"] = cty.StringVal("0644")
	c := b.converge(b.make(attrs))
	want := []resources.AttrDiff{{Name: "mode", Before: "0640", After: "0644"}}
	if !slices.Equal(c.Attrs, want) {
		t.Errorf("got %+v", c.Attrs)
	}
}

func TestDigestCoversManagedVariablesOnly(t *testing.T) {
	digest := func(content string, attrs map[string]cty.Value) string {
		b := newBench(t, content)
		return b.plan(b.make(attrs)).Digest
	}
	base := digest("A=1\n", set("A", "1", "B", "2"))
	unset := set("A", "1", "B", "2")
	unset["unset"] = cty.TupleVal([]cty.Value{cty.StringVal("C")})
	for _, tt := range []struct {
		name, content string
		attrs         map[string]cty.Value
		same          bool
	}{
		{"others edited by hand", "A=1\nSMTP_SERVER=x\n", set("A", "1", "B", "2"), true},
		{"secret or not", "", set("A", "secret:1", "B", "2"), true},
		{"another value", "A=1\n", set("A", "1", "B", "3"), false},
		{"one more removed", "A=1\n", unset, false},
		{"shifted texts", "A=1\n", set("A", "1B", "B", "2"), false},
	} {
		if got := digest(tt.content, tt.attrs); (got == base) != tt.same {
			t.Errorf("%s: same digest is %v, want %v", tt.name, got == base, tt.same)
		}
	}
}

func TestSecretsAreNeverShown(t *testing.T) {
	const planted, old = "n3w-s3cret", "0ld-s3cret"
	b := newBench(t, "")
	b.files.Put(file, host.File{Content: []byte("A=" + old + "\nDB_PASS=" + old + "\n"), Mode: 0o644, UID: 991}) // readable by all
	c := b.plan(b.make(set("A", "secret:"+planted, "B", "secret:"+planted)))
	for _, e := range c.Edits {
		if e.Shown() {
			t.Errorf("the edit of %s may be shown", e.Path)
		}
	}
	c.Edits = nil
	if text := fmt.Sprintf("%+v", c); strings.Contains(text, "s3cret") {
		t.Errorf("a secret is in %s", text)
	}
	_, err := written(set("A", "secret:"+planted+"\n"))
	if err == nil || strings.Contains(err.Error()+diag.Fix(err), "s3cret") {
		t.Errorf("got %v, want an error without the value", err)
	}
}

// TestLaw6SecretsAreNotForEverybody: a file that gets secrets is closed to others, and one that cannot be closed without
// locking the app out is refused.
func TestLaw6SecretsAreNotForEverybody(t *testing.T) {
	b := newBench(t, "")
	b.files.Put(file, host.File{Content: []byte("A=1\n"), Mode: 0o644, UID: 991})
	b.converge(b.make(set("KEY", "secret:x")))
	if f, _ := b.files.Lookup(file); f.Mode != 0o640 || f.UID != 991 {
		t.Errorf("got mode %04o of %d, want 0640 of 991", f.Mode, f.UID)
	}
	b.files.Put(file, host.File{Content: []byte("A=1\n"), Mode: 0o644})
	r := b.make(set("KEY", "secret:x"))
	if _, err := r.Read(t.Context(), b.env().ReadEnv); err == nil || !strings.Contains(diag.Fix(err), "owner") {
		t.Errorf("root's open file: got %v, want a refusal that says what to write", err)
	}
	open := set("KEY", "secret:x")
	open["mode"] = cty.StringVal("0644")
	if _, err := written(open); err == nil || !strings.Contains(err.Error(), "open the secrets") {
		t.Errorf("mode 0644: got %v", err)
	}
}

// TestOnceSecretStaysHidden: the old value of a variable that was secret is not shown when it is plain now, or removed.
func TestOnceSecretStaysHidden(t *testing.T) {
	absent := set("NAME", "secret:hunter2")
	absent["ensure"] = cty.StringVal(resources.Absent)
	for name, attrs := range map[string]map[string]cty.Value{
		"plain now": set("NAME", "plain"),
		"removed":   {"unset": cty.TupleVal([]cty.Value{cty.StringVal("NAME")})},
		"absent":    absent,
	} {
		t.Run(name, func(t *testing.T) {
			b := newBench(t, "A=1\n")
			for key, v := range b.converge(b.make(set("NAME", "secret:hunter2"))).Remember {
				raw, err := json.Marshal(v)
				if err != nil {
					t.Fatal(err)
				}
				b.records[key] = raw
			}
			if name == "absent" {
				clear(b.records) // the configuration itself says that it is secret
			}
			c := b.plan(b.make(attrs))
			if len(c.Attrs) != 1 || c.Attrs[0].Before != "(sensitive)" {
				t.Errorf("got %+v, want the old value hidden", c.Attrs)
			}
		})
	}
}

func TestNotesNameShadowingFiles(t *testing.T) {
	b := newBench(t, "A=1\n")
	b.files.Put("/home/mastodon/live/.env.local", host.File{Content: []byte("B=9\nOTHER=s3cret\n")})
	b.files.Put("/home/mastodon/live/.env.production.local", host.File{Content: []byte("OTHER=1\n")})
	c := b.plan(b.make(set("A", "1", "B", "2")))
	want := []string{"/home/mastodon/live/.env.local sets B too, and wins over this file"}
	if !slices.Equal(c.Notes, want) {
		t.Errorf("got %q, want %q", c.Notes, want)
	}
}

func TestTwoEnvFilesOfOnePath(t *testing.T) {
	b := newBench(t, "A=0\n")
	first, second := b.make(set("A", "1")), b.make(set("B", "2"))
	if c := first.Claims(); len(c) != 1 || c[0] != (resources.Claim{Path: file}) {
		t.Errorf("claims: %+v", c)
	}
	overlay := host.NewOverlay(b.files)
	env := b.env().ReadEnv
	env.Files = overlay
	for _, r := range []resources.Resource{first, second} {
		s, err := r.Read(t.Context(), env)
		if err != nil {
			t.Fatal(err)
		}
		for _, e := range r.Diff(s).Edits {
			if err := overlay.Stage(e); err != nil {
				t.Fatal(err)
			}
		}
	}
	planned, err := overlay.Lookup(file)
	if err != nil {
		t.Fatal(err)
	}
	b.converge(first)
	b.converge(second)
	if got := b.content(); got != string(planned.Content) || got != "A=1\nB=2\n" {
		t.Errorf("planned %q, applied %q", planned.Content, got)
	}
}

func TestRefusals(t *testing.T) {
	one := cty.StringVal("A")
	for _, tt := range []struct {
		name  string
		attrs map[string]cty.Value
		says  string
	}{
		{"name", set("A-B", "1"), "not the name of a variable"},
		{"value", set("A", "it's $5"), "a single quote together with"},
		{"unset name", map[string]cty.Value{"unset": cty.TupleVal([]cty.Value{cty.StringVal("1")})}, "not the name of a variable"},
		{"in both", map[string]cty.Value{"set": cty.ObjectVal(map[string]cty.Value{"A": one}), "unset": cty.TupleVal([]cty.Value{one})}, "is in set too"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			_, err := written(tt.attrs)
			var at *resources.AttrError
			if !errors.As(err, &at) || !strings.Contains(err.Error(), tt.says) {
				t.Errorf("got %v, want an error of an attribute with %q", err, tt.says)
			}
		})
	}
}

func TestUnreadableFiles(t *testing.T) {
	for _, tt := range []struct {
		name string
		f    host.File
		says string
	}{
		{"symlink", host.File{Type: host.Symlink, Target: "settings/.env"}, "symlink to settings/.env"},
		{"directory", host.File{Type: host.Directory}, "it is a directory"},
		{"too large", host.File{Content: make([]byte, maxSize+1)}, "larger than"},
		{"open quote", host.File{Content: []byte("B='open\n")}, "would be read differently"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			b := newBench(t, "")
			b.files.Put(file, tt.f)
			_, err := b.make(set("A", "#x")).Read(t.Context(), b.env().ReadEnv)
			if err == nil || !strings.Contains(err.Error(), tt.says) || diag.Fix(err) == "" {
				t.Errorf("got %v, want an error with %q and a fix", err, tt.says)
			}
		})
	}
}

func TestNullsAndWholeMarks(t *testing.T) {
	b := newBench(t, "A=old\nB=old\n")
	m := cty.MapVal(map[string]cty.Value{"A": cty.NullVal(cty.String), "B": cty.StringVal("n3w")})
	c := b.converge(b.make(map[string]cty.Value{"set": secret.Mark(m)}))
	if got := b.content(); got != "A=old\nB=n3w\n" {
		t.Errorf("got %q", got)
	}
	if len(c.Attrs) != 1 || c.Attrs[0].After != "(sensitive)" {
		t.Errorf("shown: %+v", c.Attrs)
	}
}

func TestFaultsLeaveTheFileWhole(t *testing.T) {
	for _, op := range []string{"temp", "chown", "write", "sync", "rename"} {
		b := newBench(t, "A=0\n")
		r := b.make(set("A", "1"))
		c := b.plan(r)
		b.files.Fail = func(step, _ string) error {
			if step == op {
				return errors.New("injected")
			}
			return nil
		}
		if err := r.Apply(context.Background(), b.env(), c); err == nil {
			t.Errorf("a failing %s was not reported", op)
		}
		if got := b.content(); got != "A=0\n" {
			t.Errorf("after a failing %s the file is %q", op, got)
		}
		b.files.Fail = nil
		b.converge(r)
	}
}
