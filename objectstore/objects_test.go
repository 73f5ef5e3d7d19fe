package objectstore

import (
	"bytes"
	"context"
	"crypto/md5"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/converge-agent/converge/diag"
)

func TestPutComparesBytes(t *testing.T) {
	t.Run("the store has other bytes", func(t *testing.T) {
		s := serve(t, "minio", func(w http.ResponseWriter, _ *http.Request) { w.Header().Set("ETag", `"0123"`) })
		if _, err := s.Put(t.Context(), "media", somePut("hello")); !errors.Is(err, ErrDigest) {
			t.Errorf("error = %v, want ErrDigest", err)
		}
	})
	t.Run("the file shrank", func(t *testing.T) {
		s := serve(t, "minio", func(_ http.ResponseWriter, r *http.Request) { _, _ = io.Copy(io.Discard, r.Body) })
		p := somePut("hello")
		p.Body, p.Size = strings.NewReader("hel"), 5
		if _, err := s.Put(t.Context(), "media", p); !errors.Is(err, ErrDigest) {
			t.Errorf("error = %v, want ErrDigest", err)
		}
		if got := s.Requests()["Total"]; got > 1 {
			t.Errorf("%d requests, want at most 1: the file will not grow again", got)
		}
	})
	t.Run("the file grew", func(t *testing.T) {
		s := serve(t, "minio", func(w http.ResponseWriter, r *http.Request) {
			body, _ := io.ReadAll(r.Body)
			w.Header().Set("ETag", fmt.Sprintf("%q", fmt.Sprintf("%x", md5.Sum(body))))
		})
		p := somePut("hello")
		p.Body = strings.NewReader("hello and more")
		if _, err := s.Put(t.Context(), "media", p); err != nil {
			t.Errorf("error = %v, want the first 5 bytes uploaded", err)
		}
	})
	t.Run("too large", func(t *testing.T) {
		s := serve(t, "minio", func(http.ResponseWriter, *http.Request) {})
		p := somePut("hello")
		p.Size = MaxPutSize + 1
		if _, err := s.Put(t.Context(), "media", p); err == nil || diag.Fix(err) == "" || s.Requests()["Total"] != 0 {
			t.Errorf("error = %v after %d requests, want a refusal without any", err, s.Requests()["Total"])
		}
	})
}

func TestIfAbsent(t *testing.T) {
	t.Run("conditional", func(t *testing.T) {
		s := serve(t, "minio", func(w http.ResponseWriter, r *http.Request) {
			if r.Header.Get("If-None-Match") != "*" {
				t.Errorf("If-None-Match = %q, want *", r.Header.Get("If-None-Match"))
			}
			w.WriteHeader(http.StatusPreconditionFailed)
			_, _ = io.WriteString(w, s3Error("PreconditionFailed", "x"))
		})
		p := somePut("hello")
		p.IfAbsent = true
		if _, err := s.Put(t.Context(), "media", p); !errors.Is(err, ErrExists) {
			t.Errorf("error = %v, want ErrExists", err)
		}
	})
	t.Run("by HEAD", func(t *testing.T) {
		s := serve(t, "backblaze-b2", func(_ http.ResponseWriter, r *http.Request) {
			if r.Method != http.MethodHead {
				t.Errorf("%s %s although the key is taken", r.Method, r.URL)
			}
		})
		p := somePut("hello")
		p.IfAbsent = true
		if _, err := s.Put(t.Context(), "media", p); !errors.Is(err, ErrExists) {
			t.Errorf("error = %v, want ErrExists", err)
		}
	})
	t.Run("our own lost upload", func(t *testing.T) {
		puts := 0
		s := serve(t, "minio", func(w http.ResponseWriter, r *http.Request) {
			_, _ = io.Copy(io.Discard, r.Body)
			switch {
			case r.Method == http.MethodHead:
				w.Header().Set("ETag", `"`+etagOf("hello")+`"`)
				w.Header().Set("Content-Length", "5")
			case puts == 0:
				puts++
				w.WriteHeader(http.StatusInternalServerError) // it arrived, but nobody was told
			default:
				w.WriteHeader(http.StatusPreconditionFailed)
				_, _ = io.WriteString(w, s3Error("PreconditionFailed", "x"))
			}
		})
		p := somePut("hello")
		p.IfAbsent = true
		if etag, err := s.Put(t.Context(), "media", p); err != nil || etag != etagOf("hello") {
			t.Errorf("Put = %q, %v; want success: what is in the way is ours", etag, err)
		}
	})
}

func TestGetAndHead(t *testing.T) {
	s := serve(t, "minio", func(w http.ResponseWriter, r *http.Request) {
		if strings.HasSuffix(r.URL.Path, "none") {
			w.WriteHeader(http.StatusNotFound)
			return
		}
		w.Header().Set("ETag", `"abc"`)
		w.Header().Set("Last-Modified", "Sat, 21 Nov 2026 01:00:00 GMT")
		_, _ = io.Copy(w, bytes.NewBufferString("hello"))
	})
	o, err := s.Head(t.Context(), "media", "k")
	want := Object{Key: "k", Size: 5, ETag: "abc", Modified: time.Date(2026, 11, 21, 1, 0, 0, 0, time.UTC)}
	if err != nil || o != want {
		t.Errorf("Head = %+v, %v; want %+v", o, err, want)
	}
	if _, err := s.Head(t.Context(), "media", "none"); !errors.Is(err, ErrNotFound) {
		t.Errorf("Head of nothing: %v, want ErrNotFound", err)
	}
	body, err := s.Get(t.Context(), "media", "k")
	if err != nil {
		t.Fatal(err)
	}
	text, err := io.ReadAll(body)
	if string(text) != "hello" || err != nil || body.Close() != nil {
		t.Errorf("Get = %q, %v", text, err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := s.Head(ctx, "media", "k"); !errors.Is(err, context.Canceled) {
		t.Errorf("cancelled Head: %v, want context.Canceled", err)
	}
}
