package audit

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/sha256"
	"crypto/x509"
	"encoding/base64"
	"encoding/binary"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"
	"time"

	"golang.org/x/mod/sumdb/note"
	"golang.org/x/mod/sumdb/tlog"
)

// algECDSA is the signature type of C2SP signed notes for ECDSA.
const algECDSA = 0x02

// checkpoint is a tree head and when it was taken.
type checkpoint struct {
	Origin string
	Size   int64
	Root   tlog.Hash
	Time   time.Time
}

const timeField = "time"

// text is what is signed.
func (c *checkpoint) text(digests map[string]string) (string, error) {
	var b strings.Builder
	fmt.Fprintf(&b, "%s\n%d\n%s\n%s %s\n", c.Origin, c.Size, c.Root, timeField, c.Time.UTC().Format(time.RFC3339Nano))
	for _, name := range slices.Sorted(maps.Keys(digests)) {
		if !printable(name) || !printable(digests[name]) || name == timeField {
			return "", fmt.Errorf("the digest %q, %q can't stand in a checkpoint", name, digests[name])
		}
		fmt.Fprintf(&b, "%s %s\n", name, digests[name])
	}
	return b.String(), nil
}

func printable(s string) bool {
	return s != "" && !strings.ContainsFunc(s, func(r rune) bool { return r <= ' ' || r > '~' })
}

// parseText reads the text of a checkpoint.
func parseText(text string) (c checkpoint, err error) {
	lines := strings.Split(strings.TrimSuffix(text, "\n"), "\n")
	if len(lines) < 4 || slices.Contains(lines, "") {
		return c, errors.New("not a checkpoint of this log: origin, size, root and time are wanted")
	}
	c.Origin = lines[0]
	c.Size, err = strconv.ParseInt(lines[1], 10, 64)
	if err != nil || c.Size < 0 || lines[1] != strconv.FormatInt(c.Size, 10) {
		return c, fmt.Errorf("the size %q is no number", lines[1])
	}
	if c.Root, err = tlog.ParseHash(lines[2]); err != nil || c.Root.String() != lines[2] {
		return c, fmt.Errorf("the root %q is no SHA-256 in base64", lines[2])
	}
	value, ok := strings.CutPrefix(lines[3], timeField+" ")
	if c.Time, err = time.Parse(time.RFC3339Nano, value); err != nil || !ok {
		return c, fmt.Errorf("the time %q is none", lines[3])
	}
	return c, nil
}

// noteKey is a key as a signed note knows it: it verifies, and signs if it has sign.
type noteKey struct {
	name string
	hash uint32
	pub  *ecdsa.PublicKey
	sign func(msg []byte) ([]byte, error)
}

func newNoteKey(name string, pub *ecdsa.PublicKey) (*noteKey, error) {
	der, err := x509.MarshalPKIXPublicKey(pub)
	if err != nil {
		return nil, err
	}
	return &noteKey{name: name, hash: keyHash(der), pub: pub}, nil
}

// keyHash is the key id of a signature of type 0x02: of the key alone, without the name.
func keyHash(spki []byte) uint32 {
	sum := sha256.Sum256(spki)
	return binary.BigEndian.Uint32(sum[:])
}

func (k *noteKey) Name() string    { return k.name }
func (k *noteKey) KeyHash() uint32 { return k.hash }

func (k *noteKey) Verify(msg, sig []byte) bool {
	sum := sha256.Sum256(msg)
	return ecdsa.VerifyASN1(k.pub, sum[:], sig)
}

// Sign checks what it got: a signature that doesn't verify is never written.
func (k *noteKey) Sign(msg []byte) ([]byte, error) {
	sig, err := k.sign(msg)
	if err == nil && !k.Verify(msg, sig) {
		err = errors.New("the signature does not verify with the public key")
	}
	return sig, err
}

// VerifierKey is a log's public key as tools for signed notes take it: NAME+ID+KEY.
func VerifierKey(origin string, pub *ecdsa.PublicKey) (string, error) {
	der, err := x509.MarshalPKIXPublicKey(pub)
	if err != nil {
		return "", err
	}
	key := base64.StdEncoding.EncodeToString(append([]byte{algECDSA}, der...))
	return fmt.Sprintf("%s+%08x+%s", origin, keyHash(der), key), nil
}

// openNote checks a signed checkpoint with any of the keys and reads it.
func openNote(msg []byte, keys []*ecdsa.PublicKey) (checkpoint, error) {
	origin, _, _ := bytes.Cut(msg, []byte{'\n'})
	var known []note.Verifier
	for _, pub := range keys {
		key, err := newNoteKey(string(origin), pub)
		if err != nil {
			return checkpoint{}, err
		}
		known = append(known, key)
	}
	n, err := note.Open(msg, note.VerifierList(known...))
	if unverified, ok := errors.AsType[*note.UnverifiedNoteError](err); ok {
		sig := unverified.Note.UnverifiedSigs[0]
		return checkpoint{}, fmt.Errorf("signed by another key (%s, id %08x)", sig.Name, sig.Hash)
	}
	if err != nil {
		return checkpoint{}, err
	}
	return parseText(n.Text)
}

// readNote reads a checkpoint without checking who signed it.
func readNote(msg []byte) (checkpoint, error) {
	_, err := note.Open(msg, note.VerifierList())
	unverified, ok := errors.AsType[*note.UnverifiedNoteError](err)
	if !ok {
		return checkpoint{}, err
	}
	return parseText(unverified.Note.Text)
}
