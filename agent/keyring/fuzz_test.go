package keyring

import (
	"bytes"
	"os"
	"testing"
)

// readSeed reads a file of testdata.
func readSeed(tb testing.TB, name string) []byte {
	tb.Helper()
	data, err := os.ReadFile("testdata/" + name)
	if err != nil {
		tb.Fatal(err)
	}
	return data
}

// The files that the format's first version wrote are read for good.
func TestFirstFormatIsRead(t *testing.T) {
	for name, protection := range map[string]string{"sealed.tpm": Sealed, "resident.tpm": Resident} {
		f, err := parseVersion("main", 1, readSeed(t, name))
		must(t, err)
		if f.meta.Protection != protection || f.meta.Venue != "binance" || (f.object != nil) != (protection == Resident) {
			t.Errorf("%s: %+v", name, f.meta)
		}
	}
	m := new(manifest)
	must(t, decodeState(readSeed(t, "manifest.json"), m))
	must(t, m.check())
	if k := m.Keys["main"]; k.State != suspended || k.Versions[2] != Active {
		t.Errorf("%+v", k)
	}
}

// FuzzVersionFile: what is read is what would be written, to the byte.
func FuzzVersionFile(f *testing.F) {
	f.Add(readSeed(f, "sealed.tpm"))
	f.Add(readSeed(f, "resident.tpm"))
	f.Fuzz(func(t *testing.T, data []byte) {
		v, err := parseVersion("main", 1, data)
		if err != nil {
			return
		}
		if again, err := v.encode(); err != nil || !bytes.Equal(again, data) {
			t.Fatalf("written again it is another file: %v", err)
		}
	})
}

// FuzzManifest: what is read can be written, and read again.
func FuzzManifest(f *testing.F) {
	f.Add(readSeed(f, "manifest.json"))
	f.Add([]byte(`{"format":1,"keys":{}}`))
	f.Fuzz(func(t *testing.T, data []byte) {
		m := new(manifest)
		if decodeState(data, m) != nil || m.check() != nil {
			return
		}
		s := &store{dir: t.TempDir(), fs: FS{}.complete()}
		must(t, s.writeManifest(m))
		if _, err := s.readManifest(); err != nil {
			t.Fatal(err)
		}
	})
}
