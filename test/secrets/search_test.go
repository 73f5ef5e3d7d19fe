package secrets

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

// window is how many consecutive bytes of a secret are one too many. Fewer could be chance.
const window = 12

// plant is a secret that was put somewhere, to be found nowhere else.
type plant struct {
	name string // what it is: "file.content", or "host: an unmanaged line of .env.production"
	text string
}

// needle is one form of a part of a plant.
type needle struct {
	plant string
	form  string
	rest  string // behind the first bytes, which are the key of the index
}

// searcher finds plants in bytes, whole or in part, in the forms that programs write texts in.
type searcher struct {
	index map[[window]byte][]needle
	names []string
}

func newSearcher() *searcher { return &searcher{index: map[[window]byte][]needle{}} }

// add has a plant be looked for from now on.
func (s *searcher) add(p plant) {
	if len(p.text) < window {
		panic(fmt.Sprintf("the plant %s is too short to be told from chance", p.name))
	}
	s.names = append(s.names, p.name)
	for i := 0; i+window <= len(p.text); i++ {
		for _, f := range forms(p.text[i : i+window]) {
			s.addNeedle(p.name, f.name, f.text)
		}
	}
	for _, f := range forms(p.text) { // escapes make a part of a text other than the text's part
		s.addNeedle(p.name, f.name, f.text)
	}
}

func (s *searcher) addNeedle(plant, form, text string) {
	n := needle{plant, form, text[window:]}
	key := [window]byte([]byte(text[:window]))
	if !slices.ContainsFunc(s.index[key], func(m needle) bool { return m.plant == n.plant && m.rest == n.rest }) {
		s.index[key] = append(s.index[key], n)
	}
}

// form is one way to write a text.
type form struct{ name, text string }

// forms are the ways to write a part of a secret, each at least as long as the part.
func forms(part string) []form {
	out := []form{
		{"text", part},
		{"hex", hex.EncodeToString([]byte(part))},
		{"hex in capitals", strings.ToUpper(hex.EncodeToString([]byte(part)))},
		{"hex with spaces", fmt.Sprintf("% x", part)},
		{"bytes", listed(part, " ")},
		{"bytes in JSON", listed(part, ",")},
		{"URL query", url.QueryEscape(part)},
		{"URL path", url.PathEscape(part)},
		{"URL with every byte escaped", escaped(part, "%%%02X")},
		{"quoted by Go", inner(strconv.Quote(part))},
		{"quoted by Go in ASCII", inner(strconv.QuoteToASCII(part))},
		{"quoted in JSON", inner(inJSON(part, true))},
		{"quoted in JSON without HTML", inner(inJSON(part, false))},
		{"quoted by a shell", strings.ReplaceAll(part, `'`, `'\''`)},
		{"escaped by a shell", shellEscaped(part)},
		{"quoted in HCL", inner(strings.NewReplacer("${", "$${", "%{", "%%{").Replace(strconv.Quote(part)))},
		{"quoted in a .env file", strings.NewReplacer(`\`, `\\`, `"`, `\"`, `$`, `\$`, "`", "\\`").Replace(part)},
	}
	for _, enc := range []struct {
		name string
		*base64.Encoding
	}{{"base64", base64.RawStdEncoding}, {"base64 for URLs", base64.RawURLEncoding}} {
		for shift := range 3 { // where in a longer text that was encoded it stood
			out = append(out, form{enc.name, aligned(enc.Encoding, part, shift)})
		}
	}
	return out
}

// aligned is what base64 makes of part behind shift other bytes, without the characters that those or what follows decide.
func aligned(enc *base64.Encoding, part string, shift int) string {
	code := enc.EncodeToString([]byte(strings.Repeat("\x00", shift) + part))
	first := (shift*8 + 5) / 6
	return code[first : (shift+len(part))*8/6]
}

func listed(part, between string) string {
	var list []string
	for _, b := range []byte(part) {
		list = append(list, strconv.Itoa(int(b)))
	}
	return strings.Join(list, between)
}

func escaped(part, format string) string {
	var b strings.Builder
	for _, c := range []byte(part) {
		fmt.Fprintf(&b, format, c)
	}
	return b.String()
}

func shellEscaped(part string) string {
	var b strings.Builder
	for _, c := range []byte(part) {
		if strings.IndexByte(" \t\"'\\$`&|;<>()*?[]#~=%!{}", c) >= 0 {
			b.WriteByte('\\')
		}
		b.WriteByte(c)
	}
	return b.String()
}

func inJSON(part string, html bool) string {
	var b strings.Builder
	e := json.NewEncoder(&b)
	e.SetEscapeHTML(html)
	if err := e.Encode(part); err != nil { // a string
		panic(err)
	}
	return strings.TrimSpace(b.String())
}

func inner(quoted string) string { return quoted[1 : len(quoted)-1] }

// hit is a plant that was found.
type hit struct {
	plant, form string
	at          int // of its first bytes
}

// find returns each plant that data holds, once.
func (s *searcher) find(data []byte) []hit {
	var hits []hit
	for i := 0; i+window <= len(data); i++ {
		for _, n := range s.index[[window]byte(data[i:i+window])] {
			known := slices.ContainsFunc(hits, func(h hit) bool { return h.plant == n.plant })
			if !known && strings.HasPrefix(string(data[i+window:min(len(data), i+window+len(n.rest))]), n.rest) {
				hits = append(hits, hit{n.plant, n.form, i})
			}
		}
	}
	return hits
}
