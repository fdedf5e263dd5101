package venue

import (
	"fmt"
	"net/url"
	"slices"
	"strings"
)

// coverage is what a venue's message says about the request it was made of. It
// is worked out from the template, once.
type coverage struct {
	loose string // what two requests with one message may differ in; empty: nothing
	path  bool   // the message has the path
	// json: the body follows without a separator. No two requests render alike only as long as the
	// body is empty or JSON, and the query has no "{", "[" or "?", for then the first "{" or "["
	// begins the body.
	json bool
}

// bind says how far the signature over one request can be trusted with its caller.
func (v *Venue) bind(r *Request, call *Call) Binding {
	row := call.row
	switch {
	case call.Public():
		return Binding{}
	case v.message == nil:
		return Binding{Never: true, Loose: "the request carries the credential itself"}
	case row != nil && row.keyed:
		return Binding{Loose: "the request carries the API key and no signature"}
	}
	b := Binding{Loose: v.covered.loose, Once: v.once, Passphrase: v.passphraseShown()}
	if b.Loose == "" && v.covered.json {
		switch {
		case r.body == formBody:
			b.Loose = "the body is no JSON and follows path and query without a separator"
		case strings.ContainsAny(r.Query, "{[?"):
			b.Loose = `the query has "{", "[" or "?", and the body follows it without a separator`
		}
	}
	if v.message.has(tokNonceBodySHA256) && len(r.Body) > 0 && r.Body[0] >= '0' && r.Body[0] <= '9' {
		b.Loose = "the body begins with a digit and follows the nonce without a separator"
	}
	if b.Loose != "" {
		b.FundMoving = v.fundMoving(r, row)
	}
	return b
}

// fundMoving finds an endpoint that moves funds and would take the parameters
// of a request whose signature leaves the path, or the parameters, open.
func (v *Venue) fundMoving(r *Request, own *row) string {
	if own != nil && (own.op == Withdraw || own.op == Transfer) {
		return own.line
	}
	if v.covered.path {
		return ""
	}
	given, text := r.fields(), signedText(r)
	for _, row := range v.funds {
		if !slices.ContainsFunc(row.needs, func(name string) bool {
			return !given.hasFold(name) && !strings.Contains(text, strings.ToLower(name)+"=")
		}) {
			return row.line
		}
	}
	return ""
}

// signedText is query and body as one, lower-cased and decoded. Where nothing
// separates them in the message, who holds the signature may cut it elsewhere: the
// end of a value becomes the first name of a body.
func signedText(r *Request) string {
	text := r.Query + string(r.Body)
	if decoded, err := url.PathUnescape(text); err == nil {
		text = decoded
	}
	return strings.ToLower(text)
}

// passphraseShown tells that a signed request has the passphrase in it.
func (v *Venue) passphraseShown() bool {
	return slices.ContainsFunc(v.header, func(h headerField) bool { return h.value.has(tokPassphrase) })
}

// cover works out what a venue's message determines.
func cover(v *Venue) coverage {
	c := coverage{path: v.message.has(tokPath, tokTokenJWT)}
	var open []string
	for _, need := range []struct {
		what   string
		fixed  bool // by the venue
		tokens []token
	}{
		{"the method", v.alwaysPost, []token{tokMethod, tokTokenJWT}},
		{"the path", false, []token{tokPath, tokTokenJWT}},
		{"the query", v.alwaysPost, []token{tokQuery, tokQuestionQuery}},
		{"the body", false, []token{tokBody, tokBodySHA256, tokBodySHA512, tokNonceBodySHA256}},
	} {
		if !need.fixed && !v.message.has(need.tokens...) {
			open = append(open, need.what)
		}
	}
	if len(open) > 0 {
		c.loose = "the signature does not cover " + strings.Join(open, " and ")
		return c
	}
	for i := range v.message {
		var needJSON bool
		c.loose, needJSON = runsInto(v.message, i)
		c.json = c.json || needJSON
		if c.loose != "" {
			break
		}
	}
	return c
}

// runsInto says why the end of part i can't be found in the message: what follows
// might belong to it. needJSON: it can be, if what follows is a JSON body.
func runsInto(t template, i int) (loose string, needJSON bool) {
	p := t[i]
	own, varies := alphabet(p.token)
	if p.width > 0 || !varies {
		return "", false
	}
	for j, next := range t[i+1:] {
		if !slices.ContainsFunc(t[i+1+j:], func(p part) bool { return p.width == 0 }) {
			return "", false // the length of all that follows is known
		}
		ends := false // what follows begins with a byte that the part can't have
		switch next.token {
		case literal:
			ends = own != nil && !own[next.text[0]]
		case tokPath:
			ends = own != nil && !own['/']
		case tokQuestionQuery:
			if own != nil && !own['?'] {
				continue // it ends the part, but may be empty
			}
		case tokBody:
			needJSON = p.token == tokPath || p.token == tokQuery || p.token == tokQuestionQuery
			ends = needJSON
		case tokAPIKey, tokPassphrase: // they may begin with anything
		default: // digits or lower-case hexadecimal, where the length is known
			ends = own != nil && next.width > 0 && !own['0'] && !own['a']
		}
		if !ends {
			loose = fmt.Sprintf("%s runs into %s in the message", nameToken(p.token), nameToken(next.token))
		}
		return loose, needJSON
	}
	return "", false
}

// alphabet gives the bytes that a token of no fixed length may have; nil: any.
func alphabet(t token) (bytes *[256]bool, varies bool) {
	switch t {
	case tokMethod:
		return &upperByte, true
	case tokHost:
		return &hostByte, true
	case tokPath:
		return &pathByteWithPercent, true
	case tokQuery, tokQuestionQuery:
		return &queryByte, true
	case tokBody, tokTokenJWT:
		return nil, true
	}
	return nil, false
}

func nameToken(t token) string {
	for _, f := range tokens {
		if f.token == t {
			return "{" + f.name + "}"
		}
	}
	return "the text after it"
}

var upperByte, hostByte, pathByteWithPercent = func() (upper, host, path [256]bool) {
	for c := 'A'; c <= 'Z'; c++ {
		upper[c] = true
	}
	for _, c := range []byte("abcdefghijklmnopqrstuvwxyz0123456789.-:[]") {
		host[c] = true
	}
	path = pathByte
	path['%'] = true
	return upper, host, path
}()
