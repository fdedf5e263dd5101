package credential

import (
	"unicode/utf16"
	"unicode/utf8"
)

// scanner reads a JSON object (RFC 8259) whose values are all texts. Its errors
// say where, never what.
type scanner struct {
	in  []byte
	pos int    // of the next byte
	out []byte // where decoded texts go; at least as long as in
}

// object reads the whole input into fields. Each may be there once, no other may.
func (s *scanner) object(fields []named) error {
	if !s.take('{') {
		return s.unexpected("a JSON object")
	}
	for more := !s.take('}'); more; {
		if err := s.member(fields); err != nil {
			return err
		}
		switch {
		case s.take(','):
		case s.take('}'):
			more = false
		default:
			return s.unexpected("a comma or the object's end")
		}
	}
	if s.space(); s.pos < len(s.in) {
		return s.unexpected("nothing after the object")
	}
	return nil
}

// member reads one name and its text.
func (s *scanner) member(fields []named) error {
	if !s.take('"') {
		return s.unexpected("a field's name")
	}
	name, err := s.text()
	if err != nil {
		return err
	}
	var field *named
	for i := range fields {
		if string(name) == fields[i].name { // the compiler makes no string for a comparison
			field = &fields[i]
		}
	}
	switch {
	case field == nil: // its name isn't repeated here: it may be a secret in the wrong place
		return Bad("has a field that isn't api_key, secret, passphrase or private_key")
	case *field.value != nil:
		return Bad("has %s twice", field.name)
	case !s.take(':'):
		return s.unexpected("a colon")
	case !s.take('"'):
		return Bad("has %s, which isn't a text", field.name)
	}
	*field.value, err = s.text()
	return err
}

// take skips white space, and then b if it comes next.
func (s *scanner) take(b byte) bool {
	s.space()
	if s.pos == len(s.in) || s.in[s.pos] != b {
		return false
	}
	s.pos++
	return true
}

func (s *scanner) space() {
	for s.pos < len(s.in) && (s.in[s.pos] == ' ' || s.in[s.pos] == '\t' || s.in[s.pos] == '\r' || s.in[s.pos] == '\n') {
		s.pos++
	}
}

// text decodes a string whose opening quote was taken. The result is never nil.
func (s *scanner) text() ([]byte, error) {
	text := s.out[:0:len(s.out)]
	for s.pos < len(s.in) {
		b := s.in[s.pos]
		s.pos++
		switch {
		case b == '"':
			s.out = s.out[len(text):]
			return text[:len(text):len(text)], nil
		case b < ' ':
			return nil, s.unexpected("no bare control character in a text")
		case b != '\\':
			text = append(text, b)
		default:
			r, ok := s.escape()
			if !ok {
				return nil, s.unexpected("an escape that JSON knows")
			}
			text = utf8.AppendRune(text, r)
		}
	}
	return nil, s.unexpected("the end of a text")
}

// escape decodes what follows a backslash. A lone surrogate is none.
func (s *scanner) escape() (rune, bool) {
	if s.pos == len(s.in) {
		return 0, false
	}
	b := s.in[s.pos]
	s.pos++
	switch b {
	case '"', '\\', '/':
		return rune(b), true
	case 'b':
		return '\b', true
	case 'f':
		return '\f', true
	case 'n':
		return '\n', true
	case 'r':
		return '\r', true
	case 't':
		return '\t', true
	case 'u':
		return s.unicode()
	}
	return 0, false
}

// unicode decodes what follows \u, a surrogate pair included.
func (s *scanner) unicode() (rune, bool) {
	r, ok := s.hex4()
	if !ok || !utf16.IsSurrogate(r) {
		return r, ok
	}
	if len(s.in)-s.pos < 2 || s.in[s.pos] != '\\' || s.in[s.pos+1] != 'u' {
		return 0, false
	}
	s.pos += 2
	low, ok := s.hex4()
	pair := utf16.DecodeRune(r, low)
	return pair, ok && pair != utf8.RuneError
}

func (s *scanner) hex4() (r rune, ok bool) {
	if len(s.in)-s.pos < 4 {
		return 0, false
	}
	for _, b := range s.in[s.pos : s.pos+4] {
		switch {
		case b >= '0' && b <= '9':
			r = r<<4 | rune(b-'0')
		case b|0x20 >= 'a' && b|0x20 <= 'f':
			r = r<<4 | rune(b|0x20-'a'+10)
		default:
			return 0, false
		}
	}
	s.pos += 4
	return r, true
}

func (s *scanner) unexpected(wanted string) error {
	return Bad("isn't the JSON object that is wanted: expected %s at byte %d", wanted, s.pos)
}
