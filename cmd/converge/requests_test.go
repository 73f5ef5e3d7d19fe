package main

import (
	"bytes"
	"slices"
	"strings"
	"testing"

	"github.com/converge-agent/converge/objectstore"
	"github.com/converge-agent/converge/plans"
	"github.com/converge-agent/converge/resources"
)

// sentTo are requests to providers: "aws GetBucketPolicy".
func sentTo(requests map[string]int64) objectstore.Sent {
	sent := objectstore.Sent{}
	for what, n := range requests {
		provider, op, _ := strings.Cut(what, " ")
		sent.Add(provider, op, n)
	}
	return sent
}

func TestRequestsInPlans(t *testing.T) {
	for name, tt := range map[string]struct {
		sent objectstore.Sent
		all  int64
		want []string
	}{
		"none":       {sentTo(nil), 0, nil},
		"by class":   {sentTo(map[string]int64{"backblaze-b2 GetBucketAcl": 3, "backblaze-b2 AnonymousGET": 2}), 5, []string{"5 requests to the object store: 3 class C, 2 class B; free up to 2,500 a day of each"}},
		"no classes": {sentTo(map[string]int64{"minio GetBucketPolicy": 1}), 1, []string{"1 request to the object store"}},
		"no prices":  {sentTo(map[string]int64{"scaleway PutObject": 2}), 2, []string{"2 requests to the object store: free of charge"}},
		"not all":    {sentTo(map[string]int64{"backblaze-b2 GetBucketAcl": 3}), 9, []string{"9 requests to the object store"}},
		"two stores": {
			sentTo(map[string]int64{"backblaze-b2 GetBucketAcl": 1, "minio GetBucketPolicy": 2}), 3,
			[]string{"1 request to backblaze-b2: 1 class C; free up to 2,500 a day", "2 requests to minio"},
		},
	} {
		if got := storeLines(tt.sent, tt.all); !slices.Equal(got, tt.want) {
			t.Errorf("%s: %q, want %q", name, got, tt.want)
		}
	}
}

func TestRequestsOfAPlanAndOfAnApply(t *testing.T) {
	var out bytes.Buffer
	term := &terminal{out: &out, err: &out}
	change := resources.Change{Action: resources.Update, Effects: []resources.Effect{
		{Verb: "set", Requests: 2, Provider: "cloudflare-r2", Operations: map[string]int64{"GetBucketCors": 1, "PutBucketCors": 1}},
	}}
	p := &plans.Plan{Items: []*plans.Item{{Node: &resources.Node{Resource: struct{ resources.Resource }{}, Address: resources.Address{Kind: "s3_bucket", Name: "b"}}, Change: change}}}
	view := &planView{terminal: term}
	view.footer(p)
	view.sent(sentTo(map[string]int64{"cloudflare-r2 GetBucketCors": 1}))
	view.sent(nil)
	apply := &applyView{terminal: term}
	apply.sent(nil)
	apply.sent(objectstore.Sent{})
	apply.sent(sentTo(map[string]int64{"cloudflare-r2 PutObject": 2, "cloudflare-r2 HeadBucket": 1}))
	apply.sent(sentTo(map[string]int64{"minio PutObject": 2, "aws PutObject": 1}))
	apply.sent(sentTo(map[string]int64{"minio A": 9, "minio B": 8, "minio C": 7, "minio D": 6, "minio E": 5, "minio F": 4, "minio G": 2, "minio H": 1}))
	apply.sent(sentTo(map[string]int64{"minio A": 9, "minio B": 8, "minio C": 7, "minio D": 6, "minio E": 5, "minio F": 4, "minio G": 2}))
	const want = `Plan: 1 to change, 0 destructive; 0 as they should be.
      about 2 requests to the object store: 1 class A, 1 class B; free up to 1,000,000 a month of A, 10,000,000 a month of B.
This plan took 1 request to the object store: 1 class B; free up to 10,000,000 a month.
object store: 0 requests
object store: 3 requests (2 PutObject, 1 HeadBucket): 2 class A, 1 class B; free up to 1,000,000 a month of A, 10,000,000 a month of B
aws: 1 request (1 PutObject): 1 PUT/LIST; less than $0.01
minio: 2 requests (2 PutObject)
object store: 42 requests (9 A, 8 B, 7 C, 6 D, 5 E, 4 F, and 3 more)
object store: 41 requests (9 A, 8 B, 7 C, 6 D, 5 E, 4 F, 2 G)
`
	if out.String() != want {
		t.Errorf("got:\n%s\nwant:\n%s", out.String(), want)
	}
}

// TestAPlanThatLooks: what apply will look at is no change, and the host is not said to be right before it; its requests are announced.
func TestAPlanThatLooks(t *testing.T) {
	item := func(name string, c resources.Change) *plans.Item {
		return &plans.Item{Node: &resources.Node{Resource: struct{ resources.Resource }{}, Address: resources.Address{Kind: "s3_bucket", Name: name}}, Change: c}
	}
	look := resources.Change{Action: resources.Look, Effects: []resources.Effect{
		{Verb: "probe", Requests: 3, Provider: "aws", Operations: map[string]int64{"PutObject": 1, "AnonymousGET": 2}},
	}}
	for name, tt := range map[string]struct {
		items []*plans.Item
		want  string
	}{
		"nothing": {[]*plans.Item{item("a", resources.Change{})}, "No changes: this host is as the configuration says (1 resource).\n"},
		"looks": {
			[]*plans.Item{item("a", resources.Change{}), item("b", look)},
			"No changes: 1 resource to check by apply; 1 as they should be.\n      about 3 requests to the object store: 2 GET, 1 PUT/LIST; less than $0.01.\n",
		},
	} {
		var out bytes.Buffer
		view := &planView{terminal: &terminal{out: &out, err: &out}}
		view.footer(&plans.Plan{Items: tt.items})
		if out.String() != tt.want {
			t.Errorf("%s: got %q, want %q", name, out.String(), tt.want)
		}
	}
}

func TestEmptyValuesAreSeen(t *testing.T) {
	var out bytes.Buffer
	view := &planView{terminal: &terminal{out: &out, err: &out}}
	view.attr(resources.AttrDiff{Name: "A", Added: true})
	view.attr(resources.AttrDiff{Name: "B", Before: "x"})
	view.attr(resources.AttrDiff{Name: "C", Removed: true})
	if want := "      + A = \"\"\n      ~ B: x -> \"\"\n      - C = \"\"\n"; out.String() != want {
		t.Errorf("got %q, want %q", out.String(), want)
	}
}
