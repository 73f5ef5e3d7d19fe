package browser

import (
	"bytes"
	"context"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
)

// trust makes the user's NSS database below home and puts the certificates of authorities into it. Chromium on Linux adds
// these to the roots that it ships. So a chain is checked like any other: signature, names and dates. The flags that ignore
// certificate errors would ignore a wrong name and an expired date too.
func trust(ctx context.Context, home string, authorities []string) error {
	// crypto/nss_util.cc in Chromium: this directory where it exists, else $XDG_DATA_HOME/pki/nssdb.
	database := filepath.Join(home, ".pki", "nssdb")
	if err := os.MkdirAll(database, 0o700); err != nil {
		return err
	}
	if err := certutil(ctx, nil, "-N", "-d", "sql:"+database, "--empty-password"); err != nil {
		return err
	}
	certificates, err := decode(authorities)
	if err != nil {
		return err
	}
	for i, certificate := range certificates {
		// C: trusted to sign certificates of TLS servers (certutil(1), trustargs).
		if err := certutil(ctx, certificate, "-A", "-d", "sql:"+database, "-t", "C,,", "-n", fmt.Sprintf("authority %d", i)); err != nil {
			return err
		}
	}
	return nil
}

// decode returns the DER form of every certificate in PEM texts.
func decode(texts []string) ([][]byte, error) {
	var all [][]byte
	for _, text := range texts {
		rest := []byte(text)
		found := false
		for {
			var block *pem.Block
			if block, rest = pem.Decode(rest); block == nil {
				break
			}
			if _, err := x509.ParseCertificate(block.Bytes); err != nil {
				return nil, fmt.Errorf("reading the certificate of an authority: %w", err)
			}
			found = true
			all = append(all, block.Bytes)
		}
		if !found {
			return nil, errors.New("the text of an authority has no certificate in PEM form")
		}
	}
	return all, nil
}

func certutil(ctx context.Context, stdin []byte, args ...string) error {
	command := exec.CommandContext(ctx, "certutil", args...)
	command.Stdin = bytes.NewReader(stdin)
	if output, err := command.CombinedOutput(); err != nil {
		return fmt.Errorf("certutil %s (Debian package libnss3-tools): %w: %s", args[0], err, bytes.TrimSpace(output))
	}
	return nil
}
