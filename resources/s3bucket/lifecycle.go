package s3bucket

import (
	"fmt"

	"github.com/converge-agent/converge/objectstore"
	"github.com/converge-agent/converge/resources"
	"github.com/zclconf/go-cty/cty"
)

// lifecycleBlock is the block lifecycle; 0 is what was not written.
type lifecycleBlock struct {
	HiddenVersions    int64 `attr:"hidden_versions_days"`
	IncompleteUploads int64 `attr:"incomplete_uploads_days"`
}

// leastHidden is the least number of days at stores that always keep versions: until then what was overwritten or deleted by
// mistake can be brought back, and the versions there are the only copy.
const leastHidden = 7

func lifecycleAttrs() []resources.Attr {
	return []resources.Attr{
		{Name: "hidden_versions_days", Type: cty.Number,
			Doc: "After how many days the store deletes for good what was overwritten or deleted, where versions are kept: at least 7 " +
				"at backblaze-b2. Until then it is paid, and can be brought back. Not written: never."},
		{Name: "incomplete_uploads_days", Type: cty.Number,
			Doc: "After how many days the store throws away the parts of uploads that nobody completed. Not written: never, or as " +
				"the store has it."},
	}
}

func (l *lifecycleBlock) rule() *objectstore.Rule {
	return objectstore.LifecycleRule{HiddenVersionsDays: l.HiddenVersions, IncompleteUploadsDays: l.IncompleteUploads}.Rule()
}

func (l *lifecycleBlock) check(p *objectstore.Provider, written cty.Value) error {
	hidden, uploads := !written.GetAttr("hidden_versions_days").IsNull(), !written.GetAttr("incomplete_uploads_days").IsNull()
	switch {
	case !p.Lifecycle:
		return attrError(fmt.Errorf("%s has no lifecycle that could be set through S3; leave the block out", p.Title), "lifecycle")
	case !hidden && !uploads:
		return attrError(fmt.Errorf("it is empty; write hidden_versions_days or incomplete_uploads_days, or leave it out"), "lifecycle")
	case hidden && !p.Versioning && !p.AlwaysVersioned:
		return attrError(fmt.Errorf("%s keeps no versions; leave it out", p.Title), "lifecycle", "hidden_versions_days")
	case hidden && p.AlwaysVersioned && l.HiddenVersions < leastHidden:
		return attrError(fmt.Errorf("at %s it must be %d or more: the old versions are what a mistake can be undone with", p.Title, leastHidden),
			"lifecycle", "hidden_versions_days")
	case hidden && l.HiddenVersions < 1:
		return attrError(fmt.Errorf("it must be 1 or more"), "lifecycle", "hidden_versions_days")
	case uploads && !p.AbortsUploads && p.Knows("AbortsUploads"):
		return attrError(fmt.Errorf("%s refuses a lifecycle that ends incomplete uploads; leave it out", p.Title), "lifecycle", "incomplete_uploads_days")
	case uploads && l.IncompleteUploads < 1:
		return attrError(fmt.Errorf("it must be 1 or more"), "lifecycle", "incomplete_uploads_days")
	}
	return nil
}
