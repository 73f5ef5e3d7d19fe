package s3bucket

import (
	"cmp"
	"encoding/json"
	"testing"

	"github.com/converge-agent/converge/objectstore"
	"github.com/converge-agent/converge/resources"
)

// TestANewBucketTakesNothingAway: at every provider, to create a bucket destroys nothing, whatever its access.
func TestANewBucketTakesNothingAway(t *testing.T) {
	for _, name := range objectstore.Names() {
		for _, access := range []string{publicObjects, private} {
			w, _ := at(t, name, access)
			b, _ := mustMake(t, w)
			c := b.Diff(&state{found: found{Missing: true}, Now: now})
			if c.Action != resources.Create {
				t.Errorf("%s, %s: %s", name, access, c.Action)
			}
			for _, e := range c.Effects {
				if e.Destructive {
					t.Errorf("%s, %s: %s %s is destructive: %s", name, access, e.Verb, e.Target, e.Why)
				}
			}
		}
	}
}

// view is what was remembered, as JSON by name.
type view map[string]string

func (v view) Record(name string, into any) (bool, error) {
	text, ok := v[name]
	return ok, json.Unmarshal([]byte(cmp.Or(text, "null")), into)
}

func (view) Keyed(text string) string { return text }

// TestLaw3ABucketOfOldRecordsIsNotMadeAgain: of whatever version the record is that says that it existed.
func TestLaw3ABucketOfOldRecordsIsNotMadeAgain(t *testing.T) {
	b, _ := mustMake(t, b2Bucket())
	for record, want := range map[string]resources.Action{
		`{"bucket":"https://s3.us-west-001.backblazeb2.com/my-instance-media","at":"2026-11-21T02:00:00Z"}`:             resources.Blocked,
		`{"version":2,"bucket":"https://s3.us-west-001.backblazeb2.com/my-instance-media","at":"2026-11-21T02:00:00Z"}`: resources.Blocked,
		`{"version":1,"bucket":"https://s3.us-west-001.backblazeb2.com/another","at":"2026-11-21T02:00:00Z"}`:           resources.Create,
	} {
		st := &state{found: found{Missing: true}, Now: now}
		if err := b.readRecords(resources.ReadEnv{Records: view{existedRecord: record}}, st); err != nil {
			t.Fatal(err)
		}
		if c := b.Diff(st); c.Action != want {
			t.Errorf("with %s: %s, want %s", record, c.Action, want)
		}
	}
	if e := b.existence(&state{Now: now}); e.Version != existedVersion {
		t.Errorf("remembered is %+v", e)
	}
}
