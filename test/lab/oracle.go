package lab

import (
	"encoding/xml"
	"fmt"
	"io"
	"net/http"
	"net/url"
)

// The methods here look at a store, or change it, around its front: they count as no request, and no fault touches them.
// They panic when the gateway itself fails, for then the lab is broken and nothing that it says is worth anything.

// Object returns an object's bytes and headers, and whether it exists.
func (s *S3) Object(bucket, key string) (body []byte, header http.Header, ok bool) {
	resp, err := s.asRoot(http.MethodGet, bucket, key, url.Values{}, nil, nil)
	if err != nil {
		panic(err)
	}
	defer func() { _ = resp.Body.Close() }()
	if resp.StatusCode == http.StatusNotFound {
		return nil, nil, false
	}
	if resp.StatusCode != http.StatusOK {
		panic(fmt.Sprintf("lab: GET %s/%s: %s", bucket, key, resp.Status))
	}
	return must(io.ReadAll(resp.Body)), resp.Header, true
}

// Keys returns all keys in a bucket, in the order of their bytes.
func (s *S3) Keys(bucket string) []string {
	var keys []string
	query := url.Values{"list-type": {"2"}}
	for {
		var page struct {
			Contents              []struct{ Key string }
			IsTruncated           bool
			NextContinuationToken string
		}
		if err := xml.Unmarshal(s.list(bucket, query), &page); err != nil {
			panic(err)
		}
		for _, c := range page.Contents {
			keys = append(keys, c.Key)
		}
		if !page.IsTruncated {
			return keys
		}
		query.Set("continuation-token", page.NextContinuationToken)
	}
}

// list returns one page of a listing, as XML.
func (s *S3) list(bucket string, query url.Values) []byte {
	resp, err := s.asRoot(http.MethodGet, bucket, "", query, nil, nil)
	if err != nil {
		panic(err)
	}
	defer func() { _ = resp.Body.Close() }()
	if resp.StatusCode != http.StatusOK {
		panic(fmt.Sprintf("lab: list %s: %s", bucket, resp.Status))
	}
	return must(io.ReadAll(resp.Body))
}

// Put stores an object, as an app does behind the agent's back.
func (s *S3) Put(bucket, key string, body []byte, header http.Header) {
	c := &call{operation: "PutObject", bucket: bucket, key: key, acl: header.Get("X-Amz-Acl")}
	if header != nil {
		header = header.Clone()
		header.Del("X-Amz-Acl") // it is the front's, where there is one
	}
	s.change(http.MethodPut, bucket, key, body, header)
	s.remember(c)
}

// Delete removes an object, as an app does behind the agent's back.
func (s *S3) Delete(bucket, key string) { s.change(http.MethodDelete, bucket, key, nil, nil) }

func (s *S3) change(method, bucket, key string, body []byte, header http.Header) {
	resp, err := s.asRoot(method, bucket, key, url.Values{}, body, header)
	if err != nil {
		panic(err)
	}
	defer func() { _ = resp.Body.Close() }()
	if resp.StatusCode >= 300 {
		panic(fmt.Sprintf("lab: %s %s/%s: %s", method, bucket, key, resp.Status))
	}
}

func must[T any](v T, err error) T {
	if err != nil {
		panic(fmt.Sprintf("lab: the gateway failed: %s", err))
	}
	return v
}

// RemoveBucket removes a bucket with all that is in it; one that does not exist is fine.
func (s *S3) RemoveBucket(bucket string) {
	if !s.has(bucket) {
		return
	}
	for _, key := range s.Keys(bucket) {
		s.Delete(bucket, key)
	}
	s.change(http.MethodDelete, bucket, "", nil, nil)
	s.remember(&call{operation: "DeleteBucket", bucket: bucket})
}
