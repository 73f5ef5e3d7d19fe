// Package ruby has Mastodon's own client, Ruby with its AWS SDK and its dotenv, read what converge wrote into an instance's
// settings, and store, show and delete media by it at every provider that the lab simulates.
package ruby

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"testing"

	"github.com/converge-agent/converge/test/lab/sandbox"
)

// labDir is where the tests' own directory is in their sandbox, which has this system's Ruby.
const labDir = "/lab"

// TestMain runs the tests in a sandbox, where stores have the names that they are called by.
func TestMain(m *testing.M) { os.Exit(sandbox.Tests(m, labDir, copyPrograms)) }

// copyPrograms puts the client and what it takes of the Mastodon stand-in into one directory.
func copyPrograms(dir string) error {
	var failed []error
	for _, file := range []string{"client.rb", "../e2e/instance/live/lib/storage.rb", "../e2e/instance/live/lib/environment.rb"} {
		text, err := os.ReadFile(file)
		failed = append(failed, err, os.WriteFile(filepath.Join(dir, filepath.Base(file)), text, 0o644))
	}
	if err := errors.Join(failed...); err != nil {
		return fmt.Errorf("copy the Ruby programs: %w", err)
	}
	return nil
}
