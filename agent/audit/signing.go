package audit

import (
	"bytes"
	"context"
	"crypto/ecdsa"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"sync"

	"golang.org/x/mod/sumdb/note"

	"github.com/sealsign/sealsign/internal/event"
	"github.com/sealsign/sealsign/internal/fault"
)

const (
	publicKeyName = "public-key.pem"
	publicKeyType = "PUBLIC KEY"
)

// signing is what checkpoints take.
type signing struct {
	busy sync.Mutex // held while one is made
	file noteFile   // guarded by busy once the log is loaded

	mu      sync.Mutex
	pub     *ecdsa.PublicKey
	sign    SignFunc
	last    checkpoint
	problem error
}

func (s *signing) setLast(c checkpoint) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.last = c
}

func (s *signing) report(status *Status) {
	s.mu.Lock()
	defer s.mu.Unlock()
	status.Covered, status.CheckpointAt = uint64(s.last.Size), s.last.Time
	status.CheckpointProblem, status.Origin = s.problem, s.last.Origin
}

// SetSigner gives the log the key that signs its checkpoints from now on, once the TPM is there.
func (l *Log) SetSigner(pub *ecdsa.PublicKey, sign SignFunc) {
	l.signing.mu.Lock()
	defer l.signing.mu.Unlock()
	l.signing.pub, l.signing.sign = pub, sign
}

// checkpointIfNew makes a checkpoint if there are records that the last one doesn't cover.
func (l *Log) checkpointIfNew(ctx context.Context) {
	if s := l.Status(); s.Records > s.Covered {
		_, _ = l.Checkpoint(ctx) // the next interval tries again, status says why not
	}
}

// Checkpoint signs the tree of all records there are now, syncs them first, and
// appends the note to the file "checkpoints". Without it the log goes on: an
// error (AUDIT_UNAVAILABLE, or the signer's) means that no checkpoint was made.
func (l *Log) Checkpoint(ctx context.Context) (string, error) {
	s := &l.signing
	s.busy.Lock()
	defer s.busy.Unlock()
	msg, c, err := l.makeCheckpoint(ctx)
	s.mu.Lock()
	before := s.problem
	if s.problem = err; err == nil {
		s.last = c
	}
	s.mu.Unlock()
	if err != nil {
		if before == nil {
			l.opts.Log.Error("no audit checkpoint could be made", event.Key, event.CheckpointLost, "error", err)
		}
		return "", err
	}
	if l.opts.OnCheckpoint != nil {
		l.opts.OnCheckpoint(string(msg))
	}
	return string(msg), nil
}

func (l *Log) makeCheckpoint(ctx context.Context) ([]byte, checkpoint, error) {
	s := &l.signing
	s.mu.Lock()
	pub, sign := s.pub, s.sign
	s.mu.Unlock()
	if pub == nil || sign == nil {
		return nil, checkpoint{}, fault.New(fault.TPMUnavailable, "there is no key to sign checkpoints with").
			WithHint("see what the TPM lacks with: sealsign doctor")
	}
	if err := l.keepKey(pub); err != nil {
		return nil, checkpoint{}, l.unavailable(err)
	}
	covered, err := l.sync()
	if err != nil {
		return nil, checkpoint{}, err
	}
	s.mu.Lock()
	c := s.last
	s.mu.Unlock()
	if c.Origin == "" {
		c.Origin = l.opts.Origin
	}
	c.Size, c.Root = covered.n, covered.root()
	if now := l.opts.Now(); now.After(c.Time) {
		c.Time = now
	}
	msg, err := l.signNote(ctx, c, pub, sign)
	if err != nil {
		return nil, c, err
	}
	if err := s.file.append(msg); err != nil {
		return nil, c, l.unavailable(err)
	}
	return msg, c, nil
}

func (l *Log) signNote(ctx context.Context, c checkpoint, pub *ecdsa.PublicKey, sign SignFunc) ([]byte, error) {
	var digests map[string]string
	if l.opts.Digests != nil {
		digests = l.opts.Digests()
	}
	text, err := c.text(digests)
	if err != nil {
		return nil, err
	}
	key, err := newNoteKey(c.Origin, pub)
	if err != nil {
		return nil, err
	}
	key.sign = func(msg []byte) ([]byte, error) { return sign(ctx, msg) }
	msg, err := note.Sign(&note.Note{Text: text}, key)
	if err != nil {
		return nil, fmt.Errorf("signing a checkpoint: %w", err)
	}
	return msg, nil
}

// keepKey makes sure that the key is in public-key.pem. A key that isn't the
// first is new since an earlier run, and a record says so.
func (l *Log) keepKey(pub *ecdsa.PublicKey) error {
	keys, err := PublicKeys(l.dir)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	for _, known := range keys {
		if known.Equal(pub) {
			return nil
		}
	}
	if len(keys) > 0 {
		if err := l.recordNewKey(pub); err != nil {
			return err
		}
	}
	text, err := encodeKeys(append(keys, pub))
	if err != nil {
		return err
	}
	return l.opts.Fault.replace(filepath.Join(l.dir, publicKeyName), text)
}

func (l *Log) recordNewKey(pub *ecdsa.PublicKey) error {
	key, err := newNoteKey(l.opts.Origin, pub)
	if err != nil {
		return err
	}
	_, err = l.Append(&Record{Kind: KindRecovery, Caller: "sealsign", Operation: "key",
		Message: fmt.Sprintf("checkpoints are signed with another key from here on, id %08x", key.hash)}, true)
	return err
}

func encodeKeys(keys []*ecdsa.PublicKey) ([]byte, error) {
	var text bytes.Buffer
	for _, key := range keys {
		der, err := x509.MarshalPKIXPublicKey(key)
		if err != nil {
			return nil, err
		}
		if err := pem.Encode(&text, &pem.Block{Type: publicKeyType, Bytes: der}); err != nil {
			return nil, err
		}
	}
	return text.Bytes(), nil
}

// PublicKeys reads the keys that are kept beside the log in dir, the newest last.
func PublicKeys(dir string) ([]*ecdsa.PublicKey, error) {
	data, err := os.ReadFile(filepath.Join(dir, publicKeyName))
	if err != nil {
		return nil, err
	}
	return ParsePublicKeys(data)
}

// ParsePublicKeys reads PEM text with one or more P-256 public keys and nothing else.
func ParsePublicKeys(data []byte) ([]*ecdsa.PublicKey, error) {
	var keys []*ecdsa.PublicKey
	for rest := data; len(bytes.TrimSpace(rest)) > 0; {
		var block *pem.Block
		block, rest = pem.Decode(rest)
		if block == nil || block.Type != publicKeyType {
			return nil, fmt.Errorf("key %d is not a PEM block %q", len(keys)+1, publicKeyType)
		}
		key, err := x509.ParsePKIXPublicKey(block.Bytes)
		if err != nil {
			return nil, fmt.Errorf("key %d: %w", len(keys)+1, err)
		}
		pub, ok := key.(*ecdsa.PublicKey)
		if !ok {
			return nil, fmt.Errorf("key %d is a %T, an ECDSA key is wanted", len(keys)+1, key)
		}
		keys = append(keys, pub)
	}
	if len(keys) == 0 {
		return nil, errors.New("there is no public key in it")
	}
	return keys, nil
}
