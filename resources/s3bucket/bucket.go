package s3bucket

import (
	"context"
	"crypto/sha256"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/converge-agent/converge/diag"
	"github.com/converge-agent/converge/objectstore"
	"github.com/converge-agent/converge/resources"
)

// The names of our records.
const (
	existedRecord = "existed"
	probesRecord  = "probes"
)

// existed remembers that the bucket was there once: a bucket that is gone is not made again.
type existed struct {
	Bucket string    `json:"bucket"` // its address
	At     time.Time `json:"at"`
}

// probes remembers how the bucket looked from outside.
type probes struct {
	Config   string               `json:"config"`           // digest of what decides about it
	Others   string               `json:"others,omitempty"` // digest of the policy's other statements, which decide too
	At       time.Time            `json:"at"`
	Verdicts objectstore.Verdicts `json:"verdicts"`
}

// settle is how long a new policy or ACL may take to show from outside. No provider names a time; seconds are usual.
const settle = 5 * time.Second

// probesAge is how long the probes are believed: not all that opens a bucket shows in its policy or ACL, such as a switch in the
// provider's console or the policy of the account.
const probesAge = 7 * 24 * time.Hour

// bucket implements resources.Resource.
type bucket struct {
	config
	provider *objectstore.Provider
	clients  *objectstore.Clients

	probed *probes // by the Apply of this run
}

// Claims lists nothing: no file is touched.
func (b *bucket) Claims() []resources.Claim { return nil }

// Watches lists nothing.
func (b *bucket) Watches() []string { return nil }

// state is what Read found.
type state struct {
	Missing  bool
	Existed  time.Time // when it was seen first, by our records; zero when it never was
	Access   access
	Listable bool    // anyone can list it, now
	Probes   *probes // of this very configuration; nil when there were none
	Now      time.Time
}

// Read costs three requests: HeadBucket, its policy or ACL, and one listing without a key.
func (b *bucket) Read(ctx context.Context, env resources.ReadEnv) (resources.State, error) {
	s, err := b.clients.Store(b.Store)
	if err != nil {
		return nil, err
	}
	st := &state{Now: env.Clock.Now().UTC()}
	if err := b.readRecords(env, st); err != nil {
		return nil, err
	}
	err = s.HeadBucket(ctx, b.Name)
	if errors.Is(err, objectstore.ErrNoBucket) {
		st.Missing = true
		return st, nil
	}
	if err != nil {
		return nil, err
	}
	if st.Access, err = b.readAccess(ctx, s); err != nil {
		return nil, err
	}
	st.Listable, err = s.Listable(ctx, b.Name)
	if err != nil && ctx.Err() != nil {
		return nil, err
	}
	return st, nil // a listing that had no answer was not seen to be open; the probes have asked before
}

func (b *bucket) readRecords(env resources.ReadEnv, st *state) error {
	var e existed
	var p probes
	for name, into := range map[string]any{existedRecord: &e, probesRecord: &p} {
		if _, err := env.Records.Record(name, into); err != nil {
			return diag.Wrap(err, "read what converge remembers of the bucket "+b.Name, "")
		}
	}
	if e.Bucket == b.address() {
		st.Existed = e.At
	}
	if b.probed != nil {
		p = *b.probed
	}
	if p.Config == b.digest() {
		st.Probes = &p
	}
	return nil
}

func (b *bucket) address() string { return b.Store.BucketURL(b.Name) }

// digest stands for all that decides what the probes must find; no key is in it.
func (b *bucket) digest() string {
	prefixes := slices.Sorted(slices.Values(b.policyPrefixes()))
	raw, err := json.Marshal([]any{b.address(), b.Store.Provider, b.Access, prefixes, b.probes().PrivatePrefixes})
	if err != nil {
		panic(err) // strings always encode
	}
	return fmt.Sprintf("%x", sha256.Sum256(raw))
}

// lookAgain says why the bucket is to be looked at from outside; "" where what the probes saw still holds.
func (st *state) lookAgain() string {
	switch {
	case st.Listable:
		return "anyone can list it"
	case st.Probes == nil:
		return "not yet looked at from outside with these settings"
	case !st.Access.Unreadable && st.Probes.Others != st.Access.Others:
		return "the policy's statements that are not converge's have changed since it was looked at from outside"
	case st.Now.Sub(st.Probes.At).Abs() >= probesAge:
		return "last looked at from outside on " + st.Probes.At.Format(time.DateOnly)
	}
	return ""
}

// steps are what Apply has to do besides the probes.
type steps struct {
	create, access bool
	others         string // digest of the policy's other statements; without access, what was read
}

// Diff implements resources.Resource.
func (b *bucket) Diff(s resources.State) resources.Change {
	st := s.(*state)
	c := resources.Change{Summary: b.words(), Notes: b.notes(st)}
	switch {
	case st.Missing && (!st.Existed.IsZero() || !b.Create):
		return b.blocked(st)
	case st.Missing:
		c.Action, c.Private = resources.Create, steps{create: true, access: true}
		c.Effects = append(c.Effects, resources.Effect{Verb: "create", Target: "bucket " + b.Name, Requests: 1})
		c.Effects = append(c.Effects, b.accessEffects()...)
	case !st.Access.Unreadable && !st.Access.Right:
		c.Action, c.Private = resources.Update, steps{access: true}
		c.Attrs = append(c.Attrs, b.accessAttr(st.Access.Words))
		c.Effects = append(c.Effects, b.accessEffects()...)
	case st.lookAgain() != "":
		c.Action, c.Private = resources.Look, steps{others: st.Access.Others}
	default:
		at := st.Existed
		if at.IsZero() {
			at = st.Now
		}
		c.Summary += "; " + st.Probes.Verdicts.String()
		c.Remember = map[string]any{existedRecord: existed{Bucket: b.address(), At: at}, probesRecord: *st.Probes}
		return c
	}
	c.Effects = append(c.Effects, b.probeEffect(st))
	return c
}

func (b *bucket) accessEffects() []resources.Effect {
	e := resources.Effect{Verb: "set", Target: "ACL of " + b.Name, Requests: 1}
	if b.provider.Public == objectstore.BucketPolicy {
		e.Target, e.Requests = "policy of "+b.Name, 2
	}
	if b.Access == private {
		e.Why, e.Destructive = "its objects will not be readable without a key any more", true
	}
	return []resources.Effect{e}
}

// probeEffect counts what Probe sends: for the object a PUT, two HEAD and a DELETE by ourselves, and five anonymous requests;
// for each private prefix four more; and for each prefix a listing of what a killed run may have left.
func (b *bucket) probeEffect(st *state) resources.Effect {
	requests := 10 + 5*int64(len(b.probes().PrivatePrefixes))
	return resources.Effect{Verb: "probe", Target: b.address(), Requests: requests, Why: st.lookAgain()}
}

func (b *bucket) notes(st *state) []string {
	var notes []string
	if b.App == nil {
		notes = append(notes, "without app_credentials, mastodon_env leaves AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY as they are")
	}
	if b.Access == publicObjects && !b.provider.PrivatePrefixes {
		notes = append(notes, b.Store.Provider+" makes all objects of a bucket public at once: backups/ and imports/ cannot be "+
			"private there, only unguessable")
	}
	if st.Access.Unreadable {
		notes = append(notes, "this key may not read the bucket's policy or ACL; judged by anonymous requests")
	}
	for _, sid := range st.Access.Foreign {
		notes = append(notes, fmt.Sprintf("the policy's statement %q, which is not converge's, allows everybody something; it is kept", sid))
	}
	return notes
}

func (b *bucket) blocked(st *state) resources.Change {
	if st.Existed.IsZero() {
		return resources.Change{
			Action:  resources.Blocked,
			Summary: fmt.Sprintf("%s is not there, and create = false", b.Name),
			Notes:   []string{"Create it with the provider's console, or write create = true."},
		}
	}
	return resources.Change{
		Action: resources.Blocked,
		Summary: fmt.Sprintf("%s is gone; it existed on %s; an empty bucket in its place would hide the loss",
			b.Name, st.Existed.Format(time.DateOnly)),
		Notes: []string{"Find out who deleted it, and whether its objects can be brought back. To start with an empty one, create it " +
			"with the provider's console."},
	}
}

// Apply implements resources.Resource. The bucket is looked at from outside whatever was done.
func (b *bucket) Apply(ctx context.Context, env resources.Env, c resources.Change) error {
	s, err := b.clients.Store(b.Store)
	if err != nil {
		return err
	}
	todo, _ := c.Private.(steps)
	if todo.create {
		if err := s.CreateBucket(ctx, b.Name, b.bucketACL()); err != nil {
			return err
		}
	}
	if todo.access {
		if todo.others, err = b.setAccess(ctx, s); err != nil {
			return err
		}
	}
	verdicts, err := s.Probe(ctx, b.probes())
	if err != nil {
		return err
	}
	if failed := verdicts.Failed(); len(failed) > 0 {
		return b.exposed(verdicts, failed)
	}
	b.probed = &probes{Config: b.digest(), Others: todo.others, At: env.Clock.Now().UTC(), Verdicts: verdicts}
	return nil
}
