package mockvenue

import (
	"maps"
	"net/http"
	"slices"
	"sync"
	"time"
)

// Kind is what a request is to the venue.
type Kind string

// The kinds that arrivals are counted by.
const (
	Public   Kind = "public"
	Read     Kind = "read"
	Order    Kind = "order"
	Cancel   Kind = "cancel"
	Session  Kind = "session"
	Withdraw Kind = "withdraw" // money would have left
	Unknown  Kind = "unknown"
)

// Arrival is one request as it reached the venue.
type Arrival struct {
	Time    time.Time
	Method  string
	Path    string
	Query   string
	Header  http.Header
	Body    []byte
	Kind    Kind
	APIKey  string
	Nonce   uint64 // of venues that have one
	Problem string // why the venue refused it; empty: accepted
}

// State is what a venue has seen.
type State struct {
	Accepted map[Kind]int   `json:"accepted"`
	Signed   map[string]int `json:"signed"` // of those that aren't public, by API key
	Refused  int            `json:"refused"`
	Problems []string       `json:"problems"` // the first hundred reasons of refusals
}

// seen collects arrivals. Its cost per request is one lock and one slot of a ring.
type seen struct {
	keep int

	mu    sync.Mutex
	total State
	ring  []Arrival
	next  int
}

const maxProblems = 100

func (s *seen) add(a Arrival) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if a.Problem == "" {
		if s.total.Accepted == nil {
			s.total.Accepted, s.total.Signed = make(map[Kind]int), make(map[string]int)
		}
		s.total.Accepted[a.Kind]++
		if a.Kind != Public {
			s.total.Signed[a.APIKey]++
		}
	} else {
		s.total.Refused++
		if len(s.total.Problems) < maxProblems {
			s.total.Problems = append(s.total.Problems, a.Method+" "+a.Path+": "+a.Problem)
		}
	}
	if len(s.ring) < s.keep {
		s.ring = append(s.ring, a)
		return
	}
	s.ring[s.next] = a
	s.next = (s.next + 1) % s.keep
}

func (s *seen) state() State {
	s.mu.Lock()
	defer s.mu.Unlock()
	all := s.total
	all.Accepted, all.Signed, all.Problems = maps.Clone(all.Accepted), maps.Clone(all.Signed), append([]string{}, all.Problems...)
	return all
}

func (s *seen) last() []Arrival {
	s.mu.Lock()
	defer s.mu.Unlock()
	return slices.Concat(s.ring[s.next:], s.ring[:s.next])
}

func (s *seen) reset() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.total, s.ring, s.next = State{}, nil, 0
}
