package secrets

import (
	"crypto/x509"
	"encoding/pem"
	"fmt"
	"maps"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/converge-agent/converge/resources"
	"github.com/converge-agent/converge/resources/all"
)

// TestLaw6SecretsStaySecret runs every command over every secret.
func TestLaw6SecretsStaySecret(t *testing.T) {
	w := newWorld(t)
	commands := commandTree(func(args ...string) string {
		return w.run("help", args, nil, nil).stdout
	})
	for _, complaint := range append(complaints(w.kinds), unknownCommands(commands)...) {
		t.Error(complaint)
	}
	if t.Failed() {
		return
	}
	w.first()
	w.everyCommand(commands)
	w.savedPlans()
	w.failures(commands)
	w.refusals()
	w.interruptions()
	w.mustHaveBeenFound()
}

const good = configDir + "/good.hcl"

// first brings a fresh host to what the configuration says, and plants the secrets that were made on the way.
func (w *world) first() {
	w.newRound()
	if o := w.run("fresh host", invocation{"apply", "--auto-approve", good}, nil, nil); o.status.ExitStatus() != 0 {
		w.Fatalf("apply of the good configuration failed:\n%s%s", o.stdout, o.stderr)
	}
	w.made("the key of the account", stateDir+"/acme_certificate/accounts/*/account.key")
	w.made("the key of the certificate", "/etc/ssl/files.example.com/live/privkey.pem")
	w.search.add(plant{"host: the key of the records", w.get(stateDir + "/key")})
}

// made plants the secret half of a key that was made by converge.
func (w *world) made(what, pattern string) {
	w.Helper()
	files, err := filepath.Glob(pattern)
	if err != nil || len(files) != 1 {
		w.Fatalf("%s: %d files %s, %v", what, len(files), pattern, err)
	}
	block, _ := pem.Decode([]byte(w.get(files[0])))
	if block == nil {
		w.Fatalf("%s: no PEM", files[0])
	}
	key, err := x509.ParseECPrivateKey(block.Bytes)
	if err != nil {
		w.Fatal(err)
	}
	secret, err := key.Bytes()
	if err != nil {
		w.Fatal(err)
	}
	w.search.add(plant{"host: " + what, string(secret)})
}

// everyCommand runs each command with each of its flags while everything is to be changed.
func (w *world) everyCommand(commands []command) {
	for _, c := range commands {
		for _, args := range c.invocations(good, everyFlag) {
			if c.evaluates() {
				w.newRound()
			}
			if o := w.run("everything changes", args, nil, nil); !succeeded(args, o) && !slices.Contains(mayRefuse, c.name) {
				w.Errorf("%s ended with %d:\n%s%s", args, o.status.ExitStatus(), o.stdout, o.stderr)
			}
			if undo := undone[c.name]; undo != nil {
				w.run("afterwards", undo, nil, nil)
			}
		}
	}
	w.newRound()
	w.run("sensitive variable from the environment", invocation{"apply", "--auto-approve", good}, []string{"CONVERGE_VAR_token=" + w.variable()}, nil)
}

// variable plants a new value of the sensitive variable.
func (w *world) variable() string {
	value := randomText(40)
	w.search.add(plant{w.named("the sensitive variable"), value})
	return value
}

// succeeded reports whether a run ended as one does in which nothing failed.
func succeeded(args invocation, o outcome) bool {
	code := o.status.ExitStatus()
	return code == 0 || code == 2 && slices.Contains(args, "--detailed-exitcode")
}

// savedPlans saves plans and applies them: as they are, and after all secrets have moved.
func (w *world) savedPlans() {
	const scenario = "a saved plan"
	token := []string{"CONVERGE_VAR_token=" + w.variable()}
	must := func(code int, args ...string) {
		w.Helper()
		if o := w.run(scenario, args, token, nil); o.status.ExitStatus() != code {
			w.Errorf("%s ended with %d, not %d:\n%s%s", invocation(args), o.status.ExitStatus(), code, o.stdout, o.stderr)
		}
	}
	w.newRound()
	must(0, "plan", "--out", savedPlan, good)
	must(0, "show", savedPlan)
	must(0, "apply", "--plan", savedPlan)
	w.newRound()
	must(0, "plan", "--out", savedPlan, good)
	w.newRound()
	must(1, "apply", "--plan", savedPlan)
	must(1, "apply", "--plan", savedPlan, "--partial")
}

// failures runs each command with each of the flags that change what it tells while everything fails.
func (w *world) failures(commands []command) {
	w.put(brokenConf, w.foreign("a line that nginx does not understand")+" on;\n", 0o600)
	w.put(live+"/public/system/media_attachments/files/000/000/001/original/new.png", "new", 0o644)
	w.storeRefuses(func(*http.Request) bool { return true })
	for _, c := range commands {
		if !c.evaluates() {
			continue
		}
		w.newRound()
		o := w.run("everything fails", c.invocations(configDir+"/failing.hcl", tellingFlag)[0], nil, nil)
		if c.name == "apply" {
			w.mustHaveFailed(o)
		}
		for _, args := range c.invocations(configDir+"/failing-soon.hcl", tellingFlag)[1:] {
			w.newRound()
			w.run("everything fails", args, nil, nil)
		}
	}
	w.run("everything fails", invocation{"apply", "--plan", savedPlan}, nil, nil) // the last that plan --out has left
	w.storeRefuses(func(r *http.Request) bool { return r.Method == http.MethodPut })
	if o := w.run("the store refuses uploads", invocation{"apply", "--auto-approve", good}, nil, nil); !strings.Contains(o.stdout, "ERR s3_sync.it") {
		w.Errorf("the store refuses uploads, and s3_sync.it does not fail:\n%s%s", o.stdout, o.stderr)
	}
	w.storeRefuses(nil)
	if err := os.Remove(brokenConf); err != nil {
		w.Fatal(err)
	}
	w.newRound()
	w.run("the state directory is full", invocation{"apply", "--auto-approve", "--state-dir", "/full/state", good}, nil, nil)
}

// mustHaveFailed fails unless every kind that has a failing body did.
func (w *world) mustHaveFailed(o outcome) {
	for _, k := range w.kinds {
		failed := strings.Contains(o.stdout, "ERR "+k.Name+".it") || strings.Contains(o.stdout, "--  "+k.Name+".it")
		if b := bodies[k.Name]; b.failing != nil && !b.exports && !failed {
			w.Errorf("%s.it was to fail, so that what it says then could be searched:\n%s%s", k.Name, o.stdout, o.stderr)
		}
	}
}

// refusals has secrets of a form that nobody takes, secrets where there must be none, and secrets that are missing.
func (w *world) refusals() {
	w.newRound()
	w.plantAll(func(secretAttr) string { return randomText(20) + "\"'\\$`\n\x01" + randomText(20) })
	w.configure("unfit.hcl", configuration(w.kinds, succeeding, func(s secretAttr) string {
		if slices.Contains(w.search.names, s.String()) {
			return fmt.Sprintf(`"${credential(%q)} \n\u0001"`, s)
		}
		return credential(s)
	})+"variable \"number\" {\n  type = number\n  sensitive = true\n  default = 1\n}\n")
	plain, attributes := secretsEverywhere(w)
	w.configure("plain.hcl", plain)
	for _, command := range []invocation{{"validate"}, {"plan"}, {"apply", "--auto-approve"}} {
		w.run("secrets that do not fit", append(slices.Clone(command), configDir+"/unfit.hcl"), nil, nil)
		o := w.run("secrets where none may be", append(slices.Clone(command), configDir+"/plain.hcl"), nil, nil)
		if got := strings.Count(o.stderr, "The value is secret"); got != attributes && command[0] != "validate" {
			w.Errorf("%s refused %d secrets where none may be, of %d:\n%s", command, got, attributes, o.stderr)
		}
	}
	w.run("a variable of the wrong type", invocation{"plan", configDir + "/unfit.hcl"}, []string{"CONVERGE_VAR_number=" + w.variable()}, nil)
	if err := os.Rename(credstore+"/file.content", credstore+"/lost"); err != nil {
		w.Fatal(err)
	}
	w.run("a secret is missing", invocation{"plan", good}, nil, nil)
	w.run("a secret is missing", invocation{"apply", "--auto-approve", good}, nil, nil)
}

// secretsEverywhere is a configuration that has a secret in each attribute that takes none, and how many those are; and
// secrets where the language itself takes none.
func secretsEverywhere(w *world) (config string, attributes int) {
	value := randomText(40)
	w.search.add(plant{w.named("a secret where none may be"), value})
	w.put(credstore+"/everywhere", value+"\n", 0o600)
	var out strings.Builder
	for _, k := range w.kinds {
		attributes += everyPlainAttr(&out, k.Attrs, func(text string) string {
			return fmt.Sprintf("%s \"x%d\" {\n%s}\n", k.Name, out.Len(), text)
		})
	}
	return out.String() + strings.ReplaceAll(secretsInTheLanguage, "SECRET", everywhere), attributes
}

// everywhere is the expression of that secret.
const everywhere = `credential("everywhere")`

// everyPlainAttr writes a block for each attribute that takes no secret, with one in it, and returns their number.
func everyPlainAttr(out *strings.Builder, attrs []resources.Attr, within func(string) string) int {
	n := 0
	for _, a := range attrs {
		text := everywhere
		switch {
		case a.Block != nil:
			n += everyPlainAttr(out, a.Block, func(text string) string { return within(fmt.Sprintf("%s {\n%s}\n", a.Name, text)) })
			continue
		case a.Secret, len(a.Ref) > 0:
			continue
		case a.Type.IsListType(), a.Type.IsSetType():
			text = "[" + everywhere + "]"
		case a.Type.IsMapType():
			text = "{ " + planted + " = " + everywhere + " }"
		}
		out.WriteString(within(fmt.Sprintf("%s = %s\n", a.Name, text)))
		n++
	}
	return n
}

// secretsInTheLanguage has secrets where it takes none: keys of instances, conditions, indices, paths and wrong types.
const secretsInTheLanguage = `
file "each" {
  for_each = toset([SECRET])
  path     = "/srv/each"
  content  = each.key
}
file "key" {
  for_each = { (SECRET) = "x" }
  path     = "/srv/key"
  content  = each.key
}
file "when" {
  when    = SECRET
  path    = "/srv/when"
  content = "x"
}
file "timeout" {
  timeout = SECRET
  path    = "/srv/timeout"
  content = "x"
}
file "retry" {
  retry {
    attempts = SECRET
    delay    = SECRET
  }
  path    = "/srv/retry"
  content = "x"
}
file "index" {
  path    = "/srv/index"
  content = { a = 1 }[SECRET]
}
file "number" {
  path    = "/srv/number"
  content = tonumber(SECRET) + jsondecode(SECRET)
}
file "path" {
  path    = "/srv/file"
  content = file(SECRET)
}
`

// interruptions stops an apply with all secrets in its memory: in order, and by a crash that prints all its goroutines.
func (w *world) interruptions() {
	for _, signal := range []syscall.Signal{syscall.SIGTERM, syscall.SIGQUIT} {
		w.newRound()
		w.configure("hanging.hcl", configuration(w.kinds, succeeding, credential)+
			"command \"hang\" {\n  run = [\"/bin/sh\", \"/lab/bin/hang\"]\n  creates = \"/run/never\"\n  env = { PLANTED = credential(\"command.env\") }\n}\n")
		o := w.run("stopped by "+signal.String(), invocation{"apply", "--auto-approve", configDir + "/hanging.hcl"}, []string{"GOTRACEBACK=all"}, func(pid int) {
			go w.signalHanging(pid, signal)
		})
		if dumped := strings.Contains(o.stderr, "goroutine "); dumped != (signal == syscall.SIGQUIT) {
			w.Errorf("stopped by %s: goroutines in its output: %v\n%s", signal, dumped, o.stderr)
		}
	}
}

// signalHanging waits until the program that hangs has been started, and signals converge.
func (w *world) signalHanging(pid int, signal syscall.Signal) {
	for deadline := time.Now().Add(5 * time.Minute); time.Now().Before(deadline); time.Sleep(5 * time.Millisecond) {
		text, err := os.ReadFile("/run/hanging")
		if err != nil {
			continue
		}
		_ = os.Remove("/run/hanging")
		_ = syscall.Kill(pid, signal)
		if child, err := strconv.Atoi(strings.TrimSpace(string(text))); err == nil && signal == syscall.SIGQUIT {
			defer func() { _ = syscall.Kill(child, syscall.SIGKILL) }() // a crash leaves it behind
		}
		return
	}
	w.Error("the program that hangs was not started")
	_ = syscall.Kill(pid, syscall.SIGKILL)
}

// mustHaveBeenFound fails for secrets that were not where they were told to be: they were never at stake.
func (w *world) mustHaveBeenFound() {
	for _, name := range slices.Sorted(maps.Keys(places)) {
		for _, p := range places[name] {
			if p.must && !w.found[name+" in "+p.where] {
				w.Errorf("%s was never in %q (%s): it was not put to use, or the search is blind", name, p.where, p.why)
			}
		}
	}
}

// TestTables: the tables fit the registry; the other test says so too, later.
func TestTables(t *testing.T) {
	for _, complaint := range complaints(all.Kinds(all.Deps{})) {
		t.Error(complaint)
	}
}
