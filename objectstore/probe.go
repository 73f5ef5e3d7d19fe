package objectstore

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strings"
	"time"

	"github.com/converge-agent/converge/diag"
)

// Probes says which bucket to look at from outside, and what is to be seen there.
type Probes struct {
	Bucket string
	// Public says that anyone shall be able to GET an object below PublicPrefix; otherwise nobody shall.
	Public       bool
	PublicPrefix string
	// PrivatePrefixes are where nobody shall be able to GET an object; none where the provider cannot keep any private.
	PrivatePrefixes []string
	// PublicURL is the address below which the world reads objects, without a slash at its end; "" where that is the bucket's
	// own. At both nobody shall list, write or delete, and at the bucket's own nobody shall read either.
	PublicURL string
	// Settle is how long a new policy or ACL may take to show, before a wrong answer counts.
	Settle time.Duration
}

// AtEndpoint ends the names of verdicts about the store's own address, where the public one is another.
const AtEndpoint = " at the endpoint"

// Verdict is what one anonymous request was answered with.
type Verdict struct {
	Name   string `json:"name"`   // "GET", "LIST", "PUT", "DELETE", or "backups/"; with AtEndpoint behind it, not at the public address
	Status int    `json:"status"` // the HTTP status
	OK     bool   `json:"ok"`     // it is as it shall be
}

func (v Verdict) String() string { return fmt.Sprintf("%s %d", v.Name, v.Status) }

// Verdicts are those of one round of probes.
type Verdicts []Verdict

// String gives them in one line, those of one address and status together: "anonymous GET 200; LIST, PUT, DELETE, backups/ 403; GET, LIST at
// the endpoint 403".
func (vs Verdicts) String() string {
	var text strings.Builder
	text.WriteString("anonymous ")
	for i, v := range vs {
		name, within := strings.CutSuffix(v.Name, AtEndpoint)
		switch {
		case i+1 == len(vs):
			text.WriteString(v.String())
		case vs[i+1].Status == v.Status && strings.HasSuffix(vs[i+1].Name, AtEndpoint) == within:
			text.WriteString(name + ", ")
		default:
			text.WriteString(v.String() + "; ")
		}
	}
	return text.String()
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

// prober is one round of anonymous probes.
type prober struct {
	round
	Probes
	verdicts Verdicts
}

// Probe tells from outside what the world may do with a bucket. It writes one object of a fresh random name as ourselves (and
// one more for each private prefix), asks anonymously for it, for two kinds of listing, for the writing of another
// fresh name and for the deletion of the first, and removes what it wrote, also when it fails or ctx ends. Other objects
// are not touched. Verdicts that are wrong are no error; that a probe had no answer is, and so is an object left behind.
func (s *Store) Probe(ctx context.Context, what Probes) (Verdicts, error) {
	p := &prober{round: newRound(s, what.Bucket), Probes: what}
	if err := p.clean(ctx, p.run(ctx)); err != nil {
		return nil, err
	}
	return p.verdicts, nil
}

func (p *prober) run(ctx context.Context) error {
	if err := p.sweep(ctx, append([]string{p.PublicPrefix}, p.PrivatePrefixes...)...); err != nil {
		return err
	}
	object, err := p.write(ctx, p.PublicPrefix, p.acl())
	if err != nil {
		return err
	}
	for _, at := range p.places() {
		if err := p.ask(ctx, at, object); err != nil {
			return err
		}
	}
	for _, prefix := range p.PrivatePrefixes {
		if err := p.hides(ctx, prefix); err != nil {
			return err
		}
	}
	return nil
}

// ask asks everything at one place. Where nothing answers at the public address, which may not be connected yet, that is the verdict:
// but not where an object could be read, for then nobody knows what else is allowed there.
func (p *prober) ask(ctx context.Context, at place, object string) error {
	for _, probe := range []func(context.Context, place, string) error{p.get, p.list, p.put, p.delete} {
		switch err := probe(ctx, at, object); {
		case at.domain && errors.Is(err, ErrUnreachable) && ctx.Err() == nil && len(p.verdicts.Failed()) == len(p.verdicts):
			return p.silent(at)
		case err != nil:
			return err
		}
	}
	return nil
}

// silent judges a place at which nothing answered, if it has not been judged by what answered before.
func (p *prober) silent(at place) error {
	if len(p.verdicts) > 0 {
		return nil
	}
	return p.judge("GET", 0, !at.public, nil)
}

// place is an address at which the world finds the bucket.
type place struct {
	url    string
	public bool   // objects can be read there
	domain bool   // it is not the store's own
	suffix string // of the names of its verdicts
}

// places are where to ask: the bucket's own address, and the public one where that is another. Where a domain makes objects
// public, the store's own address refuses everybody.
func (p *prober) places() []place {
	own := place{url: p.cfg.BucketURL(p.Bucket), public: p.Public && p.provider.Public != CustomDomain}
	if p.PublicURL == "" {
		return []place{own}
	}
	own.suffix = AtEndpoint
	return []place{{url: p.PublicURL, public: p.Public, domain: true}, own}
}

// Operations are the requests of a round by operation, where nothing was left to remove.
func (p Probes) Operations(provider *Provider) map[string]int64 {
	places, hidden := int64(1), int64(len(p.PrivatePrefixes))
	if p.PublicURL != "" {
		places = 2
	}
	ops := map[string]int64{
		"PutObject": 1 + hidden, "HeadObject": 1 + places + hidden, "DeleteObject": 1 + hidden,
		"AnonymousGET": 3 + 2*(places-1) + hidden, "AnonymousPUT": places, "AnonymousDELETE": places,
	}
	ops[sweeping(provider)] += 1 + hidden
	return ops
}

// sweeping is the operation that finds what an earlier run has left below one prefix.
func sweeping(p *Provider) string {
	if p.AlwaysVersioned {
		return "ListObjectVersions"
	}
	return "ListObjectsV2"
}

// hides asks for an object below a private prefix, at each place.
func (p *prober) hides(ctx context.Context, prefix string) error {
	object, err := p.write(ctx, prefix, "") // what is private is uploaded without the ACL that makes public
	if err != nil {
		return err
	}
	at := p.places()[0]
	status, err := p.settled(ctx, http.MethodGet, at, "/"+object, refused)
	return p.judge(prefix, status, refused(status), err)
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

func (p *prober) get(ctx context.Context, at place, object string) error {
	want := refused
	if at.public {
		want = func(status int) bool { return status == http.StatusOK }
	}
	status, err := p.settled(ctx, http.MethodGet, at, "/"+object, want)
	return p.judge("GET"+at.suffix, status, want(status), err)
}

// list asks for both kinds of listing, until one is answered. The second is the one that Mastodon's own check asks for
// (4.6.5 app/lib/admin/system_check/media_privacy_check.rb).
func (p *prober) list(ctx context.Context, at place, _ string) error {
	if at.domain {
		var d Domain
		err := p.do(ctx, "AnonymousGET", func(ctx context.Context) error { return p.askDomain(ctx, at.url, &d) })
		return p.judge("LIST", d.Status, !d.Listable, p.failed("ask anonymously for a listing at "+at.url, err))
	}
	var status int
	var err error
	for _, query := range []string{"/?list-type=2&max-keys=1", "/?max-keys=1"} {
		status, err = p.settled(ctx, http.MethodGet, at, query, refused)
		if err != nil || !refused(status) {
			break
		}
	}
	return p.judge("LIST"+at.suffix, status, refused(status), err)
}

func (p *prober) put(ctx context.Context, at place, _ string) error {
	key := freshKey(p.PublicPrefix)
	status, err := p.anonymous(ctx, http.MethodPut, at.url+"/"+key)
	if err != nil || !refused(status) {
		p.written = append(p.written, written{key: key})
	}
	ok := refused(status)
	if err == nil && !ok && at.domain { // a website may have answered with a page of its own
		_, e := p.head(ctx, p.Bucket, key)
		ok = errors.Is(e, ErrNotFound)
	}
	return p.judge("PUT"+at.suffix, status, ok, err)
}

// delete is judged by the object still being there, too, for a store may say that it deleted what it did not, or reversely.
func (p *prober) delete(ctx context.Context, at place, object string) error {
	status, err := p.anonymous(ctx, http.MethodDelete, at.url+"/"+object)
	if err != nil {
		return err
	}
	_, err = p.head(ctx, p.Bucket, object)
	if errors.Is(err, ErrNotFound) {
		return p.judge("DELETE"+at.suffix, status, false, nil)
	}
	return p.judge("DELETE"+at.suffix, status, refused(status) || at.domain, p.failed("look for the probe object", err))
}

// refused reports whether a status says no for good.
func refused(status int) bool {
	return status >= 400 && status < 500 || status == http.StatusNotImplemented
}

// settled asks until the answer is as wanted, for as long as a change may take to show.
func (p *prober) settled(ctx context.Context, method string, at place, path string, want func(int) bool) (int, error) {
	deadline := time.Now().Add(p.Settle)
	for {
		status, err := p.anonymous(ctx, method, at.url+path)
		if err != nil || want(status) || !time.Now().Before(deadline) {
			return status, err
		}
		if err := sleep(ctx, time.Second); err != nil {
			return 0, err
		}
	}
}

// anonymous sends one request without a signature, and returns its status.
func (s *Store) anonymous(ctx context.Context, method, address string) (int, error) {
	status := 0
	err := s.do(ctx, "Anonymous"+method, func(ctx context.Context) error {
		var body io.Reader
		if method == http.MethodPut {
			body = strings.NewReader("probe")
		}
		req, err := http.NewRequestWithContext(ctx, method, address, body)
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
	if err == nil {
		return status, nil
	}
	fix, err := s.explain(err, agentKey)
	return status, diag.Wrap(err, fmt.Sprintf("ask anonymously for %s %s", method, address), fix)
}

// Listable reports whether anyone can list a bucket, by one anonymous request. It changes nothing.
func (s *Store) Listable(ctx context.Context, bucket string) (bool, error) {
	status, err := s.anonymous(ctx, http.MethodGet, s.cfg.BucketURL(bucket)+"/?list-type=2&max-keys=1")
	return status == http.StatusOK, err
}
