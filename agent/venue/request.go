package venue

import (
	"strings"
	"unicode"
	"unicode/utf8"

	"github.com/sealsign/sealsign/internal/fault"
)

// What a request may be at most. Real ones are far below; the limits keep the
// work that one caller can ask for small.
const (
	// MaxBody is the longest body, in bytes.
	MaxBody = 1 << 20
	// maxTarget is the longest path and query, in bytes: a quarter of what all headers may be.
	maxTarget = 16 << 10
	// maxParams is how many parameters a query, a form or a JSON object may have. The widest order
	// has about forty. Looking for duplicates takes the square of it.
	maxParams = 256
)

// The methods that decide where parameters may be. net/http has these names too,
// and does I/O.
const (
	get  = "GET"
	post = "POST"
	del  = "DELETE"
)

// bodyKind is how a body is read.
type bodyKind uint8

const (
	noBody bodyKind = iota
	formBody
	jsonBody
)

// Content types, as sent where the app names none.
const (
	formType = "application/x-www-form-urlencoded"
	jsonType = "application/json"
)

// NewRequest makes a request of its bytes, or refuses one that can be read in
// two ways. host may end in ":443". target is the raw path, with "?" and the raw
// query if there is one; a "?" with nothing after it is dropped. contentType may
// be empty: then a body that begins with "{" or "[" is JSON, any other a form, and
// it is sent with that type. Errors are BAD_REQUEST faults and show no value of
// the request.
func NewRequest(method, host, target, contentType string, body []byte) (Request, error) {
	switch method {
	case "GET", "POST", "PUT", "DELETE", "PATCH":
	default:
		return Request{}, bad("method %s is none of GET, POST, PUT, DELETE and PATCH", quote(method))
	}
	host, err := normalHost(host)
	if err != nil {
		return Request{}, err
	}
	if len(target) > maxTarget {
		return Request{}, bad("path and query have %d bytes, and %d is the limit", len(target), maxTarget)
	}
	path, query, _ := strings.Cut(target, "?")
	if err := checkPath(path); err != nil {
		return Request{}, err
	}
	r := Request{Method: method, Host: host, Path: path, Query: query, ContentType: contentType, Body: body}
	if r.pairs, err = appendPairs(nil, query, inQuery); err != nil {
		return Request{}, err
	}
	if err := r.readBody(); err != nil {
		return Request{}, err
	}
	return r, r.unique()
}

// ParseURL splits an https URL into the host and target that NewRequest takes.
func ParseURL(raw string) (host, target string, err error) {
	const scheme = "https://"
	if len(raw) < len(scheme) || !strings.EqualFold(raw[:len(scheme)], scheme) {
		return "", "", bad("the URL does not begin with https://")
	}
	rest := raw[len(scheme):]
	if strings.Contains(rest, "#") {
		return "", "", bad("the URL has a fragment")
	}
	end := strings.IndexAny(rest, "/?")
	if end < 0 {
		end = len(rest)
	}
	host, target = rest[:end], rest[end:]
	if strings.Contains(host, "@") {
		return "", "", bad("the URL has a user or password before its host")
	}
	if !strings.HasPrefix(target, "/") {
		target = "/" + target
	}
	if host, err = normalHost(host); err != nil {
		return "", "", err
	}
	return host, target, nil
}

// normalHost gives the lower-case host, without the port 443.
func normalHost(host string) (string, error) {
	host = strings.TrimSuffix(strings.ToLower(host), ":443")
	name := host
	if i := strings.LastIndexByte(host, ':'); i >= 0 && !strings.HasSuffix(host, "]") {
		port := host[i+1:]
		if port == "" || len(port) > 5 || strings.Trim(port, "0123456789") != "" || port[0] == '0' {
			return "", bad("the host has a port that is no number")
		}
		name = host[:i]
	}
	if v6, ok := strings.CutPrefix(name, "["); ok {
		v6, ok = strings.CutSuffix(v6, "]")
		if !ok || v6 == "" || strings.Trim(v6, "0123456789abcdef:.") != "" {
			return "", bad("the host is no name or address")
		}
		return host, nil
	}
	if name == "" || len(name) > 253 || name[0] == '.' || strings.HasSuffix(name, ".") || strings.Contains(name, "..") ||
		strings.Trim(name, "abcdefghijklmnopqrstuvwxyz0123456789.-") != "" {
		return "", bad("the host is no name or address")
	}
	return host, nil
}

// checkPath refuses a path that isn't in its normal form (RFC 3986, section 6.2.2):
// what a venue or a proxy before it could take for another path.
func checkPath(path string) error {
	if !strings.HasPrefix(path, "/") {
		return bad("the path does not begin with /")
	}
	for segment := range strings.SplitSeq(path[1:], "/") {
		if segment == "." || segment == ".." {
			return bad("the path has a %q segment", segment)
		}
	}
	if strings.Contains(path, "//") {
		return bad("the path has an empty segment (//)")
	}
	for i := 0; i < len(path); i++ {
		c := path[i]
		if c != '%' {
			if !pathByte[c] {
				return bad("the path has %s, which it can't have in its normal form", nameByte(c))
			}
			continue
		}
		b, ok := hexPair(path, i)
		if !ok {
			return bad("the path has a broken percent-encoding")
		}
		if b < 0x80 && (pathByte[b] || b < ' ' || b == 0x7f || strings.IndexByte("%\\;?#", b) >= 0) || lowerHex(path[i+1]) || lowerHex(path[i+2]) {
			return bad("the path has %%%s, which it can't have in its normal form", path[i+1:i+3]).
				WithHint("write what needs no encoding as it is, and hexadecimal digits in upper case")
		}
		i += 2
	}
	if _, err := unescape(path, false); err != nil {
		return bad("the path %s", err)
	}
	return nil
}

// readBody reads the body as its content type says.
func (r *Request) readBody() error {
	kind, err := bodyKindOf(r.ContentType, r.Body)
	if err != nil {
		return err
	}
	if len(r.Body) == 0 {
		r.Body = nil
		return nil
	}
	if r.Method == get {
		return bad("a GET has no body").WithHint("put its parameters in the query")
	}
	if len(r.Body) > MaxBody {
		return bad("the body has %d bytes, and %d is the limit", len(r.Body), MaxBody)
	}
	if !utf8.Valid(r.Body) {
		return bad("the body is not valid UTF-8")
	}
	r.body = kind
	text := string(r.Body)
	if kind == jsonBody {
		r.tape, err = parseJSON(text)
		if err != nil {
			return bad("the JSON body %s", err)
		}
		if root := r.tape[0].kind; root != object && root != array {
			return bad("the JSON body is neither an object nor a list")
		}
		return nil
	}
	r.pairs, err = appendPairs(r.pairs, text, inForm)
	return err
}

// bodyKindOf reads a content type. Only UTF-8 JSON and forms can be judged.
func bodyKindOf(contentType string, body []byte) (bodyKind, error) {
	for i := range len(contentType) {
		if c := contentType[i]; c < ' ' || c > '~' {
			return noBody, bad("the content type has %s", nameByte(c))
		}
	}
	if len(body) == 0 {
		return noBody, nil
	}
	if contentType == "" {
		if first := strings.TrimLeft(string(body[:min(len(body), 64)]), " \t\r\n"); strings.HasPrefix(first, "{") || strings.HasPrefix(first, "[") {
			return jsonBody, nil
		}
		return formBody, nil
	}
	media, parameter, _ := strings.Cut(strings.ToLower(contentType), ";")
	parameter = strings.TrimSpace(parameter)
	if parameter == "" || parameter == "charset=utf-8" || parameter == `charset="utf-8"` {
		switch strings.TrimSpace(media) {
		case jsonType:
			return jsonBody, nil
		case formType:
			return formBody, nil
		}
	}
	return noBody, bad("a body of this content type can't be judged").WithHint("send %s or %s, in UTF-8", jsonType, formType)
}

// unique refuses a parameter that comes twice: in query and body, or with names
// that differ only in case or encoding. Objects inside a JSON body are looked
// through by parseJSON.
func (r *Request) unique() error {
	for i := range r.pairs {
		for j := range r.pairs[:i] {
			if r.pairs[i].sameName(&r.pairs[j]) {
				return bad("parameter %s comes twice", quote(r.pairs[i].name))
			}
		}
	}
	for member := range members(r.tape, 0) {
		for i := range r.pairs {
			if member.sameName(&r.pairs[i]) {
				return bad("parameter %s comes in both the query and the body", quote(member.name))
			}
		}
	}
	return nil
}

func bad(format string, args ...any) *fault.Error {
	return fault.New(fault.BadRequest, format, args...)
}

// quote shows a parameter's name, cut where it is longer than names are.
func quote(name string) string {
	const longest = 64
	if len(name) > longest {
		name = name[:longest] + "…"
	}
	quoted := make([]rune, 0, len(name)+2)
	for _, r := range name {
		if !unicode.IsPrint(r) {
			r = '\uFFFD'
		}
		quoted = append(quoted, r)
	}
	return `"` + string(quoted) + `"`
}

func nameByte(c byte) string {
	switch {
	case c < ' ' || c == 0x7f:
		return "a control character"
	case c == ' ':
		return "a space"
	case c >= 0x80:
		return "a character that is not percent-encoded"
	}
	return `"` + string(rune(c)) + `"`
}
