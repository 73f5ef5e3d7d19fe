// Package store is the kind object_store: where an object store is, and as whom to talk to it. There is nothing to converge;
// buckets and syncs refer to it.
package store

import (
	"fmt"
	"strings"

	"github.com/converge-agent/converge/objectstore"
	"github.com/converge-agent/converge/resources"
	"github.com/converge-agent/converge/secret"
	"github.com/zclconf/go-cty/cty"
)

// Kind returns the kind object_store.
func Kind() *resources.Kind {
	return &resources.Kind{
		Name: "object_store",
		Doc: "Where an S3-compatible object store is, and the key that converge itself uses there. It changes nothing; " +
			"s3_bucket refers to it.",
		Attrs:   attrs(),
		Exports: Exports(),
		Scope:   resources.Instance,
		New:     newStore,
	}
}

func attrs() []resources.Attr {
	return []resources.Attr{
		{Name: "provider", Type: cty.String, Required: true, OneOf: objectstore.Names(),
			Doc: "Whose store it is. What differs between them is known by this name."},
		{Name: "region", Type: cty.String,
			Doc: "The region, such as \"us-west-001\" at backblaze-b2. Required, except at minio, where it is \"us-east-1\"."},
		{Name: "endpoint", Type: cty.String, Format: resources.URL,
			Doc: "The store's address with its scheme and without a bucket. Required at minio; known for the others."},
		{Name: "path_style", Type: cty.Bool,
			Doc: "Whether the bucket stands in the path of an address instead of its host name. Not written: as fits the provider."},
		{Name: "ca_file", Type: cty.String, Format: resources.Path,
			Doc: "A PEM file of authorities to trust besides those of the system, for a store with a certificate of one's own."},
		{Name: "account_id", Type: cty.String,
			Doc: "The account's id, where a provider's endpoint is made from it. None of the providers known so far takes one."},
		{Name: "access_key_id", Type: cty.String, Required: true, Secret: true,
			Doc: "The id of the key that converge uses; it may have more rights than the app's. Not a master key at backblaze-b2."},
		{Name: "secret_access_key", Type: cty.String, Required: true, Secret: true,
			Doc: "The secret half of that key."},
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
	}
}

// config is what somebody wrote.
type config struct {
	Provider        string        `attr:"provider"`
	Region          string        `attr:"region"`
	Endpoint        string        `attr:"endpoint"`
	PathStyle       bool          `attr:"path_style"`
	CAFile          string        `attr:"ca_file"`
	AccountID       string        `attr:"account_id"`
	AccessKeyID     secret.String `attr:"access_key_id"`
	SecretAccessKey secret.String `attr:"secret_access_key"`
}

func newStore(_ resources.Address, written cty.Value) (resources.Resource, cty.Value, error) {
	var c config
	if err := resources.Decode(written, &c); err != nil {
		return nil, cty.NilVal, err
	}
	provider, ok := objectstore.Lookup(c.Provider)
	if !ok {
		return nil, cty.NilVal, attrError("provider", fmt.Errorf("there is no provider %q", c.Provider))
	}
	if written.GetAttr("path_style").IsNull() {
		c.PathStyle = provider.PathStyle
	}
	if err := c.complete(provider); err != nil {
		return nil, cty.NilVal, err
	}
	return nil, c.exports(provider), nil
}

// complete derives what was not written, and checks all.
func (c *config) complete(p *objectstore.Provider) error {
	if c.Region == "" {
		c.Region = p.DefaultRegion
	}
	if c.Region == "" {
		return attrError("region", fmt.Errorf("%s needs it; write one such as %q", p.Name, p.RegionExample))
	}
	if err := p.CheckRegion(c.Region); err != nil {
		return attrError("region", err)
	}
	if c.AccountID != "" {
		return attrError("account_id", fmt.Errorf("%s takes none; leave it out", p.Name))
	}
	if c.Endpoint == "" {
		c.Endpoint = p.EndpointOf(c.Region, c.AccountID)
	}
	if c.Endpoint == "" {
		return attrError("endpoint", fmt.Errorf("every %s has its own; write one such as \"https://s3.example.com\"", p.Name))
	}
	c.Endpoint = strings.TrimSuffix(c.Endpoint, "/")
	if err := p.CheckEndpoint(c.Endpoint, c.Region, c.AccountID); err != nil {
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

func (c *config) exports(p *objectstore.Provider) cty.Value {
	return cty.ObjectVal(map[string]cty.Value{
		"provider":          cty.StringVal(p.Name),
		"region":            cty.StringVal(c.Region),
		"endpoint":          cty.StringVal(c.Endpoint),
		"host":              cty.StringVal(objectstore.Config{Endpoint: c.Endpoint}.Host()),
		"path_style":        cty.BoolVal(c.PathStyle),
		"ca_file":           cty.StringVal(c.CAFile),
		"access_key_id":     c.AccessKeyID.Value(),
		"secret_access_key": c.SecretAccessKey.Value(),
	})
}

func attrError(name string, err error) error {
	return &resources.AttrError{Path: []string{name}, Err: err}
}
