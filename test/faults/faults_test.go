package faults

import (
	"math"
	"testing"

	"golang.org/x/sys/unix"
)

// TestLaw4Local disturbs an apply of files, links, services and a site.
func TestLaw4Local(t *testing.T) {
	t.Parallel()
	p := newPool(t, "local", 24)
	calls := p.calls()
	for _, what := range unsynced(calls) {
		t.Error(what)
	}
	p.try(append(around(calls, "interrupt", "interrupt twice", "the disk is full", "read-only", "the bus is late", "the bus dies"),
		choose("killed anywhere", kills(calls), as(100)),
		choose("a file call fails", fails(calls, "file", disk), as(30)))...)
}

// TestLaw4Migration disturbs a whole migration to an object store.
func TestLaw4Migration(t *testing.T) {
	t.Parallel()
	p := newPool(t, "migration", 10)
	calls := p.calls()
	p.try(append(around(calls, "interrupt", "interrupt twice", "the disk is full", "the store is gone"),
		choose("killed anywhere", kills(calls), as(25)),
		choose("a file call fails", fails(calls, "file", disk), as(10)),
		choose("a connection fails", fails(calls, "socket", network), as(6)))...)
}

// as is how many points are tried: n, or all if those are asked for.
func as(n int) int {
	if *all {
		return math.MaxInt32
	}
	return n
}

// around has circumstances change before a few calls, evenly chosen; before ten times as many if all points are asked for.
func around(calls []call, circumstances ...string) []*group {
	limit := 4
	if *all {
		limit *= 10
	}
	var groups []*group
	for _, what := range circumstances {
		var faults []Fault
		for i := range calls {
			faults = append(faults, Fault{Do: what, Point: i + 1})
		}
		groups = append(groups, choose(what, faults, limit))
	}
	return groups
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

// TestUnsynced: the search finds what is missing, wherever it is.
func TestUnsynced(t *testing.T) {
	good := []string{"openat /a/.t", "write /a/.t", "fsync /a/.t", "renameat2 /a/.t -> /a/f", "fsync /a", "unlinkat /a/g", "fsync /a"}
	for missing, want := range map[int]int{-1: 0, 1: 0, 2: 1, 4: 1, 6: 1} {
		var calls []call
		for i, text := range good {
			if i != missing {
				calls = append(calls, call{"file", text})
			}
		}
		if got := unsynced(calls); len(got) != want {
			t.Errorf("without call %d: found %q", missing, got)
		}
	}
}

// disk is what the kernel answers for a full disk, a broken one, an immutable file, one mounted for reading only, and a
// quota: write(2), open(2), rename(2). network is what it answers for peers that are gone: connect(2), send(2).
var (
	disk    = []unix.Errno{unix.ENOSPC, unix.EIO, unix.EPERM, unix.EROFS, unix.EDQUOT}
	network = []unix.Errno{unix.ECONNRESET, unix.EPIPE}
)

// fails has each call of a kind fail, with one errno after the other, alone or with all that follow, or both ways if all
// points are asked for.
func fails(calls []call, kind string, errnos []unix.Errno) []Fault {
	var faults []Fault
	for i, c := range calls {
		if c.Kind != kind {
			continue
		}
		for n, errno := range errnos {
			for _, lasting := range []bool{false, true} {
				if n == i%len(errnos) && (*all || lasting == (i/len(errnos)%2 == 1)) {
					faults = append(faults, Fault{Do: "fail", Point: i + 1, Errno: int(errno), Lasting: lasting})
				}
			}
		}
	}
	return faults
}
