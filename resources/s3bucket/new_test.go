package s3bucket

import (
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
