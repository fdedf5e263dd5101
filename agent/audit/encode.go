package audit

import (
	"encoding/hex"
	"strconv"
	"time"
	"unicode"
	"unicode/utf16"
	"unicode/utf8"
)

// The encoder is written by hand because encoding/json takes longer than all the
// rest of an append (BenchmarkEncode has both); its output is JSON all the same.

const lineStart = `{"id":`

// appendLine appends the whole line, without a newline.
func appendLine(dst []byte, r *Record) []byte {
	dst = append(dst, lineStart...)
	dst = strconv.AppendUint(dst, r.ID, 10)
	return appendBody(dst, r)
}

// appendBody appends the line from behind the id: that is given out last.
func appendBody(dst []byte, r *Record) []byte {
	dst = append(dst, `,"time":"`...)
	dst = r.Time.UTC().AppendFormat(dst, time.RFC3339Nano)
	dst = append(dst, '"')
	dst = appendField(dst, `,"kind":`, r.Kind)
	dst = appendField(dst, `,"caller":`, r.Caller)
	dst = appendOptional(dst, `,"unit":`, r.Unit)
	if r.PID != 0 {
		dst = append(dst, `,"uid":`...)
		dst = strconv.AppendUint(dst, uint64(r.UID), 10)
		dst = appendInt(dst, `,"pid":`, int64(r.PID))
	}
	dst = appendField(dst, `,"key":`, r.Key)
	dst = append(dst, `,"version":`...)
	dst = strconv.AppendInt(dst, int64(r.Version), 10)
	dst = appendOptional(dst, `,"mode":`, r.Mode)
	dst = appendField(dst, `,"method":`, r.Method)
	dst = appendField(dst, `,"host":`, r.Host)
	dst = appendField(dst, `,"path":`, r.Path)
	dst = appendField(dst, `,"operation":`, r.Operation)
	dst = appendEffects(dst, r.Effects)
	dst = appendDigest(dst, `,"query_sha256":"`, &r.Query)
	dst = appendDigest(dst, `,"body_sha256":"`, &r.Body)
	dst = appendField(dst, `,"decision":`, r.Decision)
	dst = appendField(dst, `,"rule":`, r.Rule)
	dst = appendField(dst, `,"reason":`, r.Reason)
	dst = appendOptional(dst, `,"message":`, r.Message)
	if r.Kind == KindOutcome {
		dst = append(dst, `,"of":`...)
		dst = strconv.AppendUint(dst, r.Of, 10)
	}
	dst = appendInt(dst, `,"status":`, int64(r.Status))
	dst = appendOptional(dst, `,"sent":`, r.Sent)
	dst = appendInt(dst, `,"duration_us":`, r.DurationUS)
	dst = appendInt(dst, `,"count":`, int64(r.Count))
	return append(dst, '}')
}

func appendEffects(dst []byte, effects []Effect) []byte {
	if len(effects) == 0 {
		return dst
	}
	dst = append(dst, `,"effects":[`...)
	for i := range effects {
		e := &effects[i]
		if i > 0 {
			dst = append(dst, ',')
		}
		dst = appendField(dst, `{"operation":`, e.Operation)
		dst = appendOptional(dst, `,"symbol":`, e.Symbol)
		dst = appendOptional(dst, `,"side":`, e.Side)
		dst = appendOptional(dst, `,"type":`, e.Type)
		dst = appendOptional(dst, `,"quantity":`, e.Quantity)
		dst = appendOptional(dst, `,"quote_quantity":`, e.QuoteQuantity)
		dst = appendOptional(dst, `,"price":`, e.Price)
		dst = appendOptional(dst, `,"client_order_id":`, e.ClientOrderID)
		dst = appendOptional(dst, `,"asset":`, e.Asset)
		dst = appendOptional(dst, `,"network":`, e.Network)
		dst = appendOptional(dst, `,"address":`, e.Address)
		dst = appendOptional(dst, `,"tag":`, e.Tag)
		dst = append(dst, '}')
	}
	return append(dst, ']')
}

func appendField(dst []byte, name, value string) []byte {
	return appendString(append(dst, name...), value)
}

func appendOptional(dst []byte, name, value string) []byte {
	if value == "" {
		return dst
	}
	return appendField(dst, name, value)
}

func appendInt(dst []byte, name string, value int64) []byte {
	if value == 0 {
		return dst
	}
	return strconv.AppendInt(append(dst, name...), value, 10)
}

func appendDigest(dst []byte, name string, d *Digest) []byte {
	if *d == (Digest{}) {
		return dst
	}
	return append(hex.AppendEncode(append(dst, name...), d[:]), '"')
}

func appendString(dst []byte, s string) []byte {
	dst = append(dst, '"')
	start := 0 // of the text that needs no escape
	for i := 0; i < len(s); {
		if plain(s[i]) {
			i++
			continue
		}
		r, size := utf8.DecodeRuneInString(s[i:])
		if visible(r) {
			i += size
			continue
		}
		dst = append(dst, s[start:i]...)
		dst = appendEscape(dst, r)
		i += size
		start = i
	}
	return append(append(dst, s[start:]...), '"')
}

// plain reports whether a byte is an ASCII character that stands for itself.
func plain(c byte) bool { return c >= ' ' && c < 0x7f && c != '"' && c != '\\' }

// visible reports the same of any other character.
func visible(r rune) bool {
	return r > 0x7f && r != utf8.RuneError && !unicode.In(r, unicode.Cc, unicode.Cf, unicode.Zl, unicode.Zp)
}

func appendEscape(dst []byte, r rune) []byte {
	if r == '"' || r == '\\' {
		return append(dst, '\\', byte(r))
	}
	if r > 0xffff {
		high, low := utf16.EncodeRune(r)
		return appendEscape(appendEscape(dst, high), low)
	}
	const digits = "0123456789abcdef"
	return append(dst, '\\', 'u', digits[r>>12&15], digits[r>>8&15], digits[r>>4&15], digits[r&15])
}
