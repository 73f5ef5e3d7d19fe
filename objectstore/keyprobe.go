package objectstore

import (
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/s3"
	"github.com/aws/aws-sdk-go-v2/service/s3/types"
	"github.com/converge-agent/converge/diag"
)

// KeyProbes says what the app's key is tried on.
type KeyProbes struct {
	Bucket  string
	Prefix  string // below which the app writes what is public, and the probe objects too
	Private string // below which it writes what is not: there only a key's own rights let it read
	ACL     string // the canned ACL that its uploads send; "" for none
}

// Operations are the requests of the round by operation, for a key that may do everything and where nothing was left to remove.
func (w KeyProbes) Operations(provider *Provider) map[string]int64 {
	ops := map[string]int64{
		"ListMultipartUploads": 1, "PutObject": 2, "HeadObject": 3, "GetObject": 1, "CreateMultipartUpload": 1, "AbortMultipartUpload": 1,
		"DeleteObject": 2,
	}
	ops[sweeping(provider)] += 2
	if w.ACL != "" {
		ops["PutObjectAcl"] = 1
	}
	if provider.BatchDelete {
		ops["DeleteObject"]--
		ops["DeleteObjects"]++
	}
	if provider.AlwaysVersioned {
		ops["ListObjectVersions"] += 2
		ops["DeleteObjects"]++
	}
	return ops
}

// mastodonCacheControl is what Mastodon uploads with (4.6.5 config/initializers/paperclip.rb).
const mastodonCacheControl = "public, max-age=315576000, immutable"

// keyProber is one round of probes of a key. The round's own store is the agent's.
type keyProber struct {
	round
	KeyProbes
	app *Store

	missing []string // operations that the key may not do
	last    *reply   // the last refusal
	lies    []string // what the store said to have done, and has not
}

// ProbeKey tries the key of app on a bucket of s: every operation that Mastodon asks for, as it asks for it (4.6.5, kt-paperclip 7.3
// lib/paperclip/storage/s3.rb), on objects of fresh random names. What the key may not, the agent's key does in its place, so that
// all that is missing is known at once, and the agent's key removes what is left, also when it fails or ctx ends. The error says what
// is wrong with the key, and which right it lacks by the provider's own name for it; nil where there is nothing.
func (s *Store) ProbeKey(ctx context.Context, app *Store, what KeyProbes) error {
	k := &keyProber{round: newRound(s, what.Bucket), KeyProbes: what, app: app}
	k.hidden = true
	if err := k.clean(ctx, k.run(ctx)); err != nil {
		return err
	}
	return k.verdict()
}

func (k *keyProber) run(ctx context.Context) error {
	if err := k.sweep(ctx, k.Prefix, k.Private); err != nil {
		return err
	}
	if err := k.sweepUploads(ctx); err != nil {
		return err
	}
	public, err := k.upload(ctx, k.Prefix, k.ACL)
	if err != nil {
		return err
	}
	private, err := k.upload(ctx, k.Private, k.privateACL())
	if err != nil {
		return err
	}
	remove := k.delete
	if k.provider.BatchDelete {
		remove = k.batch
	}
	for _, step := range []struct {
		do     func(context.Context, string) error
		object string
	}{{k.head, private}, {k.get, private}, {k.setACL, public}, {k.multipart, ""}, {remove, private}, {k.delete, public}} {
		if err := step.do(ctx, step.object); err != nil {
			return err
		}
	}
	return nil
}

// privateACL is what Mastodon uploads archives with: private, unless it sends no ACLs.
func (k *keyProber) privateACL() string {
	if k.ACL == "" {
		return ""
	}
	return "private"
}

func (k *keyProber) doing() string {
	return fmt.Sprintf("try the app's key on the bucket %s at %s", k.Bucket, k.cfg.Host())
}

// may reports whether the key may do an operation that failed with err: a want of rights is noted, and any other failure is
// the end of the round.
func (k *keyProber) may(operation string, err error) (bool, error) {
	if err == nil {
		return true, nil
	}
	var r *reply
	if errors.As(err, &r) {
		if d := diagnose(seen{reply: r, store: k.app, where: appKey}); d != nil && d.right {
			if k.last = r; !slices.Contains(k.missing, operation) {
				k.missing = append(k.missing, operation)
			}
			return false, nil
		}
		err = r // without what was being done, which is said here
	}
	fix, err := k.app.explain(err, appKey)
	return false, diag.Wrap(err, k.doing()+": "+operation, fix)
}

// upload writes an object as Mastodon does, or in its place as ourselves.
func (k *keyProber) upload(ctx context.Context, prefix, acl string) (key string, err error) {
	p := probePut(freshKey(prefix), acl)
	p.CacheControl = mastodonCacheControl
	err = k.writeAs(ctx, k.app, p)
	if may, err := k.may("PutObject", err); may || err != nil {
		return p.Key, err
	}
	return p.Key, k.writeAs(ctx, k.Store, p)
}

func (k *keyProber) head(ctx context.Context, object string) error {
	_, err := k.app.head(ctx, k.Bucket, object)
	_, err = k.may("HeadObject", err)
	return err
}

func (k *keyProber) get(ctx context.Context, object string) error {
	body, err := k.app.Get(ctx, k.Bucket, object)
	if err == nil {
		_, err = io.Copy(io.Discard, body)
		_ = body.Close()
	}
	_, err = k.may("GetObject", err)
	return err
}

// setACL hides the object, as Mastodon does with those of suspended accounts.
func (k *keyProber) setACL(ctx context.Context, object string) error {
	if k.ACL == "" {
		return nil
	}
	err := k.app.do(ctx, "PutObjectAcl", func(ctx context.Context) error {
		_, err := k.app.api.PutObjectAcl(ctx, &s3.PutObjectAclInput{Bucket: &k.Bucket, Key: &object, ACL: types.ObjectCannedACLPrivate}, plainMD5)
		return err
	})
	_, err = k.may("PutObjectAcl", err)
	return err
}

// uploadKey is the name of the upload in parts that is begun and aborted. It is the same in every round, for there are stores that list
// uploads by their whole name alone (MinIO docs, "S3 API Compatibility"); it never becomes an object.
func (k *keyProber) uploadKey() string { return probeKey(k.Prefix) + "upload" }

// multipart begins an upload in parts, and aborts it.
func (k *keyProber) multipart(ctx context.Context, _ string) error {
	key, id := k.uploadKey(), ""
	err := k.app.do(ctx, "CreateMultipartUpload", func(ctx context.Context) error {
		out, err := k.app.api.CreateMultipartUpload(ctx, &s3.CreateMultipartUploadInput{
			Bucket: &k.Bucket, Key: &key, ACL: types.ObjectCannedACL(k.ACL), ContentType: aws.String("text/plain"),
			CacheControl: aws.String(mastodonCacheControl),
		})
		if err == nil {
			id = aws.ToString(out.UploadId)
		}
		return err
	})
	if may, err := k.may("CreateMultipartUpload", err); !may || err != nil {
		return err
	}
	may, err := k.may("AbortMultipartUpload", k.abort(ctx, k.app, id))
	if !may {
		err = errors.Join(err, k.failed("abort the upload of a probe", k.abort(context.WithoutCancel(ctx), k.Store, id)))
	}
	return err
}

// abort ends an upload in parts; that there is none is no error.
func (k *keyProber) abort(ctx context.Context, as *Store, id string) error {
	key := k.uploadKey()
	err := as.do(ctx, "AbortMultipartUpload", func(ctx context.Context) error {
		_, err := as.api.AbortMultipartUpload(ctx, &s3.AbortMultipartUploadInput{Bucket: &k.Bucket, Key: &key, UploadId: &id})
		return err
	})
	if errors.Is(err, ErrNotFound) {
		return nil
	}
	return err
}

// sweepUploads aborts what a killed run has begun. A store that does not list it keeps it: without parts it costs nothing.
func (k *keyProber) sweepUploads(ctx context.Context) error {
	key := k.uploadKey()
	var out *s3.ListMultipartUploadsOutput
	err := k.do(ctx, "ListMultipartUploads", func(ctx context.Context) (err error) {
		out, err = k.api.ListMultipartUploads(ctx, &s3.ListMultipartUploadsInput{Bucket: &k.Bucket, Prefix: &key})
		return err
	})
	if err != nil {
		if errors.Is(err, ErrUnreachable) || ctx.Err() != nil {
			return k.failed("look for what an earlier run has left in the bucket "+k.Bucket, err)
		}
		return nil
	}
	for _, u := range out.Uploads {
		if aws.ToString(u.Key) == key {
			_ = k.abort(ctx, k.Store, aws.ToString(u.UploadId)) // the next round tries again
		}
	}
	return nil
}

// batch deletes an object by DeleteObjects, whose per-key errors Mastodon does not look at.
func (k *keyProber) batch(ctx context.Context, object string) error {
	code, err := k.deleteBatch(ctx, k.app, written{key: object})
	if err == nil && code != "" {
		err = &reply{is: meaning(403, code), status: 200, code: code, op: "DeleteObjects"}
	}
	if may, err := k.may("DeleteObjects", err); !may || err != nil {
		return err
	}
	return k.isGone(ctx, "DeleteObjects", object)
}

func (k *keyProber) delete(ctx context.Context, object string) error {
	err := k.app.do(ctx, "DeleteObject", func(ctx context.Context) error {
		_, err := k.app.api.DeleteObject(ctx, &s3.DeleteObjectInput{Bucket: &k.Bucket, Key: &object})
		return err
	})
	if may, err := k.may("DeleteObject", err); !may || err != nil {
		return err
	}
	return k.isGone(ctx, "DeleteObject", object)
}

// isGone looks with the agent's key whether an object is gone that the app's key has deleted.
func (k *keyProber) isGone(ctx context.Context, operation, object string) error {
	switch _, err := k.version(ctx, object); {
	case errors.Is(err, ErrNotFound):
		k.gone(object)
		return nil
	case err != nil:
		return k.failed("look for a probe object", err)
	}
	k.lies = append(k.lies, operation)
	return nil
}

// verdict words what is wrong with the key.
func (k *keyProber) verdict() error {
	if len(k.missing) > 0 {
		fix := k.app.provider.addRights(k.missing, appKey)
		return diag.Wrap(&explained{what: "it may not " + strings.Join(k.missing, ", "), reply: k.last}, k.doing(), fix)
	}
	if len(k.lies) > 0 {
		return diag.New(k.doing(), "the store said that it deleted an object, and has not: "+strings.Join(k.lies, ", "),
			"Media that is deleted in Mastodon would stay in the bucket. If it is DeleteObjects alone, write batch_delete = false in the object_store; "+
				"else look for a lock or a retention on the bucket.")
	}
	return nil
}
