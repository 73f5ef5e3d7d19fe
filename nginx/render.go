package nginx

import (
	"bytes"
	"crypto/sha256"
	_ "embed"
	"encoding/hex"
	"fmt"
	"net/netip"
	"net/url"
	"strconv"
	"strings"
	"text/template"
	"time"
)

//go:embed site.conf.tmpl
var siteTemplate string

// Render returns the text of the site's configuration file. The error is a *FieldError.
func (s *Site) Render() ([]byte, error) {
	if err := s.Validate(); err != nil {
		return nil, err
	}
	t, err := template.New("site").Funcs(template.FuncMap{"q": Quote}).Parse(siteTemplate)
	if err != nil {
		return nil, fmt.Errorf("parse the template of a site: %w", err)
	}
	var out bytes.Buffer
	if err := t.Execute(&out, view{s}); err != nil {
		return nil, fmt.Errorf("render the site %s: %w", s.ServerName, err)
	}
	return out.Bytes(), nil
}

// view is a site as its template sees it.
type view struct{ *Site }

// Plain and TLS are the lines that listen on the ports without and with TLS.
func (v view) Plain() []string {
	plain, _ := v.split()
	return v.listenLines(plain)
}

func (v view) TLS() []string {
	_, tls := v.split()
	lines := v.listenLines(tls)
	if len(lines) > 0 && v.Build.HTTP2 && v.Build.Version.http2Directive() {
		lines = append(lines, "http2 on;")
	}
	return lines
}

func (v view) listenLines(list []Listen) []string {
	var out []string
	for _, l := range list {
		params := ""
		if l.TLS {
			params = " ssl"
			if v.Build.HTTP2 && !v.Build.Version.http2Directive() {
				params += " http2"
			}
		}
		port := strconv.Itoa(l.Port)
		if l.Address != "" {
			out = append(out, "listen "+l.Address+":"+port+params+";")
			continue
		}
		out = append(out, "listen "+port+params+";")
		if v.IPv6 {
			out = append(out, "listen [::]:"+port+params+";")
		}
	}
	return out
}

// HTTPS is the URL of the site by HTTPS, "" where it is plain.
func (v view) HTTPS() string {
	if _, tls := v.split(); len(tls) == 0 {
		return ""
	}
	return "https://" + v.Host()
}

// Body is the content, each line indented as the block that it stands in.
func (v view) Body() string {
	var out strings.Builder
	for line := range strings.Lines(strings.Trim(v.Content, "\n")) {
		if strings.TrimSpace(line) != "" {
			out.WriteString("    ")
		}
		out.WriteString(line)
	}
	return out.String()
}

// ID tells the variables of this site from those of others. nginx keeps names of variables in a hash of 64-byte buckets,
// too small for a host name, hence the digest.
func (v view) ID() string {
	sum := sha256.Sum256([]byte(v.ServerName))
	return hex.EncodeToString(sum[:4])
}

// Zone is the name of the site's own cache zone.
func (v view) Zone() string { return "media-" + v.ServerName }

// ZoneSize is the size of the zone that holds the keys: room for objects of 64 KiB on average, at 8,000 keys a megabyte
// (nginx.org, ngx_http_proxy_module, proxy_cache_path), and no less than the customary 10 MB.
func (v view) ZoneSize() string {
	const perMegabyte = 8000 * (64 << 10)
	return strconv.FormatInt(max(10, v.Proxy.CacheSize/perMegabyte), 10) + "m"
}

// Slices reports whether objects are fetched and cached in slices. Without the module that asks about the first slice before
// a later one is served, what was deleted could not be kept from being served in part.
func (v view) Slices() bool { return v.Build.Slice && v.Build.AuthRequest }

// BustVariable is the variable of nginx that holds the value of BustHeader.
func (v view) BustVariable() string {
	return "$http_" + strings.ReplaceAll(strings.ToLower(BustHeader), "-", "_")
}

// BustValue is the value that it must have.
func (v view) BustValue() string { return BustValue }

// Refusals are the statuses of the locations that a request ends in when the store refuses it: with a local fallback, after
// a look there.
func (v view) Refusals() []int {
	switch {
	case v.Proxy.LocalFallback != "":
		return []int{403, 404, 503}
	case v.Slices():
		return []int{404, 503}
	}
	return nil
}

// CacheLimits are the parameters that bound the cache.
func (v view) CacheLimits() string {
	limits := "max_size=" + size(v.Proxy.CacheSize)
	if v.Build.Version.hasMinFree() {
		limits += " min_free=1g"
	}
	return limits + " inactive=" + seconds(int64(v.Proxy.Inactive/time.Second))
}

func (v view) backend() *url.URL {
	u, err := checkURL(v.Proxy.Backend)
	if err != nil { // Validate has found it in order
		return &url.URL{}
	}
	return u
}

// BackendHost is the Host header that the backend expects.
func (v view) BackendHost() string { return v.backend().Host }

// BackendName is the name in the backend's certificate: of an address of this host, localhost. "" by plain HTTP.
func (v view) BackendName() string {
	u := v.backend()
	switch _, err := netip.ParseAddr(u.Hostname()); {
	case u.Scheme != "https":
		return ""
	case err == nil:
		return "localhost"
	}
	return u.Hostname()
}

// Upstream is where to connect to: the base URL, its name replaced by the address where that is known.
func (v view) Upstream() string {
	u := v.backend()
	if v.Proxy.Address != "" {
		port := u.Port()
		u.Host = v.Proxy.Address
		if port != "" {
			u.Host += ":" + port
		}
	}
	return u.Scheme + "://" + u.Host + u.EscapedPath()
}

// Trusted is the file of authorities that the backend's certificate is checked with.
func (v view) Trusted() string {
	if v.Proxy.CAFile != "" {
		return v.Proxy.CAFile
	}
	return CABundle
}

// Missing are the answers of the backend that say that there is no such object, so that what the cache holds of it goes.
func (v view) Missing() string {
	if v.Proxy.ForbiddenIsOutage {
		return "404"
	}
	return "403 404"
}

// Outage are the conditions in which what the cache holds is served although it is due to be asked for again.
func (v view) Outage() string {
	const always = "error timeout updating http_429 http_500 http_502 http_503 http_504"
	if v.Proxy.ForbiddenIsOutage {
		return always + " http_403"
	}
	return always
}

// HiddenHeaders are the headers of the backend that do not reach the client: those that the site sets itself, cookies, and
// what tells of the store.
func (v view) HiddenHeaders() []string {
	return []string{
		"Access-Control-Allow-Credentials", "Access-Control-Allow-Headers", "Access-Control-Allow-Methods",
		"Access-Control-Allow-Origin", "Access-Control-Expose-Headers", "Access-Control-Max-Age",
		"Cache-Control", "Content-Security-Policy", "Expires", "Pragma", "Set-Cookie", "Vary", "X-Content-Type-Options",
		"x-amz-bucket-region", "x-amz-checksum-crc32", "x-amz-checksum-crc64nvme", "x-amz-checksum-type",
		"x-amz-delete-marker", "x-amz-expiration", "x-amz-id-2", "x-amz-meta-mtime", "x-amz-meta-server-side-encryption",
		"x-amz-meta-src_last_modified_millis", "x-amz-replication-status", "x-amz-request-id",
		"x-amz-server-side-encryption", "x-amz-storage-class", "x-amz-tagging-count", "x-amz-version-id",
		"x-amzn-requestid", "x-bz-content-sha1", "x-bz-file-id", "x-bz-file-name", "x-bz-upload-timestamp",
		"x-rgw-object-type",
	}
}
