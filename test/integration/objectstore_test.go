package integration

import (
	"bytes"
	"context"
	"crypto/md5"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/converge-agent/converge/diag"
	"github.com/converge-agent/converge/objectstore"
	"github.com/converge-agent/converge/resources"
	"github.com/converge-agent/converge/resources/resourcetest"
	"github.com/converge-agent/converge/resources/s3bucket"
	"github.com/converge-agent/converge/resources/store"
	"github.com/converge-agent/converge/secret"
	"github.com/converge-agent/converge/test/lab"
	"github.com/zclconf/go-cty/cty"
)

// site is one host's view of a bucket in a lab: its configuration and its records.
type site struct {
	lab     *lab.Lab
	s3      *lab.S3
	store   map[string]cty.Value // of the object_store
	bucket  map[string]cty.Value // of the s3_bucket
	records resourcetest.Records
}

func newSite(t *testing.T, l *lab.Lab, p lab.Personality) *site {
	t.Helper()
	s := newS3(t, l, p)
	return &site{
		lab: l, s3: s, records: resourcetest.Records{},
		store: map[string]cty.Value{
			"provider": cty.StringVal(p.String()), "region": cty.StringVal(s.Region), "endpoint": cty.StringVal(s.Endpoint),
			"path_style": cty.True, // the lab's address is no name
			"ca_file":    cty.StringVal(l.CAFile), "access_key_id": secret.New(s.AgentKey).Value(),
			"secret_access_key": secret.New(s.AgentSecret).Value(),
		},
		bucket: map[string]cty.Value{
			"name": cty.StringVal("my-instance-media-" + p.String()), "access": cty.StringVal("public-objects"),
		},
	}
}

func (s *site) name() string { return s.bucket["name"].AsString() }

// client is a store of converge's own, apart from the one under test.
func (s *site) client(t *testing.T) *objectstore.Store {
	t.Helper()
	c, err := objectstore.NewClients().Store(objectstore.Config{
		Provider: s.s3.Personality.String(), Region: s.s3.Region, Endpoint: s.s3.Endpoint, PathStyle: true, CAFile: s.lab.CAFile,
		AccessKeyID: secret.New(s.s3.AgentKey), SecretAccessKey: secret.New(s.s3.AgentSecret),
	})
	if err != nil {
		t.Fatal(err)
	}
	return c
}

// config is the s3_bucket as the engine hands it to New.
func (s *site) config(t *testing.T, kind *resources.Kind) cty.Value {
	t.Helper()
	written := maps.Clone(s.bucket)
	written["store"] = s.reference(t)
	config, errs := kind.Complete(cty.ObjectVal(written))
	for _, err := range errs {
		t.Fatal(err)
	}
	return config
}

func (s *site) reference(t *testing.T) cty.Value {
	t.Helper()
	kind := store.Kind(nil)
	config, errs := kind.Complete(cty.ObjectVal(s.store))
	for _, err := range errs {
		t.Fatal(err)
	}
	addr := resources.Address{Kind: kind.Name, Name: "s"}
	_, exports, err := kind.New(addr, config)
	if err != nil {
		t.Fatal(err)
	}
	return resources.Reference(addr, exports)
}

// clock is the host's.
type clock struct{}

func (clock) Now() time.Time           { return time.Now() }
func (clock) SinceBoot() time.Duration { return time.Hour }

// plan is one run's Read and Diff, with clients of its own as in a process of its own.
func (s *site) plan(t *testing.T) (resources.Resource, resources.Change, error) {
	t.Helper()
	kind := s3bucket.Kind(objectstore.NewClients())
	r, _, err := kind.New(resources.Address{Kind: kind.Name, Name: "b"}, s.config(t, kind))
	if err != nil {
		t.Fatal(err)
	}
	st, err := r.Read(t.Context(), s.env().ReadEnv)
	if err != nil {
		return r, resources.Change{}, err
	}
	return r, r.Diff(st), nil
}

func (s *site) env() resources.Env {
	return resources.Env{ReadEnv: resources.ReadEnv{Clock: clock{}, Records: s.records}}
}

// apply is one run as the engine does it: read, diff, apply, read and diff again, remember.
func (s *site) apply(t *testing.T) (resources.Change, error) {
	t.Helper()
	r, c, err := s.plan(t)
	if err != nil {
		return c, err
	}
	if c.Action.Changes() || c.Action.Looks() {
		if err := r.Apply(t.Context(), s.env(), c); err != nil {
			return c, err
		}
	}
	st, err := r.Read(t.Context(), s.env().ReadEnv)
	if err != nil {
		return c, err
	}
	left := r.Diff(st)
	if left.Action != resources.None && !left.Action.Holds() {
		t.Errorf("after the apply something is left: %s %s", left.Action, left.Summary)
	}
	for name, v := range left.Remember {
		raw, err := json.Marshal(v)
		if err != nil {
			t.Fatal(err)
		}
		s.records[name] = raw
	}
	return c, nil
}

// must applies, and checks what the change came to.
func (s *site) must(t *testing.T, want resources.Action) resources.Change {
	t.Helper()
	c, err := s.apply(t)
	if err != nil {
		t.Fatalf("apply: %v\n%s", err, diag.Fix(err))
	}
	if c.Action != want {
		t.Fatalf("the change is %s (%s), want %s", c.Action, c.Summary, want)
	}
	return c
}

// fails applies, and checks the error, its advice, and that no key is in either.
func (s *site) fails(t *testing.T, is error, says, fix string) {
	t.Helper()
	_, err := s.apply(t)
	if err == nil || is != nil && !errors.Is(err, is) || !strings.Contains(err.Error(), says) || !strings.Contains(diag.Fix(err), fix) {
		t.Errorf("error = %v\nfix = %s\nwant %v, saying %q, with a fix about %q", err, diag.Fix(err), is, says, fix)
	}
	for _, key := range []string{s.s3.AgentKey, s.s3.AgentSecret} {
		if err != nil && strings.Contains(err.Error()+diag.Fix(err), key) {
			t.Errorf("the error shows a key: %v", err)
		}
	}
}

func providers(t *testing.T, test func(*testing.T, *site)) {
	for _, p := range []lab.Personality{lab.MinIO, lab.B2} {
		t.Run(p.String(), func(t *testing.T) { test(t, newSite(t, newLab(t), p)) })
	}
}

// anonymously asks for something below the bucket without a key, and returns the status.
func (s *site) anonymously(t *testing.T, path string) int {
	t.Helper()
	client, done := s.http(t)
	defer done()
	resp, err := client.Get(s.s3.Endpoint + "/" + s.name() + path)
	if err != nil {
		t.Fatal(err)
	}
	_ = resp.Body.Close()
	return resp.StatusCode
}

// TestLaw2BucketIsIdempotent: created once, nothing to do afterwards, and one request to find that out. With all settings
// managed: TestFigureRequestsOfAnUnchangedBucket.
func TestLaw2BucketIsIdempotent(t *testing.T) {
	providers(t, func(t *testing.T, s *site) {
		c := s.must(t, resources.Create)
		if len(c.Effects) < 2 || !strings.Contains(c.Summary, "objects public by") {
			t.Errorf("change = %q with effects %+v", c.Summary, c.Effects)
		}
		if got := s.s3.Keys(s.name()); len(got) > 0 {
			t.Errorf("the probes left %q", got)
		}
		before := maps.Clone(s.records)
		s.s3.ResetRequests()
		c = s.must(t, resources.None)
		var total int64
		for _, n := range s.s3.Requests() {
			total += n
		}
		if total != 2 { // one run reads twice here: before and as the proof
			t.Errorf("an unchanged bucket cost %v, want 1 for each of two reads", s.s3.Requests())
		}
		for name := range before {
			if !bytes.Equal(before[name], s.records[name]) {
				t.Errorf("the record %s changed: %s, %s", name, before[name], s.records[name])
			}
		}
		t.Log(c.Summary, string(s.records["probes"]))
	})
}

// TestLaw1EstimatedRequests: what the plan says is what is sent.
func TestLaw1EstimatedRequests(t *testing.T) {
	providers(t, func(t *testing.T, s *site) {
		r, c, err := s.plan(t)
		if err != nil {
			t.Fatal(err)
		}
		var want, got int64
		for _, e := range c.Effects {
			want += e.Requests
		}
		s.s3.ResetRequests()
		if err := r.Apply(t.Context(), s.env(), c); err != nil {
			t.Fatal(err)
		}
		for _, n := range s.s3.Requests() {
			got += n
		}
		if got != want {
			t.Errorf("%d requests were sent, and %d estimated: %v", got, want, s.s3.Requests())
		}
	})
}

func TestLaw8PublicMeansOneThing(t *testing.T) {
	providers(t, func(t *testing.T, s *site) {
		s.must(t, resources.Create)
		for _, key := range []string{"accounts/a.png", "cache/accounts/b.png", "backups/dumps/c.zip", "imports/d.csv"} {
			s.s3.Put(s.name(), key, []byte("x"), nil)
		}
		minio := s.s3.Personality == lab.MinIO
		for path, open := range map[string]bool{
			"/accounts/a.png": true, "/cache/accounts/b.png": true, "": false,
			"/backups/dumps/c.zip": !minio, "/imports/d.csv": !minio, // B2 cannot: only unguessable
		} {
			if got := s.anonymously(t, path) == http.StatusOK; got != open {
				t.Errorf("anyone can read %q: %v, want %v", path, got, open)
			}
		}
		s.bucket["access"] = cty.StringVal("private")
		c := s.must(t, resources.Update)
		if !c.Effects[0].Destructive {
			t.Errorf("taking objects from the public is not called out: %+v", c.Effects)
		}
		if s.anonymously(t, "/accounts/a.png") == http.StatusOK {
			t.Error("an object of the private bucket can be read")
		}
		s.must(t, resources.None)
		s.bucket["access"] = cty.StringVal("public-objects")
		s.must(t, resources.Update)
	})
}

const theirStatement = `{"Sid":"Theirs","Effect":"Allow","Principal":{"AWS":["*"]},"Action":["s3:GetObject"],"Resource":["arn:aws:s3:::%s/shared/*"]}`

func TestPolicyDriftIsHealed(t *testing.T) {
	s := newSite(t, newLab(t), lab.MinIO)
	s.must(t, resources.Create)
	c, ctx := s.client(t), t.Context()
	foreign := fmt.Sprintf(theirStatement, s.name())
	policy := func() string {
		t.Helper()
		text, err := c.GetBucketPolicy(ctx, s.name())
		if err != nil {
			t.Fatal(err)
		}
		return text
	}
	ours := policy()
	drifts := map[string]func() error{
		"removed": func() error { return c.DeleteBucketPolicy(ctx, s.name()) },
		"replaced": func() error {
			return c.PutBucketPolicy(ctx, s.name(), `{"Version":"2012-10-17","Statement":[`+foreign+`]}`)
		},
		"widened": func() error {
			return c.PutBucketPolicy(ctx, s.name(), strings.Replace(ours, "/accounts/*", "/*", 1))
		},
		"narrowed": func() error {
			return c.PutBucketPolicy(ctx, s.name(), strings.Replace(ours, `"arn:aws:s3:::`+s.name()+`/accounts/*",`, "", 1))
		},
	}
	for name, drift := range drifts {
		t.Run(name, func(t *testing.T) {
			if err := drift(); err != nil {
				t.Fatal(err)
			}
			change := s.must(t, resources.Update)
			if len(change.Attrs) != 1 || change.Attrs[0].Before == change.Attrs[0].After {
				t.Errorf("the plan shows %+v", change.Attrs)
			}
			s.must(t, resources.None)
			if kept := strings.Contains(policy(), `"Theirs"`); kept != (name == "replaced") {
				t.Errorf("policy = %s; foreign statement kept: %v", policy(), kept)
			}
			if name == "replaced" {
				if err := c.PutBucketPolicy(ctx, s.name(), ours); err != nil {
					t.Fatal(err)
				}
				s.must(t, resources.Look) // it looks again, now that the foreign statement is gone
			}
		})
	}
	t.Run("a foreign statement beside ours is looked at from outside, and kept", func(t *testing.T) {
		if err := c.PutBucketPolicy(ctx, s.name(), strings.Replace(ours, `"Statement":[`, `"Statement":[`+foreign+`,`, 1)); err != nil {
			t.Fatal(err)
		}
		s.must(t, resources.Look)
		if change := s.must(t, resources.None); !strings.Contains(strings.Join(change.Notes, " "), "Theirs") {
			t.Errorf("the notes do not name it: %q", change.Notes)
		}
	})
	t.Run("private again leaves the foreign one", func(t *testing.T) {
		s.bucket["access"] = cty.StringVal("private")
		s.must(t, resources.Update)
		if text := policy(); strings.Contains(text, objectstore.PublicSid) || !strings.Contains(text, "Theirs") {
			t.Errorf("policy = %s, want the foreign statement alone", text)
		}
	})
}

// TestOpenBucketStopsTheRun: what the world may do too much, by a statement that is not ours, is an error that says so.
func TestOpenBucketStopsTheRun(t *testing.T) {
	s := newSite(t, newLab(t), lab.MinIO)
	s.must(t, resources.Create)
	c := s.client(t)
	ours, err := c.GetBucketPolicy(t.Context(), s.name())
	if err != nil {
		t.Fatal(err)
	}
	open := func(action, resource string) {
		t.Helper()
		st := fmt.Sprintf(`{"Sid":"Open","Effect":"Allow","Principal":"*","Action":["%s"],"Resource":["arn:aws:s3:::%s%s"]}`, action, s.name(), resource)
		if err := c.PutBucketPolicy(t.Context(), s.name(), strings.Replace(ours, `"Statement":[`, `"Statement":[`+st+`,`, 1)); err != nil {
			t.Fatal(err)
		}
	}
	open("s3:ListBucket", "")
	if _, c, err := s.plan(t); err != nil || c.Action != resources.Look {
		t.Errorf("plan = %s, %v; an open listing must be seen by the next plan", c.Action, err)
	}
	s.fails(t, nil, "anyone can list it", "Take the statement")
	for action, says := range map[string]string{"s3:PutObject": "anyone can write", "s3:DeleteObject": "anyone can delete"} {
		delete(s.records, "probes") // as on a host that has not probed yet
		open(action, "/*")
		s.fails(t, nil, says, "Take the statement")
	}
	delete(s.records, "probes")
	open("s3:GetObject", "/*")
	s.fails(t, nil, "anyone can read backups/", "Take the statement")
	if got := s.s3.Keys(s.name()); len(got) > 0 {
		t.Errorf("the probes left %q", got)
	}
}

func TestACLDriftIsHealed(t *testing.T) {
	s := newSite(t, newLab(t), lab.B2)
	c := s.must(t, resources.Create)
	if notes := strings.Join(c.Notes, " "); !strings.Contains(notes, "only unguessable") {
		t.Errorf("notes = %q, want that backups/ cannot be private", c.Notes)
	}
	if err := s.client(t).PutBucketACL(t.Context(), s.name(), "private"); err != nil {
		t.Fatal(err)
	}
	c = s.must(t, resources.Update)
	if want := (resources.AttrDiff{Name: "acl", Before: "private", After: "public-read"}); len(c.Attrs) != 1 || c.Attrs[0] != want {
		t.Errorf("the plan shows %+v, want %+v", c.Attrs, want)
	}
	s.must(t, resources.None)
}

func TestBucketThatExistsAlready(t *testing.T) {
	providers(t, func(t *testing.T, s *site) {
		if err := s.client(t).CreateBucket(t.Context(), s.name(), ""); err != nil {
			t.Fatal(err)
		}
		if err := s.client(t).CreateBucket(t.Context(), s.name(), ""); err != nil {
			t.Errorf("creating it again: %v, want no error: it is ours", err)
		}
		s.bucket["create"] = cty.False
		s.must(t, resources.Update)
	})
}

func TestBucketThatIsGoneIsNotMadeAgain(t *testing.T) {
	providers(t, func(t *testing.T, s *site) {
		earlier := time.Now().UTC().Format(time.DateOnly) // the day may end meanwhile
		s.bucket["create"] = cty.False
		if c := s.must(t, resources.Blocked); !strings.Contains(c.Summary, "create = false") {
			t.Errorf("summary = %q", c.Summary)
		}
		delete(s.bucket, "create")
		s.must(t, resources.Create)
		s.deleteBucket(t)
		c := s.must(t, resources.Blocked)
		existed := "is gone; it existed on "
		if !strings.Contains(c.Summary, existed+earlier) && !strings.Contains(c.Summary, existed+time.Now().UTC().Format(time.DateOnly)) || len(c.Notes) == 0 {
			t.Errorf("summary = %q, notes = %q", c.Summary, c.Notes)
		}
		if got := s.s3.Buckets(); len(got) > 0 {
			t.Errorf("buckets = %q, want none: an empty one would hide the loss", got)
		}
		s.bucket["name"] = cty.StringVal("another-bucket")
		s.must(t, resources.Create) // the record is of the other one
	})
}

func TestKeysThatDoNotWork(t *testing.T) {
	providers(t, func(t *testing.T, s *site) {
		right := maps.Clone(s.store)
		s.store["secret_access_key"] = secret.New("K001wrongwrongwrongwrongwrongwr").Value()
		s.fails(t, objectstore.ErrDenied, "SignatureDoesNotMatch", "secret_access_key")
		s.store["access_key_id"] = secret.New("0020123456789ab0000000009").Value()
		s.fails(t, objectstore.ErrDenied, "InvalidAccessKeyId", "key")
		s.store = right
		s.store["access_key_id"] = secret.New(s.s3.AppKey).Value()
		s.store["secret_access_key"] = secret.New(s.s3.AppSecret).Value()
		if err := s.client(t).CreateBucket(t.Context(), s.name(), ""); err != nil {
			t.Fatal(err)
		}
		s.fails(t, objectstore.ErrDenied, "AccessDenied", "key")
	})
}

func TestSomebodyElsesBucket(t *testing.T) {
	t.Run("seen by HeadBucket", func(t *testing.T) { // as AWS and B2 answer
		l := newLab(t)
		s, other := newSite(t, l, lab.B2), newSite(t, l, lab.B2)
		if err := other.client(t).CreateBucket(t.Context(), s.name(), ""); err != nil {
			t.Fatal(err)
		}
		s.fails(t, objectstore.ErrDenied, "look at the bucket", "another name")
	})
	t.Run("seen by CreateBucket", func(t *testing.T) { // where a bucket that is not one's own is not there
		l := newLab(t)
		s, other := newSite(t, l, lab.MinIO), newSite(t, l, lab.MinIO)
		if err := other.client(t).CreateBucket(t.Context(), s.name(), ""); err != nil {
			t.Fatal(err)
		}
		s.fails(t, objectstore.ErrDenied, "create the bucket", "another name")
	})
}

// TestUnreadableSettingsAreJudgedFromOutside: a key that may not read the policy or the ACL is no error by itself.
func TestUnreadableSettingsAreJudgedFromOutside(t *testing.T) {
	providers(t, func(t *testing.T, s *site) {
		s.must(t, resources.Create)
		s.s3.Fault(func(r *http.Request) *lab.Fault {
			if r.Method == http.MethodGet && (r.URL.Query().Has("policy") || r.URL.Query().Has("acl")) {
				return &lab.Fault{Status: 403, Code: "AccessDenied", Message: "x"}
			}
			return nil
		})
		if c := s.must(t, resources.None); !strings.Contains(strings.Join(c.Notes, " "), "judged by anonymous requests") {
			t.Errorf("notes = %q", c.Notes)
		}
		clear(s.records)
		s.must(t, resources.Look)
		s.must(t, resources.None)
		clear(s.records)
		s.s3.Fault(nil)
		if s.s3.Personality == lab.B2 {
			if err := s.client(t).PutBucketACL(t.Context(), s.name(), "private"); err != nil {
				t.Fatal(err)
			}
			s.s3.Fault(func(r *http.Request) *lab.Fault {
				if r.Method == http.MethodGet && r.URL.Query().Has("acl") {
					return &lab.Fault{Status: 403, Code: "AccessDenied", Message: "x"}
				}
				return nil
			})
			s.fails(t, nil, "nobody can read its objects", "console")
		}
	})
}

func TestStoreThatIsDown(t *testing.T) {
	s := newSite(t, newLab(t), lab.MinIO)
	s.store["endpoint"] = cty.StringVal("https://127.0.0.1:1")
	start := time.Now()
	s.fails(t, objectstore.ErrUnreachable, "connection refused", "curl")
	if took := time.Since(start); took > 5*time.Minute {
		t.Errorf("a plan against a store that is down took %s", took)
	}
	s.store["endpoint"] = cty.StringVal(s.s3.Endpoint)
	delete(s.store, "ca_file")
	s.fails(t, objectstore.ErrUnreachable, "certificate", "ca_file")
}

// TestStormIsWeathered fails every other request in turn with what stores answer when they are busy.
func TestStormIsWeathered(t *testing.T) {
	providers(t, func(t *testing.T, s *site) {
		n := 0
		s.s3.Fault(func(*http.Request) *lab.Fault {
			n++
			switch n % 4 {
			case 0:
				return &lab.Fault{Status: 503, Code: "SlowDown", Message: "x"}
			case 2:
				return &lab.Fault{Reset: true}
			}
			return nil
		})
		s.must(t, resources.Create)
		s.s3.Fault(nil)
		s.must(t, resources.None)
		if got := s.s3.Keys(s.name()); len(got) > 0 {
			t.Errorf("the probes left %q", got)
		}
	})
}

// TestEnvironmentIsIgnored: nothing of the SDK's own sources of configuration counts.
func TestEnvironmentIsIgnored(t *testing.T) {
	for _, name := range []string{
		"AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN", "AWS_PROFILE", "AWS_REGION", "AWS_DEFAULT_REGION",
		"AWS_CA_BUNDLE", "AWS_CONFIG_FILE", "AWS_SHARED_CREDENTIALS_FILE", "AWS_EXECUTION_ENV", "AWS_LAMBDA_FUNCTION_NAME",
		"_X_AMZN_TRACE_ID", "AWS_RETRY_MODE", "AWS_MAX_ATTEMPTS",
	} {
		t.Setenv(name, "junk")
	}
	for _, name := range []string{"AWS_ENDPOINT_URL", "AWS_ENDPOINT_URL_S3", "HTTPS_PROXY", "https_proxy", "ALL_PROXY"} {
		t.Setenv(name, "http://127.0.0.1:1")
	}
	t.Setenv("AWS_REQUEST_CHECKSUM_CALCULATION", "when_supported")
	t.Setenv("AWS_RESPONSE_CHECKSUM_VALIDATION", "when_supported")
	providers(t, func(t *testing.T, s *site) {
		s.must(t, resources.Create)
		s.must(t, resources.None)
	})
}

func TestObjects(t *testing.T) {
	providers(t, func(t *testing.T, s *site) {
		s.must(t, resources.Create)
		c, ctx := s.client(t), t.Context()
		put := func(key, text string, change func(*objectstore.Put)) error {
			p := objectstore.Put{
				Key: key, Body: strings.NewReader(text), Size: int64(len(text)), MD5: md5.Sum([]byte(text)),
				ContentType: "image/png", CacheControl: "public, max-age=315576000, immutable",
			}
			if change != nil {
				change(&p)
			}
			etag, err := c.Put(ctx, s.name(), p)
			if err == nil && etag != fmt.Sprintf("%x", p.MD5) {
				t.Errorf("ETag of %s = %s, want %x", key, etag, p.MD5)
			}
			return err
		}
		keys := []string{"accounts/avatars/1/ü b+&.png", "accounts/x.png", "accounts/x/y.png", "site_uploads/files/@1x/a'(1)!*~.png"}
		for _, key := range keys {
			if err := put(key, "body of "+key, nil); err != nil {
				t.Fatal(err)
			}
		}
		var got []string
		for o, err := range c.List(ctx, s.name(), "", "") {
			if err != nil {
				t.Fatal(err)
			}
			got = append(got, o.Key)
		}
		slices.Sort(keys)
		if !slices.Equal(got, keys) {
			t.Errorf("List = %q, want %q", got, keys)
		}
		body, header, _ := s.s3.Object(s.name(), keys[0])
		if string(body) != "body of "+keys[0] || header.Get("Content-Type") != "image/png" || !strings.Contains(header.Get("Cache-Control"), "immutable") {
			t.Errorf("the store holds %q with %v", body, header)
		}
		stream, err := c.Get(ctx, s.name(), keys[0])
		if err != nil {
			t.Fatal(err)
		}
		text, err := io.ReadAll(stream)
		if err != nil || string(text) != "body of "+keys[0] || stream.Close() != nil {
			t.Errorf("Get = %q, %v", text, err)
		}
		if err := put(keys[0], "other bytes", func(p *objectstore.Put) { p.IfAbsent = true }); !errors.Is(err, objectstore.ErrExists) {
			t.Errorf("IfAbsent on a taken key: %v, want ErrExists", err)
		}
		if err := put("new.png", "bytes", func(p *objectstore.Put) { p.IfAbsent = true }); err != nil {
			t.Errorf("IfAbsent on a free key: %v", err)
		}
		if err := put("wrong.png", "bytes", func(p *objectstore.Put) { p.MD5[0]++ }); !errors.Is(err, objectstore.ErrDigest) {
			t.Errorf("a wrong MD5: %v, want ErrDigest", err)
		}
		if err := c.Delete(ctx, s.name(), "new.png"); err != nil {
			t.Error(err)
		}
		if err := c.Delete(ctx, s.name(), "new.png"); err != nil {
			t.Errorf("deleting what is gone: %v, want no error", err)
		}
		if _, err := c.Head(ctx, s.name(), "new.png"); !errors.Is(err, objectstore.ErrNotFound) {
			t.Errorf("Head of what is gone: %v, want ErrNotFound", err)
		}
		if _, err := c.Get(ctx, "no-such-bucket", "x"); !errors.Is(err, objectstore.ErrNoBucket) {
			t.Errorf("Get from no bucket: %v, want ErrNoBucket", err)
		}
	})
}

// TestListingOverPages lists more than one page, from the middle and with a prefix too.
func TestListingOverPages(t *testing.T) {
	s := newSite(t, newLab(t), lab.MinIO)
	s.must(t, resources.Create)
	var want []string
	for i := range 1100 {
		key := fmt.Sprintf("cache/%03d/%04d.png", i%7, i)
		s.s3.Put(s.name(), key, []byte("x"), nil)
		want = append(want, key)
	}
	slices.Sort(want)
	c := s.client(t)
	list := func(prefix, after string) (keys []string) {
		for o, err := range c.List(t.Context(), s.name(), prefix, after) {
			if err != nil {
				t.Fatal(err)
			}
			keys = append(keys, o.Key)
		}
		return keys
	}
	if got := list("", ""); !slices.Equal(got, want) {
		t.Errorf("List gave %d keys, want %d in order", len(got), len(want))
	}
	if got := c.Requests()["ListObjectsV2"]; got != 2 {
		t.Errorf("%d requests for 1,100 keys, want 2", got)
	}
	if got := list("", want[999]); !slices.Equal(got, want[1000:]) {
		t.Errorf("List after the 1,000th gave %d keys, want %d", len(got), 100)
	}
	if got := list("cache/003/", ""); len(got) != 157 || got[0] != "cache/003/0003.png" {
		t.Errorf("List with a prefix gave %d keys, want 157", len(got))
	}
}

// TestBucketKindSuite runs the suite that every kind passes, each time on a bucket that is not there yet.
func TestBucketKindSuite(t *testing.T) {
	providers(t, func(t *testing.T, s *site) {
		config := maps.Clone(s.bucket)
		config["store"] = s.reference(t)
		config["app_credentials"] = cty.ObjectVal(map[string]cty.Value{
			"access_key_id": secret.New(s.s3.AppKey).Value(), "secret_access_key": secret.New(s.s3.AppSecret).Value(),
		})
		resourcetest.Run(t, resourcetest.Case{
			Kind:   s3bucket.Kind(objectstore.NewClients()),
			Config: config,
			Setup: func(*resourcetest.Host) {
				if slices.Contains(s.s3.Buckets(), s.name()) {
					s.deleteBucket(t)
				}
			},
			Drift: map[string]func(*resourcetest.Host){
				"access": func(*resourcetest.Host) {
					var err error
					if s.s3.Personality == lab.B2 {
						err = s.client(t).PutBucketACL(context.Background(), s.name(), "private")
					} else {
						err = s.client(t).DeleteBucketPolicy(context.Background(), s.name())
					}
					if err != nil {
						t.Fatal(err)
					}
				},
			},
			Secrets: []string{s.s3.AgentKey, s.s3.AgentSecret, s.s3.AppKey, s.s3.AppSecret},
		})
	})
}
