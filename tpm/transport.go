package tpm

import (
	"encoding/binary"
	"fmt"
	"io"
	"net"
	"strings"
	"time"
)

// Transport carries one command to a TPM and brings its whole answer back. The
// answer belongs to the transport and is good until the next Send; the caller
// may wipe it. After any error the transport is closed and not used again.
// Close may be called while Send runs, and makes it return where it can.
type Transport interface {
	Send(command []byte) (response []byte, err error)
	Close() error
}

const (
	headerSize = 10 // tag (2), size (4), command or response code (4): part 1, 18

	// maxMessage is the largest command and answer. The TPMs seen say 4096
	// (TPM_PT_MAX_COMMAND_SIZE), which is also the kernel's TPM_BUFSIZE.
	maxMessage = 4096

	// dialTimeout bounds connecting to a TPM behind a socket on this machine.
	dialTimeout = 2 * time.Second
)

// dial opens the transport that a device setting names.
func dial(device string) (Transport, error) {
	if device == "simulator" {
		return dialSimulator()
	}
	network, address, ok := strings.Cut(device, ":")
	switch {
	case ok && (network == "unix" || network == "tcp"):
		conn, err := net.DialTimeout(network, address, dialTimeout)
		if err != nil {
			return nil, err
		}
		return &stream{conn: conn, response: make([]byte, maxMessage)}, nil
	case strings.HasPrefix(device, "/"):
		return openFile(device)
	}
	return nil, fmt.Errorf("%q is no TPM: write a path such as /dev/tpmrm0, unix:/path or tcp:host:port", device)
}

// stream speaks to swtpm over a kept socket: raw commands and answers, each
// told by the size in its header.
type stream struct {
	conn     net.Conn
	response []byte
}

func (s *stream) Close() error { return s.conn.Close() }

func (s *stream) Send(command []byte) ([]byte, error) {
	if _, err := s.conn.Write(command); err != nil {
		return nil, err
	}
	if _, err := io.ReadFull(s.conn, s.response[:headerSize]); err != nil {
		return nil, fmt.Errorf("reading an answer's header: %w", err)
	}
	size := binary.BigEndian.Uint32(s.response[2:])
	if size < headerSize || size > maxMessage {
		return nil, fmt.Errorf("an answer says it has %d bytes", size)
	}
	if _, err := io.ReadFull(s.conn, s.response[headerSize:size]); err != nil {
		return nil, fmt.Errorf("reading an answer of %d bytes: %w", size, err)
	}
	return s.response[:size], nil
}
