package objectstore

import (
	"errors"
	"fmt"
	"net/url"
	"regexp"
	"slices"
	"strings"

	"github.com/converge-agent/converge/secret"
)

// Public is how a provider is told that anyone may read objects.
type Public int

// The ways. BucketPolicy allows s3:GetObject on prefixes, by a statement of ours in the bucket's policy. BucketACL makes all
// objects of a bucket public at once, by a canned ACL in a header.
const (
	BucketPolicy Public = iota
	BucketACL
)

// Provider is one entry of the table of providers: what is known of it, and from where.
type Provider struct {
	Name string

	// Endpoint is the address of the store with {region} in it; "" where every installation has its own.
	Endpoint string
	// HTTPSOnly says that the store does not answer plain HTTP.
	HTTPSOnly bool
	// Region is the form of the names of its regions, RegionExample is one of them, and DefaultRegion is used where none
	// is written; "" makes one required.
	Region        *regexp.Regexp
	RegionExample string
	DefaultRegion string
	// PathStyle is how converge and Mastodon address buckets there unless told otherwise.
	PathStyle bool

	// BucketName is the form of the names of its buckets; BucketRule says in words what is allowed.
	BucketName     *regexp.Regexp
	BucketReserved string // what no name may begin with
	BucketRule     string

	Public Public
	// PrivatePrefixes says that some objects of a bucket can be kept private while others are public.
	PrivatePrefixes bool
	// ObjectACL is the canned ACL that an upload needs to become public; "" where none is to be sent. Mastodon's
	// S3_PERMISSION is the same: unset it would send public-read, and only written and empty it sends none (Mastodon 4.6.5
	// config/initializers/paperclip.rb).
	ObjectACL string

	// ConditionalWrites says that PutObject with If-None-Match is honoured. Where it is not, Put.IfAbsent costs a
	// HeadObject before each upload, and leaves a moment in which somebody else may write the key.
	ConditionalWrites bool
	// RefusesChecksums says that x-amz-checksum-* and aws-chunked trailers are or were refused. converge sends none anywhere;
	// Mastodon's own SDK must be told not to.
	RefusesChecksums bool

	// IsMasterKey reports whether an access key id is by its shape one that the S3 interface refuses; nil where none is.
	IsMasterKey func(id string) bool

	// Source and Date are where and when the facts of this entry were read.
	Source string
	Date   string
}

// The masters of Backblaze accounts: 12 hex digits (the account's id), or 25 characters that end in ten zeros, where an
// application key's count stands (b2-sdk-python, AbstractAccountInfo.is_master_key; Backblaze docs, "Application Keys").
var (
	b2OldMaster = regexp.MustCompile(`^[0-9a-f]{12}$`)
	b2NewMaster = regexp.MustCompile(`^[0-9a-zA-Z]{15}0{10}$`)
)

// providers is the table. What depends on the provider anywhere in converge is asked of it.
var providers = []*Provider{
	{
		Name:           "backblaze-b2",
		Endpoint:       "https://s3.{region}.backblazeb2.com",
		HTTPSOnly:      true,
		Region:         regexp.MustCompile(`^[a-z]{2}-[a-z]+-[0-9]{3}$`),
		RegionExample:  "us-west-001",
		PathStyle:      true,
		BucketName:     regexp.MustCompile(`^[a-z0-9][a-z0-9-]{4,61}[a-z0-9]$`),
		BucketReserved: "b2-",
		BucketRule:     "6 to 63 lower-case letters, digits and hyphens, not b2- at the start",
		Public:         BucketACL,
		IsMasterKey: func(id string) bool {
			return b2OldMaster.MatchString(id) || b2NewMaster.MatchString(id)
		},
		RefusesChecksums: true,
		Source: "Backblaze docs: S3-Compatible API, S3 Put Bucket ACL, Create and Manage Buckets, Application Keys; " +
			"mastodon/mastodon#33624 (checksums); sathinduga/obsidian-s3-sync-and-backup#84 (conditional writes)",
		Date: "2026-11",
	},
	{
		Name:              "minio",
		Region:            regexp.MustCompile(`^[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?$`),
		RegionExample:     "us-east-1",
		DefaultRegion:     "us-east-1",
		PathStyle:         true,
		BucketName:        regexp.MustCompile(`^[a-z0-9][a-z0-9.-]{1,61}[a-z0-9]$`),
		BucketRule:        "3 to 63 lower-case letters, digits, dots and hyphens",
		Public:            BucketPolicy,
		PrivatePrefixes:   true,
		ConditionalWrites: true,
		Source:            "MinIO docs: S3 API Compatibility, Access Management; MinIO of 2026-02-12, run",
		Date:              "2026-11",
	},
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

// CheckRegion says what is wrong with the name of a region; nil when nothing is.
func (p *Provider) CheckRegion(region string) error {
	if !p.Region.MatchString(region) {
		return fmt.Errorf("%q is not a region of %s; write one such as %q", region, p.Name, p.RegionExample)
	}
	return nil
}

// EndpointOf returns the address of the store in a region, or "" where only its owner knows it.
func (p *Provider) EndpointOf(region string) string {
	return strings.ReplaceAll(p.Endpoint, "{region}", region)
}

// CheckEndpoint says what is wrong with a written endpoint; nil when nothing is.
func (p *Provider) CheckEndpoint(endpoint, region string) error {
	u, err := url.Parse(endpoint)
	if err != nil || u.Host == "" || u.Scheme != "https" && u.Scheme != "http" {
		return fmt.Errorf("%q is not the address of a store; write one such as \"https://s3.example.com\"", endpoint)
	}
	bare := u.Scheme + "://" + u.Host
	known := p.EndpointOf(region)
	switch {
	case u.User != nil:
		return errors.New("it holds a user name; keys are written in access_key_id and secret_access_key")
	case endpoint != bare:
		return fmt.Errorf("%q holds more than the store, perhaps the bucket; write %q", endpoint, bare)
	case p.HTTPSOnly && u.Scheme != "https":
		return fmt.Errorf("%s answers https only; write %q", p.Name, "https://"+u.Host)
	case known != "" && strings.HasSuffix(u.Host, "."+strings.TrimPrefix(known, "https://")):
		return fmt.Errorf("%q has the bucket in it; write %q, or leave the endpoint out", endpoint, known)
	}
	return nil
}

// CheckBucket says what is wrong with the name of a bucket at a store; nil when nothing is.
func (p *Provider) CheckBucket(name string, c Config) error {
	switch {
	case !p.BucketName.MatchString(name), strings.Contains(name, ".."), p.BucketReserved != "" && strings.HasPrefix(name, p.BucketReserved):
		return fmt.Errorf("%q is not the name of a bucket at %s: %s", name, p.Name, p.BucketRule)
	case strings.HasPrefix(c.Host(), name+"."):
		return fmt.Errorf("the endpoint %q of the store begins with this bucket; write it without", c.Endpoint)
	case !c.PathStyle && strings.Contains(name, ".") && strings.HasPrefix(c.Endpoint, "https:"):
		return errors.New("its dots make a host name that no certificate of the store fits; set path_style = true on the store")
	}
	return nil
}

// CheckKeyID says what is wrong with an access key id by its shape alone, without showing it; nil when nothing is, and for
// a missing secret.
func (p *Provider) CheckKeyID(id secret.String) error {
	if err := p.CheckSecret(id); err != nil || id.Missing() != nil {
		return err
	}
	if p.IsMasterKey != nil && p.IsMasterKey(id.Reveal()) {
		return fmt.Errorf("this is the account's master key, which the S3 interface of %s refuses; make an application key "+
			"in its web console, and write that", p.Name)
	}
	return nil
}

// CheckSecret says what is wrong with a secret access key by its shape alone, without showing it; nil when nothing is, and
// for a missing secret.
func (p *Provider) CheckSecret(key secret.String) error {
	if text := key.Reveal(); key.Missing() == nil && (text == "" || strings.ContainsAny(text, " \t\r\n\"'")) {
		return errors.New("it is empty, or has a blank, a line break or a quote in it; write the bare key")
	}
	return nil
}
