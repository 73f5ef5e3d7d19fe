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

// aptLock is held by whoever installs packages on this host: apt itself does not wait for another apt to end.
const aptLock = "converge-apt.lock"

// minimum are the packages that every machine needs.
var minimum = []string{"systemd", "systemd-sysv", "dbus", "netbase", "ca-certificates", "curl", "procps", "nginx-light"}

// masked are the units that only cost time, or fail, in a machine without a kernel, a terminal or the internet.
var masked = []string{"apt-daily.timer", "apt-daily-upgrade.timer", "dpkg-db-backup.timer", "e2scrub_all.timer",
	"e2scrub_reap.service", "fstrim.timer", "systemd-networkd.service", "systemd-networkd.socket", "systemd-resolved.service",
	"systemd-timesyncd.service", "console-getty.service", "nginx.service"}

// Minimum returns the packages that every base has, whatever else is asked for.
func Minimum() []string { return slices.Clone(minimum) }

// Base returns the root directory of a Debian release with systemd, D-Bus, nginx (masked: whoever tests it unmasks it), curl
// and packages. It is built once with mmdebstrap and kept in dir, or, when that is "", in .cache/machines of the repository.
// Several processes may ask for it at once. Packages come from the mirror that this host's apt uses; since a mirror may fail
// for a moment, a build that failed is tried once more, and the error has what both tries said.
func Base(ctx context.Context, dir, release string, packages ...string) (string, error) {
	if err := Require(ctx); err != nil {
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
	all := slices.Compact(slices.Sorted(slices.Values(append(Minimum(), packages...))))
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
	mirror, err := aptMirror(ctx)
	if err != nil {
		return "", err
	}
	return root, build(ctx, root, release, mirror, all)
}

// build makes the root beside its place and moves it there when it is whole.
func build(ctx context.Context, root, release, mirror string, packages []string) error {
	unfinished := root + ".unfinished"
	first := bootstrap(ctx, unfinished, release, mirror, packages)
	if first != nil {
		if ctx.Err() != nil {
			return errors.Join(first, os.RemoveAll(unfinished))
		}
		if second := bootstrap(ctx, unfinished, release, mirror, packages); second != nil {
			err := fmt.Errorf("build a root of Debian %s: first try: %w; second try: %w", release, first, second)
			return errors.Join(err, os.RemoveAll(unfinished))
		}
	}
	// journald keeps its journal over a power cut only if this directory is there (journald.conf(5), Storage=).
	if err := os.MkdirAll(filepath.Join(unfinished, "var/log/journal"), 0o755); err != nil {
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

// bootstrap fills a new directory with a release and packages.
func bootstrap(ctx context.Context, root, release, mirror string, packages []string) error {
	if err := os.RemoveAll(root); err != nil {
		return err
	}
	args := []string{"--variant=minbase", "--mode=root", "--format=directory", "--include=" + strings.Join(packages, ","),
		"--aptopt=APT::Install-Recommends \"false\"", "--aptopt=Acquire::Retries \"3\""}
	for _, dir := range []string{"doc", "man", "locale", "info"} {
		args = append(args, "--dpkgopt=path-exclude=/usr/share/"+dir+"/*")
	}
	args = append(args, release, root)
	if mirror != "" {
		args = append(args, mirror)
	}
	return runContained(ctx, "mmdebstrap", args...)
}

// aptMirror returns the archive that this host's apt takes Debian's packages from, or "" when it has no list of any.
func aptMirror(ctx context.Context) (string, error) {
	out, err := exec.CommandContext(ctx, "apt-get", "indextargets", "--format", "$(ORIGIN) $(REPO_URI) $(RELEASE)", "Created-By: Packages").Output()
	if err != nil {
		return "", fmt.Errorf("ask apt for its mirror: %w", err)
	}
	for line := range strings.Lines(string(out)) {
		origin, rest, _ := strings.Cut(strings.TrimSpace(line), " ")
		uri, release, _ := strings.Cut(rest, " ")
		if origin == "Debian" && !strings.Contains(release, "security") {
			return uri, nil
		}
	}
	return "", nil
}

// programs are what the package runs, and the Debian packages that bring them.
var programs = map[string]string{"systemd-nspawn": "systemd-container", "mmdebstrap": "mmdebstrap", "ip": "iproute2",
	"nsenter": "util-linux", "unshare": "util-linux", "mount": "mount"}

// Require installs the programs that machines need and that are missing on this host, with apt-get. Start, Base and
// NewNetwork do so themselves.
func Require(ctx context.Context) error {
	if os.Geteuid() != 0 {
		return errors.New("machines need root: run the tests with sudo")
	}
	if len(missingPackages()) == 0 {
		return nil
	}
	unlock, err := lock(ctx, filepath.Join(os.TempDir(), aptLock))
	if err != nil {
		return err
	}
	defer unlock()
	missing := missingPackages() // somebody else may have installed them meanwhile
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

// missingPackages returns the packages of the programs that this host has not.
func missingPackages() []string {
	var missing []string
	for program, pkg := range programs {
		if _, err := exec.LookPath(program); err != nil && !slices.Contains(missing, pkg) {
			missing = append(missing, pkg)
		}
	}
	return missing
}

// runContained is run for what must not go on when this process is killed: it has a process namespace, which ends with it.
func runContained(ctx context.Context, name string, args ...string) error {
	args = append([]string{"--pid", "--mount-proc", "--fork", "--kill-child", name}, args...)
	cmd := exec.Command("unshare", args...)
	cmd.Env = append(os.Environ(), "DEBIAN_FRONTEND=noninteractive")
	var out bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &out
	p, err := startProcess(cmd)
	if err != nil {
		return fmt.Errorf("%s: %w", cmd, err)
	}
	if err := p.wait(ctx); err != nil {
		p.kill()
		<-p.done // when nobody has its output open any more
		return fmt.Errorf("%s: %w", cmd, err)
	}
	if !cmd.ProcessState.Success() {
		return fmt.Errorf("%s: %s: %s", cmd, cmd.ProcessState, tail(out.String(), 2000))
	}
	return nil
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
