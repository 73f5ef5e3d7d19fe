package objectstore

import (
	"context"
	"errors"
	"fmt"
	"io"
	"maps"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/converge-agent/converge/diag"
)

// world is a store that lets the world do what its fields say.
type world struct {
	mu                            sync.Mutex
	objects                       map[string]string
	get, list, listV1, put, erase bool
	open                          string // a prefix that can be read whatever the others
	lies                          bool   // says that it did not delete what it deleted
	broken                        string
	cancel                        func()
	keysAsked                     []string
}

func (o *world) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	o.mu.Lock()
	defer o.mu.Unlock()
	signed := r.Header.Get("Authorization") != ""
	key := strings.TrimPrefix(strings.TrimPrefix(r.URL.Path, "/media"), "/")
	if !signed {
		o.keysAsked = append(o.keysAsked, r.Method+" "+key)
		if o.broken == r.Method {
			if o.cancel != nil {
				o.cancel()
			}
			w.WriteHeader(http.StatusInternalServerError)
			return
		}
	}
	may := signed
	switch {
	case signed:
	case r.Method == http.MethodGet && key == "":
		may = r.URL.Query().Has("list-type") && o.list || !r.URL.Query().Has("list-type") && o.listV1
	case r.Method == http.MethodGet && o.open != "" && strings.HasPrefix(key, o.open):
		may = true
	case r.Method == http.MethodGet && (strings.HasPrefix(key, "backups/") || strings.HasPrefix(key, "imports/")):
	case r.Method == http.MethodGet:
		may = o.get
	case r.Method == http.MethodPut:
		may = o.put
	case r.Method == http.MethodDelete:
		may = o.erase
	}
	if !may {
		if r.Method == http.MethodDelete && o.lies {
			delete(o.objects, key)
		}
		w.WriteHeader(http.StatusForbidden)
		return
	}
	o.serve(w, r, key)
}

func (o *world) serve(w http.ResponseWriter, r *http.Request, key string) {
	switch body, ok := o.objects[key]; {
	case r.Method == http.MethodPut:
		text, _ := io.ReadAll(r.Body)
		o.objects[key] = string(text)
		w.Header().Set("ETag", `"`+etagOf(string(text))+`"`)
	case r.Method == http.MethodDelete:
		delete(o.objects, key)
		w.WriteHeader(http.StatusNoContent)
	case key != "" && !ok:
		w.WriteHeader(http.StatusNotFound)
	case key == "" && r.Header.Get("Authorization") != "":
		o.listing(w, r.URL.Query().Get("prefix"))
	default:
		_, _ = io.WriteString(w, body)
	}
}

func (o *world) listing(w io.Writer, prefix string) {
	_, _ = fmt.Fprintf(w, "<ListBucketResult><Name>media</Name><Prefix>%s</Prefix><MaxKeys>1000</MaxKeys><IsTruncated>false</IsTruncated>", prefix)
	for _, key := range slices.Sorted(maps.Keys(o.objects)) {
		if strings.HasPrefix(key, prefix) {
			_, _ = fmt.Fprintf(w, `<Contents><Key>%s</Key><LastModified>2026-01-01T00:00:00.000Z</LastModified><ETag>"%s"</ETag><Size>%d</Size></Contents>`,
				key, etagOf(o.objects[key]), len(o.objects[key]))
		}
	}
	_, _ = io.WriteString(w, "</ListBucketResult>")
}

var publicProbes = Probes{Bucket: "media", Public: true, PublicPrefix: "accounts/", PrivatePrefixes: []string{"backups/", "imports/"}}

func TestProbe(t *testing.T) {
	private := Probes{Bucket: "media", PublicPrefix: "accounts/"}
	tests := []struct {
		name   string
		world  *world
		probes Probes
		want   string // the verdicts
		failed string // the names of the wrong ones
	}{
		{"as it should be", &world{get: true}, publicProbes, "anonymous GET 200; LIST, PUT, DELETE, backups/, imports/ 403", ""},
		{"private", &world{}, private, "anonymous GET, LIST, PUT, DELETE 403", ""},
		{"private but readable", &world{get: true}, private, "anonymous GET 200; LIST, PUT, DELETE 403", "GET"},
		{"not readable", &world{}, publicProbes, "anonymous GET, LIST, PUT, DELETE, backups/, imports/ 403", "GET"},
		{"listable", &world{get: true, list: true, listV1: true}, publicProbes, "anonymous GET, LIST 200; PUT, DELETE, backups/, imports/ 403", "LIST"},
		{"listable in the new way", &world{get: true, list: true}, publicProbes, "anonymous GET, LIST 200; PUT, DELETE, backups/, imports/ 403", "LIST"},
		{"listable in the old way", &world{get: true, listV1: true}, publicProbes, "anonymous GET, LIST 200; PUT, DELETE, backups/, imports/ 403", "LIST"},
		{"writable", &world{get: true, put: true}, publicProbes, "anonymous GET 200; LIST 403; PUT 200; DELETE, backups/, imports/ 403", "PUT"},
		{"erasable", &world{get: true, erase: true}, publicProbes, "anonymous GET 200; LIST, PUT 403; DELETE 204; backups/, imports/ 403", "DELETE"},
		{"erased in silence", &world{get: true, lies: true}, publicProbes, "anonymous GET 200; LIST, PUT, DELETE, backups/, imports/ 403", "DELETE"},
		{"imports readable", &world{get: true, open: "imports/"}, publicProbes, "anonymous GET 200; LIST, PUT, DELETE, backups/ 403; imports/ 200", "imports/"},
		{"private but for one prefix", &world{open: "cache/"}, Probes{Bucket: "media", PrivatePrefixes: []string{"accounts/", "cache/"}},
			"anonymous GET, LIST, PUT, DELETE, accounts/ 403; cache/ 200", "cache/"},
		{"backups readable", &world{get: true, open: "backups/"}, publicProbes, "anonymous GET 200; LIST, PUT, DELETE 403; backups/ 200; imports/ 403", "backups/"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			tt.world.objects = map[string]string{"accounts/theirs.png": "x"}
			s := serve(t, "minio", tt.world.ServeHTTP)
			verdicts, err := s.Probe(t.Context(), tt.probes)
			if err != nil {
				t.Fatal(err)
			}
			var failed []string
			for _, v := range verdicts.Failed() {
				failed = append(failed, v.Name)
			}
			if verdicts.String() != tt.want || strings.Join(failed, " ") != tt.failed {
				t.Errorf("verdicts = %s, failed %q\nwant       %s, failed %q", verdicts, failed, tt.want, tt.failed)
			}
			tt.world.left(t)
			for _, asked := range tt.world.keysAsked {
				if strings.Contains(asked, "theirs") {
					t.Errorf("a probe touched an object that is not its own: %s", asked)
				}
			}
		})
	}
}

// left checks that nothing but what was there before is in the bucket.
func (o *world) left(t *testing.T) {
	t.Helper()
	o.mu.Lock()
	defer o.mu.Unlock()
	if keys := slices.Sorted(maps.Keys(o.objects)); !slices.Equal(keys, []string{"accounts/theirs.png"}) {
		t.Errorf("after the probes the bucket holds %q", keys)
	}
}

func TestProbeCleansUpWhenItFails(t *testing.T) {
	for _, method := range []string{http.MethodGet, http.MethodPut, http.MethodDelete} {
		t.Run(method, func(t *testing.T) {
			ctx, cancel := context.WithCancel(t.Context())
			o := &world{get: true, broken: method, cancel: cancel, objects: map[string]string{"accounts/theirs.png": "x"}}
			s := serve(t, "minio", o.ServeHTTP)
			if _, err := s.Probe(ctx, publicProbes); !errors.Is(err, context.Canceled) {
				t.Errorf("error = %v, want context.Canceled", err)
			}
			o.left(t)
		})
	}
}

// TestProbeRemovesWhatAKilledRunLeft, but nothing of another host's run, which may be going on.
func TestProbeRemovesWhatAKilledRunLeft(t *testing.T) {
	o := &world{get: true, objects: map[string]string{
		probeKey("accounts/") + "LEFT": "x", probeKey("imports/") + "LEFT": "x", "accounts/converge-probe-another-HOST": "x", "accounts/theirs.png": "x",
	}}
	s := serve(t, "minio", o.ServeHTTP)
	if _, err := s.Probe(t.Context(), publicProbes); err != nil {
		t.Fatal(err)
	}
	delete(o.objects, "accounts/converge-probe-another-HOST")
	o.left(t)
}

func TestProbeSaysWhatItLeftBehind(t *testing.T) {
	s := serve(t, "minio", func(w http.ResponseWriter, r *http.Request) {
		body, _ := io.ReadAll(r.Body)
		switch r.Method {
		case http.MethodPut:
			if r.Header.Get("Authorization") == "" {
				w.WriteHeader(http.StatusForbidden)
				return
			}
			w.Header().Set("ETag", `"`+etagOf(string(body))+`"`)
		case http.MethodDelete:
			w.WriteHeader(http.StatusForbidden)
		}
	})
	_, err := s.Probe(t.Context(), Probes{Bucket: "media", Public: true, PublicPrefix: "accounts/"})
	if err == nil || !strings.Contains(diag.Fix(err), "by hand") {
		t.Errorf("error = %v, fix %q; want the object named that stays", err, diag.Fix(err))
	}
}

// TestProbeWaitsForAPolicyToShow: a policy that shows after a second is no failure where that may take a while.
func TestProbeWaitsForAPolicyToShow(t *testing.T) {
	o := &world{objects: map[string]string{"accounts/theirs.png": "x"}}
	s := serve(t, "minio", o.ServeHTTP)
	timer := time.AfterFunc(300*time.Millisecond, func() {
		o.mu.Lock()
		defer o.mu.Unlock()
		o.get = true
	})
	defer timer.Stop()
	what := publicProbes
	what.Settle = time.Minute
	verdicts, err := s.Probe(t.Context(), what)
	if err != nil || len(verdicts.Failed()) > 0 {
		t.Errorf("verdicts = %s, %v; want none wrong", verdicts, err)
	}
}

// versioned is a store that keeps all versions of an object, newest last, and loses the answer to its first PUT.
type versioned struct {
	mu       sync.Mutex
	versions map[string][]string // ids by key
	ids      int
	stays    bool // what is deleted stays
	deletes  int
}

func (v *versioned) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	v.mu.Lock()
	defer v.mu.Unlock()
	body, _ := io.ReadAll(r.Body)
	key := r.URL.Path
	switch {
	case r.Header.Get("Authorization") == "" && r.Method != http.MethodGet:
		w.WriteHeader(http.StatusForbidden)
	case r.Method == http.MethodPut:
		v.ids++
		id := fmt.Sprint("4_z", v.ids)
		v.versions[key] = append(v.versions[key], id)
		if v.ids == 1 {
			w.WriteHeader(http.StatusInternalServerError) // it was stored nevertheless
			return
		}
		w.Header().Set("ETag", `"`+etagOf(string(body))+`"`)
		w.Header().Set("X-Amz-Version-Id", id)
	case r.Method == http.MethodDelete:
		v.deletes++
		if !v.stays {
			v.versions[key] = slices.DeleteFunc(v.versions[key], func(id string) bool { return id == r.URL.Query().Get("versionId") })
		}
		w.WriteHeader(http.StatusNoContent)
	case r.Method == http.MethodHead && len(v.versions[key]) == 0:
		w.WriteHeader(http.StatusNotFound)
	case r.Method == http.MethodHead:
		w.Header().Set("X-Amz-Version-Id", v.versions[key][len(v.versions[key])-1])
	}
}

// TestProbeRemovesAllVersionsThatItWrote: at B2 a hidden version is kept and billed, and the one below a version that was
// deleted by its id shows again, to the world.
func TestProbeRemovesAllVersionsThatItWrote(t *testing.T) {
	v := &versioned{versions: map[string][]string{}}
	s := serve(t, "backblaze-b2", v.ServeHTTP)
	if _, err := s.Probe(t.Context(), Probes{Bucket: "media", Public: true}); err != nil {
		t.Fatal(err)
	}
	if v.ids != 2 {
		t.Errorf("%d versions were written, want 2: the test is of an upload that is sent twice", v.ids)
	}
	for key, ids := range v.versions {
		if len(ids) > 0 {
			t.Errorf("%s stays in versions %q", key, ids)
		}
	}
}

// TestProbeGivesUpOnWhatStays: a store that deletes nothing is asked a few times, and the object that stays is named.
func TestProbeGivesUpOnWhatStays(t *testing.T) {
	v := &versioned{versions: map[string][]string{}, stays: true}
	s := serve(t, "backblaze-b2", v.ServeHTTP)
	_, err := s.Probe(t.Context(), Probes{Bucket: "media", Public: true})
	if err == nil || !strings.Contains(diag.Fix(err), "by hand") || v.deletes != maxDeletes {
		t.Errorf("error = %v, fix %q after %d deletions; want the object named after %d", err, diag.Fix(err), v.deletes, maxDeletes)
	}
}

// TestLaw3ProbesDeleteTheirOwnOnly: a store, or a proxy before it, that lists more than it was asked for names the media as what an
// earlier run has left.
func TestLaw3ProbesDeleteTheirOwnOnly(t *testing.T) {
	const theirs = "accounts/theirs.png"
	listing := "<Contents><Key>%s</Key><Size>1</Size></Contents>"
	for _, provider := range []string{"minio", "backblaze-b2"} {
		left := probeKey("accounts/") + "LEFT"
		if provider == "backblaze-b2" {
			listing = "<Version><Key>%s</Key><VersionId>1</VersionId></Version>"
		}
		var mu sync.Mutex
		var deleted []string
		s := serve(t, provider, func(w http.ResponseWriter, r *http.Request) {
			body, _ := io.ReadAll(r.Body)
			mu.Lock()
			defer mu.Unlock()
			switch {
			case r.Header.Get("Authorization") == "":
				w.WriteHeader(http.StatusForbidden)
			case r.Method == http.MethodPost, r.Method == http.MethodDelete:
				deleted = append(deleted, r.URL.Path+string(body))
				w.WriteHeader(http.StatusNoContent)
			case r.Method == http.MethodPut:
				w.Header().Set("ETag", `"`+etagOf(string(body))+`"`)
			case r.Method == http.MethodHead && len(deleted) > 0:
				w.WriteHeader(http.StatusNotFound)
			case r.Method == http.MethodGet:
				_, _ = fmt.Fprintf(w, "<ListBucketResult><IsTruncated>false</IsTruncated>"+listing+listing+"</ListBucketResult>", left, theirs)
			}
		})
		_, _ = s.Probe(t.Context(), Probes{Bucket: "media", PublicPrefix: "accounts/"}) // how it ends does not matter
		all := strings.Join(deleted, "\n")
		if strings.Contains(all, theirs) || !strings.Contains(all, "converge-probe") {
			t.Errorf("%s: deleted was\n%s", provider, all)
		}
	}
}

// TestLaw8NoAnswerAtTheDomainIsNoVerdict: where objects can be read at a custom domain, that nothing answers the other probes does
// not mean that all is well there.
func TestLaw8NoAnswerAtTheDomainIsNoVerdict(t *testing.T) {
	for _, tt := range []struct {
		get  int // what the domain answers to a GET of an object
		want string
	}{
		{http.StatusOK, "error"},
		{http.StatusNotFound, "anonymous GET 404; GET, LIST, PUT, DELETE at the endpoint 403"},
	} {
		synctest.Test(t, func(t *testing.T) {
			o := &world{objects: map[string]string{}}
			s := within(t, func(r *http.Request) (*http.Response, error) {
				rec := httptest.NewRecorder()
				switch {
				case r.URL.Host != "domain.example":
					o.ServeHTTP(rec, r)
				case r.Method == http.MethodGet && r.URL.Path != "/":
					rec.WriteHeader(tt.get)
				default:
					rec.WriteHeader(http.StatusInternalServerError)
				}
				return rec.Result(), nil
			})
			s.provider, _ = Lookup("cloudflare-r2")
			verdicts, err := s.Probe(t.Context(), Probes{Bucket: "media", Public: true, PublicPrefix: "accounts/", PublicURL: "https://domain.example"})
			got := verdicts.String()
			if errors.Is(err, ErrUnreachable) {
				got = "error"
			} else if err != nil {
				t.Error(err)
			}
			if got != tt.want {
				t.Errorf("with GET %d: %s, want %s", tt.get, got, tt.want)
			}
		})
	}
}
