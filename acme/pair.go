package acme

import (
	"crypto/ecdsa"
	"crypto/rsa"
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"slices"
)

// Pair is a certificate with the key that belongs to it.
type Pair struct {
	Leaf    *x509.Certificate
	KeyType string // one of KeyTypes, or what else it is
}

// ParsePair reads a chain and a key in PEM. It fails where they do not belong together. Its errors hold nothing of the key.
func ParsePair(chain, key []byte) (Pair, error) {
	if _, err := tls.X509KeyPair(chain, key); err != nil {
		return Pair{}, err
	}
	return ParseChain(chain)
}

// ParseChain is ParsePair where the key cannot be read: that it belongs to the certificate is taken for granted.
func ParseChain(chain []byte) (Pair, error) {
	block, _ := pem.Decode(chain)
	if block == nil {
		return Pair{}, errors.New("it holds no PEM block")
	}
	leaf, err := x509.ParseCertificate(block.Bytes)
	if err != nil {
		return Pair{}, err
	}
	p := Pair{Leaf: leaf}
	switch k := leaf.PublicKey.(type) {
	case *ecdsa.PublicKey:
		p.KeyType = fmt.Sprintf("ec%d", k.Curve.Params().BitSize)
	case *rsa.PublicKey:
		p.KeyType = fmt.Sprintf("rsa%d", k.N.BitLen())
	default:
		p.KeyType = leaf.PublicKeyAlgorithm.String()
	}
	return p, nil
}

// For reports whether the certificate is for exactly these names.
func (p Pair) For(domains []string) bool {
	has, want := slices.Clone(p.Leaf.DNSNames), slices.Clone(domains)
	slices.Sort(has)
	slices.Sort(want)
	return slices.Equal(slices.Compact(has), slices.Compact(want))
}
