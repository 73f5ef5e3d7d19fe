package main

import (
	"errors"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/converge-agent/converge/plans"
	"github.com/converge-agent/converge/resources"
	"github.com/google/go-cmp/cmp"
)

func TestSameFailure(t *testing.T) {
	for name, tc := range map[string]struct {
		a, b string
		same bool
	}{
		"numbers, times, ids": {
			"list media at s3.example: status 503 SlowDown, request 4442587FB7D0A2F9, after 3 tries in 1 min 2 s, at 2026-11-21T16:15:33Z",
			"list media at s3.example: status 503 SlowDown, request 7A11587FB7D0A2F0, after 12 tries in 58 s, at 2026-11-22T01:00:01Z", true,
		},
		"another status":   {"get x: HTTP 403 for us", "get x: HTTP 503 for us", false},
		"another cause":    {"write /etc/x: no space left on device", "write /etc/x: permission denied", false},
		"another port":     {"dial tcp 192.0.2.1:443: connection refused", "dial tcp 192.0.2.7:8443: connection refused", true},
		"another pid, age": {"process 9408, since 2026-11-21T16:15:33Z (2m29s ago)", "process 11, since 2026-11-21T16:45:33Z (1h2m29s ago)", true},
		"sizes":            {"412 files, 38.2 MB", "9 files, 1.1 GB", true},
	} {
		if got := digestOf(tc.a) == digestOf(tc.b); got != tc.same {
			t.Errorf("%s: same %v, want %v", name, got, tc.same)
		}
	}
}

// TestOutage follows a resource through days of runs, each of which opens the record anew.
func TestOutage(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "state")
	now := time.Date(2026, 11, 21, 12, 0, 0, 0, time.UTC)
	node := &resources.Node{Address: resources.Address{Kind: "s3_bucket", Name: "media"}}
	run := func(outcome plans.Outcome, failure string) (told bool, over []string) {
		t.Helper()
		o := openOutages(dir, now)
		res := plans.Result{Item: &plans.Item{Node: node}, Outcome: outcome}
		if failure != "" {
			res.Err = errors.New(failure)
			told = !o.silent("s3_bucket.media", failure)
		}
		over = o.ended(&plans.Report{Results: []plans.Result{res}}, false)
		o.save()
		if o.err != nil {
			t.Fatal(o.err)
		}
		return told, over
	}
	written := func() string {
		text, err := os.ReadFile(filepath.Join(dir, outageFile))
		if err != nil {
			t.Fatal(err)
		}
		return string(text)
	}
	expect := func(what string, gotTold bool, gotOver []string, told bool, over ...string) {
		t.Helper()
		if gotTold != told || cmp.Diff(gotOver, over) != "" {
			t.Errorf("%s: told %v, over %q; want %v, %q", what, gotTold, gotOver, told, over)
		}
	}
	step := func(what string, after time.Duration, outcome plans.Outcome, failure string, told bool, over ...string) {
		t.Helper()
		now = now.Add(after)
		gotTold, gotOver := run(outcome, failure)
		expect(what, gotTold, gotOver, told, over...)
	}
	const refused, timeout = "dial: connection refused", "dial: i/o timeout"
	if _, err := os.Stat(dir); err == nil {
		t.Fatal("the directory is there")
	}
	step("fine", 0, plans.Unchanged, "", false)
	if _, err := os.Stat(dir); err == nil {
		t.Error("a run without an outage wrote something")
	}
	step("begins", 0, plans.Failed, refused, true)
	first := written()
	step("goes on", 30*time.Minute, plans.Failed, refused, false)
	if written() != first {
		t.Error("an outage that goes on was written again")
	}
	step("another failure", 30*time.Minute, plans.Failed, timeout, true)
	step("the first one again", 30*time.Minute, plans.Failed, refused, false)
	step("not tried", 30*time.Minute, plans.Skipped, "", false)
	step("waits", 30*time.Minute, plans.Waiting, "", false)
	step("still", 30*time.Minute, plans.Failed, timeout, false)
	step("over", 10*time.Minute, plans.InProgress, "", false, "s3_bucket.media works again after 3 h 10 min")
	step("fine again", 0, plans.Unchanged, "", false)
	step("begins anew", time.Hour, plans.Failed, refused, true)
	step("a day", 24*time.Hour, plans.Failed, refused, true)
	step("after the reminder", time.Hour, plans.Failed, refused, false)
	step("the clock stepped back by years", -3*365*24*time.Hour, plans.Failed, refused, true)
	step("over, before it began", 0, plans.Changed, "", false, "s3_bucket.media works again")
}

// TestOutageOutsideOfAPartialRun: a run with --target neither begins, ends nor forgets an outage of what it is not about.
func TestOutageOutsideOfAPartialRun(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "state")
	now := time.Date(2026, 11, 21, 12, 0, 0, 0, time.UTC)
	o := openOutages(dir, now)
	o.failed("s3_bucket.media", "refused")
	o.save()
	other := &plans.Report{Results: []plans.Result{{
		Item: &plans.Item{Node: &resources.Node{Address: resources.Address{Kind: "file", Name: "motd"}}}, Outcome: plans.Changed,
	}}}
	for _, tc := range []struct {
		partial bool
		stays   bool
	}{{true, true}, {false, false}} {
		o := openOutages(dir, now.Add(2*remindAfter))
		if over := o.ended(other, tc.partial); len(over) > 0 {
			t.Errorf("partial %v: over %q", tc.partial, over)
		}
		if got := o.find("s3_bucket.media") != nil; got != tc.stays {
			t.Errorf("partial %v: on record %v, want %v", tc.partial, got, tc.stays)
		}
	}
}

// TestOutageWithoutRecord: where nothing can be remembered, everything is told.
func TestOutageWithoutRecord(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "state")
	if err := os.WriteFile(dir, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	for range 2 {
		o := openOutages(dir, time.Now())
		if o.silent("", "x") {
			t.Error("kept back")
		}
		o.failed("", "x")
		o.save()
		if o.err == nil {
			t.Error("no error that it cannot be remembered")
		}
	}
	if (*outages)(nil).silent("", "x") {
		t.Error("without --quiet something is kept back")
	}
}
