// Package dotenv reads and edits .env files the way Mastodon's own readers do: Ruby dotenv (web and Sidekiq) and Node
// dotenv (streaming). An edit touches the lines of one variable and nothing else, and what is written is read alike by
// both, by systemd's EnvironmentFile= and by Docker Compose.
package dotenv

import (
	"bytes"
	"errors"
	"fmt"
	"regexp"
	"slices"

	"github.com/converge-agent/converge/diag"
)

// File is one .env file. Bytes that no edit touched stay as they were.
type File struct {
	content []byte
	ruby    []entry
	node    []entry
}

// entry is one place where a reader finds a variable. Offsets count bytes of the file's content.
type entry struct {
	key      string
	raw      string // the value as written, with its quotes, without the blanks around it
	start    int    // of the word export, or of the key
	keyStart int
	end      int // behind the value, or behind the separator or the key where there is none

	// bareExport marks `export KEY` and `export KEY=`, to which Ruby gives a meaning of their own: nothing is assigned, and
	// the whole file is refused if nothing was before.
	bareExport bool
}

// utf8BOM is what some editors put before a file. Ruby dotenv opens the file with "bom|utf-8", and to Node it is a blank.
var utf8BOM = []byte("\ufeff")

// Parse reads a .env file. Every text is one: lines that no reader understands are kept and mean nothing.
func Parse(content []byte) *File {
	f := &File{content: slices.Clone(content)}
	text, offsets := unixLines(content)
	f.ruby = scan(rubyLine, rubyBlanks, text, offsets)
	f.node = scan(nodeLine, nodeBlanks, text, offsets)
	return f
}

// Bytes returns the file as it now is.
func (f *File) Bytes() []byte { return slices.Clone(f.content) }

// Get returns the value of key as Ruby dotenv 3.2 reads it in an empty environment, and whether the file assigns it. The
// last assignment counts. A program named in the value is not run, and stands in it as written; see Doubt.
func (f *File) Get(key string) (value string, ok bool) {
	r, ok := f.readRuby()[key]
	return r.text, ok
}

// Values returns every variable that the file assigns, as Get does.
func (f *File) Values() map[string]string {
	out := map[string]string{}
	for key, r := range f.readRuby() {
		out[key] = r.text
	}
	return out
}

// Doubt says in a few words why the value of key is not the same to every reader, such as "Ruby runs a command in it";
// "" where all agree, and for a key that is not there. It never holds the value.
func (f *File) Doubt(key string) string {
	r, inRuby := f.readRuby()[key]
	n, inNode := f.readNode()[key]
	switch {
	case !inRuby && len(f.entriesOf(key)) > 0:
		return "Ruby refuses the whole file, for it is exported without a value"
	case r.doubt != "":
		return r.doubt
	case inRuby != inNode || r.text != n:
		return "Node reads it differently from Ruby"
	}
	return ""
}

// name is what a shell, systemd (systemd.exec(5), Environment=) and both dotenvs take for the name of a variable.
var name = regexp.MustCompile(`^[A-Za-z_][A-Za-z0-9_]*$`)

// CheckName says what is wrong with key as the name of a variable that every reader takes; nil when nothing is.
func CheckName(key string) error {
	if !name.MatchString(key) {
		return fmt.Errorf("%q is not the name of a variable: only letters, digits and _, not beginning with a digit", key)
	}
	return nil
}

// Set gives key the value. It changes the last line that assigns it and removes the others; a new key is appended. A line
// that already says so is left as it is. The errors, which leave the file as it was and never hold the value, are those of
// CheckName and Quote, and ErrEntangled.
func (f *File) Set(key, value string) error {
	if err := CheckName(key); err != nil {
		return err
	}
	quoted, err := Quote(value)
	if err != nil {
		return diag.Wrap(err, "set "+key, "")
	}
	var edits []splice
	mine := f.entriesOf(key)
	kept := lastAssigning(mine)
	for i, e := range mine {
		if i != kept {
			edits = append(edits, f.lines(e))
		}
	}
	switch current, _ := f.Get(key); {
	case kept < 0:
		edits = append(edits, f.appended(key+"="+quoted))
	case current != value || f.Doubt(key) != "":
		edits = append(edits, f.assignment(mine[kept], key+"="+quoted))
	}
	return f.edit(key, edits, &value)
}

// Unset removes every line that names key. The error is ErrEntangled, and leaves the file as it was.
func (f *File) Unset(key string) error {
	var edits []splice
	for _, e := range f.entriesOf(key) {
		edits = append(edits, f.lines(e))
	}
	return f.edit(key, edits, nil)
}

// ErrEntangled is why an edit was not made: a quote that is never closed, or a key without a value, makes the readers take
// the lines around the edit for a part of it.
var ErrEntangled = errors.New("the lines around it would be read differently after the edit")

// splice puts text in the place of the bytes from start to end.
type splice struct {
	start, end int
	text       string
}

func (f *File) entriesOf(key string) []entry {
	var out []entry
	for _, e := range f.ruby {
		if e.key == key {
			out = append(out, e)
		}
	}
	return out
}

// lastAssigning returns the index of the entry whose value counts, or -1.
func lastAssigning(entries []entry) int {
	for i := len(entries) - 1; i >= 0; i-- {
		if !entries[i].bareExport {
			return i
		}
	}
	return -1
}

// lines takes out the whole lines on which e stands, the comment behind it included.
func (f *File) lines(e entry) splice {
	start := bytes.LastIndexAny(f.content[:e.start], "\r\n") + 1
	if start == 0 && bytes.HasPrefix(f.content, utf8BOM) {
		start = len(utf8BOM)
	}
	return splice{start: start, end: e.end + lineEnd(f.content[e.end:])}
}

// lineEnd returns how many bytes are left of the first line, its end included.
func lineEnd(rest []byte) int {
	i := bytes.IndexAny(rest, "\r\n")
	switch {
	case i < 0:
		return len(rest)
	case bytes.HasPrefix(rest[i:], []byte("\r\n")):
		return i + 2
	}
	return i + 1
}

// assignment rewrites e from its key to the end of its value. The word export before it and the comment behind it stay.
func (f *File) assignment(e entry, text string) splice {
	if e.end < len(f.content) && f.content[e.end] == '#' {
		text += " " // Compose takes a # that follows the value at once for a part of it
	}
	return splice{start: e.keyStart, end: e.end, text: text}
}

// appended adds a line at the end, in the style of the file's other line ends.
func (f *File) appended(text string) splice {
	newline := "\n"
	if i := bytes.IndexByte(f.content, '\n'); i > 0 && f.content[i-1] == '\r' {
		newline = "\r\n"
	}
	text += newline
	if n := len(f.content); n > 0 && f.content[n-1] != '\n' && !bytes.Equal(f.content, utf8BOM) {
		text = newline + text
	}
	return splice{start: len(f.content), end: len(f.content), text: text}
}

// edit makes the edits, in the order of the file, and keeps the result only if both readers then find want under key (nil:
// nothing) and everything else as before.
func (f *File) edit(key string, edits []splice, want *string) error {
	if len(edits) == 0 {
		return nil
	}
	var out []byte
	at := 0
	slices.SortFunc(edits, func(a, b splice) int { return a.start - b.start })
	for _, s := range edits {
		if s.start < at { // two entries on one line: it is gone already
			s.start, s.end = at, max(at, s.end)
		}
		out = append(append(out, f.content[at:s.start]...), s.text...)
		at = s.end
	}
	edited := Parse(append(out, f.content[at:]...))
	got, ok := edited.Get(key)
	right := ok == (want != nil) && (want == nil || got == *want) && edited.Doubt(key) == ""
	if !right || !sameOthers(f.ruby, edited.ruby, key) || !sameOthers(f.node, edited.node, key) {
		return diag.Wrap(ErrEntangled, "edit "+key,
			"Close the open quotes in the file, and give every key in it a value or at least an equals sign.")
	}
	*f = *edited
	return nil
}

// sameOthers reports whether a and b assign the same to every key but this one, in the same order.
func sameOthers(a, b []entry, key string) bool {
	others := func(list []entry) []entry {
		var out []entry
		for _, e := range list {
			if e.key != key {
				out = append(out, entry{key: e.key, raw: e.raw, bareExport: e.bareExport})
			}
		}
		return out
	}
	return slices.Equal(others(a), others(b))
}
