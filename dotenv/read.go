package dotenv

import (
	"bytes"
	"regexp"
	"sort"
	"strings"
)

// The grammar of a line, as both readers search for it from anywhere in the file: blanks, export, a key, a separator, a
// value in quotes (over several lines, if need be) or bare up to a #, a comment. A blank may be a line break, so that a
// value may stand on the next line. Groups: 1 export, 2 key, 3 separator and value, 4 value.
const (
	rubySpace = `[\t\n\v\f\r ]`
	// What \s means in ECMAScript: white space and line terminators.
	nodeSpace = `[\t\n\v\f\r \x{a0}\x{1680}\x{2000}-\x{200a}\x{2028}\x{2029}\x{202f}\x{205f}\x{3000}\x{feff}]`

	singleQuoted = `'(?:\\'|[^'])*'`
	doubleQuoted = `"(?:\\"|[^"])*"`
	backQuoted   = "`(?:\\\\`|[^`])*`"
)

// rubyLine is LINE of Ruby dotenv 3.2.0, lib/dotenv/parser.rb. A key alone is an assignment of "".
var rubyLine = regexp.MustCompile(strings.ReplaceAll(
	`(?m)^\s*(export\s+)?([0-9A-Za-z_.]+)((?:\s*=\s*?|:\s+?)(\s*`+singleQuoted+`|\s*`+doubleQuoted+`|[^#\n]+)?)?\s*(?:#.*)?$`,
	`\s`, rubySpace))

// nodeLine is LINE of Node dotenv 17.4.2, lib/main.js. It knows backticks and keys with a -, and wants a separator.
var nodeLine = regexp.MustCompile(strings.ReplaceAll(
	`(?m)^\s*(export\s+)?([0-9A-Za-z_.-]+)((?:\s*=\s*?|:\s+?)(\s*`+singleQuoted+`|\s*`+doubleQuoted+`|\s*`+backQuoted+`|[^#\n]+)?)\s*(?:#.*)?$`,
	`\s`, nodeSpace))

// unixLines returns content as both readers see it, without a byte order mark and with every CR LF and CR as LF, and a
// function that gives the offset in content of an offset in it.
func unixLines(content []byte) (string, func(int) int) {
	body := bytes.TrimPrefix(content, utf8BOM)
	skipped := len(content) - len(body)
	var text strings.Builder
	var pairs []int // the offsets in text of those LF that were CR LF
	for i := 0; i < len(body); i++ {
		switch {
		case body[i] != '\r':
			text.WriteByte(body[i])
		case i+1 < len(body) && body[i+1] == '\n':
			pairs = append(pairs, text.Len())
		default:
			text.WriteByte('\n')
		}
	}
	return text.String(), func(at int) int {
		return skipped + at + sort.SearchInts(pairs, at)
	}
}

// blanks are what each reader strips around a value: String#strip of Ruby, String.prototype.trim of ECMAScript.
const (
	rubyBlanks = "\t\n\v\f\r \x00"
	nodeBlanks = "\t\n\v\f\r \u00a0\u1680\u2000\u2001\u2002\u2003\u2004\u2005\u2006\u2007\u2008\u2009\u200a\u2028\u2029\u202f\u205f\u3000\ufeff"
)

// scan finds the entries of a text.
func scan(line *regexp.Regexp, blanks, text string, offset func(int) int) []entry {
	var out []entry
	for _, m := range line.FindAllStringSubmatchIndex(text, -1) {
		e := entry{key: text[m[4]:m[5]], start: m[4], keyStart: m[4], end: m[5]}
		if m[2] >= 0 {
			e.start = m[2]
		}
		if m[6] >= 0 { // its = or : is the first, for only blanks come before it
			e.end += strings.IndexAny(text[m[5]:m[7]], "=:") + 1
		}
		if m[8] >= 0 {
			value := strings.TrimLeft(text[m[8]:m[9]], blanks)
			e.raw = strings.TrimRight(value, blanks)
			if e.raw != "" {
				e.end = m[9] - len(value) + len(e.raw)
			}
		}
		e.bareExport = m[2] >= 0 && m[8] < 0
		e.start, e.keyStart, e.end = offset(e.start), offset(e.keyStart), offset(e.end)
		out = append(out, e)
	}
	return out
}
