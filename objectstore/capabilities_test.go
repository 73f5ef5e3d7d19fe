package objectstore

import (
	"fmt"
	"testing"
)

// TestCapabilitiesAgainstTheTable: what claims too much is wrong, with what to write; what does more is only told.
func TestCapabilitiesAgainstTheTable(t *testing.T) {
	tests := []struct {
		name        string
		provider    string
		seen        Capability
		wrong, more string // what is to be written
	}{
		{"it overwrites", "aws", Capability{CapConditional, Ignored, 200}, "conditional_writes = false", ""},
		{"it refuses conditions", "aws", Capability{CapConditional, Refused, 501}, "conditional_writes = false", ""},
		{"it does as claimed", "aws", Capability{CapConditional, Honoured, 412}, "", ""},
		{"it does more", "backblaze-b2", Capability{CapConditional, Honoured, 412}, "", "conditional_writes = true"},
		{"it overwrites as expected", "backblaze-b2", Capability{CapConditional, Ignored, 200}, "", ""},
		{"batches fail", "minio", Capability{CapBatch, Refused, 501}, "batch_delete = false", ""},
		{"batches delete nothing", "minio", Capability{CapBatch, Ignored, 200}, "batch_delete = false", ""},
		{"ACLs without effect", "digitalocean", Capability{CapACL, Ignored, 200}, `public_by = "policy"`, ""},
		{"ACLs refused", "digitalocean", Capability{CapACL, Refused, 400}, `public_by = "policy"`, ""},
		{"ACLs that nothing relies on", "minio", Capability{CapACL, Honoured, 200}, "", ""},
		{"checksums that nothing relies on", "minio", Capability{CapChecksum, Refused, 400}, "", "checksum_headers = false"},
		{"checksums are taken", "backblaze-b2", Capability{CapChecksum, Honoured, 200}, "", ""},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			p, _ := Lookup(tt.provider)
			wrong, more := Capabilities{tt.seen}.Against(p)
			if got := attributes(wrong); got != tt.wrong {
				t.Errorf("wrong: %q, want %q", got, tt.wrong)
			}
			if got := attributes(more); got != tt.more {
				t.Errorf("more: %q, want %q", got, tt.more)
			}
		})
	}
}

func attributes(list []Contradiction) (text string) {
	for _, c := range list {
		text += c.Attribute
		if c.What == "" {
			text += fmt.Sprintf(" without words: %+v", c)
		}
	}
	return text
}
