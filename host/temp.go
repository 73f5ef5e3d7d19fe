package host

import (
	"context"
	"crypto/rand"
	"crypto/sha256"
	"encoding/hex"
	"os"
	"strings"
	"sync"

	"github.com/converge-agent/converge/diag"
	"golang.org/x/sys/unix"
)

// tempStart begins all temporary names, and randomLength is how many hexadecimal digits at the end make each unique.
const (
	tempStart    = ".converge-"
	randomLength = 16
)

// tempPrefix begins the temporary names for base: a dot, so that an include of a whole directory (nginx: sites-enabled/*)
// passes over them, and a digest of base, so that those of one path can be told from those of another.
func tempPrefix(base string) string {
	sum := sha256.Sum256([]byte(base))
	return tempStart + hex.EncodeToString(sum[:4]) + "-"
}

// temp is what a commit made under a temporary name.
type temp struct {
	commit *commit
	name   string
	handle *os.File // of a file or directory; it holds the lock that says that its maker lives
}

func (t *temp) close() {
	if t.handle != nil {
		_ = t.handle.Close()
	}
}

// remove takes the temporary name away again, after a failure that is told instead of its own.
func (t *temp) remove() {
	flags := 0
	if t.commit.After.Type == Directory {
		flags = unix.AT_REMOVEDIR
	}
	_ = unix.Unlinkat(t.commit.dir.fd, t.name, flags)
}

// makeTemp makes what is to be, whole and synced, under a temporary name beside the path.
func (c *commit) makeTemp(ctx context.Context) (*temp, error) {
	var random [randomLength / 2]byte
	_, _ = rand.Read(random[:]) // never fails: crypto/rand
	t := &temp{commit: c, name: tempPrefix(c.base) + hex.EncodeToString(random[:])}
	var err error
	switch c.After.Type {
	case Regular:
		err = t.create()
	case Symlink:
		err = unix.Symlinkat(c.After.Target, c.dir.fd, t.name)
	default:
		err = unix.Mkdirat(c.dir.fd, t.name, 0o700)
	}
	if err != nil {
		return nil, err
	}
	switch c.After.Type {
	case Regular:
		err = t.fillFile(ctx)
	case Symlink:
		err = t.fillLink(ctx)
	default:
		err = t.fillDirectory(ctx)
	}
	if err != nil {
		t.remove()
		t.close()
		return nil, err
	}
	return t, nil
}

// create makes an empty file that nobody else can open yet, and locks it.
func (t *temp) create() error {
	fd, err := retry(func() (int, error) {
		return unix.Openat(t.commit.dir.fd, t.name,
			unix.O_WRONLY|unix.O_CREAT|unix.O_EXCL|unix.O_NOFOLLOW|unix.O_CLOEXEC, 0o600)
	})
	if err != nil {
		return err
	}
	t.handle = os.NewFile(uintptr(fd), t.name)
	_ = unix.Flock(fd, unix.LOCK_EX|unix.LOCK_NB) // where the file system has no locks, sweep cannot take one either
	return nil
}

// fillFile gives the file its owner and mode before its content, so that no byte is ever readable for one who must not read
// it. Setuid and setgid come last: a write by one without CAP_FSETID clears them (write(2)).
func (t *temp) fillFile(ctx context.Context) error {
	c := t.commit
	if err := c.step(ctx, "chown"); err != nil {
		return err
	}
	if err := c.keepAttributes(t.handle); err != nil {
		return err
	}
	if err := c.own(t.handle); err != nil {
		return err
	}
	if err := c.step(ctx, "write"); err != nil {
		return err
	}
	if _, err := t.handle.Write(c.After.Content); err != nil {
		return err
	}
	if err := unix.Fchmod(int(t.handle.Fd()), ModeBits(c.After.Mode)); err != nil {
		return err
	}
	if err := c.step(ctx, "sync"); err != nil {
		return err
	}
	return t.handle.Sync()
}

// fillLink gives the link its owner by a handle that is known to be our link: the owner of the directory could have put
// another file under the name.
func (t *temp) fillLink(ctx context.Context) error {
	c := t.commit
	link, err := c.dir.at(t.name)
	if err != nil {
		return err
	}
	defer link.close()
	target, err := link.target()
	if err != nil || target != c.After.Target || link.stat.Uid != uint32(unix.Geteuid()) {
		return replaced(t.name)
	}
	if err := c.step(ctx, "chown"); err != nil {
		return err
	}
	return unix.Fchownat(link.fd, "", c.After.UID, c.After.GID, unix.AT_EMPTY_PATH|unix.AT_SYMLINK_NOFOLLOW)
}

// fillDirectory gives the directory its owner and mode, if it still is the empty one that was just made.
func (t *temp) fillDirectory(ctx context.Context) error {
	c := t.commit
	dir, stat, err := c.dir.openFile(t.name, unix.O_RDONLY|unix.O_DIRECTORY)
	if err != nil {
		return err
	}
	t.handle = dir
	names, err := dir.Readdirnames(-1)
	if err != nil || len(names) > 0 || stat.Uid != uint32(unix.Geteuid()) {
		return replaced(t.name)
	}
	if err := c.step(ctx, "chown"); err != nil {
		return err
	}
	if err := c.own(dir); err != nil {
		return err
	}
	if err := c.step(ctx, "sync"); err != nil {
		return err
	}
	return syncHandle(dir)
}

func replaced(name string) error {
	return diag.New("", "another program replaced the temporary name "+name+" at once",
		"Look who writes in that directory, then run converge apply again.")
}

// sweep removes what a killed run left under the temporary names of the path. Only what is provably a leftover of ours goes:
// of this very path, of our own or the file's user, of a type that we make, in one place only, and not locked by a living
// maker. What cannot be removed is left, for it is in nobody's way.
func (c *commit) sweep() {
	for _, name := range c.files.leftovers.of(c.dir, tempPrefix(c.base)) {
		c.sweepOne(name)
	}
}

// leftovers are the temporary names that stood in each directory when this process first wrote there: those of runs before
// it. A directory is listed once, or many files in one would take quadratic time.
type leftovers struct {
	mu   sync.Mutex
	dirs map[inode]map[string][]string // by directory and by what the names begin with
}

type inode struct{ dev, ino uint64 }

// of returns the names in dir that begin with prefix and have not been returned yet. It returns none of a directory that
// cannot be listed.
func (l *leftovers) of(dir *place, prefix string) []string {
	l.mu.Lock()
	defer l.mu.Unlock()
	key := inode{dir.stat.Dev, dir.stat.Ino}
	known, listed := l.dirs[key]
	if !listed {
		names, err := dir.list(".")
		if err != nil {
			return nil
		}
		known = map[string][]string{}
		for _, name := range names {
			if prefix, ok := temporary(name); ok {
				known[prefix] = append(known[prefix], name)
			}
		}
		if l.dirs == nil {
			l.dirs = map[inode]map[string][]string{}
		}
		l.dirs[key] = known
	}
	found := known[prefix]
	delete(known, prefix)
	return found
}

// temporary returns what a temporary name begins with, and whether name is one.
func temporary(name string) (prefix string, ok bool) {
	length := len(tempPrefix(""))
	if len(name) != length+randomLength || !strings.HasPrefix(name, tempStart) {
		return "", false
	}
	return name[:length], true
}

func (c *commit) sweepOne(name string) {
	it, err := c.dir.at(name)
	if err != nil {
		return
	}
	defer it.close()
	if !c.mayOwn(it.stat.Uid) {
		return
	}
	switch it.stat.Mode & unix.S_IFMT {
	case unix.S_IFLNK:
		_ = unix.Unlinkat(c.dir.fd, name, 0)
	case unix.S_IFDIR: // only when empty
		_ = unix.Unlinkat(c.dir.fd, name, unix.AT_REMOVEDIR)
	case unix.S_IFREG:
		f, stat, err := c.dir.openFile(name, unix.O_RDONLY)
		if err != nil {
			return
		}
		defer func() { _ = f.Close() }()
		abandoned := unix.Flock(int(f.Fd()), unix.LOCK_EX|unix.LOCK_NB) == nil
		if abandoned && it.sameInode(stat) && stat.Nlink == 1 {
			_ = unix.Unlinkat(c.dir.fd, name, 0)
		}
	}
}

// mayOwn reports whether a leftover of a commit to the path can belong to uid: it was made by us, and then given away.
func (c *commit) mayOwn(uid uint32) bool {
	return uid == uint32(unix.Geteuid()) ||
		c.Before != nil && uid == uint32(c.Before.UID) ||
		c.After != nil && uid == uint32(c.After.UID)
}
