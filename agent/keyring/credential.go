package keyring

import (
	"bytes"
	"encoding/hex"
	"unicode/utf8"

	"github.com/sealsign/sealsign/internal/fault"
	"github.com/sealsign/sealsign/internal/secmem"
)

// maxCredential is the size of an import in bytes. The largest sensible one, an
// RSA-4096 key as PEM, has 4 KiB.
const maxCredential = 64 << 10

// credential is what a venue issued, in guarded memory. A field that isn't there is empty.
type credential struct {
	memory     *secmem.Buffer
	apiKey     []byte
	secret     []byte
	passphrase []byte
	privateKey []byte
	auth       []byte // of a key that lives in the TPM, as hex; never imported
}

// wipe forgets the credential; nil is none.
func (c *credential) wipe() {
	if c == nil {
		return
	}
	c.memory.Release()
	*c = credential{}
}

// named pairs a field of the credential with its name in JSON.
type named struct {
	name  string
	value *[]byte
}

// fields lists what may be stored; all but the last may be imported.
func (c *credential) fields() []named {
	return []named{
		{"api_key", &c.apiKey},
		{"secret", &c.secret},
		{"passphrase", &c.passphrase},
		{"private_key", &c.privateKey},
		{"auth", &c.auth},
	}
}

// imported reads what an operator gives. It doesn't wipe data.
func imported(data []byte) (*credential, error) {
	if len(data) > maxCredential {
		return nil, badCredential("has more than %d KiB", maxCredential>>10)
	}
	c, err := parseCredential(data)
	if err != nil {
		return nil, err
	}
	if err := c.check(); err != nil {
		c.wipe()
		return nil, err
	}
	return c, nil
}

// parseCredential reads one JSON object of texts into guarded memory. It is
// stricter than encoding/json, and makes no Go string of what it reads: strings
// can't be wiped.
func parseCredential(data []byte) (*credential, error) {
	if !utf8.Valid(data) {
		return nil, badCredential("isn't UTF-8")
	}
	memory, err := secmem.New(len(data)) // a text is never longer than its JSON
	if err != nil {
		return nil, err
	}
	c := &credential{memory: memory}
	s := scanner{in: data, out: memory.Bytes()}
	if err := s.object(c.fields()); err != nil {
		c.wipe()
		return nil, err
	}
	return c, nil
}

// check refuses what can't be a credential: mostly slips in copying, which a
// venue would answer with an unhelpful "invalid signature".
func (c *credential) check() error {
	switch {
	case c.auth != nil:
		return badCredential("has a field that isn't api_key, secret, passphrase or private_key")
	case c.apiKey == nil:
		return badCredential("has no api_key")
	}
	for _, f := range c.fields() {
		if *f.value != nil && len(bytes.TrimSpace(*f.value)) == 0 {
			return badCredential("has an empty %s", f.name)
		}
	}
	// The API key and the passphrase travel in headers.
	if !printable(c.apiKey) || bytes.IndexByte(c.apiKey, ' ') >= 0 {
		return badCredential("has an api_key with white space or characters that no header takes")
	}
	if !printable(c.passphrase) || spaceAround(c.passphrase) {
		return badCredential("has a passphrase with characters that no header takes, or white space around it")
	}
	return nil
}

// printable: visible ASCII and spaces only.
func printable(text []byte) bool {
	for _, b := range text {
		if b < ' ' || b > '~' {
			return false
		}
	}
	return true
}

func spaceAround(text []byte) bool { return len(bytes.TrimSpace(text)) != len(text) }

// encode writes the JSON object that parseCredential reads, into guarded memory.
func (c *credential) encode() (*secmem.Buffer, error) {
	size := len("{}")
	for _, f := range c.fields() {
		size += len(f.name) + len(`"":"",`) + quotedLen(*f.value)
	}
	memory, err := secmem.New(size)
	if err != nil {
		return nil, err
	}
	out := append(memory.Bytes()[:0], '{')
	for _, f := range c.fields() {
		if *f.value == nil {
			continue
		}
		if len(out) > 1 {
			out = append(out, ',')
		}
		out = append(append(append(out, '"'), f.name...), `":"`...)
		out = append(appendQuoted(out, *f.value), '"')
	}
	// What encode leaves unused is filled with white space, which JSON allows.
	for out = append(out, '}'); len(out) < size; {
		out = append(out, ' ')
	}
	return memory, nil
}

// quotedLen is how many bytes appendQuoted adds.
func quotedLen(text []byte) int {
	n := len(text)
	for _, b := range text {
		switch {
		case b == '"' || b == '\\' || b == '\n':
			n++
		case b < ' ':
			n += len(`\u0000`) - 1
		}
	}
	return n
}

// appendQuoted adds text as the inside of a JSON string.
func appendQuoted(out, text []byte) []byte {
	for _, b := range text {
		switch {
		case b == '"' || b == '\\':
			out = append(out, '\\', b)
		case b == '\n':
			out = append(out, '\\', 'n')
		case b < ' ':
			out = hex.AppendEncode(append(out, `\u00`...), []byte{b})
		default:
			out = append(out, b)
		}
	}
	return out
}

// badCredential says what is wrong with an import, never what is in it.
func badCredential(format string, args ...any) *fault.Error {
	return fault.New(fault.BadRequest, "the credential "+format, args...).
		WithHint(`give one JSON object: {"api_key":"…","secret":"…"}, with "passphrase" or "private_key" where the venue has them`)
}
