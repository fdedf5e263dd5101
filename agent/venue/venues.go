package venue

import (
	"fmt"
	"maps"
	"math"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"
)

// builtins is the table: one entry for each venue that is built in, in a file of
// its own. A venue that isn't listed here doesn't exist.
var builtins = sync.OnceValue(func() []*Venue {
	return []*Venue{
		binance().compile(),
		kraken().compile(),
		coinbaseExchange().compile(),
		coinbaseCDP().compile(),
		okx().compile(),
		bybit().compile(),
		tokenMetrics().compile(),
	}
})

// Builtin finds a built-in venue by its name.
func Builtin(name string) (*Venue, bool) {
	for _, v := range builtins() {
		if v.name == name {
			return v, true
		}
	}
	return nil, false
}

// Names lists the built-in venues.
func Names() []string {
	var names []string
	for _, v := range builtins() {
		names = append(names, v.name)
	}
	return names
}

// Name is the venue's name, as the config has it.
func (v *Venue) Name() string { return v.name }

// Environments lists the environments that the venue has hosts for.
func (v *Venue) Environments() []string {
	var names []string
	for _, e := range v.environments {
		names = append(names, e.name)
	}
	return names
}

// Hosts lists the hosts of an environment, with a port unless it is 443.
func (v *Venue) Hosts(env string) []string {
	e := v.environment(env)
	if e == nil {
		return nil
	}
	var names []string
	for _, h := range e.hosts {
		names = append(names, h.name)
	}
	return names
}

// Algorithms lists the algorithms that the venue's credentials may have.
func (v *Venue) Algorithms() []Algorithm {
	var algorithms []Algorithm
	for _, s := range v.signs {
		algorithms = append(algorithms, s.algorithm)
	}
	return algorithms
}

// Generated lists the algorithms whose key may be made here, since the venue
// takes a public key that is registered with it.
func (v *Venue) Generated() []Algorithm {
	var algorithms []Algorithm
	for _, s := range v.signs {
		if s.register != "" {
			algorithms = append(algorithms, s.algorithm)
		}
	}
	return algorithms
}

// Register is the page to register a public key at; empty: the venue takes none.
func (v *Venue) Register(algorithm Algorithm) string {
	s, _ := v.signing(algorithm)
	return s.register
}

// KeyAPI names the requests by which the venue's API creates and deletes keys; empty:
// only people can, at its pages.
func (v *Venue) KeyAPI() string { return v.keyAPI }

// SecretEncoding is how the venue writes an HMAC secret: "raw" or "base64".
func (v *Venue) SecretEncoding() string { return v.secret }

// Passphrase tells that a credential has a passphrase.
func (v *Venue) Passphrase() bool {
	return v.passphraseShown() || v.message.has(tokPassphrase)
}

// Nonce tells that every request carries a nonce that must be higher than the last.
func (v *Venue) Nonce() bool {
	return v.message.has(tokNonce, tokNonceBodySHA256)
}

// Template is what a configured venue signs and sends, as its credentials are
// bound to it: a changed one makes the venue another. Empty for a built-in one.
func (v *Venue) Template() string { return v.text }

// AuthHeaders lists the header fields that the agent owns at this venue: the
// app's own never go out, nor does what is not in ForwardHeaders.
func (v *Venue) AuthHeaders() []string {
	names := make(map[string]bool)
	for _, h := range v.header {
		names[h.name] = true
	}
	for _, e := range v.environments {
		for _, h := range e.header {
			names[h.name] = true
		}
	}
	return slices.Sorted(maps.Keys(names))
}

// ForwardHeaders lists the header fields of the app that go out. The content type
// is not among them: Signed has it, as the body was read.
func (v *Venue) ForwardHeaders() []string {
	names := append([]string{"Accept", "Accept-Encoding", "Accept-Language", "User-Agent"}, v.passes...)
	return slices.DeleteFunc(names, func(name string) bool {
		return slices.ContainsFunc(v.header, func(h headerField) bool { return strings.EqualFold(h.name, name) })
	})
}

// TimePath is the path of the public endpoint that tells the venue's time on a
// host; empty: there is none.
func (v *Venue) TimePath(hostname string) string {
	h := v.host(hostname)
	if h != nil && h.service != nil && h.service.clock != "" {
		return h.service.clock
	}
	return v.clock.path
}

// ParseTime reads the time in an answer of the endpoint at TimePath, and how
// exactly it is told.
func (v *Venue) ParseTime(answer []byte) (at time.Time, precision time.Duration, err error) {
	tape, err := parseJSON(string(answer))
	if err != nil {
		return time.Time{}, 0, fmt.Errorf("the time of %s %w", v.name, err)
	}
	node := 0
	for _, step := range v.clock.answer {
		next := len(tape)
		for member := range members(tape, node) {
			if member.name == step {
				next = member.node(tape)
			}
		}
		for at := range elements(tape, node) {
			if step == "0" {
				next = at
				break
			}
		}
		if node = next; node == len(tape) {
			return time.Time{}, 0, fmt.Errorf("the time of %s has no %s", v.name, strings.Join(v.clock.answer, "."))
		}
	}
	if v.clock.tick == 0 {
		at, err := time.Parse(time.RFC3339Nano, tape[node].text)
		return at, time.Millisecond, err
	}
	count, err := strconv.ParseInt(tape[node].text, 10, 64)
	if err != nil || count < 0 || count > math.MaxInt64/int64(v.clock.tick) {
		return time.Time{}, 0, fmt.Errorf("the time of %s is no number", v.name)
	}
	return time.Unix(0, count*int64(v.clock.tick)), v.clock.tick, nil
}

// WithHosts gives the venue with other hosts in the environments of hosts; they
// serve all of its rows, and its WebSockets, also where the environment has none of its own.
func (v *Venue) WithHosts(hosts map[string][]string) (*Venue, error) {
	changed := *v
	changed.environments = slices.Clone(v.environments)
	for _, name := range slices.Sorted(maps.Keys(hosts)) {
		own, err := hostsOf(hosts[name])
		if err != nil {
			return nil, fmt.Errorf("hosts.%s: %w", name, err)
		}
		at := slices.IndexFunc(changed.environments, func(e environment) bool { return e.name == name })
		if at < 0 {
			changed.environments = append(changed.environments, environment{name: name})
			at = len(changed.environments) - 1
		}
		e := &changed.environments[at]
		sockets := e.sockets
		if sockets == nil && len(v.environments) > 0 {
			sockets = v.environments[0].sockets
		}
		e.hosts, e.sockets = own, movedTo(own[0].name, sockets)
	}
	return &changed, nil
}

// hostsOf reads the hosts of an environment as the config has them.
func hostsOf(names []string) ([]host, error) {
	if len(names) == 0 {
		return nil, fmt.Errorf("is empty; name at least one host")
	}
	var hosts []host
	for _, name := range names {
		normal, err := normalHost(name)
		if err != nil {
			return nil, fmt.Errorf("%q is no host; write a name or address, with a port unless it is 443", name)
		}
		if slices.ContainsFunc(hosts, func(h host) bool { return h.name == normal }) {
			return nil, fmt.Errorf("%q comes twice", name)
		}
		hosts = append(hosts, host{name: normal})
	}
	return hosts, nil
}

// movedTo gives the WebSocket URLs with another host.
func movedTo(host string, sockets map[string]string) map[string]string {
	moved := make(map[string]string, len(sockets))
	for channel, raw := range sockets {
		u, err := url.Parse(raw)
		if err != nil {
			panic("venue: " + raw + " is no URL")
		}
		u.Host = host
		moved[channel] = u.String()
	}
	return moved
}

func (v *Venue) environment(name string) *environment {
	for i := range v.environments {
		if v.environments[i].name == name {
			return &v.environments[i]
		}
	}
	return nil
}

func (e *environment) has(hostname string) bool {
	return slices.ContainsFunc(e.hosts, func(h host) bool { return h.name == hostname })
}

func (v *Venue) signing(algorithm Algorithm) (signing, bool) {
	for _, s := range v.signs {
		if s.algorithm == algorithm {
			return s, true
		}
	}
	return signing{}, false
}
