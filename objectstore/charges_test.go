package objectstore

import (
	"slices"
	"testing"
)

func TestRequestsByClass(t *testing.T) {
	for name, tt := range map[string]struct {
		provider string
		ops      map[string]int64
		want     string
	}{
		"B2, a plan":        {"backblaze-b2", map[string]int64{"GetBucketAcl": 3, "AnonymousGET": 2}, "3 class C, 2 class B; free up to 2,500 a day of each"},
		"B2, uploads":       {"backblaze-b2", map[string]int64{"PutObject": 300_000, "ListObjectsV2": 1}, "300,000 class A, 1 class C; free up to 2,500 a day of C"},
		"B2, looks first":   {"backblaze-b2", map[string]int64{"HeadObject": 300_000}, "300,000 class B; free up to 2,500 a day, else about $0.12"},
		"B2, of each class": {"backblaze-b2", map[string]int64{"PutObject": 3, "GetBucketAcl": 2, "AnonymousGET": 1}, "3 class A, 2 class C, 1 class B; free up to 2,500 a day of B, C"},
		"B2, nothing paid":  {"backblaze-b2", map[string]int64{"PutObject": 7}, "7 class A; free of charge"},
		"R2":                {"cloudflare-r2", map[string]int64{"PutObject": 3_000_000, "HeadBucket": 2, "DeleteObject": 1}, "3,000,000 class A, 2 class B, 1 free; free up to 1,000,000 a month of A, 10,000,000 a month of B, else about $13.50"},
		"AWS, a plan":       {"aws", map[string]int64{"GetBucketPolicy": 4, "ListObjectsV2": 1}, "4 GET, 1 PUT/LIST; less than $0.01"},
		"AWS, a sync":       {"aws", map[string]int64{"PutObject": 300_000}, "300,000 PUT/LIST; about $1.50"},
		"Scaleway":          {"scaleway", map[string]int64{"PutObject": 5}, "free of charge"},
		"nothing known":     {"minio", map[string]int64{"PutObject": 5}, ""},
		"no such provider":  {"b2", map[string]int64{"PutObject": 5}, ""},
		"nothing was asked": {"aws", map[string]int64{"PutObject": 0}, ""},
	} {
		sent := Sent{}
		for op, n := range tt.ops {
			sent.Add(tt.provider, op, n)
		}
		if got := sent.Classes(tt.provider); got != tt.want {
			t.Errorf("%s: %q, want %q", name, got, tt.want)
		}
	}
	sent := Sent{}
	sent.Add("wasabi", "PutObject", 1)
	sent.Add("aws", "PutObject", 2)
	sent.Add("aws", "PutObject", 3)
	sent.Add("minio", "PutObject", 0)
	if got := sent.Providers(); !slices.Equal(got, []string{"aws", "wasabi"}) || sent.Total("aws") != 5 {
		t.Errorf("%q, %d", got, sent.Total("aws"))
	}
}
