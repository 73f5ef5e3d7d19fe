package command

import (
	"context"
	"encoding/base64"
	"errors"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/converge-agent/converge/diag"
	"github.com/converge-agent/converge/host"
	"github.com/converge-agent/converge/host/hosttest"
	"github.com/converge-agent/converge/resources"
	"github.com/converge-agent/converge/resources/resourcetest"
	"github.com/converge-agent/converge/secret"
	"github.com/google/go-cmp/cmp"
	"github.com/zclconf/go-cty/cty"
)

func argv(words ...string) cty.Value {
	list := make([]cty.Value, len(words))
	for i, w := range words {
		list[i] = cty.StringVal(w)
	}
	return cty.TupleVal(list)
}

func written(attrs map[string]cty.Value) (resources.Resource, error) {
	config, errs := Kind().Complete(cty.ObjectVal(attrs))
	if len(errs) > 0 {
		return nil, errs[0]
	}
	r, _, err := Kind().New(resources.Address{}, config)
	return r, err
}

func must(t *testing.T, attrs map[string]cty.Value) resources.Resource {
	t.Helper()
	r, err := written(attrs)
	if err != nil {
		t.Fatal(err)
	}
	return r
}

func plan(t *testing.T, r resources.Resource, env resources.Env) resources.Change {
	t.Helper()
	s, err := r.Read(t.Context(), env.ReadEnv)
	if err != nil {
		t.Fatal(err)
	}
	return r.Diff(s)
}

func envOf(files host.View, commands host.Commands) resources.Env {
	return resources.Env{ReadEnv: resources.ReadEnv{Files: files, Probe: commands}, Commands: commands}
}

// TestRunsUntilTheGuardHolds uses real programs.
func TestRunsUntilTheGuardHolds(t *testing.T) {
	marker := filepath.Join(t.TempDir(), "done")
	r := must(t, map[string]cty.Value{
		"run": argv("sh", "-c", `printf %s "$WHAT" > "$1"`, "sh", marker), "unless": argv("test", "-s", marker),
		"env": cty.ObjectVal(map[string]cty.Value{"WHAT": secret.New("s3cret").Value()}),
	})
	env := envOf(hosttest.NewMemory(), host.SystemCommands())
	c := plan(t, r, env)
	if _, err := os.Stat(marker); err == nil {
		t.Fatal("the plan ran the program")
	}
	want := []resources.Effect{{Verb: "run", Target: `sh -c "printf %s \"$WHAT\" > \"$1\"" sh ` + marker, Why: "test -s " + marker + " fails"}}
	if diff := cmp.Diff(want, c.Effects); c.Action != resources.Run || diff != "" {
		t.Errorf("%s %s", c.Action, diff)
	}
	if err := r.Apply(t.Context(), env, c); err != nil {
		t.Fatal(err)
	}
	if got, err := os.ReadFile(marker); err != nil || string(got) != "s3cret" {
		t.Errorf("the program wrote %q, %v", got, err)
	}
	if left := plan(t, r, env); left.Action != resources.None || left.Digest != c.Digest {
		t.Errorf("after the apply: %s", left.Action)
	}
}

func TestConformance(t *testing.T) {
	resourcetest.Run(t, resourcetest.Case{
		Kind: Kind(),
		Config: map[string]cty.Value{
			"run": argv("make", "it"), "creates": cty.StringVal("/etc/it"),
			"env": cty.ObjectVal(map[string]cty.Value{"KEY": secret.New("s3cret").Value()}),
		},
		Setup: func(h *resourcetest.Host) {
			h.Commands.Answer = func(host.Command) (host.Result, error) {
				h.Files.Put("/etc/it", host.File{})
				return host.Result{}, nil
			}
		},
		Drift:   map[string]func(*resourcetest.Host){"removed": func(h *resourcetest.Host) { h.Files.Remove("/etc/it") }},
		Secrets: []string{"s3cret"},
	})
}

func TestCreates(t *testing.T) {
	files := hosttest.NewMemory()
	r := must(t, map[string]cty.Value{"run": argv("make", "it"), "creates": cty.StringVal("/srv/it")})
	env := envOf(files, &hosttest.Commands{})
	if c := plan(t, r, env); c.Action != resources.Run || c.Effects[0].Why != "/srv/it is not there" {
		t.Errorf("without it: %s %+v", c.Action, c.Effects)
	}
	files.Put("/srv/it", host.File{Type: host.Directory})
	if c := plan(t, r, env); c.Action != resources.None {
		t.Errorf("with it: %s", c.Action)
	}
	overlay := host.NewOverlay(files)
	files.Remove("/srv/it")
	if err := overlay.Stage(host.Edit{Path: "/srv/it", After: &host.File{Mode: 0o600}, Opaque: true}); err != nil {
		t.Fatal(err)
	}
	env.ReadEnv.Files = overlay
	if c := plan(t, r, env); c.Action != resources.None {
		t.Errorf("with one that is going to be there: %s", c.Action)
	}
}

func TestBothProgramsGetTheSameSurroundings(t *testing.T) {
	commands := &hosttest.Commands{Answer: func(c host.Command) (host.Result, error) {
		if c.Args[0] == "ask" {
			return host.Result{Code: 1}, nil
		}
		return host.Result{}, nil
	}}
	r := must(t, map[string]cty.Value{
		"run": argv("do", "it"), "unless": argv("ask"), "user": cty.StringVal("mastodon"), "dir": cty.StringVal("/srv"),
		"env": cty.ObjectVal(map[string]cty.Value{"B": cty.StringVal("2"), "A": cty.StringVal("1")}),
	})
	env := envOf(hosttest.NewMemory(), commands)
	if err := r.Apply(t.Context(), env, plan(t, r, env)); err != nil {
		t.Fatal(err)
	}
	same := host.Command{Dir: "/srv", Env: []string{"A=1", "B=2"}, User: "mastodon"}
	ask, do := same, same
	ask.Args, do.Args = []string{"ask"}, []string{"do", "it"}
	want := []hosttest.Call{{Command: ask, Probe: true}, {Command: do}}
	if diff := cmp.Diff(want, commands.Calls()); diff != "" {
		t.Errorf("(-want +got)\n%s", diff)
	}
}

func TestFailureShowsTheLastWordsWithoutSecrets(t *testing.T) {
	r := must(t, map[string]cty.Value{
		"run": argv("sh", "-c", "for i in 1 2 3 4 5 6 7 8 9 10 11 12; do echo line $i >&2; done; echo key $KEY >&2; exit 3"), "creates": cty.StringVal("/x"),
		"env": cty.ObjectVal(map[string]cty.Value{"KEY": secret.New("s3cret").Value(), "EMPTY": cty.StringVal("")}),
	})
	err := r.Apply(t.Context(), envOf(hosttest.NewMemory(), host.SystemCommands()), resources.Change{})
	if err == nil || diag.Fix(err) == "" {
		t.Fatalf("got %v, want an error with a fix", err)
	}
	for text, want := range map[string]bool{"status 3": true, "line 12\nkey (sensitive)": true, "line 4\n": true, "line 3\n": false, "s3cret": false} {
		if strings.Contains(err.Error(), text) != want {
			t.Errorf("%q in the error: want %v, got\n%v", text, want, err)
		}
	}
}

// TestLaw6FailureShowsNoFormOfASecret: nor a part of one, nor one that ends with a line; what is no secret is shown.
func TestLaw6FailureShowsNoFormOfASecret(t *testing.T) {
	const text = "hunter2-and-a-long-tail\n"
	r := must(t, map[string]cty.Value{
		"run":     argv("sh", "-c", `printf %s "$KEY" | base64; printf %.10s "$KEY"; echo "; in $HOME_OF_APP/live"; echo "$KEY"; exit 1`),
		"creates": cty.StringVal("/x"),
		"env":     cty.ObjectVal(map[string]cty.Value{"KEY": secret.New(text).Value(), "HOME_OF_APP": cty.StringVal("/home/mastodon")}),
	})
	err := r.Apply(t.Context(), envOf(hosttest.NewMemory(), host.SystemCommands()), resources.Change{})
	if err == nil || strings.Contains(err.Error(), "hunter2-") || strings.Contains(err.Error(), base64.StdEncoding.EncodeToString([]byte(text))[:8]) {
		t.Errorf("got %v, want an error without the secret", err)
	}
	if err != nil && !strings.Contains(err.Error(), "; in /home/mastodon/live") {
		t.Errorf("got %v, want the value that is no secret in it", err)
	}
}

func TestFailureWithoutStderrShowsTheOutput(t *testing.T) {
	commands := &hosttest.Commands{Answer: func(host.Command) (host.Result, error) {
		return host.Result{Code: 1, Stdout: []byte("it is broken\n")}, nil
	}}
	r := must(t, map[string]cty.Value{"run": argv("x"), "creates": cty.StringVal("/x")})
	err := r.Apply(t.Context(), envOf(hosttest.NewMemory(), commands), resources.Change{})
	if err == nil || !strings.Contains(err.Error(), "run x: it ended with status 1 and said:\nit is broken") {
		t.Errorf("got %v", err)
	}
}

func TestGuardThatIsNotThereYet(t *testing.T) {
	r := must(t, map[string]cty.Value{"run": argv("x"), "unless": argv("/nowhere/no-such-program")})
	c := plan(t, r, envOf(hosttest.NewMemory(), host.SystemCommands()))
	if c.Action != resources.Run || len(c.Notes) != 1 || !strings.Contains(c.Notes[0], "no-such-program") {
		t.Errorf("got %s, notes %q", c.Action, c.Notes)
	}
}

func TestGuardThatCannotBeAsked(t *testing.T) {
	broken := errors.New("cannot fork")
	commands := &hosttest.Commands{Answer: func(host.Command) (host.Result, error) { return host.Result{}, broken }}
	r := must(t, map[string]cty.Value{"run": argv("x"), "unless": argv("y")})
	if _, err := r.Read(t.Context(), envOf(hosttest.NewMemory(), commands).ReadEnv); !errors.Is(err, broken) {
		t.Errorf("got %v", err)
	}
}

func TestCancellation(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	r := must(t, map[string]cty.Value{"run": argv("sleep", "60"), "creates": cty.StringVal("/x")})
	if err := r.Apply(ctx, envOf(hosttest.NewMemory(), host.SystemCommands()), resources.Change{}); !errors.Is(err, context.Canceled) {
		t.Errorf("got %v", err)
	}
}

// TestHangingProgramsAreEnded, with all that they started, be it the guard in a plan or the program in an apply.
func TestHangingProgramsAreEnded(t *testing.T) {
	list := func(words ...string) cty.Value {
		var vs []cty.Value
		for _, w := range words {
			vs = append(vs, cty.StringVal(w))
		}
		return cty.ListVal(vs)
	}
	hang := list("sh", "-c", "sleep 60 & wait")
	for name, attrs := range map[string]map[string]cty.Value{
		"unless": {"run": list("true"), "unless": hang},
		"run":    {"run": hang, "creates": cty.StringVal("/nonexistent/never")},
	} {
		t.Run(name, func(t *testing.T) {
			attrs["timeout"] = cty.StringVal("100ms")
			config, errs := Kind().Complete(cty.ObjectVal(attrs))
			if len(errs) > 0 {
				t.Fatal(errs)
			}
			r, _, err := Kind().New(resources.Address{}, config)
			if err != nil {
				t.Fatal(err)
			}
			env := resources.Env{Commands: host.SystemCommands()}
			env.Files, env.ReadEnv.Files, env.Probe = host.System(), host.System(), host.SystemCommands()
			st, err := r.Read(t.Context(), env.ReadEnv)
			if err == nil {
				err = r.Apply(t.Context(), env, r.Diff(st))
			}
			if err == nil || !strings.Contains(err.Error(), "it had not ended after 100ms") || diag.Fix(err) == "" {
				t.Errorf("got %v", err)
			}
		})
	}
}

func TestRefusals(t *testing.T) {
	run, unless, creates := argv("x"), argv("y"), cty.StringVal("/x")
	for _, tt := range []struct {
		name  string
		attrs map[string]cty.Value
		says  string
	}{
		{"no program", map[string]cty.Value{"run": cty.ListValEmpty(cty.String), "creates": creates}, "names no program"},
		{"no guard", map[string]cty.Value{"run": run}, "either unless or creates"},
		{"empty guard", map[string]cty.Value{"run": run, "unless": cty.ListValEmpty(cty.String)}, "either unless or creates"},
		{"two guards", map[string]cty.Value{"run": run, "unless": unless, "creates": creates}, "either unless or creates"},
		{"secret argument", map[string]cty.Value{"run": cty.TupleVal([]cty.Value{secret.New("s").Value()}), "creates": creates}, "the value is secret"},
		{"variable name", map[string]cty.Value{"run": run, "creates": creates, "env": cty.ObjectVal(map[string]cty.Value{"A=B": cty.StringVal("")})}, "not the name"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			if _, err := written(tt.attrs); err == nil || !strings.Contains(err.Error(), tt.says) {
				t.Errorf("got %v, want %q", err, tt.says)
			}
		})
	}
}

func TestWords(t *testing.T) {
	got := words([]string{"a", "b c", "", `d"e`, "--f=g"})
	if want := `a "b c" "" "d\"e" --f=g`; got != want {
		t.Errorf("got %s, want %s", got, want)
	}
	if c := must(t, map[string]cty.Value{"run": argv("x"), "creates": cty.StringVal("/x")}).Claims(); !slices.Equal(c, nil) {
		t.Errorf("claims %v", c)
	}
}
