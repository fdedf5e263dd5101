package config

import (
	"bytes"
	"errors"
	"fmt"
	"path/filepath"
	"slices"

	"filippo.io/age"
	"filippo.io/age/agessh"
)

// recovery reads the files with public keys that each import is encrypted to as
// well. A path is below the main file's folder unless it is absolute.
func (s *section) recovery(name string) (recipients []age.Recipient) {
	entries, _, _ := s.texts(name)
	if s.elsewhere {
		return nil
	}
	for _, e := range entries {
		path := e.text
		if !filepath.IsAbs(path) {
			path = filepath.Join(filepath.Dir(s.mainFile), path)
		}
		label := s.label(path)
		f, err := readFile(path, label)
		if err != nil {
			s.problem(e.place, "%s %v", path, err)
			continue
		}
		found, err := parseRecipients(f.content)
		if err != nil {
			s.problem(e.place, "%s %v", path, err)
			continue
		}
		recipients = append(recipients, found...)
		if !slices.ContainsFunc(s.others, func(o file) bool { return o.name == label }) {
			s.others = append(s.others, f)
		}
	}
	return recipients
}

// parseRecipients takes what `age -R` takes: a public key a line, of age or of SSH.
func parseRecipients(content []byte) (recipients []age.Recipient, err error) {
	if bytes.Contains(content, []byte("PRIVATE KEY")) || bytes.Contains(content, []byte("AGE-SECRET-KEY-")) {
		return nil, errors.New("has a private key: only public ones belong on this host")
	}
	number := 0
	for line := range bytes.Lines(content) {
		number++
		line = bytes.TrimSpace(line)
		if len(line) == 0 || line[0] == '#' {
			continue
		}
		var recipient age.Recipient
		if bytes.HasPrefix(line, []byte("ssh-")) {
			recipient, err = agessh.ParseRecipient(string(line))
		} else if found, parseErr := age.ParseRecipients(bytes.NewReader(line)); parseErr != nil {
			err = parseErr
		} else {
			recipient = found[0]
		}
		if err != nil {
			return nil, fmt.Errorf("has a line %d that is no public key of age or SSH (ed25519 or RSA)", number)
		}
		recipients = append(recipients, recipient)
	}
	if recipients == nil {
		return nil, errors.New("has no public key")
	}
	return recipients, nil
}
