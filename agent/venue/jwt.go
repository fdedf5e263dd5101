package venue

import (
	"encoding/base64"
	"encoding/hex"
	"strconv"
	"time"
)

// tokenLife is how long a JWT is good for: what the venue allows at most.
// Its clock may differ, and it refuses one that isn't valid yet.
const tokenLife = 2 * time.Minute

// claims is what one kind of JWT says besides who and when.
type claims struct {
	issuer   string
	audience string // empty: none
	issued   bool   // says when it was made
	uris     bool   // names the request in a list "uris", else in "uri"
}

var jwtAlgorithm = map[Algorithm]string{ES256: "ES256", Ed25519: "EdDSA"}

// appendJWT writes header and claims of a JWT (RFC 7519), the part of it that is
// signed. A request's token names method, host and path; a login's names none.
func (d *Draft) appendJWT(to []byte) []byte {
	var room [512]byte
	part := append(room[:0], `{"alg":"`...)
	part = append(part, jwtAlgorithm[d.access.Algorithm]...)
	part = append(part, `","typ":"JWT","kid":"`...)
	part = appendJSON(part, d.access.APIKey)
	part = append(part, `","nonce":"`...)
	part = hex.AppendEncode(part, d.stamp.Random[:])
	part = append(part, `"}`...)
	to = base64.RawURLEncoding.AppendEncode(to, part)
	to = append(to, '.')

	return base64.RawURLEncoding.AppendEncode(to, d.appendClaims(part[:0]))
}

func (d *Draft) appendClaims(to []byte) []byte {
	says := d.venue.jwt[d.access.Algorithm]
	now := d.stamp.Time.Unix()
	to = append(to, `{"sub":"`...)
	to = appendJSON(to, d.access.APIKey)
	to = append(append(to, `","iss":"`...), says.issuer...)
	if says.audience != "" {
		to = append(append(to, `","aud":["`...), says.audience...)
		to = append(to, `"],"nbf":`...)
	} else {
		to = append(to, `","nbf":`...)
	}
	to = strconv.AppendInt(to, now, 10)
	to = append(to, `,"exp":`...)
	to = strconv.AppendInt(to, now+int64(tokenLife.Seconds()), 10)
	if says.issued {
		to = append(to, `,"iat":`...)
		to = strconv.AppendInt(to, now, 10)
	}
	if d.login == nil {
		open, end := `,"uri":"`, `"`
		if says.uris {
			open, end = `,"uris":["`, `"]`
		}
		to = append(append(to, open...), d.request.Method...)
		to = append(append(to, ' '), d.request.Host...)
		to = append(append(to, d.request.Path...), end...) // a path has nothing that JSON escapes
	}
	return append(to, '}')
}
