package sandbox

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
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
	root := filepath.Join(dir, "root")
	if err := makeRoot(root, dir, at); err != nil {
		return fmt.Errorf("make the sandbox's root directory: %w", err)
	}
	if err := enterRoot(root); err != nil {
		return fmt.Errorf("enter the sandbox's root directory: %w", err)
	}
	if err := startNetwork(); err != nil {
		return fmt.Errorf("start the sandbox's network: %w", err)
	}
	return nil
}

// systemDirs are those of a merged or unmerged /usr (hier(7)); links among them are made anew.
var systemDirs = []string{"usr", "bin", "sbin", "lib", "lib32", "lib64", "libx32"}

// makeRoot makes a root directory: the host's programs, a few of its settings, and for the rest empty directories.
func makeRoot(root, dir, at string) error {
	for _, name := range []string{"proc", "dev", strings.TrimPrefix(at, "/"), "tmp", "run/dbus", "root", "home", "var/lib/nginx", "var/log/nginx", "var/cache", "var/tmp", "etc/credstore", "etc/ssl/certs", "etc/alternatives", "etc/systemd/system"} {
		if err := os.MkdirAll(filepath.Join(root, name), 0o755); err != nil {
			return err
		}
	}
	if err := os.Symlink("../run", filepath.Join(root, "var/run")); err != nil {
		return err
	}
	for _, name := range systemDirs {
		if err := systemDir(root, name); err != nil {
			return err
		}
	}
	for _, name := range []string{"etc/ssl/certs", "etc/alternatives"} {
		if err := bind("/"+name, filepath.Join(root, name), true); err != nil {
			return err
		}
	}
	for name, content := range etcFiles {
		file := filepath.Join(root, "etc", name)
		if err := os.MkdirAll(filepath.Dir(file), 0o755); err != nil {
			return err
		}
		if err := os.WriteFile(file, []byte(content), 0o644); err != nil {
			return err
		}
	}
	for _, name := range []string{"ld.so.cache", "nginx/mime.types"} {
		if body, err := os.ReadFile("/etc/" + name); err == nil { // a system without a cache of libraries finds them too
			if err := os.WriteFile(filepath.Join(root, "etc", name), body, 0o644); err != nil {
				return err
			}
		}
	}
	return errors.Join(bind("/dev", filepath.Join(root, "dev"), false), bind(dir, filepath.Join(root, at), false))
}

func systemDir(root, name string) error {
	at := filepath.Join(root, name)
	if target, err := os.Readlink("/" + name); err == nil {
		return os.Symlink(strings.TrimPrefix(target, "/"), at)
	}
	if _, err := os.Stat("/" + name); errors.Is(err, os.ErrNotExist) {
		return nil // this architecture has none
	}
	if err := os.Mkdir(at, 0o755); err != nil {
		return err
	}
	return bind("/"+name, at, true)
}

// bind shows from at to, with all that is mounted below.
func bind(from, to string, readOnly bool) error {
	if err := unix.Mount(from, to, "", unix.MS_BIND|unix.MS_REC, ""); err != nil {
		return fmt.Errorf("mount %s: %w", from, err)
	}
	if !readOnly {
		return nil
	}
	var stat unix.Statfs_t
	if err := unix.Statfs(to, &stat); err != nil {
		return err
	}
	// What the host's mount forbids cannot be allowed in a namespace of users (mount_namespaces(7)), so it is named again.
	kept := uintptr(stat.Flags) & (unix.MS_NOSUID | unix.MS_NODEV | unix.MS_NOEXEC | unix.MS_NOATIME | unix.MS_NODIRATIME | unix.MS_RELATIME)
	if err := unix.Mount("", to, "", unix.MS_BIND|unix.MS_REMOUNT|unix.MS_RDONLY|kept, ""); err != nil {
		return fmt.Errorf("mount %s for reading only: %w", from, err)
	}
	return nil
}

// etcFiles are the settings of the sandbox. There is one user, whatever his name: the one who started it.
var etcFiles = map[string]string{
	"passwd":        "root:x:0:0:root:/root:/bin/sh\nwww-data:x:0:0:www-data:/var/www:/bin/sh\nmastodon:x:0:0:mastodon:/home/mastodon:/bin/sh\n",
	"group":         "root:x:0:\nwww-data:x:0:\nmastodon:x:0:\n",
	"hosts":         "127.0.0.1 localhost social\n",
	"hostname":      "social\n",
	"nsswitch.conf": "passwd: files\ngroup: files\nhosts: files\n",
	"resolv.conf":   "",
	"nginx/nginx.conf": `user www-data;
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
	"nginx/conf.d/.keep":          "",
	"nginx/sites-available/.keep": "",
	"nginx/sites-enabled/.keep":   "",
}

// enterRoot makes root the root directory, and lets the old one go.
func enterRoot(root string) error {
	if err := unix.Mount("", "/", "", unix.MS_REC|unix.MS_PRIVATE, ""); err != nil {
		return err
	}
	if err := unix.Mount(root, root, "", unix.MS_BIND|unix.MS_REC, ""); err != nil {
		return err
	}
	if err := unix.Mount("proc", filepath.Join(root, "proc"), "proc", 0, ""); err != nil {
		return err
	}
	if err := os.Chdir(root); err != nil {
		return err
	}
	if err := unix.PivotRoot(".", "."); err != nil { // pivot_root(2), "pivot_root(".", ".")"
		return err
	}
	if err := unix.Unmount(".", unix.MNT_DETACH); err != nil {
		return err
	}
	if err := os.Chdir("/"); err != nil {
		return err
	}
	env := slices.DeleteFunc(os.Environ(), func(v string) bool { return !strings.HasPrefix(v, "TERM=") && !strings.HasPrefix(v, "NO_COLOR=") })
	os.Clearenv()
	for _, v := range append(env, "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin", "HOME=/root", "TMPDIR=/tmp") {
		name, value, _ := strings.Cut(v, "=")
		if err := os.Setenv(name, value); err != nil {
			return err
		}
	}
	return nil
}

// startNetwork brings the loopback up (netdevice(7), SIOCSIFFLAGS), and lets every user have ports 80 and 443 (ip(7),
// ip_unprivileged_port_start).
func startNetwork() error {
	if err := os.WriteFile("/proc/sys/net/ipv4/ip_unprivileged_port_start", []byte("0"), 0o600); err != nil {
		return err
	}
	fd, err := unix.Socket(unix.AF_INET, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return err
	}
	defer func() { _ = unix.Close(fd) }()
	request, err := unix.NewIfreq("lo")
	if err != nil {
		return err
	}
	request.SetUint16(unix.IFF_UP | unix.IFF_RUNNING)
	return unix.IoctlIfreq(fd, unix.SIOCSIFFLAGS, request)
}
