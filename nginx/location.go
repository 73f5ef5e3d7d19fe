package nginx

import (
	"bytes"
	"crypto/sha256"
	_ "embed"
	"encoding/hex"
	"fmt"
	"regexp"
	"strings"
	"text/template"
)

//go:embed location.conf.tmpl
var locationTemplate string

// Location is what becomes of the paths below one of a site that somebody else wrote: a file for the head of its server
// blocks.
type Location struct {
	// Origin says in a comment what the file is made from.
	Origin string
	// Match begins the paths that it is about, with a slash at its end: "/system/".
	Match string
	// Redirect is a URL without a slash at its end that they are sent to for good (301), what follows Match added with its
	// encoding and arguments.
	Redirect string
	// Except begins paths below Match that are answered with 404.
	Except []string
}

// Validate returns a *FieldError for the first value that cannot stand in a configuration.
func (l *Location) Validate() error {
	if err := checkPrefix(l.Match); err != nil {
		return &FieldError{"Match", err}
	}
	if _, err := checkURL(l.Redirect); err != nil {
		return &FieldError{"Redirect", err}
	}
	for _, e := range l.Except {
		if err := checkPrefix(e); err != nil {
			return &FieldError{"Except", err}
		}
		if !strings.HasPrefix(e, l.Match) || e == l.Match {
			return &FieldError{"Except", fmt.Errorf("%q is not below %q", e, l.Match)}
		}
	}
	return nil
}

// prefix is one or more plain segments between slashes, so that it reads the same encoded and decoded.
var prefix = regexp.MustCompile(`^/([A-Za-z0-9_~-][A-Za-z0-9._~-]*/)+$`)

func checkPrefix(s string) error {
	if !prefix.MatchString(s) {
		return fmt.Errorf("%q is not the beginning of a path; write it between slashes and without a modifier, such as \"/system/\"", s)
	}
	return nil
}

// Render returns the text of the file. The error is a *FieldError.
func (l *Location) Render() ([]byte, error) {
	if err := l.Validate(); err != nil {
		return nil, err
	}
	t, err := template.New("location").Parse(locationTemplate)
	if err != nil {
		return nil, fmt.Errorf("parse the template of a location: %w", err)
	}
	var out bytes.Buffer
	if err := t.Execute(&out, locationView{l}); err != nil {
		return nil, fmt.Errorf("render the location %s: %w", l.Match, err)
	}
	return out.Bytes(), nil
}

// locationView is a location as its template sees it.
type locationView struct{ *Location }

// ID tells the variables of this location from those of others.
func (v locationView) ID() string {
	sum := sha256.Sum256([]byte(v.Match))
	return hex.EncodeToString(sum[:4])
}

// Raw is the expression for Match, without the slash at its end, as a client is to write it. What follows is captured by
// name: nginx would encode $1 once more.
func (v locationView) Raw() string { return regexp.QuoteMeta(strings.TrimSuffix(v.Match, "/")) }

// Below is the expression for Match, without the slash at its end, in a decoded path. To nginx one slash or many are the
// same unless the site has merge_slashes off; to the disk they always are.
func (v locationView) Below() string { return decoded(v.Match) }

// Excepted is the same of Except.
func (v locationView) Excepted() []string {
	var out []string
	for _, e := range v.Except {
		out = append(out, decoded(e))
	}
	return out
}

func decoded(match string) string {
	return strings.ReplaceAll(regexp.QuoteMeta(strings.TrimSuffix(match, "/")), "/", "/+")
}
