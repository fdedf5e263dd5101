package audit

import (
	"fmt"
	"os"
	"sync"

	"golang.org/x/mod/sumdb/tlog"
)

// flushAt is how much of the hashes may wait in memory: those of some thousand records.
const flushAt = 128 << 10

// hashFile is the file "hashes": all final hashes of the tree in the order of tlog.
// It is derived from the segments, so that it may lag behind and is synced only
// when a segment is full.
type hashFile struct {
	mu      sync.Mutex
	f       *file
	kept    int64  // hashes in the file that belong to the log
	pending []byte // the ones behind them
}

func openHashes(fault Fault, path string) (*hashFile, error) {
	f, err := fault.open(path, os.O_RDWR|os.O_CREATE)
	if err != nil {
		return nil, err
	}
	size, err := f.size()
	if err != nil {
		return nil, err
	}
	return &hashFile{f: f, kept: size / tlog.HashSize}, nil
}

// add appends hashes. An error of the disk leaves them waiting.
func (h *hashFile) add(stored []byte) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.pending = append(h.pending, stored...)
	if len(h.pending) >= flushAt {
		_ = h.flushLocked()
	}
}

func (h *hashFile) flush() error {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.flushLocked()
}

func (h *hashFile) flushLocked() error {
	if len(h.pending) == 0 {
		return nil
	}
	if _, err := h.f.WriteAt(h.pending, h.kept*tlog.HashSize); err != nil {
		return err
	}
	h.kept += int64(len(h.pending)) / tlog.HashSize
	h.pending = h.pending[:0]
	return nil
}

// sync brings everything on disk.
func (h *hashFile) sync() error {
	if err := h.flush(); err != nil {
		return err
	}
	return h.f.Sync()
}

// cut drops all hashes but those of the first n records.
func (h *hashFile) cut(n int64) error {
	h.mu.Lock()
	defer h.mu.Unlock()
	count := tlog.StoredHashCount(n)
	h.pending = h.pending[:min(max(count-h.kept, 0)*tlog.HashSize, int64(len(h.pending)))]
	h.kept = min(h.kept, count)
	return h.f.Truncate(h.kept * tlog.HashSize)
}

// ReadHashes implements tlog.HashReader.
func (h *hashFile) ReadHashes(indexes []int64) ([]tlog.Hash, error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	hashes := make([]tlog.Hash, len(indexes))
	for i, index := range indexes {
		if waiting := (index - h.kept) * tlog.HashSize; waiting >= 0 {
			if waiting >= int64(len(h.pending)) {
				return nil, fmt.Errorf("%s has no hash %d", h.f.Name(), index)
			}
			hashes[i] = tlog.Hash(h.pending[waiting:])
			continue
		}
		if _, err := h.f.ReadAt(hashes[i][:], index*tlog.HashSize); err != nil {
			return nil, err
		}
	}
	return hashes, nil
}
