package agent

import (
	"context"
	"net/http"

	"github.com/sealsign/sealsign/agent/caller"
	"github.com/sealsign/sealsign/agent/keyring"
	"github.com/sealsign/sealsign/agent/metrics"
	"github.com/sealsign/sealsign/agent/policy"
	"github.com/sealsign/sealsign/agent/venue"
)

// Ask is what a caller wants of the agent.
type Ask struct {
	Key     string // may be empty where the caller has one key for the host only
	Mode    policy.Mode
	Request venue.Request // of a release or forward
	Header  []venue.Field // the app's own; what the venue's allow-list names goes along
	Channel string        // of a login

	trial *keyring.Use // of the agent itself: a version that doesn't sign yet
}

// Answer is what the caller gets.
type Answer struct {
	Version  int            // of the key; 0 for a public endpoint
	Record   uint64         // the id of the decision in the audit log
	Signed   *venue.Signed  // of a release
	Message  []byte         // of a login
	LoginURL string         // where the login goes
	Response *http.Response // of a forward; closing its body records the outcome
}

// Do is the way of every request, and the only one that makes the keyring sign.
// Each step adds to the pass or refuses; leaving the pass records a refusal,
// gives back what the request took from the limits, counts the request, and turns
// the error into the *fault.Error that the caller gets.
func (a *Agent) Do(ctx context.Context, who *caller.Caller, ask *Ask) (answer *Answer, err error) {
	p := a.enter(who, ask)
	err = errDefect // what stays of it when a step panics
	defer func() { err = p.leave(err) }()

	if err := p.took(metrics.Identify, p.identify()); err != nil { // whose process is it, and which key does it ask for
		return nil, err
	}
	if err := p.took(metrics.Classify, p.classify()); err != nil { // what would the request do at the venue
		return nil, err
	}
	if err := p.took(metrics.Decide, p.decide()); err != nil { // may the caller do that
		return nil, err
	}
	if err := p.took(metrics.Render, p.render(ctx)); err != nil { // the exact bytes that the venue wants signed
		return nil, err
	}
	if err := p.took(metrics.Sign, p.sign(ctx)); err != nil { // in the TPM or in guarded memory
		return nil, err
	}
	if err := p.took(metrics.Record, p.write()); err != nil { // in the log, before anything leaves
		return nil, err
	}
	if err := p.took(metrics.Check, p.check()); err != nil { // still the same process, and key and config still grant it
		return nil, err
	}
	if ask.Mode == policy.Forward {
		answer, err = p.forward(ctx)
		return answer, p.took(metrics.Forward, err)
	}
	return p.release(), nil
}
