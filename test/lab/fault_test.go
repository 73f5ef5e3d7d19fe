package lab_test

import (
	"io"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/service/s3"
	"github.com/converge-agent/converge/test/lab"
)

// uploads orders f for uploads alone.
func uploads(f lab.Fault) func(*http.Request) *lab.Fault {
	return func(r *http.Request) *lab.Fault {
		if r.Method != http.MethodPut {
			return nil
		}
		return &f
	}
}

func TestFaultsOfUploads(t *testing.T) {
	for _, test := range []struct {
		name   string
		fault  lab.Fault
		err    string // of the SDK, or part of it
		stored bool
		slow   time.Duration // at least
	}{
		{"slow down", lab.Fault{Status: 503, Code: "SlowDown", Message: "please", Header: http.Header{"Retry-After": {"1"}}}, "503 SlowDown", false, 0},
		{"too many", lab.Fault{Status: 429, Code: "TooManyRequests"}, "429 TooManyRequests", false, 0},
		{"cap", lab.Fault{Status: 403, Body: []byte("<Error><Code>AccessDenied</Code><Message>Cannot upload files, storage cap exceeded.</Message></Error>")}, "403 AccessDenied", false, 0},
		{"answer replaced", lab.Fault{Status: 500, Code: "InternalError", Done: true}, "500 InternalError", true, 0},
		{"answer lost", lab.Fault{Reset: true, Done: true}, "request send failed", true, 0},
		{"reset before the body", lab.Fault{Reset: true}, "request send failed", false, 0},
		{"reset in the body", lab.Fault{Reset: true, After: 1 << 20}, "request send failed", false, 0},
		{"delay", lab.Fault{Delay: 300 * time.Millisecond}, "", true, 300 * time.Millisecond},
		{"slow reading", lab.Fault{Rate: 10 << 20}, "", true, 150 * time.Millisecond},
	} {
		t.Run(test.name, func(t *testing.T) {
			s, bucket := store(t, lab.B2)
			s.Fault(uploads(test.fault))
			start := time.Now()
			err := put(t, app(t, s), bucket, "k", strings.Repeat("x", 2<<20))
			if err == nil && test.err != "" || err != nil && (test.err == "" || !strings.Contains(code(err), test.err)) {
				t.Errorf("got %v, want %q", err, test.err)
			}
			if took := time.Since(start); took < test.slow {
				t.Errorf("it took %s, not at least %s", took, test.slow)
			}
			if body, _, ok := s.Object(bucket, "k"); ok != test.stored || ok && len(body) != 2<<20 {
				t.Errorf("stored: got %v with %d bytes, want %v", ok, len(body), test.stored)
			}
			s.Fault(nil)
			if err := put(t, app(t, s), bucket, "k", "y"); err != nil {
				t.Errorf("after the fault: %s", err)
			}
		})
	}
}

func TestFaultsOfDownloads(t *testing.T) {
	s, bucket := store(t, lab.MinIO)
	const size = 200 << 10
	s.Put(bucket, "k", []byte(strings.Repeat("x", size)), nil)
	get := func() (int, error) {
		out, err := app(t, s).GetObject(t.Context(), &s3.GetObjectInput{Bucket: &bucket, Key: ptr("k")})
		if err != nil {
			return 0, err
		}
		body, err := io.ReadAll(out.Body)
		return len(body), err
	}
	s.Fault(func(*http.Request) *lab.Fault { return &lab.Fault{Reset: true, After: 70 << 10} })
	if n, err := get(); err == nil || n > 70<<10 {
		t.Errorf("broken off in the body: %d bytes, %v", n, err)
	}
	s.Fault(func(*http.Request) *lab.Fault { return &lab.Fault{Rate: 1 << 20} })
	start := time.Now()
	if n, err := get(); err != nil || n != size {
		t.Errorf("a slow body: %d bytes, %v", n, err)
	}
	if took := time.Since(start); took < 150*time.Millisecond {
		t.Errorf("%d bytes at 1 MiB/s took %s", size, took)
	}
}

// TestAnswersAreCountedAtOnce: who has an answer, or none, finds it counted, whatever the server has left to do.
func TestAnswersAreCountedAtOnce(t *testing.T) {
	s, bucket := store(t, lab.MinIO)
	for range 50 {
		s.ResetRequests()
		// Each upload has a connection of its own: one that the store has just closed would never reach it.
		s.Fault(uploads(lab.Fault{Reset: true}))
		if err := put(t, agent(t, s), bucket, "k", "b"); err == nil {
			t.Fatal("the upload went through")
		}
		s.Fault(uploads(lab.Fault{Status: 503, Code: "SlowDown"}))
		if err := put(t, agent(t, s), bucket, "k", "b"); err == nil {
			t.Fatal("the upload went through")
		}
		if got := s.Requests(); got["PutObject lost"] != 1 || got["PutObject 5xx"] != 1 || len(got) != 2 {
			t.Fatalf("counted %v", got)
		}
	}
}
