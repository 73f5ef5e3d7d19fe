// Package resources is the contract between the engine and the kinds of resources: what a kind declares, how it reads the
// host, how it words a difference, how it applies one. Kinds live in folders below and know nothing of the engine, of each
// other, or of the configuration language.
package resources

import (
	"context"
	"fmt"

	"github.com/converge-agent/converge/host"
	"github.com/zclconf/go-cty/cty"
)

// Kind is one kind of block of the language. Decoding, checking, help and reference are made from its data.
type Kind struct {
	Name    string
	Doc     string // what it makes so, in one or two sentences, for the reference
	Attrs   []Attr
	Exports []Attr // only Name, Type, Doc and Secret are used
	Scope   Scope
	// LeavesNothing says that nothing stays when a block is deleted: it asked, waited, or ran something.
	LeavesNothing bool
	// Remote says that nothing else that a run does decides about the state, and that each Read costs requests: what the plan of
	// an apply has just found as it should be is not read again.
	Remote bool

	// Facts, of a fact kind, reads the exports from the host before planning. Such a kind has no New.
	Facts func(ctx context.Context, env ReadEnv, config cty.Value) (cty.Value, error)

	// Ask, of a kind with New, names the attribute that was not written and that only somebody outside can tell; "" where what is
	// written suffices. It is pure. Find then finds its value before planning, and New gets it as if it had been written. While
	// validating nobody is asked: New gets a null, and leaves the exports unknown that come of it.
	Ask func(config cty.Value) (attr string)
	// Find's note is what somebody should know of the value, such as that it is an old one; "" for nothing.
	Find func(ctx context.Context, env ReadEnv, config cty.Value) (found cty.Value, note string, err error)

	// New makes the resource and its exports from a checked configuration: every attribute present, of its type, null or
	// its default where it was not written. It is pure. A nil Resource is a kind that only exports, such as a store.
	// Errors that belong to one attribute are *AttrError.
	New func(addr Address, config cty.Value) (Resource, cty.Value, error)
}

// Scope says on how many hosts of a fleet a resource is to be done.
type Scope int

// A Host resource is each host's own; an Instance resource (a bucket) is shared, and done by one host for all.
const (
	Host Scope = iota
	Instance
)

// Resource is one thing that is to be so. Its methods are called in order, never at once: Read, Diff, and, where Diff found
// something to do, Apply, then Read and Diff again as the proof.
type Resource interface {
	// Claims lists the paths that it writes. Two resources that own one path are an error; where one of them shares it,
	// they are done one after the other, in the order of the configuration.
	Claims() []Claim
	// Watches lists the paths whose change means that those who name this resource in restart_on or reload_on are due.
	Watches() []string
	// Read finds the current state. It changes nothing. Cancelling ctx ends it soon.
	Read(ctx context.Context, env ReadEnv) (State, error)
	// Diff compares the state with what is to be. It is pure.
	Diff(State) Change
	// Apply does what c says. It returns nil, a *Yield when it stopped with work left, or what went wrong. Cancelling ctx
	// ends it soon, and leaves every file whole.
	Apply(ctx context.Context, env Env, c Change) error
}

// State is what a resource's Read found, for its own Diff alone.
type State any

// Claim is a path that a resource writes: alone when it owns it, else together with others that edit the same file.
type Claim struct {
	Path string
	Own  bool
	// Removes says that nothing is to stand there afterwards: a directory then comes behind what stands in it.
	Removes bool
}

// ReadEnv is what a Read may use. By its types nothing of it writes.
type ReadEnv struct {
	Files host.View
	// Disk is the files as they stand, without what a plan is going to write. It tells when they were changed; what they
	// hold is read from Files.
	Disk    host.View
	Units   host.UnitView
	Probe   host.Prober
	Users   host.Users
	Clock   host.Clock
	Records RecordView
	// Processes tells what a unit has running.
	Processes host.Processes
	// StateDir is where a kind may keep a store of its own (a sync's ledger), below a folder of its kind's name.
	StateDir string
	// Upstreams are the resources that this one depends on, by address, as they will be once they are applied. One that
	// failed, or is held back, is missing: what it would have changed has not happened, so nothing is owed for it.
	Upstreams map[Address]Upstream
}

// Env is what an Apply may use.
type Env struct {
	ReadEnv
	Files    host.Files
	Units    host.Units
	Commands host.Commands
	// Progress tells how far a long Apply has come. It may be called often, and from several goroutines.
	Progress func(Progress)
}

// Upstream is what a resource sees of one that it depends on.
type Upstream struct {
	Paths []string // what it watches
	// Digest stands for the content of those paths, keyed so that it gives nothing away; "" while that is not known.
	Digest string
	// Pending says that it is still going to change in this run.
	Pending bool
}

// Progress is how far a long Apply has come. Totals are 0 while unknown.
type Progress struct {
	Files, TotalFiles int64
	Bytes, TotalBytes int64
}

// RecordView reads what converge remembers of a resource. Records are conveniences: losing them is safe.
type RecordView interface {
	// Record decodes what was remembered under name into v (a pointer), and reports whether anything was.
	Record(name string, v any) (bool, error)
	// Keyed returns what may be kept for text in a record: a digest under a key that only this host's root knows, so that nobody
	// who gets hold of a record can try out guesses of a secret.
	Keyed(text string) string
}

// Yield is how an Apply ends that stopped on purpose with work left: in progress, neither done nor failed.
type Yield struct {
	Done string // what was done and what is left, for the admin: "419,210 of ~2.91 M files"
}

func (y *Yield) Error() string { return "in progress: " + y.Done }

// Address names a resource: module.media["a"].nginx_site.files["k"]. It is comparable.
type Address struct {
	Module string // `module.media["a"]`, rendered, or ""
	Kind   string
	Name   string
	Index  string // `["k"]`, rendered, or ""
}

func (a Address) String() string {
	s := a.Kind + "." + a.Name + a.Index
	if a.Module != "" {
		s = a.Module + "." + s
	}
	return s
}

// AttrError is a failure of New that belongs to one attribute.
type AttrError struct {
	Path []string // the attribute, and the blocks it stands in: {"media_proxy", "cache_size"}
	Err  error
}

func (e *AttrError) Error() string { return fmt.Sprintf("%s: %s", e.Path[len(e.Path)-1], e.Err) }

// Unwrap returns the cause.
func (e *AttrError) Unwrap() error { return e.Err }
