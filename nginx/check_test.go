package nginx_test

import (
	"context"
	"testing"

	"github.com/converge-agent/converge/host"
	"github.com/converge-agent/converge/host/hosttest"
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
	files := hosttest.NewMemory()
	files.Put("/etc/nginx/sites-enabled/a", host.File{Mode: 0o644})
	const end = "nginx: configuration file /etc/nginx/nginx.conf test failed\n"
	for name, words := range map[string]string{
		"Debian 11": "nginx: [warn] conflicting server name\nnginx: [emerg] unknown directive \"lissen\" in /etc/nginx/sites-enabled/a:3\n" + end,
		"Debian 12": "2026/11/21 03:17:27 [warn] 1576#1576: conflicting server name\n" +
			"2026/11/21 03:17:27 [emerg] 1576#1576: unknown directive \"lissen\" in /etc/nginx/sites-enabled/a:3\n" + end,
	} {
		if err := nginx.Check(t.Context(), refusing{words: words}, files, "/etc/nginx/nginx.conf"); err == nil || err.Error() != want {
			t.Errorf("%s: got %v\nwant %s", name, err, want)
		}
	}
}

// TestLaw6RefusalDoesNotQuotePrivateFiles: nginx says again what it does not understand, which may be somebody's password.
func TestLaw6RefusalDoesNotQuotePrivateFiles(t *testing.T) {
	files := hosttest.NewMemory()
	files.Put("/etc/nginx/open.conf", host.File{Mode: 0o644})
	files.Put("/etc/nginx/private.conf", host.File{Mode: 0o640})
	files.Put("/etc/nginx/link.conf", host.File{Type: host.Symlink, Target: "private.conf", Mode: 0o777})
	const hidden = "(not shown, for not everybody may read it)"
	for said, want := range map[string]string{
		`unknown directive "hunter2" in /etc/nginx/open.conf:3`:                                    `unknown directive "hunter2" in /etc/nginx/open.conf:3`,
		`unknown directive "hunter2" in /etc/nginx/private.conf:3`:                                 `unknown directive ` + hidden + ` in /etc/nginx/private.conf:3`,
		`unknown directive "hunter2" in /etc/nginx/link.conf:3`:                                    `unknown directive ` + hidden + ` in /etc/nginx/link.conf:3`,
		`unknown directive "hunter2" in /etc/nginx/gone.conf:3`:                                    `unknown directive ` + hidden + ` in /etc/nginx/gone.conf:3`,
		`unknown directive "a"hunter2"b" in /etc/nginx/private.conf:3`:                             `unknown directive ` + hidden + ` in /etc/nginx/private.conf:3`,
		`invalid value "hunter2" in "gzip" directive, it must be on in /etc/nginx/private.conf:3`:  `invalid value ` + hidden + ` directive, it must be on in /etc/nginx/private.conf:3`,
		`invalid number of arguments in "proxy_set_header" directive in /etc/nginx/private.conf:3`: `invalid number of arguments in "proxy_set_header" directive in /etc/nginx/private.conf:3`,
		`"server" directive is not allowed here in /etc/nginx/private.conf:3`:                      `"server" directive is not allowed here in /etc/nginx/private.conf:3`,
		`directive "root" is not terminated by ";" in /etc/nginx/private.conf:3`:                   `directive "root" is not terminated by ";" in /etc/nginx/private.conf:3`,
		`unexpected "}" in /etc/nginx/private.conf:3`:                                              `unexpected "}" in /etc/nginx/private.conf:3`,
		`unexpected end of file, expecting ";" or "}" in /etc/nginx/private.conf:3`:                `unexpected end of file, expecting ";" or "}" in /etc/nginx/private.conf:3`,
		"unknown directive \"a\nhunter2\" in /etc/nginx/open.conf:3":                               `unknown directive (a text of several lines)`,
		`cannot load certificate "/etc/ssl/x.pem": BIO_new_file() failed`:                          `cannot load certificate "/etc/ssl/x.pem": BIO_new_file() failed`,
	} {
		err := nginx.Check(t.Context(), refusing{words: "nginx: [emerg] " + said + "\n"}, files, "/etc/nginx/nginx.conf")
		if full := "test the nginx configuration: nginx refuses it: " + want; err == nil || err.Error() != full {
			t.Errorf("%s:\n got %v\nwant %s", said, err, full)
		}
	}
}
