package nginx

import (
	"fmt"
	"strings"
)

// Challenge returns a server block that answers /.well-known/acme-challenge/ for names from webroot, and sends everything
// else to HTTPS for the moments that it lasts. IPv6 makes a Listen without an address listen on every IPv6 address too.
func Challenge(names []string, l Listen, ipv6 bool, webroot string) ([]byte, error) {
	for _, n := range names {
		if err := checkServerName(n); err != nil {
			return nil, &FieldError{"ServerName", err}
		}
	}
	if err := checkPath(webroot); err != nil {
		return nil, &FieldError{"Webroot", err}
	}
	root, err := Quote(webroot)
	if err != nil {
		return nil, &FieldError{"Webroot", err}
	}
	v := view{&Site{IPv6: ipv6}}
	listen := strings.Join(v.listenLines([]Listen{l}), "\n    ")
	return fmt.Appendf(nil, `# Made by converge while a certificate is issued, and removed after.
server {
    %s
    server_name %s;
    location ^~ /.well-known/acme-challenge/ {
        root %s;
        default_type text/plain;
        try_files $uri =404;
    }
    location / {
        return 302 https://$host$request_uri;
    }
}
`, listen, strings.Join(names, " "), root), nil
}
