package s3bucket

import (
	"fmt"
	"slices"
	"strings"

	"github.com/converge-agent/converge/diag"
	"github.com/converge-agent/converge/objectstore"
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
