package server

import (
	"net/http"
	"time"

	"google.golang.org/genproto/googleapis/rpc/errdetails"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/protoadapt"
	"google.golang.org/protobuf/types/known/durationpb"

	"github.com/sealsign/sealsign/internal/fault"
	pb "github.com/sealsign/sealsign/proto/sealsign/v1"
)

// errorDomain is the domain of every google.rpc.ErrorInfo of ours.
const errorDomain = "sealsign"

// answers is what each class of refusals is on the wire: the gRPC code, and the
// HTTP status that bots' libraries read rightly (422 is neither "try again" nor
// "your key is bad", on which some of them wipe it).
var answers = map[fault.Class]struct {
	code   codes.Code
	status int
}{
	fault.Internal:        {codes.Internal, http.StatusInternalServerError},
	fault.Invalid:         {codes.InvalidArgument, http.StatusBadRequest},
	fault.Unauthenticated: {codes.Unauthenticated, http.StatusUnauthorized},
	fault.Denied:          {codes.PermissionDenied, http.StatusUnprocessableEntity},
	fault.KeyState:        {codes.FailedPrecondition, http.StatusUnprocessableEntity},
	fault.Limited:         {codes.ResourceExhausted, http.StatusTooManyRequests},
	fault.Unavailable:     {codes.Unavailable, http.StatusServiceUnavailable},
	fault.Upstream:        {codes.Unavailable, http.StatusBadGateway},
}

// statusOf makes a refusal the error of a gRPC call.
func statusOf(err error) error {
	refusal := fault.From(err)
	details := []protoadapt.MessageV1{&errdetails.ErrorInfo{
		Reason:   string(refusal.Reason),
		Domain:   errorDomain,
		Metadata: map[string]string{"hint": refusal.Hint, "rule": refusal.Rule},
	}}
	if refusal.RetryAfter > 0 {
		details = append(details, &errdetails.RetryInfo{RetryDelay: durationpb.New(refusal.RetryAfter)})
	}
	plain := status.New(answers[refusal.Reason.Class()].code, refusal.Message)
	full, err := plain.WithDetails(details...)
	if err != nil {
		return plain.Err()
	}
	return full.Err()
}

// streamStatus makes a refusal part of an answer on SignStream.
func streamStatus(err error) *pb.Status {
	refusal := fault.From(err)
	return &pb.Status{
		Code:         int32(answers[refusal.Reason.Class()].code), //nolint:gosec // the codes are 0 to 16
		Reason:       string(refusal.Reason),
		Message:      refusal.Message,
		Hint:         refusal.Hint,
		Rule:         refusal.Rule,
		RetryAfterMs: (refusal.RetryAfter + time.Millisecond - 1).Milliseconds(),
	}
}
