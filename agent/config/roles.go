package config

import (
	"strings"

	"github.com/sealsign/sealsign/agent/policy"
	"github.com/sealsign/sealsign/agent/venue"
)

// operations are the words of allow. Public requests need no word, and have one.
var operations = venue.Operations[:len(venue.Operations)-1]

func (l *loader) roles(s *section) {
	l.config.Roles = make(map[string]*policy.Role)
	for name, s := range s.each("a role") {
		l.config.Roles[name] = s.role(name)
	}
}

func (s *section) role(name string) *policy.Role {
	r := &policy.Role{Name: name, Keys: make(map[string]bool)}
	keys, at, found := s.texts("keys")
	if !found {
		s.problem(at, "is missing; name the keys that the role is for")
	}
	for _, key := range keys {
		if s.config.Keys[key.text] == nil {
			s.problem(key.place, "%s is no key; there are %s", clip(key.text), some[*Key](s.config.Keys))
		}
		r.Keys[key.text] = true
	}
	s.allow(r)
	s.symbols(r)
	if text, at := s.text("rate", ""); text != "" {
		rate, err := policy.ParseRate(text)
		if err != nil {
			s.problem(at, "%v", err)
		}
		r.Rate = rate
	}
	r.Release = choice(s, "release", policy.Never, policy.Never, policy.Bound, policy.Unbound)
	if r.Release == policy.Unbound && len(r.Symbols) > 0 {
		s.problem(s.members["release"].place, `"unbound" would get around symbols: a signature that it releases also fits orders for others; drop one of the two`)
	}
	s.later("max_order_value", "max_daily_value", "max_order_quantity", "weight", "approve", "approvals", "totp_for", "destinations")
	s.done("a setting of a role")
	return r
}

// allow reads operations and exact request lines.
func (s *section) allow(r *policy.Role) {
	r.Allow = make(map[venue.Operation]bool)
	r.Lines = make(map[policy.Line]bool)
	words, at, found := s.texts("allow")
	if !found {
		s.problem(at, "is missing; write allow = [] where public requests are enough")
	}
	known := make(map[venue.Operation]bool)
	for _, op := range operations {
		known[op] = true
	}
	for _, word := range words {
		op := venue.Operation(word.text)
		method, path, isLine := strings.Cut(word.text, " ")
		switch {
		case isLine:
			if why := badLine(method, path); why != "" {
				s.problem(word.place, "%s %s", clip(word.text), why)
			}
			r.Lines[policy.Line{Method: method, Path: path}] = true
		case known[op]:
			r.Allow[op] = true
		case op == venue.Unknown:
			s.problem(word.place, `unknown requests are allowed one by one, by their exact line, as in "POST /api/v3/new"`)
		default:
			s.problem(word.place, `%s is no operation; there are %s, and exact lines such as "POST /api/v3/new"`, clip(word.text), list(operations))
		}
	}
}

// badLine says why a line can't match any request that the agent accepts.
func badLine(method, path string) string {
	switch {
	case strings.Contains(path, "*"):
		return "has a *: a line of a role is exact and stands for itself alone"
	case strings.Contains(path, "?"):
		return "has a query: a line is method and path"
	}
	if _, err := venue.NewRequest(method, "localhost", path, "", nil); err != nil {
		return "matches no request: " + message(err)
	}
	return ""
}

// symbols reads the symbols, as the venue's API writes them.
func (s *section) symbols(r *policy.Role) {
	symbols, at, found := s.texts("symbols")
	if found && len(symbols) == 0 {
		s.problem(at, "is empty; leave it out to allow any symbol")
	}
	for _, symbol := range symbols {
		if r.Symbols == nil {
			r.Symbols = make(map[string]bool)
		}
		r.Symbols[symbol.text] = true
	}
}
