package ruby

import (
	"slices"
	"strings"
	"testing"

	"github.com/converge-agent/converge/dotenv"
	"github.com/converge-agent/converge/objectstore"
	"github.com/converge-agent/converge/test/lab"
)

// Sizes of uploads, on both sides of where Mastodon uploads in parts: 15 MiB, which the agent writes as well.
const (
	small = 4000
	large = 16 << 20
)

// TestMastodonAgrees: with the settings that the agent wrote, Mastodon's own client does at each provider all that Mastodon
// does with media, with the SDK that it had up to 4.5 and with what it has since.
func TestMastodonAgrees(t *testing.T) {
	w := newWorld(t)
	for _, p := range lab.Personalities() {
		t.Run(p.String(), func(t *testing.T) {
			t.Parallel()
			i := w.newInstance(t, p, agrees, "public-objects")
			i.isReadAlike(t)
			for name, newer := range map[string]bool{"SDK before 1.178": false, "SDK from 1.178": true} {
				t.Run(name, func(t *testing.T) {
					if got := i.load(t, newer, nil); got != "s3" {
						t.Fatalf("Mastodon stores media in the %s, want s3", got)
					}
					i.storesAndShows(t, newUpload(t, small), 0)
					i.storesAndShows(t, newUpload(t, large), 4)
					i.suspends(t, newUpload(t, small))
					i.deletesMany(t, newer)
				})
			}
		})
	}
}

// TestEveryProvenProviderIsTried: Ceph is proven on the server itself.
func TestEveryProvenProviderIsTried(t *testing.T) {
	var want, got []string
	for _, name := range objectstore.Names() {
		if p, _ := objectstore.Lookup(name); p.Proven && name != "ceph-rgw" {
			want = append(want, name)
		}
	}
	for _, p := range lab.Personalities() {
		got = append(got, p.String())
	}
	slices.Sort(got)
	if !slices.Equal(got, want) {
		t.Errorf("Mastodon's client is tried at %q; proven are %q", got, want)
	}
}

// isReadAlike compares what Ruby's dotenv and the agent read in the settings.
func (i *instance) isReadAlike(t *testing.T) {
	t.Helper()
	var read map[string]string
	i.ruby.must(t, order{"do": "parse", "file": i.dir + "/.env.production"}, &read)
	file := dotenv.Parse([]byte(i.settings))
	for name, value := range read {
		if got, ok := file.Get(name); !ok || got != value {
			t.Errorf("Ruby and the agent read %s differently", name)
		}
	}
	if read["S3_BUCKET"] != i.bucket || read["AWS_SECRET_ACCESS_KEY"] != i.appSecret || len(read) < 15 {
		t.Errorf("Ruby reads %d settings, and the bucket %q", len(read), read["S3_BUCKET"])
	}
}

// storesAndShows uploads a file, in so many parts where it is not 0, shows it to the world, reads it again, and deletes it.
func (i *instance) storesAndShows(t *testing.T, u *upload, parts int64) {
	t.Helper()
	i.store.ResetRequests()
	if err := i.put(t, u); err != nil {
		t.Fatalf("upload %d bytes: %v", len(u.content), err)
	}
	i.idle(t)
	if got := i.store.Requests(); got["UploadPart 2xx"] != parts || got["PutObject 2xx"] != min(1, max(0, 1-parts)) {
		t.Errorf("an upload of %d bytes made the requests %v, want %d parts", len(u.content), got, parts)
	}
	if err := i.shown(t, i.url(t, u), u); err != nil {
		t.Errorf("GET %s by anybody: %v", i.url(t, u), err)
	}
	var head struct {
		Size               int
		Type, CacheControl string
	}
	i.ruby.must(t, order{"do": "head", "key": u.key}, &head)
	if head.Size != len(u.content) || head.Type != u.kind {
		t.Errorf("HEAD of an upload: %+v, want %d bytes of %s", head, len(u.content), u.kind)
	}
	i.store.ResetRequests()
	var digest string
	i.ruby.must(t, order{"do": "get", "key": u.key}, &digest)
	i.idle(t)
	if digest != u.digest {
		t.Error("Mastodon reads other bytes than it has written")
	}
	if got := i.store.Requests(); got["GetObject 2xx"] != 1 || len(got) != 1 {
		t.Errorf("a download made the requests %v, want one GetObject", got)
	}
	i.ruby.must(t, order{"do": "delete", "keys": []string{u.key}}, nil)
	if keys := i.store.Keys(i.bucket); slices.Contains(keys, u.key) {
		t.Errorf("%s is still in the bucket after Mastodon has deleted it", u.key)
	}
}

// suspends hides and shows an upload as the suspension of its author does, where the provider has ACLs of objects. Nothing may
// be sent where it has none: such a call would fail.
func (i *instance) suspends(t *testing.T, u *upload) {
	t.Helper()
	if err := i.put(t, u); err != nil {
		t.Fatal(err)
	}
	for _, acl := range []any{"private", nil} {
		var done string
		i.ruby.must(t, order{"do": "permit", "key": u.key, "acl": acl}, &done)
		if want := map[bool]string{true: "sent", false: "nothing sent"}[i.provider.ObjectACL != ""]; done != want {
			t.Errorf("Mastodon changes an ACL: %s, want %s", done, want)
		}
		err := i.shown(t, i.url(t, u), u)
		if hidden := acl == "private" && i.provider.ObjectACL != ""; hidden != (err != nil) {
			t.Errorf("with the ACL %v the world gets: %v", acl, err)
		}
	}
}

// deletesMany deletes as the deletion of an account does. The newer SDK names a CRC32 in this request whatever the settings
// say, so that a store which refuses that header deletes nothing, and Mastodon tries again and gives up.
func (i *instance) deletesMany(t *testing.T, newer bool) {
	t.Helper()
	var keys []string
	for range 3 {
		u := newUpload(t, small)
		if err := i.put(t, u); err != nil {
			t.Fatal(err)
		}
		keys = append(keys, u.key)
	}
	i.store.ResetRequests()
	err := i.ruby.ask(t, order{"do": "delete", "keys": keys, "batch": true}, nil)
	i.idle(t)
	left := i.store.Keys(i.bucket)
	if newer && refusesChecksums(i.provider) {
		if err == nil || !strings.Contains(err.Error(), "x-amz-checksum") || !slices.Contains(left, keys[0]) {
			t.Errorf("DeleteObjects with a checksum at a store that refuses it: %v, left %q", err, left)
		}
		return
	}
	if err != nil {
		t.Fatalf("delete %d objects at once: %v", len(keys), err)
	}
	if got := i.store.Requests()["DeleteObjects 2xx"]; got != 1 {
		t.Errorf("%d requests DeleteObjects, want 1", got)
	}
	for _, k := range keys {
		if slices.Contains(left, k) {
			t.Errorf("%s is still in the bucket", k)
		}
	}
}
