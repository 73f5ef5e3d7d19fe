package main

import (
	"bytes"
	"testing"
	"unicode/utf8"
)

func TestClean(t *testing.T) {
	for name, tc := range map[string]struct{ text, plain, coloured string }{
		"plain text":       {"a\tb\nü\n", "a\tb\nü\n", "a\tb\nü\n"},
		"colours":          {"\x1b[31;1mred\x1b[0;22m\x1b[m", `\x1b[31;1mred\x1b[0;22m\x1b[m`, "\x1b[31;1mred\x1b[0;22m\x1b[m"},
		"hidden":           {"\x1b[8mx\x1b[30m\x1b[40m", `\x1b[8mx\x1b[30m\x1b[40m`, `\x1b[8mx\x1b[30m\x1b[40m`},
		"title, clipboard": {"\x1b]0;t\x07\x1b]52;c;x\x1b\\", `\x1b]0;t\x07\x1b]52;c;x\x1b\`, `\x1b]0;t\x07\x1b]52;c;x\x1b\`},
		"cursor":           {"\x1b[2J\x1b[1A\r\b", `\x1b[2J\x1b[1A\r\x08`, `\x1b[2J\x1b[1A\r\x08`},
		"C1":               {"\u009b31m\x9b", `\u009b31m\x9b`, `\u009b31m\x9b`},
		"direction":        {"a\u202eb\u2066c\u2028d", `a\u202eb\u2066c\u2028d`, `a\u202eb\u2066c\u2028d`},
		"NUL, DEL":         {"\x00\x7f", `\x00\x7f`, `\x00\x7f`},
	} {
		t.Run(name, func(t *testing.T) {
			if got := clean(tc.text, false); got != tc.plain {
				t.Errorf("off a terminal: %q, want %q", got, tc.plain)
			}
			if got := clean(tc.text, true); got != tc.coloured {
				t.Errorf("with colours: %q, want %q", got, tc.coloured)
			}
		})
	}
}

func FuzzScreenHoldsNoControlCharacters(f *testing.F) {
	f.Add([]byte("a\x1b[31mb\r\n\x9b\u009b"))
	f.Fuzz(func(t *testing.T, text []byte) {
		var b bytes.Buffer
		if n, err := (&screen{raw: &b}).Write(text); n != len(text) || err != nil {
			t.Fatal(n, err)
		}
		if !utf8.Valid(b.Bytes()) {
			t.Errorf("%q is no UTF-8", b.Bytes())
		}
		for _, c := range b.String() {
			if c < 0x20 && c != '\n' && c != '\t' || isRest(c) {
				t.Errorf("%q holds %U", b.String(), c)
			}
		}
	})
}
