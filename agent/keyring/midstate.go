package keyring

import (
	"crypto"
	_ "crypto/sha256" // the hashes of the algorithms
	_ "crypto/sha512"
	"encoding"
	"hash"
	"sync"

	"github.com/sealsign/sealsign/agent/credential"
	"github.com/sealsign/sealsign/internal/secmem"
)

// midstates signs with HMAC (RFC 2104) without the secret: it keeps the state of
// the hash after the block secret⊕ipad, and after secret⊕opad. FIPS 198-1,
// section 6, foresees this. Who reads the states can make MACs, and never learns
// the secret.
//
// crypto/hmac can't do it: New copies secret⊕ipad and secret⊕opad to the heap,
// where nothing wipes them, and Clone (hash.Cloner) allocates the states there for
// each signature. So the two pads, which are all that RFC 2104 adds to a hash, are
// made here, in guarded memory; the hashing is the standard library's.
type midstates struct {
	memory       *secmem.Buffer
	inner, outer []byte // as AppendBinary of the hash gives them
	pool         *sync.Pool
}

// stateLen is room for a marshalled hash state: 108 bytes of SHA-256's, 204 of
// SHA-384's and SHA-512's.
const stateLen = 204

// worker is what one signature needs. It holds no secret while it is in the pool.
type worker struct {
	digest hash.Hash
	state  encoding.BinaryUnmarshaler // the same digest
	sum    [64]byte                   // of the inner hash: at most SHA-512's
}

// workers has a pool for each hash.
var workers = map[crypto.Hash]*sync.Pool{
	crypto.SHA256: workerPool(crypto.SHA256),
	crypto.SHA384: workerPool(crypto.SHA384),
	crypto.SHA512: workerPool(crypto.SHA512),
}

func workerPool(h crypto.Hash) *sync.Pool {
	return &sync.Pool{New: func() any {
		digest := h.New()
		return &worker{digest: digest, state: digest.(encoding.BinaryUnmarshaler)}
	}}
}

// newMidstates reads secret and keeps no copy of it.
func newMidstates(h crypto.Hash, secret []byte) (*midstates, error) {
	digest := h.New()
	defer credential.Forget(digest)
	block := digest.BlockSize()
	pad, err := secmem.New(block)
	if err != nil {
		return nil, err
	}
	defer pad.Release()
	memory, err := secmem.New(2 * stateLen)
	if err != nil {
		return nil, err
	}
	key := pad.Bytes()
	if len(secret) > block { // RFC 2104, section 2
		digest.Write(secret)
		digest.Sum(key[:0])
	} else {
		copy(key, secret)
	}
	m := &midstates{memory: memory, pool: workers[h]}
	states := memory.Bytes()
	for i := range key {
		key[i] ^= 0x36 // ipad
	}
	if m.inner, err = absorb(digest, key, states[:0:stateLen]); err != nil {
		m.wipe()
		return nil, err
	}
	for i := range key {
		key[i] ^= 0x36 ^ 0x5c // ipad to opad
	}
	if m.outer, err = absorb(digest, key, states[stateLen:stateLen]); err != nil {
		m.wipe()
		return nil, err
	}
	return m, nil
}

// absorb appends the state of the hash after one block to dst.
func absorb(digest hash.Hash, block, dst []byte) ([]byte, error) {
	digest.Reset()
	digest.Write(block)
	return digest.(encoding.BinaryAppender).AppendBinary(dst)
}

func (m *midstates) sign(dst, message []byte) ([]byte, error) {
	w := m.pool.Get().(*worker)
	defer m.pool.Put(w)
	defer w.digest.Reset()
	if err := w.state.UnmarshalBinary(m.inner); err != nil {
		return nil, err
	}
	w.digest.Write(message)
	sum := w.digest.Sum(w.sum[:0])
	if err := w.state.UnmarshalBinary(m.outer); err != nil {
		return nil, err
	}
	w.digest.Write(sum)
	return w.digest.Sum(dst), nil
}

func (m *midstates) wipe() { m.memory.Release() }
