package agent

import (
	"cmp"
	"context"
	"fmt"
	"io"
	"net/http"
	"slices"
	"strings"
	"time"

	"github.com/sealsign/sealsign/agent/caller"
	"github.com/sealsign/sealsign/agent/config"
	"github.com/sealsign/sealsign/agent/keyring"
	"github.com/sealsign/sealsign/agent/policy"
	"github.com/sealsign/sealsign/agent/venue"
	"github.com/sealsign/sealsign/internal/fault"
)

// maxTimeAnswer bounds a venue's answer to the question for its time.
const maxTimeAnswer = 64 << 10

// setup is one config made ready for use. It never changes: an edit makes another.
type setup struct {
	config   *config.Config
	callers  policy.Callers
	keys     map[string]*key
	hosts    map[string][]*key // in the order of their names
	ends     []time.Time       // when keys expire, in order
	loadedAt time.Time
	counters counters
}

// key is what the config says of a key, with what its requests need.
type key struct {
	name, environment string
	venue             *venue.Venue
	algorithm         venue.Algorithm
	protection        string
	probe             string // when its versions are tried, as keyring.Spec has it
	hosts             []string
	ca                string          // SHA-256 of its CA file as hex, or empty
	passes            map[string]bool // header fields of the app that go out, in lower case
	transport         *http.Transport
	clocks            map[string]venueTime // by host
	loginClock        string               // the host whose clock a login goes by, or empty
}

// newSetup makes a config ready. Transports are shared between keys, and kept
// from one config to the next, so that a reload breaks no connection. before is the
// setup that this one follows; nil: none.
func newSetup(c *config.Config, transports *transports, at time.Time, before *setup) *setup {
	s := &setup{config: c, callers: c.Callers, ends: endsOf(c.Keys), loadedAt: at, keys: make(map[string]*key, len(c.Keys)), hosts: make(map[string][]*key)}
	for name, from := range c.Keys {
		k := &key{
			name: name, environment: from.Environment, venue: from.Venue, algorithm: from.Algorithm, protection: string(from.Protection),
			hosts: from.Venue.Hosts(from.Environment), passes: make(map[string]bool),
			transport: transports.of(c.CAs[from.Venue.Name()]), clocks: make(map[string]venueTime),
		}
		if _, ok := k.venue.Probe(k.environment); ok {
			k.probe = string(from.Probe)
		}
		if ca := c.CAs[from.Venue.Name()]; ca != nil {
			k.ca = ca.SHA256
		}
		for _, field := range k.venue.ForwardHeaders() {
			k.passes[strings.ToLower(field)] = true
		}
		for _, host := range k.hosts {
			s.hosts[host] = append(s.hosts[host], k)
			if path := k.venue.TimePath(host); path != "" {
				k.clocks[host] = k.readClock(host, path)
				k.loginClock = cmp.Or(k.loginClock, host)
			}
		}
		s.keys[name] = k
	}
	for _, keys := range s.hosts {
		slices.SortFunc(keys, func(a, b *key) int { return strings.Compare(a.name, b.name) })
	}
	s.counters = newCounters(s, before)
	return s
}

// specs is what the keyring needs to know of the keys.
func (s *setup) specs() []keyring.Spec {
	specs := make([]keyring.Spec, 0, len(s.keys))
	for name, from := range s.config.Keys {
		k := s.keys[name]
		specs = append(specs, keyring.Spec{
			Name: name, Venue: k.venue.Name(), Environment: k.environment, Algorithm: string(k.algorithm), Protection: k.protection,
			SecretEncoding: k.venue.SecretEncoding(), Hosts: k.hosts, CA: k.ca, Template: k.venue.Template(),
			Version: from.Version, Passphrase: k.venue.Passphrase(), Probe: k.probe,
			MaxAge: from.MaxAge, Expires: from.Expires, IdleAfter: from.IdleAfter,
		})
	}
	return specs
}

// goesWhere tells whether requests of one key go where those of the other go, and
// are signed alike.
func (k *key) goesWhere(other *key) bool {
	return k.name == other.name && k.venue.Name() == other.venue.Name() && k.venue.Template() == other.venue.Template() &&
		k.environment == other.environment && k.algorithm == other.algorithm && k.ca == other.ca && slices.Equal(k.hosts, other.hosts)
}

// match finds the caller that a process is.
func (s *setup) match(who *caller.Caller) (*policy.Caller, error) {
	return s.callers.Match(&policy.Facts{UID: who.UID, Groups: who.Groups, Unit: who.Unit, Exe: who.Exe, SHA256: who.SHA256})
}

// choose finds the key that a request is for: the one it names, or the caller's
// only one at the host. Where there are several it gives the first and says so,
// since a public request may go with any.
func (s *setup) choose(c *policy.Caller, ask *Ask) (chosen *key, several bool, err error) {
	host := ask.Request.Host
	if ask.Key != "" {
		k := s.keys[ask.Key]
		if k == nil {
			name := clip(ask.Key)
			return nil, false, fault.New(fault.KeyUnknown, "there is no key %q", name).
				WithHint("sealsign key list shows the keys; a new one needs [keys.%s] in the config", name)
		}
		if ask.Mode != policy.Login && !slices.Contains(k.hosts, host) {
			return nil, false, fault.New(fault.HostNotAllowed, "%q is not a host of key %s", host, k.name).
				WithRule("keys."+k.name+".venue").
				WithHint("key %s may be used at %s", k.name, strings.Join(k.hosts, ", "))
		}
		return k, false, nil
	}
	at := s.hosts[host]
	if len(at) == 0 {
		return nil, false, fault.New(fault.HostNotAllowed, "%q is the host of no key", host).
			WithHint("sealsign key list shows the keys, and sealsign venues NAME the hosts of their venues")
	}
	for _, k := range at {
		if !grants(c, k.name) {
			continue
		}
		if chosen != nil {
			return chosen, true, nil
		}
		chosen = k
	}
	if chosen == nil {
		return nil, false, fault.New(fault.KeyNotGranted, "caller %s has no key at %s", c.Name, host).
			WithRule("callers." + c.Name + ".roles").
			WithHint("give the caller a role that names one of the keys at this host")
	}
	return chosen, false, nil
}

// outgoing adds those of the app's header fields that go to the venue.
func (k *key) outgoing(signed, app []venue.Field) []venue.Field {
	for _, field := range app {
		if k.passes[strings.ToLower(field.Name)] {
			signed = append(signed, field)
		}
	}
	return signed
}

// readClock makes what reads the venue's clock at a host.
func (k *key) readClock(host, path string) venueTime {
	return func(ctx context.Context) (time.Time, time.Duration, error) {
		request, err := http.NewRequestWithContext(ctx, http.MethodGet, "https://"+host+path, nil)
		if err != nil {
			return time.Time{}, 0, err
		}
		request.Header.Set("User-Agent", userAgent)
		response, err := k.transport.RoundTrip(request)
		if err != nil {
			return time.Time{}, 0, err
		}
		defer response.Body.Close()
		if response.StatusCode != http.StatusOK {
			return time.Time{}, 0, fmt.Errorf("status %d", response.StatusCode)
		}
		answer, err := io.ReadAll(io.LimitReader(response.Body, maxTimeAnswer))
		if err != nil {
			return time.Time{}, 0, err
		}
		return k.venue.ParseTime(answer)
	}
}

// grants tells whether one of the caller's roles names the key.
func grants(c *policy.Caller, key string) bool {
	return slices.ContainsFunc(c.Roles, func(r *policy.Role) bool { return r.Keys[key] })
}
