package e2e

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"maps"
	"math"
	"net/http"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/converge-agent/converge/test/e2e/instance"
	"github.com/converge-agent/converge/test/e2e/services"
)

// liveMigration moves the media of an instance that is in use: people post and delete 5 pictures a second all the while, and
// a visitor asks for every known URL once a second. What is live must be there, byte for byte, and what is deleted gone,
// through kills of converge and through windows in which the store refuses writes.
func liveMigration(w *world) {
	w.look("before", domain)
	ctx, stop := context.WithCancel(w.Context())
	defer stop()
	people, visitor := newPeople(w), newVisitor(w)
	var busy sync.WaitGroup
	busy.Go(func() { people.live(ctx) })
	busy.Go(func() { visitor.live(ctx) })

	w.eventually("people are busy", func() bool { return people.count() >= 20 })
	visitor.expectSwitch(true)
	w.refuseWrites(3 * time.Second)
	w.killRun("")
	w.look("during", domain)
	for _, mark := range []string{"test -e " + certFile, "grep -q ^S3_ENABLED " + envFile} {
		w.refuseWrites(3 * time.Second)
		w.killRun(mark)
	}
	w.eventually("converge comes to the end", func() bool {
		return w.run("apply", "--auto-approve", "--lock-timeout", "1m").Code == 0
	})
	visitor.expectSwitch(false)
	people.deleteFreely()
	rounds := visitor.rounds()
	w.look("right after", files)
	w.eventually("the visitor has gone round some times more", func() bool { return visitor.rounds() >= rounds+5 })
	stop()
	busy.Wait()

	w.done()
	w.look("after", files)
	visitor.lastRound()
	posted, deleted := people.tally()
	w.Logf("%d pictures posted and %d deleted; the visitor went round %d times, asked for %d URLs in the last, and saw %d blinks",
		posted, deleted, visitor.rounds(), len(visitor.urls), visitor.blinks)
}

// refuseWrites has the store refuse every second write for a while.
func (w *world) refuseWrites(d time.Duration) {
	w.Helper()
	w.must(w.services.Fault(w.Context(), services.FaultSpec{
		Status: http.StatusServiceUnavailable, Code: "SlowDown", Share: 0.5, For: d, Methods: []string{http.MethodPut},
	}))
}

// killRun starts converge and kills it when the mark is there, or soon, when that is "".
func (w *world) killRun(mark string) {
	w.Helper()
	run := w.startRun()
	w.eventually("a mark: "+mark, func() bool {
		if mark == "" {
			return w.objects() >= 20
		}
		r, err := w.social.Run(w.Context(), "sh", "-c", mark)
		w.must(err)
		return r.Code == 0 || !w.running(run)
	})
	w.sh("systemctl kill --signal=KILL " + run + " 2>/dev/null || true")
	w.eventually("the killed run is gone", func() bool { return !w.running(run) })
}

// people post and delete. They delete what is at least some seconds old.
type people struct {
	w *world

	mu              sync.Mutex
	living          []instance.Media // in the order in which they were posted
	posted, deleted int
	most            int // how many they may delete for the time being
}

// mostBefore is how many pictures people delete before the switch. Each is two files, and of the files that it has copied
// s3_sync lets 100 go without a question, between two runs that may be far apart on a busy machine.
const mostBefore = 40

// secondThoughts is how old a picture is when somebody deletes it. A picture that is deleted within the seconds between the
// restart of the app and the end of the last copy can come back: no store can tell the two orders apart.
const secondThoughts = 30 * time.Second

func newPeople(w *world) *people {
	w.Helper()
	p := &people{w: w, most: mostBefore}
	known, err := w.instance.Known(w.Context())
	w.must(err)
	for _, m := range known {
		if m.State == instance.StateLive && !slices.ContainsFunc(p.living, func(o instance.Media) bool { return o.ID == m.ID }) {
			p.living = append(p.living, m) // each picture is known once for each of its styles
		}
	}
	return p
}

// live posts and deletes until ctx ends. That the app refuses while it restarts, or while the store does, is no news.
func (p *people) live(ctx context.Context) {
	tick := time.NewTicker(200 * time.Millisecond)
	defer tick.Stop()
	for ctx.Err() == nil {
		if m, err := p.w.instance.Post(ctx); err == nil {
			p.mu.Lock()
			p.living, p.posted = append(p.living, m), p.posted+1
			p.mu.Unlock()
		}
		if m, ok := p.oldest(); ok && p.w.instance.Delete(ctx, m.ID) == nil {
			p.mu.Lock()
			p.living, p.deleted = slices.DeleteFunc(p.living, func(o instance.Media) bool { return o.ID == m.ID }), p.deleted+1
			p.mu.Unlock()
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
		}
	}
}

func (p *people) oldest() (instance.Media, bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.deleted >= p.most || len(p.living) <= 50 || time.Since(p.living[0].CreatedAt) < secondThoughts {
		return instance.Media{}, false
	}
	return p.living[0], true
}

// deleteFreely lets people delete what they like from now on.
func (p *people) deleteFreely() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.most = math.MaxInt
}

func (p *people) count() int {
	posted, _ := p.tally()
	return posted
}

func (p *people) tally() (posted, deleted int) {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.posted, p.deleted
}

// visitor asks for every URL that a page has ever shown, once a second.
type visitor struct {
	w    *world
	urls map[string]string // the key by URL

	since  map[string]time.Time // from when on a URL has been wrong, without a break
	blinks int                  // live pictures that were not there for less than blink, each time that one was asked for

	mu        sync.Mutex
	switching bool // pictures may be served from the disk and from the bucket
	settled   time.Time
	n         int
}

// blink is for how long a picture of the last seconds before the switch may be missing on a busy machine while the app's
// processes restart one after the other: one of them already writes to the bucket what another still calls a local file, and
// nginx remembers for up to two seconds that the bucket lacked what the last copy then brought.
const blink = 20 * time.Second

func newVisitor(w *world) *visitor {
	return &visitor{w: w, urls: map[string]string{}, since: map[string]time.Time{}}
}

func (v *visitor) expectSwitch(yes bool) {
	v.mu.Lock()
	defer v.mu.Unlock()
	v.switching, v.settled = yes, time.Now().Add(blink)
}

func (v *visitor) rounds() int {
	v.mu.Lock()
	defer v.mu.Unlock()
	return v.n
}

func (v *visitor) live(ctx context.Context) {
	tick := time.NewTicker(time.Second)
	defer tick.Stop()
	for ctx.Err() == nil {
		v.round(ctx)
		select {
		case <-tick.C:
		case <-ctx.Done():
		}
	}
}

// round asks once for all. What changed while it was asked is judged in the next.
func (v *visitor) round(ctx context.Context) {
	before, err := v.known(ctx)
	if err != nil {
		return // the app restarts
	}
	for _, m := range before {
		if m.State == instance.StateLive { // pages show no others
			v.urls[m.URL] = m.Key
		}
	}
	v.mu.Lock()
	switching := v.switching || time.Now().Before(v.settled)
	v.mu.Unlock()
	wrong := v.askAll(ctx, before)
	after, err := v.known(ctx)
	if err != nil || ctx.Err() != nil {
		return
	}
	maps.DeleteFunc(v.since, func(url string, _ time.Time) bool { return wrong[url] == "" })
	for url, saw := range wrong {
		m := after[v.urls[url]]
		if _, known := v.since[url]; !known {
			v.since[url] = time.Now()
		}
		switch {
		case m.State != before[m.Key].State:
		case m.State != instance.StateLive && (switching || before[m.Key].RemovedAt.IsZero()):
		case m.State == instance.StateLive && switching && time.Since(v.since[url]) < blink:
			v.blinks++
		default:
			v.w.Errorf("%s: %s, although the picture is %s (posted %s, removed %s)", url, saw, m.State, m.CreatedAt, m.RemovedAt)
		}
	}
	v.mu.Lock()
	v.n++
	v.mu.Unlock()
}

// known are the app's files by key.
func (v *visitor) known(ctx context.Context) (map[string]instance.Media, error) {
	list, err := v.w.instance.Known(ctx)
	byKey := map[string]instance.Media{}
	for _, m := range list {
		byKey[m.Key] = m
	}
	return byKey, err
}

// askAll returns what is wrong, by URL.
func (v *visitor) askAll(ctx context.Context, media map[string]instance.Media) map[string]string {
	var mu sync.Mutex
	wrong := map[string]string{}
	urls := make(chan string)
	var visits sync.WaitGroup
	for range 8 {
		visits.Go(func() {
			for url := range urls {
				if saw := v.ask(ctx, url, media[v.urls[url]]); saw != "" {
					mu.Lock()
					wrong[url] = saw
					mu.Unlock()
				}
			}
		})
	}
	for url := range v.urls {
		urls <- url
	}
	close(urls)
	visits.Wait()
	return wrong
}

// ask returns what is wrong with the answer for a picture, or "".
func (v *visitor) ask(ctx context.Context, url string, m instance.Media) string {
	status, sum, err := v.get(ctx, url)
	switch {
	case err != nil:
		return err.Error()
	case m.State == instance.StateLive && status != http.StatusOK:
		return fmt.Sprintf("status %d", status)
	case m.State == instance.StateLive && sum != m.SHA256:
		return fmt.Sprintf("the SHA-256 %s instead of %s", sum, m.SHA256)
	case m.State != instance.StateLive && status == http.StatusOK:
		return "still there"
	}
	return ""
}

// get follows redirects, as browsers and other servers do.
func (v *visitor) get(ctx context.Context, url string) (status int, sum string, err error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
	if err != nil {
		return 0, "", err
	}
	resp, err := v.w.instance.HTTPClient().Do(req)
	if err != nil {
		return 0, "", err
	}
	hash := sha256.New()
	_, err = io.Copy(hash, resp.Body)
	return resp.StatusCode, hex.EncodeToString(hash.Sum(nil)), errors.Join(err, resp.Body.Close())
}

// lastRound asks for every picture on both hosts, whether or not a page has ever shown that URL.
func (v *visitor) lastRound() {
	v.w.Helper()
	media, err := v.known(v.w.Context())
	v.w.must(err)
	live := 0
	for key, m := range media {
		v.urls["https://"+files+"/"+key] = key
		v.urls["https://"+domain+"/system/"+key] = key
		if m.State == instance.StateLive {
			live++
		}
	}
	if live == 0 || live == len(media) {
		v.w.Errorf("of %d pictures %d are live: nothing was posted, or nothing deleted", len(media), live)
	}
	var bad []string
	for url, saw := range v.askAll(v.w.Context(), media) {
		bad = append(bad, fmt.Sprintf("%s (%s): %s", url, media[v.urls[url]].State, saw))
	}
	if len(bad) > 0 {
		v.w.Errorf("in the end %d URLs are wrong:\n%s", len(bad), strings.Join(bad[:min(len(bad), 20)], "\n"))
	}
}
