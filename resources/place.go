package resources

import (
	"fmt"
	"syscall"

	"github.com/converge-agent/converge/diag"
	"github.com/converge-agent/converge/host"
	"github.com/zclconf/go-cty/cty"
)

// MustBe refuses what stands at path (nil: nothing) when it is of another type than want: a kind replaces only what is of
// its own type. It is asked in a Read, so that the plan says it already.
func MustBe(path string, found *host.File, want host.FileType) error {
	if found == nil || found.Type == want {
		return nil
	}
	is := "a " + found.Type.String()
	if found.Type == host.Symlink {
		is += " to " + found.Target
	}
	err := fmt.Errorf("%s stands there, where a %s is to be: %w", is, want, syscall.EEXIST)
	return diag.Wrap(err, "manage "+path, fmt.Sprintf("Move the %s %s away by hand, or correct the path.", found.Type, path))
}

// The values of the attribute ensure.
const (
	Present = "present"
	Absent  = "absent"
)

// EnsureAttr is the attribute ensure, with which a resource is removed again.
func EnsureAttr() Attr {
	return Attr{Name: "ensure", Type: cty.String, OneOf: []string{Present, Absent}, Default: cty.StringVal(Present),
		Doc: "Whether it is to be there. With \"absent\" it is removed. A block that is deleted from the configuration removes nothing."}
}

// PathExport is the export path of a kind that manages one path.
func PathExport() Attr {
	return Attr{Name: "path", Type: cty.String, Doc: "The path, for those who refer to it."}
}
