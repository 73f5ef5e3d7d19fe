package objectstore

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"strings"
	"time"

	"github.com/aws/smithy-go"
	smithyhttp "github.com/aws/smithy-go/transport/http"
	"github.com/converge-agent/converge/diag"
	"github.com/converge-agent/converge/secret"
)

// What requests fail with, to be told apart with errors.Is. Each comes inside a *diag.Error that says what to do.
var (
	ErrNotFound    = errors.New("there is no such object")
	ErrDenied      = errors.New("the store refused")
	ErrNoBucket    = errors.New("there is no such bucket")
	ErrExists      = errors.New("the key is taken already")
	ErrThrottled   = errors.New("the store asks for fewer requests")
	ErrUnreachable = errors.New("the store cannot be reached")
	// ErrDigest says that the bytes that arrived are not those whose MD5 was announced: the file changed meanwhile, or
	// they were damaged on the way.
	ErrDigest = errors.New("other bytes arrived than were announced")
	// ErrListing says that a listing was cut off or out of order, so that nothing may be concluded from what it lacks.
	ErrListing = errors.New("the listing cannot be trusted")
	// ErrRejected says that the store did not take the request as it was made; trying again will not help.
	ErrRejected = errors.New("the store did not accept the request")
)

// reply is a failure that a store answered with, or a connection that failed. It is one of the errors above by errors.Is.
type reply struct {
	is      error
	status  int    // HTTP status; 0 when nothing was answered
	code    string // S3 error code; "" in answers without a body
	message string
	header  http.Header
	at      time.Time // when the answer came

	op    string // what was asked for, such as "PutObject"
	owned owned
}

// owned is whether the account's list of buckets has the bucket of a reply; zero where it was not asked.
type owned int

const (
	ours owned = iota + 1
	theirs
)

func (r *reply) Error() string { return r.worded(r.is.Error()) }

// worded is the reply with what happened in the words of what.
func (r *reply) worded(what string) string {
	var said []string
	if r.status != 0 {
		said = append(said, fmt.Sprint(r.status))
	}
	if r.code != "" {
		said = append(said, r.code)
	}
	text := strings.Join(said, " ")
	switch {
	case text == "":
		text = r.message
	case r.message != "":
		text += ": " + r.message
	}
	if text == "" {
		return what
	}
	return fmt.Sprintf("%s (%s)", what, text)
}

func (r *reply) Unwrap() error { return r.is }

// read turns what the SDK or the transport failed with into a reply. Errors that are none of the store's doing, such as a
// cancelled context or a file that cannot be read, come back as they are.
func (s *Store) read(ctx context.Context, err error) error {
	var r *reply
	var resp *smithyhttp.ResponseError
	switch {
	case err == nil, errors.As(err, &r), errors.Is(err, ErrDigest), errors.Is(err, ErrListing):
		return err
	case ctx.Err() != nil:
		return ctx.Err()
	case errors.As(err, &resp) && resp.HTTPStatusCode() != 0: // the SDK has one without a status where nothing was answered
		return s.answered(err, resp)
	}
	var body *bodyError
	if errors.As(err, &body) {
		return body.err
	}
	return &reply{is: ErrUnreachable, message: s.redact(cause(err))}
}

// answered makes a reply of an HTTP answer.
func (s *Store) answered(err error, resp *smithyhttp.ResponseError) error {
	r := &reply{status: resp.HTTPStatusCode(), header: resp.Response.Header, at: time.Now()}
	var api smithy.APIError
	if errors.As(err, &api) {
		r.code, r.message = s.redact(api.ErrorCode()), s.redact(api.ErrorMessage())
	}
	var broken *net.OpError
	if r.status < 300 && r.code == "" || errors.Is(err, io.ErrUnexpectedEOF) || errors.As(err, &broken) {
		// The answer broke off or was none of S3's: what was done is unknown, so it is asked again.
		r.is, r.message = ErrUnreachable, "its answer could not be read: "+s.redact(cause(err))
		return r
	}
	if r.code == http.StatusText(r.status) || r.code == "UnknownError" || r.code == fmt.Sprint(r.status) {
		r.code = "" // made up by the SDK for an answer without a body
	}
	if r.message == http.StatusText(r.status) || r.message == r.code {
		r.message = ""
	}
	r.is = meaning(r.status, r.code)
	return r
}

// meaning is what a status and an error code come to. Codes: Amazon S3 API Reference, "Error Responses"; 429
// TooManyRequests: Cloudflare R2 and Scaleway docs; RequestRateLimitExceeded: Wasabi docs.
func meaning(status int, code string) error {
	switch code {
	case "SlowDown", "ServiceUnavailable", "TooManyRequests", "RequestRateLimitExceeded", "RequestLimitExceeded", "Throttling", "ThrottlingException":
		return ErrThrottled
	case "NoSuchBucket":
		return ErrNoBucket
	case "NoSuchKey":
		return ErrNotFound
	case "PreconditionFailed":
		return ErrExists
	case "BadDigest":
		return ErrDigest
	case "RequestTimeout", "InternalError":
		return ErrUnreachable
	case "InvalidAccessKeyId", "XAdminUserNotFound", "SignatureDoesNotMatch", "RequestTimeTooSkewed", "AccessDenied",
		"AuthorizationHeaderMalformed", "BucketAlreadyExists", "AllAccessDisabled", "AccountProblem", "ExpiredToken":
		return ErrDenied
	}
	switch {
	case status == http.StatusTooManyRequests, status == http.StatusServiceUnavailable:
		return ErrThrottled
	case status == http.StatusNotImplemented:
		return ErrRejected
	case status >= 500, status == http.StatusRequestTimeout:
		return ErrUnreachable
	case status == http.StatusUnauthorized, status == http.StatusForbidden:
		return ErrDenied
	case status == http.StatusNotFound:
		return ErrNotFound
	case status == http.StatusPreconditionFailed:
		return ErrExists
	}
	return ErrRejected
}

// redact takes our key out of what a store says.
func (s *Store) redact(text string) string {
	return secret.Redact(text, s.cfg.SecretAccessKey, s.cfg.AccessKeyID)
}

// cause gives the innermost words of a failed connection, without the address of the request around them.
func cause(err error) string {
	var u *url.Error
	if errors.As(err, &u) {
		err = u.Err
	}
	var d *smithy.DeserializationError
	if errors.As(err, &d) {
		err = d.Err
	}
	return err.Error()
}

// failed words err for a person: what was being done, what happened, and what to do.
func (s *Store) failed(doing string, err error) error {
	if err == nil {
		return nil
	}
	fix, err := s.explain(err, agentKey)
	return diag.Wrap(err, doing+" at "+s.cfg.Host(), fixProxy(err)+fix)
}

// lasting reports whether a failed connection will fail in the same way again.
func lasting(err error) bool {
	var cert *tls.CertificateVerificationError
	var record tls.RecordHeaderError
	var dns *net.DNSError
	return errors.As(err, &cert) || errors.As(err, &record) || errors.As(err, &dns) && dns.IsNotFound ||
		strings.Contains(err.Error(), "HTTP response to HTTPS client")
}
