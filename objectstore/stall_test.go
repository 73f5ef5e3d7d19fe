package objectstore

import (
	"bytes"
	"context"
	"crypto/md5"
	"errors"
	"io"
	"net/http"
	"strings"
	"testing"
	"time"
)

// A store that stops in the middle of a request or of its answer is one that cannot be reached, and does not hold the run.
func TestStalls(t *testing.T) {
	const most = 200 * time.Millisecond
	big := make([]byte, 32<<20) // more than the buffers on the way take
	cases := []struct {
		name string
		on   http.HandlerFunc
		do   func(ctx context.Context, s *Store) error
	}{
		{"in a request", func(_ http.ResponseWriter, r *http.Request) {
			_, _ = r.Body.Read(make([]byte, 10))
		}, func(ctx context.Context, s *Store) error {
			_, err := s.Put(ctx, "media", Put{Key: "k", Body: bytes.NewReader(big), Size: int64(len(big)), MD5: md5.Sum(big)})
			return err
		}},
		{"in a listing", func(w http.ResponseWriter, _ *http.Request) {
			_, _ = io.WriteString(w, "<ListBucketResult>")
			_ = http.NewResponseController(w).Flush()
		}, func(ctx context.Context, s *Store) error {
			for _, err := range s.List(ctx, "media", "", "") {
				return err
			}
			return nil
		}},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			stop := make(chan struct{})
			s := serve(t, "minio", func(w http.ResponseWriter, r *http.Request) {
				c.on(w, r)
				<-stop
			})
			t.Cleanup(func() { close(stop) }) // before the server is closed, which waits for it
			transport, err := newTransport(s.cfg.CAFile, most)
			if err != nil {
				t.Fatal(err)
			}
			s.http.Transport = &counting{next: transport, store: s}
			ctx, cancel := context.WithTimeout(t.Context(), 5*time.Minute)
			defer cancel()
			if err := c.do(ctx, s); !errors.Is(err, ErrUnreachable) {
				t.Errorf("got %v, want ErrUnreachable", err)
			}
		})
	}
}

// What takes long but goes on is no stall.
func TestSlowIsNoStall(t *testing.T) {
	const most, pieces = 2 * time.Second, 100
	s := serve(t, "minio", func(w http.ResponseWriter, _ *http.Request) {
		for range pieces { // each soon, and all of them in more than the time in which one must come
			_, _ = io.WriteString(w, "piece ")
			_ = http.NewResponseController(w).Flush()
			<-time.After(most * 5 / 4 / pieces)
		}
	})
	transport, err := newTransport(s.cfg.CAFile, most)
	if err != nil {
		t.Fatal(err)
	}
	s.http.Transport = &counting{next: transport, store: s}
	body, err := s.Get(t.Context(), "media", "k")
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = body.Close() }()
	if got, err := io.ReadAll(body); err != nil || string(got) != strings.Repeat("piece ", pieces) {
		t.Errorf("got %q, %v", got, err)
	}
}
