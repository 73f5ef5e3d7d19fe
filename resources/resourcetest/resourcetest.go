// Package resourcetest is the suite that every kind passes: it plans, applies, breaks and heals a resource on a host in
// memory, fails it at every step, cancels it, and searches everything that a plan shows for planted secrets.
package resourcetest

import (
	"context"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"path"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/converge-agent/converge/host"
	"github.com/converge-agent/converge/host/hosttest"
	"github.com/converge-agent/converge/resources"
	"github.com/zclconf/go-cty/cty"
)

// Case is one kind in one situation.
type Case struct {
	Kind   *resources.Kind
	Config map[string]cty.Value // as somebody would write it
	// Setup brings the host into the state before; nil leaves it empty but for /etc and /var/lib.
	Setup func(h *Host)
	// Drift breaks, each in its way, what had converged.
	Drift map[string]func(h *Host)
	// Secrets are texts in Config or Setup that nobody may see.
	Secrets []string
}

// Host is the machine that a case runs on.
type Host struct {
	Files    *hosttest.Memory
	Units    *hosttest.Units
	Commands *hosttest.Commands
	Users    host.Users
	Clock    *hosttest.Clock
	Records  Records
	// Processes are what runs, by the process that has started it.
	Processes hosttest.Processes
	// Upstreams are what the resource depends on.
	Upstreams map[resources.Address]resources.Upstream
}

// Records are records in memory.
type Records map[string]json.RawMessage

// Keyed implements resources.RecordView.
func (r Records) Keyed(text string) string {
	mac := hmac.New(sha256.New, []byte("the key of the records in memory"))
	mac.Write([]byte(text))
	return hex.EncodeToString(mac.Sum(nil))
}

// Record implements resources.RecordView.
func (r Records) Record(name string, v any) (bool, error) {
	raw, ok := r[name]
	if !ok {
		return false, nil
	}
	return true, json.Unmarshal(raw, v)
}

// stateDir is where kinds keep what they want to find again.
const stateDir = "/var/lib/converge"

// patience bounds how long a cancelled Read or Apply may take.
const patience = 5 * time.Second

// Run reports everything that is wrong with the kind in this case.
func Run(t *testing.T, c Case) {
	t.Helper()
	for _, finding := range Check(t.Context(), c) {
		t.Error(finding)
	}
}

// Check returns what is wrong with the kind in this case, each with the name of the rule that it breaks.
func Check(ctx context.Context, c Case) []string {
	s := &suite{Case: c}
	s.documented()
	if s.made(); len(s.findings) > 0 {
		return s.findings
	}
	s.planOnlyReads(ctx)
	s.convergesAndStays(ctx)
	s.healsDrift(ctx)
	s.survivesEveryFault(ctx)
	s.honoursCancellation(ctx)
	s.goesAway(ctx)
	slices.Sort(s.findings)
	return slices.Compact(s.findings)
}

type suite struct {
	Case
	findings []string
}

func (s *suite) fail(rule, format string, args ...any) {
	s.findings = append(s.findings, rule+": "+fmt.Sprintf(format, args...))
}

func (s *suite) documented() {
	if s.Kind.Doc == "" {
		s.fail("documented", "the kind %s has no Doc", s.Kind.Name)
	}
	var check func(where string, attrs []resources.Attr)
	check = func(where string, attrs []resources.Attr) {
		for _, a := range attrs {
			if a.Doc == "" {
				s.fail("documented", "%s%s has no Doc", where, a.Name)
			}
			check(where+a.Name+".", a.Block)
		}
	}
	check("", s.Kind.Attrs)
	check("export ", s.Kind.Exports)
}

// NewHost makes the host of the case anew.
func (c Case) NewHost() *Host {
	clock := hosttest.NewClock(time.Date(2026, 11, 21, 12, 0, 0, 0, time.UTC))
	h := &Host{
		Files: hosttest.NewMemory(), Units: hosttest.NewUnits(clock), Commands: &hosttest.Commands{},
		Users: hosttest.Users{}, Clock: clock, Records: Records{},
	}
	for _, dir := range []string{"/etc", "/var/lib"} {
		h.Files.Put(dir, host.File{Type: host.Directory, Mode: 0o755})
	}
	if c.Setup != nil {
		c.Setup(h)
	}
	return h
}

// Env is what the resource is given on this host.
func (h *Host) Env() resources.Env {
	return resources.Env{
		ReadEnv: resources.ReadEnv{
			Files: h.Files, Disk: h.Files, Units: h.Units, Probe: h.Commands, Users: h.Users, Clock: h.Clock, Records: h.Records,
			StateDir: stateDir, Upstreams: h.Upstreams, Processes: h.Processes,
		},
		Files: h.Files, Units: h.Units, Commands: h.Commands,
		Progress: func(resources.Progress) {},
	}
}

// made checks that the configuration is accepted, and that New makes a resource of it.
func (s *suite) made() resources.Resource { return s.make(s.Config) }

func (s *suite) make(written map[string]cty.Value) resources.Resource {
	config, errs := s.Kind.Complete(cty.ObjectVal(written))
	for _, err := range errs {
		s.fail("configurable", "%s", err)
	}
	if len(errs) > 0 {
		return nil
	}
	r, exports, err := s.Kind.New(resources.Address{Kind: s.Kind.Name, Name: "case"}, config)
	if err != nil {
		s.fail("configurable", "%s", err)
		return nil
	}
	for _, e := range s.Kind.Exports {
		if exports == cty.NilVal || !exports.Type().HasAttribute(e.Name) {
			s.fail("configurable", "the export %s is missing", e.Name)
		}
	}
	return r
}

// diff reads and diffs, and searches the outcome for secrets.
func (s *suite) diff(ctx context.Context, r resources.Resource, h *Host) (resources.Change, error) {
	state, err := r.Read(ctx, h.Env().ReadEnv)
	if err != nil {
		s.searchError(err)
		return resources.Change{}, err
	}
	c := r.Diff(state)
	again := r.Diff(state)
	c.Private, again.Private = nil, nil
	if !reflect.DeepEqual(c, again) {
		s.fail("diff is pure", "two calls with one state differ: %+v, %+v", c.Summary, again.Summary)
	}
	s.searchChange(c)
	s.claimed(r, c)
	return r.Diff(state), nil
}

// claimed checks that what is edited is claimed.
func (s *suite) claimed(r resources.Resource, c resources.Change) {
	for _, e := range c.Edits {
		claimed := slices.ContainsFunc(r.Claims(), func(cl resources.Claim) bool {
			return cl.Path == e.Path || strings.HasPrefix(e.Path, cl.Path+"/")
		})
		if !claimed {
			s.fail("edits are claimed", "it edits %s without claiming it", e.Path)
		}
	}
}

// planOnlyReads checks that Read and Diff leave the host alone.
func (s *suite) planOnlyReads(ctx context.Context) {
	h := s.NewHost()
	if _, err := s.diff(ctx, s.made(), h); err != nil {
		s.fail("plan only reads", "reading failed: %s", err)
		return
	}
	if done := h.doings(); len(done) > 0 {
		s.fail("plan only reads", "planning did: %s", strings.Join(done, ", "))
	}
}

// doings are the changes made to the host by converge so far: the paths written, the units commanded, the programs run.
func (h *Host) doings() []string {
	done := slices.Concat(h.Files.Writes(), h.Units.Calls())
	for _, c := range h.Commands.Calls() {
		if !c.Probe {
			done = append(done, strings.Join(c.Args, " "))
		}
	}
	return done
}

// snapshot is every path of the host, with what stands there.
func (h *Host) snapshot() map[string]*host.File {
	all := map[string]*host.File{}
	var add func(dir string)
	add = func(dir string) {
		names, err := h.Files.List(dir)
		if err != nil {
			panic(err)
		}
		for _, name := range names {
			p := path.Join(dir, name)
			f, err := h.Files.Lookup(p)
			if err != nil {
				panic(err)
			}
			if all[p] = f; f.Type == host.Directory {
				add(p)
			}
		}
	}
	add("/")
	return all
}

// convergesAndStays applies, and checks that nothing is left to do, and that the next run does nothing.
func (s *suite) convergesAndStays(ctx context.Context) {
	h := s.NewHost()
	r := s.made()
	if !s.apply(ctx, r, h, "converges") {
		return
	}
	before := len(h.doings())
	c, err := s.diff(ctx, s.made(), h)
	switch {
	case err != nil:
		s.fail("converges", "reading the converged host failed: %s", err)
	case c.Action.Changes() || c.Action == resources.Look:
		s.fail("converges", "a new run still finds something to do: %s %s", c.Action, c.Summary)
	}
	if done := h.doings()[before:]; len(done) > 0 {
		s.fail("idempotent", "the second plan did: %s", strings.Join(done, ", "))
	}
}

// apply plans and applies until the host is as it should be, once, and reports what is left under the rule.
func (s *suite) apply(ctx context.Context, r resources.Resource, h *Host, rule string) bool {
	c, err := s.diff(ctx, r, h)
	if err != nil {
		s.fail(rule, "reading failed: %s", err)
		return false
	}
	if c.Action.Changes() || c.Action.Looks() {
		if err := r.Apply(ctx, h.Env(), c); err != nil {
			s.searchError(err)
			s.fail(rule, "applying failed: %s", err)
			return false
		}
	}
	left, err := s.diff(ctx, r, h)
	if err != nil {
		s.fail(rule, "reading after the apply failed: %s", err)
		return false
	}
	if left.Action.Changes() || left.Action == resources.Look {
		s.fail(rule, "after the apply something is left to do: %s %s", left.Action, left.Summary)
		return false
	}
	h.remember(left)
	return true
}

// remember keeps what the engine would keep.
func (h *Host) remember(c resources.Change) {
	for name, v := range c.Remember {
		raw, err := json.Marshal(v)
		if err != nil {
			panic(err)
		}
		h.Records[name] = raw
	}
}

func (s *suite) healsDrift(ctx context.Context) {
	for _, name := range slices.Sorted(maps.Keys(s.Drift)) {
		h := s.NewHost()
		rule := "heals drift (" + name + ")"
		if !s.apply(ctx, s.made(), h, rule) {
			return
		}
		s.Drift[name](h)
		r := s.made()
		c, err := s.diff(ctx, r, h)
		if err == nil && !c.Action.Changes() {
			s.fail(rule, "the drift is not seen")
			continue
		}
		s.apply(ctx, r, h, rule)
	}
}

// goesAway applies what had converged with ensure = "absent", and checks that nothing is left to do then.
func (s *suite) goesAway(ctx context.Context) {
	if resources.Find(s.Kind.Attrs, "ensure") == nil {
		return // a kind that only exports; the test of the registry lists them
	}
	const rule = "goes away"
	h := s.NewHost()
	if !s.apply(ctx, s.made(), h, rule) {
		return
	}
	absent := s.absent()
	r := s.make(absent)
	if r == nil || !s.apply(ctx, r, h, rule) {
		return
	}
	before := len(h.doings())
	s.apply(ctx, s.make(absent), h, rule)
	if done := h.doings()[before:]; len(done) > 0 {
		s.fail(rule, "a second run with ensure = absent did: %s", strings.Join(done, ", "))
	}
}

// absent is the configuration with ensure = "absent", without the attributes that do not go with it, such as running = true.
func (s *suite) absent() map[string]cty.Value {
	written := maps.Clone(s.Config)
	written["ensure"] = cty.StringVal(resources.Absent)
	for range s.Config {
		config, _ := s.Kind.Complete(cty.ObjectVal(written))
		_, _, err := s.Kind.New(resources.Address{Kind: s.Kind.Name, Name: "case"}, config)
		var at *resources.AttrError
		if !errors.As(err, &at) {
			break
		}
		delete(written, at.Path[0])
	}
	return written
}

var errInjected = errors.New("input/output error (injected)")

// survivesEveryFault fails each step of each file's commit in turn: every file must be whole, old or new, the failure must
// be reported, and the next run must finish the job.
func (s *suite) survivesEveryFault(ctx context.Context) {
	for k := 1; ; k++ {
		h := s.NewHost()
		before := h.snapshot()
		r := s.made()
		c, err := s.diff(ctx, r, h)
		if err != nil {
			return // planOnlyReads has reported it
		}
		step := 0
		h.Files.Fail = func(string, string) error {
			if step++; step == k {
				return errInjected
			}
			return nil
		}
		err = r.Apply(ctx, h.Env(), c)
		h.Files.Fail = nil
		if step < k {
			return // the apply has fewer steps than k: all were tried
		}
		s.whole(fmt.Sprintf("whole files (fault %d)", k), before, h.snapshot(), c)
		if err == nil {
			s.fail("reports faults", "a failing write (step %d) was not reported", k)
		} else {
			s.searchError(err)
		}
		s.apply(ctx, s.made(), h, fmt.Sprintf("finishes after a fault (%d)", k))
	}
}

// whole checks that every path holds what it held before or what the change says, and that nothing else appeared. What
// an opaque edit makes is not known here.
func (s *suite) whole(rule string, before, after map[string]*host.File, c resources.Change) {
	want := map[string][]*host.File{}
	opaque := map[string]bool{}
	for _, e := range c.Edits {
		want[e.Path] = append(want[e.Path], e.Before, e.After)
		opaque[e.Path] = e.Opaque
	}
	for _, p := range slices.Sorted(maps.Keys(after)) {
		if p == stateDir || strings.HasPrefix(p, stateDir+"/") {
			continue // what a kind keeps for itself
		}
		if opaque[p] {
			continue
		}
		allowed := slices.Concat(want[p], []*host.File{before[p]})
		if !slices.ContainsFunc(allowed, after[p].Same) {
			s.fail(rule, "%s is neither as it was nor as it should be", p)
		}
	}
}

// honoursCancellation checks that a cancelled Read or Apply ends soon, and that the Apply changes nothing.
func (s *suite) honoursCancellation(ctx context.Context) {
	h := s.NewHost()
	r := s.made()
	c, err := s.diff(ctx, r, h)
	if err != nil || !c.Action.Changes() && !c.Action.Looks() {
		return
	}
	cancelled, cancel := context.WithCancel(ctx)
	cancel()
	done := make(chan error, 1)
	go func() { done <- r.Apply(cancelled, h.Env(), c) }()
	select {
	case err = <-done:
	case <-time.After(patience):
		s.fail("honours cancellation", "a cancelled apply went on for %s", patience)
		return
	}
	if err == nil {
		s.fail("honours cancellation", "a cancelled apply reported success")
	}
	if wrote := h.doings(); len(wrote) > 0 {
		s.fail("honours cancellation", "a cancelled apply did: %s", strings.Join(wrote, ", "))
	}
}
