package s3sync

import (
	"time"

	"github.com/converge-agent/converge/host"
	"github.com/converge-agent/converge/objectstore/ledger"
	"github.com/converge-agent/converge/resources"
)

// state is what Read found.
type state struct {
	busy    bool // another run copies now
	pending bool // what this one depends on is still going to change

	proven    tally // in the bucket, by the ledger
	owed      tally // to be sent
	compare   tally // to be read and compared with what the bucket holds already
	conflicts tally // the bucket holds other bytes; to be looked at again
	gone      tally // deleted from the bucket after they were there
	later     tally // changed after the cut-off
	leftOut   map[string]tally
	special   problems // pipes and their like
	unread    problems // what could not be read, or must not be

	withdraw  withdrawal
	planned   bool                // the plan shows objects to delete
	withdrawn int64               // objects that this run has deleted
	devices   map[uint64]struct{} // of the directory's file systems
	newest    time.Time           // when the last of its files was changed

	list       string // why a full listing is due; "" when none is
	completeTo time.Time
	cutoff     time.Time
}

// todo is what a run has to look at or send.
func (s *state) todo() tally { return s.owed.plus(s.compare).plus(s.conflicts) }

// onlyLooks reports whether a run would do nothing but list the bucket, or look again at what it could not read.
func (s *state) onlyLooks() bool { return s.todo().Files == 0 && !s.pending && !s.withdraws() }

// metrics are what is known to be in the bucket, and what is still to come.
func (s *state) metrics() []resources.Metric {
	owed := s.todo()
	return []resources.Metric{
		{Name: "converge_sync_objects", Help: "Files that are proven to be in the bucket.", Value: float64(s.proven.Files)},
		{Name: "converge_sync_bytes", Help: "Bytes of the files that are proven to be in the bucket.", Value: float64(s.proven.Bytes)},
		{Name: "converge_sync_owed_objects", Help: "Files that are still to be copied to the bucket.", Value: float64(owed.Files)},
		{Name: "converge_sync_owed_bytes", Help: "Bytes of the files that are still to be copied to the bucket.", Value: float64(owed.Bytes)},
	}
}

// withdraws reports whether objects are to be deleted now, and nothing speaks against it.
func (s *state) withdraws() bool {
	return len(s.withdraw.due) > 0 && s.withdraw.refused == nil && s.unread.n == 0
}

// sawFiles reports whether there is anything at all below the source.
func (s *state) sawFiles() bool {
	return s.proven.plus(s.todo()).plus(s.gone).plus(s.later).Files+s.special.n+s.unread.n > 0 || len(s.leftOut) > 0
}

// listRequests is how many requests a full listing takes, at 1,000 keys each, if the bucket holds as much as the directory.
func (s *state) listRequests() int64 {
	return (s.proven.plus(s.todo()).plus(s.gone).Files)/1000 + 1
}

// problems counts what went wrong, and keeps the first few of it.
type problems struct {
	n     int64
	first []string
	err   error // the first, where they are errors
}

// shownProblems is how many of a kind of problems are named; of the others there is a number.
const shownProblems = 3

func (p *problems) add(text string, err error) {
	p.n++
	if len(p.first) < shownProblems {
		p.first = append(p.first, text)
	}
	if p.err == nil {
		p.err = err
	}
}

// verdict is what is to be done about one file.
type verdict int

const (
	isProven   verdict = iota
	isGone             // deleted from the bucket: never again
	isLater            // changed after the cut-off: for the next run
	isConflict         // other bytes are in the bucket, as far as is known: look again
	isCompare          // something is in the bucket: read and compare
	isOwed             // send
)

// judge says what is to be done about a file. Its record is a zero one where the ledger has none.
func judge(e host.Entry, r ledger.Record, m ledger.Meta, lost lostFiles, cutoff, now time.Time) verdict {
	f := fileOf(e)
	switch {
	case m.Gone(r):
		return isGone
	case r.Proven(f):
		return isProven
	case e.ChangedAt.After(cutoff) && !e.ChangedAt.After(now):
		// A ctime in the future is the clock's fault, not the file's, and waiting for it could take years.
		return isLater
	case r.Conflict && r.File == f:
		return isConflict
	case r.ETag != "" || r == (ledger.Record{}) && lost.has(e):
		return isCompare
	}
	return isOwed
}

// fileOf is what a file is known by. The number of its device is not part of that: with btrfs, NFS and device mapper it may
// be another one after each mount, and every file would be read again.
func fileOf(e host.Entry) ledger.File {
	return ledger.File{Size: e.Size, ModTime: e.ModTime.UnixNano(), ChangedAt: e.ChangedAt.UnixNano(), Inode: e.Inode}
}
