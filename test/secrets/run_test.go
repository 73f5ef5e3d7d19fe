package secrets

import (
	"crypto/sha256"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
)

// outcome is how a run ended, and what it printed.
type outcome struct {
	status         syscall.WaitStatus
	stdout, stderr string
}

// run runs the program in the world and searches all that comes of it. started, where it is not nil, gets its process number.
func (w *world) run(scenario string, args invocation, env []string, started func(pid int)) outcome {
	w.Helper()
	before := w.tree()
	w.bus.drain(w.T)
	w.takeRequests()
	var seen []sighting
	env = append([]string{"PATH=/usr/bin:/bin", "HOME=/root", "AWS_SECRET_ACCESS_KEY=" + w.ambient()}, env...)
	out, errs := w.create("stdout"), w.create("stderr")
	status, err := traced(append([]string{labDir + "/converge"}, args...), env, out, errs, started, func(p program) {
		if p.main {
			return // its arguments and environment are what it was given
		}
		seen = append(seen, sighting{sink: "arguments of " + p.path, data: p.cmdline}, sighting{sink: "environment of " + p.path, data: p.environ})
		seen = append(seen, changed(before, w.tree())...) // what stands there only while others are asked
	})
	if err = errors.Join(err, out.Close(), errs.Close()); err != nil {
		w.Fatalf("%s: %s", args, err)
	}
	o := outcome{status, w.get(out.Name()), w.get(errs.Name())}
	seen = append(seen, sighting{sink: "standard output", data: []byte(o.stdout)}, sighting{sink: "standard error", data: []byte(o.stderr)})
	seen = append(seen, changed(before, w.tree())...)
	seen = append(seen, w.takeRequests()...)
	for _, msg := range w.bus.drain(w.T) {
		seen = append(seen, sighting{sink: "the bus of systemd", data: []byte(msg)})
	}
	w.judge(fmt.Sprintf("%s (%s)", args, scenario), seen)
	return o
}

// ambient is a secret in the program's environment that nobody asked it to use.
func (w *world) ambient() string {
	const name = "host: a variable of the environment"
	if w.names[name] == "" {
		w.names[name] = w.foreign(strings.TrimPrefix(name, "host: "))
	}
	return w.names[name]
}

func (w *world) create(name string) *os.File {
	w.Helper()
	f, err := os.Create(labDir + "/out/" + name)
	if err != nil {
		w.Fatal(err)
	}
	return f
}

func (w *world) takeRequests() []sighting {
	w.mu.Lock()
	defer w.mu.Unlock()
	taken := w.requests
	w.requests = nil
	return taken
}

// judge reports what was seen where it must not be.
func (w *world) judge(what string, seen []sighting) {
	w.Helper()
	told := map[string]bool{}
	for _, s := range seen {
		if ownOnly(s.sink) && s.mode.IsRegular() && s.mode != 0o600 {
			w.Errorf("%s: %s has mode %04o; only root may read it, and nobody may run it: 0600", what, s.sink, s.mode)
		}
		for _, h := range w.search.find(s.data) {
			if w.note(h.plant, s) {
				continue
			}
			if complaint := fmt.Sprintf("%s: %s holds %s as %s", what, s.sink, h.plant, h.form); !told[complaint] {
				told[complaint] = true
				w.Errorf("%s: %s\n\t%q", complaint, remedy(h.plant, s.sink, s.mode), around(s.data, h.at))
			}
		}
	}
}

// note reports whether a plant may be where it was seen, and remembers it.
func (w *world) note(plant string, s sighting) bool {
	name, _, _ := strings.Cut(plant, " of round ")
	for _, p := range places[name] {
		if p.holds(s.sink) && (!strings.HasPrefix(s.sink, "file ") || s.mode&^private == 0) {
			w.found[name+" in "+p.where] = true
			return true
		}
	}
	return false
}

// around is the text before a place in data, to tell what it is.
func around(data []byte, at int) []byte { return data[max(0, at-60):at] }

// entry is what stands at a path.
type entry struct {
	mode    fs.FileMode
	content []byte
}

// notOurs are the directories that are not the host's own: those of the kernel and the system, and the lab.
var notOurs = []string{"/proc", "/dev", "/sys", "/usr", "/bin", "/sbin", "/lib", "/lib32", "/lib64", "/libx32", "/etc/ssl/certs", "/etc/alternatives", labDir}

// tree reads the whole host. What goes away meanwhile is passed over.
func (w *world) tree() map[string]entry {
	w.Helper()
	all := map[string]entry{}
	err := filepath.WalkDir("/", func(name string, d fs.DirEntry, err error) error {
		if errors.Is(err, fs.ErrNotExist) {
			return nil
		}
		if err != nil {
			return err
		}
		if slices.Contains(notOurs, name) {
			if d.IsDir() {
				return filepath.SkipDir
			}
			return nil // a link to one
		}
		e := entry{mode: d.Type()}
		switch {
		case d.Type() == fs.ModeSymlink:
			target, err := os.Readlink(name)
			if err != nil && !errors.Is(err, fs.ErrNotExist) {
				return err
			}
			e.content = []byte(target)
		case d.Type().IsRegular():
			info, err := d.Info()
			if err == nil {
				e.mode = info.Mode().Perm()
				e.content, err = os.ReadFile(name)
			}
			if err != nil && !errors.Is(err, fs.ErrNotExist) {
				return err
			}
		}
		all[name] = e
		return nil
	})
	if err != nil {
		w.Fatal(err)
	}
	return all
}

// changed is all that is new in a tree, names included.
func changed(before, after map[string]entry) []sighting {
	var out []sighting
	for name, e := range after {
		old, there := before[name]
		if !there {
			out = append(out, sighting{sink: "name of a file", data: []byte(name)})
		}
		if !there || old.mode != e.mode || sha256.Sum256(old.content) != sha256.Sum256(e.content) {
			out = append(out, sighting{"file " + name, e.content, e.mode})
		}
	}
	return out
}
