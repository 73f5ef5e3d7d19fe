package faults

import (
	"fmt"
	"path"
	"strings"
)

// unsynced says which changes of names a power loss could undo, or leave with other content than was written: a file must be
// synced after its last change and before its new name, and the directory of a name right after it changed (fsync(2)).
func unsynced(calls []call) []string {
	var wrong []string
	synced := map[string]bool{} // by path; false: changed since
	pending := ""               // the directory that is to be synced next, and why
	why := ""
	for _, c := range calls {
		name, rest, _ := strings.Cut(c.Text, " ")
		if c.Kind != "file" || strings.HasPrefix(rest, "/run/") {
			continue
		}
		if pending != "" && c.Text != "fsync "+pending {
			wrong = append(wrong, fmt.Sprintf("%s is not followed by a sync of %s, but by %s", why, pending, c.Text))
		}
		pending = ""
		switch from, to, _ := strings.Cut(rest, " -> "); name {
		case "fsync", "fdatasync":
			synced[rest] = true
		case "renameat", "renameat2":
			if clean, changed := synced[from]; changed && !clean {
				wrong = append(wrong, from+" is not synced before it is renamed to "+to)
			}
			pending, why = path.Dir(to), c.Text
		case "unlinkat":
			pending, why = path.Dir(rest), c.Text
		case "openat", "mkdirat", "write", "pwrite64", "fchmod", "fchown":
			synced[rest] = false
		}
	}
	if pending != "" {
		wrong = append(wrong, fmt.Sprintf("%s is not followed by a sync of %s", why, pending))
	}
	return wrong
}
