package tpm

import (
	"encoding/binary"
	"strings"

	"github.com/google/go-tpm/tpm2"
)

// Codes that Options.Ran is told where the TPM has none of its own.
const (
	NoAnswer    = "NO_ANSWER"    // it didn't come, came too late, or can't be read
	UnknownCode = "UNKNOWN_CODE" // the specification has no such code
)

// commandNames are those of part 3 of the specification, of the commands that are used here.
var commandNames = map[tpm2.TPMCC]string{
	tpm2.TPMCCActivateCredential: "TPM2_ActivateCredential",
	tpm2.TPMCCCertify:            "TPM2_Certify",
	tpm2.TPMCCCreate:             "TPM2_Create",
	tpm2.TPMCCCreatePrimary:      "TPM2_CreatePrimary",
	tpm2.TPMCCFlushContext:       "TPM2_FlushContext",
	tpm2.TPMCCGetCapability:      "TPM2_GetCapability",
	tpm2.TPMCCHMAC:               "TPM2_HMAC",
	tpm2.TPMCCMACStart:           "TPM2_HMAC_Start",
	tpm2.TPMCCHash:               "TPM2_Hash",
	tpm2.TPMCCHashSequenceStart:  "TPM2_HashSequenceStart",
	tpm2.TPMCCImport:             "TPM2_Import",
	tpm2.TPMCCLoad:               "TPM2_Load",
	tpm2.TPMCCLoadExternal:       "TPM2_LoadExternal",
	tpm2.TPMCCNVDefineSpace:      "TPM2_NV_DefineSpace",
	tpm2.TPMCCNVIncrement:        "TPM2_NV_Increment",
	tpm2.TPMCCNVRead:             "TPM2_NV_Read",
	tpm2.TPMCCNVReadPublic:       "TPM2_NV_ReadPublic",
	tpm2.TPMCCNVWrite:            "TPM2_NV_Write",
	tpm2.TPMCCPCRRead:            "TPM2_PCR_Read",
	tpm2.TPMCCPolicyAuthorize:    "TPM2_PolicyAuthorize",
	tpm2.TPMCCPolicyNV:           "TPM2_PolicyNV",
	tpm2.TPMCCPolicyPCR:          "TPM2_PolicyPCR",
	tpm2.TPMCCPolicySecret:       "TPM2_PolicySecret",
	tpm2.TPMCCReadPublic:         "TPM2_ReadPublic",
	tpm2.TPMCCSequenceComplete:   "TPM2_SequenceComplete",
	tpm2.TPMCCSequenceUpdate:     "TPM2_SequenceUpdate",
	tpm2.TPMCCSign:               "TPM2_Sign",
	tpm2.TPMCCStartAuthSession:   "TPM2_StartAuthSession",
	tpm2.TPMCCTestParms:          "TPM2_TestParms",
	tpm2.TPMCCUnseal:             "TPM2_Unseal",
	tpm2.TPMCCVerifySignature:    "TPM2_VerifySignature",
}

func commandName(command []byte) string {
	if name := commandNames[tpm2.TPMCC(binary.BigEndian.Uint32(command[6:]))]; name != "" {
		return name
	}
	return "other"
}

// codeName is the name of the code in an answer, such as TPM_RC_RETRY; empty: success.
func codeName(response []byte, err error) string {
	if err != nil {
		return NoAnswer
	}
	code := tpm2.TPMRC(binary.BigEndian.Uint16(response[8:])) // the upper half is the kernel's
	if code == tpm2.TPMRCSuccess {
		return ""
	}
	text := code.Error()
	if end := strings.IndexAny(text, " :"); end > 0 && strings.HasPrefix(text, "TPM_RC_") {
		return text[:end]
	}
	return UnknownCode
}
