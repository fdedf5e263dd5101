package keyring

import (
	"bufio"
	"bytes"
	"crypto/rand"
	"fmt"
	"os"
	"slices"
	"strings"
	"testing"

	"github.com/sealsign/sealsign/agent/credential"
	"github.com/sealsign/sealsign/internal/secmem"
	"github.com/sealsign/sealsign/internal/tpmtest"
)

// needleLen is how many bytes of a form are looked for: enough to be found by
// nothing else, and few enough to find a copy that is overwritten in part.
const needleLen = 16

// needle is something that must be in no readable memory. Masked, it isn't there
// itself; handled byte by byte, it isn't in a register either.
type needle struct {
	name         string
	masked, mask [needleLen]byte
}

func newNeedle(name string, at func(i int) byte) *needle {
	n := &needle{name: name}
	rand.Read(n.mask[:])
	for i := range n.masked {
		n.masked[i] = at(i) ^ n.mask[i]
	}
	return n
}

func (n *needle) isAt(memory []byte) bool {
	for i := range n.masked {
		if memory[i]^n.mask[i] != n.masked[i] {
			return false
		}
	}
	return true
}

// formsOf is how a secret could lie in memory.
func formsOf(secret []byte) []*needle {
	end := len(secret) - needleLen
	hexDigit := func(i int) byte { return "0123456789abcdef"[secret[i/2]>>(4*(1-i%2))&15] }
	base64Digit := func(i int) byte { // three bytes are four digits of six bits
		group := uint32(secret[i/4*3])<<16 | uint32(secret[i/4*3+1])<<8 | uint32(secret[i/4*3+2])
		return "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/"[group>>(6*(3-i%4))&63]
	}
	return []*needle{
		newNeedle("raw", func(i int) byte { return secret[i] }),
		newNeedle("raw, its end", func(i int) byte { return secret[end+i] }),
		newNeedle("hex", hexDigit),
		newNeedle("base64", base64Digit),
		newNeedle("xor ipad", func(i int) byte { return secret[i] ^ 0x36 }),
		newNeedle("xor opad", func(i int) byte { return secret[i] ^ 0x5c }),
		newNeedle("xor ipad, its end", func(i int) byte { return secret[end+i] ^ 0x36 }),
		newNeedle("xor opad, its end", func(i int) byte { return secret[end+i] ^ 0x5c }),
	}
}

// search reads all memory of the process that can be read through /proc/self/mem,
// as root and debuggers do, and names the needles that are in it.
func search(t *testing.T, needles []*needle) (found []string) {
	t.Helper()
	starts := make([][]*needle, 1<<16) // by their first two bytes
	for _, n := range needles {
		at := int(n.masked[0]^n.mask[0])<<8 | int(n.masked[1]^n.mask[1])
		starts[at] = append(starts[at], n)
	}
	var total int
	readMemory(t, func(memory []byte) {
		total += len(memory)
		for i := range len(memory) - needleLen {
			for _, n := range starts[int(memory[i])<<8|int(memory[i+1])] {
				if n.isAt(memory[i:]) && !slices.Contains(found, n.name) {
					found = append(found, n.name)
				}
			}
		}
	})
	if total < 4<<20 {
		t.Fatalf("only %d bytes of memory could be read", total)
	}
	return found
}

// readMemory gives what can be read, piece by piece, the pieces overlapping.
func readMemory(t *testing.T, see func(memory []byte)) {
	t.Helper()
	maps, err := os.Open("/proc/self/maps")
	must(t, err)
	defer maps.Close()
	mem, err := os.Open("/proc/self/mem")
	must(t, err)
	defer mem.Close()
	const piece = 1 << 20
	buffer := make([]byte, piece+needleLen)
	for lines := bufio.NewScanner(maps); lines.Scan(); {
		var from, to int64
		var mode string
		if _, err := fmt.Sscanf(lines.Text(), "%x-%x %s", &from, &to, &mode); err != nil || !strings.HasPrefix(mode, "r") {
			continue
		}
		for ; from < to; from += piece {
			n, err := mem.ReadAt(buffer[:min(int64(len(buffer)), to-from)], from)
			if n < needleLen && err != nil {
				break // memfd_secret's, or the kernel's own
			}
			see(buffer[:n])
		}
	}
	clear(buffer)
}

// letters turns random bytes into the characters that secrets are made of.
func letters(secret []byte) {
	const alphabet = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_"
	rand.Read(secret)
	for i := range secret {
		secret[i] = alphabet[secret[i]%64]
	}
}

func TestSecretIsInNoReadableMemory(t *testing.T) {
	if raceEnabled {
		t.Skip("the race detector's shadow of the memory is too large to search")
	}
	for _, c := range []struct {
		algorithm, protection string
		length                int // of the secret; SHA-256 hashes what is longer than 64 bytes
	}{
		{HMACSHA256, Sealed, 64},
		{HMACSHA256, Sealed, 100},
		{HMACSHA512, Sealed, 64},
		{HMACSHA256, Resident, 64},
	} {
		t.Run(fmt.Sprintf("%s %s %d", c.protection, c.algorithm, c.length), func(t *testing.T) {
			// The runtime may preempt a goroutine in the middle of a copy, and then registers with a
			// part of what is copied stay on a stack. That is rare, so one of three runs may find it.
			dirty := 0
			for range 3 {
				if found := searchAfterSigning(t, c.algorithm, c.protection, c.length); len(found) > 0 {
					t.Logf("found %v", found)
					dirty++
				}
			}
			if dirty > 1 {
				t.Errorf("found in %d of three runs", dirty)
			}
		})
	}
}

func searchAfterSigning(t *testing.T, algorithm, protection string, length int) []string {
	secret, err := secmem.New(length)
	must(t, err)
	defer secret.Release()
	letters(secret.Bytes())
	needles := formsOf(secret.Bytes())

	p := &place{t: t, dir: newDir(t), device: openTPM(t, tpmtest.Swtpm(t)), clock: new(clock)}
	spec := with(hmacSpec("main"), func(s *Spec) { s.Algorithm, s.Protection = algorithm, protection })
	r := p.open(spec)
	credential := append(make([]byte, 0, 1000), `{"api_key":"id","secret":"`...) // Import wipes it
	credential = append(append(credential, secret.Bytes()...), `"}`...)
	_, err = r.Import(t.Context(), "main", credential)
	must(t, err)
	r.Close()
	r = p.open(spec)
	for range 100 {
		_, err := mustUse(t, r, "main").Sign(t.Context(), nil, []byte("message"))
		must(t, err)
	}
	needles = append(needles, sealedKey(t, r, p, "main"))

	found := search(t, needles)
	control := bytes.Clone(secret.Bytes())
	if copies := search(t, needles); !slices.Contains(copies, "raw") {
		t.Error("the search doesn't find a copy that is there")
	}
	clear(control)
	return found
}

// sealedKey is the key-encryption key, with which the file alone would do.
func sealedKey(t *testing.T, r *Ring, p *place, name string) *needle {
	t.Helper()
	f, err := r.readVersion(name, 1)
	must(t, err)
	kek, err := secmem.New(credential.KEKSize)
	must(t, err)
	defer kek.Release()
	_, err = p.device.Unseal(t.Context(), f.keks[0], kek.Bytes())
	must(t, err)
	return newNeedle("key-encryption key", func(i int) byte { return kek.Bytes()[i] })
}
