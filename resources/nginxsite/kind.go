// Package nginxsite is the kind nginx_site: a virtual host of nginx, written, tested with the whole configuration, and put
// back if nginx refuses it.
package nginxsite

import (
	"errors"
	"fmt"
	"net/url"
	"path"
	"slices"
	"strings"
	"time"

	"github.com/converge-agent/converge/acme"
	"github.com/converge-agent/converge/host"
	"github.com/converge-agent/converge/nginx"
	"github.com/converge-agent/converge/resources"
	"github.com/zclconf/go-cty/cty"
)

// Kind returns the kind nginx_site.
func Kind() *resources.Kind {
	return &resources.Kind{
		Name: "nginx_site",
		Doc: "A site of nginx: a caching proxy before a bucket, a redirect, or directives of your own. The whole configuration " +
			"is tested before the site goes live, and both its files are put back if nginx refuses it.",
		Attrs: attrs(),
		Exports: []resources.Attr{
			{Name: "path", Type: cty.String, Doc: "The site's file below sites-available."},
			{Name: "server_name", Type: cty.String, Doc: "The name that it answers to."},
			{Name: "mastodon_env", Type: cty.Map(cty.String), Doc: "Of a media_proxy, what belongs into Mastodon's .env.production: " +
				"S3_ALIAS_HOST, and CACHE_BUSTER_ENABLED, _HTTP_METHOD, _SECRET_HEADER and _SECRET, with which Mastodon has the " +
				"proxy forget what it deletes. That secret is none: see cache_bust_from. Mastodon sends these orders from 4.3 on " +
				"for media that are deleted one by one or with their posts, and for those of suspended accounts; what it deletes " +
				"in bulk (old remote media, tootctl media remove) the proxy may serve for 48 hours more. Where the site's name leads to " +
				"a private address, Mastodon sends nothing unless ALLOWED_PRIVATE_ADDRESSES has it. Of other sites it is empty."},
		},
		New: newResource,
	}
}

func attrs() []resources.Attr {
	return []resources.Attr{
		{Name: "server_name", Type: cty.String, Required: true, Format: resources.DNSName,
			Doc: "The one name that the site answers to, such as \"files.example.com\"."},
		{Name: "certificate", Ref: []string{"acme_certificate"}, Or: []string{"fullchain_path", "key_path"},
			Doc: "The certificate: an acme_certificate, or { fullchain_path, key_path } of one that somebody else renews. Its " +
				"renewal leads to a reload. Not written: the site is plain HTTP."},
		{Name: "listen", Type: cty.List(cty.String), Default: cty.ListVal([]cty.Value{cty.StringVal("80"), cty.StringVal("443")}),
			Doc: "Where to listen: ports, or address:port, with \" ssl\" after it for HTTPS (443 is HTTPS without it). A port " +
				"alone is every address, IPv4 and IPv6. With a certificate, plain ports answer ACME challenges and redirect to HTTPS."},
		{Name: "content", Type: cty.String,
			Doc: "Directives of nginx for the inside of the server block, as they stand: root, location and so on. listen, " +
				"server_name, the certificate and the challenges are added."},
		{Name: "redirect", Type: cty.String, Format: resources.URL,
			Doc: "The URL, without a slash at its end, that every request is sent to for good (301), its path and arguments added."},
		{Name: "media_proxy", Doc: "Serves the objects of a bucket, and caches them.", Block: proxyAttrs()},
		{Name: "webroot", Type: cty.String, Format: resources.Path, Default: cty.StringVal(acme.Webroot),
			Doc: "The directory that /.well-known/acme-challenge/ is answered from on plain ports; the same as of the certificate."},
		{Name: "conf_dir", Type: cty.String, Format: resources.Path, Default: cty.StringVal("/etc/nginx"),
			Doc: "The directory that holds nginx.conf, sites-available and sites-enabled."},
		{Name: "unit", Type: cty.String, Default: cty.StringVal("nginx"), Doc: "The systemd unit that is reloaded, if it runs."},
		resources.EnsureAttr(),
	}
}

func proxyAttrs() []resources.Attr {
	return []resources.Attr{
		{Name: "bucket", Ref: []string{"s3_bucket"}, Required: true, Doc: "The bucket whose objects are served."},
		{Name: "local_fallback", Type: cty.String, Format: resources.Path,
			Doc: "A directory that is asked for what the bucket does not give, while media move: a missing object, and any " +
				"failure of the store. See fallback_until: what is deleted from the bucket is served from it still."},
		{Name: "fallback_until", Type: cty.String, Format: resources.Path,
			Doc: "A path, which nginx may look at: once something stands there, local_fallback is not asked any more. Let a file " +
				"block write it when the last s3_sync is done. From then on the bucket has everything, and what was deleted from " +
				"it stays deleted."},
		{Name: "cache_path", Type: cty.String, Format: resources.Path,
			Doc: "The directory of the cache. Not written: /var/cache/nginx/ and the server_name."},
		{Name: "cache_size", Type: cty.String, Format: resources.Size, Default: cty.StringVal("10GB"),
			Doc: "How large the cache may grow; from nginx 1.19.1 on, 1 GiB of its file system stays free besides."},
		{Name: "inactive", Type: cty.String, Format: resources.Duration, Default: cty.StringVal("7d"),
			Doc: "After how long without a request an object leaves the cache."},
		{Name: "cache_bust_from", Type: cty.List(cty.String), Default: cty.ListValEmpty(cty.String),
			Doc: "Addresses, and networks such as \"172.18.0.0/16\", whose requests with the header " + nginx.BustHeader + ": " +
				nginx.BustValue + " make the proxy fetch the object anew, and so forget it if it was deleted. The header of anybody " +
				"else does nothing, so that it needs no secret. This host itself needs not be named: its requests to its own " +
				"public address count. Name what the app comes from when it runs in a container or on another host, or when this " +
				"host reaches its public name by NAT or has several addresses. Name no proxy that passes visitors on."},
	}
}

// config is what was written.
type config struct {
	ServerName  string       `attr:"server_name"`
	Certificate *certificate `attr:"certificate"`
	Listen      []string     `attr:"listen"`
	Content     string       `attr:"content"`
	Redirect    string       `attr:"redirect"`
	Proxy       *mediaProxy  `attr:"media_proxy"`
	Webroot     string       `attr:"webroot"`
	ConfDir     string       `attr:"conf_dir"`
	Unit        string       `attr:"unit"`
	Ensure      string       `attr:"ensure"`
}

type certificate struct {
	Chain string `attr:"fullchain_path"`
	Key   string `attr:"key_path"`
}

type mediaProxy struct {
	Bucket struct {
		URL      string `attr:"url"`
		Provider string `attr:"provider"`
		Store    struct {
			CAFile string `attr:"ca_file"`
		} `attr:"store"`
	} `attr:"bucket"`
	LocalFallback string          `attr:"local_fallback"`
	FallbackUntil string          `attr:"fallback_until"`
	CachePath     string          `attr:"cache_path"`
	CacheSize     resources.Bytes `attr:"cache_size"`
	Inactive      time.Duration   `attr:"inactive"`
	BustFrom      []string        `attr:"cache_bust_from"`
}

// site is one site that is to be so.
type site struct {
	config
	address string
	unit    string // full name
	wanted  nginx.Site

	// loaded is what Apply has seen nginx load, for the proof that follows before there is a record of it.
	loaded *resources.Loaded
	// blind says that there was no nginx when the plan was made, so that the site's text was not known.
	blind bool
}

func newResource(addr resources.Address, v cty.Value) (resources.Resource, cty.Value, error) {
	s := &site{address: addr.String()}
	if err := resources.Decode(v, &s.config); err != nil {
		return nil, cty.NilVal, err
	}
	s.unit = host.UnitName(s.Unit)
	if err := s.layOut(); err != nil {
		return nil, cty.NilVal, err
	}
	return s, cty.ObjectVal(map[string]cty.Value{
		"path": cty.StringVal(s.path()), "server_name": cty.StringVal(s.ServerName), "mastodon_env": s.mastodonEnv(),
	}), nil
}

// mastodonEnv is the same for all versions of Mastodon. It sends the header only if both its name and the secret are set
// (mastodon/mastodon at 6b06d9d8, app/lib/cache_buster.rb), and the order only if _ENABLED is exactly "true".
func (s *site) mastodonEnv() cty.Value {
	if s.Proxy == nil {
		return cty.MapValEmpty(cty.String)
	}
	return cty.MapVal(map[string]cty.Value{
		"S3_ALIAS_HOST":              cty.StringVal(s.wanted.Host()),
		"CACHE_BUSTER_ENABLED":       cty.StringVal("true"),
		"CACHE_BUSTER_HTTP_METHOD":   cty.StringVal("GET"),
		"CACHE_BUSTER_SECRET_HEADER": cty.StringVal(nginx.BustHeader),
		"CACHE_BUSTER_SECRET":        cty.StringVal(nginx.BustValue),
	})
}

// layOut fills in all of the site that the configuration decides, and checks it.
func (s *site) layOut() error {
	w := nginx.Site{
		Origin: s.address, ServerName: s.ServerName, Webroot: s.Webroot, Content: s.Content, Redirect: s.Redirect,
	}
	for _, text := range s.Listen {
		l, err := nginx.ParseListen(text)
		if err != nil {
			return &resources.AttrError{Path: []string{"listen"}, Err: err}
		}
		w.Listen = append(w.Listen, l)
	}
	if s.Certificate != nil {
		w.Certificate, w.Key = s.Certificate.Chain, s.Certificate.Key
	}
	if s.Proxy != nil {
		proxy, err := s.Proxy.layOut(s.ServerName)
		if err != nil {
			return err
		}
		w.Proxy = proxy
	}
	s.wanted = w
	return attrError(w.Validate())
}

func (p *mediaProxy) layOut(serverName string) (*nginx.MediaProxy, error) {
	if u, err := url.Parse(p.Bucket.URL); err == nil && strings.EqualFold(u.Hostname(), serverName) {
		return nil, &resources.AttrError{Path: []string{"media_proxy", "bucket"}, Err: fmt.Errorf("its objects are read at %s, which is this "+
			"site itself; give the bucket a public_host of its own, such as \"r2.%[1]s\"", serverName)}
	}
	if p.CachePath == "" {
		p.CachePath = path.Join("/var/cache/nginx", serverName)
	}
	out := &nginx.MediaProxy{
		Backend: p.Bucket.URL, CAFile: p.Bucket.Store.CAFile, ForbiddenIsOutage: p.Bucket.Provider == "backblaze-b2",
		LocalFallback: p.LocalFallback, FallbackUntil: p.FallbackUntil, CachePath: p.CachePath, CacheSize: int64(p.CacheSize), Inactive: p.Inactive,
	}
	for _, text := range p.BustFrom {
		from, err := nginx.ParsePrefix(text)
		if err != nil {
			return nil, &resources.AttrError{Path: []string{"media_proxy", "cache_bust_from"}, Err: err}
		}
		if !slices.Contains(out.BustFrom, from) { // nginx warns of one written twice
			out.BustFrom = append(out.BustFrom, from)
		}
	}
	return out, nil
}

// attributes are where the fields of a nginx.Site are written.
var attributes = map[string][]string{
	"ServerName": {"server_name"}, "Listen": {"listen"}, "Certificate": {"certificate"}, "Key": {"certificate"},
	"Webroot": {"webroot"}, "Content": {"content"}, "Redirect": {"redirect"}, "Backend": {"media_proxy", "bucket"},
	"CAFile": {"media_proxy", "bucket"}, "LocalFallback": {"media_proxy", "local_fallback"},
	"FallbackUntil": {"media_proxy", "fallback_until"},
	"CachePath":     {"media_proxy", "cache_path"}, "CacheSize": {"media_proxy", "cache_size"}, "Inactive": {"media_proxy", "inactive"},
}

// attrError gives an error of a field to the attribute that it was written in.
func attrError(err error) error {
	var bad *nginx.FieldError
	if errors.As(err, &bad) {
		return &resources.AttrError{Path: attributes[bad.Field], Err: bad.Err}
	}
	return err
}

func (s *site) path() string { return path.Join(s.ConfDir, "sites-available", s.ServerName+".conf") }
func (s *site) link() string { return path.Join(s.ConfDir, "sites-enabled", s.ServerName+".conf") }
func (s *site) main() string { return path.Join(s.ConfDir, "nginx.conf") }

// Claims lists the site's two files.
func (s *site) Claims() []resources.Claim {
	return []resources.Claim{{Path: s.path(), Own: true}, {Path: s.link(), Own: true}}
}

// Watches lists the same.
func (s *site) Watches() []string { return []string{s.path(), s.link()} }
