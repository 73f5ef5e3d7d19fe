package plans

import (
	"fmt"
	"slices"
	"strings"

	"github.com/converge-agent/converge/resources"
)

// Moved is a resource that is no longer as a saved plan found it.
type Moved struct {
	Address string
	What    string // what of it moved: "its configuration", "the host: planned was update, due now is none"
}

// Moved compares a plan with the saved one, and returns what is not equal: in the order of p, and then what is gone.
func (e *Engine) Moved(s *Saved, p *Plan) []Moved {
	before := map[string]*SavedResource{}
	for i := range s.Items {
		before[s.Items[i].Address] = &s.Items[i]
	}
	var out []Moved
	for _, it := range p.Items {
		addr := it.Node.Address.String()
		if what := e.moved(before[addr], it); what != "" {
			out = append(out, Moved{addr, what})
		}
		delete(before, addr)
	}
	for _, item := range s.Items {
		if before[item.Address] != nil {
			out = append(out, Moved{item.Address, "it is no longer in the configuration"})
		}
	}
	return out
}

// moved says what moved of one resource since it was saved as was; "" when nothing did.
func (e *Engine) moved(was *SavedResource, it *Item) string {
	switch {
	case was == nil:
		return "it is new in the configuration"
	case was.Config != e.configKey(it.Node):
		return "its configuration"
	case was.Facts != e.Records.Keyed(it.Node.Facts) && it.Node.Asked != "":
		return fmt.Sprintf("its %s, as the provider tells it", it.Node.Asked)
	case was.Facts != e.Records.Keyed(it.Node.Facts):
		return "the facts that it reads from the host"
	case was.Change != e.changeKey(it):
		return "the host: " + movedState(was, e.saved(it))
	}
	return exceeded(was.Effects, e.saved(it).Effects, it.Change.Action)
}

// movedState words that something else is to be done than was planned.
func movedState(was *SavedResource, now SavedResource) string {
	if was.Action != now.Action {
		return fmt.Sprintf("planned was %q, due now is %q", was.Action, now.Action)
	}
	return "what was to be changed has itself been changed"
}

// What runs is bound by a ceiling for how much it does, as the tree that it works on lives on: twice what was planned, and
// these besides.
const (
	slackRequests = 10_000
	slackBytes    = 10e9
	slackDeletes  = 100
)

// exceeded says which estimate of what runs is beyond its ceiling; "" when none is. What was not to delete anything has no
// slack for that.
func exceeded(planned, due []SavedEffect, action resources.Action) string {
	if action != resources.Run {
		return ""
	}
	for i, now := range due {
		was := planned[i] // they are the same effects: their digests are equal
		name := strings.TrimSpace(now.Verb + " " + now.Target)
		deletes := 2 * was.Deletes
		if was.Destructive {
			deletes += slackDeletes
		}
		switch {
		case now.Destructive && !was.Destructive:
			return fmt.Sprintf("the host: %s has become destructive", name)
		case now.Deletes > deletes:
			return fmt.Sprintf("the host: %s would delete %d objects, planned were %d", name, now.Deletes, was.Deletes)
		case now.Requests > 2*was.Requests+slackRequests:
			return fmt.Sprintf("the host: %s would make about %d requests, planned were %d", name, now.Requests, was.Requests)
		case now.Bytes > 2*was.Bytes+slackBytes:
			return fmt.Sprintf("the host: %s would move %s, planned were %s", name, resources.FormatBytes(now.Bytes), resources.FormatBytes(was.Bytes))
		}
	}
	return ""
}

// Leave has an apply of the plan leave alone what moved, and all that depends on it.
func (p *Plan) Leave(moved []Moved) {
	for _, m := range moved {
		i := slices.IndexFunc(p.Items, func(it *Item) bool { return it.Node.Address.String() == m.Address })
		if i < 0 {
			continue // it is gone
		}
		p.leaveUsers(i, m.Address)
		p.Items[i].Left = &Left{Outcome: Skipped, Message: "moved since the plan was saved: " + m.What}
	}
}

// leaveUsers has all that needs node i, directly or through others, left alone.
func (p *Plan) leaveUsers(i int, address string) {
	for _, user := range p.graph.users[i] {
		if p.Items[user].Left == nil {
			p.Items[user].Left = &Left{Outcome: Skipped, Message: fmt.Sprintf("needs %s, which moved since the plan was saved", address)}
			p.leaveUsers(user, address)
		}
	}
}
