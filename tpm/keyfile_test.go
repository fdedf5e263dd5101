package tpm_test

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/rsa"
	"encoding/hex"
	"encoding/pem"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/sealsign/sealsign/internal/fault"
	"github.com/sealsign/sealsign/tpm"
)

// keyFiles are key files of every kind, as a TPM made them, by their names.
func keyFiles(t testing.TB) map[string][]byte {
	t.Helper()
	paths := must[[]string](t)(filepath.Glob("testdata/*.pem"))
	if len(paths) == 0 {
		t.Fatal("there are no key files in testdata")
	}
	files := make(map[string][]byte)
	for _, path := range paths {
		block, rest := pem.Decode(must[[]byte](t)(os.ReadFile(path)))
		if block == nil || block.Type != tpm.KeyFileType || len(rest) != 0 {
			t.Fatalf("%s is no PEM file with one %s", path, tpm.KeyFileType)
		}
		files[strings.TrimSuffix(filepath.Base(path), ".pem")] = block.Bytes
	}
	return files
}

func TestKeyFiles(t *testing.T) {
	for name, der := range keyFiles(t) {
		f, err := tpm.ParseKeyFile(der)
		if err != nil {
			t.Errorf("%s: %v", name, err)
			continue
		}
		if !bytes.Equal(f.Marshal(), der) {
			t.Errorf("%s is written otherwise than it was read", name)
		}
		switch public := f.Public().(type) {
		case *rsa.PublicKey:
			if !strings.HasPrefix(name, "rsa-") || public.Size() != 256 {
				t.Errorf("%s has an RSA key of %d bytes", name, public.Size())
			}
		case *ecdsa.PublicKey:
			if name != "p256" && name != "attestor" {
				t.Errorf("%s has a P-256 key", name)
			}
		case nil:
			if !strings.HasPrefix(name, "sealed") && !strings.HasPrefix(name, "hmac-") {
				t.Errorf("%s has no public key", name)
			}
		default:
			t.Errorf("%s has a %T", name, public)
		}
	}
}

func TestKeyFileIsStrict(t *testing.T) {
	files := keyFiles(t)
	for name, der := range files {
		for n := range der {
			if _, err := tpm.ParseKeyFile(der[:n]); err == nil {
				t.Errorf("%s is taken when cut to %d of %d bytes", name, n, len(der))
			}
		}
	}
	for _, c := range []struct {
		what, file string
		from, to   string // hex; lengths must not differ
	}{
		{"an importable key's type", "p256", "0606678105" + "0a0103", "0606678105" + "0a0104"},
		{"a secret said to be a key", "sealed", "0a0105", "0a0103"},
		{"a key said to be a secret", "hmac-sha256", "0a0103", "0a0105"},
		{"another parent", "p256", "020440000001", "02044000000b"},
		{"a boolean that isn't DER", "sealed", "0101ff", "010101"},
		{"an authorization that is said to be there", "sealed", "0101ff", "010100"},
		{"another command in the policy", "sealed-pcrs", "0202017f", "0202016f"},
		{"the same PCR twice", "sealed-pcrs", "000b03000800", "000b03800000"},
		{"two PCRs at once", "sealed-pcrs", "000b03000800", "000b03000c00"},
		{"another value of a PCR", "sealed-pcrs", "66687aad", "66687aae"},
		{"another PCR bank", "sealed-pcrs", "000b03000800", "000403000800"},
		{"a key of another type", "p256", "0023000b00040472", "0001000b00040472"},
		{"another hash for the Name", "p256", "0023000b00040472", "0023000c00040472"},
		{"a key that is subject to lockout", "p256", "0023000b00040472", "0023000b00040072"},
		{"a key that decrypts", "p256", "0023000b00040472", "0023000b00060472"},
		{"another curve", "p256", "0018000b0003", "0018000b0004"},
		{"another RSA exponent", "rsa-generated", "080000000000" + "0100", "080000000003" + "0100"},
		{"an RSA key of another length", "rsa-generated", "080000000000" + "0100", "0c0000000000" + "0100"},
	} {
		from, to := must[[]byte](t)(hex.DecodeString(c.from)), must[[]byte](t)(hex.DecodeString(c.to))
		changed := bytes.Replace(files[c.file], from, to, 1)
		if bytes.Equal(changed, files[c.file]) {
			t.Errorf("%s: %s has no %s", c.what, c.file, c.from)
			continue
		}
		_, err := tpm.ParseKeyFile(changed)
		if err == nil {
			t.Errorf("%s is taken", c.what)
			continue
		}
		wants(t, err, fault.KeyDamaged, "backup")
	}
	for what, der := range map[string][]byte{
		"nothing":        nil,
		"trailing bytes": append(bytes.Clone(files["p256"]), 0),
		"twice the file": bytes.Repeat(files["p256"], 2),
		"9 KiB":          append(bytes.Clone(files["p256"]), make([]byte, 9<<10)...),
	} {
		if _, err := tpm.ParseKeyFile(der); err == nil {
			t.Errorf("%s is taken", what)
		}
	}
}

// FuzzKeyFile: what is taken is written as it was read.
func FuzzKeyFile(f *testing.F) {
	for _, der := range keyFiles(f) {
		f.Add(der)
	}
	f.Fuzz(func(t *testing.T, der []byte) {
		k, err := tpm.ParseKeyFile(der)
		if err != nil {
			return
		}
		if !bytes.Equal(k.Marshal(), der) {
			t.Errorf("%x is written as %x", der, k.Marshal())
		}
		k.Public()
	})
}
