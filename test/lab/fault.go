package lab

import (
	"crypto/tls"
	"errors"
	"io"
	"net"
	"net/http"
	"time"
)

// Fault is what goes wrong with one request. Its fields combine: first the delay, then the answer or the reset.
type Fault struct {
	// Delay passes before anything else happens.
	Delay time.Duration

	// Status, when it is not 0, is answered instead of asking the store, with Code and Message as an S3 error, or with Body
	// as it stands where Body is not nil, and with Header added.
	Status        int
	Code, Message string
	Body          []byte
	Header        http.Header

	// Done lets the store do the request before its answer is replaced by Status, or lost by Reset.
	Done bool

	// Reset breaks the connection off after After bytes: of the request's body where it has one and Done is not set, else
	// of the answer's.
	Reset bool
	After int64

	// Rate, when it is not 0, is how many bytes a second of either body pass.
	Rate int64

	// Alter, when it is not nil, changes the store's answer to something that is not true.
	Alter func(*Answer)
}

// Fault sets the function that orders faults (orders.go has some). It is called with each request before anything is done,
// from several goroutines at once; nil is no fault. A nil function ends all faults.
func (s *S3) Fault(f Order) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.fault = f
}

func (s *S3) faultFor(r *http.Request) *Fault {
	s.mu.RLock()
	f := s.fault
	s.mu.RUnlock()
	if f == nil {
		return nil
	}
	return f(r)
}

// serve answers r with the fault; next is the store.
func (f *Fault) serve(w http.ResponseWriter, r *http.Request, next http.HandlerFunc) {
	if f.Delay > 0 {
		t := time.NewTimer(f.Delay)
		defer t.Stop()
		select {
		case <-t.C:
		case <-r.Context().Done():
			panic(http.ErrAbortHandler)
		}
	}
	if f.Rate > 0 {
		r.Body = &slowReader{r.Body, f.Rate}
		w = &slowWriter{w, f.Rate}
	}
	if f.Reset && !f.Done && r.ContentLength != 0 {
		_, _ = io.CopyN(io.Discard, r.Body, f.After) // a body that is shorter is reset at its end
		reset(w)
	}
	if f.Done {
		next(&blackHole{header: http.Header{}}, r)
	}
	switch {
	case f.Status != 0:
		f.answer(w, r)
	case f.Alter != nil:
		f.alter(w, r, next)
	case f.Reset && f.Done:
		reset(w)
	case f.Reset:
		next(&cutWriter{w, f.After}, r)
		reset(w)
	case !f.Done:
		next(w, r)
	default:
		reset(w)
	}
}

func (f *Fault) answer(w http.ResponseWriter, r *http.Request) {
	for name, values := range f.Header {
		w.Header()[http.CanonicalHeaderKey(name)] = values
	}
	if f.Body != nil {
		writeBody(w, r, f.Status, f.Body)
		return
	}
	(&apiError{f.Status, f.Code, f.Message}).write(w, r)
}

// reset breaks off the connection of w with a TCP reset, and ends the handler.
func reset(w http.ResponseWriter) {
	if conn, _, err := http.NewResponseController(w).Hijack(); err == nil {
		if t, ok := conn.(*tls.Conn); ok {
			conn = t.NetConn()
		}
		if t, ok := conn.(*net.TCPConn); ok {
			_ = t.SetLinger(0) // without it the peer sees an orderly end
		}
		_ = conn.Close()
	}
	panic(http.ErrAbortHandler)
}

// errCut ends an answer at the byte where its connection is to break.
var errCut = errors.New("the lab breaks the connection here")

// cutWriter passes on the first bytes of a body, and then breaks the connection.
type cutWriter struct {
	http.ResponseWriter
	left int64
}

func (w *cutWriter) Write(b []byte) (int, error) {
	if int64(len(b)) < w.left {
		w.left -= int64(len(b))
		return w.ResponseWriter.Write(b)
	}
	_, _ = w.ResponseWriter.Write(b[:w.left])
	_ = http.NewResponseController(w.ResponseWriter).Flush() // as far as it got
	reset(w.ResponseWriter)
	return 0, errCut
}

// Unwrap lets http.ResponseController reach the connection.
func (w *cutWriter) Unwrap() http.ResponseWriter { return w.ResponseWriter }

// blackHole takes an answer that nobody shall see.
type blackHole struct{ header http.Header }

func (b *blackHole) Header() http.Header         { return b.header }
func (b *blackHole) Write(p []byte) (int, error) { return len(p), nil }
func (b *blackHole) WriteHeader(int)             {}

// slices of a slow body pass this often.
const slowTick = 20 * time.Millisecond

type slowReader struct {
	io.ReadCloser
	rate int64
}

func (r *slowReader) Read(b []byte) (int, error) {
	time.Sleep(slowTick)
	return r.ReadCloser.Read(b[:slowPart(len(b), r.rate)])
}

type slowWriter struct {
	http.ResponseWriter
	rate int64
}

func (w *slowWriter) Write(b []byte) (int, error) {
	for n := 0; n < len(b); {
		time.Sleep(slowTick)
		part := slowPart(len(b)-n, w.rate)
		m, err := w.ResponseWriter.Write(b[n : n+part])
		n += m
		if err != nil {
			return n, err
		}
		_ = http.NewResponseController(w.ResponseWriter).Flush() // the rate is what counts
	}
	return len(b), nil
}

// Unwrap lets http.ResponseController reach the connection.
func (w *slowWriter) Unwrap() http.ResponseWriter { return w.ResponseWriter }

// slowPart is how many of n bytes pass in one tick, and at least one.
func slowPart(n int, rate int64) int {
	return int(max(1, min(int64(n), rate*int64(slowTick)/int64(time.Second))))
}
