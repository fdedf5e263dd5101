package secmem

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"strings"
	"syscall"
	"testing"
	"unsafe"

	"golang.org/x/sys/unix"

	"github.com/sealsign/sealsign/internal/fault"
)

// childEnv names what the test binary does instead of testing, in a process of its own.
const childEnv = "SECMEM_TEST_CHILD"

func TestMain(m *testing.M) {
	children := map[string]func() error{"": nil, "harden": childHarden, "limit": childLimit}
	child := children[os.Getenv(childEnv)]
	if child == nil {
		os.Exit(m.Run())
	}
	if err := child(); err != nil {
		fmt.Println(err)
		os.Exit(1)
	}
	os.Exit(0)
}

// runChild runs a child without the rights of root, which no limit binds.
func runChild(t *testing.T, name string) {
	t.Helper()
	exe, err := os.ReadFile("/proc/self/exe")
	if err != nil {
		t.Fatal(err)
	}
	dir, err := os.MkdirTemp("/tmp", "secmem") // t.TempDir is closed to other users
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	path := dir + "/child"
	if err := errors.Join(os.Chmod(dir, 0o755), os.WriteFile(path, exe, 0o755)); err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command(path)
	cmd.Dir = "/"
	cmd.Env = append(os.Environ(), childEnv+"="+name)
	if os.Getuid() == 0 {
		cmd.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: 65534, Gid: 65534}}
	}
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
}

func newBuffer(t *testing.T, size int) *Buffer {
	t.Helper()
	b, err := New(size)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(b.Release)
	return b
}

func TestNewIsZeroedAndOfTheSizeAskedFor(t *testing.T) {
	for _, size := range []int{0, 1, 63, 64, 65, 1000, 1025, 5000, chunkSize, chunkSize + 1} {
		b := newBuffer(t, size)
		if len(b.Bytes()) != size || cap(b.Bytes()) != size {
			t.Errorf("New(%d): len %d, cap %d", size, len(b.Bytes()), cap(b.Bytes()))
		}
		if len(bytes.Trim(b.Bytes(), "\x00")) != 0 {
			t.Errorf("New(%d) isn't zeroed", size)
		}
		for i := range b.Bytes() {
			b.Bytes()[i] = 0xA5
		}
	}
}

func TestReleaseWipesAndTheSlotIsUsedAgain(t *testing.T) {
	b := newBuffer(t, 777) // a slot length that no other test takes
	late := b.Bytes()
	copy(late, "very secret")
	b.Release()
	if len(bytes.Trim(late, "\x00")) != 0 {
		t.Fatal("the memory keeps its content after Release")
	}
	if b.Bytes() != nil {
		t.Fatal("a released buffer has bytes")
	}
	b.Release()
	(*Buffer)(nil).Release()

	again, other := newBuffer(t, 770), newBuffer(t, 770)
	if &again.Bytes()[0] != &late[0] {
		t.Error("the slot isn't used again")
	}
	if &again.Bytes()[0] == &other.Bytes()[0] {
		t.Error("releasing twice gave one slot to two owners")
	}
}

func TestSlotsDoNotOverlap(t *testing.T) {
	buffers := make([]*Buffer, 2000)
	for i := range buffers {
		buffers[i] = newBuffer(t, 1+i%300)
		for j := range buffers[i].Bytes() {
			buffers[i].Bytes()[j] = byte(i)
		}
	}
	for i, b := range buffers {
		if n := bytes.Count(b.Bytes(), []byte{byte(i)}); n != len(b.Bytes()) {
			t.Fatalf("buffer %d was written to by another", i)
		}
	}
}

func TestTenThousandSmallBuffersAreCheap(t *testing.T) {
	before := lockedKiB(t)
	for range 10_000 {
		newBuffer(t, 250)
	}
	if grown := lockedKiB(t) - before; grown < 2<<10 || grown > 3<<10 {
		t.Fatalf("10,000 buffers of 250 bytes took %d KiB", grown)
	}
}

// lockedKiB sums what the process has mapped as guarded memory.
func lockedKiB(t *testing.T) int {
	t.Helper()
	status, err := os.ReadFile("/proc/self/status")
	if err != nil {
		t.Fatal(err)
	}
	_, after, _ := strings.Cut(string(status), "VmLck:")
	var kib int
	if _, err := fmt.Sscanf(after, "%d kB", &kib); err != nil {
		t.Fatal(err)
	}
	return kib
}

func TestSecretMemoryIsNotReadableFromOutside(t *testing.T) {
	if Kind() != kindSecret {
		t.Skipf("this kernel has no memfd_secret; memory is guarded by %s", Kind())
	}
	b := newBuffer(t, 100)
	copy(b.Bytes(), "very secret")
	mem, err := os.Open("/proc/self/mem")
	if err != nil {
		t.Fatal(err)
	}
	defer mem.Close()
	read := make([]byte, 100)
	n, err := mem.ReadAt(read, int64(uintptr(unsafe.Pointer(&b.Bytes()[0]))))
	if err == nil {
		t.Fatalf("/proc/self/mem gave %d bytes of it", n)
	}
}

func TestLockedPagesAreLockedAndNotDumped(t *testing.T) {
	pages, err := mapLocked(chunkSize)
	if err != nil {
		t.Fatal(err)
	}
	defer unix.Munmap(pages)
	copy(pages, "very secret")
	smaps, err := os.ReadFile("/proc/self/smaps")
	if err != nil {
		t.Fatal(err)
	}
	start := fmt.Sprintf("%x-", uintptr(unsafe.Pointer(&pages[0])))
	_, mapping, found := strings.Cut(string(smaps), "\n"+start)
	if !found {
		t.Skip("the kernel merged the mapping with another")
	}
	_, flags, _ := strings.Cut(mapping, "VmFlags:")
	flags, _, _ = strings.Cut(flags, "\n")
	for _, flag := range []string{"lo", "dd", "dc"} { // locked, not dumped, not copied by fork
		if !strings.Contains(flags+" ", " "+flag+" ") {
			t.Errorf("flag %s is missing in %s", flag, flags)
		}
	}
}

func TestHarden(t *testing.T) { runChild(t, "harden") }

func childHarden() error {
	if err := Harden(); err != nil {
		return err
	}
	var core unix.Rlimit
	dumpable, err := unix.PrctlRetInt(unix.PR_GET_DUMPABLE, 0, 0, 0, 0)
	if err := errors.Join(err, unix.Getrlimit(unix.RLIMIT_CORE, &core)); err != nil {
		return err
	}
	if dumpable != 0 || core.Cur != 0 || core.Max != 0 {
		return fmt.Errorf("dumpable %d, RLIMIT_CORE %+v", dumpable, core)
	}
	return nil
}

func TestLimitIsNamedWithTheNextStep(t *testing.T) { runChild(t, "limit") }

func childLimit() error {
	if err := unix.Setrlimit(unix.RLIMIT_MEMLOCK, &unix.Rlimit{Cur: 2 * chunkSize, Max: 2 * chunkSize}); err != nil {
		return err
	}
	for range 3 {
		_, err := New(chunkSize)
		if err == nil {
			continue
		}
		f := fault.From(err)
		if f.Reason != fault.MemoryUnavailable || !strings.Contains(f.Hint, "now 128 KiB") || !strings.Contains(f.Hint, "LimitMEMLOCK=") {
			return fmt.Errorf("the refusal has the hint %q: %w", f.Hint, f)
		}
		if _, err := mapLocked(chunkSize); err == nil {
			return errors.New("locked pages are had beyond the limit")
		}
		return nil
	}
	return errors.New("three chunks fit a limit of two")
}

func BenchmarkNewRelease(b *testing.B) {
	b.ReportAllocs()
	for b.Loop() {
		m, err := New(250)
		if err != nil {
			b.Fatal(err)
		}
		m.Release()
	}
}
