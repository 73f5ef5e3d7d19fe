package s3sync

import (
	"bytes"
	"context"
	"crypto/md5"
	"encoding/hex"
	"errors"
	"fmt"
	"strings"
	"testing"
	"testing/iotest"
	"time"

	"github.com/converge-agent/converge/host"
	"github.com/google/go-cmp/cmp"
	"github.com/zclconf/go-cty/cty"
)

func TestFilter(t *testing.T) {
	cases := []struct {
		prefix           string
		include, exclude []string
		path, want       string
	}{
		{"", nil, nil, "accounts/x.png", ""},
		{"", nil, nil, "backups/dumps/x.zip", "backups/"},
		{"", nil, nil, "imports/x.csv", "imports/"},
		{"", nil, nil, "backups", ""},
		{"", nil, nil, "cache/backups/x", "backups/"},
		{"", nil, nil, "system/backups/dumps/x.zip", "backups/"},
		{"", nil, nil, "system/imports/data/x.csv", "imports/"},
		{"", nil, nil, "my-backups/x", ""},
		{"media/backups/", nil, nil, "x.zip", "backups/"},
		{"", []string{"**"}, nil, "backups/dumps/x.zip", "backups/"},
		{"", []string{"backups/**"}, nil, "backups/dumps/x.zip", "backups/"},
		{"backups/", nil, nil, "dumps/x.zip", "backups/"},
		{"media/", nil, []string{"media/cache/**"}, "cache/x", "media/cache/"},
		{"", nil, []string{"cache/preview_cards/**"}, "cache/preview_cards/a/b.jpg", "cache/preview_cards/"},
		{"", nil, []string{"*.tmp"}, "a.tmp", "*.tmp"},
		{"", nil, []string{"*.tmp"}, "a/b.tmp", ""},
		{"", nil, []string{"**/*.tmp"}, "a.tmp", "**/*.tmp"},
		{"", nil, []string{"**/*.tmp"}, "a/b/c.tmp", "**/*.tmp"},
		{"", nil, []string{"?.png"}, "ab.png", ""},
		{"", nil, []string{"?.png"}, "é.png", "?.png"},
		{"", nil, []string{"a+(b)[c].png"}, "a+(b)[c].png", "a+(b)[c].png"},
		{"", nil, []string{"a.png"}, "aXpng", ""},
		{"", []string{"accounts/**"}, nil, "accounts/x", ""},
		{"", []string{"accounts/**"}, nil, "cache/x", "not included"},
	}
	for _, c := range cases {
		f, err := newFilter(c.prefix, c.include, c.exclude)
		if err != nil {
			t.Errorf("%+v: %v", c, err)
			continue
		}
		if got := f.leftOut(c.path); got != c.want {
			t.Errorf("%q with prefix %q, include %q, exclude %q: got %q, want %q", c.path, c.prefix, c.include, c.exclude, got, c.want)
		}
	}
	for _, bad := range []string{"", "/home/x/**", "./x"} {
		if _, err := newFilter("", nil, []string{bad}); err == nil {
			t.Errorf("exclude %q: got no error", bad)
		}
	}
}

// A file system that is mounted again may have another device number.
func TestFileIsTheSameOnAnotherDevice(t *testing.T) {
	e := host.Entry{Key: "x", Size: 1, Inode: 7, Dev: 1}
	again := e
	again.Dev = 2
	if fileOf(e) != fileOf(again) {
		t.Error("it counts as another file")
	}
}

func TestPrivateSource(t *testing.T) {
	for source, want := range map[string]string{
		"/home/mastodon/live/public/system":               "",
		"/home/mastodon/live/public":                      "",
		"/srv/backups/mastodon/public/system":             "",
		"/srv/backups/mastodon/public/system/accounts":    "",
		"/home/mastodon/live/public/system/backups":       "backups/",
		"/home/mastodon/live/public/system/backups/dumps": "backups/",
		"/srv/media/imports":                              "imports/",
	} {
		b := newBench(t)
		if b.dir = source; want == "" {
			b.resource()
		} else if _, err := b.make(); err == nil {
			t.Errorf("%s: it was accepted", source)
		}
		if got := privateSource(source); got != want {
			t.Errorf("%s: got %q, want %q", source, got, want)
		}
	}
}

func TestContentType(t *testing.T) {
	cases := []struct{ key, head, want string }{
		{"a.png", "anything", "image/png"},
		{"a.JPEG", "", "image/jpeg"},
		{"a.mov", "", "video/quicktime"},
		{"a.m4a", "", "audio/mp4"},
		{"a", "\x89PNG\x0d\x0a\x1a\x0a", "image/png"},
		{"a", "GIF89a", "image/gif"},
		{"a", "<html><script>", "application/octet-stream"},
		{"a.html", "<html><script>", "application/octet-stream"},
		{"a.png.html", "\xff\xd8\xff", "image/jpeg"},
		{"a", "", "application/octet-stream"},
	}
	for _, c := range cases {
		if got := contentType(c.key, []byte(c.head)); got != c.want {
			t.Errorf("%s, %q: got %s, want %s", c.key, c.head, got, c.want)
		}
	}
}

func TestCompare(t *testing.T) {
	body := bytes.Repeat([]byte("0123456789abcdef"), 20<<20/16) // 20 MiB
	whole := hexMD5(body)
	parts := func(size int) string {
		var sums []byte
		n := 0
		for rest := body; len(rest) > 0; n++ {
			part := rest[:min(size, len(rest))]
			rest = rest[len(part):]
			sum := md5.Sum(part)
			sums = append(sums, sum[:]...)
		}
		return fmt.Sprintf("%s-%d", hexMD5(sums), n)
	}
	cases := []struct {
		name string
		size int64
		etag string
		want comparison
	}{
		{"one part", 20 << 20, whole, same},
		{"upper case", 20 << 20, strings.ToUpper(whole), same},
		{"other bytes", 20 << 20, hexMD5([]byte("x")), different},
		{"other size", 20<<20 - 1, whole, different},
		{"parts of aws", 20 << 20, parts(8 << 20), same},
		{"parts of Ruby's SDK, the last one full", 20 << 20, parts(5 << 20), same},
		{"parts of mc", 20 << 20, parts(16 << 20), same},
		{"one part of many", 20 << 20, parts(100 << 20), same},
		{"parts of an odd size", 20 << 20, parts(7 << 20), unknown},
		{"other bytes in parts", 20 << 20, hexMD5([]byte("x")) + "-3", unknown},
		{"no digest", 20 << 20, "abc", unknown},
	}
	for _, c := range cases {
		d, err := digestOf(t.Context(), iotest.HalfReader(bytes.NewReader(body)), int64(len(body)), c.etag)
		if err != nil {
			t.Fatal(err)
		}
		if got := d.compare(c.size, c.etag); got != c.want {
			t.Errorf("%s: got %d, want %d", c.name, got, c.want)
		}
	}
}

func TestDigestEndsWithContext(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := digestOf(ctx, strings.NewReader("x"), 1, ""); !errors.Is(err, context.Canceled) {
		t.Errorf("got %v, want context.Canceled", err)
	}
}

func hexMD5(b []byte) string {
	sum := md5.Sum(b)
	return hex.EncodeToString(sum[:])
}

func TestGate(t *testing.T) {
	repeats := int64(0)
	g := newGate(20, func() int64 { return repeats })
	round := func() { // each of the turns that there are is taken, and given back
		n := g.size
		for range n {
			if !g.enter(t.Context()) {
				t.Fatal("no turn")
			}
		}
		for range n {
			g.leave()
		}
	}
	var sizes []int
	for i := range 9 {
		if i == 2 || i == 3 || i == 5 {
			repeats++
		}
		round()
		sizes = append(sizes, g.size)
	}
	if diff := cmp.Diff([]int{16, 20, 10, 5, 6, 3, 4, 5, 6}, sizes); diff != "" {
		t.Errorf("bounds (-want +got):\n%s", diff)
	}
	for range 6 {
		if !g.enter(t.Context()) {
			t.Fatal("fewer turns than the bound")
		}
	}
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Millisecond)
	defer cancel()
	if g.enter(ctx) {
		t.Error("more turns than the bound")
	}
}

func TestWords(t *testing.T) {
	for n, want := range map[int64]string{0: "0", 999: "999", 1000: "1,000", 2913406: "2,913,406"} {
		if got := count(n); got != want {
			t.Errorf("count(%d): got %q, want %q", n, got, want)
		}
	}
	for n, want := range map[int64]string{
		0: "0 B", 999: "999 B", 1000: "1.0 kB", 38_200_000: "38.2 MB", 999_960: "1.0 MB", 396_300_000_000: "396.3 GB", 2e15: "2000.0 TB",
	} {
		if got := size(n); got != want {
			t.Errorf("size(%d): got %q, want %q", n, got, want)
		}
	}
	for d, want := range map[time.Duration]string{
		time.Second / 2: "1 s", 40 * time.Second: "40 s", 50 * time.Minute: "50 min", 7 * time.Hour: "7 h", 72 * time.Hour: "3 days",
	} {
		if got := about(d); got != want {
			t.Errorf("about(%s): got %q, want %q", d, got, want)
		}
	}
}

func TestSummaryTellsTheTime(t *testing.T) {
	b := newBench(t)
	b.config["bandwidth"] = cty.StringVal("20MB/s")
	b.config["max_runtime"] = cty.StringVal("50m")
	st := &state{list: "x", owed: tally{2_913_406, 396_300_000_000}, leftOut: map[string]tally{"backups/": {3, 1_900_000_000}}}
	c := b.resource().Diff(st)
	want := "~2,913,406 files, 396.3 GB to copy, ~2,913,406 PUT, ~6 h at 20.0 MB/s in runs of 50 min; not copied: backups/ 3 files 1.9 GB"
	if c.Summary != want {
		t.Errorf("got  %s\nwant %s", c.Summary, want)
	}
	var verbs []string
	for _, e := range c.Effects {
		verbs = append(verbs, fmt.Sprintf("%s %s %d %d", e.Verb, e.Target, e.Requests, e.Bytes))
	}
	if diff := cmp.Diff([]string{"sync media/ 2916320 396300000000"}, verbs); diff != "" {
		t.Errorf("effects (-want +got):\n%s", diff)
	}
}

func TestLeavesOutLinksByWhatIsBelow(t *testing.T) {
	f, err := newFilter("", nil, []string{"cache/**"})
	if err != nil {
		t.Fatal(err)
	}
	for e, want := range map[host.Entry]string{
		{Key: "cache", Skipped: "a link"}: "cache/", {Key: "accounts", Skipped: "a link"}: "", {Key: "cache"}: "", {Key: "cache/x"}: "cache/",
	} {
		if got := f.leavesOut(e); got != want {
			t.Errorf("%+v: got %q, want %q", e, got, want)
		}
	}
}

func TestBadConfiguration(t *testing.T) {
	for name, bad := range map[string]map[string]cty.Value{
		"prefix":      {"prefix": cty.StringVal("/media")},
		"prefix up":   {"prefix": cty.StringVal("a/../b")},
		"concurrency": {"concurrency": cty.NumberIntVal(0)},
		"many":        {"concurrency": cty.NumberIntVal(1000)},
		"max_runtime": {"max_runtime": cty.StringVal("1ms")},
		"bandwidth":   {"bandwidth": cty.StringVal("20")},
		"exclude":     {"exclude": cty.ListVal([]cty.Value{cty.StringVal("/x")})},
	} {
		b := newBench(t)
		b.config = bad
		if _, err := b.make(); err == nil {
			t.Errorf("%s: %v was accepted", name, bad)
		}
	}
}
