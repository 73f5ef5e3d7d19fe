package lab

import (
	"bufio"
	"context"
	"errors"
	"io"
	"net"
	"net/http"
	"net/url"
	"slices"
	"strings"
)

// hopHeaders belong to one connection and are not passed on (RFC 9110 section 7.6.1), nor is what the gateway gets anew.
var hopHeaders = []string{"Connection", "Keep-Alive", "Transfer-Encoding", "Upgrade", "Te", "Trailer", "Expect", "Authorization", "X-Amz-Date", "X-Amz-Security-Token"}

// forward has the gateway answer a call, and keeps the list of buckets.
func (s *S3) forward(w http.ResponseWriter, r *http.Request, c *call) {
	resp, err := s.roundTrip(r, c)
	if err != nil {
		if r.Context().Err() != nil || errors.Is(err, io.ErrUnexpectedEOF) {
			panic(http.ErrAbortHandler) // the client is gone
		}
		(&apiError{503, "ServiceUnavailable", err.Error()}).write(w, r)
		return
	}
	defer func() { _ = resp.Body.Close() }()
	if resp.StatusCode < 300 {
		s.remember(c)
	}
	if err := errors.Join(encodeListing(c, resp), s.rules.answered(c, resp)); err != nil {
		(&apiError{500, "InternalError", err.Error()}).write(w, r)
		return
	}
	h := w.Header()
	for name, values := range resp.Header {
		if !slices.Contains(hopHeaders, name) && name != "Server" {
			h[name] = values
		}
	}
	w.WriteHeader(resp.StatusCode)
	_, _ = io.Copy(w, resp.Body) // a client that went away has no use for the rest
}

// remember keeps the list of buckets after a call that succeeded.
func (s *S3) remember(c *call) {
	s.mu.Lock()
	defer s.mu.Unlock()
	switch c.operation {
	case "CreateBucket":
		if s.buckets[c.bucket] == nil {
			s.buckets[c.bucket] = &bucket{ACL: "private"}
		}
	case "DeleteBucket":
		delete(s.buckets, c.bucket)
	default:
		s.noteACL(c)
		return
	}
	s.save()
}

// roundTrip sends a call to the gateway as its caller.
func (s *S3) roundTrip(r *http.Request, c *call) (*http.Response, error) {
	path := c.path()
	if strings.HasSuffix(r.URL.Path, "/") && c.key == "" && c.bucket != "" {
		path = "/" + c.bucket
	}
	u := &url.URL{Scheme: "http", Host: "gateway", Path: path, RawPath: encodePath(path), RawQuery: withoutSignature(c.query).Encode()}
	// What was begun is ended, also when the client is gone meanwhile: AwaitIdle then tells that nothing is to come.
	ctx := context.WithoutCancel(r.Context())
	out, err := http.NewRequestWithContext(ctx, r.Method, u.String(), r.Body)
	if err != nil {
		return nil, err
	}
	out.URL = u
	out.ContentLength = r.ContentLength
	if r.ContentLength == 0 {
		out.Body = http.NoBody
	}
	out.Header = r.Header.Clone()
	for _, name := range hopHeaders {
		out.Header.Del(name)
	}
	if !c.anonymous {
		if err := resign(ctx, out, c.caller); err != nil {
			return nil, err
		}
	}
	return s.gateway.client.RoundTrip(out)
}

// asRoot does one request around the front, as nobody outside the lab can.
func (s *S3) asRoot(method, bucket, key string, query url.Values, body []byte, header http.Header) (*http.Response, error) {
	c := &call{bucket: bucket, key: key, query: query, caller: s.gateway.root}
	r, err := http.NewRequestWithContext(context.Background(), method, "http://gateway/", nil)
	if err != nil {
		return nil, err
	}
	if body != nil {
		r.Body, r.ContentLength = io.NopCloser(strings.NewReader(string(body))), int64(len(body))
	}
	if header != nil {
		r.Header = header.Clone()
	}
	return s.roundTrip(r, c)
}

// statusWriter counts an answer once, by its status, before anything of it is sent: who has the answer finds it counted. One that is
// never sent counts as status 0.
type statusWriter struct {
	http.ResponseWriter
	count   func(status int)
	counted bool
}

func (w *statusWriter) answers(status int) {
	if !w.counted {
		w.counted = true
		w.count(status)
	}
}

// WriteHeader counts and passes on a status; those below 200 are not final.
func (w *statusWriter) WriteHeader(status int) {
	if status >= 200 {
		w.answers(status)
	}
	w.ResponseWriter.WriteHeader(status)
}

func (w *statusWriter) Write(b []byte) (int, error) {
	w.answers(http.StatusOK)
	return w.ResponseWriter.Write(b)
}

// Hijack gives the connection away, to be broken off.
func (w *statusWriter) Hijack() (net.Conn, *bufio.ReadWriter, error) {
	w.answers(0)
	return http.NewResponseController(w.ResponseWriter).Hijack()
}

// Unwrap lets http.ResponseController reach the rest of the connection.
func (w *statusWriter) Unwrap() http.ResponseWriter { return w.ResponseWriter }
