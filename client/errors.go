package client

import (
	"context"
	"errors"
	"fmt"
	"io"
	"time"

	"google.golang.org/genproto/googleapis/rpc/errdetails"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/sealsign/sealsign/internal/fault"
	pb "github.com/sealsign/sealsign/proto/sealsign/v1"
)

// Error is a refusal: its Reason, a Message that names the thing, a Hint that
// names the next step, the Rule of the agent's config that decided, and how
// long to wait before a retry makes sense (RetryAfter; 0: it makes none).
// MaybeSent is set where a forwarded request may have reached the venue all the same.
type Error = fault.Error

// Reason is the stable name of a refusal. errors.Is(err, client.KeySuspended)
// tells whether err is a refusal for that reason.
type Reason = fault.Reason

// The reasons. More may come; none is ever changed.
const (
	InternalError       = fault.InternalError
	BadRequest          = fault.BadRequest
	CallerUnknown       = fault.CallerUnknown
	CallerGone          = fault.CallerGone
	KeyUnknown          = fault.KeyUnknown
	KeyNotGranted       = fault.KeyNotGranted
	HostNotAllowed      = fault.HostNotAllowed
	OperationNotGranted = fault.OperationNotGranted
	SymbolNotGranted    = fault.SymbolNotGranted
	ReleaseNotGranted   = fault.ReleaseNotGranted
	ReleaseNotBound     = fault.ReleaseNotBound
	RateLimited         = fault.RateLimited
	TooManyConnections  = fault.TooManyConnections
	KeyEmpty            = fault.KeyEmpty
	KeyPending          = fault.KeyPending
	KeySuspended        = fault.KeySuspended
	KeyExpired          = fault.KeyExpired
	KeyRetired          = fault.KeyRetired
	KeyRevoked          = fault.KeyRevoked
	KeyDamaged          = fault.KeyDamaged
	KeyLocked           = fault.KeyLocked
	KeyUnsupported      = fault.KeyUnsupported
	KeyRebindRequired   = fault.KeyRebindRequired
	KeyTrialFailed      = fault.KeyTrialFailed
	WrappedInvalid      = fault.WrappedInvalid
	WrappedMismatch     = fault.WrappedMismatch
	WrappedReplayed     = fault.WrappedReplayed
	ImporterUnknown     = fault.ImporterUnknown
	ConfigInvalid       = fault.ConfigInvalid
	TPMUnavailable      = fault.TPMUnavailable
	AuditUnavailable    = fault.AuditUnavailable
	LedgerUnavailable   = fault.LedgerUnavailable
	StoreUnavailable    = fault.StoreUnavailable
	StoreUntrusted      = fault.StoreUntrusted
	MemoryUnavailable   = fault.MemoryUnavailable
	ClockSkew           = fault.ClockSkew
	AgentUnavailable    = fault.AgentUnavailable
	VenueUnreachable    = fault.VenueUnreachable
)

// domain is that of the agent's google.rpc.ErrorInfo.
const domain = "sealsign"

// refusalOf gives the error of a gRPC call the form of this package.
func refusalOf(err error, socket string) error {
	if errors.Is(err, io.EOF) {
		return unreachable(socket, err)
	}
	s, _ := status.FromError(err)
	var refusal *Error
	var retry time.Duration
	for _, detail := range s.Details() {
		switch detail := detail.(type) {
		case *errdetails.ErrorInfo:
			if detail.GetDomain() == domain {
				refusal = fault.New(Reason(detail.GetReason()), "%s", s.Message())
				refusal.Hint, refusal.Rule = detail.GetMetadata()["hint"], detail.GetMetadata()["rule"]
			}
		case *errdetails.RetryInfo:
			retry = detail.GetRetryDelay().AsDuration()
		}
	}
	if refusal != nil {
		refusal.RetryAfter = retry
		return refusal
	}
	switch s.Code() {
	case codes.DeadlineExceeded:
		return fmt.Errorf("no answer from the agent: %w", context.DeadlineExceeded)
	case codes.Canceled:
		return fmt.Errorf("no answer from the agent: %w", context.Canceled)
	case codes.Unavailable:
		return unreachable(socket, err)
	case codes.ResourceExhausted: // gRPC's own limit on messages
		return fault.New(BadRequest, "the request is too long").Because(err)
	}
	return fault.New(InternalError, "%s", s.Message()).Because(err)
}

// refusalIn reads a refusal inside a stream.
func refusalIn(s *pb.Status) error {
	refusal := fault.New(Reason(s.GetReason()), "%s", s.GetMessage())
	refusal.Hint, refusal.Rule = s.GetHint(), s.GetRule()
	refusal.RetryAfter = time.Duration(s.GetRetryAfterMs()) * time.Millisecond
	return refusal
}

func unreachable(socket string, cause error) error {
	return fault.New(AgentUnavailable, "no agent answers at %s", socket).
		WithHint("is sealsignd running, and is this user in the group of the socket? sealsign doctor").Because(cause)
}
