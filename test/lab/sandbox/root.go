package sandbox

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"golang.org/x/sys/unix"
)

// Root is a root directory of one's own, with this system's programs in it. It needs a mount namespace, and one of
// processes, that the calling program is alone in.
type Root struct {
	// Dir is an empty directory that becomes the root directory.
	Dir string
	// Dirs are the directories to make in it, and Files what is written there, by paths without the first slash.
	Dirs  []string
	Files map[string]string
	// Binds are directories of this system by where they appear in it; they can be written to.
	Binds map[string]string
}

// Enter makes the root directory and moves the program into it. Of the environment only TERM and NO_COLOR stay.
func (r Root) Enter() error {
	if err := unix.Mount("", "/", "", unix.MS_REC|unix.MS_PRIVATE, ""); err != nil {
		return err
	}
	if err := r.make(); err != nil {
		return fmt.Errorf("make the sandbox's root directory: %w", err)
	}
	if err := r.pivot(); err != nil {
		return fmt.Errorf("enter the sandbox's root directory: %w", err)
	}
	return cleanEnvironment()
}

// systemDirs are those of a merged or unmerged /usr (hier(7)); links among them are made anew.
var systemDirs = []string{"usr", "bin", "sbin", "lib", "lib32", "lib64", "libx32"}

// sharedDirs are the directories of /etc that programs need.
var sharedDirs = []string{"etc/ssl/certs", "etc/alternatives"}

// make makes the root directory: the host's programs, a few of its settings, and for the rest empty directories.
func (r Root) make() error {
	for _, name := range slices.Concat([]string{"proc", "dev", "tmp"}, sharedDirs, r.Dirs) {
		if err := os.MkdirAll(filepath.Join(r.Dir, name), 0o755); err != nil {
			return err
		}
	}
	for _, name := range systemDirs {
		if err := systemDir(r.Dir, name); err != nil {
			return err
		}
	}
	for _, name := range sharedDirs {
		if err := bind("/"+name, filepath.Join(r.Dir, name), true); err != nil {
			return err
		}
	}
	for name, content := range r.Files {
		at := filepath.Join(r.Dir, name)
		if err := os.MkdirAll(filepath.Dir(at), 0o755); err != nil {
			return err
		}
		if err := os.WriteFile(at, []byte(content), 0o644); err != nil {
			return err
		}
	}
	if body, err := os.ReadFile("/etc/ld.so.cache"); err == nil { // a system without a cache of libraries finds them too
		if err := os.WriteFile(filepath.Join(r.Dir, "etc/ld.so.cache"), body, 0o644); err != nil {
			return err
		}
	}
	for to, from := range r.Binds {
		at := filepath.Join(r.Dir, to)
		if err := errors.Join(os.MkdirAll(at, 0o755), bind(from, at, false)); err != nil {
			return err
		}
	}
	return bind("/dev", filepath.Join(r.Dir, "dev"), false)
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

// pivot makes Dir the root directory, and lets the old one go.
func (r Root) pivot() error {
	if err := unix.Mount(r.Dir, r.Dir, "", unix.MS_BIND|unix.MS_REC, ""); err != nil {
		return err
	}
	if err := unix.Mount("proc", filepath.Join(r.Dir, "proc"), "proc", 0, ""); err != nil {
		return err
	}
	if err := os.Chdir(r.Dir); err != nil {
		return err
	}
	if err := unix.PivotRoot(".", "."); err != nil { // pivot_root(2), "pivot_root(".", ".")"
		return err
	}
	if err := unix.Unmount(".", unix.MNT_DETACH); err != nil {
		return err
	}
	return os.Chdir("/")
}

func cleanEnvironment() error {
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

// StartNetwork brings the loopback of a network namespace up (netdevice(7), SIOCSIFFLAGS), and lets every user have ports 80
// and 443 (ip(7), ip_unprivileged_port_start).
func StartNetwork() error {
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
