package ledger

import (
	"bytes"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/sealsign/sealsign/internal/fault"
)

func file(entries ...[]byte) []byte {
	return append([]byte(header), bytes.Join(entries, nil)...)
}

func flip(data []byte, at int) []byte {
	data = bytes.Clone(data)
	data[at] ^= 0x40
	return data
}

var (
	entryA = appendEntry(nil, id{nonce, "a"}, 1000)
	entryB = appendEntry(nil, id{limit, "a"}, 2000)
	entryC = appendEntry(nil, id{nonce, "c"}, 3000)
	entryT = appendEntry(nil, latest, 4000)
	entryU = appendEntry(nil, id{use, "a"}, 5000)
)

const headerBefore = "sealsign ledger 1\n"

func TestOpenOfAnyFile(t *testing.T) {
	whole := file(entryA, entryB, entryC)
	inB := len(header) + len(entryA)
	tests := []struct {
		name   string
		data   []byte
		refuse string // in the error
		torn   int    // bytes set aside
	}{
		{name: "whole", data: whole},
		{name: "no entries", data: file()},
		{name: "cut in the last entry", data: whole[:len(whole)-3], torn: len(entryC) - 3},
		{name: "cut in the last prefix", data: whole[:len(whole)-len(entryC)+2], torn: 2},
		{name: "zeros behind", data: append(bytes.Clone(whole), make([]byte, 4096)...), torn: 4096},
		{name: "last entry damaged", data: flip(whole, len(whole)-1), torn: len(entryC)},
		{name: "damage in the middle", data: flip(whole, inB+prefixSize+3), refuse: "damaged at byte 36"},
		{name: "length damaged in the middle", data: flip(whole, inB+1), refuse: "damaged at byte 36"},
		{name: "zeros in the middle", data: append(append(bytes.Clone(whole), make([]byte, 100)...), entryA...), refuse: "damaged"},
		{name: "empty", data: nil, refuse: "does not begin as a ledger"},
		{name: "something else", data: []byte("{}"), refuse: "does not begin as a ledger"},
		{name: "the format before", data: append([]byte(headerBefore), bytes.Join([][]byte{entryA, entryB, entryC}, nil)...)},
		{name: "a time in the format before", data: append([]byte(headerBefore), append(bytes.Clone(entryT), entryA...)...), refuse: "damaged at byte 18"},
		{name: "newer format", data: []byte("sealsign ledger 3\n???"), refuse: `its format is "3"`},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			path := filepath.Join(t.TempDir(), "ledger")
			if err := os.WriteFile(path, test.data, 0o600); err != nil {
				t.Fatal(err)
			}
			l, err := Open(path, Options{Now: func() time.Time { return noon }})
			defer func() { _ = l.Close() }()
			if test.refuse != "" {
				if !errors.Is(err, fault.LedgerUnavailable) || !strings.Contains(err.Error(), test.refuse) || fault.From(err).Hint == "" {
					t.Fatalf("got %v, hint %q", err, fault.From(err).Hint)
				}
				if left, _ := os.ReadFile(path); !bytes.Equal(left, test.data) {
					t.Error("a refused file was changed")
				}
				return
			}
			if err != nil {
				t.Fatal(err)
			}
			checkTorn(t, path, test.torn)
			least := uint64(3001)
			if test.torn > 0 {
				least = uint64(noon.UnixNano()) + ahead
			}
			for _, name := range []string{"c", "new"} {
				if n := draw(t, l, name, time.Unix(0, 0)); test.torn > 0 && n <= least {
					t.Errorf("nonce %d for %s may have been given before the tail was torn", n, name)
				}
			}
		})
	}
}

func checkTorn(t *testing.T, path string, want int) {
	t.Helper()
	torn, _ := filepath.Glob(path + ".*.torn")
	if (want > 0) != (len(torn) == 1) {
		t.Fatalf("set aside: %v", torn)
	}
	if want == 0 {
		return
	}
	if data, err := os.ReadFile(torn[0]); err != nil || len(data) != want {
		t.Errorf("%d bytes set aside, want %d (%v)", len(data), want, err)
	}
}

// Whatever the bytes, a file is refused or read, and what is read is what a
// rewritten file says again.
func FuzzOpen(f *testing.F) {
	whole := file(entryA, entryB, entryC)
	for _, seed := range [][]byte{whole, file(), nil, whole[:len(whole)-3], flip(whole, len(header)+len(entryA)+1),
		append(bytes.Clone(whole), make([]byte, 64)...), []byte("sealsign ledger 3\n"),
		file(entryT, entryU, entryA, entryT), append([]byte(headerBefore), whole[len(header):]...), append([]byte(headerBefore), entryT...)} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		marks, end, err := parse(data)
		if err != nil {
			return
		}
		if end < len(header) || end > len(data) {
			t.Fatalf("end %d of %d bytes", end, len(data))
		}
		again := []byte(header)
		for k, mark := range marks {
			again = appendEntry(again, k, mark)
		}
		back, end, err := parse(again)
		if err != nil || end != len(again) || len(back) != len(marks) {
			t.Fatalf("rewritten: %d marks of %d, end %d of %d, %v", len(back), len(marks), end, len(again), err)
		}
		for k, mark := range marks {
			if back[k] != mark {
				t.Fatalf("%v: %d became %d", k, mark, back[k])
			}
		}
	})
}
