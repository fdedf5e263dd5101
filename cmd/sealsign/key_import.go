package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"regexp"
	"strings"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"
	"golang.org/x/term"

	"github.com/sealsign/sealsign/agent/venue"
	"github.com/sealsign/sealsign/agent/wrap"
	"github.com/sealsign/sealsign/internal/fault"
	sealsignv1 "github.com/sealsign/sealsign/proto/sealsign/v1"
)

func (a *app) keyImportCommand() *cobra.Command {
	var wrapped bool
	cmd := &cobra.Command{
		Use:   "import NAME",
		Short: "seal a credential as a new version of a key",
		Long: `import reads a credential, and the daemon seals it to this host's TPM as a new
version of the key, which the config must name under [keys.NAME].

On a terminal it asks for what the key's algorithm needs, without echo.
Otherwise it reads one JSON object of at most 64 KiB from standard input:

  {"api_key":"…","secret":"…","passphrase":"…","private_key":"PEM"}

Only the fields that the venue issued. A key made by 'sealsign key generate' is
completed with {"api_key":"…"} alone. A credential is never taken from arguments
or the environment, where other programs and the shell's history would see it.

With --wrapped it reads what 'sealsign key wrap' made on another machine: only this
host's TPM opens it, and one of 'sealsign importer list' must have signed it.`,
		Example: `  sealsign key import binance-main
  sealsign key import binance-main < credential.json
  pass show binance | sealsign key import binance-main --json
  sealsign key import binance-main --wrapped < binance-main@alpha.wrapped`,
		Args:              nameOnly,
		ValidArgsFunction: a.completeKey,
		RunE: func(cmd *cobra.Command, args []string) error {
			read := a.readCredential
			if wrapped {
				read = a.readWrapped
			}
			return a.importKey(cmd.Context(), args[0], wrapped, read)
		},
	}
	cmd.Flags().BoolVar(&wrapped, "wrapped", false, "read what 'sealsign key wrap' made")
	cmd.SetFlagErrorFunc(badFlag)
	return cmd
}

// nameOnly takes the NAME of a key; what follows it may be a secret.
func nameOnly(cmd *cobra.Command, args []string) error {
	if len(args) > 1 {
		return onlyPrivately(cmd, args[0])
	}
	return words(1, 1)(cmd, args)
}

// secretFlag is a flag by which somebody would hand over a credential.
var secretFlag = regexp.MustCompile(`(?i)secret|key|pass|cred|token|pem`)

// badFlag refuses a flag whose text stays unsaid: it may be the secret.
func badFlag(cmd *cobra.Command, err error) error {
	unknown, ok := errors.AsType[*pflag.NotExistError](err)
	if ok && unknown.GetSpecifiedShortnames() == "" && !secretFlag.MatchString(unknown.GetSpecifiedName()) {
		return usage(cmd, "%s has no such flag", strings.TrimPrefix(cmd.CommandPath(), "sealsign "))
	}
	return onlyPrivately(cmd, "")
}

// onlyPrivately refuses a credential among the arguments.
func onlyPrivately(cmd *cobra.Command, name string) error {
	err := usage(cmd, "key %s takes a NAME only; a credential must not stand among the arguments, where every program on this host and the shell's history see it", cmd.Name())
	if name == "" || strings.HasPrefix(name, "-") {
		name = "NAME"
	}
	return err.WithHint("%s %s asks for it without echo\n%s %s < credential.json\nif it was a real one, revoke it at the venue", cmd.CommandPath(), name, cmd.CommandPath(), name)
}

func (a *app) importKey(ctx context.Context, name string, wrapped bool, read func(context.Context, string) ([]byte, error)) error {
	given, err := read(ctx, name)
	defer func() { clear(given) }()
	if err != nil {
		return err
	}
	request := &sealsignv1.ImportKeyRequest{Name: name, Credential: given}
	if wrapped {
		request = &sealsignv1.ImportKeyRequest{Name: name, Wrapped: given}
	}
	done := a.progress("sealing it to the TPM")
	answer, err := admin(ctx, a, sealsignv1.AdminClient.ImportKey, request)
	done()
	if err != nil {
		return err
	}
	if a.json {
		return a.printJSON(importJSON{name, answer.GetVersion(), keyToJSON(answer.GetKey())})
	}
	key, version := answer.GetKey(), answer.GetVersion()
	state := versionState(key, version)
	a.printf("imported %s version %d%s\n", name, version, either(state != "", ", "+state, ""))
	if state == "pending" {
		for _, text := range pendingText(key, version) {
			a.notef("%s", visible(text))
		}
	}
	return nil
}

// pendingText says what a new version waits for, and then the next step.
func pendingText(key *sealsignv1.Key, version uint32) []string {
	switch {
	case key.GetWanted() != version:
		return []string{fmt.Sprintf("the config names another version: version = %d under [keys.%s] makes this one sign", version, key.GetName())}
	case key.GetState() == "suspended":
		return []string{fmt.Sprintf("key %s is suspended; version %d signs once it is resumed: sealsign key resume %s", key.GetName(), version, key.GetName())}
	}
	return append([]string{key.GetProblem()}, lines(key.GetNext())...)
}

// importJSON is what `key import --json` prints.
type importJSON struct {
	Name    string  `json:"name"`
	Version uint32  `json:"version"`
	Key     keyJSON `json:"key"`
}

// readCredential gives the JSON object to import. The caller clears it.
func (a *app) readCredential(ctx context.Context, name string) ([]byte, error) {
	if !term.IsTerminal(int(a.in.Fd())) {
		return readCredentialJSON(a.in)
	}
	key, err := a.key(ctx, name) // before anything is typed: the key may not exist
	if err != nil {
		return nil, err
	}
	return a.promptFor(ctx, key)
}

// promptFor asks for what a key's credential consists of.
func (a *app) promptFor(ctx context.Context, key *sealsignv1.Key) ([]byte, error) {
	fmt.Fprintf(a.errs, "The credential of %s (%s, %s, %s). Nothing that you type or paste is shown.\n",
		key.GetName(), key.GetVenue(), key.GetEnvironment(), key.GetAlgorithm())
	return promptCredential(ctx, a.in, a.errs, fieldsOf(key))
}

// readWrapped reads what was wrapped elsewhere, which is no secret.
func (a *app) readWrapped(context.Context, string) ([]byte, error) {
	blob, err := io.ReadAll(io.LimitReader(a.in, wrap.MaxBlob+1))
	if err == nil && len(blob) == 0 {
		err = fault.New(fault.BadRequest, "standard input is empty").WithHint("sealsign key import NAME --wrapped < FILE.wrapped")
	}
	return blob, err
}

// fieldsOf lists what a credential of the key consists of.
func fieldsOf(key *sealsignv1.Key) []field {
	fields := []field{{name: "api_key", label: "API key"}}
	if key.GetProtection() == "generated" { // the TPM made the rest
		return fields
	}
	switch venue.Algorithm(key.GetAlgorithm()) {
	case venue.None:
		return fields
	case venue.HMACSHA256, venue.HMACSHA384, venue.HMACSHA512:
		fields = append(fields, field{name: "secret", label: "secret"})
	default:
		fields = append(fields, field{name: "private_key", label: "private key (PEM, or one line)", pem: true})
	}
	known, builtin := venue.Builtin(key.GetVenue())
	switch {
	case builtin && known.Passphrase():
		fields = append(fields, field{name: "passphrase", label: "passphrase"})
	case !builtin:
		fields = append(fields, field{name: "passphrase", label: "passphrase (empty: none)", optional: true})
	}
	return fields
}

func versionState(key *sealsignv1.Key, version uint32) string {
	for _, v := range key.GetVersions() {
		if v.GetVersion() == version {
			return v.GetState()
		}
	}
	return ""
}
