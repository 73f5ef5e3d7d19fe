package nginx

import (
	"fmt"
	"path"
	"slices"
	"strings"

	"github.com/converge-agent/converge/host"
)

// Config is a whole configuration, read through its includes, as far as it concerns who serves which name.
type Config struct {
	// Files are the paths that it is made of, links not followed, in the order in which nginx reads them.
	Files []string
	// Names are the files that have a server block for a name, by name.
	Names map[string][]string
	// includes are the paths and patterns of the include directives, absolute.
	includes []string
	// behind are the paths of Files, links at their end followed.
	behind []string
}

// Reads reports whether a file, which is no link, is part of the configuration, under whatever path.
func (c Config) Reads(name string) bool { return slices.Contains(c.behind, name) }

// Includes reports whether a file that is put at name becomes part of the configuration.
func (c Config) Includes(name string) bool {
	return slices.ContainsFunc(c.includes, func(pattern string) bool {
		ok, err := path.Match(pattern, name)
		return err == nil && ok
	})
}

// maxFiles bounds a configuration whose includes go round in a circle; nginx itself would run out of open files.
const maxFiles = 1000

// ReadConfig reads the configuration that begins with the file main, as nginx would. It runs nothing: `nginx -T` opens
// logs, and creates caches and a pid file (1.22), which a plan must not. Files that are missing or cannot be read for want
// of rights, or that are still to be made, are passed over: what can be said of the rest is said.
func ReadConfig(files host.View, main string) (Config, error) {
	c := Config{Names: map[string][]string{}}
	r := &reader{Config: &c, view: files, base: path.Dir(main)}
	return c, r.file(main)
}

type reader struct {
	*Config
	view host.View
	base string // which includes are relative to (nginx.org, "include": the directory of the main file)
}

func (r *reader) file(name string) error {
	if len(r.Files) >= maxFiles {
		return fmt.Errorf("the configuration in %s includes more than %d files, or itself", r.base, maxFiles)
	}
	found, err := Follow(r.view, name)
	if err != nil || found.File == nil || found.File.Type != host.Regular {
		return nil //nolint:nilerr // what cannot be read is passed over
	}
	r.Files = append(r.Files, name)
	r.behind = append(r.behind, found.Path)
	for _, words := range directives(found.File.Content) {
		switch words[0] {
		case "include":
			if len(words) != 2 {
				continue
			}
			if err := r.include(words[1]); err != nil {
				return err
			}
		case "server_name":
			for _, n := range words[1:] {
				if !slices.Contains(r.Names[n], name) {
					r.Names[n] = append(r.Names[n], name)
				}
			}
		}
	}
	return nil
}

func (r *reader) include(pattern string) error {
	if !path.IsAbs(pattern) {
		pattern = path.Join(r.base, pattern)
	}
	pattern = path.Clean(pattern)
	r.includes = append(r.includes, pattern)
	if !strings.ContainsAny(pattern, "*?[") {
		return r.file(pattern)
	}
	dir, last := path.Split(pattern)
	names, _ := r.view.List(path.Clean(dir)) // a pattern may match nothing, and one in a directory's name is nobody's habit
	for _, n := range names {
		if ok, err := path.Match(last, n); err != nil || !ok || strings.HasPrefix(n, ".") {
			continue
		}
		if err := r.file(path.Join(dir, n)); err != nil {
			return err
		}
	}
	return nil
}

// directives splits a configuration into its directives, each a list of words without quotes, blocks opened like others.
func directives(text []byte) [][]string {
	var all [][]string
	var words []string
	for _, tok := range tokens(string(text)) {
		switch {
		case tok.is(";"), tok.is("{"), tok.is("}"):
			if len(words) > 0 {
				all = append(all, words)
			}
			words = nil
		default:
			words = append(words, tok.text)
		}
	}
	return all
}

type token struct {
	text       string // without quotes
	quoted     bool
	start, end int // where it stands in the text, with its quotes
}

// is reports whether the token is that sign: ; { or }.
func (t token) is(sign string) bool { return !t.quoted && t.text == sign }

// tokens splits as ngx_conf_read_token does: at blanks and ;{}, quotes only at the beginning of a word, comments to the end
// of the line.
func tokens(text string) []token {
	var out []token
	for s := text; s != ""; {
		word := token{start: len(text) - len(s)}
		switch c := s[0]; {
		case strings.IndexByte(" \t\r\n", c) >= 0:
			s = s[1:]
			continue
		case c == '#':
			_, s, _ = strings.Cut(s, "\n")
			continue
		case strings.IndexByte(";{}", c) >= 0:
			word.text, s = s[:1], s[1:]
		case c == '"' || c == '\'':
			word.quoted = true
			word.text, s = quotedWord(s[1:], c)
		default:
			n := bareLength(s)
			word.text, s = s[:n], s[n:]
		}
		word.end = len(text) - len(s)
		out = append(out, word)
	}
	return out
}

// quotedWord reads up to the quote; a backslash before it takes its meaning away.
func quotedWord(s string, quote byte) (word, rest string) {
	var b strings.Builder
	for i := 0; i < len(s); i++ {
		switch {
		case s[i] == '\\' && i+1 < len(s):
			i++
			b.WriteByte(s[i])
		case s[i] == quote:
			return b.String(), s[i+1:]
		default:
			b.WriteByte(s[i])
		}
	}
	return b.String(), ""
}

// bareLength is the length of a word without quotes; the braces of ${name} belong to it.
func bareLength(s string) int {
	for i := 0; i < len(s); i++ {
		switch {
		case s[i] == '\\':
			i++
		case s[i] == '$' && strings.HasPrefix(s[i+1:], "{"):
			if end := strings.IndexByte(s[i:], '}'); end > 0 {
				i += end
			}
		case strings.IndexByte(" \t\r\n;{", s[i]) >= 0:
			return i
		}
	}
	return len(s)
}
