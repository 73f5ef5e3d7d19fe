package resources_test

import (
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/converge-agent/converge/host"
	"github.com/converge-agent/converge/resources"
	"github.com/converge-agent/converge/secret"
	"github.com/zclconf/go-cty/cty"
)

var kind = &resources.Kind{
	Name: "thing",
	Attrs: []resources.Attr{
		{Name: "name", Type: cty.String, Required: true},
		{Name: "key", Type: cty.String, Secret: true},
		{Name: "set", Type: cty.Map(cty.String), Secret: true},
		{Name: "path", Type: cty.String, Format: resources.Path},
		{Name: "after", Type: cty.String, Format: resources.Duration, Default: cty.StringVal("50m")},
		{Name: "rate", Type: cty.String, Format: resources.Rate},
		{Name: "access", Type: cty.String, OneOf: []string{"private", "public-objects"}},
		{Name: "bucket", Ref: []string{"s3_bucket"}},
		{Name: "certificate", Ref: []string{"acme_certificate"}, Or: []string{"fullchain_path"}},
		{Name: "on", Ref: []string{"any"}, List: true},
		{Name: "proxy", Block: []resources.Attr{
			{Name: "size", Type: cty.String, Required: true, Format: resources.Size},
			{Name: "names", Type: cty.List(cty.String), Format: resources.DNSName},
		}},
	},
}

func bucket(name string) cty.Value {
	return resources.Reference(resources.Address{Kind: "s3_bucket", Name: name}, cty.ObjectVal(map[string]cty.Value{
		"host": cty.StringVal("s3.example"), "secret": secret.New("hunter2").Value(),
	}))
}

func TestCompleteRefuses(t *testing.T) {
	ok := cty.StringVal("x")
	for name, tc := range map[string]struct {
		attr string
		v    cty.Value
		want string
	}{
		"missing":              {"name", cty.NullVal(cty.String), "it is missing"},
		"unknown":              {"nam", ok, `did you mean "name"?`},
		"wrong type":           {"set", ok, "it must be a map"},
		"secret in plain":      {"path", secret.New("/x").Value(), "the value is secret"},
		"relative path":        {"path", cty.StringVal("a/b"), "not an absolute path"},
		"path with dots":       {"path", cty.StringVal("/a/../b"), "not an absolute path"},
		"duration":             {"after", cty.StringVal("1 week"), "not a duration"},
		"rate":                 {"rate", cty.StringVal("fast"), "not a size"},
		"not one of":           {"access", cty.StringVal("public-object"), `did you mean "public-objects"?`},
		"no reference":         {"bucket", ok, "it must refer to a resource, such as s3_bucket.name"},
		"reference to another": {"bucket", resources.Reference(resources.Address{Kind: "file", Name: "f"}, cty.EmptyObjectVal), "not a kind that fits"},
		"several":              {"bucket", cty.ObjectVal(map[string]cty.Value{"a": bucket("a"), "b": bucket("b")}), "2 resources instead of one"},
		"half in place":        {"certificate", cty.ObjectVal(map[string]cty.Value{"key_path": ok}), "it must refer to"},
		"inside a block":       {"proxy", cty.ObjectVal(map[string]cty.Value{"size": cty.StringVal("big")}), "not a size"},
		"inside a list": {"proxy", cty.ObjectVal(map[string]cty.Value{
			"size": cty.StringVal("1GB"), "names": cty.TupleVal([]cty.Value{cty.StringVal("https://x")}),
		}), "not a host name"},
	} {
		t.Run(name, func(t *testing.T) {
			written := map[string]cty.Value{"name": ok, tc.attr: tc.v}
			_, errs := kind.Complete(cty.ObjectVal(written))
			if len(errs) != 1 || !strings.Contains(errs[0].Error(), tc.want) {
				t.Errorf("got %v, want one error with %q", errs, tc.want)
			}
		})
	}
}

func TestCompleteReportsEverythingAtOnce(t *testing.T) {
	_, errs := kind.Complete(cty.ObjectVal(map[string]cty.Value{"path": cty.StringVal("x"), "after": cty.StringVal("y"), "zzzzzz": cty.True}))
	if len(errs) != 4 { // with the missing name
		t.Errorf("got %d errors: %v", len(errs), errs)
	}
}

func TestDecode(t *testing.T) {
	var got struct {
		Name   string                   `attr:"name"`
		Key    secret.String            `attr:"key"`
		Set    map[string]secret.String `attr:"set"`
		After  time.Duration            `attr:"after"`
		Rate   resources.Bytes          `attr:"rate"`
		Bucket struct {
			Address resources.Address `attr:"address"`
			Host    string            `attr:"host"`
			Secret  secret.String     `attr:"secret"`
		} `attr:"bucket"`
		On    []resources.Address `attr:"on"`
		Proxy *struct {
			Size  resources.Bytes `attr:"size"`
			Names []string        `attr:"names"`
		} `attr:"proxy"`
	}
	all := cty.ObjectVal(map[string]cty.Value{"k2": bucket("b2"), "k1": bucket("b1")})
	config, errs := kind.Complete(cty.ObjectVal(map[string]cty.Value{
		"name": cty.StringVal("n"), "key": secret.New("hunter2").Value(), "rate": cty.StringVal("20MB/s"), "bucket": bucket("media"),
		"set": cty.ObjectVal(map[string]cty.Value{"A": secret.New("s").Value(), "B": cty.StringVal("plain")}),
		"on":  cty.TupleVal([]cty.Value{bucket("a"), all}),
		"proxy": cty.ObjectVal(map[string]cty.Value{
			"size": cty.StringVal("10GB"), "names": cty.TupleVal([]cty.Value{cty.StringVal("files.example.com")}),
		}),
	}))
	if len(errs) > 0 {
		t.Fatal(errs)
	}
	if set := config.GetAttr("set").AsValueMap(); !secret.In(set["A"]) || secret.In(set["B"]) {
		t.Error("the mark did not stay with its value")
	}
	if err := resources.Decode(config, &got); err != nil {
		t.Fatal(err)
	}
	switch {
	case got.Name != "n", got.Key.Reveal() != "hunter2", got.Set["A"].Reveal() != "s", got.Set["B"].Reveal() != "plain":
		t.Errorf("strings: %+v", got)
	case got.After != 50*time.Minute, got.Rate != 20_000_000, got.Proxy.Size != 10_000_000_000, got.Proxy.Names[0] != "files.example.com":
		t.Errorf("formats: %+v", got)
	case got.Bucket.Address.String() != "s3_bucket.media", got.Bucket.Host != "s3.example", got.Bucket.Secret.Reveal() != "hunter2":
		t.Errorf("reference: %+v", got.Bucket)
	}
	var on []string
	for _, a := range got.On {
		on = append(on, a.Name)
	}
	if want := []string{"a", "b1", "b2"}; !slices.Equal(on, want) {
		t.Errorf("on = %q, want %q", on, want)
	}
}

func TestDecodeRefusesASecretWhereItWouldShow(t *testing.T) {
	var got struct {
		Key string `attr:"key"`
	}
	config := cty.ObjectVal(map[string]cty.Value{"key": secret.New("hunter2").Value()})
	err := resources.Decode(config, &got)
	if err == nil || got.Key != "" || strings.Contains(err.Error(), "hunter2") {
		t.Errorf("got %q, %v", got.Key, err)
	}
}

// clock is a host clock: the wall may step, the other may not.
type clock struct {
	wall time.Time
	boot time.Duration
}

func (c clock) Now() time.Time           { return c.wall }
func (c clock) SinceBoot() time.Duration { return c.boot }

// TestLaw4OwedIsAState goes through what decides whether a running unit has read a file.
func TestLaw4OwedIsAState(t *testing.T) {
	noon := time.Date(2026, 11, 21, 12, 0, 0, 0, time.UTC)
	unit := host.Unit{InvocationID: "A", StartedAt: noon, StartedBoot: time.Hour}
	now := clock{noon.Add(10 * time.Minute), 70 * time.Minute}
	record := resources.Loaded{Invocation: "A", Digests: map[string]string{"f": "d1"}}
	later, earlier := noon.Add(time.Minute), noon.Add(-time.Minute)
	for name, tc := range map[string]struct {
		unit    host.Unit
		clock   clock
		rec     resources.Loaded
		watched resources.Watched
		owed    bool
	}{
		"as recorded":                               {unit, now, record, resources.Watched{Digest: "d1", ChangedAt: earlier}, false},
		"content changed":                           {unit, now, record, resources.Watched{Digest: "d2", ChangedAt: later}, true},
		"other keys edited by hand":                 {unit, now, record, resources.Watched{Digest: "d1", ChangedAt: later}, false},
		"to be changed in this run":                 {unit, now, record, resources.Watched{Digest: "d2"}, true},
		"bytes not known yet":                       {unit, now, record, resources.Watched{}, true},
		"not running":                               {host.Unit{}, now, record, resources.Watched{Digest: "d2"}, false},
		"no record, started after the change":       {unit, now, resources.Loaded{}, resources.Watched{Digest: "d1", ChangedAt: earlier}, false},
		"no record, started before the change":      {unit, now, resources.Loaded{}, resources.Watched{Digest: "d1", ChangedAt: later}, true},
		"restarted by hand after the change":        {unit, now, resources.Loaded{Invocation: "old", Digests: map[string]string{"f": "d1"}}, resources.Watched{Digest: "d2", ChangedAt: earlier}, false},
		"restarted by hand before the change":       {unit, now, resources.Loaded{Invocation: "old", Digests: map[string]string{"f": "d1"}}, resources.Watched{Digest: "d2", ChangedAt: later}, true},
		"started within a tick of the change":       {unit, now, resources.Loaded{}, resources.Watched{Digest: "d1", ChangedAt: noon.Add(-time.Millisecond)}, true},
		"clock set back after the start":            {unit, clock{noon.Add(-50 * time.Minute), 70 * time.Minute}, resources.Loaded{}, resources.Watched{Digest: "d1", ChangedAt: noon.Add(-55 * time.Minute)}, true},
		"clock set forward after start and change":  {unit, clock{noon.Add(70 * time.Minute), 70 * time.Minute}, resources.Loaded{}, resources.Watched{Digest: "d1", ChangedAt: later}, true},
		"another digest is on record for that path": {unit, now, resources.Loaded{Invocation: "A", Digests: map[string]string{"g": "d1"}}, resources.Watched{Digest: "d1", ChangedAt: later}, true},
	} {
		t.Run(name, func(t *testing.T) {
			owed := resources.Owed(tc.unit, tc.clock, tc.rec, map[string]resources.Watched{"f": tc.watched})
			var want []string
			if tc.owed {
				want = []string{"f"}
			}
			if !reflect.DeepEqual(owed, want) {
				t.Errorf("owed %q, want %q", owed, want)
			}
		})
	}
}

// interrupted is a clock of a busy machine: its reader is put aside for a second between the first reads of the two clocks.
type interrupted struct {
	clock
	reads int
}

func (c *interrupted) SinceBoot() time.Duration {
	c.reads++
	if c.reads == 1 {
		return c.boot + time.Second
	}
	return c.boot
}

func TestABusyMachineOwesNoRestart(t *testing.T) {
	noon := time.Date(2026, 11, 21, 12, 0, 0, 0, time.UTC)
	unit := host.Unit{InvocationID: "A", StartedAt: noon, StartedBoot: time.Hour}
	now := &interrupted{clock: clock{noon.Add(10 * time.Minute), 70 * time.Minute}}
	watched := map[string]resources.Watched{"f": {Digest: "d1", ChangedAt: noon.Add(-100 * time.Millisecond)}}
	if owed := resources.Owed(unit, now, resources.Loaded{}, watched); owed != nil {
		t.Errorf("owed %q by a unit that started after the change", owed)
	}
}

func TestSizesAndDurations(t *testing.T) {
	for text, want := range map[string]int64{"500": 500, "10GB": 10e9, "1.5GB": 15e8, "500MiB": 500 << 20, "0": 0} {
		if got, err := resources.ParseSize(text); err != nil || got != want {
			t.Errorf("ParseSize(%q) = %d, %v; want %d", text, got, err, want)
		}
	}
	for _, text := range []string{"", "GB", "10 GB", "-1GB", "10Gb", "1e99TB", "NaN", "Inf"} {
		if got, err := resources.ParseSize(text); err == nil {
			t.Errorf("ParseSize(%q) = %d, want an error", text, got)
		}
	}
	for text, want := range map[string]time.Duration{"7d": 168 * time.Hour, "168h": 168 * time.Hour, "1h30m": 90 * time.Minute} {
		if got, err := resources.ParseDuration(text); err != nil || got != want {
			t.Errorf("ParseDuration(%q) = %s, %v; want %s", text, got, err, want)
		}
	}
	for n, want := range map[int64]string{0: "0 B", 999: "999 B", 38_200_000: "38.2 MB", 396_300_000_000: "396.3 GB"} {
		if got := resources.FormatBytes(n); got != want {
			t.Errorf("FormatBytes(%d) = %q, want %q", n, got, want)
		}
	}
}
