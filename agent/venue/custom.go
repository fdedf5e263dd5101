package venue

import (
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/sealsign/sealsign/internal/fault"
)

// CustomSpec is a venue of the operator's own: [venues.NAME] of the config with a
// message.
type CustomSpec struct {
	Name       string
	Hosts      map[string][]string // by environment
	Algorithm  string              // hmac-sha256, hmac-sha384 or hmac-sha512; the secret is the key as it is
	Message    string              // template of what is signed
	Headers    map[string]string   // templates of what is sent
	Operations map[string][]string // "METHOD /path" lines by operation; a last "/*" stands for any rest
}

// Problem is one thing wrong with a CustomSpec.
type Problem struct {
	Field   string // as the config names it below [venues.NAME]: "message", "headers.ACME-KEY", …
	Message string
}

// limits of a configured venue, far above what one needs.
const (
	maxTemplate = 1024
	maxHeaders  = 32
)

// Custom makes a venue of its description, or says all that is wrong with it.
// Its requests are judged by method and path alone: an effect has an operation
// and nothing else, so a role with symbols refuses its trades. The most exact
// line wins; a request that fits none is unknown.
func Custom(spec CustomSpec) (*Venue, []Problem) {
	c := custom{spec: spec, venue: &Venue{
		name: spec.Name, secret: "raw", bodies: []bodyKind{jsonBody, formBody}, postQuery: true, deleteBody: true,
		folded: make(map[string]*routes),
	}}
	c.hosts()
	c.algorithm()
	c.message()
	c.headers()
	c.operations()
	if len(c.problems) > 0 {
		return nil, c.problems
	}
	return c.venue.compile(), nil
}

type custom struct {
	spec     CustomSpec
	venue    *Venue
	problems []Problem
}

func (c *custom) problem(field, format string, args ...any) {
	c.problems = append(c.problems, Problem{field, fmt.Sprintf(format, args...)})
}

func (c *custom) hosts() {
	if len(c.spec.Hosts) == 0 {
		c.problem("hosts", `is missing; write hosts = { production = ["api.example.com"] }`)
	}
	for _, env := range slices.Sorted(maps.Keys(c.spec.Hosts)) {
		hosts, err := hostsOf(c.spec.Hosts[env])
		if err != nil {
			c.problem("hosts."+env, "%v", err)
		}
		c.venue.environments = append(c.venue.environments, environment{name: env, hosts: hosts})
	}
}

func (c *custom) algorithm() {
	switch algorithm := Algorithm(c.spec.Algorithm); algorithm {
	case HMACSHA256, HMACSHA384, HMACSHA512:
		c.venue.signs = []signing{{algorithm: algorithm}}
	case "":
		c.problem("algorithm", "is missing; it is %s, %s or %s", HMACSHA256, HMACSHA384, HMACSHA512)
	default:
		c.problem("algorithm", "is %q; a venue of the config can have %s, %s or %s", clip(c.spec.Algorithm), HMACSHA256, HMACSHA384, HMACSHA512)
	}
}

// message reads what is signed. A signature that leaves a part of the request open
// would let whoever has it make another request.
func (c *custom) message() {
	t, ok := c.template("message", c.spec.Message, inMessage)
	if !ok {
		return
	}
	for _, need := range []struct {
		what   string
		tokens []token
		write  string
	}{
		{"method", []token{tokMethod}, "{method}"},
		{"path", []token{tokPath}, "{path}"},
		{"query", []token{tokQuery, tokQuestionQuery}, "{?query} or {query}"},
		{"body", []token{tokBody, tokBodySHA256, tokBodySHA512}, "{body}, {body_sha256_hex} or {body_sha512_hex}"},
	} {
		if !t.has(need.tokens...) {
			c.problem("message", "does not cover the %s of a request; add %s", need.what, need.write)
		}
	}
	c.venue.message = t
	c.venue.text = "message " + c.spec.Message
	if t.has(tokNonce) {
		c.venue.once = "the nonce in the message"
	}
}

func (c *custom) headers() {
	if len(c.spec.Headers) == 0 {
		c.problem("headers", `is missing; write headers = { "X-KEY" = "{api_key}", "X-SIGN" = "{signature_hex}" }`)
		return
	}
	if len(c.spec.Headers) > maxHeaders {
		c.problem("headers", "has %d fields, and %d is the limit", len(c.spec.Headers), maxHeaders)
		return
	}
	signed := false
	seen := make(map[string]bool)
	for _, name := range slices.Sorted(maps.Keys(c.spec.Headers)) {
		field := "headers." + clip(name)
		if why := badHeader(name); why != "" {
			c.problem(field, "%s", why)
		}
		if lower := strings.ToLower(name); seen[lower] {
			c.problem(field, "comes twice; case makes no difference")
		} else {
			seen[lower] = true
		}
		if t, ok := c.template(field, c.spec.Headers[name], inHeader); ok {
			signed = signed || t.has(signatureTokens...)
			c.venue.header = append(c.venue.header, headerField{name, t})
			c.venue.text += "\n" + name + ": " + c.spec.Headers[name]
		}
	}
	if !signed {
		c.problem("headers", "has no signature; one of its values must have {signature_hex} or {signature_base64}")
	}
}

// template reads one template of the config.
func (c *custom) template(field, text string, in use) (template, bool) {
	if text == "" {
		c.problem(field, "is empty")
		return nil, false
	}
	if len(text) > maxTemplate {
		c.problem(field, "has %d bytes, and %d is the limit", len(text), maxTemplate)
		return nil, false
	}
	for i := range len(text) {
		// A message may have line breaks, as many venues want them; a header value may not.
		if b := text[i]; b > '~' || b < ' ' && (in == inHeader || b != '\n') {
			c.problem(field, "has a character that is not plain ASCII")
			return nil, false
		}
	}
	t, err := parseTemplate(text, func(f tokenFacts) bool { return f.use&in != 0 })
	if err != nil {
		c.problem(field, "%v", err)
		return nil, false
	}
	return t, true
}

// badHeader says why a venue of the config can't set a header field.
func badHeader(name string) string {
	const tokenBytes = "!#$%&'*+-.^_`|~0123456789abcdefghijklmnopqrstuvwxyz"
	lower := strings.ToLower(name)
	switch {
	case name == "" || strings.Trim(lower, tokenBytes) != "":
		return "is no name of a header field"
	case slices.Contains([]string{"host", "connection", "content-length", "content-type", "content-encoding", "transfer-encoding",
		"te", "trailer", "upgrade", "expect", "keep-alive", "proxy-connection", "proxy-authorization"}, lower):
		return "is a field that HTTP itself needs, and can't carry a credential"
	}
	return ""
}

// operations reads the table of what requests do.
func (c *custom) operations() {
	if len(c.spec.Operations) == 0 {
		c.problem("operations", `is missing; write operations = { read = ["GET /*"], trade = ["POST /orders"] }`)
	}
	allowed := []Operation{Read, Trade, Cancel, Settings, Transfer, Withdraw, Admin, Public}
	said, folds := make(map[string]string), make(map[string]string)
	for _, name := range slices.Sorted(maps.Keys(c.spec.Operations)) {
		field := "operations." + clip(name)
		if !slices.Contains(allowed, Operation(name)) {
			c.problem(field, "is no operation that a venue of the config can have; there are %s", commas(allowed))
			continue
		}
		for i, line := range c.spec.Operations[name] {
			at := fmt.Sprintf("%s[%d]", field, i)
			if why := badLine(line); why != "" {
				c.problem(at, "%s", why)
			} else if other, twice := said[line]; twice {
				c.problem(at, "says %q again, as %s does", line, other)
			} else if other, alike := folds[foldLine(line)]; alike && other != name {
				c.problem(at, "says %q, which differs only in case or a last / from a line of %s", line, other)
			} else {
				said[line], folds[foldLine(line)] = at, name
				c.venue.rows = append(c.venue.rows, row{op: Operation(name), line: line, anything: true})
			}
		}
	}
}

func foldLine(line string) string {
	method, path, _ := strings.Cut(line, " ")
	return method + " " + foldPath(path)
}

// badLine says why a line of operations can't be used.
func badLine(line string) string {
	method, path, ok := strings.Cut(line, " ")
	if !ok || !slices.Contains([]string{"GET", "POST", "PUT", "DELETE", "PATCH"}, method) {
		return `is no line like "POST /orders"`
	}
	exact := strings.TrimSuffix(path, "*")
	if exact != path && !strings.HasSuffix(exact, "/") {
		return `has a "*" that is not a whole last segment, like "/orders/*"`
	}
	if strings.Contains(exact, "*") {
		return `has a "*" that is not its last segment`
	}
	if err := checkPath(exact); err != nil {
		return fault.From(err).Message
	}
	return ""
}
