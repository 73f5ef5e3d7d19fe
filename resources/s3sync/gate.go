package s3sync

import (
	"context"
	"sync"
)

// startWorkers is how many files are copied at a time at first.
const startWorkers = 8

// gate bounds how many files are copied at a time. It doubles the bound while the store takes everything at once; from the
// first request that had to be repeated on it halves it for each round with repeats, and adds one for each round without.
type gate struct {
	tokens  chan struct{}
	repeats func() int64 // requests that had to be repeated so far

	mu      sync.Mutex
	most    int
	size    int // the bound
	surplus int // tokens to take out of use as they come back
	round   int // files since the last look
	seen    int64
	slowed  bool
}

func newGate(most int, repeats func() int64) *gate {
	g := &gate{tokens: make(chan struct{}, most), repeats: repeats, most: most, size: min(startWorkers, most)}
	for range g.size {
		g.tokens <- struct{}{}
	}
	return g
}

// enter waits for a turn. It reports false when ctx ended instead.
func (g *gate) enter(ctx context.Context) bool {
	if ctx.Err() != nil {
		return false
	}
	select {
	case <-g.tokens:
		return true
	case <-ctx.Done():
		return false
	}
}

// leave gives the turn back.
func (g *gate) leave() {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.round++; g.round >= g.size {
		g.round = 0
		g.adjust()
	}
	g.put()
}

// put brings a token back, or takes it out of use.
func (g *gate) put() {
	if g.surplus > 0 {
		g.surplus--
		return
	}
	g.tokens <- struct{}{} // there are never more than most
}

func (g *gate) adjust() {
	if n := g.repeats(); n > g.seen {
		g.seen, g.slowed = n, true
		half := max(1, g.size/2)
		g.surplus += g.size - half
		g.size = half
		return
	}
	more := g.size
	if g.slowed {
		more = 1
	}
	for range min(more, g.most-g.size) {
		g.size++
		g.put()
	}
}
