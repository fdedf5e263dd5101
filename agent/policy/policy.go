// Package policy decides whether a caller may make a request. Default deny; a
// denial names its rule. The package is pure: it does no I/O and reads no clock.
package policy

import (
	"time"

	"github.com/sealsign/sealsign/agent/venue"
)

// Mode is what the caller wants of the agent.
type Mode string

// The modes.
const (
	Forward Mode = "forward" // the agent sends the request
	Release Mode = "release" // the caller gets the signed request and sends it
	Login   Mode = "login"   // the caller gets a WebSocket login message
)

// Modes are all of them.
var Modes = []Mode{Forward, Release, Login}

// Releases is how much a role trusts its callers with signed requests.
type Releases string

// The levels of release, as roles name them.
const (
	Never   Releases = "never"
	Bound   Releases = "bound"
	Unbound Releases = "unbound"
)

// Rate is so many requests in so long, e.g. "50/s".
type Rate struct {
	Count int
	Per   time.Duration
}

// Line is one exact request line that a role grants.
type Line struct {
	Method, Path string
}

// Role is what its callers may do with its keys.
type Role struct {
	Name    string
	Keys    map[string]bool
	Allow   map[venue.Operation]bool
	Lines   map[Line]bool
	Symbols map[string]bool // empty: any
	Rate    Rate            // zero: none
	Release Releases
}

// Input is all that a decision depends on.
type Input struct {
	Roles   []*Role // the caller's, in the config's order
	Key     string
	Mode    Mode
	Method  string
	Path    string
	Effects []venue.Effect
	Binding venue.Binding
}

// Charge is what an allowed request takes from one limit.
type Charge struct {
	Name  string // "roles.ROLE.rate/KEY"
	Count int
	Per   time.Duration
}

// Decision is what grants a request.
type Decision struct {
	Rule   string // e.g. "roles.market-maker.allow"
	Charge Charge // zero: none
}
