package keyring

import (
	"context"
	"crypto"
	"crypto/rand"
	"crypto/subtle"
	"encoding/json"
	"encoding/pem"
	"errors"
	"fmt"
	"io/fs"
	"path/filepath"

	"github.com/sealsign/sealsign/internal/fault"
	"github.com/sealsign/sealsign/internal/secmem"
	"github.com/sealsign/sealsign/tpm"
)

// anchor ties the manifest to the TPM, so that an older one can't take its place.
//
// The TPM seals a MAC key, which only this agent on this host gets, and keeps an NV
// counter, which never goes back. Each manifest has a number of its own, above that
// of the one before; it is written first, and then the counter is incremented up to
// its number. So a manifest below the counter is an old one and is refused. One above
// it is the newest that there is, since nobody else can make its MAC: power was lost,
// or the TPM was gone, between the two, and the counter is brought up to it. At no
// instant of a power cut is the newest manifest refused, and once the counter has
// followed, no older one is taken.
type anchor struct {
	index uint32
	auth  *secmem.Buffer // of the counter
	mac   *midstates
}

const (
	macKeyLen  = 32
	nvAuthLen  = 32
	maxAnchor  = 16 << 10
	macContext = "sealsign manifest\n" // what is MACed begins with it
)

// anchorFile is the anchor as it is on disk. The MAC key and the counter's
// authorization are sealed together.
type anchorFile struct {
	Format int    `json:"format"`
	Index  uint32 `json:"nv_index"`
	Sealed string `json:"sealed"` // PEM, TSS2 PRIVATE KEY
}

func (s *store) anchor() string { return filepath.Join(s.dir, "anchor.json") }

// readAnchor gives nil where there is none yet.
func (s *store) readAnchor() (*anchorFile, error) {
	data, err := s.read(s.anchor(), maxAnchor)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, storeFault("reading the anchor", err)
	}
	f := new(anchorFile)
	if err := decodeState(data, f); err != nil {
		return nil, untrusted(fmt.Errorf("anchor.json: %w", err))
	}
	return f, nil
}

// newAnchor seals a new MAC key, and picks an NV index that nothing uses. The
// counter is defined by begin. No PCR keeps it from opening: it proves which versions
// there are, and an update that locks those must not make the store untrusted.
func (s *store) newAnchor(ctx context.Context, device *tpm.Device) (*anchorFile, error) {
	index, err := device.FreeNVIndex(ctx)
	if err != nil {
		return nil, err
	}
	secret, err := secmem.New(macKeyLen + nvAuthLen)
	if err != nil {
		return nil, err
	}
	defer secret.Release()
	rand.Read(secret.Bytes()) // never fails
	sealed, err := device.SealTo(ctx, nil, secret.Bytes(), nil)
	if err != nil {
		return nil, err
	}
	f := &anchorFile{Format: stateFormat, Index: index, Sealed: string(pem.EncodeToMemory(pemOf(sealed)))}
	data, err := json.Marshal(f)
	if err != nil {
		return nil, fault.New(fault.InternalError, "the anchor can't be written").Because(err)
	}
	return f, s.write(s.anchor(), append(data, '\n'))
}

// open unseals the anchor.
func (f *anchorFile) open(ctx context.Context, device *tpm.Device) (*anchor, error) {
	block, rest := pem.Decode([]byte(f.Sealed))
	if block == nil || block.Type != tpm.KeyFileType || len(rest) > 0 {
		return nil, untrusted(errors.New("anchor.json was changed"))
	}
	sealed, err := tpm.ParseKeyFile(block.Bytes)
	if err != nil {
		return nil, untrusted(fmt.Errorf("anchor.json: %w", err))
	}
	secret, err := secmem.New(macKeyLen + nvAuthLen)
	if err != nil {
		return nil, err
	}
	defer secret.Release()
	n, err := device.Unseal(ctx, sealed, secret.Bytes())
	if err == nil && n != macKeyLen+nvAuthLen {
		err = fault.New(fault.KeyDamaged, "its secret has %d bytes", n)
	}
	if refusal := fault.From(err); err != nil && refusal.Reason.Class() == fault.KeyState {
		return nil, untrusted(fmt.Errorf("this TPM can't open its anchor: %s", refusal.Message))
	}
	if err != nil {
		return nil, err
	}
	a := &anchor{index: f.Index}
	if a.auth, err = secmem.New(nvAuthLen); err != nil {
		return nil, err
	}
	copy(a.auth.Bytes(), secret.Bytes()[macKeyLen:])
	if a.mac, err = newMidstates(crypto.SHA256, secret.Bytes()[:macKeyLen]); err != nil {
		a.auth.Release()
		return nil, err
	}
	return a, nil
}

func (a *anchor) wipe() {
	a.auth.Release()
	a.mac.wipe()
}

func (a *anchor) sign(text []byte) ([]byte, error) {
	return a.mac.sign(nil, append([]byte(macContext), text...))
}

// begin makes the counter of a new store and gives its value, which is above that of
// any counter that the TPM ever had.
func (a *anchor) begin(ctx context.Context, device *tpm.Device) (uint64, error) {
	if err := device.DefineCounter(ctx, a.index, a.auth.Bytes()); err != nil {
		return 0, err
	}
	return device.ReadCounter(ctx, a.index, a.auth.Bytes())
}

// verify refuses a manifest that is not the newest of this agent on this TPM.
func (a *anchor) verify(ctx context.Context, device *tpm.Device, m *manifest, file *manifestFile) error {
	mac, err := a.sign(file.Manifest)
	if err != nil {
		return err
	}
	if subtle.ConstantTimeCompare(mac, file.MAC) != 1 {
		return untrusted(errors.New("it was changed by another than the agent, or is another host's"))
	}
	counter, err := device.ReadCounter(ctx, a.index, a.auth.Bytes())
	if errors.Is(err, tpm.ErrNVUndefined) {
		return untrusted(errors.New("the TPM's counter for it is gone: the TPM was cleared, or somebody removed it"))
	}
	if err != nil {
		return err
	}
	if m.Number < counter {
		return untrusted(fmt.Errorf("it is number %d, and the TPM has counted %d: an older state was put back", m.Number, counter))
	}
	return nil
}

// follow increments the counter up to a manifest that is on disk.
func (a *anchor) follow(ctx context.Context, device *tpm.Device, number uint64) error {
	counter, err := device.ReadCounter(ctx, a.index, a.auth.Bytes())
	for err == nil && counter < number {
		counter, err = device.Increment(ctx, a.index, a.auth.Bytes())
	}
	return err
}
