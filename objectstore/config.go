// Package objectstore talks to S3-compatible object stores: it knows the providers (a table), the requests that converge
// needs, how each is retried and paced, and how to tell from outside what the world may do with a bucket. It knows nothing
// of resources.
package objectstore

import (
	"io"
	"net/url"
	"time"

	"github.com/converge-agent/converge/secret"
)

// Config says where a store is and as whom to talk to it. The tags fit the exports of an object_store reference.
type Config struct {
	Provider        string        `attr:"provider"`   // a name of the table
	Region          string        `attr:"region"`     // signed into every request
	Endpoint        string        `attr:"endpoint"`   // with scheme, without bucket, path or slash at the end
	PathStyle       bool          `attr:"path_style"` // the bucket stands in the path, not in the host name
	CAFile          string        `attr:"ca_file"`    // PEM certificates trusted besides the system's; "" for none
	AccessKeyID     secret.String `attr:"access_key_id"`
	SecretAccessKey secret.String `attr:"secret_access_key"`

	// What overrides the table's entry of the provider; "" and Unset leave it as it is.
	PublicBy          string   `attr:"public_by"`          // a name of PublicNames
	ConditionalWrites Override `attr:"conditional_writes"` // Provider.ConditionalWrites
	ChecksumHeaders   Override `attr:"checksum_headers"`   // not Provider.RefusesChecksums
	BatchDelete       Override `attr:"batch_delete"`       // Provider.BatchDelete
}

// Override is a yes or no that somebody may have written.
type Override string

// The values of an override.
const (
	Unset Override = ""
	Yes   Override = "true"
	No    Override = "false"
)

// over returns what is written, else what the table says.
func (o Override) over(table bool) bool {
	if o == Unset {
		return table
	}
	return o == Yes
}

// Entry returns the table's entry of the provider with the overrides of this store. It is false where there is no such provider.
func (c Config) Entry() (*Provider, bool) {
	table, ok := Lookup(c.Provider)
	if !ok {
		return nil, false
	}
	p := *table
	p.ConditionalWrites = c.ConditionalWrites.over(p.ConditionalWrites)
	p.RefusesChecksums = !c.ChecksumHeaders.over(!p.RefusesChecksums)
	p.BatchDelete = c.BatchDelete.over(p.BatchDelete)
	if way, ok := ParsePublic(c.PublicBy); ok {
		p.setPublic(way)
	}
	return &p, true
}

// setPublic has the entry tell the provider in another way.
func (p *Provider) setPublic(way Public) {
	p.Public, p.PrivatePrefixes, p.ObjectACL = way, way == BucketPolicy || way == ObjectACL, ""
	if way == ObjectACL {
		p.ObjectACL = "public-read"
	}
}

// Host returns the host[:port] of the endpoint; "" when the endpoint is no URL.
func (c Config) Host() string {
	u, err := url.Parse(c.Endpoint)
	if err != nil {
		return ""
	}
	return u.Host
}

// BucketHost returns the host[:port] to which requests for objects of the bucket go.
func (c Config) BucketHost(bucket string) string {
	if c.PathStyle {
		return c.Host()
	}
	return bucket + "." + c.Host()
}

// BucketURL returns the address of the bucket, without a slash at the end: an object's is that, "/" and its key.
func (c Config) BucketURL(bucket string) string {
	if c.PathStyle {
		return c.Endpoint + "/" + bucket
	}
	u, err := url.Parse(c.Endpoint)
	if err != nil {
		return ""
	}
	return u.Scheme + "://" + bucket + "." + u.Host
}

// Object is what a store tells of one object.
type Object struct {
	Key      string
	Size     int64  // bytes
	ETag     string // without quotes; of an object uploaded in one part, the MD5 of its bytes in hex
	Modified time.Time
}

// Put is one object to upload.
type Put struct {
	Key  string
	Body io.ReadSeeker // read from its start, again for each attempt; Size bytes of it are sent
	Size int64
	MD5  [16]byte // of those bytes; the store refuses others

	ContentType  string
	CacheControl string
	ACL          string // canned ACL; "" sends none
	IfAbsent     bool   // ErrExists when the key is taken; see Provider.ConditionalWrites
}

// MaxPutSize is the largest object in bytes that one PutObject takes: 5 GiB (Amazon S3 User Guide, "Uploading objects").
const MaxPutSize = 5 << 30
