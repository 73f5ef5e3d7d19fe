// Package s3bucket is the kind s3_bucket: a bucket that is there, whose objects are public or not as it says, and of which
// nobody can list, write or delete anything without a key.
package s3bucket

import (
	"fmt"
	"slices"
	"strings"

	"github.com/converge-agent/converge/objectstore"
	"github.com/converge-agent/converge/resources"
	"github.com/converge-agent/converge/secret"
	"github.com/zclconf/go-cty/cty"
)

// The values of access.
const (
	private       = "private"
	publicObjects = "public-objects"
)

// publicPrefixes are where Mastodon keeps what browsers fetch: the attachments of its models (Mastodon 4.6.5 app/models,
// has_attached_file), and cache/ for those of remote ones since 3.2. preview_cards/ holds cards from before 3.2. What is
// missing here on purpose is hidden.
var publicPrefixes = []string{
	"accounts/", "cache/", "custom_emojis/", "media_attachments/", "preview_card_providers/", "preview_cards/", "site_uploads/",
}

// hidden are the prefixes that nobody may read without a key: archives of users with their private posts, and the lists
// that they imported (Mastodon 4.6.5 app/models/backup.rb; 4.3 app/models/import.rb).
var hidden = []string{"backups/", "imports/"}

// Kind returns the kind s3_bucket over these clients.
func Kind(clients *objectstore.Clients) *resources.Kind {
	return &resources.Kind{
		Name: "s3_bucket",
		Doc: "A bucket at an object store. It is created when it was never there, made public or private by the means of its " +
			"provider, and looked at from outside: anyone may get an object that they know, and nobody may list, write or delete.",
		Attrs:   attrs(),
		Exports: exports(),
		Scope:   resources.Instance,
		Remote:  true,
		New: func(_ resources.Address, written cty.Value) (resources.Resource, cty.Value, error) {
			return newBucket(clients, written)
		},
	}
}

func attrs() []resources.Attr {
	ensure := resources.EnsureAttr()
	ensure.Doc = "With \"absent\" what converge set is taken out again: its statement of the policy, or the ACL, its rule of cors and " +
		"of lifecycle as far as those blocks are written. The bucket and its objects are never deleted, nor old versions."
	return []resources.Attr{
		{Name: "store", Ref: []string{"object_store"}, Required: true, Secret: true, Doc: "The object store that the bucket is at."},
		{Name: "name", Type: cty.String, Required: true, Doc: "The bucket's name."},
		{Name: "access", Type: cty.String, Required: true, OneOf: []string{private, publicObjects},
			Doc: "\"public-objects\": anyone may get an object whose name they know. \"private\": nobody may without a key."},
		{Name: "create", Type: cty.Bool, Default: cty.True,
			Doc: "Whether converge creates the bucket when it was never there. Write false where its key may not."},
		{Name: "app_credentials", Block: []resources.Attr{
			{Name: "access_key_id", Type: cty.String, Required: true, Secret: true, Passes: true, Doc: "The id of the app's key."},
			{Name: "secret_access_key", Type: cty.String, Required: true, Secret: true, Passes: true, Doc: "The secret half of the app's key."},
		}, Doc: "The app's own key, for mastodon_env. It needs no right to create buckets or to change their access."},
		{Name: "public_prefixes", Type: cty.List(cty.String), Default: stringList(publicPrefixes),
			Doc: "Below which prefixes objects are public, with a slash at the end of each. Each ends in a directory of Mastodon's " +
				"public media, after S3_KEY_PREFIX where that is set: \"media/accounts/\". Where the provider makes the whole " +
				"bucket public (backblaze-b2), it has no effect. Not written: those of Mastodon's media, without backups/ and imports/."},
		{Name: "public_host", Type: cty.String,
			Doc: "The host name at which everybody reads the objects, where that is not the store's own address: required with " +
				"\"public-objects\" at cloudflare-r2 and garage, and nowhere else. It is connected to the bucket in the provider's " +
				"console; until it is, converge says how, and what depends on the bucket waits."},
		{Name: "cors", Block: corsAttrs(),
			Doc: "Which pages of other origins may use the objects at the store's address, as one rule of the id converge; other rules " +
				"stay. Not written: not looked at. Behind an nginx_site it is not needed."},
		{Name: "lifecycle", Block: lifecycleAttrs(),
			Doc: "What the store deletes by itself, as one rule of the id converge; other rules stay. Not written: not looked at."},
		{Name: "versioning", Type: cty.Bool,
			Doc: "Whether the bucket keeps old versions of what is overwritten or deleted. With false it keeps no new ones, and those " +
				"that there are stay. Not written: not looked at."},
		ensure,
	}
}

func exports() []resources.Attr {
	store := cty.Object(map[string]cty.Type{
		"provider": cty.String, "region": cty.String, "endpoint": cty.String, "host": cty.String, "path_style": cty.Bool,
		"ca_file": cty.String, "access_key_id": cty.String, "secret_access_key": cty.String,
		"public_by": cty.String, "conditional_writes": cty.String, "checksum_headers": cty.String, "batch_delete": cty.String,
	})
	return []resources.Attr{
		{Name: "name", Type: cty.String, Doc: "The bucket's name."},
		{Name: "host", Type: cty.String, Doc: "The host, with its port where one is written, that requests for objects go to."},
		{Name: "url", Type: cty.String, Doc: "The address that objects' names are appended to after a slash."},
		{Name: "path_style", Type: cty.Bool, Doc: "Whether the bucket stands in the path of that address."},
		{Name: "provider", Type: cty.String, Doc: "Whose store it is."},
		{Name: "store", Type: store, Secret: true, Doc: "The exports of the object store."},
		{Name: "object_acl", Type: cty.String, Doc: "The canned ACL that uploads must send, \"\" for none."},
		{Name: "mastodon_env", Type: cty.Map(cty.String), Secret: true,
			Doc: "What Mastodon's .env.production must say to use the bucket, for env_file's set. Without app_credentials the two " +
				"AWS_ keys are left out: what stands in the file stays."},
	}
}

// config is what somebody wrote.
type config struct {
	Store    objectstore.Config `attr:"store"`
	Name     string             `attr:"name"`
	Access   string             `attr:"access"`
	Create   bool               `attr:"create"`
	App      *credentials       `attr:"app_credentials"`
	Prefixes []string           `attr:"public_prefixes"`
	Ensure   string             `attr:"ensure"`

	PublicHost string          `attr:"public_host"`
	CORS       *corsBlock      `attr:"cors"`
	Lifecycle  *lifecycleBlock `attr:"lifecycle"`
	Versioning *bool           // nil: not managed
}

type credentials struct {
	AccessKeyID     secret.String `attr:"access_key_id"`
	SecretAccessKey secret.String `attr:"secret_access_key"`
}

func newBucket(clients *objectstore.Clients, written cty.Value) (resources.Resource, cty.Value, error) {
	var c config
	if err := resources.Decode(written, &c); err != nil {
		return nil, cty.NilVal, err
	}
	provider, ok := c.Store.Entry()
	if !ok {
		return nil, cty.NilVal, attrError(fmt.Errorf("there is no provider %q", c.Store.Provider), "store")
	}
	if v := written.GetAttr("versioning"); !v.IsNull() {
		on := v.True()
		c.Versioning = &on
	}
	if err := c.check(provider); err != nil {
		return nil, cty.NilVal, err
	}
	if err := c.checkSettings(provider, written); err != nil {
		return nil, cty.NilVal, err
	}
	b := &bucket{config: c, provider: provider, clients: clients}
	if c.Ensure == resources.Absent {
		return &withdrawn{b}, b.exports(), nil
	}
	return b, b.exports(), nil
}

func (c *config) check(p *objectstore.Provider) error {
	if err := p.CheckBucket(c.Name, c.Store); err != nil {
		return attrError(err, "name")
	}
	if c.App != nil {
		if err := p.CheckKeyID(c.App.AccessKeyID); err != nil {
			return attrError(err, "app_credentials", "access_key_id")
		}
		if err := p.CheckSecret(c.App.SecretAccessKey); err != nil {
			return attrError(err, "app_credentials", "secret_access_key")
		}
	}
	if c.Access == publicObjects && len(c.Prefixes) == 0 {
		return attrError(fmt.Errorf("no prefix is public; write access = %q instead", private), "public_prefixes")
	}
	for _, prefix := range c.Prefixes {
		if err := checkPrefix(prefix); err != nil {
			return attrError(err, "public_prefixes")
		}
	}
	for _, h := range c.hiddenPrefixes() {
		for _, prefix := range c.Prefixes {
			if strings.HasPrefix(h, prefix) {
				return attrError(fmt.Errorf("%q would make %s public; leave it out", prefix, h), "public_prefixes")
			}
		}
	}
	return nil
}

// checkSettings refuses what the provider does not have.
func (c *config) checkSettings(p *objectstore.Provider, written cty.Value) error {
	if err := c.checkPublicHost(p); err != nil {
		return attrError(err, "public_host")
	}
	if c.CORS != nil {
		if err := c.CORS.check(p); err != nil {
			return err
		}
	}
	if c.Lifecycle != nil {
		if err := c.Lifecycle.check(p, written.GetAttr("lifecycle")); err != nil {
			return err
		}
	}
	if c.Versioning != nil {
		if err := checkVersioning(p, *c.Versioning); err != nil {
			return attrError(err, "versioning")
		}
	}
	return nil
}

// checkPrefix refuses what would mean more in a policy than it says, wildcards and variables (IAM User Guide, "Resource"), and
// what ends in none of the classes of public media: "media/" would hold "media/backups/" too.
func checkPrefix(prefix string) error {
	switch {
	case !strings.HasSuffix(prefix, "/"), strings.HasPrefix(prefix, "/"), strings.ContainsAny(prefix, "*?$\"\\"):
		return fmt.Errorf("%q is not a prefix; write one such as \"accounts/\", with a slash at its end and without wildcards", prefix)
	}
	for _, h := range hidden {
		if strings.Contains("/"+prefix, "/"+h) {
			return fmt.Errorf("%s holds what must not be public; leave it out", h)
		}
	}
	if _, ok := keyPrefix(prefix); !ok {
		return fmt.Errorf("%q holds more than public media, or none; end it with one of %s", prefix, strings.Join(publicPrefixes, ", "))
	}
	return nil
}

// keyPrefix returns what stands before the class of media in a public prefix: Mastodon's S3_KEY_PREFIX with a slash at its
// end, "" for none. It is false where the prefix ends in no class.
func keyPrefix(prefix string) (string, bool) {
	segments := strings.SplitAfter(strings.TrimSuffix(prefix, "/"), "/")
	last := len(segments) - 1
	class := segments[last] + "/"
	if !slices.Contains(publicPrefixes, class) {
		return "", false
	}
	if class != "cache/" && last > 0 && segments[last-1] == "cache/" {
		last--
	}
	return strings.Join(segments[:last], ""), true
}

// hiddenPrefixes are the hidden ones as they stand in the bucket, sorted.
func (c *config) hiddenPrefixes() []string {
	if len(c.Prefixes) == 0 {
		return hidden
	}
	var all []string
	for _, prefix := range c.Prefixes {
		before, _ := keyPrefix(prefix)
		for _, h := range hidden {
			all = append(all, before+h)
		}
	}
	slices.Sort(all)
	return slices.Compact(all)
}

func attrError(err error, path ...string) error { return &resources.AttrError{Path: path, Err: err} }

func stringList(list []string) cty.Value {
	var values []cty.Value
	for _, s := range list {
		values = append(values, cty.StringVal(s))
	}
	return cty.ListVal(values)
}
