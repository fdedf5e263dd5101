package audit

import (
	"fmt"
	"path/filepath"
	"testing"

	"golang.org/x/mod/sumdb/tlog"
)

func TestTreeIsThatOfRFC6962(t *testing.T) {
	h, err := openHashes(nil, filepath.Join(t.TempDir(), "hashes"))
	if err != nil {
		t.Fatal(err)
	}
	hasher := newLeafHasher()
	var ours tree
	var theirs []tlog.Hash
	reader := tlog.HashReaderFunc(func(indexes []int64) (hashes []tlog.Hash, err error) {
		for _, i := range indexes {
			hashes = append(hashes, theirs[i])
		}
		return hashes, nil
	})
	for n := range int64(300) {
		want, err := tlog.TreeHash(n, reader)
		if err != nil {
			t.Fatal(err)
		}
		if got := ours.root(); got != want {
			t.Fatalf("the root of %d leaves is %s, want %s", n, got, want)
		}
		read, err := treeAt(n, h)
		if err != nil || read.root() != want || read.n != n {
			t.Fatalf("read from the file, the root of %d leaves is %s, want %s (%v)", n, read.root(), want, err)
		}
		line := fmt.Appendf(nil, "record %d", n)
		stored, err := tlog.StoredHashes(n, line, reader)
		if err != nil {
			t.Fatal(err)
		}
		theirs = append(theirs, stored...)
		h.add(ours.push(hasher.leaf(line), nil))
		if n%7 == 0 {
			if err := h.flush(); err != nil {
				t.Fatal(err)
			}
		}
	}
	for i, want := range theirs {
		if got, err := h.ReadHashes([]int64{int64(i)}); err != nil || got[0] != want {
			t.Fatalf("stored hash %d is %v, want %s (%v)", i, got, want, err)
		}
	}
	if err := h.cut(100); err != nil {
		t.Fatal(err)
	}
	if _, err := h.ReadHashes([]int64{tlog.StoredHashCount(100)}); err == nil {
		t.Error("a hash that was cut off can be read")
	}
}
