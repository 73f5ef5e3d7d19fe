package host

import (
	"errors"
	"io/fs"
	"os"
	"path"
	"slices"
	"syscall"
	"time"

	"github.com/converge-agent/converge/diag"
	"golang.org/x/sys/unix"
)

// systemFiles is the file system of this host. A path is opened component by component by handles of directories, so that
// what was checked is what is read and written.
type systemFiles struct {
	// fail, where a test sets it, is asked before each step of a commit and may make it fail. The steps are those of
	// hosttest.Memory.Fail.
	fail func(step, path string) error

	leftovers leftovers
}

// System returns the files of this host. Links inside a path are followed only when no user but root and converge's own
// could have led them elsewhere than to what is his; ErrUnsafe names the link. The last component is never followed.
func System() Files { return &systemFiles{} }

func (s *systemFiles) Lookup(name string) (*File, error) {
	const doing = "read"
	if err := CheckPath(name); err != nil {
		return nil, err
	}
	dir, base, err := openParent(name)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, SystemError(err, doing, name)
	}
	defer dir.close()
	f, _, err := dir.lookup(base)
	return f, SystemError(err, doing, name)
}

func (s *systemFiles) List(name string) ([]string, error) {
	const doing = "list the directory"
	if err := CheckPath(name); err != nil {
		return nil, err
	}
	dir, base, err := openParent(name)
	if err != nil {
		return nil, SystemError(err, doing, name)
	}
	defer dir.close()
	names, err := dir.list(base)
	return names, SystemError(err, doing, name)
}

// CheckPath refuses a path that is not absolute and clean, with fs.ErrInvalid.
func CheckPath(name string) error {
	if path.IsAbs(name) && path.Clean(name) == name {
		return nil
	}
	return diag.Wrap(fs.ErrInvalid, "find "+name, "Write the path from / on, without . or .. or a slash at the end.")
}

// lookup returns what base in the directory is, and its status; nil and no error where there is nothing.
func (p *place) lookup(base string) (*File, *unix.Stat_t, error) {
	it, err := p.at(base)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil, nil
	}
	if err != nil {
		return nil, nil, err
	}
	defer it.close()
	f := &File{
		Mode:      ModeFromBits(it.stat.Mode),
		UID:       int(it.stat.Uid),
		GID:       int(it.stat.Gid),
		ChangedAt: time.Unix(it.stat.Ctim.Unix()),
	}
	switch it.stat.Mode & unix.S_IFMT {
	case unix.S_IFREG:
		f.Type = Regular
		f.Content, err = p.read(base, &it.stat)
	case unix.S_IFDIR:
		f.Type = Directory
	case unix.S_IFLNK:
		f.Type = Symlink
		f.Target, err = it.target()
	default:
		f.Type = Other
	}
	if err != nil {
		return nil, nil, err
	}
	return f, &it.stat, nil
}

// read returns the content of the regular file base, which was just seen as seen. It is opened without waiting for a writer,
// and read only when it still is that file: somebody may have put a pipe or a device in its place.
func (p *place) read(base string, seen *unix.Stat_t) ([]byte, error) {
	if seen.Size > MaxContent {
		return nil, tooLarge()
	}
	fd, stat, err := p.openFD(base, unix.O_RDONLY)
	if err != nil {
		return nil, err
	}
	defer func() { _ = unix.Close(fd) }()
	if stat.Mode&unix.S_IFMT != unix.S_IFREG || stat.Dev != seen.Dev || stat.Ino != seen.Ino {
		return nil, diag.Wrap(ErrMoved, "", "Run converge plan again.")
	}
	return readAll(fd, int(stat.Size))
}

// readAll returns what is left in the file fd, which is about size bytes. It does without an os.File, which costs more
// system calls than the reading of a small file.
func readAll(fd, size int) ([]byte, error) {
	content := make([]byte, 0, max(size, 63)+1) // one more, so that the read after the last byte needs no more room
	for len(content) <= MaxContent {
		content = slices.Grow(content, 1)
		n, err := retry(func() (int, error) { return unix.Read(fd, content[len(content):cap(content)]) })
		if err != nil {
			return nil, err
		}
		if n == 0 {
			return content, nil
		}
		content = content[:len(content)+n]
	}
	return nil, tooLarge()
}

func tooLarge() error {
	return diag.Wrap(ErrTooLarge, "", "Correct the path: converge manages files of up to 16 MiB.")
}

// openFile opens base in the directory, without following it and without waiting for whatever it is.
func (p *place) openFile(base string, flags int) (*os.File, *unix.Stat_t, error) {
	fd, stat, err := p.openFD(base, flags)
	if err != nil {
		return nil, nil, err
	}
	return os.NewFile(uintptr(fd), base), stat, nil
}

func (p *place) openFD(base string, flags int) (int, *unix.Stat_t, error) {
	fd, err := retry(func() (int, error) {
		return unix.Openat(p.fd, base, flags|unix.O_NOFOLLOW|unix.O_NONBLOCK|unix.O_NOCTTY|unix.O_CLOEXEC, 0)
	})
	if err != nil {
		return -1, nil, err
	}
	var stat unix.Stat_t
	if err := unix.Fstat(fd, &stat); err != nil {
		_ = unix.Close(fd)
		return -1, nil, err
	}
	return fd, &stat, nil
}

// list returns the sorted names in the directory base, which stands in p.
func (p *place) list(base string) ([]string, error) {
	dir, _, err := p.openFile(base, unix.O_RDONLY|unix.O_DIRECTORY)
	if errors.Is(err, syscall.ELOOP) {
		return nil, unix.ENOTDIR // what O_NOFOLLOW says of a link; its own ELOOP speaks of circles
	}
	if err != nil {
		return nil, err
	}
	defer func() { _ = dir.Close() }()
	names, err := dir.Readdirnames(-1)
	slices.Sort(names)
	return names, err
}
