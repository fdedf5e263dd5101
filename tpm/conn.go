package tpm

import (
	"encoding/binary"
	"errors"
	"fmt"
	"sync/atomic"
	"time"

	"github.com/google/go-tpm/tpm2"
	"github.com/sealsign/sealsign/internal/secmem"
)

// transientSlots is how many objects may be loaded at once: three is what a PC
// Client TPM holds at least, and all that one opening of /dev/tpmrm0 gets.
const transientSlots = 3

// generateTime bounds a command that makes an RSA key: minutes on old chips.
const generateTime = 3 * time.Minute

var errDeadline = errors.New("no answer within the deadline")

// conn is one connection and all that is lost with it: the SRK's handle, the
// session, loaded keys. Only the goroutine that owns the Device's queue uses it.
type conn struct {
	transport Transport
	guarded   *secmem.Buffer // request and answer
	request   []byte         // where commands with secrets are built
	answer    []byte         // where answers with secrets are decrypted
	deadline  time.Duration  // of each command
	ran       func(command, code string, took time.Duration)
	watch     *time.Timer   // closes the transport when a command takes too long
	hung      chan struct{} // closed when watch has done so
	broken    error         // why no more can be sent

	srk    object
	srkKey tpm2.LabeledEncapsulationKey // what sessions are salted to
	shared *session                     // nil until needed
	loaded []loadedKey                  // the least recently used first
	parent *loadedParent                // nil: none is loaded
	slots  int                          // how many of these may be loaded at once

	approvals *atomic.Pointer[[]*Approval]
	tickets   map[*Approval]tpm2.TPMTTKVerified

	maxInput, maxNV int // bytes that one command takes of a message, of NV data
}

// newConn makes a connection over an open transport. hung is called when a
// command has taken too long, from another goroutine.
func newConn(t Transport, o *Options, hung func()) (*conn, error) {
	guarded, err := secmem.New(2 * maxMessage)
	if err != nil {
		_ = t.Close() // the error that is told is the memory's
		return nil, err
	}
	c := &conn{
		transport: t,
		guarded:   guarded,
		request:   guarded.Bytes()[:maxMessage:maxMessage],
		answer:    guarded.Bytes()[maxMessage:],
		deadline:  o.Deadline,
		ran:       o.Ran,
		hung:      make(chan struct{}),
	}
	c.watch = time.AfterFunc(o.Deadline, func() {
		hung()
		_ = t.Close() // the command under way fails with what matters
		close(c.hung)
	})
	c.watch.Stop()
	return c, nil
}

// close ends a connection that failed.
func (c *conn) close() {
	c.watch.Stop()
	c.forgetSession()
	_ = c.transport.Close() // nothing more is wanted from it
	c.guarded.Release()
}

// release ends a connection that works and leaves nothing behind in the TPM.
func (c *conn) release() {
	c.endSession()
	c.unplaceParent()
	c.evict(c.slots)
	if c.srk.handle != persistentSRK {
		c.flush(c.srk.handle)
	}
	c.close()
}

// Send makes conn what go-tpm's commands are executed on. It lets no command
// out whose size is wrong, and no answer in.
func (c *conn) Send(command []byte) ([]byte, error) {
	if len(command) > maxMessage || binary.BigEndian.Uint32(command[2:]) != uint32(len(command)) {
		return nil, fmt.Errorf("a command of %d bytes is not sent", len(command))
	}
	if c.broken != nil {
		return nil, c.broken
	}
	began := time.Now()
	response, err := c.exchange(command)
	c.ran(commandName(command), codeName(response, err), time.Since(began))
	if err != nil {
		c.broken = err
		return nil, err
	}
	// The kernel's resource manager marks the codes of its own with a layer
	// number in the upper half.
	response[6], response[7] = 0, 0
	return response, nil
}

func (c *conn) exchange(command []byte) ([]byte, error) {
	c.watch.Reset(c.deadline)
	response, err := c.transport.Send(command)
	if !c.watch.Stop() {
		<-c.hung // or it would tell of the hang when all is well again
		return nil, errDeadline
	}
	if err != nil {
		return nil, err
	}
	if len(response) < headerSize || binary.BigEndian.Uint32(response[2:]) != uint32(len(response)) {
		return nil, fmt.Errorf("an answer of %d bytes doesn't have the size it says", len(response))
	}
	if tag := tpm2.TPMST(binary.BigEndian.Uint16(response)); tag != tpm2.TPMSTNoSessions && tag != tpm2.TPMSTSessions {
		return nil, fmt.Errorf("an answer has the unknown tag %#x", uint16(tag))
	}
	return response, nil
}

// slowly runs f with a deadline of its own for each command.
func (c *conn) slowly(deadline time.Duration, f func() error) error {
	was := c.deadline
	c.deadline = max(was, deadline)
	defer func() { c.deadline = was }()
	return f()
}

// session gives the shared session, readied for one command on what has no
// authorization value.
func (c *conn) session(encrypt direction) (*session, error) {
	if s := c.shared; s != nil && (s.uses >= sessionUses || time.Since(s.used) >= sessionIdle) {
		c.endSession()
	}
	if c.shared == nil {
		s, err := c.startSession(tpm2.TPMSEHMAC)
		if err != nil {
			return nil, err
		}
		c.shared = s
	}
	return c.shared.use(nil, encrypt), nil
}

// sessionFor gives the shared session, readied for one command on k.
func (c *conn) sessionFor(k *Key, encrypt direction) (*session, error) {
	s, err := c.session(encrypt)
	if err != nil {
		return nil, err
	}
	k.mu.Lock()
	defer k.mu.Unlock()
	return s.use(k.auth, encrypt), nil
}

// endSession flushes the shared session, so that an idle one is in nobody's way.
func (c *conn) endSession() {
	if c.shared == nil {
		return
	}
	c.flush(c.shared.handle)
	c.forgetSession()
}

func (c *conn) forgetSession() {
	if c.shared != nil {
		c.shared.wipe()
		c.shared = nil
	}
}

// end ends a session that was started for one command.
func (c *conn) end(s *session) {
	s.wipe()
	c.flush(s.handle)
}

// flush frees a handle. What it can't free goes with the connection.
func (c *conn) flush(h tpm2.TPMHandle) {
	for range 3 { // a busy TPM is asked again: what stays would be in the way of what comes
		if _, err := (tpm2.FlushContext{FlushHandle: h}).Execute(c); err == nil || remedyFor(err) != wait {
			return
		}
	}
}

// on gives the argument that go-tpm wants for an object used with a session.
func on(o object, s *session) tpm2.AuthHandle {
	return tpm2.AuthHandle{Handle: o.handle, Name: tpm2.TPM2BName{Buffer: o.name}, Auth: s}
}
