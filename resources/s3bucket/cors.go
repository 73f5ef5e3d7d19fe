package s3bucket

import (
	"fmt"
	"strings"
	"time"

	"github.com/converge-agent/converge/objectstore"
	"github.com/converge-agent/converge/resources"
	"github.com/zclconf/go-cty/cty"
)

// corsBlock is the block cors.
type corsBlock struct {
	Origins []string      `attr:"origins"`
	Methods []string      `attr:"methods"`
	Headers []string      `attr:"headers"`
	Expose  []string      `attr:"expose_headers"`
	MaxAge  time.Duration `attr:"max_age"`
}

func corsAttrs() []resources.Attr {
	return []resources.Attr{
		{Name: "origins", Type: cty.List(cty.String), Default: stringList([]string{"*"}),
			Doc: "The pages that may use the objects: \"*\" for all, or \"https://social.example\"."},
		{Name: "methods", Type: cty.List(cty.String), Default: stringList([]string{"GET", "HEAD"}), OneOf: []string{"GET", "HEAD", "PUT", "POST", "DELETE"},
			Doc: "What they may do. Mastodon's pages need no more than the default."},
		{Name: "headers", Type: cty.List(cty.String), Default: cty.ListValEmpty(cty.String), Doc: "The headers that they may send."},
		{Name: "expose_headers", Type: cty.List(cty.String), Default: cty.ListValEmpty(cty.String), Doc: "The headers of the answer that they may see."},
		{Name: "max_age", Type: cty.String, Format: resources.Duration, Default: cty.StringVal("1h"),
			Doc: "For how long a browser remembers the answer, in whole seconds."},
	}
}

func (c *corsBlock) rule() *objectstore.Rule {
	return objectstore.CORSRule{
		Origins: c.Origins, Methods: c.Methods, Headers: c.Headers, Expose: c.Expose, MaxAge: int64(c.MaxAge / time.Second),
	}.Rule()
}

func (c *corsBlock) check(p *objectstore.Provider) error {
	switch {
	case !p.CORS:
		return attrError(fmt.Errorf("%s has no CORS of a bucket; leave the block out, for the proxy of an nginx_site answers with CORS "+
			"anyway", p.Title), "cors")
	case len(c.Origins) == 0:
		return attrError(fmt.Errorf("no page may use anything; write origins = [\"*\"], or leave the block out"), "cors", "origins")
	case len(c.Methods) == 0:
		return attrError(fmt.Errorf("nothing may be done; write methods = [\"GET\", \"HEAD\"], or leave the block out"), "cors", "methods")
	}
	for _, origin := range c.Origins {
		_, host, found := strings.Cut(origin, "://")
		if origin != "*" && (!found || host == "" || strings.Contains(host, "/")) {
			return attrError(fmt.Errorf("%q is no origin; write a scheme and a host without a slash at the end, such as "+
				"\"https://social.example\"", origin), "cors", "origins")
		}
	}
	return nil
}
