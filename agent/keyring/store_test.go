package keyring

import (
	"bytes"
	"encoding/json"
	"encoding/pem"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/sealsign/sealsign/internal/fault"
)

func TestStateFolderIsOursAlone(t *testing.T) {
	for mode, ok := range map[os.FileMode]bool{0o700: true, 0o750: false, 0o701: false, 0o777: false, 0o500: false} {
		dir := newDir(t)
		must(t, os.Chmod(dir, mode))
		r, err := Open(dir, nil, Options{})
		if ok {
			must(t, err)
			r.Close()
			continue
		}
		refused(t, err, fault.ConfigInvalid, "chmod 0700 "+dir)
		if r != nil {
			t.Errorf("mode %#o: a ring with an error", mode)
		}
	}
}

func TestStateFolderOfAnother(t *testing.T) {
	if os.Getuid() != 0 {
		t.Skip("only root can give a folder away")
	}
	dir := newDir(t)
	must(t, os.Chown(dir, 65534, 65534))
	_, err := Open(dir, nil, Options{})
	refused(t, err, fault.ConfigInvalid, "chown -R 0 "+dir)
}

func TestStateFolderIsMade(t *testing.T) {
	dir := filepath.Join(newDir(t), "new")
	r, err := Open(dir, nil, Options{})
	must(t, err)
	r.Close()
	file := filepath.Join(dir, "file")
	must(t, os.WriteFile(file, nil, 0o600))
	_, err = Open(file, nil, Options{})
	refused(t, err, fault.ConfigInvalid, "state_dir")
}

func TestFilesAreClosedToOthers(t *testing.T) {
	p := newPlace(t)
	mustImport(t, p.open(hmacSpec("main")), "main", "alpha")
	must(t, filepath.Walk(p.dir, func(path string, info os.FileInfo, err error) error {
		must(t, err)
		want := os.FileMode(0o600)
		if info.IsDir() {
			want = 0o700
		}
		if info.Mode().Perm() != want {
			t.Errorf("%s has mode %v", path, info.Mode())
		}
		return nil
	}))
}

func TestBadNames(t *testing.T) {
	r := newPlace(t).open()
	for _, name := range []string{"", ".", "..", "a/b", "/etc", ".hidden", "-x", "a b", "a\n", "ä", strings.Repeat("n", 65)} {
		r.Apply([]Spec{hmacSpec(name)})
		_, err := r.Import(t.Context(), name, hmacCredential("s"))
		refused(t, err, fault.ConfigInvalid, "letters")
	}
}

// edited changes a version's file as somebody could who has no TPM.
func edited(t *testing.T, p *place, name string, number int, edit func([]byte) []byte) {
	t.Helper()
	path := (&store{dir: p.dir}).version(name, number)
	data, err := os.ReadFile(path)
	must(t, err)
	must(t, os.WriteFile(path, edit(bytes.Clone(data)), 0o600))
}

func TestDamagedFileIsThatKeysProblemAlone(t *testing.T) {
	p := newPlace(t)
	resident := with(hmacSpec("resident"), func(s *Spec) { s.Protection = Resident })
	specs := []Spec{hmacSpec("main"), hmacSpec("other"), hmacSpec("third"), resident}
	r := p.open(specs...)
	for _, s := range specs {
		mustImport(t, r, s.Name, s.Name)
	}
	mustImport(t, r, "third", "third-2")
	r.Close()
	read := func(name string, n int) []byte {
		data, err := os.ReadFile((&store{dir: p.dir}).version(name, n))
		must(t, err)
		return data
	}
	original, other, residentFile := read("main", 1), read("other", 1), read("resident", 1)
	blocks := func(data []byte) [][]byte { return bytes.SplitAfter(data, []byte("-----\n")) }

	another, err := p.device.NewParent(t.Context(), nil)
	must(t, err)
	damages := map[string][]byte{
		"empty":                    {},
		"cut in the middle":        original[:len(original)/2],
		"without the last byte":    original[:len(original)-1],
		"something after it":       append(bytes.Clone(original), "x\n"...),
		"something before it":      append([]byte("x\n"), original...),
		"another key's":            other,
		"another version's":        read("third", 2),
		"without its parent":       bytes.Join(blocks(original)[2:], nil),
		"under another parent":     append(pem.EncodeToMemory(parentBlock(another)), bytes.Join(blocks(original)[2:], nil)...),
		"another's last part":      append(bytes.Join(blocks(original)[:4], nil), bytes.Join(blocks(other)[4:], nil)...),
		"another's first parts":    append(bytes.Join(blocks(other)[:4], nil), bytes.Join(blocks(original)[4:], nil)...),
		"with a TPM key of others": append(bytes.Join(blocks(residentFile)[:4], nil), bytes.Join(blocks(original)[2:], nil)...),
		"too large":                bytes.Repeat([]byte("x"), maxVersionFile+1),
	}
	if at := bytes.Index(original, []byte("SEALSIGN VERSION")); at < 0 {
		t.Fatal("the file has another form")
	}
	for i := 0; i < len(original); i += 97 {
		flipped := bytes.Clone(original)
		flipped[i] ^= 1
		damages[fmt.Sprintf("byte %d flipped", i)] = flipped
	}
	for what, data := range damages {
		edited(t, p, "main", 1, func([]byte) []byte { return data })
		r := p.open(specs...)
		useRefused(t, r, "main", fault.KeyDamaged, "sealsign key import main")
		if i := infoOf(t, r, "main"); i.State != "damaged" {
			t.Errorf("%s: %+v", what, i)
		}
		signsWith(t, r, "other", "other")
		r.Close()
	}
	must(t, os.Remove((&store{dir: p.dir}).version("main", 1)))
	r = p.open(specs...)
	useRefused(t, r, "main", fault.KeyDamaged, "")
	signsWith(t, r, "resident", "resident")
	mustImport(t, r, "main", "again") // the way out
	signsWith(t, r, "main", "again")
}

// resealed rewrites the JSON of a version's file, as an attacker would.
func resealed(t *testing.T, p *place, name string, change func(*sealedPart)) {
	t.Helper()
	edited(t, p, name, 1, func(data []byte) []byte {
		f, err := splitVersion(data)
		must(t, err)
		change(&f.sealed)
		out, err := f.encode()
		must(t, err)
		return out
	})
}

func TestMetadataIsAuthenticated(t *testing.T) {
	for _, protection := range []string{Sealed, Resident} {
		t.Run(protection, func(t *testing.T) {
			p := newPlace(t)
			spec := with(hmacSpec("main"), func(s *Spec) { s.Protection = protection })
			r := p.open(spec)
			mustImport(t, r, "main", "alpha")
			r.Close()
			resealed(t, p, "main", func(s *sealedPart) {
				s.Metadata = json.RawMessage(strings.Replace(string(s.Metadata), "api.binance.com", "api.evil.example", 1))
			})
			// The config of an attacker that agrees with the changed file.
			r = p.open(with(spec, func(s *Spec) { s.Hosts = []string{"api.evil.example", "fapi.binance.com"} }))
			_, err := r.Use(t.Context(), "main", false)
			refused(t, err, fault.KeyDamaged, "")
			if !strings.Contains(err.Error(), "changed after it was sealed") {
				t.Errorf("got %v", err)
			}
		})
	}
}

func TestNewerFormatsAreRefused(t *testing.T) {
	p := newPlace(t)
	r := p.open(hmacSpec("main"))
	mustImport(t, r, "main", "alpha")
	r.Close()
	resealed(t, p, "main", func(s *sealedPart) { s.Format = stateFormat + 1 })
	r = p.open(hmacSpec("main"))
	_, err := r.Use(t.Context(), "main", false)
	refused(t, err, fault.KeyDamaged, newerHint)
	if !strings.Contains(err.Error(), "it has format 3: a newer sealsign wrote it") {
		t.Errorf("got %v", err)
	}
}

func TestManifestThatCannotBeUsed(t *testing.T) {
	p := newPlace(t)
	r := p.open(hmacSpec("main"))
	mustImport(t, r, "main", "alpha")
	must(t, r.Suspend("main", true))
	must(t, r.Resume("main"))
	r.Close()
	path := filepath.Join(p.dir, manifestName)
	original, err := os.ReadFile(path)
	must(t, err)
	for what, data := range map[string]string{
		"empty":            "",
		"cut":              string(original[:len(original)/2]),
		"no JSON":          "hello",
		"a newer format":   strings.Replace(string(original), `"format":2`, `"format":3`, 1),
		"an unknown field": strings.Replace(string(original), `"format"`, `"x": 1, "format"`, 1),
		"an unknown state": strings.Replace(string(original), `"active"`, `"working"`, 1),
		"a bad name":       strings.Replace(string(original), `"main"`, `"../main"`, 1),
		"two active":       strings.Replace(string(original), `"1":"active"`, `"1":"active","2":"active"`, 1),
		"version 0":        strings.Replace(string(original), `"1":"active"`, `"0":"active"`, 1),
		"another state":    strings.Replace(string(original), `"active"`, `"retired"`, 1),
		"another number":   strings.Replace(string(original), `"number":`, `"number":1`, 1),
		"another MAC":      strings.Replace(string(original), `"mac":"`, `"mac":"AAAA`, 1),
		"something after":  string(original) + "{}",
	} {
		must(t, os.WriteFile(path, []byte(data), 0o600))
		r := p.open(hmacSpec("main"))
		must(t, r.Resume("main"))
		if data == string(original) {
			t.Fatalf("%s: nothing was changed", what)
		}
		hint := "sealsign store recover"
		if what == "a newer format" {
			hint = newerHint
		}
		useRefused(t, r, "main", fault.StoreUntrusted, hint)
		_, err := r.Import(t.Context(), "main", hmacCredential("beta"))
		refused(t, err, fault.StoreUntrusted, "")
		must(t, r.Suspend("main", false))
		if i := infoOf(t, r, "main"); i.State != "suspended" || !strings.Contains(i.Problem, "manifest") {
			t.Errorf("%s: %+v", what, i)
		}
		r.Close()
		if now, err := os.ReadFile(path); err != nil || string(now) != data {
			t.Fatalf("%s: the manifest was overwritten: %q, %v", what, now, err)
		}
	}
	must(t, os.Remove(path))
	r = p.open(hmacSpec("main"))
	must(t, r.Resume("main"))
	useRefused(t, r, "main", fault.StoreUntrusted, "sealsign store recover")
	must(t, os.WriteFile(path, original, 0o600))
	p.clock.add(retryLoad)
	signsWith(t, r, "main", "alpha")
}

func TestLeftoversAreCleaned(t *testing.T) {
	p := newPlace(t)
	r := p.open(hmacSpec("main"))
	mustImport(t, r, "main", "alpha")
	mustImport(t, r, "main", "beta")
	must(t, r.Revoke("main", 1))
	r.Close()
	s := &store{dir: p.dir}
	data, err := os.ReadFile(s.version("main", 2))
	must(t, err)
	for _, path := range []string{s.version("main", 1), s.version("main", 3), s.version("main", 4) + newSuffix, s.manifest() + newSuffix} {
		must(t, os.WriteFile(path, data, 0o600))
	}
	r = p.open(hmacSpec("main"))
	r.Warm(t.Context())
	// What was revoked and what is half written goes. A whole version that the
	// manifest doesn't name stays, never signs, and keeps its number.
	if got := strings.Join(files(t, p, "main"), " "); got != "2.tpm 3.tpm" {
		t.Errorf("files %s", got)
	}
	signsWith(t, r, "main", "beta")
	if n := mustImport(t, r, "main", "gamma"); n != 4 {
		t.Errorf("version %d", n)
	}
	must(t, r.Revoke("main", 0))
	if got := files(t, p, "main"); len(got) != 0 {
		t.Errorf("files %v", got)
	}
}

func TestTenThousandKeys(t *testing.T) {
	p := newPlace(t)
	r := p.open(hmacSpec("key-0"))
	mustImport(t, r, "key-0", "alpha")
	r.Close()
	m := r.written
	f, err := r.store.readAnchor()
	must(t, err)
	a, err := f.open(t.Context(), p.device)
	must(t, err)
	specs := make([]Spec, 10_000)
	for i := range specs {
		specs[i] = hmacSpec(fmt.Sprintf("key-%d", i))
		m.Keys[specs[i].Name] = m.Keys["key-0"]
	}
	must(t, r.store.writeManifest(m, a))

	start := time.Now()
	r = p.open(specs...)
	t.Logf("open and apply: %v", time.Since(start))
	start = time.Now()
	edit := with(specs[5000], func(s *Spec) { s.CA = "x" })
	specs[5000] = edit
	r.Apply(specs)
	t.Logf("reload: %v", time.Since(start))
	start = time.Now()
	signsWith(t, r, "key-0", "alpha")
	t.Logf("first signature: %v", time.Since(start))
	start = time.Now()
	must(t, r.Suspend("", false))
	t.Logf("suspend all: %v", time.Since(start))
	start = time.Now()
	if n := len(r.List()); n != len(specs) {
		t.Fatalf("%d keys", n)
	}
	t.Logf("list: %v", time.Since(start))
}
