package nginx

import (
	"bytes"
	"errors"
	"slices"
	"strings"
)

// Server is one server block of the web in a file.
type Server struct {
	// Names are those of its server_name directives, in lower case.
	Names []string
	// inside is the offset behind its opening brace.
	inside int
}

// Serves reports whether a request for that host name can be answered by the block. Names that are regular expressions are
// not looked into.
func (s Server) Serves(name string) bool {
	return slices.ContainsFunc(s.Names, func(n string) bool {
		suffix, wild := strings.CutPrefix(n, "*.")
		if !wild {
			suffix, wild = strings.CutPrefix(n, ".")
		}
		return n == name || "."+name == n || wild && strings.HasSuffix(name, "."+suffix)
	})
}

// Servers lists the server blocks of the web in a file of the configuration, in their order.
func Servers(text []byte) ([]Server, error) {
	var found []*Server
	var around []block
	var words []string
	for _, tok := range tokens(string(text)) {
		switch {
		case tok.is("{"):
			b := open(around, words)
			if b.server != nil {
				b.server.inside = tok.end
				found = append(found, b.server)
			}
			around, words = append(around, b), nil
		case tok.is("}") && len(around) == 0:
			return nil, errors.New("it has a } without a {")
		case tok.is("}"):
			around, words = around[:len(around)-1], nil
		case tok.is(";"):
			if n := len(around); n > 0 && around[n-1].server != nil && len(words) > 0 && words[0] == "server_name" {
				around[n-1].server.addNames(words[1:])
			}
			words = nil
		default:
			words = append(words, tok.text)
		}
	}
	if len(around) > 0 {
		return nil, errors.New("it has a { without a }")
	}
	out := make([]Server, len(found))
	for i, s := range found {
		out[i] = *s
	}
	return out, nil
}

// block is a block that is open while a text is read.
type block struct {
	server *Server // nil: something else
	notWeb bool    // it stands in stream or mail, which have servers of their own
}

// open is the block that words begin, inside the blocks around.
func open(around []block, words []string) block {
	b := block{}
	if n := len(around); n > 0 {
		b.notWeb = around[n-1].notWeb
	}
	switch {
	case len(words) != 1:
	case words[0] == "stream" || words[0] == "mail":
		b.notWeb = true
	case words[0] == "server" && !b.notWeb:
		b.server = &Server{}
	}
	return b
}

func (s *Server) addNames(names []string) {
	for _, n := range names {
		s.Names = append(s.Names, strings.ToLower(n))
	}
}

// mark stands behind each line that Include adds.
const mark = "# converge"

// Include returns text with one line more at the head of each of the servers, which Servers found in it: it includes file.
// Directives at the head come first in the phase that rewrites requests, before any location is chosen.
func Include(text []byte, servers []Server, file string) ([]byte, error) {
	quoted, err := Quote(file)
	if err != nil {
		return nil, err
	}
	directive := "include " + quoted + ";"
	out := slices.Clone(text)
	for _, s := range slices.Backward(servers) {
		at, add := s.inside, " "+directive
		if rest, lines, found := bytes.Cut(text[at:], []byte("\n")); found && blank(rest) {
			at, add = at+len(rest)+1, indent(lines)+directive+" "+mark+"\n"
		}
		out = slices.Insert(out, at, []byte(add)...)
	}
	return out, nil
}

// Exclude returns text without the directives that include file, and without their lines as far as Include made them: what
// it was before.
func Exclude(text []byte, file string) []byte {
	out := slices.Clone(text)
	var directive []token
	var all [][]token
	for _, tok := range tokens(string(text)) {
		directive = append(directive, tok)
		if tok.is(";") || tok.is("{") || tok.is("}") {
			all, directive = append(all, directive), nil
		}
	}
	for _, d := range slices.Backward(all) {
		if len(d) == 3 && d[0].text == "include" && d[1].text == file && d[2].is(";") {
			start, end := extent(text, d[0].start, d[2].end)
			out = slices.Delete(out, start, end)
		}
	}
	return out
}

// extent is what goes with the directive that stands from start to end: its line where it has that for itself, else the
// space before it.
func extent(text []byte, start, end int) (int, int) {
	line := bytes.LastIndexByte(text[:start], '\n') + 1
	rest, _, found := bytes.Cut(text[end:], []byte("\n"))
	tail := strings.TrimSpace(string(rest))
	switch {
	case found && strings.TrimSpace(string(text[line:start])) == "" && (tail == "" || tail == mark):
		return line, end + len(rest) + 1
	case start > 0 && text[start-1] == ' ':
		return start - 1, end
	}
	return start, end
}

// blank reports whether the rest of a line holds no directive.
func blank(rest []byte) bool {
	rest = bytes.TrimSpace(rest)
	return len(rest) == 0 || rest[0] == '#'
}

// indent is that of the first of the lines that holds something.
func indent(lines []byte) string {
	for line := range bytes.Lines(lines) {
		words := bytes.TrimLeft(line, " \t")
		if len(bytes.TrimSpace(words)) == 0 {
			continue
		}
		space := string(line[:len(line)-len(words)])
		if words[0] == '}' {
			return space + "    "
		}
		return space
	}
	return ""
}
