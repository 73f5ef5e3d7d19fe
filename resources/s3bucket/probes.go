package s3bucket

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/converge-agent/converge/diag"
	"github.com/converge-agent/converge/objectstore"
	"github.com/converge-agent/converge/resources"
)

// probes says what is to be seen from outside. By policy a prefix can be open on its own, so all that shall not be are looked
// at; of a private bucket its root besides. A bucket ACL opens everything or nothing, which one object tells.
func (b *bucket) probes() objectstore.Probes {
	p := objectstore.Probes{Bucket: b.Name, Public: b.Access == publicObjects, PublicURL: b.publicURL(), Settle: settle}
	if p.PublicURL != "" {
		p.Settle = 0 // nothing that converge does shows there later
	}
	if p.Public {
		p.PublicPrefix = b.Prefixes[0]
	}
	if b.provider.PrivatePrefixes {
		if !p.Public {
			p.PrivatePrefixes = slices.Compact(slices.Sorted(slices.Values(b.Prefixes)))
		}
		p.PrivatePrefixes = append(p.PrivatePrefixes, b.hiddenPrefixes()...)
	}
	return p
}

// capabilityProbes are where the store is examined.
func (b *bucket) capabilityProbes() objectstore.CapabilityProbes {
	whole := b.provider.Public == objectstore.BucketACL
	return objectstore.CapabilityProbes{Bucket: b.Name, AllPublic: whole && b.Access == publicObjects}
}

// probeEffect counts what probe sends.
func (b *bucket) probeEffect(st *state) resources.Effect {
	operations, target := b.probes().Operations(b.provider), b.address()
	for op, n := range b.capabilityProbes().Operations(b.provider) {
		operations[op] += n
	}
	if url := b.publicURL(); url != "" {
		target = url
	}
	return b.costs(resources.Effect{Verb: "probe", Target: target, Operations: operations, Why: st.lookAgain()})
}

// examine finds out what the store does, and compares it with what the table says.
func (b *bucket) examine(ctx context.Context, s *objectstore.Store) (objectstore.Capabilities, error) {
	found, err := s.Capabilities(ctx, b.capabilityProbes())
	if err != nil {
		return nil, err
	}
	if wrong, _ := found.Against(b.provider); len(wrong) > 0 {
		return nil, b.contradicted(wrong)
	}
	return found, nil
}

// words give what was seen, and when.
func (p *probes) words() string {
	words := p.Verdicts.String()
	if len(p.Capabilities) > 0 {
		words += "; " + p.Capabilities.String()
	}
	return fmt.Sprintf("%s (seen on %s)", words, p.At.Format(time.DateOnly))
}

// contradicted words that the store does less than the table says of its provider.
func (b *bucket) contradicted(wrong []objectstore.Contradiction) error {
	var what []string
	write := map[string]bool{}
	for _, c := range wrong {
		what = append(what, c.What)
		if c.Attribute != "" {
			write[c.Attribute] = true
		}
	}
	fix := fmt.Sprintf("This is less than %s promises. Check that provider is right in the object_store", b.provider.Title)
	if len(write) > 0 {
		fix += ", or write there " + strings.Join(slices.Sorted(maps.Keys(write)), " and ")
	}
	return diag.New(fmt.Sprintf("look at what the store at %s does in the bucket %s", b.Store.Host(), b.Name), strings.Join(what, "; "), fix+".")
}

// moreNotes are about what the store does otherwise than the table says, without harm.
func (b *bucket) moreNotes(st *state) []string {
	if st.Probes == nil {
		return nil
	}
	var notes []string
	_, more := st.Probes.Capabilities.Against(b.provider)
	for _, c := range more {
		notes = append(notes, fmt.Sprintf("seen at the store, and not in converge's table of providers: %s; to rely on that, write %s in the object_store", c.What, c.Attribute))
	}
	return notes
}

// exposed words that the bucket is not from outside what it is to be.
func (b *bucket) exposed(all, failed objectstore.Verdicts) error {
	doing := fmt.Sprintf("look at the bucket %s at %s from outside", b.Name, b.Store.Host())
	var what []string
	for _, v := range failed {
		what = append(what, b.meaning(v))
	}
	return diag.New(doing, fmt.Sprintf("%s (%s)", strings.Join(what, "; "), all), b.remedy(failed[len(failed)-1]))
}

func (b *bucket) meaning(v objectstore.Verdict) string {
	if name, found := strings.CutSuffix(v.Name, objectstore.AtEndpoint); found {
		if name == "GET" {
			return "anyone can read its objects at the store's own address"
		}
		v.Name = name
		return b.meaning(v) + " at the store's own address"
	}
	switch {
	case v.Name == "GET" && b.Access == publicObjects:
		return "nobody can read its objects"
	case v.Name == "GET":
		return "anyone can read its objects"
	case v.Name == "LIST":
		return "anyone can list it"
	case v.Name == "PUT":
		return "anyone can write to it"
	case v.Name == "DELETE":
		return "anyone can delete from it"
	}
	return "anyone can read " + v.Name
}

func (b *bucket) remedy(v objectstore.Verdict) string {
	policy := b.provider.Public == objectstore.BucketPolicy
	switch {
	case v.Name == "GET" && b.publicURL() != "":
		return fmt.Sprintf("It could be read at %s before: look at the status of the custom domain in the provider's console, and "+
			"whether its name still leads there.", b.publicURL())
	case v.Name == "GET" && b.Access == publicObjects && b.provider.Public == objectstore.ObjectACL:
		return "Look for a policy of the bucket, which goes before the ACLs of its objects, and let converge's key set the ACL of what it uploads."
	case v.Name == "GET" && b.Access == publicObjects && policy:
		return "Look for a Deny in the bucket's policy, and let converge's key set the policy (s3:GetBucketPolicy, s3:PutBucketPolicy)."
	case v.Name == "GET" && b.Access == publicObjects:
		return "Make the bucket public in the provider's console; backblaze-b2 first wants a verified e-mail address and a payment."
	case policy:
		return "Take the statement that allows it out of the bucket's policy: converge keeps statements that are not its own."
	}
	return "Make the bucket private in the provider's console at once, and ask the provider what opened it."
}
