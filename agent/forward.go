package agent

import (
	"bytes"
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"io"
	"net"
	"net/http"
	"net/http/httptrace"
	"net/url"
	"sync"
	"sync/atomic"
	"time"

	"github.com/sealsign/sealsign/agent/config"
	"github.com/sealsign/sealsign/agent/venue"
	"github.com/sealsign/sealsign/internal/fault"
)

const (
	dialTimeout = 5 * time.Second
	// headTimeout is how long a venue may take until its answer begins.
	headTimeout = 30 * time.Second
	// bodyTimeout is how long a venue may pause within its answer.
	bodyTimeout = 5 * time.Minute
	// idleTimeout is below what venues' own front ends keep, so that a request seldom meets a
	// connection that is just being closed: it would not be sent again.
	idleTimeout = 20 * time.Second
	// idlePerHost keeps the connections of a burst.
	idlePerHost = 64
)

// Dialer connects to a venue.
type Dialer func(ctx context.Context, network, address string) (net.Conn, error)

// transports are what forwards, one for each set of trusted certificates. They
// are kept from one config to the next, so that a reload breaks no connection.
type transports struct {
	dial Dialer
	mu   sync.Mutex
	byCA map[string]*http.Transport // by SHA-256 of the CA file; "" is the system's roots
}

func (t *transports) of(ca *config.CA) *http.Transport {
	var name string
	var roots *x509.CertPool
	if ca != nil {
		name, roots = ca.SHA256, ca.Pool
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.byCA[name] == nil {
		if t.byCA == nil {
			t.byCA = make(map[string]*http.Transport)
		}
		t.byCA[name] = newTransport(t.dial, roots)
	}
	return t.byCA[name]
}

func (t *transports) close() {
	t.mu.Lock()
	defer t.mu.Unlock()
	for _, transport := range t.byCA {
		transport.CloseIdleConnections()
	}
}

// newTransport makes what forwards to the venues whose certificates roots sign
// (nil: the system's). It speaks HTTP/1.1 only, so that header names and the
// order of requests stay as they are, follows no redirect and asks for no encoding.
func newTransport(dial Dialer, roots *x509.CertPool) *http.Transport {
	if dial == nil {
		dial = (&net.Dialer{Timeout: dialTimeout}).DialContext
	}
	return &http.Transport{
		DialContext:           dial,
		TLSClientConfig:       &tls.Config{MinVersion: tls.VersionTLS12, RootCAs: roots, ClientSessionCache: tls.NewLRUClientSessionCache(0)},
		TLSHandshakeTimeout:   dialTimeout,
		ResponseHeaderTimeout: headTimeout,
		IdleConnTimeout:       idleTimeout,
		MaxIdleConns:          0,
		MaxIdleConnsPerHost:   idlePerHost,
		DisableCompression:    true,
	}
}

// send makes the signed request at its venue. check is asked once the venue is
// connected to, which may take a while: with its error nothing leaves, and the error
// is send's. On one that is VENUE_UNREACHABLE, MaybeSent tells whether any of it may
// have left.
func send(ctx context.Context, transport *http.Transport, signed *venue.Signed, check func() error) (*http.Response, error) {
	var left atomic.Bool
	var barred atomic.Pointer[error]
	ctx = httptrace.WithClientTrace(ctx, &httptrace.ClientTrace{
		GotConn: func(got httptrace.GotConnInfo) {
			if err := check(); err != nil {
				barred.Store(&err)
				_ = got.Conn.Close() // nothing can be written to it any more
				return
			}
			left.Store(true)
		},
	})
	request := (&http.Request{
		Method:        signed.Method,
		URL:           &url.URL{Scheme: "https", Host: signed.Host, Opaque: signed.Path, RawQuery: signed.Query},
		Host:          signed.Host,
		Header:        make(http.Header, len(signed.Header)),
		Body:          bodyOf(signed),
		ContentLength: int64(len(signed.Body)),
	}).WithContext(ctx)
	for _, field := range signed.Header {
		request.Header[field.Name] = append(request.Header[field.Name], string(field.Value))
	}
	if request.Header["User-Agent"] == nil {
		request.Header["User-Agent"] = []string{userAgent}
	}
	response, err := transport.RoundTrip(request)
	if why := barred.Load(); err != nil && why != nil && !left.Load() {
		return nil, *why
	}
	if err != nil {
		refusal := fault.New(fault.VenueUnreachable, "%s did not answer: %s", signed.Host, reasonOf(err)).Because(err)
		refusal.MaybeSent = left.Load()
		if refusal.MaybeSent {
			return nil, refusal.WithHint("it may have been sent: look at the venue before you send it again")
		}
		return nil, refusal.WithHint("nothing was sent; is %s reachable from this host, and its certificate the expected one?", signed.Host)
	}
	return response, nil
}

// bodyOf gives a body that net/http can't send a second time, since it repeats
// a GET without one when a kept connection breaks. A POST it doesn't repeat, and
// would send chunked with an empty body of unknown length.
func bodyOf(signed *venue.Signed) io.ReadCloser {
	if len(signed.Body) == 0 && signed.Method != http.MethodGet && signed.Method != http.MethodHead {
		return http.NoBody
	}
	return io.NopCloser(bytes.NewReader(signed.Body))
}

// reasonOf says why a venue could not be reached, without the request's URL.
func reasonOf(err error) string {
	var timeout net.Error
	var certificate *tls.CertificateVerificationError
	var operation *net.OpError
	switch {
	case errors.As(err, &certificate):
		return "its certificate is refused: " + certificate.Err.Error()
	case errors.Is(err, context.Canceled):
		return "the caller went away"
	case errors.Is(err, io.EOF), errors.Is(err, io.ErrUnexpectedEOF):
		return "it closed the connection"
	case errors.As(err, &timeout) && timeout.Timeout():
		return "timeout"
	case errors.As(err, &operation):
		return operation.Err.Error()
	}
	return "the connection failed"
}
