package main

import (
	"strings"

	"github.com/spf13/cobra"

	"github.com/sealsign/sealsign/agent/venue"
	"github.com/sealsign/sealsign/internal/fault"
)

// venueJSON is a built-in venue as scripts read it.
type venueJSON struct {
	Name           string              `json:"name"`
	Hosts          map[string][]string `json:"hosts"` // by environment
	Algorithms     []string            `json:"algorithms"`
	PublicKeys     []string            `json:"public_keys"` // algorithms of which it takes a public key
	RegisterAt     string              `json:"register_at"` // where those are registered
	SecretEncoding string              `json:"secret_encoding"`
	Passphrase     bool                `json:"passphrase"`
	Nonce          bool                `json:"nonce"`
}

func (a *app) venuesCommand() *cobra.Command {
	return &cobra.Command{
		Use:   "venues [NAME]",
		Short: "list the built-in venues, or show one",
		Long: `venues lists the exchanges and API providers that sealsign knows. Others are
declared in the config, under [venues.NAME]. It asks no daemon.`,
		Example:   "  sealsign venues\n  sealsign venues kraken",
		Args:      words(0, 1),
		ValidArgs: venue.Names(),
		RunE: func(_ *cobra.Command, args []string) error {
			if len(args) == 1 {
				return a.showVenue(args[0])
			}
			return a.listVenues()
		},
	}
}

func (a *app) listVenues() error {
	var all []venueJSON
	rows := [][]string{{"NAME", "ENVIRONMENTS", "ALGORITHMS"}}
	for _, name := range venue.Names() {
		v, _ := venue.Builtin(name)
		all = append(all, venueToJSON(v))
		rows = append(rows, []string{name, strings.Join(v.Environments(), ", "), strings.Join(texts(v.Algorithms()), ", ")})
	}
	if a.json {
		return a.printJSON(all)
	}
	printTable(a.out, rows...)
	return nil
}

func (a *app) showVenue(name string) error {
	v, ok := venue.Builtin(name)
	if !ok {
		return fault.New(failed, "no built-in venue is named %q", name).WithHint("sealsign venues")
	}
	shown := venueToJSON(v)
	if a.json {
		return a.printJSON(shown)
	}
	line := func(name, text string) { a.printf("%-12s %s\n", name, text) }
	line("name", shown.Name)
	for _, environment := range v.Environments() {
		line("hosts", environment+": "+strings.Join(v.Hosts(environment), ", "))
	}
	line("algorithms", strings.Join(shown.Algorithms, ", "))
	line("credential", credentialText(v))
	if len(shown.PublicKeys) > 0 {
		line("public keys", strings.Join(shown.PublicKeys, ", ")+": registered at "+shown.RegisterAt)
	}
	if shown.Nonce {
		line("nonce", "strictly increasing per key: the agent is its only issuer, so the key must not be used elsewhere")
	}
	return nil
}

// credentialText says what a credential of the venue consists of.
func credentialText(v *venue.Venue) string {
	parts := []string{"api_key"}
	for _, algorithm := range v.Algorithms() {
		switch algorithm {
		case venue.None:
		case venue.HMACSHA256, venue.HMACSHA384, venue.HMACSHA512:
			parts = append(parts, "secret"+either(v.SecretEncoding() == "base64", " (base64)", "")+" for "+string(algorithm))
		default:
			parts = append(parts, "private_key for "+string(algorithm))
		}
	}
	return strings.Join(parts, ", ") + either(v.Passphrase(), ", passphrase", "")
}

func venueToJSON(v *venue.Venue) venueJSON {
	shown := venueJSON{
		Name: v.Name(), Hosts: make(map[string][]string),
		Algorithms: texts(v.Algorithms()), PublicKeys: texts(v.Generated()),
		SecretEncoding: v.SecretEncoding(), Passphrase: v.Passphrase(), Nonce: v.Nonce(),
	}
	for _, environment := range v.Environments() {
		shown.Hosts[environment] = v.Hosts(environment)
	}
	for _, algorithm := range v.Generated() {
		shown.RegisterAt = v.Register(algorithm)
	}
	return shown
}

func texts(algorithms []venue.Algorithm) []string {
	all := make([]string, len(algorithms))
	for i, algorithm := range algorithms {
		all[i] = string(algorithm)
	}
	return all
}
