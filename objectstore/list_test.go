package objectstore

import (
	"errors"
	"fmt"
	"io"
	"net/http"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
)

// page renders one page of a listing.
func page(truncated, token string, keys ...string) string {
	var b strings.Builder
	b.WriteString(`<?xml version="1.0"?><ListBucketResult xmlns="http://s3.amazonaws.com/doc/2006-03-01/"><Name>media</Name>`)
	if truncated != "" {
		fmt.Fprintf(&b, "<IsTruncated>%s</IsTruncated>", truncated)
	}
	if token != "" {
		fmt.Fprintf(&b, "<NextContinuationToken>%s</NextContinuationToken>", token)
	}
	fmt.Fprintf(&b, "<KeyCount>%d</KeyCount>", len(keys))
	for _, k := range keys {
		fmt.Fprintf(&b, `<Contents><Key>%s</Key><Size>5</Size><ETag>&quot;%s&quot;</ETag><LastModified>2026-11-21T01:00:00.000Z</LastModified></Contents>`, k, "abc")
	}
	b.WriteString("</ListBucketResult>")
	return b.String()
}

// listed collects a listing.
func listed(t *testing.T, s *Store, prefix, after string) (keys []string, err error) {
	t.Helper()
	for o, e := range s.List(t.Context(), "media", prefix, after) {
		if e != nil {
			return keys, e
		}
		if o.ETag != "abc" || o.Size != 5 || o.Modified.IsZero() {
			t.Errorf("object = %+v, want ETag abc without quotes, 5 bytes, a time", o)
		}
		keys = append(keys, o.Key)
	}
	return keys, nil
}

func TestListPages(t *testing.T) {
	s := serve(t, "minio", func(w http.ResponseWriter, r *http.Request) {
		q := r.URL.Query()
		if q.Get("prefix") != "cache/" || q.Get("start-after") != "cache/0" || q.Get("max-keys") != "1000" {
			t.Errorf("query = %s", r.URL.RawQuery)
		}
		if q.Get("continuation-token") == "" {
			_, _ = io.WriteString(w, page("true", "next", "cache/a", "cache/b"))
			return
		}
		_, _ = io.WriteString(w, page("false", "", "cache/ba", "cache/c"))
	})
	keys, err := listed(t, s, "cache/", "cache/0")
	if want := []string{"cache/a", "cache/b", "cache/ba", "cache/c"}; err != nil || !slices.Equal(keys, want) {
		t.Errorf("List = %q, %v; want %q", keys, err, want)
	}
	for o, err := range s.List(t.Context(), "media", "cache/", "cache/0") {
		if o.Key != "cache/a" || err != nil {
			t.Errorf("first key %q, %v", o.Key, err)
		}
		break // a caller may stop
	}
	if got := s.Requests()["ListObjectsV2"]; got != 3 {
		t.Errorf("%d requests, want 3", got)
	}
}

// TestListingsThatCannotBeTrusted: what looks like a shorter bucket must never pass for one.
func TestListingsThatCannotBeTrusted(t *testing.T) {
	whole := page("false", "", "a", "b", "c")
	tests := map[string]string{
		"nothing at all":             "",
		"a page of something else":   "<html><body>Please sign in</body></html>",
		"no IsTruncated":             page("", "", "a"),
		"truncated without a token":  page("true", "", "a"),
		"out of order":               page("false", "", "b", "a"),
		"a key twice":                page("false", "", "a", "a"),
		"outside the prefix":         page("false", "", "a", "zebra"),
		"fewer keys than were told":  strings.Replace(whole, "<KeyCount>3<", "<KeyCount>4<", 1),
		"cut off between two keys":   whole[:strings.LastIndex(whole, "<Contents>")],
		"cut off within a key":       whole[:strings.LastIndex(whole, "c</Key>")],
		"the same page again":        page("true", "again", "a"),
		"cut off at the end of root": strings.TrimSuffix(whole, "</ListBucketResult>"),
	}
	for name, body := range tests {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				s := within(t, func(r *http.Request) (*http.Response, error) { return answer(r, 200, body), nil })
				prefix := ""
				if name == "outside the prefix" {
					prefix = "a"
				}
				keys, err := listed(t, s, prefix, "")
				if !errors.Is(err, ErrListing) && !errors.Is(err, ErrUnreachable) {
					t.Errorf("List = %q, error %v; want ErrListing or ErrUnreachable", keys, err)
				}
			})
		})
	}
}

func TestListRepeatsAPageThatBroke(t *testing.T) {
	n := 0
	s := serve(t, "minio", func(w http.ResponseWriter, _ *http.Request) {
		body := page("false", "", "a", "b")
		if n++; n == 1 {
			w.Header().Set("Content-Length", fmt.Sprint(len(body)))
			_, _ = io.WriteString(w, body[:len(body)/2]) // and the connection ends
			return
		}
		_, _ = io.WriteString(w, body)
	})
	keys, err := listed(t, s, "", "")
	if err != nil || !slices.Equal(keys, []string{"a", "b"}) || n != 2 {
		t.Errorf("List = %q, %v after %d requests; want a, b after 2", keys, err, n)
	}
}
