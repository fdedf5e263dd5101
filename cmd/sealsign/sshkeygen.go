package main

import (
	"bytes"
	"context"
	"errors"
	"os"
	"os/exec"
	"strings"

	"github.com/sealsign/sealsign/agent/wrap"
	"github.com/sealsign/sealsign/internal/fault"
)

// The private key of an importer is for ssh-keygen alone: it knows agents, passphrases
// and security keys, and asks for what it needs at the terminal.

// identify tells whose SSH key a file is.
func identify(ctx context.Context, file string) (wrap.Importer, error) {
	text, err := sshKeygen(ctx, nil, "-l", "-f", file)
	if err != nil {
		return wrap.Importer{}, err
	}
	// "256 SHA256:… the comment, if any (ED25519)"
	fields := strings.Fields(string(text))
	if len(fields) < 3 || !strings.HasPrefix(fields[1], "SHA256:") {
		return wrap.Importer{}, fault.New(failed, "ssh-keygen prints no fingerprint of %s", file)
	}
	return wrap.Importer{Name: strings.Join(fields[2:len(fields)-1], " "), Fingerprint: fields[1]}, nil
}

// sign signs with an SSH key, in the namespace of wrapped credentials.
func sign(ctx context.Context, identity string, text []byte) ([]byte, error) {
	return sshKeygen(ctx, text, "-q", "-Y", "sign", "-n", wrap.Namespace, "-f", identity)
}

func sshKeygen(ctx context.Context, input []byte, args ...string) ([]byte, error) {
	command := exec.CommandContext(ctx, "ssh-keygen", args...)
	command.Stdin, command.Stderr = bytes.NewReader(input), os.Stderr
	output, err := command.Output()
	switch {
	case errors.Is(err, exec.ErrNotFound):
		return nil, fault.New(failed, "ssh-keygen is missing, which signs with your SSH key").WithHint("apt-get install openssh-client")
	case err != nil:
		return nil, fault.New(failed, "ssh-keygen did not sign: %v", err).WithHint("ssh-keygen %s", shellLine(args))
	}
	return output, nil
}
