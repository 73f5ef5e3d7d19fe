package resources

import (
	"fmt"
	"path"
	"regexp"
	"strconv"
	"strings"
	"time"

	"github.com/zclconf/go-cty/cty"
)

// Attr is one attribute, or one nested block, of a kind.
type Attr struct {
	Name string
	Doc  string
	// Type is the value's type. It is left out for references and blocks.
	Type     cty.Type
	Required bool
	// Default is used where the attribute is not written; without one that is null.
	Default cty.Value
	// Secret lets the attribute take a secret. Every other refuses one, so that it cannot end where it would be shown.
	// Of a reference it says that the kind uses the secrets among the exports, so that a missing one fails it too.
	Secret bool
	// Passes says that the attribute only goes into exports: a missing secret in it fails those who use them, not this one.
	Passes bool
	// OneOf lists the only values of a string attribute.
	OneOf []string
	// Format is the form of a string attribute.
	Format Format
	// Ref makes the attribute a reference to a resource of one of these kinds ("any" is every kind). Its value is an object
	// of the exports, and of address. With List it is a list of such references.
	Ref  []string
	List bool
	// Uses names the exports of a reference whose secrets are used; a missing one among the others does no harm. With
	// Secret alone all of them count.
	Uses []string
	// Or lets a reference be an object written in place too, with attributes of these names: all strings.
	Or []string
	// Block makes the attribute a nested block with these attributes, written at most once.
	Block []Attr
}

// Format is the form of a string attribute. It is checked before New is called.
type Format int

// The formats, with an example each.
const (
	Text     Format = iota
	Path            // "/home/mastodon/live", absolute and clean
	Mode            // "0640"
	Duration        // "50m", "168h", "7d"
	Size            // "10GB", "500MiB": bytes
	Rate            // "20MB/s": bytes a second
	URL             // "https://s3.example.com", with a scheme
	DNSName         // "files.example.com"
)

var dnsName = regexp.MustCompile(`^(\*\.)?([a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?\.)*[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?$`)

// CheckFormat says what is wrong with s as a value of that form, and what to write instead; nil when nothing is.
func CheckFormat(f Format, s string) error {
	var err error
	switch f {
	case Path:
		if !path.IsAbs(s) || path.Clean(s) != s || strings.ContainsRune(s, 0) {
			err = fmt.Errorf("%q is not an absolute path; write it from / on, without . or .. or a slash at the end", s)
		}
	case Mode:
		if n, e := strconv.ParseUint(s, 8, 32); e != nil || n > 0o7777 || len(s) < 3 {
			err = fmt.Errorf("%q is not a mode; write it in octal, such as \"0640\"", s)
		}
	case Duration:
		_, err = ParseDuration(s)
	case Size:
		_, err = ParseSize(s)
	case Rate:
		_, err = ParseSize(strings.TrimSuffix(s, "/s"))
	case URL:
		if !strings.HasPrefix(s, "https://") && !strings.HasPrefix(s, "http://") {
			err = fmt.Errorf("%q has no scheme; write https://%s", s, s)
		}
	case DNSName:
		if len(s) > 253 || !dnsName.MatchString(s) {
			err = fmt.Errorf("%q is not a host name; write it in lower case without a scheme, port or path, such as \"files.example.com\"", s)
		}
	case Text:
	}
	return err
}

// ParseDuration reads a duration in Go's form ("50m", "1h30m"), or in whole days ("7d").
func ParseDuration(s string) (time.Duration, error) {
	if days, ok := strings.CutSuffix(s, "d"); ok {
		if n, err := strconv.ParseUint(days, 10, 16); err == nil {
			return time.Duration(n) * 24 * time.Hour, nil
		}
	}
	d, err := time.ParseDuration(s)
	if err != nil || d < 0 {
		return 0, fmt.Errorf("%q is not a duration; write one such as \"50m\", \"168h\" or \"7d\"", s)
	}
	return d, nil
}

var sizeUnits = map[string]int64{
	"": 1, "B": 1,
	"KB": 1e3, "MB": 1e6, "GB": 1e9, "TB": 1e12,
	"KiB": 1 << 10, "MiB": 1 << 20, "GiB": 1 << 30, "TiB": 1 << 40,
}

// ParseSize reads a number of bytes: "500", "10GB" (10^9), "500MiB" (2^20).
func ParseSize(s string) (int64, error) {
	digits := strings.TrimRight(s, "BKMGTi")
	unit, known := sizeUnits[s[len(digits):]]
	n, err := strconv.ParseFloat(digits, 64)
	if err != nil || !known || !(n >= 0 && n*float64(unit) < 1<<62) { // also refuses NaN
		return 0, fmt.Errorf("%q is not a size; write one such as \"10GB\" or \"500MiB\"", s)
	}
	return int64(n * float64(unit)), nil
}

// FormatBytes words a number of bytes in decimal units, as object stores bill them: "38.2 MB".
func FormatBytes(n int64) string {
	units := []string{"B", "kB", "MB", "GB", "TB"}
	v, u := float64(n), 0
	for v >= 1000 && u < len(units)-1 {
		v, u = v/1000, u+1
	}
	if u == 0 {
		return fmt.Sprintf("%d B", n)
	}
	return fmt.Sprintf("%.1f %s", v, units[u])
}
