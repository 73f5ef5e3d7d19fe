package lab

import (
	"encoding/json"
	"net"
	"net/http"
	"net/netip"
	"slices"
	"strings"
)

// bucketPolicy is a bucket's policy as the front applies it (IAM User Guide, "Grammar of the IAM JSON policy language").
type bucketPolicy struct {
	Version   string
	Statement statements
}

// statements may stand as a single one.
type statements []policyStatement

func (l *statements) UnmarshalJSON(text []byte) error {
	var one policyStatement
	if json.Unmarshal(text, &one) == nil {
		*l = statements{one}
		return nil
	}
	return json.Unmarshal(text, (*[]policyStatement)(l))
}

type policyStatement struct {
	Effect                  string
	Principal, NotPrincipal principals
	Action, NotAction       oneOrMany
	Resource, NotResource   oneOrMany
	Condition               map[string]map[string]oneOrMany
}

// oneOrMany is a list that may stand as a single text.
type oneOrMany []string

func (l *oneOrMany) UnmarshalJSON(text []byte) error {
	var one string
	if json.Unmarshal(text, &one) == nil {
		*l = oneOrMany{one}
		return nil
	}
	return json.Unmarshal(text, (*[]string)(l))
}

// principals are whom a statement is about: "*" or {"AWS": ["arn"]}; {"SCW": "user_id:..."} at Scaleway.
type principals []string

func (p *principals) UnmarshalJSON(text []byte) error {
	var one string
	if json.Unmarshal(text, &one) == nil {
		*p = principals{one}
		return nil
	}
	var kinds map[string]oneOrMany
	if err := json.Unmarshal(text, &kinds); err != nil {
		return err
	}
	for _, list := range kinds {
		*p = append(*p, list...)
	}
	return nil
}

func (p principals) everybody() bool {
	for _, one := range p {
		if one == "*" {
			return true
		}
	}
	return false
}

// The conditions that the front knows; another one would be a policy that it cannot judge, and so none that it takes.
var conditionKeys = map[string]bool{"aws:sourceip": true, "aws:referer": true, "aws:securetransport": true, "s3:prefix": true}

var conditionOperators = map[string]bool{
	"Bool": true, "IpAddress": true, "NotIpAddress": true, "StringEquals": true, "StringLike": true, "StringNotEquals": true, "StringNotLike": true,
}

// parseBucketPolicy reads and checks a policy of a bucket, whose resources begin with prefix ("arn:aws:s3:::") in one of
// the versions.
func parseBucketPolicy(text []byte, bucket, prefix string, versions ...string) (*bucketPolicy, *apiError) {
	var p bucketPolicy
	switch err := json.Unmarshal(text, &p); {
	case err != nil:
		return nil, malformedPolicy("This policy contains invalid Json")
	case !slices.Contains(versions, p.Version):
		return nil, malformedPolicy("The policy must contain a valid version string")
	case len(p.Statement) == 0:
		return nil, malformedPolicy("Could not parse the policy: Statement is empty!")
	}
	for _, st := range p.Statement {
		if err := st.check(bucket, prefix); err != nil {
			return nil, err
		}
	}
	return &p, nil
}

// malformedPolicy is the answer to a policy that cannot be (Amazon S3 API Reference, "Error responses").
func malformedPolicy(why string) *apiError { return &apiError{400, "MalformedPolicy", why} }

func (st *policyStatement) check(bucket, prefix string) *apiError {
	switch {
	case st.Effect != "Allow" && st.Effect != "Deny":
		return malformedPolicy("Invalid effect: " + st.Effect)
	case len(st.Principal) == 0 && len(st.NotPrincipal) == 0:
		return malformedPolicy("Missing required field Principal")
	case len(st.Action) == 0 && len(st.NotAction) == 0:
		return malformedPolicy("Missing required field Action")
	case len(st.Resource) == 0 && len(st.NotResource) == 0:
		return malformedPolicy("Missing required field Resource")
	}
	for _, list := range []oneOrMany{st.Resource, st.NotResource} {
		for _, r := range list {
			name, ok := strings.CutPrefix(r, prefix)
			if name, _, _ = strings.Cut(name, "/"); !ok || name != bucket {
				return malformedPolicy("Policy has invalid resource")
			}
		}
	}
	for _, list := range []oneOrMany{st.Action, st.NotAction} {
		for _, a := range list {
			if a != "*" && !strings.HasPrefix(strings.ToLower(a), "s3:") {
				return malformedPolicy("Policy has invalid action")
			}
		}
	}
	for operator, keys := range st.Condition {
		for key := range keys {
			if !conditionOperators[operator] || !conditionKeys[strings.ToLower(key)] {
				return malformedPolicy("Policy has an invalid condition key")
			}
		}
	}
	return nil
}

// decision is what a policy says of a call.
type decision int

const (
	silentOn decision = iota // no statement is about it
	allows
	denies
)

// subject is who asks for what: the names that a policy may have for the caller, none for anybody without a key.
type subject struct {
	names            []string
	action, resource string // with the policy's prefix
	request          *http.Request
}

func (p *bucketPolicy) decide(on subject) decision {
	found := silentOn
	if p == nil {
		return found
	}
	for _, st := range p.Statement {
		switch {
		case !st.matches(on):
		case st.Effect == "Deny":
			return denies
		default:
			found = allows
		}
	}
	return found
}

func (st *policyStatement) matches(on subject) bool {
	named := st.Principal.everybody()
	for _, name := range on.names {
		for _, p := range st.Principal {
			named = named || p == name
		}
	}
	if len(st.NotPrincipal) > 0 {
		named = !st.NotPrincipal.everybody()
		for _, name := range on.names {
			for _, p := range st.NotPrincipal {
				named = named && p != name
			}
		}
	}
	return named &&
		covered(st.Action, st.NotAction, func(a string) bool { return actionMatches(a, on.action) }) &&
		covered(st.Resource, st.NotResource, func(r string) bool { return matches(r, on.resource) }) &&
		st.applies(on.request)
}

func covered(list, not oneOrMany, match func(string) bool) bool {
	if len(not) > 0 {
		return !covered(not, nil, match)
	}
	for _, one := range list {
		if match(one) {
			return true
		}
	}
	return false
}

func (st *policyStatement) applies(r *http.Request) bool {
	for operator, keys := range st.Condition {
		for key, values := range keys {
			if !conditionHolds(operator, conditionValue(key, r), values) {
				return false
			}
		}
	}
	return true
}

func conditionValue(key string, r *http.Request) string {
	switch strings.ToLower(key) {
	case "aws:sourceip":
		host, _, _ := net.SplitHostPort(r.RemoteAddr)
		return host
	case "aws:referer":
		return r.Referer()
	case "s3:prefix":
		return r.URL.Query().Get("prefix")
	}
	return "true" // aws:SecureTransport: the lab answers TLS alone
}

func conditionHolds(operator, value string, wanted oneOrMany) bool {
	if positive, ok := strings.CutPrefix(operator, "Not"); ok {
		return !conditionHolds(positive, value, wanted)
	}
	if plain := strings.Replace(operator, "Not", "", 1); plain != operator {
		return !conditionHolds(plain, value, wanted)
	}
	for _, w := range wanted {
		switch operator {
		case "Bool":
			if strings.EqualFold(w, value) {
				return true
			}
		case "IpAddress":
			if within(value, w) {
				return true
			}
		case "StringLike":
			if matches(w, value) {
				return true
			}
		default:
			if w == value {
				return true
			}
		}
	}
	return false
}

func within(address, network string) bool {
	if !strings.Contains(network, "/") {
		return address == network
	}
	a, err := netip.ParseAddr(address)
	n, err2 := netip.ParsePrefix(network)
	return err == nil && err2 == nil && n.Contains(a.Unmap())
}

// public reports whether the policy lets everybody do something, wherever they come from (Amazon S3 User Guide, "The
// meaning of public": an allowed address range takes the publicity away, a referer does not).
func (p *bucketPolicy) public() bool {
	if p == nil {
		return false
	}
	for _, st := range p.Statement {
		if st.Effect == "Allow" && (st.Principal.everybody() || len(st.NotPrincipal) > 0) && !st.fixedAddress() {
			return true
		}
	}
	return false
}

func (st *policyStatement) fixedAddress() bool {
	for key := range st.Condition["IpAddress"] {
		if strings.EqualFold(key, "aws:SourceIp") {
			return true
		}
	}
	return false
}
