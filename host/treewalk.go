package host

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path"
	"slices"
	"strings"
	"unicode"
	"unicode/utf8"

	"golang.org/x/sys/unix"
)

const (
	// maxKey is the length in bytes of the longest key (Amazon S3 User Guide, "Naming Amazon S3 objects").
	maxKey = 1024
	// maxNames bounds the memory for one directory. The app's own ones have a thousand names or fewer.
	maxNames = 1 << 20
)

// treeWalk is one walk through a Tree.
type treeWalk struct {
	ctx   context.Context
	tree  *Tree
	enter func(string) bool
	yield func(Entry, error) bool
}

// treeName is one name in a directory.
type treeName struct {
	entry Entry // its key, with a slash at the end for a directory
	base  string
	dir   bool
}

// into walks the directory base in the directory at, whose key is prefix. It reports whether the walk is to go on.
func (w *treeWalk) into(at int, base, prefix string) bool {
	if err := w.ctx.Err(); err != nil {
		w.yield(Entry{Key: prefix}, err)
		return false
	}
	fd, err := openBeneath(at, base, unix.O_RDONLY|unix.O_DIRECTORY)
	if errors.Is(err, unix.ENOENT) && prefix != "" {
		return true
	}
	if err != nil {
		return w.fail(err, prefix)
	}
	dir := os.NewFile(uintptr(fd), prefix)
	defer func() { _ = dir.Close() }()

	names, goOn := w.read(dir, fd, prefix)
	for i := range names {
		if !goOn {
			break
		}
		n := &names[i]
		switch {
		case !n.dir || n.entry.Skipped != "":
			goOn = w.yield(n.entry, nil)
		case w.enter(n.entry.Key):
			goOn = w.into(fd, n.base, n.entry.Key)
		}
	}
	return goOn
}

// read returns the names in the open directory dir, sorted by their keys, and whether the walk is to go on.
func (w *treeWalk) read(dir *os.File, fd int, prefix string) (names []treeName, goOn bool) {
	var st unix.Stat_t
	if err := unix.Fstat(fd, &st); err != nil {
		return nil, w.fail(err, prefix)
	}
	bases, err := readNames(dir)
	goOn = err == nil || w.fail(err, prefix)
	names = make([]treeName, 0, len(bases))
	for _, base := range bases {
		n, err := look(fd, &st, prefix, base)
		switch {
		case errors.Is(err, unix.ENOENT):
		case err != nil:
			goOn = goOn && w.fail(err, prefix+base)
		default:
			names = append(names, n)
		}
	}
	slices.SortFunc(names, func(a, b treeName) int { return strings.Compare(a.entry.Key, b.entry.Key) })
	return names, goOn
}

// readNames returns the names in dir in no order, and with an error those that came before it.
func readNames(dir *os.File) ([]string, error) {
	var bases []string
	for {
		some, err := dir.Readdirnames(4096)
		bases = append(bases, some...)
		switch {
		case errors.Is(err, io.EOF):
			return bases, nil
		case err != nil:
			return bases, err
		case len(bases) > maxNames:
			return nil, fmt.Errorf("it holds more than %d names", maxNames)
		}
	}
}

// fail yields err as one of the entry at key.
func (w *treeWalk) fail(err error, key string) bool {
	return w.yield(Entry{Key: key}, SystemError(err, "read", fmt.Sprintf("%q", path.Join(w.tree.path, key))))
}

// look says what the name base is that stands in the directory fd, whose own state is dir.
func look(fd int, dir *unix.Stat_t, prefix, base string) (treeName, error) {
	var st unix.Stat_t
	_, err := retry(func() (struct{}, error) {
		return struct{}{}, unix.Fstatat(fd, base, &st, unix.AT_SYMLINK_NOFOLLOW|unix.AT_NO_AUTOMOUNT)
	})
	if err != nil {
		return treeName{}, err
	}
	n := treeName{base: base, dir: st.Mode&unix.S_IFMT == unix.S_IFDIR, entry: entryOf(prefix+base, &st)}
	if n.dir {
		n.entry.Key += "/"
	}
	n.entry.Skipped = whyNoKey(n.entry.Key, base)
	if n.entry.Skipped == "" && !n.dir {
		n.entry.Skipped = whyNotRead(dir, &st)
	}
	switch st.Mode & unix.S_IFMT {
	case unix.S_IFREG, unix.S_IFDIR, unix.S_IFLNK:
	default:
		n.entry.Special = true
	}
	return n, nil
}

// whyNoKey says why a file of that name cannot become an object; "" when it can. A key is at most 1,024 bytes of UTF-8, and
// characters that XML 1.0 has no form for cannot be listed (Amazon S3 User Guide, "Naming Amazon S3 objects").
func whyNoKey(key, base string) string {
	switch {
	case base == "" || base == "." || base == ".." || strings.Contains(base, "/"):
		return "a name that no file can have" // the kernel hands none out; a broken file system may
	case !utf8.ValidString(base):
		return "a name that is not UTF-8"
	case strings.ContainsFunc(base, func(r rune) bool { return unicode.IsControl(r) || r == 0xFFFE || r == 0xFFFF }):
		return "a name with control characters"
	case len(key) > maxKey:
		return fmt.Sprintf("a path of more than %d bytes", maxKey)
	}
	return ""
}

// whyNotRead says why what stands at st in the directory dir is not to be read; "" when it may be.
//
// Whoever can write to a directory can put a hard link to another user's file there, where fs.protected_hardlinks is off
// (proc_sys_fs(5)), and the file keeps its one link when its own name goes. So a file that does not belong to the owner of
// its directory is read only when it has one name and everybody may read it.
func whyNotRead(dir, st *unix.Stat_t) string {
	switch st.Mode & unix.S_IFMT {
	case unix.S_IFREG:
	case unix.S_IFLNK:
		return "a link"
	case unix.S_IFIFO:
		return "a pipe"
	case unix.S_IFSOCK:
		return "a socket"
	default:
		return "a device"
	}
	foreign := st.Uid != dir.Uid || dir.Mode&unix.S_IWOTH != 0 || dir.Uid == 0 && dir.Mode&unix.S_IWGRP != 0
	switch {
	case foreign && st.Nlink > 1:
		return fmt.Sprintf("a second name of a file of %s", userName(st.Uid))
	case foreign && st.Mode&unix.S_IROTH == 0:
		return fmt.Sprintf("a file of %s that is not for everybody to read", userName(st.Uid))
	}
	return ""
}
