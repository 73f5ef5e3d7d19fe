package objectstore

import (
	"errors"
	"fmt"
	"io"
)

// body reads exactly size bytes of a file, so that a file that grows meanwhile does not break the request, and one that
// shrinks is told from a broken connection.
type body struct {
	from io.ReadSeeker
	size int64
	at   int64
}

// bodyError is a failure to read what is to be uploaded: none of the store's doing.
type bodyError struct{ err error }

func (e *bodyError) Error() string { return e.err.Error() }
func (e *bodyError) Unwrap() error { return e.err }

// newBody returns the first size bytes of from, read from their start.
func newBody(from io.ReadSeeker, size int64) (*body, error) {
	b := &body{from: from, size: size}
	if _, err := b.Seek(0, io.SeekStart); err != nil {
		return nil, err
	}
	return b, nil
}

func (b *body) Read(p []byte) (int, error) {
	left := b.size - b.at
	if left <= 0 {
		return 0, io.EOF
	}
	n, err := b.from.Read(p[:min(int64(len(p)), left)])
	b.at += int64(n)
	switch {
	case errors.Is(err, io.EOF) && b.at < b.size:
		return n, &bodyError{fmt.Errorf("%w: the file ended after %d of %d bytes", ErrDigest, b.at, b.size)}
	case errors.Is(err, io.EOF):
		return n, nil
	case err != nil:
		return n, &bodyError{fmt.Errorf("read the file: %w", err)}
	}
	return n, nil
}

func (b *body) Seek(offset int64, whence int) (int64, error) {
	switch whence {
	case io.SeekCurrent:
		offset += b.at
	case io.SeekEnd:
		offset += b.size
	}
	at, err := b.from.Seek(offset, io.SeekStart)
	if err != nil {
		return 0, &bodyError{fmt.Errorf("read the file: %w", err)}
	}
	b.at = at
	return at, nil
}
