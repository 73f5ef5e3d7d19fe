package s3sync

import (
	"context"
	"io"
	"sync"
	"time"
)

// limiter shares a number of bytes a second among readers.
type limiter struct {
	rate float64 // bytes a second
	mu   sync.Mutex
	next time.Time // when the next bytes may go
}

// piece is how many bytes go at once: at a megabyte a second, less than 20 ms.
const piece = 16 << 10

// reader returns from, slowed down to the limiter's share; a nil limiter slows nothing.
func (l *limiter) reader(ctx context.Context, from io.ReadSeeker) io.ReadSeeker {
	if l == nil {
		return from
	}
	return &limited{ReadSeeker: from, ctx: ctx, by: l}
}

// wait returns when n bytes more may go.
func (l *limiter) wait(ctx context.Context, n int) error {
	l.mu.Lock()
	now := time.Now()
	at := l.next
	if at.Before(now) {
		at = now
	}
	l.next = at.Add(time.Duration(float64(n) / l.rate * float64(time.Second)))
	l.mu.Unlock()
	t := time.NewTimer(at.Sub(now))
	defer t.Stop()
	select {
	case <-t.C:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

type limited struct {
	io.ReadSeeker
	ctx context.Context
	by  *limiter
}

func (l *limited) Read(b []byte) (int, error) {
	n, err := l.ReadSeeker.Read(b[:min(len(b), piece)])
	if n > 0 {
		if e := l.by.wait(l.ctx, n); e != nil {
			return 0, e
		}
	}
	return n, err
}
