package objectstore

import (
	"bytes"
	"context"
	"encoding/xml"
	"errors"
	"fmt"
	"io"
	"net/http"
	"slices"
	"strings"

	"github.com/converge-agent/converge/diag"
)

// RuleID is the id of the one rule of a bucket's CORS, and of its lifecycle, that is converge's. All others stay as they are,
// byte by byte.
const RuleID = "converge"

// RuleKind is a kind of rules that a bucket has a list of.
type RuleKind struct {
	Name string // for people: "CORS"
	// Read, Write and Remove are the operations on the whole list.
	Read, Write, Remove string

	query         string // the subresource
	root, element string // of the document
	none          string // the error code of a bucket without rules
	// meaning brings the name and the value of a part of a rule to one form, "" where it says nothing.
	meaning func(name, value string) (string, string)
}

// CORS are the rules by which browsers may use objects from other origins. Lifecycle are those by which the store deletes by
// itself (Amazon S3 API Reference).
var (
	CORS = &RuleKind{
		Name: "CORS", Read: "GetBucketCors", Write: "PutBucketCors", Remove: "DeleteBucketCors",
		query: "cors", root: "CORSConfiguration", element: "CORSRule", none: "NoSuchCORSConfiguration", meaning: corsMeaning,
	}
	Lifecycle = &RuleKind{
		Name: "lifecycle", Read: "GetBucketLifecycleConfiguration", Write: "PutBucketLifecycleConfiguration",
		Remove: "DeleteBucketLifecycle",
		query:  "lifecycle", root: "LifecycleConfiguration", element: "Rule", none: "NoSuchLifecycleConfiguration", meaning: lifecycleMeaning,
	}
)

// Rules are all rules of one kind that a bucket has.
type Rules struct {
	kind      *RuleKind
	list      []Rule
	leastSize string // document.leastSize
}

// Rule is one rule.
type Rule struct {
	ID    string
	text  string   // what stands inside its element
	parts []string // "name value", sorted: what it means, in whatever order and wording, without the id
}

// GetRules returns the bucket's rules of a kind, none where there are none.
func (s *Store) GetRules(ctx context.Context, bucket string, kind *RuleKind) (*Rules, error) {
	doing := fmt.Sprintf("read the %s of the bucket %s", kind.Name, bucket)
	answer, err := s.document(ctx, kind.Read, http.MethodGet, bucket, kind.query, document{})
	var r *reply
	if errors.As(err, &r) && r.code == kind.none {
		return &Rules{kind: kind}, nil
	}
	if err != nil {
		return nil, s.failed(doing, err)
	}
	rules, err := parseRules(kind, answer.text)
	if err != nil {
		return nil, diag.Wrap(err, doing, "Look at it in the provider's console. Nothing was changed.")
	}
	rules.leastSize = answer.leastSize
	return rules, nil
}

// PutRules sets the bucket's rules of a kind; none deletes the document.
func (s *Store) PutRules(ctx context.Context, bucket string, rules *Rules) error {
	kind := rules.kind
	var err error
	if len(rules.list) == 0 {
		_, err = s.document(ctx, kind.Remove, http.MethodDelete, bucket, kind.query, document{})
	} else {
		_, err = s.document(ctx, kind.Write, http.MethodPut, bucket, kind.query, document{rules.encode(), rules.leastSize})
	}
	return s.failed(fmt.Sprintf("set the %s of the bucket %s", kind.Name, bucket), err)
}

// Ours returns the rule that is converge's: the one of our id, or, at a store that keeps no ids, one without an id that means
// the same as like. It is nil where there is none.
func (r *Rules) Ours(like *Rule) *Rule {
	if i := r.ours(like); i >= 0 {
		return &r.list[i]
	}
	return nil
}

func (r *Rules) ours(like *Rule) int {
	if i := slices.IndexFunc(r.list, func(rule Rule) bool { return rule.ID == RuleID }); i >= 0 {
		return i
	}
	return slices.IndexFunc(r.list, func(rule Rule) bool { return rule.ID == "" && like != nil && rule.Equal(like) })
}

// With returns the rules with ours in the place of what there was of it, and without it where ours is nil; like is what ours
// was when it was set, by which it is known at a store that keeps no ids.
func (r *Rules) With(ours, like *Rule) *Rules {
	out := &Rules{kind: r.kind, list: slices.Clone(r.list), leastSize: r.leastSize}
	at := r.ours(like)
	if at < 0 {
		at = len(out.list)
	} else {
		out.list = slices.Delete(out.list, at, at+1)
	}
	if ours != nil {
		out.list = slices.Insert(out.list, at, *ours)
	}
	seen := false // of several rules of our id the first is ours
	out.list = slices.DeleteFunc(out.list, func(rule Rule) bool {
		again := rule.ID == RuleID && (seen || ours == nil)
		seen = seen || rule.ID == RuleID
		return again
	})
	return out
}

// Empty reports whether there is no rule.
func (r *Rules) Empty() bool { return len(r.list) == 0 }

// Once reports whether there is no more than one rule of our id.
func (r *Rules) Once() bool {
	n := 0
	for _, rule := range r.list {
		if rule.ID == RuleID {
			n++
		}
	}
	return n <= 1
}

// Equal reports whether two rules mean the same.
func (r *Rule) Equal(other *Rule) bool { return slices.Equal(r.parts, other.parts) }

// String says in one line what the rule means, its parts in the order of their names.
func (r *Rule) String() string {
	var out []string
	last := ""
	for _, part := range r.parts {
		name, value, _ := strings.Cut(part, " ")
		if name == last {
			out[len(out)-1] += ", " + value
			continue
		}
		out, last = append(out, part), name
	}
	return strings.Join(out, "; ")
}

func (r *Rules) encode() []byte {
	var out bytes.Buffer
	fmt.Fprintf(&out, `<%s xmlns="http://s3.amazonaws.com/doc/2006-03-01/">`, r.kind.root)
	for _, rule := range r.list {
		fmt.Fprintf(&out, "<%s>%s</%[1]s>", r.kind.element, rule.text)
	}
	fmt.Fprintf(&out, "</%s>", r.kind.root)
	return out.Bytes()
}

// parseRules reads a document as a store gave it.
func parseRules(kind *RuleKind, text []byte) (*Rules, error) {
	var document struct {
		XMLName xml.Name
		Rules   []struct {
			XMLName xml.Name
			Text    string `xml:",innerxml"`
		} `xml:",any"`
	}
	if err := xml.Unmarshal(text, &document); err != nil {
		return nil, fmt.Errorf("the answer is no document: %w", err)
	}
	if document.XMLName.Local != kind.root {
		return nil, fmt.Errorf("the answer is a %s, and no %s", document.XMLName.Local, kind.root)
	}
	rules := &Rules{kind: kind}
	for _, e := range document.Rules {
		if e.XMLName.Local != kind.element {
			return nil, fmt.Errorf("it has a part <%s> that converge does not know, and would lose", e.XMLName.Local)
		}
		rule, err := parseRule(kind, e.Text)
		if err != nil {
			return nil, err
		}
		rules.list = append(rules.list, rule)
	}
	return rules, nil
}

// parseRule reads what stands inside the element of a rule.
func parseRule(kind *RuleKind, text string) (Rule, error) {
	rule := Rule{text: text}
	var path []string
	var value strings.Builder
	leaf := false
	d := xml.NewDecoder(strings.NewReader(text))
	for {
		token, err := d.RawToken()
		if errors.Is(err, io.EOF) {
			slices.Sort(rule.parts)
			return rule, nil
		}
		if err != nil {
			return rule, fmt.Errorf("the answer is no document: %w", err)
		}
		switch token := token.(type) {
		case xml.StartElement:
			if token.Name.Space != "" {
				return rule, fmt.Errorf("it has a part <%s:%s>, whose name converge could not keep", token.Name.Space, token.Name.Local)
			}
			path, leaf = append(path, token.Name.Local), true
			value.Reset()
		case xml.CharData:
			value.Write(token)
		case xml.EndElement:
			if leaf {
				rule.add(kind, strings.Join(path, "/"), strings.TrimSpace(value.String()))
			}
			path, leaf = path[:max(len(path)-1, 0)], false
		}
	}
}

func (r *Rule) add(kind *RuleKind, name, value string) {
	if name == "ID" {
		r.ID = value
		return
	}
	if name, value = kind.meaning(name, value); name != "" {
		r.parts = append(r.parts, name+" "+value)
	}
}

// ourRule makes the rule that is converge's of its parts, in their order.
func ourRule(kind *RuleKind, parts ...[2]string) *Rule {
	var text strings.Builder
	element := func(name, value string) {
		text.WriteString("<" + name + ">")
		if err := xml.EscapeText(&text, []byte(value)); err != nil {
			panic(err) // a Builder takes everything
		}
		text.WriteString("</" + name + ">")
	}
	element("ID", RuleID)
	for _, p := range parts {
		outer, inner, nested := strings.Cut(p[0], "/")
		if !nested {
			element(outer, p[1])
			continue
		}
		text.WriteString("<" + outer + ">")
		element(inner, p[1])
		text.WriteString("</" + outer + ">")
	}
	rule, err := parseRule(kind, text.String())
	if err != nil {
		panic(err) // it was written above
	}
	return &rule
}
