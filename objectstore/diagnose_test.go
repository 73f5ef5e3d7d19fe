package objectstore

import (
	"errors"
	"fmt"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/converge-agent/converge/diag"
	"github.com/converge-agent/converge/secret"
)

// diagnosed is one refusal with the words that an admin reads of it.
type diagnosed struct {
	name       string // of the diagnosis
	provider   string // "" for backblaze-b2
	region     string // "" for us-west-001
	id         string // "" for a good key
	status     int
	code, said string
	header     []string
	text, fix  string
}

var someDiagnoses = []diagnosed{
	{
		name: "clock", status: 403, code: "RequestTimeTooSkewed", said: "too large", header: []string{"Date", "ahead"},
		text: "this host's clock is wrong (403 RequestTimeTooSkewed: too large)",
		fix:  "This host's clock is 2h0m0s behind the store's. Set this host's clock: timedatectl set-ntp true",
	},
	{
		name: "clock", status: 403, code: "AccessDenied", said: "Request has expired", header: []string{"Date", "behind"},
		text: "this host's clock is wrong (403 AccessDenied: Request has expired)",
		fix:  "This host's clock is 2h0m0s ahead of the store's. Set this host's clock: timedatectl set-ntp true",
	},
	{
		name: "cap", status: 403, code: "AccessDenied", said: "Cannot download file, download bandwidth or transaction (Class B) cap exceeded.",
		text: "a cap of the account is reached (403 AccessDenied: Cannot download file, download bandwidth or transaction (Class B) cap exceeded.)",
		fix: "The account's cap on download bandwidth or transaction (Class B) is reached: raise it in the provider's console, under caps " +
			"and alerts.",
	},
	{
		name: "cap by code", status: 403, code: "download_cap_exceeded", said: "no",
		text: "a cap of the account is reached (403 download_cap_exceeded: no)",
		fix:  "A cap of the account is reached: raise it in the provider's console, under caps and alerts.",
	},
	{
		name: "account", provider: "aws", region: "eu-central-1", status: 403, code: "AccountProblem", said: "x",
		text: "the provider has closed the account, or this service is not switched on for it (403 AccountProblem: x)",
		fix:  "Log in to the provider's console: look for an unpaid bill, an e-mail address to confirm, or terms to accept.",
	},
	{
		name: "swapped", provider: "generic", region: "auto", status: 400, code: "InvalidArgument", said: "Credential access key has length 64, should be 32",
		text: "the id and the secret of the key are swapped (400 InvalidArgument: Credential access key has length 64, should be 32)",
		fix:  "Swap access_key_id and secret_access_key in the object_store.",
	},
	{
		name: "master key", status: 403, code: "InvalidAccessKeyId", said: "Malformed Access Key Id",
		text: "this is no application key (403 InvalidAccessKeyId: Malformed Access Key Id)",
		fix: "Backblaze B2 refuses its account's master key here, and keys from before 4 May 2020. Make an application key in its web console, " +
			"and write its keyID and applicationKey as access_key_id and secret_access_key in the object_store.",
	},
	{
		name: "key of another region", id: "0044aa9865d6f0000000000b1", status: 403, code: "InvalidAccessKeyId", said: "x",
		text: "the key is of another region (403 InvalidAccessKeyId: x)",
		fix: `The key's account lives in "us-west-004", and the object_store says "us-west-001": write that region, or a key of an account ` +
			`that lives in "us-west-001".`,
	},
	{
		name: "id of another form", provider: "generic", region: "auto", status: 400, code: "InvalidArgument",
		said: "Credential access key has length 40, should be 32",
		text: "access_key_id is no id of a key (400 InvalidArgument: Credential access key has length 40, should be 32)",
		fix: "Write the Access Key ID that the provider showed when the key was made, in the object_store. " +
			"A token's own value, or its name, is none.",
	},
	{
		name: "expired", status: 400, code: "ExpiredToken", said: "x", text: "the key has expired (400 ExpiredToken: x)",
		fix: "Make a new key in the provider's console, and write it as access_key_id and secret_access_key in the object_store.",
	},
	{
		name: "expired in words", provider: "minio", region: "us-east-1", status: 403, code: "InvalidAccessKeyIdX", said: "Your account is disabled",
		text: "the key has expired or was switched off (403 InvalidAccessKeyIdX: Your account is disabled)",
		fix:  "Make a new key in the provider's console, and write it as access_key_id and secret_access_key in the object_store.",
	},
	{
		name: "unknown key", provider: "aws", region: "eu-central-1", status: 403, code: "InvalidAccessKeyId", said: "x",
		text: "the store does not know this key (403 InvalidAccessKeyId: x)",
		fix: "Check access_key_id in the object_store for typing errors, and in the provider's console that the key is there: it may have been " +
			"revoked, have expired, or be of another provider.",
	},
	{
		name: "wrong secret", status: 403, code: "SignatureDoesNotMatch", said: "Signature validation failed",
		text: "the secret does not belong to this key (403 SignatureDoesNotMatch: Signature validation failed)",
		fix: "The secret_access_key does not belong to access_key_id: write both again in the object_store, without quotes or spaces around " +
			"them.",
	},
	{
		name: "wrong secret in words", status: 403, code: "AccessDenied", said: "Signature validation failed",
		text: "the secret does not belong to this key (403 AccessDenied: Signature validation failed)",
		fix: "The secret_access_key does not belong to access_key_id: write both again in the object_store, without quotes or spaces around " +
			"them.",
	},
	{
		name: "unknown key by status", provider: "cloudflare-r2", region: "auto", status: 401, code: "Unauthorized", said: "Unauthorized",
		text: "the store does not know this key (401)",
		fix: "Check access_key_id in the object_store for typing errors, and in the provider's console that the key is there: it may have been " +
			"revoked, have expired, or be of another provider.",
	},
	{
		name: "region", provider: "aws", region: "eu-central-1", status: 400, code: "AuthorizationHeaderMalformed",
		said: "the region 'eu-central-1' is wrong; expecting 'eu-west-3'",
		text: "the region is wrong (400 AuthorizationHeaderMalformed: the region 'eu-central-1' is wrong; expecting 'eu-west-3')",
		fix:  `Write region = "eu-west-3" in the object_store, and check that endpoint is that region's; it says "eu-central-1".`,
	},
	{
		name: "region", provider: "minio", region: "us-east-1", status: 400, code: "AuthorizationHeaderMalformed", said: "x",
		text: "the region is wrong (400 AuthorizationHeaderMalformed: x)",
		fix:  `Check the region of the object_store: requests are signed for "us-east-1".`,
	},
	{
		name: "region by header", provider: "aws", region: "eu-central-1", status: 403, code: "AccessDenied", said: "x",
		header: []string{"X-Amz-Bucket-Region", "eu-west-3"},
		text:   "the bucket is in another region (403 AccessDenied: x)",
		fix:    `Write region = "eu-west-3" in the object_store, and check that endpoint is that region's; it says "eu-central-1".`,
	},
	{
		name: "somebody else's bucket", status: 409, code: "BucketAlreadyExists", said: "x", text: "the store refused (409 BucketAlreadyExists: x)",
		fix: "The bucket belongs to somebody else, for names are shared by all customers of the provider: choose another name. If it is yours, " +
			"the key is of another account.",
	},
	{
		name: "public access is blocked", provider: "aws", region: "eu-central-1", status: 403, code: "AccessDenied",
		said: "blocked by the BlockPublicPolicy setting in S3 Block Public Access",
		text: "the account or the bucket blocks public access (403 AccessDenied: blocked by the BlockPublicPolicy setting in S3 Block Public Access)",
		fix: "Take the block off in the provider's console, for the bucket and for the account: an account's block counts for all its buckets. " +
			"Or write access = \"private\".",
	},
	{
		name: "ACLs are off", provider: "aws", region: "eu-central-1", status: 400, code: "AccessControlListNotSupported", said: "x",
		text: "the bucket takes no ACLs (400 AccessControlListNotSupported: x)",
		fix:  "Write public_by = \"policy\" in the object_store, or let the bucket's owner allow ACLs in the provider's console.",
	},
	{
		name: "ACL is not the bucket's", status: 400, code: "InvalidArgument", said: "Unsupported value for canned acl 'public-read'",
		text: "the store takes no other ACL than the bucket's own (400 InvalidArgument: Unsupported value for canned acl 'public-read')",
		fix:  "Send no ACL: S3_PERMISSION must be written and empty, as mastodon_env has it.",
	},
	{
		name: "checksums", status: 400, code: "InvalidArgument", said: "Unsupported header 'x-amz-checksum-crc32' received for this API call.",
		text: "the store refuses checksum headers (400 InvalidArgument: Unsupported header 'x-amz-checksum-crc32' received for this API call.)",
		fix:  "Write checksum_headers = false in the object_store.",
	},
	{
		name: "full", provider: "minio", region: "us-east-1", status: 403, code: "QuotaExceeded", said: "x",
		text: "the store, or what it grants to this account, is full (403 QuotaExceeded: x)",
		fix:  "Free space at the store, or raise the quota of the bucket or account.",
	},
	{
		name: "rights", provider: "aws", region: "eu-central-1", status: 403, code: "AccessDenied", said: "x",
		text: "the key may not do this (403 AccessDenied: x)",
		fix:  "Add s3:GetObject to the policy of the key's user, for this bucket and its objects.",
	},
	{
		name: "rights", provider: "scaleway", region: "fr-par", status: 403, code: "AccessDenied", said: "x",
		text: "the key may not do this (403 AccessDenied: x)",
		fix:  "Add the permission set ObjectStorageObjectsRead to the IAM policy of the key's application or user.",
	},
	{
		name: "denied", provider: "minio", region: "us-east-1", status: 403, code: "Strange", said: "x", text: "the store refused (403 Strange: x)",
		fix: "Add s3:GetObject to the policy of the key's user, for this bucket and its objects.",
	},
	{
		name: "no bucket", status: 404, code: "NoSuchBucket", said: "x", text: "there is no such bucket (404 NoSuchBucket: x)",
		fix: "Check the bucket's name and the store's region, or let converge create the bucket with create = true.",
	},
	{
		name: "elsewhere", status: 302, code: "Found", said: "Found", text: "the store did not accept the request (302)",
		fix: "The store points elsewhere: check endpoint and region of the object_store.",
	},
	{
		name: "not implemented", status: 501, code: "NotImplemented", said: "x", text: "the store did not accept the request (501 NotImplemented: x)",
		fix: "The store does not know this request: check that it really is backblaze-b2, as provider says.",
	},
}

// TestDiagnoses: what an admin reads of each refusal, over TLS, from the one request that failed.
func TestDiagnoses(t *testing.T) {
	for _, tt := range someDiagnoses {
		t.Run(tt.name+" "+tt.code, func(t *testing.T) {
			s := serve(t, "backblaze-b2", func(w http.ResponseWriter, _ *http.Request) {
				for i := 0; i+1 < len(tt.header); i += 2 {
					w.Header().Set(tt.header[i], tt.header[i+1])
				}
				switch w.Header().Get("Date") {
				case "ahead":
					w.Header().Set("Date", time.Now().Add(2*time.Hour).UTC().Format(http.TimeFormat))
				case "behind":
					w.Header().Set("Date", time.Now().Add(-2*time.Hour).UTC().Format(http.TimeFormat))
				}
				w.WriteHeader(tt.status)
				_, _ = fmt.Fprint(w, s3Error(tt.code, tt.said))
			})
			cfg := s.cfg
			if tt.provider != "" {
				cfg.Provider, cfg.Region = tt.provider, tt.region
				cfg.AccessKeyID, cfg.SecretAccessKey = goodKey(tt.provider)
			}
			if tt.id != "" {
				cfg.AccessKeyID = secret.New(tt.id)
			}
			s = mustStore(t, cfg)
			_, err := s.Get(t.Context(), "media", "k")
			if err == nil {
				t.Fatal("no error")
			}
			text, found := strings.CutPrefix(err.Error(), "download media/k at "+cfg.Host()+": ")
			text, fix := roughly(text), roughly(diag.Fix(err))
			if !found || text != tt.text || fix != tt.fix {
				t.Errorf("it says\n%s\n%s\nwant\n%s\n%s", text, fix, tt.text, tt.fix)
			}
			var r *reply
			if !errors.As(err, &r) || diagnose(seen{reply: r, store: s}).name != tt.name {
				t.Errorf("it is diagnosed otherwise than as %q", tt.name)
			}
			if n := s.Requests()["Total"]; n != 1 {
				t.Errorf("%d requests, want 1", n)
			}
		})
	}
}

// roughly takes from a difference of clocks what the test itself took.
func roughly(text string) string {
	for _, d := range []string{"1h59m58s", "1h59m59s", "2h0m1s", "2h0m2s"} {
		text = strings.ReplaceAll(text, d, "2h0m0s")
	}
	return text
}

// goodKey is one of the provider's form.
func goodKey(provider string) (id, key secret.String) {
	switch provider {
	case "aws":
		return secret.New("AKIA" + strings.Repeat("Q", 16)), secret.New(strings.Repeat("q", 40))
	case "scaleway":
		return secret.New("SCW" + strings.Repeat("Q", 17)), secret.New("11111111-2222-3333-4444-555555555555")
	case "cloudflare-r2":
		return secret.New(strings.Repeat("6b1d", 8)), secret.New(strings.Repeat("6b1d", 16))
	}
	return secret.New("anything"), secret.New("anythingelse")
}

// TestConnectionsAreDiagnosed: what is wrong on the way to the store, in the words of Go's connections.
func TestConnectionsAreDiagnosed(t *testing.T) {
	id, key := goodKey("minio")
	own := Config{Provider: "minio", Region: "us-east-1", Endpoint: "https://s3.example.com", PathStyle: true, AccessKeyID: id, SecretAccessKey: key}
	byHost := own
	byHost.PathStyle = false
	inRegion := Config{Provider: "backblaze-b2", Region: "us-west-009", Endpoint: "https://s3.us-west-009.backblazeb2.com",
		AccessKeyID: secret.New(testID), SecretAccessKey: secret.New(testSecret)}
	tests := []struct {
		name string
		cfg  Config
		said string
		at   int // HTTP status
		fix  string
	}{
		{"certificate of bucket hosts", byHost, "tls: failed to verify certificate: x509: certificate is valid for s3.example.com, not media.s3.example.com", 0,
			"Write path_style = true in the object_store"},
		{"certificate", own, "tls: failed to verify certificate: x509: certificate is valid for a.example.com, not s3.example.com", 0, "ca_file"},
		{"certificate", byHost, "tls: failed to verify certificate: x509: certificate signed by unknown authority", 0, "ca_file"},
		{"plain HTTP", own, "http: server gave HTTP response to HTTPS client", 0, "scheme and port"},
		{"no such region", inRegion, "dial tcp: lookup s3.us-west-009.backblazeb2.com: no such host", 0,
			`Check region = "us-west-009" in the object_store: it gives the address s3.us-west-009.backblazeb2.com. One that exists is "us-west-001".`},
		{"no such host", own, "dial tcp: lookup s3.example.com: no such host", 0, "endpoint's host name"},
		{"names", own, "dial tcp: lookup s3.example.com on 127.0.0.53:53: server misbehaving", 0, "/etc/resolv.conf"},
		{"no store", own, "x", 404, "no S3 store"},
		{"fault of the store", own, "x", 500, "fault of its own"},
		{"unreachable", own, "dial tcp 192.0.2.1:443: connect: connection refused", 0, "curl -sS"},
	}
	seenNames := map[string]bool{"throttled": true, "not among ours": true} // TestRetries; TestSomebodyElsesBucketIsTold
	for _, d := range someDiagnoses {
		seenNames[d.name] = true
	}
	for _, tt := range tests {
		seenNames[tt.name] = true
		s := mustStore(t, tt.cfg)
		r := &reply{is: ErrUnreachable, status: tt.at, message: tt.said}
		if d := diagnose(seen{reply: r, store: s}); d == nil || d.name != tt.name {
			t.Errorf("%q is diagnosed as %+v, want %q", tt.said, d, tt.name)
		}
		if fix, _ := s.explain(r, agentKey); !strings.Contains(fix, tt.fix) {
			t.Errorf("%s: fix = %q, want one about %q", tt.name, fix, tt.fix)
		}
	}
	for _, d := range diagnoses {
		if !seenNames[d.name] {
			t.Errorf("no test has the diagnosis %q", d.name)
		}
	}
}

// TestSomebodyElsesBucketIsTold: a key that may list the account's buckets tells a bucket of somebody else's from a right that is missing.
func TestSomebodyElsesBucketIsTold(t *testing.T) {
	for name, tt := range map[string]struct{ buckets, text, fix string }{
		"not among ours": {"<Bucket><Name>other</Name></Bucket>", "not among those of this account", "choose another name"},
		"ours":           {"<Bucket><Name>media</Name></Bucket>", "the key may not do this", "listFiles"},
		"no list":        {"", "the key may not do this", "If it has this right, the bucket belongs to somebody else"},
	} {
		t.Run(name, func(t *testing.T) {
			s := serve(t, "backblaze-b2", func(w http.ResponseWriter, r *http.Request) {
				if r.URL.Path != "/" || tt.buckets == "" {
					w.WriteHeader(http.StatusForbidden)
					_, _ = fmt.Fprint(w, s3Error("AccessDenied", "x"))
					return
				}
				_, _ = fmt.Fprintf(w, "<ListAllMyBucketsResult><Owner><ID>1</ID></Owner><Buckets>%s</Buckets></ListAllMyBucketsResult>", tt.buckets)
			})
			err := s.HeadBucket(t.Context(), "media")
			if !errors.Is(err, ErrDenied) || !strings.Contains(err.Error(), tt.text) || !strings.Contains(diag.Fix(err), tt.fix) {
				t.Errorf("error = %v\nfix = %s\nwant %q with a fix about %q", err, diag.Fix(err), tt.text, tt.fix)
			}
			if strings.Contains(diag.Fix(err), "somebody else") != (name != "ours") {
				t.Errorf("fix = %s", diag.Fix(err))
			}
			if n := s.Requests()["Total"]; n != 3 {
				t.Errorf("%d requests, want 3", n)
			}
		})
	}
}
