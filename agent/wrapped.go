package agent

import (
	"context"
	"crypto/x509"
	"encoding/json"
	"encoding/pem"
	"maps"
	"os"
	"slices"

	"github.com/sealsign/sealsign/agent/audit"
	"github.com/sealsign/sealsign/agent/caller"
	"github.com/sealsign/sealsign/agent/keyring"
	"github.com/sealsign/sealsign/agent/wrap"
	"github.com/sealsign/sealsign/internal/fault"
)

// HostKey is the document by which credentials are wrapped for this host elsewhere: its
// sealing key, and the TPM's word for it. It is no secret, but whoever gives out
// another in its place gets what is wrapped for it.
func (a *Agent) HostKey(ctx context.Context) ([]byte, error) {
	device, signer := a.device.Load(), a.signer.Load()
	if device == nil || signer == nil {
		return nil, fault.New(fault.TPMUnavailable, "the TPM is not there, or not the one that this state belongs to").WithHint("sealsign doctor says which, and what to do")
	}
	key, err := device.StorageKey(ctx)
	if err != nil {
		return nil, err
	}
	name, err := os.Hostname()
	if err != nil {
		name = "localhost"
	}
	h := wrap.NewHost(name, a.setup.Load().config.Agent.Environment, key)
	info := device.Info()
	h.TPM = wrap.Chip{Manufacturer: info.Manufacturer, Firmware: info.Firmware, Software: info.Software}
	der, err := x509.MarshalPKIXPublicKey(signer.public)
	if err != nil {
		return nil, err
	}
	h.CheckpointKey = string(pem.EncodeToMemory(&pem.Block{Type: "PUBLIC KEY", Bytes: der}))
	certificates, err := device.EndorsementCertificates(ctx)
	if err != nil {
		return nil, err
	}
	for _, certificate := range certificates {
		h.Endorsement = append(h.Endorsement, string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: certificate})))
	}
	about, err := h.Qualifying()
	if err != nil {
		return nil, err
	}
	if h.Attestation, err = signer.certify(ctx, about); err != nil {
		return nil, err
	}
	return json.MarshalIndent(h, "", "  ")
}

// ImportWrapped imports a credential that an importer wrapped for this host.
func (a *Agent) ImportWrapped(ctx context.Context, who *caller.Caller, name string, blob []byte) (version int, err error) {
	_, version, err = a.importWrapped(ctx, a.adminRecord(who, opImportWrapped, name, nil), blob, false)
	return version, err
}

const opImportWrapped = "key.import-wrapped"

// importWrapped imports a blob for the record's key, or by the inbox for the one that
// the blob names. That the record says who signed is proved by then, and whether they
// may is in its outcome.
func (a *Agent) importWrapped(ctx context.Context, record *audit.Record, blob []byte, inbox bool) (key string, version int, err error) {
	b, err := wrap.Parse(blob)
	if err != nil {
		refusal := fault.From(err)
		record.Decision, record.Reason, record.Message = audit.Deny, string(refusal.Reason), refusal.Message
		a.append(record)
		return record.Key, 0, err
	}
	key = record.Key
	if inbox {
		key = b.Header.Key
		record.Key = clip(key)
	}
	record.Message = "signed by " + b.Header.Importer.Fingerprint
	err = a.actAs(record, func() (int, error) {
		version, err = a.ring.ImportWrapped(ctx, key, b, inbox)
		return version, err
	})
	return record.Key, version, err
}

// Importer is someone who may wrap credentials for this host.
type Importer struct {
	Name string
	keyring.Importer
}

// Importers lists them by name.
func (a *Agent) Importers() []Importer {
	var list []Importer
	enrolled := a.ring.Importers()
	for _, name := range slices.Sorted(maps.Keys(enrolled)) {
		list = append(list, Importer{name, enrolled[name]})
	}
	return list
}

// EnrollImporter lets the owner of an SSH key import.
func (a *Agent) EnrollImporter(who *caller.Caller, name string, publicKey []byte) error {
	record := a.adminRecord(who, "importer.enroll", "", nil)
	record.Message = "importer " + clip(name)
	return a.actAs(record, func() (int, error) { return 0, a.ring.EnrollImporter(name, publicKey) })
}

// RemoveImporter takes that right away, at once, and even where it can't be recorded.
func (a *Agent) RemoveImporter(who *caller.Caller, name string) error {
	failed := a.ring.RemoveImporter(name)
	record := a.adminRecord(who, "importer.remove", "", failed)
	if failed == nil {
		record.Message = "importer " + clip(name)
	}
	_, err := a.log.Append(record, true)
	switch {
	case failed != nil:
		return failed
	case err != nil:
		refusal := fault.From(err)
		return fault.New(refusal.Reason, "importer %s can't import any more, and that could not be recorded: %s", name, refusal.Message).
			WithHint("%s", refusal.Hint).Because(err)
	}
	return nil
}
