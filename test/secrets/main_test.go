// Package secrets plants secrets in everything that may hold one, runs every command of the real program over them, and
// searches all that comes of it: what is printed, written, sent, and passed to other programs.
package secrets

import (
	"os"
	"testing"

	"github.com/converge-agent/converge/test/lab/sandbox"
)

// labDir is where the tests' own directory is in their sandbox.
const labDir = "/lab"

// TestMain runs the tests in a sandbox, so that the whole of a host can be searched, and nothing else is touched.
func TestMain(m *testing.M) {
	os.Exit(sandbox.Tests(m, labDir, func(string) error { return nil }))
}
