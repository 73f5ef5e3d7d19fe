// Package mastodon is what converge knows of Mastodon itself and of forks with the same settings (glitch-soc, Hometown):
// its version, where its settings stand and what they mean, its units, and which settings of object storage do not work.
package mastodon

import (
	"cmp"
	"errors"
	"fmt"
	"regexp"
	"strconv"
)

// VersionFile is the Ruby file that says a Mastodon's version, below its directory (Mastodon 3.1 to 4.6).
const VersionFile = "lib/mastodon/version.rb"

// Version is the version of a Mastodon, or the one that a fork is based on.
type Version struct {
	Major, Minor, Patch int
}

// versionPart is one of the methods major, minor and patch of the module Mastodon::Version: each holds one number.
var versionPart = regexp.MustCompile(`(?m)^\s*def\s+(?:self\.)?(major|minor|patch)\b(?:\(\))?[\s;]+(\d{1,6})[\s;]+end\b`)

// ParseVersion reads the version out of VersionFile without running Ruby.
func ParseVersion(source []byte) (Version, error) {
	parts := map[string]int{}
	for _, m := range versionPart.FindAllSubmatch(source, -1) {
		n, err := strconv.Atoi(string(m[2]))
		if err != nil {
			return Version{}, fmt.Errorf("its %s version is no number: %w", m[1], err)
		}
		parts[string(m[1])] = n
	}
	if len(parts) < 3 {
		return Version{}, errors.New("it does not name a major, minor and patch version")
	}
	return Version{parts["major"], parts["minor"], parts["patch"]}, nil
}

// String gives the version as Mastodon prints it, without prerelease and fork: "4.6.5".
func (v Version) String() string { return fmt.Sprintf("%d.%d.%d", v.Major, v.Minor, v.Patch) }

// Before reports whether v is older than w.
func (v Version) Before(w Version) bool {
	return cmp.Or(cmp.Compare(v.Major, w.Major), cmp.Compare(v.Minor, w.Minor), cmp.Compare(v.Patch, w.Patch)) < 0
}
