package s3bucket

import (
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/converge-agent/converge/objectstore"
	"github.com/converge-agent/converge/resources"
	"github.com/zclconf/go-cty/cty"
)

var now = time.Date(2026, 11, 21, 2, 0, 0, 0, time.UTC)

// as gives what was read of a bucket's settings, in their order.
func as(values ...any) found { return found{Values: values} }

// policyOf is a policy with our statement over the usual prefixes, and others.
func policyOf(t *testing.T, ours bool, others ...string) *objectstore.Policy {
	t.Helper()
	text := ""
	if len(others) > 0 {
		text = `{"Version":"2012-10-17","Statement":[` + strings.Join(others, ",") + `]}`
	}
	p, err := objectstore.ParsePolicy(text)
	if err != nil {
		t.Fatal(err)
	}
	if ours {
		p.SetPublic("my-instance-media", publicPrefixes)
	}
	return p
}

const theirs = `{"Sid":"Theirs","Effect":"Allow","Principal":"*","Action":"s3:GetObject","Resource":"arn:aws:s3:::my-instance-media/theirs/*"}`

// total is the sum of the requests that a change announces. It checks that each effect names them.
func total(t *testing.T, c resources.Change) (sum int64) {
	t.Helper()
	for _, e := range c.Effects {
		var n int64
		for _, k := range e.Operations {
			n += k
		}
		if n != e.Requests || n == 0 || e.Provider == "" {
			t.Errorf("%s %s: %d requests, and its operations are %v of %q", e.Verb, e.Target, e.Requests, e.Operations, e.Provider)
		}
		sum += e.Requests
	}
	return sum
}

func TestDiff(t *testing.T) {
	seenAt := func(at time.Time) *probes {
		return &probes{At: at, Verdicts: objectstore.Verdicts{{Name: "GET", Status: 200, OK: true}}}
	}
	seen, seenWith := seenAt(now), seenAt(now)
	seenWith.Others = "a"
	read, none := acl{"READ"}, acl{}
	ours, noPolicy := policyOf(t, true), policyOf(t, false)
	unreadable := found{Unreadable: true, Values: []any{nil}}
	tests := []struct {
		name     string
		bucket   map[string]cty.Value
		change   map[string]cty.Value
		state    state
		action   resources.Action
		summary  string
		requests int64
	}{
		{"as it should be", b2Bucket(), nil, state{found: as(read), Probes: seen}, resources.None,
			"my-instance-media, backblaze-b2 us-west-001: objects public by bucket ACL; backups/ only unguessable", 0},
		{"new at B2", b2Bucket(), nil, state{found: found{Missing: true}}, resources.Create, "objects public by bucket ACL", 20},
		{"new at MinIO", minioBucket(), nil, state{found: found{Missing: true}}, resources.Create, "objects public by policy; backups/ and imports/ private", 33},
		{"not to be created", b2Bucket(), map[string]cty.Value{"create": cty.False}, state{found: found{Missing: true}}, resources.Blocked, "create = false", 0},
		{"gone", b2Bucket(), nil, state{found: found{Missing: true}, Existed: now}, resources.Blocked, "it existed on 2026-11-21", 0},
		{"ACL flipped", b2Bucket(), nil, state{found: as(none), Probes: seen}, resources.Update, "public", 20},
		{"policy gone", minioBucket(), nil, state{found: as(noPolicy), Probes: seen}, resources.Update, "public", 32},
		{"never looked at", b2Bucket(), nil, state{found: as(read)}, resources.Look, "public", 19},
		{"listable", b2Bucket(), nil, state{found: as(read), Probes: seen, Listable: true}, resources.Look, "public", 19},
		{"unreadable and looked at", b2Bucket(), nil, state{found: unreadable, Probes: seen}, resources.None, "public", 0},
		{"unreadable and never looked at", b2Bucket(), nil, state{found: unreadable}, resources.Look, "public", 19},
		{"a foreign statement came", minioBucket(), nil, state{found: as(ours), Others: "b", Probes: seen}, resources.Look, "public", 30},
		{"the foreign statement went", minioBucket(), nil, state{found: as(ours), Probes: seenWith}, resources.Look, "public", 30},
		{"the same foreign statement", minioBucket(), nil, state{found: as(ours), Others: "a", Probes: seenWith}, resources.None, "GET 200", 0},
		{"a policy that was readable once", minioBucket(), nil, state{found: unreadable, Probes: seenWith}, resources.None, "public", 0},
		{"looked at six days ago", b2Bucket(), nil, state{found: as(read), Probes: seenAt(now.AddDate(0, 0, -6))}, resources.None, "public", 0},
		{"looked at a week ago", b2Bucket(), nil, state{found: as(read), Probes: seenAt(now.AddDate(0, 0, -7))}, resources.Look, "public", 19},
		{"looked at in a far future", b2Bucket(), nil, state{found: as(read), Probes: seenAt(now.AddDate(1, 0, 0))}, resources.Look, "public", 19},
		{"unreadable and looked at a week ago", b2Bucket(), nil, state{found: unreadable, Probes: seenAt(now.AddDate(0, 0, -7))}, resources.Look, "public", 19},
		{"private", minioBucket(), map[string]cty.Value{"access": cty.StringVal("private")}, state{found: as(ours)}, resources.Update, ": private", 67},
		{"new and private", minioBucket(), map[string]cty.Value{"access": cty.StringVal("private")}, state{found: found{Missing: true}}, resources.Create, ": private", 66},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			for name, v := range tt.change {
				tt.bucket[name] = v
			}
			b, _ := mustMake(t, tt.bucket)
			tt.state.Now = now
			c := b.Diff(&tt.state)
			if requests := total(t, c); c.Action != tt.action || !strings.Contains(c.Summary, tt.summary) || requests != tt.requests {
				t.Errorf("change = %s %q with %d requests, want %s %q with %d", c.Action, c.Summary, requests, tt.action, tt.summary, tt.requests)
			}
			if again := b.Diff(&tt.state); !reflect.DeepEqual(again.Effects, c.Effects) || !reflect.DeepEqual(again.Attrs, c.Attrs) {
				t.Errorf("asked again, the difference is another: %+v", again)
			}
			if c.Action == resources.Blocked && len(c.Notes) == 0 {
				t.Error("a blocked change does not say what to do")
			}
			if c.Action == resources.Look && c.Effects[0].Why == "" {
				t.Error("the plan does not say why it looks from outside again")
			}
			if (c.Remember != nil) != (c.Action == resources.None) {
				t.Errorf("it remembers %v with action %s: only what was found converged is kept", c.Remember, c.Action)
			}
		})
	}
}

// overridden is the store of minioBucket with overrides of the table.
func overridden(over map[string]string) cty.Value {
	attrs := minioBucket()["store"].AsValueMap()
	for name, text := range over {
		attrs[name] = cty.StringVal(text)
	}
	return cty.ObjectVal(attrs)
}

// TestDigestFollowsWhatDecides: new settings are probed anew, and new keys are not.
func TestDigestFollowsWhatDecides(t *testing.T) {
	digest := func(change map[string]cty.Value) string {
		written := minioBucket()
		for name, v := range change {
			written[name] = v
		}
		b, _ := mustMake(t, written)
		return b.digest()
	}
	base := digest(nil)
	for name, change := range map[string]map[string]cty.Value{
		"name":        {"name": cty.StringVal("another-bucket")},
		"access":      {"access": cty.StringVal("private")},
		"prefixes":    {"public_prefixes": stringList([]string{"cache/"})},
		"store":       {"store": storeRef("minio", "https://127.0.0.1:9001", true)},
		"an override": {"store": overridden(map[string]string{"conditional_writes": "false"})},
		"another":     {"store": overridden(map[string]string{"batch_delete": "false"})},
		"the way":     {"store": overridden(map[string]string{"public_by": "object-acl"})},
	} {
		if digest(change) == base {
			t.Errorf("another %s has the same digest: it would not be probed", name)
		}
	}
	if digest(map[string]cty.Value{"app_credentials": appCredentials("a", "b")}) != base {
		t.Error("another key has another digest: it would be probed for nothing")
	}
}

func TestExposedSaysWhatToDo(t *testing.T) {
	for _, written := range []map[string]cty.Value{b2Bucket(), minioBucket()} {
		b, _ := mustMake(t, written)
		for _, name := range []string{"GET", "LIST", "PUT", "DELETE", "backups/"} {
			vs := objectstore.Verdicts{{Name: name, Status: 200}}
			if b.meaning(vs[0]) == "" || b.remedy(vs[0]) == "" {
				t.Errorf("%s: %s has no words or no remedy", b.Store.Provider, name)
			}
		}
	}
}

// TestExposedAtTheEndpointSaysWhere: with a custom domain the store's own address shall give nothing at all.
func TestExposedAtTheEndpointSaysWhere(t *testing.T) {
	w, _ := at(t, "cloudflare-r2", publicObjects)
	b, _ := mustMake(t, w)
	for name, want := range map[string]string{
		"GET":    "anyone can read its objects at the store's own address",
		"LIST":   "anyone can list it at the store's own address",
		"PUT":    "anyone can write to it at the store's own address",
		"DELETE": "anyone can delete from it at the store's own address",
	} {
		if got := b.meaning(objectstore.Verdict{Name: name + objectstore.AtEndpoint, Status: 200}); got != want {
			t.Errorf("%s: %q, want %q", name, got, want)
		}
	}
}

// TestLaw8WhatIsProbed: by policy each prefix can be open on its own, so each is looked at; a bucket ACL opens all or nothing.
func TestLaw8WhatIsProbed(t *testing.T) {
	tests := []struct {
		name    string
		written map[string]cty.Value
		access  string
		public  string
		private []string
	}{
		{"public by policy", minioBucket(), publicObjects, "accounts/", []string{"backups/", "imports/"}},
		{"private by policy", minioBucket(), private, "", slices.Concat(publicPrefixes, []string{"backups/", "imports/"})},
		{"public by ACL", b2Bucket(), publicObjects, "accounts/", nil},
		{"private by ACL", b2Bucket(), private, "", nil},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			tt.written["access"] = cty.StringVal(tt.access)
			b, _ := mustMake(t, tt.written)
			p := b.probes()
			if p.Public != (tt.access == publicObjects) || p.PublicPrefix != tt.public || !slices.Equal(p.PrivatePrefixes, tt.private) {
				t.Errorf("probes = %+v, want an object at %q, and none readable in %q", p, tt.public, tt.private)
			}
			want := int64(20 + 5*len(tt.private))
			if b.capabilityProbes().AllPublic {
				want-- // the effect of an ACL cannot be seen
			}
			if b.probeEffect(&state{}).Requests != want {
				t.Errorf("%d requests announced, want %d", b.probeEffect(&state{}).Requests, want)
			}
		})
	}
}
