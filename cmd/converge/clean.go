package main

import (
	"bytes"
	"fmt"
	"io"
	"os"
	"regexp"
	"strings"
	"sync"
	"unicode/utf8"
)

// screen is where text for people goes. Names of files, and what servers say, may hold sequences that command a terminal:
// they are written out as \x1b and their like. On a terminal the colours that converge itself uses pass, and nothing else.
type screen struct {
	raw io.Writer

	mu   sync.Mutex
	held *bytes.Buffer // nil: nothing is kept back
}

// Write implements io.Writer. It reports the length of text as written, whatever became of it.
func (s *screen) Write(text []byte) (int, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.held != nil {
		return s.held.Write(text)
	}
	if _, err := io.WriteString(s.raw, clean(string(text), interactive(s.raw))); err != nil {
		return 0, err
	}
	return len(text), nil
}

// hold keeps back what is told on t.err, until release.
func (t *terminal) hold() {
	if s, ok := t.err.(*screen); ok {
		s.mu.Lock()
		defer s.mu.Unlock()
		s.held = &bytes.Buffer{}
	}
}

// release ends hold, and returns what was kept back.
func (t *terminal) release() string {
	s, ok := t.err.(*screen)
	if !ok {
		return ""
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.held == nil {
		return ""
	}
	said := s.held.String()
	s.held = nil
	return said
}

// colours are the sequences of ours: bold, underlined, four colours that can be read on any ground, and the way back.
var colours = regexp.MustCompile(`^\x1b\[(?:[014]|2[24]|3[1-6])?(?:;(?:[014]|2[24]|3[1-6]))*m`)

// clean writes out control characters, characters that turn the direction of text, and bytes that are no UTF-8. Line ends
// and tabs stay.
func clean(text string, coloured bool) string {
	var b strings.Builder
	for len(text) > 0 {
		r, size := utf8.DecodeRuneInString(text)
		if coloured && r == 0x1b {
			if ours := colours.FindString(text); ours != "" {
				b.WriteString(ours)
				text = text[len(ours):]
				continue
			}
		}
		switch {
		case r == utf8.RuneError && size == 1:
			_, _ = fmt.Fprintf(&b, `\x%02x`, text[0])
		case r == '\n', r == '\t':
			b.WriteRune(r)
		case r == '\r':
			b.WriteString(`\r`)
		case r < 0x20, r == 0x7f:
			_, _ = fmt.Fprintf(&b, `\x%02x`, r)
		case r <= 0x9f && r >= 0x80, turns(r):
			_, _ = fmt.Fprintf(&b, `\u%04x`, r)
		default:
			b.WriteString(text[:size])
		}
		text = text[size:]
	}
	return b.String()
}

// turns reports whether r is one of Unicode's controls of direction, or ends a line in another way than \n.
func turns(r rune) bool {
	return r == 0x061c || r == 0x200e || r == 0x200f || r >= 0x2028 && r <= 0x202e || r >= 0x2066 && r <= 0x2069
}

// fileBelow is the file below a writer, or nil.
func fileBelow(w any) *os.File {
	if s, ok := w.(*screen); ok {
		w = s.raw
	}
	f, _ := w.(*os.File)
	return f
}
