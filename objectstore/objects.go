package objectstore

import (
	"context"
	"encoding/base64"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"iter"
	"strings"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/s3"
	"github.com/aws/aws-sdk-go-v2/service/s3/types"
	"github.com/converge-agent/converge/diag"
)

// List gives the objects of a bucket whose keys begin with prefix and come after after, in the order of the bytes of their
// keys, by ListObjectsV2: one request for 1,000. It ends at the first error. A listing that is out of order, repeats itself,
// leaves the prefix or ends before the store said so is ErrListing.
func (s *Store) List(ctx context.Context, bucket, prefix, after string) iter.Seq2[Object, error] {
	return func(yield func(Object, error) bool) {
		doing := fmt.Sprintf("list %s/%s", bucket, prefix)
		in := &s3.ListObjectsV2Input{Bucket: &bucket, MaxKeys: aws.Int32(1000)}
		if prefix != "" {
			in.Prefix = &prefix
		}
		if after != "" {
			in.StartAfter = &after
		}
		last := after
		for {
			page, err := s.listPage(ctx, in)
			if err == nil {
				err = checkPage(page, in, prefix, last)
			}
			if err != nil {
				yield(Object{}, s.failed(doing, err))
				return
			}
			for _, o := range page.Contents {
				if !yield(object(o), nil) {
					return
				}
				last = aws.ToString(o.Key)
			}
			if !aws.ToBool(page.IsTruncated) {
				return
			}
			in.ContinuationToken = page.NextContinuationToken
		}
	}
}

func (s *Store) listPage(ctx context.Context, in *s3.ListObjectsV2Input) (*s3.ListObjectsV2Output, error) {
	var page *s3.ListObjectsV2Output
	err := s.do(ctx, "ListObjectsV2", func(ctx context.Context) (err error) {
		page, err = s.api.ListObjectsV2(ctx, in)
		return err
	})
	return page, err
}

// checkPage says why a page cannot be a true part of the listing; last is the key before it. An empty answer, or one from
// something that is no store, decodes to an empty page too: it is known by lacking IsTruncated.
func checkPage(page *s3.ListObjectsV2Output, in *s3.ListObjectsV2Input, prefix, last string) error {
	switch token := aws.ToString(page.NextContinuationToken); {
	case page.IsTruncated == nil:
		return fmt.Errorf("%w: the answer is no listing", ErrListing)
	case *page.IsTruncated && token == "":
		return fmt.Errorf("%w: it goes on, but the store did not say where", ErrListing)
	case *page.IsTruncated && token == aws.ToString(in.ContinuationToken):
		return fmt.Errorf("%w: it goes on where it was already", ErrListing)
	case page.KeyCount != nil && int(*page.KeyCount) != len(page.Contents)+len(page.CommonPrefixes):
		return fmt.Errorf("%w: %d keys were announced, and %d came", ErrListing, *page.KeyCount, len(page.Contents))
	}
	for _, o := range page.Contents {
		key := aws.ToString(o.Key)
		if key <= last || !strings.HasPrefix(key, prefix) || o.Size == nil {
			return fmt.Errorf("%w: %q came after %q", ErrListing, key, last)
		}
		last = key
	}
	return nil
}

func object(o types.Object) Object {
	return Object{
		Key:      aws.ToString(o.Key),
		Size:     aws.ToInt64(o.Size),
		ETag:     bareETag(o.ETag),
		Modified: aws.ToTime(o.LastModified),
	}
}

func bareETag(tag *string) string { return strings.Trim(aws.ToString(tag), `"`) }

// Put uploads one object in one part, and returns its ETag. The store checks the bytes against MD5, and the ETag that comes
// back is compared with it: ErrDigest when either differs. ErrExists comes only with IfAbsent.
func (s *Store) Put(ctx context.Context, bucket string, p Put) (etag string, err error) {
	etag, _, err = s.put(ctx, bucket, p)
	return etag, err
}

// put is Put that gives the version's id as well, "" where the store keeps none.
func (s *Store) put(ctx context.Context, bucket string, p Put) (etag, version string, err error) {
	doing := fmt.Sprintf("upload %s/%s", bucket, p.Key)
	if p.Size > MaxPutSize {
		return "", "", diag.New(doing, fmt.Sprintf("%d bytes are more than the 5 GiB that one upload takes", p.Size),
			"Upload this file with another program, such as rclone; its size is no size of media.")
	}
	conditional := p.IfAbsent && s.provider.ConditionalWrites
	if p.IfAbsent && !conditional {
		if err := s.absent(ctx, bucket, p.Key); err != nil {
			return "", "", s.failed(doing, err)
		}
	}
	in := putInput(bucket, p, conditional)
	var out *s3.PutObjectOutput
	tried := 0
	err = s.do(ctx, "PutObject", func(ctx context.Context) (err error) {
		tried++
		if in.Body, err = newBody(p.Body, p.Size); err != nil {
			return err
		}
		out, err = s.api.PutObject(ctx, in)
		return err
	})
	want := hex.EncodeToString(p.MD5[:])
	if errors.Is(err, ErrExists) && tried > 1 {
		// An earlier try may have arrived though its answer did not: then it is our own object that is in the way.
		if o, e := s.Head(ctx, bucket, p.Key); e == nil && o.ETag == want && o.Size == p.Size {
			return o.ETag, "", nil
		}
	}
	if err != nil {
		return "", "", s.failed(doing, err)
	}
	if etag = bareETag(out.ETag); etag != want {
		return "", "", s.failed(doing, fmt.Errorf("%w: the store's ETag is %q, the MD5 of the file %s", ErrDigest, etag, want))
	}
	return etag, aws.ToString(out.VersionId), nil
}

// absent is ErrExists when a key is taken.
func (s *Store) absent(ctx context.Context, bucket, key string) error {
	_, err := s.head(ctx, bucket, key)
	switch {
	case err == nil:
		return ErrExists
	case errors.Is(err, ErrNotFound):
		return nil
	}
	return err
}

func putInput(bucket string, p Put, conditional bool) *s3.PutObjectInput {
	in := &s3.PutObjectInput{
		Bucket:        &bucket,
		Key:           &p.Key,
		ContentLength: &p.Size,
		ContentMD5:    aws.String(base64.StdEncoding.EncodeToString(p.MD5[:])),
		ACL:           types.ObjectCannedACL(p.ACL),
	}
	if p.ContentType != "" {
		in.ContentType = &p.ContentType
	}
	if p.CacheControl != "" {
		in.CacheControl = &p.CacheControl
	}
	if conditional {
		in.IfNoneMatch = aws.String("*")
	}
	return in
}

// Head looks at one object: ErrNotFound when there is none.
func (s *Store) Head(ctx context.Context, bucket, key string) (Object, error) {
	o, err := s.head(ctx, bucket, key)
	return o, s.failed(fmt.Sprintf("look at %s/%s", bucket, key), err)
}

func (s *Store) head(ctx context.Context, bucket, key string) (Object, error) {
	var out *s3.HeadObjectOutput
	err := s.do(ctx, "HeadObject", func(ctx context.Context) (err error) {
		out, err = s.api.HeadObject(ctx, &s3.HeadObjectInput{Bucket: &bucket, Key: &key})
		return err
	})
	if err != nil {
		return Object{}, err
	}
	return Object{
		Key:      key,
		Size:     aws.ToInt64(out.ContentLength),
		ETag:     bareETag(out.ETag),
		Modified: aws.ToTime(out.LastModified),
	}, nil
}

// Get opens one object for reading: ErrNotFound when there is none. The caller closes it. A connection that breaks while it
// is read is the reader's error.
func (s *Store) Get(ctx context.Context, bucket, key string) (io.ReadCloser, error) {
	var out *s3.GetObjectOutput
	err := s.do(ctx, "GetObject", func(ctx context.Context) (err error) {
		out, err = s.api.GetObject(ctx, &s3.GetObjectInput{Bucket: &bucket, Key: &key})
		return err
	})
	if err != nil {
		return nil, s.failed(fmt.Sprintf("download %s/%s", bucket, key), err)
	}
	return out.Body, nil
}

// Delete deletes one object; that there is none is no error. A store that keeps versions only hides it.
func (s *Store) Delete(ctx context.Context, bucket, key string) error {
	return s.deleteVersion(ctx, bucket, key, "")
}

// deleteVersion deletes one version for good, or with "" the object.
func (s *Store) deleteVersion(ctx context.Context, bucket, key, version string) error {
	in := &s3.DeleteObjectInput{Bucket: &bucket, Key: &key}
	if version != "" {
		in.VersionId = &version
	}
	err := s.do(ctx, "DeleteObject", func(ctx context.Context) error {
		_, err := s.api.DeleteObject(ctx, in)
		return err
	})
	if errors.Is(err, ErrNotFound) {
		return nil
	}
	return s.failed(fmt.Sprintf("delete %s/%s", bucket, key), err)
}
