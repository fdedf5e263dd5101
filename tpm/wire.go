package tpm

import (
	"encoding/binary"

	"github.com/google/go-tpm/tpm2"
	"github.com/sealsign/sealsign/internal/fault"
)

// This file makes the few commands that carry a secret, and the one that has to
// be fast, in the connection's guarded memory: go-tpm would leave copies of what
// it marshals all over the heap. The transport sees secrets encrypted only.

// authSize is what one session has in the authorization area: handle (4), nonce
// (2+16), attributes (1), HMAC (2+32). Part 1, 18.5.
const authSize = 4 + 2 + nonceSize + 1 + 2 + digestSize

// object is something loaded, with the Name that authorizations are bound to.
type object struct {
	handle tpm2.TPMHandle
	name   []byte
}

// authorized is an object that a command uses, and the session that authorizes it.
type authorized struct {
	object
	session *session
}

// writer fills a buffer of fixed size: it never moves what it holds.
type writer struct {
	b    []byte
	full bool
}

func (w *writer) bytes(p []byte) {
	if len(p) > cap(w.b)-len(w.b) {
		w.full = true
		return
	}
	w.b = append(w.b, p...)
}

func (w *writer) u8(v byte)    { w.bytes([]byte{v}) }
func (w *writer) u16(v uint16) { w.bytes([]byte{byte(v >> 8), byte(v)}) }
func (w *writer) u32(v uint32) { w.bytes([]byte{byte(v >> 24), byte(v >> 16), byte(v >> 8), byte(v)}) }

// sized writes p as a TPM2B.
func (w *writer) sized(p []byte) {
	w.u16(uint16(len(p)))
	w.bytes(p)
}

// reader takes an answer apart; short is set where it ends too early.
type reader struct {
	b     []byte
	short bool
}

func (r *reader) bytes(n int) []byte {
	if n < 0 || n > len(r.b) {
		r.short = true
		return nil
	}
	p := r.b[:n]
	r.b = r.b[n:]
	return p
}

func (r *reader) u8() byte {
	if p := r.bytes(1); p != nil {
		return p[0]
	}
	return 0
}

func (r *reader) u16() uint16 {
	if p := r.bytes(2); p != nil {
		return binary.BigEndian.Uint16(p)
	}
	return 0
}

func (r *reader) u32() uint32 {
	if p := r.bytes(4); p != nil {
		return binary.BigEndian.Uint32(p)
	}
	return 0
}

func (r *reader) sized() []byte { return r.bytes(int(r.u16())) }

// run sends a command on objects: fill writes its parameters, use reads the
// answer's. Only the first session may encrypt. Both buffers are wiped before it returns.
func (c *conn) run(cc tpm2.TPMCC, on []authorized, fill func(*writer), use func(*reader) error) error {
	w := writer{b: c.request[:0]}
	defer func() { clear(w.b) }()
	w.u16(uint16(tpm2.TPMSTSessions))
	w.u32(0)
	w.u32(uint32(cc))
	var names []byte
	for _, a := range on {
		w.u32(uint32(a.handle))
		names = append(names, a.name...)
	}
	w.u32(uint32(len(on) * authSize))
	first := len(w.b)
	start := first + len(on)*authSize
	w.b = w.b[:start]
	fill(&w)
	if w.full {
		return fault.New(fault.InternalError, "a command of more than %d bytes", cap(w.b))
	}
	parms := w.b[start:]
	for i, a := range on {
		if err := a.session.NewNonceCaller(); err != nil {
			return err
		}
		if a.session.IsDecryption() {
			if err := a.session.Encrypt(parms[2 : 2+binary.BigEndian.Uint16(parms)]); err != nil {
				return err
			}
		}
		auth := writer{b: w.b[first+i*authSize : first+i*authSize : start]}
		auth.u32(uint32(a.session.handle))
		auth.sized(a.session.caller[:])
		auth.u8(a.session.attributes())
		auth.sized(a.session.sign(cc, names, parms))
	}
	binary.BigEndian.PutUint32(w.b[2:], uint32(len(w.b)))
	response, err := c.Send(w.b)
	if err != nil {
		return err
	}
	answer := c.answer[:copy(c.answer, response)]
	defer clear(answer)
	return open(cc, on, answer, use)
}

// open checks an answer with each session, decrypts it with the first and hands its
// parameters on.
func open(cc tpm2.TPMCC, on []authorized, response []byte, use func(*reader) error) error {
	r := reader{b: response[6:]}
	if rc := tpm2.TPMRC(r.u32()); rc != tpm2.TPMRCSuccess {
		return rc
	}
	parms := r.bytes(int(r.u32()))
	for _, a := range on {
		nonce, attributes, mac := r.sized(), r.u8(), r.sized()
		if r.short {
			return errShort("an answer")
		}
		if err := a.session.verify(tpm2.TPMRCSuccess, cc, parms, nonce, attributes, mac); err != nil {
			return err
		}
	}
	if len(r.b) != 0 {
		return errShort("an answer")
	}
	if s := on[0].session; s.IsEncryption() {
		encrypted := reader{b: parms}
		if err := s.Decrypt(encrypted.sized()); err != nil {
			return err
		}
	}
	p := reader{b: parms}
	if err := use(&p); err != nil {
		return err
	}
	if p.short {
		return errShort("an answer's parameters")
	}
	return nil
}
