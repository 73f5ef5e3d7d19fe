package main

import (
	"fmt"
	"strings"

	"github.com/aymanbagabas/go-udiff"
	"github.com/converge-agent/converge/host"
	"github.com/converge-agent/converge/objectstore"
	"github.com/converge-agent/converge/plans"
	"github.com/converge-agent/converge/resources"
	"github.com/fatih/color"
)

// foldedDiff is the number of lines from which on a diff is only counted, unless --diff asks for it.
const foldedDiff = 40

// planView prints a plan for people.
type planView struct {
	*terminal
	fullDiff bool
}

var actionSigns = map[resources.Action]string{
	resources.Create: "+", resources.Update: "~", resources.Delete: "-", resources.Run: ">", resources.Check: "?", resources.Look: "?",
	resources.InProgress: "..", resources.Wait: "..", resources.Blocked: "!",
}

var actionColors = map[resources.Action]color.Attribute{
	resources.Create: color.FgGreen, resources.Update: color.FgYellow, resources.Delete: color.FgRed,
	resources.Run: color.FgCyan, resources.Check: color.FgCyan, resources.Look: color.FgCyan, resources.Blocked: color.FgRed,
}

// print shows a plan and what could not be planned.
func (v *planView) print(p *plans.Plan) {
	v.body(p)
	for _, it := range p.Items {
		if it.Err != nil {
			printError(v.err, itemTitle(it), it.Err)
		}
	}
	v.footer(p)
}

// body shows what the plan would do, and what waits.
func (v *planView) body(p *plans.Plan) {
	v.partial(p)
	width := 0
	for _, it := range p.Items {
		if it.Change.Action != resources.None {
			width = max(width, len(it.Node.Address.String()))
		}
	}
	for _, it := range p.Items {
		if it.Err == nil && !it.Later() {
			v.item(it, width)
		}
	}
	v.later(p, width)
	for _, o := range p.Left {
		v.printf("  %s\n", o)
	}
}

func (v *planView) item(it *plans.Item, width int) {
	c := it.Change
	if c.Action == resources.None {
		for _, n := range c.Notes {
			v.printf("  %s: %s\n", it.Node.Address, n)
		}
		return
	}
	paint := v.paint(actionColors[c.Action])
	label := ""
	if drifted(it) {
		label = "drift: "
	}
	v.printf("  %s %-*s  %s%s\n", paint(actionSigns[c.Action]), width, it.Node.Address, label, c.Summary)
	v.details(c)
}

// drifted reports whether somebody changed what had converged, and nothing in this plan accounts for it.
func drifted(it *plans.Item) bool {
	a := it.Change.Action
	return it.Drift && !it.Follows && a.Changes() && a != resources.Run
}

func (v *planView) details(c resources.Change) {
	for _, d := range c.Attrs {
		v.attr(d)
	}
	for _, e := range c.Edits {
		v.edit(e)
	}
	for _, e := range c.Effects {
		v.effect(e)
	}
	for _, n := range c.Notes {
		v.printf("      note: %s\n", n)
	}
}

func (v *planView) attr(d resources.AttrDiff) {
	switch {
	case d.Added:
		v.printf("      %s %s = %s\n", v.paint(color.FgGreen)("+"), d.Name, value(d.After))
	case d.Removed:
		v.printf("      %s %s = %s\n", v.paint(color.FgRed)("-"), d.Name, value(d.Before))
	default:
		v.printf("      %s %s: %s -> %s\n", v.paint(color.FgYellow)("~"), d.Name, value(d.Before), value(d.After))
	}
}

// value is how an attribute's value is shown: one that is there and empty must be seen.
func value(text string) string {
	if text == "" {
		return `""`
	}
	return text
}

func (v *planView) effect(e resources.Effect) {
	line := strings.TrimSpace(e.Verb + " " + e.Target)
	if e.Why != "" {
		line += " (" + e.Why + ")"
	}
	if e.Destructive {
		line = v.paint(color.FgRed, color.Bold)("destructive: " + line)
	}
	v.printf("      %s\n", line)
}

// edit shows one file's change: what happens to the path, and the content as a unified diff where it may be shown.
func (v *planView) edit(e host.Edit) {
	if e.Empty() {
		return
	}
	lines := diffLines(e)
	if heading := editHeading(e, len(lines) > 0); heading != "" {
		v.printf("      %s\n", heading)
	}
	if len(lines) > foldedDiff && !v.fullDiff {
		v.printf("        %d lines of difference (--diff shows them)\n", len(lines))
		return
	}
	for _, line := range lines {
		v.printf("        %s\n", v.diffLine(line))
	}
}

// diffLines is the unified diff of an edit's content without its two heading lines; none where it may not be shown.
func diffLines(e host.Edit) []string {
	if !e.Shown() || e.After == nil || !isText(e.Before) || !isText(e.After) {
		return nil
	}
	diff := udiff.Unified(e.Path, e.Path, content(e.Before), content(e.After))
	if diff == "" {
		return nil
	}
	lines := strings.Split(strings.TrimRight(diff, "\n"), "\n")[2:]
	if e.Before == nil {
		return lines[1:] // the place of a hunk says nothing of a new file
	}
	return lines
}

func (v *planView) diffLine(line string) string {
	switch {
	case strings.HasPrefix(line, "+"):
		return v.paint(color.FgGreen)(line)
	case strings.HasPrefix(line, "-"):
		return v.paint(color.FgRed)(line)
	case strings.HasPrefix(line, "@"):
		return v.paint(color.FgCyan)(line)
	}
	return line
}

func isText(f *host.File) bool { return f == nil || f.Type == host.Regular }

func content(f *host.File) string {
	if f == nil {
		return ""
	}
	return string(f.Content)
}

// editHeading says what happens to the path of an edit besides its content.
func editHeading(e host.Edit, diffFollows bool) string {
	b, a := e.Before, e.After
	switch {
	case e.Opaque:
		return "make " + e.Path
	case a == nil:
		return fmt.Sprintf("remove %s %s", b.Type, e.Path)
	case a.Type == host.Symlink && b == nil:
		return fmt.Sprintf("link %s -> %s", e.Path, a.Target)
	case a.Type == host.Symlink:
		return fmt.Sprintf("link %s -> %s (was %s)", e.Path, a.Target, b.Target)
	case b == nil:
		return fmt.Sprintf("create %s %s, %04o", a.Type, e.Path, host.ModeBits(a.Mode))
	}
	var also []string
	if b.Mode != a.Mode {
		also = append(also, fmt.Sprintf("mode %04o -> %04o", host.ModeBits(b.Mode), host.ModeBits(a.Mode)))
	}
	if b.UID != a.UID || b.GID != a.GID {
		also = append(also, fmt.Sprintf("owner %d:%d -> %d:%d", b.UID, b.GID, a.UID, a.GID))
	}
	switch {
	case len(also) > 0:
		return e.Path + ": " + strings.Join(also, ", ")
	case diffFollows:
		return e.Path
	}
	return ""
}

// later lists what is held or waits for its time.
func (v *planView) later(p *plans.Plan, width int) {
	first := true
	for _, it := range p.Items {
		if !it.Later() {
			continue
		}
		if first {
			v.printf("  later, each planned again when due:\n")
			first = false
		}
		why := it.Change.Summary
		if len(it.HeldBy) > 0 {
			why = "needs " + joinAddresses(it.HeldBy)
		}
		if it.Left != nil {
			why = it.Left.Message
		}
		v.printf("    %-*s  %s\n", width, it.Node.Address, why)
		if it.Change.Action == resources.Wait && len(it.HeldBy) == 0 && it.Left == nil {
			for _, n := range it.Change.Notes { // what somebody may do about it
				v.printf("      note: %s\n", n)
			}
		}
	}
}

func joinAddresses(addrs []resources.Address) string {
	names := make([]string, len(addrs))
	for i, a := range addrs {
		names[i] = a.String()
	}
	return strings.Join(names, ", ")
}

func itemTitle(it *plans.Item) string {
	return fmt.Sprintf("%s (%s)", it.Node.Address, it.Node.Where)
}

// planTally is a plan in numbers. Blocks that only export are not counted.
type planTally struct {
	Change      int   `json:"change"`
	Destructive int   `json:"destructive"` // effects
	Check       int   `json:"check"`
	Later       int   `json:"later"`
	Failed      int   `json:"failed"`
	Unchanged   int   `json:"unchanged"`
	Requests    int64 `json:"requests"` // estimate, at object stores
}

func tallyOf(p *plans.Plan) planTally {
	n := planTally{Change: p.Changes(), Failed: p.Failures()}
	total := 0
	for _, it := range p.Items {
		if it.Node.Resource == nil && it.Err == nil {
			continue
		}
		total++
		switch {
		case it.Later():
			n.Later++
		case it.Change.Action.Looks():
			n.Check++
		}
		if !acts(it) {
			continue
		}
		for _, e := range it.Change.Effects {
			n.Requests += e.Requests
			if e.Destructive {
				n.Destructive++
			}
		}
	}
	n.Unchanged = total - n.Change - n.Check - n.Later - n.Failed
	return n
}

// acts reports whether applying the plan would do something about an item now, if only to look at what plans do not look at.
func acts(it *plans.Item) bool {
	return it.Changes() || it.Err == nil && it.Change.Action.Looks() && !it.Later()
}

// estimateOf are the requests of a plan whose operations are known.
func estimateOf(p *plans.Plan) objectstore.Sent {
	sent := objectstore.Sent{}
	for _, it := range p.Items {
		if !acts(it) {
			continue
		}
		for _, e := range it.Change.Effects {
			for op, n := range e.Operations {
				sent.Add(e.Provider, op, n)
			}
		}
	}
	return sent
}

func (v *planView) footer(p *plans.Plan) {
	n := tallyOf(p)
	switch {
	case n.Change > 0 || n.Failed > 0 || n.Later > 0:
		v.printf("Plan: %s; %d as they should be.\n", tally{
			{n.Change, "to change", true}, {n.Destructive, "destructive", true}, {n.Check, "to check", false},
			{n.Later, "later", false}, {n.Failed, "failed", false},
		}, n.Unchanged)
	case n.Check > 0: // what a check finds, the plan does not know
		v.printf("No changes: %s to check by apply; %d as they should be.\n", count(n.Check, "resource"), n.Unchanged)
	default:
		v.printf("No changes: this host is as the configuration says (%s).\n", count(n.Unchanged, "resource"))
	}
	for _, line := range storeLines(estimateOf(p), n.Requests) {
		v.printf("      about %s.\n", line)
	}
}

// sent says what the plan itself has cost at the object stores; nothing where it asked none.
func (v *planView) sent(requests objectstore.Sent) {
	var all int64
	for _, provider := range requests.Providers() {
		all += requests.Total(provider)
	}
	for _, line := range storeLines(requests, all) {
		v.printf("This plan took %s.\n", line)
	}
}

// storeLines word requests to object stores, a line for each provider: "5 requests to the object store: 3 class C, 2 class B; free
// up to 2,500 a day of each". Where not all of them are known by operation, there is one line without classes.
func storeLines(requests objectstore.Sent, all int64) []string {
	if all == 0 {
		return nil
	}
	providers := requests.Providers()
	var known int64
	for _, provider := range providers {
		known += requests.Total(provider)
	}
	if known != all {
		return []string{count(int(all), "request") + " to the object store"}
	}
	var lines []string
	for _, provider := range providers {
		line := count(int(requests.Total(provider)), "request") + " to "
		if len(providers) > 1 {
			line += provider
		} else {
			line += "the object store"
		}
		if classes := requests.Classes(provider); classes != "" {
			line += ": " + classes
		}
		lines = append(lines, line)
	}
	return lines
}

// tally is a row of counts, of which those that are 0 are left out unless they always matter.
type tally []struct {
	n      int
	what   string
	always bool
}

func (t tally) String() string {
	var parts []string
	for _, c := range t {
		if c.n > 0 || c.always {
			parts = append(parts, fmt.Sprintf("%d %s", c.n, c.what))
		}
	}
	return strings.Join(parts, ", ")
}

func count(n int, what string) string {
	if n == 1 {
		return "1 " + what
	}
	return fmt.Sprintf("%d %ss", n, what)
}
