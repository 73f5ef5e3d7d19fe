package s3sync

import (
	"fmt"
	"path"
	"regexp"
	"slices"
	"strings"

	"github.com/converge-agent/converge/host"
)

// private are the files of Mastodon that nobody may get by their address: archives of users with their private posts, and
// the lists that they imported (Mastodon 4.6.5 app/models/backup.rb; 4.3 app/models/import.rb). A directory of that name is
// left out wherever it stands, for source may be one level too high.
var private = []string{"backups/", "imports/"}

// privatePart returns the private directory that path goes through; "" when there is none.
func privatePart(path string) string {
	for _, dir := range private {
		if strings.HasPrefix(path, dir) || strings.Contains(path, "/"+dir) {
			return dir
		}
	}
	return ""
}

// privateSource returns the private directory of Mastodon that source is, or is in. What stands above a directory system is
// the admin's own, as in /srv/backups/mastodon/public/system.
func privateSource(source string) string {
	if i := strings.LastIndex(source, "/system/"); i >= 0 {
		return privatePart(source[i+len("/system/"):] + "/")
	}
	return privatePart(path.Base(source) + "/")
}

// filter says which files are copied.
type filter struct {
	prefix  string // of the keys in the bucket
	include []pattern
	exclude []pattern
}

// pattern is one glob.
type pattern struct {
	text   string
	regexp *regexp.Regexp
}

func newFilter(prefix string, include, exclude []string) (*filter, error) {
	f := &filter{prefix: prefix}
	for _, text := range include {
		p, err := compile(text)
		if err != nil {
			return nil, attrError("include", err)
		}
		f.include = append(f.include, p)
	}
	for _, text := range exclude {
		p, err := compile(text)
		if err != nil {
			return nil, attrError("exclude", err)
		}
		f.exclude = append(f.exclude, p)
	}
	return f, nil
}

// compile reads a glob: ** stands for any characters, * and ? for any, or one, but a slash. There are no others: brackets
// and braces stand for themselves, for they occur in file names.
func compile(glob string) (pattern, error) {
	if glob == "" || strings.HasPrefix(glob, "/") || strings.HasPrefix(glob, "./") {
		return pattern{}, fmt.Errorf("%q matches nothing; write a path below source, such as \"cache/preview_cards/**\"", glob)
	}
	var re strings.Builder
	re.WriteString(`(?s)^`)
	for rest := glob; rest != ""; {
		switch {
		case strings.HasPrefix(rest, "**/"):
			re.WriteString(`(?:.*/)?`)
			rest = rest[3:]
		case strings.HasPrefix(rest, "**"):
			re.WriteString(`.*`)
			rest = rest[2:]
		case rest[0] == '*':
			re.WriteString(`[^/]*`)
			rest = rest[1:]
		case rest[0] == '?':
			re.WriteString(`[^/]`)
			rest = rest[1:]
		default:
			literal := rest
			if i := strings.IndexAny(rest, "*?"); i >= 0 {
				literal = rest[:i]
			}
			re.WriteString(regexp.QuoteMeta(literal))
			rest = rest[len(literal):]
		}
	}
	re.WriteString(`$`)
	compiled, err := regexp.Compile(re.String())
	if err != nil {
		return pattern{}, fmt.Errorf("%q is no pattern: %w", glob, err)
	}
	return pattern{text: glob, regexp: compiled}, nil
}

// leavesOut is leftOut for an entry: a link, which may be to a directory, is left out by a pattern for what is below it.
func (f *filter) leavesOut(e host.Entry) string {
	if why := f.leftOut(e.Key); why != "" || e.Skipped == "" {
		return why
	}
	return f.leftOut(strings.TrimSuffix(e.Key, "/") + "/")
}

// leftOut returns why the file at path, below the source, is not copied: the pattern that excludes it, or that no pattern
// includes it. It is "" for a file that is copied.
//
// The patterns are matched with the whole key too, so that a prefix is no way around them.
func (f *filter) leftOut(path string) string {
	if why := privatePart(f.prefix + path); why != "" {
		return why
	}
	for _, p := range f.exclude {
		if p.regexp.MatchString(path) || f.prefix != "" && p.regexp.MatchString(f.prefix+path) {
			return strings.TrimSuffix(p.text, "**")
		}
	}
	matches := func(p pattern) bool { return p.regexp.MatchString(path) }
	if len(f.include) > 0 && !slices.ContainsFunc(f.include, matches) {
		return "not included"
	}
	return ""
}
