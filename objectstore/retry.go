package objectstore

import (
	"context"
	"errors"
	"math/rand/v2"
	"net/http"
	"strconv"
	"time"
)

// How often one request is tried, at most. A throttled one is tried longest: the pacer makes its chances better each time.
// What refuses connections is told soon, so that a plan against a store that is down takes seconds.
const (
	triesThrottled   = 12
	triesBroken      = 6
	triesUnreachable = 4
)

// The pauses between tries: they double from the first to the last, and half of each is random. A Retry-After is honoured up
// to maxRetryAfter. When maxTrying has passed since the first try there is no other.
const (
	firstPause    = 200 * time.Millisecond
	lastPause     = 20 * time.Second
	maxRetryAfter = time.Minute
	maxTrying     = 10 * time.Minute
)

// do makes one request, again where that may help, paced and counted under op. It returns what read makes of the failure.
func (s *Store) do(ctx context.Context, op string, call func(context.Context) error) error {
	ctx = context.WithValue(ctx, opKey{}, op)
	start := time.Now()
	for try := 1; ; try++ {
		cuts, err := s.pace.wait(ctx)
		if err != nil {
			return err
		}
		raw := call(ctx)
		err = s.read(ctx, raw)
		s.pace.saw(time.Now(), cuts, err)
		var r *reply
		if errors.As(err, &r) && r.op == "" {
			r.op = op
		}
		if err == nil || try >= tries(err, raw) {
			return err
		}
		pause := pauseAfter(try, err)
		if time.Since(start)+pause > maxTrying {
			return err
		}
		if e := sleep(ctx, pause); e != nil {
			return e
		}
	}
}

// tries is how often a request is tried that fails with err; raw is the same before it was read.
func tries(err, raw error) int {
	var r *reply
	if !errors.As(err, &r) {
		return 1
	}
	switch {
	case errors.Is(r, ErrThrottled):
		return triesThrottled
	case errors.Is(r, ErrUnreachable) && r.status != 0:
		return triesBroken
	case errors.Is(r, ErrUnreachable) && !lasting(raw):
		return triesUnreachable
	case r.status == http.StatusConflict && r.code == "ConditionalRequestConflict", r.code == "OperationAborted":
		return triesBroken // another write to the same key was under way (Amazon S3 User Guide, "Conditional writes")
	}
	return 1
}

// pauseAfter is how long to wait after that many tries, the last of which failed with err.
func pauseAfter(try int, err error) time.Duration {
	d := min(firstPause<<min(try-1, 10), lastPause)
	d = d/2 + rand.N(d/2)
	var r *reply
	if errors.As(err, &r) {
		d = max(d, min(retryAfter(r.header, time.Now()), maxRetryAfter))
	}
	return d
}

// retryAfter reads the Retry-After header: seconds, or a date (RFC 9110, 10.2.3). It is 0 where there is none.
func retryAfter(h http.Header, now time.Time) time.Duration {
	text := h.Get("Retry-After")
	if n, err := strconv.ParseUint(text, 10, 31); err == nil {
		return time.Duration(n) * time.Second
	}
	if t, err := http.ParseTime(text); err == nil {
		return max(t.Sub(now), 0)
	}
	return 0
}

// sleep waits, or returns why ctx ended.
func sleep(ctx context.Context, d time.Duration) error {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}
