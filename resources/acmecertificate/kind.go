// Package acmecertificate is the kind acme_certificate: a certificate that an authority issues by ACME, and that is renewed
// in time.
package acmecertificate

import (
	"errors"
	"fmt"
	"net/netip"
	"path"
	"strings"
	"time"

	"github.com/converge-agent/converge/acme"
	"github.com/converge-agent/converge/host"
	"github.com/converge-agent/converge/resources"
	"github.com/converge-agent/converge/secret"
	"github.com/zclconf/go-cty/cty"
)

// Kind returns the kind acme_certificate, which has issuer obtain the certificates.
func Kind(issuer acme.Issuer) *resources.Kind {
	return &resources.Kind{
		Name: "acme_certificate",
		Doc: "A certificate from Let's Encrypt or another authority that speaks ACME, with its key, renewed in time. Applying it " +
			"means agreeing to the authority's terms of service. A failed try is not repeated at once, for authorities count them.",
		Attrs: attrs(),
		Exports: []resources.Attr{
			{Name: "fullchain_path", Type: cty.String, Doc: "The certificate and those that lead to its authority, in PEM."},
			{Name: "key_path", Type: cty.String, Doc: "The private key, in PEM, for root alone."},
		},
		New: func(addr resources.Address, v cty.Value) (resources.Resource, cty.Value, error) {
			return newResource(issuer, addr, v)
		},
	}
}

func attrs() []resources.Attr {
	return []resources.Attr{
		{Name: "domains", Type: cty.List(cty.String), Required: true, Format: resources.DNSName,
			Doc: "The names that the certificate is for, such as [\"files.example.com\"]. They must point to this host."},
		{Name: "email", Type: cty.String, Doc: "Where the authority may write to. Let's Encrypt no longer does (since June 2025)."},
		{Name: "directory_url", Type: cty.String, Format: resources.URL, Default: cty.StringVal(acme.LetsEncrypt),
			Doc: "The authority. https://acme-staging-v02.api.letsencrypt.org/directory is for trying things out: its limits are " +
				"high, and browsers do not trust it."},
		{Name: "ca_file", Type: cty.String, Format: resources.Path,
			Doc: "The certificates, in PEM, that the authority's own server is checked with, if it is a private one."},
		{Name: "challenge", Type: cty.String, OneOf: []string{"http-01"}, Default: cty.StringVal("http-01"),
			Doc: "How the authority makes sure of the names. http-01: it asks for a file on port 80, which nginx answers if it " +
				"runs, and converge itself for the moment if it does not."},
		{Name: "key_type", Type: cty.String, OneOf: acme.KeyTypes(), Default: cty.StringVal("ec256"), Doc: "The type of the key."},
		{Name: "renew_before", Type: cty.String, Format: resources.Duration, Default: cty.StringVal("30d"),
			Doc: "How long before its end the certificate is renewed; at most a third of its lifetime, so that those of a few days " +
				"are not renewed without end."},
		{Name: "profile", Type: cty.String, Doc: "The authority's profile, such as \"shortlived\". Not written: the authority chooses."},
		{Name: "eab", Doc: "The account that the authority knows already, where it asks for one.", Block: []resources.Attr{
			{Name: "key_id", Type: cty.String, Required: true, Doc: "The key ID that the authority gave."},
			{Name: "hmac_key", Type: cty.String, Required: true, Secret: true, Doc: "The HMAC key that the authority gave, in base64url."},
		}},
		{Name: "dir", Type: cty.String, Format: resources.Path,
			Doc: "The directory of the certificate; live in it leads to the current one. Not written: /etc/ssl/ and the first name."},
		{Name: "webroot", Type: cty.String, Format: resources.Path, Default: cty.StringVal(acme.Webroot),
			Doc: "The directory that nginx answers /.well-known/acme-challenge/ from."},
		{Name: "http_port", Type: cty.Number, Default: cty.NumberIntVal(80), Doc: "The port that challenges are answered on. Authorities on the internet ask on port 80 alone."},
		{Name: "http_address", Type: cty.String, Doc: "The IP address that challenges are answered on. Not written: every address."},
		{Name: "conf_dir", Type: cty.String, Format: resources.Path, Default: cty.StringVal("/etc/nginx"), Doc: "The directory that holds nginx.conf."},
		{Name: "unit", Type: cty.String, Default: cty.StringVal("nginx"), Doc: "The systemd unit of nginx."},
		resources.EnsureAttr(),
	}
}

// config is what was written.
type config struct {
	Domains     []string      `attr:"domains"`
	Email       string        `attr:"email"`
	Directory   string        `attr:"directory_url"`
	CAFile      string        `attr:"ca_file"`
	KeyType     string        `attr:"key_type"`
	RenewBefore time.Duration `attr:"renew_before"`
	Profile     string        `attr:"profile"`
	External    *external     `attr:"eab"`
	Dir         string        `attr:"dir"`
	Webroot     string        `attr:"webroot"`
	Port        int64         `attr:"http_port"`
	Address     string        `attr:"http_address"`
	ConfDir     string        `attr:"conf_dir"`
	Unit        string        `attr:"unit"`
	Ensure      string        `attr:"ensure"`
}

type external struct {
	KeyID string        `attr:"key_id"`
	HMAC  secret.String `attr:"hmac_key"`
}

// certificate is one certificate that is to be there.
type certificate struct {
	config
	issuer  acme.Issuer
	address resources.Address
	unit    string // full name
}

func newResource(issuer acme.Issuer, addr resources.Address, v cty.Value) (resources.Resource, cty.Value, error) {
	c := &certificate{issuer: issuer, address: addr}
	if err := resources.Decode(v, &c.config); err != nil {
		return nil, cty.NilVal, err
	}
	if attr, err := c.check(); err != nil {
		return nil, cty.NilVal, &resources.AttrError{Path: attr, Err: err}
	}
	c.unit = host.UnitName(c.Unit)
	if c.Dir == "" {
		c.Dir = path.Join("/etc/ssl", c.Domains[0])
	}
	return c, cty.ObjectVal(map[string]cty.Value{
		"fullchain_path": cty.StringVal(path.Join(c.live(), chainFile)), "key_path": cty.StringVal(path.Join(c.live(), keyFile)),
	}), nil
}

// check returns what is wrong with the configuration, and the attribute that it is written in.
func (c *config) check() ([]string, error) {
	if len(c.Domains) == 0 {
		return []string{"domains"}, errors.New("it is empty; write at least one name")
	}
	for _, d := range c.Domains {
		if strings.HasPrefix(d, "*.") {
			return []string{"domains"}, fmt.Errorf("%q is a wildcard, which no authority issues by http-01; write the names one by one", d)
		}
	}
	if !strings.HasPrefix(c.Directory, "https://") {
		return []string{"directory_url"}, fmt.Errorf("%q is not https, which ACME demands (RFC 8555, section 6.1)", c.Directory)
	}
	if c.Port < 1 || c.Port > 65535 {
		return []string{"http_port"}, fmt.Errorf("%d is no port; write 80", c.Port)
	}
	if _, err := netip.ParseAddr(c.Address); c.Address != "" && err != nil {
		return []string{"http_address"}, fmt.Errorf("%q is not an IP address", c.Address)
	}
	if c.External != nil && c.External.HMAC.Missing() != nil {
		return []string{"eab", "hmac_key"}, c.External.HMAC.Missing()
	}
	return nil, nil
}

// The names in the directory of a version, and the link to the current one.
const (
	chainFile = "fullchain.pem"
	keyFile   = "privkey.pem"
	infoFile  = "issued.json"
	liveLink  = "live"
)

func (c *certificate) live() string { return path.Join(c.Dir, liveLink) }

// snippets are where a server for challenges may be put for the moment, the usual place first.
func (c *certificate) snippets() []string {
	name := "converge-acme-" + c.Domains[0] + ".conf"
	return []string{path.Join(c.ConfDir, "conf.d", name), path.Join(c.ConfDir, "sites-enabled", name)}
}

// Claims lists the directory, and where the server for challenges may stand.
func (c *certificate) Claims() []resources.Claim {
	claims := []resources.Claim{{Path: c.Dir, Own: true}}
	for _, p := range c.snippets() {
		claims = append(claims, resources.Claim{Path: p, Own: true})
	}
	return claims
}

// Watches lists the certificate and its key.
func (c *certificate) Watches() []string {
	return []string{path.Join(c.live(), chainFile), path.Join(c.live(), keyFile)}
}
