package objectstore

import (
	"cmp"
	"regexp"
	"slices"
	"strings"
)

// Public is how a provider is told that anyone may read objects.
type Public int

// The ways.
const (
	// BucketPolicy allows s3:GetObject on prefixes, by a statement of ours in the bucket's policy.
	BucketPolicy Public = iota
	// ObjectACL makes each object public by the canned ACL of its upload; the bucket itself stays private.
	ObjectACL
	// BucketACL makes all objects of a bucket public at once, by a canned ACL in a header.
	BucketACL
	// CustomDomain makes all objects of a bucket public at once, below a host name that is connected to it in the provider's
	// console. At the store's own address nothing is public, and no request changes it.
	CustomDomain
)

// publicNames are the ways as a configuration names them.
var publicNames = []string{BucketPolicy: "policy", ObjectACL: "object-acl", BucketACL: "bucket-acl", CustomDomain: "custom-domain"}

// PublicNames returns the names of the ways: the values of public_by.
func PublicNames() []string { return slices.Clone(publicNames) }

// String returns the way's name in a configuration, such as "object-acl".
func (p Public) String() string { return publicNames[p] }

// ParsePublic returns the way of that name.
func ParsePublic(name string) (Public, bool) {
	i := slices.Index(publicNames, name)
	return Public(max(i, 0)), i >= 0
}

// Provider is one entry of the table of providers: what is known of it, and from where. Of what stands in Unknown nothing is
// known, and the entry holds the careful assumption.
type Provider struct {
	Name  string // in configurations: "backblaze-b2"
	Title string // as it calls itself: "Backblaze B2"
	// Proven says that converge was run end to end against a simulation of it, or against the server itself. Of the others
	// only documents are known.
	Proven bool
	// OwnServer says that tests run the provider's own server, and no simulation of it.
	OwnServer bool

	// Endpoint is the address of the store with {region} and {account} in it; "" where every installation has its own.
	Endpoint string
	// Account is the form of the account's id in Endpoint, and AccountExample is one; nil where it takes none. Jurisdictions are
	// labels that may stand behind it in a written endpoint.
	Account        *regexp.Regexp
	AccountExample string
	Jurisdictions  []string
	// Discovery is the address that tells the endpoint of an access key; "" where there is none.
	Discovery string
	// HTTPSOnly says that the store does not answer plain HTTP.
	HTTPSOnly bool
	// Region is the form of the names of its regions, RegionExample is one of them, and DefaultRegion is used where none
	// is written; "" makes one required.
	Region        *regexp.Regexp
	RegionExample string
	DefaultRegion string
	// SigningRegions are the regions whose name in a signature is another.
	SigningRegions map[string]string
	// NamesRegion says that CreateBucket must name the region (LocationConstraint).
	NamesRegion bool
	// PathStyle is how converge and Mastodon address buckets there unless told otherwise.
	PathStyle bool

	// KeyID and Secret are the forms of access key ids, with an example, and of secret access keys, in words; nil where unknown.
	KeyID        *regexp.Regexp
	KeyIDExample string
	Secret       *regexp.Regexp
	SecretRule   string
	// IsMasterKey reports whether an access key id is by its shape one that the S3 interface refuses; nil where none is.
	IsMasterKey func(id string) bool

	// BucketName is the form of the names of its buckets; BucketRule says in words what is allowed.
	BucketName     *regexp.Regexp
	BucketReserved string // what no name may begin with
	BucketRule     string

	Public Public
	// Never are the ways that public_by must not name, with the reason.
	Never map[Public]string
	// PrivatePrefixes says that some objects of a bucket can be kept private while others are public.
	PrivatePrefixes bool
	// ObjectACL is the canned ACL that an upload needs to become public; "" where none is to be sent. Mastodon's
	// S3_PERMISSION is the same: unset it would send public-read, and only written and empty it sends none (Mastodon 4.6.5
	// config/initializers/paperclip.rb).
	ObjectACL string
	// PublicAccessBlock says that new buckets are born with a block in front of public policies and ACLs, which must be taken
	// away first. Ownership says that new buckets have their ACLs switched off by an ownership control.
	PublicAccessBlock, Ownership bool
	// ACLs says that the ACL of a bucket can open it besides what Public says. Unseen says that a bucket can be opened in ways
	// that no request shows.
	ACLs, Unseen bool

	// CORS, Lifecycle and Versioning say that the bucket can be set so through S3. AlwaysVersioned says that old versions are
	// kept (and paid) whatever is set. AbortsUploads says that a rule of the lifecycle can abort incomplete uploads.
	CORS, Lifecycle, Versioning, AlwaysVersioned, AbortsUploads bool

	// ConditionalWrites says that PutObject with If-None-Match is honoured. Where it is not, Put.IfAbsent costs a
	// HeadObject before each upload, and leaves a moment in which somebody else may write the key.
	ConditionalWrites bool
	// RefusesChecksums says that x-amz-checksum-* and aws-chunked trailers are or were refused. converge sends none anywhere;
	// Mastodon's own SDK must be told not to.
	RefusesChecksums bool
	// BatchDelete says that DeleteObjects with Content-MD5 works.
	BatchDelete bool

	Multipart Multipart
	RateLimit string // in words; "" where it is unknown

	// Classes are the classes of requests that are counted and paid alike, by operation; that of "*" is all others'. Prices
	// are theirs. nil where it is unknown whether requests cost anything.
	Classes map[string]string
	Prices  map[string]Price

	// CustomDomain is the way to a domain of one's own without a proxy, in words.
	CustomDomain string
	// AgentRights and AppRights are the least rights of converge's key and of the app's, as the provider names them.
	AgentRights, AppRights []string

	Notes []string

	// Unknown names the fields of which nothing is known.
	Unknown []string
	// Sources and Date are where and when the facts of this entry were read.
	Sources []string
	Date    string
}

// Multipart are the limits of an upload in parts; zero where one is unknown.
type Multipart struct {
	MinPart, MaxPart int64 // bytes; the last part may be smaller
	MaxParts         int
	EqualParts       bool // all parts but the last must have one size
}

// Price is what a class of requests costs.
type Price struct {
	PerThousand float64 // in Currency; 0 where they cost nothing
	Currency    string  // "USD", "EUR"
	Free        int64   // requests that cost nothing in each FreePer
	FreePer     string  // "day", "month"
}

// Class returns the class that the provider counts an operation in, "" where it has none.
func (p *Provider) Class(operation string) string {
	if class, ok := p.Classes[operation]; ok {
		return class
	}
	return p.Classes["*"]
}

// Evidence says in words what the entry rests on.
func (p *Provider) Evidence() string {
	switch {
	case !p.Proven:
		return "from documents, unproven"
	case p.OwnServer:
		return "proven against the server itself"
	}
	return "proven against a simulation"
}

// Knows reports whether anything is known of a field of the entry.
func (p *Provider) Knows(field string) bool { return !slices.Contains(p.Unknown, field) }

// SigningRegion returns the name of a region in signatures.
func (p *Provider) SigningRegion(region string) string {
	return cmp.Or(p.SigningRegions[region], region)
}

// Lookup returns the provider of that name.
func Lookup(name string) (*Provider, bool) {
	i := slices.IndexFunc(providers, func(p *Provider) bool { return p.Name == name })
	if i < 0 {
		return nil, false
	}
	return providers[i], true
}

// Names returns the names of the providers, sorted.
func Names() []string {
	var names []string
	for _, p := range providers {
		names = append(names, p.Name)
	}
	slices.Sort(names)
	return names
}

// EndpointOf returns the address of the store in a region and for an account, or "" where only its owner knows it.
func (p *Provider) EndpointOf(region, account string) string {
	return strings.NewReplacer("{region}", region, "{account}", account).Replace(p.Endpoint)
}
