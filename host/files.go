// Package host is the machine that converge brings into shape: its files, units, commands, users and clock, each behind a
// small interface with a real and an in-memory implementation. It knows nothing of resources or configurations.
package host

import (
	"bytes"
	"context"
	"errors"
	"io/fs"
	"time"
)

// FileType is what stands at a path.
type FileType int

// The types that converge creates. Anything else that stands at a path (a device, a socket, a pipe) is Other: it is
// reported and never opened.
const (
	Regular FileType = iota
	Directory
	Symlink
	Other
)

// String gives the type as an admin would say it.
func (t FileType) String() string {
	return [...]string{"file", "directory", "symlink", "special file"}[t]
}

// File is everything that converge manages of one path.
type File struct {
	Type    FileType
	Content []byte      // of a Regular file
	Target  string      // of a Symlink, as written in it
	Mode    fs.FileMode // permission bits and setuid, setgid, sticky; meaningless for a Symlink
	UID     int
	GID     int

	// ChangedAt is the inode's ctime, which no program can set back; zero for a file that exists only in a plan.
	// It is never compared by Same.
	ChangedAt time.Time
}

// Same reports whether f and g are the same content, target, mode and owner. Two nils are the same: nothing there.
func (f *File) Same(g *File) bool {
	if f == nil || g == nil {
		return f == g
	}
	if f.Type != g.Type || f.UID != g.UID || f.GID != g.GID {
		return false
	}
	if f.Type == Symlink {
		return f.Target == g.Target
	}
	return f.Mode == g.Mode && bytes.Equal(f.Content, g.Content)
}

// WithoutTime returns f without ChangedAt: what stands there, and nothing of when. What is Same encodes to the same then: an
// empty content is nil.
func (f *File) WithoutTime() *File {
	if f == nil {
		return nil
	}
	g := *f
	g.ChangedAt = time.Time{}
	if len(g.Content) == 0 {
		g.Content = nil
	}
	return &g
}

// Edit is one path before and after: the overlay of a plan, the diff that is shown, and what is written all come from it.
type Edit struct {
	Path string
	// Before is what the plan was made from; nil where nothing stood. Commit refuses when the host holds something else.
	Before *File
	// After is what is to stand there; nil removes it (a directory only when empty).
	After *File
	// Opaque marks an After whose bytes are not known before they are made, such as a certificate. Reading such a path in
	// a plan is ErrOpaque, never a guess.
	Opaque bool
	// Private keeps both contents out of every output.
	Private bool
}

// Empty reports whether the edit would change nothing.
func (e Edit) Empty() bool { return !e.Opaque && e.Before.Same(e.After) }

// Shown reports whether the contents may be printed: not private, and the old bytes readable by everybody anyway.
func (e Edit) Shown() bool {
	return !e.Private && !e.Opaque && (e.Before == nil || e.Before.Type != Regular || e.Before.Mode&0o004 != 0)
}

// View reads files. All paths are absolute and clean.
type View interface {
	// Lookup returns what stands at path, without following a link at its end; nil and no error where nothing stands.
	// Errors: ErrOpaque, ErrTooLarge, ErrUnsafe, and those of the system (permission, I/O), each as *diag.Error.
	Lookup(path string) (*File, error)
	// List returns the sorted names in the directory at path; fs.ErrNotExist where nothing stands.
	List(path string) ([]string, error)
}

// Files reads and writes files.
type Files interface {
	View
	// Commit makes one edit, atomically and durably: a temporary file in the same directory gets mode and owner before
	// content, is synced and renamed over the path, and the directory is synced. It refuses with ErrMoved when the path no
	// longer holds e.Before, and never follows a link that somebody less trusted than its target could have made.
	Commit(ctx context.Context, e Edit) error
}

// MaxContent is the size in bytes of the largest file that Lookup reads: configuration, never media.
const MaxContent = 16 << 20

// What Lookup and Commit refuse, to be told apart with errors.Is.
var (
	ErrOpaque   = errors.New("its content will only be known once it has been made")
	ErrTooLarge = errors.New("it is larger than a configuration file can be")
	ErrUnsafe   = errors.New("a link on its path could have been made by another user")
	ErrMoved    = errors.New("it changed after the plan was made")
)
