package host

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"time"

	"github.com/converge-agent/converge/diag"
	"golang.org/x/sys/unix"
)

// ErrLocked is the failure to get a lock in time.
var ErrLocked = errors.New("another run of converge holds it")

// Holder is who holds a lock, as the lock file tells it.
type Holder struct {
	Who   string    `json:"who"` // what the holder does, and for whom: "apply (root)"
	PID   int       `json:"pid"`
	Since time.Time `json:"since"`
}

// Lock is a held lock. It goes with the process, however that ends.
type Lock struct{ file *os.File }

// lockPoll is how often a busy lock is tried again. flock(2) could wait by itself, but not for a limited time.
const lockPoll = 200 * time.Millisecond

// AcquireLock takes the lock of the file at path, and writes into it who holds it and since when. While it is busy it waits,
// for up to wait; then the error is ErrLocked and quotes the holder. The file is only readable for its owner, because
// everybody who can open it could take the lock and keep it; it stays when the lock is released.
func AcquireLock(ctx context.Context, path, who string, wait time.Duration) (*Lock, error) {
	doing := "take the lock " + path
	f, err := openLock(path)
	if err != nil {
		return nil, SystemError(err, "take the lock", path)
	}
	deadline := time.Now().Add(wait)
	for {
		_, err := retry(func() (struct{}, error) {
			return struct{}{}, unix.Flock(int(f.Fd()), unix.LOCK_EX|unix.LOCK_NB)
		})
		if err == nil {
			break
		}
		left := time.Until(deadline)
		if errors.Is(err, unix.EWOULDBLOCK) && left <= 0 {
			err = busy(f, doing)
		} else if errors.Is(err, unix.EWOULDBLOCK) {
			err = pause(ctx, min(left, lockPoll))
		}
		if err != nil {
			_ = f.Close()
			return nil, SystemError(err, "take the lock", path)
		}
	}
	if err := writeHolder(f, Holder{Who: who, PID: os.Getpid(), Since: time.Now().UTC().Truncate(time.Second)}); err != nil {
		_ = f.Close()
		return nil, SystemError(err, "write who holds the lock", path)
	}
	return &Lock{f}, nil
}

// Release gives the lock back. Releasing twice, or nil, does nothing.
func (l *Lock) Release() error {
	if l == nil || l.file == nil {
		return nil
	}
	f := l.file
	l.file = nil
	return errors.Join(f.Truncate(0), f.Close())
}

// openLock opens the lock file, or makes it. A file of somebody else is refused: he could hold it for ever.
func openLock(path string) (*os.File, error) {
	fd, err := retry(func() (int, error) {
		return unix.Open(path, unix.O_RDWR|unix.O_CREAT|unix.O_NOFOLLOW|unix.O_NONBLOCK|unix.O_CLOEXEC, 0o600)
	})
	if err != nil {
		return nil, err
	}
	f := os.NewFile(uintptr(fd), path)
	var stat unix.Stat_t
	if err := unix.Fstat(fd, &stat); err != nil {
		_ = f.Close()
		return nil, err
	}
	if stat.Mode&unix.S_IFMT != unix.S_IFREG || stat.Uid != uint32(unix.Geteuid()) {
		_ = f.Close()
		return nil, diag.New("take the lock "+path, "it is no file of "+userName(uint32(unix.Geteuid())), "Remove "+path+" by hand.")
	}
	return f, nil
}

func pause(ctx context.Context, d time.Duration) error {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-ctx.Done():
		return ctx.Err()
	case <-t.C:
		return nil
	}
}

func busy(f *os.File, doing string) error {
	const fix = "Wait until it has ended, or give --lock-timeout to wait for it."
	h, err := readHolder(f)
	if err != nil {
		return diag.Wrap(ErrLocked, doing, fix) // it has just been taken, and says nothing yet
	}
	age := time.Since(h.Since).Truncate(time.Second)
	return diag.Wrap(fmt.Errorf("%w: %s, process %d, since %s (%s ago)", ErrLocked, h.Who, h.PID, h.Since.Format(time.RFC3339), age), doing, fix)
}

func readHolder(f *os.File) (Holder, error) {
	var h Holder
	content, err := io.ReadAll(io.NewSectionReader(f, 0, 4096))
	if err != nil {
		return h, err
	}
	return h, json.Unmarshal(content, &h)
}

func writeHolder(f *os.File, h Holder) error {
	content, err := json.Marshal(h)
	if err != nil {
		return err
	}
	if err := f.Truncate(0); err != nil {
		return err
	}
	_, err = io.Copy(io.NewOffsetWriter(f, 0), bytes.NewReader(append(content, '\n')))
	return err
}
