package ruby

import (
	"cmp"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/converge-agent/converge/objectstore"
	"github.com/converge-agent/converge/test/lab"
)

// mistake is a variable that is wrong, and what comes of it at providers.
type mistake struct {
	name    string
	changed map[string]*string // as of instance.load
	newer   bool               // with the SDK from 1.178
	closed  bool               // with a bucket that is private
	at      func(*objectstore.Provider) bool

	storage string // what Mastodon then stores media in, "s3" where it is ""
	put     string // in the error of an upload, a regular expression; "" is none
	visit   string // in what the world gets at the address that Mastodon gives, the same; "" is the upload
}

func set(name, value string) map[string]*string { return map[string]*string{name: &value} }

func unset(name string) map[string]*string { return map[string]*string{name: nil} }

func everywhere(*objectstore.Provider) bool { return true }

func not(at func(*objectstore.Provider) bool) func(*objectstore.Provider) bool {
	return func(p *objectstore.Provider) bool { return !at(p) }
}

func at(names ...string) func(*objectstore.Provider) bool {
	return func(p *objectstore.Provider) bool { return slices.Contains(names, p.Name) }
}

// What the simulations do, which is less than what the table of providers is careful of.
var (
	refusesChecksums = at("backblaze-b2")       // mastodon/mastodon#33624
	anyRegion        = at("minio", "idrive-e2") // MinIO of 2026-02-12, run

	// The app's key has no right to change ACLs, for with none of the agent's settings Mastodon does so.
	refusesACLs = at("aws", "wasabi")
)

func objectACL(p *objectstore.Provider) bool { return p.Public == objectstore.ObjectACL }

func customDomain(p *objectstore.Provider) bool { return p.Public == objectstore.CustomDomain }

func bucketACL(p *objectstore.Provider) bool { return p.Public == objectstore.BucketACL }

// mistakes are the settings of an instance in the ways that people get them wrong, one at a time.
func mistakes(i *instance) []mistake {
	other := []byte(i.appKey) // with a typing error
	if other[7] == '1' {
		other[7] = '2'
	} else {
		other[7] = '1'
	}
	bare := strings.TrimPrefix(i.endpoint(), "https://")
	return []mistake{
		{name: "none", at: everywhere},
		{name: "S3_ENABLED=True", changed: set("S3_ENABLED", "True"), at: everywhere, storage: "filesystem"},
		{name: "S3_ENABLED=1", changed: set("S3_ENABLED", "1"), at: everywhere, storage: "filesystem"},
		{name: "no S3_ENABLED", changed: unset("S3_ENABLED"), at: everywhere, storage: "filesystem"},

		{name: "another S3_BUCKET", changed: set("S3_BUCKET", elsewhere), at: everywhere,
			put: "AccessDenied"}, // Mastodon would create it, which the app's key may not
		{name: "another AWS_SECRET_ACCESS_KEY", changed: set("AWS_SECRET_ACCESS_KEY", "K001wrongwrongwrongwrongwrongwr"), at: everywhere,
			put: "Aws::S3::Errors::SignatureDoesNotMatch"},
		{name: "another AWS_ACCESS_KEY_ID", changed: set("AWS_ACCESS_KEY_ID", string(other)), at: everywhere,
			put: "Aws::S3::Errors::(InvalidAccessKeyId|Unauthorized)"},
		{name: "no AWS_SECRET_ACCESS_KEY", changed: unset("AWS_SECRET_ACCESS_KEY"), at: everywhere,
			put: "Aws::Errors::MissingCredentialsError"},

		{name: "S3_ENDPOINT with the bucket in the path", changed: set("S3_ENDPOINT", i.endpoint()+"/"+i.bucket), at: everywhere,
			visit: "status 40"}, // stored under keys that begin with the bucket
		{name: "S3_ENDPOINT empty", changed: set("S3_ENDPOINT", ""), at: everywhere, put: "ArgumentError"},
		{name: "S3_ENDPOINT without scheme", changed: set("S3_ENDPOINT", bare), at: everywhere, put: "ArgumentError|URI::InvalidURIError"},
		{name: "another S3_REGION", changed: set("S3_REGION", "mars-1"), at: not(anyRegion), put: "AuthorizationHeaderMalformed|InvalidRegionName"},
		{name: "another S3_REGION", changed: set("S3_REGION", "mars-1"), at: anyRegion},
		{name: "S3_OVERRIDE_PATH_STYLE=true", changed: set("S3_OVERRIDE_PATH_STYLE", "true"), at: at("minio"),
			put: "getaddrinfo"}, // without a name for each bucket in the DNS
		{name: "no S3_OVERRIDE_PATH_STYLE", changed: unset("S3_OVERRIDE_PATH_STYLE"), at: everywhere},

		{name: "S3_MULTIPART_THRESHOLD=15", changed: set("S3_MULTIPART_THRESHOLD", "15"), at: everywhere,
			put: "ArgumentError: unable to multipart upload files smaller than 5MB"},
		{name: "no AWS_REQUEST_CHECKSUM_CALCULATION", changed: unset("AWS_REQUEST_CHECKSUM_CALCULATION"), newer: true,
			at: refusesChecksums, put: "Aws::S3::Errors::InvalidArgument: Unsupported header 'x-amz-checksum-crc32'"},
		{name: "no AWS_REQUEST_CHECKSUM_CALCULATION", changed: unset("AWS_REQUEST_CHECKSUM_CALCULATION"), newer: true,
			at: not(refusesChecksums)},

		{name: "no S3_PERMISSION", changed: unset("S3_PERMISSION"), at: not(refusesACLs)},
		{name: "no S3_PERMISSION", changed: unset("S3_PERMISSION"), at: refusesACLs,
			put: "Aws::S3::Errors::AccessDenied"},
		{name: "S3_PERMISSION empty", changed: set("S3_PERMISSION", ""), at: objectACL, visit: "status 403"},
		{name: "S3_PERMISSION=private", changed: set("S3_PERMISSION", "private"), at: objectACL, visit: "status 403"},
		{name: "no S3_PERMISSION, private bucket", changed: unset("S3_PERMISSION"), closed: true, at: bucketACL,
			put: "Aws::S3::Errors::InvalidArgument: Unsupported value for canned acl 'public-read'"},
		{name: "S3_PERMISSION=private", changed: set("S3_PERMISSION", "private"), at: bucketACL,
			put: "Aws::S3::Errors::InvalidArgument: Unsupported value for canned acl 'private'"},

		{name: "S3_PROTOCOL=http", changed: set("S3_PROTOCOL", "http"), at: everywhere, visit: "no https address"},
		{name: "no S3_HOSTNAME", changed: unset("S3_HOSTNAME"), at: not(customDomain), visit: "lookup .*amazonaws.com"},
		{name: "S3_ALIAS_HOST empty", changed: set("S3_ALIAS_HOST", ""), at: everywhere, visit: "no Host in request URL"},
		{name: "S3_ALIAS_HOST with scheme", changed: set("S3_ALIAS_HOST", "https://files.example.com"), at: everywhere, visit: "lookup https"},
	}
}

// TestWrongSettingsFail has each setting wrong in the ways that people get it wrong: the client has to fail here as Mastodon
// does there, or that it agrees would prove nothing.
func TestWrongSettingsFail(t *testing.T) {
	w := newWorld(t)
	for _, p := range lab.Personalities() {
		t.Run(p.String(), func(t *testing.T) {
			t.Parallel()
			i := w.newInstance(t, p, wrong, "public-objects")
			for _, m := range mistakes(i) {
				if m.at(i.provider) {
					t.Run(m.name, func(t *testing.T) {
						of := i
						if m.closed {
							of = w.newInstance(t, p, closed, "private")
						}
						m.happens(t, of)
					})
				}
			}
		})
	}
}

// happens expects what comes of a mistake.
func (m *mistake) happens(t *testing.T, i *instance) {
	if got, want := i.load(t, m.newer, m.changed), cmp.Or(m.storage, "s3"); got != want {
		t.Errorf("Mastodon stores media in the %s, want %s", got, want)
	}
	if m.storage != "" {
		return
	}
	u := newUpload(t, small)
	err := i.put(t, u)
	if !fits(err, m.put) {
		t.Errorf("the upload: %v, want %q", err, m.put)
	}
	if err != nil || m.put != "" {
		return
	}
	if err := i.shown(t, i.url(t, u), u); !fits(err, m.visit) {
		t.Errorf("the world gets: %v, want %q", err, m.visit)
	}
}

// fits reports whether an error has what an expression says, or there is none and shall be none.
func fits(err error, expression string) bool {
	if expression == "" || err == nil {
		return expression == "" && err == nil
	}
	return regexp.MustCompile(expression).MatchString(err.Error())
}
