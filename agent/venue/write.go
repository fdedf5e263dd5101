package venue

import (
	"crypto/sha256"
	"crypto/sha512"
	"encoding/base64"
	"encoding/hex"
	"strconv"
)

// escaping is how a token's text is made to fit what is around it.
type escaping uint8

const (
	asIs escaping = iota
	percentEncoded
	inJSONText
)

// append writes a template.
func (d *Draft) append(to []byte, t template, as escaping) []byte {
	for i := range t {
		if t[i].token == literal {
			to = append(to, t[i].text...)
			continue
		}
		if as == asIs {
			to = d.appendToken(to, t[i].token)
			continue
		}
		var room [256]byte
		text := d.appendToken(room[:0], t[i].token)
		if as == percentEncoded {
			to = appendPercent(to, text)
		} else {
			to = appendJSON(to, text)
		}
	}
	return to
}

func (d *Draft) appendToken(to []byte, t token) []byte {
	switch t {
	case tokMethod:
		return append(to, d.request.Method...)
	case tokHost:
		return append(to, d.request.Host...)
	case tokPath:
		return append(to, d.request.Path...)
	case tokQuestionQuery:
		if len(d.query) == 0 {
			return to
		}
		return append(append(to, '?'), d.query...)
	case tokQuery:
		return append(to, d.query...)
	case tokBody:
		return append(to, d.body...)
	case tokBodySHA256:
		sum := sha256.Sum256(d.body)
		return hex.AppendEncode(to, sum[:])
	case tokBodySHA512:
		sum := sha512.Sum512(d.body)
		return hex.AppendEncode(to, sum[:])
	case tokNonceBodySHA256:
		mark := len(to)
		to = append(strconv.AppendUint(to, d.stamp.Nonce, 10), d.body...)
		sum := sha256.Sum256(to[mark:])
		return append(to[:mark], sum[:]...)
	case tokTokenJWT:
		return d.appendJWT(to)
	case tokMessage:
		return append(to, d.Message...)
	}
	return d.appendStamp(to, t)
}

func (d *Draft) appendStamp(to []byte, t token) []byte {
	switch t {
	case tokSeconds:
		return strconv.AppendInt(to, d.stamp.Time.Unix(), 10)
	case tokMillis:
		return strconv.AppendInt(to, d.stamp.Time.UnixMilli(), 10)
	case tokExpires:
		return strconv.AppendInt(to, d.stamp.Time.UnixMilli()+loginLife.Milliseconds(), 10)
	case tokISO:
		return d.stamp.Time.UTC().AppendFormat(to, "2006-01-02T15:04:05.000Z")
	case tokNonce:
		return strconv.AppendUint(to, d.stamp.Nonce, 10)
	case tokUUID:
		return appendUUID(to, d.stamp.Random)
	case tokAPIKey:
		return append(to, d.access.APIKey...)
	case tokPassphrase:
		return append(to, d.access.Passphrase...)
	case tokChannel:
		return append(to, d.login.channel...)
	}
	return d.appendEncoded(to, t)
}

func (d *Draft) appendEncoded(to []byte, t token) []byte {
	as := d.encoding
	switch t {
	case tokSignatureHex:
		as = inHex
	case tokSignatureBase64:
		as = inBase64
	case tokSignatureBase64URL:
		as = inBase64URL
	}
	switch as {
	case inHex:
		return hex.AppendEncode(to, d.signature)
	case inBase64:
		return base64.StdEncoding.AppendEncode(to, d.signature)
	}
	return base64.RawURLEncoding.AppendEncode(to, d.signature)
}

// appendUUID writes a random UUID (RFC 9562, version 4).
func appendUUID(to []byte, random [16]byte) []byte {
	random[6] = random[6]&0x0f | 0x40
	random[8] = random[8]&0x3f | 0x80
	for i, cut := range [...][2]int{{0, 4}, {4, 6}, {6, 8}, {8, 10}, {10, 16}} {
		if i > 0 {
			to = append(to, '-')
		}
		to = hex.AppendEncode(to, random[cut[0]:cut[1]])
	}
	return to
}

// appendPercent encodes all but the unreserved characters of RFC 3986.
func appendPercent(to, text []byte) []byte {
	const digits = "0123456789ABCDEF"
	for _, c := range text {
		if c >= '0' && c <= '9' || c >= 'A' && c <= 'Z' || c >= 'a' && c <= 'z' || c == '-' || c == '.' || c == '_' || c == '~' {
			to = append(to, c)
			continue
		}
		to = append(to, '%', digits[c>>4], digits[c&15])
	}
	return to
}

// appendJSON escapes what can't stand in a JSON text. take has refused control characters.
func appendJSON(to, text []byte) []byte {
	for _, c := range text {
		if c == '"' || c == '\\' {
			to = append(to, '\\')
		}
		to = append(to, c)
	}
	return to
}
