package config

import (
	"crypto/sha256"
	"crypto/x509"
	"encoding/hex"
	"encoding/pem"
	"errors"
	"fmt"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"github.com/sealsign/sealsign/agent/venue"
)

// venues makes the built-in ones, then those that the files override or add.
func (l *loader) venues(s *section) {
	l.config.Venues = make(map[string]*venue.Venue)
	l.config.CAs = make(map[string]*CA)
	for _, name := range venue.Names() {
		l.config.Venues[name], _ = venue.Builtin(name)
	}
	for name, s := range s.each("a venue") {
		if builtin, ok := venue.Builtin(name); ok {
			l.config.Venues[name] = s.override(builtin)
		} else {
			l.config.Venues[name] = s.own(name)
		}
		if ca := s.ca("ca_file"); ca != nil {
			l.config.CAs[name] = ca
		}
		s.done("a setting of a venue")
	}
}

// override gives a built-in venue other hosts. All else about it is fixed.
func (s *section) override(v *venue.Venue) *venue.Venue {
	for _, name := range []string{"algorithm", "message", "headers", "operations"} {
		if given, ok := s.get(name); ok {
			s.problem(given.place, "%s is built in: only hosts and ca_file can be set", v.Name())
		}
	}
	for _, env := range s.hosts() {
		moved, err := v.WithHosts(map[string][]string{env.name: env.texts})
		if err != nil {
			field, message, _ := strings.Cut(err.Error(), ": ")
			s.problem(s.find(field), "%s", message)
			continue
		}
		v = moved
	}
	return v
}

// own makes a venue of the operator's own; nil where it has problems.
func (s *section) own(name string) *venue.Venue {
	before := len(s.problems)
	spec := venue.CustomSpec{Name: name, Hosts: make(map[string][]string), Operations: make(map[string][]string)}
	for _, env := range s.hosts() {
		spec.Hosts[env.name] = env.texts
	}
	spec.Algorithm, _ = s.text("algorithm", "")
	spec.Message, _ = s.text("message", "")
	spec.Headers = s.mapping("headers")
	for _, op := range s.lists("operations") {
		spec.Operations[op.name] = op.texts
	}
	if len(s.problems) > before {
		return nil // what is missing for that reason isn't worth a problem of its own
	}
	v, problems := venue.Custom(spec)
	for _, p := range problems {
		s.problem(s.find(p.Field), "%s", p.Message)
	}
	return v
}

// hosts reads the hosts of each environment.
func (s *section) hosts() []named {
	all := s.lists("hosts")
	for _, env := range all {
		if !isName(env.name) {
			s.problem(s.find("hosts."+env.name), "%s is no name for an environment: %s", clip(env.name), nameRule)
		}
	}
	return all
}

// named is a list of texts under a name of the operator's choice.
type named struct {
	name  string
	texts []string
}

// lists reads a table of lists of texts.
func (s *section) lists(name string) []named {
	inner := s.below(name)
	var all []named
	for _, name := range inner.names {
		entries, _, _ := inner.texts(name)
		texts := make([]string, len(entries))
		for i, e := range entries {
			texts[i] = e.text
		}
		all = append(all, named{name, texts})
	}
	return all
}

// mapping reads a table of texts.
func (s *section) mapping(name string) map[string]string {
	inner := s.below(name)
	texts := make(map[string]string)
	for _, name := range inner.names {
		texts[name], _ = inner.text(name, "")
	}
	return texts
}

// find is the place of a field such as "hosts.testnet" or "operations.trade[1]",
// or of the nearest thing around it that is there.
func (s *section) find(field string) place {
	name, rest, _ := strings.Cut(field, ".")
	v, ok := s.members[name]
	if !ok {
		return s.here(name)
	}
	inner, ok := v.data.(*table)
	if !ok || rest == "" {
		return v.place
	}
	name, index, _ := strings.Cut(rest, "[")
	if v, ok = inner.members[name]; !ok {
		return place{inner.path, inner.file, inner.line}
	}
	items, _ := v.data.([]value)
	if i, err := strconv.Atoi(strings.TrimSuffix(index, "]")); err == nil && i < len(items) {
		return items[i].place
	}
	return v.place
}

// ca reads the certificates that a venue's own must be signed by.
func (s *section) ca(name string) *CA {
	path, at := s.absolute(name, "")
	if path == "" {
		return nil
	}
	label := s.label(path)
	f, err := readFile(path, label)
	if err != nil {
		s.problem(at, "%s %v", path, err)
		return nil
	}
	pool, err := parseCA(f.content)
	if err != nil {
		s.problem(at, "%s %v", path, err)
		return nil
	}
	if !slices.ContainsFunc(s.others, func(o file) bool { return o.name == label }) {
		s.others = append(s.others, f)
	}
	sum := sha256.Sum256(f.content)
	return &CA{File: path, SHA256: hex.EncodeToString(sum[:]), Pool: pool}
}

// label is the path relative to the folder of the main file, where it is below it.
func (l *loader) label(path string) string {
	base, err := filepath.Abs(filepath.Dir(l.mainFile))
	if err != nil {
		return path
	}
	label, err := filepath.Rel(base, path)
	if err != nil || !filepath.IsLocal(label) {
		return path
	}
	return label
}

// parseCA wants certificates and nothing else: a key in this file is a mistake.
func parseCA(content []byte) (*x509.CertPool, error) {
	pool := x509.NewCertPool()
	found := false
	for block, rest := pem.Decode(content); block != nil; block, rest = pem.Decode(rest) {
		if block.Type != "CERTIFICATE" {
			return nil, fmt.Errorf("has a PEM block %s, and only CERTIFICATE is wanted", clip(block.Type))
		}
		certificate, err := x509.ParseCertificate(block.Bytes)
		if err != nil {
			return nil, fmt.Errorf("has a certificate that can't be read: %w", err)
		}
		pool.AddCert(certificate)
		found = true
	}
	if !found {
		return nil, errors.New("has no certificate in PEM")
	}
	return pool, nil
}
