package integration

import (
	"path/filepath"
	"testing"

	"github.com/converge-agent/converge/test/lab"
)

// newLab starts a lab that ends with the test. One can run at a time, so such a test is not parallel.
func newLab(t *testing.T) *lab.Lab {
	t.Helper()
	l, err := lab.Start(t.Context(), lab.Options{Dir: filepath.Join(t.TempDir(), "lab")})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(l.Close)
	return l
}

// newS3 starts a store of a lab.
func newS3(t *testing.T, l *lab.Lab, p lab.Personality) *lab.S3 {
	t.Helper()
	s, err := l.S3(t.Context(), p)
	if err != nil {
		t.Fatal(err)
	}
	return s
}
