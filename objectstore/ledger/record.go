package ledger

import (
	"encoding/binary"
	"errors"
	"hash/crc32"
	"time"
)

// File is a local file as it was when its bytes were read. It is comparable: two that are equal are one file, unchanged.
type File struct {
	Size      int64  // bytes
	ModTime   int64  // mtime in nanoseconds since 1970
	ChangedAt int64  // ctime in nanoseconds since 1970
	Inode     uint64 // its number on the device
	Dev       uint64
}

// Record is what is known of one key.
type Record struct {
	// File is the local file whose bytes were compared with, or sent to, the bucket; zero while none was.
	File File
	// ETag and Size are of the object that the bucket holds under the key; "" while none is known to be there.
	ETag string
	Size int64
	// UploadedAt is when we uploaded the object; zero when it is not ours. Precise to the second, as is ProvenAt.
	UploadedAt time.Time
	// ProvenAt is when the bucket was last shown to hold the bytes of File; zero while it was not.
	ProvenAt time.Time
	// Conflict says that the bucket holds other bytes than File.
	Conflict bool
	// Known says that the key held the bytes of a local file once, whatever it holds now.
	Known bool
	// Missing is the number of the listing in which the key was absent after it had been proven; see Meta.Gone. 0: none.
	Missing uint64
}

// Proven reports whether the bucket was shown to hold the bytes of exactly this file.
func (r Record) Proven(f File) bool { return !r.ProvenAt.IsZero() && r.File == f }

// EverProven reports whether the key was ever shown to hold the bytes of a local file. One that was, and of which the bucket
// has nothing any more, was deleted there.
func (r Record) EverProven() bool { return r.Known || !r.ProvenAt.IsZero() }

// Item is a record and its key.
type Item struct {
	Key string
	Record
}

const (
	flagConflict byte = 1 << iota
	flagKnown
)

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

var errRecord = errors.New("a record is not what was written")

// encode gives the stored form of an item, version 1: a CRC-32C of the key and what follows, the numbers as varints, the
// flags, and the ETag to the end. The database checks none of its pages, so that each record answers for itself.
func (i Item) encode() []byte {
	b := make([]byte, 4, 96+len(i.ETag))
	for _, n := range []int64{
		i.File.Size, i.File.ModTime, i.File.ChangedAt, int64(i.File.Inode), int64(i.File.Dev),
		i.Size, seconds(i.UploadedAt), seconds(i.ProvenAt), int64(i.Missing),
	} {
		b = binary.AppendVarint(b, n)
	}
	var flags byte
	if i.Conflict {
		flags |= flagConflict
	}
	if i.Known {
		flags |= flagKnown
	}
	b = append(b, flags)
	b = append(b, i.ETag...)
	binary.LittleEndian.PutUint32(b, checksum(i.Key, b[4:]))
	return b
}

// decode reads what encode wrote under key.
func decode(key string, b []byte) (Record, error) {
	if len(b) < 4 || binary.LittleEndian.Uint32(b) != checksum(key, b[4:]) {
		return Record{}, errRecord
	}
	b = b[4:]
	var n [9]int64
	for i := range n {
		v, used := binary.Varint(b)
		if used <= 0 {
			return Record{}, errRecord
		}
		n[i], b = v, b[used:]
	}
	if len(b) == 0 {
		return Record{}, errRecord
	}
	return Record{
		File: File{Size: n[0], ModTime: n[1], ChangedAt: n[2], Inode: uint64(n[3]), Dev: uint64(n[4])},
		Size: n[5], UploadedAt: fromSeconds(n[6]), ProvenAt: fromSeconds(n[7]), Missing: uint64(n[8]),
		Conflict: b[0]&flagConflict != 0, Known: b[0]&flagKnown != 0, ETag: string(b[1:]),
	}, nil
}

func checksum(key string, b []byte) uint32 {
	return crc32.Update(crc32.Checksum([]byte(key), castagnoli), castagnoli, b)
}

func seconds(t time.Time) int64 {
	if t.IsZero() {
		return 0
	}
	return t.Unix()
}

func fromSeconds(n int64) time.Time {
	if n == 0 {
		return time.Time{}
	}
	return time.Unix(n, 0).UTC()
}
