package tpm

import (
	"github.com/google/go-tpm/tpm2"
)

// The public areas of everything made here. All are noDA: with the lockout
// counter in play, three power cuts lock a TPM whose authorizations were right.

// sealedTemplate is a sealed secret. Without a policy it opens with its
// (empty) authorization, that is, for who may use this TPM; with one, by the
// policy alone.
func sealedTemplate(policy []byte) tpm2.TPMTPublic {
	return tpm2.TPMTPublic{
		Type:    tpm2.TPMAlgKeyedHash,
		NameAlg: tpm2.TPMAlgSHA256,
		ObjectAttributes: tpm2.TPMAObject{
			FixedTPM:     true,
			FixedParent:  true,
			UserWithAuth: policy == nil,
			NoDA:         true,
		},
		AuthPolicy: tpm2.TPM2BDigest{Buffer: policy},
		Parameters: tpm2.NewTPMUPublicParms(tpm2.TPMAlgKeyedHash, &tpm2.TPMSKeyedHashParms{
			Scheme: tpm2.TPMTKeyedHashScheme{Scheme: tpm2.TPMAlgNull},
		}),
	}
}

func hmacTemplate(hash tpm2.TPMAlgID) tpm2.TPMTPublic {
	return tpm2.TPMTPublic{
		Type:    tpm2.TPMAlgKeyedHash,
		NameAlg: tpm2.TPMAlgSHA256,
		ObjectAttributes: tpm2.TPMAObject{
			FixedTPM:     true,
			FixedParent:  true,
			UserWithAuth: true,
			NoDA:         true,
			SignEncrypt:  true,
		},
		Parameters: tpm2.NewTPMUPublicParms(tpm2.TPMAlgKeyedHash, hmacParms(hash)),
	}
}

func hmacParms(hash tpm2.TPMAlgID) *tpm2.TPMSKeyedHashParms {
	return &tpm2.TPMSKeyedHashParms{Scheme: tpm2.TPMTKeyedHashScheme{
		Scheme:  tpm2.TPMAlgHMAC,
		Details: tpm2.NewTPMUSchemeKeyedHash(tpm2.TPMAlgHMAC, &tpm2.TPMSSchemeHMAC{HashAlg: hash}),
	}}
}

// signer is the attributes of a key that signs. One made in the TPM can't leave
// it; an imported one has come from outside, and no policy lets it out again.
func signer(made bool) tpm2.TPMAObject {
	return tpm2.TPMAObject{
		FixedTPM:            made,
		FixedParent:         made,
		SensitiveDataOrigin: made,
		UserWithAuth:        true,
		NoDA:                true,
		SignEncrypt:         true,
	}
}

// rsaTemplate signs PKCS#1 v1.5 with SHA-256: PSS salts differ between TPMs.
func rsaTemplate(bits int, modulus []byte) tpm2.TPMTPublic {
	return tpm2.TPMTPublic{
		Type:             tpm2.TPMAlgRSA,
		NameAlg:          tpm2.TPMAlgSHA256,
		ObjectAttributes: signer(modulus == nil),
		Parameters:       tpm2.NewTPMUPublicParms(tpm2.TPMAlgRSA, rsaParms(bits)),
		Unique:           tpm2.NewTPMUPublicID(tpm2.TPMAlgRSA, &tpm2.TPM2BPublicKeyRSA{Buffer: modulus}),
	}
}

func rsaParms(bits int) *tpm2.TPMSRSAParms {
	return &tpm2.TPMSRSAParms{
		Scheme: tpm2.TPMTRSAScheme{
			Scheme:  tpm2.TPMAlgRSASSA,
			Details: tpm2.NewTPMUAsymScheme(tpm2.TPMAlgRSASSA, &tpm2.TPMSSigSchemeRSASSA{HashAlg: tpm2.TPMAlgSHA256}),
		},
		KeyBits: tpm2.TPMKeyBits(bits),
	}
}

// p256Template signs ECDSA with SHA-256; x and y are nil for a key to be made.
func p256Template(x, y []byte) tpm2.TPMTPublic {
	return tpm2.TPMTPublic{
		Type:             tpm2.TPMAlgECC,
		NameAlg:          tpm2.TPMAlgSHA256,
		ObjectAttributes: signer(x == nil),
		Parameters:       tpm2.NewTPMUPublicParms(tpm2.TPMAlgECC, p256Parms()),
		Unique: tpm2.NewTPMUPublicID(tpm2.TPMAlgECC, &tpm2.TPMSECCPoint{
			X: tpm2.TPM2BECCParameter{Buffer: x},
			Y: tpm2.TPM2BECCParameter{Buffer: y},
		}),
	}
}

func p256Parms() *tpm2.TPMSECCParms {
	return &tpm2.TPMSECCParms{
		Scheme: tpm2.TPMTECCScheme{
			Scheme:  tpm2.TPMAlgECDSA,
			Details: tpm2.NewTPMUAsymScheme(tpm2.TPMAlgECDSA, &tpm2.TPMSSigSchemeECDSA{HashAlg: tpm2.TPMAlgSHA256}),
		},
		CurveID: tpm2.TPMECCNistP256,
	}
}

// attestorTemplate is a restricted signer: it signs only digests that the TPM
// made itself, of what can't be taken for one of the TPM's own statements.
func attestorTemplate() tpm2.TPMTPublic {
	t := p256Template(nil, nil)
	t.ObjectAttributes.Restricted = true
	return t
}
