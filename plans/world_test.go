package plans_test

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"path"
	"slices"
	"strings"
	"syscall"
	"time"

	"github.com/converge-agent/converge/diag"
	"github.com/converge-agent/converge/dotenv"
	"github.com/converge-agent/converge/host"
	"github.com/converge-agent/converge/host/hosttest"
	"github.com/converge-agent/converge/plans"
	"github.com/converge-agent/converge/resources"
	"github.com/converge-agent/converge/resources/directory"
	"github.com/converge-agent/converge/resources/envfile"
	"github.com/converge-agent/converge/resources/file"
	"github.com/converge-agent/converge/resources/symlink"
	"github.com/converge-agent/converge/resources/systemdservice"
	"github.com/zclconf/go-cty/cty"
	"pgregory.net/rapid"
)

// The kinds that generated configurations are made of: those whose whole effect the host in memory can show.
var (
	fileKind      = file.Kind()
	directoryKind = directory.Kind()
	symlinkKind   = symlink.Kind()
	envKind       = envfile.Kind()
	unitKind      = systemdservice.Kind()
)

const worldState = "/var/lib/converge"

// places are the paths that generated hosts and configurations are about, directories before what stands in them.
var places = []string{"/srv/a", "/srv/b", "/srv/d", "/srv/d/f", "/srv/d/e", "/srv/d/e/g", "/srv/l"}

var unitNames = []string{"web.service", "worker.service"}

// texts are the contents of files; as files of variables they share keys with what env files set.
var texts = []string{"", "hello\n", "A=1\n", "A=2\n# note\nB=1\n", "A=1\nA=3\nC=9\n"}

// bubbleClock is the clock of a synctest bubble: it goes on by itself as soon as everybody sleeps.
type bubbleClock struct{ boot time.Time }

func (c bubbleClock) Now() time.Time           { return time.Now() }
func (c bubbleClock) SinceBoot() time.Duration { return time.Since(c.boot) }

// brokenFiles are files of which some cannot be read.
type brokenFiles struct {
	*hosttest.Memory
	unreadable map[string]error // by path
}

func (b brokenFiles) Lookup(p string) (*host.File, error) {
	if err := b.unreadable[p]; err != nil {
		return nil, host.SystemError(err, "read", p)
	}
	return b.Memory.Lookup(p)
}

// world is a generated host, and the configuration that is applied to it.
type world struct {
	*rapid.T
	clock  bubbleClock
	files  brokenFiles
	units  *hosttest.Units
	blocks []*block
	// loaded is, by unit, what stood on the host when it last read its files: at its start, and at its last reload.
	loaded, reloaded map[string]snapshot
}

// block is one block of a generated configuration.
type block struct {
	kind    *resources.Kind
	name    string
	written map[string]cty.Value
	needs   []resources.Address // depends_on
	broken  bool                // its Apply fails
}

func (b *block) address() resources.Address {
	return resources.Address{Kind: b.kind.Name, Name: b.name}
}

func (b *block) text(attr string) string {
	if v, ok := b.written[attr]; ok {
		return v.AsString()
	}
	return ""
}

// digest stands for what is written.
func (b *block) digest() string {
	var all []string
	for name, v := range b.written {
		all = append(all, fmt.Sprintf("%s = %#v", name, v))
	}
	slices.Sort(all)
	return strings.Join(all, "\n")
}

// String shows the block, for a failing test.
func (b *block) String() string {
	text := fmt.Sprintf("%s needs %v", b.address(), b.needs)
	for _, name := range slices.Sorted(maps.Keys(b.written)) {
		if strings.HasSuffix(name, "_on") {
			text += fmt.Sprintf(" %s=%v", name, b.triggers(name))
		} else {
			text += fmt.Sprintf(" %s=%#v", name, b.written[name])
		}
	}
	return strings.ReplaceAll(text, "cty.StringVal", "")
}

// snapshot is what stands on a host, by path.
type snapshot map[string]*host.File

// newWorld generates a host: some files, and units that were started before or after the last of them was edited.
func newWorld(t *rapid.T) *world {
	w := &world{T: t, clock: bubbleClock{time.Now().Add(-time.Hour)}, loaded: map[string]snapshot{}, reloaded: map[string]snapshot{}}
	w.files = brokenFiles{hosttest.NewMemory(), map[string]error{}}
	w.files.Clock = w.clock
	w.files.Put("/srv", host.File{Type: host.Directory, Mode: 0o755})
	w.files.Put("/var/lib", host.File{Type: host.Directory, Mode: 0o755})
	for _, p := range places {
		w.place(p)
	}
	w.units = hosttest.NewUnits(w.clock)
	w.units.Came = w.came
	for _, name := range unitNames {
		w.unit(name)
	}
	if rapid.Bool().Draw(t, "edited after the units started") {
		w.place(rapid.SampledFrom(places).Draw(t, "edited"))
	}
	w.pass()
	return w
}

// pass lets so much time go by that the order of what comes before and after is beyond doubt.
func (w *world) pass() { time.Sleep(100 * time.Millisecond) }

// place puts something, or nothing, at a path, as somebody else would. A directory that holds something stays.
func (w *world) place(p string) {
	w.pass()
	f := w.drawFile(p)
	if names, _ := w.files.List(p); len(names) > 0 {
		return
	}
	if parent, err := w.files.Memory.Lookup(path.Dir(p)); err != nil || parent == nil || parent.Type != host.Directory {
		return
	}
	w.files.Remove(p)
	if f != nil {
		w.files.Put(p, *f)
	}
}

// drawFile draws what stands at p: mostly what such a path is used for.
func (w *world) drawFile(p string) *host.File {
	f := &host.File{Type: typeOf(p), Mode: 0o644}
	switch rapid.IntRange(0, 9).Draw(w.T, "stands at "+p) {
	case 0, 1, 2:
		return nil
	case 3:
		f.Type = rapid.SampledFrom([]host.FileType{host.Regular, host.Directory, host.Symlink}).Draw(w.T, "type")
	}
	if f.Type == host.Symlink && typeOf(p) == host.Directory {
		f.Target = "/nowhere" // what stands below has one name only
		return f
	}
	f.UID = rapid.SampledFrom([]int{0, 1000}).Draw(w.T, "uid")
	switch f.Type {
	case host.Directory:
		f.Mode = 0o755
	case host.Symlink:
		f.Target = rapid.SampledFrom([]string{"/srv/a", "/nowhere"}).Draw(w.T, "target")
	default:
		f.Content = []byte(rapid.SampledFrom(texts).Draw(w.T, "content"))
		f.Mode = 0o644
		if rapid.Bool().Draw(w.T, "private") {
			f.Mode = 0o600
		}
	}
	return f
}

func typeOf(p string) host.FileType {
	switch p {
	case "/srv/d", "/srv/d/e":
		return host.Directory
	case "/srv/l":
		return host.Symlink
	}
	return host.Regular
}

func (w *world) unit(name string) {
	u := host.Unit{Name: name, CanReload: true, Type: "simple"}
	if rapid.Bool().Draw(w.T, name+" runs") {
		u.Active, u.Sub = "active", "running"
	}
	if rapid.Bool().Draw(w.T, name+" is enabled") {
		u.FileState = "enabled"
	}
	w.units.Put(u)
	w.loaded[name], w.reloaded[name] = w.snapshot(), w.snapshot()
}

// came notes what a unit has read.
func (w *world) came(verb string, u *host.Unit) {
	switch verb {
	case "start", "restart":
		w.loaded[u.Name] = w.snapshot()
		w.reloaded[u.Name] = w.loaded[u.Name]
	case "reload":
		w.reloaded[u.Name] = w.snapshot()
	}
}

// snapshot is the whole host, converge's own state included.
func (w *world) snapshot() snapshot {
	all := snapshot{}
	var add func(dir string)
	add = func(dir string) {
		names, err := w.files.List(dir)
		if err != nil {
			w.Fatal(err)
		}
		for _, name := range names {
			p := path.Join(dir, name)
			f, err := w.files.Memory.Lookup(p)
			if err != nil {
				w.Fatal(err)
			}
			if all[p] = f; f.Type == host.Directory {
				add(p)
			}
		}
	}
	add("/")
	return all
}

// configure generates a configuration.
func (w *world) configure() {
	w.blocks = nil
	owned := map[string]bool{}
	for i := range rapid.IntRange(1, 7).Draw(w.T, "blocks") {
		if b := w.drawBlock(fmt.Sprintf("b%d", i), owned); b != nil {
			w.blocks = append(w.blocks, b)
		}
	}
}

func (w *world) drawBlock(name string, owned map[string]bool) *block {
	b := &block{name: name, written: map[string]cty.Value{}}
	kinds := []*resources.Kind{envKind, fileKind, unitKind, directoryKind, symlinkKind}
	b.kind = kinds[rapid.IntRange(0, len(kinds)-1).Draw(w.T, "kind of "+name)]
	key := "path"
	place := ""
	switch b.kind {
	case unitKind:
		key, place = "name", rapid.SampledFrom(unitNames).Draw(w.T, "unit")
	case directoryKind:
		place = rapid.SampledFrom([]string{"/srv/d", "/srv/d/e"}).Draw(w.T, "path")
	case symlinkKind:
		place = rapid.SampledFrom([]string{"/srv/l", "/srv/d/f"}).Draw(w.T, "path")
	default:
		place = rapid.SampledFrom([]string{"/srv/a", "/srv/b", "/srv/d/f", "/srv/d/e/g"}).Draw(w.T, "path")
	}
	if b.kind != envKind && owned[place] {
		return nil // two owners are refused by the graph, which has its own test
	}
	owned[place] = owned[place] || b.kind != envKind
	b.written[key] = cty.StringVal(place)
	w.write(b)
	for _, other := range w.blocks {
		if rapid.IntRange(0, 4).Draw(w.T, name+" needs "+other.name) == 4 {
			b.needs = append(b.needs, other.address())
		}
	}
	return b
}

// write draws the attributes of a block, but for its path or name.
func (w *world) write(b *block) {
	set := func(attr string, values ...cty.Value) {
		delete(b.written, attr)
		if v := rapid.SampledFrom(append([]cty.Value{cty.NilVal}, values...)).Draw(w.T, attr); v != cty.NilVal {
			b.written[attr] = v
		}
	}
	delete(b.written, "ensure")
	if rapid.IntRange(0, 5).Draw(w.T, "ensure") == 5 {
		b.written["ensure"] = cty.StringVal("absent")
	}
	switch b.kind {
	case fileKind:
		b.written["content"] = cty.StringVal(rapid.SampledFrom(texts).Draw(w.T, "content"))
		set("mode", cty.StringVal("0600"), cty.StringVal("0644"))
		set("owner", cty.StringVal("1000"))
	case directoryKind:
		set("mode", cty.StringVal("0700"), cty.StringVal("0755"))
		set("owner", cty.StringVal("1000"))
	case symlinkKind:
		b.written["target"] = cty.StringVal(rapid.SampledFrom([]string{"/srv/a", "/srv/b"}).Draw(w.T, "target"))
	case envKind:
		set("set", cty.MapVal(map[string]cty.Value{"A": cty.StringVal("1")}), cty.MapVal(map[string]cty.Value{"A": cty.StringVal("2")}),
			cty.MapVal(map[string]cty.Value{"A": cty.StringVal("1"), "B": cty.StringVal("two words")}))
		set("unset", cty.ListVal([]cty.Value{cty.StringVal("C")}))
		set("mode", cty.StringVal("0600"), cty.StringVal("0640"))
	case unitKind:
		w.writeUnit(b)
	}
}

func (w *world) writeUnit(b *block) {
	b.written["restart_on"], b.written["reload_on"] = cty.EmptyTupleVal, cty.EmptyTupleVal
	delete(b.written, "running")
	delete(b.written, "enabled")
	if _, absent := b.written["ensure"]; absent {
		return
	}
	for _, attr := range []string{"running", "enabled"} {
		if v := rapid.SampledFrom([]cty.Value{cty.NilVal, cty.True, cty.False}).Draw(w.T, attr); v != cty.NilVal {
			b.written[attr] = v
		}
	}
	var restart, reload []cty.Value
	for _, other := range w.blocks {
		if other == b {
			break // only to what stands before it, or they would need each other in a circle
		}
		if other.kind == unitKind {
			continue
		}
		switch rapid.IntRange(0, 3).Draw(w.T, "trigger "+other.name) {
		case 1, 2:
			restart = append(restart, resources.Reference(other.address(), cty.EmptyObjectVal))
		case 3:
			reload = append(reload, resources.Reference(other.address(), cty.EmptyObjectVal))
		}
	}
	b.written["restart_on"], b.written["reload_on"] = cty.TupleVal(restart), cty.TupleVal(reload)
}

// triggers are what a unit's block names in an attribute.
func (b *block) triggers(attr string) []resources.Address {
	return resources.AddressesIn(b.written[attr])
}

// refers are all that a block needs.
func (b *block) refers() []resources.Address {
	needs := slices.Clone(b.needs)
	if b.kind == unitKind {
		needs = append(append(needs, b.triggers("restart_on")...), b.triggers("reload_on")...)
	}
	return needs
}

// nodes is the configuration as the engine takes it.
func (w *world) nodes() []resources.Node {
	var nodes []resources.Node
	for _, b := range w.blocks {
		config, errs := b.kind.Complete(cty.ObjectVal(b.written))
		if len(errs) > 0 {
			w.Fatal(errs[0])
		}
		r, _, err := b.kind.New(b.address(), config)
		if err != nil {
			w.Fatal(err)
		}
		n := resources.Node{Address: b.address(), Kind: b.kind, Resource: r, Config: b.digest(), Where: b.name + ".hcl:1"}
		if b.broken {
			n.Resource = breaks{r}
		}
		n.Needs = b.refers()
		nodes = append(nodes, n)
	}
	return nodes
}

// breaks is a resource whose Apply fails before it has done anything.
type breaks struct{ resources.Resource }

var errBroken = errors.New("broken on purpose")

func (breaks) Apply(context.Context, resources.Env, resources.Change) error { return errBroken }

// engine is converge as it is started anew.
func (w *world) engine() *plans.Engine {
	w.pass()
	records, err := plans.OpenRecords(worldState, w.files, hosttest.Users{})
	if err != nil {
		w.Fatal(err)
	}
	return &plans.Engine{
		Records: records,
		Env: resources.Env{
			ReadEnv: resources.ReadEnv{
				Files: w.files, Units: w.units, Probe: &hosttest.Commands{}, Users: hosttest.Users{}, Clock: w.clock, StateDir: worldState,
			},
			Files: w.files, Units: w.units, Commands: &hosttest.Commands{},
		},
	}
}

// plan plans, and checks that nothing at all has changed by it.
func (w *world) plan(e *plans.Engine) *plans.Plan {
	before, calls, writes := w.snapshot(), len(w.units.Calls()), len(w.files.Writes())
	p, err := e.Plan(context.Background(), w.nodes())
	if err != nil {
		w.Fatal(err)
	}
	w.unchanged("the plan", before)
	if len(w.units.Calls()) > calls || len(w.files.Writes()) > writes {
		w.Fatalf("the plan did %q and wrote %q", w.units.Calls()[calls:], w.files.Writes()[writes:])
	}
	return p
}

// unchanged checks that the host is what it was, and that no file was written again with the same bytes.
func (w *world) unchanged(who string, before snapshot) {
	for p, f := range w.difference(before) {
		w.Fatalf("%s changed %s: %s, was %s", who, p, shown(f), shown(before[p]))
	}
}

// difference is what stands now at those paths that were touched since before.
func (w *world) difference(before snapshot) snapshot {
	now, out := w.snapshot(), snapshot{}
	for p := range before {
		if now[p] == nil {
			out[p] = nil
		}
	}
	for p, f := range now {
		was := before[p]
		rewritten := was != nil && f.Type != host.Directory && !f.ChangedAt.Equal(was.ChangedAt) // a directory's names change too
		if was == nil || !f.Same(was) || rewritten {
			out[p] = f
		}
	}
	return out
}

func shown(f *host.File) string {
	if f == nil {
		return "nothing"
	}
	return fmt.Sprintf("%s %04o %d:%d %q%s", f.Type, host.ModeBits(f.Mode), f.UID, f.GID, f.Content, f.Target)
}

// ours reports whether p is converge's own.
func ours(p string) bool { return p == worldState || strings.HasPrefix(p, worldState+"/") }

// run is what one apply did.
type run struct {
	plan    *plans.Plan
	before  snapshot
	report  *plans.Report
	order   []*plans.Item // those whose Apply began
	changed snapshot      // paths that were touched, but for converge's own
	calls   []string      // of systemd, but for daemon-reload
}

// apply plans and applies.
func (w *world) apply() *run {
	e := w.engine()
	r := &run{plan: w.plan(e), before: w.snapshot(), changed: snapshot{}}
	calls := len(w.units.Calls())
	e.Events = func(ev plans.Event) {
		if ev.Type == plans.Began {
			r.order = append(r.order, ev.Item)
		}
	}
	w.pass()
	r.report = e.Apply(context.Background(), r.plan)
	for p, f := range w.difference(r.before) {
		if !ours(p) && p != "/var/lib" {
			r.changed[p] = f
		}
	}
	for _, call := range w.units.Calls()[calls:] {
		if call != "daemon-reload" {
			r.calls = append(r.calls, call)
		}
	}
	return r
}

// result is how the resource of a block ended.
func (r *run) result(addr resources.Address) plans.Result {
	for _, res := range r.report.Results {
		if res.Item.Node.Address == addr {
			return res
		}
	}
	return plans.Result{}
}

// dies lets the host fail from the step k of writing on, of files and units alike: nothing can be written or commanded any
// more, as if converge had been killed there.
func (w *world) dies(k int) {
	steps := 0
	step := func(string, string) error {
		if steps++; steps >= k {
			return syscall.EIO
		}
		return nil
	}
	w.files.Fail, w.units.Fail = step, step
}

// lives ends all that was made to fail.
func (w *world) lives() {
	w.files.Fail, w.units.Fail = nil, nil
	for _, b := range w.blocks {
		b.broken = false
	}
}

// managed is what a block manages of what stands on a host, and units read.
func (b *block) managed(s snapshot) string {
	f := s[b.text("path")]
	switch {
	case f == nil:
		return "nothing"
	case b.kind == envKind:
		values := dotenv.Parse(f.Content).Values()
		text := ""
		for _, key := range []string{"A", "B", "C"} {
			if v, there := values[key]; there && b.names(key) {
				text += key + "=" + v + "\n"
			}
		}
		if text == "" {
			return "nothing" // a missing file sets as little
		}
		return text
	case b.kind == directoryKind:
		return fmt.Sprintf("%04o %d", host.ModeBits(f.Mode), f.UID)
	}
	return string(f.Content) + f.Target
}

// names reports whether an env_file manages a variable.
func (b *block) names(key string) bool {
	if v, ok := b.written["set"]; ok && v.HasIndex(cty.StringVal(key)).True() {
		return true
	}
	_, unsets := b.written["unset"]
	return unsets && key == "C"
}

func (w *world) block(addr resources.Address) *block {
	for _, b := range w.blocks {
		if b.address() == addr {
			return b
		}
	}
	return nil
}

// fix is an error with its advice, for a failing test.
func fix(err error) string {
	if err == nil {
		return ""
	}
	return err.Error() + " -> " + diag.Fix(err)
}
