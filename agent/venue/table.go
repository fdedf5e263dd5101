package venue

import (
	"slices"
	"strings"
	"time"

	"github.com/sealsign/sealsign/internal/fault"
)

// Venue is one entry of the table. It is data; what reads it is the same for
// all. Its fields are set once and never change.
type Venue struct {
	name         string
	environments []environment
	signs        []signing
	secret       string // how the secret is written: "raw" or "base64"

	message  template      // what is signed
	header   []headerField // the header fields that carry the credential
	stamp    *stampParam   // the parameter that carries time or nonce
	signedIn string        // the parameter that carries the signature; empty: a header does
	common   string        // parameters that every row takes, written as in row.takes
	jwt      map[Algorithm]claims

	bodies     []bodyKind // what private requests may have
	postQuery  bool       // a POST or PUT may have a query
	deleteBody bool       // a DELETE may have a body
	alwaysPost bool       // the venue takes private requests as POST without a query only

	rows    []row
	logins  []login
	clock   clock
	probes  []probe // the first that one of the key's hosts serves is used
	refuses refusals
	passes  []string // header fields of the app that go out, besides those of every venue
	once    string   // what makes the venue accept a request only once, with the source that says so
	keyAPI  string   // the requests by which the venue's own API creates and deletes keys; empty: people do
	text    string   // of a configured venue: its templates as text
	covered coverage
	byLine  map[string]*routes // by method
	folded  map[string]*routes // of a configured venue: the same, with paths as foldPath makes them
	takes   map[string]parameter
	funds   []*row // that move funds, where they can be known by what they need
}

// environment is a set of hosts with the header fields that belong to it.
type environment struct {
	name    string
	hosts   []host
	header  []headerField
	sockets map[string]string // WebSocket URL by login channel
}

// host is one host and what it serves.
type host struct {
	name    string
	service *service // nil: every row
}

// service is what a group of hosts serves.
type service struct {
	prefixes []string // of paths; empty: all
	clock    string   // path of its own time endpoint; empty: the venue's
}

// clock is the public endpoint that tells the venue's time.
type clock struct {
	path   string
	answer []string      // where the time is in its JSON: names of members, "0" for the first of a list
	tick   time.Duration // the unit of its number; 0: it is a text as in RFC 3339, to the millisecond
}

// signing is one algorithm that the venue takes.
type signing struct {
	algorithm Algorithm
	encoding  encoding
	register  string // the page to register a public key at; empty: the venue issues the key
}

// headerField is a header with its value.
type headerField struct {
	name  string
	value template
}

// stampParam is a parameter that the agent owns: replaced where the app put it,
// else added.
type stampParam struct {
	name  string
	value template
	first bool // added before the others; else after
	body  bool // added to the body even where there is none yet; else to the query then
}

// row is what one endpoint does.
type row struct {
	op    Operation
	line  string                               // "POST /orders/{id}": a segment in braces stands for any one; a last "/*" for any rest
	takes string                               // its parameters, see parseTakes; not looked at for public rows, and reads without judge
	shape *shape                               // where the effect's fields are; nil: the operation is all there is to say
	judge func(fields, *row) ([]Effect, error) // in place of shape, for the few that are unlike the others

	exact    bool        // only an exact line of a role grants it
	keyed    bool        // wants the API key and no signature
	anything bool        // of a configured venue: parameters and body are not judged
	grants   []Operation // of a session: what it can do

	method, path string
	parameters   map[string]parameter
	needs        []string // the names of those that are required
}

// shape names the parameters that an effect's fields come from. Empty: the
// venue has no such field.
type shape struct {
	symbol, side, kind, quantity, quote, price, client string
	asset, network, address, tag                       string

	names string                                     // parameters of a cancel that name orders; one must be there
	list  string                                     // the parameter that holds a batch; "*": the body is the batch
	each  string                                     // what each order of a batch takes, written as row.takes
	fix   func(e *Effect, item, around fields) error // what the names alone don't say
	items map[string]parameter
}

// parameter is what a row says of one of its parameters.
type parameter struct {
	required bool
	list     bool // a JSON list of scalars
	object   bool // an object or list that the row's own code judges
	values   []string
}

// parseTakes reads "symbol! side oflags=post|fcib orderIdList[] configuration{}":
// "!" marks what a request that moves funds can't do without, "=" the values that
// are taken (a comma separates several), "[]" a JSON list of scalars, "{}" what the
// row judges by itself.
func parseTakes(text string) map[string]parameter {
	takes := make(map[string]parameter)
	for word := range strings.FieldsSeq(text) {
		var p parameter
		name, values, limited := strings.Cut(word, "=")
		if limited {
			p.values = strings.Split(values, "|")
		}
		name, p.required = strings.CutSuffix(name, "!")
		name, p.list = strings.CutSuffix(name, "[]")
		name, p.object = strings.CutSuffix(name, "{}")
		if _, twice := takes[name]; twice {
			panic("venue: a row lists " + name + " twice")
		}
		takes[name] = p
	}
	return takes
}

// pattern is a path with braces, or with a last "/*", and its row.
type pattern struct {
	path string
	row  *row
}

// routes are the rows of one method.
type routes struct {
	exact    map[string]*row
	patterns []pattern // those with braces, then those with "/*", the longest first
}

// add puts a row where find looks for it. It is false where there is one already.
func (s *routes) add(path string, r *row) bool {
	if strings.HasSuffix(path, "/*") || strings.Contains(path, "{") {
		s.patterns = append(s.patterns, pattern{path, r})
		return true
	}
	if s.exact[path] != nil {
		return false
	}
	s.exact[path] = r
	return true
}

// sort puts the most exact pattern first.
func (s *routes) sort() {
	slices.SortStableFunc(s.patterns, func(a, b pattern) int {
		if aRest, bRest := strings.HasSuffix(a.path, "/*"), strings.HasSuffix(b.path, "/*"); aRest != bRest {
			return map[bool]int{true: 1, false: -1}[aRest]
		}
		return len(b.path) - len(a.path)
	})
}

// find gives the most exact row that a path fits, or nil.
func (s *routes) find(path string) *row {
	if s == nil {
		return nil
	}
	if r := s.exact[path]; r != nil {
		return r
	}
	for _, p := range s.patterns {
		if matches(p.path, path) {
			return p.row
		}
	}
	return nil
}

// foldPath makes alike what many venues' routers take for one path.
func foldPath(path string) string { return strings.ToLower(strings.TrimRight(path, "/")) }

// compile prepares the entry for use. A table that contradicts itself panics.
func (v *Venue) compile() *Venue {
	v.byLine = make(map[string]*routes)
	v.takes = parseTakes(v.common)
	if v.stamp != nil {
		v.takes[v.stamp.name] = parameter{}
	}
	if v.signedIn != "" {
		v.takes[v.signedIn] = parameter{}
	}
	for i := range v.rows {
		v.addRow(&v.rows[i])
	}
	for method, routes := range v.byLine {
		routes.sort()
		if v.folded[method] != nil {
			v.folded[method].sort()
		}
	}
	v.covered = cover(v)
	return v
}

func (v *Venue) addRow(r *row) {
	r.method, r.path, _ = strings.Cut(r.line, " ")
	r.parameters = parseTakes(r.takes)
	if r.shape != nil && r.shape.each != "" {
		r.shape.items = parseTakes(r.shape.each)
	}
	for name, p := range r.parameters {
		if p.required {
			r.needs = append(r.needs, name)
		}
	}
	slices.Sort(r.needs)
	if len(r.needs) > 0 && (r.op == Withdraw || r.op == Transfer) {
		v.funds = append(v.funds, r)
	}
	if !routesOf(v.byLine, r.method).add(r.path, r) {
		panic("venue: " + v.name + " has " + r.line + " twice")
	}
	if v.folded != nil {
		routesOf(v.folded, r.method).add(foldPath(r.path), r) // config check refuses two that differ in what they do
	}
}

func routesOf(all map[string]*routes, method string) *routes {
	if all[method] == nil {
		all[method] = &routes{exact: make(map[string]*row)}
	}
	return all[method]
}

// row finds what a request is; nil: the table doesn't know it. At a configured venue,
// whose router nobody knows, a path that would be another row's but for its case or a
// last "/" is refused: it must not get the milder of the two.
func (v *Venue) row(method, path string) (*row, error) {
	r := v.byLine[method].find(path)
	if alike := v.folded[method].find(foldPath(path)); alike != nil && r != nil && alike.op != r.op {
		return nil, fault.New(fault.BadRequest, "the path is that of %q but for its case or a last /", alike.line).
			WithHint("write it as the config's operations do")
	}
	return r, nil
}

// matches tells whether a path fits a pattern.
func matches(pattern, path string) bool {
	if prefix, ok := strings.CutSuffix(pattern, "*"); ok {
		return strings.HasPrefix(path, prefix)
	}
	for pattern != "" && path != "" {
		want, _, _ := strings.Cut(pattern[1:], "/")
		have, _, _ := strings.Cut(path[1:], "/")
		if want != have && (!strings.HasPrefix(want, "{") || have == "") {
			return false
		}
		pattern, path = pattern[1+len(want):], path[1+len(have):]
	}
	return pattern == path
}

// reads makes the rows that only read, public those that need no credential: a
// method with the path that all begin with, and how they go on.
func reads(prefix, names string) []row  { return plain(Read, prefix, names) }
func public(prefix, names string) []row { return plain(Public, prefix, names) }

func plain(op Operation, prefix, names string) []row {
	var rows []row
	for name := range strings.FieldsSeq(names) {
		rows = append(rows, row{op: op, line: prefix + name})
	}
	return rows
}

// leg is one of the effects of a row that has several.
type leg struct {
	op    Operation
	shape shape
}

// legs judges a request that makes or cancels several orders with parameters of
// their own names.
func legs(all ...leg) func(fields, *row) ([]Effect, error) {
	return func(given fields, _ *row) ([]Effect, error) {
		effects := make([]Effect, len(all))
		for i := range all {
			effects[i].Operation = all[i].op
			if err := all[i].shape.read(given, fields{}, &effects[i]); err != nil {
				return nil, err
			}
		}
		return effects, nil
	}
}
