package main

import (
	"bytes"
	"fmt"
	"io"
	"net/http"
	"os"
	"strings"

	"github.com/spf13/cobra"

	"github.com/sealsign/sealsign/agent/venue"
	"github.com/sealsign/sealsign/internal/fault"
)

// message is a request as the command line gives it: METHOD URL and the flags.
type message struct {
	method, url string
	header      http.Header
	body        []byte

	data        string
	headerLines []string
}

// flags adds the flags that sign, request and policy test share.
func (m *message) flags(cmd *cobra.Command) {
	cmd.Flags().StringVar(&m.data, "data", "", "the `BODY`; @FILE takes it from a file and @- from standard input, without the end of the last line")
	cmd.Flags().StringArrayVar(&m.headerLines, "header", nil, "a header, as `NAME:VALUE`; may be repeated")
}

// read takes METHOD URL from args and the rest from the flags.
func (m *message) read(a *app, cmd *cobra.Command, args []string) error {
	m.method, m.url = args[0], args[1]
	if m.method != strings.ToUpper(m.method) || strings.Contains(m.method, "/") {
		return usage(cmd, "%q is not a method in upper case, such as GET or POST", m.method)
	}
	if !strings.HasPrefix(m.url, "https://") {
		return usage(cmd, "%q is not a URL that begins with https://", m.url)
	}
	m.header = make(http.Header)
	for _, line := range m.headerLines {
		name, value, ok := strings.Cut(line, ":")
		if !ok || name == "" {
			return usage(cmd, "--header %q is not NAME:VALUE", line).WithHint("--header 'Content-Type: application/json'")
		}
		m.header.Add(name, strings.TrimSpace(value))
	}
	return m.readBody(a)
}

func (m *message) readBody(a *app) error {
	file, isFile := strings.CutPrefix(m.data, "@")
	switch {
	case !isFile:
		m.body = []byte(m.data)
	case file == "-":
		return m.readBodyFrom(a.in)
	default:
		f, err := os.Open(file)
		if err != nil {
			return fmt.Errorf("--data: %w", err)
		}
		defer f.Close()
		return m.readBodyFrom(f)
	}
	return nil
}

func (m *message) readBodyFrom(r io.Reader) error {
	body, err := io.ReadAll(io.LimitReader(r, venue.MaxBody+1))
	if err != nil {
		return fmt.Errorf("--data: %w", err)
	}
	if len(body) > venue.MaxBody {
		return fault.New(fault.BadRequest, "the body is over %d MiB", venue.MaxBody>>20)
	}
	body = bytes.TrimSuffix(body, []byte("\n")) // which editors and echo add, and no venue takes in a form
	m.body = bytes.TrimSuffix(body, []byte("\r"))
	return nil
}
