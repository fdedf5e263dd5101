package client

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"io"
	"net"
	"net/http"
	"net/http/httptrace"
	"net/url"
	"path/filepath"
	"strconv"
	"strings"
	"sync/atomic"
	"time"

	"github.com/sealsign/sealsign/internal/fault"
)

// Transport makes an http.RoundTripper that has the agent of this host (see
// Dir) send requests with the named key. It takes the https URLs that the
// program has, and passes the venue's answers on as they come. An empty key
// means the only one that the program may use at a URL's host. An answer of
// the agent's own, a refusal, is an HTTP answer too: see Refusal.
func Transport(key string) http.RoundTripper {
	return newTransport("", key)
}

// Transport is the package's Transport through the agent of this client.
func (c *Client) Transport(key string) http.RoundTripper {
	return newTransport(c.dir, key)
}

type transport struct {
	key  string
	http *http.Transport
}

func newTransport(dir, key string) *transport {
	return &transport{key, &http.Transport{
		DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
			socket := filepath.Join(Dir(dir), "http.sock")
			conn, err := new(net.Dialer).DialContext(ctx, "unix", socket)
			switch {
			case err == nil:
				return &countingConn{Conn: conn}, nil
			case ctx.Err() == nil:
				return nil, unreachable(socket, err)
			}
			return nil, err
		},
		MaxIdleConnsPerHost: idleConns,
		IdleConnTimeout:     idleTimeout,
	}}
}

const (
	// idleConns keeps the connections of a burst.
	idleConns = 32
	// idleTimeout is below what the agent keeps, so that no request meets a connection that is being closed.
	idleTimeout = 5 * time.Minute
)

// RoundTrip sends the request to the agent in the clear; the agent speaks TLS to the venue.
func (t *transport) RoundTrip(request *http.Request) (*http.Response, error) {
	if err := sendable(request.URL); err != nil {
		if request.Body != nil {
			_ = request.Body.Close()
		}
		return nil, err
	}
	for body := request.Body; ; {
		var kept *countingConn // the connection of an earlier request
		var written int64      // what it had taken then
		trace := &httptrace.ClientTrace{GotConn: func(got httptrace.GotConnInfo) {
			if kept = nil; got.Reused {
				kept = got.Conn.(*countingConn)
				written = kept.written.Load()
			}
		}}
		response, err := t.http.RoundTrip(t.inner(request, body, trace))
		if err == nil {
			response.Request = request
			return response, nil
		}
		// An agent that stops ends a kept connection: what couldn't be written to it was not taken. net/http
		// doesn't send an order again by itself then, lest it was.
		if kept == nil || kept.written.Load() != written {
			return nil, err
		}
		if body != nil && body != http.NoBody {
			if request.GetBody == nil {
				return nil, err
			}
			if body, err = request.GetBody(); err != nil {
				return nil, err
			}
		}
	}
}

// inner is the request as the agent is to get it.
func (t *transport) inner(request *http.Request, body io.ReadCloser, trace *httptrace.ClientTrace) *http.Request {
	inner := request.Clone(httptrace.WithClientTrace(request.Context(), trace))
	inner.URL.Scheme = "http"
	inner.Body = body
	// net/http takes these for leave to send a request again that the agent may have sent. Names
	// are the same in any case to the agent (RFC 9110, section 5.1), and not to it.
	for _, name := range []string{"Idempotency-Key", "X-Idempotency-Key"} {
		if values, given := inner.Header[name]; given {
			delete(inner.Header, name)
			inner.Header[strings.ToLower(name)] = values
		}
	}
	if t.key != "" {
		inner.Header.Set("Sealsign-Key", t.key)
	}
	return inner
}

// countingConn counts the bytes that were written.
type countingConn struct {
	net.Conn
	written atomic.Int64
}

func (c *countingConn) Write(p []byte) (int, error) {
	n, err := c.Conn.Write(p)
	c.written.Add(int64(n))
	return n, err
}

// sendable refuses a URL of which a part would be lost on the way.
func sendable(u *url.URL) error {
	switch {
	case u == nil || u.Scheme != "https":
		return fault.New(BadRequest, "the URL does not begin with https://").WithHint("write the venue's own URL: the agent sends nothing in the clear")
	case u.User != nil || u.Fragment != "":
		return fault.New(BadRequest, "the URL has a user or a fragment, which would not be sent").WithHint("leave it out: the agent adds the credential")
	}
	return nil
}

// CloseIdleConnections is what http.Client.CloseIdleConnections calls.
func (t *transport) CloseIdleConnections() { t.http.CloseIdleConnections() }

// refusalBytes is more than any refusal has.
const refusalBytes = 64 << 10

// Refusal tells whether an answer is the agent's own: then it is an *Error, and
// the request was not sent, unless MaybeSent. For a venue's answer, whatever its
// status, it is nil. The answer's body can be read afterwards all the same.
func Refusal(response *http.Response) error {
	reason := response.Header.Get("Sealsign-Reason")
	if reason == "" {
		return nil
	}
	body, err := io.ReadAll(io.LimitReader(response.Body, refusalBytes))
	_ = response.Body.Close()
	response.Body = io.NopCloser(bytes.NewReader(body))
	var text struct {
		Error struct{ Message, Hint, Rule string }
	}
	err = errors.Join(err, json.Unmarshal(body, &text))
	refusal := fault.New(Reason(reason), "%s", text.Error.Message).Because(err)
	refusal.Hint, refusal.Rule = text.Error.Hint, text.Error.Rule
	refusal.MaybeSent = response.Header.Get("Sealsign-Sent") != "no"
	if seconds, err := strconv.Atoi(response.Header.Get("Retry-After")); err == nil {
		refusal.RetryAfter = time.Duration(seconds) * time.Second
	}
	return refusal
}
