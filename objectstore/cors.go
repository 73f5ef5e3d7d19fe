package objectstore

import (
	"strconv"
	"strings"
)

// CORSRule says which pages of other origins may use a bucket's objects, and how.
type CORSRule struct {
	Origins []string // "*", "https://social.example"
	Methods []string // "GET", "HEAD"
	Headers []string // that a page may send
	Expose  []string // headers of the answer that a page may see
	MaxAge  int64    // seconds for which a browser remembers the answer; 0 leaves it to the browser
}

// Rule gives it as converge's rule of the document.
func (c CORSRule) Rule() *Rule {
	var parts [][2]string
	for _, list := range []struct {
		name   string
		values []string
	}{{"AllowedOrigin", c.Origins}, {"AllowedMethod", c.Methods}, {"AllowedHeader", c.Headers}, {"ExposeHeader", c.Expose}} {
		for _, v := range list.values {
			parts = append(parts, [2]string{list.name, v})
		}
	}
	if c.MaxAge > 0 {
		parts = append(parts, [2]string{"MaxAgeSeconds", strconv.FormatInt(c.MaxAge, 10)})
	}
	return ourRule(CORS, parts...)
}

// corsMeaning knows that names of headers have no case, and that an empty part says nothing.
func corsMeaning(name, value string) (string, string) {
	switch {
	case value == "", name == "MaxAgeSeconds" && value == "0":
		return "", ""
	case name == "AllowedHeader", name == "ExposeHeader":
		value = strings.ToLower(value)
	}
	return name, value
}
