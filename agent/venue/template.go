package venue

import (
	"fmt"
	"slices"
	"strings"
)

// token is what a template stands for at one place.
type token uint8

const (
	literal token = iota
	tokMethod
	tokHost
	tokPath
	tokQuery
	tokQuestionQuery // "?" and the query, or nothing where there is none
	tokBody
	tokBodySHA256
	tokBodySHA512
	tokSeconds
	tokMillis
	tokISO
	tokNonce
	tokUUID
	tokAPIKey
	tokPassphrase
	tokSignature // as the algorithm's own encoding
	tokSignatureHex
	tokSignatureBase64
	tokSignatureBase64URL
	// The rest serves one built-in venue each.
	tokNonceBodySHA256 // the 32 bytes of SHA-256 over nonce and body
	tokTokenJWT        // header and claims of a JWT
	tokMessage         // what was signed
	tokExpires         // the time plus ten seconds, in ms
	tokChannel         // of a login
)

// use is where a token may stand in a template of the config.
type use uint8

const (
	inMessage use = 1 << iota
	inHeader
	signature // a header that has one carries the signature
)

// tokenFacts is a token's name, where the config may use it, and what Binding
// asks of it: how many bytes it takes (0: not always the same).
type tokenFacts struct {
	name  string
	token token
	use   use
	width int
}

// tokens lists the template language. A nonce has 19 digits from 2001 to 2286,
// being Unix time in nanoseconds. An API key and a passphrase are the same in every
// message of a key, as good as literal text; their length doesn't matter.
var tokens = []tokenFacts{
	{"method", tokMethod, inMessage, 0},
	{"host", tokHost, inMessage, 0},
	{"path", tokPath, inMessage, 0},
	{"query", tokQuery, inMessage, 0},
	{"?query", tokQuestionQuery, inMessage, 0},
	{"body", tokBody, inMessage, 0},
	{"body_sha256_hex", tokBodySHA256, inMessage | inHeader, 64},
	{"body_sha512_hex", tokBodySHA512, inMessage | inHeader, 128},
	{"timestamp_s", tokSeconds, inMessage | inHeader, 10},
	{"timestamp_ms", tokMillis, inMessage | inHeader, 13},
	{"timestamp_iso_ms", tokISO, inMessage | inHeader, 24},
	{"nonce", tokNonce, inMessage | inHeader, 19},
	{"uuid", tokUUID, inMessage | inHeader, 36},
	{"api_key", tokAPIKey, inMessage | inHeader, 1},
	{"passphrase", tokPassphrase, inMessage | inHeader, 1},
	{"signature_hex", tokSignatureHex, inHeader | signature, 0},
	{"signature_base64", tokSignatureBase64, inHeader | signature, 0},

	{"signature", tokSignature, 0, 0},
	{"signature_base64url", tokSignatureBase64URL, 0, 0},
	{"nonce_body_sha256", tokNonceBodySHA256, 0, 32},
	{"jwt", tokTokenJWT, 0, 0},
	{"message", tokMessage, 0, 0},
	{"expires_ms", tokExpires, 0, 13},
	{"channel", tokChannel, 0, 0},
}

// part is a token, or literal text.
type part struct {
	token token
	text  string
	width int
}

// template is text with tokens in it: "{timestamp_ms}{method}{path}".
type template []part

func (t template) has(want ...token) bool {
	return slices.ContainsFunc(t, func(p part) bool { return slices.Contains(want, p.token) })
}

// parseTemplate reads a template whose tokens may be used as allowed. A "{" that
// no lower-case name or "?" follows is itself, so that JSON may stand around tokens.
func parseTemplate(text string, allowed func(tokenFacts) bool) (template, error) {
	var t template
	plain := 0
	flush := func(end int) {
		if end > plain {
			t = append(t, part{text: text[plain:end], width: end - plain})
		}
	}
	for i := 0; i < len(text); i++ {
		if text[i] != '{' || i+1 == len(text) || text[i+1] != '?' && (text[i+1] < 'a' || text[i+1] > 'z') {
			continue
		}
		length := strings.IndexByte(text[i:], '}')
		if length < 0 {
			return nil, fmt.Errorf("has a { without its }")
		}
		name := text[i+1 : i+length]
		found := slices.IndexFunc(tokens, func(f tokenFacts) bool { return f.name == name && allowed(f) })
		if found < 0 {
			return nil, fmt.Errorf("has the unknown token {%s}; it may have %s", clip(name), tokenNames(allowed))
		}
		flush(i)
		t = append(t, part{token: tokens[found].token, width: tokens[found].width})
		i += length
		plain = i + 1
	}
	flush(len(text))
	return t, nil
}

func tokenNames(allowed func(tokenFacts) bool) string {
	var names []string
	for _, f := range tokens {
		if allowed(f) {
			names = append(names, "{"+f.name+"}")
		}
	}
	return strings.Join(names, " ")
}

// must reads a template of the built-in table, which may use every token.
func must(text string) template {
	t, err := parseTemplate(text, func(tokenFacts) bool { return true })
	if err != nil {
		panic("venue: the template " + text + " " + err.Error())
	}
	return t
}

func clip(name string) string { return strings.Trim(quote(name), `"`) }
