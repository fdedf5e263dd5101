package config

import (
	"maps"
	"slices"
	"time"

	"github.com/sealsign/sealsign/agent/venue"
)

// maxVersion bounds the version of a key: it names a file.
const maxVersion = 1_000_000_000

// idleAfter is when a key that nobody uses is marked, where the config doesn't say.
const idleAfter = 90 * 24 * time.Hour

func (l *loader) keys(s *section) {
	l.config.Keys = make(map[string]*Key)
	for name, s := range s.each("a key") {
		l.config.Keys[name] = s.key(name)
	}
}

func (s *section) key(name string) *Key {
	k := &Key{Name: name}
	venueName, venueAt := s.required("venue", `"binance" or another venue`)
	v, known := s.config.Venues[venueName]
	if venueName != "" && !known {
		s.problem(venueAt, "%s is no venue; there are %s", clip(venueName), some[*venue.Venue](s.config.Venues))
	}
	k.Venue = v

	var at place
	k.Environment, at = s.required("environment", clip(s.config.Agent.Environment))
	daemon := s.config.Agent.Environment
	switch {
	case k.Environment == "" || daemon == "":
	case k.Environment != daemon:
		s.problem(at, "is %s, and this agent serves %s alone (agent.environment): keys of other environments belong to other agents", clip(k.Environment), clip(daemon))
	case v != nil && len(v.Hosts(daemon)) == 0:
		s.problem(at, "%s has no hosts in %s, only in %s; name them as venues.%s.hosts", venueName, clip(daemon), list(v.Environments()), venueName)
	}

	k.Algorithm, at = s.algorithm(v)
	k.Protection = choice(s, "protection", Sealed, Sealed, Resident, Generated)
	if v != nil && k.Algorithm != "" {
		s.protection(k, at)
	}
	if n, ok := s.number("version", 1, maxVersion); ok {
		k.Version = int(n)
	}
	k.Grace = s.duration("grace", 0)
	s.ignored("grace", "no sessions are kept here yet that an old version could serve; what began with it has ten seconds, and then it is wiped")
	k.MaxAge = s.duration("max_age", 0)
	k.Expires = s.moment("expires")
	k.IdleAfter = s.duration("idle_after", idleAfter)
	s.probe(k)
	s.done("a setting of a key")
	return k
}

// probe reads when versions are tried, which not every venue has a read for.
func (s *section) probe(k *Key) {
	k.Probe = choice(s, "probe", ProbeAuto, ProbeAuto, ProbeOff, ProbeRequired)
	if k.Probe != ProbeRequired || k.Venue == nil {
		return
	}
	if _, ok := k.Venue.Probe(k.Environment); !ok && len(k.Venue.Hosts(k.Environment)) > 0 {
		s.problem(s.members["probe"].place, "is %s, and nothing is known of %s that a key could be tried with; it can be %s", ProbeRequired, k.Venue.Name(), list([]Probe{ProbeAuto, ProbeOff}))
	}
}

// algorithm reads one that the venue takes. It may be left out where there is no choice.
func (s *section) algorithm(v *venue.Venue) (venue.Algorithm, place) {
	text, at := s.text("algorithm", "")
	if v == nil {
		return "", at
	}
	possible := v.Algorithms()
	_, given := s.members["algorithm"]
	switch {
	case !given && len(possible) == 1:
		return possible[0], at
	case !given:
		s.problem(at, "is missing; %s takes %s", v.Name(), list(possible))
		return "", at
	case !slices.Contains(possible, venue.Algorithm(text)):
		s.problem(at, "is %s; %s takes %s", clip(text), v.Name(), list(possible))
		return "", at
	}
	return venue.Algorithm(text), at
}

// protection refuses what no TPM can do, and what needs a policy that can't be
// enrolled yet. What the TPM of this host can't do is found by the daemon.
func (s *section) protection(k *Key, algorithmAt place) {
	at := algorithmAt
	if v, ok := s.members["protection"]; ok {
		at = v.place
	}
	possible := protections(k.Venue, k.Algorithm)
	if !slices.Contains([]Protection{Sealed, Resident, Generated}, k.Protection) {
		return // a problem already
	}
	if !slices.Contains(possible, k.Protection) {
		s.problem(at, "a key of %s with %s can't be %s; it can be %s", k.Venue.Name(), k.Algorithm, k.Protection, list(possible))
		return
	}
	if t := &s.config.TPM; k.Protection != Sealed && len(t.PCRs) > 0 && t.PCRAuthority == nil && !s.elsewhere {
		s.problem(at, "a key that is %s can't be bound to the values of tpm.pcrs, only to an authority's word for them: name one in tpm.pcr_authority, or leave tpm.pcrs empty", k.Protection)
	}
}

// protections are those possible with any TPM 2.0: it makes HMACs and signs with
// RSA and P-256, but not with Ed25519, and a static credential signs nothing. A
// generated key is of use only where the venue takes a public key.
func protections(v *venue.Venue, algorithm venue.Algorithm) []Protection {
	possible := []Protection{Sealed}
	switch algorithm {
	case venue.HMACSHA256, venue.HMACSHA384, venue.HMACSHA512:
		return append(possible, Resident)
	case venue.RSASHA256, venue.ES256:
		possible = append(possible, Resident)
		if slices.Contains(v.Generated(), algorithm) {
			possible = append(possible, Generated)
		}
	}
	return possible
}

// some is the names of a map for a message, the first of them where there are many.
type some[T any] map[string]T

func (m some[T]) String() string {
	const most = 12
	names := slices.Sorted(maps.Keys(m))
	if len(names) > most {
		names = append(names[:most], "others")
	}
	return list(names)
}
