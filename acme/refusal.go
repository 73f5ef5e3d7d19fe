package acme

import (
	"context"
	"crypto/x509"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/url"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/converge-agent/converge/diag"
	"github.com/converge-agent/converge/secret"
	legoacme "github.com/go-acme/lego/v4/acme"
)

// Refusal is an authority's no. Asking again at once would not help, and may count against a limit.
type Refusal struct {
	Type   string   // of RFC 8555, section 6.7, without its namespace: "dns", "connection", "rateLimited"
	Detail []string // what the authority says, sorted
	// RetryAt is when the authority will listen again; zero where it does not say.
	RetryAt time.Time
}

func (r *Refusal) Error() string {
	return fmt.Sprintf("the authority says %s: %s", r.Type, strings.Join(r.Detail, "; "))
}

const namespace = "urn:ietf:params:acme:error:"

// advice is what to do about a refusal, the gravest first.
var advice = []struct{ kind, fix string }{
	{"rateLimited", "Wait, and change nothing meanwhile: every try counts. Test with the authority's staging directory in directory_url."},
	{"accountDoesNotExist", "Move the account's directory away: a new account is then made by itself."},
	{"externalAccountRequired", "Get a key ID and an HMAC key from the authority, and write eab { key_id = …, hmac_key = … }."},
	{"userActionRequired", "Open the page that the authority names, and agree to its new terms."},
	{"invalidContact", "Correct email, or leave it out."},
	{"unsupportedContact", "Correct email, or leave it out."},
	{"invalidProfile", "Correct profile, or leave it out; the directory {directory} lists the profiles that there are."},
	{"rejectedIdentifier", "Take the name out of domains: this authority issues nothing for it."},
	{"caa", "Add a CAA record that allows this authority for {names} (for Let's Encrypt: 0 issue \"letsencrypt.org\"), or remove those that forbid it."},
	{"dns", "Create the A record of {names}, and the AAAA record if this host is reached by IPv6, so that they point to this host; then wait until they are seen everywhere."},
	{"connection", "Let port 80 of this host be reached from the internet, and check that the A and AAAA records of {names} point to this host and to no other."},
	{"unauthorized", "Another server answered. Check that the A and AAAA records of {names} point to this host alone, that no CDN stands before it, and that no other site answers for the name on port 80."},
	{"incorrectResponse", "Another server answered. Check that the A and AAAA records of {names} point to this host alone, and that no other site answers for the name on port 80."},
	{"tls", "Take the redirect of /.well-known/acme-challenge/ to https away from what answers for {names} on port 80."},
	{"serverInternal", "The authority has a fault of its own. Try again later, and look at its status page."},
}

// explain words why an issuance failed.
func (o *order) explain(ctx context.Context, err error) error {
	doing := fmt.Sprintf("obtain a certificate for %s from %s", strings.Join(o.Domains, ", "), o.Directory)
	if problems := problemsIn(err); len(problems) > 0 && ctx.Err() == nil {
		r, fix := o.refusal(err, problems)
		return diag.Wrap(r, doing, fix)
	}
	err = secret.RedactError(err, o.secrets()...)
	switch {
	case errors.Is(ctx.Err(), context.DeadlineExceeded):
		return diag.New(doing, fmt.Sprintf("it took longer than %s", patience), "Try again later, and look at the authority's status page.")
	case ctx.Err() != nil:
		return diag.Wrap(ctx.Err(), doing, "")
	case diag.Fix(err) != "":
		return diag.Wrap(err, doing, "")
	}
	return diag.Wrap(err, doing, o.unreachable(err))
}

// secrets are what the authority may know and say again.
func (o *order) secrets() []secret.String {
	if o.External == nil {
		return nil
	}
	return []secret.String{o.External.HMAC}
}

// unreachable is what to do where the authority did not answer as one.
func (o *order) unreachable(err error) string {
	var (
		unknown   x509.UnknownAuthorityError
		wrongName x509.HostnameError
		invalid   x509.CertificateInvalidError
		noName    *net.DNSError
		network   *net.OpError
		unsent    *url.Error // a request that got no answer, such as one whose connection was closed
		syntax    *json.SyntaxError
	)
	switch {
	case errors.As(err, &unknown):
		return "If this is an authority of your own, write ca_file with the certificate that its server is to be trusted by."
	case errors.As(err, &wrongName), errors.As(err, &invalid):
		return "Check the certificate of the authority's own server, and the clock of this host."
	case errors.As(err, &noName):
		return "Check directory_url, and the name servers in /etc/resolv.conf."
	case errors.As(err, &network), errors.As(err, &unsent):
		return "Check that this host can reach the authority: its firewall, its routes, and the authority's status page."
	case errors.As(err, &syntax), strings.Contains(err.Error(), "directory missing"), strings.Contains(err.Error(), "get directory"):
		return "Check directory_url: what answers there is no ACME directory."
	}
	return "Try again later; if it stays so, look at the authority's status page."
}

func (o *order) refusal(err error, problems []*legoacme.ProblemDetails) (*Refusal, string) {
	r := &Refusal{}
	kinds := map[string]bool{}
	for _, p := range problems {
		kind := strings.TrimPrefix(p.Type, namespace)
		kinds[kind] = true
		r.Type = secret.Redact(kind, o.secrets()...)
		r.Detail = append(r.Detail, p.Detail)
		for _, sub := range p.SubProblems {
			kinds[strings.TrimPrefix(sub.Type, namespace)] = true
			r.Detail = append(r.Detail, sub.Identifier.Value+": "+sub.Detail)
		}
	}
	for i, d := range r.Detail {
		r.Detail[i] = secret.Redact(d, o.secrets()...)
	}
	slices.Sort(r.Detail)
	r.Detail = slices.Compact(r.Detail)
	fix := "Look the authority's words up in its documentation; nothing on this host was changed."
	for _, a := range advice {
		if kinds[a.kind] {
			words := strings.NewReplacer("{names}", strings.Join(o.Domains, ", "), "{directory}", o.Directory)
			r.Type, fix = a.kind, words.Replace(a.fix)
			break
		}
	}
	if r.Type == "unauthorized" && onAccount(problems) {
		fix = fmt.Sprintf("The account was closed. Move %s away: a new account is then made by itself.", o.Account.Dir)
	}
	r.RetryAt = retryAt(err, r.Detail, o.Now)
	return r, fix
}

// onAccount reports whether a refusal came at once to a request, as for an account that was closed, and is not what the
// authority found when it looked for the answer to a challenge.
func onAccount(problems []*legoacme.ProblemDetails) bool {
	return !slices.ContainsFunc(problems, func(p *legoacme.ProblemDetails) bool { return p.URL == "" })
}

// problemsIn collects the problem documents in the tree of an error.
func problemsIn(err error) []*legoacme.ProblemDetails {
	switch e := err.(type) { //nolint:errorlint // the whole tree is walked
	case nil:
		return nil
	case *legoacme.ProblemDetails:
		return []*legoacme.ProblemDetails{e}
	case interface{ Unwrap() []error }:
		var all []*legoacme.ProblemDetails
		for _, sub := range e.Unwrap() {
			all = append(all, problemsIn(sub)...)
		}
		return all
	}
	return problemsIn(errors.Unwrap(err))
}

func isProblem(err error, kind string) bool {
	return slices.ContainsFunc(problemsIn(err), func(p *legoacme.ProblemDetails) bool { return p.Type == namespace+kind })
}

// retryIn finds the time in Let's Encrypt's words: "… retry after 2026-11-21 14:05:00 UTC: …".
var retryIn = regexp.MustCompile(`retry after (\d{4}-\d\d-\d\d)[ T](\d\d:\d\d:\d\d)`)

func retryAt(err error, details []string, now time.Time) time.Time {
	var limited *legoacme.RateLimitedError
	if errors.As(err, &limited) {
		if secs, err := strconv.Atoi(limited.RetryAfter); err == nil && secs > 0 {
			return now.Add(time.Duration(secs) * time.Second)
		}
		if at, err := http.ParseTime(limited.RetryAfter); err == nil {
			return at
		}
	}
	for _, d := range details {
		if m := retryIn.FindStringSubmatch(d); m != nil {
			if at, err := time.Parse(time.DateTime, m[1]+" "+m[2]); err == nil {
				return at
			}
		}
	}
	return time.Time{}
}
