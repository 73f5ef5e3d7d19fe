package objectstore

import (
	"bytes"
	"crypto/sha256"
	"encoding/json"
	"fmt"
	"reflect"
	"slices"
	"strings"

	"github.com/converge-agent/converge/diag"
)

// PublicSid is the Sid of the one statement of a bucket's policy that is converge's. All others stay as they are.
const PublicSid = "ConvergePublicObjects"

// Policy is a bucket's policy, of which only the statements are looked into.
type Policy struct {
	fields     map[string]json.RawMessage // Version, Id and whatever else there is
	statements []json.RawMessage
}

// ParsePolicy reads a policy as a store gave it; "" is the empty one.
func ParsePolicy(text string) (*Policy, error) {
	p := &Policy{fields: map[string]json.RawMessage{}}
	if text == "" {
		p.fields["Version"] = json.RawMessage(`"2012-10-17"`)
		return p, nil
	}
	if err := json.Unmarshal([]byte(text), &p.fields); err != nil {
		return nil, diag.Wrap(err, "read the bucket's policy", "Look at the policy with the provider's console: it is no JSON object.")
	}
	list := p.fields["Statement"]
	delete(p.fields, "Statement")
	if trimmed := bytes.TrimSpace(list); len(trimmed) == 0 || bytes.Equal(trimmed, []byte("null")) {
		return p, nil
	} else if trimmed[0] == '{' { // a single statement may stand without a list
		p.statements = []json.RawMessage{list}
		return p, nil
	}
	if err := json.Unmarshal(list, &p.statements); err != nil {
		return nil, diag.Wrap(err, "read the bucket's policy", "Look at the policy with the provider's console: its Statement is no list.")
	}
	return p, nil
}

// Public returns the prefixes that our statement makes public, sorted, and whether it is there and means exactly that:
// everybody may GET objects below those prefixes of the bucket.
func (p *Policy) Public(bucket string) (prefixes []string, exact bool) {
	n := 0
	for _, raw := range p.statements {
		if sid(raw) != PublicSid {
			continue
		}
		n++
		exact = n == 1
		for _, r := range list(fieldsOf(raw)["Resource"]) {
			prefix, ok := strings.CutPrefix(r, objectARN(bucket, ""))
			prefix, star := strings.CutSuffix(prefix, "*")
			exact = exact && ok && star
			prefixes = append(prefixes, prefix)
		}
		exact = exact && sameMeaning(raw, publicStatement(bucket, prefixes))
	}
	slices.Sort(prefixes)
	return prefixes, exact
}

// IsPublic reports whether the policy makes exactly the objects below those prefixes public by our statement, or, without
// prefixes, whether it has no statement of ours.
func (p *Policy) IsPublic(bucket string, prefixes []string) bool {
	found, exact := p.Public(bucket)
	if len(prefixes) == 0 {
		return found == nil && !slices.ContainsFunc(p.statements, func(raw json.RawMessage) bool { return sid(raw) == PublicSid })
	}
	want := slices.Sorted(slices.Values(prefixes))
	return exact && slices.Equal(found, slices.Compact(want))
}

// SetPublic puts our statement in the place of what there was of it: everybody may GET the objects of the bucket below those
// prefixes. Without prefixes it takes the statement out.
func (p *Policy) SetPublic(bucket string, prefixes []string) {
	p.statements = slices.DeleteFunc(p.statements, func(raw json.RawMessage) bool { return sid(raw) == PublicSid })
	if len(prefixes) > 0 {
		p.statements = append(p.statements, publicStatement(bucket, slices.Compact(slices.Sorted(slices.Values(prefixes)))))
	}
}

// Foreign returns the Sids of the statements that are not ours and allow everybody something, "" for one without.
func (p *Policy) Foreign() []string {
	var sids []string
	for _, raw := range p.statements {
		f := fieldsOf(raw)
		if effect, _ := f["Effect"].(string); effect == "Allow" && sid(raw) != PublicSid && everybody(f["Principal"]) {
			sids = append(sids, sid(raw))
		}
	}
	return sids
}

// ForeignDigest stands for what all statements mean that are not ours, in whatever order and wording; "" where there are none.
func (p *Policy) ForeignDigest() string {
	var statements []string
	for _, raw := range p.statements {
		if sid(raw) == PublicSid {
			continue
		}
		text, err := json.Marshal(canonical(fieldsOf(raw)))
		if err != nil {
			panic(err) // it was decoded from JSON
		}
		statements = append(statements, string(text))
	}
	if len(statements) == 0 {
		return ""
	}
	slices.Sort(statements)
	return fmt.Sprintf("%x", sha256.Sum256([]byte(strings.Join(statements, "\n"))))
}

// Empty reports whether there is no statement, which no store accepts as a policy.
func (p *Policy) Empty() bool { return len(p.statements) == 0 }

// String gives the policy as it is sent.
func (p *Policy) String() string {
	fields := map[string]any{"Statement": p.statements}
	for name, raw := range p.fields {
		fields[name] = raw
	}
	var out bytes.Buffer
	enc := json.NewEncoder(&out)
	enc.SetEscapeHTML(false)
	if err := enc.Encode(fields); err != nil {
		panic(fmt.Sprintf("encode what was decoded: %v", err)) // RawMessages came from valid JSON
	}
	return strings.TrimSpace(out.String())
}

func objectARN(bucket, prefix string) string { return "arn:aws:s3:::" + bucket + "/" + prefix }

func publicStatement(bucket string, prefixes []string) json.RawMessage {
	resources := make([]string, len(prefixes))
	for i, prefix := range prefixes {
		resources[i] = objectARN(bucket, prefix) + "*"
	}
	type statement struct {
		Sid       string
		Effect    string
		Principal map[string][]string
		Action    []string
		Resource  []string
	}
	raw, err := json.Marshal(statement{PublicSid, "Allow", map[string][]string{"AWS": {"*"}}, []string{"s3:GetObject"}, resources})
	if err != nil {
		panic(err) // strings always encode
	}
	return raw
}

func fieldsOf(raw json.RawMessage) map[string]any {
	var f map[string]any
	if err := json.Unmarshal(raw, &f); err != nil {
		return nil
	}
	return f
}

func sid(raw json.RawMessage) string {
	s, _ := fieldsOf(raw)["Sid"].(string)
	return s
}

// sameMeaning compares two statements as stores understand them: a string is a list of one, the order of a list is nothing,
// "*" as Principal is {"AWS": "*"}, and actions have no case (IAM User Guide, "Grammar of the IAM JSON policy language").
func sameMeaning(a, b json.RawMessage) bool {
	return reflect.DeepEqual(canonical(fieldsOf(a)), canonical(fieldsOf(b)))
}

func canonical(f map[string]any) map[string]any {
	out := map[string]any{}
	for name, v := range f {
		switch name {
		case "Principal":
			if everybody(v) {
				v = "*"
			}
		case "Action":
			actions := list(v)
			for i := range actions {
				actions[i] = strings.ToLower(actions[i])
			}
			slices.Sort(actions)
			v = slices.Compact(actions)
		case "Resource":
			v = slices.Compact(slices.Sorted(slices.Values(list(v))))
		case "Condition":
			if m, ok := v.(map[string]any); ok && len(m) == 0 {
				continue
			}
		}
		out[name] = unordered(v)
	}
	return out
}

// unordered sorts the lists of strings in a value, in which stores keep no order.
func unordered(v any) any {
	switch v := v.(type) {
	case []any:
		if texts := list(v); len(texts) == len(v) {
			return slices.Sorted(slices.Values(texts))
		}
	case map[string]any:
		out := map[string]any{}
		for name, e := range v {
			out[name] = unordered(e)
		}
		return out
	}
	return v
}

// everybody reports whether a Principal is everybody.
func everybody(principal any) bool {
	if m, ok := principal.(map[string]any); ok {
		return len(m) == 1 && slices.Contains(list(m["AWS"]), "*")
	}
	return slices.Contains(list(principal), "*")
}

// list reads a string or a list of strings.
func list(v any) []string {
	switch v := v.(type) {
	case string:
		return []string{v}
	case []any:
		var out []string
		for _, e := range v {
			if s, ok := e.(string); ok {
				out = append(out, s)
			}
		}
		return out
	}
	return nil
}
