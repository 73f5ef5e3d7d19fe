package lab_test

import (
	"io"
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/s3"
	"github.com/converge-agent/converge/test/lab"
)

// met says which of some requests an order meets: "x" for a fault and "." for none.
func met(t *testing.T, o lab.Order, requests ...string) string {
	t.Helper()
	var b strings.Builder
	for _, text := range requests {
		method, path, _ := strings.Cut(text, " ")
		r, err := http.NewRequestWithContext(t.Context(), method, "https://127.0.0.1"+path, nil)
		if err != nil {
			t.Fatal(err)
		}
		if o(r) == nil {
			b.WriteByte('.')
		} else {
			b.WriteByte('x')
		}
	}
	return b.String()
}

func TestOrders(t *testing.T) {
	s, _ := store(t, lab.R2)
	now := time.Unix(0, 0)
	clock := func() time.Time { return now }
	fault := lab.Fault{Status: 500}
	for _, test := range []struct {
		name     string
		order    lab.Order
		requests []string
		want     string
	}{
		{"always", lab.Always(fault), []string{"GET /b/k", "PUT /b/k"}, "xx"},
		{"every third", lab.Every(3, fault), slices.Repeat([]string{"GET /b/k"}, 7), "..x..x."},
		{"two tries of each", lab.Tries(2, fault), []string{"GET /b/k", "PUT /b/k", "GET /b/k", "GET /b/k", "PUT /b/k", "PUT /b/k", "GET /b/l"}, "xxx.x.x"},
		{"only some", s.Only(lab.Always(fault), "PutObject", "ListObjectsV2"), []string{"GET /b/k", "PUT /b/k", "GET /b?list-type=2", "GET /b", "PUT /b"}, ".xx.."},
		{"a limit with a burst", s.RateLimit(lab.Limit{PerSecond: 1, Burst: 2, Now: clock}), slices.Repeat([]string{"GET /b/k"}, 4), "..xx"},
		{
			"one write of each key", s.RateLimit(lab.Limit{PerSecond: 1, Of: s.WritesOfKey, Now: clock}),
			[]string{"PUT /b/k", "GET /b/k", "PUT /b/k", "PUT /b/l", "DELETE /b/l", "PUT /b?cors", "PUT /b?cors", "PUT /b/k?uploadId=1&partNumber=1", "POST /b/k?uploadId=1"},
			"..x.x...x",
		},
	} {
		if got := met(t, test.order, test.requests...); got != test.want {
			t.Errorf("%s: got %s, want %s", test.name, got, test.want)
		}
	}
	limit := s.RateLimit(lab.Limit{PerSecond: 2, Now: clock})
	got := met(t, limit, "GET /b/k", "GET /b/k")
	now = now.Add(500 * time.Millisecond)
	if got += met(t, limit, "GET /b/k", "GET /b/k"); got != ".x.x" {
		t.Errorf("two requests a second: got %s", got)
	}
}

// TestThrottled: each provider says in its own way that there were too many requests.
func TestThrottled(t *testing.T) {
	for p, want := range map[lab.Personality]string{
		lab.MinIO: "503 SlowDown", lab.B2: "503 SlowDown", lab.AWS: "503 SlowDown", lab.Scaleway: "429 TooManyRequests",
		lab.R2: "429 TooManyRequests", lab.IDrive: "503 SlowDown", lab.Wasabi: "400 RequestRateLimitExceeded",
	} {
		s, bucket := store(t, p)
		s.Fault(s.RateLimit(lab.Limit{Burst: 1}))
		if err := put(t, agent(t, s), bucket, "k", "b"); err != nil {
			t.Errorf("%s: within the limit: %s", p, err)
		}
		if got := code(put(t, agent(t, s), bucket, "k", "b")); got != want {
			t.Errorf("%s: got %q, want %q", p, got, want)
		}
		s.Fault(nil)
	}
}

// TestWrongAnswers: each is what it says, and the store has the truth.
func TestWrongAnswers(t *testing.T) {
	s, bucket := store(t, lab.MinIO)
	for _, k := range []string{"a", "b", "c", "d"} {
		s.Put(bucket, k, []byte(k), nil)
	}
	list := func() string {
		out, err := agent(t, s).ListObjectsV2(t.Context(), &s3.ListObjectsV2Input{Bucket: &bucket})
		if err != nil {
			return "error"
		}
		var keys string
		for _, o := range out.Contents {
			keys += *o.Key
		}
		return keys
	}
	head := func() string {
		out, err := agent(t, s).HeadObject(t.Context(), &s3.HeadObjectInput{Bucket: &bucket, Key: ptr("a")})
		if err != nil {
			return code(err)
		}
		return strings.Trim(aws.ToString(out.ETag), `"`)
	}
	get := func() string {
		out, err := agent(t, s).GetObject(t.Context(), &s3.GetObjectInput{Bucket: &bucket, Key: ptr("a")})
		if err != nil {
			return code(err)
		}
		body, err := io.ReadAll(out.Body)
		if err != nil {
			return "broken off"
		}
		return string(body)
	}
	const truth, zeros = "0cc175b9c0f1b6a831c399e269772661", "00000000000000000000000000000000"
	want := map[string][3]string{ // the answers to list, head and get; "*" is not looked at
		"success with an error in it":    {"error", "", "*"},
		"the page of a captive portal":   {"error", "", "*"},
		"success with nothing in it":     {"*", "", ""},
		"a listing that is cut off":      {"error", truth, "a"},
		"a listing that leaves out half": {"ab", truth, "a"},
		"a listing out of order":         {"dcba", truth, "a"},
		"an old listing":                 {"abcd", truth, "a"},
		"another ETag":                   {"abcd", zeros, "a"},
		"HEAD knows of no object":        {"abcd", "404 NotFound", "a"},
		"a clock of yesterday":           {"abcd", truth, "a"},
	}
	for _, wrong := range lab.WrongAnswers() {
		s.Fault(wrong.Order(s))
		for i, ask := range []func() string{list, head, get} {
			if got, w := ask(), want[wrong.Name][i]; w != "*" && got != w {
				t.Errorf("%s: answer %d: got %q, want %q", wrong.Name, i, got, w)
			}
		}
		delete(want, wrong.Name)
		if wrong.Name == "an old listing" {
			s.Put(bucket, "e", []byte("e"), nil)
			if got := list(); got != "abcd" {
				t.Errorf("%s: got %q", wrong.Name, got)
			}
			s.Delete(bucket, "e")
		}
	}
	if len(want) != 0 {
		t.Errorf("not ordered: %v", want)
	}
	s.Fault(nil)
	if got := list() + head() + get(); got != "abcd"+truth+"a" {
		t.Errorf("without an order: %q", got)
	}
}
