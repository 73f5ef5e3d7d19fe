package objectstore

import (
	"errors"
	"fmt"
	"net/url"
	"regexp"
	"strings"

	"github.com/converge-agent/converge/secret"
)

// The checks find by form alone what would otherwise come back as a 403 or a host name that is not there. They ask nobody.

// CheckRegion says what is wrong with the name of a region; nil when nothing is.
func (p *Provider) CheckRegion(region string) error {
	if p.Region.MatchString(region) {
		return nil
	}
	if p.Region.MatchString(p.regionIn(region)) {
		return fmt.Errorf("%q is an address; the region in it is %q", region, p.regionIn(region))
	}
	return fmt.Errorf("%q is not a region of %s; write one such as %q", region, p.Name, p.RegionExample)
}

// regionIn returns the region in an address of the store, with or without a scheme, "" where there is none.
func (p *Provider) regionIn(address string) string {
	_, host, found := strings.Cut(address, "://")
	if !found {
		host = address
	}
	if h := p.host(host); h != nil {
		return h.region
	}
	return ""
}

// CheckAccount says what is wrong with the id of an account, "" for none; nil when nothing is. With an endpoint that was
// written nobody needs the id.
func (p *Provider) CheckAccount(account string, endpointWritten bool) error {
	switch {
	case p.Account == nil && account != "":
		return fmt.Errorf("%s takes none; leave it out", p.Name)
	case p.Account == nil, account == "" && endpointWritten:
		return nil
	case account == "":
		return fmt.Errorf("%s needs it, for every account has a host of its own; write the account's id from the provider's console, "+
			"such as %q", p.Title, p.AccountExample)
	case !p.Account.MatchString(account) && p.accountIn(account) != "":
		return fmt.Errorf("%q is the address of the account; its id alone is %q: write that", account, p.accountIn(account))
	case !p.Account.MatchString(account):
		return fmt.Errorf("%q is not the id of an account of %s; write one such as %q", account, p.Title, p.AccountExample)
	}
	return nil
}

// CheckPublicBy says what is wrong with the way that is written for objects to become public; nil when nothing is.
func (c Config) CheckPublicBy() error {
	way, written := ParsePublic(c.PublicBy)
	table, known := Lookup(c.Provider)
	switch {
	case !written, !known, way == table.Public:
		return nil
	case table.Never[way] != "":
		return fmt.Errorf("%s: leave public_by out", table.Never[way])
	case way == BucketACL: // no store is known besides Backblaze B2 where it does not open the listing
		return errors.New("everybody could list a bucket whose ACL is public, at all stores but backblaze-b2: leave public_by out")
	}
	return nil
}

// accountIn returns the id of an account where the address that has it was written in its place; "" where none can be told.
func (p *Provider) accountIn(text string) string {
	for _, part := range strings.FieldsFunc(text, func(r rune) bool { return strings.ContainsRune(":/.", r) }) {
		if p.Account.MatchString(part) {
			return part
		}
	}
	return ""
}

// CheckEndpoint says what is wrong with a written endpoint, where region and account may be written beside it; nil when
// nothing is.
func (p *Provider) CheckEndpoint(endpoint, region, account string) error {
	u, err := url.Parse(endpoint)
	if err != nil || u.Host == "" || u.Scheme != "https" && u.Scheme != "http" {
		return fmt.Errorf("%q is not the address of a store; write one such as \"https://s3.example.com\"", endpoint)
	}
	bare := u.Scheme + "://" + u.Host
	bucket := strings.TrimPrefix(u.Path, "/")
	switch {
	case u.User != nil:
		return errors.New("it holds a user name; keys are written in access_key_id and secret_access_key")
	case endpoint != bare && endpoint == bare+"/"+bucket && bucket != "" && !strings.Contains(bucket, "/"):
		return fmt.Errorf("%q has the bucket %s at its end, which is the name of the s3_bucket; write %q", endpoint, bucket, bare)
	case endpoint != bare:
		return fmt.Errorf("%q holds more than the store, perhaps the bucket; write %q", endpoint, bare)
	case p.HTTPSOnly && u.Scheme != "https":
		return fmt.Errorf("%s answers https only; write %q", p.Name, "https://"+u.Host)
	}
	return p.checkHost(u, region, account)
}

// checkHost looks at a host that is the provider's by its name, or another's.
func (p *Provider) checkHost(u *url.URL, region, account string) error {
	for _, other := range providers {
		if other.Name != p.Name && other.host(u.Host) != nil {
			return fmt.Errorf("%q is an address of %s; write provider = %q, or another endpoint", u.Host, other.Title, other.Name)
		}
	}
	h := p.host(u.Host)
	switch {
	case h == nil && p.Account != nil && strings.HasSuffix(u.Host, p.domain()):
		return fmt.Errorf("%q is no address of %s; write account_id instead, or one such as %q", u.Host, p.Title,
			p.EndpointOf(p.RegionExample, p.AccountExample))
	case h == nil:
		return nil
	case h.before != "":
		return fmt.Errorf("%q has the bucket in it; write %q, or leave the endpoint out", u.String(), u.Scheme+"://"+h.bare)
	case h.region != "" && h.region != region:
		return fmt.Errorf("%q is the address of the region %s, and region is %q; correct one of them, or leave the endpoint out", u.Host, h.region, region)
	case h.account != "" && account != "" && h.account != account:
		return fmt.Errorf("%q is the address of the account %s, and account_id is another; leave one of them out", u.Host, h.account)
	}
	return nil
}

// storeHost is what a host name of a provider's store consists of.
type storeHost struct {
	before          string // a bucket, or whatever stands before the store
	bare            string // the store
	region, account string
}

// host takes a host name apart; nil where it is not one of the provider's stores.
func (p *Provider) host(name string) *storeHost {
	if p.Endpoint == "" {
		return nil
	}
	form := regexp.QuoteMeta(strings.TrimPrefix(p.Endpoint, "https://"))
	form = strings.Replace(form, `\{region\}`, "(?P<region>"+unanchored(p.Region)+")", 1)
	if p.Account != nil {
		account := "(?P<account>" + unanchored(p.Account) + ")"
		if len(p.Jurisdictions) > 0 {
			account += `(?:\.(?:` + strings.Join(p.Jurisdictions, "|") + `))?`
		}
		form = strings.Replace(form, `\{account\}`, account, 1)
	}
	re := regexp.MustCompile(`^(?:(?P<before>.+)\.)?(?P<bare>` + form + `)$`)
	m := re.FindStringSubmatch(name)
	if m == nil {
		return nil
	}
	part := func(group string) string {
		if i := re.SubexpIndex(group); i >= 0 {
			return m[i]
		}
		return ""
	}
	return &storeHost{before: part("before"), bare: part("bare"), region: part("region"), account: part("account")}
}

func unanchored(re *regexp.Regexp) string {
	return "(?:" + strings.TrimSuffix(strings.TrimPrefix(re.String(), "^"), "$") + ")"
}

// domain is the part of Endpoint that is the same for all, with the dot before it.
func (p *Provider) domain() string { return p.Endpoint[strings.LastIndex(p.Endpoint, "}")+1:] }

// CheckBucket says what is wrong with the name of a bucket at a store; nil when nothing is.
func (p *Provider) CheckBucket(name string, c Config) error {
	switch {
	case !p.BucketName.MatchString(name), strings.Contains(name, ".."), p.BucketReserved != "" && strings.HasPrefix(name, p.BucketReserved):
		return fmt.Errorf("%q is not the name of a bucket at %s: %s", name, p.Name, p.BucketRule)
	case strings.HasPrefix(c.Host(), name+"."):
		return fmt.Errorf("the endpoint %q of the store begins with this bucket; write it without", c.Endpoint)
	case !c.PathStyle && strings.Contains(name, ".") && strings.HasPrefix(c.Endpoint, "https:"):
		return errors.New("its dots make a host name that no certificate of the store fits; set path_style = true on the store")
	}
	return nil
}

// CheckKeyID says what is wrong with an access key id by its shape alone, without showing it; nil when nothing is, and for
// a missing secret.
func (p *Provider) CheckKeyID(id secret.String) error {
	if err := checkBare(id); err != nil || id.Missing() != nil {
		return err
	}
	text := id.Reveal()
	switch {
	case p.IsMasterKey != nil && p.IsMasterKey(text):
		return fmt.Errorf("this is the account's master key, which the S3 interface of %s refuses; make an application key "+
			"in its web console, and write that", p.Name)
	case p.KeyID == nil || p.KeyID.MatchString(text):
		return nil
	case p.Secret != nil && p.Secret.MatchString(text):
		return errors.New("this has the form of the secret half of a key; access_key_id and secret_access_key are swapped, or it stands in both")
	}
	for _, other := range providers {
		if other.KeyID != nil && other.KeyID.MatchString(text) {
			return fmt.Errorf("this has the form of an access key id of %s; one of %s looks like %q", other.Title, p.Title, p.KeyIDExample)
		}
	}
	return fmt.Errorf("this has not the form of an access key id of %s, which looks like %q", p.Title, p.KeyIDExample)
}

// CheckSecret says what is wrong with a secret access key by its shape alone, without showing it; nil when nothing is, and
// for a missing secret.
func (p *Provider) CheckSecret(key secret.String) error {
	if err := checkBare(key); err != nil || key.Missing() != nil {
		return err
	}
	text := key.Reveal()
	switch {
	case p.KeyID != nil && p.KeyID.MatchString(text):
		return errors.New("this has the form of an access key id; access_key_id and secret_access_key are swapped, or it stands in both")
	case p.Secret != nil && !p.Secret.MatchString(text):
		return fmt.Errorf("this has not the form of a secret access key of %s: %s", p.Title, p.SecretRule)
	}
	return nil
}

func checkBare(key secret.String) error {
	if text := key.Reveal(); key.Missing() == nil && (text == "" || strings.ContainsAny(text, " \t\r\n\"'")) {
		return errors.New("it is empty, or has a blank, a line break or a quote in it; write the bare key")
	}
	return nil
}
