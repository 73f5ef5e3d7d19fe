package nginx

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os/exec"
	"regexp"
	"strings"

	"github.com/converge-agent/converge/diag"
	"github.com/converge-agent/converge/host"
)

// Install is what to do where there is no nginx.
const Install = "Install it: apt install nginx-light."

// Installed asks the nginx of this host what it can do; nil and no error where there is none.
func Installed(ctx context.Context, run host.Prober) (*Build, error) {
	res, err := run.Probe(ctx, host.Command{Args: []string{"nginx", "-V"}})
	if notThere(err) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	b, err := ParseBuild(string(res.Stderr))
	if err != nil {
		return nil, diag.Wrap(err, "find out the version of nginx", "Run nginx -V, and mend what it complains about.")
	}
	return &b, nil
}

// notThere reports whether a program could not be started because it is not there.
func notThere(err error) bool {
	return errors.Is(err, exec.ErrNotFound) || errors.Is(err, fs.ErrNotExist)
}

// Check has nginx judge the whole configuration that begins with the file main, without making it live. Where nginx refuses
// it, the error gives nginx's own words, with file and line, but for those out of a file that not everybody may read.
func Check(ctx context.Context, run host.Commands, files host.View, main string) error {
	const doing = "test the nginx configuration"
	res, err := run.Run(ctx, host.Command{Args: []string{"nginx", "-t", "-c", main}})
	if notThere(err) {
		return diag.New(doing, "nginx is not installed", Install)
	}
	if err != nil {
		return err
	}
	if res.Code == 0 {
		return nil
	}
	return diag.New(doing, refusal(files, string(res.Stderr)), "The configuration that is live was not touched. Mend the line that nginx names; "+
		"if it is of a site of your own, nginx -t shows the same.")
}

// severe are the lines of nginx -t that say why it refuses; warnings are not among them. An nginx that was built to log to
// stderr, as Debian's is since 12, writes them as into a log: "2026/11/21 03:17:27 [emerg] 15#15: unknown directive …".
var severe = regexp.MustCompile(`(?m)^(?:nginx:|\d{4}/\d\d/\d\d \d\d:\d\d:\d\d) \[(?:emerg|alert|crit|error)\] (?:\d+#\d+: )?(.*)$`)

// refusal picks the reasons out of what nginx -t says.
func refusal(files host.View, output string) string {
	var why []string
	for _, m := range severe.FindAllStringSubmatch(output, -1) {
		why = append(why, withoutPrivate(files, m[1]))
	}
	if len(why) == 0 {
		return "nginx refuses it: " + strings.Join(strings.Fields(output), " ")
	}
	return "nginx refuses it: " + strings.Join(why, "; ")
}

var (
	// placed is the end of a reason that lies in a line of a file, and the file.
	placed = regexp.MustCompile(` in (/.*):\d+$`)
	// harmless are the reasons that quote nothing but the name of a directive that nginx knows, or a sign (nginx
	// src/core/ngx_conf_file.c, ngx_conf_read_token and ngx_conf_handler).
	harmless = regexp.MustCompile(`^[^"]*"[a-z0-9_]+" directive [^"]*$|^[^"]* in "[a-z0-9_]+" directive[^"]*$|` +
		`^directive "[a-z0-9_]+" (?:is not terminated by ";"|has no opening "\{")[^"]*$|^unexpected (?:"[;{}]"|end of file, expecting "[;}]"(?: or "}")?)[^"]*$|^[^"]*$`)
)

// withoutPrivate takes what nginx quotes of a file out of one of its reasons, where not everybody may read the file: it may
// be a secret of somebody else's.
func withoutPrivate(files host.View, reason string) string {
	m := placed.FindStringSubmatch(reason)
	switch {
	case m == nil && strings.Count(reason, `"`)%2 == 1: // it quotes a text of several lines, and goes on below
		return reason[:strings.Index(reason, `"`)] + "(a text of several lines)"
	case m == nil || harmless.MatchString(reason):
		return reason
	}
	if f, err := Follow(files, m[1]); err == nil && f.File != nil && f.File.Mode&0o004 != 0 {
		return reason
	}
	before, _, _ := strings.Cut(reason, `"`)
	return fmt.Sprintf("%s(not shown, for not everybody may read it)%s", before, reason[strings.LastIndex(reason, `"`)+1:])
}
