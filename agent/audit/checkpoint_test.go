package audit

import (
	"bytes"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"encoding/base64"
	"encoding/pem"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"golang.org/x/mod/sumdb/note"

	"github.com/sealsign/sealsign/internal/fault"
	"github.com/sealsign/sealsign/internal/tpmtest"
	"github.com/sealsign/sealsign/tpm"
)

// Notes and keys of public logs that sign with ECDSA, from the tests of
// github.com/transparency-dev/formats (note/note_verifier_test.go).
func TestNotesOfOtherLogs(t *testing.T) {
	tests := []struct {
		verifier, note string
	}{
		{
			"rekor.sigstore.dev+c0d23d6a+AjBZMBMGByqGSM49AgEGCCqGSM49AwEHA0IABNhtmPtrWm3U1eQXBogSMdGvXwBcK5AW5i0hrZLOC96l+smGNM7nwZ4QvFK/4sueRoVj//QP22Ni4Qt9DPfkWLc=",
			"Rekor\n798034\nf+7CoKgXKE/tNys9TTXcr/ad6U/K3xvznmzew9y6SP0=\n\n— rekor.sigstore.dev wNI9ajBEAiARInWIWyCdyG27CO6LPnPekyw20qO0YJfoaPaowGp/XgIgc+qEHS3+GKVClgqq20uDLet7MCoTURUCRdxwWBHHufk=\n",
		},
		{
			"pixel6_transparency_log+91c16e30+AjBZMBMGByqGSM49AgEGCCqGSM49AwEHA0IABN+4x0Jk1yTwvLFI9A4NDdGZcX0aiWVdWM5XJVy0M4VWD3AvyW5Q6Hs9A0mcDkpUoYgn+KKPNzFC0H3nN3q6JQ8=",
			"DEFAULT\n10\nbsWRucJU5xJPHb5eBdOm6+DM+VelCZBuvtI3sHERJ9Y=\n\n— pixel6_transparency_log kcFuMDBFAiEAhqMAP8P6qf6QxtUJhzMhbN+MbZ9dwfUHzGQJmffJHtoCIGD0cNe47dHWBoPwYdgBCepB06/+g5O1FmYjXl06owL4\n",
		},
	}
	for _, test := range tests {
		parts := strings.SplitN(test.verifier, "+", 3)
		der, err := base64.StdEncoding.DecodeString(parts[2])
		if err != nil {
			t.Fatal(err)
		}
		pub, err := x509.ParsePKIXPublicKey(der[1:])
		if err != nil {
			t.Fatal(err)
		}
		key, err := newNoteKey(parts[0], pub.(*ecdsa.PublicKey))
		if err != nil {
			t.Fatal(err)
		}
		if _, err := note.Open([]byte(test.note), note.VerifierList(key)); err != nil {
			t.Errorf("%s: %v", parts[0], err)
		}
		if got, err := VerifierKey(parts[0], key.pub); err != nil || got != test.verifier {
			t.Errorf("the verifier key is %s, want %s (%v)", got, test.verifier, err)
		}
	}
}

func TestCheckpointText(t *testing.T) {
	var announced string
	digests := map[string]string{"config": "sha256:aa", "approvers": "sha256:bb"}
	at := time.Date(2026, 11, 23, 12, 0, 0, 5e8, time.UTC)
	l := openLog(t, t.TempDir(), signed(Options{
		Digests:      func() map[string]string { return digests },
		OnCheckpoint: func(note string) { announced = note },
		Now:          func() time.Time { return at },
	}))
	mustAppend(t, l, "/x")
	msg, err := l.Checkpoint(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	want := fmt.Sprintf("sealsign.example/test\n1\n%s\ntime 2026-11-23T12:00:00.5Z\napprovers sha256:bb\nconfig sha256:aa\n\n— sealsign.example/test ", l.head.tree.root())
	if !strings.HasPrefix(msg, want) || msg != announced {
		t.Errorf("got\n%swant\n%s\nannounced\n%s", msg, want, announced)
	}
	if file := read(t, l.dir, checkpointsName); string(file) != msg+"\n" {
		t.Errorf("the file has\n%s", file)
	}
	digests["config"] = "a\nb"
	if _, err := l.Checkpoint(t.Context()); err == nil {
		t.Error("a digest with a newline went into a checkpoint")
	}
}

func TestCheckpointTimesNeverFall(t *testing.T) {
	dir := t.TempDir()
	at := time.Date(2026, 11, 23, 12, 0, 0, 0, time.UTC)
	opts := signed(Options{Now: func() time.Time { return at }})
	for range 2 {
		l := openLog(t, dir, opts)
		mustAppend(t, l, "/x")
		_ = l.Close()
		at = at.Add(-time.Hour) // the clock is set back
	}
	mustVerify(t, dir, 2)
}

func TestCheckpointOnlyIfSomethingHappened(t *testing.T) {
	dir := t.TempDir()
	l := openLog(t, dir, signed(Options{}))
	l.checkpointIfNew(t.Context())
	if _, err := os.Stat(filepath.Join(dir, checkpointsName)); err == nil {
		t.Error("a checkpoint of nothing")
	}
	mustAppend(t, l, "/x")
	for range 3 {
		l.checkpointIfNew(t.Context())
	}
	if _, err := l.Checkpoint(t.Context()); err != nil { // on demand: always
		t.Fatal(err)
	}
	_ = l.Close()
	if report := mustVerify(t, dir, 1); report.Checkpoints != 2 {
		t.Errorf("%d checkpoints", report.Checkpoints)
	}
}

func TestSigningFailsAndTheLogGoesOn(t *testing.T) {
	gone := true
	opts := signed(Options{})
	sign := opts.Sign
	opts.Sign = func(ctx context.Context, msg []byte) ([]byte, error) {
		if gone {
			return nil, fault.New(fault.TPMUnavailable, "no TPM")
		}
		return sign(ctx, msg)
	}
	l := openLog(t, t.TempDir(), opts)
	mustAppend(t, l, "/x")
	if _, err := l.Checkpoint(t.Context()); !errors.Is(err, fault.TPMUnavailable) {
		t.Errorf("got %v", err)
	}
	if s := l.Status(); s.Problem != nil || s.CheckpointProblem == nil || s.Covered != 0 {
		t.Errorf("%+v", s)
	}
	mustAppend(t, l, "/y")
	gone = false
	l.checkpointIfNew(t.Context())
	if s := l.Status(); s.CheckpointProblem != nil || s.Covered != 2 {
		t.Errorf("%+v", s)
	}
}

func TestWrongSignatureIsNotWritten(t *testing.T) {
	opts := signed(Options{})
	other, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	opts.Sign = signWith(other)
	l := openLog(t, t.TempDir(), opts)
	mustAppend(t, l, "/x")
	if _, err := l.Checkpoint(t.Context()); err == nil {
		t.Error("a checkpoint with a wrong signature was written")
	}
}

func TestKeyAndOriginThroughTheYears(t *testing.T) {
	dir := t.TempDir()
	l := openLog(t, dir, Options{Origin: "first.example"}) // the TPM comes later
	mustAppend(t, l, "/x")
	if _, err := l.Checkpoint(t.Context()); !errors.Is(err, fault.TPMUnavailable) {
		t.Errorf("without a key: %v", err)
	}
	l.SetSigner(&testKey.PublicKey, signWith(testKey))
	_ = l.Close()

	other, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	for range 2 {
		l = openLog(t, dir, Options{Origin: "second.example", Public: &other.PublicKey, Sign: signWith(other)})
		mustAppend(t, l, "/y")
		_ = l.Close()
	}
	report, err := Verify(dir)
	if err != nil || !report.OK() || report.Covered != 4 || report.Origin != "first.example" {
		t.Errorf("%+v, %v", report, err)
	}
	if told := messages(t, dir); strings.Count(told, "another key") != 1 {
		t.Errorf("told: %s", told)
	}
	if report := verified(t, dir); len(report.Problems) != 2 || !strings.Contains(report.Problems[0].Message, "signed by another key") {
		t.Errorf("with the first key alone: %v", report.Problems)
	}
}

func TestParsePublicKeys(t *testing.T) {
	good, err := encodeKeys([]*ecdsa.PublicKey{&testKey.PublicKey, &testKey.PublicKey})
	if err != nil {
		t.Fatal(err)
	}
	if keys, err := ParsePublicKeys(good); err != nil || len(keys) != 2 {
		t.Errorf("%d keys, %v", len(keys), err)
	}
	for name, text := range map[string][]byte{
		"nothing":       nil,
		"noise":         []byte("noise"),
		"noise behind":  append(bytes.Clone(good), "noise"...),
		"a private key": pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: []byte{1}}),
		"no key":        pem.EncodeToMemory(&pem.Block{Type: publicKeyType, Bytes: []byte{1}}),
	} {
		if keys, err := ParsePublicKeys(text); err == nil {
			t.Errorf("%s: %d keys", name, len(keys))
		}
	}
}

// FuzzCheckpoint reads any text as a checkpoint, and what it takes is written the same again.
func FuzzCheckpoint(f *testing.F) {
	c := checkpoint{Origin: "o", Size: 3, Time: time.Unix(0, 0)}
	text, err := c.text(map[string]string{"config": "x"})
	if err != nil {
		f.Fatal(err)
	}
	f.Add(text)
	f.Add(strings.Replace(text, "\n3\n", "\n03\n", 1))
	f.Add("o\n0\n\n\n")
	f.Fuzz(func(t *testing.T, text string) {
		c, err := parseText(text)
		if err != nil {
			return
		}
		again, err := c.text(nil)
		if err != nil {
			t.Fatal(err)
		}
		back, err := parseText(again)
		if err != nil || back.Origin != c.Origin || back.Size != c.Size || back.Root != c.Root || !back.Time.Equal(c.Time) {
			t.Fatalf("%+v became %+v, %v", c, back, err)
		}
	})
}

func TestCheckpointOfATPM(t *testing.T) {
	device, err := tpm.Open(t.Context(), tpmtest.Swtpm(t))
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = device.Close() }()
	attestor, _, err := device.Attestor(t.Context(), nil)
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	l := openLog(t, dir, Options{Origin: "tpm.example", Public: attestor.Public(), Sign: attestor.SignMessage})
	mustAppend(t, l, "/x")
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
	report, err := Verify(dir, attestor.Public())
	if err != nil || !report.OK() || report.Covered != 1 {
		t.Errorf("%+v, %v", report, err)
	}
}
