package nginx_test

import (
	"context"
	"testing"

	"github.com/converge-agent/converge/host"
	"github.com/converge-agent/converge/nginx"
)

// refusing is an nginx that refuses every configuration with these words.
type refusing struct {
	host.Commands
	words string
}

func (r refusing) Run(context.Context, host.Command) (host.Result, error) {
	return host.Result{Code: 1, Stderr: []byte(r.words)}, nil
}

func TestRefusalIsQuotedWithoutItsFrame(t *testing.T) {
	const want = `test the nginx configuration: nginx refuses it: unknown directive "lissen" in /etc/nginx/sites-enabled/a:3`
	const end = "nginx: configuration file /etc/nginx/nginx.conf test failed\n"
	for name, words := range map[string]string{
		"Debian 11": "nginx: [warn] conflicting server name\nnginx: [emerg] unknown directive \"lissen\" in /etc/nginx/sites-enabled/a:3\n" + end,
		"Debian 12": "2026/11/21 03:17:27 [warn] 1576#1576: conflicting server name\n" +
			"2026/11/21 03:17:27 [emerg] 1576#1576: unknown directive \"lissen\" in /etc/nginx/sites-enabled/a:3\n" + end,
	} {
		if err := nginx.Check(t.Context(), refusing{words: words}, "/etc/nginx/nginx.conf"); err == nil || err.Error() != want {
			t.Errorf("%s: got %v\nwant %s", name, err, want)
		}
	}
}
