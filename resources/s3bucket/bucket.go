package s3bucket

import (
	"cmp"
	"context"
	"crypto/sha256"
	"encoding/json"
	"fmt"
	"slices"
	"strings"
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

// existedVersion is the version of the format of existed. Those of every other count too: bucket and at have been in it from the first
// one, which had no version, and stay.
const existedVersion = 1

// existed remembers that the bucket was there once: a bucket that is gone is not made again.
type existed struct {
	Version int       `json:"version"`
	Bucket  string    `json:"bucket"` // its address
	At      time.Time `json:"at"`
}

// probesVersion is the version of the format of probes. Those of another are as good as none.
const probesVersion = 2

// probes remembers how the bucket looked from outside, and what the store was seen to do.
type probes struct {
	Version      int                      `json:"version"`
	Config       string                   `json:"config"`           // digest of what decides about it
	Others       string                   `json:"others,omitempty"` // digest of the policy's other statements, which decide too
	At           time.Time                `json:"at"`
	Verdicts     objectstore.Verdicts     `json:"verdicts"`
	Capabilities objectstore.Capabilities `json:"capabilities"`
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

	others string  // digest of the policy's other statements, as they were read or set last
	probed *probes // by the Apply of this run
	tried  *triedKey
	// unserved says that the Apply of this run could not read an object through the custom domain.
	unserved bool
}

// Claims lists nothing: no file is touched.
func (b *bucket) Claims() []resources.Claim { return nil }

// Watches lists nothing.
func (b *bucket) Watches() []string { return nil }

// state is what Read found.
type state struct {
	found
	Existed  time.Time // when it was seen first, by our records; zero when it never was
	Foreign  []string  // statements of the policy that are not ours and allow everybody something, by Sid
	Others   string    // digest of all statements that are not ours; "" without any
	Listable bool      // anyone can list it, now
	Domain   string    // why the custom domain does not serve the bucket, now; "" where it does, or where there is none
	Probes   *probes   // of this very configuration; nil when there were none
	Key      keyState
	Now      time.Time
}

// Read costs one request for each setting that is written and that the provider has, and one more where those do not tell
// everything: see asksListing.
func (b *bucket) Read(ctx context.Context, env resources.ReadEnv) (resources.State, error) {
	s, err := b.clients.Store(b.Store)
	if err != nil {
		return nil, err
	}
	st := &state{Now: env.Clock.Now().UTC()}
	if err := b.readRecords(env, st); err != nil {
		return nil, err
	}
	if st.found, err = b.readSettings(ctx, s, b.settings()); err != nil || st.Missing {
		return st, err
	}
	if p := st.policy(); p != nil {
		st.Foreign, st.Others = p.Foreign(), p.ForeignDigest()
	}
	b.others = st.Others
	if err := b.readFromOutside(ctx, s, st); err != nil {
		return nil, err
	}
	return st, nil
}

// readFromOutside asks one anonymous request, where one tells something.
func (b *bucket) readFromOutside(ctx context.Context, s *objectstore.Store, st *state) error {
	switch url := b.publicURL(); {
	case url != "":
		d := s.Domain(ctx, url)
		st.Listable, st.Domain = d.Listable, d.Silent
		if b.unserved {
			st.Domain = "an object of the bucket is not to be had there"
		}
	case b.asksListing(st.found):
		// A listing that had no answer was not seen to be open; the probes have asked before.
		st.Listable, _ = s.Listable(ctx, b.Name)
	}
	return ctx.Err()
}

// asksListing reports whether each run asks anonymously for a listing. It need not where everything that can open one has been
// read: the policy of minio, which knows no ACLs; that and the ACL of ceph-rgw and wasabi; that, the block and the ownership of
// aws; the ACL and the policy of scaleway. backblaze-b2 answers nobody without a key, whatever its ACL, and cloudflare-r2
// neither. What a person may have opened elsewhere the weekly probes find, which ask in any case.
func (b *bucket) asksListing(f found) bool {
	p := b.provider
	return f.Unreadable && !f.ignoresACLs() || p.Unseen || !p.Proven
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
	if p.Version == probesVersion && p.Config == b.digest() {
		st.Probes = &p
	}
	var err error
	st.Key, err = b.readKey(env)
	return diag.Wrap(err, "read what converge remembers of the app's key for the bucket "+b.Name, "")
}

func (b *bucket) address() string { return b.Store.BucketURL(b.Name) }

// digest stands for all that decides what the probes must find; no key is in it. What is relied on of the store is in it, so that
// an override that claims more than the store does is found out before anything relies on that.
func (b *bucket) digest() string {
	prefixes := slices.Sorted(slices.Values(b.policyPrefixes()))
	p := b.provider
	decides := []any{
		b.address(), b.Store.Provider, b.Access, prefixes, b.probes().PrivatePrefixes, p.Public.String(), p.ConditionalWrites, p.BatchDelete,
	}
	if url := b.publicURL(); url != "" {
		decides = append(decides, url)
	}
	raw, err := json.Marshal(decides)
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
	case st.Domain != "":
		return "its domain does not serve it any more: " + st.Domain
	case st.policy() != nil && st.Probes.Others != st.Others:
		return "the policy's statements that are not converge's have changed since it was looked at from outside"
	case st.Now.Sub(st.Probes.At).Abs() >= probesAge:
		return "last looked at from outside on " + st.Probes.At.Format(time.DateOnly)
	}
	return ""
}

// todo is what Apply has to do.
type todo struct {
	steps []step
	probe bool // look at it from outside when they are done
	key   bool // try the app's key then
}

// Diff implements resources.Resource.
func (b *bucket) Diff(s resources.State) resources.Change {
	st := s.(*state)
	c := resources.Change{Summary: b.words(), Notes: b.notes(st)}
	do := todo{steps: b.steps(b.settings(), st.found), key: b.tryKey(st) != ""}
	why, unconnected := st.lookAgain(), st.unconnected()
	switch {
	case st.Missing && (!st.Existed.IsZero() || !b.Create):
		return b.blocked(st)
	case st.Missing:
		c.Action, do.steps = resources.Create, append([]step{b.creation()}, do.steps...)
	case st.wouldFree(do.steps):
		return b.locked(st)
	case len(do.steps) > 0:
		c.Action = resources.Update
	case unconnected != "" && !do.key:
		wait := b.manualStep(unconnected)
		wait.Remember = b.remember(st)
		return wait
	case why != "" || do.key:
		c.Action = resources.Look
	default:
		c.Summary += "; " + st.Probes.words() + st.keyWords()
		c.Remember = b.remember(st)
		return c
	}
	do.probe = why != "" || slices.ContainsFunc(do.steps, func(s step) bool { return s.access })
	b.show(&c, do.steps)
	if do.probe {
		c.Effects = append(c.Effects, b.probeEffect(st))
	}
	if do.key {
		c.Effects = append(c.Effects, b.keyEffect(st))
	}
	if b.publicURL() != "" && st.Probes == nil {
		c.Notes = append(c.Notes, "where "+b.PublicHost+" is not connected to the bucket yet, that is to be done by hand:")
		c.Notes = append(c.Notes, b.howToConnect()...)
	}
	c.Private = do
	return c
}

// existence is what to remember of the bucket that is there.
func (b *bucket) existence(st *state) existed {
	at := st.Existed
	if at.IsZero() {
		at = st.Now
	}
	return existed{Version: existedVersion, Bucket: b.address(), At: at}
}

// remember is all that is known of a bucket that is as it should be, as far as that goes.
func (b *bucket) remember(st *state) map[string]any {
	known := map[string]any{existedRecord: b.existence(st)}
	if st.Probes != nil {
		known[probesRecord] = *st.Probes
	}
	if st.Key.Tried != nil {
		known[keyRecord] = *st.Key.Tried
	}
	return known
}

// creation makes the bucket, with its ACL where it has one.
func (b *bucket) creation() step {
	acl := ""
	if b.provider.Public == objectstore.BucketACL {
		acl = bucketACL{public: b.Access == publicObjects}.canned()
	}
	return step{
		phase: creating, access: true,
		effect: resources.Effect{Verb: "create", Target: "bucket " + b.Name, Operations: once("CreateBucket")},
		do: func(ctx context.Context, s *objectstore.Store) error {
			return s.CreateBucket(ctx, b.Name, acl)
		},
	}
}

// policyPrefixes are the prefixes that our statement is to name; none where there is to be no statement.
func (b *bucket) policyPrefixes() []string {
	if b.Access == publicObjects {
		return b.Prefixes
	}
	return nil
}

// words say in one line how the bucket is to be.
func (b *bucket) words() string {
	where := fmt.Sprintf("%s, %s %s: ", b.Name, b.Store.Provider, b.Store.Region)
	hidden := strings.Join(b.hiddenPrefixes(), " and ") + " private"
	switch {
	case b.Access == private:
		return where + "private"
	case b.provider.Public == objectstore.BucketACL:
		return where + "objects public by bucket ACL; backups/ only unguessable"
	case b.provider.Public == objectstore.CustomDomain:
		return where + "objects public at https://" + b.PublicHost + "; backups/ only unguessable"
	case b.provider.Public == objectstore.ObjectACL:
		return where + "bucket private, objects public by their own ACL; " + hidden
	}
	return where + "objects public by policy; " + hidden
}

func (b *bucket) notes(st *state) []string {
	var notes []string
	if b.Access == publicObjects && !b.provider.PrivatePrefixes {
		notes = append(notes, b.Store.Provider+" makes all objects of a bucket public at once: backups/ and imports/ cannot be "+
			"private there, only unguessable")
	}
	if b.Access == private && b.provider.Public == objectstore.ObjectACL {
		notes = append(notes, "objects that were uploaded with the ACL "+b.provider.ObjectACL+" stay public, each by its own ACL; they are not looked at")
	}
	if b.Access == private && b.provider.Public == objectstore.CustomDomain {
		notes = append(notes, "whether a custom domain is connected to the bucket is not seen through S3: it is public there if one is")
	}
	if st.Unreadable {
		notes = append(notes, fmt.Sprintf("this key may not read who may read the bucket (it lacks %s); judged by anonymous requests",
			cmp.Or(b.provider.RightOf(st.Refused), st.Refused)))
	}
	if b.provider.Public == objectstore.ObjectACL && st.Others != "" {
		notes = append(notes, "the bucket has a policy that is not converge's, which goes before ACLs: it may lock keys out, or open "+
			"more than the ACLs do; it is kept")
	}
	for _, sid := range st.Foreign {
		notes = append(notes, fmt.Sprintf("the policy's statement %q, which is not converge's, allows everybody something; it is kept", sid))
	}
	return slices.Concat(notes, b.keyNotes(st), b.moreNotes(st))
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

// Apply implements resources.Resource. It looks at the bucket from outside after all that decides about access, and tries the
// app's key last: the bucket's own settings do not wait for it.
func (b *bucket) Apply(ctx context.Context, env resources.Env, c resources.Change) error {
	s, err := b.clients.Store(b.Store)
	if err != nil {
		return err
	}
	do, _ := c.Private.(todo)
	for _, st := range do.steps {
		if err := st.do(ctx, s); err != nil {
			return err
		}
	}
	if do.probe {
		if err := b.probe(ctx, env, s); err != nil {
			return err
		}
	}
	if do.key {
		return b.applyKey(ctx, env, s)
	}
	return nil
}

// probe looks at the bucket from outside, and remembers what it saw where that is as it shall be. That no object can be read
// through a custom domain is no failure where none ever could: then it is not connected yet.
func (b *bucket) probe(ctx context.Context, env resources.Env, s *objectstore.Store) error {
	verdicts, err := s.Probe(ctx, b.probes())
	if err != nil {
		return err
	}
	failed := verdicts.Failed()
	if len(failed) == 1 && failed[0].Name == "GET" && b.publicURL() != "" {
		known := &state{}
		if err := b.readRecords(env.ReadEnv, known); err != nil {
			return err
		}
		b.unserved = known.Probes == nil
	}
	if len(failed) > 0 && !b.unserved {
		return b.exposed(verdicts, failed)
	}
	capabilities, err := b.examine(ctx, s)
	if err != nil || b.unserved {
		return err
	}
	b.probed = &probes{
		Version: probesVersion, Config: b.digest(), Others: b.others, At: env.Clock.Now().UTC(), Verdicts: verdicts, Capabilities: capabilities,
	}
	return nil
}
