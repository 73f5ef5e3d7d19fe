package objectstore

import (
	"errors"
	"os"
	"strings"
)

// Requests go to a store directly, whatever HTTPS_PROXY says. Mastodon's client and the nginx in front of the media use no
// proxy either (aws-sdk-core of Ruby, lib/seahorse/client/net_http/connection_pool.rb, takes none from the environment; nginx's
// proxy_pass has none): through one, converge would find a store in order that the instance cannot reach. And a plan in a
// shell that has the variable would be another than that of a timer, which has not.

// proxyVariables are those that other programs take a proxy for HTTPS from (curl(1), ENVIRONMENT).
var proxyVariables = []string{"HTTPS_PROXY", "https_proxy", "ALL_PROXY", "all_proxy"}

// fixProxy is what to know first of a store that gave no answer where a proxy is named; "" for other failures. The variable's
// value may hold a password, so it is not shown.
func fixProxy(err error) string {
	var r *reply
	if !errors.As(err, &r) || !errors.Is(r, ErrUnreachable) || r.status != 0 || strings.Contains(r.message, "x509:") {
		return ""
	}
	for _, name := range proxyVariables {
		if os.Getenv(name) != "" {
			return "A proxy is named by " + name + " here: converge does not use it, as the app and nginx do not, and must get out " +
				"to the store directly, as curl does with --noproxy '*'. "
		}
	}
	return ""
}
