package objectstore

import (
	"context"
	"errors"
	"io"
	"net/http"
	"sync"
	"sync/atomic"
	"testing"
	"testing/iotest"
	"testing/synctest"
	"time"

	"github.com/converge-agent/converge/diag"
)

func TestRetries(t *testing.T) {
	broken := errors.New("read: connection reset by peer")
	tests := []struct {
		name   string
		status int
		code   string
		err    error
		want   error
		tries  int64
	}{
		{"429", 429, "TooManyRequests", nil, ErrThrottled, triesThrottled},
		{"503 SlowDown", 503, "SlowDown", nil, ErrThrottled, triesThrottled},
		{"400 RequestRateLimitExceeded", 400, "RequestRateLimitExceeded", nil, ErrThrottled, triesThrottled},
		{"500", 500, "InternalError", nil, ErrUnreachable, triesBroken},
		{"502 without a body", 502, "", nil, ErrUnreachable, triesBroken},
		{"400 RequestTimeout", 400, "RequestTimeout", nil, ErrUnreachable, triesBroken},
		{"reset", 0, "", broken, ErrUnreachable, triesUnreachable},
		{"403", 403, "AccessDenied", nil, ErrDenied, 1},
		{"404", 404, "NoSuchKey", nil, ErrNotFound, 1},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				s := within(t, func(r *http.Request) (*http.Response, error) {
					if tt.err != nil {
						return nil, tt.err
					}
					body := ""
					if tt.code != "" {
						body = s3Error(tt.code, "x")
					}
					return answer(r, tt.status, body), nil
				})
				start := time.Now()
				_, err := s.Get(t.Context(), "media", "k")
				if !errors.Is(err, tt.want) {
					t.Errorf("error = %v, want %v", err, tt.want)
				}
				if tt.tries > 1 && diag.Fix(err) == "" {
					t.Errorf("error %v has no fix", err)
				}
				if got := s.Requests()["GetObject"]; got != tt.tries {
					t.Errorf("%d tries, want %d", got, tt.tries)
				}
				if took := time.Since(start); took > maxTrying {
					t.Errorf("it took %s, more than %s", took, maxTrying)
				}
			})
		})
	}
}

func TestRetrySucceedsAndSendsTheBodyAgain(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := 0
		s := within(t, func(r *http.Request) (*http.Response, error) {
			if n++; n < 4 {
				buf := make([]byte, 2)
				_, _ = r.Body.Read(buf) // half of it, as a connection that breaks
				return answer(r, 503, s3Error("SlowDown", "x")), nil
			}
			body := make([]byte, 100)
			got, _ := r.Body.Read(body)
			if string(body[:got]) != "hello" {
				t.Errorf("the body of try %d is %q, want %q", n, body[:got], "hello")
			}
			return answer(r, 200, "", "ETag", `"`+etagOf("hello")+`"`), nil
		})
		if _, err := s.Put(t.Context(), "media", somePut("hello")); err != nil {
			t.Errorf("Put: %v", err)
		}
	})
}

// TestRetryOfAnAnswerThatBrokeOff: a 404 whose reason was lost must not pass for a missing object or bucket.
func TestRetryOfAnAnswerThatBrokeOff(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := 0
		s := within(t, func(r *http.Request) (*http.Response, error) {
			if n++; n == 1 {
				a := answer(r, 404, "")
				a.Body = io.NopCloser(iotest.ErrReader(io.ErrUnexpectedEOF))
				return a, nil
			}
			return answer(r, 200, "hello"), nil
		})
		body, err := s.Get(t.Context(), "media", "k")
		if err != nil {
			t.Fatalf("Get: %v, want the second answer", err)
		}
		_ = body.Close()
	})
}

func TestRetryAfterIsHonoured(t *testing.T) {
	for name, header := range map[string]func() string{
		"seconds": func() string { return "30" },
		"a date":  func() string { return time.Now().Add(30 * time.Second).UTC().Format(http.TimeFormat) },
		"too far": func() string { return "86400" },
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				n := 0
				s := within(t, func(r *http.Request) (*http.Response, error) {
					if n++; n == 1 {
						return answer(r, 503, s3Error("SlowDown", "x"), "Retry-After", header()), nil
					}
					return answer(r, 200, "hello"), nil
				})
				start := time.Now()
				body, err := s.Get(t.Context(), "media", "k")
				if err != nil {
					t.Fatal(err)
				}
				_ = body.Close()
				if took := time.Since(start); took < 29*time.Second || took > maxRetryAfter+10*time.Second {
					t.Errorf("it took %s, want 30 s, or %s at most", took, maxRetryAfter)
				}
			})
		})
	}
}

func TestCancelEndsRetrying(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := within(t, func(r *http.Request) (*http.Response, error) {
			return answer(r, 503, s3Error("SlowDown", "x"), "Retry-After", "60"), nil
		})
		ctx, cancel := context.WithTimeout(t.Context(), 3*time.Second)
		defer cancel()
		start := time.Now()
		_, err := s.Get(ctx, "media", "k")
		if !errors.Is(err, context.DeadlineExceeded) || time.Since(start) > 3*time.Second {
			t.Errorf("error = %v after %s, want the deadline after 3s", err, time.Since(start))
		}
	})
}

// limited is a store that bears a number of requests a second, in a bucket of tokens, and answers after 25 ms.
type limited struct {
	mu       sync.Mutex
	rate     float64
	tokens   float64
	last     time.Time
	refused  atomic.Int64
	answered atomic.Int64
}

func (l *limited) RoundTrip(r *http.Request) (*http.Response, error) {
	time.Sleep(25 * time.Millisecond)
	l.mu.Lock()
	now := time.Now()
	l.tokens = min(l.rate, l.tokens+now.Sub(l.last).Seconds()*l.rate)
	l.last = now
	ok := l.tokens >= 1
	if ok {
		l.tokens--
	}
	l.mu.Unlock()
	if !ok {
		l.refused.Add(1)
		return answer(r, 503, s3Error("SlowDown", "x")), nil
	}
	l.answered.Add(1)
	return answer(r, 200, "", "ETag", `"`+etagOf("hello")+`"`), nil
}

// TestPacingLearnsTheRate uploads to a throttled store with 64 workers: within 1.2 times the ideal time, no failure, and at
// most 5 % of the requests refused.
func TestPacingLearnsTheRate(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		const files, rate = 4000, 150.0
		l := &limited{rate: rate, tokens: rate, last: time.Now()}
		s := within(t, l.RoundTrip)
		start := time.Now()
		var work sync.WaitGroup
		jobs := make(chan int)
		for range 64 {
			work.Go(func() {
				for range jobs {
					if _, err := s.Put(t.Context(), "media", somePut("hello")); err != nil {
						t.Errorf("Put: %v", err)
					}
				}
			})
		}
		for i := range files {
			jobs <- i
		}
		close(jobs)
		work.Wait()
		took, ideal := time.Since(start).Seconds(), (files-rate)/rate
		refused := float64(l.refused.Load()) / files
		t.Logf("took %.1f s (ideal %.1f), %d of %d refused", took, ideal, l.refused.Load(), files)
		if took > 1.2*ideal {
			t.Errorf("took %.1f s, want at most 1.2 times the ideal %.1f s", took, ideal)
		}
		if refused > 0.05 {
			t.Errorf("%.1f %% of the requests were refused, want at most 5 %%", 100*refused)
		}
	})
}

// TestPacingRecovers makes the store bear more after a while, and looks whether that is found.
func TestPacingRecovers(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := &limited{rate: 10, tokens: 10, last: time.Now()}
		s := within(t, l.RoundTrip)
		ctx, cancel := context.WithTimeout(t.Context(), 90*time.Second)
		defer cancel()
		var work sync.WaitGroup
		for range 32 {
			work.Go(func() {
				for ctx.Err() == nil {
					_, _ = s.Put(ctx, "media", somePut("hello"))
				}
			})
		}
		time.Sleep(30 * time.Second)
		l.mu.Lock()
		l.rate = 500
		l.mu.Unlock()
		time.Sleep(50 * time.Second)
		before := l.answered.Load()
		time.Sleep(5 * time.Second)
		if got := float64(l.answered.Load()-before) / 5; got < 250 {
			t.Errorf("%.0f requests a second 50 s after the store's limit rose to 500, want at least half of that", got)
		}
		cancel()
		work.Wait()
	})
}

func TestUnthrottledStoreIsNotHeldBack(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := within(t, func(r *http.Request) (*http.Response, error) { return answer(r, 200, "hello"), nil })
		start := time.Now()
		for range 100 {
			body, err := s.Get(t.Context(), "media", "k")
			if err != nil {
				t.Fatal(err)
			}
			_ = body.Close()
		}
		if took := time.Since(start); took > 0 {
			t.Errorf("100 requests waited for %s", took)
		}
	})
}
