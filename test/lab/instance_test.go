package lab_test

import (
	"bytes"
	"image"
	_ "image/jpeg"
	_ "image/png"
	"net/http"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/converge-agent/converge/test/lab"
)

func sample(t *testing.T, spec lab.InstanceSpec) *lab.Instance {
	t.Helper()
	i, err := lab.NewInstance(filepath.Join(t.TempDir(), "live"), spec)
	if err != nil {
		t.Fatal(err)
	}
	return i
}

// form is the layout of Paperclip: a class, an attachment, three groups of an id, or six, a style, a file.
var form = regexp.MustCompile(`^(cache/)?[a-z_]+/[a-z]+/(\d{3}/){3}((\d{3}/){3})?[a-z0-9@]+/[0-9a-f]{16}\.(png|jpg|jpeg|webp|mp4|zip|csv)$`)

func TestInstanceHasTheFormOfMastodon(t *testing.T) {
	i := sample(t, lab.InstanceSpec{})
	keys := i.Keys()
	if len(keys) != 2000 || !slices.IsSorted(keys) {
		t.Errorf("it has %d keys, sorted: %v", len(keys), slices.IsSorted(keys))
	}
	prefixes := map[string]int{}
	for _, k := range keys {
		if !form.MatchString(k) {
			t.Fatalf("%s has not the form of a key", k)
		}
		prefixes[strings.Join(strings.SplitN(k, "/", 3)[:2], "/")]++
		checkContent(t, k, i.Path(k))
	}
	for _, p := range []string{
		"media_attachments/files", "accounts/avatars", "accounts/headers", "custom_emojis/images", "site_uploads/files",
		"preview_card_providers/icons", "cache/media_attachments", "cache/accounts", "cache/custom_emojis", "cache/preview_cards", "backups/dumps", "imports/data",
	} {
		if prefixes[p] == 0 {
			t.Errorf("there is no %s", p)
		}
	}
	if !slices.ContainsFunc(keys, func(k string) bool { return strings.Contains(k, "/@1x/") }) {
		t.Error("no key has an @ in it")
	}
	if len(i.Private()) != 3 || len(i.Public()) != 1997 {
		t.Errorf("%d private and %d public keys", len(i.Private()), len(i.Public()))
	}
}

func checkContent(t *testing.T, key, path string) {
	t.Helper()
	body, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if len(body) < 300 || len(body) > 64<<10 {
		t.Errorf("%s has %d bytes", key, len(body))
	}
	want := map[string]string{"png": "image/png", "jpg": "image/jpeg", "peg": "image/jpeg", "ebp": "image/webp", "mp4": "video/mp4", "zip": "application/zip", "csv": "text/plain; charset=utf-8"}[key[len(key)-3:]]
	if got := http.DetectContentType(body); got != want {
		t.Errorf("%s is %s, not %s", key, got, want)
	}
	if want == "image/png" || want == "image/jpeg" {
		if _, _, err := image.Decode(bytes.NewReader(body)); err != nil {
			t.Errorf("%s cannot be decoded: %s", key, err)
		}
	}
}

func TestInstanceIsDecidedByItsSeed(t *testing.T) {
	one, same, other := sample(t, lab.InstanceSpec{Files: 60, Seed: 7}), sample(t, lab.InstanceSpec{Files: 60, Seed: 7}), sample(t, lab.InstanceSpec{Files: 60, Seed: 8})
	if !slices.Equal(one.Keys(), same.Keys()) || slices.Equal(one.Keys(), other.Keys()) {
		t.Error("the keys do not follow the seed")
	}
	for _, k := range one.Keys() {
		a, errA := os.ReadFile(one.Path(k))
		b, errB := os.ReadFile(same.Path(k))
		if errA != nil || errB != nil || !bytes.Equal(a, b) {
			t.Fatalf("%s differs: %v, %v", k, errA, errB)
		}
	}
	a, _ := os.ReadFile(one.EnvPath)
	b, _ := os.ReadFile(same.EnvPath)
	if bytes.Equal(a, b) {
		t.Error("two instances have the same secrets")
	}
}

func TestInstanceSettings(t *testing.T) {
	i := sample(t, lab.InstanceSpec{Files: 30, Domain: "a.test"})
	env, err := os.ReadFile(i.EnvPath)
	if err != nil {
		t.Fatal(err)
	}
	for _, line := range []string{"LOCAL_DOMAIN=a.test\n", "SECRET_KEY_BASE=", "\n# Redis\n"} {
		if !bytes.Contains(env, []byte(line)) {
			t.Errorf("the settings lack %q", line)
		}
	}
	if bytes.Contains(env, []byte("S3_")) {
		t.Error("the settings have S3 in them before anybody wrote it there")
	}
	version, err := os.ReadFile(filepath.Join(i.Dir, "lib/mastodon/version.rb"))
	if err != nil || !bytes.Contains(version, []byte("def major\n      4\n")) {
		t.Errorf("version.rb: %v", err)
	}
	if err := i.Add("media_attachments/files/109/000/000/000/000/001/original/00000000000000ab.png", []byte("new")); err != nil {
		t.Fatal(err)
	}
	if len(i.Keys()) != 31 || !slices.IsSorted(i.Keys()) {
		t.Errorf("after an upload: %d keys", len(i.Keys()))
	}
}
