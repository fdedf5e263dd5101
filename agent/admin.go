package agent

import (
	"context"
	"crypto/x509"
	"encoding/pem"
	"time"

	"github.com/sealsign/sealsign/agent/audit"
	"github.com/sealsign/sealsign/agent/caller"
	"github.com/sealsign/sealsign/agent/keyring"
	"github.com/sealsign/sealsign/internal/fault"
	"github.com/sealsign/sealsign/tpm"
)

// An administrative act that gives power (import, generate, resume, rebind, reseal) is
// recorded before it is done: without a record it is not done. One that takes
// power away (suspend, revoke) is done first, and holds even where the log is
// down; the error then says both.

// Import seals a credential as a new version of a key. The JSON is wiped.
func (a *Agent) Import(ctx context.Context, who *caller.Caller, name string, credential []byte) (version int, err error) {
	defer clear(credential)
	err = a.act(who, "key.import", name, func() (int, error) {
		version, err = a.ring.Import(ctx, name, credential)
		return version, err
	})
	return version, err
}

// Generate makes a pending version inside the TPM and gives its public key.
func (a *Agent) Generate(ctx context.Context, who *caller.Caller, name string) (version int, publicPEM []byte, register string, err error) {
	err = a.act(who, "key.generate", name, func() (int, error) {
		version, publicPEM, err = a.ring.Generate(ctx, name)
		return version, err
	})
	if k := a.setup.Load().keys[name]; k != nil {
		register = k.venue.Register(k.algorithm)
	}
	return version, publicPEM, register, err
}

// resumePatience is how long Resume waits for what it lets sign again.
const resumePatience = 3 * time.Second

// Resume lets a key, or with an empty name all of them, sign again. It loads them
// first, so that what is asked next is answered with the truth; a key that takes
// longer than that comes with its first request.
func (a *Agent) Resume(ctx context.Context, who *caller.Caller, name string) error {
	err := a.act(who, "key.resume", name, func() (int, error) { return 0, a.ring.Resume(name) })
	if err != nil {
		return err
	}
	patient, cancel := context.WithTimeout(ctx, resumePatience)
	defer cancel()
	return a.ring.Settle(patient, name)
}

// RecoverStore accepts a state folder that isn't the newest of this host's, or a TPM
// that isn't the one it belongs to. Every version is pending afterwards.
func (a *Agent) RecoverStore(ctx context.Context, who *caller.Caller) (recovered []keyring.Recovered, err error) {
	err = a.act(who, "store.recover", "", func() (int, error) {
		if err := a.adoptTPM(ctx); err != nil {
			return 0, err
		}
		recovered, err = a.ring.Recover(ctx)
		return 0, err
	})
	return recovered, err
}

// Rebind accepts the config's venue settings for the versions that were sealed with others.
func (a *Agent) Rebind(ctx context.Context, who *caller.Caller, name string) error {
	return a.act(who, "key.rebind", name, func() (int, error) { return 0, a.ring.Rebind(ctx, name) })
}

// Reseal seals the sealed versions of a key again, or with an empty name those of all
// keys, also for predicted values of PCRs if there is a document of them. Each version
// that was has a record of its own.
func (a *Agent) Reseal(ctx context.Context, who *caller.Caller, name string, document []byte) (all []keyring.Resealed, err error) {
	var predicted tpm.PCRs
	record := a.adminRecord(who, "key.reseal", name, nil)
	if len(document) > 0 {
		if predicted, err = tpm.ParsePCRs(document); err != nil {
			return nil, err
		}
		record.Message = "predicted " + string(predicted.Document())
	}
	err = a.actAs(record, func() (int, error) {
		all, err = a.ring.Reseal(ctx, name, predicted)
		return 0, err
	})
	for _, one := range all {
		outcome := *record
		outcome.Key, outcome.Version, outcome.Message = one.Key, one.Version, ""
		if one.Problem != nil {
			a.appendOutcome(&outcome, record.ID, one.Problem)
			continue
		}
		outcome.Kind, outcome.Of, outcome.Time = audit.KindOutcome, record.ID, a.now()
		a.append(&outcome)
	}
	return all, err
}

// PCRValues is the document of what the PCRs that the config names hold now.
func (a *Agent) PCRValues(ctx context.Context) ([]byte, error) {
	device := a.device.Load()
	if device == nil {
		return nil, fault.New(fault.TPMUnavailable, "the TPM has not answered yet").WithHint("sealsign doctor says why")
	}
	now, err := device.BoundPCRs(ctx)
	if err == nil && now == nil {
		err = fault.New(fault.BadRequest, "the config names no PCRs").WithHint("set pcrs under [tpm], and restart sealsignd")
	}
	if err != nil {
		return nil, err
	}
	return now.Document(), nil
}

// Suspend stops a key, or with an empty name all of them. When it returns,
// nothing signs any more, even if it returns an error: that says what could not
// be kept for the next start, or not be recorded.
func (a *Agent) Suspend(ctx context.Context, who *caller.Caller, name string, cancelOnly bool) error {
	operation := "key.suspend"
	if cancelOnly {
		operation = "key.suspend-to-cancels"
	}
	err := a.ring.Suspend(name, cancelOnly)
	return a.acted(a.adminRecord(who, operation, name, err), err)
}

// Revoke ends a version of a key for good, or with version 0 all there are.
func (a *Agent) Revoke(ctx context.Context, who *caller.Caller, name string, version int) error {
	err := a.ring.Revoke(name, version)
	record := a.adminRecord(who, "key.revoke", name, err)
	record.Version = version
	if version == 0 && err == nil {
		record.Message = "all versions"
	}
	return a.acted(record, err)
}

// RevokeAll ends every version of every key for good, and has the TPM refuse what was
// sealed until now, copies of the state folder included. It tells which versions the TPM
// opens still, since an earlier sealsign sealed them.
func (a *Agent) RevokeAll(ctx context.Context, who *caller.Caller) (outside []string, err error) {
	outside, err = a.ring.RevokeAll(context.WithoutCancel(ctx)) // who asked may leave; it is done all the same
	record := a.adminRecord(who, "key.revoke", "", err)
	if err == nil {
		record.Message = "all versions, and the host epoch"
	}
	return outside, a.acted(record, err)
}

// PublicKey gives the public key of an asymmetric version, 0 being the newest
// that has one, as PEM.
func (a *Agent) PublicKey(name string, version int) (int, []byte, error) {
	return a.ring.PublicPEM(name, version)
}

// Keys tells about the keys, or one of them.
func (a *Agent) Keys(name string) ([]keyring.Info, error) {
	if name == "" {
		return a.ring.List(), nil
	}
	info, err := a.ring.Info(name)
	return []keyring.Info{info}, err
}

// Checkpoint signs the log's head now and gives the signed note.
func (a *Agent) Checkpoint(ctx context.Context) (string, error) { return a.log.Checkpoint(ctx) }

// AuditPublicKey gives the key that signs checkpoints, as PEM and as tools for
// signed notes take it.
func (a *Agent) AuditPublicKey() (publicPEM []byte, verifier string, err error) {
	signer := a.signer.Load()
	if signer == nil {
		return nil, "", fault.New(fault.TPMUnavailable, "the key that signs checkpoints is in the TPM, which has not answered yet").
			WithHint("audit/public-key.pem in the state folder has the keys that signed so far")
	}
	der, err := x509.MarshalPKIXPublicKey(signer.public)
	if err != nil {
		return nil, "", err
	}
	verifier, err = audit.VerifierKey(a.log.Status().Origin, signer.public)
	return pem.EncodeToMemory(&pem.Block{Type: "PUBLIC KEY", Bytes: der}), verifier, err
}
