package lab

import (
	"context"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	v4 "github.com/aws/aws-sdk-go-v2/aws/signer/v4"
)

// The fronts check signatures themselves, for they change requests on their way to the gateway (a region, a header that a
// provider ignores) and sign them anew. The form is "Authenticating Requests (AWS Signature Version 4)" of the Amazon S3
// API reference.

const (
	signatureTime   = "20060102T150405Z"
	unsignedPayload = "UNSIGNED-PAYLOAD"
	// maxSkew is how far a client's clock may be off (Amazon S3 error RequestTimeTooSkewed).
	maxSkew = 15 * time.Minute
)

// signature is what a request says of its own signature.
type signature struct {
	key, date, region string
	time              time.Time
	expires           time.Duration // of a presigned URL; else 0
	headers           []string      // that are signed, in lower case
	given             string
	payload           string
}

// parseSignature returns the signature of r, or nil where it carries none.
func parseSignature(r *http.Request) (*signature, *apiError) {
	q := r.URL.Query()
	header := r.Header.Get("Authorization")
	var s signature
	var credential, signedHeaders, date string
	switch {
	case header != "":
		scheme, rest, _ := strings.Cut(header, " ")
		if scheme != "AWS4-HMAC-SHA256" {
			return nil, errUnsupportedSignature
		}
		for _, part := range strings.Split(rest, ",") {
			name, value, _ := strings.Cut(strings.TrimSpace(part), "=")
			switch name {
			case "Credential":
				credential = value
			case "SignedHeaders":
				signedHeaders = value
			case "Signature":
				s.given = value
			}
		}
		date, s.payload = r.Header.Get("X-Amz-Date"), r.Header.Get("X-Amz-Content-Sha256")
	case q.Has("X-Amz-Signature"):
		credential, signedHeaders, s.given = q.Get("X-Amz-Credential"), q.Get("X-Amz-SignedHeaders"), q.Get("X-Amz-Signature")
		date, s.payload = q.Get("X-Amz-Date"), unsignedPayload
		seconds, err := strconv.Atoi(q.Get("X-Amz-Expires"))
		if err != nil || seconds < 1 || seconds > 604800 {
			return nil, errMalformedSignature
		}
		s.expires = time.Duration(seconds) * time.Second
	default:
		return nil, nil
	}
	scope := strings.Split(credential, "/")
	when, err := time.Parse(signatureTime, date)
	if len(scope) != 5 || scope[3] != "s3" || scope[4] != "aws4_request" || err != nil {
		return nil, errMalformedSignature
	}
	s.key, s.date, s.region, s.time = scope[0], scope[1], scope[2], when
	s.headers = strings.Split(signedHeaders, ";")
	return &s, nil
}

// check says what is wrong with the signature of r when it should be made with secret, or returns nil.
func (s *signature) check(r *http.Request, secret string, now time.Time) *apiError {
	switch {
	case s.expires > 0 && now.After(s.time.Add(s.expires)):
		return errExpired
	case s.expires == 0 && now.Sub(s.time).Abs() > maxSkew:
		return errSkewed
	case !slices.Contains(s.headers, "host"):
		return errMalformedSignature
	}
	if !hmac.Equal([]byte(s.sign(r, secret)), []byte(s.given)) {
		return errWrongSignature
	}
	return nil
}

// sign computes the signature that r should carry.
func (s *signature) sign(r *http.Request, secret string) string {
	var headers strings.Builder
	for _, name := range s.headers {
		fmt.Fprintf(&headers, "%s:%s\n", name, signedHeader(r, name))
	}
	canonical := strings.Join([]string{
		r.Method, encodePath(r.URL.Path), canonicalQuery(r.URL.RawQuery), headers.String(), strings.Join(s.headers, ";"), s.payload,
	}, "\n")
	scope := strings.Join([]string{s.date, s.region, "s3", "aws4_request"}, "/")
	digest := sha256.Sum256([]byte(canonical))
	text := strings.Join([]string{"AWS4-HMAC-SHA256", s.time.Format(signatureTime), scope, hex.EncodeToString(digest[:])}, "\n")
	key := []byte("AWS4" + secret)
	for _, part := range []string{s.date, s.region, "s3", "aws4_request"} {
		key = keyed(key, part)
	}
	return hex.EncodeToString(keyed(key, text))
}

func keyed(key []byte, text string) []byte {
	h := hmac.New(sha256.New, key)
	h.Write([]byte(text))
	return h.Sum(nil)
}

func signedHeader(r *http.Request, name string) string {
	switch name {
	case "host":
		return r.Host
	case "content-length":
		return strconv.FormatInt(r.ContentLength, 10)
	}
	var values []string
	for _, v := range r.Header.Values(name) {
		values = append(values, strings.Join(strings.Fields(v), " "))
	}
	return strings.Join(values, ",")
}

// canonicalQuery is raw without a signature, its parameters encoded once and sorted.
func canonicalQuery(raw string) string {
	var list []string
	for _, part := range strings.Split(raw, "&") {
		name, value, _ := strings.Cut(part, "=")
		if name == "" || name == "X-Amz-Signature" {
			continue
		}
		list = append(list, encodeQuery(name)+"="+encodeQuery(value))
	}
	slices.Sort(list)
	return strings.Join(list, "&")
}

// encodeQuery brings one name or value of a query to the form that is signed; "+" stands for itself there.
func encodeQuery(s string) string {
	if plain, err := url.PathUnescape(s); err == nil {
		s = plain
	}
	return encode(s, "")
}

// encodePath encodes all of a path but its slashes and the unreserved characters of RFC 3986.
func encodePath(p string) string { return encode(p, "/") }

func encode(s, keep string) string {
	var b strings.Builder
	for i := range len(s) {
		c := s[i]
		if strings.IndexByte(alphanumeric, c) >= 0 || strings.IndexByte("-._~"+keep, c) >= 0 {
			b.WriteByte(c)
			continue
		}
		fmt.Fprintf(&b, "%%%02X", c)
	}
	return b.String()
}

// resign signs r, as it will be sent to the gateway, for an account. The hash of the body that the client gave is kept, so
// that the gateway checks the body itself.
func resign(ctx context.Context, r *http.Request, acc account) error {
	payload := r.Header.Get("X-Amz-Content-Sha256")
	if payload == "" {
		payload = unsignedPayload
		r.Header.Set("X-Amz-Content-Sha256", payload)
	}
	r.Header.Del("Authorization")
	signer := v4.NewSigner(func(o *v4.SignerOptions) { o.DisableURIPathEscaping = true })
	return signer.SignHTTP(ctx, aws.Credentials{AccessKeyID: acc.key, SecretAccessKey: acc.secret}, r, payload, "s3", gatewayRegion, time.Now())
}

// withoutSignature returns q without the parameters of a presigned URL.
func withoutSignature(q url.Values) url.Values {
	for name := range q {
		if strings.HasPrefix(name, "X-Amz-") {
			q.Del(name)
		}
	}
	return q
}
