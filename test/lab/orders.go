package lab

import (
	"bytes"
	"net/http"
	"regexp"
	"slices"
	"strconv"
	"sync"
	"time"
)

// Order decides which fault meets a request; nil is none. It is what S3.Fault takes.
type Order = func(*http.Request) *Fault

// Operation is the name of what a request asks for in the Amazon S3 API reference: "PutObject".
func (s *S3) Operation(r *http.Request) string { return parseCall(r, s.rules.domains()).operation }

// Only has an order count for some operations alone.
func (s *S3) Only(o Order, operations ...string) Order {
	return func(r *http.Request) *Fault {
		if !slices.Contains(operations, s.Operation(r)) {
			return nil
		}
		return o(r)
	}
}

// Always has a fault meet every request.
func Always(f Fault) Order { return func(*http.Request) *Fault { return &f } }

// Every has a fault meet every nth request.
func Every(n int, f Fault) Order {
	var mu sync.Mutex
	came := 0
	return func(*http.Request) *Fault {
		mu.Lock()
		defer mu.Unlock()
		if came++; came%n != 0 {
			return nil
		}
		return &f
	}
}

// Tries has a fault meet the first n tries of each request: of each method at each address.
func Tries(n int, f Fault) Order {
	var mu sync.Mutex
	came := map[string]int{}
	return func(r *http.Request) *Fault {
		mu.Lock()
		defer mu.Unlock()
		what := r.Method + " " + r.URL.String()
		if came[what]++; came[what] > n {
			return nil
		}
		return &f
	}
}

// Throttled is what the provider answers to too many requests: 429 TooManyRequests (Cloudflare R2 docs, "Error codes";
// Scaleway docs, "Request rate error"), 400 RequestRateLimitExceeded (Wasabi docs), 503 SlowDown with a Retry-After
// (Backblaze docs, "Rate limits"), and 503 SlowDown (Amazon S3 API Reference, "Error responses") at the others.
func (s *S3) Throttled() Fault {
	switch s.Personality {
	case R2: // the words: users' reports
		return Fault{Status: 429, Code: "TooManyRequests", Message: "Reduce your concurrent request rate for the same object."}
	case Scaleway:
		return Fault{Status: 429, Code: "TooManyRequests", Message: "Please reduce your request rate"}
	case Wasabi:
		return Fault{Status: 400, Code: "RequestRateLimitExceeded", Message: "Please reduce your request rate"}
	case B2:
		return Fault{Status: 503, Code: "SlowDown", Message: "Please reduce your request rate", Header: http.Header{"Retry-After": {"1"}}}
	}
	return Fault{Status: 503, Code: "SlowDown", Message: "Please reduce your request rate."}
}

// Limit is how many requests a store bears.
type Limit struct {
	PerSecond float64
	Burst     int // that pass at once; 1 where it is 0
	// Of tells what a request counts for: those with the same text have the limit in common, and those with "" have none.
	// All requests have one limit in common where it is nil.
	Of func(*http.Request) string
	// Now is the time; time.Now where it is nil.
	Now func() time.Time
}

// RateLimit has the requests beyond a limit throttled.
func (s *S3) RateLimit(l Limit) Order {
	if l.Now == nil {
		l.Now = time.Now
	}
	type bucket struct { // of tokens
		left float64
		at   time.Time
	}
	var mu sync.Mutex
	buckets := map[string]*bucket{}
	throttled, most := s.Throttled(), float64(max(l.Burst, 1))
	return func(r *http.Request) *Fault {
		what := "all"
		if l.Of != nil {
			what = l.Of(r)
		}
		if what == "" {
			return nil
		}
		mu.Lock()
		defer mu.Unlock()
		now := l.Now()
		b := buckets[what]
		if b == nil {
			b = &bucket{most, now}
			buckets[what] = b
		}
		b.left, b.at = min(most, b.left+l.PerSecond*now.Sub(b.at).Seconds()), now
		if b.left < 1 {
			return &throttled
		}
		b.left--
		return nil
	}
}

// WritesOfKey counts the writes of each key by themselves, for the limit that R2 has: one a second ("Limits").
func (s *S3) WritesOfKey(r *http.Request) string {
	c := parseCall(r, s.rules.domains())
	if !c.storesObject() && c.operation != "DeleteObject" && c.operation != "CompleteMultipartUpload" {
		return ""
	}
	return c.path()
}

// Answer is what a store has to say to a request, before it is sent.
type Answer struct {
	Status int
	Header http.Header
	Body   []byte
}

// alter has the store answer, and sends what Alter makes of that.
func (f *Fault) alter(w http.ResponseWriter, r *http.Request, next http.HandlerFunc) {
	taken := &taker{answer: Answer{Status: http.StatusOK, Header: http.Header{}}}
	next(taken, r)
	a := &taken.answer
	f.Alter(a)
	for name, values := range a.Header {
		w.Header()[name] = values
	}
	if r.Method != http.MethodHead {
		w.Header().Set("Content-Length", strconv.Itoa(len(a.Body)))
	}
	w.WriteHeader(a.Status)
	_, _ = w.Write(a.Body) // a client that went away has no use for it
}

// taker keeps an answer instead of sending it.
type taker struct{ answer Answer }

func (t *taker) Header() http.Header { return t.answer.Header }

func (t *taker) WriteHeader(status int) {
	if status >= 200 {
		t.answer.Status = status
	}
}

func (t *taker) Write(b []byte) (int, error) {
	t.answer.Body = append(t.answer.Body, b...)
	return len(b), nil
}

// Wrong is one way in which a store does not tell the truth, as broken stores, proxies and networks do.
type Wrong struct {
	Name  string
	Order func(s *S3) Order
}

// WrongAnswers are those that can be ordered. All are lasting.
func WrongAnswers() []Wrong {
	return []Wrong{
		{"success with an error in it", func(*S3) Order {
			return Always(Fault{Status: 200, Body: []byte(`<?xml version="1.0" encoding="UTF-8"?><Error><Code>InternalError</Code><Message>We encountered an internal error. Please try again.</Message></Error>`)})
		}},
		{"the page of a captive portal", func(*S3) Order {
			return Always(Fault{
				Status: 200, Header: http.Header{"Content-Type": {"text/html; charset=utf-8"}},
				Body: []byte("<!DOCTYPE html><html><head><title>Welcome</title></head><body><form action=/login><button>Accept</button></form></body></html>\n"),
			})
		}},
		{"success with nothing in it", func(*S3) Order { return Always(Fault{Status: 200, Body: []byte{}}) }},
		{"a listing that is cut off", altering(halved, listings...)},
		{"a listing that leaves out half", altering(shortened, listings...)},
		{"a listing out of order", altering(reversed, listings...)},
		{"an old listing", oldListing},
		{"another ETag", altering(otherETag, "PutObject", "HeadObject", "GetObject")},
		{"HEAD knows of no object", altering(func(a *Answer) { a.Status, a.Body = http.StatusNotFound, nil }, "HeadObject")},
		{"a clock of yesterday", altering(func(a *Answer) {
			a.Header.Set("Date", time.Now().Add(-24*time.Hour).UTC().Format(http.TimeFormat))
		})},
	}
}

// listings are the operations that tell what is in a bucket.
var listings = []string{"ListObjects", "ListObjectsV2"}

// altering has the answers to some operations changed; to all where none is named.
func altering(change func(*Answer), operations ...string) func(*S3) Order {
	return func(s *S3) Order {
		o := Always(Fault{Alter: change})
		if len(operations) == 0 {
			return o
		}
		return s.Only(o, operations...)
	}
}

func halved(a *Answer) { a.Body = a.Body[:len(a.Body)/2] }

// listedObject is one of the objects in a listing.
var listedObject = regexp.MustCompile(`(?s)<Contents>.*?</Contents>`)

// shortened takes the second half of the objects out of a listing, and says that there are no others.
func shortened(a *Answer) {
	all := listedObject.FindAll(a.Body, -1)
	for _, object := range all[(len(all)+1)/2:] {
		a.Body = bytes.Replace(a.Body, object, nil, 1)
	}
	a.Body = bytes.Replace(a.Body, []byte("<IsTruncated>true<"), []byte("<IsTruncated>false<"), 1)
}

func reversed(a *Answer) {
	all := listedObject.FindAll(bytes.Clone(a.Body), -1)
	n := len(all)
	a.Body = listedObject.ReplaceAllFunc(a.Body, func([]byte) []byte {
		n--
		return all[n]
	})
}

// oldListing answers each listing as it was answered first, until the order ends.
func oldListing(s *S3) Order {
	var mu sync.Mutex
	old := map[string]Answer{}
	return s.Only(func(r *http.Request) *Fault {
		what := r.URL.String()
		return &Fault{Alter: func(a *Answer) {
			mu.Lock()
			defer mu.Unlock()
			first, ok := old[what]
			if !ok {
				first = *a
				old[what] = first
			}
			*a = first
		}}
	}, listings...)
}

func otherETag(a *Answer) { a.Header.Set("Etag", `"00000000000000000000000000000000"`) }
