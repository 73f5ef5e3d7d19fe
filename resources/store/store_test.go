package store_test

import (
	"errors"
	"strings"
	"testing"

	"github.com/converge-agent/converge/objectstore"
	"github.com/converge-agent/converge/resources"
	"github.com/converge-agent/converge/resources/store"
	"github.com/converge-agent/converge/secret"
	"github.com/zclconf/go-cty/cty"
)

// written is an object_store with these attributes beside its keys.
func written(attrs map[string]string) map[string]cty.Value {
	all := map[string]cty.Value{
		"access_key_id":     secret.New("0014aa9865d6f0000000000b0").Value(),
		"secret_access_key": secret.New("K001verysecret").Value(),
	}
	for name, text := range attrs {
		all[name] = cty.StringVal(text)
	}
	return all
}

func decide(t *testing.T, attrs map[string]cty.Value) (cty.Value, error) {
	t.Helper()
	kind := store.Kind(nil)
	config, errs := kind.Complete(cty.ObjectVal(attrs))
	if len(errs) > 0 {
		return cty.NilVal, errs[0]
	}
	r, exports, err := kind.New(resources.Address{Kind: kind.Name, Name: "b2"}, config)
	if r != nil {
		t.Error("an object_store is something to converge")
	}
	return exports, err
}

// r2Key has the form of an access key id there; twice it has that of the secret half.
const r2Key = "6b1d3a0e5f2c4897a1b0c9d8e7f60514"

func TestExports(t *testing.T) {
	tests := []struct {
		name  string
		attrs map[string]string
		want  objectstore.Config
		host  string
	}{
		{
			"what B2 derives", map[string]string{"provider": "backblaze-b2", "region": "us-west-001"},
			objectstore.Config{Provider: "backblaze-b2", Region: "us-west-001", Endpoint: "https://s3.us-west-001.backblazeb2.com", PathStyle: true},
			"s3.us-west-001.backblazeb2.com",
		},
		{
			"what MinIO derives", map[string]string{"provider": "minio", "endpoint": "https://127.0.0.1:9000/", "ca_file": "/etc/minio.pem"},
			objectstore.Config{Provider: "minio", Region: "us-east-1", Endpoint: "https://127.0.0.1:9000", PathStyle: true, CAFile: "/etc/minio.pem"},
			"127.0.0.1:9000",
		},
		{
			"what R2 derives", map[string]string{"provider": "cloudflare-r2", "account_id": "023e105f4ecef8ad9ca31a8372d0c353"},
			objectstore.Config{Provider: "cloudflare-r2", Region: "auto", Endpoint: "https://023e105f4ecef8ad9ca31a8372d0c353.r2.cloudflarestorage.com", PathStyle: true},
			"023e105f4ecef8ad9ca31a8372d0c353.r2.cloudflarestorage.com",
		},
		{
			"a jurisdiction of R2", map[string]string{"provider": "cloudflare-r2", "endpoint": "https://023e105f4ecef8ad9ca31a8372d0c353.eu.r2.cloudflarestorage.com"},
			objectstore.Config{Provider: "cloudflare-r2", Region: "auto", Endpoint: "https://023e105f4ecef8ad9ca31a8372d0c353.eu.r2.cloudflarestorage.com", PathStyle: true},
			"023e105f4ecef8ad9ca31a8372d0c353.eu.r2.cloudflarestorage.com",
		},
		{
			"overrides", map[string]string{"provider": "generic", "region": "home", "endpoint": "https://s3.example.com", "public_by": "object-acl",
				"conditional_writes": "true", "checksum_headers": "false"},
			objectstore.Config{Provider: "generic", Region: "home", Endpoint: "https://s3.example.com", PathStyle: true, PublicBy: "object-acl",
				ConditionalWrites: objectstore.Yes, ChecksumHeaders: objectstore.No}, "s3.example.com",
		},
		{
			"host names", map[string]string{"provider": "minio", "endpoint": "https://s3.example.com", "region": "home", "path_style": "false"},
			objectstore.Config{Provider: "minio", Region: "home", Endpoint: "https://s3.example.com"}, "s3.example.com",
		},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			attrs := written(tt.attrs)
			if tt.want.Provider == "cloudflare-r2" {
				attrs["access_key_id"], attrs["secret_access_key"] = secret.New(r2Key).Value(), secret.New(r2Key+r2Key).Value()
			}
			exports, err := decide(t, attrs)
			if err != nil {
				t.Fatal(err)
			}
			var got objectstore.Config
			if err := resources.Decode(exports, &got); err != nil {
				t.Fatal(err)
			}
			tt.want.AccessKeyID, tt.want.SecretAccessKey = secret.FromValue(attrs["access_key_id"]), secret.FromValue(attrs["secret_access_key"])
			if got != tt.want {
				t.Errorf("exports = %+v, want %+v", got, tt.want)
			}
			if host := exports.GetAttr("host").AsString(); host != tt.host {
				t.Errorf("host = %s, want %s", host, tt.host)
			}
			for _, e := range store.Kind(nil).Exports {
				if v := exports.GetAttr(e.Name); v.Type() != e.Type || secret.In(v) != e.Secret {
					t.Errorf("export %s is a %s, secret: %v; want a %s, %v", e.Name, v.Type().FriendlyName(), secret.In(v), e.Type.FriendlyName(), e.Secret)
				}
			}
		})
	}
}

// secretly marks the keys.
func secretly(attrs map[string]cty.Value) {
	for _, name := range []string{"access_key_id", "secret_access_key"} {
		if v := attrs[name]; !secret.In(v) {
			attrs[name] = secret.New(v.AsString()).Value()
		}
	}
}

func TestWhatIsRefused(t *testing.T) {
	const account = "023e105f4ecef8ad9ca31a8372d0c353"
	const r2URL = "https://" + account + ".r2.cloudflarestorage.com"
	b2 := map[string]string{"provider": "backblaze-b2", "region": "us-west-001"}
	r2 := map[string]string{"provider": "cloudflare-r2", "account_id": account, "access_key_id": account}
	aws := map[string]string{"provider": "aws", "region": "eu-central-1"}
	scaleway := map[string]string{"provider": "scaleway", "region": "fr-par", "access_key_id": "SCWXXXXXXXXXXXXXXXXX"}
	tests := []struct {
		name       string
		base       map[string]string
		attr, text string
		says       string
	}{
		{"unknown provider", b2, "provider", "backblaze", `did you mean "backblaze-b2"?`},
		{"no region", map[string]string{"provider": "backblaze-b2"}, "region", "", "us-west-001"},
		{"region of another form", b2, "region", "us-east-1", "us-west-001"},
		{"no endpoint", map[string]string{"provider": "minio"}, "endpoint", "", "https://s3.example.com"},
		{"endpoint without a scheme", b2, "endpoint", "s3.us-west-001.backblazeb2.com", "https://"},
		{"endpoint with the bucket", b2, "endpoint", "https://media.s3.us-west-001.backblazeb2.com", "has the bucket in it"},
		{"endpoint with a path", b2, "endpoint", "https://s3.us-west-001.backblazeb2.com/media", "has the bucket media at its end"},
		{"plain http", b2, "endpoint", "http://s3.us-west-001.backblazeb2.com", "https only"},
		{"a region's address", map[string]string{"provider": "aws"}, "region", "https://s3.eu-central-1.amazonaws.com", `the region in it is "eu-central-1"`},
		{"endpoint of another region", b2, "endpoint", "https://s3.us-east-005.backblazeb2.com", "is the address of the region us-east-005"},
		{"endpoint of another provider", b2, "endpoint", "https://s3.fr-par.scw.cloud", `write provider = "scaleway"`},
		{"endpoint with the bucket of R2's console", r2, "endpoint", r2URL + "/media", "has the bucket media at its end"},
		{"endpoint with the bucket before at R2", r2, "endpoint", "https://media." + account + ".r2.cloudflarestorage.com", "has the bucket in it"},
		{"endpoint of no jurisdiction", r2, "endpoint", "https://" + account + ".de.r2.cloudflarestorage.com", "is no address of Cloudflare R2"},
		{"endpoint of another account", r2, "endpoint", "https://1" + account[1:] + ".r2.cloudflarestorage.com", "account_id is another"},
		{"no account id", map[string]string{"provider": "cloudflare-r2"}, "account_id", "", "every account has a host of its own"},
		{"account id of another form", r2, "account_id", "me@example.com", "write one such as"},
		{"address for an account id", r2, "account_id", r2URL + "/media", "its id alone is \"" + account + "\""},
		{"no region at AWS", map[string]string{"provider": "aws"}, "region", "", "Amazon S3 needs it"},
		{"generic without a region", map[string]string{"provider": "generic", "endpoint": "https://s3.example.com"}, "region", "", "needs it"},
		{"generic without an endpoint", map[string]string{"provider": "generic", "region": "home"}, "endpoint", "", "https://s3.example.com"},
		{"way of no name", b2, "public_by", "acl", "bucket-acl"},
		{"ACLs of objects at AWS", aws, "public_by", "object-acl", "BucketOwnerEnforced"},
		{"a policy at Scaleway", scaleway, "public_by", "policy", "locks out every key"},
		{"a public ACL of the bucket at AWS", aws, "public_by", "bucket-acl", "everybody could list"},
		{"a public ACL of the bucket at Scaleway", scaleway, "public_by", "bucket-acl", "everybody could list"},
		{"a public ACL of the bucket anywhere", map[string]string{"provider": "generic", "region": "home", "endpoint": "https://s3.example.com"},
			"public_by", "bucket-acl", "everybody could list"},
		{"key of B2 at AWS", aws, "access_key_id", "0014aa9865d6f0000000000b0", "access key id of Backblaze B2"},
		{"key of R2 at AWS", aws, "access_key_id", account, "access key id of Cloudflare R2"},
		{"key of nobody at AWS", aws, "access_key_id", "mykey", "looks like"},
		{"secret as id at Scaleway", scaleway, "access_key_id", "11111111-2222-3333-4444-555555555555", "swapped"},
		{"id as secret at Scaleway", scaleway, "secret_access_key", "SCWXXXXXXXXXXXXXXXXX", "swapped"},
		{"id as secret at B2", b2, "secret_access_key", "0014aa9865d6f0000000000b0", "swapped"},
		{"token as secret at R2", r2, "secret_access_key", "v4Yx-TokenOfFortyCharactersAsTheyAreShown", "64 hex digits"},
		{"account id", b2, "account_id", "4aa9865d6f00", "takes none"},
		{"old master key", b2, "access_key_id", "4aa9865d6f00", "master key"},
		{"new master key", b2, "access_key_id", "0014aa9865d6f000000000000", "master key"},
		{"quoted secret", b2, "secret_access_key", "'K001'", "quote"},
		{"relative ca_file", b2, "ca_file", "ca.pem", "absolute"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			attrs := written(tt.base)
			if tt.text != "" {
				attrs[tt.attr] = cty.StringVal(tt.text)
			}
			secretly(attrs)
			_, err := decide(t, attrs)
			var at *resources.AttrError
			if !errors.As(err, &at) || at.Path[0] != tt.attr || !strings.Contains(err.Error(), tt.says) {
				t.Errorf("error = %v, want one at %s that says %q", err, tt.attr, tt.says)
			}
			if strings.Contains(tt.attr, "key") && strings.Contains(err.Error(), tt.text) {
				t.Errorf("the error shows the key: %v", err)
			}
		})
	}
}

func TestMissingSecretFailsItsUsersOnly(t *testing.T) {
	attrs := written(map[string]string{"provider": "backblaze-b2", "region": "us-west-001"})
	attrs["secret_access_key"] = secret.Absent(&secret.Missing{Name: `credential("x")`, Err: errors.New("nowhere")}).Value()
	exports, err := decide(t, attrs)
	if err != nil {
		t.Fatalf("the store itself fails: %v", err)
	}
	if missing := secret.MissingIn(exports.GetAttr("secret_access_key")); len(missing) != 1 {
		t.Errorf("the export does not say that its secret is missing: %v", missing)
	}
}

// TestOnlyTheProviderKnows: what it is asked for, and what stays unknown until then.
func TestOnlyTheProviderKnows(t *testing.T) {
	kind := store.Kind(nil)
	asks := func(attrs map[string]string) (cty.Value, string) {
		config, errs := kind.Complete(cty.ObjectVal(written(attrs)))
		if len(errs) > 0 {
			t.Fatal(errs)
		}
		return config, kind.Ask(config)
	}
	config, attr := asks(map[string]string{"provider": "idrive-e2"})
	if attr != "endpoint" {
		t.Errorf("asked for %q", attr)
	}
	_, exports, err := kind.New(resources.Address{}, config)
	if err != nil || exports.GetAttr("endpoint").IsKnown() || exports.GetAttr("host").IsKnown() || !exports.GetAttr("region").IsKnown() {
		t.Errorf("before: %#v, %v", exports, err)
	}
	for name, attrs := range map[string]map[string]string{
		"written":       {"provider": "idrive-e2", "endpoint": "https://m2s0.tx11.idrivee2-3.com"},
		"known":         {"provider": "backblaze-b2", "region": "us-west-001"},
		"nobody to ask": {"provider": "minio"},
		"no key":        {"provider": "idrive-e2", "access_key_id": "two words"},
	} {
		if _, attr := asks(attrs); attr != "" {
			t.Errorf("%s: asked for %q", name, attr)
		}
	}
}
