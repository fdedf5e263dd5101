package server

import (
	"bufio"
	"bytes"
	"errors"
	"io"
	"strconv"
)

func tooLong() error { return malformed("the body is longer than %d MiB", maxBody>>20) }

// parseLength reads a Content-Length: digits only (RFC 9112, section 6.3).
func parseLength(s string) (int, error) {
	for i := range len(s) {
		if s[i] < '0' || s[i] > '9' {
			return 0, malformed("Content-Length is not a number")
		}
	}
	if s == "" {
		return 0, malformed("Content-Length is not a number")
	}
	n, err := strconv.ParseUint(s, 10, 31)
	if err != nil || n > maxBody {
		return 0, tooLong()
	}
	return int(n), nil
}

// readBody reads the whole body of a request with that length. Memory is taken
// as bytes arrive, not as they are announced.
func readBody(r *bufio.Reader, length int) ([]byte, error) {
	var body bytes.Buffer
	var err error
	if length == chunked {
		err = readChunks(&body, r)
	} else {
		_, err = io.CopyN(&body, r, int64(length))
	}
	if errors.Is(err, io.EOF) {
		return nil, malformed("the connection ended within the request's body")
	}
	return body.Bytes(), err
}

// readChunks reads a chunked body (RFC 9112, section 7.1). Extensions and
// trailers, which no client of a venue sends, are refused.
func readChunks(body *bytes.Buffer, r *bufio.Reader) error {
	for {
		line, err := r.ReadSlice('\n')
		if err != nil && !errors.Is(err, bufio.ErrBufferFull) {
			return err
		}
		digits, ok := bytes.CutSuffix(line, []byte("\r\n"))
		if !ok || len(digits) == 0 || len(digits) > 8 {
			return malformed("a chunk's size is not a number in CR LF")
		}
		size, err := strconv.ParseUint(string(digits), 16, 32)
		if err != nil {
			return malformed("a chunk's size is not a number in CR LF")
		}
		if int64(body.Len())+int64(size) > maxBody {
			return tooLong()
		}
		if _, err := io.CopyN(body, r, int64(size)); err != nil {
			return err
		}
		var end [2]byte
		if _, err := io.ReadFull(r, end[:]); errors.Is(err, io.ErrUnexpectedEOF) {
			return io.EOF
		} else if err != nil {
			return err
		}
		if end != [2]byte{'\r', '\n'} {
			return malformed("a chunk does not end in CR LF, or the body in trailer fields")
		}
		if size == 0 {
			return nil
		}
	}
}
