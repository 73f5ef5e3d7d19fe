package machine

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
)

// recipe is part of every base's name: raising it has all of them built anew.
const recipe = "1"

// minimum are the packages that every machine needs.
var minimum = []string{"systemd", "systemd-sysv", "dbus", "netbase", "ca-certificates", "curl", "procps", "nginx-light"}

// masked are the units that only cost time, or fail, in a machine without a kernel, a terminal or the internet.
var masked = []string{"apt-daily.timer", "apt-daily-upgrade.timer", "dpkg-db-backup.timer", "e2scrub_all.timer",
	"e2scrub_reap.service", "fstrim.timer", "systemd-networkd.service", "systemd-networkd.socket", "systemd-resolved.service",
	"systemd-timesyncd.service", "console-getty.service", "nginx.service"}

// Base returns the root directory of a Debian release with systemd, D-Bus, nginx (masked: whoever tests it unmasks it), curl
// and packages. It is built once with mmdebstrap and kept in dir, or, when that is "", in .cache/machines of the repository.
// Several processes may ask for it at once. Packages come from the mirror that this host's apt uses.
func Base(ctx context.Context, dir, release string, packages ...string) (string, error) {
	if err := requirePrograms(ctx); err != nil {
		return "", err
	}
	if dir == "" {
		repo, err := repository()
		if err != nil {
			return "", err
		}
		dir = filepath.Join(repo, ".cache", "machines")
	}
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return "", err
	}
	all := slices.Sorted(slices.Values(append(slices.Clone(minimum), packages...)))
	sum := sha256.Sum256([]byte(strings.Join(append(all, recipe), "\n")))
	root := filepath.Join(dir, release+"-"+hex.EncodeToString(sum[:6]))
	unlock, err := lock(ctx, root+".lock")
	if err != nil {
		return "", err
	}
	defer unlock()
	if _, err := os.Stat(root); err == nil {
		return root, nil
	}
	return root, build(ctx, root, release, all)
}

// build makes the root beside its place and moves it there when it is whole.
func build(ctx context.Context, root, release string, packages []string) error {
	unfinished := root + ".unfinished"
	if err := os.RemoveAll(unfinished); err != nil {
		return err
	}
	args := []string{"--variant=minbase", "--mode=root", "--format=directory", "--include=" + strings.Join(packages, ","),
		"--aptopt=APT::Install-Recommends \"false\""}
	for _, dir := range []string{"doc", "man", "locale", "info"} {
		args = append(args, "--dpkgopt=path-exclude=/usr/share/"+dir+"/*")
	}
	args = append(args, release, unfinished)
	if mirror, err := aptMirror(ctx); err != nil {
		return err
	} else if mirror != "" {
		args = append(args, mirror)
	}
	if err := run(ctx, "mmdebstrap", args...); err != nil {
		return err
	}
	for _, unit := range masked {
		link := filepath.Join(unfinished, "etc/systemd/system", unit)
		if err := os.Symlink("/dev/null", link); err != nil {
			return err
		}
	}
	return os.Rename(unfinished, root)
}

// aptMirror returns the archive that this host's apt takes its packages from, or "" when it has no list of any.
func aptMirror(ctx context.Context) (string, error) {
	out, err := exec.CommandContext(ctx, "apt-get", "indextargets", "--format", "$(REPO_URI) $(RELEASE)", "Created-By: Packages").Output()
	if err != nil {
		return "", fmt.Errorf("ask apt for its mirror: %w", err)
	}
	for line := range strings.Lines(string(out)) {
		uri, release, _ := strings.Cut(strings.TrimSpace(line), " ")
		if uri != "" && !strings.Contains(release, "security") {
			return uri, nil
		}
	}
	return "", nil
}

// programs are what the package runs, and the Debian packages that bring them.
var programs = map[string]string{"systemd-nspawn": "systemd-container", "mmdebstrap": "mmdebstrap", "ip": "iproute2",
	"nsenter": "util-linux", "unshare": "util-linux", "mount": "mount"}

// requirePrograms installs the programs that are missing, with apt-get.
func requirePrograms(ctx context.Context) error {
	if os.Geteuid() != 0 {
		return errors.New("machines need root: run the tests with sudo")
	}
	var missing []string
	for program, pkg := range programs {
		if _, err := exec.LookPath(program); err != nil && !slices.Contains(missing, pkg) {
			missing = append(missing, pkg)
		}
	}
	if len(missing) == 0 {
		return nil
	}
	if _, err := exec.LookPath("apt-get"); err != nil {
		return fmt.Errorf("machines need these Debian packages, or what your system calls them: %s", strings.Join(missing, " "))
	}
	install := append([]string{"install", "--yes", "--quiet", "--no-install-recommends"}, missing...)
	if err := run(ctx, "apt-get", install...); err == nil {
		return nil
	}
	if err := run(ctx, "apt-get", "update", "--quiet"); err != nil {
		return err
	}
	return run(ctx, "apt-get", install...)
}

// run runs a program of this host, whose output is part of the error when it fails.
func run(ctx context.Context, name string, args ...string) error {
	cmd := exec.CommandContext(ctx, name, args...)
	cmd.Env = append(os.Environ(), "DEBIAN_FRONTEND=noninteractive")
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	cmd.Cancel = func() error { return syscall.Kill(-cmd.Process.Pid, syscall.SIGKILL) }
	var out bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &out
	if err := cmd.Run(); err != nil {
		return fmt.Errorf("%s: %w: %s", cmd, err, tail(out.String(), 2000))
	}
	return nil
}

// tail returns the last n bytes of s.
func tail(s string, n int) string { return s[max(0, len(s)-n):] }

// lock takes the lock file at path, waiting for whoever holds it.
func lock(ctx context.Context, path string) (unlock func(), err error) {
	f, err := os.OpenFile(path, os.O_CREATE|os.O_RDWR, 0o644)
	if err != nil {
		return nil, err
	}
	for {
		err := syscall.Flock(int(f.Fd()), syscall.LOCK_EX|syscall.LOCK_NB)
		if err == nil {
			return func() { _ = f.Close() }, nil
		}
		if !errors.Is(err, syscall.EWOULDBLOCK) {
			return nil, errors.Join(fmt.Errorf("lock %s: %w", path, err), f.Close())
		}
		if err := pause(ctx, 200); err != nil {
			return nil, errors.Join(err, f.Close())
		}
	}
}

// repository returns the directory above that of the module that the tests run in.
func repository() (string, error) {
	dir, err := os.Getwd()
	if err != nil {
		return "", err
	}
	for ; dir != "/"; dir = filepath.Dir(dir) {
		if _, err := os.Stat(filepath.Join(dir, "go.mod")); err == nil {
			return filepath.Dir(dir), nil
		}
	}
	return "", errors.New("the tests do not run inside a Go module, so a directory for base roots must be given")
}
