package main

import (
	"errors"
	"io/fs"
	"math"
	"runtime"
	"strconv"
	"strings"
	"time"

	"github.com/converge-agent/converge/diag"
	"github.com/converge-agent/converge/host"
	"github.com/converge-agent/converge/objectstore"
	"github.com/converge-agent/converge/plans"
	"github.com/converge-agent/converge/resources"
	"github.com/hashicorp/hcl/v2"
)

// The types here are the lines of --json, described by docs/schema/output.schema.json.

type lineHead struct {
	Format string     `json:"format"`
	Type   string     `json:"type"`
	Time   *time.Time `json:"time,omitempty"`
}

type lineItem struct {
	lineHead
	Address string       `json:"address"`
	Action  string       `json:"action"`
	Changes bool         `json:"changes"` // applying now would change it
	Summary string       `json:"summary,omitempty"`
	Drift   bool         `json:"drift,omitempty"`
	HeldBy  []string     `json:"held_by,omitempty"`
	Waiting *lineWaiting `json:"waiting,omitempty"`
	Edits   []lineEdit   `json:"edits,omitempty"`
	Effects []lineEffect `json:"effects,omitempty"`
	Attrs   []lineAttr   `json:"attrs,omitempty"`
	Notes   []string     `json:"notes,omitempty"`
	Left    *lineLeft    `json:"left_alone,omitempty"`
	Renewal bool         `json:"renewal,omitempty"` // a part of it is the renewal of a certificate
	Error   *lineError   `json:"error,omitempty"`
	linePlace
}

type lineLeft struct {
	Outcome string `json:"outcome"`
	Message string `json:"message"`
}

type lineOrphan struct {
	lineHead
	Address string `json:"address"`
	Run     int    `json:"run,omitempty"` // the first one without it
	Message string `json:"message"`
}

type lineDisabled struct {
	Why   string     `json:"why"`
	Since time.Time  `json:"since"`
	Until *time.Time `json:"until,omitempty"`
}

type linePlace struct {
	File   string `json:"file,omitempty"`
	Line   int    `json:"line,omitempty"`
	Column int    `json:"column,omitempty"`
}

type lineWaiting struct {
	For   string     `json:"for"`
	Until *time.Time `json:"until,omitempty"`
}

type lineEdit struct {
	Path      string    `json:"path"`
	Before    *lineFile `json:"before"`
	After     *lineFile `json:"after"`
	Unknown   bool      `json:"unknown,omitempty"`   // what it will hold is not known before it is made
	Sensitive bool      `json:"sensitive,omitempty"` // the contents may not be shown
	Diff      string    `json:"diff,omitempty"`
}

type lineFile struct {
	Type   string `json:"type"`
	Mode   string `json:"mode,omitempty"`
	UID    int    `json:"uid"`
	GID    int    `json:"gid"`
	Target string `json:"target,omitempty"`
}

type lineEffect struct {
	Verb        string `json:"verb"`
	Target      string `json:"target,omitempty"`
	Why         string `json:"why,omitempty"`
	Destructive bool   `json:"destructive,omitempty"`
	Requests    int64  `json:"requests,omitempty"`
	Bytes       int64  `json:"bytes,omitempty"`

	Provider   string           `json:"provider,omitempty"`
	Operations map[string]int64 `json:"operations,omitempty"`
}

// lineCharge is how many requests of one class go to a provider.
type lineCharge struct {
	Provider    string   `json:"provider"`
	Class       string   `json:"class,omitempty"`
	Requests    int64    `json:"requests"`
	PerThousand *float64 `json:"per_thousand,omitempty"` // in Currency
	Currency    string   `json:"currency,omitempty"`
}

func chargesOf(requests objectstore.Sent) []lineCharge {
	var lines []lineCharge
	for _, provider := range requests.Providers() {
		for _, c := range requests.Charges(provider) {
			line := lineCharge{Provider: c.Provider, Class: c.Class, Requests: c.Requests}
			if c.Price != nil {
				line.PerThousand, line.Currency = &c.Price.PerThousand, c.Price.Currency
			}
			lines = append(lines, line)
		}
	}
	return lines
}

// byOperation are the requests to all providers.
func byOperation(requests objectstore.Sent) map[string]int64 {
	sum := map[string]int64{}
	for _, provider := range requests {
		for op, n := range provider {
			sum[op] += n
		}
	}
	return sum
}

type lineAttr struct {
	Name   string  `json:"name"`
	Before *string `json:"before"`
	After  *string `json:"after"`
}

type lineError struct {
	Doing string `json:"doing,omitempty"`
	What  string `json:"what"`
	Fix   string `json:"fix,omitempty"`
}

type linePlanSummary struct {
	lineHead
	planTally
	Charges  []lineCharge  `json:"charges,omitempty"` // estimate
	Sent     []lineCharge  `json:"sent,omitempty"`    // by the plan itself
	Targets  []string      `json:"targets,omitempty"`
	Disabled *lineDisabled `json:"disabled,omitempty"`
}

type lineBegin struct {
	lineHead
	Address string `json:"address"`
	Action  string `json:"action"`
}

type lineProgress struct {
	lineHead
	Address    string `json:"address"`
	Files      int64  `json:"files"`
	TotalFiles int64  `json:"total_files"`
	Bytes      int64  `json:"bytes"`
	TotalBytes int64  `json:"total_bytes"`
}

type lineEnd struct {
	lineHead
	Address string     `json:"address"`
	Outcome string     `json:"outcome"`
	Message string     `json:"message,omitempty"`
	Error   *lineError `json:"error,omitempty"`
	Elapsed float64    `json:"elapsed"` // seconds
	linePlace
}

type lineSummary struct {
	lineHead
	Outcomes map[string]int   `json:"outcomes"`
	Elapsed  float64          `json:"elapsed"`
	Requests map[string]int64 `json:"requests"`
	Charges  []lineCharge     `json:"charges,omitempty"`
}

type lineDiagnostic struct {
	lineHead
	Severity string `json:"severity"`
	Summary  string `json:"summary"`
	Detail   string `json:"detail,omitempty"`
	linePlace
}

type lineValidation struct {
	lineHead
	Valid    bool `json:"valid"`
	Errors   int  `json:"errors"`
	Warnings int  `json:"warnings"`
}

type lineVersion struct {
	lineHead
	Version  string `json:"version"`
	Revision string `json:"revision,omitempty"`
	Go       string `json:"go"`
	OS       string `json:"os"`
	Arch     string `json:"arch"`
}

func head(kind string) lineHead { return lineHead{Format: outputFormat, Type: kind} }

// eventHead is the head of what happens at a moment.
func (l *jsonLines) eventHead(kind string) lineHead {
	now := l.now().UTC().Truncate(time.Millisecond)
	return lineHead{Format: outputFormat, Type: kind, Time: &now}
}

// plan tells a plan: an item a line, in the order of the configuration, what left the configuration, and their number; and
// whether converge is disabled (nil: it is not). sent is what was asked of object stores so far.
func (l *jsonLines) plan(p *plans.Plan, disabled *plans.Disabled, sent objectstore.Sent) {
	if l == nil {
		return
	}
	for _, it := range p.Items {
		if it.Node.Resource != nil || it.Err != nil {
			l.write(itemLine(it))
		}
	}
	for _, o := range p.Left {
		l.write(lineOrphan{head("orphan"), o.Address, o.Run, o.String()})
	}
	summary := linePlanSummary{
		lineHead: head("plan_summary"), planTally: tallyOf(p), Charges: chargesOf(estimateOf(p)), Sent: chargesOf(sent), Targets: p.Targets,
	}
	if d := disabled; d != nil {
		summary.Disabled = &lineDisabled{d.Why, d.Since, d.Until}
	}
	l.write(summary)
}

func itemLine(it *plans.Item) lineItem {
	c := it.Change
	line := lineItem{
		lineHead: head("plan_item"), Address: it.Node.Address.String(), Action: word(c.Action.String()), Changes: it.Changes(),
		Summary: c.Summary, Drift: drifted(it), Notes: c.Notes, Renewal: c.Renewal != nil, Error: errorOf(it.Err), linePlace: placeOf(it.Node.Where),
	}
	if it.Left != nil && c.Action != resources.None && !it.Changes() {
		line.Left = &lineLeft{word(it.Left.Outcome.String()), it.Left.Message}
	}
	for _, a := range it.HeldBy {
		line.HeldBy = append(line.HeldBy, a.String())
	}
	if c.Wait != nil {
		line.Waiting = &lineWaiting{For: c.Wait.For}
		if until := c.Wait.Until.UTC(); !c.Wait.Until.IsZero() {
			line.Waiting.Until = &until
		}
	}
	for _, e := range c.Edits {
		if !e.Empty() {
			line.Edits = append(line.Edits, editOf(e))
		}
	}
	for _, e := range c.Effects {
		line.Effects = append(line.Effects, lineEffect{e.Verb, e.Target, e.Why, e.Destructive, e.Requests, e.Bytes, e.Provider, e.Operations})
	}
	for _, a := range c.Attrs {
		line.Attrs = append(line.Attrs, attrOf(a))
	}
	return line
}

func editOf(e host.Edit) lineEdit {
	return lineEdit{
		Path: e.Path, Before: fileOf(e.Before), After: fileOf(e.After), Unknown: e.Opaque, Sensitive: !e.Opaque && !e.Shown(),
		Diff: strings.Join(diffLines(e), "\n"),
	}
}

func fileOf(f *host.File) *lineFile {
	if f == nil {
		return nil
	}
	line := &lineFile{Type: word(f.Type.String()), UID: f.UID, GID: f.GID, Target: f.Target}
	if f.Type != host.Symlink {
		line.Mode = modeText(f.Mode)
	}
	return line
}

func modeText(m fs.FileMode) string {
	text := strconv.FormatUint(uint64(host.ModeBits(m)), 8)
	return strings.Repeat("0", max(0, 4-len(text))) + text
}

func attrOf(d resources.AttrDiff) lineAttr {
	line := lineAttr{Name: d.Name}
	if !d.Added {
		line.Before = &d.Before
	}
	if !d.Removed {
		line.After = &d.After
	}
	return line
}

// word is a text as one word, for programs: "in progress" is in_progress.
func word(text string) string { return strings.ReplaceAll(text, " ", "_") }

// errorOf parts a failure into what was being done, what happened, and what to do next.
func errorOf(err error) *lineError {
	if err == nil {
		return nil
	}
	line := &lineError{What: err.Error(), Fix: diag.Fix(err)}
	var e *diag.Error
	if errors.As(err, &e) && e.Err != nil && e.Error() == err.Error() {
		line.Doing, line.What = e.Doing, e.Err.Error()
	}
	return line
}

// placeOf reads "site.hcl:12".
func placeOf(where string) linePlace {
	file, number, found := cutLast(where, ":")
	line, err := strconv.Atoi(number)
	if !found || err != nil {
		return linePlace{File: where}
	}
	return linePlace{File: file, Line: line}
}

func cutLast(s, sep string) (before, after string, found bool) {
	i := strings.LastIndex(s, sep)
	if i < 0 {
		return s, "", false
	}
	return s[:i], s[i+len(sep):], true
}

// event tells what happens in an apply. Progress is told every few seconds.
func (l *jsonLines) event(ev plans.Event) {
	if l == nil {
		return
	}
	addr := ev.Item.Node.Address.String()
	switch ev.Type {
	case plans.Began:
		l.write(lineBegin{l.eventHead("begin"), addr, word(ev.Item.Change.Action.String())})
	case plans.Progressed:
		if p := ev.Progress; l.due() {
			l.write(lineProgress{l.eventHead("progress"), addr, p.Files, p.TotalFiles, p.Bytes, p.TotalBytes})
		}
	case plans.Ended:
		if r := ev.Result; ev.Item.Node.Resource != nil || r.Err != nil {
			l.write(lineEnd{
				l.eventHead("end"), addr, word(r.Outcome.String()), r.Message, errorOf(r.Err), seconds(r.Elapsed), placeOf(ev.Item.Node.Where),
			})
		}
	}
}

// due reports whether progress is to be told again.
func (l *jsonLines) due() bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	if !l.progress.IsZero() && time.Since(l.progress) < progressEvery {
		return false
	}
	l.progress = time.Now()
	return true
}

// seconds rounds to milliseconds.
func seconds(d time.Duration) float64 { return math.Round(d.Seconds()*1000) / 1000 }

// summary tells how an apply ended, and how many requests went to object stores by operation.
func (l *jsonLines) summary(r *plans.Report, requests objectstore.Sent) {
	if l == nil {
		return
	}
	line := lineSummary{lineHead: l.eventHead("summary"), Outcomes: map[string]int{}, Elapsed: seconds(r.Elapsed), Requests: byOperation(requests),
		Charges: chargesOf(requests)}
	for _, o := range plans.Outcomes() {
		line.Outcomes[word(o.String())] = r.Count(o)
	}
	line.Outcomes[plans.Unchanged.String()] = unchanged(r)
	l.write(line)
}

// diagnostics tells what is wrong with a configuration, and where.
func (l *jsonLines) diagnostics(diags hcl.Diagnostics) {
	if l == nil {
		return
	}
	for _, d := range diags {
		if d.Severity == hcl.DiagError {
			l.errors++
		} else {
			l.warnings++
		}
		line := lineDiagnostic{lineHead: head("diagnostic"), Severity: severity(d), Summary: d.Summary, Detail: d.Detail}
		if d.Subject != nil {
			line.linePlace = linePlace{File: d.Subject.Filename, Line: d.Subject.Start.Line, Column: d.Subject.Start.Column}
		}
		l.write(line)
	}
}

func severity(d *hcl.Diagnostic) string {
	if d.Severity == hcl.DiagWarning {
		return "warning"
	}
	return "error"
}

// message tells a failure of the whole run, or a warning about it.
func (l *jsonLines) message(severity, summary, detail string) {
	if l != nil {
		l.write(lineDiagnostic{lineHead: head("diagnostic"), Severity: severity, Summary: summary, Detail: detail})
	}
}

// validated tells that a configuration was checked, after all its diagnostics.
func (l *jsonLines) validated() {
	if l != nil {
		l.write(lineValidation{head("validation"), l.errors == 0, l.errors, l.warnings})
	}
}

// version tells what program this is.
func (l *jsonLines) version() {
	if l != nil {
		l.write(lineVersion{head("version"), version, strings.TrimSpace(revision()), runtime.Version(), runtime.GOOS, runtime.GOARCH})
	}
}
