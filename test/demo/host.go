package main

import (
	"context"
	"fmt"
	"net"
	"os"
	"path/filepath"

	"github.com/converge-agent/converge/test/lab"
)

// host is where the story takes place: a machine, as its root sees it.
type host interface {
	// what says in one line what kind of host this is.
	what() string
	// lab are the options of a lab that the host can reach, and that can reach it.
	lab() lab.Options
	// ip is the host's address.
	ip() string
	// disk returns where the host's files lie before it is started, or "" for the running system.
	disk(path string) string
	// start starts the host. Its own root directory is as disk left it.
	start(ctx context.Context) error
	// run runs a command as root and returns all that it printed, and its exit status.
	run(ctx context.Context, args ...string) (output string, status int, err error)
	// service does one thing with a unit: "invocation" and "state" return that, "stop" stops it.
	service(ctx context.Context, verb, name string) (string, error)
	// read and write are for files of the running host.
	read(ctx context.Context, path string) (string, error)
	write(ctx context.Context, path, content string, mode os.FileMode) error
	// dial connects as a visitor does.
	dial(ctx context.Context, network, addr string) (net.Conn, error)
	// shell is the command that brings somebody onto the host.
	shell() string
	close()
}

// unit is the unit file of one of Mastodon's processes, in the form of Mastodon's dist/*.service, with a program in the
// place of Ruby that notes which storage it was started with, and waits.
func unit(name string) string {
	return fmt.Sprintf(`[Unit]
Description=%[1]s (a stand-in)
After=network.target

[Service]
Type=simple
User=mastodon
WorkingDirectory=%[2]s
Environment="RAILS_ENV=production"
ExecStart=/bin/sh %[2]s/bin/stand-in %[1]s
Restart=always

[Install]
WantedBy=multi-user.target
`, name, live)
}

// standIn is that program.
const standIn = `# Stands in for Mastodon's own program: notes the storage settings it was started with, and waits.
cd "$(dirname "$0")/.."
grep '^S3_' .env.production > "tmp/$1.loaded"
exec sleep infinity
`

var mastodonUnits = []string{"mastodon-web", "mastodon-sidekiq"}

// furnish puts a Mastodon's units and stand-in onto a disk that holds its files already.
func furnish(h host) error {
	files := map[string]string{filepath.Join(live, "bin/stand-in"): standIn}
	for _, name := range mastodonUnits {
		files["/etc/systemd/system/"+name+".service"] = unit(name)
	}
	for path, content := range files {
		at := h.disk(path)
		if err := os.MkdirAll(filepath.Dir(at), 0o755); err != nil {
			return err
		}
		if err := os.WriteFile(at, []byte(content), 0o644); err != nil {
			return err
		}
	}
	return os.MkdirAll(h.disk(filepath.Join(live, "tmp")), 0o755)
}
