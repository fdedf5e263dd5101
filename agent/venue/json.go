package venue

import (
	"errors"
	"fmt"
	"math"
	"strconv"
	"strings"
	"unicode"
	"unicode/utf16"
	"unicode/utf8"
)

const (
	// maxDepth is how deep JSON may be nested. Venues' own requests go to five.
	maxDepth = 16
	// maxValues is how many values JSON may have in all: ten times the largest batch of orders.
	maxValues = 8192
)

// parseJSON reads a JSON text (RFC 8259) onto a tape: the root first, then what
// is in it, in the order of the text. It refuses what parsers disagree on:
// members with equal names, in any case and however escaped, text that isn't
// valid UTF-8, numbers that a float64 would change, and anything after the end.
// The text must be valid UTF-8. Errors complete a sentence that begins with what is parsed.
func parseJSON(source string) ([]value, error) {
	// Each container that is not empty has one value more than commas.
	values := strings.Count(source, ",") + 2*(strings.Count(source, "{")+strings.Count(source, "["))
	p := parser{source: source, tape: make([]value, 0, min(maxValues, 1+values))}
	if err := p.value("", 0, 0); err != nil {
		return nil, err
	}
	p.space()
	if p.at != len(p.source) {
		return nil, errors.New("goes on after its end")
	}
	return p.tape, nil
}

type parser struct {
	source string
	at     int
	tape   []value
}

var errJSON = errors.New("is not valid JSON")

func (p *parser) value(name string, fold uint64, depth int) error {
	p.space()
	if p.at == len(p.source) {
		return errors.New("is cut short")
	}
	if len(p.tape) == maxValues {
		return fmt.Errorf("has more than %d values", maxValues)
	}
	node := len(p.tape)
	p.tape = append(p.tape, value{name: name, in: inJSON, fold: fold, start: p.at})
	kind, text, err := p.one(node, depth)
	if err != nil {
		return err
	}
	v := &p.tape[node]
	v.kind, v.text, v.end, v.next = kind, text, p.at, len(p.tape)
	return nil
}

// one reads a value and what is in it.
func (p *parser) one(node, depth int) (kind, string, error) {
	switch c := p.source[p.at]; {
	case c == '{' || c == '[':
		if depth == maxDepth {
			return 0, "", fmt.Errorf("is nested deeper than %d levels", maxDepth)
		}
		if c == '{' {
			return object, "", p.object(node, depth)
		}
		return array, "", p.array(depth)
	case c == '"':
		text, err := p.text()
		return str, text, err
	case c == '-' || c >= '0' && c <= '9':
		text, err := p.number()
		return number, text, err
	}
	for _, word := range []struct {
		text string
		kind kind
	}{{"true", boolean}, {"false", boolean}, {"null", null}} {
		if strings.HasPrefix(p.source[p.at:], word.text) {
			p.at += len(word.text)
			return word.kind, word.text, nil
		}
	}
	return 0, "", errJSON
}

func (p *parser) object(node, depth int) error {
	p.at++
	for count := 0; ; count++ {
		p.space()
		if count == 0 && p.take('}') {
			return nil
		}
		if count == maxParams {
			return fmt.Errorf("has an object with more than %d members", maxParams)
		}
		if p.at == len(p.source) || p.source[p.at] != '"' {
			return errJSON
		}
		name, err := p.text()
		if err != nil {
			return err
		}
		member := value{name: name, fold: fold(name)}
		for i := node + 1; i < len(p.tape); i = p.tape[i].next {
			if p.tape[i].sameName(&member) {
				return fmt.Errorf("has the member %s twice", quote(name))
			}
		}
		p.space()
		if !p.take(':') {
			return errJSON
		}
		if err := p.value(name, member.fold, depth+1); err != nil {
			return err
		}
		p.space()
		if p.take('}') {
			return nil
		}
		if !p.take(',') {
			return errJSON
		}
	}
}

func (p *parser) array(depth int) error {
	p.at++
	p.space()
	if p.take(']') {
		return nil
	}
	for {
		if err := p.value("", 0, depth+1); err != nil {
			return err
		}
		p.space()
		if p.take(']') {
			return nil
		}
		if !p.take(',') {
			return errJSON
		}
	}
}

// text reads a string and decodes it.
func (p *parser) text() (string, error) {
	p.at++
	start := p.at
	var decoded []byte
	for p.at < len(p.source) {
		switch p.source[p.at] {
		case '"':
			text := p.source[start:p.at]
			if decoded != nil {
				text = string(append(decoded, text...))
			}
			p.at++
			if strings.ContainsFunc(text, unicode.IsControl) {
				return "", errors.New("has a control character in a text")
			}
			return text, nil
		case '\\':
			decoded = append(decoded, p.source[start:p.at]...)
			r, err := p.escape()
			if err != nil {
				return "", err
			}
			decoded = utf8.AppendRune(decoded, r)
			start = p.at
		default:
			p.at++
		}
	}
	return "", errors.New("is cut short")
}

// escape reads what follows a backslash. A surrogate stands for a character only in a pair.
func (p *parser) escape() (rune, error) {
	p.at++
	if p.at == len(p.source) {
		return 0, errors.New("is cut short")
	}
	c := p.source[p.at]
	p.at++
	if c != 'u' {
		if i := strings.IndexByte(`"\/bfnrt`, c); i >= 0 {
			return rune("\"\\/\b\f\n\r\t"[i]), nil
		}
		return 0, errJSON
	}
	r, ok := p.unit()
	if ok && utf16.IsSurrogate(r) {
		low := rune(0)
		if strings.HasPrefix(p.source[p.at:], `\u`) {
			p.at += 2
			low, ok = p.unit()
		}
		r = utf16.DecodeRune(r, low)
		if r == unicode.ReplacementChar {
			return 0, errors.New("has half a surrogate pair in a text")
		}
	}
	if !ok {
		return 0, errJSON
	}
	return r, nil
}

// unit reads the four hexadecimal digits of an escape.
func (p *parser) unit() (rune, bool) {
	if p.at+4 > len(p.source) {
		return 0, false
	}
	var r rune
	for range 4 {
		digit := hexDigit[p.source[p.at]]
		if digit == 0 {
			return 0, false
		}
		r = r<<4 | rune(digit-1)
		p.at++
	}
	return r, true
}

func (p *parser) number() (string, error) {
	start := p.at
	p.take('-')
	whole := p.digits()
	if whole == 0 || whole > 1 && p.source[p.at-whole] == '0' {
		return "", errJSON
	}
	if p.take('.') && p.digits() == 0 {
		return "", errJSON
	}
	if p.take('e') || p.take('E') {
		if !p.take('+') {
			p.take('-')
		}
		if p.digits() == 0 {
			return "", errJSON
		}
	}
	literal := p.source[start:p.at]
	if !exact(literal) {
		return "", errors.New("has a number that loses digits as a float64; send it as a text")
	}
	return literal, nil
}

func (p *parser) digits() int {
	start := p.at
	for p.at < len(p.source) && p.source[p.at] >= '0' && p.source[p.at] <= '9' {
		p.at++
	}
	return p.at - start
}

func (p *parser) take(c byte) bool {
	if p.at < len(p.source) && p.source[p.at] == c {
		p.at++
		return true
	}
	return false
}

func (p *parser) space() {
	for p.at < len(p.source) && strings.IndexByte(" \t\r\n", p.source[p.at]) >= 0 {
		p.at++
	}
}

// exact tells that a float64 keeps every digit of a number.
func exact(literal string) bool {
	// Fifteen digits always survive; DBL_DIG of IEEE 754 binary64.
	if len(literal) <= 15 && !strings.ContainsAny(literal, "eE") {
		return true
	}
	f, err := strconv.ParseFloat(literal, 64)
	if err != nil || math.IsInf(f, 0) {
		return false
	}
	digits, exponent := significant(literal)
	kept, keptExponent := significant(strconv.FormatFloat(f, 'e', -1, 64))
	return digits == kept && (digits == "" || exponent == keptExponent)
}

// significant gives a number as 0.DIGITS × 10^exponent, without zeros around the digits.
func significant(literal string) (digits string, exponent int) {
	mantissa, power, _ := strings.Cut(strings.ToLower(strings.TrimPrefix(literal, "-")), "e")
	exponent, _ = strconv.Atoi(power) // ParseFloat has refused one out of range, but of zero, where it doesn't count
	whole, fraction, _ := strings.Cut(mantissa, ".")
	all := whole + fraction
	exponent += len(whole) - (len(all) - len(strings.TrimLeft(all, "0")))
	return strings.Trim(all, "0"), exponent
}
