package main

import (
	"context"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strings"

	"github.com/converge-agent/converge/test/lab"
	"github.com/converge-agent/converge/test/machine"
)

// container is a host in systemd-nspawn, with a real systemd and nginx.
type container struct {
	dir, base string
	network   *machine.Network
	machine   *machine.Machine
}

func newContainer(ctx context.Context, dir string) (*container, error) {
	base, err := machine.Base(ctx, "", "bookworm")
	if err != nil {
		return nil, err
	}
	network, err := machine.NewNetwork(ctx)
	if err != nil {
		return nil, err
	}
	return &container{dir: filepath.Join(dir, "machine"), base: base, network: network}, nil
}

func (c *container) what() string {
	return "a container of its own: Debian 12 with a real systemd and nginx (systemd-nspawn)"
}

func (c *container) lab() lab.Options {
	return lab.Options{Dir: filepath.Join(filepath.Dir(c.dir), "lab"), IP: machine.HostIP, Listen: c.network.Listen, Dial: c.network.DialContext}
}

func (c *container) ip() string { return c.machine.IP }

func (c *container) disk(path string) string { return filepath.Join(c.dir, "upper", path) }

func (c *container) start(ctx context.Context) error {
	var err error
	c.machine, err = machine.Start(ctx, machine.Options{Base: c.base, Dir: c.dir, Name: "social", Network: c.network})
	if err != nil {
		return err
	}
	for _, line := range []string{
		"useradd --uid 991 --home-dir /home/mastodon --shell /bin/bash mastodon",
		"chown -R mastodon: /home/mastodon",
		"chmod 0755 /home/mastodon",
		"systemctl daemon-reload",
		"systemctl unmask nginx.service",
		"systemctl enable --now nginx.service mastodon-web.service mastodon-sidekiq.service",
	} {
		if out, status, err := c.run(ctx, strings.Fields(line)...); err != nil || status != 0 {
			return fmt.Errorf("prepare the container: %s: %s %w", line, out, err)
		}
	}
	return nil
}

func (c *container) run(ctx context.Context, args ...string) (string, int, error) {
	r, err := c.machine.Run(ctx, args...)
	return r.Stdout + r.Stderr, r.Code, err
}

func (c *container) service(ctx context.Context, verb, name string) (string, error) {
	args := map[string][]string{
		"invocation": {"systemctl", "show", "--property=InvocationID", "--value", name},
		"state":      {"systemctl", "show", "--property=ActiveState", "--value", name},
		"stop":       {"systemctl", "stop", name},
	}[verb]
	out, status, err := c.run(ctx, args...)
	if err == nil && status != 0 {
		err = fmt.Errorf("%s: %s", strings.Join(args, " "), out)
	}
	return strings.TrimSpace(out), err
}

func (c *container) read(ctx context.Context, path string) (string, error) {
	return c.machine.Get(ctx, path)
}

func (c *container) write(ctx context.Context, path, content string, mode os.FileMode) error {
	return c.machine.Put(ctx, path, content, mode)
}

func (c *container) dial(ctx context.Context, network, addr string) (net.Conn, error) {
	return c.network.DialContext(ctx, network, addr)
}

func (c *container) shell() string {
	return fmt.Sprintf("nsenter --all --target %s bash", strings.Split(c.machine.Path("/"), "/")[2])
}

func (c *container) close() {
	if c.machine != nil {
		if err := c.machine.Stop(); err != nil {
			fmt.Fprintln(os.Stderr, "demo:", err)
		}
	}
	_ = c.network.Close() // goes with the process anyway
}
