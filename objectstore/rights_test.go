package objectstore

import "testing"

// TestSeveralRightsAreOneSentence: an admin reads them as a list, and copies each.
func TestSeveralRightsAreOneSentence(t *testing.T) {
	p, _ := Lookup("aws")
	for want, operations := range map[string][]string{
		"Add s3:PutObject to the policy of the key's user":                                   {"PutObject"},
		"Add s3:PutObject and s3:GetObject to the policy of the key's user":                  {"PutObject", "GetObject", "HeadObject"},
		"Add s3:PutObject, s3:GetObject and s3:DeleteObject to the policy of the key's user": {"PutObject", "GetObject", "DeleteObject"},
	} {
		if got := p.addRights(operations, appKey); len(got) < len(want) || got[:len(want)] != want {
			t.Errorf("%v: got %q, want %q", operations, got, want)
		}
	}
}
