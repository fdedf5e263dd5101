// Package fault is how sealsign says no: a stable reason, a message that names
// the thing, and a hint that names the next step. Every package returns these,
// the sockets carry them, and the Go client gives them back, so that a reason
// means the same in the code, on the wire and in the log. A fault never holds a
// secret, nor the bytes of a request.
package fault

import (
	"errors"
	"fmt"
	"maps"
	"slices"
	"time"
)

// Reason is the stable, upper-case name of a refusal. Names are part of the
// contract with scripts and clients: they are added to, never changed.
type Reason string

// Class groups reasons by what a client should make of them.
type Class int

const (
	// Internal: a defect of sealsign itself.
	Internal Class = iota
	// Invalid: the request can't be read one way only; sending it again is no use.
	Invalid
	// Unauthenticated: the caller or the key isn't known.
	Unauthenticated
	// Denied: the policy says no.
	Denied
	// KeyState: the key exists and can't sign now.
	KeyState
	// Limited: too much at once; RetryAfter says when.
	Limited
	// Unavailable: the TPM, the log, the clock or the agent is down.
	Unavailable
	// Upstream: the venue could not be reached.
	Upstream
)

// The reasons, each with its class in the table below.
const (
	InternalError       Reason = "INTERNAL"
	BadRequest          Reason = "BAD_REQUEST"
	CallerUnknown       Reason = "CALLER_UNKNOWN"
	CallerGone          Reason = "CALLER_GONE"
	KeyUnknown          Reason = "KEY_UNKNOWN"
	KeyNotGranted       Reason = "KEY_NOT_GRANTED"
	HostNotAllowed      Reason = "HOST_NOT_ALLOWED"
	OperationNotGranted Reason = "OPERATION_NOT_GRANTED"
	SymbolNotGranted    Reason = "SYMBOL_NOT_GRANTED"
	ReleaseNotGranted   Reason = "RELEASE_NOT_GRANTED"
	ReleaseNotBound     Reason = "RELEASE_NOT_BOUND"
	RateLimited         Reason = "RATE_LIMITED"
	TooManyConnections  Reason = "TOO_MANY_CONNECTIONS"
	KeyEmpty            Reason = "KEY_EMPTY"
	KeyPending          Reason = "KEY_PENDING"
	KeySuspended        Reason = "KEY_SUSPENDED"
	KeyExpired          Reason = "KEY_EXPIRED"
	KeyRetired          Reason = "KEY_RETIRED"
	KeyRevoked          Reason = "KEY_REVOKED"
	KeyDamaged          Reason = "KEY_DAMAGED"
	KeyLocked           Reason = "KEY_LOCKED"
	KeyUnsupported      Reason = "KEY_UNSUPPORTED"
	KeyRebindRequired   Reason = "KEY_REBIND_REQUIRED"
	KeyTrialFailed      Reason = "KEY_TRIAL_FAILED"
	WrappedInvalid      Reason = "WRAPPED_INVALID"
	WrappedMismatch     Reason = "WRAPPED_MISMATCH"
	WrappedReplayed     Reason = "WRAPPED_REPLAYED"
	ImporterUnknown     Reason = "IMPORTER_UNKNOWN"
	ConfigInvalid       Reason = "CONFIG_INVALID"
	TPMUnavailable      Reason = "TPM_UNAVAILABLE"
	AuditUnavailable    Reason = "AUDIT_UNAVAILABLE"
	LedgerUnavailable   Reason = "LEDGER_UNAVAILABLE"
	StoreUnavailable    Reason = "STORE_UNAVAILABLE"
	StoreUntrusted      Reason = "STORE_UNTRUSTED"
	MemoryUnavailable   Reason = "MEMORY_UNAVAILABLE"
	ClockSkew           Reason = "CLOCK_SKEW"
	AgentUnavailable    Reason = "AGENT_UNAVAILABLE"
	VenueUnreachable    Reason = "VENUE_UNREACHABLE"
)

var classes = map[Reason]Class{
	InternalError:       Internal,
	BadRequest:          Invalid,
	CallerUnknown:       Unauthenticated,
	CallerGone:          Unauthenticated,
	KeyUnknown:          Unauthenticated,
	KeyNotGranted:       Denied,
	HostNotAllowed:      Denied,
	OperationNotGranted: Denied,
	SymbolNotGranted:    Denied,
	ReleaseNotGranted:   Denied,
	ReleaseNotBound:     Denied,
	RateLimited:         Limited,
	TooManyConnections:  Limited,
	KeyEmpty:            KeyState,
	KeyPending:          KeyState,
	KeySuspended:        KeyState,
	KeyExpired:          KeyState,
	KeyRetired:          KeyState,
	KeyRevoked:          KeyState,
	KeyDamaged:          KeyState,
	KeyLocked:           KeyState,
	KeyUnsupported:      KeyState,
	KeyRebindRequired:   KeyState,
	KeyTrialFailed:      KeyState,
	WrappedInvalid:      Invalid,
	WrappedMismatch:     Invalid,
	WrappedReplayed:     Invalid,
	ImporterUnknown:     Denied,
	ConfigInvalid:       Invalid,
	TPMUnavailable:      Unavailable,
	AuditUnavailable:    Unavailable,
	LedgerUnavailable:   Unavailable,
	StoreUnavailable:    Unavailable,
	StoreUntrusted:      KeyState,
	MemoryUnavailable:   Unavailable,
	ClockSkew:           Unavailable,
	AgentUnavailable:    Unavailable,
	VenueUnreachable:    Upstream,
}

// Reasons are all that there are, in alphabetical order.
func Reasons() []Reason { return slices.Sorted(maps.Keys(classes)) }

// Class is Internal for a reason that this version doesn't know.
func (r Reason) Class() Class { return classes[r] }

// Error makes a reason comparable: errors.Is(err, fault.KeySuspended).
func (r Reason) Error() string { return string(r) }

// Error is one refusal.
type Error struct {
	Reason     Reason
	Message    string        // names the thing and what is wrong with it
	Hint       string        // the next step, or empty
	Rule       string        // the rule that decided, as the config names it, or empty
	RetryAfter time.Duration // how long to wait before a retry makes sense; 0: it makes none
	MaybeSent  bool          // the request may have reached the venue all the same
	Cause      error         // for the daemon's log; never sent to a caller
}

func (e *Error) Error() string { return string(e.Reason) + ": " + e.Message }

// Unwrap gives the reason and the cause, so that errors.Is finds both.
func (e *Error) Unwrap() []error {
	if e.Cause == nil {
		return []error{e.Reason}
	}
	return []error{e.Reason, e.Cause}
}

// New makes a refusal.
func New(reason Reason, format string, args ...any) *Error {
	return &Error{Reason: reason, Message: fmt.Sprintf(format, args...)}
}

// WithHint adds the next step.
func (e *Error) WithHint(format string, args ...any) *Error {
	e.Hint = fmt.Sprintf(format, args...)
	return e
}

// WithRule adds the rule that decided.
func (e *Error) WithRule(rule string) *Error {
	e.Rule = rule
	return e
}

// Because adds the cause.
func (e *Error) Because(err error) *Error {
	e.Cause = err
	return e
}

// From finds the refusal in err. An error that is none is a defect and becomes
// INTERNAL, its text kept as the cause only.
func From(err error) *Error {
	if e, ok := errors.AsType[*Error](err); ok {
		return e
	}
	return New(InternalError, "an internal error; the daemon's log has it").Because(err)
}
