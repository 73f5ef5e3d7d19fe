package diag_test

import (
	"errors"
	"fmt"
	"io/fs"
	"testing"

	"github.com/converge-agent/converge/diag"
)

func TestErrorAndFix(t *testing.T) {
	inner := diag.Wrap(fs.ErrPermission, "open /etc/x", "Run it as root.")
	for name, tc := range map[string]struct {
		err  error
		text string
		fix  string
	}{
		"cause and fix":        {inner, "open /etc/x: permission denied", "Run it as root."},
		"inner fix shows":      {diag.Wrap(inner, "read the site", ""), "read the site: open /etc/x: permission denied", "Run it as root."},
		"outer fix wins":       {diag.Wrap(inner, "read the site", "Look."), "read the site: open /etc/x: permission denied", "Look."},
		"through another wrap": {fmt.Errorf("plan: %w", inner), "plan: open /etc/x: permission denied", "Run it as root."},
		"bare":                 {errors.New("x"), "x", ""},
		"nothing being done":   {diag.New("", "the bucket is gone", "Look."), "the bucket is gone", "Look."},
	} {
		t.Run(name, func(t *testing.T) {
			if got := tc.err.Error(); got != tc.text {
				t.Errorf("Error() = %q, want %q", got, tc.text)
			}
			if got := diag.Fix(tc.err); got != tc.fix {
				t.Errorf("Fix = %q, want %q", got, tc.fix)
			}
			if name != "bare" && name != "nothing being done" && !errors.Is(tc.err, fs.ErrPermission) {
				t.Error("the cause is lost")
			}
		})
	}
	if diag.Wrap(nil, "x", "y") != nil {
		t.Error("Wrap of nil is an error")
	}
}
