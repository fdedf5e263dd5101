package fault

import (
	"errors"
	"fmt"
	"testing"
)

func TestErrorIsItsReasonAndItsCause(t *testing.T) {
	cause := errors.New("disk full")
	err := fmt.Errorf("wrapped: %w", New(AuditUnavailable, "the log can't take records").Because(cause))
	if !errors.Is(err, AuditUnavailable) || !errors.Is(err, cause) {
		t.Fatalf("%v is not found by its reason and its cause", err)
	}
	if errors.Is(err, KeyRevoked) {
		t.Fatal("found by another reason")
	}
}

func TestFromHidesADefect(t *testing.T) {
	e := From(errors.New("secret detail"))
	if e.Reason != InternalError || e.Message == "secret detail" {
		t.Fatalf("got %v", e)
	}
}
