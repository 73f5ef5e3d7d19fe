// Package httpcheck is the kind http_check: one HTTP request whose answer must be as expected. It is made at its place in an
// apply, so that what stands behind it in the order is only changed when it holds.
package httpcheck

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"net/netip"
	"net/url"
	"regexp"
	"slices"
	"strings"
	"time"

	"github.com/converge-agent/converge/resources"
	"github.com/converge-agent/converge/secret"
	"github.com/zclconf/go-cty/cty"
)

// Kind returns the kind http_check.
func Kind() *resources.Kind {
	return resources.NothingWhenAbsent(&resources.Kind{
		Name: "http_check",
		Doc: "A request whose answer must be as expected, or the apply fails here and what depends on it is not done. It is made " +
			"again for 5 seconds until it holds, for what was reloaded answers a moment later. A plan does not make it. Redirects are not followed, no proxy is used, and certificates are verified.",
		Attrs: attrs(),
		New:   newCheck,
	}, "With \"absent\" nothing is asked for, and what depends on it goes on.")
}

func attrs() []resources.Attr {
	return []resources.Attr{
		{Name: "url", Type: cty.String, Format: resources.URL, Required: true, Doc: "What to ask for."},
		{Name: "method", Type: cty.String, OneOf: []string{"GET", "HEAD", "OPTIONS"}, Default: cty.StringVal("GET"),
			Doc: "The method; only those that change nothing."},
		{Name: "headers", Type: cty.Map(cty.String), Secret: true, Doc: "Headers to send, such as Origin. A value may be a secret."},
		{Name: "ca_file", Type: cty.String, Format: resources.Path,
			Doc: "A PEM file of authorities to trust besides those of the system."},
		{Name: "resolve", Type: cty.String,
			Doc: "An address and port to connect to instead of asking the DNS, such as \"127.0.0.1:443\". The url's host is still sent and verified."},
		{Name: "timeout", Type: cty.String, Format: resources.Duration, Default: cty.StringVal("10s"),
			Doc: "How long one request may take."},
		{Name: "expect", Doc: "What the answer must be. Without it, or without status in it: a status below 400.", Block: []resources.Attr{
			{Name: "status", Type: cty.Number, Doc: "The status, such as 200 or 403."},
			{Name: "header", Type: cty.Map(cty.String),
				Doc: "Headers that must be there exactly once, with this value, or with one that matches what stands behind a ~: \"~^max-age=\"."},
			{Name: "body", Type: cty.String, Doc: "A regular expression (RE2) that must match the first MiB of the body."},
			{Name: "cache", Type: cty.String, OneOf: []string{"HIT", "MISS"},
				Doc: "What X-Cache-Status must say. For HIT a second request is made if the first one has filled the cache."},
		}},
	}
}

// config is what somebody wrote.
type config struct {
	URL     string                   `attr:"url"`
	Method  string                   `attr:"method"`
	Headers map[string]secret.String `attr:"headers"`
	CAFile  string                   `attr:"ca_file"`
	Resolve string                   `attr:"resolve"`
	Timeout time.Duration            `attr:"timeout"`
	Expect  expect                   `attr:"expect"`
}

type expect struct {
	Status int64             `attr:"status"`
	Header map[string]string `attr:"header"`
	Body   string            `attr:"body"`
	Cache  string            `attr:"cache"`
}

type check struct {
	config
	patterns map[string]*regexp.Regexp // of the headers that are expected to match one, by name
	body     *regexp.Regexp            // nil where none is expected
	patience time.Duration
	secrets  []secret.String // of the headers that are sent, which a server may say again
}

func newCheck(_ resources.Address, written cty.Value) (resources.Resource, cty.Value, error) {
	c := &check{patience: patience, secrets: secret.TextsIn(written.GetAttr("headers"))}
	if err := resources.Decode(written, &c.config); err != nil {
		return nil, cty.NilVal, err
	}
	if err := c.complete(); err != nil {
		return nil, cty.NilVal, err
	}
	return c, cty.EmptyObjectVal, nil
}

// headerName is a token (RFC 9110, section 5.6.2).
var headerName = regexp.MustCompile("^[!#$%&'*+.^_`|~0-9A-Za-z-]+$")

// complete checks what the formats of the attributes cannot say, and compiles the patterns.
func (c *check) complete() error {
	fail := func(err error, path ...string) error { return &resources.AttrError{Path: path, Err: err} }
	if u, err := url.Parse(c.URL); err != nil || u.Hostname() == "" || u.User != nil {
		return fail(errors.New("it must be a scheme, a host and a path, such as https://files.example.com/"), "url")
	}
	if c.Resolve != "" {
		if _, err := netip.ParseAddrPort(c.Resolve); err != nil {
			return fail(fmt.Errorf("%q is not an address with a port; write one such as \"127.0.0.1:443\" or \"[::1]:443\"", c.Resolve), "resolve")
		}
	}
	if c.Timeout == 0 {
		return fail(errors.New("no request can be made in no time; write one such as \"10s\""), "timeout")
	}
	for name, value := range c.Headers {
		if !headerName.MatchString(name) || strings.ContainsAny(value.Reveal(), "\r\n\x00") {
			return fail(fmt.Errorf("%q is no header that can be sent", name), "headers")
		}
	}
	if s := c.Expect.Status; s != 0 && (s < 100 || s > 599) {
		return fail(fmt.Errorf("%d is not a status; write one from 100 to 599", s), "expect", "status")
	}
	c.patterns = map[string]*regexp.Regexp{}
	for _, name := range c.headers() {
		if !headerName.MatchString(name) {
			return fail(fmt.Errorf("%q is not the name of a header", name), "expect", "header")
		}
		if text, ok := strings.CutPrefix(c.Expect.Header[name], "~"); ok {
			re, err := regexp.Compile(text)
			if err != nil {
				return fail(err, "expect", "header")
			}
			c.patterns[name] = re
		}
	}
	if c.Expect.Body != "" {
		re, err := regexp.Compile(c.Expect.Body)
		if err != nil {
			return fail(err, "expect", "body")
		}
		c.body = re
	}
	return nil
}

// headers are the names of the expected headers, sorted.
func (c *check) headers() []string { return slices.Sorted(maps.Keys(c.Expect.Header)) }

// Claims is empty: a check writes nothing.
func (c *check) Claims() []resources.Claim { return nil }

// Watches is empty: a check has no content.
func (c *check) Watches() []string { return nil }

// Read has nothing to find: what it would ask for is only there once the apply has come so far.
func (c *check) Read(context.Context, resources.ReadEnv) (resources.State, error) { return nil, nil }

// Diff is to check, always.
func (c *check) Diff(resources.State) resources.Change {
	return resources.Change{Action: resources.Check, Summary: c.summary(), Digest: "check"}
}

// summary says what is asked and expected: "GET https://files.example.com/: 200, one Access-Control-Allow-Origin, HIT".
func (c *check) summary() string {
	want := []string{"a status below 400"}
	if c.Expect.Status != 0 {
		want[0] = fmt.Sprint(c.Expect.Status)
	}
	for _, name := range c.headers() {
		want = append(want, "one "+name)
	}
	if c.body != nil {
		want = append(want, "the body matches")
	}
	if c.Expect.Cache != "" {
		want = append(want, "cache "+c.Expect.Cache)
	}
	return fmt.Sprintf("%s %s: %s", c.Method, c.URL, strings.Join(want, ", "))
}
