package host

import (
	"os"

	"golang.org/x/sys/unix"
)

// OpenOutput opens the file at the absolute, clean path for writing, and makes it for its owner alone where nothing stands.
// A link at its end is ELOOP; one on the way is followed as by Commit, and ErrUnsafe where somebody less trusted could have
// made it. What is opened may be of any type and owner: the caller looks.
func OpenOutput(path string) (*os.File, error) {
	dir, base, err := openParent(path)
	if err != nil {
		return nil, err
	}
	defer dir.close()
	fd, err := retry(func() (int, error) {
		return unix.Openat(dir.fd, base, unix.O_WRONLY|unix.O_CREAT|unix.O_NOFOLLOW|unix.O_NONBLOCK|unix.O_CLOEXEC, 0o600)
	})
	if err != nil {
		return nil, err
	}
	return os.NewFile(uintptr(fd), path), nil
}
