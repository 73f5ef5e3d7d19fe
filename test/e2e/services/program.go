package services

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"

	"github.com/converge-agent/converge/test/e2e/machines"
)

// Program is the program of the services' host, built once from this module and without libc. The same sources give the same
// bytes anywhere, so that a machine may have got it by another way (see Start):
//
//	CGO_ENABLED=0 go build -trimpath -buildvcs=false -ldflags '-s -w' -o services github.com/converge-agent/converge/test/e2e/cmd/services
var Program = sync.OnceValues(func() (binary string, err error) {
	dir, err := os.MkdirTemp("", "services-build-")
	if err != nil {
		return "", err
	}
	defer func() { err = errors.Join(err, os.RemoveAll(dir)) }()
	built := filepath.Join(dir, "services")
	cmd := exec.Command("go", "build", "-trimpath", "-buildvcs=false", "-ldflags", "-s -w", "-o", built,
		"github.com/converge-agent/converge/test/e2e/cmd/services")
	cmd.Env = append(os.Environ(), "CGO_ENABLED=0")
	if out, err := cmd.CombinedOutput(); err != nil {
		return "", fmt.Errorf("build the program of the services: %w\n%s", err, out)
	}
	content, err := os.ReadFile(built)
	return string(content), err
})

// putProgram puts the program into a machine that does not have the same already.
func putProgram(ctx context.Context, m machines.Machine) error {
	binary, err := Program()
	if err != nil {
		return err
	}
	sum := sha256.Sum256([]byte(binary))
	r, err := m.Run(ctx, "sha256sum", programPath)
	if err != nil {
		return err
	}
	if strings.HasPrefix(r.Stdout, hex.EncodeToString(sum[:])+" ") {
		return nil
	}
	return m.Put(ctx, programPath, binary, 0o755)
}
