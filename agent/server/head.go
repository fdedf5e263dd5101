package server

import (
	"bufio"
	"bytes"
	"errors"
	"io"
	"strings"

	"github.com/sealsign/sealsign/agent/venue"
	"github.com/sealsign/sealsign/internal/fault"
)

// head is the first part of an HTTP/1.1 request, its bytes as they came. It is
// parsed by hand since net/http mends, on its way to a handler, much of what
// must be refused here: a request that two parsers may read in two ways.
type head struct {
	method string
	target string
	host   string
	fields []venue.Field // all of them, in their order
	length int           // of the body; chunked: -1
	close  bool          // the client wants the connection closed after the answer
	expect bool          // the client waits for 100 Continue before it sends the body
}

// chunked is the length of a body that comes in chunks.
const chunked = -1

// malformed is what every refusal in this file is: an HTTP request that can't be
// read one way only. What comes after it on the connection can't be either.
func malformed(format string, args ...any) error {
	return fault.New(fault.BadRequest, format, args...)
}

// readHead reads up to the empty line that ends a head. io.EOF alone means that
// the client closed the connection before it began a request.
func readHead(r *bufio.Reader) ([]byte, error) {
	var text []byte
	for start := 0; ; start = len(text) {
		for {
			part, err := r.ReadSlice('\n')
			if len(text)+len(part) > maxHead {
				return nil, malformed("the request's head is longer than %d KiB", maxHead>>10)
			}
			text = append(text, part...)
			if err == nil {
				break
			}
			if errors.Is(err, io.EOF) && len(text) > 0 {
				return nil, malformed("the connection ended within the request's head")
			}
			if !errors.Is(err, bufio.ErrBufferFull) {
				return nil, err
			}
		}
		if string(text[start:]) == "\r\n" {
			return text[:start], nil
		}
	}
}

// parse reads a head without its last, empty line (RFC 9112, sections 2 to 6).
// With an error, the head has what could be read.
func (h *head) parse(text []byte) error {
	line, rest, ok := bytes.Cut(text, []byte("\r\n"))
	if !ok {
		return malformed("the request line does not end in CR LF")
	}
	if err := h.parseLine(line); err != nil {
		return err
	}
	for len(rest) > 0 {
		if line, rest, ok = bytes.Cut(rest, []byte("\r\n")); !ok {
			return malformed("a header field does not end in CR LF")
		}
		if len(h.fields) == maxFields {
			return malformed("more than %d header fields", maxFields)
		}
		if err := h.parseField(line); err != nil {
			return err
		}
	}
	return h.parseFraming()
}

func (h *head) parseLine(line []byte) error {
	method, rest, ok1 := strings.Cut(string(line), " ")
	target, version, ok2 := strings.Cut(rest, " ")
	switch {
	case !ok1 || !ok2 || !isToken(method) || target == "" || !isVisible(target) || strings.Contains(version, " "):
		return malformed("the request line is not METHOD TARGET HTTP/1.1")
	case version != "HTTP/1.1":
		return fault.New(fault.BadRequest, "the request is not HTTP/1.1").WithHint("set the client to HTTP/1.1 (curl --http1.1)")
	case method == "CONNECT":
		return fault.New(fault.BadRequest, "this socket is no proxy to tunnel through").
			WithHint("send http://HOST/path: the agent itself speaks TLS to the venue")
	}
	h.method, h.target = method, target
	return nil
}

func (h *head) parseField(line []byte) error {
	colon := bytes.IndexByte(line, ':')
	if colon < 0 || !isToken(string(line[:colon])) {
		return malformed("a header field is not NAME: VALUE") // a folded line, or a blank before the colon, too
	}
	value := bytes.Trim(line[colon+1:], " \t")
	if !isFieldValue(string(value)) {
		return malformed("a header field's value has a byte that is not printable ASCII")
	}
	h.fields = append(h.fields, venue.Field{Name: string(line[:colon]), Value: value})
	return nil
}

// parseFraming finds where the body ends, and which host is meant. A field that
// decides either may be there once only.
func (h *head) parseFraming() error {
	var err error
	once := func(name string) (string, bool) {
		value, found := "", false
		for _, field := range h.fields {
			if !strings.EqualFold(field.Name, name) {
				continue
			}
			if found {
				err = malformed("the header field %s is there twice", name)
			}
			value, found = string(field.Value), true
		}
		return value, found
	}
	host, hasHost := once("Host")
	length, hasLength := once("Content-Length")
	transfer, hasTransfer := once("Transfer-Encoding")
	expect, hasExpect := once("Expect")
	_, hasTrailer := once("Trailer")
	once("Content-Type")
	once("Sealsign-Key")
	switch {
	case err != nil:
		return err
	case !hasHost || !isHost(host):
		return malformed("the header field Host is missing or is not HOST or HOST:PORT")
	case hasLength && hasTransfer:
		return malformed("both Content-Length and Transfer-Encoding")
	case hasTransfer && !strings.EqualFold(transfer, "chunked"):
		return malformed("a Transfer-Encoding other than chunked")
	case hasExpect && !strings.EqualFold(expect, "100-continue"):
		return malformed("an Expect other than 100-continue")
	case hasTrailer:
		return malformed("trailer fields are not taken")
	}
	h.host, h.expect = host, hasExpect
	h.close = h.lists("Connection", "close")
	switch {
	case hasTransfer:
		h.length = chunked
	case hasLength:
		h.length, err = parseLength(length)
	}
	return err
}

// field gives the value of the first field of that name, or "".
func (h *head) field(name string) string {
	for _, field := range h.fields {
		if strings.EqualFold(field.Name, name) {
			return string(field.Value)
		}
	}
	return ""
}

// lists tells whether any field of that name has the word in its comma-separated list.
func (h *head) lists(name, word string) bool {
	for _, field := range h.fields {
		if !strings.EqualFold(field.Name, name) {
			continue
		}
		for item := range strings.SplitSeq(string(field.Value), ",") {
			if strings.EqualFold(strings.Trim(item, " \t"), word) {
				return true
			}
		}
	}
	return false
}

// words are the items, in lower case, of the lists in all fields of a name.
func (h *head) words(name string) map[string]bool {
	var words map[string]bool
	for _, field := range h.fields {
		if !strings.EqualFold(field.Name, name) {
			continue
		}
		for item := range strings.SplitSeq(string(field.Value), ",") {
			if words == nil {
				words = make(map[string]bool)
			}
			words[strings.ToLower(strings.Trim(item, " \t"))] = true
		}
	}
	return words
}

// isToken: RFC 9110, section 5.6.2.
func isToken(s string) bool {
	for i := range len(s) {
		if c := s[i]; !isAlphanumeric(c) && strings.IndexByte("!#$%&'*+-.^_`|~", c) < 0 {
			return false
		}
	}
	return s != ""
}

// isFieldValue: RFC 9110, section 5.5, without bytes above ASCII, which have no one meaning.
func isFieldValue(s string) bool {
	for i := range len(s) {
		if s[i] != '\t' && (s[i] < ' ' || s[i] > '~') {
			return false
		}
	}
	return true
}

func isVisible(s string) bool {
	for i := range len(s) {
		if s[i] <= ' ' || s[i] > '~' {
			return false
		}
	}
	return true
}

// isHost: a name, an address, or one in brackets, and a port or none. Whether it is a venue's is asked later.
func isHost(s string) bool {
	for i := range len(s) {
		if c := s[i]; !isAlphanumeric(c) && strings.IndexByte("-._:[]", c) < 0 {
			return false
		}
	}
	return s != ""
}

func isAlphanumeric(c byte) bool {
	return '0' <= c && c <= '9' || 'a' <= c && c <= 'z' || 'A' <= c && c <= 'Z'
}
