package venue

import (
	"slices"
	"strings"

	"github.com/sealsign/sealsign/internal/fault"
)

// Call is a request that a venue's table has judged: what it would do there, and
// what its signature would cover. It belongs to the one Request it was made of.
type Call struct {
	Effects []Effect
	Binding Binding

	row *row
	one [1]Effect // what Effects is, for nearly every request
}

// Public tells that the request goes out without credential, nonce or signature.
func (c *Call) Public() bool { return c.row != nil && c.row.op == Public }

// Classify says what a request would do at the venue. A request that no row
// matches is one Unknown effect; one that reads has no fields. Symbols, assets and addresses are the request's
// own texts, decoded and not translated: a role must name a symbol as the app
// writes it. A request whose parameters the row doesn't have, or writes in a type
// that the row doesn't expect, is a BAD_REQUEST fault; a host that isn't the
// venue's is HOST_NOT_ALLOWED.
func (v *Venue) Classify(r *Request) (*Call, error) {
	at := v.host(r.Host)
	if at == nil {
		return nil, fault.New(fault.HostNotAllowed, "%s is not a host of %s", r.Host, v.name).
			WithHint("sealsign venues %s shows its hosts", v.name)
	}
	call := &Call{}
	if at.serves(r.Path) {
		row, err := v.row(r.Method, r.Path)
		if err != nil {
			return nil, err
		}
		call.row = row
	}
	if err := v.carries(r, call.row); err != nil {
		return nil, err
	}
	effects, err := v.effects(r, call)
	if err == nil {
		err = short(effects)
	}
	if err != nil {
		return nil, err
	}
	call.Effects = effects
	call.Binding = v.bind(r, call)
	return call, nil
}

// host finds one of the venue's hosts, in any of its environments.
func (v *Venue) host(name string) *host {
	for i := range v.environments {
		for j := range v.environments[i].hosts {
			if h := &v.environments[i].hosts[j]; h.name == name {
				return h
			}
		}
	}
	return nil
}

// serves tells whether the host has rows at path.
func (h *host) serves(path string) bool {
	if h.service == nil || len(h.service.prefixes) == 0 {
		return true
	}
	return slices.ContainsFunc(h.service.prefixes, func(prefix string) bool { return strings.HasPrefix(path, prefix) })
}

// carries refuses parameters in a place where the venue reads none, and a body
// of another type than the row's.
func (v *Venue) carries(r *Request, row *row) error {
	if row != nil && row.op == Public {
		if r.body != noBody {
			return bad("%s takes no body", row.line)
		}
		return nil
	}
	if v.alwaysPost && r.Method != post {
		return bad("%s takes private requests by POST only", v.name)
	}
	if r.Query != "" && r.Method != get && r.Method != del && !v.postQuery {
		return bad("%s takes no query with a %s", v.name, r.Method).WithHint("put the parameters in the body")
	}
	if r.body != noBody {
		if err := v.carriesBody(r, row); err != nil {
			return err
		}
	}
	return v.ownNames(r)
}

func (v *Venue) carriesBody(r *Request, row *row) error {
	if r.Method == del && !v.deleteBody {
		return bad("%s takes no body with a DELETE", v.name).WithHint("put the parameters in the query")
	}
	if !slices.Contains(v.bodies, r.body) {
		return bad("%s takes no body of this content type", v.name)
	}
	if r.body != jsonBody {
		return nil
	}
	isList := r.tape[0].kind == array
	if isList && v.stamp != nil {
		return bad("%s takes no JSON list: the %s has no place in it", v.name, v.stamp.name)
	}
	if row != nil && row.op != Read && !row.anything {
		if wantList := row.shape != nil && row.shape.list == "*"; isList != wantList {
			return bad("the JSON body of %s is %s", row.line, r.tape[0].kind)
		}
	}
	return nil
}

// ownNames refuses a parameter that is the agent's but for its case: beside the
// agent's own it would come twice.
func (v *Venue) ownNames(r *Request) error {
	for p := range r.fields().all() {
		for _, own := range [...]string{v.signedIn, v.stampName()} {
			if own != "" && p.name != own && strings.EqualFold(p.name, own) {
				return bad("parameter %s is %s in another case", quote(p.name), quote(own))
			}
		}
	}
	return nil
}

func (v *Venue) stampName() string {
	if v.stamp == nil {
		return ""
	}
	return v.stamp.name
}
