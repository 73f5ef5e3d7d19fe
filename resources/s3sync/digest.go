package s3sync

import (
	"context"
	"crypto/md5" //nolint:gosec // ETags are made with it
	"encoding/hex"
	"fmt"
	"hash"
	"io"
	"strconv"
	"strings"
)

// partSizes are, in MiB, the sizes of the parts in which known programs upload a large file: aws (8), rclone and Ruby's SDK
// in Mastodon (5), mc (16), s3cmd (15), s5cmd (50), and what people set instead.
var partSizes = []int64{5, 8, 10, 15, 16, 20, 25, 32, 50, 64, 100, 128}

// digest is what the bytes of one file come to.
type digest struct {
	md5   [md5.Size]byte
	size  int64
	parts []*partDigest
}

// partDigest is the ETag of an object that was uploaded in parts: the MD5 of the parts' MD5s, and their number (Amazon S3
// User Guide, "Checking object integrity").
type partDigest struct {
	size int64 // of each part but the last
	left int64 // until the current part is full
	part hash.Hash
	sums []byte
}

func (p *partDigest) Write(b []byte) (int, error) {
	n := len(b)
	for len(b) > 0 {
		take := min(int64(len(b)), p.left)
		p.part.Write(b[:take])
		b = b[take:]
		if p.left -= take; p.left == 0 {
			p.close()
		}
	}
	return n, nil
}

func (p *partDigest) close() {
	p.sums = p.part.Sum(p.sums)
	p.part.Reset()
	p.left = p.size
}

func (p *partDigest) etag() string {
	if p.left < p.size {
		p.close()
	}
	sum := md5.Sum(p.sums) //nolint:gosec // see the import
	return fmt.Sprintf("%s-%d", hex.EncodeToString(sum[:]), len(p.sums)/md5.Size)
}

// digestOf reads from to its end, of which size bytes are expected. With the ETag of an object in parts it prepares to
// compare that too. It ends with ctx.
func digestOf(ctx context.Context, from io.Reader, size int64, etag string) (*digest, error) {
	d := &digest{}
	whole := md5.New() //nolint:gosec // see the import
	to := []io.Writer{whole}
	for _, partSize := range possibleParts(size, etag) {
		p := &partDigest{size: partSize, left: partSize, part: md5.New()} //nolint:gosec // see the import
		d.parts = append(d.parts, p)
		to = append(to, p)
	}
	var err error
	d.size, err = io.Copy(io.MultiWriter(to...), readerFunc(func(b []byte) (int, error) {
		if err := ctx.Err(); err != nil {
			return 0, err
		}
		return from.Read(b)
	}))
	whole.Sum(d.md5[:0])
	return d, err
}

// possibleParts returns the sizes in bytes that the parts of an object of that size and ETag may have.
func possibleParts(size int64, etag string) []int64 {
	_, number, ok := strings.Cut(etag, "-")
	n, err := strconv.ParseInt(number, 10, 64)
	if !ok || err != nil || n < 1 {
		return nil
	}
	var out []int64
	for _, mib := range partSizes {
		if p := mib << 20; (size+p-1)/p == n {
			out = append(out, p)
		}
	}
	return out
}

// comparison is what an object's size and ETag say of a file.
type comparison int

const (
	different comparison = iota
	same
	unknown // the ETag is made from something else than the bytes
)

// compare says whether the object of that size and ETag holds the bytes of the digest.
func (d *digest) compare(size int64, etag string) comparison {
	etag = strings.ToLower(etag)
	switch {
	case d.size != size:
		return different
	case etag == hex.EncodeToString(d.md5[:]):
		return same
	case len(etag) == 2*md5.Size && !strings.Contains(etag, "-"):
		return different
	}
	for _, p := range d.parts {
		if p.etag() == etag {
			return same
		}
	}
	return unknown
}

// readerFunc is a function as an io.Reader.
type readerFunc func([]byte) (int, error)

func (f readerFunc) Read(b []byte) (int, error) { return f(b) }
