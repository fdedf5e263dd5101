package server

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strings"
	"testing"

	"github.com/sealsign/sealsign/internal/fault"
)

// parse reads one request as a connection does.
func parse(raw []byte) (*head, []byte, *bufio.Reader, error) {
	r := bufio.NewReader(bytes.NewReader(raw))
	text, err := readHead(r)
	if err != nil {
		return nil, nil, nil, err
	}
	h := new(head)
	if err := h.parse(text); err != nil {
		return nil, nil, nil, err
	}
	body, err := readBody(r, h.length)
	return h, body, r, err
}

const post = "POST /orders HTTP/1.1\r\nHost: api.acme.example\r\n"

func TestHeadTaken(t *testing.T) {
	long := strings.Repeat("a", 20_000)
	for name, test := range map[string]struct{ raw, target, body string }{
		"no body":         {"GET /time?a=1&b=%20 HTTP/1.1\r\nHost: api.acme.example\r\n\r\n", "/time?a=1&b=%20", ""},
		"length":          {post + "Content-Length: 5\r\n\r\na=1&brest", "/orders", "a=1&b"},
		"zero length":     {"GET /time HTTP/1.1\r\nHost: h\r\nContent-Length: 0\r\n\r\n", "/time", ""},
		"chunks":          {post + "Transfer-Encoding: Chunked\r\n\r\n3\r\nabc\r\n0A\r\n0123456789\r\n0\r\n\r\nrest", "/orders", "abc0123456789"},
		"no chunk":        {post + "transfer-encoding: chunked\r\n\r\n0\r\n\r\n", "/orders", ""},
		"blanks in value": {"GET / HTTP/1.1\r\nHost:\t h \t\r\n\r\n", "/", ""},
		"long value":      {"GET / HTTP/1.1\r\nHost: h\r\nA: " + long + "\r\n\r\n", "/", ""},
		"port":            {"GET / HTTP/1.1\r\nHost: [::1]:9443\r\n\r\n", "/", ""},
		"absolute":        {"GET http://h/time HTTP/1.1\r\nHost: h\r\n\r\n", "http://h/time", ""},
	} {
		t.Run(name, func(t *testing.T) {
			h, body, _, err := parse([]byte(test.raw))
			if err != nil {
				t.Fatal(err)
			}
			if h.target != test.target || string(body) != test.body {
				t.Errorf("read target %q and body %q, want %q and %q", h.target, body, test.target, test.body)
			}
		})
	}
}

func TestHeadRefused(t *testing.T) {
	get := "GET / HTTP/1.1\r\nHost: h\r\n"
	for name, test := range map[string]struct{ raw, says string }{
		"HTTP/1.0":             {"GET / HTTP/1.0\r\nHost: h\r\n\r\n", "not HTTP/1.1"},
		"HTTP/2 preface":       {"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", "not HTTP/1.1"},
		"TLS":                  {"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03\r\n\r\n", "request line"},
		"two spaces":           {"GET  / HTTP/1.1\r\nHost: h\r\n\r\n", "request line"},
		"space in target":      {"GET /a b HTTP/1.1\r\nHost: h\r\n\r\n", "request line"},
		"byte in target":       {"GET /a\x00b HTTP/1.1\r\nHost: h\r\n\r\n", "request line"},
		"no ASCII in target":   {"GET /ä HTTP/1.1\r\nHost: h\r\n\r\n", "request line"},
		"empty line first":     {"\r\n" + get + "\r\n", "request line"},
		"tunnel":               {"CONNECT api.binance.com:443 HTTP/1.1\r\nHost: api.binance.com:443\r\n\r\n", "proxy"},
		"bare line feeds":      {"GET / HTTP/1.1\nHost: h\n\n", "ended within"},
		"one bare line feed":   {"GET / HTTP/1.1\r\nHost: h\nX: y\r\n\r\n", "printable"},
		"bare carriage return": {"GET / HTTP/1.1\r\nHost: h\rX: y\r\n\r\n", "printable"},
		"injected header":      {get + "A: b\nContent-Length: 3\r\n\r\n", "printable"},
		"NUL in value":         {get + "A: b\x00c\r\n\r\n", "printable"},
		"obs-text":             {get + "A: \xff\r\n\r\n", "printable"},
		"folded line":          {get + "A: b\r\n c\r\n\r\n", "NAME: VALUE"},
		"blank before colon":   {get + "Content-Length : 3\r\n\r\nabc", "NAME: VALUE"},
		"no colon":             {get + "Content-Length\r\n\r\n", "NAME: VALUE"},
		"empty name":           {get + ": x\r\n\r\n", "NAME: VALUE"},
		"no host":              {"GET / HTTP/1.1\r\n\r\n", "Host"},
		"empty host":           {"GET / HTTP/1.1\r\nHost:\r\n\r\n", "Host"},
		"two hosts":            {get + "host: h\r\n\r\n", "Host is there twice"},
		"user in host":         {"GET / HTTP/1.1\r\nHost: a@h\r\n\r\n", "Host"},
		"two keys":             {get + "Sealsign-Key: a\r\nSEALSIGN-KEY: b\r\n\r\n", "Sealsign-Key is there twice"},
		"two content types":    {post + "Content-Type: a\r\nContent-Type: b\r\n\r\n", "Content-Type is there twice"},
		"length twice":         {post + "Content-Length: 3\r\nContent-Length: 3\r\n\r\nabc", "Content-Length is there twice"},
		"length list":          {post + "Content-Length: 3, 3\r\n\r\nabc", "not a number"},
		"length signed":        {post + "Content-Length: +3\r\n\r\nabc", "not a number"},
		"length empty":         {post + "Content-Length:\r\n\r\nabc", "not a number"},
		"length hex":           {post + "Content-Length: 0x3\r\n\r\nabc", "not a number"},
		"length too big":       {post + "Content-Length: 1048577\r\n\r\n", "longer than 1 MiB"},
		"length absurd":        {post + "Content-Length: 99999999999999999999\r\n\r\n", "longer than 1 MiB"},
		"length and chunked":   {post + "Content-Length: 3\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n", "both"},
		"chunked twice":        {post + "Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n", "twice"},
		"other coding":         {post + "Transfer-Encoding: gzip, chunked\r\n\r\n0\r\n\r\n", "other than chunked"},
		"identity":             {post + "Transfer-Encoding: identity\r\n\r\n", "other than chunked"},
		"other expectation":    {post + "Expect: 200-maybe\r\n\r\n", "Expect"},
		"announced trailer":    {post + "Trailer: Host\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n", "trailer"},
		"truncated head":       {"GET / HTTP/1.1\r\nHost: h\r\n", "within the request's head"},
		"truncated body":       {post + "Content-Length: 5\r\n\r\nabc", "within the request's body"},
		"truncated chunk":      {post + "Transfer-Encoding: chunked\r\n\r\n5\r\nabc", "within the request's body"},
		"truncated chunk end":  {post + "Transfer-Encoding: chunked\r\n\r\n3\r\nabc\r", "within the request's body"},
		"truncated last chunk": {post + "Transfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\n", "within the request's body"},
		"chunk extension":      {post + "Transfer-Encoding: chunked\r\n\r\n3;a=b\r\nabc\r\n0\r\n\r\n", "chunk's size"},
		"chunk size signed":    {post + "Transfer-Encoding: chunked\r\n\r\n+3\r\nabc\r\n0\r\n\r\n", "chunk's size"},
		"chunk size with LF":   {post + "Transfer-Encoding: chunked\r\n\r\n3\nabc\r\n0\r\n\r\n", "chunk's size"},
		"chunk size overflows": {post + "Transfer-Encoding: chunked\r\n\r\nFFFFFFFF\r\nabc\r\n0\r\n\r\n", "longer than 1 MiB"},
		"chunk size endless":   {post + "Transfer-Encoding: chunked\r\n\r\n" + strings.Repeat("0", 9000) + "3\r\nabc\r\n0\r\n\r\n", "chunk's size"},
		"chunk longer than it": {post + "Transfer-Encoding: chunked\r\n\r\n3\r\nabcd\r\n0\r\n\r\n", "does not end"},
		"trailer":              {post + "Transfer-Encoding: chunked\r\n\r\n0\r\nHost: other\r\n\r\n", "trailer"},
		"too long":             {get + "A: " + strings.Repeat("a", maxHead) + "\r\n\r\n", "longer than 64 KiB"},
		"too many fields":      {get + strings.Repeat("A: b\r\n", maxFields) + "\r\n", "more than 100"},
		"one line without end": {strings.Repeat("a", maxHead+1), "longer than 64 KiB"},
	} {
		t.Run(name, func(t *testing.T) {
			_, _, _, err := parse([]byte(test.raw))
			if !errors.Is(err, fault.BadRequest) || !strings.Contains(err.Error(), test.says) {
				t.Errorf("got %v, want BAD_REQUEST with %q", err, test.says)
			}
		})
	}
}

func TestChunkedBodyMayBeOneMiB(t *testing.T) {
	for size, want := range map[int]bool{maxBody: true, maxBody + 1: false} {
		half := size / 2
		raw := fmt.Sprintf(post+"Transfer-Encoding: chunked\r\n\r\n%x\r\n%s\r\n%x\r\n%s\r\n0\r\n\r\n",
			half, strings.Repeat("a", half), size-half, strings.Repeat("b", size-half))
		if _, _, _, err := parse([]byte(raw)); (err == nil) != want {
			t.Errorf("%d bytes: %v", size, err)
		}
	}
}

func TestAim(t *testing.T) {
	known := func(host string) bool { return host == "api.acme.example" || host == "127.0.0.1:9443" }
	for name, test := range map[string]struct {
		target, host, key string
		want              aim
	}{
		"by host":            {"/orders?a=1", "api.acme.example", "", aim{"", "api.acme.example", "/orders?a=1"}},
		"by host and key":    {"/orders", "api.acme.example", "k", aim{"k", "api.acme.example", "/orders"}},
		"host in capitals":   {"/k/other.example/x", "API.acme.example:443", "", aim{"", "API.acme.example:443", "/k/other.example/x"}},
		"absolute":           {"http://api.acme.example/orders", "api.acme.example", "", aim{"", "api.acme.example", "/orders"}},
		"absolute, no path":  {"http://api.acme.example?a=1", "api.acme.example", "", aim{"", "api.acme.example", "/?a=1"}},
		"by path":            {"/k/api.acme.example/orders?a=1", "localhost", "", aim{"k", "api.acme.example", "/orders?a=1"}},
		"by path with URL":   {"/k/https://api.acme.example/orders", "localhost", "k", aim{"k", "api.acme.example", "/orders"}},
		"by path with port":  {"/k/127.0.0.1:9443/orders", "localhost", "", aim{"k", "127.0.0.1:9443", "/orders"}},
		"path that is none":  {"/api/v3/account", "localhost", "", aim{"", "localhost", "/api/v3/account"}},
		"path with one part": {"/k", "localhost", "", aim{"", "localhost", "/k"}},
		// what a key's host is asked for is never taken for a KEY/HOST
		"dots in venue's path": {"/api/v1.2/orders", "127.0.0.1:9443", "", aim{"", "127.0.0.1:9443", "/api/v1.2/orders"}},
	} {
		t.Run(name, func(t *testing.T) {
			raw := "GET " + test.target + " HTTP/1.1\r\nHost: " + test.host + "\r\n"
			if test.key != "" {
				raw += "Sealsign-Key: " + test.key + "\r\n"
			}
			h := new(head)
			if err := h.parse([]byte(raw)); err != nil {
				t.Fatal(err)
			}
			if got, err := aimOf(h, known); err != nil || got != test.want {
				t.Errorf("got %+v, %v, want %+v", got, err, test.want)
			}
		})
	}
	for name, raw := range map[string]string{
		"other host in target":  "GET http://other.example/ HTTP/1.1\r\nHost: api.acme.example\r\n",
		"user in target":        "GET http://api.acme.example@other.example/ HTTP/1.1\r\nHost: api.acme.example\r\n",
		"asterisk":              "OPTIONS * HTTP/1.1\r\nHost: api.acme.example\r\n",
		"other scheme":          "GET ftp://api.acme.example/ HTTP/1.1\r\nHost: api.acme.example\r\n",
		"other key than path's": "GET /k/api.acme.example/ HTTP/1.1\r\nHost: localhost\r\nSealsign-Key: other\r\n",
		"empty key":             "GET / HTTP/1.1\r\nHost: api.acme.example\r\nSealsign-Key:\r\n",
		"plain http in path":    "GET /k/http://api.acme.example/ HTTP/1.1\r\nHost: localhost\r\n",
	} {
		t.Run(name, func(t *testing.T) {
			h := new(head)
			if err := h.parse([]byte(raw)); err != nil {
				t.Fatal(err)
			}
			if got, err := aimOf(h, known); !errors.Is(err, fault.BadRequest) {
				t.Errorf("got %+v, %v, want BAD_REQUEST", got, err)
			}
		})
	}
}

// FuzzHead holds that what is taken means the same to net/http: same method,
// target, host, fields and body, and the same place where the next request begins.
func FuzzHead(f *testing.F) {
	f.Add([]byte("GET /time?a=1 HTTP/1.1\r\nHost: api.acme.example\r\nSealsign-Key: k\r\n\r\n"))
	f.Add([]byte("GET /k/https://api.acme.example/time HTTP/1.1\r\nHost: localhost\r\n\r\n"))
	f.Add([]byte("GET http://h/time HTTP/1.1\r\nHost: h\r\nConnection: close\r\n\r\n"))
	f.Add([]byte(post + "Content-Length: 3\r\n\r\nabcGET"))
	f.Add([]byte(post + "Transfer-Encoding: chunked\r\nExpect: 100-continue\r\n\r\n3\r\nabc\r\n0\r\n\r\nGET"))
	f.Add([]byte(post + "Content-Length: 3\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n"))
	f.Fuzz(func(t *testing.T, raw []byte) {
		h, body, rest, err := parse(raw)
		if err != nil {
			if !errors.Is(err, fault.BadRequest) && !errors.Is(err, io.EOF) {
				t.Fatalf("%v is no refusal", err)
			}
			return
		}
		if _, err := aimOf(h, func(string) bool { return false }); err != nil && !errors.Is(err, fault.BadRequest) {
			t.Fatalf("%v is no refusal", err)
		}
		theirs := bufio.NewReader(bytes.NewReader(raw))
		request, err := http.ReadRequest(theirs)
		if err != nil {
			if strings.Contains(err.Error(), "parse") || strings.Contains(err.Error(), "malformed") { // of the URL, which is read later here
				return
			}
			t.Fatalf("net/http refuses it: %v", err)
		}
		theirBody, err := io.ReadAll(request.Body)
		if err != nil {
			t.Fatalf("net/http refuses the body: %v", err)
		}
		if request.Method != h.method || request.RequestURI != h.target || !bytes.Equal(theirBody, body) {
			t.Errorf("net/http reads %s %q %q, we %s %q %q", request.Method, request.RequestURI, theirBody, h.method, h.target, body)
		}
		for name, values := range request.Header {
			if got := h.field(name); got != values[0] {
				t.Errorf("net/http reads %s: %q, we %q", name, values[0], got)
			}
		}
		left, _ := io.ReadAll(rest)
		theirLeft, _ := io.ReadAll(theirs)
		if !bytes.Equal(left, theirLeft) {
			t.Errorf("net/http leaves %q, we %q", theirLeft, left)
		}
	})
}
