package mastodon

import (
	"fmt"
	"net/url"
	"regexp"
	"strconv"
	"strings"
)

// Finding is a setting that does not do what it looks like.
type Finding struct {
	Key string
	// What is wrong with it, and Fix what to write instead; neither holds a secret.
	What, Fix string
	// Breaks says that media cannot be stored or seen with it; else it is advice.
	Breaks bool
}

// Lint returns what is wrong with the storage settings of an instance of that version. It looks at nothing but the
// settings. Facts: Mastodon 4.6.5, config/initializers/paperclip.rb, and the Mastodon docs, Configuring object storage.
func Lint(e Env, v Version) []Finding {
	found := switches(e)
	if _, mentioned := e["S3_ENABLED"]; !mentioned || looksFalse(e["S3_ENABLED"]) {
		return append(found, contentPolicy(e)...)
	}
	for _, rule := range []func(Env) []Finding{account, endpoint, publicHost, permission, numbers, contentPolicy} {
		found = append(found, rule(e)...)
	}
	return append(found, versions(e, v)...)
}

func breaks(key, what, fix string) Finding {
	return Finding{Key: key, What: what, Fix: fix, Breaks: true}
}
func advice(key, what, fix string) Finding { return Finding{Key: key, What: what, Fix: fix} }

func looksFalse(s string) bool {
	switch strings.ToLower(strings.TrimSpace(s)) {
	case "", "false", "0", "no", "off":
		return true
	}
	return false
}

// switches are the settings that only the text "true" turns on: "True", "1" and "yes" silently leave them off.
func switches(e Env) []Finding {
	var found []Finding
	for _, key := range []string{"S3_ENABLED", "S3_OVERRIDE_PATH_STYLE", "S3_FORCE_SINGLE_REQUEST", "S3_ENABLE_CHECKSUM_MODE",
		"SWIFT_ENABLED", "AZURE_ENABLED", "CACHE_BUSTER_ENABLED"} {
		if s, set := e[key]; set && s != "true" && !looksFalse(s) {
			found = append(found, breaks(key, fmt.Sprintf("%q leaves it off: only the text true turns it on", s), "Write "+key+"=true."))
		}
	}
	return found
}

// account looks at the bucket and the key.
func account(e Env) []Finding {
	var found []Finding
	if e["S3_BUCKET"] == "" {
		found = append(found, breaks("S3_BUCKET", "there is no bucket", "Write the bucket's name."))
	}
	if (e["AWS_ACCESS_KEY_ID"] == "") != (e["AWS_SECRET_ACCESS_KEY"] == "") {
		found = append(found, breaks("AWS_ACCESS_KEY_ID", "one half of the key is missing",
			"Write both AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY."))
	}
	return found
}

// endpoint looks at where the bucket is asked for. That the setting exists counts, even when it is empty.
func endpoint(e Env) []Finding {
	const key = "S3_ENDPOINT"
	text, set := e[key]
	if !set {
		return nil
	}
	u, err := url.Parse(text)
	switch {
	case text == "":
		return []Finding{breaks(key, "it is empty, which is not the same as not being set",
			"Remove it for AWS, or write the provider's address.")}
	case err != nil || u.Host == "" || u.Scheme != "https" && u.Scheme != "http":
		return []Finding{breaks(key, "it has no scheme, or is no address", "Write it as https:// and the host.")}
	}
	var found []Finding
	bucket, virtualHost := e["S3_BUCKET"], e["S3_OVERRIDE_PATH_STYLE"] == "true"
	switch {
	case bucket != "" && strings.HasPrefix(u.Host, bucket+"."):
		found = append(found, breaks(key, "it names the bucket, which is added to it once more: objects land in the wrong place",
			"Write it without the bucket."))
	case strings.Trim(u.Path, "/") != "":
		found = append(found, breaks(key, "it has a path", "Write only scheme and host."))
	case virtualHost && strings.Contains(bucket, "."):
		found = append(found, breaks("S3_OVERRIDE_PATH_STYLE", "no certificate fits a bucket with dots in front of the endpoint's host",
			"Remove S3_OVERRIDE_PATH_STYLE."))
	}
	return found
}

// aliasHost is host, port and path, each without what Paperclip puts around it itself.
var aliasHost = regexp.MustCompile(`(?i)^[a-z0-9.-]+(:\d+)?(/[^/\s]+)*$`)

// publicHost looks at the address of media on pages, which the Content-Security-Policy allows only when it is set.
func publicHost(e Env) []Finding {
	var found []Finding
	alias, set := e["S3_ALIAS_HOST"]
	switch {
	case set && alias == "":
		found = append(found, breaks("S3_ALIAS_HOST", "it is empty, which gives addresses like https:///", "Remove it, or write a host."))
	case set && !aliasHost.MatchString(alias):
		found = append(found, breaks("S3_ALIAS_HOST", fmt.Sprintf("%q is not a host with an optional port and path", alias),
			"Write it without a scheme and without a slash at the end, such as files.example.com."))
	}
	name, named := e["S3_HOSTNAME"]
	if named && !aliasHost.MatchString(name) {
		found = append(found, breaks("S3_HOSTNAME", fmt.Sprintf("%q is not a host", name),
			"Write it without a scheme and without a slash at the end."))
	}
	if _, cloudfront := e["S3_CLOUDFRONT_HOST"]; !set && !named && !cloudfront {
		found = append(found, breaks("S3_ALIAS_HOST", "without it or S3_HOSTNAME the Content-Security-Policy keeps browsers from the media",
			"Write one of the two."))
	}
	if s, set := e["S3_PROTOCOL"]; set && s != "https" {
		found = append(found, breaks("S3_PROTOCOL", "browsers do not load media over anything but https on a page that was loaded so",
			"Write S3_PROTOCOL=https, or remove it."))
	}
	return found
}

// permission looks at the ACL of uploads. Not set, public-read is sent; set to nothing, none is.
func permission(e Env) []Finding {
	if e["S3_PERMISSION"] == "public-read-write" {
		return []Finding{breaks("S3_PERMISSION", "anybody could overwrite and delete media",
			"Write S3_PERMISSION=public-read, or S3_PERMISSION= with a bucket policy.")}
	}
	return nil
}

// minPart is the least size in bytes of a part of a multipart upload, the last excepted (Amazon S3, Multipart upload limits).
const minPart = 5 << 20

func numbers(e Env) []Finding {
	var found []Finding
	if s, set := e["S3_MULTIPART_THRESHOLD"]; set && toInt(s) < minPart {
		found = append(found, breaks("S3_MULTIPART_THRESHOLD",
			fmt.Sprintf("it counts bytes, and below %d uploads of files between it and that fail", minPart),
			"Write S3_MULTIPART_THRESHOLD=15728640, which is 15 MiB, or remove it."))
	}
	if s := e["S3_RETRY_LIMIT"]; toInt(s) > 3 {
		found = append(found, advice("S3_RETRY_LIMIT", "each retry keeps a web process busy", "Write at most 3."))
	}
	return found
}

// toInt is String#to_i of Ruby: the digits that the text begins with, else 0.
func toInt(s string) int64 {
	s = strings.TrimSpace(s)
	end := 0
	for end < len(s) && s[end] >= '0' && s[end] <= '9' {
		end++
	}
	n, err := strconv.ParseInt(s[:end], 10, 64)
	if err != nil {
		return 0
	}
	return n
}

// contentPolicy looks at the hosts that are added to the Content-Security-Policy as they are written.
func contentPolicy(e Env) []Finding {
	var found []Finding
	for _, host := range strings.FieldsFunc(e["EXTRA_MEDIA_HOSTS"], func(r rune) bool { return r == ',' || r == ' ' }) {
		if !strings.HasPrefix(host, "https://") {
			found = append(found, breaks("EXTRA_MEDIA_HOSTS", fmt.Sprintf("%q has no scheme", host), "Write https:// before each host."))
		}
	}
	if s := e["CDN_HOST"]; s != "" && !strings.HasPrefix(s, "https://") {
		found = append(found, breaks("CDN_HOST", fmt.Sprintf("%q has no scheme", s), "Write https:// before the host."))
	}
	return found
}

// since is the first version that knows a setting (or, with a test, a form of it), by the changelogs of Mastodon.
var since = []struct {
	key     string
	version Version
	form    func(string) bool
	what    string
}{
	{"S3_PERMISSION", Version{4, 0, 0}, func(s string) bool { return s == "" }, "sending no ACL"},
	{"S3_ALIAS_HOST", Version{4, 1, 3}, func(s string) bool { return strings.Contains(s, "/") }, "a path in it, which the Content-Security-Policy blocks,"},
	{"S3_STORAGE_CLASS", Version{4, 2, 0}, nil, "it"},
	{"S3_ENABLE_CHECKSUM_MODE", Version{4, 2, 0}, nil, "it"},
	{"S3_KEY_PREFIX", Version{4, 3, 0}, nil, "it"},
	{"S3_RETRY_LIMIT", Version{4, 3, 0}, nil, "it"},
	{"S3_BATCH_DELETE_LIMIT", Version{4, 3, 0}, nil, "it"},
	{"EXTRA_MEDIA_HOSTS", Version{4, 4, 0}, nil, "it"},
}

func versions(e Env, v Version) []Finding {
	var found []Finding
	for _, s := range since {
		if value, set := e[s.key]; set && v.Before(s.version) && (s.form == nil || s.form(value)) {
			found = append(found, Finding{
				Key:    s.key,
				What:   fmt.Sprintf("%s needs Mastodon %s, and this is %s", s.what, s.version, v),
				Fix:    "Upgrade Mastodon, or do without.",
				Breaks: s.form != nil, // a setting that is not known is not looked at; a form that is not known goes wrong
			})
		}
	}
	// Mastodon 4.6 comes with a Ruby SDK that adds CRC trailers, which many providers refuse.
	if _, elsewhere := e["S3_ENDPOINT"]; elsewhere && !v.Before(Version{4, 6, 0}) && e["AWS_REQUEST_CHECKSUM_CALCULATION"] != "when_required" {
		found = append(found, advice("AWS_REQUEST_CHECKSUM_CALCULATION", "from 4.6 on, uploads carry checksums that not every provider takes",
			"Write AWS_REQUEST_CHECKSUM_CALCULATION=when_required."))
	}
	return found
}
