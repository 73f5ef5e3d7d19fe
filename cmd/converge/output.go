package main

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"sync"
	"time"

	"github.com/converge-agent/converge/diag"
	"github.com/converge-agent/converge/host"
	"github.com/spf13/cobra"
	"golang.org/x/sys/unix"
)

// outputFormat is the version of the lines that --json prints. It changes when a program that reads them would have to.
const outputFormat = "converge/1"

// outputFlags are how a command tells programs what it finds and does.
type outputFlags struct {
	json bool
	file string
}

// on gives cmd the flags, and sets up the terminal before it runs.
func (o *outputFlags) on(cmd *cobra.Command, t *terminal) {
	cmd.Flags().BoolVar(&o.json, "json", false, "print JSON Lines for programs, and nothing else (docs/output.md)")
	cmd.Flags().StringVar(&o.file, "json-out", "", "write these lines to `FILE` too, beside what is printed for people")
	cmd.PreRunE = func(*cobra.Command, []string) error { return o.open(t) }
}

func (o *outputFlags) open(t *terminal) error {
	var to []io.Writer
	if o.file != "" {
		f, err := createOutput(o.file)
		if err != nil {
			return err
		}
		to = append(to, f)
	}
	if o.json {
		to = append(to, t.stdout)
		t.out, t.err, t.quiet = io.Discard, io.Discard, false
	}
	if len(to) > 0 {
		t.lines = &jsonLines{to: to, now: host.SystemClock().Now}
	}
	return nil
}

// createOutput opens path for lines that only its owner may read: they tell more of a host than everybody there may know. It
// never follows a link that another user could have made, nor any at its end, and never writes into what is no file of one's own.
func createOutput(path string) (*os.File, error) {
	const doing = "write the JSON lines to"
	absolute, err := filepath.Abs(path)
	if err != nil {
		return nil, err
	}
	f, err := host.OpenOutput(absolute)
	switch {
	case errors.Is(err, unix.ELOOP):
		return nil, diag.New(doing+" "+path, "a link stands there, and is not followed", "Name the file itself. For the standard output there is --json.")
	case err != nil:
		return nil, host.SystemError(err, doing, path)
	}
	var st unix.Stat_t
	if err = unix.Fstat(int(f.Fd()), &st); err == nil && (st.Mode&unix.S_IFMT != unix.S_IFREG || st.Nlink != 1 || st.Uid != uint32(unix.Geteuid())) {
		err = diag.New(doing+" "+path, "it is no file that belongs to you under this one name", "Name another file, or remove this one by hand.")
	}
	if err == nil {
		err = errors.Join(f.Chmod(0o600), f.Truncate(0))
	}
	if err != nil {
		_ = f.Close()
		return nil, host.SystemError(err, doing, path)
	}
	return f, nil
}

// jsonLines writes one JSON value a line, whole lines at a time. It is safe for use by several goroutines; a nil one is told
// things in vain.
type jsonLines struct {
	now func() time.Time

	errors, warnings int // diagnostics of the configuration that were told

	mu       sync.Mutex
	to       []io.Writer
	err      error     // the first
	progress time.Time // when progress was told last
}

// write writes one line. A failure is kept for the end: whatever reads the lines must not keep a host from being healed.
func (l *jsonLines) write(line any) {
	var b bytes.Buffer
	enc := json.NewEncoder(&b)
	enc.SetEscapeHTML(false)
	if err := enc.Encode(line); err != nil { // strings, numbers and times only
		panic(err)
	}
	text := escapeRest(b.Bytes())
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, w := range l.to {
		if _, err := w.Write(text); err != nil && l.err == nil {
			name := "the standard output"
			if f, ok := w.(*os.File); ok {
				name = f.Name()
			}
			l.err = host.SystemError(err, "write the JSON lines to", name)
		}
	}
}

// escapeRest escapes the control characters that JSON lets pass: DEL and those from U+0080 to U+009F.
func escapeRest(text []byte) []byte {
	if !bytes.ContainsFunc(text, isRest) {
		return text
	}
	var b bytes.Buffer
	for _, r := range string(text) {
		if isRest(r) {
			_, _ = fmt.Fprintf(&b, `\u%04x`, r)
		} else {
			b.WriteRune(r)
		}
	}
	return b.Bytes()
}

func isRest(r rune) bool { return r >= 0x7f && r <= 0x9f }

// close ends the lines, and returns what kept any of them from being written.
func (l *jsonLines) close() error {
	if l == nil {
		return nil
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, w := range l.to {
		if f, ok := w.(*os.File); ok && f != os.Stdout {
			if err := f.Close(); err != nil && l.err == nil {
				l.err = host.SystemError(err, "write", f.Name())
			}
		}
	}
	return l.err
}
