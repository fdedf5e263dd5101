// Package credential knows what a venue issued: how an operator gives it, how it is
// kept in guarded memory, what of it signs, and how it is encrypted under a key that
// a TPM keeps. The agent and the command that wraps a credential for another host
// read it with the same code, so that what one takes the other does not refuse.
package credential

import (
	"bytes"
	"encoding/hex"
	"unicode/utf8"

	"github.com/sealsign/sealsign/internal/fault"
	"github.com/sealsign/sealsign/internal/secmem"
)

// MaxSize is the size of an import in bytes. The largest sensible one, an
// RSA-4096 key as PEM, has 4 KiB.
const MaxSize = 64 << 10

// Credential is what a venue issued, in guarded memory. A field that isn't there is empty.
type Credential struct {
	memory     *secmem.Buffer
	APIKey     []byte
	Secret     []byte
	Passphrase []byte
	PrivateKey []byte
	Auth       []byte // of a key that lives in the TPM, as hex; never imported
}

// Wipe forgets the credential; nil is none.
func (c *Credential) Wipe() {
	if c == nil {
		return
	}
	c.memory.Release()
	*c = Credential{}
}

// named pairs a field of the credential with its name in JSON.
type named struct {
	name  string
	value *[]byte
}

// fields lists what may be stored; all but the last may be imported.
func (c *Credential) fields() []named {
	return []named{
		{"api_key", &c.APIKey},
		{"secret", &c.Secret},
		{"passphrase", &c.Passphrase},
		{"private_key", &c.PrivateKey},
		{"auth", &c.Auth},
	}
}

// Parse reads what an operator gives. It doesn't wipe data.
func Parse(data []byte) (*Credential, error) {
	if len(data) > MaxSize {
		return nil, Bad("has more than %d KiB", MaxSize>>10)
	}
	c, err := ParseStored(data)
	if err != nil {
		return nil, err
	}
	if err = c.Check(); c.Auth != nil {
		err = Bad("has a field that isn't api_key, secret, passphrase or private_key")
	}
	if err != nil {
		c.Wipe()
		return nil, err
	}
	return c, nil
}

// ParseStored reads what Encode wrote: one JSON object of texts into guarded memory. It is
// stricter than encoding/json, and makes no Go string of what it reads: strings
// can't be wiped.
func ParseStored(data []byte) (*Credential, error) {
	if !utf8.Valid(data) {
		return nil, Bad("isn't UTF-8")
	}
	memory, err := secmem.New(len(data)) // a text is never longer than its JSON
	if err != nil {
		return nil, err
	}
	c := &Credential{memory: memory}
	s := scanner{in: data, out: memory.Bytes()}
	if err := s.object(c.fields()); err != nil {
		c.Wipe()
		return nil, err
	}
	return c, nil
}

// Check refuses what can't be a credential: mostly slips in copying, which a
// venue would answer with an unhelpful "invalid signature".
func (c *Credential) Check() error {
	if c.APIKey == nil {
		return Bad("has no api_key")
	}
	for _, f := range c.fields() {
		if *f.value != nil && len(bytes.TrimSpace(*f.value)) == 0 {
			return Bad("has an empty %s", f.name)
		}
	}
	// The API key and the passphrase travel in headers.
	if !printable(c.APIKey) || bytes.IndexByte(c.APIKey, ' ') >= 0 {
		return Bad("has an api_key with white space or characters that no header takes")
	}
	if !printable(c.Passphrase) || spaceAround(c.Passphrase) {
		return Bad("has a passphrase with characters that no header takes, or white space around it")
	}
	return nil
}

// CheckPassphrase refuses a passphrase that the venue doesn't have, or one that is missing.
func (c *Credential) CheckPassphrase(venue string, needed bool) error {
	switch {
	case needed && c.Passphrase == nil:
		return Bad("has no passphrase, which %s wants", venue)
	case !needed && c.Passphrase != nil:
		return Bad("has a passphrase, and %s takes none", venue)
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

// Encode writes the JSON object that ParseStored reads, into guarded memory.
func (c *Credential) Encode() (*secmem.Buffer, error) {
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
	// What Encode leaves unused is filled with white space, which JSON allows.
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

// Bad says what is wrong with an import, never what is in it.
func Bad(format string, args ...any) *fault.Error {
	return fault.New(fault.BadRequest, "the credential "+format, args...).
		WithHint(`give one JSON object: {"api_key":"…","secret":"…"}, with "passphrase" or "private_key" where the venue has them`)
}
