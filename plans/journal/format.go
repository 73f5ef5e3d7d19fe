// Package journal writes down what each run changes on the host, before it is changed, keeps what is replaced, and tells
// how the host is brought back to what it was. A run is one file of JSON lines. A run that changes nothing leaves none.
package journal

import (
	"fmt"
	"time"

	"github.com/converge-agent/converge/diag"
	"github.com/converge-agent/converge/host"
)

// version is the version of the format of a run's file.
const version = 1

// The types of lines. A run begins with its head. Each change has a start; an edit for each file that its start could not
// name yet; and an end. The last line is done: a run without one was killed, or could not write any more.
const (
	typeRun   = "run"
	typeLeft  = "left"
	typeStart = "start"
	typeEdit  = "edit"
	typeEnd   = "end"
	typeDone  = "done"
)

// line is one line of a run's file. Which fields are set depends on its type.
type line struct {
	Type string    `json:"type"`
	At   time.Time `json:"at"`
	*Head
	Left    []string `json:"left,omitempty"`
	Address string   `json:"address,omitempty"`
	*Change
	Edit *Edit `json:"edit,omitempty"`
	*End
	Counts *Counts `json:"counts,omitempty"`
}

// Head is who ran what.
type Head struct {
	Version  int    `json:"version"`
	Run      int    `json:"run"`
	Converge string `json:"converge"`           // its version
	Command  string `json:"command"`            // the sub-command: "apply"; never its arguments, which may hold secrets
	User     string `json:"user"`               // "root", "root (sudo by alice)"
	Config   string `json:"config,omitempty"`   // the path of the configuration
	Rollback int    `json:"rollback,omitempty"` // the run that it went back behind
	// Key stands for the key of all digests: with another one nothing here can be compared.
	Key string `json:"key"`
}

// Change is what was to be done about one resource.
type Change struct {
	Action  string   `json:"action"`
	Summary string   `json:"summary,omitempty"`
	Drift   bool     `json:"drift,omitempty"`
	Needs   []string `json:"needs,omitempty"`
	Effects []Effect `json:"effects,omitempty"`
	Edits   []*Edit  `json:"edits,omitempty"`
}

// Effect is what was to be done besides editing files.
type Effect struct {
	Verb        string `json:"verb"`
	Target      string `json:"target,omitempty"`
	Why         string `json:"why,omitempty"`
	Destructive bool   `json:"destructive,omitempty"`
}

// Edit is one path before and after; nil: nothing stands there.
type Edit struct {
	Path    string `json:"path"`
	Before  *File  `json:"before"`
	After   *File  `json:"after"`
	Opaque  bool   `json:"opaque,omitempty"` // After was not known yet: an edit line follows when it is made
	Private bool   `json:"private,omitempty"`
	Secret  bool   `json:"secret,omitempty"` // a secret was written into it
	// NotKept says why the content that it replaces was not kept, where it was not.
	NotKept string `json:"not_kept,omitempty"`
}

// File is what stood or stands at a path, without its content.
type File struct {
	Type   string `json:"type"`
	Mode   uint32 `json:"mode,omitempty"` // permission bits and setuid, setgid, sticky, as chmod(2) has them
	UID    int    `json:"uid"`
	GID    int    `json:"gid"`
	Target string `json:"target,omitempty"` // of a symlink
	Digest string `json:"digest,omitempty"` // of a file's content, keyed; also the name of what is kept
	Size   int    `json:"size,omitempty"`   // in bytes
}

// End is how a change ended.
type End struct {
	Outcome string `json:"outcome"`
	Message string `json:"message,omitempty"`
	Error   string `json:"error,omitempty"`
	Took    int64  `json:"took_ms"`
}

// Counts are the results of a run, by outcome.
type Counts struct {
	Changed    int   `json:"changed"`
	Failed     int   `json:"failed"`
	Skipped    int   `json:"skipped"`
	InProgress int   `json:"in_progress"`
	Unchanged  int   `json:"unchanged"`
	Took       int64 `json:"took_ms"`
}

// types are the names of the types of files, by which they are told apart on disk.
var types = map[string]host.FileType{
	host.Regular.String(): host.Regular, host.Directory.String(): host.Directory,
	host.Symlink.String(): host.Symlink, host.Other.String(): host.Other,
}

// describe returns what the journal says of a file; digest gives the keyed digest of its content.
func describe(f *host.File, digest func([]byte) string) *File {
	if f == nil {
		return nil
	}
	d := &File{Type: f.Type.String(), UID: f.UID, GID: f.GID}
	switch f.Type {
	case host.Symlink:
		d.Target = f.Target
		return d
	case host.Regular:
		d.Digest, d.Size = digest(f.Content), len(f.Content)
	}
	d.Mode = host.ModeBits(f.Mode)
	return d
}

// is reports whether two descriptions are of the same.
func (f *File) is(g *File) bool {
	if f == nil || g == nil {
		return f == g
	}
	return *f == *g
}

// file makes what is described; content is that of a regular file.
func (f *File) file(content []byte) *host.File {
	if f == nil {
		return nil
	}
	return &host.File{Type: types[f.Type], Target: f.Target, Mode: host.ModeFromBits(f.Mode), UID: f.UID, GID: f.GID, Content: content}
}

// newerError refuses what a newer converge has written.
func newerError(path string, is int) error {
	return diag.New("read "+path, fmt.Sprintf("it has format version %d, and this converge knows up to %d", is, version),
		"Use the newer converge that wrote it.")
}
