package nginx

import (
	"cmp"
	"fmt"
	"regexp"
	"strconv"
	"strings"
)

// Build is what an installed nginx can do, as `nginx -V` tells it.
type Build struct {
	Version Version
	// Slice, AuthRequest and HTTP2 say that the modules ngx_http_slice_module, ngx_http_auth_request_module and
	// ngx_http_v2_module are compiled in. Debian's packages have them all, nginx-light too.
	Slice, AuthRequest, HTTP2 bool
}

// Version is a version of nginx: 1.22.1.
type Version struct{ Major, Minor, Patch int }

// String gives the version as nginx writes it.
func (v Version) String() string { return fmt.Sprintf("%d.%d.%d", v.Major, v.Minor, v.Patch) }

// AtLeast reports whether v is that version or a later one.
func (v Version) AtLeast(major, minor, patch int) bool {
	return cmp.Or(cmp.Compare(v.Major, major), cmp.Compare(v.Minor, minor), cmp.Compare(v.Patch, patch)) >= 0
}

// http2Directive reports whether HTTP/2 is a directive of its own ("http2 on;") and as a parameter of listen deprecated:
// since 1.25.1 (nginx.org, ngx_http_v2_module). Before that the directive is an unknown one, and nginx refuses to start.
func (v Version) http2Directive() bool { return v.AtLeast(1, 25, 1) }

// hasMinFree reports whether proxy_cache_path takes min_free: since 1.19.1 (nginx.org, ngx_http_proxy_module).
func (v Version) hasMinFree() bool { return v.AtLeast(1, 19, 1) }

// versionLine is the first line of nginx -v and -V. Derived servers (openresty) put their own name before the slash.
var versionLine = regexp.MustCompile(`version: \w+/(\d+)\.(\d+)\.(\d+)`)

// ParseBuild reads what `nginx -V` writes to its standard error.
func ParseBuild(output string) (Build, error) {
	m := versionLine.FindStringSubmatch(output)
	if m == nil {
		first, _, _ := strings.Cut(output, "\n")
		return Build{}, fmt.Errorf("nginx -V names no version: %q", first)
	}
	var v Version
	for i, part := range []*int{&v.Major, &v.Minor, &v.Patch} {
		n, err := strconv.Atoi(m[i+1])
		if err != nil {
			return Build{}, fmt.Errorf("nginx -V names the version %q: %w", m[0], err)
		}
		*part = n
	}
	return Build{
		Version:     v,
		Slice:       strings.Contains(output, "--with-http_slice_module"),
		AuthRequest: strings.Contains(output, "--with-http_auth_request_module"),
		HTTP2:       strings.Contains(output, "--with-http_v2_module"),
	}, nil
}
