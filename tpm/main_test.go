package tpm_test

import (
	"bytes"
	"crypto/rand"
	"errors"
	"flag"
	"os"
	"testing"
	"time"

	"github.com/sealsign/sealsign/internal/fault"
	"github.com/sealsign/sealsign/internal/tpmtest"
	"github.com/sealsign/sealsign/tpm"
)

// deviceVariable names a TPM device, /dev/tpmrm0 for example. Where it is set,
// the conformance suite runs on that TPM, and nothing else runs: the other tests
// are about the simulator and swtpm, which such a machine needn't have.
const deviceVariable = "SEALSIGN_TEST_TPM"

func TestMain(m *testing.M) {
	flag.Parse()
	if os.Getenv(deviceVariable) != "" {
		if err := flag.Set("test.run", "^TestConformance$"); err != nil {
			panic(err)
		}
	}
	os.Exit(m.Run())
}

// target is a TPM that tests run on.
type target struct {
	name  string
	start func(testing.TB) tpm.Options
}

// targets are the TPMs of this run.
func targets() []target {
	if device := os.Getenv(deviceVariable); device != "" {
		return []target{{device, func(testing.TB) tpm.Options {
			return tpm.Options{Device: device, AllowSoftware: true}
		}}}
	}
	return []target{
		{"simulator", tpmtest.Simulator},
		{"swtpm-unix", tpmtest.Swtpm},
		{"swtpm-tcp", func(t testing.TB) tpm.Options { return tpmtest.StartSwtpm(t, "tcp").Options() }},
	}
}

// open opens a TPM until the test ends, and holds that each command which it gets has a name.
func open(t testing.TB, o tpm.Options) *tpm.Device {
	t.Helper()
	if o.Ran == nil {
		o.Ran = func(command, _ string, _ time.Duration) {
			if command == "other" {
				t.Error("a command has no name")
			}
		}
	}
	d, err := tpm.Open(t.Context(), o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { shut(t, d) })
	return d
}

func shut(t testing.TB, d *tpm.Device) {
	t.Helper()
	if err := d.Close(); err != nil {
		t.Error(err)
	}
}

// behind does something to the TPM that no Device has open.
func behind(t testing.TB, o tpm.Options, do func(tpm.Transport)) {
	t.Helper()
	transport, err := tpm.DialForTest(o)
	if err != nil {
		t.Fatal(err)
	}
	do(transport)
	if err := transport.Close(); err != nil {
		t.Fatal(err)
	}
}

func random(t testing.TB, n int) []byte {
	t.Helper()
	b := make([]byte, n)
	if _, err := rand.Read(b); err != nil {
		t.Fatal(err)
	}
	return b
}

// must ends the test at an error.
func must[T any](t testing.TB) func(T, error) T {
	return func(v T, err error) T {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
		return v
	}
}

// wants checks the reason of a refusal, and that it says all of words.
func wants(t testing.TB, err error, reason fault.Reason, words ...string) {
	t.Helper()
	if !errors.Is(err, reason) {
		t.Fatalf("got %v, want %s", err, reason)
	}
	f := fault.From(err)
	for _, w := range words {
		if !bytes.Contains([]byte(f.Message+"\n"+f.Hint), []byte(w)) {
			t.Errorf("%q (hint %q) doesn't say %q", f.Message, f.Hint, w)
		}
	}
}

// reparsed is the key file as it comes back from disk.
func reparsed(t testing.TB, f *tpm.KeyFile) *tpm.KeyFile {
	t.Helper()
	return must[*tpm.KeyFile](t)(tpm.ParseKeyFile(f.Marshal()))
}

// unseal gives a sealed secret back, or the refusal.
func unseal(t testing.TB, d *tpm.Device, f *tpm.KeyFile) ([]byte, error) {
	t.Helper()
	dst := make([]byte, tpm.MaxSeal)
	n, err := d.Unseal(t.Context(), f, dst)
	return dst[:n], err
}
