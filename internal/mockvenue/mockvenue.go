// Package mockvenue is a TLS server that plays the exchanges for tests, demos
// and benchmarks. It checks what arrives with code of its own (the standard
// library only, written from the venues' documents, not from agent/venue), so
// that a signature which it accepts was made right twice. Each venue listens on
// a port of its own; paths, answers and error codes are the venue's.
package mockvenue

import (
	"crypto/tls"
	"errors"
	"fmt"
	"log"
	"maps"
	"net"
	"net/http"
	"os"
	"slices"
	"strconv"
	"sync"
	"time"
)

// Options say how the exchanges run. The zero value is good for tests.
type Options struct {
	Dir  string           // where ca.pem is written; it must exist
	Port int              // the first venue's port, the others follow in the order of Venues; 0: any free ones
	Keep int              // how many of the last arrivals are kept; 0: 1,000
	Now  func() time.Time // the venues' clock; nil: time.Now
}

// Server is all exchanges, running.
type Server struct {
	now    func() time.Time
	ca     *authority
	venues map[string]*venue // by name
	hosts  map[string]*venue // by the address that they listen at
	http   *http.Server
	ended  sync.WaitGroup
}

// venue is one exchange with its accounts and what it has seen.
type venue struct {
	name     string
	host     string
	listener net.Listener
	exchange
	accounts accounts
	book     book
	seen     seen

	mu         sync.Mutex
	behaviours map[string]Behaviour // by path
}

// Venues lists the names of all exchanges. They are sealsign's names of them;
// "acme" stands for a venue that the config declares.
func Venues() []string {
	return []string{"binance", "kraken", "coinbase-exchange", "coinbase-cdp", "okx", "bybit", "tokenmetrics", "acme"}
}

// exchanges is the one table of what is played.
func exchanges() map[string]exchange {
	return map[string]exchange{
		"binance":           binance(),
		"kraken":            kraken(),
		"coinbase-exchange": coinbaseExchange(),
		"coinbase-cdp":      coinbaseCDP(),
		"okx":               okx(),
		"bybit":             bybit(),
		"tokenmetrics":      tokenMetrics(),
		"acme":              acme(),
	}
}

// Start opens a loopback listener for each exchange and serves until Close.
func Start(o Options) (*Server, error) {
	if o.Now == nil {
		o.Now = time.Now
	}
	if o.Keep == 0 {
		o.Keep = 1000
	}
	ca, err := newAuthority(o.Dir)
	if err != nil {
		return nil, err
	}
	s := &Server{now: o.Now, ca: ca, venues: make(map[string]*venue), hosts: make(map[string]*venue)}
	s.http = &http.Server{
		Handler:           http.HandlerFunc(s.serve),
		ReadHeaderTimeout: 10 * time.Second,
		TLSConfig:         &tls.Config{Certificates: []tls.Certificate{ca.server}, MinVersion: tls.VersionTLS12},
		ErrorLog:          log.New(os.Stderr, "mockvenue: ", 0),
	}
	table := exchanges()
	for i, name := range Venues() {
		port := 0
		if o.Port != 0 {
			port = o.Port + i
		}
		if err := s.open(name, table[name], port, o.Keep); err != nil {
			s.Close()
			return nil, err
		}
	}
	for _, v := range s.venues { // not before: requests read the tables
		s.ended.Go(func() {
			if err := s.http.ServeTLS(v.listener, "", ""); !errors.Is(err, http.ErrServerClosed) {
				log.Printf("mockvenue: %s: %v", v.name, err)
			}
		})
	}
	return s, nil
}

// open makes one exchange and its listener.
func (s *Server) open(name string, x exchange, port, keep int) error {
	listener, err := net.Listen("tcp", net.JoinHostPort("127.0.0.1", strconv.Itoa(port)))
	if err != nil {
		return fmt.Errorf("mockvenue: %s: %w", name, err)
	}
	v := &venue{
		name: name, host: listener.Addr().String(), listener: listener, exchange: x,
		seen: seen{keep: keep}, behaviours: make(map[string]Behaviour),
	}
	maps.Copy(v.behaviours, x.faults)
	s.venues[name], s.hosts[v.host] = v, v
	return nil
}

// Close ends all exchanges at once, open connections too.
func (s *Server) Close() {
	s.http.Close()
	for _, v := range s.venues {
		v.listener.Close() // again, or for the first time where Start failed
	}
	s.ended.Wait()
}

// Host is where a venue listens: "127.0.0.1:PORT".
func (s *Server) Host(venue string) string { return s.venue(venue).host }

// CAFile is the path of the PEM certificate that signed the server's own.
func (s *Server) CAFile() string { return s.ca.file }

// Client trusts the server, follows no redirect and knows nothing of sealsign.
func (s *Server) Client() *http.Client {
	return &http.Client{
		Transport:     &http.Transport{TLSClientConfig: &tls.Config{RootCAs: s.ca.pool, MinVersion: tls.VersionTLS12}, ForceAttemptHTTP2: true},
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}
}

// venue panics on a name that isn't there: a mistake in the test that asks.
func (s *Server) venue(name string) *venue {
	v, ok := s.venues[name]
	if !ok {
		panic(fmt.Sprintf("mockvenue: no venue %q, the venues are %v", name, Venues()))
	}
	return v
}

// Config is TOML that sends each venue's requests in the environment here, and
// declares acme: the [venues] part of a config.
func (s *Server) Config(environment string) string {
	var b []byte
	for _, name := range Venues() {
		b = fmt.Appendf(b, "[venues.%s]\nhosts = { %s = [%q] }\nca_file = %q\n", name, environment, s.Host(name), s.ca.file)
		if name == "acme" {
			b = append(b, acmeConfig...)
		}
		b = append(b, '\n')
	}
	return string(b)
}

// Behave sets what an accepted request for the path gets instead of the venue's
// ordinary answer. A zero Behaviour restores that.
func (s *Server) Behave(venue, path string, b Behaviour) {
	v := s.venue(venue)
	v.mu.Lock()
	defer v.mu.Unlock()
	if b == (Behaviour{}) {
		delete(v.behaviours, path)
		return
	}
	v.behaviours[path] = b
}

func (v *venue) behaviour(path string) (Behaviour, bool) {
	v.mu.Lock()
	defer v.mu.Unlock()
	b, ok := v.behaviours[path]
	return b, ok
}

// Seen is the state of one venue: what arrived since the start, or since Reset.
func (s *Server) Seen(venue string) State { return s.venue(venue).seen.state() }

// Arrivals are the last requests that reached the venue, oldest first.
func (s *Server) Arrivals(venue string) []Arrival { return s.venue(venue).seen.last() }

// Problems are what the venues found wrong, all of them together: a test that
// expects none compares with nothing.
func (s *Server) Problems() []string {
	var all []string
	for _, name := range Venues() {
		for _, problem := range s.Seen(name).Problems {
			all = append(all, name+": "+problem)
		}
	}
	return slices.Clip(all)
}

// Reset forgets what arrived. Nonces and client order ids stay known, as at a real venue.
func (s *Server) Reset() {
	for _, v := range s.venues {
		v.seen.reset()
	}
}
