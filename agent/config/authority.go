package config

import (
	"bytes"
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rsa"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"path/filepath"
	"slices"
)

// authority reads the public key that approves values of PCRs: a PEM file, as `openssl
// pkey -pubout` writes it, below the main file's folder unless its path is absolute.
func (s *section) authority(name string) crypto.PublicKey {
	path, at := s.text(name, "")
	if path == "" {
		return nil
	}
	if len(s.config.TPM.PCRs) == 0 {
		s.problem(at, "approves values of PCRs, and pcrs names none")
		return nil
	}
	if s.elsewhere {
		return nil
	}
	if !filepath.IsAbs(path) {
		path = filepath.Join(filepath.Dir(s.mainFile), path)
	}
	label := s.label(path)
	f, err := readFile(path, label)
	if err != nil {
		s.problem(at, "%s %v", path, err)
		return nil
	}
	key, err := parseAuthority(f.content)
	if err != nil {
		s.problem(at, "%s %v", path, err)
		return nil
	}
	if !slices.ContainsFunc(s.others, func(o file) bool { return o.name == label }) {
		s.others = append(s.others, f)
	}
	return key
}

// parseAuthority takes what every TPM verifies signatures of: P-256 and RSA-2048.
func parseAuthority(content []byte) (crypto.PublicKey, error) {
	if bytes.Contains(content, []byte("PRIVATE KEY")) {
		return nil, errors.New("has a private key: only the public one belongs on this host")
	}
	block, rest := pem.Decode(content)
	if block == nil || block.Type != "PUBLIC KEY" || len(bytes.TrimSpace(rest)) > 0 {
		return nil, errors.New("has no public key in PEM, or more than that: openssl pkey -pubout writes one")
	}
	parsed, err := x509.ParsePKIXPublicKey(block.Bytes)
	if err != nil {
		return nil, errors.New("has a public key that can't be read")
	}
	switch key := parsed.(type) {
	case *ecdsa.PublicKey:
		if key.Curve == elliptic.P256() {
			return key, nil
		}
	case *rsa.PublicKey:
		if key.N.BitLen() == 2048 && key.E == 65537 {
			return key, nil
		}
	}
	return nil, errors.New("has a key that not every TPM verifies with: make one of P-256, or RSA of 2048 bits")
}
