package sandbox

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"

	"golang.org/x/sys/unix"
)

// Enclosed returns the command that runs this program anew inside namespaces of its own, where one is root, and the only
// network is the loopback, which is down: a namespace of users can only be entered by a program that has one thread. The
// program then calls Enter. It is killed when the thread that started it ends.
func Enclosed(ctx context.Context, args ...string) (*exec.Cmd, error) {
	self, err := os.Executable()
	if err != nil {
		return nil, err
	}
	cmd := exec.CommandContext(ctx, self, args...)
	cmd.Stdin, cmd.Stdout, cmd.Stderr = os.Stdin, os.Stdout, os.Stderr
	cmd.Cancel = func() error { return cmd.Process.Signal(syscall.SIGTERM) }
	cmd.SysProcAttr = &syscall.SysProcAttr{
		Cloneflags:  unix.CLONE_NEWUSER | unix.CLONE_NEWNS | unix.CLONE_NEWNET | unix.CLONE_NEWPID | unix.CLONE_NEWUTS | unix.CLONE_NEWIPC,
		UidMappings: []syscall.SysProcIDMap{{ContainerID: 0, HostID: os.Getuid(), Size: 1}},
		GidMappings: []syscall.SysProcIDMap{{ContainerID: 0, HostID: os.Getgid(), Size: 1}},
		Pdeathsig:   syscall.SIGKILL,
	}
	return cmd, nil
}

// Refused says what to do where Enclosed's command could not be started.
const Refused = "the kernel must let users make namespaces (sysctl kernel.unprivileged_userns_clone, user_namespaces(7))"

// Enter gives an enclosed program a host of its own: a root directory with this system's programs, a few settings, and for
// the rest empty directories, made in dir, which itself is seen at the path at; and a loopback whose ports everybody may have.
func Enter(dir, at string) error {
	root := Root{
		Dir: filepath.Join(dir, "root"), Files: maps.Clone(etcFiles), Binds: map[string]string{strings.TrimPrefix(at, "/"): dir},
		Dirs: []string{"run/dbus", "root", "home", "var/lib/nginx", "var/log/nginx", "var/cache", "var/tmp", "etc/credstore", "etc/systemd/system"},
	}
	if err := errors.Join(os.MkdirAll(filepath.Join(root.Dir, "var"), 0o755), os.Symlink("../run", filepath.Join(root.Dir, "var/run"))); err != nil {
		return err
	}
	if body, err := os.ReadFile("/etc/nginx/mime.types"); err == nil { // a nginx that is missing is told of later
		root.Files["etc/nginx/mime.types"] = string(body)
	}
	if err := root.Enter(); err != nil {
		return err
	}
	if err := StartNetwork(); err != nil {
		return fmt.Errorf("start the sandbox's network: %w", err)
	}
	return nil
}

// etcFiles are the settings of the sandbox. There is one user, whatever his name: the one who started it.
var etcFiles = map[string]string{
	"etc/passwd":        "root:x:0:0:root:/root:/bin/sh\nwww-data:x:0:0:www-data:/var/www:/bin/sh\nmastodon:x:0:0:mastodon:/home/mastodon:/bin/sh\n",
	"etc/group":         "root:x:0:\nwww-data:x:0:\nmastodon:x:0:\n",
	"etc/hosts":         "127.0.0.1 localhost social\n",
	"etc/hostname":      "social\n",
	"etc/nsswitch.conf": "passwd: files\ngroup: files\nhosts: files\n",
	"etc/resolv.conf":   "",
	"etc/nginx/nginx.conf": `user www-data;
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
`,
	"etc/nginx/conf.d/.keep":          "",
	"etc/nginx/sites-available/.keep": "",
	"etc/nginx/sites-enabled/.keep":   "",
}
