package host

import (
	"errors"
	"fmt"
	"os/user"
	"path"
	"strconv"
	"strings"

	"github.com/converge-agent/converge/diag"
	"golang.org/x/sys/unix"
)

// maxLinks is how many links one path may lead through, as in the kernel (path_resolution(7)).
const maxLinks = 40

// place is a directory held open by a handle of its own (O_PATH), and what fstat says of it. Nothing that somebody renames
// or links afterwards can put another directory in its stead.
type place struct {
	fd   int
	stat unix.Stat_t
}

func (p *place) close() { _ = unix.Close(p.fd) }

// at opens name in the directory without following it and without opening what it is: not even a device notices.
func (p *place) at(name string) (*place, error) {
	return openPlace(p.fd, name)
}

func openPlace(dir int, name string) (*place, error) {
	fd, err := retry(func() (int, error) {
		return unix.Openat(dir, name, unix.O_PATH|unix.O_NOFOLLOW|unix.O_CLOEXEC, 0)
	})
	if err != nil {
		return nil, err
	}
	p := &place{fd: fd}
	if err := unix.Fstat(fd, &p.stat); err != nil {
		p.close()
		return nil, err
	}
	return p, nil
}

func (p *place) is(format uint32) bool { return p.stat.Mode&unix.S_IFMT == format }

// sameInode reports whether p and q are one file.
func (p *place) sameInode(q *unix.Stat_t) bool { return p.stat.Dev == q.Dev && p.stat.Ino == q.Ino }

// target returns the text of the link p.
func (p *place) target() (string, error) {
	buf := make([]byte, unix.PathMax)
	n, err := unix.Readlinkat(p.fd, "", buf)
	if err != nil {
		return "", err
	}
	return string(buf[:n]), nil
}

// walk is one resolution of a path, component by component.
type walk struct {
	self  uint32 // the effective user
	links int    // followed so far
}

// anybody is the owner that a walk is confined to as long as it followed only links that are trusted.
const anybody = -1

// openParent opens the directory that the last component of the absolute, clean name stands in. Its errors are bare errnos,
// and *diag.Error for ErrUnsafe.
func openParent(name string) (dir *place, base string, err error) {
	if dir, base := openPlain(name); dir != nil {
		return dir, base, nil
	}
	w := walk{self: uint32(unix.Geteuid())}
	root, err := openPlace(unix.AT_FDCWD, "/")
	if err != nil {
		return nil, "", err
	}
	if name == "/" {
		return root, ".", nil
	}
	parent, base := path.Split(name)
	dir, _, err = w.descend(root, "/", parent)
	return dir, base, err
}

// openPlain is openParent in one system call, for a path with no link on it; nil where there is one, or whatever else is
// wrong: walking it component by component tells what. Where no link is followed, a walk has nothing to refuse.
func openPlain(name string) (dir *place, base string) {
	parent, base := path.Split(name)
	fd, err := retry(func() (int, error) {
		return unix.Openat2(unix.AT_FDCWD, parent, &unix.OpenHow{
			Flags: unix.O_PATH | unix.O_DIRECTORY | unix.O_CLOEXEC, Resolve: unix.RESOLVE_NO_SYMLINKS,
		})
	})
	if err != nil {
		return nil, ""
	}
	dir = &place{fd: fd}
	if base == "" || unix.Fstat(fd, &dir.stat) != nil {
		dir.close()
		return nil, ""
	}
	return dir, base
}

// descend follows the components of rel from the directory at, whose name for messages is shown, and closes at. It returns
// the directory reached and the one user that everything below must belong to (anybody: no such limit).
//
// A link is followed when it and the directory that it stands in are root's or our own: then nobody else chose where it
// leads. Any other link is followed only to a directory of the same owner, and nothing below it may be another's: so its
// owner cannot lead us to what is not his. This is the rule of CHASE_SAFE in systemd's src/basic/chase.h (v257), which
// also lets an owner lead only to what is his own.
func (w *walk) descend(at *place, shown, rel string) (*place, int, error) {
	confined := anybody
	for name := range strings.SplitSeq(rel, "/") {
		if name == "" || name == "." {
			continue
		}
		next, err := at.at(name)
		if err != nil {
			at.close()
			return nil, anybody, err
		}
		child := path.Join(shown, name)
		limit := anybody
		if next.is(unix.S_IFLNK) {
			next, limit, err = w.follow(at, next, shown, child)
		}
		at.close()
		switch {
		case err != nil:
		case !next.is(unix.S_IFDIR):
			err = unix.ENOTDIR
		case confined == anybody:
			confined = limit
		case next.stat.Uid != uint32(confined):
			err = unsafeOwner(child, confined, next)
		}
		if err != nil {
			if next != nil {
				next.close()
			}
			return nil, anybody, err
		}
		at, shown = next, child
	}
	return at, confined, nil
}

// follow opens the directory that link, which stands in the directory at, leads to, and closes link. At is left open.
func (w *walk) follow(at, link *place, shown, linkName string) (*place, int, error) {
	defer link.close()
	w.links++
	if w.links > maxLinks {
		return nil, anybody, unix.ELOOP
	}
	target, err := link.target()
	if err != nil {
		return nil, anybody, err
	}
	start, from := "/", "/"
	dirfd := unix.AT_FDCWD
	if !path.IsAbs(target) {
		start, from, dirfd = ".", shown, at.fd
	}
	first, err := openPlace(dirfd, start)
	if err != nil {
		return nil, anybody, err
	}
	to, confined, err := w.descend(first, from, target)
	if err != nil || w.trusts(at, link) {
		return to, confined, err
	}
	if link.stat.Uid != at.stat.Uid || link.stat.Uid != to.stat.Uid {
		to.close()
		return nil, anybody, unsafeLink(linkName, target, link, at)
	}
	return to, int(link.stat.Uid), nil
}

// trusts reports whether nobody but root and ourselves can have put link into the directory dir.
func (w *walk) trusts(dir, link *place) bool {
	ours := func(p *place) bool { return p.stat.Uid == 0 || p.stat.Uid == w.self }
	open := dir.stat.Mode&unix.S_IWOTH != 0 && dir.stat.Mode&unix.S_ISVTX == 0
	return ours(dir) && ours(link) && !open
}

func unsafeLink(name, target string, link, dir *place) error {
	err := fmt.Errorf("%w: %s (to %s) belongs to %s, in a directory of %s", ErrUnsafe, name, target,
		userName(link.stat.Uid), userName(dir.stat.Uid))
	return diag.Wrap(err, "", fmt.Sprintf("Write the path that is really meant in the place of %s, or let root own the link and its directory.", name))
}

func unsafeOwner(name string, confined int, p *place) error {
	err := fmt.Errorf("%w: that user is %s, and %s, where it leads, belongs to %s", ErrUnsafe,
		userName(uint32(confined)), name, userName(p.stat.Uid))
	return diag.Wrap(err, "", fmt.Sprintf("Write the path without the link of %s.", userName(uint32(confined))))
}

// userName is the name of a user for messages, or its number where it has none.
func userName(uid uint32) string {
	id := strconv.FormatUint(uint64(uid), 10)
	if u, err := user.LookupId(id); err == nil {
		return u.Username
	}
	return "user " + id
}

// retry repeats a system call that a signal interrupted. The Go runtime preempts goroutines by signals, and a slow file
// system (FUSE, NFS) then returns EINTR (signal(7)).
func retry[T any](call func() (T, error)) (T, error) {
	for {
		v, err := call()
		if !errors.Is(err, unix.EINTR) {
			return v, err
		}
	}
}
