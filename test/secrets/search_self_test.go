package secrets

import (
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"net/url"
	"strconv"
	"strings"
	"testing"
)

// TestSearchFinds: the search is of no use unless it finds every form, wherever it stands, and parts of them.
func TestSearchFinds(t *testing.T) {
	const text = `wX9"k$4'v/Lm+Q\7=p2 Rz%t&Yb<8>nH${c}5d`
	s := newSearcher()
	s.add(plant{"planted", text})
	s.add(plant{"other", "AAAAAAAAAAAAAAAAAAAAAAAA"})
	asJSON, err := json.Marshal(text)
	if err != nil {
		t.Fatal(err)
	}
	behind := func(n int) []byte { return []byte(strings.Repeat("x", n) + text + "yyy") }
	found := map[string]string{
		"text":                   text,
		"the first 12":           text[:12],
		"12 in the middle":       text[9:21],
		"the last 12":            text[len(text)-12:],
		"hex":                    hex.EncodeToString([]byte(text)),
		"hex in capitals":        strings.ToUpper(hex.EncodeToString([]byte(text))),
		"%x with spaces":         fmt.Sprintf("% x", text),
		"%v of bytes":            fmt.Sprintf("%v", []byte(text)),
		"base64":                 base64.StdEncoding.EncodeToString(behind(0)),
		"base64, shifted":        base64.StdEncoding.EncodeToString(behind(1)),
		"base64, shifted twice":  base64.StdEncoding.EncodeToString(behind(2)),
		"base64 for URLs":        base64.URLEncoding.EncodeToString(behind(4)),
		"base64 of a part":       base64.StdEncoding.EncodeToString([]byte("user:" + text[5:17])),
		"basic authorization":    "Basic " + base64.StdEncoding.EncodeToString([]byte("u:"+text)),
		"URL query":              url.QueryEscape(text),
		"URL path":               url.PathEscape(text),
		"URL query of a part":    url.QueryEscape(text[7:19]),
		"every byte escaped":     escaped(text, "%%%02X"),
		"Go":                     strconv.Quote(text),
		"Go in ASCII":            strconv.QuoteToASCII(text),
		"JSON":                   string(asJSON),
		"JSON without HTML":      inJSON(text, false),
		"JSON of a part":         string(asJSON)[8:30],
		"JSON of bytes":          listed(text, ","),
		"shell":                  "'" + strings.ReplaceAll(text, `'`, `'\''`) + "'",
		"shell, escaped":         shellEscaped(text),
		"HCL":                    `"` + strings.ReplaceAll(inner(strconv.Quote(text)), "${", "$${") + `"`,
		".env in double quotes":  `"` + strings.NewReplacer(`\`, `\\`, `"`, `\"`, `$`, `\$`).Replace(text) + `"`,
		"JSON within base64":     base64.StdEncoding.EncodeToString([]byte(`{"k":"` + text[:1] + text + `"}`)),
		"in the middle of bytes": "\x00\xff\x00" + text[3:15] + "\x00",
	}
	for name, data := range found {
		hits := s.find([]byte("before " + data + " behind"))
		if len(hits) != 1 || hits[0].plant != "planted" {
			t.Errorf("%s: found %v in %q", name, hits, data)
		}
	}
	for name, data := range map[string]string{
		"nothing": "", "11 of it": text[:11], "another": strings.Repeat("b", 100), "its hash": "5b0e9c3c6f2a", "11 A": "AAAAAAAAAAA",
	} {
		if hits := s.find([]byte(data)); len(hits) > 0 {
			t.Errorf("%s: found %v", name, hits)
		}
	}
	if hits := s.find([]byte(text + "AAAAAAAAAAAA")); len(hits) != 2 {
		t.Errorf("of two plants found %v", hits)
	}
}
