package browser

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/chromedp/cdproto/cdp"
	"github.com/chromedp/cdproto/page"
	"github.com/chromedp/chromedp"
)

// Page is what became of a page.
type Page struct {
	Title  string
	Status int     // of the HTTP response, after redirects
	Images []Image // the <img> elements in the order of the document
	// Console is what the developers' console shows: errors and warnings of the browser, of console.error and console.warn,
	// and uncaught exceptions.
	Console    []string
	Screenshot []byte // the whole page, PNG

	complaints []string // those lines of Console that are the browser's own, of requests and policies
	waiting    []string // what had not ended when the patience had
}

// Image is an <img> element. One that is hidden and therefore, being lazy, never asked for is left out.
type Image struct {
	URL           string // that was chosen, before redirects
	Width, Height int    // natural size in CSS pixels; 0 if the picture is broken
	Status        int    // of the HTTP response, after redirects; 0 without one
	Complete      bool   // loaded, or given up
}

// Problems are what a visitor would call broken: images that do not show, requests that failed, and what the browser
// blocked or changed for the sake of CSP, CORS or mixed content. What the page itself wrote to the console is no problem.
// Nor is it that there is no /favicon.ico, which browsers ask for without being told.
func (p Page) Problems() []string {
	var problems []string
	for _, i := range p.Images {
		switch {
		case !i.Complete:
			problems = append(problems, fmt.Sprintf("image %s: still loading", i.URL))
		case i.Width == 0:
			problems = append(problems, fmt.Sprintf("image %s: broken (HTTP status %d)", i.URL, i.Status))
		}
	}
	return slices.Concat(problems, p.complaints, p.waiting)
}

// Load shows a page to a visitor who has never been here (no cookies, nothing cached), scrolls through it so that lazy images
// load, and waits until the images and the network have come to rest. If they have not when the patience ends, the Page says so
// and Problems too. Loads may run at the same time. It is an error if there is no page: the server cannot be reached or is not
// trusted. Frames of other sites are not looked into.
func (b *Browser) Load(ctx context.Context, url string) (Page, error) {
	r := newRecorder()
	tab, closeTab := chromedp.NewContext(b.ctx, chromedp.WithNewBrowserContext(), chromedp.WithListener(r.event))
	defer closeTab()
	defer context.AfterFunc(ctx, closeTab)()
	p, err := b.load(tab, r, url)
	if err != nil {
		return p, fmt.Errorf("loading %s: %w", url, errors.Join(err, ctx.Err()))
	}
	return p, nil
}

func (b *Browser) load(tab context.Context, r *recorder, url string) (Page, error) {
	if err := chromedp.Do(tab); err != nil { // opens it: the tab lives as long as the context of its first action
		return Page{}, err
	}
	patient, cancel := context.WithTimeout(tab, b.patience)
	defer cancel()
	answer, err := chromedp.Run(patient, navigate(url))
	if err != nil {
		return Page{}, err
	}
	if answer.ErrorText != "" {
		return r.page(answer.LoaderID), errors.New(answer.ErrorText)
	}
	if err := settle(patient, r, answer.LoaderID); err != nil && patient.Err() == nil {
		return r.page(answer.LoaderID), err
	}
	late, cancel := context.WithTimeout(tab, b.patience)
	defer cancel()
	return collect(late, r, answer.LoaderID)
}

func navigate(url string) chromedp.Action[page.NavigateResult] {
	return func(ctx context.Context, t *chromedp.Target) (page.NavigateResult, error) {
		return cdp.Call(ctx, t, page.Navigate, page.NavigateParams{URL: url})
	}
}

// shown tells images that can be seen, if only after scrolling, from those that a lazy browser need not load.
const shown = `const shown = image => image.complete || image.loading !== "lazy" || image.getClientRects().length > 0;`

// settleImages brings one image after the other into view and waits until it is decoded or given up. Its value is the number
// of images that were not ready when it began.
const settleImages = `(async () => {` + shown + `
	const images = [...document.images].filter(shown);
	const before = images.filter(image => !image.complete).length;
	for (const image of images) {
		image.scrollIntoView({block: "center", behavior: "instant"});
		await image.decode().catch(() => {});
	}
	scrollTo({top: 0, left: 0, behavior: "instant"});
	return before;
})()`

// listImages reads what Image and Page tell of the document.
const listImages = `(() => {` + shown + `
	return {
		Title: document.title,
		Images: [...document.images].filter(shown).map(image => ({
			URL: image.currentSrc || image.src,
			Width: image.naturalWidth,
			Height: image.naturalHeight,
			Complete: image.complete,
		})),
	};
})()`

// rest is how long a page may be silent between two requests that belong together, such as a script's, on a busy machine.
const rest = 2 * time.Second

// settle waits until the page is loaded, no image is outstanding and the network rests. What comes to light meanwhile is
// waited for as well.
func settle(ctx context.Context, r *recorder, loader cdp.LoaderID) error {
	if err := r.wait(ctx, func() bool { return r.loaded[loader] }); err != nil {
		return err
	}
	for {
		outstanding, err := chromedp.Run(ctx, chromedp.Evaluate[int](settleImages, chromedp.EvalAwaitPromise))
		if err != nil {
			return err
		}
		if err := r.quiet(ctx, rest); err != nil {
			return err
		}
		if outstanding == 0 {
			return nil
		}
	}
}

func collect(ctx context.Context, r *recorder, loader cdp.LoaderID) (Page, error) {
	type document struct {
		Title  string
		Images []Image
	}
	d, err := chromedp.Run(ctx, chromedp.Evaluate[document](listImages))
	if err != nil {
		return r.page(loader), err
	}
	screenshot, err := chromedp.Run(ctx, chromedp.FullScreenshot(100))
	if err != nil {
		return r.page(loader), fmt.Errorf("taking a screenshot: %w", err)
	}
	p := r.page(loader)
	p.Title, p.Images, p.Screenshot = d.Title, d.Images, screenshot
	for i := range p.Images {
		address, _, _ := strings.Cut(p.Images[i].URL, "#")
		p.Images[i].Status = r.status(address)
	}
	return p, nil
}
