// Package nginx knows the web server nginx: what its versions can do, how values are written in its configuration, and how a
// site is laid out so that nothing that is known to go wrong does. It knows nothing of resources.
package nginx

import (
	"errors"
	"fmt"
	"net/netip"
	"net/url"
	"regexp"
	"strconv"
	"strings"
	"time"
)

// CABundle is Debian's list of trusted authorities (package ca-certificates).
const CABundle = "/etc/ssl/certs/ca-certificates.crt"

// BustHeader and BustValue make a request for an object an order to fetch it anew, since it may have been deleted. They are
// no secret: the address that the request comes from decides whether it counts.
const (
	BustHeader = "X-Converge-Cache-Bust"
	BustValue  = "true"
)

// Site is one virtual host. Exactly one of Content, Redirect and Proxy is set.
type Site struct {
	// Origin says in a comment what the file is made from.
	Origin     string
	ServerName string
	Listen     []Listen
	// IPv6 makes a Listen without an address listen on every IPv6 address too.
	IPv6 bool
	// Certificate and Key are the paths of the chain and the private key, in PEM. Without them the site is plain HTTP, and
	// the Listens with TLS are left out.
	Certificate, Key string
	// Webroot is the directory that answers /.well-known/acme-challenge/ on the plain ports (RFC 8555, section 8.3).
	Webroot string

	// Content are directives for the inside of the server block, as they stand.
	Content string
	// Redirect is a URL without a slash at its end that every request is sent to, with its path and arguments added.
	Redirect string
	Proxy    *MediaProxy

	Build Build
}

// MediaProxy serves the objects of a bucket and keeps them in a cache.
type MediaProxy struct {
	// Backend is the base URL of the objects without a slash at its end: "https://bucket.s3.example.com",
	// "https://s3.example.com/bucket".
	Backend string
	// Address is the IP address to connect to, where the name in Backend stands in /etc/hosts; IPv6 in brackets. "" asks
	// the Resolvers.
	Address string
	// Resolvers are the parameters of the resolver directive; see Resolvers.
	Resolvers []string
	// CAFile holds the authorities that the backend's certificate is checked with; "" means CABundle.
	CAFile string
	// ForbiddenIsOutage says that the store answers 403 when a spending cap is reached, and 404 for what does not exist:
	// Backblaze B2. Elsewhere a missing object is a 403 for those who may not list (Amazon S3, GetObject).
	ForbiddenIsOutage bool
	// LocalFallback is a directory that is asked for what the bucket does not give; "" for none.
	LocalFallback string
	// FallbackUntil is a path: once something stands there, LocalFallback is not asked any more; "" for always. nginx looks
	// at each request, so no reload is needed.
	FallbackUntil string
	// BustFrom are the addresses, besides those of the host itself, whose requests with the header BustHeader are orders to
	// fetch an object anew.
	BustFrom []netip.Prefix

	CachePath string
	CacheSize int64 // bytes
	Inactive  time.Duration
}

// Validate returns a *FieldError for the first value that cannot stand in a configuration.
func (s *Site) Validate() error {
	for _, c := range []struct {
		field string
		err   error
	}{
		{"ServerName", checkServerName(s.ServerName)},
		{"Listen", s.checkListen()},
		{"Certificate", checkOptionalPath(s.Certificate)},
		{"Key", checkOptionalPath(s.Key)},
		{"Webroot", checkPath(s.Webroot)},
		{"Content", s.checkBody()},
		{"Redirect", checkRedirect(s.Redirect)},
	} {
		if c.err != nil {
			return &FieldError{c.field, c.err}
		}
	}
	if s.Proxy != nil {
		return s.Proxy.validate()
	}
	return nil
}

func (s *Site) checkListen() error {
	plain, tls := s.split()
	switch {
	case s.Certificate == "" && len(plain) == 0:
		return errors.New("every port is for HTTPS, and there is no certificate; name one, or add a port without ssl")
	case s.Certificate != "" && len(tls) == 0:
		return errors.New("there is a certificate, and no port for HTTPS; add one, such as 443 or \"8443 ssl\"")
	}
	return nil
}

// split gives the plain ports, and those for HTTPS as far as there is a certificate.
func (s *Site) split() (plain, tls []Listen) {
	for _, l := range s.Listen {
		switch {
		case !l.TLS:
			plain = append(plain, l)
		case s.Certificate != "":
			tls = append(tls, l)
		}
	}
	return plain, tls
}

// Host is the site's name in URLs with https: its port is added where it is not 443. Of a site without a certificate it is
// the name alone, for TLS then ends before it.
func (s *Site) Host() string {
	if _, tls := s.split(); len(tls) > 0 && tls[0].Port != 443 {
		return s.ServerName + ":" + strconv.Itoa(tls[0].Port)
	}
	return s.ServerName
}

func (s *Site) checkBody() error {
	n := 0
	for _, set := range []bool{s.Content != "", s.Redirect != "", s.Proxy != nil} {
		if set {
			n++
		}
	}
	if n != 1 {
		return fmt.Errorf("%d of content, redirect and media_proxy are set; write exactly one", n)
	}
	return nil
}

// urlPath is what the path of a backend or redirect may consist of: nothing that needs encoding.
var urlPath = regexp.MustCompile(`^(/[A-Za-z0-9._~-]+)*$`)

// checkURL returns the parts of a base URL that holds nothing but a scheme, a host and a plain path.
func checkURL(s string) (*url.URL, error) {
	u, err := url.Parse(s)
	if err != nil {
		return nil, err
	}
	name := u.Hostname()
	_, notIP := netip.ParseAddr(name)
	switch {
	case u.Scheme != "https" && u.Scheme != "http":
		return nil, fmt.Errorf("%q does not begin with https:// or http://", s)
	case u.User != nil || u.RawQuery != "" || u.ForceQuery || u.Fragment != "" || u.Opaque != "":
		return nil, fmt.Errorf("%q holds more than a host and a path; leave user, ? and # out", s)
	case notIP != nil && checkServerName(strings.ToLower(name)) != nil:
		return nil, fmt.Errorf("%q has no host name that nginx could take", s)
	case !urlPath.MatchString(u.EscapedPath()):
		return nil, fmt.Errorf("the path of %q may hold letters, digits and ._~- between single slashes, and no slash at its end", s)
	}
	return u, nil
}

func checkRedirect(s string) error {
	if s == "" {
		return nil
	}
	_, err := checkURL(s)
	return err
}

func (p *MediaProxy) validate() error {
	for _, c := range []struct {
		field string
		err   error
	}{
		{"Backend", p.checkBackend()},
		{"CAFile", checkOptionalPath(p.CAFile)},
		{"LocalFallback", checkOptionalPath(p.LocalFallback)},
		{"FallbackUntil", checkOptionalPath(p.FallbackUntil)},
		{"CachePath", checkCachePath(p.CachePath)},
		{"CacheSize", atLeast(p.CacheSize, 1<<20, "1MiB")},
		{"Inactive", atLeast(int64(p.Inactive), int64(time.Minute), "1m")},
	} {
		if c.err != nil {
			return &FieldError{c.field, c.err}
		}
	}
	return nil
}

// checkBackend refuses a backend by HTTPS that is the address of another host: nginx compares a certificate with names
// alone (X509_check_host(3) in ngx_ssl_check_host), so that its check could never succeed.
func (p *MediaProxy) checkBackend() error {
	u, err := checkURL(p.Backend)
	if err != nil {
		return err
	}
	if addr, err := netip.ParseAddr(u.Hostname()); err == nil && u.Scheme == "https" && !addr.IsLoopback() {
		return fmt.Errorf("nginx cannot check the certificate of %q, an address; give it a name in /etc/hosts and use that", u.Host)
	}
	return nil
}

// checkCachePath keeps the cache out of /tmp, which is memory on Debian 13, and emptied at every boot.
func checkCachePath(s string) error {
	if s == "/tmp" || strings.HasPrefix(s, "/tmp/") {
		return fmt.Errorf("%q is emptied at boot and may lie in memory; write a path such as /var/cache/nginx/media", s)
	}
	return checkPath(s)
}

func atLeast(n, least int64, words string) error {
	if n < least {
		return fmt.Errorf("it is too small; write at least %q", words)
	}
	return nil
}
