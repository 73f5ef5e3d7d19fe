package s3bucket

import (
	"errors"
	"fmt"
	"net"
	"regexp"
	"strconv"
	"strings"

	"github.com/converge-agent/converge/objectstore"
	"github.com/converge-agent/converge/resources"
)

// Where a bucket is public through a custom domain, nothing of it can be set at the store: a person connects the domain in the
// provider's console, once. converge looks whether the domain answers, and whether an object can be read there.

var publicHostForm = regexp.MustCompile(`^([a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?\.)+[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?$`)

// checkPublicHost says what is wrong with public_host; nil when nothing is.
func (c *config) checkPublicHost(p *objectstore.Provider) error {
	byDomain := p.Public == objectstore.CustomDomain && c.Access == publicObjects
	name := c.PublicHost
	if host, port, err := net.SplitHostPort(name); err == nil {
		if n, err := strconv.ParseUint(port, 10, 16); err == nil && n > 0 {
			name = host
		}
	}
	switch {
	case byDomain && c.PublicHost == "":
		return fmt.Errorf("at %s the objects of a bucket are public through a domain of their own; write public_host = "+
			"\"media.example.com\", a name that is for this alone, and connect it to the bucket when converge asks for it", p.Title)
	case c.PublicHost == "":
		return nil
	case c.Access != publicObjects:
		return errors.New("nothing is public; leave it out, and see that no domain is connected to the bucket")
	case !byDomain:
		return fmt.Errorf("at %s objects are read at the store's own address; leave it out", p.Title)
	case name == "r2.dev" || strings.HasSuffix(name, ".r2.dev"):
		return errors.New("the r2.dev address of a bucket is limited to some hundred requests a second, answers 429 beyond, and is " +
			"not for production; write a domain of your own that is in the same Cloudflare account")
	case !publicHostForm.MatchString(name) && net.ParseIP(name) == nil:
		return fmt.Errorf("%q is no host; write a name in lower case without a scheme or a path, such as \"media.example.com\"", c.PublicHost)
	}
	return nil
}

// publicURL is the address below which anybody reads the objects, "" where that is the store's own.
func (b *bucket) publicURL() string {
	if b.Access != publicObjects || b.provider.Public != objectstore.CustomDomain {
		return ""
	}
	return "https://" + b.PublicHost
}

// connecting are the steps by which a person connects a domain, by the provider (Cloudflare docs, R2: "Public buckets"; Garage
// docs: "Exposing websites"; both 2026-11).
var connecting = map[string][]string{
	"cloudflare-r2": {
		"1. Open dash.cloudflare.com, in the account whose id is in the store's endpoint. The domain of %[1]s must be a zone there.",
		"2. Open R2 > %[2]s > Settings > Custom Domains > Connect Domain.",
		"3. Write %[1]s, Continue, Connect domain. Wait until its status is Active.",
		"4. Leave the r2.dev address of the bucket off.",
		"5. In the zone, under Caching > Cache Rules, let the host %[1]s bypass the cache: what is deleted would stay readable from it.",
		"6. Run converge again: it goes on by itself.",
	},
	"garage": {
		"1. Allow the bucket to be read as a website: garage bucket website --allow %[2]s",
		"2. Give it the name: garage bucket alias %[2]s %[1]s",
		"3. Let %[1]s lead to the port of [s3_web] by HTTPS. Run converge again: it goes on by itself.",
	},
}

var connectingAnywhere = []string{
	"1. Connect %[1]s to the bucket %[2]s in the provider's console, so that https://%[1]s/KEY is the object KEY.",
	"2. Run converge again: it goes on by itself.",
}

// howToConnect are the steps for this bucket.
func (b *bucket) howToConnect() []string {
	list, known := connecting[b.Store.Provider]
	if !known {
		list = connectingAnywhere
	}
	out := make([]string, len(list))
	for i, line := range list {
		out[i] = strings.NewReplacer("%[1]s", b.PublicHost, "%[2]s", b.Name).Replace(line)
	}
	return out
}

// unconnected says why the bucket cannot be read through its domain yet; "" where it can, or where it once could. What never
// worked was never connected, and is a person's to do. What did work and does not any more is a failure, and looked at as one.
func (st *state) unconnected() string {
	if st.Probes != nil {
		return ""
	}
	return st.Domain
}

// manualStep is the change while the domain is not connected: dependents hold, and the next run looks again.
func (b *bucket) manualStep(why string) resources.Change {
	return resources.Change{
		Action: resources.Wait,
		Wait:   &resources.Waiting{For: b.PublicHost + " to be connected to the bucket " + b.Name},
		Summary: fmt.Sprintf("manual step: connect %s to the bucket %s (%s); converge plan shows how",
			b.PublicHost, b.Name, why),
		Notes: b.howToConnect(),
	}
}
