package objectstore

import (
	"errors"
	"fmt"
	"net/http"
	"regexp"
	"slices"
	"strings"
	"time"
)

// seen is one failure as it is to be diagnosed: who asked for what, and what came back.
type seen struct {
	*reply
	store *Store
	// where says where the key is written: "in the object_store", or "in app_credentials".
	where string
}

// Where a key is written, for advice about it.
const (
	agentKey = "in the object_store"
	appKey   = "in app_credentials"
)

// diagnosis is what a failure means. What is not set fits every failure.
type diagnosis struct {
	name  string         // for tests and for docs/keys.md
	is    error          // one of the errors of this package
	codes []string       // the answer's code is one of them
	says  *regexp.Regexp // the answer's message
	holds func(seen) bool

	what string            // what happened, in the place of the error's own words; "" leaves them
	fix  func(seen) string // what to do next
	// right says that what is wrong is a right that the key lacks.
	right bool
}

func (d *diagnosis) fits(f seen) bool {
	switch {
	case d.is != nil && !errors.Is(f.is, d.is):
		return false
	case d.codes != nil && !slices.Contains(d.codes, f.code):
		return false
	case d.says != nil && !d.says.MatchString(f.message):
		return false
	}
	return d.holds == nil || d.holds(f)
}

// The codes that mean one thing at several providers.
var (
	unknownKey   = []string{"InvalidAccessKeyId", "XAdminUserNotFound", "InvalidClientTokenId"}
	wrongRegion  = []string{"AuthorizationHeaderMalformed", "PermanentRedirect", "TemporaryRedirect", "IllegalLocationConstraintException", "InvalidRegion"}
	badSignature = []string{"SignatureDoesNotMatch", "InvalidSignatureException", "InvalidSignature"}
)

// diagnoses are tried in this order, and the first that fits counts: what is exact stands before what is general. Sources:
// Amazon S3 API Reference, "Error Responses"; Backblaze docs, "Application Keys", "S3-Compatible App Keys" and "Caps and Alerts";
// timmyomahony/craft-remote-backup#11 (master key) and JohnMaguire in backblaze-b2-samples/cloudflare-b2#5 (signature);
// cloudflare/cloudflare-docs#9557 (length of R2's ids); MinIO cmd/api-errors.go (disabled keys).
var diagnoses = []diagnosis{
	{
		name: "clock", holds: clockOff, what: "this host's clock is wrong", fix: fixClock,
	},
	{
		name: "cap", says: regexp.MustCompile(`(?i)\bcap exceeded`), what: "a cap of the account is reached", fix: fixCap,
	},
	{
		name: "cap by code", holds: func(f seen) bool { return strings.Contains(strings.ToLower(f.code), "cap_exceeded") },
		what: "a cap of the account is reached", fix: fixCap,
	},
	{
		name: "account", codes: []string{"AccountProblem", "AllAccessDisabled", "NotSignedUp", "InvalidPayer"},
		what: "the provider has closed the account, or this service is not switched on for it",
		fix:  says("Log in to the provider's console: look for an unpaid bill, an e-mail address to confirm, or terms to accept."),
	},
	{
		name: "swapped", codes: []string{"InvalidArgument"}, says: regexp.MustCompile(`(?i)access key has length 64\b`), // a secret of R2
		what: "the id and the secret of the key are swapped",
		fix:  func(f seen) string { return "Swap access_key_id and secret_access_key " + f.where + "." },
	},
	{
		name: "master key", codes: unknownKey, says: regexp.MustCompile(`(?i)malformed access key`),
		holds: func(f seen) bool { return f.store.provider.IsMasterKey != nil },
		what:  "this is no application key", fix: fixMasterKey,
	},
	{
		name: "key of another region", codes: unknownKey, holds: func(f seen) bool { return b2Cluster(f) != "" },
		what: "the key is of another region", fix: fixCluster,
	},
	{
		name: "id of another form", codes: []string{"InvalidArgument"}, says: regexp.MustCompile(`(?i)access key has length`),
		what: "access_key_id is no id of a key", fix: fixForm,
	},
	{
		name: "expired", codes: []string{"ExpiredToken", "TokenExpired", "InvalidToken", "TokenRefreshRequired"},
		what: "the key has expired", fix: fixNewKey,
	},
	{
		name: "expired in words", is: ErrDenied, says: regexp.MustCompile(`(?i)(key|token|account|credential)\S* (is |has |was )?(expired|disabled|revoked|inactive|suspended)`),
		what: "the key has expired or was switched off", fix: fixNewKey,
	},
	{
		name: "unknown key", codes: unknownKey, what: "the store does not know this key", fix: fixUnknownKey,
	},
	{
		name: "wrong secret", codes: badSignature, what: "the secret does not belong to this key", fix: fixSecret,
	},
	{
		name: "wrong secret in words", is: ErrDenied, says: regexp.MustCompile(`(?i)signature (validation failed|does not match|we calculated|mismatch)`),
		what: "the secret does not belong to this key", fix: fixSecret,
	},
	{
		name: "unknown key by status", is: ErrDenied, holds: func(f seen) bool { return f.status == http.StatusUnauthorized },
		what: "the store does not know this key", fix: fixUnknownKey,
	},
	{
		name: "region", codes: wrongRegion, what: "the region is wrong", fix: fixRegion,
	},
	{
		name: "region by header", holds: elsewhere, what: "the bucket is in another region", fix: fixRegion,
	},
	{
		name: "somebody else's bucket", codes: []string{"BucketAlreadyExists"}, fix: fixForeign,
	},
	{
		name: "not among ours", holds: func(f seen) bool { return f.owned == theirs }, what: "the bucket is there, and not among those of this account", fix: fixForeign,
	},
	{
		name: "public access is blocked", is: ErrDenied, says: regexp.MustCompile(`(?i)block ?public`),
		what: "the account or the bucket blocks public access",
		fix: says("Take the block off in the provider's console, for the bucket and for the account: an account's block counts for all its " +
			"buckets. Or write access = \"private\"."),
	},
	{
		name: "ACLs are off", codes: []string{"AccessControlListNotSupported"}, what: "the bucket takes no ACLs",
		fix: says("Write public_by = \"policy\" in the object_store, or let the bucket's owner allow ACLs in the provider's console."),
	},
	{
		name: "ACL is not the bucket's", says: regexp.MustCompile(`(?i)unsupported value for canned acl`),
		what: "the store takes no other ACL than the bucket's own",
		fix:  says("Send no ACL: S3_PERMISSION must be written and empty, as mastodon_env has it."),
	},
	{
		name: "checksums", says: regexp.MustCompile(`(?i)unsupported header.*checksum`), what: "the store refuses checksum headers",
		fix: says("Write checksum_headers = false in the object_store."),
	},
	{
		name: "full", codes: []string{"QuotaExceeded", "XMinioStorageFull", "InsufficientCapacity", "StorageQuotaExceeded"},
		what: "the store, or what it grants to this account, is full", fix: says("Free space at the store, or raise the quota of the bucket or account."),
	},
	{
		name: "rights", is: ErrDenied, codes: []string{"AccessDenied", "Forbidden", "UnauthorizedAccess"}, what: "the key may not do this", fix: fixRights, right: true,
	},
	{
		name: "denied", is: ErrDenied, fix: fixRights, right: true,
	},
	{
		name: "certificate of bucket hosts", is: ErrUnreachable, says: regexp.MustCompile(`x509: certificate is (valid for|not valid for any)`),
		holds: func(f seen) bool { return !f.store.cfg.PathStyle }, what: "the store's certificate is not for hosts that begin with a bucket",
		fix: says("Write path_style = true in the object_store: the bucket then stands in the path of the address."),
	},
	{
		name: "certificate", is: ErrUnreachable, says: regexp.MustCompile(`x509:|tls: failed to verify`),
		fix: says("Check the endpoint's host name; if the store's certificate is signed by an authority of your own, name that in ca_file."),
	},
	{
		name: "plain HTTP", is: ErrUnreachable, says: regexp.MustCompile(`HTTP response to HTTPS client`),
		fix: says("The store answers plain HTTP there: check scheme and port of the endpoint."),
	},
	{
		name: "no such region", is: ErrUnreachable, says: regexp.MustCompile(`no such host`), holds: endpointOfRegion,
		what: "the provider has no such region, or this host cannot resolve names", fix: fixNoRegion,
	},
	{
		name: "no such host", is: ErrUnreachable, says: regexp.MustCompile(`no such host`),
		fix: says("Check the endpoint's host name and the region, and that this host can resolve names."),
	},
	{
		name: "names", is: ErrUnreachable, says: regexp.MustCompile(`(?i)lookup .*(server misbehaving|temporary failure|i/o timeout|connection refused)`),
		what: "this host cannot resolve names now", fix: says("Look at /etc/resolv.conf and at the name servers in it: getent hosts example.com"),
	},
	{
		name: "no store", is: ErrUnreachable, holds: func(f seen) bool { return f.status == http.StatusNotFound },
		fix: says("Check the endpoint: what answers there is no S3 store."),
	},
	{
		name: "fault of the store", is: ErrUnreachable, holds: func(f seen) bool { return f.status >= 500 },
		fix: says("The store has a fault of its own: run it again later, or look at the provider's status page."),
	},
	{
		name: "unreachable", is: ErrUnreachable,
		fix: func(f seen) string {
			return "Check that the store is up and that this host gets out to it: curl -sS -o /dev/null -w '%{http_code}\\n' " + f.store.cfg.Endpoint
		},
	},
	{
		name: "throttled", is: ErrThrottled, fix: says("Wait a while and run it again; if it stays so, look at the provider's status page."),
	},
	{
		name: "no bucket", is: ErrNoBucket,
		fix: says("Check the bucket's name and the store's region, or let converge create the bucket with create = true."),
	},
	{
		name: "elsewhere", holds: func(f seen) bool { return f.status >= 300 && f.status < 400 },
		fix: says("The store points elsewhere: check endpoint and region of the object_store."),
	},
	{
		name: "not implemented", holds: func(f seen) bool { return f.status == http.StatusNotImplemented },
		fix: func(f seen) string {
			return fmt.Sprintf("The store does not know this request: check that it really is %s, as provider says.", f.store.cfg.Provider)
		},
	},
}

// diagnose returns the first of the diagnoses that fits; nil where none does.
func diagnose(f seen) *diagnosis {
	for i := range diagnoses {
		if diagnoses[i].fits(f) {
			return &diagnoses[i]
		}
	}
	return nil
}

// explained is a reply in the words of its diagnosis.
type explained struct {
	what  string
	reply *reply
}

func (e *explained) Error() string { return e.reply.worded(e.what) }

// Unwrap returns the reply.
func (e *explained) Unwrap() error { return e.reply }

// explain words what err means to whoever wrote the key, and what to do next: "" where there is nothing to say.
func (s *Store) explain(err error, where string) (fix string, worded error) {
	var r *reply
	if !errors.As(err, &r) {
		return fixUntrue(err), err
	}
	f := seen{reply: r, store: s, where: where}
	d := diagnose(f)
	if d == nil {
		return "", err
	}
	if e, ok := err.(*reply); ok && d.what != "" { //nolint:errorlint // one that somebody has worded already keeps those words
		err = &explained{what: d.what, reply: e}
	}
	return d.fix(f), err
}

// says is advice that is always the same.
func says(fix string) func(seen) string { return func(seen) string { return fix } }

// maxClock is how far clocks may be apart before stores refuse a signature (Amazon S3 error RequestTimeTooSkewed).
const maxClock = 15 * time.Minute

// ahead is by how much this host's clock was ahead of the store's when it answered, to the second; false where it does not say.
func (r *reply) ahead() (time.Duration, bool) {
	theirs, err := http.ParseTime(r.header.Get("Date"))
	return r.at.Sub(theirs).Round(time.Second), err == nil && !r.at.IsZero()
}

var saysExpired = regexp.MustCompile(`(?i)request has expired|request is not yet valid|signature (expired|not yet current)|difference between the request time`)

// clockOff: some stores have a code for it, some word it, and some refuse without a word, when only the clocks tell.
func clockOff(f seen) bool {
	if f.code == "RequestTimeTooSkewed" || f.code == "RequestExpired" || saysExpired.MatchString(f.message) {
		return true
	}
	d, known := f.ahead()
	return errors.Is(f.is, ErrDenied) && f.code == "" && known && d.Abs() > maxClock
}

func fixClock(f seen) string {
	const fix = "Set this host's clock: timedatectl set-ntp true"
	d, known := f.ahead()
	switch {
	case !known || d == 0:
		return fix
	case d > 0:
		return fmt.Sprintf("This host's clock is %s ahead of the store's. %s", d, fix)
	}
	return fmt.Sprintf("This host's clock is %s behind the store's. %s", -d, fix)
}

// whichCap finds what is capped, as the answer names it: "Cannot download file, download bandwidth or transaction (Class B) cap exceeded."
var whichCap = regexp.MustCompile(`(?i)(?:^|[,.:] *)([a-z ]+(?: \([a-z ]+\))?) cap exceeded`)

func fixCap(f seen) string {
	which := "A cap of the account is reached"
	if m := whichCap.FindStringSubmatch(f.message); m != nil {
		which = fmt.Sprintf("The account's cap on %s is reached", strings.ToLower(m[1][:1])+m[1][1:])
	}
	return which + ": raise it in the provider's console, under caps and alerts."
}

func fixMasterKey(f seen) string {
	return fmt.Sprintf("%s refuses its account's master key here, and keys from before 4 May 2020. Make an application key in its web console, and write "+
		"its keyID and applicationKey as access_key_id and secret_access_key %s.", f.store.provider.Title, f.where)
}

// b2Regions are the regions of Backblaze B2 by the cluster that ids of keys begin with (Backblaze docs, "Data regions", and
// examples in "Application Keys": an account lives in one region).
var b2Regions = map[string]string{
	"000": "us-west-000", "001": "us-west-001", "002": "us-west-002", "003": "eu-central-003", "004": "us-west-004", "005": "us-east-005",
}

// b2Cluster returns the cluster of a key's id where it is another than the region's, else "".
func b2Cluster(f seen) string {
	p, id, region := f.store.provider, f.store.cfg.AccessKeyID.Reveal(), f.store.cfg.Region
	if p.IsMasterKey == nil || p.KeyID == nil || !p.KeyID.MatchString(id) || len(region) < 3 || id[:3] == region[len(region)-3:] {
		return ""
	}
	return id[:3]
}

func fixCluster(f seen) string {
	cluster, region := b2Cluster(f), f.store.cfg.Region
	where := "the region whose name ends in -" + cluster
	if known := b2Regions[cluster]; known != "" {
		where = fmt.Sprintf("%q", known)
	}
	return fmt.Sprintf("The key's account lives in %s, and the object_store says %q: write that region, or a key of an account that lives in %q.",
		where, region, region)
}

func fixForm(f seen) string {
	return "Write the Access Key ID that the provider showed when the key was made, " + f.where + ". A token's own value, or its name, is none."
}

func fixNewKey(f seen) string {
	return fmt.Sprintf("Make a new key in the provider's console, and write it as access_key_id and secret_access_key %s.", f.where)
}

func fixUnknownKey(f seen) string {
	p, fix := f.store.provider, fmt.Sprintf("Check access_key_id %s for typing errors, and in the provider's console that the key is there: it may have been "+
		"revoked, have expired, or be of another provider.", f.where)
	if p.IsMasterKey != nil {
		fix += " The account's master key does not work here: it must be an application key."
	}
	return fix
}

func fixSecret(f seen) string {
	fix := fmt.Sprintf("The secret_access_key does not belong to access_key_id: write both again %s, without quotes or spaces around them.", f.where)
	if f.store.cfg.Provider == "cloudflare-r2" {
		fix += " The secret is the 64 hexadecimal digits of the Secret Access Key, not the token's value."
	}
	return fix
}

// expecting finds the region that an answer names (Amazon S3, AuthorizationHeaderMalformed; MinIO and Ceph word it alike).
var expecting = regexp.MustCompile(`(?i)expecting '?([a-z0-9-]+)'?`)

// rightRegion is the region that the store says is the right one; "" where it names none, or this one.
func (f seen) rightRegion() string {
	region := f.header.Get("X-Amz-Bucket-Region")
	if m := expecting.FindStringSubmatch(f.message); region == "" && m != nil {
		region = m[1]
	}
	if region == f.store.cfg.Region {
		return ""
	}
	return region
}

// elsewhere: a refusal that names another region for the bucket.
func elsewhere(f seen) bool {
	return f.status >= 300 && f.status < 500 && f.header.Get("X-Amz-Bucket-Region") != "" && f.rightRegion() != ""
}

func fixRegion(f seen) string {
	region, cfg := f.rightRegion(), f.store.cfg
	switch {
	case region == "":
		return fmt.Sprintf("Check the region of the object_store: requests are signed for %q.", cfg.Region)
	case endpointOfRegion(f) || f.store.provider.Endpoint == "":
		return fmt.Sprintf("Write region = %q in the object_store; it says %q.", region, cfg.Region)
	}
	return fmt.Sprintf("Write region = %q in the object_store, and check that endpoint is that region's; it says %q.", region, cfg.Region)
}

func fixForeign(seen) string {
	return "The bucket belongs to somebody else, for names are shared by all customers of the provider: choose another name. If it is yours, " +
		"the key is of another account."
}

// fixRights names the right that the operation takes. A refusal may also mean that the bucket is somebody else's, unless the
// account's list of buckets says that it is ours.
func fixRights(f seen) string {
	asked := []string{f.op}
	if f.op == "HeadObject" { // to a key that may not look at the bucket, stores do not tell that an object is not there
		asked = append(asked, "HeadBucket")
	}
	fix := f.store.provider.addRights(asked, f.where)
	switch f.op {
	case "CreateBucket":
		fix += " Or create the bucket in the provider's console, and write create = false."
	case "HeadBucket", "ListObjectsV2":
		if f.owned != ours {
			fix += " If it has this right, the bucket belongs to somebody else: choose another name."
		}
	}
	return fix
}

// endpointOfRegion: the region is a part of the address.
func endpointOfRegion(f seen) bool {
	return strings.Contains(f.store.provider.Endpoint, "{region}") && strings.Contains(f.store.cfg.Host(), f.store.cfg.Region+".")
}

func fixNoRegion(f seen) string {
	return fmt.Sprintf("Check region = %q in the object_store: it gives the address %s. One that exists is %q.",
		f.store.cfg.Region, f.store.cfg.Host(), f.store.provider.RegionExample)
}
