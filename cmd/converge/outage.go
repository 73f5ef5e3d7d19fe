package main

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"time"

	"github.com/converge-agent/converge/diag"
	"github.com/converge-agent/converge/host"
	"github.com/converge-agent/converge/plans"
)

const (
	outageFile    = "outage.json"
	outageVersion = 1
	// remindAfter is when an outage that lasts is told again.
	remindAfter = 24 * time.Hour
	// knownFailures is how many different failures of one resource are remembered: an outage may show now as a timeout, now
	// as a refused connection.
	knownFailures = 16
)

// outage is a resource that fails, run after run. The address "" is the run itself: a bad configuration, a held lock.
type outage struct {
	Address  string    `json:"address"`
	Since    time.Time `json:"since"`
	Told     time.Time `json:"told"`
	Failures []string  `json:"failures"` // digests, without what varies from run to run
}

type outageBody struct {
	Version int      `json:"version"`
	Outages []outage `json:"outages"`
}

// outages make --quiet tell an outage once when it begins and once when it is over, and once a day as long as it lasts. They
// are on record in the state directory; where that cannot be read or written, everything is told. A nil one, without
// --quiet, keeps nothing back.
type outages struct {
	records *plans.Records
	err     error // why nothing is remembered
	known   []outage
	now     time.Time
}

func openOutages(stateDir string, now time.Time) *outages {
	o := &outages{now: now.UTC().Truncate(time.Millisecond)}
	dir, err := filepath.Abs(stateDir)
	if err == nil {
		o.records, err = plans.OpenRecords(dir, host.System(), host.SystemUsers())
	}
	if err == nil {
		o.known, err = readOutages(o.records)
	}
	o.err = err
	return o
}

// readOutages returns those on record. What is no valid JSON counts as lost.
func readOutages(r *plans.Records) ([]outage, error) {
	text, err := r.Load(outageFile)
	if err != nil || text == nil {
		return nil, err
	}
	var body outageBody
	if valid := json.Unmarshal(text, &body) == nil; !valid {
		return nil, nil
	}
	if body.Version > outageVersion {
		return nil, diag.New("read "+outageFile+" in the state directory",
			fmt.Sprintf("it has format version %d, and this converge knows up to %d", body.Version, outageVersion),
			"Use the newer converge that wrote it, or delete the file: at worst a failure is told once more.")
	}
	return body.Outages, nil
}

func (o *outages) find(address string) *outage {
	for i := range o.known {
		if o.known[i].Address == address {
			return &o.known[i]
		}
	}
	return nil
}

// silent reports whether this failure has been told, and not too long ago.
func (o *outages) silent(address, failure string) bool {
	if o == nil {
		return false
	}
	k := o.find(address)
	return k != nil && slices.Contains(k.Failures, digestOf(failure)) && o.now.Sub(k.Told).Abs() < remindAfter
}

// since says how long a failure that is told again has lasted; "" for a new one.
func (o *outages) since(address string) string {
	if o == nil {
		return ""
	}
	if k := o.find(address); k != nil {
		return ", failing since " + k.Since.Format("2 Jan 15:04 MST")
	}
	return ""
}

// failed remembers a failure, and whether it was told now.
func (o *outages) failed(address, failure string) {
	silent := o.silent(address, failure)
	k := o.find(address)
	if k == nil {
		o.known = append(o.known, outage{Address: address, Since: o.now})
		k = &o.known[len(o.known)-1]
	}
	if silent {
		return
	}
	k.Told = o.now
	if d := digestOf(failure); !slices.Contains(k.Failures, d) {
		k.Failures = append(k.Failures, d)
		k.Failures = k.Failures[max(0, len(k.Failures)-knownFailures):]
	}
}

// over forgets an outage, and words that it has ended; "" where there was none.
func (o *outages) over(address, what string) string {
	k := o.find(address)
	if k == nil {
		return ""
	}
	text := what + " again"
	if d := o.now.Sub(k.Since); d > 0 {
		text += " after " + lasted(d)
	}
	o.known = slices.DeleteFunc(o.known, func(k outage) bool { return k.Address == address })
	return text
}

// lasted writes a duration for people: "3 h 10 min", "2 d 4 h".
func lasted(d time.Duration) string {
	minutes := int(d.Minutes())
	switch {
	case minutes < 1:
		return "less than a minute"
	case minutes < 60:
		return fmt.Sprintf("%d min", minutes)
	case minutes < 24*60:
		return fmt.Sprintf("%d h %d min", minutes/60, minutes%60)
	}
	return fmt.Sprintf("%d d %d h", minutes/60/24, minutes/60%24)
}

// ended takes in how a run ended, and returns what is over. What was skipped, is held or waits has not been tried. A partial
// run says nothing of resources that it is not about.
func (o *outages) ended(r *plans.Report, partial bool) []string {
	if o == nil {
		return nil
	}
	var over []string
	add := func(text string) {
		if text != "" {
			over = append(over, text)
		}
	}
	add(o.over("", "converge runs"))
	seen := map[string]bool{}
	for _, res := range r.Results {
		addr := res.Item.Node.Address.String()
		seen[addr] = true
		switch res.Outcome {
		case plans.Failed:
			o.failed(addr, res.Err.Error())
		case plans.Skipped, plans.Held, plans.Waiting:
		case plans.Unchanged, plans.Changed, plans.Checked, plans.InProgress:
			if res.Item.Change.Wait == nil {
				add(o.over(addr, addr+" works"))
			}
		}
	}
	o.known = slices.DeleteFunc(o.known, func(k outage) bool { // left the configuration
		return !partial && k.Address != "" && !seen[k.Address] && o.now.Sub(k.Told).Abs() >= remindAfter
	})
	return over
}

// save writes what is known, if that is something new. Without it the next run tells everything again, which is no failure.
func (o *outages) save() {
	if o == nil || o.err != nil {
		return
	}
	slices.SortFunc(o.known, func(a, b outage) int { return strings.Compare(a.Address, b.Address) })
	if was, err := readOutages(o.records); err == nil && len(was) == 0 && len(o.known) == 0 {
		return
	}
	text, err := json.Marshal(outageBody{Version: outageVersion, Outages: o.known})
	if err != nil { // strings and times only
		panic(err)
	}
	o.err = o.records.Save(outageFile, append(text, '\n'))
}

// couldNot ends a run that could not do its work: what it said meanwhile, and the failure, are told once.
func (o *outages) couldNot(ctx context.Context, t *terminal, failure error) error {
	if o == nil {
		return failure
	}
	said := t.release()
	if errors.Is(failure, errReported) {
		failure = nil
	}
	text := said
	if failure != nil {
		text += failure.Error()
	}
	switch {
	case ctx.Err() != nil: // it may say anything then, and is no outage
	case o.silent("", text):
		if failure != nil {
			t.lines.message("error", failure.Error(), diag.Fix(failure))
		}
		return errReported
	default:
		o.failed("", text)
		o.save()
	}
	_, _ = fmt.Fprint(t.err, said)
	if failure != nil {
		t.failed(failure)
	}
	o.note(t)
	return errReported
}

// note says what becomes of failures that were told.
func (o *outages) note(t *terminal) {
	if o.err != nil {
		printError(t.err, "", diag.Wrap(o.err, "remember what fails, so as to tell it once", ""))
		return
	}
	_, _ = fmt.Fprintln(t.err, "With --quiet the same failure is told again after a day; its end is told too.")
}

var (
	// varying are words that differ from run to run: numbers, times, addresses of hosts, request ids. An HTTP status says
	// what happened, and counts.
	varying = regexp.MustCompile(`(?i)\b(?:status|http|code)[ :=]+[0-9]{3}\b|[\pL\pN][\pL\pN.:+_-]*`)
	// amounts are several of them in a row, with their units.
	amounts = regexp.MustCompile(`#(?:[ ,]*(?:ms|s|min|h|d|days?|hours?|minutes?|seconds?|ago|[kMGT]?i?B)\b|[ ,]*#)*`)
	status  = regexp.MustCompile(`(?i)^(?:status|http|code)[ :=]+[0-9]{3}$`)
)

// digestOf stands for a failure without what varies.
func digestOf(failure string) string {
	text := varying.ReplaceAllStringFunc(failure, func(word string) string {
		if strings.ContainsAny(word, "0123456789") && !status.MatchString(word) {
			return "#"
		}
		return word
	})
	sum := sha256.Sum256([]byte(amounts.ReplaceAllString(text, "#")))
	return hex.EncodeToString(sum[:8])
}
