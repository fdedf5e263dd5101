package agent

import (
	"context"
	"errors"
	"fmt"
	"io"
	"time"

	"github.com/sealsign/sealsign/agent/keyring"
	"github.com/sealsign/sealsign/agent/policy"
	"github.com/sealsign/sealsign/agent/venue"
	"github.com/sealsign/sealsign/internal/fault"
)

const (
	// probeTime is how long the agent's own request to a venue may take in all.
	probeTime = 10 * time.Second
	// maxProbeAnswer bounds the venue's answer: an account with a balance in every currency has less.
	maxProbeAnswer = 1 << 20
)

// try is keyring.Try: it asks the venue whether it takes a version.
func (a *Agent) try(ctx context.Context, name string, use *keyring.Use) (*keyring.Rights, error) {
	_, rights, err := a.probe(ctx, name, use)
	return rights, err
}

// probe makes the harmless read of the key's venue, with the version of a trial or,
// if that is nil, the one that signs. It goes the way of every request. The error is
// KEY_TRIAL_FAILED where the venue doesn't take the version.
func (a *Agent) probe(ctx context.Context, name string, trial *keyring.Use) (version int, rights *keyring.Rights, err error) {
	ctx, cancel := context.WithTimeout(ctx, probeTime)
	defer cancel()
	k := a.inForce().keys[name]
	if k == nil {
		return 0, nil, fault.New(fault.KeyUnknown, "the config has no key %s", name)
	}
	request, ok := k.venue.Probe(k.environment)
	if !ok {
		return 0, nil, fault.New(fault.InternalError, "%s has no read to try a key with", k.venue.Name())
	}
	answer, err := a.Do(ctx, a.self, &Ask{Key: name, Mode: policy.Forward, Request: request, trial: trial})
	if err != nil {
		return 0, nil, err
	}
	status := answer.Response.StatusCode
	body, err := io.ReadAll(io.LimitReader(answer.Response.Body, maxProbeAnswer))
	if err = errors.Join(err, answer.Response.Body.Close()); err != nil {
		return 0, nil, fault.New(fault.VenueUnreachable, "the answer of %s broke off", request.Host).Because(err)
	}
	verdict, code, told := k.venue.Judge(&request, status, body)
	switch verdict {
	case venue.Refused:
		return 0, nil, refusedBy(k, answer.Version, status, code)
	case venue.Unclear:
		return 0, nil, fault.New(fault.VenueUnreachable, "%s answered with status %d, which says nothing of version %d of key %s", request.Host, status, answer.Version, name)
	}
	if told != nil {
		rights = &keyring.Rights{Withdraw: told.Withdraw, IPList: told.IPList, Expires: told.Expires}
		a.warnOfRights(name, answer.Version, rights)
	}
	return answer.Version, rights, nil
}

// refusedBy says that a venue doesn't take a version, by the venue's own code.
func refusedBy(k *key, version, status int, code string) *fault.Error {
	said := fmt.Sprintf("status %d", status)
	if code != "" {
		said += ", code " + code
	}
	return fault.New(fault.KeyTrialFailed, "%s doesn't take version %d of key %s: %s", k.venue.Name(), version, k.name, said).
		WithRule("keys."+k.name+".probe").
		WithHint("look at the key, its permissions and its IP list at the venue; then: sealsign key rebind %s, which tries it again, or import another", k.name)
}

// itself is the agent as a caller: of a key it may read, and nothing else.
func itself(key string) *policy.Caller {
	return &policy.Caller{Name: "sealsignd", Roles: []*policy.Role{{
		Name: "sealsignd", Keys: map[string]bool{key: true}, Allow: map[venue.Operation]bool{venue.Read: true}, Release: policy.Never,
	}}}
}
