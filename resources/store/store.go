// Package store is the kind object_store: where an object store is, and as whom to talk to it. There is nothing to converge;
// buckets and syncs refer to it.
package store

import (
	"context"
	"fmt"
	"strings"

	"github.com/converge-agent/converge/objectstore"
	"github.com/converge-agent/converge/resources"
	"github.com/zclconf/go-cty/cty"
	"github.com/zclconf/go-cty/cty/convert"
)

// Kind returns the kind object_store over these endpoints.
func Kind(endpoints *objectstore.Endpoints) *resources.Kind {
	return &resources.Kind{
		Name: "object_store",
		Doc: "Where an S3-compatible object store is, and the key that converge itself uses there. It changes nothing; " +
			"s3_bucket refers to it. Nothing is taken from AWS_* variables or profiles, and no proxy is used, as Mastodon and nginx use none.",
		Attrs:   attrs(),
		Exports: Exports(),
		Scope:   resources.Instance,
		New:     newStore,
		Ask:     ask,
		Find: func(ctx context.Context, env resources.ReadEnv, written cty.Value) (cty.Value, string, error) {
			return find(ctx, endpoints, env, written)
		},
	}
}

func attrs() []resources.Attr {
	return []resources.Attr{
		{Name: "provider", Type: cty.String, Required: true, OneOf: objectstore.Names(),
			Doc: "Whose store it is. What differs between them is known by this name: see docs/providers.md."},
		{Name: "region", Type: cty.String,
			Doc: "The region, such as \"us-west-001\" at backblaze-b2. Required where the provider has several."},
		{Name: "endpoint", Type: cty.String, Format: resources.URL,
			Doc: "The store's address with its scheme and without a bucket. Required at ceph-rgw, garage, generic and minio. Not written " +
				"at idrive-e2, the provider is asked for that of access_key_id before each plan; known for the others. At " +
				"cloudflare-r2 it is for buckets in a jurisdiction: \"https://ACCOUNT.eu.r2.cloudflarestorage.com\"."},
		{Name: "path_style", Type: cty.Bool,
			Doc: "Whether the bucket stands in the path of an address instead of its host name. Not written: as fits the provider."},
		{Name: "ca_file", Type: cty.String, Format: resources.Path,
			Doc: "A PEM file of authorities to trust besides those of the system, for a store with a certificate of one's own."},
		{Name: "account_id", Type: cty.String,
			Doc: "The account's id, where the provider's endpoint is made from it: 32 hex digits at cloudflare-r2."},
		{Name: "access_key_id", Type: cty.String, Required: true, Secret: true,
			Doc: "The id of the key that converge uses; it may have more rights than the app's. Not a master key at backblaze-b2."},
		{Name: "secret_access_key", Type: cty.String, Required: true, Secret: true,
			Doc: "The secret half of that key."},
		{Name: "public_by", Type: cty.String, OneOf: objectstore.PublicNames(),
			Doc: "How objects become public, against what is known of the provider: by a bucket policy, by an ACL of each object, by the " +
				"bucket's ACL, or by a domain that is connected in its console."},
		{Name: "conditional_writes", Type: cty.Bool,
			Doc: "Whether the store honours If-None-Match on uploads, against what is known of the provider."},
		{Name: "checksum_headers", Type: cty.Bool,
			Doc: "Whether the store takes x-amz-checksum headers, against what is known of the provider."},
		{Name: "batch_delete", Type: cty.Bool,
			Doc: "Whether the store can delete many objects in one request, against what is known of the provider."},
	}
}

// Exports are the exports of an object_store, which an s3_bucket passes on under the name store.
func Exports() []resources.Attr {
	return []resources.Attr{
		{Name: "provider", Type: cty.String, Doc: "Whose store it is."},
		{Name: "region", Type: cty.String, Doc: "The region."},
		{Name: "endpoint", Type: cty.String, Doc: "The store's address, without a slash at the end."},
		{Name: "host", Type: cty.String, Doc: "The host of the endpoint, with its port where one is written."},
		{Name: "path_style", Type: cty.Bool, Doc: "Whether the bucket stands in the path."},
		{Name: "ca_file", Type: cty.String, Doc: "The PEM file of further authorities, \"\" for none."},
		{Name: "access_key_id", Type: cty.String, Secret: true, Doc: "The id of converge's key."},
		{Name: "secret_access_key", Type: cty.String, Secret: true, Doc: "The secret half of converge's key."},
		{Name: "public_by", Type: cty.String, Doc: "What was written for it, \"\" for nothing."},
		{Name: "conditional_writes", Type: cty.String, Doc: "What was written for it: \"true\", \"false\", or \"\" for nothing."},
		{Name: "checksum_headers", Type: cty.String, Doc: "What was written for it, in the same way."},
		{Name: "batch_delete", Type: cty.String, Doc: "What was written for it, in the same way."},
	}
}

// config is what somebody wrote.
type config struct {
	objectstore.Config
	AccountID string
}

// read decodes what was written. The overrides come as texts, for nothing written is neither yes nor no.
func read(written cty.Value) (c config, p *objectstore.Provider, err error) {
	bare, _ := written.Unmark()
	attrs := bare.AsValueMap()
	for _, name := range []string{"conditional_writes", "checksum_headers", "batch_delete"} {
		if attrs[name], err = convert.Convert(attrs[name], cty.String); err != nil {
			return c, nil, attrError(name, err)
		}
	}
	if err := resources.Decode(cty.ObjectVal(attrs), &c.Config); err != nil {
		return c, nil, err
	}
	var account struct {
		ID string `attr:"account_id"`
	}
	if err := resources.Decode(written, &account); err != nil {
		return c, nil, err
	}
	c.AccountID = account.ID
	p, ok := c.Entry()
	if !ok {
		return c, nil, attrError("provider", fmt.Errorf("there is no provider %q", c.Provider))
	}
	if attrs["path_style"].IsNull() {
		c.PathStyle = p.PathStyle
	}
	return c, p, nil
}

// ask names the endpoint where the provider has to be asked for it. It is not asked about what is no key.
func ask(written cty.Value) string {
	c, p, err := read(written)
	if err == nil && c.Endpoint == "" && p.Discovery != "" && p.CheckKeyID(c.AccessKeyID) == nil {
		return "endpoint"
	}
	return ""
}

func find(ctx context.Context, endpoints *objectstore.Endpoints, env resources.ReadEnv, written cty.Value) (cty.Value, string, error) {
	c, p, err := read(written)
	if err != nil {
		return cty.NilVal, "", err
	}
	found, note, err := endpoints.Find(ctx, p, c.CAFile, c.AccessKeyID, env.Clock.Now())
	if err != nil {
		return cty.NilVal, "", err
	}
	return cty.StringVal(found), note, nil
}

func newStore(_ resources.Address, written cty.Value) (resources.Resource, cty.Value, error) {
	c, provider, err := read(written)
	if err != nil {
		return nil, cty.NilVal, err
	}
	if err := c.complete(provider); err != nil {
		return nil, cty.NilVal, err
	}
	return nil, c.exports(), nil
}

// complete derives what was not written, and checks all. An endpoint that the provider is still to be asked for stays "".
func (c *config) complete(p *objectstore.Provider) error {
	if c.Region == "" {
		c.Region = p.DefaultRegion
	}
	if c.Region == "" {
		return attrError("region", fmt.Errorf("%s needs it; write one such as %q", p.Title, p.RegionExample))
	}
	if err := c.CheckPublicBy(); err != nil {
		return attrError("public_by", err)
	}
	if err := p.CheckRegion(c.Region); err != nil {
		return attrError("region", err)
	}
	if err := p.CheckAccount(c.AccountID, c.Endpoint != ""); err != nil {
		return attrError("account_id", err)
	}
	if err := c.completeEndpoint(p); err != nil {
		return attrError("endpoint", err)
	}
	if err := p.CheckKeyID(c.AccessKeyID); err != nil {
		return attrError("access_key_id", err)
	}
	if err := p.CheckSecret(c.SecretAccessKey); err != nil {
		return attrError("secret_access_key", err)
	}
	return nil
}

func (c *config) completeEndpoint(p *objectstore.Provider) error {
	if c.Endpoint == "" {
		c.Endpoint = p.EndpointOf(c.Region, c.AccountID)
	}
	switch {
	case c.Endpoint == "" && p.Discovery != "":
		return nil
	case c.Endpoint == "":
		return fmt.Errorf("%s has no address that is known; write the store's, such as \"https://s3.example.com\"", p.Name)
	}
	c.Endpoint = strings.TrimSuffix(c.Endpoint, "/")
	return p.CheckEndpoint(c.Endpoint, c.Region, c.AccountID)
}

func (c *config) exports() cty.Value {
	endpoint, host := cty.StringVal(c.Endpoint), cty.StringVal(c.Host())
	if c.Endpoint == "" {
		endpoint, host = cty.UnknownVal(cty.String), cty.UnknownVal(cty.String)
	}
	return cty.ObjectVal(map[string]cty.Value{
		"provider":           cty.StringVal(c.Provider),
		"region":             cty.StringVal(c.Region),
		"endpoint":           endpoint,
		"host":               host,
		"path_style":         cty.BoolVal(c.PathStyle),
		"ca_file":            cty.StringVal(c.CAFile),
		"access_key_id":      c.AccessKeyID.Value(),
		"secret_access_key":  c.SecretAccessKey.Value(),
		"public_by":          cty.StringVal(c.PublicBy),
		"conditional_writes": cty.StringVal(string(c.ConditionalWrites)),
		"checksum_headers":   cty.StringVal(string(c.ChecksumHeaders)),
		"batch_delete":       cty.StringVal(string(c.BatchDelete)),
	})
}

func attrError(name string, err error) error {
	return &resources.AttrError{Path: []string{name}, Err: err}
}
