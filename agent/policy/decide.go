package policy

import (
	"strconv"
	"strings"

	"github.com/sealsign/sealsign/agent/venue"
	"github.com/sealsign/sealsign/internal/fault"
)

// rules are what a role must pass to grant a request, in the order in which
// they are asked; name is the field of the role that the rule reads. A rule
// returns nil or the refusal. To add a rule, add an entry.
var rules = []struct {
	name  string
	check func(*Input, *Role) *fault.Error
}{
	{"keys", keyNamed},
	{"allow", operationsAllowed},
	{"symbols", symbolsAllowed},
	{"release", releaseAllowed},
	{"rate", rateCounts},
}

// Decide says which role grants the request, and what that takes from the
// role's rate. One role alone must grant the whole request, every effect of it;
// the first that does wins. The refusal otherwise is a *fault.Error: that of the
// role which passed the most rules, the first of them on a tie.
func Decide(in *Input) (Decision, error) {
	var refusal *fault.Error
	furthest := -1
	var nearest *Role
	for _, role := range in.Roles {
		if nearest != nil && !role.Keys[in.Key] {
			continue // gets no further than the nearest, and needs no words
		}
		at, err := judge(in, role)
		if err == nil {
			return granted(in, role), nil
		}
		if at > furthest {
			furthest, refusal, nearest = at, err, role
		}
	}
	if nearest == nil {
		return Decision{}, fault.New(fault.KeyNotGranted, "the caller has no role").
			WithRule("callers").
			WithHint("give the caller a role that names key %s", quote(in.Key))
	}
	refusal.Rule = nearest.rule(rules[furthest].name)
	return Decision{}, refusal
}

// judge returns the refusal of the first rule that the role doesn't pass, and
// which rule that is.
func judge(in *Input, role *Role) (at int, refusal *fault.Error) {
	for i := range rules {
		if err := rules[i].check(in, role); err != nil {
			return i, err
		}
	}
	return len(rules), nil
}

func granted(in *Input, role *Role) Decision {
	if public(in.Effects) {
		return Decision{Rule: role.rule("keys")}
	}
	d := Decision{Rule: role.rule("allow")}
	if role.Rate.Count > 0 {
		d.Charge = Charge{Name: role.rule("rate") + "/" + in.Key, Count: role.Rate.Count, Per: role.Rate.Per}
	}
	return d
}

// public: the request needs no credential, and goes out without one.
func public(effects []venue.Effect) bool {
	for i := range effects {
		if effects[i].Operation != venue.Public {
			return false
		}
	}
	return len(effects) > 0
}

// rule is the name of a field of the role, as the config has it.
func (r *Role) rule(field string) string {
	return "roles." + r.Name + "." + field
}

// deny makes a refusal. It is called for each role that doesn't grant, so it
// joins strings rather than formats them. Decide adds the rule.
func deny(reason fault.Reason, message, hint string) *fault.Error {
	return &fault.Error{Reason: reason, Message: message, Hint: hint}
}

// maxQuoted is how many bytes of a request's text a refusal repeats: more than
// any symbol, and than most paths.
const maxQuoted = 128

// quote makes text of a request fit for a message: escaped and of bounded length.
func quote(text string) string {
	if len(text) > maxQuoted {
		text = strings.ToValidUTF8(text[:maxQuoted], "") + "…"
	}
	return strconv.Quote(text)
}
