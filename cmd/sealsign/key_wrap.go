package main

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"time"

	"github.com/spf13/cobra"
	"golang.org/x/term"

	"github.com/sealsign/sealsign/agent/config"
	"github.com/sealsign/sealsign/agent/credential"
	"github.com/sealsign/sealsign/agent/wrap"
	"github.com/sealsign/sealsign/internal/fault"
	sealsignv1 "github.com/sealsign/sealsign/proto/sealsign/v1"
	"github.com/sealsign/sealsign/tpm"
)

// wrapping is one run of key wrap.
type wrapping struct {
	*app
	config, hostKey, identity, endorsedBy, out string
}

func (a *app) keyWrapCommand() *cobra.Command {
	w := &wrapping{app: a}
	cmd := &cobra.Command{
		Use:   "wrap NAME",
		Short: "wrap a credential so that only the TPM of another host opens it (needs no daemon)",
		Long: `wrap reads a credential as 'sealsign key import' does, and makes what the host can
import: encrypted to its TPM, and signed with your SSH key, which must be enrolled
there (sealsign importer enroll). It may go by e-mail, git or a configuration
management: nobody else can open it, and none of it can be changed. With protection
"resident" the secret never is in that host's memory either.

FILE is that host's config, or one that says the same of [keys.NAME] and its venue.
With a folder of documents of 'sealsign host-key' it makes one for each host, in the
folder --out. ssh-keygen signs, so agents, passphrases and security keys work.

What 'sealsign host-key' printed is trusted by the way that it came. With
--endorsed-by it must hold a certificate of the TPM's maker too, and then the host
opens the credential only if its sealing key is in the TPM that was certified: a key
made in software beside a copied certificate gets nothing. A certificate says that
the TPM is genuine, not that it is in your host: compare its serial number with what
you know of the machine. The certificates are judged as of when the TPM's was issued,
since chips outlive them, and revocations are not looked up.`,
		Example: `  sealsign key wrap binance-main --config sealsign.toml --host-key alpha.json --identity ~/.ssh/id_ed25519 > binance-main.wrapped
  sealsign key wrap binance-main --config sealsign.toml --host-key hosts --identity ~/.ssh/id_ed25519_sk --endorsed-by tpm-makers --out wrapped`,
		Args: nameOnly,
		RunE: func(cmd *cobra.Command, args []string) error {
			for flag, value := range map[string]string{"--config": w.config, "--host-key": w.hostKey, "--identity": w.identity} {
				if value == "" {
					return usage(cmd, "%s needs %s", cmd.CommandPath(), flag)
				}
			}
			return w.run(cmd, args[0])
		},
	}
	cmd.Flags().StringVar(&w.config, "config", "", "the host's config `FILE`")
	cmd.Flags().StringVar(&w.hostKey, "host-key", "", "what 'sealsign host-key' printed: a `FILE`, or a folder of them")
	cmd.Flags().StringVar(&w.identity, "identity", "", "the `SSH_KEY` to sign with: the private key's file, or the .pub file of one in the agent")
	cmd.Flags().StringVar(&w.endorsedBy, "endorsed-by", "", "certificates (PEM) of TPM makers, one of whom must have certified the host's TPM: a `FILE`, or a folder of *.pem and *.crt")
	cmd.Flags().StringVar(&w.out, "out", "", "the `DIR` to write to; needed for several hosts")
	cmd.SetFlagErrorFunc(badFlag)
	return cmd
}

// target is a host to wrap for.
type target struct {
	name     string // of its file
	host     *wrap.Host
	key      *tpm.StorageKey
	endorsed *wrap.Endorsement // nil: no certificate was asked for
}

func (w *wrapping) run(cmd *cobra.Command, name string) error {
	ctx := cmd.Context()
	key, binding, err := w.load(name)
	if err != nil {
		return err
	}
	targets, err := w.targets()
	if err != nil {
		return err
	}
	if len(targets) > 1 && w.out == "" {
		return usage(cmd, "%s has %d hosts: --out names the folder to write to", w.hostKey, len(targets))
	}
	importer, err := identify(ctx, w.identity)
	if err != nil {
		return err
	}
	given, err := w.read(ctx, key)
	if err != nil {
		return err
	}
	defer given.Wipe()
	if err := given.CheckPassphrase(key.Venue.Name(), key.Venue.Passphrase()); err != nil {
		return err
	}
	results := make([]wrappedJSON, 0, len(targets))
	for _, t := range targets {
		request := &wrap.Request{Key: name, Binding: *binding, Host: t.host, Target: t.key, Endorsed: t.endorsed, Importer: importer, Created: time.Now()}
		result, err := w.wrap(ctx, request, t, given)
		if err != nil {
			return err
		}
		results = append(results, *result)
	}
	if w.json {
		return w.printJSON(results)
	}
	return nil
}

// load takes what the config says of the key.
func (w *wrapping) load(name string) (*config.Key, *wrap.Binding, error) {
	loaded, problems := config.LoadKeys(w.config)
	if problems != nil {
		return nil, nil, fault.New(fault.ConfigInvalid, "%v", problems).WithHint("sealsign config check %s, on its host", w.config)
	}
	key := loaded.Keys[name]
	if key == nil {
		return nil, nil, fault.New(fault.KeyUnknown, "%s has no key %s", w.config, name).WithHint("add [keys.%s] to it", name)
	}
	binding := &wrap.Binding{
		Venue: key.Venue.Name(), Environment: key.Environment, Algorithm: string(key.Algorithm), Protection: string(key.Protection),
		SecretEncoding: key.Venue.SecretEncoding(), Hosts: slices.Sorted(slices.Values(key.Venue.Hosts(key.Environment))),
		Template: key.Venue.Template(),
	}
	if ca := loaded.CAs[key.Venue.Name()]; ca != nil {
		binding.CA = ca.SHA256
	}
	return key, binding, nil
}

// targets reads and verifies the documents of the hosts.
func (w *wrapping) targets() ([]target, error) {
	makers, err := w.makers()
	if err != nil {
		return nil, err
	}
	files, err := filesIn(w.hostKey, "*.json")
	if err != nil || len(files) == 0 {
		return nil, fault.New(failed, "%s has no *.json", w.hostKey).WithHint("on each host: sealsign host-key > HOST.json")
	}
	var targets []target
	for _, file := range files {
		t, err := readTarget(file, makers)
		if err != nil {
			refusal := *fault.From(err)
			refusal.Message = file + ": " + refusal.Message
			return nil, &refusal
		}
		targets = append(targets, *t)
	}
	return targets, nil
}

func readTarget(file string, makers *wrap.Makers) (*target, error) {
	document, err := readSmall(file)
	if err != nil {
		return nil, err
	}
	base := filepath.Base(file)
	t := &target{name: base[:len(base)-len(filepath.Ext(base))]}
	if t.host, t.key, err = wrap.ParseHost(document); err == nil && makers != nil {
		t.endorsed, err = t.host.EndorsedBy(makers)
	}
	return t, err
}

// makers reads whom --endorsed-by trusts; nil without it.
func (w *wrapping) makers() (*wrap.Makers, error) {
	if w.endorsedBy == "" {
		return nil, nil
	}
	bad := func(format string, args ...any) error {
		return fault.New(failed, format, args...).
			WithHint("--endorsed-by takes the root and intermediate certificates that the TPM's maker publishes, as PEM; from DER: openssl x509 -in FILE -out FILE.pem")
	}
	files, err := filesIn(w.endorsedBy, "*.pem", "*.crt")
	if err != nil {
		return nil, err
	}
	makers := wrap.NewMakers()
	for _, file := range files {
		text, err := readSmall(file)
		if err == nil {
			err = makers.Add(text)
		}
		if err != nil {
			return nil, bad("%s can't be used: %v", file, err)
		}
	}
	if !makers.HasRoot() {
		return nil, bad("%s has no root certificate", w.endorsedBy)
	}
	return makers, nil
}

// filesIn is what a folder has by these patterns, and path itself if it is none.
func filesIn(path string, patterns ...string) ([]string, error) {
	files := []string{path}
	if info, err := os.Stat(path); err == nil && info.IsDir() {
		files = nil
		for _, pattern := range patterns {
			matches, err := filepath.Glob(filepath.Join(path, pattern))
			if err != nil {
				return nil, err
			}
			files = append(files, matches...)
		}
	}
	return files, nil
}

// read reads the credential, from a terminal or as JSON.
func (w *wrapping) read(ctx context.Context, key *config.Key) (*credential.Credential, error) {
	var text []byte
	var err error
	if term.IsTerminal(int(w.in.Fd())) {
		text, err = w.promptFor(ctx, &sealsignv1.Key{
			Name: key.Name, Venue: key.Venue.Name(), Environment: key.Environment, Algorithm: string(key.Algorithm), Protection: string(key.Protection),
		})
	} else {
		text, err = readCredentialJSON(w.in)
	}
	defer clear(text)
	if err != nil {
		return nil, err
	}
	return credential.Parse(text)
}

// wrappedJSON is one host's of `key wrap --json`.
type wrappedJSON struct {
	Key    string `json:"key"`
	Host   string `json:"host"`
	Target string `json:"target"`         // the Name of its sealing key
	File   string `json:"file,omitempty"` // where it was written to
	Blob   string `json:"blob,omitempty"` // or what it is
	// Endorsement is the certificate of the TPM's maker that was verified, or null.
	Endorsement *wrap.Endorsement `json:"endorsement"`
}

// wrap makes and writes one blob.
func (w *wrapping) wrap(ctx context.Context, r *wrap.Request, t target, given *credential.Credential) (*wrappedJSON, error) {
	draft, err := wrap.New(r, given)
	if err != nil {
		return nil, err
	}
	text, err := draft.Text()
	if err != nil {
		return nil, err
	}
	signature, err := sign(ctx, w.identity, text)
	if err != nil {
		return nil, err
	}
	blob, err := draft.Finish(signature)
	if err != nil {
		return nil, err
	}
	result := &wrappedJSON{Key: r.Key, Host: t.host.Host, Target: t.host.Name, Endorsement: t.endorsed}
	switch {
	case w.out != "":
		result.File = filepath.Join(w.out, fmt.Sprintf("%s@%s.wrapped", r.Key, t.name))
		err = os.WriteFile(result.File, blob, 0o600)
	case w.json:
		result.Blob = string(blob)
	default:
		w.printf("%s", blob)
	}
	w.notef("wrapped %s for %s, %s%s; its checkpoints are signed by %s", r.Key, visible(t.host.Host), visible(t.host.TPM.Manufacturer),
		either(t.host.TPM.Software, ", a software TPM", ""), t.host.CheckpointFingerprint())
	if e := t.endorsed; e != nil {
		w.notef("its TPM (%s) is certified by %s, serial number %s", visible(e.TPM), visible(e.Maker), e.Serial)
	} else {
		w.notef("its TPM was not checked against a maker's certificate: --endorsed-by")
	}
	return result, err
}
