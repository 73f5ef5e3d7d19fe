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
	"io"
	"net/http"
	"os"
	"strings"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/s3"
	"github.com/converge-agent/converge/diag"
)

// Probes says which bucket to look at from outside, and what is to be seen there.
type Probes struct {
	Bucket string
	// Public says that anyone shall be able to GET an object below PublicPrefix; otherwise nobody shall.
	Public       bool
	PublicPrefix string
	// PublicURL is the address below which objects are public, without a slash at the end; "" for the store's own.
	PublicURL string
	// PrivatePrefixes are where nobody shall be able to GET an object; none where the provider cannot keep any private.
	PrivatePrefixes []string
	// Settle is how long a new policy or ACL may take to show, before a wrong answer counts.
	Settle time.Duration
}

// Verdict is what one anonymous request was answered with.
type Verdict struct {
	Name   string `json:"name"`   // "GET", "LIST", "PUT", "DELETE", or "backups/"
	Status int    `json:"status"` // the HTTP status
	OK     bool   `json:"ok"`     // it is as it shall be
}

func (v Verdict) String() string { return fmt.Sprintf("%s %d", v.Name, v.Status) }

// Verdicts are those of one round of probes.
type Verdicts []Verdict

// String gives them in one line: "anonymous GET 200, LIST 403, PUT 403, DELETE 403, backups/ 403".
func (vs Verdicts) String() string {
	parts := make([]string, len(vs))
	for i, v := range vs {
		parts[i] = v.String()
	}
	return "anonymous " + strings.Join(parts, ", ")
}

// Failed returns those that are not as they shall be.
func (vs Verdicts) Failed() Verdicts {
	var failed Verdicts
	for _, v := range vs {
		if !v.OK {
			failed = append(failed, v)
		}
	}
	return failed
}

// cleanupTime bounds how long probe objects are being removed after the probes, or after their context ended.
const cleanupTime = 30 * time.Second

// maxDeletes bounds how many versions of one probe object are deleted: an upload whose answer was lost is sent again, up to
// triesThrottled times, and leaves a version each time where versions are kept.
const maxDeletes = triesThrottled + 1

// prober is one round of probes.
type prober struct {
	*Store
	Probes
	verdicts Verdicts
	written  []written
}

// written is an object that the round may have left in the bucket.
type written struct{ key, version string }

// Probe tells from outside what the world may do with a bucket. It writes one object of a fresh random name as ourselves (and
// one more for each private prefix), asks anonymously for it, for two kinds of listing, for the writing of another
// fresh name and for the deletion of the first, and removes what it wrote, also when it fails or ctx ends. Other objects
// are not touched. Verdicts that are wrong are no error; that a probe had no answer is, and so is an object left behind.
func (s *Store) Probe(ctx context.Context, what Probes) (Verdicts, error) {
	p := &prober{Store: s, Probes: what}
	err := p.run(ctx)
	clean, cancel := context.WithTimeout(context.WithoutCancel(ctx), cleanupTime)
	defer cancel()
	for _, w := range p.written {
		if e := p.remove(clean, w); e != nil {
			e = diag.Wrap(e, "remove the probe object", fmt.Sprintf("Delete %s from the bucket %s by hand.", w.key, p.Bucket))
			err = errors.Join(err, e)
		}
	}
	if err != nil {
		return nil, err
	}
	return p.verdicts, nil
}

// remove deletes an object until it is gone: where versions are kept, deleting one uncovers the one before it, which an upload
// that was sent twice has left.
func (p *prober) remove(ctx context.Context, w written) error {
	version := w.version
	for range maxDeletes {
		if err := p.deleteVersion(ctx, p.Bucket, w.key, version); err != nil {
			return err
		}
		var err error
		if version, err = p.version(ctx, w.key); errors.Is(err, ErrNotFound) {
			return nil
		} else if err != nil {
			return p.failed("look whether the probe object is gone", err)
		}
	}
	return fmt.Errorf("it is still there after %d deletions", maxDeletes)
}

// version returns the id of the object's newest version, "" where versions are not kept: ErrNotFound when there is none.
func (p *prober) version(ctx context.Context, key string) (id string, err error) {
	err = p.do(ctx, "HeadObject", func(ctx context.Context) error {
		out, err := p.api.HeadObject(ctx, &s3.HeadObjectInput{Bucket: &p.Bucket, Key: &key})
		if err == nil {
			id = aws.ToString(out.VersionId)
		}
		return err
	})
	return id, err
}

func (p *prober) run(ctx context.Context) error {
	if err := p.sweep(ctx); err != nil {
		return err
	}
	object, err := p.write(ctx, p.PublicPrefix, p.acl())
	if err != nil {
		return err
	}
	for _, probe := range []func(context.Context, string) error{p.get, p.list, p.put, p.delete} {
		if err := probe(ctx, object); err != nil {
			return err
		}
	}
	for _, prefix := range p.PrivatePrefixes {
		if err := p.hidden(ctx, prefix); err != nil {
			return err
		}
	}
	return nil
}

// probeKey begins the names of probe objects below a prefix. It holds what tells this host from others that look at the same
// bucket, so that a run knows those that an earlier one of its own host has left.
func probeKey(prefix string) string {
	name, _ := os.Hostname() // where it is not known, hosts without a name are taken for one
	sum := sha256.Sum256([]byte(name))
	return prefix + "converge-probe-" + hex.EncodeToString(sum[:4]) + "-"
}

// sweep has the objects removed that a killed run, or one whose store went away, has left. A store that does not list them
// keeps them: the probes matter more.
func (p *prober) sweep(ctx context.Context) error {
	for _, prefix := range append([]string{p.PublicPrefix}, p.PrivatePrefixes...) {
		for o, err := range p.List(ctx, p.Bucket, probeKey(prefix), "") {
			if errors.Is(err, ErrUnreachable) || ctx.Err() != nil {
				return err
			}
			if err == nil {
				p.written = append(p.written, written{key: o.Key})
			}
		}
	}
	return nil
}

// hidden asks for an object below a private prefix.
func (p *prober) hidden(ctx context.Context, prefix string) error {
	object, err := p.write(ctx, prefix, "") // what is private is uploaded without the ACL that makes public
	if err != nil {
		return err
	}
	status, err := p.settled(ctx, http.MethodGet, "/"+object, refused)
	return p.judge(prefix, status, refused(status), err)
}

// write uploads a probe object as ourselves.
func (p *prober) write(ctx context.Context, prefix, acl string) (key string, err error) {
	key = probeKey(prefix) + rand.Text()
	text := []byte("converge asks whether the world can read this; it is removed at once\n")
	p.written = append(p.written, written{key: key})
	_, version, err := p.Store.put(ctx, p.Bucket, Put{
		Key: key, Body: bytes.NewReader(text), Size: int64(len(text)), MD5: md5.Sum(text),
		ContentType: "text/plain", ACL: acl,
	})
	p.written[len(p.written)-1].version = version
	return key, err
}

// acl is what uploads to this bucket send.
func (p *prober) acl() string {
	if p.Public {
		return p.provider.ObjectACL
	}
	return ""
}

func (p *prober) judge(name string, status int, ok bool, err error) error {
	if err != nil {
		return err
	}
	p.verdicts = append(p.verdicts, Verdict{Name: name, Status: status, OK: ok})
	return nil
}

func (p *prober) get(ctx context.Context, object string) error {
	want := refused
	if p.Public {
		want = func(status int) bool { return status == http.StatusOK }
	}
	if p.PublicURL != "" {
		return p.getPublic(ctx, object, want)
	}
	status, err := p.settled(ctx, http.MethodGet, "/"+object, want)
	return p.judge("GET", status, want(status), err)
}

// list asks for both kinds of listing, until one is answered. The second is the one that Mastodon's own check asks for
// (4.6.5 app/lib/admin/system_check/media_privacy_check.rb).
func (p *prober) list(ctx context.Context, _ string) error {
	var status int
	var err error
	for _, query := range []string{"/?list-type=2&max-keys=1", "/?max-keys=1"} {
		status, err = p.settled(ctx, http.MethodGet, query, refused)
		if err != nil || !refused(status) {
			break
		}
	}
	if p.PublicURL != "" && err == nil && refused(status) && p.Domain(ctx, p.PublicURL).Listable {
		return p.judge("LIST", http.StatusOK, false, nil)
	}
	return p.judge("LIST", status, refused(status), err)
}

func (p *prober) put(ctx context.Context, _ string) error {
	key := probeKey(p.PublicPrefix) + rand.Text()
	status, err := p.anonymous(ctx, http.MethodPut, "/"+key)
	if err != nil || !refused(status) {
		p.written = append(p.written, written{key: key})
	}
	return p.judge("PUT", status, refused(status), err)
}

// delete is judged by the object still being there, too, for a store may say that it deleted what it did not, or reversely.
func (p *prober) delete(ctx context.Context, object string) error {
	status, err := p.anonymous(ctx, http.MethodDelete, "/"+object)
	if err != nil {
		return err
	}
	_, err = p.head(ctx, p.Bucket, object)
	if errors.Is(err, ErrNotFound) {
		return p.judge("DELETE", status, false, nil)
	}
	return p.judge("DELETE", status, refused(status), p.failed("look for the probe object", err))
}

// refused reports whether a status says no for good.
func refused(status int) bool { return status >= 400 && status < 500 }

// settled asks until the answer is as wanted, for as long as a change may take to show.
func (p *prober) settled(ctx context.Context, method, path string, want func(int) bool) (int, error) {
	return p.settledAt(ctx, method, p.cfg.BucketURL(p.Bucket), path, want)
}

func (p *prober) settledAt(ctx context.Context, method, base, path string, want func(int) bool) (int, error) {
	deadline := time.Now().Add(p.Settle)
	for {
		status, err := p.anonymousAt(ctx, method, base, path)
		if err != nil || want(status) || !time.Now().Before(deadline) {
			return status, err
		}
		if err := sleep(ctx, time.Second); err != nil {
			return 0, err
		}
	}
}

// anonymous sends one request without a signature, below the bucket's address, and returns its status.
func (p *prober) anonymous(ctx context.Context, method, path string) (int, error) {
	return p.Store.anonymous(ctx, method, p.Bucket, path)
}

func (s *Store) anonymous(ctx context.Context, method, bucket, path string) (int, error) {
	return s.anonymousAt(ctx, method, s.cfg.BucketURL(bucket), path)
}

// anonymousAt sends it below any address.
func (s *Store) anonymousAt(ctx context.Context, method, base, path string) (int, error) {
	status := 0
	err := s.do(ctx, "Anonymous"+method, func(ctx context.Context) error {
		var body io.Reader
		if method == http.MethodPut {
			body = strings.NewReader("probe")
		}
		req, err := http.NewRequestWithContext(ctx, method, base+path, body)
		if err != nil {
			return err
		}
		resp, err := s.http.Do(req)
		if err != nil {
			return err
		}
		defer func() { _ = resp.Body.Close() }()
		if _, err := io.Copy(io.Discard, io.LimitReader(resp.Body, 1<<20)); err != nil {
			return err
		}
		status = resp.StatusCode
		r := &reply{is: meaning(status, ""), status: status, header: resp.Header}
		if errors.Is(r, ErrThrottled) || errors.Is(r, ErrUnreachable) {
			return r // no verdict
		}
		return nil
	})
	return status, s.failed(fmt.Sprintf("ask anonymously for %s %s%s", method, base, path), err)
}

// Listable reports whether anyone can list a bucket, by one anonymous request. It changes nothing.
func (s *Store) Listable(ctx context.Context, bucket string) (bool, error) {
	status, err := s.anonymous(ctx, http.MethodGet, bucket, "/?list-type=2&max-keys=1")
	return status == http.StatusOK, err
}
