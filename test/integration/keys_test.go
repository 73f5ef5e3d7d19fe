package integration

import (
	"errors"
	"fmt"
	"net/http"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/service/s3"
	"github.com/converge-agent/converge/diag"
	"github.com/converge-agent/converge/objectstore"
	"github.com/converge-agent/converge/resources"
	"github.com/converge-agent/converge/secret"
	"github.com/converge-agent/converge/test/lab"
	"github.com/zclconf/go-cty/cty"
)

// everyKey runs a test on each provider, with a bucket that has converged and without an app's key.
func everyKey(t *testing.T, test func(*testing.T, *site)) {
	l := newLab(t)
	for _, p := range allProviders {
		t.Run(p.String(), func(t *testing.T) {
			s := newSite(t, l, p)
			s.store["path_style"] = cty.True // the lab's address is no name
			if s.s3.PublicHost != "" {
				s.bucket["public_host"] = cty.StringVal(s.s3.PublicHost)
			}
			s.settle(t)
			test(t, s)
		})
	}
}

func (s *site) entry() *objectstore.Provider {
	p, _ := objectstore.Lookup(s.s3.Personality.String())
	return p
}

// appKey gives the app a key of its own.
func (s *site) appKey(id, key string) {
	s.bucket["app_credentials"] = cty.ObjectVal(map[string]cty.Value{
		"access_key_id": secret.New(id).Value(), "secret_access_key": secret.New(key).Value(),
	})
}

// clean checks that nothing of a probe is left.
func (s *site) clean(t *testing.T) {
	t.Helper()
	if got := s.s3.Keys(s.name()); len(got) > 0 {
		t.Errorf("the probes left %q", got)
	}
	name := s.name()
	out, err := s.sdk(t).ListMultipartUploads(t.Context(), &s3.ListMultipartUploadsInput{Bucket: &name})
	if err != nil {
		t.Fatal(err)
	}
	if len(out.Uploads) > 0 {
		t.Errorf("%d uploads in parts are left", len(out.Uploads))
	}
}

// TestAppKeyIsTried: with the least rights of the table, once, by exactly the requests that the plan names, and not again.
func TestAppKeyIsTried(t *testing.T) {
	everyKey(t, func(t *testing.T, s *site) {
		id, key := s.s3.NewBucketKey(s.name(), s.entry().AppRights...)
		s.appKey(id, key)
		s.s3.ResetRequests()
		c := s.must(t, resources.Look)
		if len(c.Effects) != 1 || c.Effects[0].Target != "the app's key" || c.Effects[0].Why != "not yet tried with these settings" {
			t.Errorf("the plan shows %+v, want the app's key alone to be tried", c.Effects)
		}
		s.clean(t)
		for name, raw := range s.records {
			if strings.Contains(string(raw), id) || strings.Contains(string(raw), key) {
				t.Errorf("the record %s holds the key: %s", name, raw)
			}
		}
		c = s.must(t, resources.None)
		if !regexp.MustCompile(`the app's key was tried on \d{4}-\d\d-\d\d`).MatchString(c.Summary) {
			t.Errorf("summary = %q, want the day of the probe", c.Summary)
		}
		t.Log(c.Summary)
	})
}

// TestLaw1AppKeyRequests: what the plan says of the app's key is what is sent, by operation.
func TestLaw1AppKeyRequests(t *testing.T) {
	everyKey(t, func(t *testing.T, s *site) {
		s.appKey(s.s3.NewBucketKey(s.name(), s.entry().AppRights...))
		r, c, err := s.plan(t)
		if err != nil {
			t.Fatal(err)
		}
		s.s3.ResetRequests()
		if err := r.Apply(t.Context(), s.env(), c); err != nil {
			t.Fatal(err)
		}
		want, got := map[string]int64{}, map[string]int64{}
		for _, e := range c.Effects {
			for op, n := range e.Operations {
				want[op] += n
			}
		}
		for what, n := range s.s3.Requests() {
			op, _, _ := strings.Cut(what, " ")
			got[op] += n
		}
		if fmt.Sprint(want) != fmt.Sprint(got) {
			t.Errorf("announced %v\nsent      %v", want, got)
		}
	})
}

// lacking are rights that the app needs, by a right of each provider's.
var lacking = map[string]string{
	"s3:PutObject": "PutObject", "s3:GetObject": "GetObject", "s3:DeleteObject": "DeleteObject", "s3:AbortMultipartUpload": "AbortMultipartUpload",
	"s3:PutObjectAcl": "PutObjectAcl", "writeFiles": "PutObject", "readFiles": "GetObject",
	"ObjectStorageObjectsRead": "GetObject", "ObjectStorageObjectsWrite": "PutObject", "ObjectStorageObjectsDelete": "DeleteObject",
}

// TestAppKeyLacksARight: each right that is missing is named as the provider names it, and the app's key is not believed.
func TestAppKeyLacksARight(t *testing.T) {
	everyKey(t, func(t *testing.T, s *site) {
		for _, right := range s.entry().AppRights {
			operation := lacking[right]
			if operation == "" {
				continue
			}
			t.Run(right, func(t *testing.T) {
				without := slices.DeleteFunc(slices.Clone(s.entry().AppRights), func(r string) bool { return r == right })
				s.appKey(s.s3.NewBucketKey(s.name(), without...))
				s.fails(t, objectstore.ErrDenied, "try the app's key on the bucket "+s.name(), right)
				_, err := s.apply(t)
				if err == nil || !strings.Contains(err.Error(), "it may not ") || !strings.Contains(err.Error(), operation) {
					t.Errorf("error = %v, want %s named", err, operation)
				}
				if _, kept := s.records["app-key"]; kept {
					t.Error("a key that lacks a right is remembered as one that works")
				}
				s.clean(t)
			})
		}
		if s.s3.Personality == lab.R2 {
			s.appKey(s.s3.NewBucketKey(s.name(), "Object Read"))
			s.fails(t, objectstore.ErrDenied, "it may not PutObject", `Object Read & Write`)
			s.clean(t)
		}
	})
}

// TestAppKeyThatDoesNotWork: what is wrong with it is said in words, and where it is written.
func TestAppKeyThatDoesNotWork(t *testing.T) {
	everyKey(t, func(t *testing.T, s *site) {
		id, key := s.s3.NewBucketKey(s.name(), s.entry().AppRights...)
		wrong := []byte(key)
		if last := &wrong[len(wrong)-1]; *last == '0' { // it keeps its form
			*last = '1'
		} else {
			*last = '0'
		}
		for name, tt := range map[string]struct{ id, key, says, fix string }{
			"wrong secret": {id, string(wrong), "the secret does not belong to this key", "write both again in app_credentials"},
			"revoked":      {id, key, "does not know this key", "access_key_id in app_credentials"},
		} {
			t.Run(name, func(t *testing.T) {
				if name == "revoked" {
					tt.id, tt.key = s.s3.NewBucketKey(s.name(), s.entry().AppRights...)
					s.s3.RevokeKey(tt.id)
				}
				s.appKey(tt.id, tt.key)
				s.fails(t, objectstore.ErrDenied, tt.says, tt.fix)
				s.clean(t)
			})
		}
	})
}

// TestAppKeyRotation: another key is tried before anything uses it, and the advice about the old one comes once.
func TestAppKeyRotation(t *testing.T) {
	const advice = "the key used before may be deleted at the provider"
	s := newSite(t, newLab(t), lab.B2)
	s.appKey(s.s3.AppKey, s.s3.AppSecret)
	s.settle(t)
	s.appKey(s.s3.NewKey(s.entry().AppRights...))
	c := s.must(t, resources.Look)
	if !strings.Contains(strings.Join(c.Notes, " "), advice) || c.Effects[0].Why != "it is another key than before" {
		t.Errorf("notes = %q, effects %+v", c.Notes, c.Effects)
	}
	if c = s.must(t, resources.None); strings.Contains(strings.Join(c.Notes, " ")+c.Summary, advice) {
		t.Errorf("the advice comes again: %q %q", c.Summary, c.Notes)
	}
	s.appKey(s.s3.AgentKey, s.s3.AgentSecret)
	if c = s.must(t, resources.Look); !strings.Contains(strings.Join(c.Notes, " "), "give the app its own") {
		t.Errorf("notes = %q, want that the app should have its own key", c.Notes)
	}
}

// TestLaw4AKeyProbeThatEndsAnywhere: a run that is killed before its n-th request leaves nothing after the next run.
func TestLaw4AKeyProbeThatEndsAnywhere(t *testing.T) {
	s := newSite(t, newLab(t), lab.Scaleway)
	s.store["path_style"] = cty.True
	s.appKey(s.s3.NewKey(s.entry().AppRights...))
	s.settle(t)
	for n := int64(0); ; n++ {
		delete(s.records, "app-key")
		delete(s.records, "probes")
		r, c, err := s.plan(t)
		if err != nil {
			t.Fatal(err)
		}
		var sent int64
		s.s3.Fault(func(*http.Request) *lab.Fault {
			if sent++; sent > n {
				return &lab.Fault{Status: 400, Code: "InvalidRequest", Message: "the run ended here"}
			}
			return nil
		})
		err = r.Apply(t.Context(), s.env(), c)
		s.s3.Fault(nil)
		if e := s.mustApply(t); e != resources.Look {
			t.Fatalf("the next run has %s to do", e)
		}
		s.clean(t)
		if err == nil {
			if n < 40 {
				t.Errorf("the run sent only %d requests", n)
			}
			return
		}
	}
}

func (s *site) mustApply(t *testing.T) resources.Action {
	t.Helper()
	c, err := s.apply(t)
	if err != nil {
		t.Fatalf("apply: %v\n%s", err, diag.Fix(err))
	}
	return c.Action
}

// TestAgentKeyIsDiagnosed: the region that is right, the bucket that is another's, the key that is a master's.
func TestAgentKeyIsDiagnosed(t *testing.T) {
	l := newLab(t)
	t.Run("another region", func(t *testing.T) {
		s := newSite(t, l, lab.AWS)
		s.store["path_style"] = cty.True
		s.settle(t)
		s.s3.MoveBucket(s.name(), "eu-west-3")
		s.fails(t, nil, "region", `Write region = "eu-west-3"`)
	})
	t.Run("signed for another region", func(t *testing.T) {
		s := newSite(t, l, lab.B2)
		s.store["region"] = cty.StringVal("us-west-004")
		s.fails(t, objectstore.ErrDenied, "the region is wrong", `Write region = "us-west-001"`)
	})
	t.Run("another customer's key", func(t *testing.T) {
		s := newSite(t, l, lab.Wasabi)
		s.store["path_style"] = cty.True
		s.settle(t)
		id, key := s.s3.ForeignKey()
		s.store["access_key_id"], s.store["secret_access_key"] = secret.New(id).Value(), secret.New(key).Value()
		s.fails(t, objectstore.ErrDenied, "AccessDenied", "belongs to somebody else")
	})
	t.Run("clock", func(t *testing.T) {
		s := newSite(t, l, lab.MinIO)
		s.s3.Fault(func(*http.Request) *lab.Fault {
			date := time.Now().Add(3 * time.Hour).UTC().Format(http.TimeFormat)
			return &lab.Fault{Status: 403, Code: "RequestTimeTooSkewed", Message: "x", Header: http.Header{"Date": {date}}}
		})
		s.fails(t, objectstore.ErrDenied, "this host's clock is wrong", "behind the store's. Set this host's clock")
	})
}

// TestLessThanTheTableSays: a store that does less stops the run, with the attribute that overrides the table.
func TestLessThanTheTableSays(t *testing.T) {
	s := newSite(t, newLab(t), lab.MinIO)
	s.settle(t)
	for name, tt := range map[string]struct {
		fault func(*http.Request) *lab.Fault
		fix   string
	}{
		"overwrites": {func(r *http.Request) *lab.Fault {
			r.Header.Del("If-None-Match")
			return nil
		}, "conditional_writes = false"},
		"no DeleteObjects": {func(r *http.Request) *lab.Fault {
			if r.Method == http.MethodPost && r.URL.Query().Has("delete") {
				return &lab.Fault{Status: 501, Code: "NotImplemented", Message: "x"}
			}
			return nil
		}, "batch_delete = false"},
		"DeleteObjects that lies": {func(r *http.Request) *lab.Fault {
			if r.Method == http.MethodPost && r.URL.Query().Has("delete") {
				return &lab.Fault{Status: 200, Body: []byte("<DeleteResult/>"), Header: http.Header{"Content-Type": {"application/xml"}}}
			}
			return nil
		}, "batch_delete = false"},
	} {
		t.Run(name, func(t *testing.T) {
			delete(s.records, "probes")
			s.s3.Fault(tt.fault)
			s.fails(t, nil, "look at what the store", tt.fix)
			s.s3.Fault(nil)
			s.clean(t)
			if _, err := s.apply(t); err != nil {
				t.Error(errors.Unwrap(err))
			}
		})
	}
}
