package faults

import (
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// workers is how many worlds take place at once. Most of the time each waits for a service to show that it stays up.
const workers = 24

// TestLaw4Local kills an apply of files, links, services and a site at each of its calls, or has the call fail.
func TestLaw4Local(t *testing.T) {
	p := newPool(t, "local", workers)
	calls := p.calls()
	t.Run("killed anywhere", func(t *testing.T) {
		start := time.Now()
		faults := kills(calls)
		reached := p.in(t).try(faults)
		t.Logf("crash points: local %d of %d calls, %d reached (%s)", len(faults), len(calls), reached, time.Since(start).Round(time.Second))
	})
	t.Run("a file call fails", func(t *testing.T) {
		start := time.Now()
		faults := failures(calls)
		reached := p.in(t).try(faults)
		t.Logf("error points: local %d of %d calls, %d reached (%s)", len(faults), len(calls), reached, time.Since(start).Round(time.Second))
	})
}

// kills has each call be the last one of a run, half done where it is a write. Of calls that do the same as the one before
// them (lines printed one after the other, a service looked at again and again) only the first and the last count, unless
// all are asked for. The state directory is lost each second time, or both ways are tried.
func kills(calls []call) []Fault {
	var faults []Fault
	for i, c := range calls {
		if !*all && i > 0 && i+1 < len(calls) && c == calls[i-1] && c == calls[i+1] {
			continue
		}
		f := Fault{Do: "half", Point: i + 1, LoseState: len(faults)%2 == 1}
		faults = append(faults, f)
		if f.LoseState = !f.LoseState; *all {
			faults = append(faults, f)
		}
	}
	return faults
}

// errnos are what the kernel answers for a full disk, a broken one, an immutable file, one mounted for reading only, and a
// quota: write(2), open(2), rename(2).
var errnos = []unix.Errno{unix.ENOSPC, unix.EIO, unix.EPERM, unix.EROFS, unix.EDQUOT}

// failures has each call that changes files fail, alone or with all that follow, with each errno or with one after the other.
func failures(calls []call) []Fault {
	var faults []Fault
	for i, c := range calls {
		if c.Kind != "file" {
			continue
		}
		for n, errno := range errnos {
			for _, lasting := range []bool{false, true} {
				if *all || n == i%len(errnos) && lasting == (i/len(errnos)%2 == 1) {
					faults = append(faults, Fault{Do: "fail", Point: i + 1, Errno: int(errno), Lasting: lasting})
				}
			}
		}
	}
	return faults
}
