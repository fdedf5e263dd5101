package tpm

import (
	"crypto/aes"
	"crypto/cipher"

	"github.com/google/go-tpm/tpm2"
)

// AES-128-CFB is what TPMs encrypt parameters and wrapped objects with. It is
// never alone: an HMAC covers what it encrypts.

const cipherSize = 16 // bytes, of key and block alike

func aes128CFB() tpm2.TPMTSymDef {
	return tpm2.TPMTSymDef{
		Algorithm: tpm2.TPMAlgAES,
		KeyBits:   tpm2.NewTPMUSymKeyBits(tpm2.TPMAlgAES, tpm2.TPMKeyBits(cipherSize*8)),
		Mode:      tpm2.NewTPMUSymMode(tpm2.TPMAlgAES, tpm2.TPMAlgCFB),
	}
}

func encryptCFB(key, iv, data []byte) error {
	block, err := aes.NewCipher(key)
	if err != nil {
		return err
	}
	cipher.NewCFBEncrypter(block, iv).XORKeyStream(data, data) //nolint:staticcheck // the mode is the TPM's
	return nil
}

func decryptCFB(key, iv, data []byte) error {
	block, err := aes.NewCipher(key)
	if err != nil {
		return err
	}
	cipher.NewCFBDecrypter(block, iv).XORKeyStream(data, data) //nolint:staticcheck // the mode is the TPM's
	return nil
}
