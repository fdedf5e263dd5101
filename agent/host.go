package agent

import (
	"bytes"
	"context"
	"crypto/ecdsa"
	"encoding/hex"
	"encoding/json"
	"encoding/pem"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"sync"

	"github.com/sealsign/sealsign/internal/fault"
	"github.com/sealsign/sealsign/tpm"
)

const (
	hostFile = "host.json"
	// hostFormat is the format of host.json. A newer one is refused.
	hostFormat = 1
)

// host is what ties a state folder to the TPM of this host: the Name of the
// storage root key that everything is sealed under, and the key that signs the
// log's checkpoints. Neither is secret.
type host struct {
	SRKName       []byte
	CheckpointKey *tpm.KeyFile
}

type hostJSON struct {
	Format        int    `json:"format"`
	SRKName       string `json:"srk_name"`
	CheckpointKey string `json:"checkpoint_key"` // PEM, TSS2 PRIVATE KEY
}

// readHost reads host.json; a state folder that has none yet gives nil.
func readHost(dir string) (*host, error) {
	path := filepath.Join(dir, hostFile)
	data, err := os.ReadFile(path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, fault.New(fault.StoreUnavailable, "%v", err).WithHint("look at the state folder's disk: sealsign doctor").Because(err)
	}
	damaged := func(what string) error {
		return fault.New(fault.ConfigInvalid, "%s is damaged: %s", path, what).
			WithHint("restore it from a backup of the state folder; without it the log's checkpoints can't go on")
	}
	var read hostJSON
	if err := json.Unmarshal(data, &read); err != nil {
		return nil, damaged(err.Error())
	}
	if read.Format != hostFormat {
		return nil, fault.New(fault.ConfigInvalid, "%s has format %d, and this version reads format %d", path, read.Format, hostFormat).
			WithHint("run the version of sealsignd that wrote it, or a newer one")
	}
	name, err := hex.DecodeString(read.SRKName)
	if err != nil || len(name) == 0 {
		return nil, damaged("srk_name")
	}
	block, rest := pem.Decode([]byte(read.CheckpointKey))
	if block == nil || block.Type != tpm.KeyFileType || len(rest) > 0 {
		return nil, damaged("checkpoint_key")
	}
	key, err := tpm.ParseKeyFile(block.Bytes)
	if err != nil {
		return nil, damaged("checkpoint_key: " + err.Error())
	}
	return &host{SRKName: name, CheckpointKey: key}, nil
}

// write keeps the host's file, whole or not at all.
func (h *host) write(dir string) error {
	data, err := json.MarshalIndent(hostJSON{
		Format:        hostFormat,
		SRKName:       hex.EncodeToString(h.SRKName),
		CheckpointKey: string(pem.EncodeToMemory(&pem.Block{Type: tpm.KeyFileType, Bytes: h.CheckpointKey.Marshal()})),
	}, "", "  ")
	if err != nil {
		return err
	}
	return replaceFile(dir, hostFile, append(data, '\n'))
}

// replaceFile writes a file of its owner's alone, whole or not at all.
func replaceFile(dir, name string, data []byte) error {
	file, err := os.CreateTemp(dir, name+".new-*")
	if err != nil {
		return err
	}
	defer os.Remove(file.Name())
	if _, err := file.Write(data); err != nil {
		return errors.Join(err, file.Close())
	}
	if err := errors.Join(file.Sync(), file.Close()); err != nil {
		return err
	}
	if err := os.Rename(file.Name(), filepath.Join(dir, name)); err != nil {
		return err
	}
	folder, err := os.Open(dir)
	if err != nil {
		return err
	}
	return errors.Join(folder.Sync(), folder.Close())
}

// newHost ties a state folder to the TPM.
func newHost(ctx context.Context, device *tpm.Device, dir string) (*host, error) {
	attestor, key, err := device.Attestor(ctx, nil)
	if err != nil {
		return nil, err
	}
	if err := attestor.Close(); err != nil {
		return nil, err
	}
	h := &host{SRKName: device.SRKName(), CheckpointKey: key}
	return h, h.write(dir)
}

// hierarchyAuth reads the authorization of a hierarchy of the TPM, "owner" or
// "endorsement", where it has one, from the credential tpm-owner-auth or
// tpm-endorsement-auth of the daemon's unit (systemd.exec(5), LoadCredentialEncrypted).
func hierarchyAuth(hierarchy string) ([]byte, error) {
	dir := os.Getenv("CREDENTIALS_DIRECTORY")
	if dir == "" {
		return nil, nil
	}
	name := "tpm-" + hierarchy + "-auth"
	auth, err := os.ReadFile(filepath.Join(dir, name))
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, fault.New(fault.TPMUnavailable, "the credential %s can't be read: %v", name, err)
	}
	return bytes.TrimSuffix(auth, []byte("\n")), nil
}

// adoptTPM ties the state folder to another TPM than the one it belongs to. Where
// they belong together it does nothing. The old file is kept: its key verifies the
// log's checkpoints so far.
func (a *Agent) adoptTPM(ctx context.Context) error {
	if a.device.Load() != nil {
		return nil
	}
	if missing := a.tpmError.Load(); missing != nil && !errors.Is(*missing, tpm.ErrOtherTPM) {
		return *missing
	}
	c := a.setup.Load().config
	path := filepath.Join(c.Agent.StateDir, hostFile)
	err := os.Rename(path, path+a.now().UTC().Format(".20060102T150405Z"))
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fault.New(fault.StoreUnavailable, "%s can't be put aside: %v", path, err).WithHint("look at the state folder's disk: sealsign doctor")
	}
	return a.connectTPM(ctx, c, true)
}

// checkpointer signs checkpoints with the host's restricted key, which it loads
// when it is first needed.
type checkpointer struct {
	device *tpm.Device
	key    *tpm.KeyFile
	public *ecdsa.PublicKey
	mu     sync.Mutex
	loaded *tpm.Attestor
}

func newCheckpointer(device *tpm.Device, key *tpm.KeyFile) (*checkpointer, error) {
	public, ok := key.Public().(*ecdsa.PublicKey)
	if !ok {
		return nil, fault.New(fault.ConfigInvalid, "%s is damaged: the checkpoint key is no P-256 key", hostFile)
	}
	return &checkpointer{device: device, key: key, public: public}, nil
}

// sign signs a checkpoint's text; the signature is DER.
func (c *checkpointer) sign(ctx context.Context, text []byte) ([]byte, error) {
	attestor, err := c.attestor(ctx)
	if err != nil {
		return nil, err
	}
	return attestor.SignMessage(ctx, text)
}

// certify vouches for the sealing key.
func (c *checkpointer) certify(ctx context.Context, about []byte) (*tpm.Certification, error) {
	attestor, err := c.attestor(ctx)
	if err != nil {
		return nil, err
	}
	return attestor.CertifyStorageKey(ctx, about)
}

func (c *checkpointer) attestor(ctx context.Context) (*tpm.Attestor, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.loaded == nil {
		attestor, _, err := c.device.Attestor(ctx, c.key)
		if err != nil {
			return nil, err
		}
		c.loaded = attestor
	}
	return c.loaded, nil
}
