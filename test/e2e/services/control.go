package services

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"log"
	"math/rand/v2"
	"net/http"
	"slices"
	"time"

	"github.com/converge-agent/converge/test/lab"
)

// The control API: each call is a POST of one JSON value, answered by another, or by a line of text with status 500. Client
// and program are always of one build, so it has no version.

// record is a name and its address.
type record struct{ Name, IP string }

// certificate is one with its key, in PEM.
type certificate struct{ Certificate, Key string }

// nothing is the argument or the answer of calls that have none.
type nothing *struct{}

// control is the API's handler.
func (h *host) control() http.Handler {
	mux := http.NewServeMux()
	answer(mux, "identity", func(nothing) (*Services, error) { return h.identity() })
	answer(mux, "certificate", h.certificate)
	answer(mux, "resolve", func(r record) (nothing, error) { return nil, h.names.set(r.Name, r.IP) })
	answer(mux, "fault", h.fault)
	answer(mux, "down", h.down)
	answer(mux, "buckets", func(nothing) ([]string, error) { return h.store.Buckets(), nil })
	answer(mux, "keys", func(bucket string) ([]string, error) { return h.keys(bucket), nil })
	answer(mux, "sha256", func(bucket string) (map[string]string, error) { return h.digests(bucket), nil })
	answer(mux, "requests", func(nothing) (map[string]int64, error) { return h.store.Requests(), nil })
	answer(mux, "reset-requests", func(nothing) (nothing, error) { h.store.ResetRequests(); return nil, nil })
	return mux
}

// answer has a call answered by f. That the lab panics, when it cannot know an answer, is an error.
func answer[In, Out any](mux *http.ServeMux, path string, f func(In) (Out, error)) {
	mux.HandleFunc("POST /"+path, func(w http.ResponseWriter, r *http.Request) {
		var in In
		if err := json.NewDecoder(r.Body).Decode(&in); err != nil {
			http.Error(w, err.Error(), http.StatusBadRequest)
			return
		}
		out, err := guard(f, in)
		log.Printf("%s %v: %v", path, in, err)
		if err != nil {
			http.Error(w, err.Error(), http.StatusInternalServerError)
			return
		}
		_ = json.NewEncoder(w).Encode(out) // a client that went away has no use for it
	})
}

func guard[In, Out any](f func(In) (Out, error), in In) (out Out, err error) {
	defer func() {
		if r := recover(); r != nil {
			err = fmt.Errorf("%v", r)
		}
	}()
	return f(in)
}

func (h *host) certificate(names []string) (certificate, error) {
	cert, key, err := h.lab.Certificate(names...)
	return certificate{string(cert), string(key)}, err
}

func (h *host) down(down bool) (nothing, error) {
	for _, name := range h.storeNames() {
		h.relay.SetDown(name, down)
	}
	return nil, nil
}

func (h *host) fault(f FaultSpec) (nothing, error) {
	if f.Status == 0 && f.Share == 0 && f.Delay == 0 {
		h.store.Fault(nil)
		return nil, nil
	}
	answers := f.Status >= 400 && f.Status <= 599 || f.Status == 0 && f.Delay > 0
	if !answers || f.Delay < 0 || f.Share <= 0 || f.Share > 1 || f.For <= 0 {
		return nil, fmt.Errorf("a fault has a status of 400 to 599 or a delay, a share above 0 up to 1, and a time; this is %+v", f)
	}
	until := time.Now().Add(f.For) // by the monotonic clock, which nobody sets
	h.store.Fault(func(r *http.Request) *lab.Fault {
		if time.Now().After(until) || f.Methods != nil && !slices.Contains(f.Methods, r.Method) || rand.Float64() >= f.Share {
			return nil
		}
		return &lab.Fault{Delay: f.Delay, Status: f.Status, Code: f.Code, Message: "The services answer with a fault for a time."}
	})
	return nil, nil
}

// keys returns the keys of a bucket that may not exist.
func (h *host) keys(bucket string) []string {
	if !slices.Contains(h.store.Buckets(), bucket) {
		return nil
	}
	return h.store.Keys(bucket)
}

// digests reads all objects of a bucket. One that is deleted meanwhile is left out.
func (h *host) digests(bucket string) map[string]string {
	digests := map[string]string{}
	for _, key := range h.keys(bucket) {
		if body, _, ok := h.store.Object(bucket, key); ok {
			sum := sha256.Sum256(body)
			digests[key] = hex.EncodeToString(sum[:])
		}
	}
	return digests
}
