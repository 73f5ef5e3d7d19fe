package objectstore

import (
	"strconv"
	"strings"
)

// LifecycleRule says after how many days the store deletes by itself what nobody can see any more; 0 is never.
type LifecycleRule struct {
	HiddenVersionsDays    int64 // what was overwritten or deleted, where versions are kept
	IncompleteUploadsDays int64 // parts of uploads that nobody completed
}

// Rule gives it as converge's rule of the document. It is one rule for both: Backblaze B2 takes no two whose prefixes overlap
// (Backblaze docs, "Lifecycle Rules").
func (l LifecycleRule) Rule() *Rule {
	parts := [][2]string{{"Status", "Enabled"}, {"Filter/Prefix", ""}}
	if l.HiddenVersionsDays > 0 {
		parts = append(parts, [2]string{"NoncurrentVersionExpiration/NoncurrentDays", strconv.FormatInt(l.HiddenVersionsDays, 10)})
	}
	if l.IncompleteUploadsDays > 0 {
		parts = append(parts, [2]string{"AbortIncompleteMultipartUpload/DaysAfterInitiation", strconv.FormatInt(l.IncompleteUploadsDays, 10)})
	}
	return ourRule(Lifecycle, parts...)
}

// lifecycleMeaning knows that a prefix may stand in a filter or alone, and that an empty one means every object.
func lifecycleMeaning(name, value string) (string, string) {
	name = strings.TrimPrefix(name, "Filter/")
	if value == "" {
		return "", ""
	}
	return name, value
}
