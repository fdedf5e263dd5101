package metrics

import (
	"slices"
	"sync/atomic"

	"github.com/sealsign/sealsign/agent/venue"
	"github.com/sealsign/sealsign/internal/fault"
)

// Unknown stands where there is no caller or key of the config: it is no name that
// one can have, so that neither is mixed up with it.
const Unknown = "(unknown)"

// Outcome is what became of a request.
type Outcome int

// The outcomes.
const (
	Allowed Outcome = iota
	Denied          // before anything was signed, or since it couldn't be recorded
	Failed          // after it was allowed: the caller left, or the venue couldn't be reached
	outcomes
)

var outcomeNames = [outcomes]string{"allowed", "denied", "failed"}

var reasons = fault.Reasons()

// Requests counts what became of the requests of one caller with one key. A request
// reaches its counter without a lock and without a label being looked at: what it
// holds are a place for each operation and, once there was a refusal, for each
// reason. The zero value isn't ready: use NewRequests.
type Requests struct {
	caller, key string
	allowed     []atomic.Uint64                    // by operation
	refused     [outcomes][]atomic.Pointer[counts] // by operation; nil: none yet
}

type counts []atomic.Uint64 // by reason

// NewRequests counts from 0.
func NewRequests(caller, key string) *Requests {
	r := &Requests{caller: caller, key: key, allowed: make([]atomic.Uint64, len(venue.Operations))}
	for o := Denied; o < outcomes; o++ {
		r.refused[o] = make([]atomic.Pointer[counts], len(venue.Operations))
	}
	return r
}

// Count counts one request. An operation that there isn't, as of a request that was
// refused before it was classified, counts as unknown. The reason is that of the refusal.
func (r *Requests) Count(operation venue.Operation, outcome Outcome, reason fault.Reason) {
	at := slices.Index(venue.Operations, operation)
	if at < 0 {
		at = slices.Index(venue.Operations, venue.Unknown)
	}
	if outcome == Allowed {
		r.allowed[at].Add(1)
		return
	}
	why := slices.Index(reasons, reason)
	if why < 0 {
		why = slices.Index(reasons, fault.InternalError)
	}
	refused := &r.refused[outcome][at]
	if refused.Load() == nil {
		made := make(counts, len(reasons))
		refused.CompareAndSwap(nil, &made)
	}
	(*refused.Load())[why].Add(1)
}

// collect gives what was counted.
func (r *Requests) collect(give giver) {
	for at, operation := range venue.Operations {
		if n := r.allowed[at].Load(); n > 0 {
			give(requests, float64(n), r.caller, r.key, string(operation), outcomeNames[Allowed], "")
		}
		for o := Denied; o < outcomes; o++ {
			refused := r.refused[o][at].Load()
			if refused == nil {
				continue
			}
			for why := range *refused {
				if n := (*refused)[why].Load(); n > 0 {
					give(requests, float64(n), r.caller, r.key, string(operation), outcomeNames[o], string(reasons[why]))
				}
			}
		}
	}
}
