package keyring

import (
	"bytes"
	"crypto"
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
	m, _, err := parseManifest(readSeed(t, "manifest.json"))
	must(t, err)
	if m.Keys["main"][2] != Active || m.Number == 0 {
		t.Errorf("%+v", m)
	}
	all, err := parseStops(readSeed(t, "stops.json"))
	must(t, err)
	if all.Keys["main"] != suspended || all.Revoked["main"][0] != 1 {
		t.Errorf("%+v", all)
	}
}

// So are those of the second, which has parents.
func TestSecondFormatIsRead(t *testing.T) {
	for name, protection := range map[string]string{"sealed.tpm": Sealed, "resident.tpm": Resident} {
		f, err := parseVersion("main", 1, readSeed(t, "format2/"+name))
		must(t, err)
		if f.meta.Protection != protection || f.parent() == nil || f.object != nil && !f.object.Parent().Same(f.parent()) {
			t.Errorf("%s: %+v", name, f.meta)
		}
	}
	m, _, err := parseManifest(readSeed(t, "format2/manifest.json"))
	must(t, err)
	all, err := parseStops(readSeed(t, "format2/stops.json"))
	must(t, err)
	if m.Keys["main"][2] != Revoked || m.Epoch.ended() == 0 || m.Epoch.ended() != all.Ended {
		t.Errorf("%+v, %+v", m, all)
	}
}

// FuzzVersionFile: what is read is what would be written, to the byte.
func FuzzVersionFile(f *testing.F) {
	f.Add(readSeed(f, "sealed.tpm"))
	f.Add(readSeed(f, "resident.tpm"))
	f.Add(readSeed(f, "predicted.tpm"))
	f.Add(readSeed(f, "format2/sealed.tpm"))
	f.Add(readSeed(f, "format2/resident.tpm"))
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
	f.Add(readSeed(f, "format2/manifest.json"))
	f.Add([]byte(`{"format":1,"manifest":{"format":1,"number":1,"keys":{}},"mac":""}`))
	mac, err := newMidstates(crypto.SHA256, []byte("key"))
	if err != nil {
		f.Fatal(err)
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		m, _, err := parseManifest(data)
		if err != nil {
			return
		}
		s := &store{dir: t.TempDir(), fs: FS{}.complete()}
		must(t, s.writeManifest(m, &anchor{mac: mac}))
		if again, _, err := s.readManifest(); err != nil || !again.same(m) {
			t.Fatal(again, err)
		}
	})
}

// FuzzStops: what is read can be written, and read again.
func FuzzStops(f *testing.F) {
	f.Add(readSeed(f, "stops.json"))
	f.Add(readSeed(f, "format2/stops.json"))
	f.Fuzz(func(t *testing.T, data []byte) {
		all, err := parseStops(data)
		if err != nil {
			return
		}
		s := &store{dir: t.TempDir(), fs: FS{}.complete()}
		must(t, s.writeStops(all))
		if _, err := s.readStops(); err != nil {
			t.Fatal(err)
		}
	})
}

// FuzzAnchor: a damaged anchor is refused, and crashes nothing.
func FuzzAnchor(f *testing.F) {
	f.Add(readSeed(f, "anchor.json"))
	f.Fuzz(func(t *testing.T, data []byte) {
		s := &store{dir: t.TempDir(), fs: FS{}.complete()}
		must(t, os.WriteFile(s.anchor(), data, 0o600))
		if read, err := s.readAnchor(); (read == nil) == (err == nil) {
			t.Fatal(read, err)
		}
	})
}
