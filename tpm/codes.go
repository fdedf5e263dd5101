package tpm

import (
	"errors"
	"fmt"
	"time"

	"github.com/google/go-tpm/tpm2"
	"github.com/sealsign/sealsign/internal/fault"
)

// remedy is what an error of one command asks for.
type remedy int

const (
	tell   remedy = iota // nothing: it is the answer
	wait                 // the TPM is busy: the same again, a little later
	reload               // what the connection held is gone or in the way: a new one, and once more
	reopen               // the connection can't be trusted any more, the command may have been run
)

const (
	// How long a busy TPM is asked again, and how often.
	busyFirst = time.Millisecond
	busyMost  = 500 * time.Millisecond
	busyTotal = 5 * time.Second
)

// remedies has the codes that are not simply told (part 2, 6.6.3; which of them
// real TPMs return, and when, is in the TCG's notes to each).
var remedies = map[tpm2.TPMRC]remedy{
	tpm2.TPMRCRetry:         wait,
	tpm2.TPMRCYielded:       wait,
	tpm2.TPMRCTesting:       wait,
	tpm2.TPMRCNVRate:        wait,
	tpm2.TPMRCNVUnavailable: wait,
	tpm2.TPMRCCanceled:      wait,
	tpm2.TPMRCPCRChanged:    wait, // some PCR, while a policy was being satisfied

	tpm2.TPMRCContextGap:     reload,
	tpm2.TPMRCObjectMemory:   reload,
	tpm2.TPMRCSessionMemory:  reload,
	tpm2.TPMRCMemory:         reload,
	tpm2.TPMRCSessionHandles: reload,
	tpm2.TPMRCObjectHandles:  reload,
	tpm2.TPMRCHandle:         reload,
	tpm2.TPMRCInitialize:     reload,
	tpm2.TPMRCReferenceH0:    reload,
	tpm2.TPMRCReferenceH1:    reload,
	tpm2.TPMRCReferenceH2:    reload,
	tpm2.TPMRCReferenceS0:    reload,
	tpm2.TPMRCReferenceS1:    reload,

	// The authorization value may be wrong, or the session spoiled by what was
	// read wrong when it began: nothing vouches for that answer.
	tpm2.TPMRCBadAuth:  reload,
	tpm2.TPMRCAuthFail: reload,

	tpm2.TPMRCFailure: reopen,
}

// remedyFor classifies what a command returned. An error that is neither the
// TPM's code nor a refusal of this package comes from the transport, or from an
// answer that could not be read or wasn't authentic.
func remedyFor(err error) remedy {
	if code, ok := errors.AsType[tpm2.TPMRC](err); ok {
		for known, r := range remedies {
			if code.Is(known) {
				return r
			}
		}
		return tell
	}
	if _, ok := errors.AsType[*fault.Error](err); ok {
		return tell
	}
	return reopen
}

// unsure is whether the TPM may have done what it answers it hasn't: the answer came
// from a connection, or a session, that can't be trusted.
func unsure(err error) bool {
	code, ok := errors.AsType[tpm2.TPMRC](err)
	return remedyFor(err) == reopen || ok && (code.Is(tpm2.TPMRCBadAuth) || code.Is(tpm2.TPMRCAuthFail))
}

// refusesParameter is whether the TPM took offence at something it was given.
func refusesParameter(err error) bool {
	var detail tpm2.TPMFmt1Error
	if !errors.As(err, &detail) {
		return false
	}
	is, _ := detail.Parameter()
	return is
}

// explain turns what is left of an error into a refusal. doing is what was
// tried: "unsealing".
func explain(doing string, err error) error {
	if f, ok := errors.AsType[*fault.Error](err); ok {
		return f
	}
	code, ok := errors.AsType[tpm2.TPMRC](err)
	if !ok {
		return fault.New(fault.TPMUnavailable, "%s: the TPM did not answer", doing).Because(err)
	}
	switch {
	case code.Is(tpm2.TPMRCFailure):
		return fault.New(fault.TPMUnavailable, "%s: the TPM is in failure mode and takes no commands", doing).
			WithHint("restart the machine; if it stays so, the TPM is broken").Because(err)
	case code.Is(tpm2.TPMRCLockout):
		return fault.New(fault.TPMUnavailable, "%s: the TPM is locked out after wrong authorizations", doing).
			WithHint("tpm2_getcap properties-variable shows when it ends; tpm2_dictionarylockout --clear-lockout ends it").Because(err)
	case code.Is(tpm2.TPMRCAuthFail), code.Is(tpm2.TPMRCBadAuth):
		return fault.New(fault.KeyDamaged, "%s: the authorization value is not the one it was made with", doing).Because(err)
	case remedyFor(err) == wait:
		return fault.New(fault.TPMUnavailable, "%s: the TPM is busy and was so for %v (%v)", doing, busyTotal, code).Because(err)
	}
	return fault.New(fault.TPMUnavailable, "%s: the TPM refused: %v", doing, code).Because(err)
}

// errShort is an answer whose parts don't fill what its sizes say.
func errShort(what string) error { return fmt.Errorf("%s is cut short", what) }
