package host

import (
	"errors"
	"fmt"
	"io"
	"os"

	"golang.org/x/sys/unix"
)

// Log is a file that only grows. What Append has returned for is on the disk, with all that was added before it, and what
// fails leaves what was there.
// While it is open it is locked, so that readers can tell a log that is being written from one whose writer was killed.
type Log struct {
	file *os.File
	path string
	size int64
	lost error // why nothing can be appended any more
}

// CreateLog makes the log at path, which must not exist, and makes its name durable. Only its owner can read it.
func CreateLog(path string) (*Log, error) {
	const doing = "write"
	if err := CheckPath(path); err != nil {
		return nil, err
	}
	dir, base, err := openParent(path)
	if err != nil {
		return nil, SystemError(err, doing, path)
	}
	defer dir.close()
	f, _, err := dir.openFile(".", unix.O_RDONLY|unix.O_DIRECTORY)
	if err != nil {
		return nil, SystemError(err, doing, path)
	}
	defer func() { _ = f.Close() }()
	fd, err := retry(func() (int, error) {
		return unix.Openat(dir.fd, base, unix.O_WRONLY|unix.O_APPEND|unix.O_CREAT|unix.O_EXCL|unix.O_NOFOLLOW|unix.O_CLOEXEC, 0o600)
	})
	if err != nil {
		return nil, SystemError(err, doing, path)
	}
	l := &Log{file: os.NewFile(uintptr(fd), path), path: path}
	_ = unix.Flock(fd, unix.LOCK_EX|unix.LOCK_NB) // where there are no locks, a log that is being written reads as left behind
	if err := syncHandle(f); err != nil {
		l.Close()
		return nil, SystemError(err, doing, path)
	}
	return l, nil
}

// Append adds text, and returns once it is on the disk (fdatasync). After a failed sync nothing tells what is on the disk
// (fsync(2), "Errors"), so nothing is added any more.
func (l *Log) Append(text []byte) error {
	if err := l.Add(text); err != nil {
		return err
	}
	if _, err := retry(func() (struct{}, error) { return struct{}{}, unix.Fdatasync(int(l.file.Fd())) }); err != nil {
		l.lost = err
		return SystemError(err, "write", l.path)
	}
	return nil
}

// Add adds text, which is on the disk once a later Append has returned: a power loss before that may take it. Where it could
// not be written whole, the log ends where it ended before.
func (l *Log) Add(text []byte) error {
	if l.lost != nil {
		return SystemError(l.lost, "write", l.path)
	}
	if _, err := l.file.Write(text); err != nil {
		if l.lost = l.file.Truncate(l.size); l.lost != nil {
			l.lost = fmt.Errorf("%w, and its end could not be cut off: %w", err, l.lost)
		}
		return SystemError(err, "write", l.path)
	}
	l.size += int64(len(text))
	return nil
}

// Close ends the writing. A log that nothing was ever added to is removed.
func (l *Log) Close() {
	if l.size == 0 {
		_ = os.Remove(l.path)
	}
	_ = l.file.Close()
}

// ReadLog returns what the log at path holds, and whether it is being written.
func ReadLog(path string) (text []byte, open bool, err error) {
	fd, err := retry(func() (int, error) {
		return unix.Open(path, unix.O_RDONLY|unix.O_NOFOLLOW|unix.O_NONBLOCK|unix.O_CLOEXEC, 0)
	})
	if err != nil {
		return nil, false, SystemError(err, "read", path)
	}
	f := os.NewFile(uintptr(fd), path)
	defer func() { _ = f.Close() }()
	open = errors.Is(unix.Flock(fd, unix.LOCK_SH|unix.LOCK_NB), unix.EWOULDBLOCK)
	text, err = io.ReadAll(f)
	return text, open, SystemError(err, "read", path)
}
