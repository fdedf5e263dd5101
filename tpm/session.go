package tpm

import (
	"bytes"
	"crypto"
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"time"

	"github.com/google/go-tpm/tpm2"
	"github.com/google/go-tpm/tpm2/transport"
)

const (
	nonceSize  = 16 // part 1, 17.6.3 asks for at least 16 bytes
	digestSize = sha256.Size

	// A session held for long keeps everybody's sessions from being saved (the
	// "context gap": 252 saves later on some TPMs). So it is renewed often and
	// not held while nothing is asked.
	sessionUses = 100
	sessionIdle = 60 * time.Second
)

// direction says which first parameters a session encrypts. A command whose
// first parameter, or whose answer's first, is not a sized buffer can't have
// it encrypted (part 1, 21). Where it authorizes nothing either, the session is
// an audit session, by which the answer is authenticated all the same (part 1, 17.7).
type direction int

const (
	encryptIn direction = 1 << iota
	encryptOut
	audited
	encryptNone direction = 0
	encryptBoth           = encryptIn | encryptOut
)

var errTampered = errors.New("the answer's authorization is wrong: it isn't the TPM's, or not to this command")

// session authorizes commands without putting an authorization value on the
// bus, and encrypts parameters. Its key comes from a salt that only the owner of
// the SRK can read. It is go-tpm's Session, made here because go-tpm's knows
// one authorization value for its whole life, cuts such a value at any zero
// byte, and can't be wiped.
type session struct {
	handle  tpm2.TPMHandle
	key     []byte
	caller  [nonceSize]byte
	tpm     []byte
	auth    []byte // a copy of that of what is being used; set for each command
	encrypt direction
	uses    int
	used    time.Time
}

var _ tpm2.Session = (*session)(nil)

// startSession starts a session salted to the SRK: TPM_SE_HMAC or TPM_SE_POLICY.
func (c *conn) startSession(kind tpm2.TPMSE) (*session, error) {
	salt, encrypted, err := tpm2.CreateEncryptedSalt(rand.Reader, c.srkKey)
	if err != nil {
		return nil, err
	}
	defer clear(salt)
	s, err := c.startUnsalted(kind, c.srk.handle, encrypted)
	if err != nil {
		return nil, err
	}
	s.key = tpm2.KDFa(crypto.SHA256, salt, "ATH", s.tpm, s.caller[:], digestSize*8)
	return s, nil
}

// startUnsalted starts a session whose key is empty: with no salt that is all.
func (c *conn) startUnsalted(kind tpm2.TPMSE, saltKey tpm2.TPMHandle, salt []byte) (*session, error) {
	s := &session{used: time.Now()}
	if err := s.NewNonceCaller(); err != nil {
		return nil, err
	}
	rsp, err := tpm2.StartAuthSession{
		TPMKey:        saltKey,
		Bind:          tpm2.TPMRHNull,
		NonceCaller:   tpm2.TPM2BNonce{Buffer: s.caller[:]},
		EncryptedSalt: tpm2.TPM2BEncryptedSecret{Buffer: salt},
		SessionType:   kind,
		Symmetric:     aes128CFB(),
		AuthHash:      tpm2.TPMAlgSHA256,
	}.Execute(c)
	if err != nil {
		return nil, err
	}
	s.handle = tpm2.TPMHandle(rsp.SessionHandle.HandleValue())
	s.tpm = rsp.NonceTPM.Buffer
	return s, nil
}

func (s *session) wipe() {
	clear(s.key)
	clear(s.auth)
}

// use readies the session for one command: whose authorization value, and what
// to encrypt. The TPM drops an authorization value's trailing zeros (part 1,
// 19.6.4.3), so they are dropped here too.
func (s *session) use(auth []byte, encrypt direction) *session {
	clear(s.auth)
	s.auth = append(s.auth[:0], bytes.TrimRight(auth, "\x00")...)
	s.encrypt = encrypt
	s.used = time.Now()
	return s
}

// Init and CleanupFailure have nothing to do: conn starts and flushes sessions.
func (s *session) Init(transport.TPM) error           { return nil }
func (s *session) CleanupFailure(transport.TPM) error { return nil }

// NonceTPM is the TPM's last nonce.
func (s *session) NonceTPM() tpm2.TPM2BNonce { return tpm2.TPM2BNonce{Buffer: s.tpm} }

// NewNonceCaller draws the nonce of the next command.
func (s *session) NewNonceCaller() error {
	s.uses++
	_, err := rand.Read(s.caller[:])
	return err
}

// IsEncryption: the answer's first parameter is encrypted.
func (s *session) IsEncryption() bool { return s.encrypt&encryptOut != 0 }

// IsDecryption: the command's first parameter is encrypted.
func (s *session) IsDecryption() bool { return s.encrypt&encryptIn != 0 }

// Handle is the session's.
func (s *session) Handle() tpm2.TPMHandle { return s.handle }

// attributes are TPMA_SESSION: continueSession, decrypt, encrypt, audit (part 2, 8.4).
func (s *session) attributes() byte {
	a := byte(1)
	if s.IsDecryption() {
		a |= 1 << 5
	}
	if s.IsEncryption() {
		a |= 1 << 6
	}
	if s.encrypt&audited != 0 {
		a |= 1 << 7
	}
	return a
}

// Authorize makes the command's authorization.
func (s *session) Authorize(cc tpm2.TPMCC, parms, addNonces []byte, names []tpm2.TPM2BName, _ int) (*tpm2.TPMSAuthCommand, error) {
	if len(addNonces) != 0 {
		return nil, errors.New("one session per command")
	}
	joined := make([]byte, 0, 2*(2+digestSize))
	for _, name := range names {
		joined = append(joined, name.Buffer...)
	}
	return &tpm2.TPMSAuthCommand{
		Handle: s.handle,
		Nonce:  tpm2.TPM2BNonce{Buffer: s.caller[:]},
		Attributes: tpm2.TPMASession{
			ContinueSession: true,
			Decrypt:         s.IsDecryption(),
			Encrypt:         s.IsEncryption(),
			Audit:           s.encrypt&audited != 0,
		},
		Authorization: tpm2.TPM2BData{Buffer: s.sign(cc, joined, parms)},
	}, nil
}

// sign is the HMAC of a command: names are those of its handles, one behind
// the other.
func (s *session) sign(cc tpm2.TPMCC, names, parms []byte) []byte {
	h := sha256.New()
	h.Write(binary.BigEndian.AppendUint32(nil, uint32(cc)))
	h.Write(names)
	h.Write(parms)
	return s.mac(h.Sum(nil), s.caller[:], s.tpm, s.attributes())
}

// mac is the HMAC of a command or an answer (part 1, 19.6.5).
func (s *session) mac(pHash, newer, older []byte, attributes byte) []byte {
	key := s.value()
	defer clear(key)
	m := hmac.New(sha256.New, key)
	m.Write(pHash)
	m.Write(newer)
	m.Write(older)
	m.Write([]byte{attributes})
	return m.Sum(nil)
}

// value is the session key with the authorization value behind it, the key of
// HMAC and parameter encryption alike. The caller wipes it.
func (s *session) value() []byte {
	v := make([]byte, 0, len(s.key)+len(s.auth))
	return append(append(v, s.key...), s.auth...)
}

// Validate checks that the answer is the TPM's, to this command.
func (s *session) Validate(rc tpm2.TPMRC, cc tpm2.TPMCC, parms []byte, _ []tpm2.TPM2BName, _ int, auth *tpm2.TPMSAuthResponse) error {
	a := byte(0)
	if auth.Attributes.ContinueSession {
		a |= 1
	}
	if auth.Attributes.Decrypt {
		a |= 1 << 5
	}
	if auth.Attributes.Encrypt {
		a |= 1 << 6
	}
	if auth.Attributes.Audit {
		a |= 1 << 7
	}
	if auth.Attributes.AuditExclusive { // nothing else was audited meanwhile
		a |= 1 << 1
	}
	return s.verify(rc, cc, parms, auth.Nonce.Buffer, a, auth.Authorization.Buffer)
}

func (s *session) verify(rc tpm2.TPMRC, cc tpm2.TPMCC, parms, nonce []byte, attributes byte, mac []byte) error {
	h := sha256.New()
	h.Write(binary.BigEndian.AppendUint32(nil, uint32(rc)))
	h.Write(binary.BigEndian.AppendUint32(nil, uint32(cc)))
	h.Write(parms)
	if !hmac.Equal(mac, s.mac(h.Sum(nil), nonce, s.caller[:], attributes)) {
		return errTampered
	}
	s.tpm = append(s.tpm[:0], nonce...)
	return nil
}

// Encrypt encrypts a command's first parameter in place.
func (s *session) Encrypt(parameter []byte) error {
	if s.IsDecryption() {
		key := s.cipherKey(s.caller[:], s.tpm)
		defer clear(key)
		return encryptCFB(key[:cipherSize], key[cipherSize:], parameter)
	}
	return nil
}

// Decrypt decrypts an answer's first parameter in place.
func (s *session) Decrypt(parameter []byte) error {
	if s.IsEncryption() {
		key := s.cipherKey(s.tpm, s.caller[:])
		defer clear(key)
		return decryptCFB(key[:cipherSize], key[cipherSize:], parameter)
	}
	return nil
}

// cipherKey is the key and the first block of parameter encryption (part 1, 21.3).
func (s *session) cipherKey(newer, older []byte) []byte {
	value := s.value()
	defer clear(value)
	return tpm2.KDFa(crypto.SHA256, value, "CFB", newer, older, 2*cipherSize*8)
}
