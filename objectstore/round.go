package objectstore

import (
	"bytes"
	"context"
	"crypto/md5" //nolint:gosec // the S3 protocol's checksum of a transfer, Content-MD5
	"crypto/rand"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"os"
	"slices"
	"strings"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/s3"
	"github.com/aws/aws-sdk-go-v2/service/s3/types"
	"github.com/converge-agent/converge/diag"
)

// cleanupTime bounds how long probe objects are being removed after the probes, or after their context ended.
const cleanupTime = 30 * time.Second

// maxDeletes bounds how many versions of one probe object are deleted: an upload whose answer was lost is sent again, up to
// triesThrottled times, and leaves a version each time where versions are kept.
const maxDeletes = triesThrottled + 1

// round is one round of probes in a bucket, and what it may have left there.
type round struct {
	*Store
	bucket  string
	written []written
	// hidden says that objects may have been deleted without a version, which hides them where versions are kept; versioned,
	// that they are kept.
	hidden, versioned bool
	swept             []string  // prefixes
	wrote             []written // everything, also what is known to be gone
}

// written is an object, or a version of one, that the round may have left in the bucket.
type written struct{ key, version string }

func newRound(s *Store, bucket string) round {
	return round{Store: s, bucket: bucket, versioned: s.provider.AlwaysVersioned}
}

// probeText is what probe objects hold.
const probeText = "converge asks what can be done with this; it is removed at once\n"

// probeKey begins the names of probe objects below a prefix. It holds what tells this host from others that look at the same
// bucket, so that a run knows those that an earlier one of its own host has left.
func probeKey(prefix string) string {
	name, _ := os.Hostname() // where it is not known, hosts without a name are taken for one
	sum := sha256.Sum256([]byte(name))
	return prefix + "converge-probe-" + hex.EncodeToString(sum[:4]) + "-"
}

// freshKey is the name of a probe object that nobody else has.
func freshKey(prefix string) string { return probeKey(prefix) + rand.Text() }

// probePut is a probe object to upload.
func probePut(key, acl string) Put {
	text := []byte(probeText)
	return Put{Key: key, Body: bytes.NewReader(text), Size: int64(len(text)), MD5: md5.Sum(text), ContentType: "text/plain", ACL: acl}
}

// write uploads a probe object as ourselves.
func (r *round) write(ctx context.Context, prefix, acl string) (key string, err error) {
	key = freshKey(prefix)
	return key, r.writeAs(ctx, r.Store, probePut(key, acl))
}

// writeAs uploads a probe object with a key.
func (r *round) writeAs(ctx context.Context, as *Store, p Put) error {
	r.written = append(r.written, written{key: p.Key})
	_, version, err := as.put(ctx, r.bucket, p)
	r.written[len(r.written)-1].version = version
	r.wrote = append(r.wrote, written{p.Key, version})
	r.versioned = r.versioned || version != ""
	return err
}

// clean removes what the round has left, and joins what could not be removed to err.
func (r *round) clean(ctx context.Context, err error) error {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), cleanupTime)
	defer cancel()
	if r.versioned && r.hidden {
		r.purge(ctx)
	}
	for _, w := range r.written {
		if e := r.remove(ctx, w); e != nil {
			fix := fmt.Sprintf("%s Delete %s from the bucket %s by hand.", diag.Fix(e), w.key, r.bucket)
			e = diag.Wrap(e, "remove the probe object", strings.TrimSpace(fix))
			err = errors.Join(err, e)
		}
	}
	return err
}

// remove deletes an object until it is gone: where versions are kept, deleting one uncovers the one before it, which an upload
// that was sent twice has left.
func (r *round) remove(ctx context.Context, w written) error {
	version := w.version
	for range maxDeletes {
		if err := r.deleteVersion(ctx, r.bucket, w.key, version); err != nil {
			return err
		}
		var err error
		if version, err = r.version(ctx, w.key); errors.Is(err, ErrNotFound) {
			return nil
		} else if err != nil {
			return r.failed("look whether the probe object is gone", err)
		}
	}
	return fmt.Errorf("it is still there after %d deletions", maxDeletes)
}

// version returns the id of the object's newest version, "" where versions are not kept: ErrNotFound when there is none.
func (r *round) version(ctx context.Context, key string) (id string, err error) {
	err = r.do(ctx, "HeadObject", func(ctx context.Context) error {
		out, err := r.api.HeadObject(ctx, &s3.HeadObjectInput{Bucket: &r.bucket, Key: &key})
		if err == nil {
			id = aws.ToString(out.VersionId)
		}
		return err
	})
	return id, err
}

// gone takes an object that is known to be gone off the list.
func (r *round) gone(key string) {
	r.written = slices.DeleteFunc(r.written, func(w written) bool { return w.key == key })
}

// sweep has the objects removed that a killed run, or one whose store went away, has left. A store that does not list them
// keeps them: the probes matter more.
func (r *round) sweep(ctx context.Context, prefixes ...string) error {
	r.swept = prefixes
	for _, prefix := range prefixes {
		left, err := r.left(ctx, prefix)
		if errors.Is(err, ErrUnreachable) || ctx.Err() != nil {
			return r.failed("look for what an earlier run has left in the bucket "+r.bucket, err)
		}
		r.written = append(r.written, left...)
	}
	return nil
}

// left lists what this host has left below a prefix, with all versions where the store always keeps them.
func (r *round) left(ctx context.Context, prefix string) ([]written, error) {
	if r.provider.AlwaysVersioned {
		return r.versions(ctx, prefix)
	}
	var found []written
	for o, err := range r.List(ctx, r.bucket, probeKey(prefix), "") {
		if err != nil {
			return found, err
		}
		found = append(found, written{key: o.Key})
	}
	return found, nil
}

// versions lists the versions and delete markers of this host's probe objects below a prefix; of more than 1,000 the first.
func (r *round) versions(ctx context.Context, prefix string) (found []written, err error) {
	begin := probeKey(prefix)
	err = r.do(ctx, "ListObjectVersions", func(ctx context.Context) error {
		out, err := r.api.ListObjectVersions(ctx, &s3.ListObjectVersionsInput{Bucket: &r.bucket, Prefix: &begin})
		if err != nil {
			return err
		}
		found = nil
		for _, v := range out.Versions {
			found = append(found, written{aws.ToString(v.Key), aws.ToString(v.VersionId)})
		}
		for _, m := range out.DeleteMarkers {
			found = append(found, written{aws.ToString(m.Key), aws.ToString(m.VersionId)})
		}
		return nil
	})
	// What is found is deleted: an answer that was not narrowed to the prefix would name the media.
	return slices.DeleteFunc(found, func(w written) bool { return !strings.HasPrefix(w.key, begin) }), err
}

// purge deletes all versions of what the round has written, and the marks of their deletion, as far as the key may: the objects
// themselves are removed one by one besides.
func (r *round) purge(ctx context.Context) {
	all := slices.Clone(r.wrote)
	for _, prefix := range r.swept {
		found, _ := r.versions(ctx, prefix)
		all = append(all, found...)
	}
	_, _ = r.deleteBatch(ctx, r.Store, all...)
}

// deleteBatch deletes objects by one DeleteObjects with a key, in the quiet way that Mastodon asks for it. It returns the code of the
// first object that the store would not delete, "" for none. No object is named twice: Ceph 16.2.15 deletes all at once, and its
// gateway ends by a segmentation fault when two of them are one (RGWDeleteMultiObj::handle_individual_object).
func (r *round) deleteBatch(ctx context.Context, as *Store, list ...written) (refused string, err error) {
	if len(list) == 0 {
		return "", nil
	}
	in := &s3.DeleteObjectsInput{Bucket: &r.bucket, Delete: &types.Delete{Quiet: aws.Bool(true)}}
	for i, w := range list {
		if slices.Contains(list[:i], w) {
			continue
		}
		id := types.ObjectIdentifier{Key: &w.key}
		if w.version != "" {
			id.VersionId = &w.version
		}
		in.Delete.Objects = append(in.Delete.Objects, id)
	}
	err = as.do(ctx, "DeleteObjects", func(ctx context.Context) error {
		refused = ""
		out, err := as.api.DeleteObjects(ctx, in, plainMD5)
		if err == nil && len(out.Errors) > 0 {
			refused = as.redact(aws.ToString(out.Errors[0].Code))
		}
		return err
	})
	return refused, err
}
