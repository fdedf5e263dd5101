package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"unicode/utf8"

	"golang.org/x/sys/unix"

	"github.com/sealsign/sealsign/internal/fault"
)

const (
	// maxCredential is far more than the largest, an RSA-4096 private key in PEM (3.2 KiB).
	maxCredential = 64 << 10
	// maxLine is what Linux hands over of one line typed at a terminal (N_TTY_BUF_SIZE).
	maxLine = 4096
)

// readCredentialJSON reads one JSON object and nothing else. The caller clears
// what it gets, on an error too.
func readCredentialJSON(in io.Reader) ([]byte, error) {
	buf := make([]byte, maxCredential+1) // never grown, so that no copy stays behind
	n, err := io.ReadFull(in, buf)
	switch {
	case err == nil:
		return buf, fault.New(fault.BadRequest, "the credential on standard input is over %d KiB", maxCredential>>10).
			WithHint(`it is one JSON object: {"api_key":"…","secret":"…"}`)
	case !errors.Is(err, io.EOF) && !errors.Is(err, io.ErrUnexpectedEOF):
		return buf, fmt.Errorf("read standard input: %w", err)
	}
	object := bytes.TrimSpace(buf[:n])
	switch {
	case len(object) == 0:
		return buf, fault.New(fault.BadRequest, "standard input is empty").
			WithHint("sealsign key import NAME < credential.json")
	case object[0] != '{' || !json.Valid(object):
		return buf, fault.New(fault.BadRequest, "standard input is not one JSON object").
			WithHint(`{"api_key":"…","secret":"…"}, or a "private_key" with each line end of the PEM as \n`)
	}
	return object, nil
}

// field is one part of a credential.
type field struct {
	name, label string
	pem         bool // may take several lines
	optional    bool
}

// promptCredential asks for each field at a terminal that shows nothing, and
// gives them as one JSON object. The caller clears it, on an error too.
func promptCredential(ctx context.Context, in *os.File, prompts io.Writer, fields []field) ([]byte, error) {
	restore, err := echoOff(int(in.Fd()))
	if err != nil {
		return nil, fmt.Errorf("turn the terminal's echo off: %w", err)
	}
	defer restore()
	lines := &lineReader{in: in, buf: make([]byte, maxLine)}
	defer lines.wipe()

	object := make([]byte, 0, maxCredential) // never grown, so that no copy stays behind
	for _, f := range fields {
		fmt.Fprintf(prompts, "%s: ", f.label)
		before := len(object)
		object = append(object, either(before == 0, `{"`, `,"`)...)
		object = append(object, f.name+`":"`...)
		start := len(object)
		if object, err = lines.appendField(ctx, object, f); err != nil {
			return object, err
		}
		fmt.Fprintln(prompts)
		switch {
		case len(object) > start:
			object = append(object, '"')
		case f.optional:
			object = object[:before]
		default:
			return object, fault.New(fault.BadRequest, "the %s is empty", f.label)
		}
	}
	return append(object, '}'), nil
}

// lineReader reads a terminal's lines into one buffer that is wiped.
type lineReader struct {
	in  *os.File
	buf []byte
}

func (r *lineReader) wipe() { clear(r.buf) }

// next gives a line without its end. It is valid until the next call. A terminal
// hands over one line at a time, so nothing of the line after it is lost.
func (r *lineReader) next(ctx context.Context) ([]byte, error) {
	var n int
	var err error
	read := make(chan struct{})
	go func() { // so that a signal ends the wait
		n, err = r.in.Read(r.buf)
		close(read)
	}()
	select {
	case <-read:
	case <-ctx.Done():
		return nil, ctx.Err()
	}
	if err != nil {
		return nil, fault.New(fault.BadRequest, "the input ended before the credential was whole")
	}
	return bytes.TrimRight(r.buf[:n], "\r\n"), nil
}

// appendField appends one field's text, escaped for JSON: one line, or from a
// PEM's BEGIN line to its END line.
func (r *lineReader) appendField(ctx context.Context, dst []byte, f field) ([]byte, error) {
	line, err := r.next(ctx)
	if err != nil {
		return dst, err
	}
	if !f.pem || !bytes.HasPrefix(line, []byte("-----BEGIN ")) {
		return appendEscaped(dst, line)
	}
	if bytes.Contains(line, []byte("-----END ")) {
		return appendUnfolded(dst, line)
	}
	for {
		if dst, err = appendEscaped(dst, line); err != nil {
			return dst, err
		}
		dst = append(dst, `\n`...)
		if bytes.HasPrefix(line, []byte("-----END ")) {
			return dst, nil
		}
		if line, err = r.next(ctx); err != nil {
			return dst, err
		}
	}
}

// appendUnfolded appends a PEM that came in one line with \n for its line ends,
// as the JSON files that venues hand out have it. That is JSON's own escape.
func appendUnfolded(dst, line []byte) ([]byte, error) {
	for part := range bytes.SplitSeq(bytes.TrimSuffix(line, []byte(`\n`)), []byte(`\n`)) {
		var err error
		if dst, err = appendEscaped(dst, part); err != nil {
			return dst, err
		}
		dst = append(dst, `\n`...)
	}
	return dst, nil
}

// appendEscaped appends text as the inside of a JSON string. encoding/json
// would leave copies of it behind.
func appendEscaped(dst, text []byte) ([]byte, error) {
	if !utf8.Valid(text) {
		return dst, fault.New(fault.BadRequest, "what was typed is not UTF-8 text")
	}
	const worst = len(`\u0000`)
	const reserve = 256 // for the JSON around it
	if len(dst)+worst*len(text)+reserve > cap(dst) {
		return dst, fault.New(fault.BadRequest, "the credential is over %d KiB", maxCredential>>10)
	}
	for _, c := range text {
		switch {
		case c == '"' || c == '\\':
			dst = append(dst, '\\', c)
		case c < ' ':
			dst = append(dst, '\\', 'u', '0', '0', "0123456789abcdef"[c>>4], "0123456789abcdef"[c&15])
		default:
			dst = append(dst, c)
		}
	}
	return dst, nil
}

// echoOff stops a terminal from showing what is typed, until restore. Signals
// still work, and line ends still end lines.
func echoOff(fd int) (restore func(), err error) {
	shown, err := unix.IoctlGetTermios(fd, unix.TCGETS)
	if err != nil {
		return nil, err
	}
	hidden := *shown
	hidden.Lflag &^= unix.ECHO
	hidden.Lflag |= unix.ICANON | unix.ISIG
	if err := unix.IoctlSetTermios(fd, unix.TCSETS, &hidden); err != nil {
		return nil, err
	}
	return func() {
		// What a paste left unread must not reach the shell.
		_ = unix.IoctlSetTermios(fd, unix.TCSETSF, shown)
	}, nil
}
