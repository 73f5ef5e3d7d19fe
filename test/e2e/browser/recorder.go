package browser

import (
	"cmp"
	"context"
	"fmt"
	"net/url"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/chromedp/cdproto/cdp"
	"github.com/chromedp/cdproto/log"
	"github.com/chromedp/cdproto/network"
	"github.com/chromedp/cdproto/page"
	"github.com/chromedp/cdproto/runtime"
)

// recorder keeps what the browser reports of one tab while it loads a page.
type recorder struct {
	mutex      sync.Mutex
	changed    chan struct{} // holds a token when something has happened; for the one goroutine that waits
	loaded     map[cdp.LoaderID]bool
	open       map[network.RequestID]string // requests that have not ended, by their first URL
	first      map[network.RequestID]string // the URL of a request before redirects
	failed     map[network.RequestID]string // requests that failed, with the reason
	told       map[network.RequestID]bool   // requests of which the console speaks
	received   map[network.RequestID]int    // HTTP status as the network had it
	responses  map[network.RequestID]int    // HTTP status as the page may know it
	console    []string
	complaints []string
}

func newRecorder() *recorder {
	return &recorder{
		changed:   make(chan struct{}, 1),
		loaded:    map[cdp.LoaderID]bool{},
		open:      map[network.RequestID]string{},
		first:     map[network.RequestID]string{},
		failed:    map[network.RequestID]string{},
		told:      map[network.RequestID]bool{},
		received:  map[network.RequestID]int{},
		responses: map[network.RequestID]int{},
	}
}

// event takes an event of the DevTools protocol, in the order in which they happened.
func (r *recorder) event(event any) {
	r.mutex.Lock()
	defer r.mutex.Unlock()
	switch e := event.(type) {
	case *page.EventLifecycleEvent:
		if e.Name != "load" {
			return
		}
		r.loaded[e.LoaderID] = true
	case *network.EventRequestWillBeSent:
		r.request(e)
	case *network.EventResponseReceived:
		r.response(e)
	case *network.EventLoadingFinished:
		delete(r.open, e.RequestID)
	case *network.EventResponseReceivedExtraInfo:
		r.received[e.RequestID] = int(e.StatusCode)
	case *network.EventLoadingFailed:
		r.failure(e)
	case *log.EventEntryAdded:
		r.entry(e.Entry)
	case *runtime.EventConsoleAPICalled:
		r.call(e)
	case *runtime.EventExceptionThrown:
		r.console = append(r.console, "uncaught exception: "+exception(e.ExceptionDetails))
	default:
		return
	}
	select {
	case r.changed <- struct{}{}:
	default:
	}
}

func (r *recorder) request(e *network.EventRequestWillBeSent) {
	if e.RedirectResponse == nil {
		r.first[e.RequestID] = e.Request.URL
	}
	r.open[e.RequestID] = e.Request.URL
}

func (r *recorder) response(e *network.EventResponseReceived) {
	r.responses[e.RequestID] = int(e.Response.Status)
	switch e.Type {
	case network.ResourceTypeEventSource, network.ResourceTypeMedia: // these may go on for ever
		delete(r.open, e.RequestID)
	}
}

// failure takes a request that ended without a response for the page. Where a policy is the reason, the console tells of it as
// such. It tells of other failures too, with the number of the request, but not of answers that are withheld from the page
// because they are not of the kind that it asked for (ORB): an error of another site in the place of a picture.
func (r *recorder) failure(e *network.EventLoadingFailed) {
	delete(r.open, e.RequestID)
	if !e.Canceled && e.BlockedReason == "" && e.CorsErrorStatus == nil {
		r.failed[e.RequestID] = e.ErrorText
	}
}

// entry takes a line that the browser itself writes to the console.
func (r *recorder) entry(e *log.Entry) {
	if e.Level != log.EntryLevelError && e.Level != log.EntryLevelWarning {
		return
	}
	line := fmt.Sprintf("%s %s: %s", e.Source, e.Level, e.Text)
	if e.URL != "" && !strings.Contains(e.Text, e.URL) {
		line += " (" + e.URL + ")"
	}
	r.console = append(r.console, line)
	r.told[e.NetworkRequestID] = true
	switch {
	case e.Source == log.EntrySourceNetwork && unasked(e.URL):
	case slices.Contains(r.complaints, line): // of one image, by the parser and by the scanner that runs ahead of it
	case e.Source == log.EntrySourceNetwork, // a request failed
		e.Source == log.EntrySourceSecurity, // CSP, mixed content, integrity, types
		e.Category == log.EntryCategoryCors:
		r.complaints = append(r.complaints, line)
	}
}

func unasked(address string) bool {
	u, err := url.Parse(address)
	return err == nil && u.Path == "/favicon.ico"
}

func (r *recorder) call(e *runtime.EventConsoleAPICalled) {
	switch e.Type {
	case runtime.ConsoleAPICalledTypeError, runtime.ConsoleAPICalledTypeWarning, runtime.ConsoleAPICalledTypeAssert:
	default:
		return
	}
	words := []string{fmt.Sprintf("console.%s:", e.Type)}
	for _, a := range e.Args {
		switch {
		case len(a.Value) > 0:
			words = append(words, string(a.Value))
		default:
			words = append(words, a.Description)
		}
	}
	r.console = append(r.console, strings.Join(words, " "))
}

func exception(d *runtime.ExceptionDetails) string {
	if d.Exception != nil && d.Exception.Description != "" {
		return d.Exception.Description
	}
	return fmt.Sprintf("%s (%s:%d)", d.Text, d.URL, d.LineNumber+1)
}

// wait returns when the condition is true; the recorder is locked while it is asked.
func (r *recorder) wait(ctx context.Context, condition func() bool) error {
	for {
		r.mutex.Lock()
		met := condition()
		r.mutex.Unlock()
		if met {
			return nil
		}
		select {
		case <-r.changed:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

// quiet returns when no request is open and nothing has happened for a while.
func (r *recorder) quiet(ctx context.Context, while time.Duration) error {
	for {
		if err := r.wait(ctx, func() bool { return len(r.open) == 0 }); err != nil {
			return err
		}
		timer := time.NewTimer(while)
		select {
		case <-timer.C:
			return nil
		case <-r.changed:
			timer.Stop()
		case <-ctx.Done():
			timer.Stop()
			return ctx.Err()
		}
	}
}

// status is the HTTP status of what was asked for by a URL, 0 if none came.
func (r *recorder) status(address string) int {
	r.mutex.Lock()
	defer r.mutex.Unlock()
	status := 0 // the worst, if it was asked for more than once
	for id, first := range r.first {
		if first == address {
			status = max(status, cmp.Or(r.responses[id], r.received[id]))
		}
	}
	return status
}

// page returns what is known without the document. The request of a document has the number of its loader.
func (r *recorder) page(loader cdp.LoaderID) Page {
	r.mutex.Lock()
	defer r.mutex.Unlock()
	p := Page{Status: r.responses[network.RequestID(loader)]}
	var untold []string
	for id, reason := range r.failed {
		if !r.told[id] && !unasked(r.first[id]) {
			untold = append(untold, fmt.Sprintf("network error: %s: %s (HTTP status %d)", r.first[id], reason, r.received[id]))
		}
	}
	slices.Sort(untold)
	p.Console = slices.Concat(r.console, untold)
	p.complaints = slices.Concat(r.complaints, untold)
	for _, address := range r.open {
		p.waiting = append(p.waiting, "still loading: "+address)
	}
	slices.Sort(p.waiting)
	return p
}
