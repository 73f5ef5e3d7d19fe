package dotenv

import (
	"regexp"
	"strings"
)

// reading is what Ruby makes of a value.
type reading struct {
	text  string
	doubt string // why it may be another one on the host, or ""
}

// readRuby evaluates the entries as Ruby dotenv 3.2.0 does in an empty environment (lib/dotenv/parser.rb and
// lib/dotenv/substitutions), except that no command is run. DOTENV_LINEBREAK_MODE=legacy is not regarded: a value that it
// would change is one that Node reads differently anyway.
func (f *File) readRuby() map[string]reading {
	known := map[string]reading{}
	for _, e := range f.ruby {
		if !e.bareExport {
			known[e.key] = evaluateRuby(e.raw, known)
		}
	}
	return known
}

func evaluateRuby(raw string, known map[string]reading) reading {
	text, quote := unquote(raw, `'"`)
	switch quote {
	case '\'':
		return reading{text: text}
	case '"': // "\n" stays a backslash and an n
		text = strings.NewReplacer(`\n`, `\\n`, `\r`, `\\r`).Replace(text)
	}
	text = unescape(text)
	text, doubt := expand(text, known)
	if strings.Contains(text, "$(") {
		text, doubt = commands(text, doubt)
	}
	return reading{text, doubt}
}

// unquote takes one of the quotes off both ends of raw, and says which one; 0 where there is none.
func unquote(raw, quotes string) (string, byte) {
	if n := len(raw); n >= 2 && raw[0] == raw[n-1] && strings.IndexByte(quotes, raw[0]) >= 0 {
		return raw[1 : n-1], raw[0]
	}
	return raw, 0
}

// unescape takes the backslash from before every character but a dollar sign.
func unescape(s string) string {
	var out strings.Builder
	for i := 0; i < len(s); i++ {
		if s[i] == '\\' && i+1 < len(s) && s[i+1] != '$' {
			i++
		}
		out.WriteByte(s[i])
	}
	return out.String()
}

// variable is a dollar sign with what Ruby takes for a name behind it, braces open or not.
var variable = regexp.MustCompile(`^\$\{?([A-Za-z0-9_]+)?\}?`)

// expand puts the variables of the file into s; others are empty. A dollar before a parenthesis is left for commands.
func expand(s string, known map[string]reading) (text, doubt string) {
	var out strings.Builder
	for i := 0; i < len(s); {
		escaped := strings.HasPrefix(s[i:], `\$`)
		dollar := i
		if escaped {
			dollar++
		}
		m := variable.FindStringSubmatch(s[dollar:])
		if m == nil || strings.HasPrefix(s[dollar:], "$(") {
			out.WriteByte(s[i])
			i++
			continue
		}
		switch {
		case escaped || m[1] == "":
			out.WriteString(m[0])
		default:
			out.WriteString(known[m[1]].text)
			doubt = "Ruby puts the variable " + m[1] + " into it"
		}
		i = dollar + len(m[0])
	}
	return out.String(), doubt
}

// commands takes the backslash from before every escaped command of s, and leaves the others as they are written.
func commands(s, doubt string) (string, string) {
	var out strings.Builder
	for i := 0; i < len(s); {
		escaped := strings.HasPrefix(s[i:], `\$`)
		dollar := i
		if escaped {
			dollar++
		}
		n := 0
		if strings.HasPrefix(s[dollar:], "$(") {
			n = balanced(s[dollar+1:])
		}
		if n == 0 {
			out.WriteByte(s[i])
			i++
			continue
		}
		if !escaped {
			doubt = "Ruby runs a command in it"
		}
		out.WriteString(s[dollar : dollar+1+n])
		i = dollar + 1 + n
	}
	return out.String(), doubt
}

// balanced returns the length of the parenthesis that s begins with, or 0 where it, or one within it, is empty or is never
// closed.
func balanced(s string) int {
	depth := 0
	for i := range len(s) {
		switch s[i] {
		case '(':
			depth++
		case ')':
			if depth--; s[i-1] == '(' {
				return 0
			}
			if depth == 0 {
				return i + 1
			}
		}
	}
	return 0
}

// readNode evaluates the entries as Node dotenv 17.4.2 does (lib/main.js).
func (f *File) readNode() map[string]string {
	known := map[string]string{}
	for _, e := range f.node {
		text, _ := unquote(e.raw, "'\"`")
		if strings.HasPrefix(e.raw, `"`) {
			text = strings.NewReplacer(`\n`, "\n").Replace(text)
			text = strings.NewReplacer(`\r`, "\r").Replace(text)
		}
		known[e.key] = text
	}
	return known
}
