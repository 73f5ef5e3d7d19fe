package host

import (
	"io/fs"
	"path"
	"slices"
)

// MissingDirs returns the edits that make the directory dir and those above it, as far as they are missing, the highest
// first: with that mode and owner. A link on the way counts as what it leads to.
func MissingDirs(v View, dir string, mode fs.FileMode, uid, gid int) ([]Edit, error) {
	var edits []Edit
	for ; dir != "/"; dir = path.Dir(dir) {
		f, err := v.Lookup(dir)
		if err != nil {
			return nil, err
		}
		if f != nil {
			break
		}
		edits = append(edits, Edit{Path: dir, After: &File{Type: Directory, Mode: mode, UID: uid, GID: gid}})
	}
	slices.Reverse(edits)
	return edits, nil
}
