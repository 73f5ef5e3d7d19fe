package objectstore

import (
	"os"
	"slices"
	"strings"
	"testing"
)

// TestGuideNamesTheRights: who makes keys as docs/object-stores.md says gets the rights of the table, all of them and no others.
func TestGuideNamesTheRights(t *testing.T) {
	page, err := os.ReadFile("../docs/object-stores.md")
	if err != nil {
		t.Fatal(err)
	}
	for name, heading := range map[string]string{"aws": "### Amazon S3\n", "backblaze-b2": "### Backblaze B2\n", "scaleway": "### Scaleway\n"} {
		_, section, ok := strings.Cut(string(page), heading)
		section, _, _ = strings.Cut(section, "\n### ")
		if !ok {
			t.Errorf("the guide has no part %q", heading)
			continue
		}
		var named []string
		for _, word := range strings.FieldsFunc(section, func(r rune) bool { return !strings.ContainsRune(":_", r) && !isLetter(r) }) {
			if strings.HasPrefix(word, "s3:") || strings.HasPrefix(word, "ObjectStorage") || isCapability(word) {
				named = append(named, word)
			}
		}
		p, _ := Lookup(name)
		for _, right := range slices.Concat(p.AgentRights, p.AppRights) {
			if !slices.Contains(named, right) {
				t.Errorf("%s: the guide does not name %s", name, right)
			}
		}
		for _, right := range named {
			if !slices.Contains(p.AgentRights, right) && !slices.Contains(p.AppRights, right) {
				t.Errorf("%s: the guide names %s, and the table does not", name, right)
			}
		}
	}
}

func isLetter(r rune) bool {
	return r >= 'a' && r <= 'z' || r >= 'A' && r <= 'Z' || r >= '0' && r <= '9'
}

// isCapability reports whether a word is a capability of a key of Backblaze: "listAllBucketNames".
func isCapability(word string) bool {
	return slices.ContainsFunc([]string{"list", "read", "write", "delete"}, func(verb string) bool {
		what, ok := strings.CutPrefix(word, verb)
		return ok && what != "" && strings.ContainsAny(what[:1], "ABF")
	})
}
