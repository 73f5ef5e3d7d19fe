package nginx

import (
	"fmt"
	"net/netip"
	"regexp"
	"strconv"
	"strings"
)

// FieldError is a value that cannot stand in a configuration of nginx.
type FieldError struct {
	Field string // as in the structs of this package: "ServerName"
	Err   error
}

func (e *FieldError) Error() string { return e.Field + ": " + e.Err.Error() }

// Unwrap returns what is wrong with the value.
func (e *FieldError) Unwrap() error { return e.Err }

// bare are the values that need no quotes.
var bare = regexp.MustCompile(`^[A-Za-z0-9_./:@%+=,~\[\]-]+$`)

// Quote returns s as one parameter of a directive. Within double quotes nginx gives a meaning to the backslash, the quote
// and the dollar alone (ngx_conf_read_token); a dollar begins a variable and nothing escapes it, so that it is refused, and
// so are control characters.
func Quote(s string) (string, error) {
	for _, r := range s {
		switch {
		case r < ' ' || r == 0x7f:
			return "", fmt.Errorf("%q holds a control character, which nginx cannot take here", s)
		case r == '$':
			return "", fmt.Errorf("%q holds a $, which nginx would read as a variable", s)
		}
	}
	if bare.MatchString(s) {
		return s, nil
	}
	return `"` + strings.NewReplacer(`\`, `\\`, `"`, `\"`).Replace(s) + `"`, nil
}

// Listen is one address and port to listen on.
type Listen struct {
	Address string // "127.0.0.1", "[::1]"; "" is every address
	Port    int
	TLS     bool
}

// ParseListen reads "443", "8080", "8443 ssl", "127.0.0.1:8443 ssl" or "[::1]:80". Port 443 is TLS without a word.
func ParseListen(s string) (Listen, error) {
	bad := fmt.Errorf("%q is nothing to listen on; write a port or address:port, and ssl after it for HTTPS: \"443\", \"127.0.0.1:8443 ssl\"", s)
	where, tls := strings.CutSuffix(s, " ssl")
	l := Listen{TLS: tls}
	port := where
	if i := strings.LastIndexByte(where, ':'); i >= 0 {
		l.Address, port = where[:i], where[i+1:]
		if _, err := netip.ParseAddr(strings.Trim(l.Address, "[]")); err != nil || strings.Contains(l.Address, ":") != strings.HasPrefix(l.Address, "[") {
			return Listen{}, bad
		}
	}
	n, err := strconv.ParseUint(port, 10, 16)
	if err != nil || n == 0 || strings.HasPrefix(port, "+") {
		return Listen{}, bad
	}
	l.Port = int(n)
	l.TLS = l.TLS || n == 443
	return l, nil
}

// ParsePrefix reads an address, or a network in CIDR notation: "192.0.2.7", "172.18.0.0/16", "2001:db8::/64".
func ParsePrefix(s string) (netip.Prefix, error) {
	if a, err := netip.ParseAddr(s); err == nil && a.Zone() == "" {
		return netip.PrefixFrom(a.Unmap(), a.Unmap().BitLen()), nil
	}
	p, err := netip.ParsePrefix(s)
	switch {
	case err != nil:
		return netip.Prefix{}, fmt.Errorf("%q is neither an address nor a network; write one such as \"192.0.2.7\" or \"172.18.0.0/16\"", s)
	case p.Bits() == 0:
		return netip.Prefix{}, fmt.Errorf("%q is everybody; name the addresses that are meant", s)
	}
	return p.Masked(), nil
}

// size gives a number of bytes in the largest unit of nginx that holds it exactly (nginx.org, "Configuration file
// measurement units": k, m, g are powers of 1024).
func size(n int64) string {
	for _, u := range []struct {
		unit  string
		bytes int64
	}{{"g", 1 << 30}, {"m", 1 << 20}, {"k", 1 << 10}} {
		if n >= u.bytes && n%u.bytes == 0 {
			return strconv.FormatInt(n/u.bytes, 10) + u.unit
		}
	}
	return strconv.FormatInt(n, 10)
}

// seconds gives a number of seconds in the largest unit of nginx that holds it exactly.
func seconds(n int64) string {
	for _, u := range []struct {
		unit string
		secs int64
	}{{"d", 86400}, {"h", 3600}, {"m", 60}} {
		if n >= u.secs && n%u.secs == 0 {
			return strconv.FormatInt(n/u.secs, 10) + u.unit
		}
	}
	return strconv.FormatInt(n, 10) + "s"
}

// serverName is one host name in lower case, without wildcards: what a certificate by HTTP-01 can be for.
var serverName = regexp.MustCompile(`^[a-z0-9]([a-z0-9-]*[a-z0-9])?(\.[a-z0-9]([a-z0-9-]*[a-z0-9])?)*$`)

func checkServerName(s string) error {
	if !serverName.MatchString(s) || len(s) > 253 {
		return fmt.Errorf("%q is not one host name; write it in lower case and without a wildcard, such as \"files.example.com\"", s)
	}
	return nil
}

func checkPath(s string) error {
	if !strings.HasPrefix(s, "/") {
		return fmt.Errorf("%q is not an absolute path", s)
	}
	_, err := Quote(s)
	return err
}

// checkOptionalPath is checkPath for a value that may be left out.
func checkOptionalPath(s string) error {
	if s == "" {
		return nil
	}
	return checkPath(s)
}
