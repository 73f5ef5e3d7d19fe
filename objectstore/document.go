package objectstore

import (
	"bytes"
	"context"
	"crypto/md5" //nolint:gosec // the S3 protocol's checksum of a body, Content-MD5
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"encoding/xml"
	"errors"
	"io"
	"net/http"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	v4 "github.com/aws/aws-sdk-go-v2/aws/signer/v4"
)

// maxDocument is more than any document of a bucket may have, in bytes (Amazon S3 User Guide: 64 KB for CORS).
const maxDocument = 4 << 20

// leastSize is a header that goes with a lifecycle: which objects its transitions leave where they are. Without it a PUT sets
// Amazon's default of today, and rules of others would move other objects than before (Amazon S3 API Reference,
// PutBucketLifecycleConfiguration).
const leastSize = "X-Amz-Transition-Default-Minimum-Object-Size"

// document is one of a bucket's XML documents.
type document struct {
	text      []byte
	leastSize string // the header of that name; "" where there is none
}

// document asks for, sets or deletes one of a bucket's XML documents, byte by byte as it stands. The SDK's own calls would
// drop what the SDK does not know of it, and a rule of somebody else's that lost its filter could delete what it was not to.
func (s *Store) document(ctx context.Context, operation, method, bucket, subresource string, sent document) (answer document, err error) {
	err = s.do(ctx, operation, func(ctx context.Context) (err error) {
		answer, err = s.askDocument(ctx, method, bucket, subresource, sent)
		return err
	})
	return answer, err
}

func (s *Store) askDocument(ctx context.Context, method, bucket, subresource string, sent document) (document, error) {
	req, err := http.NewRequestWithContext(ctx, method, s.cfg.BucketURL(bucket)+"/?"+subresource+"=", bytes.NewReader(sent.text))
	if err != nil {
		return document{}, err
	}
	if sent.leastSize != "" {
		req.Header.Set(leastSize, sent.leastSize)
	}
	if err := s.sign(ctx, req, sent.text); err != nil {
		return document{}, err
	}
	resp, err := s.http.Do(req)
	if err != nil {
		return document{}, err
	}
	defer func() { _ = resp.Body.Close() }()
	answer, err := io.ReadAll(io.LimitReader(resp.Body, maxDocument))
	switch {
	case resp.StatusCode >= 300:
		return document{}, s.refusal(resp, answer)
	case err != nil:
		return document{}, err
	}
	return document{text: answer, leastSize: resp.Header.Get(leastSize)}, nil
}

func (s *Store) sign(ctx context.Context, req *http.Request, body []byte) error {
	digest := sha256.Sum256(body)
	payload := hex.EncodeToString(digest[:])
	req.Header.Set("X-Amz-Content-Sha256", payload)
	if len(body) > 0 {
		sum := md5.Sum(body) //nolint:gosec // see the import
		req.Header.Set("Content-Md5", base64.StdEncoding.EncodeToString(sum[:]))
		req.Header.Set("Content-Type", "application/xml")
	}
	signer := v4.NewSigner(func(o *v4.SignerOptions) { o.DisableURIPathEscaping = true })
	key := aws.Credentials{AccessKeyID: s.cfg.AccessKeyID.Reveal(), SecretAccessKey: s.cfg.SecretAccessKey.Reveal()}
	return signer.SignHTTP(ctx, key, req, payload, "s3", s.provider.SigningRegion(s.cfg.Region), time.Now())
}

// refusal is the reply that an answer other than 2xx comes to.
func (s *Store) refusal(resp *http.Response, answer []byte) error {
	var said struct {
		XMLName xml.Name `xml:"Error"`
		Code    string
		Message string
	}
	r := &reply{status: resp.StatusCode, header: resp.Header}
	if xml.Unmarshal(answer, &said) == nil {
		r.code, r.message = s.redact(said.Code), s.redact(said.Message)
	}
	r.is = meaning(r.status, r.code)
	return r
}

// Unsupported reports whether a store failed because it does not have what it was asked for.
func Unsupported(err error) bool {
	var r *reply
	return errors.As(err, &r) && r.status == http.StatusNotImplemented
}
