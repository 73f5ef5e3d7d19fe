package objectstore

import (
	"context"
	"errors"
	"sync"
	"time"
)

// What the pacer does. Until a store first throttles, nothing is held back. Then the rate falls to paceShare of that at which
// requests had succeeded, and recovers: slowly where it was just refused, faster the longer it is not. Requests that were on
// their way when the rate was cut say nothing of the new rate, and the first few after it little: neither cuts it again.
const (
	paceShare  = 0.9
	paceWindow = 250 * time.Millisecond

	// Successes are counted by slots, and a rate is learned from those since the last cut, of at most so many seconds. That is
	// long, and before the first cut it is never taken shorter than paceBurst, because stores let a burst pass that says
	// nothing of what they bear.
	paceSlot  = 50 * time.Millisecond
	paceSpan  = 10 * time.Second
	paceBurst = 500 * time.Millisecond

	// The rate is never cut below this, for where few requests are made their successes show no limit of the store's.
	paceFloor = 5 // requests a second

	// t seconds after a cut to r, the rate is r + (paceGain*r + paceMore) * t²: back where it was after some 5 s.
	paceGain = 0.005
	paceMore = 0.1
)

// pacer holds requests back to the rate that a store has shown to bear.
type pacer struct {
	mu   sync.Mutex
	base float64   // requests a second just after the last cut; 0 is no limit
	cut  time.Time // when that was
	cuts int       // how many there were
	next time.Time // when the next request may start

	first time.Time  // when the first request succeeded
	seen  [256]tally // more slots than paceSpan has
}

// tally counts the successes in one slot of time since the epoch.
type tally struct {
	slot int64
	n    int
}

func slotOf(t time.Time) int64 { return t.UnixNano() / int64(paceSlot) }

// wait holds the caller until its request may start, or returns why ctx ended. It tells how many cuts there were when that
// start was given.
func (p *pacer) wait(ctx context.Context) (cuts int, err error) {
	now := time.Now()
	p.mu.Lock()
	start := now
	cuts = p.cuts
	if p.base > 0 {
		if p.next.After(now) {
			start = p.next
		}
		p.next = start.Add(time.Duration(float64(time.Second) / p.rate(start)))
	}
	p.mu.Unlock()
	if start.Equal(now) {
		return cuts, ctx.Err()
	}
	return cuts, sleep(ctx, start.Sub(now))
}

// rate is how many requests a second may start at a time.
func (p *pacer) rate(at time.Time) float64 {
	t := at.Sub(p.cut).Seconds()
	return p.base + (paceGain*p.base+paceMore)*t*t
}

// saw learns from the outcome of one request that ended now, and started after that many cuts.
func (p *pacer) saw(now time.Time, cuts int, err error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	switch {
	case errors.Is(err, ErrThrottled):
		if cuts == p.cuts && now.Sub(p.cut) >= paceWindow {
			p.slow(now)
		}
	case errors.Is(err, ErrUnreachable), errors.Is(err, context.Canceled), errors.Is(err, context.DeadlineExceeded):
	default:
		p.count(now)
	}
}

// count adds one success.
func (p *pacer) count(now time.Time) {
	if p.first.IsZero() {
		p.first = now
	}
	slot := slotOf(now)
	t := &p.seen[slot%int64(len(p.seen))]
	if t.slot != slot {
		*t = tally{slot: slot}
	}
	t.n++
}

// slow cuts the rate after the store throttled.
func (p *pacer) slow(now time.Time) {
	learned := p.succeeded(now)
	if p.base > 0 {
		learned = min(learned, p.rate(now)) // it was just refused, so it is not learned from a faster past
	}
	p.base, p.cut = max(learned*paceShare, paceFloor), now
	p.cuts++
}

// succeeded is the rate of successes, as far back as they tell something.
func (p *pacer) succeeded(now time.Time) float64 {
	from := now.Add(-paceSpan)
	switch {
	case p.base > 0 && p.cut.After(from):
		from = p.cut
	case p.base == 0 && p.first.After(from):
		from = p.first
		if latest := now.Add(-paceBurst); from.After(latest) {
			from = latest
		}
	}
	n := 0
	for _, t := range p.seen {
		if t.slot >= slotOf(from) {
			n += t.n
		}
	}
	return float64(n) / now.Sub(from).Seconds()
}
