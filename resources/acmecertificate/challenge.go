package acmecertificate

import (
	"context"
	"crypto/rand"
	"fmt"
	"net"
	"path"
	"strconv"
	"strings"
	"time"

	"github.com/converge-agent/converge/acme"
	"github.com/converge-agent/converge/diag"
	"github.com/converge-agent/converge/host"
	"github.com/converge-agent/converge/nginx"
	"github.com/converge-agent/converge/resources"
)

// door is where the authority finds its challenges answered.
type door struct {
	presenter acme.Presenter
	close     func(context.Context) error
}

// open makes sure that challenges are answered on the port for HTTP: by the nginx that runs, from the webroot, which a site
// of ours serves already and a small server of the moment does otherwise; or by converge itself where there is no nginx.
func (c *certificate) open(ctx context.Context, env resources.Env) (door, error) {
	u, err := env.Units.Unit(ctx, c.unit)
	if err != nil {
		return door{}, err
	}
	if !u.Up() {
		s, err := acme.Listen(ctx, net.JoinHostPort(c.Address, strconv.FormatInt(c.Port, 10)))
		if err != nil {
			return door{}, err
		}
		return door{s, func(context.Context) error { return s.Close() }}, nil
	}
	uid, gid := env.Users.Self()
	web := acme.InWebroot{Files: env.Files, Dir: c.Webroot, UID: uid, GID: gid}
	if err := web.Sweep(ctx); err != nil {
		return door{}, err
	}
	answered, err := c.answered(ctx, web)
	if err != nil {
		return door{}, err
	}
	if answered {
		return door{web, func(context.Context) error { return nil }}, nil
	}
	return c.openSnippet(ctx, env, web)
}

// answered reports whether every name is answered for from the webroot already, and keeps being so: nginx may just have been
// told to read a configuration without the server that answered, a leftover of a killed run.
func (c *certificate) answered(ctx context.Context, web acme.InWebroot) (bool, error) {
	tick := time.NewTicker(answerPoll)
	defer tick.Stop()
	for run := newAnswers(); ; {
		missing, err := c.unanswered(ctx, web)
		if err != nil || len(missing) > 0 || run.enough() {
			return err == nil && len(missing) == 0, err
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			return false, diag.Wrap(ctx.Err(), "see whether nginx answers the challenge", "")
		}
	}
}

// openSnippet adds a server for the names to nginx, and waits until it answers.
func (c *certificate) openSnippet(ctx context.Context, env resources.Env, web acme.InWebroot) (door, error) {
	edit, err := c.snippetEdit(env)
	if err != nil {
		return door{}, err
	}
	closing := func(ctx context.Context) error {
		now, err := env.Files.Lookup(edit.Path)
		if err != nil || now == nil {
			return err
		}
		return c.removeSnippets(ctx, env, []host.Edit{{Path: edit.Path, Before: now}})
	}
	err = env.Files.Commit(ctx, edit)
	if err == nil {
		err = c.reload(ctx, env)
	}
	if err == nil {
		err = c.awaitAnswers(ctx, web)
	}
	if err != nil {
		_ = closing(context.WithoutCancel(ctx)) // what is left the next run removes; the first failure is the one to tell
		return door{}, err
	}
	return door{web, closing}, nil
}

func (c *certificate) snippetEdit(env resources.Env) (host.Edit, error) {
	main := path.Join(c.ConfDir, "nginx.conf")
	conf, err := nginx.ReadConfig(env.Files, main)
	if err != nil {
		return host.Edit{}, diag.Wrap(err, "read the nginx configuration", "Run nginx -t, and mend what it complains about.")
	}
	v6, err := env.Files.Lookup("/proc/sys/net/ipv6") // there unless the kernel was told ipv6.disable=1
	if err != nil {
		return host.Edit{}, err
	}
	listen := nginx.Listen{Port: int(c.Port)}
	if c.Address != "" {
		listen.Address = strings.TrimSuffix(net.JoinHostPort(c.Address, ""), ":")
	}
	text, err := nginx.Challenge(c.Domains, listen, v6 != nil, c.Webroot)
	if err != nil {
		return host.Edit{}, diag.Wrap(err, "let nginx answer the authority's challenge", "Correct domains and webroot.")
	}
	for _, name := range c.snippets() {
		if conf.Includes(name) {
			uid, gid := env.Users.Self()
			return host.Edit{Path: name, After: &host.File{Content: text, Mode: 0o644, UID: uid, GID: gid}}, nil
		}
	}
	return host.Edit{}, diag.New("let nginx answer the authority's challenge",
		fmt.Sprintf("%s includes neither conf.d/*.conf nor sites-enabled/*", main),
		fmt.Sprintf("Add this line inside http { }: include %s/conf.d/*.conf;", c.ConfDir))
}

// The bounds of waiting for a nginx that was told to reload: it does so in a fraction of a second, on a busy host in more.
//
// nginx.Reload has waited for the old workers where it can see them. A killed run has not, and a unit may run its nginx in a
// container. There one answer is not enough: for 100 ms and longer both the new workers and the old ones take connections,
// and the old ones know nothing of the challenge (nginx 1.22, src/os/unix/ngx_process_cycle.c, ngx_master_process_cycle). So
// it must answer every time for as long as answerFor, and answerTimes at least, however slow the host is.
const (
	answerPoll  = 50 * time.Millisecond
	answerFor   = 500 * time.Millisecond
	answerTimes = 10
	answerLimit = 30 * time.Second
)

// answers are those that came one after the other, every name answered for.
type answers struct {
	since time.Time
	times int
}

func newAnswers() *answers { return &answers{since: time.Now()} }

// enough counts one more, and reports whether they are enough.
func (a *answers) enough() bool {
	a.times++
	return a.times >= answerTimes && time.Since(a.since) >= answerFor
}

// awaitAnswers waits until every name is answered for from the webroot, and keeps being so.
func (c *certificate) awaitAnswers(ctx context.Context, web acme.InWebroot) error {
	tick := time.NewTicker(answerPoll)
	defer tick.Stop()
	limit := time.After(answerLimit)
	run, silent := newAnswers(), c.Domains // which names were not answered for last
	for {
		missing, err := c.unanswered(ctx, web)
		switch {
		case err != nil:
			return err
		case len(missing) > 0:
			run, silent = newAnswers(), missing
		case run.enough():
			return nil
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			return diag.Wrap(ctx.Err(), "wait for nginx to answer the challenge", "")
		case <-limit:
			return diag.New("let nginx answer the authority's challenge",
				fmt.Sprintf("it does not answer %s for %s", acme.ChallengePath, strings.Join(silent, ", ")),
				fmt.Sprintf("See with nginx -T what answers for the name on port %d: another server block, or another program (ss -ltnp).", c.Port))
		}
	}
}

// unanswered lists the names for which this host does not answer from the webroot on the port.
func (c *certificate) unanswered(ctx context.Context, web acme.InWebroot) ([]string, error) {
	token := acme.ProbeToken + rand.Text()
	if err := web.Present(ctx, "", token, token); err != nil {
		return nil, err
	}
	address := c.Address
	if address == "" {
		address = "127.0.0.1"
	}
	addr := net.JoinHostPort(address, strconv.FormatInt(c.Port, 10))
	var missing []string
	for _, d := range c.Domains {
		if !acme.Answers(ctx, addr, d, token, token) {
			missing = append(missing, d)
		}
	}
	return missing, web.CleanUp(context.WithoutCancel(ctx), "", token, "")
}
