package venue

import (
	"errors"
	"hash/maphash"
	"iter"
	"strings"
	"unicode"
	"unicode/utf8"
)

// kind is how a value is written.
type kind uint8

const (
	untyped kind = iota // of a query or form
	str                 // the JSON types
	number
	boolean
	null
	object
	array
)

func (k kind) String() string {
	return [...]string{"a text", "a text", "a number", "true or false", "null", "an object", "a list"}[k]
}

// place is where a value stands.
type place uint8

const (
	inQuery place = iota
	inForm
	inJSON
)

// value is one parameter, JSON member or JSON element, with the bytes it stands
// in: of a query or form the whole pair, of JSON the value alone.
type value struct {
	name, text string // decoded; a number, true, false and null as they are written
	kind       kind
	in         place
	fold       uint64 // of the name, see fold
	start, end int    // in the query or body
	next       int    // on a tape: the index after this value and all that is in it
}

// sameName tells whether two parameters have one name but for its case.
func (v *value) sameName(as *value) bool {
	return v.fold == as.fold && strings.EqualFold(v.name, as.name)
}

// foldSeed keeps which names hash alike from those who send them.
var foldSeed = maphash.MakeSeed()

// fold hashes a name, alike for all that strings.EqualFold takes for equal. To compare names
// themselves, each with each, would take a second for a body of long ones that begin alike.
func fold(name string) uint64 {
	var room [64]byte
	folded := room[:0]
	for _, r := range name {
		folded = utf8.AppendRune(folded, lowest(r))
	}
	return maphash.Bytes(foldSeed, folded)
}

// lowest gives the lowest of the characters that differ from r in case only.
func lowest(r rune) rune {
	if r < utf8.RuneSelf {
		if 'a' <= r && r <= 'z' {
			r -= 'a' - 'A'
		}
		return r
	}
	low := r
	for other := unicode.SimpleFold(r); other != r; other = unicode.SimpleFold(other) {
		low = min(low, other)
	}
	return low
}

// scalar tells that a value holds no others.
func (v *value) scalar() bool { return v.kind != object && v.kind != array }

// fields is a set of parameters: those of query and form, then the members of
// the object at node of a tape.
type fields struct {
	pairs []value
	tape  []value
	node  int
}

// fields gives the request's own parameters.
func (r *Request) fields() fields { return fields{pairs: r.pairs, tape: r.tape} }

// get finds a parameter by its exact name.
func (f fields) get(name string) *value {
	for i := range f.pairs {
		if f.pairs[i].name == name {
			return &f.pairs[i]
		}
	}
	for member := range members(f.tape, f.node) {
		if member.name == name {
			return member
		}
	}
	return nil
}

// hasFold tells whether there is a parameter of that name in any case.
func (f fields) hasFold(name string) bool {
	for p := range f.all() {
		if strings.EqualFold(p.name, name) {
			return true
		}
	}
	return false
}

// all goes through every parameter.
func (f fields) all() iter.Seq[*value] {
	return func(yield func(*value) bool) {
		for i := range f.pairs {
			if !yield(&f.pairs[i]) {
				return
			}
		}
		for member := range members(f.tape, f.node) {
			if !yield(member) {
				return
			}
		}
	}
}

// members goes through the members of an object on a tape; elements through
// what is in a list. Both give nothing for another kind of value.
func members(tape []value, node int) iter.Seq[*value] { return inside(tape, node, object) }

func elements(tape []value, node int) iter.Seq2[int, *value] {
	return func(yield func(int, *value) bool) {
		if node >= len(tape) || tape[node].kind != array {
			return
		}
		for i := node + 1; i < tape[node].next; i = tape[i].next {
			if !yield(i, &tape[i]) {
				return
			}
		}
	}
}

func inside(tape []value, node int, of kind) iter.Seq[*value] {
	return func(yield func(*value) bool) {
		if node >= len(tape) || tape[node].kind != of {
			return
		}
		for i := node + 1; i < tape[node].next; i = tape[i].next {
			if !yield(&tape[i]) {
				return
			}
		}
	}
}

// appendPairs reads a query or form. It takes what every venue's parser reads
// the same way: names with a value each, percent-encoded as RFC 3986 asks, "+" for
// a space in a value, and no ";", which some read as "&".
func appendPairs(pairs []value, raw string, in place) ([]value, error) {
	if raw == "" {
		return pairs, nil
	}
	where, allowed := "query", &queryByte
	if in == inForm {
		where, allowed = "form", &formByte
	}
	for i := range len(raw) {
		if c := raw[i]; !allowed[c] {
			return nil, bad("the %s has %s", where, nameByte(c)).WithHint("percent-encode it")
		}
	}
	count := strings.Count(raw, "&") + 1
	if count > maxParams {
		return nil, bad("the %s has %d parameters, and %d is the limit", where, count, maxParams)
	}
	if pairs == nil {
		pairs = make([]value, 0, count)
	}
	for start := 0; start <= len(raw); {
		end := len(raw)
		if i := strings.IndexByte(raw[start:], '&'); i >= 0 {
			end = start + i
		}
		name, text, hasValue := strings.Cut(raw[start:end], "=")
		if name == "" || !hasValue {
			return nil, bad("the %s has a parameter without a name or without a \"=\"", where)
		}
		if strings.Contains(name, "+") {
			return nil, bad("the %s has a parameter with a space in its name", where)
		}
		name, err := unescape(name, false)
		if err != nil {
			return nil, bad("the name of a parameter in the %s %s", where, err)
		}
		if text, err = unescape(text, true); err != nil {
			return nil, bad("parameter %s %s", quote(name), err)
		}
		pairs = append(pairs, value{name: name, text: text, in: in, fold: fold(name), start: start, end: end})
		start = end + 1
	}
	return pairs, nil
}

// unescape decodes percent-encoding, and "+" to a space where plus is set.
func unescape(raw string, plus bool) (string, error) {
	if !strings.Contains(raw, "%") && (!plus || !strings.Contains(raw, "+")) {
		return raw, nil
	}
	decoded := make([]byte, 0, len(raw))
	for i := 0; i < len(raw); i++ {
		switch c := raw[i]; {
		case c == '%':
			b, ok := hexPair(raw, i)
			if !ok {
				return "", errors.New("has a broken percent-encoding")
			}
			decoded = append(decoded, b)
			i += 2
		case c == '+' && plus:
			decoded = append(decoded, ' ')
		default:
			decoded = append(decoded, c)
		}
	}
	if !utf8.Valid(decoded) {
		return "", errors.New("is not valid UTF-8 once decoded")
	}
	text := string(decoded)
	if strings.ContainsFunc(text, unicode.IsControl) {
		return "", errors.New("has a control character")
	}
	return text, nil
}

func hexPair(s string, i int) (byte, bool) {
	if i+2 >= len(s) {
		return 0, false
	}
	high, low := hexDigit[s[i+1]], hexDigit[s[i+2]]
	return (high-1)<<4 | (low - 1), high > 0 && low > 0
}

func lowerHex(c byte) bool { return c >= 'a' && c <= 'f' }

// The bytes that a path and a query may have as they are: RFC 3986 pchar and "/",
// without ";". A query may also have "?" and the brackets, braces and bars that
// common libraries leave unencoded in it, a form quotation marks too.
var pathByte, queryByte, formByte, hexDigit = func() (path, query, form [256]bool, digits [256]byte) {
	const pchar = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-._~!$&'()*+,=:@/"
	for _, c := range []byte(pchar) {
		path[c], query[c] = true, true
	}
	for _, c := range []byte("%?[]{}|") {
		query[c] = true
	}
	form = query
	form['"'] = true
	for i, c := range []byte("0123456789abcdef") {
		digits[c] = byte(i) + 1
	}
	for i, c := range []byte("ABCDEF") {
		digits[c] = byte(i) + 11
	}
	return path, query, form, digits
}()
