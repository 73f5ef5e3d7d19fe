package mastodon

import (
	"bufio"
	"bytes"
	"path"
	"regexp"
	"strings"
)

// UnitDirs are the directories of unit files for the system (systemd.unit(5)); what stands in one hides what stands under
// the same name in those after it.
func UnitDirs() []string {
	return []string{"/etc/systemd/system", "/run/systemd/system", "/usr/local/lib/systemd/system", "/usr/lib/systemd/system", "/lib/systemd/system"}
}

// The units of dist/*.service, and copies of the Sidekiq unit: "creating multiple systemd services" is how the documentation
// scales it (Mastodon docs, Scaling up your server), and their names are free.
var (
	mediaUnit     = regexp.MustCompile(`^mastodon[^@]*-(web(-?\d+)?|[^@]*sidekiq[^@]*)(@.+)?\.service$`)
	streamingUnit = regexp.MustCompile(`^mastodon[^@]*-streaming(@.+)?\.service$`)
)

// IsUnit reports whether a unit file of this name is one of Mastodon's web, Sidekiq and streaming processes. A template
// without an instance ("mastodon-streaming@.service") is none.
func IsUnit(name string) bool { return StoresMedia(name) || streamingUnit.MatchString(name) }

// StoresMedia reports whether the unit is one that stores and deletes media, web or Sidekiq. They must switch to other
// storage together; streaming does not know of storage at all (Mastodon 4.6.5, streaming/).
func StoresMedia(name string) bool { return mediaUnit.MatchString(name) }

// RunsIn reports whether a unit file runs in the Mastodon of the directory root: its WorkingDirectory= is root or below, or
// it has none, as the unit that only starts the streaming instances together.
func RunsIn(unitFile []byte, root string) bool {
	dir := ""
	lines := bufio.NewScanner(bytes.NewReader(unitFile))
	for lines.Scan() {
		if value, ok := strings.CutPrefix(strings.TrimSpace(lines.Text()), "WorkingDirectory="); ok {
			dir = strings.TrimPrefix(strings.Trim(strings.TrimSpace(value), `"`), "-")
		}
	}
	return dir == "" || dir == "~" || path.Clean(dir) == root || strings.HasPrefix(dir, root+"/")
}
