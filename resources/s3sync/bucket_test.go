package s3sync

import (
	"bytes"
	"context"
	"crypto/md5"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"iter"
	"maps"
	"slices"
	"strings"
	"sync"

	"github.com/converge-agent/converge/objectstore"
)

// fakeBucket is a bucket in memory that goes wrong on order. It never retries, so that a fault is one failure.
type fakeBucket struct {
	mu       sync.Mutex
	objects  map[string]fakeObject
	requests map[string]int64
	order    []string // the keys of uploads that were done
	clobbers []string // keys whose object was replaced by other bytes
	pageSize int      // how many keys are listed at once: few, so that small tests have many pages

	// fault is called with the number of a request, its operation and key. before it is done, and again after it.
	fault func(n int64, op, key string, done bool) error
	hang  bool // uploads end with their context only
	// during is called while the body of an upload is read, without the lock.
	during func(key string)
}

type fakeObject struct {
	body []byte
	etag string
	put  objectstore.Put
}

func newBucket() *fakeBucket {
	return &fakeBucket{objects: map[string]fakeObject{}, requests: map[string]int64{}, pageSize: 5}
}

func (b *fakeBucket) begin(ctx context.Context, op, key string) (done func() error, err error) {
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	b.mu.Lock()
	b.requests[op]++
	n := int64(0)
	for _, m := range b.requests {
		n += m
	}
	fault := b.fault
	b.mu.Unlock()
	if fault == nil {
		return func() error { return nil }, nil
	}
	return func() error { return fault(n, op, key, true) }, fault(n, op, key, false)
}

func (b *fakeBucket) List(ctx context.Context, _, prefix, after string) iter.Seq2[objectstore.Object, error] {
	return func(yield func(objectstore.Object, error) bool) {
		for {
			done, err := b.begin(ctx, "ListObjectsV2", after)
			page := b.page(prefix, after)
			if err == nil {
				err = done()
			}
			if err != nil {
				yield(objectstore.Object{}, err)
				return
			}
			for _, o := range page {
				if !yield(o, nil) {
					return
				}
				after = o.Key
			}
			if len(page) < b.pageSize {
				return
			}
		}
	}
}

func (b *fakeBucket) page(prefix, after string) []objectstore.Object {
	b.mu.Lock()
	defer b.mu.Unlock()
	var out []objectstore.Object
	for _, key := range slices.Sorted(maps.Keys(b.objects)) {
		if strings.HasPrefix(key, prefix) && key > after && len(out) < b.pageSize {
			o := b.objects[key]
			out = append(out, objectstore.Object{Key: key, Size: int64(len(o.body)), ETag: o.etag})
		}
	}
	return out
}

func (b *fakeBucket) Head(ctx context.Context, _, key string) (objectstore.Object, error) {
	done, err := b.begin(ctx, "HeadObject", key)
	if err != nil {
		return objectstore.Object{}, err
	}
	b.mu.Lock()
	o, ok := b.objects[key]
	b.mu.Unlock()
	if err := done(); err != nil {
		return objectstore.Object{}, err
	}
	if !ok {
		return objectstore.Object{}, objectstore.ErrNotFound
	}
	return objectstore.Object{Key: key, Size: int64(len(o.body)), ETag: o.etag}, nil
}

func (b *fakeBucket) Put(ctx context.Context, bucket string, p objectstore.Put) (string, error) {
	if p.IfAbsent {
		if _, err := b.Head(ctx, bucket, p.Key); err == nil {
			return "", objectstore.ErrExists
		} else if !errors.Is(err, objectstore.ErrNotFound) {
			return "", err
		}
	}
	done, err := b.begin(ctx, "PutObject", p.Key)
	if err != nil {
		return "", err
	}
	if b.hang {
		<-ctx.Done()
		return "", ctx.Err()
	}
	if b.during != nil {
		b.during(p.Key)
	}
	body := make([]byte, p.Size)
	if _, err := p.Body.Seek(0, io.SeekStart); err != nil {
		return "", err
	}
	if _, err := io.ReadFull(p.Body, body); err != nil {
		if ctx.Err() != nil {
			return "", ctx.Err()
		}
		return "", fmt.Errorf("%w: %w", objectstore.ErrDigest, err)
	}
	sum := md5.Sum(body)
	if sum != p.MD5 {
		return "", objectstore.ErrDigest
	}
	b.mu.Lock()
	if old, ok := b.objects[p.Key]; ok && !bytes.Equal(old.body, body) {
		b.clobbers = append(b.clobbers, p.Key)
	}
	p.Body = nil
	b.objects[p.Key] = fakeObject{body: body, etag: hex.EncodeToString(sum[:]), put: p}
	b.order = append(b.order, p.Key)
	b.mu.Unlock()
	return hex.EncodeToString(sum[:]), done()
}

func (b *fakeBucket) Delete(ctx context.Context, _, key string) error {
	done, err := b.begin(ctx, "DeleteObject", key)
	if err != nil {
		return err
	}
	b.delete(key)
	return done()
}

func (b *fakeBucket) Requests() map[string]int64 {
	b.mu.Lock()
	defer b.mu.Unlock()
	return maps.Clone(b.requests)
}

// total returns how many requests came, and forgets them.
func (b *fakeBucket) total() map[string]int64 {
	b.mu.Lock()
	defer b.mu.Unlock()
	n := b.requests
	b.requests, b.order = map[string]int64{}, nil
	return n
}

// put stores an object as somebody else would.
func (b *fakeBucket) put(key, body string) {
	sum := md5.Sum([]byte(body))
	b.mu.Lock()
	defer b.mu.Unlock()
	b.objects[key] = fakeObject{body: []byte(body), etag: hex.EncodeToString(sum[:])}
}

func (b *fakeBucket) delete(key string) {
	b.mu.Lock()
	defer b.mu.Unlock()
	delete(b.objects, key)
}

func (b *fakeBucket) keys() []string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return slices.Sorted(maps.Keys(b.objects))
}

func (b *fakeBucket) get(key string) (string, bool) {
	b.mu.Lock()
	defer b.mu.Unlock()
	o, ok := b.objects[key]
	return string(o.body), ok
}
