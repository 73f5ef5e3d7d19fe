package host

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"iter"
	"os"
	"path"
	"runtime"
	"strings"
	"time"

	"github.com/converge-agent/converge/diag"
	"golang.org/x/sys/unix"
)

// Tree is an open directory whose content belongs to somebody less trusted than converge, who may change it at any moment:
// the media of an app, read by root. Everything below is reached from the directory's handle, never through a link, and only
// regular files are opened. Mounts below are entered, for an admin may well have put one there and the tree's owner cannot.
// Its methods may be called from several goroutines.
type Tree struct {
	root *os.File
	path string
}

// Entry is one name in a Tree that is not a directory.
type Entry struct {
	// Key is the path below the tree with slashes between: "accounts/avatars/1.png". That of a skipped entry may be no
	// valid text, so print it with %q; that of a directory ends with a slash.
	Key     string
	Size    int64 // bytes
	ModTime time.Time
	// ChangedAt is the inode's ctime, which no program can set back.
	ChangedAt time.Time
	Inode     uint64
	Dev       uint64
	UID       uint32
	// Skipped says why the entry is not to be read: "a link", "a pipe"; "" for a file that may be.
	Skipped string
	// Special says that a skipped entry is a pipe, socket or device: nothing that holds a file's bytes.
	Special bool
}

// beneath confines a lookup: nothing outside the directory, no link, not even one of /proc (openat2(2), Linux 5.6).
const beneath = unix.RESOLVE_BENEATH | unix.RESOLVE_NO_SYMLINKS | unix.RESOLVE_NO_MAGICLINKS

// OpenTree opens the directory dir, absolute and clean. A link on the way to it is followed only if nobody could have made
// it lead to what is not his own; else the error is ErrUnsafe. Close the tree after use.
func OpenTree(dir string) (*Tree, error) {
	const doing = "open the directory"
	root, err := openPlace(unix.AT_FDCWD, "/")
	if err != nil {
		return nil, SystemError(err, doing, dir)
	}
	w := walk{self: uint32(unix.Geteuid())}
	at, _, err := w.descend(root, "/", dir)
	if err != nil {
		return nil, SystemError(err, doing, dir)
	}
	defer at.close()
	fd, err := openBeneath(at.fd, ".", unix.O_RDONLY|unix.O_DIRECTORY)
	if err != nil {
		return nil, SystemError(err, doing, dir)
	}
	return &Tree{root: os.NewFile(uintptr(fd), dir), path: dir}, nil
}

// Path returns the directory that the tree was opened by.
func (t *Tree) Path() string { return t.path }

// Close gives the handle back. Files that were opened from the tree stay open.
func (t *Tree) Close() error { return t.root.Close() }

// Walk yields the entries of the tree in the order in which S3 lists their keys: by the bytes of the whole key, in UTF-8.
// It holds the names of one directory for each level, no more. What cannot be read is yielded as an error, with the key
// of the directory or file, and the walk goes on: whoever concludes something from the absence of a key must stop at the
// first error. What vanishes while it is walked is left out. The walk ends early, with the error of ctx, when that ends.
func (t *Tree) Walk(ctx context.Context) iter.Seq2[Entry, error] {
	return t.WalkIn(ctx, func(string) bool { return true })
}

// WalkIn is Walk that goes only into the directories that enter accepts, by their key: "cache/".
func (t *Tree) WalkIn(ctx context.Context, enter func(dir string) bool) iter.Seq2[Entry, error] {
	return func(yield func(Entry, error) bool) {
		defer runtime.KeepAlive(t)
		w := treeWalk{ctx: ctx, tree: t, enter: enter, yield: yield}
		w.into(int(t.root.Fd()), ".", "")
	}
}

// Open opens the file of an entry of Walk for reading. The error is ErrMoved when the key no longer stands for the very file
// that was walked, unchanged; it is fs.ErrNotExist too when nothing stands there any more.
func (t *Tree) Open(e Entry) (*os.File, error) {
	const doing = "open the file"
	if e.Skipped != "" {
		return nil, diag.New(fmt.Sprintf("%s %q", doing, path.Join(t.path, e.Key)), "it is "+e.Skipped, "")
	}
	fd, err := t.lookup(e.Key, unix.O_RDONLY|unix.O_NONBLOCK|unix.O_NOCTTY)
	if err != nil {
		return nil, t.failure(err, doing, e.Key)
	}
	if err := checkSame(fd, e); err != nil {
		_ = unix.Close(fd)
		return nil, t.failure(err, doing, e.Key)
	}
	if err := unix.SetNonblock(fd, false); err != nil { // it is a regular file, on which reads never wait for others
		_ = unix.Close(fd)
		return nil, t.failure(err, doing, e.Key)
	}
	return os.NewFile(uintptr(fd), path.Join(t.path, e.Key)), nil
}

// Verify returns nil when the key of e still stands for the file that was walked, with the same size and times: then every
// byte that was read from it in between is of that one file. Else the error is that of Open.
func (t *Tree) Verify(e Entry) error {
	const doing = "look again at the file"
	fd, err := t.lookup(e.Key, unix.O_PATH)
	if err != nil {
		return t.failure(err, doing, e.Key)
	}
	defer func() { _ = unix.Close(fd) }()
	if err := checkSame(fd, e); err != nil {
		return t.failure(err, doing, e.Key)
	}
	return nil
}

// Has reports whether a regular file stands at key, which may come from anywhere: what is no path of a file is none.
func (t *Tree) Has(key string) (bool, error) {
	if !fs.ValidPath(key) || strings.ContainsRune(key, 0) {
		return false, nil
	}
	fd, err := t.lookup(key, unix.O_PATH)
	if err == nil {
		defer func() { _ = unix.Close(fd) }()
		var st unix.Stat_t
		if err = unix.Fstat(fd, &st); err == nil {
			return st.Mode&unix.S_IFMT == unix.S_IFREG, nil
		}
	}
	err = t.failure(err, "look at", key)
	if errors.Is(err, ErrMoved) || errors.Is(err, unix.ENAMETOOLONG) {
		return false, nil
	}
	return false, err
}

func (t *Tree) lookup(key string, flags uint64) (int, error) {
	defer runtime.KeepAlive(t)
	return openBeneath(int(t.root.Fd()), key, flags)
}

// failure words an error at a key. A part of the path that vanished or became something else is a move of the file.
func (t *Tree) failure(err error, doing, key string) error {
	switch {
	case errors.Is(err, unix.ENOENT):
		err = fmt.Errorf("%w: %w", ErrMoved, fs.ErrNotExist)
	case errors.Is(err, unix.ENOTDIR), errors.Is(err, unix.ELOOP), errors.Is(err, unix.EXDEV), errors.Is(err, unix.ENXIO):
		err = fmt.Errorf("%w: %w", ErrMoved, err)
	}
	return SystemError(err, doing, fmt.Sprintf("%q", path.Join(t.path, key)))
}

// checkSame compares the open file fd with what was walked.
func checkSame(fd int, e Entry) error {
	var st unix.Stat_t
	if err := unix.Fstat(fd, &st); err != nil {
		return err
	}
	now := entryOf(e.Key, &st)
	if st.Mode&unix.S_IFMT != unix.S_IFREG || now.Inode != e.Inode || now.Dev != e.Dev || now.Size != e.Size ||
		!now.ModTime.Equal(e.ModTime) || !now.ChangedAt.Equal(e.ChangedAt) {
		return ErrMoved
	}
	return nil
}

func entryOf(key string, st *unix.Stat_t) Entry {
	return Entry{
		Key: key, Size: st.Size, Inode: st.Ino, Dev: st.Dev, UID: st.Uid,
		ModTime: time.Unix(st.Mtim.Unix()), ChangedAt: time.Unix(st.Ctim.Unix()),
	}
}

// openBeneath is openat2 confined to the directory dir.
func openBeneath(dir int, name string, flags uint64) (int, error) {
	how := unix.OpenHow{Flags: flags | unix.O_CLOEXEC, Resolve: beneath}
	for {
		fd, err := retry(func() (int, error) { return unix.Openat2(dir, name, &how) })
		if !errors.Is(err, unix.EAGAIN) { // a rename somewhere on the host raced with the lookup (openat2(2))
			return fd, err
		}
	}
}
