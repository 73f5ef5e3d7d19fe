package objectstore

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strings"
)

// Domain is what the address of a bucket's custom domain answers to somebody without a key.
type Domain struct {
	Silent   string // why it did not answer; "" where it did, whatever it said
	Listable bool   // it gave a listing
	Status   int    // the HTTP status; 0 where it did not answer
}

// Domain asks an address, such as "https://media.example.com", for a listing: one anonymous request, which is not repeated, for
// what comes of a wrong answer is no more than a closer look. Whether the bucket is connected to the address cannot be told from
// that: a bucket that is has no page there either.
func (s *Store) Domain(ctx context.Context, address string) Domain {
	var d Domain
	err := s.read(ctx, s.askDomain(context.WithValue(ctx, opKey{}, "AnonymousGET"), address, &d))
	var r *reply
	switch {
	case err == nil:
	case errors.As(err, &r) && strings.Contains(r.message, "no such host"):
		d.Silent = "there is no such host"
	case errors.As(err, &r) && r.status != 0:
		d.Silent = fmt.Sprintf("it answers %d", r.status)
	case errors.As(err, &r):
		d.Silent = r.message
	default:
		d.Silent = err.Error()
	}
	return d
}

func (s *Store) askDomain(ctx context.Context, address string, d *Domain) error {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, address+"/?list-type=2&max-keys=1", nil)
	if err != nil {
		return err
	}
	resp, err := s.http.Do(req)
	if err != nil {
		return err
	}
	defer func() { _ = resp.Body.Close() }()
	page, err := io.ReadAll(io.LimitReader(resp.Body, 1<<20))
	if err != nil {
		return err
	}
	if resp.StatusCode >= 500 {
		return &reply{is: ErrUnreachable, status: resp.StatusCode, header: resp.Header}
	}
	d.Status = resp.StatusCode
	// A website may have a page of its own there, so that the status alone says nothing.
	d.Listable = resp.StatusCode == http.StatusOK && bytes.Contains(page, []byte("<ListBucketResult"))
	return nil
}
