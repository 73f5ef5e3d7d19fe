package objectstore

import (
	"maps"
	"reflect"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/converge-agent/converge/secret"
)

func TestProvidersAreComplete(t *testing.T) {
	if want := []string{
		"aws", "backblaze-b2", "ceph-rgw", "cloudflare-r2", "digitalocean", "exoscale", "garage", "generic", "hetzner", "idrive-e2",
		"ionos", "minio", "ovh", "scaleway", "wasabi",
	}; !slices.Equal(Names(), want) {
		t.Errorf("Names = %q, want %q", Names(), want)
	}
	proven := []string{"aws", "backblaze-b2", "ceph-rgw", "cloudflare-r2", "idrive-e2", "minio", "scaleway", "wasabi"}
	titles := map[string]bool{}
	for _, name := range Names() {
		p, ok := Lookup(name)
		if !ok || p.Proven != slices.Contains(proven, name) || titles[p.Title] {
			t.Fatalf("%s: not there, of no title of its own, or proven is not %v", name, slices.Contains(proven, name))
		}
		titles[p.Title] = true
		for what, wrong := range incomplete(p) {
			if wrong {
				t.Errorf("%s: %s", name, what)
			}
		}
	}
	if _, ok := Lookup("b2"); ok {
		t.Error("Lookup found what is not there")
	}
}

// incomplete are the ways in which an entry can be so.
func incomplete(p *Provider) map[string]bool {
	hosted := p.Endpoint != "" || p.Discovery != ""
	endpoint := p.EndpointOf(p.RegionExample, p.AccountExample)
	wrong := map[string]bool{
		"no title": p.Title == "", "no sources": len(p.Sources) == 0, "no date": !regexp.MustCompile(`^20[2-9][0-9]-[01][0-9]$`).MatchString(p.Date),
		"no form of buckets' names":            p.BucketName == nil || p.BucketRule == "",
		"its region is refused":                p.CheckRegion(p.RegionExample) != nil,
		"its default is refused":               p.DefaultRegion != "" && p.CheckRegion(p.DefaultRegion) != nil,
		"its account is refused":               p.CheckAccount(p.AccountExample, false) != nil,
		"its endpoint is refused":              endpoint != "" && p.CheckEndpoint(endpoint, p.RegionExample, p.AccountExample) != nil,
		"its endpoint has a gap":               strings.ContainsAny(endpoint, "{}"),
		"its key id is refused":                p.KeyIDExample != "" && p.CheckKeyID(secret.New(p.KeyIDExample)) != nil,
		"no example of a key id":               (p.KeyID == nil) != (p.KeyIDExample == ""),
		"no rule of secrets":                   (p.Secret == nil) != (p.SecretRule == ""),
		"no way to a domain":                   p.CustomDomain == "",
		"no rights":                            len(p.AgentRights) == 0 || len(p.AppRights) == 0,
		"rights are not sorted":                !slices.IsSorted(p.AgentRights) || !slices.IsSorted(p.AppRights),
		"an ACL and none to send":              (p.Public == ObjectACL) != (p.ObjectACL != ""),
		"a prefix stays private without a way": p.PrivatePrefixes && p.Public != BucketPolicy && p.Public != ObjectACL,
		"always versioned and settable":        p.AlwaysVersioned && p.Versioning,
	}
	// What is not there is unknown, and says so; a server of one's own takes any key and has no price.
	for field, there := range map[string]bool{"KeyID": p.KeyID != nil, "Secret": p.Secret != nil, "Classes": p.Classes != nil} {
		wrong["nothing of "+field+", and it is not in Unknown"] = hosted && !there && p.Knows(field)
		wrong[field+" is there, and in Unknown"] = there && !p.Knows(field)
	}
	wrong["no rate limit, and it is not in Unknown"] = (p.RateLimit == "") == p.Knows("RateLimit")
	wrong["no limits of parts, and they are not in Unknown"] = p.Multipart == Multipart{} && p.Knows("Multipart")
	for _, field := range p.Unknown {
		_, ok := reflect.TypeFor[Provider]().FieldByName(field)
		wrong["there is no field "+field] = !ok
	}
	for op, class := range p.Classes {
		_, ok := p.Prices[class]
		wrong["no price of "+op] = !ok
	}
	for class, price := range p.Prices {
		wrong["nothing is in class "+class] = !slices.Contains(slices.Collect(maps.Values(p.Classes)), class)
		wrong["the price of "+class+" is half of one"] = price.PerThousand != 0 && price.Currency == "" || (price.Free > 0) != (price.FreePer != "")
	}
	return wrong
}

func TestProviderChecks(t *testing.T) {
	b2, _ := Lookup("backblaze-b2")
	minio, _ := Lookup("minio")
	const b2URL = "https://s3.us-west-001.backblazeb2.com"
	path, vhost := Config{Endpoint: "https://s3.example.com", PathStyle: true}, Config{Endpoint: "https://s3.example.com"}
	tests := []struct {
		name string
		got  error
		ok   bool
	}{
		{"region", b2.CheckRegion("eu-central-003"), true},
		{"region of AWS", b2.CheckRegion("us-east-1"), false},
		{"region with the host", b2.CheckRegion("s3.us-west-001"), false},
		{"endpoint", b2.CheckEndpoint(b2URL, "us-west-001", ""), true},
		{"endpoint of a test server", b2.CheckEndpoint("https://127.0.0.1:4000", "us-west-001", ""), true},
		{"endpoint without scheme", b2.CheckEndpoint("s3.us-west-001.backblazeb2.com", "us-west-001", ""), false},
		{"endpoint with the bucket before", b2.CheckEndpoint("https://media.s3.us-west-001.backblazeb2.com", "us-west-001", ""), false},
		{"endpoint with the bucket behind", b2.CheckEndpoint(b2URL+"/media", "us-west-001", ""), false},
		{"endpoint with a user", b2.CheckEndpoint("https://a:b@s3.us-west-001.backblazeb2.com", "us-west-001", ""), false},
		{"plain http at B2", b2.CheckEndpoint("http://s3.us-west-001.backblazeb2.com", "us-west-001", ""), false},
		{"plain http at MinIO", minio.CheckEndpoint("http://127.0.0.1:9000", "us-east-1", ""), true},
		{"bucket", b2.CheckBucket("my-instance-media", path), true},
		{"short bucket", b2.CheckBucket("media", path), false},
		{"short bucket at MinIO", minio.CheckBucket("media", path), true},
		{"reserved bucket", b2.CheckBucket("b2-media", path), false},
		{"bucket with a dot at B2", b2.CheckBucket("files.example.com", path), false},
		{"bucket with a dot at MinIO", minio.CheckBucket("files.example.com", path), true},
		{"bucket with a dot in a host name", minio.CheckBucket("files.example.com", vhost), false},
		{"bucket in the endpoint", minio.CheckBucket("media", Config{Endpoint: "https://media.s3.example.com", PathStyle: true}), false},
		{"upper case", minio.CheckBucket("Media", path), false},
		{"key", b2.CheckKeyID(secret.New("0014aa9865d6f0000000000b0")), true},
		{"old master key", b2.CheckKeyID(secret.New("4aa9865d6f00")), false},
		{"new master key", b2.CheckKeyID(secret.New("0014aa9865d6f000000000000")), false},
		{"12 digits at MinIO", minio.CheckKeyID(secret.New("4aa9865d6f00")), true},
		{"empty key", minio.CheckKeyID(secret.New("")), false},
		{"secret in quotes", minio.CheckSecret(secret.New(`"abc"`)), false},
		{"secret with a line break", minio.CheckSecret(secret.New("abc\n")), false},
		{"missing secret", minio.CheckSecret(secret.Absent(&secret.Missing{Name: "x"})), true},
	}
	for _, tt := range tests {
		if ok := tt.got == nil; ok != tt.ok {
			t.Errorf("%s: %v, want accepted: %v", tt.name, tt.got, tt.ok)
		}
	}
}

func TestAddresses(t *testing.T) {
	path := Config{Endpoint: "https://s3.example.com:9000", PathStyle: true}
	vhost := Config{Endpoint: "https://s3.example.com:9000"}
	for got, want := range map[string]string{
		path.BucketHost("media"):  "s3.example.com:9000",
		path.BucketURL("media"):   "https://s3.example.com:9000/media",
		vhost.BucketHost("media"): "media.s3.example.com:9000",
		vhost.BucketURL("media"):  "https://media.s3.example.com:9000",
	} {
		if got != want {
			t.Errorf("got %s, want %s", got, want)
		}
	}
}

func TestOverridesOfTheTable(t *testing.T) {
	for _, tt := range []struct {
		name string
		cfg  Config
		want func(*Provider) bool
	}{
		{"nothing written", Config{Provider: "generic"}, func(p *Provider) bool {
			return p.Public == BucketPolicy && p.RefusesChecksums && !p.ConditionalWrites && !p.BatchDelete
		}},
		{"object ACL", Config{Provider: "generic", PublicBy: "object-acl"}, func(p *Provider) bool {
			return p.Public == ObjectACL && p.ObjectACL == "public-read" && p.PrivatePrefixes
		}},
		{"policy where the table says object ACL", Config{Provider: "digitalocean", PublicBy: "policy"}, func(p *Provider) bool {
			return p.Public == BucketPolicy && p.ObjectACL == "" && p.PrivatePrefixes
		}},
		{"bucket ACL", Config{Provider: "generic", PublicBy: "bucket-acl"}, func(p *Provider) bool {
			return p.Public == BucketACL && !p.PrivatePrefixes
		}},
		{"can do more", Config{Provider: "generic", ConditionalWrites: Yes, ChecksumHeaders: Yes, BatchDelete: Yes}, func(p *Provider) bool {
			return p.ConditionalWrites && !p.RefusesChecksums && p.BatchDelete
		}},
		{"can do less", Config{Provider: "aws", ConditionalWrites: No, ChecksumHeaders: No, BatchDelete: No}, func(p *Provider) bool {
			return !p.ConditionalWrites && p.RefusesChecksums && !p.BatchDelete
		}},
	} {
		p, ok := tt.cfg.Entry()
		if !ok || !tt.want(p) {
			t.Errorf("%s: %+v", tt.name, p)
		}
	}
	if aws, _ := Lookup("aws"); !aws.ConditionalWrites {
		t.Error("an override changed the table")
	}
	if _, ok := (Config{Provider: "b2"}).Entry(); ok {
		t.Error("Entry found what is not there")
	}
}
