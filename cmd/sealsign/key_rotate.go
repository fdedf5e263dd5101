package main

import (
	"context"
	"fmt"
	"strings"

	"github.com/spf13/cobra"

	"github.com/sealsign/sealsign/agent/venue"
	"github.com/sealsign/sealsign/internal/fault"
	sealsignv1 "github.com/sealsign/sealsign/proto/sealsign/v1"
)

func (a *app) keyRotateCommand() *cobra.Command {
	return &cobra.Command{
		Use:   "rotate NAME",
		Short: "make a key's next version, or say how",
		Long: `rotate begins the rotation of a key. The version that signs goes on until the new
one takes its place, and no request is lost.

Of a key with protection = "generated" it makes the next version inside the TPM and
prints the public key to register, as 'sealsign key generate' does. The credential of
any other key is issued by the venue: rotate then says what to do, does nothing
itself, and the exit status is 1. It asks nothing of the venue, also where the
venue's API could create and delete keys.`,
		Example:           "  sealsign key rotate binance-rsa > binance-rsa.pem\n  sealsign key rotate binance-main --json",
		Args:              words(1, 1),
		ValidArgsFunction: a.completeKey,
		RunE:              func(cmd *cobra.Command, args []string) error { return a.rotateKey(cmd.Context(), args[0]) },
	}
}

// rotateJSON is what `key rotate --json` prints.
type rotateJSON struct {
	Name       string   `json:"name"`
	Active     uint32   `json:"active"`                // the version that signs; 0: none
	Version    uint32   `json:"version"`               // the one that was made; 0: none
	PublicKey  string   `json:"public_key,omitempty"`  // PEM, SubjectPublicKeyInfo
	RegisterAt string   `json:"register_at,omitempty"` // where the venue takes it
	Steps      []string `json:"steps"`                 // what is left to do
}

func (a *app) rotateKey(ctx context.Context, name string) error {
	key, err := a.key(ctx, name)
	if err != nil {
		return err
	}
	if key.GetProtection() != "generated" {
		return a.explainRotation(key)
	}
	done := a.progress("the TPM is making the key")
	made, err := admin(ctx, a, sealsignv1.AdminClient.GenerateKey, &sealsignv1.GenerateKeyRequest{Name: name})
	done()
	if err != nil {
		return err
	}
	register := "register this public key at " + either(made.GetRegisterAt() != "", made.GetRegisterAt(), key.GetVenue())
	steps := append([]string{register + keyAPI(key), "sealsign key import " + name}, lastSteps(key)...)
	if a.json {
		return a.printJSON(rotateJSON{name, key.GetActive(), made.GetVersion(), made.GetPublicKey(), made.GetRegisterAt(), steps})
	}
	a.printf("%s", made.GetPublicKey())
	a.notef("made %s version %d, pending%s", name, made.GetVersion(),
		either(key.GetActive() != 0, fmt.Sprintf("; version %d signs until it is complete", key.GetActive()), ""))
	for _, step := range steps {
		a.notef("next: %s", step)
	}
	return nil
}

// explainRotation says how a key is rotated whose credential the venue issues.
func (a *app) explainRotation(key *sealsignv1.Key) error {
	issue := fmt.Sprintf("make a new API key at %s%s", key.GetVenue(), keyAPI(key))
	steps := append([]string{issue, "sealsign key import " + key.GetName()}, lastSteps(key)...)
	if a.json {
		if err := a.printJSON(rotateJSON{Name: key.GetName(), Active: key.GetActive(), Steps: steps}); err != nil {
			return err
		}
		return errReported
	}
	return fault.New(fault.KeyUnsupported, "key %s is rotated by a new credential, which %s issues: nothing was done", key.GetName(), key.GetVenue()).
		WithHint("%s", strings.Join(steps, "\n"))
}

// keyAPI says that the venue's own API could make the key, which is left to others:
// a key that may do that may do anything.
func keyAPI(key *sealsignv1.Key) string {
	v, builtin := venue.Builtin(key.GetVenue())
	if !builtin || v.KeyAPI() == "" {
		return ""
	}
	return fmt.Sprintf(" (its API can do that too: %s; sealsign stays out of it)", v.KeyAPI())
}

// lastSteps is what to do once the new version is imported.
func lastSteps(key *sealsignv1.Key) []string {
	name := key.GetName()
	steps := []string{fmt.Sprintf("if [keys.%s] names a version, set it to the new one", name)}
	if key.GetExpires() != nil {
		steps = append(steps, fmt.Sprintf("set a later expires under [keys.%s]", name))
	}
	if key.GetActive() != 0 {
		steps = append(steps, fmt.Sprintf("delete the old API key at %s, then: sealsign key revoke %s --version %d", key.GetVenue(), name, key.GetActive()))
	}
	return steps
}
