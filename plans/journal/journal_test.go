package journal_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/converge-agent/converge/diag"
	"github.com/converge-agent/converge/host"
	"github.com/converge-agent/converge/host/hosttest"
	"github.com/converge-agent/converge/plans"
	"github.com/converge-agent/converge/plans/journal"
	"github.com/converge-agent/converge/resources"
	"github.com/converge-agent/converge/secret"
	"github.com/google/go-cmp/cmp"
)

// fixture is a directory of the real host that runs change, with a state directory beside it.
type fixture struct {
	t       testing.TB
	dir     string
	files   host.Files
	clock   *hosttest.Clock
	journal bool
}

func newFixture(t testing.TB) *fixture {
	t.Helper()
	return &fixture{t: t, dir: t.TempDir(), files: host.System(), clock: hosttest.NewClock(time.Date(2026, 11, 21, 12, 0, 0, 0, time.UTC)), journal: true}
}

func (f *fixture) path(name string) string { return filepath.Join(f.dir, name) }

func (f *fixture) state() string { return f.path("state") }

func (f *fixture) records() *plans.Records {
	f.t.Helper()
	records, err := plans.OpenRecords(f.state(), f.files, host.SystemUsers())
	if err != nil {
		f.t.Fatal(err)
	}
	return records
}

func (f *fixture) store() *journal.Store {
	return journal.Open(f.state(), f.files, host.SystemUsers(), f.clock, f.records())
}

// write is a resource that makes one file hold a text.
type write struct {
	f       *fixture
	name    string
	want    *host.File
	attrs   []resources.AttrDiff
	effects []resources.Effect
	private bool
	opaque  bool
	apply   func(ctx context.Context, env resources.Env, c resources.Change) error // instead of the edit
}

func (w *write) Claims() []resources.Claim {
	return []resources.Claim{{Path: w.f.path(w.name), Own: true}}
}
func (w *write) Watches() []string { return nil }

func (w *write) Read(_ context.Context, env resources.ReadEnv) (resources.State, error) {
	return env.Files.Lookup(w.f.path(w.name))
}

func (w *write) Diff(st resources.State) resources.Change {
	before, _ := st.(*host.File)
	e := host.Edit{Path: w.f.path(w.name), Before: before, After: w.want, Private: w.private}
	if e.Empty() {
		return resources.Change{Digest: "as wanted"}
	}
	c := resources.Change{Action: resources.EditAction(e), Summary: "write " + w.name, Edits: []host.Edit{e}, Attrs: w.attrs, Effects: w.effects}
	if w.opaque {
		c.Edits = []host.Edit{{Path: e.Path, Before: before, Opaque: true, Private: w.private}}
	}
	return c
}

func (w *write) Apply(ctx context.Context, env resources.Env, c resources.Change) error {
	if w.apply != nil {
		return w.apply(ctx, env, c)
	}
	return resources.CommitAll(ctx, env, c)
}

func (f *fixture) file(text string, mode os.FileMode) *host.File {
	uid, gid := host.SystemUsers().Self()
	return &host.File{Content: []byte(text), Mode: mode, UID: uid, GID: gid}
}

func (f *fixture) set(name, text string) *write {
	return &write{f: f, name: name, want: f.file(text, 0o644)}
}

var stubKind = &resources.Kind{Name: "stub"}

// nodes are the resources, each named by its file; configs names what they were configured with.
func nodes(config string, ws ...*write) []resources.Node {
	var out []resources.Node
	for _, w := range ws {
		out = append(out, resources.Node{Address: resources.Address{Kind: "stub", Name: w.name}, Kind: stubKind, Resource: w, Config: config})
	}
	return out
}

// run plans and applies as one run does, and returns its report.
func (f *fixture) run(config string, ws ...*write) *plans.Report {
	f.t.Helper()
	return f.apply(journal.Head{Command: "apply", Converge: "1.0", User: "root", Config: "/etc/converge"}, nodes(config, ws...))
}

func (f *fixture) engine() *plans.Engine {
	env := resources.Env{ReadEnv: resources.ReadEnv{Users: host.SystemUsers(), Clock: f.clock, StateDir: f.state()}, Files: f.files}
	return &plans.Engine{Env: env, Records: f.records()}
}

func (f *fixture) apply(head journal.Head, nodes []resources.Node) *plans.Report {
	f.t.Helper()
	e := f.engine()
	var j *journal.Journal
	if f.journal {
		j = journal.Open(f.state(), f.files, host.SystemUsers(), f.clock, e.Records).New(head)
		e.Journal = j
	}
	p, err := e.Plan(context.Background(), nodes)
	if err != nil {
		f.t.Fatal(err)
	}
	r := e.Apply(context.Background(), p)
	if j != nil {
		if err := j.Close(r); err != nil {
			f.t.Fatal(err)
		}
	}
	return r
}

func (f *fixture) read(run int) *journal.Run {
	f.t.Helper()
	r, err := f.store().Run(run)
	if err != nil {
		f.t.Fatal(err)
	}
	return r
}

func (f *fixture) runs() []int {
	f.t.Helper()
	runs, err := f.store().Runs()
	if err != nil {
		f.t.Fatal(err)
	}
	return runs
}

func (f *fixture) text(name string) string {
	f.t.Helper()
	text, err := os.ReadFile(f.path(name))
	if err != nil && !errors.Is(err, os.ErrNotExist) {
		f.t.Fatal(err)
	}
	return string(text)
}

func (f *fixture) put(name, text string) {
	f.t.Helper()
	if err := os.WriteFile(f.path(name), []byte(text), 0o644); err != nil {
		f.t.Fatal(err)
	}
}

func (f *fixture) kept() []string {
	f.t.Helper()
	var texts []string
	names, err := filepath.Glob(f.path("state/journal/kept/*"))
	if err != nil {
		f.t.Fatal(err)
	}
	for _, name := range names {
		text, err := os.ReadFile(name)
		if err != nil {
			f.t.Fatal(err)
		}
		info, err := os.Stat(name)
		if err != nil || info.Mode() != 0o600 {
			f.t.Errorf("%s: mode %v, %v", name, info.Mode(), err)
		}
		texts = append(texts, string(text))
	}
	return texts
}

// noJudge judges nothing.
type noJudge struct{}

func (noJudge) Of(host.View, string) (string, error)             { return "", nil }
func (noJudge) Unjudged(resources.ReadEnv, string) (bool, error) { return false, nil }
func (noJudge) Make(context.Context, resources.Env, string, []host.Edit) error {
	return errors.New("no judge")
}

// rollback brings the files back, and returns the report; nil and what is refused where something is.
func (f *fixture) rollback(run int, judge journal.Judge) (*plans.Report, string) {
	f.t.Helper()
	store := f.store()
	undo, err := store.Undo(run)
	if err != nil {
		return nil, err.Error()
	}
	nodes, err := store.Nodes(undo, judge)
	if err != nil {
		f.t.Fatal(err)
	}
	p, err := f.engine().Plan(context.Background(), nodes)
	if err != nil {
		f.t.Fatal(err)
	}
	for _, it := range p.Items {
		if it.Err != nil {
			return nil, it.Err.Error()
		}
		if it.Change.Action == resources.Blocked {
			return nil, it.Change.Summary
		}
	}
	return f.apply(journal.Head{Command: "rollback", Rollback: run}, nodes), ""
}

// wantFailed checks that one resource failed, and how.
func wantFailed(t *testing.T, r *plans.Report, want string) {
	t.Helper()
	for _, res := range r.Results {
		if res.Err != nil && strings.Contains(res.Err.Error(), want) {
			return
		}
	}
	t.Errorf("nothing failed with %q: %+v", want, r.Results)
}

func TestARunThatChangesNothingWritesNothing(t *testing.T) {
	f := newFixture(t)
	f.run("1", f.set("a", "1\n"))
	before := listing(t, f.dir)
	f.clock.Advance(time.Hour)
	f.run("1", f.set("a", "1\n"))
	if diff := cmp.Diff(before, listing(t, f.dir)); diff != "" {
		t.Errorf("the unchanged host was written to:\n%s", diff)
	}
}

// listing is every path below dir with its inode's change time.
func listing(t *testing.T, dir string) map[string]time.Time {
	t.Helper()
	found := map[string]time.Time{}
	err := filepath.WalkDir(dir, func(path string, _ os.DirEntry, err error) error {
		if err != nil {
			return err
		}
		info, err := host.System().Lookup(path)
		if err != nil {
			return err
		}
		found[path] = info.ChangedAt
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return found
}

func TestWhatARunLeaves(t *testing.T) {
	f := newFixture(t)
	f.run("1", f.set("a", "first\n"))
	w := f.set("a", "second\n")
	w.effects = []resources.Effect{{Verb: "restart", Target: "a.service", Why: "it changed"}}
	f.run("2", w)
	r := f.read(2)
	if r.User != "root" || r.Command != "apply" || r.Config != "/etc/converge" || r.Converge != "1.0" || r.Version != 1 || r.Open {
		t.Errorf("head = %+v", r.Head)
	}
	if r.Counts == nil || r.Counts.Changed != 1 || len(r.Steps) != 1 {
		t.Fatalf("run = %+v", r)
	}
	step := r.Steps[0]
	if step.Action != "update" || step.End == nil || step.Outcome != "changed" || step.Effects[0].Verb != "restart" {
		t.Errorf("step = %+v", step)
	}
	edit := step.Edits[0]
	if edit.Path != f.path("a") || edit.Before.Size != len("first\n") || edit.After.Mode != 0o644 || edit.Before.Digest == edit.After.Digest {
		t.Errorf("edit = %+v", edit)
	}
	if got := f.kept(); len(got) != 1 || got[0] != "first\n" {
		t.Errorf("kept = %q", got)
	}
	if text := f.text("state/journal/2.jsonl"); strings.Contains(text, "first") || strings.Contains(text, "second") {
		t.Errorf("a content stands in the journal:\n%s", text)
	}
}

func TestStartIsWrittenBeforeTheChange(t *testing.T) {
	f := newFixture(t)
	w := f.set("a", "1\n")
	w.apply = func(ctx context.Context, env resources.Env, c resources.Change) error {
		r := f.read(1)
		if len(r.Steps) != 1 || r.Steps[0].End != nil || r.Steps[0].Edits[0].Path != f.path("a") {
			t.Errorf("at the change the journal says %+v", r.Steps)
		}
		if !r.Open || r.Counts != nil {
			t.Error("a run that is under way does not read as such")
		}
		return resources.CommitAll(ctx, env, c)
	}
	f.run("1", w)
	if r := f.read(1); r.Open || r.Counts == nil {
		t.Errorf("the run did not end: %+v", r)
	}
}

// blocked puts a file in the place of the journal's directory.
func (f *fixture) blockJournal() {
	f.t.Helper()
	if err := os.RemoveAll(f.path("state/journal")); err != nil {
		f.t.Fatal(err)
	}
	f.put("state/journal", "in the way")
}

func TestWithoutAJournalNothingIsChanged(t *testing.T) {
	f := newFixture(t)
	f.run("1", f.set("a", "1\n"))
	f.blockJournal()
	r := f.run("2", f.set("a", "2\n"))
	wantFailed(t, r, "write the change into the journal, before it is made")
	if diag.Fix(r.Results[0].Err) == "" {
		t.Errorf("no advice: %v", r.Results[0].Err)
	}
	if got := f.text("a"); got != "1\n" {
		t.Errorf("a = %q", got)
	}
}

func TestLaw9HealingDoesNotWaitForTheJournal(t *testing.T) {
	f := newFixture(t)
	f.run("1", f.set("a", "1\n"))
	f.blockJournal()
	f.put("a", "edited\n")
	r := f.run("1", f.set("a", "1\n"))
	if res := r.Results[0]; res.Outcome != plans.Changed || !strings.Contains(res.Message, "not in the journal: ") {
		t.Errorf("result = %+v", res)
	}
	if got := f.text("a"); got != "1\n" {
		t.Errorf("a = %q", got)
	}
}

// failing makes commits below a directory fail.
type failing struct {
	host.Files
	below string
}

func (f *failing) Commit(ctx context.Context, e host.Edit) error {
	if strings.HasPrefix(e.Path, f.below) {
		return errors.New("no space left on device")
	}
	return f.Files.Commit(ctx, e)
}

func TestWhatCannotBeKeptIsNotReplaced(t *testing.T) {
	f := newFixture(t)
	f.run("1", f.set("a", "1\n"))
	f.files = &failing{f.files, f.path("state/journal/kept/")}
	wantFailed(t, f.run("2", f.set("a", "2\n")), "no space left on device")
	if got := f.text("a"); got != "1\n" {
		t.Errorf("a = %q", got)
	}
}

func TestEditsThatNoPlanCouldNameAreWrittenDown(t *testing.T) {
	f := newFixture(t)
	f.put("b", "before\n")
	w := f.set("a", "1\n")
	w.opaque = true
	w.apply = func(ctx context.Context, env resources.Env, _ resources.Change) error {
		before, err := env.Files.Lookup(f.path("b"))
		if err != nil {
			return err
		}
		mine := host.Edit{Path: f.path("state/own"), After: f.file("its own store\n", 0o600)}
		return resources.CommitAll(ctx, env, resources.Change{Edits: []host.Edit{
			{Path: f.path("a"), After: w.want}, {Path: f.path("b"), Before: before, After: f.file("after\n", 0o644)}, mine,
		}})
	}
	f.run("1", w)
	var paths []string
	for _, e := range f.read(1).Steps[0].Edits {
		if !e.Opaque {
			paths = append(paths, e.Path)
		}
	}
	if diff := cmp.Diff([]string{f.path("a"), f.path("b")}, paths); diff != "" {
		t.Errorf("edits (-want +got):\n%s", diff)
	}
	if _, refused := f.rollback(1, noJudge{}); refused != "" {
		t.Fatal(refused)
	}
	if f.text("a") != "" || f.text("b") != "before\n" {
		t.Errorf("a = %q, b = %q", f.text("a"), f.text("b"))
	}
}

func TestLaw6NoRevokedSecretIsKept(t *testing.T) {
	old := secret.Redacted
	cases := map[string]struct {
		private bool
		attrs   []resources.AttrDiff
		remove  bool
		kept    bool
	}{
		"a plain file":                       {kept: true},
		"a plain value of a private one":     {private: true, attrs: []resources.AttrDiff{{Name: "A", Before: "1", After: "2"}}, kept: true},
		"a secret is added":                  {private: true, attrs: []resources.AttrDiff{{Name: "A", After: old, Added: true}}, kept: true},
		"a secret is replaced":               {private: true, attrs: []resources.AttrDiff{{Name: "A", Before: old, After: old}}},
		"a secret line with a remark":        {private: true, attrs: []resources.AttrDiff{{Name: "A", Before: old + " (written more than once)"}}},
		"a secret is removed beside a value": {private: true, attrs: []resources.AttrDiff{{Name: "A", Before: "1", After: "2"}, {Name: "B", Before: old, Removed: true}}},
		"nothing tells what of it goes":      {private: true},
		"the file goes":                      {private: true, attrs: []resources.AttrDiff{{Name: "A", Before: "1", Removed: true}}, remove: true},
	}
	for name, c := range cases {
		t.Run(name, func(t *testing.T) {
			f := newFixture(t)
			f.put("a", "planted\n")
			w := f.set("a", "new\n")
			w.private, w.attrs = c.private, c.attrs
			if c.remove {
				w.want = nil
			}
			f.run("1", w)
			if got := len(f.kept()) == 1; got != c.kept {
				t.Errorf("kept = %v, want %v", got, c.kept)
			}
			_, refused := f.rollback(1, noJudge{})
			if want := f.path("a") + " held was not kept: a secret in it was replaced or removed (run 1)"; !c.kept && !strings.HasSuffix(refused, want) {
				t.Errorf("refused = %q", refused)
			}
			if c.kept && f.text("a") != "planted\n" {
				t.Errorf("a = %q, %s", f.text("a"), refused)
			}
		})
	}
}

func TestLaw6ASecretThatGoesTakesWhatWasKeptBefore(t *testing.T) {
	f := newFixture(t)
	step := func(text, before string) {
		w := f.set("a", text)
		w.private, w.attrs = true, []resources.AttrDiff{{Name: "A", Before: before, After: "x"}}
		f.run(text, w)
	}
	f.put("a", "planted, 1\n")
	step("planted, 2\n", "1")
	if len(f.kept()) != 1 {
		t.Fatal("the first edit kept nothing")
	}
	step("other, 2\n", secret.Redacted)
	if got := f.kept(); len(got) != 0 {
		t.Errorf("kept = %q", got)
	}
	if _, refused := f.rollback(1, noJudge{}); !strings.Contains(refused, "a secret in it was replaced since") {
		t.Errorf("refused = %q", refused)
	}
}

func TestLaw6AFileThatWasPrivateStaysSo(t *testing.T) {
	f := newFixture(t)
	w := &write{f: f, name: "a", want: f.file("planted\n", 0o600), private: true, attrs: []resources.AttrDiff{{Name: "content", After: secret.Redacted}}}
	f.run("1", w)
	// The configuration now gives a plain content: the kind does not know that the old one was a secret.
	f.run("2", &write{f: f, name: "a", want: f.file("plain\n", 0o644), attrs: []resources.AttrDiff{{Name: "content", Before: secret.Redacted, After: secret.Redacted}}})
	if got := f.kept(); len(got) != 0 {
		t.Errorf("kept = %q", got)
	}
}

func TestLargeFilesAreNotKept(t *testing.T) {
	f := newFixture(t)
	f.put("a", strings.Repeat("x", 4<<20+1))
	f.run("1", f.set("a", "1\n"))
	if len(f.kept()) != 0 {
		t.Error("it was kept")
	}
	if note := f.store().KeptNote(f.read(1).Steps[0].Edits[0]); note != "not kept: it is larger than 4 MiB" {
		t.Errorf("note = %q", note)
	}
	if _, refused := f.rollback(1, noJudge{}); !strings.Contains(refused, "it is larger than 4 MiB (run 1)") {
		t.Errorf("refused = %q", refused)
	}
}

func TestRollbackOfAFailedRun(t *testing.T) {
	for name, commit := range map[string]bool{"before it wrote": false, "after it wrote": true} {
		t.Run(name, func(t *testing.T) {
			f := newFixture(t)
			f.put("a", "old\n")
			w := f.set("a", "new\n")
			w.apply = func(ctx context.Context, env resources.Env, c resources.Change) error {
				if commit {
					if err := resources.CommitAll(ctx, env, c); err != nil {
						return err
					}
				}
				return errors.New("broken")
			}
			wantFailed(t, f.run("1", w), "broken")
			if step := f.read(1).Steps[0]; step.Error != "broken" || step.Outcome != "failed" {
				t.Errorf("step = %+v", step.End)
			}
			if _, refused := f.rollback(1, noJudge{}); refused != "" || f.text("a") != "old\n" {
				t.Errorf("a = %q, refused %q", f.text("a"), refused)
			}
		})
	}
}

// TestRollbackOfATree: a resource that makes a directory and what stands in it is taken back from the inside, and brought back
// from the outside.
func TestRollbackOfATree(t *testing.T) {
	f := newFixture(t)
	w := f.set("tree", "")
	w.want.Type, w.want.Mode, w.want.Content = host.Directory, 0o755, nil
	inner := *w.want
	w.apply = func(ctx context.Context, env resources.Env, c resources.Change) error {
		return resources.CommitAll(ctx, env, resources.Change{Edits: append(c.Edits,
			host.Edit{Path: f.path("tree/1"), After: &inner}, host.Edit{Path: f.path("tree/1/key"), After: f.file("x\n", 0o644)})})
	}
	f.run("1", w)
	r, refused := f.rollback(1, noJudge{})
	if refused != "" || r.Count(plans.Changed) != 1 {
		t.Fatalf("taken back: refused %q, %+v", refused, r)
	}
	if _, err := os.Lstat(f.path("tree")); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("the tree still stands: %v", err)
	}
	if r, refused = f.rollback(2, noJudge{}); refused != "" || r.Count(plans.Changed) != 1 || f.text("tree/1/key") != "x\n" {
		t.Errorf("brought back: refused %q, tree/1/key = %q, %+v", refused, f.text("tree/1/key"), r)
	}
}

func TestRollbackGoesBackThroughAllRuns(t *testing.T) {
	f := newFixture(t)
	for n := 1; n <= 4; n++ {
		f.run(fmt.Sprint(n), f.set("a", fmt.Sprintf("%d\n", n)))
	}
	f.put("b", "mine\n")
	if _, refused := f.rollback(3, noJudge{}); refused != "" || f.text("a") != "2\n" {
		t.Fatalf("a = %q, refused %q", f.text("a"), refused)
	}
	if _, refused := f.rollback(5, noJudge{}); refused != "" || f.text("a") != "4\n" {
		t.Fatalf("a = %q, refused %q", f.text("a"), refused)
	}
	f.put("a", "by hand\n")
	if _, refused := f.rollback(2, noJudge{}); refused != f.path("a")+" is not what run 6 left there: it was moved or changed by hand since" {
		t.Errorf("refused = %q", refused)
	}
	f.put("a", "3\n") // as an earlier run left it
	if _, refused := f.rollback(2, noJudge{}); !strings.Contains(refused, "not what run 6 left there") {
		t.Errorf("an older state of a run that ended well: refused = %q", refused)
	}
}

// judge is one whole for all files.
type judge struct {
	t     *testing.T
	edits []string
	err   error
}

func (j *judge) Of(host.View, string) (string, error)             { return "/whole", nil }
func (j *judge) Unjudged(resources.ReadEnv, string) (bool, error) { return false, nil }

func (j *judge) Make(ctx context.Context, env resources.Env, _ string, edits []host.Edit) error {
	for _, e := range edits {
		j.edits = append(j.edits, filepath.Base(e.Path))
	}
	if j.err != nil {
		return j.err
	}
	return resources.CommitAll(ctx, env, resources.Change{Edits: edits})
}

func TestLaw5FilesOfOneWholeAreJudgedTogether(t *testing.T) {
	f := newFixture(t)
	f.put("a", "1\n")
	f.put("b", "1\n")
	f.run("1", f.set("a", "2\n"), f.set("b", "2\n"), f.set("c", "2\n"))
	refusing := &judge{t: t, err: errors.New("nginx refuses it")}
	r, refused := f.rollback(1, refusing)
	if refused != "" {
		t.Fatal(refused)
	}
	wantFailed(t, r, "nginx refuses it")
	if len(r.Results) != 1 || f.text("a") != "2\n" || f.text("c") != "2\n" {
		t.Errorf("results %+v, a = %q", r.Results, f.text("a"))
	}
	taking := &judge{t: t}
	if _, refused := f.rollback(1, taking); refused != "" || f.text("a") != "1\n" || f.text("b") != "1\n" || f.text("c") != "" {
		t.Errorf("a = %q, b = %q, c = %q, %s", f.text("a"), f.text("b"), f.text("c"), refused)
	}
	if diff := cmp.Diff([]string{"a", "b", "c"}, taking.edits); diff != "" {
		t.Errorf("edits (-want +got):\n%s", diff)
	}
}

func TestUnitsOfTheRunsInTheirOrder(t *testing.T) {
	f := newFixture(t)
	unit := func(name, verb, target string) *write {
		w := f.set(name, "1\n")
		w.effects = []resources.Effect{{Verb: verb, Target: target}}
		return w
	}
	f.run("1", unit("a", "reload", "one.service"), unit("b", "restart", "two.service"))
	f.run("1", unit("c", "restart", "one.service"), unit("d", "run", "a-command"))
	u, err := f.store().Undo(1)
	if err != nil {
		t.Fatal(err)
	}
	want := []journal.Unit{
		{Verb: "restart", Name: "one.service", Address: "stub.c", Reads: []string{"stub.a", "stub.c"}},
		{Verb: "restart", Name: "two.service", Address: "stub.b", Reads: []string{"stub.b"}},
	}
	if diff := cmp.Diff(want, u.Units); diff != "" {
		t.Errorf("units (-want +got):\n%s", diff)
	}
	if diff := cmp.Diff([]string{"run a-command (stub.d, run 2)"}, u.Stays); diff != "" {
		t.Errorf("stays (-want +got):\n%s", diff)
	}
}

func TestTornFiles(t *testing.T) {
	f := newFixture(t)
	f.run("1", f.set("a", "1\n"))
	whole := f.text("state/journal/1.jsonl")
	steps := func(text string) (int, bool) {
		f.put("state/journal/1.jsonl", text)
		r := f.read(1)
		return len(r.Steps), r.Counts != nil
	}
	for cut := range len(whole) {
		lines := strings.Count(whole[:cut], "\n")
		if whole[cut] == '\n' {
			lines++ // whole without its end
		}
		n, done := steps(whole[:cut])
		if want := min(1, max(lines-1, 0)); n != want || done != (lines == 4) {
			t.Fatalf("cut at %d: %d steps, want %d; done %v", cut, n, want, done)
		}
	}
	if n, done := steps(whole[:len(whole)-40] + strings.Repeat("\x00", 40)); n != 1 || done {
		t.Errorf("with zeros at its end: %d steps, done %v", n, done)
	}
	f.put("state/journal/1.jsonl", strings.Replace(whole, `{"type":"start"`, `{"type":`, 1))
	if _, err := f.store().Run(1); err == nil || !strings.Contains(err.Error(), "line 2 is damaged") {
		t.Errorf("error = %v", err)
	}
	f.put("state/journal/1.jsonl", strings.Replace(whole, `"version":1`, `"version":2`, 1))
	if _, err := f.store().Run(1); err == nil || !strings.Contains(err.Error(), "format version 2, and this converge knows up to 1") {
		t.Errorf("error = %v", err)
	}
}

func TestNumbersAreNotUsedTwice(t *testing.T) {
	f := newFixture(t)
	f.run("1", f.set("a", "1\n"))
	f.put("state/journal/7.jsonl", "")
	f.put("state/journal/08.jsonl", "")
	f.put("state/journal/notes", "")
	f.run("2", f.set("a", "2\n"))
	if diff := cmp.Diff([]int{1, 7, 8}, f.runs()); diff != "" {
		t.Errorf("runs (-want +got):\n%s", diff)
	}
}

// fake puts n runs on record, each of which replaced a content of its own that is kept.
func (f *fixture) fake(n int) {
	f.t.Helper()
	f.run("0", f.set("a", "0\n"))
	for i := 2; i <= n; i++ {
		edit := journal.Edit{Path: "/x", Before: &journal.File{Type: "file", Digest: fmt.Sprintf("%064d", i)}}
		line, err := json.Marshal(map[string]any{"type": "start", "address": "stub.x", "action": "update", "edits": []journal.Edit{edit}})
		if err != nil {
			f.t.Fatal(err)
		}
		f.put(fmt.Sprintf("state/journal/%d.jsonl", i), string(line)+"\n")
		f.put(fmt.Sprintf("state/journal/kept/%064d", i), "x")
		f.age(i, 0)
	}
}

// age sets when a run was written.
func (f *fixture) age(run int, age time.Duration) {
	f.t.Helper()
	at := f.clock.Now().Add(-age)
	if err := os.Chtimes(f.path(fmt.Sprintf("state/journal/%d.jsonl", run)), at, at); err != nil {
		f.t.Fatal(err)
	}
}

func TestBounds(t *testing.T) {
	const day = 24 * time.Hour
	cases := map[string]struct {
		runs int
		make func(f *fixture)
		want int // the oldest that stays
	}{
		"few":      {30, func(*fixture) {}, 1},
		"too many": {500, func(*fixture) {}, 52}, // of 501, a tenth goes at once
		"too old": {30, func(f *fixture) {
			for run := 1; run <= 5; run++ {
				f.age(run, 401*day)
			}
			f.age(7, 401*day)
		}, 6},
		"a clock that is years ahead": {30, func(f *fixture) { f.clock.Step(f.clock.Now().Add(9999 * day)) }, 12},
		"too large": {30, func(f *fixture) {
			for _, run := range []int{3, 9} {
				if err := os.Truncate(f.path(fmt.Sprintf("state/journal/kept/%064d", run)), 40<<20); err != nil {
					f.t.Fatal(err)
				}
			}
		}, 4},
	}
	for name, c := range cases {
		t.Run(name, func(t *testing.T) {
			f := newFixture(t)
			f.fake(c.runs)
			c.make(f)
			f.run("1", f.set("a", "1\n"))
			runs := f.runs()
			if runs[0] != c.want || runs[len(runs)-1] != c.runs+1 {
				t.Errorf("runs %d to %d are left, want %d to %d", runs[0], runs[len(runs)-1], c.want, c.runs+1)
			}
			for run := 2; run <= c.runs; run++ {
				_, err := os.Stat(f.path(fmt.Sprintf("state/journal/kept/%064d", run)))
				if there := err == nil; there != (run >= c.want) {
					t.Errorf("what run %d has kept is there: %v", run, there)
				}
			}
			if note := f.store().KeptNote(f.read(c.runs + 1).Steps[0].Edits[0]); note != "kept" {
				t.Errorf("what the newest run has kept is %s", note)
			}
		})
	}
}

func TestWhatTwoRunsKeepGoesWithTheLast(t *testing.T) {
	f := newFixture(t)
	f.fake(30)
	shared := f.text("state/journal/3.jsonl")
	f.put("state/journal/20.jsonl", shared)
	f.age(20, 0)
	for run := 1; run <= 5; run++ {
		f.age(run, 401*24*time.Hour)
	}
	f.run("1", f.set("a", "1\n"))
	if _, err := os.Stat(f.path(fmt.Sprintf("state/journal/kept/%064d", 3))); err != nil {
		t.Errorf("what run 20 needs went with run 3: %v", err)
	}
}

func TestLeftIsWrittenOnce(t *testing.T) {
	f := newFixture(t)
	kind := &resources.Kind{Name: "stub", Attrs: []resources.Attr{{Name: "path"}}}
	of := func(ws ...*write) []resources.Node {
		out := nodes("1", ws...)
		for i := range out {
			out[i].Kind = kind
		}
		return out
	}
	head := journal.Head{Command: "apply"}
	f.apply(head, of(f.set("a", "1\n"), f.set("b", "1\n")))
	for range 2 {
		f.apply(head, of(f.set("a", "1\n")))
	}
	if diff := cmp.Diff([]int{1, 2}, f.runs()); diff != "" {
		t.Errorf("runs (-want +got):\n%s", diff)
	}
	if diff := cmp.Diff([]string{"stub.b"}, f.read(2).Left); diff != "" {
		t.Errorf("left (-want +got):\n%s", diff)
	}
	p, err := f.engine().Plan(t.Context(), of(f.set("a", "1\n")))
	if err != nil || len(p.Left) != 1 || p.Left[0].Run != 2 {
		t.Errorf("plan: left %+v, %v", p.Left, err)
	}
}
