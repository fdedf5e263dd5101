package agent_test

import (
	"bytes"
	"crypto/ed25519"
	"crypto/rand"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/hiddeco/sshsig"
	"golang.org/x/crypto/ssh"

	"github.com/sealsign/sealsign/agent/audit"
	"github.com/sealsign/sealsign/agent/config"
	"github.com/sealsign/sealsign/agent/credential"
	"github.com/sealsign/sealsign/agent/wrap"
	"github.com/sealsign/sealsign/internal/fault"
)

// wrapper is an importer on another machine.
type wrapper struct {
	*stage
	ssh.Signer
}

func newWrapper(s *stage) *wrapper {
	s.Helper()
	_, key, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		s.Fatal(err)
	}
	signer, err := ssh.NewSignerFromKey(key)
	if err != nil {
		s.Fatal(err)
	}
	return &wrapper{s, signer}
}

// enroll enrolls the importer.
func (w *wrapper) enroll(name string) {
	w.Helper()
	if err := w.agent.EnrollImporter(w.me, name, ssh.MarshalAuthorizedKey(w.PublicKey())); err != nil {
		w.Fatal(err)
	}
}

// wraps makes a blob of what the mock exchange issued, by the host's own document and config.
func (w *wrapper) wraps(k key) []byte {
	w.Helper()
	document, err := w.agent.HostKey(w.Context())
	if err != nil {
		w.Fatal(err)
	}
	host, target, err := wrap.ParseHost(document)
	if err != nil {
		w.Fatal(err)
	}
	loaded, problems := config.LoadKeys(w.config())
	if problems != nil {
		w.Fatal(problems)
	}
	from := loaded.Keys[k.called()]
	given, err := credential.Parse(w.venues.Credential(k.venue, k.algorithm).JSON())
	if err != nil {
		w.Fatal(err)
	}
	draft, err := wrap.New(&wrap.Request{
		Key: k.called(), Host: host, Target: target, Created: time.Now(), Importer: wrap.Importer{Fingerprint: ssh.FingerprintSHA256(w.PublicKey())},
		Binding: wrap.Binding{
			Venue: k.venue, Environment: "testnet", Algorithm: string(from.Algorithm), Protection: string(from.Protection),
			SecretEncoding: from.Venue.SecretEncoding(), Hosts: slices.Sorted(slices.Values(from.Venue.Hosts("testnet"))),
			Template: from.Venue.Template(), CA: loaded.CAs[k.venue].SHA256,
		},
	}, given)
	if err != nil {
		w.Fatal(err)
	}
	text, err := draft.Text()
	if err != nil {
		w.Fatal(err)
	}
	signature, err := sshsig.Sign(bytes.NewReader(text), w, sshsig.HashSHA512, wrap.Namespace)
	if err != nil {
		w.Fatal(err)
	}
	blob, err := draft.Finish(sshsig.Armor(signature))
	if err != nil {
		w.Fatal(err)
	}
	return blob
}

func (s *stage) inbox(name string) string { return filepath.Join(s.state(), "inbox", name) }

func (s *stage) put(name string, data []byte) {
	s.Helper()
	if err := os.WriteFile(s.inbox(name), data, 0o600); err != nil {
		s.Fatal(err)
	}
}

func there(path string) bool { _, err := os.Lstat(path); return err == nil }

func (s *stage) versions(name string) int {
	infos, err := s.agent.Keys(name)
	if err != nil {
		s.Fatal(err)
	}
	return len(infos[0].Versions)
}

// What is written in place, however slowly, or moved in is taken; what isn't a blob is
// put aside with its reason; what is hidden is left alone.
func TestInbox(t *testing.T) {
	okx := key{venue: "okx", algorithm: "hmac-sha256"}
	s := set(t, scene{keys: []key{okx}})
	alice := newWrapper(s)
	alice.enroll("alice")
	if info, err := os.Stat(s.inbox("")); err != nil || info.Mode().Perm() != 0o700 {
		t.Fatalf("%v, %v", info.Mode(), err)
	}

	slow := alice.wraps(okx)
	s.put("slowly", slow[:len(slow)/2])
	time.Sleep(time.Second)
	s.put("slowly", slow)
	s.eventually("the slow file is taken", func() bool { return !there(s.inbox("slowly")) && s.versions("okx") == 2 })

	hidden := alice.wraps(okx)
	s.put(".hidden", hidden)
	time.Sleep(time.Second)
	if s.versions("okx") != 2 {
		t.Error("a hidden file is taken")
	}
	if err := os.Rename(s.inbox(".hidden"), s.inbox("shown")); err != nil {
		t.Fatal(err)
	}
	s.eventually("the moved file is taken", func() bool { return !there(s.inbox("shown")) && s.versions("okx") == 3 })

	for name, c := range map[string]struct {
		data   []byte
		reason fault.Reason
	}{
		"again":   {hidden, fault.WrappedReplayed},
		"large":   {make([]byte, wrap.MaxBlob+1), fault.WrappedInvalid},
		"changed": {bytes.Replace(alice.wraps(okx), []byte("\n"), []byte(" \n"), 1), fault.WrappedInvalid},
		"unknown": {newWrapper(s).wraps(okx), fault.ImporterUnknown},
	} {
		known := len(s.records())
		s.put(name, c.data)
		reason := s.inbox("refused/" + name + ".reason")
		s.eventually(name+" is refused", func() bool { return there(reason) && !there(s.inbox(name)) })
		text, err := os.ReadFile(reason)
		if err != nil || !strings.HasPrefix(string(text), string(c.reason)+": ") || !there(s.inbox("refused/"+name)) {
			t.Errorf("%s: %q, %v", name, text, err)
		}
		added := s.records()[known:]
		last := added[len(added)-1]
		if last.Reason != string(c.reason) || last.Rule != "inbox" || last.Operation != "key.import-wrapped" || last.Caller != "sealsignd" {
			t.Errorf("%s: recorded %+v", name, last)
		}
	}
	if err := os.Symlink("/dev/zero", s.inbox("link")); err != nil {
		t.Fatal(err)
	}
	s.eventually("a link is refused", func() bool { return there(s.inbox("refused/link.reason")) })
	if s.versions("okx") != 3 {
		t.Errorf("there are %d versions", s.versions("okx"))
	}
	known := len(s.records())
	time.Sleep(3 * time.Second) // more than a round of the watch
	for _, r := range s.records()[known:] {
		if r.Kind == audit.KindAdmin {
			t.Errorf("it goes on: %+v", r)
		}
	}
}

// What lies there while the agent is stopped is taken when it starts.
func TestInboxAtStart(t *testing.T) {
	okx := key{venue: "okx", algorithm: "hmac-sha256"}
	s := set(t, scene{keys: []key{okx}})
	alice := newWrapper(s)
	alice.enroll("alice")
	blob := alice.wraps(okx)
	s.agent.Stop()
	s.put("waiting", blob)
	s.start()
	s.eventually("it is taken", func() bool { return !there(s.inbox("waiting")) && s.versions("okx") == 2 })
	if there(s.inbox("refused/waiting")) {
		t.Error("it is refused as well")
	}
}

// An inbox that can't be opened at the start is opened once it can be.
func TestInboxThatIsThereLater(t *testing.T) {
	okx := key{venue: "okx", algorithm: "hmac-sha256"}
	s := set(t, scene{keys: []key{okx}})
	alice := newWrapper(s)
	alice.enroll("alice")
	blob := alice.wraps(okx)
	s.agent.Stop()
	if err := os.RemoveAll(s.inbox("")); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(s.inbox(""), nil, 0o600); err != nil {
		t.Fatal(err)
	}
	s.start()
	if err := os.Remove(s.inbox("")); err != nil {
		t.Fatal(err)
	}
	s.eventually("the inbox is opened", func() bool { return there(s.inbox("refused")) })
	s.put("late", blob)
	s.eventually("it is taken", func() bool { return !there(s.inbox("late")) && s.versions("okx") == 2 })
}
