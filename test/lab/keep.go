package lab

import (
	"crypto/ecdsa"
	"crypto/x509"
	"encoding/json"
	"encoding/pem"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
)

// authority returns the one that an earlier lab kept, or a new one.
func (l *Lab) authority() (*authority, error) {
	if !l.keep {
		return newAuthority("converge lab")
	}
	file := filepath.Join(l.Dir, "authority.pem")
	text, err := os.ReadFile(file)
	if err == nil {
		return parseAuthority(text)
	}
	if !errors.Is(err, fs.ErrNotExist) {
		return nil, err
	}
	a, err := newAuthority("converge lab")
	if err != nil {
		return nil, err
	}
	der, err := x509.MarshalPKCS8PrivateKey(a.key)
	if err != nil {
		return nil, err
	}
	return a, writeWhole(file, append(a.pem, pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: der})...))
}

// parseAuthority reads a certificate followed by its key.
func parseAuthority(text []byte) (*authority, error) {
	certificate, rest := pem.Decode(text)
	private, _ := pem.Decode(rest)
	if certificate == nil || private == nil {
		return nil, errors.New("the authority that was kept is no certificate with a key")
	}
	cert, err := x509.ParseCertificate(certificate.Bytes)
	if err != nil {
		return nil, err
	}
	key, err := x509.ParsePKCS8PrivateKey(private.Bytes)
	if err != nil {
		return nil, err
	}
	ec, ok := key.(*ecdsa.PrivateKey)
	if !ok {
		return nil, fmt.Errorf("the authority that was kept has a key of type %T", key)
	}
	return &authority{cert, ec, certificatePEM(cert.Raw)}, nil
}

// keptStore is what is kept of a store besides what the gateway has on disk anyway.
type keptStore struct {
	AgentKey, AgentSecret, AppKey, AppSecret string
	Buckets                                  map[string]*bucket
}

// recall gives a store the keys and buckets that it had in an earlier lab, or keeps those that it has.
func (s *S3) recall() error {
	if !s.lab.keep {
		return nil
	}
	s.lab.mu.Lock()
	s.lab.stores++
	s.file = filepath.Join(s.lab.Dir, fmt.Sprintf("store-%d-%s.json", s.lab.stores, s.Personality))
	s.lab.mu.Unlock()
	text, err := os.ReadFile(s.file)
	if errors.Is(err, fs.ErrNotExist) {
		s.save()
		return nil
	}
	if err != nil {
		return err
	}
	kept := keptStore{Buckets: s.buckets}
	if err := json.Unmarshal(text, &kept); err != nil {
		return fmt.Errorf("read %s: %w", s.file, err)
	}
	s.AgentKey, s.AgentSecret, s.AppKey, s.AppSecret = kept.AgentKey, kept.AgentSecret, kept.AppKey, kept.AppSecret
	return nil
}

// save keeps what changed, where the lab is one that keeps. The caller holds the lock, and like the oracle's methods it
// panics when the disk fails.
func (s *S3) save() {
	if s.file == "" {
		return
	}
	text := must(json.Marshal(keptStore{s.AgentKey, s.AgentSecret, s.AppKey, s.AppSecret, s.buckets}))
	if err := writeWhole(s.file, text); err != nil {
		panic(err)
	}
}

// writeWhole replaces a file, so that it is whole whenever the power goes.
func writeWhole(name string, content []byte) error {
	f, err := os.Create(name + ".new")
	if err != nil {
		return err
	}
	_, err = f.Write(content)
	if err = errors.Join(err, f.Chmod(0o600), f.Sync(), f.Close()); err != nil {
		return err
	}
	return os.Rename(name+".new", name)
}
