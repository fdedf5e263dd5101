package audit

import (
	"crypto/sha256"
	"hash"
	"slices"

	"golang.org/x/mod/sumdb/tlog"
)

// tree is the right edge of an RFC 6962 tree: all that it takes to add leaves and to
// know the root. The zero tree is empty.
type tree struct {
	n    int64       // leaves
	edge []tlog.Hash // the roots of the full subtrees, from the left; one for each bit of n
}

// push adds a leaf and appends the hashes that are final now, as tlog.StoredHashes orders them.
func (t *tree) push(leaf tlog.Hash, stored []byte) []byte {
	stored = append(stored, leaf[:]...)
	for n := t.n; n&1 == 1; n >>= 1 {
		last := len(t.edge) - 1
		leaf = tlog.NodeHash(t.edge[last], leaf)
		t.edge = t.edge[:last]
		stored = append(stored, leaf[:]...)
	}
	t.edge = append(t.edge, leaf)
	t.n++
	return stored
}

func (t *tree) root() tlog.Hash {
	if t.n == 0 {
		return sha256.Sum256(nil)
	}
	last := len(t.edge) - 1
	root := t.edge[last]
	for _, left := range slices.Backward(t.edge[:last]) {
		root = tlog.NodeHash(left, root)
	}
	return root
}

// set makes t a copy of from, in its own memory.
func (t *tree) set(from *tree) {
	t.n, t.edge = from.n, append(t.edge[:0], from.edge...)
}

// treeAt is the tree of the first n leaves, read from stored hashes.
func treeAt(n int64, r tlog.HashReader) (tree, error) {
	var indexes []int64
	for level, left := 62, int64(0); level >= 0; level-- {
		if n>>level&1 == 1 {
			indexes = append(indexes, tlog.StoredHashIndex(level, left>>level))
			left += 1 << level
		}
	}
	edge, err := r.ReadHashes(indexes)
	return tree{n, edge}, err
}

// leafHasher hashes lines without allocating, as tlog.RecordHash does.
type leafHasher struct {
	h   hash.Hash
	sum tlog.Hash
}

func newLeafHasher() *leafHasher { return &leafHasher{h: sha256.New()} }

var leafPrefix = []byte{0}

func (l *leafHasher) leaf(line []byte) tlog.Hash {
	l.h.Reset()
	l.h.Write(leafPrefix)
	l.h.Write(line)
	l.h.Sum(l.sum[:0])
	return l.sum
}
