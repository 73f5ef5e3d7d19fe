package s3bucket

import (
	"errors"
	"maps"
	"slices"
	"strings"
	"testing"

	"github.com/converge-agent/converge/objectstore"
	"github.com/converge-agent/converge/resources"
	"github.com/converge-agent/converge/secret"
	"github.com/zclconf/go-cty/cty"
)

// storeRef is the reference that an object_store makes.
func storeRef(provider, endpoint string, pathStyle bool) cty.Value {
	return resources.Reference(resources.Address{Kind: "object_store", Name: "s"}, cty.ObjectVal(map[string]cty.Value{
		"provider": cty.StringVal(provider), "region": cty.StringVal("us-west-001"), "endpoint": cty.StringVal(endpoint),
		"host": cty.StringVal(strings.TrimPrefix(endpoint, "https://")), "path_style": cty.BoolVal(pathStyle),
		"ca_file": cty.StringVal(""), "access_key_id": secret.New("agentid").Value(), "secret_access_key": secret.New("agentsecret").Value(),
	}))
}

func b2Bucket() map[string]cty.Value {
	return map[string]cty.Value{
		"store":  storeRef("backblaze-b2", "https://s3.us-west-001.backblazeb2.com", true),
		"name":   cty.StringVal("my-instance-media"),
		"access": cty.StringVal("public-objects"),
	}
}

func minioBucket() map[string]cty.Value {
	b := b2Bucket()
	b["store"] = storeRef("minio", "https://127.0.0.1:9000", true)
	return b
}

func appCredentials(id, key string) cty.Value {
	return cty.ObjectVal(map[string]cty.Value{"access_key_id": secret.New(id).Value(), "secret_access_key": secret.New(key).Value()})
}

// decide completes and makes what was written.
func decide(t *testing.T, written map[string]cty.Value) (*bucket, cty.Value, error) {
	t.Helper()
	kind := Kind(objectstore.NewClients())
	config, errs := kind.Complete(cty.ObjectVal(written))
	if len(errs) > 0 {
		return nil, cty.NilVal, errs[0]
	}
	r, exports, err := kind.New(resources.Address{Kind: kind.Name, Name: "media"}, config)
	if err != nil {
		return nil, cty.NilVal, err
	}
	return r.(*bucket), exports, nil
}

func mustMake(t *testing.T, written map[string]cty.Value) (*bucket, cty.Value) {
	t.Helper()
	b, exports, err := decide(t, written)
	if err != nil {
		t.Fatal(err)
	}
	return b, exports
}

func TestExports(t *testing.T) {
	vhost := minioBucket()
	vhost["store"] = storeRef("minio", "https://s3.example.com", false)
	tests := []struct {
		name    string
		written map[string]cty.Value
		want    map[string]string
	}{
		{"B2", b2Bucket(), map[string]string{"host": "s3.us-west-001.backblazeb2.com", "object_acl": "", "provider": "backblaze-b2",
			"url": "https://s3.us-west-001.backblazeb2.com/my-instance-media", "name": "my-instance-media"}},
		{"MinIO", minioBucket(), map[string]string{"host": "127.0.0.1:9000", "url": "https://127.0.0.1:9000/my-instance-media", "object_acl": ""}},
		{"host names", vhost, map[string]string{"host": "my-instance-media.s3.example.com", "url": "https://my-instance-media.s3.example.com"}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			_, exports := mustMake(t, tt.written)
			for name, want := range tt.want {
				if got := exports.GetAttr(name).AsString(); got != want {
					t.Errorf("%s = %q, want %q", name, got, want)
				}
			}
			for _, e := range Kind(nil).Exports {
				if v := exports.GetAttr(e.Name); !v.Type().Equals(e.Type) {
					t.Errorf("export %s is %s, want %s", e.Name, v.Type().GoString(), e.Type.GoString())
				}
			}
			var syncs struct { // what a sync decodes of the reference
				Store objectstore.Config `attr:"store"`
			}
			if err := resources.Decode(exports, &syncs); err != nil || syncs.Store.SecretAccessKey.Reveal() != "agentsecret" {
				t.Errorf("the store in the exports decodes to %+v, %v", syncs.Store, err)
			}
		})
	}
}

func TestMastodonEnv(t *testing.T) {
	want := map[string]string{
		"S3_ENABLED": "true", "S3_BUCKET": "my-instance-media", "S3_REGION": "us-west-001", "S3_PROTOCOL": "https",
		"S3_HOSTNAME": "s3.us-west-001.backblazeb2.com", "S3_ENDPOINT": "https://s3.us-west-001.backblazeb2.com",
		"S3_PERMISSION": "", "S3_FORCE_SINGLE_REQUEST": "true", "S3_MULTIPART_THRESHOLD": "15728640", "S3_READ_TIMEOUT": "60",
		"S3_RETRY_LIMIT": "3", "AWS_REQUEST_CHECKSUM_CALCULATION": "when_required", "AWS_RESPONSE_CHECKSUM_VALIDATION": "when_required",
		"S3_OVERRIDE_PATH_STYLE": "false", "S3_ENABLE_CHECKSUM_MODE": "false",
	}
	read := func(written map[string]cty.Value) map[string]string {
		_, exports := mustMake(t, written)
		got := map[string]string{}
		for name, v := range exports.GetAttr("mastodon_env").AsValueMap() {
			isKey := name == "AWS_ACCESS_KEY_ID" || name == "AWS_SECRET_ACCESS_KEY"
			if secret.In(v) != isKey {
				t.Errorf("%s is secret: %v", name, secret.In(v))
			}
			bare, _ := v.Unmark()
			got[name] = bare.AsString()
		}
		return got
	}
	if got := read(b2Bucket()); !maps.Equal(got, want) {
		t.Errorf("without app_credentials: %v\nwant %v", got, want)
	}
	withApp := b2Bucket()
	withApp["app_credentials"] = appCredentials("0014aa9865d6f0000000000c1", "appsecret")
	want["AWS_ACCESS_KEY_ID"], want["AWS_SECRET_ACCESS_KEY"] = "0014aa9865d6f0000000000c1", "appsecret"
	if got := read(withApp); !maps.Equal(got, want) {
		t.Errorf("with app_credentials: %v\nwant %v", got, want)
	}
	vhost := withApp
	vhost["store"] = storeRef("minio", "https://s3.example.com", false)
	got := read(vhost)
	if got["S3_OVERRIDE_PATH_STYLE"] != "true" || got["S3_HOSTNAME"] != "s3.example.com" {
		t.Errorf("with the bucket in the host name: %v", got)
	}
}

func TestWhatIsRefused(t *testing.T) {
	list := func(s ...string) cty.Value { return stringList(s) }
	tests := []struct {
		name  string
		attr  string
		value cty.Value
		says  string
	}{
		{"short name", "name", cty.StringVal("media"), "6 to 63"},
		{"reserved name", "name", cty.StringVal("b2-my-media"), "b2-"},
		{"access", "access", cty.StringVal("public"), `"public-objects"`},
		{"a string for a store", "store", cty.StringVal("b2"), "object_store"},
		{"the master key for the app", "app_credentials", appCredentials("4aa9865d6f00", "x"), "master key"},
		{"an empty secret for the app", "app_credentials", appCredentials("0014aa9865d6f0000000000c1", ""), "empty"},
		{"no prefix", "public_prefixes", cty.ListValEmpty(cty.String), "access = \"private\""},
		{"everything", "public_prefixes", list("*"), "slash"},
		{"a wildcard", "public_prefixes", list("a*/"), "wildcards"},
		{"a prefix without a slash", "public_prefixes", list("accounts"), "accounts/"},
		{"backups", "public_prefixes", list("accounts/", "backups/"), "must not be public"},
		{"within imports", "public_prefixes", list("imports/data/"), "must not be public"},
		{"backups below a key prefix", "public_prefixes", list("media/backups/"), "must not be public"},
		{"below backups", "public_prefixes", list("media/backups/accounts/"), "must not be public"},
		{"a whole key prefix", "public_prefixes", list("media/"), "accounts/, cache/"},
		{"a part of a class", "public_prefixes", list("accounts/avatars/"), "accounts/, cache/"},
		{"a class that ends like one", "public_prefixes", list("myaccounts/"), "accounts/, cache/"},
		{"a slash alone", "public_prefixes", list("media//"), "accounts/, cache/"},
		{"a key prefix that is public", "public_prefixes", list("cache/accounts/accounts/", "cache/"), "cache/accounts/backups/"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			written := b2Bucket()
			written[tt.attr] = tt.value
			_, _, err := decide(t, written)
			var at *resources.AttrError
			if !errors.As(err, &at) || at.Path[0] != tt.attr || !strings.Contains(err.Error(), tt.says) {
				t.Errorf("error = %v, want one at %s that says %q", err, tt.attr, tt.says)
			}
		})
	}
}

func TestPrefixesAreMastodons(t *testing.T) {
	b, _ := mustMake(t, minioBucket())
	want := []string{"accounts/", "cache/", "custom_emojis/", "media_attachments/", "preview_card_providers/", "preview_cards/", "site_uploads/"}
	if !slices.Equal(b.Prefixes, want) {
		t.Errorf("public_prefixes = %q, want %q", b.Prefixes, want)
	}
}

// TestHiddenPrefixes: what nobody may read stands where Mastodon's S3_KEY_PREFIX puts it.
func TestHiddenPrefixes(t *testing.T) {
	tests := []struct {
		name     string
		prefixes []string
		want     []string
	}{
		{"Mastodon's", publicPrefixes, []string{"backups/", "imports/"}},
		{"the cache's alone", []string{"cache/accounts/"}, []string{"backups/", "imports/"}},
		{"none written", nil, []string{"backups/", "imports/"}},
		{"a key prefix", []string{"media/accounts/", "media/cache/"}, []string{"media/backups/", "media/imports/"}},
		{"a key prefix like the cache", []string{"mycache/accounts/"}, []string{"mycache/backups/", "mycache/imports/"}},
		{"two of them", []string{"b/c/cache/accounts/", "a/cache/"}, []string{"a/backups/", "a/imports/", "b/c/backups/", "b/c/imports/"}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			written := minioBucket()
			written["access"] = cty.StringVal(private)
			if written["public_prefixes"] = cty.ListValEmpty(cty.String); len(tt.prefixes) > 0 {
				written["public_prefixes"] = stringList(tt.prefixes)
			}
			b, _ := mustMake(t, written)
			if got := b.hiddenPrefixes(); !slices.Equal(got, tt.want) {
				t.Errorf("hidden = %q, want %q", got, tt.want)
			}
		})
	}
}
