package objectstore

import (
	"context"
	"errors"
	"io"
	"net"
	"net/http"
	"time"
)

// maxStall is how long a connection may take no byte of a request, or give none of an answer, before it is given up. Without
// it a store that stops in the middle of either would hold a request for ever: net/http has a limit for headers only.
const maxStall = 2 * time.Minute

var errStalled = errors.New("it stopped in the middle")

// writing is a connection of which each writing ends in time.
type writing struct {
	net.Conn
	most time.Duration
}

func (w *writing) Write(b []byte) (int, error) {
	if err := w.SetWriteDeadline(time.Now().Add(w.most)); err != nil {
		return 0, err
	}
	return w.Conn.Write(b)
}

// impatient ends answers that stall. How long a reader takes between two pieces is its own affair.
type impatient struct {
	next http.RoundTripper
	most time.Duration
}

func (i *impatient) RoundTrip(r *http.Request) (*http.Response, error) {
	ctx, cancel := context.WithCancel(r.Context())
	resp, err := i.next.RoundTrip(r.WithContext(ctx))
	if err != nil {
		cancel()
		return nil, err
	}
	resp.Body = &impatientBody{ReadCloser: resp.Body, most: i.most, cancel: cancel}
	return resp, nil
}

type impatientBody struct {
	io.ReadCloser
	most   time.Duration
	cancel context.CancelFunc
}

func (b *impatientBody) Read(p []byte) (int, error) {
	timer := time.AfterFunc(b.most, b.cancel)
	n, err := b.ReadCloser.Read(p)
	if !timer.Stop() && err != nil {
		return n, errStalled
	}
	return n, err
}

func (b *impatientBody) Close() error {
	defer b.cancel()
	return b.ReadCloser.Close()
}
