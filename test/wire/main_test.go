// Package wire looks at what the real program sends to object stores over TLS, from the first plan to the last: which requests
// with which headers, to whom, and whom it trusts.
package wire

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"testing"

	"github.com/converge-agent/converge/test/lab/sandbox"
)

// labDir is where the tests' own directory is in their sandbox.
const labDir = "/lab"

// TestMain runs the tests in a sandbox: nothing there leads anywhere but to the lab.
func TestMain(m *testing.M) { os.Exit(sandbox.Tests(m, labDir, copySources)) }

// copySources puts the source that talks to stores, and what the tests expect, where they are seen in the sandbox.
func copySources(dir string) error {
	failed := []error{os.CopyFS(filepath.Join(dir, "testdata"), os.DirFS("testdata"))}
	files, err := filepath.Glob("../../objectstore/*.go")
	for _, file := range files {
		text, err := os.ReadFile(file)
		failed = append(failed, err, os.MkdirAll(filepath.Join(dir, "objectstore"), 0o755),
			os.WriteFile(filepath.Join(dir, "objectstore", filepath.Base(file)), text, 0o644))
	}
	if err := errors.Join(append(failed, err)...); err != nil {
		return fmt.Errorf("copy the sources: %w", err)
	}
	return nil
}
