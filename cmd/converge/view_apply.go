package main

import (
	"fmt"
	"maps"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/converge-agent/converge/objectstore"
	"github.com/converge-agent/converge/plans"
	"github.com/converge-agent/converge/resources"
	"github.com/fatih/color"
	"github.com/schollz/progressbar/v3"
)

// progressEvery is how often progress is printed off a terminal.
const progressEvery = 3 * time.Second

// applyView prints an apply for people, as it happens.
type applyView struct {
	*terminal
	addressWidth int
	outages      *outages // what need not be told; nil: nothing
	interrupted  func() bool
	told         int // failures

	mu      sync.Mutex
	bar     *progressbar.ProgressBar
	started time.Time
	printed time.Time
}

func (v *applyView) event(ev plans.Event) {
	v.mu.Lock()
	defer v.mu.Unlock()
	switch ev.Type {
	case plans.Began:
		v.started, v.printed = time.Now(), time.Now()
	case plans.Progressed:
		v.progress(ev.Item, ev.Progress)
	case plans.Ended:
		v.ended(ev.Result)
	}
}

// progress draws a bar on a terminal, and prints a line every few seconds elsewhere.
func (v *applyView) progress(it *plans.Item, p resources.Progress) {
	switch {
	case v.quiet:
	case live(v.out):
		if v.bar == nil {
			v.bar = progressbar.NewOptions64(max(p.TotalBytes, 1),
				progressbar.OptionSetWriter(v.stdout), progressbar.OptionShowBytes(true), progressbar.OptionShowCount(),
				progressbar.OptionSetPredictTime(true), progressbar.OptionFullWidth(), progressbar.OptionThrottle(100*time.Millisecond),
				progressbar.OptionClearOnFinish())
		}
		v.bar.ChangeMax64(max(p.TotalBytes, p.Bytes, 1))
		v.bar.Describe(fmt.Sprintf("  .. %s %d/%d files", clean(it.Node.Address.String(), false), p.Files, max(p.TotalFiles, p.Files)))
		_ = v.bar.Set64(p.Bytes)
	case time.Since(v.printed) >= progressEvery:
		v.printed = time.Now()
		v.printf("  ..  %-*s  %s\n", v.addressWidth, it.Node.Address, progressLine(p, time.Since(v.started)))
	}
}

// progressLine words progress with its rate and what is left.
func progressLine(p resources.Progress, elapsed time.Duration) string {
	line := fmt.Sprintf("%d/%d files, %s/%s", p.Files, p.TotalFiles, resources.FormatBytes(p.Bytes), resources.FormatBytes(p.TotalBytes))
	if p.Bytes == 0 || elapsed < time.Second {
		return line
	}
	rate := float64(p.Bytes) / elapsed.Seconds()
	left := time.Duration(float64(max(p.TotalBytes-p.Bytes, 0)) / rate * float64(time.Second))
	return fmt.Sprintf("%s, %s/s, %s left", line, resources.FormatBytes(int64(rate)), left.Round(time.Second))
}

func (v *applyView) ended(r *plans.Result) {
	if v.bar != nil {
		_ = v.bar.Finish()
		v.bar = nil
	}
	switch r.Outcome {
	case plans.Failed:
		if !v.silent(r) {
			v.told++
			v.line(r, color.FgRed, "ERR", "failed: see below")
		}
	case plans.Changed, plans.Checked:
		if r.Outcome == plans.Changed || !v.quiet {
			v.line(r, color.FgGreen, "ok", r.Message)
		}
	case plans.Skipped:
		if v.quiet && v.told == 0 && !v.interrupted() {
			return // because of what was told in another run
		}
		v.line(r, color.FgYellow, "--", "skipped: "+r.Message)
	case plans.InProgress, plans.Waiting, plans.Held:
		if !v.quiet {
			v.line(r, color.FgCyan, "..", r.Message)
		}
	}
}

func (v *applyView) line(r *plans.Result, c color.Attribute, sign, message string) {
	took := ""
	if r.Elapsed >= time.Second {
		took = fmt.Sprintf("  %s", r.Elapsed.Round(100*time.Millisecond))
	}
	v.printf("  %s %-*s  %s%s\n", v.paint(c)(fmt.Sprintf("%-3s", sign)), v.addressWidth, r.Item.Node.Address, message, took)
}

// summary is the last line of an apply, and what it cost at the object stores.
func (v *applyView) summary(r *plans.Report, requests objectstore.Sent) {
	if v.quiet && r.Count(plans.Changed) == 0 && v.told == 0 && !v.interrupted() {
		return
	}
	v.printf("%s; %d unchanged (%s)\n", tally{
		{r.Count(plans.Changed), "changed", true}, {r.Count(plans.Checked), "checked", false},
		{r.Count(plans.InProgress), "in progress", false}, {r.Count(plans.Waiting, plans.Held), "waiting", false},
		{r.Count(plans.Failed), "failed", true}, {r.Count(plans.Skipped), "skipped", false},
	}, unchanged(r), r.Elapsed.Round(time.Millisecond))
	v.sent(requests)
	for _, res := range r.Results {
		if res.Outcome == plans.Failed && !v.silent(&res) {
			printError(v.err, itemTitle(res.Item)+v.outages.since(res.Item.Node.Address.String()), res.Err)
		}
	}
}

// sent says what the run has cost at the object stores, by provider where there are several; nothing where there is no store.
func (v *applyView) sent(requests objectstore.Sent) {
	if requests == nil {
		return
	}
	providers := requests.Providers()
	if len(providers) == 0 {
		v.printf("object store: 0 requests\n")
	}
	for _, provider := range providers {
		name := "object store"
		if len(providers) > 1 {
			name = provider
		}
		line := requestLine(requests[provider])
		if classes := requests.Classes(provider); classes != "" {
			line += ": " + classes
		}
		v.printf("%s: %s\n", name, line)
	}
}

// silent reports whether a failure has been told already.
func (v *applyView) silent(r *plans.Result) bool {
	return v.outages.silent(r.Item.Node.Address.String(), r.Err.Error())
}

// over tells which outages have ended.
func (v *applyView) over(outages []string) {
	for _, text := range outages {
		v.printf("%s\n", text)
	}
}

// unchanged counts the resources that needed nothing; blocks that only export are none.
func unchanged(r *plans.Report) int {
	n := 0
	for _, res := range r.Results {
		if res.Outcome == plans.Unchanged && res.Item.Node.Resource != nil {
			n++
		}
	}
	return n
}

// namedOperations is how many operations a line about requests names. --json has them all.
const namedOperations = 6

// requestLine words how many requests went out, by operation, most first.
func requestLine(requests map[string]int64) string {
	var total int64
	ops := slices.Collect(maps.Keys(requests))
	for _, op := range ops {
		total += requests[op]
	}
	slices.SortFunc(ops, func(a, b string) int {
		if requests[a] != requests[b] {
			return int(requests[b] - requests[a])
		}
		return strings.Compare(a, b)
	})
	var parts []string
	rest := total
	for i, op := range ops {
		if i == namedOperations && len(ops) > i+1 {
			parts = append(parts, fmt.Sprintf("and %d more", rest))
			break
		}
		parts = append(parts, fmt.Sprintf("%d %s", requests[op], op))
		rest -= requests[op]
	}
	return fmt.Sprintf("%s (%s)", count(int(total), "request"), strings.Join(parts, ", "))
}
