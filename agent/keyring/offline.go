package keyring

import (
	"bytes"
	"path/filepath"
	"strconv"

	"filippo.io/age"

	"github.com/sealsign/sealsign/agent/credential"
	"github.com/sealsign/sealsign/internal/fault"
)

// offlineSuffix is that of an import encrypted to the operator's offline keys, as
// `age -d` opens it. This host can't.
const offlineSuffix = ".age"

func (s *store) offline(name string, number int) string {
	return filepath.Join(s.key(name), strconv.Itoa(number)+offlineSuffix)
}

// SetRecovery sets the public keys that each import is encrypted to from now on,
// besides being sealed to the TPM.
func (r *Ring) SetRecovery(recipients []age.Recipient) { r.recovery.Store(&recipients) }

// keepOffline writes what an operator imported for the offline keys, if there are any.
// A key that was generated has nothing that could be kept. The library copies the
// credential within its own memory, which nothing wipes.
func (c *change) keepOffline(number int, given *credential.Credential) error {
	recipients := c.ring.recovery.Load()
	if recipients == nil || len(*recipients) == 0 || given == nil {
		return nil
	}
	plain, err := given.Encode()
	if err != nil {
		return err
	}
	defer plain.Release()
	var out bytes.Buffer
	w, err := age.Encrypt(&out, *recipients...)
	if err == nil {
		_, err = w.Write(bytes.TrimRight(plain.Bytes(), " "))
	}
	if err == nil {
		err = w.Close()
	}
	if err != nil {
		return fault.New(fault.ConfigInvalid, "the credential can't be encrypted to the keys of agent.recovery").
			WithHint("try them with age -R FILE").Because(err)
	}
	return c.ring.store.write(c.ring.store.offline(c.key.name, number), out.Bytes())
}
