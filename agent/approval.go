package agent

import (
	"context"
	"crypto"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"io/fs"
	"os"
	"path/filepath"

	"github.com/sealsign/sealsign/agent/caller"
	"github.com/sealsign/sealsign/internal/fault"
	"github.com/sealsign/sealsign/tpm"
)

// Where approvals of PCRs are kept: by the digest of what each says, so that one that is
// installed twice is there once.
const (
	approvalsFolder = "approvals"
	maxApproval     = 16 << 10
)

// PCRState is what there is to approve.
type PCRState struct {
	Host      string // its name
	HostID    string
	PCRs      tpm.PCRs // those of the config as they are
	Authority bool     // the config names one
	Problem   error    // why they aren't approved
}

// PCRs tells what the PCRs that the config names are now, and whether that is approved.
func (a *Agent) PCRs(ctx context.Context) (PCRState, error) {
	device, settings := a.device.Load(), &a.setup.Load().config.TPM
	if device == nil {
		return PCRState{}, a.Status().TPMError
	}
	info, err := device.Inspect(ctx)
	if err != nil {
		return PCRState{}, err
	}
	name, err := os.Hostname()
	if err != nil {
		name = "localhost"
	}
	state := PCRState{Host: name, HostID: device.HostID(), PCRs: make(tpm.PCRs), Authority: settings.PCRAuthority != nil}
	for _, pcr := range settings.PCRs {
		if value, known := info.PCRs[pcr]; known {
			state.PCRs[pcr] = value
		}
	}
	state.Problem = device.Approved(ctx)
	return state, nil
}

// InstallApproval keeps values of PCRs that the authority has approved for this host. The
// keys that waited for it are loaded.
func (a *Agent) InstallApproval(ctx context.Context, who *caller.Caller, file []byte) error {
	err := a.act(who, "pcr.install", "", func() (int, error) {
		approval, err := a.accept(file)
		if err != nil {
			return 0, err
		}
		dir := a.setup.Load().config.Agent.StateDir
		if err := keepApproval(dir, approval); err != nil {
			return 0, fault.New(fault.StoreUnavailable, "the approval can't be kept: %v", err).WithHint("look at the state folder's disk: sealsign doctor").Because(err)
		}
		all, err := readApprovals(dir)
		a.device.Load().SetApprovals(all)
		return 0, err
	})
	if err != nil {
		return err
	}
	a.ring.Unlock()
	patient, cancel := context.WithTimeout(ctx, resumePatience)
	defer cancel()
	return a.ring.Settle(patient, "")
}

// accept refuses what the config's authority hasn't signed for this host.
func (a *Agent) accept(file []byte) (*tpm.Approval, error) {
	device, settings := a.device.Load(), &a.setup.Load().config.TPM
	if device == nil {
		return nil, a.Status().TPMError
	}
	if settings.PCRAuthority == nil {
		return nil, fault.New(fault.BadRequest, "the config names no authority for PCRs").WithHint("pcr_authority = \"FILE\" under [tpm], and restart sealsignd")
	}
	authority, err := tpm.NewAuthority(settings.PCRAuthority)
	if err != nil {
		return nil, err
	}
	approval, err := tpm.ParseApproval(file)
	if err != nil {
		return nil, err
	}
	refuse := func(why string) error {
		return fault.New(fault.BadRequest, "the approval isn't taken: %s", why).
			WithHint("sealsign pcr show --json > request.json; sealsign pcr approve --identity KEY request.json")
	}
	if approval.HostID != device.HostID() {
		return nil, refuse("it is for another host")
	}
	for _, pcr := range settings.PCRs {
		if _, named := approval.PCRs[pcr]; !named {
			return nil, refuse("it lacks a PCR that the config names")
		}
	}
	if !authority.Approves(approval) {
		return nil, refuse("the authority of the config hasn't signed it")
	}
	return approval, nil
}

// keepApproval writes an approval, whole or not at all.
func keepApproval(dir string, approval *tpm.Approval) error {
	text, err := approval.ToSign()
	if err != nil {
		return err
	}
	data, err := json.Marshal(approval)
	if err != nil {
		return err
	}
	folder := filepath.Join(dir, approvalsFolder)
	if err := os.Mkdir(folder, 0o700); err != nil && !errors.Is(err, fs.ErrExist) {
		return err
	}
	sum := sha256.Sum256(text)
	return replaceFile(folder, hex.EncodeToString(sum[:])+".json", append(data, '\n'))
}

// readApprovals reads all that are kept. Who signed each is seen when it is used. One that
// can't be read keeps none of the others from being used.
func readApprovals(dir string) (all []*tpm.Approval, failed error) {
	paths, err := filepath.Glob(filepath.Join(dir, approvalsFolder, "*.json"))
	if err != nil {
		return nil, err
	}
	for _, path := range paths {
		info, err := os.Lstat(path)
		if err == nil && (!info.Mode().IsRegular() || info.Size() > maxApproval) {
			err = fault.New(fault.StoreUnavailable, "%s is no approval", path)
		}
		var data []byte
		if err == nil {
			data, err = os.ReadFile(path)
		}
		var approval *tpm.Approval
		if err == nil {
			approval, err = tpm.ParseApproval(data)
		}
		if err != nil {
			failed = errors.Join(failed, err)
			continue
		}
		all = append(all, approval)
	}
	return all, failed
}

// sameKey compares two public keys, which may be nil.
func sameKey(a, b crypto.PublicKey) bool {
	if a == nil || b == nil {
		return a == b
	}
	key, ok := a.(interface{ Equal(crypto.PublicKey) bool })
	return ok && key.Equal(b)
}
