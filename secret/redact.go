package secret

import (
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"net/url"
	"slices"
	"strconv"
	"strings"
)

// part is how many consecutive bytes of a secret Redact takes out; a shorter secret is taken out as a whole.
const part = 8

// least is the length in bytes from which on a secret is looked for in other forms than as it stands: those of shorter ones
// stand in any text by chance.
const least = 4

// Redact returns text, which somebody else worded who knew the secrets (a program, a server), with Redacted in the place of
// whatever it tells of them: each as a whole, each part of 8 bytes or more, and both in base64, in hexadecimal, and quoted or
// escaped as shells, URLs, JSON and Go do. Missing and empty secrets are passed over.
func Redact(text string, secrets ...String) string {
	covered := make([]bool, len(text))
	for _, s := range secrets {
		for _, form := range formsOf(s.text) {
			cover(covered, text, form)
		}
	}
	if !slices.Contains(covered, true) {
		return text
	}
	var out strings.Builder
	for i := range len(text) {
		switch {
		case !covered[i]:
			out.WriteByte(text[i])
		case i == 0 || !covered[i-1]:
			out.WriteString(Redacted)
		}
	}
	return out.String()
}

// cover marks every occurrence of form in text, also those that overlap.
func cover(covered []bool, text, form string) {
	for from := 0; ; {
		i := strings.Index(text[from:], form)
		if i < 0 {
			return
		}
		for j := range len(form) {
			covered[from+i+j] = true
		}
		from += i + 1
	}
}

// formsOf are the ways in which a part of a secret may be written, for each of its parts.
func formsOf(text string) []string {
	switch {
	case text == "":
		return nil
	case len(text) < least:
		return []string{text}
	}
	var all []string
	for i := 0; i == 0 || i+part <= len(text); i++ {
		all = append(all, formsOfPart(text[i:min(len(text), i+part)])...)
	}
	slices.Sort(all)
	return slices.Compact(all)
}

func formsOfPart(text string) []string {
	digits := hex.EncodeToString([]byte(text))
	spaced := fmt.Sprintf("% x", text)
	inJSON, _ := json.Marshal(text) // a string can always be encoded
	all := []string{
		text, digits, strings.ToUpper(digits), spaced, strings.ToUpper(spaced), url.QueryEscape(text), url.PathEscape(text),
		within(strconv.Quote(text)), within(string(inJSON)), strings.ReplaceAll(text, `'`, `'\''`),
	}
	for _, enc := range []*base64.Encoding{base64.RawStdEncoding, base64.RawURLEncoding} {
		for before := range 3 { // bytes of another text that was encoded with it
			code := enc.EncodeToString(append(make([]byte, before), text...))
			all = append(all, code[(before*8+5)/6:(before+len(text))*8/6]) // without what other bytes decide too
		}
	}
	return all
}

// within is a quoted text without its quotes.
func within(quoted string) string { return quoted[1 : len(quoted)-1] }

// RedactError returns err, whose words somebody else chose who knew the secrets, worded by Redact. It stays what it is to
// errors.Is and errors.As. Nil stays nil.
func RedactError(err error, secrets ...String) error {
	if err == nil {
		return nil
	}
	return &redacted{err, Redact(err.Error(), secrets...)}
}

type redacted struct {
	err  error
	text string
}

func (r *redacted) Error() string { return r.text }

// Unwrap returns the error as it was worded.
func (r *redacted) Unwrap() error { return r.err }
