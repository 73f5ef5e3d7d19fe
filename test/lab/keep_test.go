package lab

import (
	"bytes"
	"os"
	"path/filepath"
	"testing"
)

func TestKeptAuthority(t *testing.T) {
	l := &Lab{Dir: t.TempDir(), keep: true}
	first, err := l.authority()
	if err != nil {
		t.Fatal(err)
	}
	again, err := l.authority()
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(first.pem, again.pem) || !first.key.Equal(again.key) {
		t.Error("it is not the authority that was kept")
	}
	if err := os.WriteFile(filepath.Join(l.Dir, "authority.pem"), first.pem, 0o600); err != nil { // without its key
		t.Fatal(err)
	}
	if _, err := l.authority(); err == nil {
		t.Error("an authority without a key was taken")
	}
	l.keep = false
	if other, err := l.authority(); err != nil || bytes.Equal(other.pem, first.pem) {
		t.Errorf("a lab that keeps nothing has the authority of another, %v", err)
	}
}

func TestKeptStore(t *testing.T) {
	l := &Lab{Dir: t.TempDir(), keep: true}
	recall := func(key string) *S3 {
		l.stores = 0 // as in a new lab
		s := &S3{lab: l, AgentKey: key, buckets: map[string]*bucket{}}
		if err := s.recall(); err != nil {
			t.Fatal(err)
		}
		return s
	}
	s := recall("first")
	s.remember(&call{operation: "CreateBucket", bucket: "media"})
	s.know("media", func(b *bucket) { b.ACL = "public-read" })
	s.remember(&call{operation: "CreateBucket", bucket: "gone"})
	s.remember(&call{operation: "DeleteBucket", bucket: "gone"})
	again := recall("second")
	if again.AgentKey != "first" || len(again.buckets) != 1 || again.acl("media") != "public-read" {
		t.Errorf("the store has the key %q and the buckets %v", again.AgentKey, again.Buckets())
	}
	if err := os.WriteFile(again.file, []byte("{"), 0o600); err != nil {
		t.Fatal(err)
	}
	l.stores = 0
	if err := (&S3{lab: l}).recall(); err == nil {
		t.Error("a damaged record was taken")
	}
}
