package policy

import (
	"github.com/sealsign/sealsign/agent/venue"
	"github.com/sealsign/sealsign/internal/fault"
)

// keyNamed: the role names the key. This is all that a public request needs.
func keyNamed(in *Input, r *Role) *fault.Error {
	if r.Keys[in.Key] {
		return nil
	}
	key, rule := quote(in.Key), r.rule("keys")
	return deny(fault.KeyNotGranted, "key "+key+" is not in "+rule, "add "+key+" to "+rule)
}

// operationsAllowed: the role allows what every effect does.
func operationsAllowed(in *Input, r *Role) *fault.Error {
	if len(in.Effects) == 0 {
		return deny(fault.OperationNotGranted, "what the request does is not known, so "+r.rule("allow")+" can't allow it", "")
	}
	for i := range in.Effects {
		if err := operationAllowed(in, r, &in.Effects[i]); err != nil {
			return err
		}
	}
	return nil
}

func operationAllowed(in *Input, r *Role, e *venue.Effect) *fault.Error {
	exact := e.ExactLine || e.Operation == venue.Unknown
	switch {
	case e.Operation == venue.Public:
		return nil
	case exact && !r.Lines[Line{in.Method, in.Path}]:
		return lineMissing(in, r, e)
	case e.Operation == venue.Session:
		return sessionAllowed(r, e)
	case exact || r.Allow[e.Operation]:
		return nil
	}
	return operationMissing(r, "operation ", e.Operation)
}

// sessionAllowed: the role allows all that the session can do. Where the
// venue's table doesn't say what that is, the role must allow sessions as such.
func sessionAllowed(r *Role, e *venue.Effect) *fault.Error {
	for _, operation := range e.Grants {
		if !r.Allow[operation] {
			return operationMissing(r, "the session would allow ", operation)
		}
	}
	if len(e.Grants) == 0 && !r.Allow[venue.Session] {
		return operationMissing(r, "operation ", venue.Session)
	}
	return nil
}

func operationMissing(r *Role, what string, o venue.Operation) *fault.Error {
	rule := r.rule("allow")
	return deny(fault.OperationNotGranted,
		what+string(o)+", which is not in "+rule,
		`add "`+string(o)+`" to `+rule)
}

func lineMissing(in *Input, r *Role, e *venue.Effect) *fault.Error {
	rule := r.rule("allow")
	line := quote(in.Method + " " + in.Path)
	return deny(fault.OperationNotGranted,
		"this request ("+string(e.Operation)+") is granted only by its exact line, and "+line+" is not in "+rule,
		"add "+line+" to "+rule)
}

// symbolsAllowed: what trades, cancels or changes settings names a symbol of the
// role. A cancel of named orders may go without, and so may one that the role
// grants by its exact line. A session names none, and would know no bounds.
func symbolsAllowed(in *Input, r *Role) *fault.Error {
	if len(r.Symbols) == 0 {
		return nil
	}
	rule := r.rule("symbols")
	for i := range in.Effects {
		e := &in.Effects[i]
		switch e.Operation {
		case venue.Session:
			return deny(fault.SymbolNotGranted,
				"a session is not held to "+rule+", so it is not handed out",
				"let the agent forward the requests, or use a role without symbols")
		case venue.Trade, venue.Cancel, venue.Settings:
		default:
			continue
		}
		unnamed := e.Operation == venue.Cancel && (e.Named || e.ExactLine)
		if e.Symbol == "" && !unnamed {
			return deny(fault.SymbolNotGranted,
				"the request ("+string(e.Operation)+") names no symbol, and "+rule+" is set",
				"name the symbol in the request, or use a role without symbols")
		}
		if e.Symbol != "" && !r.Symbols[e.Symbol] {
			symbol := quote(e.Symbol)
			return deny(fault.SymbolNotGranted, "symbol "+symbol+" is not in "+rule, "add "+symbol+" to "+rule)
		}
	}
	return nil
}

// rateCounts: a session is not handed out under a rate, since what is done with
// it would not be counted.
func rateCounts(in *Input, r *Role) *fault.Error {
	if r.Rate.Count == 0 || !hasSession(in.Effects) {
		return nil
	}
	return deny(fault.OperationNotGranted,
		"a session is not held to "+r.rule("rate")+", so it is not handed out",
		"let the agent forward the requests, or use a role without a rate")
}

func hasSession(effects []venue.Effect) bool {
	for i := range effects {
		if effects[i].Operation == venue.Session {
			return true
		}
	}
	return false
}
