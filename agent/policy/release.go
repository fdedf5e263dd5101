package policy

import (
	"github.com/sealsign/sealsign/agent/venue"
	"github.com/sealsign/sealsign/internal/fault"
)

// forwardHint goes with every refusal of a release: forwarding gives nothing away.
const forwardHint = "let the agent send it: forward the request through http.sock"

// releaseAllowed: nothing leaves the agent for the caller's own use that the
// role doesn't trust it with: no signed request, and no session. A public
// request carries no credential and may.
func releaseAllowed(in *Input, r *Role) *fault.Error {
	session := hasSession(in.Effects)
	if public(in.Effects) || in.Mode == Forward && !session {
		return nil
	}
	if in.Mode == Release && in.Binding.Never {
		return deny(fault.ReleaseNotBound,
			"the credential itself would be in the signed request, which no "+r.rule("release")+" allows", forwardHint)
	}
	switch r.Release {
	case Bound, Unbound:
	default:
		what := "signed requests are not handed out"
		if session {
			what = "sessions are not handed out"
		}
		return deny(fault.ReleaseNotGranted, r.rule("release")+` is "never": `+what,
			forwardHint+"; or set "+r.rule("release")+` = "bound"`)
	}
	switch {
	case in.Mode != Release: // a session stands for all that it can do, and the role allows that
		return nil
	case r.Release == Unbound:
		return unboundAllowed(in, r)
	}
	return boundAllowed(in, r)
}

// boundAllowed: the signed request is all that the caller gets: no other
// fits the signature, and what changes something and is counted can't be sent twice.
func boundAllowed(in *Input, r *Role) *fault.Error {
	if in.Binding.Loose != "" {
		return deny(fault.ReleaseNotBound,
			r.rule("release")+` is "bound", and the venue's signature leaves open: `+in.Binding.Loose, forwardHint)
	}
	if operation := repeatable(in.Effects); operation != "" && r.Rate.Count > 0 && in.Binding.Once == "" {
		return deny(fault.ReleaseNotBound,
			"the venue would accept the signed request ("+string(operation)+") more than once, and "+r.rule("rate")+" would count it once", forwardHint)
	}
	return nil
}

// unboundAllowed: the operator accepts what else the signature fits, but not
// where the role says which symbols, nor where it fits what moves funds.
func unboundAllowed(in *Input, r *Role) *fault.Error {
	if len(r.Symbols) > 0 {
		return deny(fault.ReleaseNotBound,
			r.rule("release")+` is "unbound", which would get around `+r.rule("symbols"), forwardHint)
	}
	if in.Binding.FundMoving != "" {
		return deny(fault.ReleaseNotBound,
			"even "+r.rule("release")+` = "unbound" doesn't release what also fits a request that moves funds: `+in.Binding.FundMoving, forwardHint)
	}
	return nil
}

// repeatable finds what does more each time that it is sent: anything but a read, a
// cancel and a session, which no rate lets out.
func repeatable(effects []venue.Effect) venue.Operation {
	for i := range effects {
		switch operation := effects[i].Operation; operation {
		case venue.Read, venue.Cancel, venue.Session, venue.Public:
		default:
			return operation
		}
	}
	return ""
}
