package main

import (
	"maps"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"github.com/sealsign/sealsign/agent/config"
	"github.com/sealsign/sealsign/agent/venue"
	"github.com/sealsign/sealsign/internal/fault"
)

// venueJSON is a venue as scripts read it.
type venueJSON struct {
	Name           string              `json:"name"`
	Hosts          map[string][]string `json:"hosts"` // by environment
	Algorithms     []string            `json:"algorithms"`
	PublicKeys     []string            `json:"public_keys"` // algorithms of which it takes a public key
	RegisterAt     string              `json:"register_at"` // where those are registered
	SecretEncoding string              `json:"secret_encoding"`
	Passphrase     bool                `json:"passphrase"`
	Nonce          bool                `json:"nonce"`
	Signature      string              `json:"signature"`  // what it leaves open
	Release        string              `json:"release"`    // the strictest that serves it: bound, unbound or never
	Operations     map[string][]string `json:"operations"` // "METHOD /path" of each
}

func (a *app) venuesCommand() *cobra.Command {
	var file string
	cmd := &cobra.Command{
		Use:   "venues [NAME]",
		Short: "list the venues, or show one: what its requests do, and whether they can be released",
		Long: `venues lists the exchanges and API providers that sealsign knows. Others are
declared in the config, under [venues.NAME]: --config shows them too. It asks no
daemon.`,
		Example:   "  sealsign venues\n  sealsign venues kraken\n  sealsign venues acme --config /etc/sealsign/sealsign.toml",
		Args:      words(0, 1),
		ValidArgs: venue.Names(),
		RunE: func(_ *cobra.Command, args []string) error {
			venues, err := venuesOf(file)
			if err != nil {
				return err
			}
			if len(args) == 0 {
				return a.listVenues(venues)
			}
			v := venues[args[0]]
			if v == nil {
				return fault.New(failed, "no %s venue is named %q", either(file == "", "built-in", "built-in or declared"), args[0]).
					WithHint("sealsign venues%s", either(file == "", "", " --config "+file))
			}
			return a.showVenue(v)
		},
	}
	cmd.Flags().StringVar(&file, "config", "", "show the venues as the config in `FILE` has them")
	return cmd
}

// venuesOf are the venues of a config, or the built-in ones where no file is named.
func venuesOf(file string) (map[string]*venue.Venue, error) {
	if file == "" {
		venues := make(map[string]*venue.Venue)
		for _, name := range venue.Names() {
			venues[name], _ = venue.Builtin(name)
		}
		return venues, nil
	}
	loaded, problems := config.Load(file)
	if len(problems) > 0 {
		return nil, fault.New(fault.ConfigInvalid, "%s has %s", file, count(len(problems), "problem")).WithHint("sealsign config check %s", file)
	}
	return loaded.Venues, nil
}

func (a *app) listVenues(venues map[string]*venue.Venue) error {
	var all []venueJSON
	rows := [][]string{{"NAME", "ENVIRONMENTS", "ALGORITHMS"}}
	for _, name := range slices.Sorted(maps.Keys(venues)) {
		v := venues[name]
		all = append(all, venueToJSON(v))
		rows = append(rows, []string{name, strings.Join(v.Environments(), ", "), strings.Join(texts(v.Algorithms()), ", ")})
	}
	if a.json {
		return a.printJSON(all)
	}
	printTable(a.out, rows...)
	return nil
}

func (a *app) showVenue(v *venue.Venue) error {
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
	line("signature", shown.Signature)
	line("release", releaseText(shown.Release)+either(v.Passphrase(), "; it shows the passphrase", ""))
	for _, operation := range slices.Sorted(maps.Keys(shown.Operations)) {
		a.printf("\n%s\n", operation)
		for _, request := range shown.Operations[operation] {
			a.printf("  %s\n", request)
		}
	}
	return nil
}

// What a role's release can be.
const (
	never   = "never"
	bound   = "bound"
	unbound = "unbound"
)

func releaseText(release string) string {
	switch release {
	case bound:
		return `possible: release = "bound"`
	case unbound:
		return `only with release = "unbound", since a signed request can be turned into others; better forward them`
	}
	return "not possible: the credential itself would be in the request; forward them"
}

// signature says what the venue's signature leaves open, and the strictest release that serves it.
func signature(v *venue.Venue) (text, release string) {
	b, ok := venue.Binding{}, false
	for _, environment := range v.Environments() {
		if b, ok = v.Least(environment); ok {
			break
		}
	}
	switch {
	case b.Never:
		return "none: every request carries the credential itself", never
	case !ok:
		return "not known", unbound
	case b.Loose != "":
		return strings.TrimPrefix(b.Loose, "the signature "), unbound
	}
	return "covers method, path, query and body", bound
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
	shown.Signature, shown.Release = signature(v)
	shown.Operations = make(map[string][]string)
	for operation, requests := range v.Lines() {
		shown.Operations[string(operation)] = requests
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
