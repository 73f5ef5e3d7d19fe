package mastodoninstance

import (
	"path"
	"slices"
	"strings"

	"github.com/converge-agent/converge/host"
	"github.com/converge-agent/converge/mastodon"
)

// unitsOf returns the names, without .service, of the unit files and of the enabled instances of templates that run the
// Mastodon in root, sorted. Files are looked at, and not systemd, so that facts are the same while it is starting, or is not there.
func unitsOf(files host.View, root string) ([]string, error) {
	names, err := unitNames(files)
	if err != nil {
		return nil, err
	}
	var out []string
	for name := range names {
		f, err := unitFile(files, name)
		if err != nil {
			return nil, err
		}
		if f != nil && mastodon.RunsIn(f.Content, root) {
			out = append(out, strings.TrimSuffix(name, ".service"))
		}
	}
	slices.Sort(out)
	return out, nil
}

// unitNames returns the names of what may be units of a Mastodon, in no order. Instances are found by the links that enable them.
func unitNames(files host.View) (map[string]bool, error) {
	found := map[string]bool{}
	for _, dir := range mastodon.UnitDirs() {
		names, err := ignoreMissing(files.List(dir))
		if err != nil {
			return nil, err
		}
		for _, name := range names {
			if mastodon.IsUnit(name) {
				found[name] = true
			}
			if !strings.HasSuffix(name, ".wants") && !strings.HasSuffix(name, ".requires") {
				continue
			}
			enabled, err := ignoreMissing(files.List(path.Join(dir, name)))
			if err != nil {
				return nil, err
			}
			for _, name := range enabled {
				if mastodon.IsUnit(name) {
					found[name] = true
				}
			}
		}
	}
	return found, nil
}

// unitFile returns the file of a unit, its template's for an instance: the first in systemd's order. It is nil where there is
// none, and where the unit is masked.
func unitFile(files host.View, name string) (*host.File, error) {
	candidates := []string{name}
	if prefix, _, instance := strings.Cut(name, "@"); instance {
		candidates = append(candidates, prefix+"@.service")
	}
	for _, candidate := range candidates {
		for _, dir := range mastodon.UnitDirs() {
			at := path.Join(dir, candidate)
			f, err := files.Lookup(at)
			if err != nil || f != nil && f.Type == host.Symlink && f.Target == "/dev/null" {
				return nil, err
			}
			if f != nil {
				return regular(files, at)
			}
		}
	}
	return nil, nil
}
