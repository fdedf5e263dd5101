package keyring

import (
	"bytes"
	"crypto/rsa"
	"maps"
	"slices"
	"strings"
	"time"

	"golang.org/x/crypto/ssh"

	"github.com/sealsign/sealsign/internal/fault"
)

const (
	// maxImporters is far more people than should bring keys to a host.
	maxImporters = 1000
	// dsa is a type of key that is too short to be safe.
	dsa = "ssh-dss"
	// maxPublicKey is the most bytes of a public key file: RSA of 16384 bits has 3 KiB.
	maxPublicKey = 16 << 10
)

// Importer may wrap credentials for this host on another machine.
type Importer struct {
	PublicKey  string    `json:"public_key"` // a line of authorized_keys, without options or comment
	EnrolledAt time.Time `json:"enrolled_at"`
}

func (i Importer) key() (ssh.PublicKey, error) {
	key, _, _, _, err := ssh.ParseAuthorizedKey([]byte(i.PublicKey))
	return key, err
}

// Fingerprint is the key's, as ssh-keygen -l prints it.
func (i Importer) Fingerprint() string {
	key, err := i.key()
	if err != nil {
		return ""
	}
	return ssh.FingerprintSHA256(key)
}

// Importers is who is enrolled, by name.
func (r *Ring) Importers() map[string]Importer {
	r.mu.RLock()
	defer r.mu.RUnlock()
	return maps.Clone(r.importers)
}

// EnrollImporter lets the owner of an SSH key import, from when it is written. The key
// is as in a .pub file. A name or a key that is enrolled is refused: whose it is would
// change unseen.
func (r *Ring) EnrollImporter(name string, publicKey []byte) error {
	key, err := importerKey(publicKey)
	if err != nil {
		return err
	}
	if !namePattern.MatchString(name) {
		return fault.New(fault.BadRequest, "%q can't be the name of an importer", name).
			WithHint("a name has up to 64 letters, digits, dots, dashes and underscores, and begins with a letter or digit")
	}
	if err := r.usable(); err != nil {
		return err
	}
	i := Importer{PublicKey: strings.TrimSpace(string(ssh.MarshalAuthorizedKey(key))), EnrolledAt: r.now().UTC().Round(0)}
	r.mu.Lock()
	if err := r.enrollableLocked(name, key); err != nil {
		r.mu.Unlock()
		return err
	}
	if r.importers == nil {
		r.importers = make(map[string]Importer)
	}
	r.importers[name] = i
	r.mu.Unlock()
	if err := r.save(); err != nil {
		r.mu.Lock()
		defer r.mu.Unlock()
		if r.importers[name] == i {
			delete(r.importers, name)
		}
		return err
	}
	return nil
}

func (r *Ring) enrollableLocked(name string, key ssh.PublicKey) error {
	if old, enrolled := r.importers[name]; enrolled {
		return fault.New(fault.BadRequest, "importer %s is enrolled, with the key %s", name, old.Fingerprint()).
			WithHint("sealsign importer remove %s, then enroll the new key", name)
	}
	if other, enrolled := r.importerLocked(key); enrolled {
		return fault.New(fault.BadRequest, "this key is enrolled as that of %s", other).WithHint("sealsign importer list")
	}
	if len(r.importers) >= maxImporters {
		return fault.New(fault.BadRequest, "there are %d importers, the most that there can be", maxImporters).WithHint("sealsign importer list")
	}
	return nil
}

// RemoveImporter ends an importer's right at once, even where it returns an error: then
// that doesn't outlive a restart yet.
func (r *Ring) RemoveImporter(name string) error {
	if err := r.forgetImporter(name); err != nil {
		return err
	}
	if err := r.save(); err != nil {
		return fault.New(fault.StoreUnavailable, "importer %s can't import any more, and after a restart could again: the manifest could not be written", name).
			WithHint("it is tried again every few seconds; until it is written, don't restart the daemon").Because(err)
	}
	return nil
}

// forgetImporter ends the right in memory.
func (r *Ring) forgetImporter(name string) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	if _, enrolled := r.importers[name]; enrolled {
		delete(r.importers, name)
		return nil
	}
	if r.written == nil && r.unusable != nil { // nobody knows who is enrolled
		return r.unusable
	}
	return fault.New(fault.ImporterUnknown, "there is no importer %s", name).WithHint("sealsign importer list")
}

// importerLocked finds who has a key.
func (r *Ring) importerLocked(key ssh.PublicKey) (name string, enrolled bool) {
	for _, name := range slices.Sorted(maps.Keys(r.importers)) {
		if theirs, err := r.importers[name].key(); err == nil && bytes.Equal(theirs.Marshal(), key.Marshal()) {
			return name, true
		}
	}
	return "", false
}

// importerKey reads a public key file of the kinds that sign.
func importerKey(text []byte) (ssh.PublicKey, error) {
	bad := func(why string) error {
		return fault.New(fault.BadRequest, "the importer's key can't be used: %s", why).
			WithHint("give the .pub file of an SSH key: ssh-keygen -t ed25519, or -t ed25519-sk for a security key")
	}
	if len(text) > maxPublicKey {
		return nil, bad("it is too large")
	}
	key, _, options, rest, err := ssh.ParseAuthorizedKey(text)
	switch {
	case bytes.Contains(text, []byte("PRIVATE KEY")):
		return nil, bad("it is a private key, which belongs to nobody but its owner")
	case err != nil:
		return nil, bad("it is no public key of SSH")
	case len(options) > 0 || len(bytes.TrimSpace(rest)) > 0:
		return nil, bad("it is more than one public key")
	}
	if _, certificate := key.(*ssh.Certificate); certificate || key.Type() == dsa {
		return nil, bad("keys of the type " + key.Type() + " aren't taken")
	}
	if weakRSA(key) {
		return nil, bad("its RSA key has less than 2048 bits")
	}
	return key, nil
}

// minImporterRSA is the least size, in bits, of an RSA key that OpenSSH's servers
// still should take.
const minImporterRSA = 2048

func weakRSA(key ssh.PublicKey) bool {
	if owner, ok := key.(ssh.CryptoPublicKey); ok {
		public, isRSA := owner.CryptoPublicKey().(*rsa.PublicKey)
		return isRSA && public.N.BitLen() < minImporterRSA
	}
	return false
}
