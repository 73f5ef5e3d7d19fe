package objectstore

import (
	"errors"
	"io"
	"net/http"
	"slices"
	"strings"
	"testing"
)

// TestBucketACLForEverybody: who has any account with the provider counts as everybody, for anybody may have one; single accounts do
// not.
func TestBucketACLForEverybody(t *testing.T) {
	grant := func(grantee, permission string) string {
		return `<Grant><Grantee xmlns:xsi="http://www.w3.org/2001/XMLSchema-instance" xsi:type="Group">` + grantee + `</Grantee><Permission>` + permission + `</Permission></Grant>`
	}
	group := func(name string) string { return "<URI>http://acs.amazonaws.com/groups/global/" + name + "</URI>" }
	s := serve(t, "minio", func(w http.ResponseWriter, _ *http.Request) {
		_, _ = io.WriteString(w, `<AccessControlPolicy><Owner><ID>me</ID></Owner><AccessControlList>`+
			grant("<ID>me</ID>", "FULL_CONTROL")+grant(group("AllUsers"), "WRITE")+grant(group("AuthenticatedUsers"), "READ")+
			grant("<ID>you</ID>", "READ")+`</AccessControlList></AccessControlPolicy>`)
	})
	got, err := s.GetBucketACL(t.Context(), "media")
	if want := []string{"WRITE", "READ with any account"}; err != nil || !slices.Equal(got, want) {
		t.Errorf("GetBucketACL = %q, %v; want %q", got, err, want)
	}
}

// TestDocumentRequests: a document goes out byte by byte, with its MD5 and no x-amz-checksum, and what comes back is checked.
func TestDocumentRequests(t *testing.T) {
	var put string
	answers := map[string]func(http.ResponseWriter){
		"broken": func(w http.ResponseWriter) { _, _ = io.WriteString(w, "<html>sign in") },
		"none": func(w http.ResponseWriter) {
			w.WriteHeader(http.StatusNotFound)
			_, _ = io.WriteString(w, "<Error><Code>NoSuchLifecycleConfiguration</Code></Error>")
		},
		"nobucket": func(w http.ResponseWriter) {
			w.WriteHeader(http.StatusNotFound)
			_, _ = io.WriteString(w, "<Error><Code>NoSuchBucket</Code></Error>")
		},
		"denied": func(w http.ResponseWriter) {
			w.WriteHeader(http.StatusForbidden)
			_, _ = io.WriteString(w, "<Error><Code>AccessDenied</Code><Message>"+testSecret+"</Message></Error>")
		},
		"unknown": func(w http.ResponseWriter) { w.WriteHeader(http.StatusNotImplemented) },
	}
	s := serve(t, "minio", func(w http.ResponseWriter, r *http.Request) {
		if !r.URL.Query().Has("lifecycle") || !strings.HasPrefix(r.Header.Get("Authorization"), "AWS4-HMAC-SHA256 ") {
			t.Errorf("%s %s without a signature or for something else", r.Method, r.URL)
		}
		if r.Method == http.MethodPut {
			for name := range r.Header {
				if strings.HasPrefix(strings.ToLower(name), "x-amz-checksum") {
					t.Errorf("it sends %s", name)
				}
			}
			if r.Header.Get("Content-Md5") == "" {
				t.Error("it sends no MD5")
			}
			body, _ := io.ReadAll(r.Body)
			put = string(body)
			return
		}
		name := strings.Trim(r.URL.Path, "/")
		answers[name](w)
	})
	for name, want := range map[string]error{"none": nil, "nobucket": ErrNoBucket, "denied": ErrDenied, "unknown": ErrRejected} {
		rules, err := s.GetRules(t.Context(), name, Lifecycle)
		if !errors.Is(err, want) || want == nil && (err != nil || !rules.Empty()) || Unsupported(err) != (name == "unknown") {
			t.Errorf("%s: %+v, %v; want %v", name, rules, err, want)
		}
		if err != nil && strings.Contains(err.Error(), testSecret) {
			t.Errorf("%s: the error shows the key", name)
		}
	}
	if _, err := s.GetRules(t.Context(), "broken", Lifecycle); err == nil {
		t.Error("a page of something else was taken for a lifecycle")
	}
	none, err := s.GetRules(t.Context(), "none", Lifecycle)
	if err != nil {
		t.Fatal(err)
	}
	ours := LifecycleRule{HiddenVersionsDays: 7}.Rule()
	if err := s.PutRules(t.Context(), "media", none.With(ours, ours)); err != nil {
		t.Fatal(err)
	}
	want := `<LifecycleConfiguration xmlns="http://s3.amazonaws.com/doc/2006-03-01/"><Rule><ID>converge</ID><Status>Enabled</Status><Filter><Prefix></Prefix></Filter>` +
		`<NoncurrentVersionExpiration><NoncurrentDays>7</NoncurrentDays></NoncurrentVersionExpiration></Rule></LifecycleConfiguration>`
	if put != want {
		t.Errorf("sent  %s\nwant  %s", put, want)
	}
}

// TestLifecycleKeepsWhatGoesWithIt: the header that says which objects the transitions of others leave alone.
func TestLifecycleKeepsWhatGoesWithIt(t *testing.T) {
	for _, had := range []string{"varies_by_storage_class", ""} {
		put := "nothing"
		s := serve(t, "minio", func(w http.ResponseWriter, r *http.Request) {
			if r.Method == http.MethodPut {
				put = r.Header.Get("X-Amz-Transition-Default-Minimum-Object-Size")
				if strings.Contains(strings.ToLower(r.Header.Get("Authorization")), "x-amz-transition") != (had != "") {
					t.Errorf("signed was %s", r.Header.Get("Authorization"))
				}
				return
			}
			if had != "" {
				w.Header().Set("X-Amz-Transition-Default-Minimum-Object-Size", had)
			}
			_, _ = io.WriteString(w, "<LifecycleConfiguration><Rule><ID>theirs</ID></Rule></LifecycleConfiguration>")
		})
		rules, err := s.GetRules(t.Context(), "media", Lifecycle)
		if err != nil {
			t.Fatal(err)
		}
		ours := LifecycleRule{HiddenVersionsDays: 7}.Rule()
		if err := s.PutRules(t.Context(), "media", rules.With(ours, ours)); err != nil || put != had {
			t.Errorf("it had %q, and %q went out: %v", had, put, err)
		}
	}
}
