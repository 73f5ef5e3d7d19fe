package faults

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"

	"github.com/converge-agent/converge/test/lab/sandbox"
	"golang.org/x/sys/unix"
)

// stories are the configurations whose applies are disturbed.
var stories = map[string]func(*world) error{"local": localStory, "migration": migrationStory}

// work is a worker: the first process in its namespaces, whose root directory is in memory.
func work(story, dir string) int {
	if err := serve(context.Background(), story, dir); err != nil {
		fmt.Fprintf(os.Stderr, "worker: %s\n", err)
		return 1
	}
	return 0
}

func serve(ctx context.Context, story, dir string) error {
	for _, fd := range []int{3, 4} {
		unix.CloseOnExec(fd)
	}
	orders, reports := json.NewDecoder(os.NewFile(3, "orders")), json.NewEncoder(os.NewFile(4, "reports"))
	if err := enter(dir); err != nil {
		return err
	}
	w, err := newWorld(ctx, stories[story])
	if err != nil {
		return err
	}
	defer w.close()
	for {
		var o order
		if err := orders.Decode(&o); errors.Is(err, io.EOF) {
			return nil
		} else if err != nil {
			return err
		}
		if err := reports.Encode(w.try(ctx, o.Fault)); err != nil {
			return err
		}
	}
}

// enter makes the root directory, on a file system in memory, and a network.
func enter(dir string) error {
	at := filepath.Join(dir, "root")
	if err := os.MkdirAll(at, 0o755); err != nil {
		return err
	}
	if err := unix.Mount("", "/", "", unix.MS_REC|unix.MS_PRIVATE, ""); err != nil {
		return err
	}
	if err := unix.Mount("tmpfs", at, "tmpfs", 0, "mode=755"); err != nil {
		return err
	}
	mime, err := os.ReadFile("/etc/nginx/mime.types")
	if err != nil {
		return errors.Join(errors.New("nginx is missing; install the package nginx-light"), err)
	}
	root := sandbox.Root{
		Dir: at, Binds: map[string]string{"lab": dir},
		Dirs: []string{"run/dbus", "root", "var/lib/nginx", "var/log/nginx", "var/cache", "var/tmp", "etc/systemd/system"},
		Files: map[string]string{
			"etc/passwd":           "root:x:0:0:root:/root:/bin/sh\nwww-data:x:33:33:www-data:/var/www:/bin/sh\nmastodon:x:991:991:mastodon:/home/mastodon:/bin/sh\n",
			"etc/group":            "root:x:0:\nwww-data:x:33:\nmastodon:x:991:\n",
			"etc/hosts":            "127.0.0.1 localhost social\n",
			"etc/hostname":         "social\n",
			"etc/nsswitch.conf":    "passwd: files\ngroup: files\nhosts: files\n",
			"etc/resolv.conf":      "",
			"etc/nginx/mime.types": string(mime),
			"etc/nginx/nginx.conf": nginxConf,
		},
	}
	for _, name := range []string{"conf.d", "sites-available", "sites-enabled"} {
		root.Dirs = append(root.Dirs, "etc/nginx/"+name)
	}
	if err := root.Enter(); err != nil {
		return err
	}
	if err := os.Setenv("TMPDIR", "/lab"); err != nil { // what the lab makes stays when a world is made anew
		return err
	}
	return sandbox.StartNetwork()
}

const nginxConf = `user www-data;
worker_processes 1;
pid /run/nginx.pid;
error_log /var/log/nginx/error.log;
events { worker_connections 512; }
http {
    include /etc/nginx/mime.types;
    access_log /var/log/nginx/access.log;
    server_names_hash_bucket_size 128;
    include /etc/nginx/conf.d/*.conf;
    include /etc/nginx/sites-enabled/*;
}
`
