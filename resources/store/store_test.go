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
			"host names", map[string]string{"provider": "minio", "endpoint": "https://s3.example.com", "region": "home", "path_style": "false"},
			objectstore.Config{Provider: "minio", Region: "home", Endpoint: "https://s3.example.com"}, "s3.example.com",
		},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			exports, err := decide(t, written(tt.attrs))
			if err != nil {
				t.Fatal(err)
			}
			var got objectstore.Config
			if err := resources.Decode(exports, &got); err != nil {
				t.Fatal(err)
			}
			tt.want.AccessKeyID, tt.want.SecretAccessKey = secret.New("0014aa9865d6f0000000000b0"), secret.New("K001verysecret")
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

func TestWhatIsRefused(t *testing.T) {
	b2 := map[string]string{"provider": "backblaze-b2", "region": "us-west-001"}
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
