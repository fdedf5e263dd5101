// Package secmem hands out memory for secrets: locked, never dumped, wiped when
// released. Where the kernel has memfd_secret(2) the pages leave its direct map,
// so that not even root reads them through /proc/PID/mem; elsewhere they are
// locked anonymous pages. Either kind counts against RLIMIT_MEMLOCK.
//
// Buffers are slots of an arena, so that ten thousand small ones cost a few
// megabytes instead of ten thousand pages.
package secmem

import (
	"math/bits"
	"sync"
)

const (
	// chunkSize is by how many bytes the arena grows.
	chunkSize = 64 << 10
	// slotUnit is what small slots are rounded up to: a cache line, so that two
	// keys never share one.
	slotUnit = 64
	// smallSlot is the largest slot, in bytes, that is rounded up to slotUnit;
	// larger ones are rounded up to a power of two.
	smallSlot = 1 << 10
)

// Buffer is guarded memory of one owner. It isn't safe for use by several
// goroutines unless they only read.
type Buffer struct {
	slot []byte
	size int
}

// New gives size zeroed bytes. It fails with MEMORY_UNAVAILABLE where the
// process may lock no more.
func New(size int) (*Buffer, error) {
	slot, err := guarded.take(slotLen(size))
	if err != nil {
		return nil, err
	}
	return &Buffer{slot: slot, size: size}, nil
}

// Bytes is the memory itself, valid until Release; nil afterwards. Memory is
// never unmapped: a slice that outlives Release reads zeros, until its slot has
// another owner.
func (b *Buffer) Bytes() []byte {
	if b == nil || b.slot == nil {
		return nil
	}
	return b.slot[:b.size:b.size]
}

// Release wipes the memory and gives it back. Releasing twice, or nil, does nothing.
func (b *Buffer) Release() {
	if b == nil || b.slot == nil {
		return
	}
	clear(b.slot)
	guarded.give(b.slot)
	b.slot = nil
}

// Kind is how the memory is guarded: "memfd_secret" or "mlock".
func Kind() string { return kind() }

// guarded is the arena of the process.
var guarded = arena{free: make(map[int][][]byte)}

// arena cuts chunks into slots. It never unmaps.
type arena struct {
	mu   sync.Mutex
	rest []byte           // what is left of the newest chunk
	free map[int][][]byte // wiped slots by their length
}

// take gives a zeroed slot of n bytes, n being one of slotLen's.
func (a *arena) take(n int) ([]byte, error) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if free := a.free[n]; len(free) > 0 {
		slot := free[len(free)-1]
		a.free[n] = free[:len(free)-1]
		return slot, nil
	}
	if n > chunkSize {
		return mapPages(n)
	}
	if len(a.rest) < n {
		chunk, err := mapPages(chunkSize)
		if err != nil {
			return nil, err
		}
		if left := len(a.rest); left > 0 {
			a.free[left] = append(a.free[left], a.rest)
		}
		a.rest = chunk
	}
	slot := a.rest[:n:n]
	a.rest = a.rest[n:]
	return slot, nil
}

// give takes a wiped slot back.
func (a *arena) give(slot []byte) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.free[len(slot)] = append(a.free[len(slot)], slot)
}

// slotLen is the length of the slot that holds size bytes.
func slotLen(size int) int {
	if size <= smallSlot {
		return max(slotUnit, (size+slotUnit-1)/slotUnit*slotUnit)
	}
	return 1 << bits.Len(uint(size-1))
}
